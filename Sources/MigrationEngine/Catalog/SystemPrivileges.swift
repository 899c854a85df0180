import LibPQ

/// System functions and relations that PUBLIC may use in a new database, and that we use: where they were
/// revoked, this must be known before anything depends on it, not after the seal, where nothing may be
/// refused.
enum SystemPrivileges {
  /// One that our role may not use.
  struct Missing: Sendable, Equatable {
    /// `pg_catalog.pg_current_wal_lsn()`.
    var object: String
    /// The statement that grants it.
    var grant: String
  }

  /// Those of `functions` and `relations` that our role may not use.
  static func missing(on connection: Connection) async throws -> [Missing] {
    let rows = try await connection.query(
      """
      SELECT o.kind, o.object, pg_catalog.quote_ident(CURRENT_USER) AS role
      FROM (SELECT 'EXECUTE ON FUNCTION' AS kind, pg_catalog.format('pg_catalog.%I(%s)', p.proname,
              pg_catalog.pg_get_function_identity_arguments(p.oid)) AS object
            FROM pg_catalog.pg_proc p
            WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace AND p.proname = ANY ($1::text[])
              AND p.proacl IS NOT NULL AND NOT pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_init_privs i
                WHERE i.classoid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND i.objoid = p.oid)
              -- They are called where there are large objects.
              AND (p.proname !~ '^lo_' OR EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata))
          UNION ALL
          SELECT 'SELECT ON', pg_catalog.format('pg_catalog.%I', c.relname)
            FROM pg_catalog.pg_class c
            WHERE c.relnamespace = 'pg_catalog'::pg_catalog.regnamespace AND c.relname = ANY ($2::text[])
              AND NOT pg_catalog.has_table_privilege(c.oid, 'SELECT')
              AND EXISTS (SELECT FROM pg_catalog.pg_init_privs i, pg_catalog.aclexplode(i.initprivs) a
                WHERE i.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND i.objoid = c.oid
                  AND i.objsubid = 0 AND a.grantee = 0 AND a.privilege_type = 'SELECT')) o
      ORDER BY o.object
      """, [SQL.array(functions.filter { !dispensable.contains($0) }), SQL.array(relations)],
      doing: "asking what of the system our role may use on the \(connection.end)", within: .seconds(30))
    return try rows.map { row in
      let object = try row.text("object")
      return Missing(
        object: object, grant: "GRANT \(try row.text("kind")) \(object) TO \(try row.text("role"));")
    }
  }

  /// - Throws: `MigrationError` that names what is missing, with the GRANTs.
  static func verify(on connection: Connection) async throws {
    let missing = try await missing(on: connection)
    guard !missing.isEmpty else { return }
    throw MigrationError(
      .failed, doing: "asking what of the system our role may use on the \(connection.end)",
      reason: "it may not use \(missing.map(\.object).joined(separator: ", "))",
      remedy: "On the \(connection.end), as a superuser: \(missing.map(\.grant).joined(separator: " "))")
  }

  /// For these there is another way: providers of databases withhold them.
  private static let dispensable: Set = ["pg_control_checkpoint", "pg_control_system"]

  /// Asked beforehand: a server refuses a statement that names a function which our role may not call, even
  /// where it would not call it.
  /// - Parameter function: with its parameters.
  static func mayCall(_ function: String, on connection: Connection) async throws -> Bool {
    try await connection.query(
      "SELECT pg_catalog.has_function_privilege($1, 'EXECUTE') AS it_may", ["pg_catalog.\(function)"],
      doing: "asking whether our role may call \(function) on the \(connection.end)", within: .seconds(15)
    ).first?.bool("it_may") ?? false
  }

  /// Functions that are called after the fence, or after the seal, each with a call that leaves nothing once
  /// it is rolled back.
  static let calledAfterFence = [
    ("pg_logical_emit_message", "SELECT pg_catalog.pg_logical_emit_message(true, 'replicate.check', '')"),
    ("txid_current", "SELECT pg_catalog.txid_current()"),
    (
      "pg_current_snapshot",
      """
      SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot()),
        pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())
      """
    ),
    ("pg_current_wal_lsn", "SELECT pg_catalog.pg_current_wal_lsn()"),
    ("set_config", "SELECT pg_catalog.set_config('application_name', 'replicate check', true)"),
    (
      "pg_advisory_xact_lock",
      "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.pg_backend_pid(), pg_catalog.pg_backend_pid())"
    ),
    // No backend has this number.
    ("pg_terminate_backend", "SELECT pg_catalog.pg_terminate_backend(0)"),
    ("pg_stat_activity", "SELECT pid, backend_xid, backend_xmin FROM pg_catalog.pg_stat_activity LIMIT 1"),
    ("pg_locks", "SELECT pid FROM pg_catalog.pg_locks LIMIT 1"),
    ("pg_prepared_xacts", "SELECT gid FROM pg_catalog.pg_prepared_xacts LIMIT 1"),
  ]

  /// All system functions called, on either end.
  static let functions = [
    "acldefault", "aclexplode", "age", "array_agg", "array_append", "array_dims", "array_lower",
    "array_ndims", "array_position", "array_send", "array_to_string", "ascii", "bit", "bool_and",
    "bool_or", "boolsend", "bpchar", "clock_timestamp", "concat_ws", "convert_to", "count",
    "current_database", "current_setting", "date_part", "div", "encode", "format", "format_type",
    "generate_series", "has_database_privilege", "has_function_privilege", "has_parameter_privilege",
    "has_schema_privilege",
    "has_sequence_privilege", "has_table_privilege", "hash_array_extended", "hash_record_extended",
    "hashbpcharextended", "hashint2extended", "hashint4extended", "hashint8extended", "hashoidextended",
    "hashtext", "hashtextextended", "inet_client_addr", "inet_server_addr", "int4", "int8send",
    "jsonb_agg", "jsonb_build_array", "jsonb_build_object", "jsonb_out", "jsonb_to_recordset", "left",
    "lo_close", "lo_create", "lo_get", "lo_lseek64", "lo_open", "lo_put", "lo_unlink", "lower", "max",
    "md5", "min", "now", "obj_description", "overlay", "pg_advisory_lock", "pg_advisory_xact_lock",
    "pg_backend_pid", "pg_blocking_pids", "pg_control_checkpoint", "pg_control_system",
    "pg_create_logical_replication_slot", "pg_current_snapshot", "pg_current_wal_lsn",
    "pg_database_collation_actual_version", "pg_database_size", "pg_drop_replication_slot",
    "pg_encoding_to_char", "pg_export_snapshot", "pg_get_constraintdef", "pg_get_expr",
    "pg_get_function_identity_arguments", "pg_get_indexdef", "pg_get_userbyid", "pg_has_role",
    "pg_identify_object", "pg_is_in_recovery", "pg_logical_emit_message", "pg_partition_tree",
    "pg_postmaster_start_time", "pg_relation_filenode", "pg_relation_size", "pg_snapshot_xmax",
    "pg_snapshot_xmin", "pg_table_size", "pg_tablespace_location", "pg_terminate_backend",
    "pg_try_advisory_lock", "pg_wal_lsn_diff", "quote_ident", "round", "row_security_active", "set_config",
    "setval", "sha256", "shobj_description", "split_part", "string_agg", "strpos", "substr", "substring",
    "sum", "textin", "textsend", "to_char", "to_jsonb", "to_regclass", "to_regnamespace",
    "to_regprocedure", "txid_current", "txid_current_snapshot", "txid_snapshot_xmin", "unnest", "upper",
    "uuid_hash_extended",
  ]

  /// All system relations read.
  static let relations = [
    "pg_amop", "pg_attrdef", "pg_attribute", "pg_auth_members", "pg_authid",
    "pg_available_extension_versions", "pg_available_extensions", "pg_cast", "pg_class", "pg_collation",
    "pg_constraint", "pg_database", "pg_db_role_setting", "pg_depend", "pg_description",
    "pg_event_trigger", "pg_extension", "pg_file_settings", "pg_hba_file_rules", "pg_index", "pg_inherits",
    "pg_init_privs", "pg_largeobject",
    "pg_largeobject_metadata", "pg_locks", "pg_namespace", "pg_opclass", "pg_operator", "pg_policy",
    "pg_prepared_xacts", "pg_proc", "pg_publication", "pg_publication_rel", "pg_publication_tables",
    "pg_range", "pg_replication_origin", "pg_replication_slots", "pg_rewrite", "pg_roles", "pg_sequence",
    "pg_settings", "pg_shdepend", "pg_stat_activity", "pg_stat_progress_vacuum", "pg_stat_replication",
    "pg_stat_subscription",
    "pg_statistic_ext", "pg_stats", "pg_subscription", "pg_tablespace", "pg_trigger", "pg_type",
    "pg_user_mapping",
  ]
}
