/// A table of both ends, and how its rows are compared: shapes in, statements out.
struct ComparedTable: Sendable {
  struct Column: Sendable, Equatable {
    var name: String
    var form: ColumnForm
    var source: TableShape.Column
    var target: TableShape.Column
  }

  /// What the two servers have in common.
  struct Agreement: Sendable {
    var digest: Digest
    /// Both have the same encoding.
    var sharesEncoding: Bool
    /// Floating-point numbers are written differently as text: 12 began to write them shortest.
    var writesFloatsDifferently: Bool
  }

  let source: TableShape
  let target: TableShape
  /// The columns that both ends have, ordered by the bytes of their names.
  let columns: [Column]
  /// The source's key; empty when the target lacks a column of it.
  let key: [String]
  /// How the definitions differ, as far as rows are concerned.
  let problems: [String]
  private let digest: Digest

  var name: RelationName { source.name }
  var bytes: Int64 { source.bytes &+ target.bytes }

  init(source: TableShape, target: TableShape, _ agreement: Agreement) {
    self.source = source
    self.target = target
    digest = agreement.digest
    var theirs: [String: TableShape.Column] = [:]
    for column in target.columns { theirs[column.name] = column }
    var columns: [Column] = []
    var problems: [String] = []
    for column in source.columns {
      guard let other = theirs.removeValue(forKey: column.name) else {
        problems.append("column \(SQL.identifier(column.name)) is missing on the target")
        continue
      }
      if column.type != other.type {
        problems.append(
          "column \(SQL.identifier(column.name)) is of type \(column.type) on the source and \(other.type) "
            + "on the target")
      }
      columns.append(
        Column(
          name: column.name, form: Self.form(column, other, agreement), source: column, target: other))
    }
    problems += theirs.keys.sorted().map { "column \(SQL.identifier($0)) is missing on the source" }
    self.columns = columns.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    let common = Set(columns.map(\.name))
    key = source.key.allSatisfy(common.contains) ? source.key : []
    self.problems = problems
  }

  private static func form(
    _ source: TableShape.Column, _ target: TableShape.Column, _ agreement: Agreement
  ) -> ColumnForm {
    if source.baseOID == target.baseOID, BinaryFormat.isExact(typeOID: source.baseOID),
      let send = source.send,
      send == target.send
    {
      let isHashed = !source.isBlankPadded || source.hasFixedLength && target.hasFixedLength
      return .binary(
        send: send, typeOID: isHashed ? source.baseOID : 0, sharesEncoding: agreement.sharesEncoding)
    }
    // Sends the label, without the type's OID.
    if source.isEnum, target.isEnum { return .binary(send: "enum_send", typeOID: 0, sharesEncoding: false) }
    if agreement.writesFloatsDifferently, source.printsFloats || target.printsFloats { return .presence }
    return .text
  }

  /// Columns that are compared as text, or not at all, for the report.
  var method: VerificationReport.Table.Method {
    columns.allSatisfy { if case .binary = $0.form { true } else { false } } ? .binary : .text
  }

  var reason: String? {
    func names(_ form: ColumnForm) -> String? {
      let names = columns.filter { $0.form == form }.map { SQL.identifier($0.name) }
      guard !names.isEmpty else { return nil }
      let shown = names.prefix(5).joined(separator: ", ")
      return names.count > 5 ? "\(shown) and \(names.count - 5) more" : shown
    }
    let parts = [
      names(.text).map { "as text, for lack of a binary form that both ends share: \($0)" },
      names(.presence).map {
        "only whether they are NULL, because the servers' versions write them differently: \($0)"
      },
    ].compactMap { $0 }
    return parts.isEmpty ? nil : parts.joined(separator: "; ")
  }

  // MARK: Statements

  enum End: Sendable, CaseIterable {
    case source, target
  }

  func shape(_ end: End) -> TableShape { end == .source ? source : target }

  private func value(_ column: Column, _ end: End) -> String {
    let own = end == .source ? column.source : column.target
    let name = "t.\(SQL.identifier(column.name))"
    return own.isDomain ? "\(name)::\(own.baseType)" : name
  }

  /// The columns compared as text together, since they share the cost.
  private func digested(_ end: End) -> [DigestedColumn] {
    var digested: [DigestedColumn] = []
    var texts: [String] = []
    for column in columns {
      let value = value(column, end)
      if column.form == .text {
        texts.append(value)
      } else {
        digested.append(DigestedColumn(form: column.form, value: value))
      }
    }
    if !texts.isEmpty {
      digested.append(DigestedColumn(form: .text, value: texts.joined(separator: ", ")))
    }
    return digested
  }

  private func keyColumns(_ end: End) -> [DigestedColumn] {
    key.compactMap { name in columns.first { $0.name == name } }
      .map { DigestedColumn(form: $0.form, value: value($0, end)) }
  }

  private func rowHash(_ end: End) -> String { digest.row(digested(end), key: keyColumns(end)) }

  /// What identifies rows.
  private func identity(_ end: End) -> String {
    let key = keyColumns(end)
    return key.isEmpty ? rowHash(end) : digest.key(key)
  }

  private func from(_ end: End, _ piece: ScanPiece) -> String {
    var conditions = piece.condition.map { [$0] } ?? []
    // Begins with WHERE (manual, section 38.17.3).
    if let own = shape(end).extensionCondition, !own.isEmpty { conditions.append("(\(own.dropFirst(5)))") }
    let condition = conditions.isEmpty ? "" : " WHERE \(conditions.joined(separator: " AND "))"
    return "FROM ONLY \(name) AS t\(condition)"
  }

  func count(_ end: End, _ piece: ScanPiece) -> String {
    "SELECT pg_catalog.count(*) AS rows, NULL AS digest \(from(end, piece))"
  }

  func sum(_ end: End, _ piece: ScanPiece) -> String {
    "SELECT pg_catalog.count(*) AS rows, pg_catalog.sum(\(rowHash(end))) AS digest \(from(end, piece))"
  }

  /// - Parameter buckets: a power of two.
  func buckets(_ end: End, _ piece: ScanPiece, buckets: Int64) -> String {
    """
    SELECT \(identity(end)) OPERATOR(pg_catalog.&) \(buckets - 1) AS bucket, pg_catalog.count(*) AS rows,
      pg_catalog.sum(\(rowHash(end))) AS digest \(from(end, piece)) GROUP BY 1
    """
  }

  /// The rows of some buckets; of all when nil.
  func rows(_ end: End, _ piece: ScanPiece, buckets: Int64, only chosen: [Int64]?) -> String {
    var conditions = piece.condition.map { [$0] } ?? []
    if let chosen {
      let list = chosen.map(String.init).joined(separator: ",")
      conditions.append(
        """
        (\(identity(end)) OPERATOR(pg_catalog.&) \(buckets - 1)) OPERATOR(pg_catalog.=) \
        ANY ('{\(list)}'::pg_catalog.int8[])
        """)
    }
    let condition = conditions.isEmpty ? "" : " WHERE \(conditions.joined(separator: " AND "))"
    return "\(marks(end)) FROM ONLY \(name) AS t\(condition) GROUP BY 1, 2"
  }

  private func marks(_ end: End) -> String {
    // min() of ctid would need PostgreSQL 14.
    """
    SELECT \(identity(end)) AS identity, \(rowHash(end)) AS digest, pg_catalog.count(*) AS count,
      (pg_catalog.array_agg(t.ctid))[1] AS place
    """
  }

  /// A column of a key whose values are passed as an array.
  struct KeyParameter: Sendable, Equatable {
    var column: String
    /// `OPERATOR(pg_catalog.=)`.
    var equality: String
    var arrayType: String
  }

  /// The rows with keys passed as arrays: one parameter per column of the key.
  func rows(_ end: End, keys: [KeyParameter]) -> String {
    "\(marks(end)) \(from(keys)) GROUP BY 1, 2"
  }

  /// The sums of the same rows.
  func sum(_ end: End, keys: [KeyParameter]) -> String {
    "SELECT pg_catalog.count(*) AS rows, pg_catalog.sum(\(rowHash(end))) AS digest \(from(keys))"
  }

  private func from(_ keys: [KeyParameter]) -> String {
    let arrays = keys.indices.map { "pg_catalog.unnest($\($0 + 1)::\(keys[$0].arrayType))" }
    let names = keys.indices.map { "c\($0 + 1)" }.joined(separator: ", ")
    let condition = keys.enumerated().map { index, key in
      "t.\(SQL.identifier(key.column)) \(key.equality) v.c\(index + 1)"
    }.joined(separator: " AND ")
    return """
      FROM (SELECT DISTINCT \(names)
        FROM ROWS FROM (\(arrays.joined(separator: ", "))) AS a (\(names))) AS v
      JOIN ONLY \(name) AS t ON \(condition)
      """
  }

  /// The keys of rows by ctid, as truncated text; by the types' output functions.
  func keys(_ end: End, at places: [String]) -> String {
    let values = key.enumerated().map { index, name in
      let column = "t.\(SQL.identifier(name))"
      return """
        CASE WHEN \(column) IS DISTINCT FROM NULL THEN \
        pg_catalog.left(pg_catalog.format('%s', \(column)), 100) END AS k\(index)
        """
    }
    return """
      SELECT \((["t.ctid AS place"] + values).joined(separator: ", ")) FROM ONLY \(name) AS t
      WHERE t.ctid OPERATOR(pg_catalog.=) ANY ('\(SQL.array(places))'::pg_catalog.tid[])
      """
  }
}
