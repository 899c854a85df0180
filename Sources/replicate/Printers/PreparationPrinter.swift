import MigrationEngine

/// What a preparation would do and cost, and what it has done.
enum PreparationPrinter {
  static func text(_ plan: PreparationPlan) -> String {
    let source = row("source", "\(plan.database), PostgreSQL \(plan.serverVersion)")
    guard !plan.missing.isEmpty else {
      return "\(source)\nnothing is missing for logical decoding, and nothing was touched"
    }
    var lines = [source] + rows("missing", plan.missing.map(missing))
    if !plan.pending.isEmpty {
      lines.append(
        row(
          "pending", "\(plan.pending.joined(separator: ", ")): changed before, in effect from the restart on")
      )
    }
    if !plan.steps.isEmpty { lines += rows("to be done", plan.steps) }
    lines += rows("restart", cost(plan.cost) + clients(plan.poolers))
    guard !plan.findings.isEmpty else { return lines.joined(separator: "\n") }
    let findings = FindingsPrinter.blocks(plan.findings)
    return ([lines.joined(separator: "\n")] + findings).joined(separator: "\n\n")
  }

  static func text(_ report: PreparationReport) -> String {
    guard let seconds = report.restartSeconds else {
      return "nothing is missing for logical decoding any more, and nothing was touched"
    }
    var lines = ["prepared; the server was restarted in \(Quantity.seconds(seconds))"]
    lines += rows("in effect", report.settings.map { "\($0.name) = \($0.value)" })
    if let wait = report.waitSeconds {
      lines.append(
        row("clients", "waited for at most \(Quantity.seconds(wait))"))
    }
    return lines.joined(separator: "\n")
  }

  private static func missing(_ setting: PreparationPlan.Setting) -> String {
    let needed =
      Int(setting.needed) == nil ? "must be \(setting.needed)" : "must be \(setting.needed) or more"
    let stored = setting.isStored ? ", which is stored already" : ""
    return "\(setting.name) is \(setting.now) and \(needed)\(stored)"
  }

  // MARK: What it costs

  private static func cost(_ cost: PreparationPlan.Cost) -> [String] {
    let count = cost.sessions.reduce(0) { $0 + $1.count }
    let transactions = cost.sessions.reduce(0) { $0 + $1.transactions }
    var first = "ends \(Quantity.count(Int64(count), "session", "sessions"))"
    if count > 0 {
      first += ", of which \(transactions) \(transactions == 1 ? "is" : "are") in a transaction"
    }
    if let age = cost.oldestTransaction { first += ", the oldest for \(Quantity.seconds(age))" }
    var lines = [first]
    for sessions in cost.sessions.prefix(10) {
      let application = sessions.application.isEmpty ? "" : ", \(sessions.application)"
      lines.append("  \(sessions.count)  \(sessions.role)\(application)")
    }
    if cost.sessions.count > 10 {
      lines.append("  and \(cost.sessions.count - 10) more roles or applications")
    }
    if cost.hidden > 0 {
      lines.append(
        "of \(cost.hidden) our role may not see whether they are in a transaction (GRANT pg_read_all_stats)")
    }
    if cost.receivers > 0 {
      let receivers = Quantity.count(Int64(cost.receivers), "receiver", "receivers")
      lines.append(
        "also \(receivers) of WAL (standbys, subscribers), which connect again by themselves")
    }
    return lines + [checkpoint(cost)]
  }

  /// How long a restart takes nobody knows beforehand; what it depends on can be said.
  private static func checkpoint(_ cost: PreparationPlan.Cost) -> String {
    guard let age = cost.checkpointAge else {
      return "how long it takes cannot be known beforehand: our role may not see the last checkpoint"
    }
    let written = cost.checkpointBytes.map { ", \(Quantity.bytes($0)) of WAL ago" } ?? ""
    return "how long it takes cannot be known beforehand: the last checkpoint began "
      + "\(Quantity.seconds(age)) ago\(written), and what changed since is written before the server stops"
  }

  private static func clients(_ poolers: [String]) -> [String] {
    guard !poolers.isEmpty else {
      return ["clients fail until the server is back: there is no pgbouncer step that makes them wait"]
    }
    return ["clients of \(poolers.joined(separator: ", ")) wait meanwhile; all others fail until it is back"]
  }

  // MARK: Rows

  private static func row(_ label: String, _ text: String) -> String {
    Fitting.padded(label, to: 12) + Fitting.plain(text)
  }

  private static func rows(_ label: String, _ texts: [String]) -> [String] {
    texts.enumerated().map { row($0 == 0 ? label : "", $1) }
  }
}
