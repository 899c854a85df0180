import LibPQ
import Logging
import Synchronization
import Testing

@testable import MigrationEngine

/// What follows when a run of the engine ends: runs that only say how they ended, and a clock that nobody
/// waits for.
struct EngineRunsTests {
  private enum End {
    case stopped, turned
    case failed(any Error)
  }

  private final class Clock: Sendable {
    private let time = Mutex(ContinuousClock.now)
    var now: ContinuousClock.Instant { time.withLock { $0 } }
    func pass(_ duration: Duration) { time.withLock { $0 += duration } }
  }

  /// What came of the runs.
  private struct Walk {
    var hindrances: [Hindrance?] = []
    /// Nil when one of them came to its end.
    var error: (any Error)?
    /// All runs and pauses together.
    var duration = Duration.zero

    var pauses: [Duration] { hindrances.dropFirst().map { $0?.pause ?? .zero } }
  }

  /// - Parameters:
  ///   - duration: of each run, after its pause.
  ///   - end: of the run of a number, from 1.
  private func walk(each duration: Duration = .zero, _ end: (Int) -> End) async -> Walk {
    let clock = Clock()
    let began = clock.now
    var walk = Walk()
    let runs = EngineRuns(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }) { clock.now }
    do {
      _ = try await runs.untilDone { hindrance in
        walk.hindrances.append(hindrance)
        clock.pass((hindrance?.pause ?? .zero) + duration)
        switch end(walk.hindrances.count) {
        case .stopped: return .stopped
        case .turned: return nil
        case .failed(let error): throw error
        }
      }
    } catch {
      walk.error = error
    }
    walk.duration = clock.now - began
    return walk
  }

  private static let refused = PostgresError(code: .connection, action: "connecting", message: "refused")
  private static let hangs = PostgresError(code: .timedOut, action: "asking", message: "no answer")
  private static let full = PostgresError(
    code: .server, action: "target: applying", message: "no space", sqlState: .diskFull)

  private static func loss(
    _ error: PostgresError = refused, wasConnected: Bool = true, isAfterSeal: Bool = false
  ) -> End {
    .failed(ConnectionLoss(error: error, wasConnected: wasConnected, isAfterSeal: isAfterSeal))
  }

  private static let growing = [0.5, 1, 2, 4, 8, 15, 15].map { Duration.seconds($0) }

  @Test func `a run that has turned is followed by another at once, and the one that ends is the last`()
    async
  {
    let walk = await walk { $0 == 1 ? .turned : .stopped }
    #expect(walk.hindrances.count == 2 && walk.hindrances.allSatisfy { $0 == nil })
    #expect(walk.error == nil && walk.duration == .zero)
  }

  @Test func `an error that another run would not change is thrown at once`() async {
    let walk = await walk { _ in
      .failed(MigrationError(.blocked, doing: "preflight", reason: "no primary key"))
    }
    #expect(walk.hindrances.count == 1)
    #expect((walk.error as? MigrationError)?.kind == .blocked)
  }

  @Test(arguments: [refused, hangs, full])
  func `ends that were never reached are not tried again, since the options may be wrong`(
    error: PostgresError
  ) async {
    for isAfterSeal in [false, true] {
      let walk = await walk { _ in Self.loss(error, wasConnected: false, isAfterSeal: isAfterSeal) }
      #expect(walk.hindrances.count == 1)
      #expect((walk.error as? PostgresError)?.message == error.message, "not the loss around it")
    }
  }

  @Test func `ends that were reached once are tried again for an hour, less and less often`() async {
    let walk = await walk { Self.loss(wasConnected: $0 == 1) }
    #expect(Array(walk.pauses.prefix(7)) == Self.growing)
    #expect(walk.pauses.dropFirst(7).allSatisfy { $0 == .seconds(15) })
    #expect(walk.duration >= .seconds(3600) && walk.duration < .seconds(3616), "\(walk.duration)")
    #expect((walk.error as? PostgresError)?.message == "refused")
  }

  @Test func `a run that reaches both ends begins the hour and the pauses anew`() async {
    let walk = await walk(each: .seconds(1)) {
      $0 == 10_000 ? .stopped : Self.loss(wasConnected: $0.isMultiple(of: 3))
    }
    #expect(walk.hindrances.count == 1, "but not before both were reached")
    let later = await self.walk(each: .seconds(1)) {
      $0 == 10_000 ? .stopped : Self.loss(wasConnected: $0 % 3 == 1)
    }
    #expect(later.error == nil && later.hindrances.count == 10_000)
    #expect(Array(later.pauses.prefix(6)) == [0.5, 1, 2, 0.5, 1, 2].map { .seconds($0) })
  }

  @Test func `what times out on good connections again and again has an end`() async {
    let walk = await walk(each: .seconds(90)) { _ in Self.loss(Self.hangs) }
    #expect(Array(walk.pauses.prefix(7)) == Self.growing)
    #expect(walk.duration >= .seconds(3600) && walk.duration < .seconds(3600 + 2 * 105), "\(walk.duration)")
    #expect((walk.error as? PostgresError)?.code == .timedOut)
  }

  @Test func `a state that may pass is waited for however long it lasts`() async {
    let walk = await walk(each: .seconds(59)) { $0 == 1000 ? .stopped : Self.loss(Self.full) }
    #expect(walk.error == nil && walk.hindrances.count == 1000)
    #expect(Array(walk.pauses.prefix(7)) == Self.growing, "no pause counts as time that went well")
  }

  @Test func `a run that has lasted a minute before such a state begins the pauses anew`() async {
    let walk = await walk(each: .seconds(61)) { $0 == 10 ? .stopped : Self.loss(Self.full) }
    #expect(walk.pauses == Array(repeating: .milliseconds(500), count: 9))
  }

  @Test(arguments: [refused, hangs, full])
  func `after the seal there is no end to trying`(error: PostgresError) async {
    let walk = await walk(each: .seconds(90)) { $0 == 1000 ? .stopped : Self.loss(error, isAfterSeal: true) }
    #expect(walk.error == nil && walk.hindrances.count == 1000)
    #expect(Array(walk.pauses.prefix(7)) == Self.growing)
  }

  @Test func `the next run knows why the one before ended, and the one after that no more`() async {
    let walk = await walk {
      switch $0 {
      case 1: Self.loss(Self.full)
      case 2: .turned
      default: .stopped
      }
    }
    #expect(walk.hindrances.count == 3)
    #expect(walk.hindrances[0] == nil && walk.hindrances[2] == nil)
    #expect(walk.hindrances[1]?.words.contains("no space") == true)
  }

  @Test func `an engine that is asked to stop has stopped, whatever its run fails with`() async throws {
    let runs = EngineRuns(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let engine = Task {
      try await runs.untilDone { _ in
        withUnsafeCurrentTask { $0?.cancel() }
        throw ConnectionLoss(error: Self.refused, wasConnected: false)
      }
    }
    guard case .stopped = try await engine.value else {
      Issue.record("it has not stopped")
      return
    }
  }
}
