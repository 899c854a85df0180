import ArgumentParser
import LibPQ
import MigrationEngine

/// The two ends, from the options or else from the environment.
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

  /// For commands that learn all they need from the target, and more when they can ask the source.
  /// - Throws: `MigrationError(.usage)` when libpq cannot read it.
  func optionalSource(in environment: [String: String]) throws -> ConnectionString? {
    try parsed(source, "source", "REPLICATE_SOURCE", in: environment)
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
    do {
      return try ConnectionString(text, for: end)
    } catch let error as PostgresError {
      throw MigrationError(
        .usage, doing: error.action, reason: error.message,
        remedy: "Correct \(option == nil ? variable : "--\(end)"). \(error.hint ?? "")")
    }
  }
}
