import Clusters
import Foundation
import Testing

@testable import MigrationEngine

/// Settings that a role, a database, a connection string or the environment gives to our sessions.
@Suite(.serialized, .servers(about: 70), .timeLimit(.minutes(6)))
struct SettingTests {
  // MARK: Each is decided

  /// What a session may have stored for it, and what we leave as it is, by the reason why.
  private static let harmless: [String: String] = [
    "said when the session begins":
      "application_name client_encoding session_preload_libraries local_preload_libraries",
    "what only expressions of users depend on, which have their own settings":
      "default_text_search_config lc_numeric lc_time timezone_abbreviations",
    "only literals that we never write": "backslash_quote escape_string_warning",
    "narrows what is read and is set where tables alone are": "restrict_nonsystem_relation_kind",
    "checks of what is created, which fail aloud":
      "allow_system_table_mods icu_validation_level event_triggers",
    "who may do what, never what a value is":
      "lo_compat_privileges createrole_self_grant password_encryption scram_iterations "
      + "allow_in_place_tablespaces",
    "nothing is decided by the words of a message": "lc_messages",
    "where the server finds its libraries":
      "dynamic_library_path extension_control_path extension_destdir",
    "how new values are stored, as the owner wants it": "default_toast_compression",
    "a check looks at it": "output_plugin_libraries",
    "whether the owner lets values pass that were stored under another row type": "composite_type_mismatch",
    "rows come in any order": "synchronize_seqscans",
    "the cost of plans, whose kinds are fixed":
      """
    constraint_exclusion cpu_index_tuple_cost cpu_operator_cost cpu_tuple_cost cursor_tuple_fraction
    effective_cache_size enable_async_append enable_distinct_reordering enable_gathermerge
    enable_group_by_reordering enable_incremental_sort enable_memoize enable_parallel_append
    enable_parallel_hash enable_partition_pruning enable_partitionwise_aggregate
    enable_partitionwise_join enable_presorted_aggregate enable_self_join_elimination force_parallel_mode
    debug_parallel_query from_collapse_limit geqo geqo_effort geqo_generations geqo_pool_size geqo_seed
    geqo_selection_bias geqo_threshold jit jit_above_cost jit_dump_bitcode jit_expressions
    jit_inline_above_cost jit_optimize_above_cost jit_tuple_deforming join_collapse_limit
    min_parallel_index_scan_size min_parallel_table_scan_size operator_precedence_warning
    optimize_bounded_sort parallel_leader_participation parallel_setup_cost parallel_tuple_cost
    random_page_cost recursive_worktable_factor seq_page_cost
    """,
    "memory, disks, workers and pace that the operator gives":
      """
    backend_flush_after client_connection_check_interval commit_delay commit_siblings deadlock_timeout
    effective_io_concurrency file_copy_method gin_pending_list_limit hash_mem_multiplier io_combine_limit
    logical_decoding_work_mem maintenance_io_concurrency maintenance_work_mem
    max_parallel_maintenance_workers max_parallel_workers max_parallel_workers_per_gather max_stack_depth
    stats_fetch_consistency temp_buffers temp_file_limit temp_tablespaces vacuum_buffer_usage_limit
    vacuum_cleanup_index_scale_factor wal_compression wal_init_zero wal_recycle wal_sender_timeout
    wal_skip_threshold work_mem wal_consistency_checking
    """,
    "for VACUUM and ANALYZE":
      """
    default_statistics_target vacuum_cost_delay vacuum_cost_limit vacuum_cost_page_dirty
    vacuum_cost_page_hit vacuum_cost_page_miss vacuum_failsafe_age vacuum_freeze_min_age
    vacuum_freeze_table_age vacuum_max_eager_freeze_failure_rate vacuum_multixact_failsafe_age
    vacuum_multixact_freeze_min_age vacuum_multixact_freeze_table_age vacuum_truncate
    """,
    "what the server logs and counts":
      """
    backtrace_functions compute_query_id debug_discard_caches debug_logical_replication_streaming
    debug_pretty_print debug_print_parse debug_print_plan debug_print_rewritten log_duration
    log_error_verbosity log_executor_stats log_lock_failures log_lock_waits log_min_duration_sample
    log_min_duration_statement log_min_error_statement log_min_messages log_parameter_max_length
    log_parameter_max_length_on_error log_parser_stats log_planner_stats log_replication_commands
    log_statement log_statement_sample_rate log_statement_stats log_temp_files
    log_transaction_sample_rate trace_notify trace_sort track_activities track_cost_delay_timing
    track_counts track_functions track_io_timing track_wal_io_timing update_process_title
    """,
    "of the transaction under way: nothing can store them":
      "transaction_deferrable transaction_isolation transaction_read_only",
  ]

  @Test("Every setting that a user may store is fixed by us or known to be harmless")
  func everySettingIsDecided() async throws {
    let fixed = Set((Session.fixed + Session.fixedForSuperusers).map { $0.name.lowercased() })
    let harmless = Self.harmless.values.flatMap { $0.split(whereSeparator: \.isWhitespace) }.map(
      String.init)
    #expect(Set(harmless).count == harmless.count)
    #expect(fixed.isDisjoint(with: harmless))
    let passedOn = UserSettings.meaningful.union(UserSettings.meaningfulAlone)
    #expect(passedOn.isSubset(of: fixed.union(harmless)))
    for server in [try await ClusterPair.shared.source, try await ClusterPair.shared.target] {
      let session = try await SQLSession(server)
      // Those of extensions have two parts, and mean nothing to what we write.
      let names = try await session.rows(
        "SELECT lower(name) FROM pg_settings WHERE context IN ('user', 'superuser') AND name !~ '[.]'")
      await session.close()
      let undecided = Set(names.compactMap { $0.first ?? nil }).subtracting(fixed).subtracting(harmless)
      #expect(undecided == [])
    }
  }

  // MARK: None is felt

  /// A value for each that is fixed, as unlike ours as the server takes it.
  private static func hostile(role: String) -> [String: String] {
    var hostile = [
      "search_path": "trap, pg_catalog", "role": role, "datestyle": "SQL, DMY",
      "intervalstyle": "sql_standard", "timezone": "Asia/Kathmandu", "extra_float_digits": "-15",
      "bytea_output": "escape", "array_nulls": "off", "quote_all_identifiers": "on",
      "standard_conforming_strings": "off", "transform_null_equals": "on", "xmloption": "document",
      "xmlbinary": "hex", "lc_monetary": "POSIX", "row_security": "on", "gin_fuzzy_search_limit": "1",
      "default_transaction_read_only": "on", "default_transaction_isolation": "serializable",
      "default_transaction_deferrable": "on", "statement_timeout": "100ms", "lock_timeout": "10ms",
      "idle_in_transaction_session_timeout": "300ms", "exit_on_error": "on",
      "client_min_messages": "debug1", "synchronous_commit": "off", "check_function_bodies": "on",
      "default_tablespace": "pg_default", "default_table_access_method": "heap",
      "tcp_keepalives_idle": "1", "tcp_keepalives_interval": "1", "tcp_keepalives_count": "1",
      "tcp_user_timeout": "1000", "plan_cache_mode": "force_custom_plan",
      "session_replication_role": "replica", "zero_damaged_pages": "on", "ignore_checksum_failure": "on",
      "idle_session_timeout": "2s", "transaction_timeout": "300ms",
    ]
    for setting in Session.fixed where setting.name.hasPrefix("enable_") { hostile[setting.name] = "off" }
    return hostile
  }

  @Test("The hostile values are of all that is fixed")
  func hostileIsWhole() {
    #expect(
      Set(Self.hostile(role: "r").keys)
        == Set((Session.fixed + Session.fixedForSuperusers).map { $0.name.lowercased() }))
  }

  enum Place: String, CaseIterable { case database, role, string, environment }

  @Test("Whatever sets them, values, names and statements of a whole migration are what they are")
  func scene() async throws {
    for place in Place.allCases { try await Self.scene(place) }
  }

  private static func scene(_ place: Place) async throws {
    try await SharedRole.with("settings_\(place)") { role in
      try await Scene.run("settings_\(place)") { fresh in
        for sql in schema { try await run(sql, on: fresh.databases.source) }
        let scene = try await make(place, hostile(role: role), fresh)
        let engine = try await scene.start()
        try await scene.waitUntilReady(engine)
        for sql in changes { try await run(sql, on: fresh.databases.source) }
        let verified = try await scene.replicate.run("verify")
        #expect(verified.exitCode == 0, "\(place): \(verified.output)\(verified.errors)")
        #expect(!verified.output.contains("defined differently"), "\(place): \(verified.output)")
        let cutover = try await scene.replicate.run("cutover", "--yes", "--verify", "full")
        #expect(cutover.exitCode == 0, "\(place): \(cutover.output)\(cutover.errors)\(engine.errors)")
        _ = try await engine.waitForEnd(within: .seconds(30))
        for table in ["texts", "binaries", "big"] {
          let digest = """
            SELECT count(*) || ' ' || md5(string_agg(t::text, ',' ORDER BY id)) FROM public.\(table) t
            """
          let expected = try await value(digest, on: fresh.databases.source)
          #expect(try await value(digest, on: fresh.databases.target) == expected, "\(place): \(table)")
        }
        let nulls =
          "SELECT count(*) FROM public.texts WHERE a[2] IS NULL AND t[1] IS NULL AND t[2] = 'NULL'"
        #expect(try await value(nulls, on: fresh.databases.target) == "132", "\(place)")
        #expect(try await value(definition, on: fresh.databases.target) == "{NULL,1}", "\(place)")
      }
    }
  }

  /// On the target it would refuse the application's writes, which `check` reports.
  private static let readOnly = "default_transaction_read_only"

  /// The same migration with its settings in place.
  private static func make(
    _ place: Place, _ settings: [String: String], _ scene: Scene
  ) async throws -> Scene {
    let databases = scene.databases
    let version = try await value("SELECT current_setting('server_version_num')", on: databases.source)
    let known = (Session.fixed + Session.fixedForSuperusers).filter { $0.since <= Int(version ?? "0") ?? 0 }
    let settings = settings.filter { name, _ in known.contains { $0.name.lowercased() == name } }
    switch place {
    case .database, .role:
      let holder =
        "\(place == .role ? "ROLE CURRENT_USER IN " : "")DATABASE \(quotedIdentifier(databases.name))"
      for (isTarget, end) in [(false, databases.source), (true, databases.target)] {
        for (name, value) in settings where !isTarget || name != readOnly {
          let value = name == "search_path" ? value : quotedLiteral(value)
          try await run("ALTER \(holder) SET \(name) TO \(value)", on: end)
        }
      }
      return scene
    case .string, .environment:
      let options = settings.map { "-c \($0)=\($1.replacing(" ", with: "\\ "))" }.joined(separator: " ")
      guard place == .string else {
        let environment = ["PGOPTIONS": options, "PGTZ": "Asia/Kathmandu", "PGDATESTYLE": "SQL, DMY"]
        return Scene(databases: databases, replicate: scene.replicate.with(environment))
      }
      return Scene(
        databases: databases,
        replicate: ReplicateProcess(
          source: databases.source.with(["options": options]),
          target: databases.target.with(["options": options])))
    }
  }

  /// A session of the test's own is like ours.
  private static func session(_ server: Clusters.ConnectionString) async throws -> SQLSession {
    let settings = (Session.fixed + Session.fixedForSuperusers).filter { $0.since <= 130_000 }
    let options = settings.map { "-c \($0.name)=\($0.value.replacing(" ", with: "\\ "))" }
    return try await SQLSession(server.with(["options": options.joined(separator: " ")]))
  }

  private static func run(_ sql: String, on server: Clusters.ConnectionString) async throws {
    let session = try await session(server)
    try await session.execute(sql)
    await session.close()
  }

  private static func value(_ sql: String, on server: Clusters.ConnectionString) async throws -> String? {
    let session = try await session(server)
    let value = try await session.value(sql)
    await session.close()
    return value
  }

  private static let columns = """
    id int PRIMARY KEY, a int[] DEFAULT '{NULL,1}', t text[], i interval, f float8, r real, b bytea, x xml,
    d date DEFAULT '2024-02-01', at timestamptz, z timetz, m money, n numeric, rng tstzrange, plain text
    """

  private static let schema = [
    "CREATE SCHEMA trap",
    // It stands before PostgreSQL's own in the hostile path.
    """
    CREATE FUNCTION trap.count(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END'
    """,
    "CREATE TYPE trap.text AS ENUM ('trapped')", "CREATE TYPE public.pair AS (one text, two int[])",
    // What has no binary form makes the whole stream one of texts.
    "CREATE TABLE public.texts (\(columns), c regclass, ty regtype, p public.pair)",
    "CREATE TABLE public.binaries (\(columns))", "CREATE INDEX ON public.texts (plain) WHERE a IS NOT NULL",
    "CREATE TABLE public.big (id int PRIMARY KEY, v text)",
    "CREATE VIEW public.seen AS SELECT a FROM public.texts",
    "INSERT INTO public.big SELECT n, repeat('x', 100) FROM generate_series(1, 300000) n",
    insert("texts", 1...100), insert("binaries", 1...100),
  ]

  private static func insert(_ table: String, _ ids: ClosedRange<Int>) -> String {
    let names = #"'public.texts'::regclass, 'text'::regtype, '(NULL,"{1,NULL}")'::public.pair"#
    let more = table == "texts" ? ", \(names)" : ""
    return """
      INSERT INTO public.\(table) SELECT n, ARRAY[1, NULL, n], ARRAY[NULL, 'NULL', 'x y', ''],
        make_interval(months => 1, days => -n) + '-02:03:04.5', n / 3.0::float8, n / 7.0::real,
        decode('00ff5c27', 'hex'), xmlparse(content 'a<b>' || n || '</b>'), '0044-03-15 BC',
        timestamptz '2024-03-31 00:30:00+00' + n * interval '7 hours', '13:00:00+05:45', '1234.56', n / 3.0,
        tstzrange('2024-01-01 00:00+00', NULL), 'plain'\(more)
      FROM generate_series(\(ids.lowerBound), \(ids.upperBound)) n
      """
  }

  private static let changes =
    ["texts", "binaries"].flatMap { table in
      [
        insert(table, 101...133), insert(table, 134...134),
        "UPDATE public.\(table) SET i = -i, f = f / 3, d = '2024-02-01', t = t || NULL::text WHERE id < 80",
        "UPDATE public.\(table) SET a = ARRAY[NULL, NULL, 7]::int[] WHERE id = 90",
        "DELETE FROM public.\(table) WHERE id IN (1, 2)",
      ]
    }

  /// Of a column whose default holds a NULL: what was restored.
  private static let definition = """
    SELECT substr(pg_get_expr(adbin, adrelid), 2, 8) FROM pg_attrdef d
    WHERE adrelid = 'public.texts'::regclass AND adnum = 2
    """
}
