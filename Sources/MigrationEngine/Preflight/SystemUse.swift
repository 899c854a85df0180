import LibPQ

extension Preflight {
  /// What is called and read of the system, which somebody may have taken from everybody.
  enum SystemUse {
    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      var findings: [Finding] = []
      for end in [context.source, context.target] {
        findings += try await SystemPrivileges.missing(on: end).map { missing in
          Finding(
            .blocker, check: "system_privileges", object: end.end,
            why: "Our role may not use \(missing.object), which the migration needs: it was taken from all.",
            remedy: "On the \(end.end), as a superuser: \(missing.grant)")
        }
      }
      return findings
    }
  }
}
