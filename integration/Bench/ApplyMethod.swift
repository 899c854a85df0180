import Clusters
import Foundation
import LibPQ

/// A way to bring a backlog over.
enum ApplyMethod: String, CaseIterable {
  case discard = "floor: received and discarded"
  case discardStreaming = "floor: received and discarded, binary, streaming"
  case native = "native subscription"
  case nativeStreaming = "native subscription, binary, streaming"
  case replicate = "replicate start"

  struct Result {
    var seconds: Double
    var peakMemoryBytes: Int?
    var processorSeconds: Double?
    var walsenderSeconds: Double?
  }

  func run(_ backlog: Backlog) async throws -> Result {
    switch self {
    case .discard: try await Self.discard(backlog, "proto_version '1'")
    case .discardStreaming:
      try await Self.discard(backlog, "proto_version '2', streaming 'on', binary 'true'")
    case .native: try await Self.subscribe(backlog, "")
    case .nativeStreaming: try await Self.subscribe(backlog, ", binary = true, streaming = on")
    case .replicate: try await Self.runReplicate(backlog)
    }
  }

  /// The least that any consumer needs: the walsender's work, and somebody who takes it.
  private static func discard(_ backlog: Backlog, _ options: String) async throws -> Result {
    try await backlog.freshSlot("bench_floor")
    let source = try await SQLSession(backlog.source)
    let end =
      try await source.value("SELECT pg_current_wal_insert_lsn() - pg_lsn '0/0'").flatMap(UInt64.init) ?? 0
    // What lies beyond the end shows that it has been passed.
    for _ in 0..<2 { try await source.execute("SELECT pg_logical_emit_message(true, 'bench', '')") }
    let string = try LibPQ.ConnectionString(backlog.source.text, for: "source")
      .setting("replication", to: "database")
    let connection = try await Connection.open(string, end: "source")
    let began = ContinuousClock.now
    try await connection.startCopyBoth(
      """
      START_REPLICATION SLOT bench_floor LOGICAL 0/0 (\(options), messages 'true',
        publication_names 'replicate')
      """, doing: "reading the backlog")
    var result = Result(seconds: 0)
    var isDone = false
    while !isDone {
      let messages = try await connection.receiveMessages(
        limit: 256 << 10, patience: .milliseconds(200), doing: "reading the backlog")
      isDone = messages.messages.contains { start(of: $0, in: messages.bytes) > end }
      // As our own engine does, and for its reason: a source that is read as it sends is slower.
      if messages.bytes.count < 256 << 10 { try await Task.sleep(for: .milliseconds(10)) }
    }
    result.seconds = (ContinuousClock.now - began) / .seconds(1)
    result.walsenderSeconds = try await source.value(
      "SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'bench_floor'"
    ).flatMap { Int32($0) }.flatMap { BackgroundProcess.processorSeconds(of: $0) }
    await connection.close()
    await source.close()
    return result
  }

  /// The WAL position that a message starts with, behind the letter of its kind.
  private static func start(of message: Range<Int>, in bytes: [UInt8]) -> UInt64 {
    bytes[message].dropFirst().prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
  }

  private static func subscribe(_ backlog: Backlog, _ options: String) async throws -> Result {
    try await backlog.freshTarget(isOwn: false)
    try await backlog.freshSlot("bench_native")
    try await backlog.sql(
      [
        """
        CREATE SUBSCRIPTION bench CONNECTION '\(backlog.source.text.replacing("'", with: "''"))'
          PUBLICATION replicate WITH (slot_name = bench_native, create_slot = false, copy_data = false,
            enabled = false\(options))
        """, "ALTER SUBSCRIPTION bench ENABLE",
      ], on: backlog.target)
    var result = Result(seconds: 0)
    result.seconds = try await backlog.measure("bench_native", walsender: &result.walsenderSeconds)
    try await backlog.sql(
      [
        "ALTER SUBSCRIPTION bench DISABLE", "ALTER SUBSCRIPTION bench SET (slot_name = NONE)",
        "DROP SUBSCRIPTION bench",
      ], on: backlog.target)
    return result
  }

  private static func runReplicate(_ backlog: Backlog) async throws -> Result {
    try await backlog.freshTarget(isOwn: true)
    let slot = try await backlog.ownSlot()
    try await backlog.freshSlot(slot)
    let replicate = ReplicateProcess(source: backlog.source, target: backlog.target)
    let engine = try await replicate.start("start", "--allow-unencrypted-target")
    var result = Result(seconds: 0)
    var walsender: Double?
    result.seconds = try await backlog.measure(slot, walsender: &walsender) {
      result.peakMemoryBytes = engine.peakMemoryBytes
      result.processorSeconds = engine.processorSeconds
    }
    result.walsenderSeconds = walsender
    engine.terminate()
    _ = try await engine.waitForEnd(within: .seconds(60))
    return result
  }
}
