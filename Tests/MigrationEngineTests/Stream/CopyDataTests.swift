import LibPQ
import Testing

@testable import MigrationEngine

@Suite struct CopyDataTests {
  private func written(_ format: ValueFormat, _ rows: [[String?]]) -> [UInt8] {
    var data = CopyData(format, columnCount: rows.first?.count ?? 0)
    for row in rows {
      for value in row {
        guard let value else {
          data.append(nil)
          continue
        }
        let length = format == .binary ? [0, 0, 0, UInt8(value.utf8.count)] : []
        (length + value.utf8).withUnsafeBytes { data.append($0) }
      }
      data.endRow()
    }
    #expect(data.rowCount == rows.count)
    return data.finished()
  }

  @Test("Rows as text have tabs between their values, and backslashes before what would end one")
  func text() {
    let text = written(.text, [["1", "a\tb\\\n\r"], [nil, ""], [#"\N"#, "é"]])
    #expect(String(decoding: text, as: UTF8.self) == "1\ta\\tb\\\\\\n\\r\n\\N\t\n\\\\N\té\n")
  }

  @Test("Rows in binary have a header, counts and lengths, and an end")
  func binary() {
    let bytes = written(.binary, [["\0a", nil], ["", "b"]])
    let header = Array("PGCOPY\n".utf8) + [0xff, 13, 10, 0] + [UInt8](repeating: 0, count: 8)
    let first: [UInt8] = [0, 2, 0, 0, 0, 2, 0, 97, 0xff, 0xff, 0xff, 0xff]
    let second: [UInt8] = [0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 98]
    #expect(bytes == header + first + second + [0xff, 0xff])
  }
}
