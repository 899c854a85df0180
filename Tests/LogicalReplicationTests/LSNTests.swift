import LogicalReplication
import Testing

struct LSNTests {
  @Test(arguments: [
    ("0/0", 0), ("16/B374D848", 0x16_B374_D848), ("0/10", 0x10), ("FFFFFFFF/FFFFFFFF", UInt64.max),
    ("1/0", 0x1_0000_0000),
  ])
  func `prints and parses PostgreSQL's form`(text: String, value: UInt64) {
    #expect(LSN(rawValue: value).description == text)
    #expect(LSN(text) == LSN(rawValue: value))
  }

  @Test func `accepts lower case and leading zeros`() {
    #expect(LSN("00000016/b374d848") == LSN(rawValue: 0x16_B374_D848))
  }

  @Test(arguments: [
    "", "/", "0", "0/", "/0", "0/0/0", "000000000/0", "0/000000000", "-1/0", "+1/0", "0x1/0", " 0/0", "0/0 ",
    "G/0",
    "0//0", "1/é", "0/0\0",
  ])
  func `refuses anything else`(text: String) {
    #expect(LSN(text) == nil)
  }

  @Test func `orders by position, not by text`() {
    #expect(LSN(rawValue: 0x9) < LSN(rawValue: 0x10))
    #expect(LSN(rawValue: 0xFFFF_FFFF) < LSN(rawValue: 0x1_0000_0000))
    #expect(LSN.zero < LSN(rawValue: 1))
  }

  @Test func `distance has a sign and saturates`() {
    let low = LSN(rawValue: 100)
    let high = LSN(rawValue: 130)
    let last = LSN(rawValue: .max)
    #expect(high.distance(from: low) == 30)
    #expect(low.distance(from: high) == -30)
    #expect(low.distance(from: low) == 0)
    #expect(last.distance(from: .zero) == .max)
    #expect(LSN.zero.distance(from: last) == .min)
    #expect(LSN.zero.distance(from: LSN(rawValue: 1 << 63)) == .min)
    #expect(LSN.zero.distance(from: LSN(rawValue: (1 << 63) - 1)) == -Int64.max)
  }
}
