import LibPQ
import Testing

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
