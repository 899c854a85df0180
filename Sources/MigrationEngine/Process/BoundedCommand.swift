import Foundation
import Subprocess

#if canImport(System)
  import System
#else
  import SystemPackage
#endif

/// A command that ends in time with all its children, and whose output takes limited memory.
struct BoundedCommand: Sendable {
  enum Outcome: Sendable, Equatable {
    case ended(TerminationStatus, output: [UInt8], error: [UInt8])
    case timedOut
    case cancelled
    case failedToRun(String)
  }

  var executable: Executable
  var arguments: Arguments
  var environment: Environment
  var timeLimit: Duration
  /// How many bytes of the output are kept; the rest is read, so that the command never blocks, and
  /// discarded.
  var outputLimit = Self.linesLimit

  /// What no command inherits: connection strings, which contain passwords.
  static let withoutConnectionStrings: [Environment.Key: String?] = [
    "REPLICATE_SOURCE": nil, "REPLICATE_TARGET": nil,
  ]

  /// Enough for what is quoted; the limit for the error stream.
  static let linesLimit = 8192

  func run() async -> Outcome {
    await withTaskGroup(of: Outcome.self) { group in
      group.addTask { await self.execute() }
      group.addTask {
        do {
          try await Task.sleep(for: self.timeLimit)
          return .timedOut
        } catch {
          return .cancelled
        }
      }
      // Cancelling the command runs its teardown: the whole group is killed, and waited for, before we
      // return.
      let first = await group.next() ?? .cancelled
      group.cancelAll()
      return first
    }
  }

  /// The command leads its own process group. Only a child that becomes a session leader escapes.
  private func execute() async -> Outcome {
    var options = PlatformOptions()
    options.processGroupID = 0
    options.teardownSequence = [
      .send(signal: .kill, toProcessGroup: true, allowedDurationToNextStep: .zero)
    ]
    do {
      let result = try await Subprocess.run(
        executable, arguments: arguments, environment: environment, platformOptions: options,
        input: .none, output: .sequence, error: .sequence
      ) { execution in
        async let output = Self.collect(execution.standardOutput, outputLimit, keepingEnd: false)
        async let error = Self.collect(execution.standardError, Self.linesLimit, keepingEnd: true)
        return try await (output, error)
      }
      // Whatever it left in the background. The group's number cannot belong to others while one of them
      // lives.
      kill(-result.processIdentifier.value, SIGKILL)
      if Task.isCancelled { return .cancelled }
      return .ended(
        result.terminationStatus, output: result.closureResult.0, error: result.closureResult.1)
    } catch is CancellationError {
      return .cancelled
    } catch {
      return .failedToRun("\(error)")
    }
  }

  private static func collect(
    _ stream: SubprocessOutputSequence, _ kept: Int, keepingEnd: Bool
  ) async throws -> [UInt8] {
    var bytes: [UInt8] = []
    for try await buffer in stream {
      // Endless output of a remaining child would otherwise be read for ever.
      try Task.checkCancellation()
      if !keepingEnd && bytes.count >= kept { continue }
      buffer.withUnsafeBytes { bytes.append(contentsOf: $0) }
      if keepingEnd { bytes.removeFirst(max(0, bytes.count - kept)) }
    }
    return Array(keepingEnd ? bytes.suffix(kept) : bytes.prefix(kept))
  }

  /// The non-empty lines, without control characters, each at most 200 characters long.
  static func lines(_ output: [UInt8]) -> [String] {
    String(decoding: output, as: UTF8.self).split(whereSeparator: \.isNewline)
      .map { line in
        let visible = line.unicodeScalars.filter { scalar in
          switch scalar.properties.generalCategory {
          case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate: false
          default: true
          }
        }
        let text = String(String.UnicodeScalarView(visible)).trimmingCharacters(in: .whitespaces)
        return String(text.prefix(200))
      }
      .filter { !$0.isEmpty }
  }
}

extension BoundedCommand {
  /// - Parameter changes: to the inherited environment; nil removes a variable.
  init(shell command: String, changing changes: [Environment.Key: String?], timeLimit: Duration) {
    self.init(
      executable: .path("/bin/sh"), arguments: ["-c", command], environment: .inherit.updating(changes),
      timeLimit: timeLimit)
  }
}
