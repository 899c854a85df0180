import Foundation

/// What a command touches of the process it runs in.
struct Surroundings: Sendable {
  var environment: [String: String]
  var engine = Engine()
  var interruption = Interruption()
  /// Results.
  var output: Output
  /// Logs, progress and errors.
  var errors: Output
  var outputTerminal: Terminal?
  var errorTerminal: Terminal?
  /// Asks on the terminal and returns the answer; nil where nobody can be asked.
  var ask: (@Sendable (_ question: String) -> String?)?
  var now: @Sendable () -> Date = { Date() }
  /// Seconds that never go backwards.
  var uptime: @Sendable () -> Double = { ProcessInfo.processInfo.systemUptime }
  /// Waits between two reads of the status.
  var pause: @Sendable () async throws -> Void = { try await Task.sleep(for: .seconds(1)) }
  /// Who asks, for the audit trail.
  var user: String

  static var process: Surroundings {
    let environment = ProcessInfo.processInfo.environment
    let errors = Output(descriptor: STDERR_FILENO)
    let errorTerminal = Terminal(descriptor: STDERR_FILENO, environment: environment)
    var surroundings = Surroundings(
      environment: environment, output: Output(descriptor: STDOUT_FILENO), errors: errors,
      outputTerminal: Terminal(descriptor: STDOUT_FILENO, environment: environment),
      errorTerminal: errorTerminal, user: "\(NSUserName())@\(ProcessInfo.processInfo.hostName)")
    if isatty(STDIN_FILENO) == 1, isatty(STDERR_FILENO) == 1 {
      // Blocks a thread of the cooperative pool, at a moment when nothing else runs.
      surroundings.ask = { question in
        errors.write(Fitting.plainText(question))
        return readLine()
      }
    }
    return surroundings
  }
}
