package import LibPQ
import Subprocess
import Synchronization

/// `--source-password-command` and `--target-password-command`: what prints the password of this moment. The
/// word `rds-iam` stands for the AWS CLI's login token.
package struct PasswordCommand: Sendable {
  private let command: String
  private let end: ConnectionString
  private let name: String

  /// - Parameters:
  ///   - command: for `/bin/sh -c`; the first line that it prints is the password.
  ///   - end: what the password is for.
  ///   - name: `source` or `target`.
  package init(_ command: String, for end: ConnectionString, called name: String) {
    self.command = command
    self.end = end
    self.name = name
  }

  /// Connects to nothing and runs nothing yet.
  package var source: PasswordSource {
    guard command == "rds-iam" else { return PasswordSource(for: name) { try await run() } }
    let tokens = TokenCache(end: end)
    return PasswordSource(for: name) { try await tokens.token() }
  }

  private static let timeLimit = Duration.seconds(30)

  private struct Failure: Error, CustomStringConvertible {
    var description: String
  }

  /// It finds its end in `REPLICATE_HOST`, `_PORT`, `_USER` and `_DATABASE`, each only if the connection
  /// string says so.
  private func run() async throws -> String {
    let environment: [Environment.Key: String?] = [
      "REPLICATE_HOST": end["host"], "REPLICATE_PORT": end["port"], "REPLICATE_USER": end["user"],
      "REPLICATE_DATABASE": end["dbname"],
    ]
    let outcome = await BoundedCommand(
      shell: command, changing: environment, timeLimit: Self.timeLimit
    ).run()
    switch outcome {
    case .ended(.exited(0), let output, _):
      let line = String(decoding: output, as: UTF8.self).split(whereSeparator: \.isNewline).first
      guard let line, !line.isEmpty else { throw Failure(description: "the command printed nothing") }
      return String(line)
    case .ended(let status, _, let error):
      let why = BoundedCommand.lines(error).last.map { ": \($0)" } ?? ""
      throw Failure(description: "the command ended with \(status)\(why)")
    case .timedOut:
      throw Failure(description: "the command took longer than \(Self.timeLimit) and was killed")
    case .cancelled: throw CancellationError()
    case .failedToRun(let why): throw Failure(description: "the command could not be run: \(why)")
    }
  }

  /// Tokens are good for fifteen minutes, and each takes the AWS CLI a second.
  private final class TokenCache: Sendable {
    private let end: ConnectionString
    private let kept = Mutex<(token: String, until: ContinuousClock.Instant)?>(nil)

    init(end: ConnectionString) { self.end = end }

    func token() async throws -> String {
      if let kept = kept.withLock({ $0 }), .now < kept.until { return kept.token }
      guard let host = end["host"], let user = end["user"] else {
        throw Failure(description: "rds-iam needs host and user in the connection string")
      }
      var aws = AWSCommand()
      aws.region = AWSEndpoint.region(of: host)
      let token = try await aws.text([
        "rds", "generate-db-auth-token", "--hostname", host, "--port", end["port"] ?? "5432", "--username",
        user,
      ])
      kept.withLock { $0 = (token, .now + .seconds(600)) }
      return token
    }
  }
}
