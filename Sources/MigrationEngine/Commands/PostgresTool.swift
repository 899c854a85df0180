import Foundation
import LibPQ
import Subprocess

/// Runs PostgreSQL's own client programs. The password travels in the environment: arguments are shown by
/// `ps`.
struct PostgresTool {
  let name: String

  /// - Throws: `MigrationError` with the tool's own words when it cannot run or does not exit with 0.
  @discardableResult
  func run(_ arguments: [String], on end: ConnectionString, doing action: String) async throws -> String {
    // They would win over the connection's options.
    var environment: [Environment.Key: String?] = [
      "PGTZ": nil, "PGDATESTYLE": nil, "PGCLIENTENCODING": nil,
      // What is taken from their messages is known by its English words.
      "LC_ALL": "C.UTF-8", "LANGUAGE": nil,
    ]
    if let password = end.password { environment["PGPASSWORD"] = password }
    let secrets = try KeyPasswordFile(end)
    defer { secrets?.remove() }
    if let secrets {
      environment["PGSERVICEFILE"] = secrets.file.path
      environment["PGSERVICE"] = KeyPasswordFile.service
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
        .name(name), arguments: Arguments(arguments), environment: .inherit.updating(environment),
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
      throw MigrationError(
        .failed, doing: action,
        reason: "\(name) ended with \(result.terminationStatus): \(Self.withoutValues(result.standardError))")
    }
    return result.standardOutput
  }

  /// How often a dump is tried that stumbles over what was dropped in its middle.
  private static let tries = 4

  /// pg_dump reads catalogs at its snapshot, and asks the server about what they name as it is by then.
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

  /// What the server adds to an error may have the values of rows; its words have names.
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
}

extension ConnectionString {
  /// For `--dbname` of a client program, whose session has the fixed settings of ours.
  func argument(end: String, purpose: String) async throws -> String {
    // What is restored is durable with the phase that is stored after it.
    let others = [Session.Setting("synchronous_commit", "off")]
    return "--dbname="
      + (try await Session.fixed(self, end: end, and: others))
      .setting("application_name", to: "replicate \(purpose)").redacted
  }
}

/// The password of a client's key: libpq takes it from a connection string, which `ps` would show of a child
/// process, or from a file of services.
private struct KeyPasswordFile {
  static let service = "replicate"
  let file: URL

  /// - Returns: nil when there is none, or the string has a service of its own.
  init?(_ end: ConnectionString) throws {
    guard let password = end.keyPassword, end["service"] == nil else { return nil }
    let name = "replicate-service-\(UUID().uuidString).conf"
    file = FileManager.default.temporaryDirectory.appending(path: name)
    let contents = Data("[\(Self.service)]\nsslpassword=\(password)\n".utf8)
    let isMade = FileManager.default.createFile(
      atPath: file.path, contents: contents, attributes: [.posixPermissions: 0o600])
    guard isMade else {
      throw MigrationError(
        .failed, doing: "handing the password of the client's key to PostgreSQL's programs",
        reason: "no file can be made in \(file.deletingLastPathComponent().path)",
        remedy: "Set TMPDIR to a directory that this user may write to.")
    }
  }

  func remove() { try? FileManager.default.removeItem(at: file) }
}
