import LibPQ
import Testing

@testable import MigrationEngine

/// Which errors end a cutover alone, and which the run of the engine with it.
struct CutoverRecordTests {
  private static func lost(_ code: PostgresError.Code, isAnswered: Bool = false) -> PostgresError {
    var error = PostgresError(code: code, action: "connecting", message: "no")
    error.isAnswered = isAnswered
    return error
  }

  @Test func `a connection that is lost, and an engine that is stopped, end the run`() {
    #expect(CutoverRecord.endsAttempt(CancellationError()))
    #expect(CutoverRecord.endsAttempt(Self.lost(.connection)))
    #expect(CutoverRecord.endsAttempt(Self.lost(.timedOut)))
  }

  @Test func `what stands in the way of a cutover ends the cutover alone, as does a login that is refused`() {
    #expect(!CutoverRecord.endsAttempt(MigrationError(.failed, doing: "examining", reason: "no")))
    #expect(!CutoverRecord.endsAttempt(Self.lost(.server)))
    #expect(!CutoverRecord.endsAttempt(Self.lost(.connection, isAnswered: true)))
  }
}
