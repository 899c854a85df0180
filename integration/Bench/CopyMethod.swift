import Clusters
import Foundation

/// A way to bring a database over, through to a target with all indexes.
enum CopyMethod: String, CaseIterable {
  case dumpPipe = "pg_dump -Z0 | pg_restore"
  case dumpParallel = "pg_dump -j2, pg_restore -j2"
  case pgcopydb = "pgcopydb clone (2+2, split)"
  case native = "native subscription"
  case floor = "floor: COPY pipes, FREEZE"
  case replicate = "replicate start --jobs 2"

  var isPeer: Bool { self != .floor && self != .replicate }

  struct Result {
    var seconds: Double
    var peakMemoryBytes: Int?
  }

  func run(source: ConnectionString, target: ConnectionString) async throws -> Result {
    switch self {
    case .replicate: return try await Self.runReplicate(source, target)
    case .dumpPipe:
      return try await shell(
        source, target, "\"$BIN/pg_dump\" -Fc -Z0 \"$SRC\" | \"$BIN/pg_restore\" -d \"$DST\"")
    case .dumpParallel:
      return try await shell(
        source, target,
        """
        "$BIN/pg_dump" -Fd -Z0 -j2 -f "$DIR/dump" "$SRC" && "$BIN/pg_restore" -j2 -d "$DST" "$DIR/dump"
        """)
    case .pgcopydb:
      return try await shell(
        source, target,
        """
        pgcopydb clone --source "$SRC" --target "$DST" --dir "$DIR/pgcopydb" --table-jobs 2 --index-jobs 2 \
          --split-tables-larger-than 100MB --quiet
        """)
    case .native: return try await shell(source, target, Self.subscription)
    case .floor: return try await shell(source, target, Self.pipes)
    }
  }

  private func shell(
    _ source: ConnectionString, _ target: ConnectionString, _ script: String
  ) async throws -> Result {
    let directory = try await freshDirectory()
    let bin = try URL(filePath: PostgresPrograms.path("psql")).deletingLastPathComponent().path
    let began = ContinuousClock.now
    let run = try await Command.run(
      ["bash", "-c", "set -euo pipefail; \(script)"],
      environment: [
        "SRC": source.text, "DST": target.text, "BIN": bin, "DIR": directory,
        "PATH": "\(bin):\(ProcessInfo.processInfo.environment["PATH"] ?? "")",
      ], limit: .seconds(900))
    let seconds = (ContinuousClock.now - began) / .seconds(1)
    guard run.exitCode == 0 else { throw HarnessError("\(rawValue): \(run.errors.suffix(2000))") }
    return Result(seconds: seconds)
  }

  /// With the whole schema first, as its manual says; two tables at a time, which is its default.
  private static let subscription = """
    "$BIN/pg_dump" -s "$SRC" | psql -qX "$DST" >/dev/null
    psql -qX "$SRC" -c 'CREATE PUBLICATION bench FOR ALL TABLES'
    psql -qX "$DST" >"$DIR/log" 2>&1 \\
      -c "CREATE SUBSCRIPTION bench CONNECTION '${SRC//\\'/\\'\\'}' PUBLICATION bench" ||
      { cat "$DIR/log" >&2; exit 1; }
    unready="SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'"
    while [ "$(psql -qAtX "$DST" -c "$unready")" != 0 ]; do sleep 0.05; done
    """

  /// The least work that the servers can be given with psql.
  private static let pipes = """
    "$BIN/pg_dump" -Fc --section=pre-data --section=post-data -f "$DIR/schema" "$SRC"
    "$BIN/pg_restore" --section=pre-data -d "$DST" "$DIR/schema"
    psql -qAtX "$SRC" -c "SELECT oid::regclass FROM pg_class WHERE relkind = 'r'
        AND relnamespace = 'public'::regnamespace ORDER BY pg_table_size(oid) DESC" |
      xargs -P2 -I{} bash -c 'set -o pipefail; psql -qX "$SRC" -c "COPY {} TO STDOUT (FORMAT binary)" |
        psql -qX1 "$DST" -c "TRUNCATE ONLY {}" -c "COPY {} FROM STDIN (FORMAT binary, FREEZE)"'
    "$BIN/pg_restore" --section=post-data -j2 -d "$DST" "$DIR/schema"
    """

  /// To the moment from which on it streams, statistics and keys included.
  private static func runReplicate(
    _ source: ConnectionString, _ target: ConnectionString
  ) async throws -> Result {
    let replicate = ReplicateProcess(source: source, target: target)
    let began = ContinuousClock.now
    let engine = try await replicate.start(
      "start", "--jobs", "2", "--allow-unencrypted-target", "--replica-identity", "full")
    try await engine.waitUntil("streaming", within: .seconds(900)) {
      engine.errors.contains("phase streaming")
    }
    let seconds = (ContinuousClock.now - began) / .seconds(1)
    let peak = engine.peakMemoryBytes
    if ProcessInfo.processInfo.environment["REPLICATE_BENCH_LOG"] != nil { say(engine.errors) }
    engine.terminate()
    _ = try await engine.waitForEnd(within: .seconds(60))
    let abort = try await replicate.run("abort", "--yes")
    guard abort.exitCode == 0 else { throw HarnessError("abort: \(abort.errors)") }
    return Result(seconds: seconds, peakMemoryBytes: peak)
  }
}
