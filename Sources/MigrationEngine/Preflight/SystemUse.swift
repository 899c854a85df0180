import LibPQ

extension Preflight {
  /// System functions and catalogs that we use, and that may have been revoked from PUBLIC.
  enum SystemUse {
    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      var findings: [Finding] = []
      for end in [context.source, context.target] {
        findings += try await SystemPrivileges.missing(on: end).map { missing in
          Finding(
            .blocker, check: "system_privileges", object: end.end,
            why:
              "The migration needs \(missing.object), revoked from PUBLIC and not granted to our role.",
            remedy: "On the \(end.end), as a superuser: \(missing.grant)")
        }
      }
      return findings
    }
  }
}
