import Foundation
import LibPQ
import Subprocess

/// Runs PostgreSQL's own client programs. The password is passed in the environment: `ps` shows arguments.
struct PostgresTool {
  let name: String

  /// - Throws: `MigrationError` with the tool's own message when it cannot run or does not exit with 0.
  @discardableResult
  func run(_ arguments: [String], on end: ConnectionString, doing action: String) async throws -> String {
    // They would override the connection's options.
    var environment: [Environment.Key: String?] = [
      "PGTZ": nil, "PGDATESTYLE": nil, "PGCLIENTENCODING": nil,
      // Their messages are recognised by English words.
      "LC_ALL": "C.UTF-8", "LANGUAGE": nil,
    ]
    if let password = try await end.withPassword().password { environment["PGPASSWORD"] = password }
    let service = try Self.service(for: end, doing: action)
    defer { service?.remove() }
    if let service {
      environment["PGSERVICEFILE"] = service.path
      environment["PGSERVICE"] = Self.serviceName
    }
    // A group of its own, so that Ctrl-C reaches us alone and we end it in order.
    var options = PlatformOptions()
    options.processGroupID = 0
    options.teardownSequence = [
      .send(signal: .terminate, toProcessGroup: true, allowedDurationToNextStep: .seconds(5)),
      .send(signal: .kill, toProcessGroup: true, allowedDurationToNextStep: .zero),
    ]
    let result: ExecutionResult<Void, StringOutput<UTF8>, StringOutput<UTF8>>
    do {
      result = try await Subprocess.run(
        .name(name), arguments: Arguments(arguments),
        environment: .inherit.updating(BoundedCommand.withoutConnectionStrings).updating(environment),
        platformOptions: options, output: .string(limit: 256 << 20), error: .string(limit: 16 << 20))
    } catch let error as SubprocessError {
      throw MigrationError(
        .failed, doing: action, reason: "\(name) cannot be run: \(error)",
        remedy:
          "Install PostgreSQL's client programs of the source's major version or newer, and put them in PATH."
      )
    }
    guard result.terminationStatus.isSuccess else {
      try Task.checkCancellation()
      var error = MigrationError(
        .failed, doing: action,
        reason: "\(name) ended with \(result.terminationStatus): \(Self.withoutValues(result.standardError))")
      error.mayPass = Self.mayPass(result.standardError)
      throw error
    }
    return result.standardOutput
  }

  /// How often to retry a dump that fails because something was dropped meanwhile.
  private static let tries = 4

  /// pg_dump reads catalogs under its snapshot, but some server functions use the current state.
  @discardableResult
  static func dump(
    _ arguments: [String], on end: ConnectionString, doing action: String
  ) async throws -> String {
    for _ in 1..<tries {
      do {
        return try await PostgresTool(name: "pg_dump").run(arguments, on: end, doing: action)
      } catch let error as MigrationError where error.reason.contains(#/cache lookup failed|with OID \d+/#) {
        try await Task.sleep(for: .milliseconds(300))
      }
    }
    return try await PostgresTool(name: "pg_dump").run(arguments, on: end, doing: action)
  }

  /// The details of a server error may contain values of rows; its message has names.
  static func withoutValues(_ errors: String) -> String {
    var isQuiet = false
    return errors.split(separator: "\n", omittingEmptySubsequences: false).filter { line in
      if line.contains(#/^(DETAIL|CONTEXT|QUERY|STATEMENT):  /#) {
        isQuiet = true
      } else if line.contains(#/^(HINT:  |LINE \d+: |Command was: |pg_\w+: )/#) {
        isQuiet = false
      }
      return !isQuiet
    }.joined(separator: "\n")
  }

  private static let serviceName = "replicate"

  /// There is no environment variable for the passphrase of a client key: it is passed in a service file. Its
  /// value ends with the line, and surrounding blanks are lost.
  private static func service(for end: ConnectionString, doing action: String) throws -> PrivateFile? {
    guard let passphrase = end["sslpassword"], end["service"] == nil else { return nil }
    let text = "[\(serviceName)]\nsslpassword=\(passphrase)\n"
    guard let file = try PrivateFile(holding: Data(text.utf8)) else {
      throw MigrationError(.failed, doing: action, reason: PrivateFile.refusal)
    }
    return file
  }

  /// The programs' messages for a server in a temporary state; they print no SQLSTATE. In other languages
  /// they are not recognised, and end the engine.
  private static let passing = [
    "No space left on device", "ERROR:  out of memory", "too many clients already", "too many connections",
    "remaining connection slots are reserved", "canceling statement due to user request",
    "canceling statement due to lock timeout", "terminating connection due to administrator command",
    "in a read-only transaction", "during recovery", "the database system is",
    "server closed the connection unexpectedly", "deadlock detected",
  ]

  static func mayPass(_ words: String) -> Bool { passing.contains { words.contains($0) } }
}

extension ConnectionString {
  /// For `--dbname` of a client program, whose session gets our fixed settings.
  func argument(end: String, purpose: String) async throws -> String {
    // What is restored becomes durable with the phase stored after it.
    let others = [Session.Setting("synchronous_commit", "off")]
    return "--dbname="
      + (try await Session.fixed(self, end: end, and: others))
      .setting("application_name", to: "replicate \(purpose)").redacted
  }
}
