import Testing

@testable import LogicalReplication
@testable import MigrationEngine

/// What the status says that an engine waits for.
struct StatusBoardTests {
  private func board(hindrance: String? = nil) -> StatusBoard {
    StatusBoard(Status(phase: .streaming), unstored: PendingCutoverResult(), hindrance: hindrance)
  }

  private func monitor() -> StreamMonitor {
    StreamMonitor(
      feedback: Feedback(appliedLSN: LSN(rawValue: 10), confirmedLSN: LSN(rawValue: 10)), transactions: 0,
      changes: 0, firstBeat: 0)
  }

  private func commit(_ monitor: StreamMonitor, upTo lsn: UInt64) {
    monitor.committed(
      .init(
        endLSN: LSN(rawValue: lsn),
        anchor: StreamAnchor(commitLSN: .zero, xid: 1, commitTime: PostgresTime(microseconds: 0)),
        transactions: 1, changes: 1, marker: nil))
  }

  @Test func `why the run before ended is said until this one has come further`() {
    let board = board(hindrance: "no disk")
    #expect(board.status.stream.waitsFor == "no disk" && !board.status.ready)
    let monitor = monitor()
    board.beginStream(monitor)
    #expect(board.status.stream.waitsFor == "no disk", "it stands where the other one stood")
    commit(monitor, upTo: 10)
    #expect(board.status.stream.waitsFor == "no disk", "nothing new")
    commit(monitor, upTo: 20)
    #expect(board.status.stream.waitsFor == nil)
  }

  @Test func `all that is waited for is said, the locks of each end and the stream's own first`() {
    let board = board(hindrance: "no disk")
    let monitor = monitor()
    board.beginStream(monitor)
    monitor.waits(for: "a sequence")
    #expect(board.waits(for: "a lock there", at: "target"))
    #expect(!board.waits(for: "a lock there", at: "target"), "no news")
    #expect(board.waits(for: "a lock here", at: "source"))
    #expect(board.status.stream.waitsFor == "a sequence\na lock here\na lock there\nno disk")
    #expect(board.waits(for: nil, at: "target"))
    #expect(board.status.stream.waitsFor == "a sequence\na lock here\nno disk")
  }
}
