/// Schema `replicate` on the target: everything a migration knows. The engine keeps nothing itself, so that
/// it can be killed and started on another machine.
enum StateSchema {
  /// Raised when the tables below change in a way that an older engine would misread.
  static let format = 6

  /// The position of a stream, on the end that it is applied to. The anchor is the transaction that ends at
  /// `applied_lsn`, none before the first; its time is in microseconds since 2000, as in the stream.
  static let progress = """
    CREATE TABLE IF NOT EXISTS replicate.progress (
      only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
      applied_lsn pg_lsn NOT NULL,
      anchor_lsn pg_lsn,
      anchor_xid bigint,
      anchor_time bigint,
      timeline bigint,
      transactions bigint NOT NULL DEFAULT 0,
      changes bigint NOT NULL DEFAULT 0,
      marker text NOT NULL DEFAULT '') WITH (fillfactor = 10);
    CREATE TABLE IF NOT EXISTS replicate.confirmation (
      only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
      confirmed_lsn pg_lsn NOT NULL) WITH (fillfactor = 10)
    """

  static let create = """
    CREATE SCHEMA replicate;
    COMMENT ON SCHEMA replicate IS
      'State of a migration by replicate; dropped by replicate abort --drop-target-data.';
    CREATE TABLE replicate.migration (
      only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
      format integer NOT NULL,
      phase text NOT NULL,
      failure text,
      abort_requested boolean NOT NULL DEFAULT false,
      finish_requested boolean NOT NULL DEFAULT false,
      finished boolean NOT NULL DEFAULT false,
      source_system text NOT NULL,
      source_database text NOT NULL,
      slot text NOT NULL,
      publication text NOT NULL,
      encryption text NOT NULL,
      excluded text NOT NULL,
      target_before text NOT NULL,
      restore_attempted text[] NOT NULL DEFAULT '{}',
      large_objects_horizon text,
      copy_seconds double precision NOT NULL DEFAULT 0,
      created_at timestamptz NOT NULL DEFAULT pg_catalog.now());
    CREATE TABLE replicate.relation (
      source_oid oid PRIMARY KEY,
      schema_name text NOT NULL,
      relation_name text NOT NULL,
      snapshot_lsn pg_lsn,
      lineage text,
      target_file oid,
      bytes_total bigint NOT NULL,
      bytes bigint NOT NULL DEFAULT 0,
      rows bigint NOT NULL DEFAULT 0);
    CREATE TABLE replicate.joining (
      source_oid oid PRIMARY KEY);
    CREATE TABLE replicate.unmade (
      id bigint GENERATED ALWAYS AS IDENTITY,
      class oid NOT NULL,
      object oid NOT NULL,
      entry text NOT NULL,
      description text NOT NULL,
      PRIMARY KEY (class, object, entry));
    \(progress);
    CREATE TABLE replicate.way_back (
      only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
      slot text NOT NULL,
      publication text NOT NULL,
      opened_xid bigint,
      opened_lsn pg_lsn,
      large_objects_horizon text);
    CREATE TABLE replicate.engine (
      only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
      heartbeat timestamptz NOT NULL,
      backend integer NOT NULL,
      status text NOT NULL) WITH (fillfactor = 10);
    CREATE TABLE replicate.cutover (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      requested_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
      request text NOT NULL,
      state text NOT NULL DEFAULT 'requested'
        CHECK (state IN ('requested', 'running', 'complete', 'aborted', 'rehearsed')),
      report text,
      needs text);
    CREATE TABLE replicate.switch_step (
      cutover bigint NOT NULL REFERENCES replicate.cutover,
      position integer NOT NULL,
      definition text NOT NULL,
      state text NOT NULL CHECK (state IN ('paused', 'running', 'done', 'failed', 'undone')),
      detail text NOT NULL,
      at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
      PRIMARY KEY (cutover, position));
    CREATE TABLE replicate.verification (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      requested_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
      request text NOT NULL,
      state text NOT NULL DEFAULT 'requested'
        CHECK (state IN ('requested', 'running', 'complete', 'failed')),
      report text,
      failure text);
    CREATE TABLE replicate.event (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
      what text NOT NULL);
    \(NotedRows.held.creation);
    """
}
