import Clusters
import LibPQ
import Testing

@testable import MigrationEngine

@Suite(.serialized, .servers, .timeLimit(.minutes(1)))
struct BinaryFormatTests {
  @Test("What the copy sends in binary has a binary form on the server, and holds no OID of an object")
  func everyType() async throws {
    let connection = try await connect(try await ClusterPair.shared.source)
    let types = try await connection.query(
      """
      SELECT t.oid, t.typname, t.typtype, t.typelem, t.typsend <> 0 AND t.typreceive <> 0 AS is_binary,
        concat(t.typname, ' ', e.typname) ~ '(^| )reg' AS is_object
      FROM pg_type t LEFT JOIN pg_type e ON e.typarray = t.oid WHERE t.oid < 16384
      """, doing: "reading the types")
    await connection.close()
    var exact = 0
    for type in types where BinaryFormat.isExact(typeOID: try type.integer("oid", as: UInt32.self)) {
      let name = try type.text("typname")
      exact += 1
      #expect(try type.bool("is_binary"), "\(name)")
      #expect(try !type.bool("is_object"), "\(name)")
      #expect(["b", "r", "m"].contains(try type.text("typtype")), "\(name)")
    }
    #expect(exact > 80, "only \(exact) of the list are types of this server")
  }

  @Test("An array is sent in binary exactly when its elements are")
  func arrays() async throws {
    let connection = try await connect(try await ClusterPair.shared.source)
    let types = try await connection.query(
      "SELECT oid, typname, typarray FROM pg_type WHERE oid < 16384 AND typarray <> 0",
      doing: "reading the types")
    await connection.close()
    for type in types {
      let isExact = BinaryFormat.isExact(typeOID: try type.integer("oid", as: UInt32.self))
      let isArrayExact = BinaryFormat.isExact(typeOID: try type.integer("typarray", as: UInt32.self))
      let name = try type.text("typname")
      #expect(isExact == isArrayExact, "\(name)")
    }
  }
}
