import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// A source that answers, with whatever error, is not lost: after the seal it is asked, and without a seal
/// that is known only silence, and the operator's word, open the target.
@Suite(.serialized, .servers(about: 60), .timeLimit(.minutes(5)))
struct LostSourceTests {
  private static let write = "UPDATE t SET v = 1"

  private func prepare(_ scene: Scene) async throws {
    try await scene.source("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 0)")
  }

  /// An engine that dies at `failpoint` of a cutover.
  private func die(_ scene: Scene, at failpoint: String) async throws {
    try await prepare(scene)
    let engine = try await scene.start(meeting: "\(failpoint)=kill")
    try await scene.waitUntilReady(engine)
    let cutover = try await scene.replicate.start("cutover", "--yes", "--timeout", "2s")
    #expect(try await engine.waitForEnd(within: .seconds(20)) == 128 + 9, "\(engine.errors)")
    try await cutover.end()
  }

  private func isClosed(_ scene: Scene) async throws -> Bool {
    try await scene.refusal(of: Self.write, on: scene.databases.target) == "25006"
  }

  private func starting(
    _ scene: Scene, with changes: [String: String] = [:], _ options: String...
  ) async throws -> Finished {
    try await scene.connecting(source: changes).replicate.run(
      ["start", "--no-reverse"] + options + ClusterPair.shared.encryptionArguments)
  }

  @Test(
    "Without a seal that is known, a source that answers, is mistyped or is another's opens no target",
    .ownServers)
  func unsealed() async throws {
    let pair = try await ClusterPair.shared
    let source = try #require(pair.sourceCluster)
    let target = try #require(pair.targetCluster)
    try await Scene.run("unsealed") { scene in
      try await die(scene, at: "seal announced")
      try await waitUntil("the fence's expiry", within: .seconds(20)) {
        try await scene.refusal(of: Self.write, on: scene.databases.source) == nil
      }
      let forced = ["--without-source", "--yes"]
      let answers: [[String: String]] = [
        [:], ["password": "wrong"], ["user": "nobody_here"], ["dbname": "nowhere"], ["sslmode": "require"],
        ["port": "\(target.port)"], ["host": "127.0.0.1,127.0.0.1", "port": "1,\(source.port)"],
      ]
      for changes in answers {
        let run = try await starting(scene, with: changes, forced[0], forced[1])
        #expect(
          run.exitCode == 64 && run.errors.contains("the source answers"), "\(changes): \(run.errors)")
      }
      let unknown = try await starting(
        scene, with: ["host": "no-such-host.invalid"], forced[0], forced[1])
      #expect(
        unknown.exitCode == 64 && unknown.errors.contains("--source names no-such-host.invalid"),
        "\(unknown.errors)")
      let other = try await starting(scene, with: ["port": "1"], forced[0], forced[1])
      #expect(other.exitCode == 64, "\(other.errors)")
      #expect(other.errors.contains("was begun with 127.0.0.1:\(source.port)"), "\(other.errors)")
      #expect(other.errors.contains("host=127.0.0.1 port=\(source.port)"), "\(other.errors)")
      #expect(try await isClosed(scene))
      try await source.kill9()
      let result: Result<Finished, any Error>
      do {
        let named = ["host": "lost.invalid", "hostaddr": "127.0.0.1", "password": "wrong"]
        result = .success(try await starting(scene, with: named, forced[0], forced[1]))
      } catch { result = .failure(error) }
      try await source.start()
      let run = try result.get()
      #expect(run.exitCode == 0, "\(run.output)\(run.errors)")
      let seen = "connection refused by lost.invalid (127.0.0.1:\(source.port)); tried"
      #expect(run.output.contains(seen), "\(run.output)")
      #expect(run.output.contains("it takes writes since its fence expired"), "\(run.output)")
      #expect(run.errors.contains(seen), "\(run.errors)")
      #expect(try await !isClosed(scene))
    }
  }

  @Test("A source that is known to be sealed, but lets nobody in, is waited for, and asked for its seal")
  func sealed() async throws {
    try await Scene.run("sealedanswers") { scene in
      try await die(scene, at: "sealed and noted")
      for changes in [["password": "wrong"], ["dbname": "nowhere"], ["host": "no-such-host.invalid"]] {
        let run = try await starting(scene, with: changes)
        #expect(run.exitCode == 1, "\(changes): \(run.output)\(run.errors)")
        #expect(run.errors.contains("the source is not lost"), "\(changes): \(run.errors)")
        #expect(try await isClosed(scene), "\(changes)")
      }
      // As a failover to a standby that had not got the seal.
      try await scene.source("SELECT replicate.note('fence', '[{\"state\": \"open\"}]')")
      let waiting = try await scene.start()
      try await scene.waitUntil("a status that names the lost seal", waiting, within: .seconds(20)) {
        $0.stream.waitsFor?.contains("a failover or a restore may have lost the seal") == true
      }
      #expect(try await isClosed(scene))
      try await waiting.end()
      try await scene.source("SELECT replicate.note('fence', '[{\"state\": \"sealed\"}]')")
      let run = try await starting(scene)
      #expect(run.exitCode == 0, "\(run.output)\(run.errors)")
      #expect(try await !isClosed(scene))
    }
  }

  @Test("An engine after its seal that is let in no more waits, says why, and goes on once it is let in")
  func locked() async throws {
    try await Mover.with("locked") { scene, mover in
      try await prepare(scene)
      let held = try await HoldingPoint("sealed and noted")
      let engine = try await scene.start(meeting: held.failpoint)
      try await scene.waitUntilReady(engine)
      let cutover = try await scene.replicate.start("cutover", "--yes")
      try await held.wait(for: engine)
      try await mover.changePassword()
      try await mover.end("replicate cutover")
      try held.release()
      try await scene.waitUntil("a status that says why it is not open", engine, within: .seconds(20)) {
        $0.cutover?.reason?.contains("password authentication failed") == true
      }
      #expect(try await isClosed(scene))
      try await mover.restorePassword()
      #expect(try await cutover.waitForEnd(within: .seconds(40)) == 0, "\(cutover.errors)\(engine.errors)")
      #expect(try await engine.waitForEnd(within: .seconds(40)) == 0, "\(engine.errors)")
      #expect(try await !isClosed(scene))
    }
  }

  @Test("A stream goes on while its source lets no new session in; cutovers wait until it does")
  func expired() async throws {
    try await Mover.with("expired") { scene, mover in
      try await prepare(scene)
      let engine = try await scene.start()
      try await scene.waitUntilReady(engine)
      let stream = try await mover.pid("replicate stream")
      try await mover.changePassword()
      try await mover.end("replicate monitor")
      try await scene.waitUntil("a status that names the login", engine, within: .seconds(20)) {
        $0.stream.waitsFor?.contains("admits no new session") == true && !$0.ready
      }
      try await scene.source("INSERT INTO t VALUES (2, 2)")
      try await engine.waitUntil("the row on the target", within: .seconds(20)) {
        try await scene.targetValue("SELECT v FROM t WHERE id = 2") == "2"
      }
      let verify = try await scene.replicate.run("verify")
      #expect(verify.exitCode == 1, "\(verify.output)\(verify.errors)")
      let refused = try await scene.replicate.run("cutover", "--yes")
      #expect(refused.exitCode == 5, "\(refused.output)\(refused.errors)")
      #expect(refused.errors.contains("password authentication failed"), "\(refused.errors)")
      try await mover.restorePassword()
      try await scene.waitUntilReady(engine)
      #expect(try await mover.pid("replicate stream") == stream, "the stream has not begun anew")
      let again = try await scene.replicate.run("cutover", "--yes")
      #expect(again.exitCode == 0, "\(again.output)\(again.errors)\(engine.errors)")
    }
  }

  @Test("The end of reverse replication asks whether the source is gone, and does not take an error for it")
  func finish() async throws {
    try await Running.back("finishanswers", prepare: ["CREATE TABLE t (id int PRIMARY KEY)"]) { back in
      let locked = back.scene.connecting(source: ["password": "wrong"]).replicate
      let plain = try await locked.run("finish", "--yes")
      #expect(plain.exitCode == 1, "\(plain.errors)")
      #expect(
        plain.errors.contains("28P01") && !plain.errors.contains("--without-source"), "\(plain.errors)")
      let without = try await locked.run("finish", "--yes", "--without-source")
      #expect(without.exitCode == 64 && without.errors.contains("the source answers"), "\(without.errors)")
      try await RollbackTests.stop(back.engine)
      let finish = try await back.scene.replicate.run("finish", "--yes")
      #expect(finish.exitCode == 0, "\(finish.output)\(finish.errors)")
    }
  }
}
