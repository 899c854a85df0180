import LibPQ
import Subprocess

extension Preflight {
  /// Which major versions are supported as ends.
  enum ServerVersions {
    /// The oldest that a migration was seen on, from and to.
    static let oldest = 13

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      judge(
        source: try await context.source.serverVersion() / 10_000,
        target: try await context.target.serverVersion() / 10_000)
    }

    /// - Parameters: major versions.
    static func judge(source: Int, target: Int) -> [Finding] {
      var findings: [Finding] = []
      for (end, version) in [("source", source), ("target", target)] where version < oldest {
        findings.append(
          Finding(
            .blocker, check: "server_version", object: end,
            why: "The \(end) is PostgreSQL \(version), which is older than all that was tried.",
            remedy: """
              Upgrade the \(end) to PostgreSQL \(oldest) or newer (pg_upgrade; on Amazon RDS an engine \
              upgrade), then migrate.
              """))
      }
      if target < source {
        findings.append(
          Finding(
            .blocker, check: "server_version", object: "target",
            why: """
              The target is PostgreSQL \(target), older than the source's \(source): it does not accept what \
              pg_dump writes for the source.
              """, remedy: "Use a target of PostgreSQL \(source) or newer."))
      }
      return findings
    }
  }

  /// pg_dump and pg_restore on this machine.
  enum ClientPrograms {
    enum Version: Sendable, Equatable {
      case major(Int)
      /// Why the version is not known.
      case unknown(String)
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let source = try await context.source.serverVersion() / 10_000
      let target = try await context.target.serverVersion() / 10_000
      var findings: [Finding] = []
      for program in ["pg_dump", "pg_restore"] {
        findings += judge(
          program, version: try await version(of: program), source: source,
          target: target)
      }
      return findings
    }

    private static func version(of program: String) async throws -> Version {
      do {
        let result = try await Subprocess.run(
          .name(program), arguments: ["--version"], output: .string(limit: 4096), error: .discarded)
        let text = result.standardOutput
        return major(in: text).map(Version.major) ?? .unknown("it says \"\(text.prefix(80))\".")
      } catch let error as SubprocessError {
        try Task.checkCancellation()
        return .unknown("it cannot be run (\(error)).")
      }
    }

    /// From `pg_dump (PostgreSQL) 17.2 (Debian 17.2-1)`, `… 18beta1`.
    static func major(in text: String) -> Int? {
      guard let end = text.firstRange(of: "(PostgreSQL) ")?.upperBound else { return nil }
      return Int(text[end...].prefix { $0.isASCII && $0.isNumber })
    }

    static func judge(_ program: String, version: Version, source: Int, target: Int) -> [Finding] {
      let install =
        "Install PostgreSQL's client programs of version \(source) or newer (apt install "
        + "postgresql-client-\(source); brew install libpq) and put them first in PATH."
      func blocker(_ why: String, _ remedy: String) -> [Finding] {
        [Finding(.blocker, check: "client_programs", object: program, why: why, remedy: remedy)]
      }
      switch version {
      case .unknown(let reason):
        return blocker("\(program), which moves the schema, cannot be used: \(reason)", install)
      case .major(let major) where major < source:
        return blocker(
          "\(program) is of version \(major) and refuses a source of version \(source).", install)
      // Where the source is newer than that, the target is too old.
      case .major(let major) where program == "pg_restore" && major >= 17 && target < 17 && source <= 16:
        return blocker(
          "pg_restore of version \(major) sets transaction_timeout, which a target of version \(target) does "
            + "not know.",
          "Put client programs of a version from \(source) to 16 first in PATH (apt install "
            + "postgresql-client-16), or use a target of version 17 or newer.")
      case .major:
        return []
      }
    }
  }
}
