package import LibPQ
package import Logging
import LogicalReplication

/// Compares both ends, each under one snapshot: whoever made the snapshots vouches for it that they belong
/// together. Only digests travel, and the keys of rows that differ.
package struct Verification: Sendable {
  /// One of the two ends.
  package struct Side: Sendable {
    var connection: ConnectionString
    /// `source` or `target`.
    package var end: String
    /// The name of an exported snapshot, whose holder stays as it is until all is done; nil: one of its own.
    var snapshot: String?

    /// - Parameter snapshot: an exported one that all sessions take over; nil: each its own.
    package init(_ connection: ConnectionString, end: String, snapshot: String? = nil) {
      self.connection = connection
      self.end = end
      self.snapshot = snapshot
    }
  }

  /// What may be expected of what no stream carries: sequences, large objects, unlogged tables.
  package enum Scope: Sendable {
    /// The cutover is to carry it over, or has done so and one end has been written to since: it is reported,
    /// and is no difference.
    case streaming
    /// It has been carried over after a fence, which stops neither sequences, large objects nor writes to
    /// tables of extensions: these are brought over again.
    case fenced
    /// It has been carried over, and nobody has written since.
    case settled
  }

  /// What is compared, and at which cost.
  package struct Options: Sendable {
    /// Sessions on each end.
    package var jobs = 4
    /// What is read of both ends together, in bytes a second; nil: as much as it can.
    package var maxBytesPerSecond: Int64?
    var scope: Scope
    /// Sequences, large objects, materialized views and unlogged tables as well.
    var comparesObjects = true
    /// Only with the other objects: not where they were left behind.
    var comparesLargeObjects = true
    /// What pg_dump says of both ends as well.
    package var comparesSchema = true
    /// Tables that were left behind, those of extensions among them.
    package var excluded: Set<RelationName> = []
    /// Which way changes go.
    package var direction = Direction.forward
    /// Of the migration itself, on either end: no difference.
    var own = OwnObjects()
    /// Tried in this order; the first that both ends have, and compute alike, is used.
    var digests = DigestFunction.allCases
    /// Of each table so many rows that differ are named.
    var namedRows = 20
    /// Of tables that took longer to read, in seconds, it is only told that they differ.
    var longestNarrowed = Double.infinity

    /// Everything else as `verify` has it without options.
    package init(scope: Scope) { self.scope = scope }
  }

  let source: Side
  let target: Side
  let relations: [Relation]
  let options: Options
  let onProgress: @Sendable (VerificationProgress) -> Void
  let logger: Logger

  /// - Parameters:
  ///   - relations: of the source's catalog; those that hold rows are compared.
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
