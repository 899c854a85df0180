import Clusters

/// What the writers, the readers and both ends say afterwards.
struct Proof {
  let databases: FreshDatabases
  let workload: Workload

  /// - Throws: when anything was lost, doubled, refused to a reader, or can still be written on the source.
  func show() async throws {
    say("The proof")
    let ledger = workload.ledger.report
    let contradictions = try await workload.ledger.verify(on: databases.target)
    let differences = try await DatabaseComparison().differences(
      source: databases.source, target: databases.target)
    let reads = workload.reader.report
    let source = try await refusal(on: databases.source)
    let target = try await refusal(on: databases.target)
    let lines = [
      ("acknowledged commits", "\(ledger.acknowledged), \(Int(ledger.acknowledgedPerSecond)) a second"),
      ("missing, doubled or wrong on the target", "\(contradictions.count)"),
      ("tables and sequences that differ", "\(differences.count)"),
      ("reads on the source", "\(reads.reads), longest \(milliseconds(reads.longestWait)) ms"),
      ("failed reads", "\(reads.failures.count)"),
      ("a superuser's write on the source", source.map { "refused with SQLSTATE \($0)" } ?? "accepted"),
      ("a write on the target", target.map { "refused with SQLSTATE \($0)" } ?? "accepted"),
    ]
    let width = lines.map(\.0.count).max() ?? 0
    for (what, result) in lines {
      print(what + String(repeating: " ", count: width + 2 - what.count) + result)
    }
    let faults = contradictions + differences + reads.failures + ledger.failures
    guard faults.isEmpty, source == "25006", target == nil else {
      throw HarnessError("the proof failed:\n\(faults.prefix(20).joined(separator: "\n"))")
    }
  }

  /// The SQLSTATE that a write is refused with, in a session that asks to be allowed to write.
  private func refusal(on server: ConnectionString) async throws -> String? {
    let session = try await SQLSession(server, settings: ["default_transaction_read_only": "off"])
    defer { Task { await session.close() } }
    do {
      try await session.execute("UPDATE ledger_account SET balance = balance WHERE writer = 0")
      return nil
    } catch SQLFailure.refused(let sqlState, _) {
      return sqlState
    }
  }

  private func milliseconds(_ duration: Duration) -> Int { Int(duration / .milliseconds(1)) }
}
