import LibPQ

extension Preflight {
  /// System functions and catalogs that we use, and that may have been revoked from PUBLIC.
  enum SystemUse {
    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      var findings: [Finding] = []
      for end in [context.source, context.target] {
        let missing = try await SystemPrivileges.missing(on: end)
        findings += missing.map { missing in
          Finding(
            .blocker, check: "system_privileges", object: end.end,
            why:
              "The migration needs \(missing.object), revoked from PUBLIC and not granted to our role.",
            remedy: "On the \(end.end), as a superuser: \(missing.grant)")
        }
        findings += try await refused(on: end, besides: missing.map(\.object))
      }
      return findings
    }

    /// A provider's build may refuse what its catalogs grant, which must not show after the fence. So each is
    /// called here, on both ends, since their parts are exchanged in a rollback. Nothing of it stays.
    /// - Parameter known: what our role may not use, by its name.
    private static func refused(on end: Connection, besides known: [String]) async throws -> [Finding] {
      let action = "calling on the \(end.end) what a cutover calls"
      let standby = try await end.query(
        "SELECT pg_catalog.pg_is_in_recovery() AS is_standby", doing: action, within: .seconds(15))
      // Check "recovery" reports it.
      guard try standby.first?.bool("is_standby") == false else { return [] }
      var findings: [Finding] = []
      for (function, call) in SystemPrivileges.calledAfterFence
      where !known.contains(where: { $0.hasPrefix("pg_catalog.\(function)") }) {
        // Rolled back: a commit would wait for a synchronous standby.
        try await end.query("BEGIN", doing: action)
        do {
          try await end.query(call, doing: "calling \(function)", within: .seconds(15))
        } catch let error as PostgresError where !error.isConnectionLoss {
          findings.append(refusal(of: function, by: end.end, error))
        }
        try await end.query("ROLLBACK", doing: action)
      }
      return findings
    }

    private static func refusal(of function: String, by end: String, _ error: PostgresError) -> Finding {
      Finding(
        .blocker, check: "system_privileges", object: end,
        why: "A cutover calls \(function) after the fence, and this server refuses it: \(error)",
        remedy:
          "Ask the server's provider for it, or use a role that may call it (a superuser, on Amazon RDS a "
          + "member of rds_superuser).")
    }
  }
}
