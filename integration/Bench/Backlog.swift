import Clusters
import Foundation

/// WAL that waits behind a slot, and the target as it was when the slot was made.
struct Backlog {
  let dataset: ApplyDataset
  let scale: Double
  let sourceServer: ConnectionString
  let targetServer: ConnectionString

  private var name: String { "apply_\(dataset.rawValue)" }
  var source: ConnectionString { sourceServer.with(["dbname": name]) }
  /// Where a method applies; made anew for each run.
  var target: ConnectionString { targetServer.with(["dbname": name]) }
  private var nativeBase: ConnectionString { targetServer.with(["dbname": "\(name)_native"]) }
  private var ownBase: ConnectionString { targetServer.with(["dbname": "\(name)_own"]) }
  /// Stands at the beginning of the backlog, and is never read from.
  private static let keptSlot = "bench_kept"

  func make() async throws {
    try await sql(["CREATE DATABASE \(name) TEMPLATE template0"], on: sourceServer)
    try await sql(
      ["_native", "_own"].map { "CREATE DATABASE \(name)\($0) TEMPLATE template0" }, on: targetServer)
    try await shell(dataset.preparation(count))
    try await sql(["CREATE TABLE bench_done (id int PRIMARY KEY)", "VACUUM (ANALYZE)"], on: source)
    try await shell("pg_dump -Fc \"$SRC\" | pg_restore -d \"$NATIVE\"")
    let replicate = ReplicateProcess(source: source, target: ownBase)
    let engine = try await replicate.start(
      "start", "--allow-unencrypted-target", "--replica-identity", "full")
    try await engine.waitUntil("streaming", within: .seconds(300)) {
      engine.errors.contains("phase streaming")
    }
    engine.terminate()
    _ = try await engine.waitForEnd(within: .seconds(60))
    for base in [nativeBase, ownBase] { try await sql(["VACUUM (ANALYZE)"], on: base) }
    let slot = try await ownSlot()
    try await sql(["SELECT pg_copy_logical_replication_slot('\(slot)', '\(Self.keptSlot)')"], on: source)
    try await shell(dataset.workload(count))
    try await sql(["INSERT INTO bench_done VALUES (1)"], on: source)
  }

  private func count(_ number: Int) -> Int { max(1, Int(Double(number) * scale)) }

  /// The slot by which `replicate` knows its own migration.
  func ownSlot() async throws -> String {
    let slot = try await value(
      "SELECT slot_name FROM pg_replication_slots WHERE slot_name NOT LIKE 'bench%'", on: source)
    guard let slot else { throw HarnessError("the engine made no slot") }
    return slot
  }

  /// A slot at the beginning of the backlog; it takes the place of one of that name.
  func freshSlot(_ slot: String) async throws {
    try await sql(
      [
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '\(slot)'",
        "SELECT pg_copy_logical_replication_slot('\(Self.keptSlot)', '\(slot)')", "CHECKPOINT",
      ], on: source)
  }

  func freshTarget(isOwn: Bool) async throws {
    try await sql(
      [
        "DROP DATABASE IF EXISTS \(name) WITH (FORCE)",
        "CREATE DATABASE \(name) TEMPLATE \(name)_\(isOwn ? "own" : "native")", "CHECKPOINT",
      ], on: targetServer)
  }

  /// The seconds from when the slot is read from to when the last transaction is on the target.
  /// - Parameter walsender: gets the time that the source's processors spent on sending.
  func measure(
    _ slot: String, walsender: inout Double?, whenDone: () async throws -> Void = {}
  ) async throws -> Double {
    let source = try await SQLSession(source)
    let target = try await SQLSession(target)
    let pid = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = '\(slot)'"
    try await waitUntil("slot \(slot) is read", within: .seconds(60)) { try await source.value(pid) != nil }
    let began = ContinuousClock.now
    try await waitUntil("the last transaction", within: .seconds(900)) {
      try await target.value("SELECT count(*) FROM bench_done") == "1"
    }
    let seconds = (ContinuousClock.now - began) / .seconds(1)
    try await whenDone()
    walsender = try await source.value(pid).flatMap { Int32($0) }
      .flatMap { BackgroundProcess.processorSeconds(of: $0) }
    await source.close()
    await target.close()
    return seconds
  }

  func size() async throws -> String {
    try await value(
      """
      SELECT pg_size_pretty(pg_current_wal_lsn() - confirmed_flush_lsn) FROM pg_replication_slots
      WHERE slot_name = '\(Self.keptSlot)'
      """, on: source) ?? ""
  }

  func drop() async throws {
    try await sql(
      ["SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active"], on: source)
    try await sql(["DROP DATABASE \(name) WITH (FORCE)"], on: sourceServer)
    try await sql(
      ["", "_native", "_own"].map { "DROP DATABASE IF EXISTS \(name)\($0) WITH (FORCE)" }, on: targetServer)
  }

  // MARK: Speaking to the servers

  func sql(_ statements: [String], on server: ConnectionString) async throws {
    let session = try await SQLSession(server)
    for statement in statements { try await session.execute(statement) }
    await session.close()
  }

  private func value(_ sql: String, on server: ConnectionString) async throws -> String? {
    let session = try await SQLSession(server)
    let value = try await session.value(sql)
    await session.close()
    return value
  }

  /// The environment of commands: `$SRC` and `$NATIVE` to connect to, `$DIR` to write to.
  func environment() async throws -> [String: String] {
    let bin = try URL(filePath: PostgresPrograms.path("psql")).deletingLastPathComponent().path
    return [
      "SRC": source.text, "NATIVE": nativeBase.text, "DIR": try await freshDirectory(),
      "PGOPTIONS": "-c synchronous_commit=off",
      "PATH": "\(bin):\(ProcessInfo.processInfo.environment["PATH"] ?? "")",
    ]
  }

  private static let prelude = """
    set -euo pipefail
    run_sql() { psql -qX -v ON_ERROR_STOP=1 -d "$SRC" "$@" >/dev/null; }

    """

  private func shell(_ script: String) async throws {
    try await Command.check(
      ["bash", "-c", Self.prelude + script], environment: environment(), limit: .seconds(900))
  }
}
