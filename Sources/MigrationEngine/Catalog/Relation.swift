import LogicalReplication

/// A column of a relation that is migrated, as `pg_attribute` has it (manual, section 53.7).
package struct Column: Sendable, Equatable {
  enum Identity: String, Sendable {
    case none = ""
    case always = "a"
    case byDefault = "d"
  }

  /// Without quotes.
  package var name: String
  /// `format_type`: the type with its modifier, quoted for SQL.
  var type: String
  var typeOID: UInt32
  /// The type that its binary form is of: a domain's is its base type's, and a label of an enum is a text.
  var wireTypeOID: UInt32
  var identity: Identity
  /// Computed by the server from other columns: neither copied nor streamed.
  var isGenerated: Bool
  /// Its type is a domain, which may refuse NULL.
  var isDomain = false
  /// `attnum`: what a column is known by, whatever its name.
  var number = 0
  /// `typname`: what a type is known by on both ends.
  var typeName = ""
  /// `atttypmod`; -1 for none.
  var modifier: Int32 = -1
  /// Where it is not the type's own: quoted for SQL.
  var collation: String?
  var isNotNull = false
  /// Generated when it is read, not when it is written (from 18 on).
  var isVirtual = false
  /// The expression of its default, or of its generation.
  var expression: String?
  /// What rows have that are older than the column: `attmissingval`. Nil when they have NULL, or were written
  /// anew since.
  var missingValue: String?
  /// The sequence that goes with it, as `serial` makes one.
  var sequence: OwnedSequence?
  /// The transaction that last changed the column's definition.
  var revision = ""
}

/// A sequence that is dropped with its column.
struct OwnedSequence: Sendable, Equatable {
  var name: RelationName
  /// What follows its name in CREATE SEQUENCE.
  var options: String
}

/// A table or a partitioned table of the user's.
package struct Relation: Sendable {
  /// `pg_class.relkind` of what holds rows.
  package enum Kind: String, Sendable {
    /// With rows of its own.
    case table = "r"
    /// Its rows are those of its partitions.
    case partitioned = "p"
  }

  var oid: UInt32
  /// With its schema.
  package var name: RelationName
  /// What kind of relation it is.
  package var kind: Kind
  var isPartition: Bool
  var isUnlogged: Bool
  var replicaIdentity: ReplicaIdentity
  /// Whether UPDATE and DELETE can name their row once the table is published: a primary key that is not
  /// deferrable, a chosen index, or FULL. Without it the *source* would refuse them.
  var hasUsableIdentity: Bool
  /// Heap and TOAST, without indexes.
  package var bytes: Int64
  /// Blocks of the heap alone, where `ctid` points.
  var heapBlocks: Int64 = 0
  /// Most of it is stored outside the rows, as TOAST.
  var isMostlyTOAST = false
  var estimatedRows: Int64
  /// In the order of their numbers, without those that were dropped.
  package var columns: [Column]
  /// The composite type of its rows.
  var rowTypeOID: UInt32 = 0
  /// Its file: another one when all rows were written anew, as by TRUNCATE, CLUSTER and many an ALTER TABLE.
  var fileNode: UInt32 = 0
  var owner = ""

  var copiedColumns: [Column] { columns.filter { !$0.isGenerated } }
}
