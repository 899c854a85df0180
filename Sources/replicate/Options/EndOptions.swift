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

  /// - Throws: `MigrationError(.usage)` when it is missing or libpq cannot read it.
  func requiredSource(in environment: [String: String]) throws -> ConnectionString {
    try required(source, "source", "REPLICATE_SOURCE", in: environment)
  }

  /// - Throws: `MigrationError(.usage)` when it is missing or libpq cannot read it.
  func requiredTarget(in environment: [String: String]) throws -> ConnectionString {
    try required(target, "target", "REPLICATE_TARGET", in: environment)
  }

  /// For commands that need only the target, but show more when they can reach the source.
  /// - Throws: `MigrationError(.usage)` when libpq cannot read it.
  func optionalSource(in environment: [String: String]) throws -> ConnectionString? {
    try parsed(source, "source", "REPLICATE_SOURCE", in: environment)
  }

  /// - Throws: `MigrationError(.usage)` when libpq cannot read it.
  func optionalTarget(in environment: [String: String]) throws -> ConnectionString? {
    try parsed(target, "target", "REPLICATE_TARGET", in: environment)
  }

  private func required(
    _ option: String?, _ end: String, _ variable: String, in environment: [String: String]
  ) throws -> ConnectionString {
    if let parsed = try parsed(option, end, variable, in: environment) { return parsed }
    throw MigrationError(
      .usage, doing: "reading the connection string of the \(end)", reason: "there is none",
      remedy: "Give --\(end) 'host=… dbname=…' or set \(variable).")
  }

  private func parsed(
    _ option: String?, _ end: String, _ variable: String, in environment: [String: String]
  ) throws -> ConnectionString? {
    guard let text = option ?? environment[variable], !text.isEmpty else { return nil }
    let place = option == nil ? variable : "--\(end)"
    do {
      let string = try ConnectionString(text, for: end)
      if let (reason, remedy) = Self.obstacle(in: string, environment) {
        throw MigrationError(
          .usage, doing: "reading the connection string of the \(end)", reason: reason,
          remedy: "\(remedy) (\(place))")
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
