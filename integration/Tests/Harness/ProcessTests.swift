import Clusters
import Foundation
import Testing

/// Nothing a test starts may outlive it.
@Suite(.serialized, .servers, .timeLimit(.minutes(1)))
struct ProcessTests {
  @Test("Output can be waited for, and the end has the exit code")
  func output() async throws {
    let process = try await BackgroundProcess(["sh", "-c", "echo ready; echo oops >&2; exit 7"])
    #expect(try await process.waitForEnd(within: .seconds(10)) == 7)
    #expect(process.output == "ready\n")
    #expect(process.errors == "oops\n")
  }

  @Test("Waiting for output fails at once when the process has ended without it")
  func missingOutput() async throws {
    let process = try await BackgroundProcess(["sh", "-c", "echo other"])
    await #expect(throws: HarnessError.self) {
      try await process.waitForOutput("ready", within: .seconds(600))
    }
  }

  @Test("SIGTERM can be answered by the process; SIGKILL cannot, and takes its children along")
  func signals() async throws {
    let polite = try await BackgroundProcess(
      ["sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do read line </dev/null; done"])
    try await polite.waitForOutput("ready", within: .seconds(10))
    polite.terminate()
    #expect(try await polite.waitForEnd(within: .seconds(10)) == 3)

    let parent = try await BackgroundProcess(["sh", "-c", "tail -f /dev/null & echo $!; wait"])
    try await parent.waitForOutput("\n", within: .seconds(10))
    let child = try #require(Int32(parent.output.trimmingCharacters(in: .whitespacesAndNewlines)))
    parent.kill9()
    #expect(try await parent.waitForEnd(within: .seconds(10)) == 128 + 9)
    try await waitUntil("the end of the child") { !isAlive(child) }
  }

  @Test("A process that nobody holds any more is ended")
  func released() async throws {
    var process: BackgroundProcess? = try await BackgroundProcess(["tail", "-f", "/dev/null"])
    let processID = try #require(process?.processID)
    #expect(isAlive(processID))
    process = nil
    try await waitUntil("the end of the process") { !isAlive(processID) }
  }

  @Test("A command that does not end is killed at its limit, and the result says so")
  func timeLimit() async throws {
    let result = try await Command.run(["tail", "-f", "/dev/null"], limit: .seconds(1))
    #expect(result.timedOut)
    #expect(try await !Command.run(["sh", "-c", "kill -9 $$"]).timedOut)
  }

  @Test("The program under test is the one that was built with the tests")
  func programUnderTest() async throws {
    let pair = try await ClusterPair.shared
    let run = try await ReplicateProcess(source: pair.source, target: pair.target).run("--help")
    #expect(run.exitCode == 0, "\(run.errors)")
    #expect(run.output.contains("replicate"))
    #expect(try FileManager.default.isExecutableFile(atPath: ReplicateProcess.executable()))
  }

  @Test("A condition that never holds fails by name when its time is over")
  func waiting() async throws {
    let failure = await #expect(throws: HarnessError.self) {
      try await waitUntil("the moon", within: .milliseconds(50)) { false }
    }
    #expect(failure?.description.contains("the moon") == true)
  }

  private func isAlive(_ processID: Int32) -> Bool {
    guard let stat = try? String(contentsOfFile: "/proc/\(processID)/stat", encoding: .utf8) else {
      return false
    }
    return !stat.contains(") Z ")
  }
}
