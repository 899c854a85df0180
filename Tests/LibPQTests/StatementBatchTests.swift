import Testing

@testable import LibPQ

struct StatementBatchTests {
  @Test func `holds each statement once and each call's own parameters`() {
    var batch = StatementBatch()
    #expect(batch.isEmpty)
    batch.append("1")
    batch.appendNull()
    batch.call("INSERT", expectedRows: 1)
    batch.call("TRUNCATE", expectedRows: nil)
    batch.append("")
    batch.append("é\"'")
    batch.call("INSERT", expectedRows: 1)
    #expect(batch.statements == ["INSERT", "TRUNCATE"])
    #expect(batch.calls.map(\.statement) == [0, 1, 0])
    #expect(batch.calls.map(\.expectedRows) == [1, nil, 1])
    #expect(batch.calls.map(batch.texts) == [["1", nil], [], ["", "é\"'"]])
    #expect(!batch.isEmpty)
  }

  /// The hexadecimal digits of the only parameter, in binary.
  private func binary(_ build: (inout StatementBatch) -> Void) throws -> String {
    var batch = StatementBatch()
    build(&batch)
    batch.call("A", expectedRows: nil)
    #expect(batch.formats == [ValueFormat.binary.rawValue])
    let bytes = try #require(batch.values(of: batch.calls[0])[0])
    return bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
  }

  private static let words: [[UInt8]?] = [[0, 1], nil, []]

  private func word(_ index: Int) -> UnsafeRawBufferPointer? {
    Self.words[index].map { value in
      let word = [0, 0, 0, UInt8(value.count)] + value
      let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: word.count, alignment: 1)
      copy.copyBytes(from: word)
      return UnsafeRawBufferPointer(copy)
    }
  }

  @Test func `a value in binary may hold zero bytes, and each value has its own format`() {
    var batch = StatementBatch()
    [1, 0, 2].withUnsafeBytes { batch.append($0, .binary) }
    batch.append("text")
    batch.appendNull()
    batch.call("A", expectedRows: nil)
    #expect(batch.values(of: batch.calls[0]).map { $0?.count } == [24, 4, nil])
    #expect(batch.formats == [1, 0, 0])
    #expect(batch.lengths == [24, 4, 0])
  }

  @Test func `an array in binary has one dimension, counted from 1, and says whether it holds NULL`() throws {
    let header = { (flags: String, count: String) in "00000001" + flags + "00000017" + count + "00000001" }
    let plain = try binary { $0.appendArray(count: 1, .binary(elementOID: 23)) { word($0) } }
    #expect(plain == header("00000000", "00000001") + "000000020001")
    let nulls = try binary { $0.appendArray(count: 3, .binary(elementOID: 23)) { word($0) } }
    #expect(nulls == header("00000001", "00000003") + "000000020001" + "ffffffff" + "00000000")
  }

  @Test func `rows in binary say their type, their lengths, and the types of their columns`() throws {
    let rows = try binary { batch in
      batch.appendRows(count: 2, RowSyntax(typeOID: 0x4001, columnOIDs: [23, 25])) { row, column in
        word(row + column)
      }
    }
    #expect(
      rows == "00000001" + "00000000" + "00004001" + "00000002" + "00000001"
        // 0001, NULL
        + "00000016" + "00000002" + "00000017" + "000000020001" + "00000019" + "ffffffff"
        // NULL, nothing
        + "00000014" + "00000002" + "00000017" + "ffffffff" + "00000019" + "00000000")
  }

  @Test func `counts the bytes of its values with their ends`() {
    var batch = StatementBatch()
    batch.append("abc")
    batch.appendNull()
    batch.append("")
    batch.call("A", expectedRows: nil)
    #expect(batch.byteCount == 5)
  }

  @Test func `is as new when everything is removed`() {
    var batch = StatementBatch()
    batch.append("old")
    batch.call("A", expectedRows: 1)
    batch.removeAll()
    #expect(batch.isEmpty)
    #expect(batch.byteCount == 0)
    batch.append("new")
    batch.call("B", expectedRows: nil)
    #expect(batch.statements == ["B"])
    #expect(batch.calls.map(batch.texts) == [["new"]])
  }
}
