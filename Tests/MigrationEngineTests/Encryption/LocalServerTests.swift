import Foundation
import Testing

@testable import MigrationEngine

@Suite struct LocalServerTests {
  private let machine: FakeMachine
  private let server: LocalServer
  private let facts: TargetServerFacts

  init() throws {
    machine = try FakeMachine()
    let cluster = try machine.cluster("pg")
    try machine.file("pg/postmaster.pid", "4711\n\(cluster)\n1700000000\n5432\n/tmp\n*\n  1  2\nready   \n")
    try machine.file(
      "pg/global/pg_control", withUnsafeBytes(of: UInt64(7_711_365_176_920_238_686), Array.init))
    try machine.link("proc/4711/cwd", to: "pg")
    var local = LocalServer()
    local.procRoot = "\(machine.root)/proc"
    server = local
    facts = TargetServerFacts(
      dataDirectory: cluster, port: 5432, postmasterStartEpoch: 1_700_000_001.25, isLocal: true,
      systemIdentifier: "7711365176920238686")
  }

  private func expectUnproven(
    _ change: (inout TargetServerFacts) -> Void = { _ in }, saying words: String,
    at location: SourceLocation = #_sourceLocation
  ) {
    var changed = facts
    change(&changed)
    guard case .unproven(let why) = server.find(changed) else {
      Issue.record("taken for the server's own", sourceLocation: location)
      return
    }
    #expect(why.contains(words), sourceLocation: location)
  }

  @Test func theRunningServersOwnDirectoryIsProven() {
    #expect(server.find(facts) == .own(dataDirectory: "\(machine.root)/pg"))
  }

  @Test func aDirectoryThatIsSeenThroughAnotherNameIsTheSame() throws {
    try machine.link("alias", to: "pg")
    var aliased = facts
    aliased.dataDirectory = "\(machine.root)/alias"
    #expect(server.find(aliased) == .own(dataDirectory: "\(machine.root)/alias"))
  }

  @Test func aWorkingDirectoryThatMayNotBeSeenDoesNotRefute() throws {
    try FileManager.default.removeItem(atPath: "\(machine.root)/proc/4711/cwd")
    #expect(server.find(facts) == .own(dataDirectory: "\(machine.root)/pg"))
  }

  @Test func aRemoteOrSilentServerIsUnproven() {
    expectUnproven({ $0.isLocal = false }, saying: "not on this machine")
    expectUnproven({ $0.dataDirectory = nil }, saying: "data directory")
    expectUnproven({ $0.port = nil }, saying: "port and start time")
    expectUnproven({ $0.postmasterStartEpoch = nil }, saying: "port and start time")
  }

  @Test func anotherClusterOfTheSamePathIsUnproven() {
    expectUnproven({ $0.port = 5433 }, saying: "port 5432, not 5433")
    expectUnproven({ $0.postmasterStartEpoch = 1_700_000_062 }, saying: "another time")
    expectUnproven({ $0.postmasterStartEpoch = 1_699_999_998 }, saying: "another time")
    expectUnproven({ $0.postmasterStartEpoch = .nan }, saying: "another time")
    expectUnproven({ $0.systemIdentifier = "7711365176920238687" }, saying: "system identifier")
  }

  @Test func aProcessThatDoesNotLiveOrWorksElsewhereIsUnproven() throws {
    try FileManager.default.removeItem(atPath: "\(machine.root)/proc/4711/cwd")
    try machine.cluster("other")
    try machine.link("proc/4711/cwd", to: "other")
    expectUnproven(saying: "works in another directory")
    try FileManager.default.removeItem(atPath: "\(machine.root)/proc/4711")
    expectUnproven(saying: "does not live here")
  }

  @Test(arguments: [
    "", "\n\n\n\n", "4711\n", "4711\n/pg\n1700000000\n", "-4711\n/pg\n1700000000\n5432\n",
    "0\n/pg\n1700000000\n5432\n",
    "99999999999999999999\n/pg\n1700000000\n5432\n", "4711\n/pg\nyesterday\n5432\n",
  ])
  func aFileThatNoRunningServerWritesIsUnproven(text: String) throws {
    try machine.file("pg/postmaster.pid", text)
    expectUnproven(saying: "not what a running server writes")
  }

  @Test func whatCannotBeReadIsUnproven() throws {
    try machine.file("pg/postmaster.pid", String(repeating: "x", count: 5000))
    expectUnproven(saying: "longer than the expected")
    try FileManager.default.removeItem(atPath: "\(machine.root)/pg/postmaster.pid")
    expectUnproven(saying: "cannot be read from here")
    expectUnproven({ $0.dataDirectory = "/nowhere/pg" }, saying: "cannot be read from here")
    // A folder where a file should be, and a FIFO that no one writes to.
    try machine.folder("pg/postmaster.pid")
    expectUnproven(saying: "cannot be read from here")
    try FileManager.default.removeItem(atPath: "\(machine.root)/pg/postmaster.pid")
    try #require(mkfifo("\(machine.root)/pg/postmaster.pid", 0o600) == 0)
    expectUnproven(saying: "not what a running server writes")
  }

  @Test func aTornControlFileIsUnproven() throws {
    try machine.file("pg/global/pg_control", [1, 2, 3])
    expectUnproven(saying: "too short")
  }
}
