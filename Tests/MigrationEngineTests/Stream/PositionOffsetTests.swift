import LogicalReplication
import Testing

@testable import MigrationEngine

struct PositionOffsetTests {
  private let far: UInt64 = 3 << 40

  @Test func `what functions tell is where it is, as long as the stream agrees`() {
    var offset = PositionOffset()
    #expect(offset.streamed(LSN(rawValue: 500)) == LSN(rawValue: 500))
    offset.wrote(1, at: LSN(rawValue: 400))
    offset.came(1, at: LSN(rawValue: 480))
    #expect(offset.streamed(LSN(rawValue: 500)) == LSN(rawValue: 500))
  }

  @Test(arguments: [false, true])
  func `another range is known by the first beat that came, whichever is known first`(cameFirst: Bool) {
    var offset = PositionOffset()
    if cameFirst { offset.came(7, at: LSN(rawValue: 480)) }
    offset.wrote(7, at: LSN(rawValue: far + 400))
    if !cameFirst { offset.came(7, at: LSN(rawValue: 480)) }
    #expect(offset.streamed(LSN(rawValue: far + 500)) == LSN(rawValue: 580))
    // The stream's range may be the higher one.
    offset.wrote(8, at: LSN(rawValue: 10))
    offset.came(8, at: LSN(rawValue: far))
    #expect(offset.streamed(LSN(rawValue: 20)) == LSN(rawValue: far + 10))
  }

  @Test func `beats of others, and those whose other half never comes, mean nothing`() {
    var offset = PositionOffset()
    for beat in 0..<UInt64(5000) { offset.came(beat, at: LSN(rawValue: beat)) }
    offset.wrote(9999, at: LSN(rawValue: far))
    #expect(offset.streamed(LSN(rawValue: far)) == LSN(rawValue: far))
  }
}
