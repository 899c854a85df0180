import Testing

@testable import LogicalReplication
@testable import MigrationEngine

/// Any changes applied folded leave what they leave one by one.
@Suite struct RowFoldTests {
  /// Rows by their keys; two columns beside the key, of which the second may be left unchanged.
  private typealias Rows = [String: [String?]]

  /// Changes as the source would make them, the rows they lead to, and the tuples that carry them.
  private struct History {
    var rows: Rows
    var stream = StreamMessages()
    var generator: SplitMix
    var isBinary = false

    /// Keys that become equal when they are put together without care.
    static let keys = ["1", "2", "11", "12", "", "a", "1\t2", "21", "\0", "1\0"]

    init(seed: UInt64, isBinary: Bool = false) {
      generator = SplitMix(state: seed)
      self.isBinary = isBinary
      rows = [:]
      for key in Self.keys where Bool.random(using: &generator) {
        rows[key] = ["base \(key)", "toast \(key)"]
      }
    }

    mutating func change() {
      let key = Self.keys.randomElement(using: &generator) ?? "1"
      guard let row = rows[key] else {
        let new = [value(), value()]
        rows[key] = new
        stream.insert(1, tuple(key, new))
        return
      }
      switch Int.random(in: 0..<6, using: &generator) {
      case 0:
        rows[key] = nil
        if Bool.random(using: &generator) {
          stream.delete(1, key: [sent(key), .null, .null])
        } else {
          stream.delete(1, old: tuple(key, row))
        }
      case 1: move(key, row)
      default: update(key, row)
      }
    }

    private mutating func update(_ key: String, _ row: [String?]) {
      var new = row
      new[0] = value()
      let leavesSecond = Bool.random(using: &generator)
      if !leavesSecond { new[1] = value() }
      rows[key] = new
      let old = Int.random(in: 0..<3, using: &generator) == 0 ? tuple(key, row) : nil
      stream.update(1, old: old, tuple(key, new, leavesSecond: leavesSecond))
    }

    private mutating func move(_ key: String, _ row: [String?]) {
      guard let free = Self.keys.shuffled(using: &generator).first(where: { rows[$0] == nil }) else { return }
      rows[key] = nil
      rows[free] = row
      let isFull = Bool.random(using: &generator)
      stream.update(
        1, key: isFull ? nil : [sent(key), .null, .null], old: isFull ? tuple(key, row) : nil,
        tuple(free, row, leavesSecond: Bool.random(using: &generator)))
    }

    private mutating func value() -> String? {
      let number = Int.random(in: 0..<100, using: &generator)
      return number == 0 ? nil : "value \(number)"
    }

    private func tuple(
      _ key: String, _ row: [String?], leavesSecond: Bool = false
    ) -> [StreamMessages.Value] {
      [sent(key)]
        + row.enumerated().map { position, value in
          position == 1 && leavesSecond ? .unchanged : value.map { sent($0) } ?? .null
        }
    }

    private func sent(_ value: String) -> StreamMessages.Value {
      isBinary ? .binary(Array(value.utf8)) : .text(value)
    }
  }

  struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
      state &+= 0x9e37_79b9_7f4a_7c15
      var z = state
      z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
      z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
      return z ^ (z >> 31)
    }
  }

  /// What a server makes of changes, with the errors that it would have.
  private struct Table {
    var rows: Rows

    mutating func insert(_ key: String, _ new: [String?]) throws {
      guard rows.updateValue(new, forKey: key) == nil else { throw Wrong("\(key) is there already") }
    }

    mutating func delete(_ key: String) throws {
      guard rows.removeValue(forKey: key) != nil else { throw Wrong("\(key) to delete is not there") }
    }

    mutating func update(_ key: String, to newKey: String, _ values: [String??]) throws {
      guard let row = rows.removeValue(forKey: key) else { throw Wrong("\(key) to update is not there") }
      try insert(newKey, zip(row, values).map { $1 ?? $0 })
    }
  }

  private struct Wrong: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
  }

  private func text(_ value: ColumnValue, _ buffer: UnsafeRawBufferPointer) -> String?? {
    switch value {
    case .null: .some(nil)
    case .text(let range), .binary(let range): String(decoding: buffer[range], as: UTF8.self)
    case .unchangedTOAST: nil
    }
  }

  private func texts(_ tuple: TupleData, _ buffer: UnsafeRawBufferPointer) -> [String??] {
    tuple.columns(in: buffer).map { text($0, buffer) }
  }

  /// Applies what the fold holds as its writer orders it: deletes, updates, inserts.
  private func apply(_ fold: inout RowFold, to table: inout Table, _ buffer: UnsafeRawBufferPointer) throws {
    func key(_ row: RowFold.Row) -> String { (texts(row.key, buffer)[0] ?? nil) ?? "NULL" }
    for row in fold.rows where row.state == .delete || row.state == .replace { try table.delete(key(row)) }
    for row in fold.rows where row.state == .update {
      let values = fold.values(of: row.version, buffer).dropFirst().map { text($0, buffer) }
      try table.update(key(row), to: key(row), values)
    }
    for row in fold.rows where row.state == .insert || row.state == .replace {
      let values = try fold.values(of: row.version, buffer).dropFirst().map { value in
        guard let text = text(value, buffer) else { throw Wrong("an insert without a value") }
        return text
      }
      try table.insert(key(row), values)
    }
    fold.removeAll()
  }

  /// Runs changes through a fold, applying it where it says that it must, and a change alone where it says
  /// so.
  private func folded(_ stream: StreamMessages, from rows: Rows) throws -> (rows: Rows, flushes: Int) {
    var table = Table(rows: rows)
    var fold = RowFold(key: [0])
    var flushes = 0
    try stream.bytes.withUnsafeBytes { buffer in
      var decoder = PgOutputDecoder(version: .one, streaming: .off)
      for range in stream.ranges {
        guard case .xLogData(let data) = try ReplicationFrame(buffer, range) else { continue }
        let message = try decoder.decode(buffer, data.payload)
        if take(message, into: &fold, buffer) { continue }
        try apply(&fold, to: &table, buffer)
        flushes += 1
        if !take(message, into: &fold, buffer) { try applyAlone(message, to: &table, buffer) }
      }
      try apply(&fold, to: &table, buffer)
    }
    return (table.rows, flushes)
  }

  private func take(
    _ message: PgOutputMessage, into fold: inout RowFold, _ buffer: UnsafeRawBufferPointer
  ) -> Bool {
    switch message {
    case .insert(let insert): fold.insert(insert.new, buffer)
    case .update(let update): fold.update(old: update.old, new: update.new, buffer)
    case .delete(let delete): fold.delete(delete.old.tuple, buffer)
    default: true
    }
  }

  private func applyAlone(
    _ message: PgOutputMessage, to table: inout Table, _ buffer: UnsafeRawBufferPointer
  ) throws {
    guard case .update(let update) = message, let old = update.old else {
      throw Wrong("only an UPDATE of a key may be applied alone")
    }
    let new = texts(update.new, buffer)
    try table.update(
      (texts(old.tuple, buffer)[0] ?? nil) ?? "NULL", to: (new[0] ?? nil) ?? "NULL", Array(new.dropFirst()))
  }

  @Test("Random changes of few rows end as they do one by one", arguments: 0..<300, [false, true])
  func random(seed: Int, isBinary: Bool) throws {
    var history = History(seed: UInt64(seed), isBinary: isBinary)
    let before = history.rows
    for _ in 0..<(seed % 60 + 1) { history.change() }
    let result = try folded(history.stream, from: before)
    #expect(result.rows == history.rows)
  }

  @Test("Most changes do fold: whole histories without any applied in between")
  func foldsAtAll() throws {
    var flushes = 0
    var changes = 0
    for seed in 0..<50 {
      var history = History(seed: UInt64(seed))
      let before = history.rows
      for _ in 0..<40 { history.change() }
      flushes += try folded(history.stream, from: before).flushes
      changes += history.stream.ranges.count
    }
    #expect(changes > 1500)
    #expect(flushes * 20 < changes, "\(flushes) of \(changes)")
  }

  @Test("Two rows that swap their keys by way of a third")
  func swap() throws {
    var stream = StreamMessages()
    let rows: Rows = ["1": ["a", "x"], "2": ["b", "y"]]
    stream.update(1, key: [.text("1"), .null, .null], [.text("3"), .text("a"), .text("x")])
    stream.update(1, key: [.text("2"), .null, .null], [.text("1"), .text("b"), .text("y")])
    stream.update(1, key: [.text("3"), .null, .null], [.text("2"), .text("a"), .unchanged])
    let result = try folded(stream, from: rows)
    #expect(result.rows == ["1": ["b", "y"], "2": ["a", "x"]])
    #expect(result.flushes == 0)
  }

  @Test("A value that no change carried is not made up: the key's UPDATE is applied alone")
  func unknownValue() throws {
    var stream = StreamMessages()
    stream.update(1, key: [.text("1"), .null, .null], [.text("2"), .text("b"), .unchanged])
    let result = try folded(stream, from: ["1": ["a", "toast"]])
    #expect(result.rows == ["2": ["b", "toast"]])
    #expect(result.flushes == 1)
  }

  @Test("What does not follow from what came before is never folded")
  func contradictions() throws {
    for wrong in [
      { (stream: inout StreamMessages) in stream.insert(1, [.text("1"), .null, .null]) },
      { stream in stream.delete(1, key: [.text("9"), .null, .null]) },
      { stream in stream.update(1, [.text("9"), .null, .null]) },
    ] {
      var stream = StreamMessages()
      stream.insert(1, [.text("1"), .null, .null])
      wrong(&stream)
      #expect(throws: Wrong.self) { try folded(stream, from: [:]) }
    }
  }
}
