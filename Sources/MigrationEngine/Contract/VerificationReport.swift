package import LogicalReplication

/// What a comparison of both ends found. `source` and `target` are the ends of the migration, whichever way
/// it streams. Fields may be added, never renamed.
package struct VerificationReport: Sendable, Codable, Equatable {
  /// What was compared of the tables.
  package enum Extent: String, Sendable, Codable {
    /// All rows.
    case full
    /// The rows that the stream has changed since they were compared in full.
    case changed
    /// How many rows there are.
    case counts
  }

  /// What was compared of the tables, which may be more than requested.
  package var extent: Extent
  /// The position in the stream at which both ends were read; nil where there is none.
  package var lsn: LSN?
  /// How rows were compared, in words.
  package var digest: String
  /// By the target's clock: ISO 8601 in UTC.
  var startedAt: String
  /// From its beginning to its end.
  package var seconds: Double
  /// Of these, the time spent reading rows and large objects; nil where it was not measured.
  var readingSeconds: Double?
  /// Sessions on each end; nil where it was not recorded.
  package var jobs: Int?
  /// The limit on what was read; nil: none.
  package var maxBytesPerSecond: Int64?
  /// As the server reports it.
  package var sourceVersion: String
  /// As the server reports it.
  package var targetVersion: String
  /// All that were to be compared, including those that could not be.
  package var tables: [Table] = []
  /// Whether anything other than rows of tables was compared; nil where it was not recorded.
  var coversObjects: Bool?
  /// Differences of everything that is not a row of a table.
  package var objects: [ObjectDifference] = []
  /// Bytes of large objects read on both ends; nil when they were not compared.
  var largeObjectBytes: Int64?
  /// What those who vouch for the result should know: what could not be compared, and why.
  package var notes: [String] = []

  init(
    extent: Extent, digest: String, startedAt: String, sourceVersion: String, targetVersion: String
  ) {
    self.extent = extent
    self.digest = digest
    self.startedAt = startedAt
    seconds = 0
    self.sourceVersion = sourceVersion
    self.targetVersion = targetVersion
  }

  /// Whether the ends differ where they should not.
  package var hasDifferences: Bool {
    tables.contains { $0.verdict == .different } || objects.contains { !$0.isExpected }
  }

  /// Withdraws the result for tables that were rewritten meanwhile: snapshots do not see their rows.
  mutating func setAside(_ names: Set<RelationName>) {
    for (index, table) in tables.enumerated() where names.contains(table.name) {
      tables[index] = Table(
        name: table.name, verdict: .notCompared, method: .none,
        reason: "it was emptied, rewritten or altered meanwhile (TRUNCATE, ALTER TABLE, CLUSTER, VACUUM "
          + "FULL): compare it again")
    }
  }

  /// Nothing was compared that could have differed.
  package var isVoid: Bool {
    extent != .changed && coversObjects == false && !tables.contains { $0.verdict != .notCompared }
  }

  /// What was read on both ends.
  package var bytes: Int64 { tables.reduce(largeObjectBytes ?? 0) { $0 &+ $1.bytes } }

  /// One table on both ends.
  package struct Table: Sendable, Codable, Equatable {
    /// What the comparison of the table came to.
    package enum Verdict: String, Sendable, Codable {
      /// As far as `method` sees.
      case equal
      /// In rows or in their number.
      case different
      /// See `reason`.
      case notCompared = "not_compared"
    }

    /// How rows were compared.
    package enum Method: String, Sendable, Codable {
      /// Digests of rows in the types' binary form.
      case binary
      /// The same, with some or all columns as text: their types have no binary form that both ends share.
      case text
      /// Only counted.
      case count
      /// Not at all.
      case none
    }

    /// The same on both ends.
    package var name: RelationName
    /// `pg_class.oid` on each end while it was compared; nil where there was none. Not reported.
    var sourceOID: UInt32?
    var targetOID: UInt32?
    /// Whether it is the same on both ends.
    package var verdict: Verdict
    /// How that was judged.
    package var method: Method
    /// Why it was compared this way, or not at all; nil where there is nothing to say.
    package var reason: String?
    /// Nil where it was not counted.
    package var sourceRows: Int64?
    /// Nil where it was not counted.
    package var targetRows: Int64?
    /// Heap and TOAST of both ends.
    package var bytes: Int64 = 0
    /// From the first row read to the last.
    package var seconds: Double = 0
    /// Rows of the source that the target lacks.
    package var missing: Int64 = 0
    /// Rows of the target that the source lacks.
    package var extra: Int64 = 0
    /// Rows with the same key and other values.
    package var different: Int64 = 0
    /// There are more of them than were counted.
    package var hasMore = false
    /// The first of the rows that differ.
    package var rows: [Row] = []

    init(name: RelationName, verdict: Verdict, method: Method, reason: String? = nil) {
      self.name = name
      self.verdict = verdict
      self.method = method
      self.reason = reason
    }

    enum CodingKeys: String, CodingKey {
      case name, verdict, method, reason, bytes, seconds, missing, extra, different, rows
      case sourceRows = "source_rows"
      case targetRows = "target_rows"
      case hasMore = "has_more"
    }
  }

  /// A row that differs, by its key; no other value of it is reported.
  package struct Row: Sendable, Codable, Equatable {
    /// What is wrong with the row, as the target has it.
    package enum Kind: String, Sendable, Codable {
      /// On the source, not on the target.
      case missing
      /// On the target, not on the source.
      case extra
      /// On both, with other values.
      case different
    }

    struct KeyColumn: Sendable, Codable, Equatable {
      var column: String
      /// As text, shortened; nil for NULL.
      var value: String?
    }

    /// What is wrong with it.
    package var kind: Kind
    /// Empty for a table without one.
    var key: [KeyColumn]
    /// Where the row lies, on the end that has it (`source` if both do): its `ctid`.
    var ctid: String

    /// The row as PostgreSQL's own messages name it: `(id)=(5)`; without a key, where it lies.
    package var words: String {
      guard !key.isEmpty else { return "ctid \(ctid) on the \(kind == .extra ? "target" : "source")" }
      let columns = key.map(\.column).joined(separator: ", ")
      return "(\(columns))=(\(key.map { $0.value ?? "NULL" }.joined(separator: ", ")))"
    }
  }

  /// Something other than rows that is not the same on both ends.
  package struct ObjectDifference: Sendable, Codable, Equatable {
    /// In PostgreSQL's words: `sequence`, `large object`, `materialized view`, `index`, `trigger`…
    package var kind: String
    /// Quoted for SQL where it needs to be.
    package var object: String
    /// The name it is reported by, and accepted by before a cutover: `index public.t_v_idx`. Nil in what an
    /// older version stored.
    package var name: String?
    /// The difference as a sentence without a full stop: `index public.t_v_idx is missing on the target`.
    package var words: String
    /// Only the cutover carries it over, or the servers are of different versions.
    package var isExpected: Bool
    /// Expected, yet worth a look before it is relied on. Not reported with the rest.
    var isDoubtful = false
    /// Nil where a person has to look, or where it may hold a secret. Not reported with the rest.
    package var remedy: Remedy?

    /// The statements that make the ends the same.
    package struct Remedy: Sendable, Equatable {
      /// Where they are to be run.
      package var end: String
      var sql: String
    }

    /// - Parameter name: the kind and the object when nil.
    init(
      kind: String, object: String, name: String? = nil, words: String, isExpected: Bool = false,
      remedy: Remedy? = nil
    ) {
      self.kind = kind
      self.object = object
      self.name = name ?? "\(kind) \(object)"
      self.words = words
      self.isExpected = isExpected
      self.remedy = remedy
    }

    enum CodingKeys: String, CodingKey {
      case kind, object, name, words
      case isExpected = "expected"
    }
  }

  enum CodingKeys: String, CodingKey {
    case extent, lsn, digest, seconds, jobs, tables, objects, notes
    case readingSeconds = "reading_seconds"
    case maxBytesPerSecond = "max_bytes_per_second"
    case coversObjects = "covers_objects"
    case largeObjectBytes = "large_object_bytes"
    case startedAt = "started_at"
    case sourceVersion = "source_version"
    case targetVersion = "target_version"
  }
}

/// How far a comparison has come.
package struct VerificationProgress: Sendable, Codable, Equatable {
  /// Those that the comparison reads.
  package var tablesTotal = 0
  /// Those that were read on both ends.
  package var tablesDone = 0
  /// Of both ends together, like all figures here.
  package var bytesTotal: Int64 = 0
  /// Of both ends.
  package var bytesDone: Int64 = 0
  /// Of both ends.
  package var rowsDone: Int64 = 0
  /// Since it began.
  package var seconds: Double = 0

  enum CodingKeys: String, CodingKey {
    case seconds
    case tablesTotal = "tables_total"
    case tablesDone = "tables_done"
    case bytesTotal = "bytes_total"
    case bytesDone = "bytes_done"
    case rowsDone = "rows_done"
  }
}
