import LibPQ
import Logging

/// A server of one's own: ALTER SYSTEM, then the user's command.
struct CommandRestart: ServerRestart {
  let command: RestartCommand
  let needs: [DecodingSettings.Need]
  let settings: ServerSettings
  let source: ConnectionString

  private var changes: [ServerSettings.Change] { settings.changes(for: needs) }

  var readySteps: [String] { [] }

  var steps: [String] { changes.map(\.statement) + [command.text] }

  /// A command such as `systemctl restart --no-block` ends before the server does.
  var grace: Duration? { .seconds(15) }

  var findings: [Finding] {
    var findings: [Finding] = []
    let fixed = needs.map(\.setting).filter { settings[$0].isFixed }
    if !fixed.isEmpty {
      findings.append(
        Finding(
          .blocker, check: "command_line", object: "source",
          why: "\(fixed.joined(separator: ", ")) is set on the server's command line, which wins over what "
            + "ALTER SYSTEM stores.",
          remedy: "Change it where the server is started from, restart it, and run replicate check."))
    }
    let refused = changes.filter { !settings[$0.name].mayAlter }
    if fixed.isEmpty, !refused.isEmpty { findings.append(privilege(refused)) }
    if !settings.faults.isEmpty {
      findings.append(
        Finding(
          .blocker, check: "configuration_files", object: "source",
          why: "The server would not start again, or not with all of its settings: "
            + settings.faults.joined(separator: "; "),
          remedy: "Correct the files, SELECT pg_reload_conf(); then run replicate prepare again."))
    }
    return findings
  }

  private func privilege(_ refused: [ServerSettings.Change]) -> Finding {
    let statements = refused.map(\.statement).joined(separator: " ")
    let names = refused.map(\.name).joined(separator: ", ")
    let grant =
      settings.knowsParameterPrivileges
      ? "\nor let the role do it: GRANT ALTER SYSTEM ON PARAMETER \(names) TO \(settings.role);" : ""
    return Finding(
      .blocker, check: "alter_system", object: "source",
      why: "Role \(settings.role) may not ALTER SYSTEM, or the server allows nobody to: \(names) cannot be "
        + "set.",
      remedy:
        "On the source, as a superuser: \(statements) SELECT pg_reload_conf(); then run replicate prepare "
        + "again.\(grant)")
  }

  func makeReady(until deadline: ContinuousClock.Instant) async throws {}

  func restart(_ source: Connection, until deadline: ContinuousClock.Instant) async throws {
    for change in changes {
      try await source.query(
        change.statement, doing: "storing \(change.name) on the source", within: .seconds(15))
    }
    await source.close()
    try await command.run(until: deadline)
  }

  func settle(until deadline: ContinuousClock.Instant) async throws {}

  func undoReadying() async -> String { "nothing was changed" }

  func undo() async -> String {
    guard !changes.isEmpty else { return "nothing was changed" }
    do {
      let session = try await Session.open(source, end: "source", purpose: "prepare")
      try await closing(session) {
        for change in changes {
          try await session.query(
            change.undo, doing: "taking \(change.name) back on the source", within: .seconds(15))
        }
      }
      return "its settings are stored as they were before"
    } catch {
      return "what was stored could not be taken back (\(error)): "
        + changes.map(\.undo).joined(separator: " ")
    }
  }

  var withoutEffect: String { "the command ended without an error, but the server was not restarted" }

  var remedy: String {
    "Try by hand what --restart-command says, then run replicate prepare again."
  }

  var undoByHand: String {
    guard !changes.isEmpty else { return "Start it, and see its log." }
    let folder = settings.dataDirectory ?? "its data directory"
    let before = changes.contains { $0.before != nil } ? " (or put what was there before)" : ""
    return """
      See the server's log, and start it. If it does not start with the new settings: without a running \
      server there is no ALTER SYSTEM RESET, so take these lines out of \
      \(folder)/postgresql.auto.conf\(before), then start it:
      \(changes.map { "  \($0.line)" }.joined(separator: "\n"))
      """
  }
}
