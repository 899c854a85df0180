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

  private func backlog(_ megabytes: [UInt64], lag: Double) -> CatchUpMonitor {
    var monitor = CatchUpMonitor()
    let end = LSN(rawValue: 1 << 32)
    for (index, left) in megabytes.enumerated() {
      monitor.add(
        CatchUpMonitor.Sample(
          at: start + .seconds(Double(index) / 2), sourceLSN: end,
          targetLSN: LSN(rawValue: end.rawValue - left << 20), lag: .seconds(lag)))
    }
    return monitor
  }

  @Test("A backlog takes what its bytes take at the pace that was measured, however young the heartbeat is")
  func backlogs() throws {
    let unknown = backlog([378, 378], lag: 0.6)
    #expect(unknown.reading.predictedPauseSeconds == nil && !unknown.isReady(within: 60))
    // 20 MiB in half a second.
    let measured = backlog([0, 378, 358], lag: 0.6)
    let seconds = try #require(measured.reading.predictedPauseSeconds)
    #expect(abs(seconds - (358 / 40 + 0.1)) < 0.1)
    #expect(!measured.isReady(within: 60), "half a second ago nobody knew")
    #expect(backlog([378, 338, 298, 258, 218, 178, 138, 98, 58, 18, 0, 0], lag: 0.1).isReady(within: 10))
    #expect(!backlog([378, 338, 298, 258, 218, 178, 138, 98, 58, 18, 0, 0], lag: 0.1).isReady(within: 1))
  }

  @Test("A few bytes that nobody has taken yet are no backlog")
  func noBacklog() throws {
    let seconds = try #require(backlog([1, 1, 1], lag: 0.2).reading.predictedPauseSeconds)
    #expect(abs(seconds - 0.3) < 0.01)
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
