import ArgumentParser
import LibPQ
import MigrationEngine

/// The two ends, from the options or the environment.
struct EndOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The database to move: a libpq connection string (or REPLICATE_SOURCE).",
      valueName: "connection-string"))
  var source: String?

  @Option(
    help: ArgumentHelp(
      "The encrypted database it moves into (or REPLICATE_TARGET).", valueName: "connection-string"))
  var target: String?

  @Option(
    name: .customLong("source-password-command"),
    help: ArgumentHelp(
      "Prints the source's password, for each new connection (or REPLICATE_SOURCE_PASSWORD_COMMAND); "
        + "'rds-iam' for a token of the AWS CLI.", valueName: "command"))
  var sourcePasswordCommand: String?

  @Option(
    name: .customLong("target-password-command"),
    help: ArgumentHelp(
      "The same for the target (or REPLICATE_TARGET_PASSWORD_COMMAND).", valueName: "command"))
  var targetPasswordCommand: String?

  /// - Throws: `MigrationError(.usage)` when it is missing or libpq cannot read it.
  func requiredSource(in environment: [String: String]) throws -> ConnectionString {
    try required("source", in: environment)
  }

  /// - Throws: `MigrationError(.usage)` when it is missing or libpq cannot read it.
  func requiredTarget(in environment: [String: String]) throws -> ConnectionString {
    try required("target", in: environment)
  }

  /// For commands that need only the target, but show more when they can reach the source.
  /// - Throws: `MigrationError(.usage)` when libpq cannot read it.
  func optionalSource(in environment: [String: String]) throws -> ConnectionString? {
    try parsed("source", in: environment)
  }

  /// - Throws: `MigrationError(.usage)` when libpq cannot read it.
  func optionalTarget(in environment: [String: String]) throws -> ConnectionString? {
    try parsed("target", in: environment)
  }

  private func required(_ end: String, in environment: [String: String]) throws -> ConnectionString {
    if let parsed = try parsed(end, in: environment) { return parsed }
    throw MigrationError(
      .usage, doing: "reading the connection string of the \(end)", reason: "there is none",
      remedy: "Give --\(end) 'host=… dbname=…' or set REPLICATE_\(end.uppercased()).")
  }

  private func parsed(_ end: String, in environment: [String: String]) throws -> ConnectionString? {
    let option = end == "source" ? source : target
    let variable = "REPLICATE_\(end.uppercased())"
    guard let text = option ?? environment[variable], !text.isEmpty else { return nil }
    let place = option == nil ? variable : "--\(end)"
    let doing = "reading the connection string of the \(end)"
    do {
      var string = try ConnectionString(text, for: end)
      if let (reason, remedy) = Self.obstacle(in: string, environment) {
        throw MigrationError(.usage, doing: doing, reason: reason, remedy: "\(remedy) (\(place))")
      }
      let command = end == "source" ? sourcePasswordCommand : targetPasswordCommand
      if let command = command ?? environment["\(variable)_PASSWORD_COMMAND"], !command.isEmpty {
        guard string.password == nil else {
          throw MigrationError(
            .usage, doing: doing, reason: "it has a password, and a command for one is given as well",
            remedy: "Leave one of them out. (\(place), --\(end)-password-command)")
        }
        string.passwordSource = PasswordCommand(command, for: string, called: end).source
      }
      return string
    } catch let error as PostgresError {
      throw MigrationError(
        .usage, doing: error.action, reason: error.message, remedy: "Correct \(place). \(error.hint ?? "")")
    }
  }

  /// What libpq accepts, but a migration cannot use.
  private static func obstacle(
    in string: ConnectionString, _ environment: [String: String]
  ) -> (reason: String, remedy: String)? {
    if let kind = string["replication"], !["false", "off", "no", "0"].contains(kind) {
      return (
        "it has replication=\(kind), which suits only one kind of session",
        "Leave replication out: the stream asks for it by itself."
      )
    }
    guard let passphrase = string["sslpassword"] else { return nil }
    if string["service"] != nil || environment["PGSERVICE"] != nil {
      return (
        "sslpassword is given together with a service, and pg_dump can take only one of them",
        "Move sslpassword into the service file."
      )
    }
    if passphrase.contains(where: \.isNewline)
      || passphrase.first?.isWhitespace == true || passphrase.last?.isWhitespace == true
    {
      return (
        "sslpassword begins or ends with a blank, or has a line break, which cannot be passed to pg_dump",
        "Give the key another passphrase."
      )
    }
    return nil
  }
}
