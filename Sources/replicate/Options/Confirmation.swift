import ArgumentParser
import LibPQ
import MigrationEngine

/// Commands that change something for good ask on a terminal, and need `--yes` elsewhere.
struct Confirmation: ParsableArguments {
  @Flag(name: .customLong("yes"), help: "Do not ask; needed where there is no terminal to ask on.")
  var isGiven = false

  /// The name of an end in a question; the environment or a service may say where it is.
  static func name(of end: ConnectionString, _ name: String = "the target") -> String {
    end.redacted.isEmpty ? name : "\(name) (\(end.redacted))"
  }

  /// - Throws: `MigrationError`: `.usage` when nobody can be asked, `.failed` when the answer is no.
  func require(_ consequence: String, doing action: String, in surroundings: Surroundings) throws {
    if isGiven { return }
    guard let ask = surroundings.ask else {
      throw MigrationError(
        .usage, doing: action, reason: "there is no terminal to ask on", remedy: "Give --yes.")
    }
    let answer = ask("\(Fitting.plain(consequence))\nContinue? [y/N] ") ?? ""
    guard ["y", "yes"].contains(answer.lowercased().filter { !$0.isWhitespace }) else {
      throw MigrationError(.failed, doing: action, reason: "not confirmed; nothing was changed")
    }
  }
}
