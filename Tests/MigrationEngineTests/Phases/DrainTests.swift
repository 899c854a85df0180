import LibPQ
import Testing

@testable import LogicalReplication
@testable import MigrationEngine

/// The proof that everything before a fence has been applied, by what the stream has seen.
@Suite(.timeLimit(.minutes(1)))
struct DrainTests {
  private let monitor = StreamMonitor(
    feedback: Feedback(appliedLSN: .zero, confirmedLSN: .zero), transactions: 0, changes: 0, firstBeat: 0)

  private func drain(of direction: Direction) -> Drain {
    Drain(
      direction: direction, monitor: monitor,
      board: StatusBoard(Status(phase: .cutover), unstored: PendingCutoverResult()))
  }

  private var drain: Drain { drain(of: .forward) }

  private func commit(marker: String?) {
    monitor.committed(
      .init(
        endLSN: LSN(rawValue: 1),
        anchor: StreamAnchor(commitLSN: .zero, xid: 1, commitTime: PostgresTime(microseconds: 0)),
        transactions: 1, changes: 1, marker: marker))
  }

  /// A change that was committed after the marker.
  private func change(_ table: String) {
    monitor.passing(.init(between: [], after: [table], origins: []), marker: nil)
    commit(marker: nil)
    monitor.breached()
  }

  @Test func `it ends with the commit of the marker that is waited for, and of no other`() async throws {
    monitor.expectMarker("ours", for: .fence)
    commit(marker: "another's")
    await #expect(throws: MigrationError.self) { try await drain.wait(for: "ours", until: .now) }
    let waiting = Task { try await drain.wait(for: "ours", until: .now + .seconds(3600)) }
    commit(marker: "ours")
    try await waiting.value
  }

  @Test(arguments: [(Direction.forward, "target"), (.back, "source")])
  func `a marker that does not come in time says which end is late, and what to allow`(
    direction: Direction, end: String
  ) async {
    monitor.expectMarker("ours", for: .fence)
    let error = await #expect(throws: MigrationError.self) {
      try await drain(of: direction).wait(for: "ours", until: .now + .milliseconds(5))
    }
    #expect(error?.reason.hasPrefix("the \(end) did not reach") == true, "\(String(describing: error))")
    #expect(error?.remedy?.contains("--max-pause") == true)
  }

  @Test func `a change after the fence's marker is a breach that names the table, however it is asked for`()
    async throws
  {
    monitor.expectMarker("ours", for: .fence)
    commit(marker: "ours")
    try drain.ensureNoBreach()
    change("\"public\".\"t\"")
    #expect(throws: MigrationError.self) { try drain.ensureNoBreach() }
    let error = await #expect(throws: MigrationError.self) {
      try await drain.wait(for: "ours", until: .now + .seconds(3600))
    }
    #expect(error?.reason.contains("on the source after the fence's marker: \"public\".\"t\"") == true)
  }

  @Test func `after the seal such a change is said, and stops nothing`() async throws {
    monitor.expectMarker("second", for: .again)
    commit(marker: "second")
    change("\"public\".\"t\"")
    try drain.ensureNoBreach()
    try await drain.wait(for: "second", until: .now + .seconds(3600))
    #expect(try await drain.hold(until: .now + .seconds(3600)) == "\"public\".\"t\"")
  }

  @Test func `a stream that is held ends what it applies, and begins nothing more`() async throws {
    #expect(monitor.beginApplying())
    await #expect(throws: MigrationError.self) { try await drain.hold(until: .now) }
    #expect(!monitor.beginApplying(), "it is held although the end was not waited for")
    #expect(try await drain.hold(until: .now + .seconds(3600)) == nil)
  }
}
