import Foundation
import Testing

@testable import MigrationEngine

@Suite struct CommandEvidenceTests {
  private let server = TargetServerFacts(
    port: 5432, host: "db.example", database: "app", systemIdentifier: "42")

  private func run(
    _ command: String, limit: Duration = .seconds(30), server: TargetServerFacts? = nil
  ) async -> EncryptionEvidence {
    await CommandEvidence(command: command, timeLimit: limit).examine(server: server ?? self.server)
  }

  @Test func exitCodeZeroAttestsWithTheFirstLine() async {
    let found = await run("echo; echo 'KMS key alias/app'; echo more; echo noise >&2")
    #expect(
      found == EncryptionEvidence(status: .attested, provider: .command, detail: "KMS key alias/app"))
  }

  @Test func theCommandLearnsWhichServerIsMeant() async {
    let found = await run(
      "echo $REPLICATE_TARGET_HOST $REPLICATE_TARGET_PORT $REPLICATE_TARGET_DATABASE "
        + "$REPLICATE_TARGET_SYSTEM_IDENTIFIER")
    #expect(found.detail == "db.example 5432 app 42")
    let unknown = await run("echo \"${REPLICATE_TARGET_HOST-unset}\"", server: TargetServerFacts())
    #expect(unknown.detail == "unset")
  }

  @Test func silenceAttestsAndSaysSo() async {
    let found = await run(":")
    #expect(found.status == .attested)
    #expect(found.detail == "the command exited with 0 and said nothing")
  }

  @Test func controlCharactersAndLengthAreCut() async {
    let found = await run(
      "printf '\\033[31mred\\033[0m \\007bell %0300d\\nsecond' 0 | tr 0 x")
    #expect(found.detail.hasPrefix("[31mred[xm bell xxx"))
    #expect(found.detail.count == 200)
    #expect(found.detail.unicodeScalars.allSatisfy { $0.value >= 32 })
  }

  @Test func anyOtherExitCodeIsNoEvidenceAndQuotesTheLastComplaint() async {
    let found = await run("echo yes; echo first >&2; echo 'no such key' >&2; exit 7")
    #expect(
      found
        == EncryptionEvidence(
          status: .unverified, provider: .command, detail: "the command exited with 7: no such key"))
    #expect(await run("kill -TERM $$").detail == "the command was ended by signal 15")
  }

  @Test func outputWithoutEndNeitherBlocksNorGrows() async {
    let loud = await run(
      "echo key; yes | head -c 3000000; yes no | head -c 3000000 >&2; echo done >&2; exit 3")
    #expect(loud.detail == "the command exited with 3: done")
    let flood = await run("yes", limit: .milliseconds(300))
    #expect(flood.status == .unverified)
  }

  @Test(.timeLimit(.minutes(1))) func theTimeLimitTakesTheChildrenAlong() async throws {
    let machine = try FakeMachine()
    let pids = "\(machine.root)/pids"
    let found = await run("sleep 300 & echo $! >> \(pids); echo $$ >> \(pids); wait", limit: .seconds(2))
    #expect(found.status == .unverified)
    #expect(found.detail.contains("took longer than"))
    try await expectGone(pidsIn: pids, count: 2)
  }

  @Test(.timeLimit(.minutes(1))) func whatIsLeftInTheBackgroundEndsWithTheCommand() async throws {
    let machine = try FakeMachine()
    let pids = "\(machine.root)/pids"
    let found = await run("sleep 300 & echo $! > \(pids); echo ok")
    #expect(found.detail == "ok")
    try await expectGone(pidsIn: pids, count: 1)
  }

  @Test(.timeLimit(.minutes(1))) func aFloodFromTheBackgroundEndsToo() async throws {
    let machine = try FakeMachine()
    let pids = "\(machine.root)/pids"
    _ = await run("yes & echo $! > \(pids); exit 0", limit: .seconds(2))
    try await expectGone(pidsIn: pids, count: 1)
  }

  /// A killed process may stay a zombie where no one reaps orphans; a zombie runs nothing.
  private func expectGone(pidsIn path: String, count: Int) async throws {
    let pids = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
    try #require(pids.count == count)
    let deadline = ContinuousClock.now + .seconds(10)
    for pid in pids {
      while runs(pid) && ContinuousClock.now < deadline { await Task.yield() }
      #expect(!runs(pid), "process \(pid) has outlived the command")
    }
  }

  private func runs(_ pid: Substring) -> Bool {
    guard let line = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8),
      let name = line.lastIndex(of: ")")
    else { return false }
    return !line[name...].hasPrefix(") Z")
  }
}
