import Testing

@testable import MigrationEngine

struct RetryPauseTests {
  @Test func `each pause is twice as long as the one before, up to a quarter of a minute`() {
    var pause = RetryPause(first: .milliseconds(250))
    let pauses = (0..<9).map { _ in pause.next() }
    #expect(pauses == [0.25, 0.5, 1, 2, 4, 8, 15, 15, 15].map { .seconds($0) })
  }

  @Test func `once something has come of a try the pauses begin anew`() {
    var pause = RetryPause(first: .milliseconds(500))
    for _ in 0..<9 { _ = pause.next() }
    pause.reset()
    #expect([pause.next(), pause.next()] == [.milliseconds(500), .seconds(1)])
  }
}
