package import LogicalReplication

package struct Column: Sendable, Equatable {
  package enum Identity: String, Sendable {
    case none = ""
    case always = "a"
    case byDefault = "d"
  }

  package var name: String
  /// `format_type`: the type with its modifier, quoted for SQL.
  package var type: String
  package var typeOID: UInt32
  /// The type that its binary form is of: a domain's is its base type's, and a label of an enum is a text.
  package var wireTypeOID: UInt32
  package var identity: Identity
  /// Computed by the server from other columns: neither copied nor streamed.
  package var isGenerated: Bool
  /// Its type is a domain, which may refuse NULL.
  package var isDomain = false
  /// `attnum`: what a column is known by, whatever its name.
  package var number = 0
  /// `typname`: what a type is known by on both ends.
  package var typeName = ""
  /// `atttypmod`; -1 for none.
  package var modifier: Int32 = -1
  /// Where it is not the type's own: quoted for SQL.
  package var collation: String?
  package var isNotNull = false
  /// Generated when it is read, not when it is written (from 18 on).
  package var isVirtual = false
  /// The expression of its default, or of its generation.
  package var expression: String?
  /// What rows have that are older than the column: `attmissingval`. Nil when they have NULL, or were written
  /// anew since.
  package var missingValue: String?
  /// The sequence that goes with it, as `serial` makes one.
  package var sequence: OwnedSequence?
  /// The transaction that last changed the column's definition.
  package var revision = ""
}

/// A sequence that is dropped with its column.
package struct OwnedSequence: Sendable, Equatable {
  package var name: RelationName
  /// What follows its name in CREATE SEQUENCE.
  package var options: String
}

/// A table or a partitioned table of the user's.
package struct Relation: Sendable {
  package enum Kind: String, Sendable {
    case table = "r"
    case partitioned = "p"
  }

  package var oid: UInt32
  package var name: RelationName
  package var kind: Kind
  package var isPartition: Bool
  package var isUnlogged: Bool
  package var replicaIdentity: ReplicaIdentity
  /// Whether UPDATE and DELETE can name their row once the table is published: a primary key that is not
  /// deferrable, a chosen index, or FULL. Without it the *source* would refuse them.
  package var hasUsableIdentity: Bool
  /// Heap and TOAST, without indexes.
  package var bytes: Int64
  /// Blocks of the heap alone, where `ctid` points.
  package var heapBlocks: Int64 = 0
  /// Most of it is stored outside the rows, as TOAST.
  package var isMostlyTOAST = false
  package var estimatedRows: Int64
  package var columns: [Column]
  /// The composite type of its rows.
  package var rowTypeOID: UInt32 = 0
  /// Its file: another one when all rows were written anew, as by TRUNCATE, CLUSTER and many an ALTER TABLE.
  package var fileNode: UInt32 = 0
  package var owner = ""

  package var copiedColumns: [Column] { columns.filter { !$0.isGenerated } }
}
