import LibPQ
import LogicalReplication

extension Preflight {
  /// Extensions of the source, which the target must be able to create.
  enum Extensions {
    struct Installed: Sendable, Equatable {
      var name: String
      var version: String
      var schema = "public"
      /// pg_cron and the like: the server itself runs their jobs.
      var jobs: Bool { name == "pg_cron" || name == "pgagent" || name == "pg_timetable" }
    }

    /// What the target can do about one extension.
    struct Offer: Sendable, Equatable {
      var defaultVersion: String
      /// The version already in the target's database.
      var installedVersion: String?
      var versions: Set<String>
      /// Whether our role may create it.
      var isCreatable = true
      /// Where it already is in the target's database.
      var place: Place?
    }

    struct Place: Sendable, Equatable {
      var schema: String
      var owner: String
      var isRelocatable = true
      /// Whether the target has the schema in which the source has it.
      var hasSchemaOfSource = true
      /// Whether our role is its owner, or a member of that role.
      var isOurs = true
    }

    static func examine(_ context: PreflightContext) async throws -> [Finding] {
      let rows = try await context.source.ask(
        """
        SELECT e.extname, e.extversion, n.nspname FROM pg_catalog.pg_extension e
          JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY 1
        """, about: "the source's extensions")
      let installed = try rows.map {
        Installed(
          name: try $0.text("extname"), version: try $0.text("extversion"), schema: try $0.text("nspname"))
      }
      var offers = try await offers(of: context.target)
      if !context.isResuming { try await addPlaces(installed, &offers, context.target) }
      return installed.flatMap { judge($0, offer: offers[$0.name]) }
    }

    private static func addPlaces(
      _ installed: [Installed], _ offers: inout [String: Offer], _ target: Connection
    ) async throws {
      let there = try await target.ask(
        """
        SELECT e.extname, n.nspname, e.extrelocatable, pg_catalog.pg_get_userbyid(e.extowner) AS owner,
          e.oid < 16384 OR pg_catalog.pg_has_role(e.extowner, 'USAGE') AS is_ours
        FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
        """, about: "where the target has extensions")
      let rows = try await target.ask(
        "SELECT nspname FROM pg_catalog.pg_namespace", about: "the target's schemas")
      let schemas = Set(try rows.map { try $0.text("nspname") })
      let wanted = Dictionary(installed.map { ($0.name, $0.schema) }) { first, _ in first }
      for row in there {
        let name = try row.text("extname")
        offers[name]?.place = Place(
          schema: try row.text("nspname"), owner: try row.text("owner"),
          isRelocatable: try row.bool("extrelocatable"),
          hasSchemaOfSource: wanted[name].map(schemas.contains) ?? true,
          isOurs: try row.bool("is_ours"))
      }
    }

    private static func offers(of target: Connection) async throws -> [String: Offer] {
      let rows = try await target.ask(
        """
        SELECT e.name, e.default_version, e.installed_version, v.version,
          v.version <> e.default_version OR NOT v.superuser
            OR pg_catalog.current_setting('is_superuser') = 'on'
            OR (coalesce((pg_catalog.to_jsonb(v) ->> 'trusted')::boolean, false)
              AND pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')) AS is_creatable
        FROM pg_catalog.pg_available_extensions e
          JOIN pg_catalog.pg_available_extension_versions v ON v.name = e.name
        """, about: "the extensions that the target offers")
      var offers: [String: Offer] = [:]
      for row in rows {
        let name = try row.text("name")
        var offer = offers[name] ?? Offer(defaultVersion: "", versions: [])
        offer.defaultVersion = try row.optional("default_version") ?? ""
        offer.installedVersion = try row.optional("installed_version")
        offer.versions.insert(try row.text("version"))
        if try row.optional("is_creatable") == "f" { offer.isCreatable = false }
        offers[name] = offer
      }
      return offers
    }

    static func judge(_ installed: Installed, offer: Offer?) -> [Finding] {
      let name = quotedIdentifier(installed.name)
      let object = "extension \(name)"
      var findings: [Finding] = []
      func add(_ severity: Finding.Severity, _ check: String, _ why: String, _ remedy: String) {
        findings.append(Finding(severity, check: check, object: object, why: why, remedy: remedy))
      }
      if let offer {
        if let present = offer.installedVersion, present != installed.version {
          add(
            .warning, "extension_version",
            "The source has version \(installed.version), and version \(present) is in the target already.",
            "On the target: ALTER EXTENSION \(name) UPDATE TO \(quotedLiteral(installed.version)); or see "
              + "that the other version does.")
        } else if offer.installedVersion == nil, !offer.versions.contains(installed.version) {
          add(
            .warning, "extension_version",
            "The source has version \(installed.version), which the target does not offer: it will get "
              + "version \(offer.defaultVersion).",
            "Install version \(installed.version) on the target's server, or see that version "
              + "\(offer.defaultVersion) does.")
        }
        if let place = offer.place, place.schema != installed.schema {
          let schema = quotedIdentifier(installed.schema)
          let move =
            place.isRelocatable && place.hasSchemaOfSource
            ? "ALTER EXTENSION \(name) SET SCHEMA \(schema);"
            : "DROP EXTENSION \(name); then start creates it in schema \(schema)"
              + (offer.isCreatable ? "." : ", as a role that may create it.")
          add(
            .blocker, "extension_schema",
            "The source has it in schema \(schema), the target in schema \(quotedIdentifier(place.schema)): "
              + "types and functions of it would not be found.",
            "On the target, as role \(quotedIdentifier(place.owner)): \(move)")
        }
        if let place = offer.place, !place.isOurs {
          add(
            .note, "extension_owner",
            "On the target it belongs to role \(quotedIdentifier(place.owner)): its comment, the owner of "
              + "its schema, and privileges on what it brought stay as they are there, unless our role may "
              + "change them.", "Nothing to do; what is left out is named in the log and the report.")
        }
        if offer.installedVersion == nil, !offer.isCreatable {
          add(
            .warning, "extension_privilege",
            "The target's role may be refused to create it: it is not a trusted extension.",
            "On the target, as a superuser: CREATE EXTENSION \(name);")
        }
      } else {
        add(
          .blocker, "extension", "The source uses it, and the target's server does not offer it.",
          "Install it on the target's server (its operating system's package; on Amazon RDS an engine "
            + "version "
            + "that has "
            + "it), or on the source: DROP EXTENSION \(name);")
      }
      return findings + jobs(installed, object)
    }

    private static func jobs(_ installed: Installed, _ object: String) -> [Finding] {
      if installed.name == "pg_cron" {
        return [
          Finding(
            .note, check: "scheduled_jobs", object: object,
            why: "Its jobs come along and do not run on the target until it opens; from then on they run "
              + "there, and no longer on the source. They go on writing into the source until the fence.",
            remedy: "Nothing to do; or leave them behind: --exclude-table cron.job --exclude-table "
              + "cron.job_run_details")
        ]
      }
      guard installed.jobs else { return [] }
      return [
        Finding(
          .warning, check: "scheduled_jobs", object: object,
          why: "Its jobs go on writing into the source until the fence, and they are not set up on the "
            + "target.",
          remedy: "Schedule the jobs anew on the target after the cutover; pause those that write before it."
        )
      ]
    }
  }
}
