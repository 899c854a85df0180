import Foundation
import UnixSignals

/// What the signals that end a program mean to a command that should end well: the first asks it to stop,
/// the second ends it at once.
struct StopSignals: Sendable {
  enum Action: Sendable, Equatable {
    case stop
    /// With the exit code that a shell expects of a program ended by this signal.
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

  /// Traps signals; they have their usual effect until then.
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

  /// Work that another process does in truth: a signal ends only the following of it.
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
