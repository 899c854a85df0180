import LibPQ
import Logging
import Testing

@testable import MigrationEngine

/// Why an engine waits, and what it says meanwhile.
struct HindranceTests {
  private static func refusal(_ state: SQLState, _ action: String) -> PostgresError {
    PostgresError(code: .server, action: action, message: "refused", sqlState: state)
  }

  @Test(arguments: [
    (refusal(.diskFull, "target: applying"), "give the target more room on its disk."),
    (refusal(.outOfMemory, "source: reading"), "give the source memory"),
    (refusal(.tooManyConnections, "connecting to the source"), "leave room on the source"),
    (refusal(.readOnlySQLTransaction, "target: applying"), "let the target take writes again"),
    (refusal(.queryCanceled, "target: applying"), "nothing, unless somebody"),
    (refusal(.lockNotAvailable, "target: applying"), "end whoever holds the lock"),
    (refusal(.invalidPassword, "connecting to the source"), "let the role log in again"),
    (refusal(SQLState(rawValue: "53000"), "target: applying"), "give the target what it lacks."),
    (refusal(.diskFull, "comparing"), "give the server that says so more room"),
    (refusal(.undefinedTable, "target: applying"), "see that both servers answer"),
    (
      PostgresError(code: .connection, action: "connecting to the source", message: "gone"),
      "see that both servers answer"
    ),
  ])
  func `what to do is said of the server that spoke`(error: PostgresError, remedy: String) {
    let words = Hindrance(error, pause: .zero).words
    #expect(words.contains("tries again by itself: \(error)\n  what to do: \(remedy)"), "\(words)")
  }

  @Test func `an error that says what to do itself is left at that`() {
    let error = MigrationError(.failed, doing: "restoring", reason: "no room", remedy: "Make room.")
    let words = Hindrance(error, pause: .zero).words
    #expect(words.hasSuffix("restoring: no room\n  what to do: Make room."), "\(words)")
  }

  // MARK: What is tried again

  @Test func `only what may pass is tried again, and what is known of the loss stays known`() {
    let full = Self.refusal(.diskFull, "target: applying")
    #expect(ConnectionLoss.passing(full).map { $0.wasConnected && !$0.isAfterSeal } == true)
    var failed = MigrationError(.failed, doing: "restoring", reason: "no room")
    #expect(ConnectionLoss.passing(failed) == nil)
    failed.mayPass = true
    #expect(ConnectionLoss.passing(failed)?.mayPass == true)
    #expect(ConnectionLoss.passing(Self.refusal(.undefinedTable, "target: applying")) == nil)
    #expect(ConnectionLoss.passing(CancellationError()) == nil)
    let known = ConnectionLoss(error: full, wasConnected: false, isAfterSeal: true)
    #expect(ConnectionLoss.passing(known).map { !$0.wasConnected && $0.isAfterSeal } == true)
  }

  @Test func `the log says whether a connection, a state or the seal is the reason to try again`() {
    let full = Self.refusal(.diskFull, "target: applying")
    let lost = PostgresError(code: .connection, action: "streaming", message: "gone")
    #expect(ConnectionLoss(error: lost, wasConnected: true).words.hasPrefix("a connection was lost"))
    #expect(ConnectionLoss(error: full, wasConnected: true).words.contains("a state that may pass"))
    let sealed = ConnectionLoss(error: full, wasConnected: true, isAfterSeal: true)
    #expect(sealed.words.hasPrefix("after the seal nothing is undone"))
  }

  // MARK: The wait

  private func wait(_ pause: Duration) async throws {
    // Where nobody listens.
    let nowhere = try ConnectionString("host=127.0.0.1 port=1", for: "end")
    try await HindranceWait(
      options: MigrationOptions(source: nowhere, target: nowhere),
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, onProgress: { _ in }
    ).wait(for: Hindrance(Self.refusal(.diskFull, "target: applying"), pause: pause))
  }

  @Test func `the pause is kept although the target cannot show why`() async throws {
    let began = ContinuousClock.now
    try await wait(.milliseconds(400))
    #expect(ContinuousClock.now - began >= .milliseconds(400))
  }

  @Test(.timeLimit(.minutes(1)))
  func `an engine that is asked to stop does not wait for the next try`() async throws {
    let waiting = Task { try await wait(.seconds(3600)) }
    waiting.cancel()
    await #expect(throws: CancellationError.self) { try await waiting.value }
  }
}
