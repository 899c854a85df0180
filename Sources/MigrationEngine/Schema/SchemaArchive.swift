import Foundation
import LibPQ

/// A dump of the source's schema, made once for all sections of an engine run: with many tables it takes
/// seconds.
actor SchemaArchive {
  private let source: ConnectionString
  private let tables: [RelationName]
  private var directory: ScratchDirectory?

  /// - Parameter tables: these and what belongs to them; the whole schema when there are none.
  init(source: ConnectionString, only tables: [RelationName] = []) {
    self.source = source
    self.tables = tables
  }

  /// Dumps again, as the schema is under `snapshot`.
  /// - Parameter excluded: tables that are not to be in it.
  func dump(under snapshot: String?, without excluded: [RelationName] = []) async throws {
    remove()
    let directory = try ScratchDirectory()
    self.directory = directory
    var arguments = [
      "--format=custom", "--section=pre-data", "--section=post-data", "--no-blobs", "--no-subscriptions",
      "--exclude-schema=replicate", "--file=\(Self.file(in: directory).path)",
    ]
    // Quoted, so that nothing in a name is read as a pattern (manual, psql, "Patterns").
    arguments += tables.map { "--table=\($0)" }
    arguments += excluded.map { "--exclude-table=\($0)" }
    // It is read and written again line by line. Bytes without a defined encoding cannot be converted.
    if try await encoding() != "SQL_ASCII" { arguments.append("--encoding=UTF8") }
    if let snapshot { arguments.append("--snapshot=\(snapshot)") }
    arguments.append(try await source.argument(end: "source", purpose: "schema"))
    try await PostgresTool.dump(arguments, on: source, doing: "dumping the source's schema")
  }

  private func encoding() async throws -> String? {
    let session = try await Session.open(source, end: "source", purpose: "schema")
    return try await closing(session) { try await session.serverEncoding() }
  }

  /// Whether there is a dump; an earlier engine's is gone with it.
  var exists: Bool { directory != nil }

  /// The dump; makes a current one when there is none.
  func file() async throws -> URL {
    if directory == nil { try await dump(under: nil) }
    guard let directory else {
      throw MigrationError(.failed, doing: "dumping the source's schema", reason: "the dump is gone")
    }
    return Self.file(in: directory)
  }

  func remove() { directory = nil }

  private static func file(in directory: ScratchDirectory) -> URL {
    directory.url.appending(path: "schema.dump")
  }
}
