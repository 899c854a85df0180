import Testing

@testable import LogicalReplication
@testable import MigrationEngine

@Suite struct FeedbackTests {
  private func lsn(_ value: UInt64) -> LSN { LSN(rawValue: value) }

  private func flushed(_ feedback: Feedback) -> UInt64 {
    feedback.update(at: PostgresTime(microseconds: 0), replyRequested: false).flushedLSN.rawValue
  }

  @Test("What was only received, or committed without being durable, is never confirmed")
  func received() {
    var feedback = Feedback(appliedLSN: lsn(10), confirmedLSN: lsn(10))
    feedback.received(upTo: lsn(500))
    #expect(flushed(feedback) == 10)
    feedback.committed(upTo: lsn(20))
    #expect(flushed(feedback) == 10)
    #expect(feedback.toStore == lsn(20))
    feedback.stored(lsn(20))
    #expect(flushed(feedback) == 20)
  }

  @Test("An idle position is confirmed only once it is stored")
  func idle() {
    var feedback = Feedback(appliedLSN: lsn(10), confirmedLSN: lsn(10))
    feedback.idle(upTo: lsn(30))
    #expect(feedback.toStore == lsn(30))
    #expect(flushed(feedback) == 10)
    feedback.stored(lsn(30))
    #expect(feedback.toStore == nil)
    #expect(flushed(feedback) == 30)
    #expect(feedback.appliedLSN == lsn(10), "only an applied COMMIT moves it")
  }

  @Test("A stream whose slot is ahead of what is applied goes on from there, and nothing goes back")
  func resumed() {
    var feedback = Feedback(appliedLSN: lsn(10), confirmedLSN: lsn(40))
    #expect(flushed(feedback) == 40)
    feedback.committed(upTo: lsn(20))
    feedback.idle(upTo: lsn(15))
    #expect(flushed(feedback) == 40)
  }

  @Test("What is applied is not confirmed to a source that has not proven to have it")
  func unproven() {
    var feedback = Feedback(appliedLSN: lsn(30), confirmedLSN: lsn(10))
    #expect(flushed(feedback) == 10)
    #expect(feedback.toStore == nil)
    feedback.idle(upTo: lsn(30))
    #expect(feedback.toStore == lsn(30))
  }
}

@Suite struct LagMeterTests {
  private let start = ContinuousClock.now

  @Test("Nothing is reported before the first beat; then how long it took")
  func measured() {
    var meter = LagMeter(first: 5)
    #expect(meter.lag(at: start) == nil)
    #expect(meter.beat(at: start) == 5)
    meter.applied(5, at: start + .milliseconds(30))
    #expect(meter.lag(at: start + .seconds(1)) == .milliseconds(30))
  }

  @Test("A beat that does not arrive is lag that grows")
  func late() {
    var meter = LagMeter(first: 1)
    _ = meter.beat(at: start)
    meter.applied(1, at: start + .milliseconds(10))
    _ = meter.beat(at: start + .seconds(1))
    #expect(meter.lag(at: start + .seconds(4)) == .seconds(3))
    meter.applied(2, at: start + .seconds(4))
    #expect(meter.lag(at: start + .seconds(4)) == .seconds(3))
  }

  @Test("Beats of another engine mean nothing")
  func foreign() {
    var meter = LagMeter(first: 100)
    _ = meter.beat(at: start)
    meter.applied(3, at: start)
    #expect(meter.lag(at: start + .seconds(2)) == .seconds(2))
  }
}
