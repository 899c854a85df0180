import LibPQ

/// Compares large objects by owner and content. Each end hashes its own, in pieces of limited size.
struct LargeObjectComparison: Sendable {
  let source: VerifiedEnd
  let target: VerifiedEnd
  var rateLimit: RateLimit?
  var maxBytesPerSecond: Int64?
  /// Nil: nobody follows it.
  var meter: VerificationMeter?

  struct Object: Sendable, Equatable {
    var owner: String
    var size: Int64
  }

  /// What both ends have, before any of it is read.
  struct Inventory: Sendable {
    var source: [UInt32: Object]
    var target: [UInt32: Object]

    /// Of both ends.
    var bytes: Int64 {
      // Wrapping: a server's answer must not trap.
      source.values.reduce(0) { $0 &+ $1.size } &+ target.values.reduce(0) { $0 &+ $1.size }
    }
  }

  struct Digest: Sendable, Equatable {
    var owner: String
    /// Size and MD5 sums of its parts.
    var content: String
  }

  /// One object on both ends; nil where it is missing.
  struct Pair: Sendable, Equatable {
    var source: Digest?
    var target: Digest?
  }

  // MARK: What there is

  /// - Parameter oids: only these; nil: all.
  func inventory(_ oids: [UInt32]? = nil) async throws -> Inventory {
    async let here = Self.objects(source, oids)
    async let there = Self.objects(target, oids)
    return Inventory(source: try await here, target: try await there)
  }

  private static func objects(_ end: VerifiedEnd, _ chosen: [UInt32]?) async throws -> [UInt32: Object] {
    let condition = chosen.map { "WHERE oid = ANY ('\(array($0))'::oid[])" } ?? ""
    let oids = try await end.first.query(
      "SELECT oid FROM pg_catalog.pg_largeobject_metadata \(condition) ORDER BY oid",
      doing: "listing the large objects of the \(end.side.end)"
    ).map { try $0.integer("oid", as: UInt32.self) }
    let found = Ledger<Object>()
    try await end.perform(oids.batches(of: 1000)) { batch, session in
      // Each is closed before the next is opened: a transaction can have only a few open.
      let rows = try await session.query(
        """
        SELECT c.oid, c.owner, c.size FROM (
          SELECT b.oid, b.owner, b.fd, pg_catalog.lo_lseek64(b.fd, 0, 2) AS size FROM (
            SELECT m.oid, r.rolname AS owner, pg_catalog.lo_open(m.oid, 262144) AS fd
            FROM pg_catalog.pg_largeobject_metadata m JOIN pg_catalog.pg_roles r ON r.oid = m.lomowner
            WHERE m.oid = ANY ('\(array(batch))'::oid[]) OFFSET 0) AS b OFFSET 0) AS c
        WHERE pg_catalog.lo_close(c.fd) = 0 OFFSET 0
        """, doing: "measuring large objects")
      await found.add(
        try rows.map {
          (
            try $0.integer("oid", as: UInt32.self),
            Object(owner: try $0.text("owner"), size: try $0.integer("size", as: Int64.self))
          )
        })
    }
    return await found.all.compactMapValues(\.first)
  }

  /// How much a comparison of all may have to read on one end, without looking at them.
  static func estimatedBytes(on connection: Connection) async throws -> Int64 {
    // A page holds a quarter of a block before it is compressed.
    let rows = try await connection.query(
      """
      SELECT greatest(pg_catalog.pg_relation_size(c.oid)::numeric, greatest(c.reltuples, 0)::numeric
        * (pg_catalog.current_setting('block_size')::integer / 4))::bigint AS bytes
      FROM pg_catalog.pg_class c WHERE c.oid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass
      """, doing: "asking for the size of the \(connection.end)'s large objects", within: .seconds(30))
    return try rows.first?.integer("bytes", as: Int64.self) ?? 0
  }

  // MARK: What is in them

  /// Hashes everything in an inventory that either end has.
  func digests(_ inventory: Inventory) async throws -> [UInt32: Pair] {
    async let here = digests(source, inventory.source)
    async let there = digests(target, inventory.target)
    let (left, right) = try await (here, there)
    var pairs: [UInt32: Pair] = [:]
    for oid in Set(left.keys).union(right.keys) { pairs[oid] = Pair(source: left[oid], target: right[oid]) }
    return pairs
  }

  private func digests(_ end: VerifiedEnd, _ objects: [UInt32: Object]) async throws -> [UInt32: Digest] {
    let found = Ledger<(start: Int64, sums: String)>()
    let pieces = LargeObjectPiece.plan(objects.mapValues(\.size), maxBytesPerSecond: maxBytesPerSecond)
    try await end.perform(pieces) { piece, session in
      let rows = try await session.query(
        """
        SELECT p.oid, p.first, (SELECT pg_catalog.string_agg(
            pg_catalog.md5(pg_catalog.lo_get(p.oid, s.at, \(LargeObjectPiece.partBytes))), '' ORDER BY s.at)
          FROM pg_catalog.generate_series(p.first, p.last, \(LargeObjectPiece.partBytes)) AS s (at)) AS sums
        FROM ROWS FROM (pg_catalog.unnest('\(SQL.array(piece.parts.map { "\($0.oid)" }))'::oid[]),
          pg_catalog.unnest('\(SQL.array(piece.parts.map { "\($0.range.lowerBound)" }))'::bigint[]),
          pg_catalog.unnest('\(SQL.array(piece.parts.map { "\($0.range.upperBound - 1)" }))'::bigint[])
        ) AS p (oid, first, last)
        """, doing: "comparing large objects")
      await found.add(
        try rows.map {
          (
            try $0.integer("oid", as: UInt32.self),
            (start: try $0.integer("first", as: Int64.self), sums: try $0.optional("sums") ?? "")
          )
        })
      meter?.add(bytes: piece.bytes, rows: 0)
      try await rateLimit?.spend(Int(clamping: piece.bytes))
    }
    let sums = await found.all
    return objects.reduce(into: [:]) { digests, object in
      let parts = (sums[object.key] ?? []).sorted { $0.start < $1.start }.map(\.sums).joined()
      digests[object.key] = Digest(owner: object.value.owner, content: "\(object.value.size) \(parts)")
    }
  }

  private static func array(_ oids: some Sequence<UInt32>) -> String {
    "{\(oids.map(String.init).joined(separator: ","))}"
  }

  private actor Ledger<Value: Sendable> {
    private(set) var all: [UInt32: [Value]] = [:]

    func add(_ values: [(oid: UInt32, value: Value)]) {
      for (oid, value) in values { all[oid, default: []].append(value) }
    }
  }

  // MARK: The differences

  /// What is reported about objects that differ.
  static func differences(_ pairs: [UInt32: Pair], isExpected: Bool) -> [VerificationReport.ObjectDifference]
  {
    pairs.filter { $1.source != $1.target }.sorted { $0.key < $1.key }.map { oid, pair in
      VerificationReport.ObjectDifference(
        kind: Self.kind, object: "\(oid)", words: "large object \(oid) \(words(pair))", isExpected: isExpected
      )
    }
  }

  static let kind = "large object"

  private static func words(_ pair: Pair) -> String {
    guard let theirs = pair.target else { return "is missing on the target" }
    guard let ours = pair.source else { return "is missing on the source" }
    guard ours.content == theirs.content else { return "has different content on the target" }
    return "belongs to \(SQL.identifier(ours.owner)) on the source and \(SQL.identifier(theirs.owner)) on "
      + "the target"
  }
}

/// The parts of large objects that one statement hashes.
struct LargeObjectPiece: Sendable, Equatable {
  /// Part of one object; begins at a multiple of what is read at a time, so that both ends split in the same
  /// way.
  struct Part: Sendable, Equatable {
    var oid: UInt32
    /// In bytes; never empty.
    var range: Range<Int64>
  }

  var parts: [Part] = []
  var bytes: Int64 = 0

  /// How much is read and hashed at a time.
  static let partBytes: Int64 = 1 << 20
  private static let mostBytes: Int64 = 32 << 20
  private static let mostParts = 1000

  /// In order of the objects' OIDs. Empty objects need not be read.
  /// - Parameter maxBytesPerSecond: for both ends; reading a piece should take half a second at this rate.
  static func plan(_ sizes: [UInt32: Int64], maxBytesPerSecond: Int64?) -> [LargeObjectPiece] {
    let limit = min(mostBytes, maxBytesPerSecond.map { $0 / 4 } ?? mostBytes)
    let most = max(partBytes, limit / partBytes * partBytes)
    var pieces: [LargeObjectPiece] = []
    var piece = LargeObjectPiece()
    for (oid, size) in sizes.sorted(by: { $0.key < $1.key }) {
      var start: Int64 = 0
      while start < size {
        if piece.parts.count == mostParts || piece.bytes > 0 && piece.bytes + min(size - start, most) > most {
          pieces.append(piece)
          piece = LargeObjectPiece()
        }
        let end = min(size, start + most)
        piece.parts.append(Part(oid: oid, range: start..<end))
        piece.bytes += end - start
        start = end
      }
    }
    if !piece.parts.isEmpty { pieces.append(piece) }
    return pieces
  }
}
