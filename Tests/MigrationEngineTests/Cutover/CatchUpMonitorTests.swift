import LogicalReplication
import Testing

@testable import MigrationEngine

@Suite struct CatchUpMonitorTests {
  private let start = ContinuousClock.now

  private func monitor(_ seconds: Int, source: UInt64, target: UInt64, behind: UInt64, lag: Double)
    -> CatchUpMonitor
  {
    var monitor = CatchUpMonitor()
    for second in 0...UInt64(seconds) {
      monitor.add(
        CatchUpMonitor.Sample(
          at: start + .seconds(Int(second)), sourceLSN: LSN(rawValue: 1_000_000 + second * source),
          targetLSN: LSN(rawValue: 1_000_000 - behind + second * target), lag: .seconds(lag)))
    }
    return monitor
  }

  @Test("Rates, lag and the time to catch up follow from the samples")
  func reading() {
    let reading = monitor(5, source: 1000, target: 3000, behind: 30_000, lag: 20).reading
    #expect(reading.lagBytes == 20_000)
    #expect(reading.sourceBytesPerSecond == 1000)
    #expect(reading.applyBytesPerSecond == 3000)
    #expect(reading.catchUpSeconds == 10)
    #expect(reading.lagSeconds == 20)
  }

  @Test("A target that does not gain never catches up")
  func losing() {
    #expect(monitor(5, source: 3000, target: 1000, behind: 30_000, lag: 20).reading.catchUpSeconds == nil)
  }

  @Test("Steady means within the pause all the time, and for long enough")
  func steady() {
    #expect(monitor(6, source: 1000, target: 1000, behind: 10, lag: 0.2).isSteady(within: 1))
    #expect(!monitor(6, source: 1000, target: 1000, behind: 10, lag: 2).isSteady(within: 1))
    #expect(!monitor(1, source: 1000, target: 1000, behind: 10, lag: 0.2).isSteady(within: 1))
    var spiked = monitor(6, source: 1000, target: 1000, behind: 10, lag: 0.2)
    spiked.add(
      CatchUpMonitor.Sample(at: start + .seconds(7), sourceLSN: .zero, targetLSN: .zero, lag: .seconds(4)))
    spiked.add(
      CatchUpMonitor.Sample(at: start + .seconds(8), sourceLSN: .zero, targetLSN: .zero, lag: .seconds(0.1)))
    #expect(!spiked.isSteady(within: 1))
  }

  @Test("Ready means within the pause by all that was measured, however short that is")
  func ready() {
    #expect(monitor(6, source: 1000, target: 1000, behind: 10, lag: 0.2).isReady(within: 1))
    #expect(!monitor(6, source: 1000, target: 1000, behind: 10, lag: 2).isReady(within: 1))
    var fresh = CatchUpMonitor()
    func add(_ lag: Duration?, at seconds: Double) {
      fresh.add(
        CatchUpMonitor.Sample(at: start + .seconds(seconds), sourceLSN: .zero, targetLSN: .zero, lag: lag))
    }
    add(nil, at: 0)
    add(.seconds(0.1), at: 0.5)
    #expect(!fresh.isReady(within: 1), "measured once")
    add(.seconds(0.1), at: 1)
    #expect(fresh.isReady(within: 1) && !fresh.isSteady(within: 1))
    add(nil, at: 1.5)
    #expect(!fresh.isReady(within: 1), "it does not answer any more")
  }

  @Test("Without a heartbeat nothing is predicted")
  func blind() {
    var monitor = CatchUpMonitor()
    for second in 0...5 {
      monitor.add(
        CatchUpMonitor.Sample(at: start + .seconds(second), sourceLSN: .zero, targetLSN: .zero, lag: nil))
    }
    #expect(monitor.reading.predictedPauseSeconds == nil)
    #expect(!monitor.isSteady(within: 60) && !monitor.isReady(within: 60))
  }
}
