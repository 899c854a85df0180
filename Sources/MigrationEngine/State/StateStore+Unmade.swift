import LibPQ

/// An object of the source's schema that the target's server refused.
struct UnmadeObject: Sendable, Codable, Equatable {
  /// Its row in the source's catalogs; zeros for what has none, such as a comment.
  var classOID: UInt32
  var oid: UInt32
  /// How pg_restore lists it.
  var entry: String
  /// What a cutover's `--accept-difference` calls it.
  var name: String
  /// The source's tables that it belongs to.
  var tables: [UInt32] = []
  /// The source table whose replica identity it is.
  var identifies: UInt32?
  /// It is a foreign key, which may be created NOT VALID.
  var isForeignKey = false
  /// The server's error, and what may fix it.
  var reason: String
  var remedy: String
  /// A statement that lists the rows in its way.
  var listing: String?

  /// For people.
  var words: String {
    "\(name) is missing on the target: \(reason). \(remedy) It is tried again by itself."
      + (listing.map { " The rows, on the source: \($0)" } ?? "")
  }
}

extension StateStore {
  func unmade() async throws -> [UnmadeObject] {
    let rows = try await connection.query(
      "SELECT description FROM replicate.unmade ORDER BY id",
      doing: "reading what of the schema the target has refused", within: Self.limit)
    return try rows.map { try Self.decode(UnmadeObject.self, try $0.text("description")) }
  }

  func store(unmade: [UnmadeObject]) async throws {
    for object in unmade {
      try await connection.query(
        """
        INSERT INTO replicate.unmade (class, object, entry, description) VALUES ($1, $2, $3, $4)
        ON CONFLICT (class, object, entry) DO UPDATE SET description = excluded.description
        """, ["\(object.classOID)", "\(object.oid)", object.entry, try Self.encode(object)],
        doing: "storing what of the schema the target has refused", within: Self.limit)
    }
  }

  func forget(unmade: [UnmadeObject]) async throws {
    for object in unmade {
      try await connection.query(
        "DELETE FROM replicate.unmade WHERE class = $1 AND object = $2 AND entry = $3",
        ["\(object.classOID)", "\(object.oid)", object.entry],
        doing: "storing that the target has an object after all", within: Self.limit)
    }
  }
}
