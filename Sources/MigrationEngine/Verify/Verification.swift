package import LibPQ
package import Logging
import LogicalReplication

/// Compares both ends, each under one snapshot: the caller ensures that the snapshots belong together. Only
/// digests are transferred, and the keys of rows that differ.
package struct Verification: Sendable {
  /// One of the two ends.
  package struct Side: Sendable {
    var connection: ConnectionString
    /// `source` or `target`.
    package var end: String
    /// The name of an exported snapshot, whose holder keeps it until the end; nil: a new one.
    var snapshot: String?

    /// - Parameter snapshot: an exported one that all sessions use; nil: a new one.
    package init(_ connection: ConnectionString, end: String, snapshot: String? = nil) {
      self.connection = connection
      self.end = end
      self.snapshot = snapshot
    }
  }

  /// What to expect of sequences, large objects and unlogged tables, which the stream does not carry.
  package enum Scope: Sendable {
    /// The cutover will copy them, or has done so and one end has been written to since: differences are
    /// reported as expected.
    case streaming
    /// They were copied after a fence, which does not stop sequences, large objects and writes to tables of
    /// extensions: these are copied again.
    case fenced
    /// They were copied, and nobody has written since.
    case settled
  }

  /// What is compared, and at what cost.
  package struct Options: Sendable {
    /// Sessions on each end.
    package var jobs = 4
    /// What may be read from both ends together, in bytes a second; nil: no limit.
    package var maxBytesPerSecond: Int64?
    var scope: Scope
    /// Sequences, large objects, materialized views and unlogged tables as well.
    var comparesObjects = true
    /// Only with the other objects: not where they are excluded.
    var comparesLargeObjects = true
    /// The schemas, as pg_dump writes them, as well.
    package var comparesSchema = true
    /// Tables that are not migrated, including those of extensions.
    package var excluded: Set<RelationName> = []
    /// The direction of changes.
    package var direction = Direction.forward
    /// Objects of the migration itself, on either end: no differences.
    var own = OwnObjects()
    /// Tried in this order; the first that both ends have and compute in the same way is used.
    var digests = DigestFunction.allCases
    /// How many differing rows of each table are named.
    var namedRows = 20
    /// For tables that took longer to read, in seconds, it is only reported that they differ.
    var longestNarrowed = Double.infinity

    /// Everything else as in `verify` without options.
    package init(scope: Scope) { self.scope = scope }
  }

  let source: Side
  let target: Side
  let relations: [Relation]
  let options: Options
  let onProgress: @Sendable (VerificationProgress) -> Void
  let logger: Logger

  /// - Parameters:
  ///   - relations: from the source's catalog; those that hold rows are compared.
  ///   - onProgress: called a few times a second from any thread.
  package init(
    source: Side, target: Side, relations: [Relation], options: Options,
    onProgress: @escaping @Sendable (VerificationProgress) -> Void = { _ in }, logger: Logger
  ) {
    self.source = source
    self.target = target
    self.relations = relations
    self.options = options
    self.onProgress = onProgress
    self.logger = logger
  }
}
