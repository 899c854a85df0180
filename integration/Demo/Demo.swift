import Clusters
import Foundation

/// The main job before your eyes: two throw-away clusters, writers and readers all the while, a migration
/// into the encrypted one, the cutover, and the proof that nothing was lost.
@main
struct Demo {
  static func main() async {
    do {
      try await run()
    } catch {
      FileHandle.standardError.write(Data("demo: \(error)\n".utf8))
      exit(1)
    }
  }

  private static func run() async throws {
    say("Two throw-away clusters: a source, and a target with TLS on encrypted storage")
    let pair = try await ClusterPair.shared
    say("the target's storage: \(pair.targetStorage)")
    try await pair.withFreshDatabases(named: "demo") { databases in
      try await migrate(databases, encryption: pair.encryptionArguments)
    }
    try await Application(pair: pair).show()
  }

  private static func migrate(_ databases: FreshDatabases, encryption: [String]) async throws {
    var workload = try await Workload.load(databases.source)
    let program = Program(databases)
    say(
      "Writers on the source from now on: 4 of a ledger that remembers each acknowledged commit, and pgbench"
    )
    try await workload.start()
    do {
      try await program.show(["check"] + encryption)
      let engine = try await program.engine(["start", "--no-reverse"] + encryption)
      try await program.watch(engine)
      try await program.show(["status"])
      try await program.show(["verify"])
      try await program.show(["cutover", "--yes"])
      guard try await engine.waitForEnd(within: .seconds(60)) == 0 else { throw HarnessError(engine.errors) }
      try await program.show(["status"])
    } catch {
      await workload.stop()
      throw error
    }
    try await workload.settle()
    try await Proof(databases: databases, workload: workload).show()
  }
}

/// A headline between the program's own words.
func say(_ words: String) {
  print("\n── \(words)")
  fflush(nil)
}
