import Foundation
import LibPQ
import Logging
import Subprocess

#if canImport(System)
  import System
#else
  import SystemPackage
#endif

/// The user's command that restarts a server, run by `/bin/sh -c`.
///
/// It is never killed, nor what it leaves behind: half a restart is a server that is down, and the server
/// itself may be its child. It has no terminal, so that it fails where it would ask for a password.
struct RestartCommand: Sendable {
  let text: String
  /// `REPLICATE_SOURCE_HOST` and its like.
  var variables: [String: String] = [:]
  let logger: Logger

  /// Shows what the command writes once it has ended.
  /// - Throws: `RestartFailure` unless it exits with 0 in time.
  func run(until deadline: ContinuousClock.Instant) async throws {
    let scratch: ScratchDirectory
    let file: FileDescriptor
    let path: String
    do {
      scratch = try ScratchDirectory()
      path = scratch.url.appending(path: "output").path
      // A file and no pipe: a server that the command starts may keep it open.
      file = try FileDescriptor.open(
        FilePath(path), .writeOnly, options: [.create, .append], permissions: .ownerReadWrite)
    } catch {
      throw RestartFailure("there is no place for its output: \(error)")
    }
    // Not a child of our task: cancelling that must not end it.
    let running = Task { try await Self.execute(text, environment, file) }
    let status: TerminationStatus
    do {
      status = try await TimeLimit.abandoning(until: deadline, or: Late()) { try await running.value }
    } catch is Late {
      show(path)
      throw RestartFailure("the command has not ended in time and is still running", isUnderWay: true)
    } catch {
      throw RestartFailure("the command could not be run: \(error)")
    }
    withExtendedLifetime(scratch) { show(path) }
    switch status {
    case .exited(0): return
    case .exited(let code): throw RestartFailure("the command ended with exit code \(code)\(last(path))")
    case .signaled(let signal): throw RestartFailure("the command was ended by signal \(signal)\(last(path))")
    }
  }

  private struct Late: Error {}

  /// What contains passwords is left out.
  private var environment: Environment {
    var changes = BoundedCommand.withoutConnectionStrings
    for (name, value) in variables { changes[Environment.Key(stringLiteral: name)] = value }
    return .inherit.updating(changes)
  }

  private static func execute(
    _ text: String, _ environment: Environment, _ file: FileDescriptor
  ) async throws -> TerminationStatus {
    var options = PlatformOptions()
    options.createSession = true
    let result = try await Subprocess.run(
      .path("/bin/sh"), arguments: ["-c", text], environment: environment, platformOptions: options,
      input: .none, output: .fileDescriptor(file, closeAfterSpawningProcess: false),
      error: .fileDescriptor(file, closeAfterSpawningProcess: true))
    return result.terminationStatus
  }

  private func lines(_ path: String) -> [String] {
    let bytes = FileManager.default.contents(atPath: path) ?? Data()
    return BoundedCommand.lines(Array(bytes.suffix(BoundedCommand.linesLimit)))
  }

  private func show(_ path: String) {
    for line in lines(path) { logger.info("restart command: \(line)") }
  }

  private func last(_ path: String) -> String { lines(path).last.map { ": \($0)" } ?? "" }
}
