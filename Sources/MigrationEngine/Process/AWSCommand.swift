import Foundation
import Subprocess

/// Why a call of the `aws` program gave no usable answer.
struct AWSFailure: Error, Equatable, CustomStringConvertible {
  /// `rds describe-db-clusters`
  let call: String
  let why: String
  /// The service's error code: `ParameterNotFound`.
  var code: String?

  var description: String { "aws \(call): \(why)" }
}

/// Calls the `aws` program, which takes care of credentials, profiles and regions.
struct AWSCommand: Sendable {
  var profile: String?
  var region: String?
  /// `aws`, unless a test says otherwise.
  var program = "aws"

  /// More than any expected answer; a longer one is refused.
  private static let outputLimit = 4 << 20

  /// One call, without a shell.
  /// - Parameters:
  ///   - arguments: service, operation and options, as `aws` takes them.
  ///   - input: the operation's parameters as JSON, for those that must not show in `ps`.
  func answer<Answer: Decodable>(
    _ type: Answer.Type, _ arguments: [String], input: (any Encodable)? = nil,
    within limit: Duration = .seconds(60)
  ) async throws -> Answer {
    let call = arguments.prefix(2).joined(separator: " ")
    guard let input else {
      return try Self.decode(type, try await run(arguments, call, within: limit), call)
    }
    guard let file = try PrivateFile(holding: try JSONEncoder().encode(input)) else {
      throw AWSFailure(call: "--cli-input-json", why: PrivateFile.refusal)
    }
    defer { file.remove() }
    let all = arguments + ["--cli-input-json", "file://\(file.path)"]
    return try Self.decode(type, try await run(all, call, within: limit), call)
  }

  /// One call that answers nothing, and prints nothing or an empty object.
  func order(_ arguments: [String], within limit: Duration = .seconds(60)) async throws {
    _ = try await run(arguments, arguments.prefix(2).joined(separator: " "), within: limit)
  }

  /// One call whose answer is text, not JSON.
  func text(_ arguments: [String], within limit: Duration = .seconds(30)) async throws -> String {
    let call = arguments.prefix(2).joined(separator: " ")
    let answer = String(decoding: try await run(arguments, call, within: limit), as: UTF8.self)
    guard let line = answer.split(whereSeparator: \.isNewline).first else {
      throw AWSFailure(call: call, why: "it printed nothing")
    }
    return String(line)
  }

  private func run(_ arguments: [String], _ call: String, within limit: Duration) async throws -> [UInt8] {
    var all = arguments + ["--output", "json"]
    if let profile { all += ["--profile", profile] }
    if let region { all += ["--region", region] }
    let command = BoundedCommand(
      executable: .name(program), arguments: Arguments(all),
      // Version 2 would start a pager; version 1 refuses the option against that.
      environment: .inherit.updating(BoundedCommand.withoutConnectionStrings).updating(["AWS_PAGER": ""]),
      timeLimit: limit, outputLimit: Self.outputLimit)
    switch await command.run() {
    case .ended(.exited(0), let output, _):
      guard output.count < Self.outputLimit else {
        throw AWSFailure(call: call, why: "its answer is longer than \(Self.outputLimit) bytes")
      }
      return output
    case .ended(let status, _, let error): throw Self.failure(call, status, error)
    case .timedOut: throw AWSFailure(call: call, why: "gave no answer within \(limit)")
    case .cancelled: throw CancellationError()
    case .failedToRun(let why): throw AWSFailure(call: call, why: "cannot be run: \(why)")
    }
  }

  /// The program prints an error in one line, after an empty one and perhaps warnings.
  static func failure(_ call: String, _ status: TerminationStatus, _ error: [UInt8]) -> AWSFailure {
    let lines = BoundedCommand.lines(error)
    let message = lines.last { $0.contains("error") || $0.contains("Error") } ?? lines.last
    let code = message?.firstMatch(of: /An error occurred \((\w+)\)/).map { String($0.output.1) }
    return AWSFailure(call: call, why: message ?? "ended with \(status) and said nothing", code: code)
  }

  static func decode<Answer: Decodable>(_ type: Answer.Type, _ output: [UInt8], _ call: String) throws
    -> Answer
  {
    do {
      return try JSONDecoder().decode(type, from: Data(output))
    } catch {
      throw AWSFailure(call: call, why: "its answer is not what this version understands: \(words(error))")
    }
  }

  private static func words(_ error: any Error) -> String {
    func path(_ context: DecodingError.Context, _ key: (any CodingKey)? = nil) -> String {
      let keys = context.codingPath + (key.map { [$0] } ?? [])
      return keys.isEmpty ? "the whole" : keys.map(\.stringValue).joined(separator: ".")
    }
    return switch error as? DecodingError {
    case .keyNotFound(let key, let context): "\(path(context, key)) is missing"
    case .valueNotFound(_, let context): "\(path(context)) is null"
    case .typeMismatch(let type, let context): "\(path(context)) is no \(type)"
    case .dataCorrupted(let context): "\(path(context)) is no JSON"
    default: "\(error)"
    }
  }
}
