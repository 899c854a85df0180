import LibPQ

extension Preflight {
  /// Whether all sessions of an end are on one server: a migration's hold each other's locks and snapshots.
  enum SeveralServers {
    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      try await examine(context.source, context.options.source)
        + examine(context.target, context.options.target)
    }

    static func examine(_ first: Connection, _ string: ConnectionString) async throws -> [Finding] {
      if let finding = judge(string, end: first.end) { return [finding] }
      let second: Connection
      do {
        second = try await Session.open(string, end: first.end, purpose: "preflight")
      } catch is PostgresError {
        return []  // Check "pooler" reports it.
      }
      let servers = try await closing(second) {
        try await [SameDatabase.identity(first), SameDatabase.identity(second)]
      }
      guard servers[0] != servers[1] else { return [] }
      return [
        finding(
          first.end, "Two sessions were led to two servers: its address stands for several.",
          "Give the server's own address (on Amazon Aurora the cluster endpoint).")
      ]
    }

    /// A list without a word on which of its servers is meant.
    static func judge(_ string: ConnectionString, end: String) -> Finding? {
      let attributes = string["target_session_attrs"]
      if attributes == "read-write" {
        return finding(
          end,
          "target_session_attrs=read-write refuses a server that is read-only by default, as the fence makes "
            + "the end that is left.", "Give target_session_attrs=primary instead.")
      }
      let names = [string["host"], string["hostaddr"]].compactMap { $0 }
      guard names.contains(where: { $0.contains(",") }),
        attributes != "primary"
      else { return nil }
      return finding(
        end, "The connection string lists several servers, and sessions may be led to any of them.",
        "Add target_session_attrs=primary to it, or name the primary alone.")
    }

    private static func finding(_ end: String, _ why: String, _ remedy: String) -> Finding {
      Finding(.blocker, check: "several_servers", object: end, why: why, remedy: remedy)
    }
  }
}
