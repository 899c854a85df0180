import Foundation
import UnixSignals

/// What the signals that end a program mean to a command that should end well: the first asks it to stop, the second
/// ends it at once.
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
    return .end(code: 128 + signal.rawValue)
  }
}

enum Interruption {
  /// Runs `work`; the first SIGTERM or SIGINT cancels it after `onStop`, a second one ends the process.
  static func cancelling<Value: Sendable>(
    onStop: @escaping @Sendable (UnixSignal) -> Void, onEnd: @escaping @Sendable () -> Void,
    _ work: @escaping @Sendable () async throws -> Value
  ) async throws -> Value {
    let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
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
          _exit(code)
        }
      }
    }
    defer { watching.cancel() }
    return try await working.value
  }

  /// Runs `work` until it returns or SIGINT comes: either is a good end. A second SIGINT ends the process.
  static func ending(_ work: @escaping @Sendable () async throws -> Void) async throws {
    let signals = await UnixSignalsSequence(trapping: .sigint)
    let working = Task { try await work() }
    let watching = Task {
      var stop = StopSignals()
      for await signal in signals {
        switch stop.receive(signal) {
        case .stop: working.cancel()
        case .end(let code): _exit(code)
        }
      }
    }
    defer { watching.cancel() }
    do { try await working.value } catch  where working.isCancelled {
      // Whatever the cancelled query said about it.
    }
  }

  /// Runs `work`, which another process does in truth; a signal only ends the watching of it.
  static func leaving<Value: Sendable>(
    onLeave: @escaping @Sendable () -> Void, _ work: () async throws -> Value
  ) async throws -> Value {
    let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
    let watching = Task {
      for await signal in signals {
        onLeave()
        _exit(128 + signal.rawValue)
      }
    }
    defer { watching.cancel() }
    return try await work()
  }
}
