/// The functions that hash a row, the fastest first.
enum DigestFunction: String, Sendable, CaseIterable {
  /// `hash_record_extended`, from 14 on.
  case record
  /// `hash_array_extended` of binary forms, from 11 on.
  case array
  /// MD5 of binary forms.
  case md5
}

/// How a row is hashed on the server. Every value is hashed in its type's binary form, which distinguishes
/// whatever its output does and is the same on every machine; only a few types with an equally exact hash are
/// hashed directly. The hash functions of rows and arrays are linear in their members' hashes, so rows could
/// exchange values unnoticed: therefore a row's key is the seed of all its hashes, and without a key the sum
/// is hashed once more.
struct Digest: Sendable, Equatable {
  var function: DigestFunction
  /// Chosen at random for each run, so that a collision does not outlive it. The same on both ends.
  var seed: Int64

  var words: String {
    switch function {
    case .record: "64-bit hash of each row's values (hash_record_extended and its like), summed"
    case .array: "64-bit hash of each row's values (hash_array_extended and its like), summed"
    case .md5: "64 bits of the MD5 of each row's binary form, summed"
    }
  }

  /// - Parameters:
  ///   - columns: all compared columns, in an order that both ends share.
  ///   - key: those of them that identify rows; empty for a table without a key.
  func row(_ columns: [DigestedColumn], key: [DigestedColumn]) -> String {
    guard function != .md5 else { return md5(columns) }
    let others = columns.filter { !key.contains($0) }
    guard key.isEmpty else {
      // A NULL has no hash and does not use the seed: the constant's hash carries the key.
      return valueByValue(others, key: key) ?? hash([.constant] + others, seed: self.key(key))
    }
    let sum = "pg_catalog.int8send(\(hash(columns, seed: "\(seed)")))"
    return function == .record
      ? "pg_catalog.hash_record_extended(ROW(\(sum)), \(seed))"
      : "pg_catalog.hash_array_extended(ARRAY[\(sum)], \(seed))"
  }

  /// Where every value has an exact hash, and a row's key is quick to hash, no row need be constructed, which
  /// is most of the cost of hashing a narrow row. Every value's seed is its row's key and its column's
  /// position.
  /// - Parameter columns: those outside the key.
  private func valueByValue(_ columns: [DigestedColumn], key: [DigestedColumn]) -> String? {
    guard key.count == 1, key[0].isQuicklyHashed else { return nil }
    var hashes = [self.key(key)]
    for (place, column) in columns.enumerated() {
      let seed = seed &+ Int64(place) &+ 1
      guard let hash = column.ownHash?(self.key(key, seed: seed)) else { return nil }
      hashes.append("coalesce(\(hash), \(seed))")
    }
    return hashes.joined(separator: " OPERATOR(pg_catalog.#) ")
  }

  /// The hash that identifies rows by their keys, never NULL.
  func key(_ columns: [DigestedColumn]) -> String { key(columns, seed: seed) }

  private func key(_ columns: [DigestedColumn], seed: Int64) -> String {
    if function == .md5 { return "coalesce(\(md5(columns)), 0)" }
    var chained = "\(seed)"
    for column in columns {
      guard let function = column.ownHash else { return "coalesce(\(hash(columns, seed: "\(seed)")), 0)" }
      chained = function(chained)
    }
    // Where the constraint is missing, a key may have a NULL.
    return "coalesce(\(chained), 0)"
  }

  private func hash(_ columns: [DigestedColumn], seed: String) -> String {
    switch function {
    case .record:
      "pg_catalog.hash_record_extended(ROW(\(columns.map(\.direct).joined(separator: ", "))), \(seed))"
    case .array, .md5: "pg_catalog.hash_array_extended(\(array(columns)), \(seed))"
    }
  }

  private func md5(_ columns: [DigestedColumn]) -> String {
    """
    ('x' OPERATOR(pg_catalog.||) pg_catalog.substr(pg_catalog.md5(pg_catalog.array_send(\
    \(array(columns)))), 1, 16))::pg_catalog.bit(64)::pg_catalog.int8
    """
  }

  private func array(_ columns: [DigestedColumn]) -> String {
    "ARRAY[\(columns.map(\.binary).joined(separator: ", "))]::pg_catalog.bytea[]"
  }

  // MARK: Probe

  /// Values whose hashes must be the same on both ends for a function to be usable.
  func probe(sharesEncoding: Bool) -> String {
    let values: [(UInt32, String)] = [
      (16, "true"), (17, "'\\x00ff'::pg_catalog.bytea"), (20, "(-5000000000)::pg_catalog.int8"),
      (21, "(-7)::pg_catalog.int2"), (23, "(-70000)::pg_catalog.int4"), (26, "4000000000::pg_catalog.oid"),
      (25, "'x y'::pg_catalog.text"), (701, "'-0'::pg_catalog.float8"), (23, "NULL::pg_catalog.int4"),
      (1082, "'1999-12-31'::pg_catalog.date"), (1700, "'1.10'::pg_catalog.numeric"),
      (2950, "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::pg_catalog.uuid"),
      (1184, "'2020-01-01 00:00:00.5+00'::pg_catalog.timestamptz"),
      (3802, "'{\"a\": [1, null]}'::pg_catalog.jsonb"), (1186, "'1 mon -1 day'::pg_catalog.interval"),
      (1007, "'[2:4]={1,NULL,3}'::pg_catalog.int4[]"), (1043, "'x '::pg_catalog.varchar"),
      (1042, "'x'::pg_catalog.bpchar(3)"),
    ]
    let sends: [UInt32: String] = [
      16: "boolsend", 17: "byteasend", 21: "int2send", 23: "int4send", 26: "oidsend", 25: "textsend",
      1082: "date_send", 2950: "uuid_send", 1043: "varcharsend", 1042: "bpcharsend",
      20: "int8send", 701: "float8send", 1700: "numeric_send", 1184: "timestamptz_send", 3802: "jsonb_send",
      1186: "interval_send", 1007: "array_send",
    ]
    let columns = values.map { oid, value in
      DigestedColumn(
        form: .binary(send: sends[oid] ?? "", typeOID: oid, sharesEncoding: sharesEncoding),
        value: value)
    }
    // All with their own hash functions, then all together.
    return """
      SELECT \(key(Array(columns[3...6]) + [columns[0], columns[2], columns[11], columns[17]])) AS key,
        \(row(columns, key: Array(columns[3...5]))) AS row
      """
  }
}

/// One column, or the text of several, as it goes into the digest of one end's rows.
struct DigestedColumn: Sendable, Equatable {
  var form: ColumnForm
  /// The value in SQL, cast to its base type.
  var value: String

  /// Types whose own hash distinguishes what their output does. Not among them: types with several forms of
  /// equal values (trailing zeros, -0, trailing blanks, intervals), and 64-bit integers and times, whose hash
  /// folds them into 32 bits.
  private static let exactHashes: Set<UInt32> = [16, 17, 21, 23, 26, 1082, 2950]
  /// Blank-padded types only with a length, which all values then have.
  private static let texts: Set<UInt32> = [25, 1042, 1043]

  /// Arrays of both.
  private static let exactArrays: Set<UInt32> = [1000, 1005, 1007, 1028, 1182, 2951]
  private static let textArrays: Set<UInt32> = [1009, 1015]

  static let constant = DigestedColumn(
    form: .binary(send: "int4send", typeOID: 23, sharesEncoding: true), value: "1")

  /// The value itself where its hash is exact, else its binary form.
  var direct: String {
    guard case .binary(let send, let typeOID, let sharesEncoding) = form else { return binary }
    if Self.exactHashes.contains(typeOID) { return value }
    // Its own hash, from 14 on, ignores only the sign of zero and of NaN.
    if typeOID == 700 || typeOID == 701 {
      return "\(value), CASE WHEN \(value) OPERATOR(pg_catalog.=) 0 THEN pg_catalog.\(send)(\(value)) END"
    }
    // Not under a collation that treats different texts as equal.
    let text = "\(value) COLLATE pg_catalog.\"C\""
    if sharesEncoding, Self.texts.contains(typeOID) { return text }
    if Self.exactArrays.contains(typeOID) { return "\(value), \(dimensions)" }
    // Its binary form is also its text, and costs one more copy.
    if sharesEncoding, typeOID == 3802 {
      return "pg_catalog.textin(pg_catalog.jsonb_out(\(value))) COLLATE pg_catalog.\"C\""
    }
    if sharesEncoding, Self.textArrays.contains(typeOID) { return "\(text), \(dimensions)" }
    return binary
  }

  /// What an array's own hash ignores; NULL for almost all.
  private var dimensions: String {
    """
    CASE WHEN pg_catalog.array_ndims(\(value)) OPERATOR(pg_catalog.=) 1 \
    AND pg_catalog.array_lower(\(value), 1) OPERATOR(pg_catalog.=) 1 THEN NULL \
    ELSE pg_catalog.array_dims(\(value)) END COLLATE pg_catalog."C"
    """
  }

  /// As `bytea`.
  var binary: String {
    switch form {
    // As below, in an array.
    case .binary("array_send", 1021, _): array(of: "pg_catalog.float4")
    case .binary("array_send", 1022, _): array(of: "pg_catalog.float8")
    // An array keeps its may-have-NULLs flag after the last NULL is gone, and loses it when sent as text.
    case .binary("array_send", _, _):
      Self.array(value)
    // A NaN has a sign, which is lost as text.
    case .binary(let send, 700, _), .binary(let send, 701, _):
      """
      CASE WHEN \(value) OPERATOR(pg_catalog.=) 'NaN' THEN pg_catalog.\(send)('NaN') \
      ELSE pg_catalog.\(send)(\(value)) END
      """
    case .binary(let send, _, _): "pg_catalog.\(send)(\(value))"
    case .text: "pg_catalog.textsend(ROW(\(value))::pg_catalog.text)"
    case .presence: "pg_catalog.boolsend(\(value) IS DISTINCT FROM NULL)"
    }
  }

  private static func array(_ value: String) -> String {
    "pg_catalog.overlay(pg_catalog.array_send(\(value)), '\\x00000000'::pg_catalog.bytea, 5)"
  }

  /// With no NaN that has a sign.
  private func array(of type: String) -> String {
    Self.array(
      """
      CASE WHEN 'NaN'::\(type) OPERATOR(pg_catalog.=) ANY (\(value)) \
      THEN \(value)::pg_catalog.text::\(type)[] ELSE \(value) END
      """)
  }

  /// Its 64-bit hash under a seed, NULL for NULL; nil when none is exact.
  var ownHash: ((String) -> String)? {
    guard case .binary(_, let typeOID, let sharesEncoding) = form else { return nil }
    let value = value
    switch typeOID {
    case 16: return { "pg_catalog.hashint4extended(pg_catalog.int4(\(value)), \($0))" }
    case 21: return { "pg_catalog.hashint2extended(\(value), \($0))" }
    case 23: return { "pg_catalog.hashint4extended(\(value), \($0))" }
    case 26: return { "pg_catalog.hashoidextended(\(value), \($0))" }
    case 2950: return { "pg_catalog.uuid_hash_extended(\(value), \($0))" }
    case 20:
      // Its hash folds the upper half into the lower, so the upper half is also part of the seed.
      return { seed in
        """
        pg_catalog.hashint8extended(\(value), \
        (\(value) OPERATOR(pg_catalog.>>) 32) OPERATOR(pg_catalog.#) \(seed))
        """
      }
    case 25 where sharesEncoding, 1043 where sharesEncoding:
      return { "pg_catalog.hashtextextended(\(value) COLLATE pg_catalog.\"C\", \($0))" }
    case 1042 where sharesEncoding:
      return { "pg_catalog.hashbpcharextended(\(value) COLLATE pg_catalog.\"C\", \($0))" }
    default: return nil
    }
  }

  /// Cheap enough to be hashed again for every other value of its row.
  var isQuicklyHashed: Bool {
    guard case .binary(_, let typeOID, _) = form else { return false }
    return [20, 21, 23, 26, 2950].contains(typeOID)
  }
}

/// The form in which a column's values are compared.
enum ColumnForm: Sendable, Equatable {
  /// By a `send` function of pg_catalog.
  /// - typeOID: that of a built-in type whose own hash may be used, or 0.
  /// - sharesEncoding: both servers store texts as the same bytes.
  case binary(send: String, typeOID: UInt32, sharesEncoding: Bool)
  /// By the type's output function.
  case text
  /// Only whether it is NULL: the servers' versions print the type differently.
  case presence
}
