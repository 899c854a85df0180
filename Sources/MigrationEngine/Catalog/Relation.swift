import LogicalReplication

/// A column of a migrated relation, as in `pg_attribute` (manual, section 53.7).
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
  /// The type of its binary form: a domain has its base type's, and an enum label is text.
  var wireTypeOID: UInt32
  var identity: Identity
  /// Computed by the server from other columns: neither copied nor streamed.
  var isGenerated: Bool
  /// Its type is a domain, which may refuse NULL.
  var isDomain = false
  /// `attnum`: identifies the column, whatever its name.
  var number = 0
  /// `typname`: identifies the type on both ends.
  var typeName = ""
  /// `atttypmod`; -1 for none.
  var modifier: Int32 = -1
  /// Where it is not the type's default: quoted for SQL.
  var collation: String?
  var isNotNull = false
  /// Generated when it is read, not when it is written (from 18 on).
  var isVirtual = false
  /// The expression of its default, or of its generation.
  var expression: String?
  /// The value of rows older than the column: `attmissingval`. Nil when they have NULL, or were rewritten
  /// since.
  var missingValue: String?
  /// The sequence owned by it, as created by `serial`.
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
  /// `pg_class.relkind` of relations with rows.
  package enum Kind: String, Sendable {
    /// Holds rows itself.
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
  /// Whether UPDATE and DELETE can identify their row once the table is published: a primary key that is not
  /// deferrable, a chosen index, or FULL. Without it the *source* would refuse them.
  var hasUsableIdentity: Bool
  /// Heap and TOAST, without indexes.
  package var bytes: Int64
  /// Blocks of the heap alone, where `ctid` points.
  var heapBlocks: Int64 = 0
  /// Most of it is stored outside the rows, as TOAST.
  var isMostlyTOAST = false
  var estimatedRows: Int64
  /// In order of their numbers, without dropped ones.
  package var columns: [Column]
  /// The composite type of its rows.
  var rowTypeOID: UInt32 = 0
  /// Its file: changes when all rows are rewritten, as by TRUNCATE, CLUSTER and many an ALTER TABLE.
  var fileNode: UInt32 = 0
  var owner = ""

  var copiedColumns: [Column] { columns.filter { !$0.isGenerated } }
}
