extension Ledger {
  /// Compares the tables of a database with what the writers got acknowledged, and returns one line for each
  /// contradiction: an acknowledged entry that is missing, one that is there twice, one that was refused or
  /// deleted and is there, a wrong amount, a balance that is not the sum.
  ///
  /// Call it when the writers have stopped and, on the target, when their last commit has been applied.
  package func verify(on server: ConnectionString) async throws -> [String] {
    let session = try await SQLSession(server)
    let entries = try await entries(session)
    let unbalanced = try await session.rows(
      """
      SELECT writer, balance, coalesce((SELECT sum(amount) FROM ledger_entry AS entry
        WHERE entry.writer = account.writer), 0)
      FROM ledger_account AS account
      """)
    await session.close()
    var found: [String] = []
    for row in unbalanced where row.count == 3 && row[1] != row[2] {
      found.append("writer \(row[0] ?? ""): balance \(row[1] ?? ""), sum of entries \(row[2] ?? "")")
    }
    let records = snapshot
    if unbalanced.count != records.count {
      found.append("\(unbalanced.count) accounts for \(records.count) writers")
    }
    for (writer, record) in records.enumerated() {
      found += Self.contradictions(record, writer: writer, entries: entries[writer] ?? [:])
    }
    return found + entries.keys.filter { !records.indices.contains($0) }.map { "unknown writer \($0)" }
  }

  private struct Entry {
    let count: Int
    let amount: Int
  }

  private func entries(_ session: SQLSession) async throws -> [Int: [Int: Entry]] {
    var result: [Int: [Int: Entry]] = [:]
    let query = "SELECT writer, n, count(*), min(amount) FROM ledger_entry GROUP BY writer, n"
    for row in try await session.rows(query) {
      let numbers = row.compactMap { $0.flatMap { Int($0) } }
      guard numbers.count == 4 else { throw HarnessError("ledger_entry holds \(row)") }
      result[numbers[0], default: [:]][numbers[1]] = Entry(count: numbers[2], amount: numbers[3])
    }
    return result
  }

  private static func contradictions(_ record: Record, writer: Int, entries: [Int: Entry]) -> [String] {
    var found: [String] = []
    // Which transactions took effect: those acknowledged, and of the unknown ones those that show.
    let effective = record.acknowledged.union(record.unknown.filter { entries[$0] != nil })
    let deleted = Set(effective.compactMap(deleted(by:)))
    // A lost COMMIT whose own entry a later transaction deleted has left no other sign.
    let expected = record.acknowledged.subtracting(deleted)
    for n in expected.sorted() where entries[n] == nil {
      found.append("writer \(writer): acknowledged entry \(n) is missing")
    }
    for (n, entry) in entries.sorted(by: { $0.key < $1.key }) {
      if entry.count != 1 { found.append("writer \(writer): entry \(n) is there \(entry.count) times") }
      if entry.amount != amount(writer: writer, n: n) {
        found.append("writer \(writer): entry \(n) has another amount")
      }
      if deleted.contains(n) { found.append("writer \(writer): deleted entry \(n) is there") }
      if !record.acknowledged.contains(n) && !record.unknown.contains(n) {
        let kind = record.absent.contains(n) ? "refused" : "never written"
        found.append("writer \(writer): entry \(n), which was \(kind), is there")
      }
    }
    return found
  }
}
