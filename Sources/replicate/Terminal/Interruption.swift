import Foundation
import UnixSignals

/// Termination signals for a command that should end cleanly: the first asks it to stop, the second ends it
/// at once.
struct StopSignals: Sendable {
  enum Action: Sendable, Equatable {
    case stop
    /// With the exit code that shells expect from a program ended by this signal.
    case end(code: Int32)
  }

  private var isStopping = false

  mutating func receive(_ signal: UnixSignal) -> Action {
    guard isStopping else {
      isStopping = true
      return .stop
    }
    return .end(code: Self.code(of: signal))
  }

  static func code(of signal: UnixSignal) -> Int32 { 128 + signal.rawValue }
}

/// Runs work beside the signals that may interrupt it.
struct Interruption: Sendable {
  typealias Signals = any AsyncSequence<UnixSignal, Never> & Sendable

  /// Traps signals; until then they have their usual effect.
  var trap: @Sendable ([UnixSignal]) async -> Signals = { await UnixSignalsSequence(trapping: $0) }
  /// Ends the process without waiting for anything.
  var end: @Sendable (Int32) -> Void = { _exit($0) }

  /// The first of the signals cancels `work` after `onStop`, a second one ends the process after `onEnd`.
  func cancelling<Value: Sendable>(
    on trapped: [UnixSignal], onStop: @escaping @Sendable (UnixSignal) -> Void = { _ in },
    onEnd: @escaping @Sendable () -> Void = {}, _ work: @escaping @Sendable () async throws -> Value
  ) async throws -> Value {
    let signals = await trap(trapped)
    let working = Task { try await work() }
    let watching = Task {
      var stop = StopSignals()
      for await signal in signals {
        switch stop.receive(signal) {
        case .stop:
          onStop(signal)
          working.cancel()
        case .end(let code):
          onEnd()
          end(code)
        }
      }
    }
    defer { watching.cancel() }
    return try await working.value
  }

  /// Work done by another process: a signal only stops following it.
  func leaving<Value: Sendable>(
    onLeave: @escaping @Sendable () -> Void, _ work: () async throws -> Value
  ) async throws -> Value {
    let signals = await trap([.sigterm, .sigint])
    let watching = Task {
      for await signal in signals {
        onLeave()
        end(StopSignals.code(of: signal))
      }
    }
    defer { watching.cancel() }
    return try await work()
  }
}
