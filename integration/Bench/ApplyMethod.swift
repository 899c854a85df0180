import Clusters
import Foundation

/// A way to bring a backlog over.
enum ApplyMethod: String, CaseIterable {
  case decode = "floor: decoded and discarded"
  case decodeStreaming = "floor: decoded and discarded, streaming"
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
    case .decode: try await Self.decode(backlog, "proto_version=1")
    case .decodeStreaming: try await Self.decode(backlog, "proto_version=2", "streaming=on")
    case .native: try await Self.subscribe(backlog, "")
    case .nativeStreaming: try await Self.subscribe(backlog, ", binary = true, streaming = on")
    case .replicate: try await Self.runReplicate(backlog)
    }
  }

  /// The least that any consumer needs: the walsender's work, and somebody who takes it.
  private static func decode(_ backlog: Backlog, _ options: String...) async throws -> Result {
    try await backlog.freshSlot("bench_floor")
    let source = try await SQLSession(backlog.source)
    let end = try await source.value("SELECT pg_current_wal_insert_lsn()") ?? "0/0"
    // The end is reached by a message that lies behind it.
    for _ in 0..<2 { try await source.execute("SELECT pg_logical_emit_message(true, 'bench', '')") }
    await source.close()
    let environment = try await backlog.environment()
    let began = ContinuousClock.now
    try await Command.check(
      ["pg_recvlogical", "-d", backlog.source.text, "-S", "bench_floor", "--start", "-f", "/dev/null"]
        + ["--no-loop", "-F", "0", "--endpos", end]
        + (options + ["publication_names=replicate"]).flatMap { ["-o", $0] },
      environment: environment, limit: .seconds(900))
    return Result(seconds: (ContinuousClock.now - began) / .seconds(1))
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
