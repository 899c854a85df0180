import LogicalReplication
import Testing

@testable import MigrationEngine

/// What became of a table since it was copied, and what that makes of its rows.
struct TableLineageTests {
  private static func column(_ name: String, _ number: Int, type: String = "integer") -> Column {
    var column = Column(
      name: name, type: type, typeOID: type == "integer" ? 23 : 20, wireTypeOID: 23, identity: .none,
      isGenerated: false)
    column.number = number
    column.revision = "100"
    return column
  }

  private static func table(_ oid: UInt32, _ columns: [Column]) -> Relation {
    var table = Relation.fixture("t", [])
    table.oid = oid
    table.columns = columns
    table.fileNode = 7
    return table
  }

  /// The source's columns have other numbers than the target's: one was dropped before the copy.
  private var source = Self.table(1, [column("id", 1), column("v", 3)])
  private var target = Self.table(2, [column("id", 1), column("v", 2)])
  private let lineage = TableLineage(
    source: Self.table(1, [column("id", 1), column("v", 3)]),
    target: Self.table(2, [column("id", 1), column("v", 2)]))

  private func verdict() -> TableLineage.Verdict {
    lineage.verdict(source: source, target: target, targetFile: 7)
  }

  private func difference() throws -> TableDifference {
    guard case .differs(let difference) = verdict() else {
      throw MigrationError(.failed, doing: "testing", reason: "\(verdict())")
    }
    return difference
  }

  private var isCopiedAgain: Bool {
    if case .copyAgain = verdict() { return true }
    return false
  }

  @Test("What is as it was follows, also when its rows moved to another file")
  mutating func follows() {
    #expect(verdict() == .follows(lineage))
    source.fileNode = 8
    guard case .follows(let now) = verdict() else { return #expect(Bool(false), "\(verdict())") }
    #expect(now.fileNode == 8)
  }

  @Test("A column that was changed while the rows were written anew is copied again, with the type it had")
  mutating func rewritten() {
    source.columns[1].revision = "101"
    #expect(!isCopiedAgain, "a change of its definition alone leaves the rows")
    source.fileNode = 8
    #expect(isCopiedAgain)
  }

  @Test("A column that was renamed on the source is known by its number")
  mutating func renamed() throws {
    source.columns[1].name = "w"
    source.columns[1].revision = "101"
    #expect(try difference().remedy == "ALTER TABLE \"public\".\"t\" RENAME COLUMN \"v\" TO \"w\";")
    #expect(try !difference().isToBeCopied)
    target.columns[1].name = "w"
    #expect(!isCopiedAgain)
    // Dropped and added instead: the old values are lost.
    target.columns[1].number = 3
    #expect(isCopiedAgain)
  }

  @Test("Two columns that exchanged their names are renamed by way of a third")
  mutating func exchanged() throws {
    source.columns[0].name = "v"
    source.columns[1].name = "id"
    let remedy = try difference().remedy
    #expect(remedy.contains("RENAME COLUMN \"id\" TO \"being_renamed_1\""), "\(remedy)")
  }

  @Test("A column that was dropped and made anew under its name is no old one")
  mutating func droppedAndAdded() throws {
    source.columns[1] = Self.column("v", 4)
    let difference = try difference()
    #expect(difference.remedy.contains("DROP COLUMN \"v\"; ALTER TABLE \"public\".\"t\" ADD COLUMN \"v\""))
    target.columns[1] = Self.column("v", 3)
    #expect(!isCopiedAgain, "both have NULL in the rows that were there")
  }

  @Test("What old rows have in a new column comes with the advice, and is looked at when it was followed")
  mutating func added() throws {
    var new = Self.column("c", 4)
    new.expression = "8"
    new.missingValue = "7"
    new.isNotNull = true
    source.columns.append(new)
    #expect(
      try difference().remedy
        == "ALTER TABLE \"public\".\"t\" ADD COLUMN \"c\" integer DEFAULT '7' NOT NULL; "
        + "ALTER TABLE \"public\".\"t\" ALTER COLUMN \"c\" SET DEFAULT 8;")
    var theirs = Self.column("c", 3)
    target.columns.append(theirs)
    #expect(isCopiedAgain, "added without it, old rows have NULL")
    theirs.missingValue = "7"
    target.columns[2] = theirs
    #expect(!isCopiedAgain)
    source.fileNode = 8
    #expect(isCopiedAgain, "a rewritten table does not say what it has")
  }

  @Test("A target that was written anew may have anything in a new column")
  mutating func addedWithVolatileDefault() {
    source.columns.append(Self.column("c", 4))
    target.columns.append(Self.column("c", 3))
    #expect(!isCopiedAgain)
    target.fileNode = 9
    #expect(isCopiedAgain)
  }

  @Test("Another type is advised with a conversion where the rows come again, without one where they stay")
  mutating func retyped() throws {
    source.columns[1].type = "bigint"
    source.columns[1].typeOID = 20
    source.columns[1].revision = "101"
    #expect(
      try difference().remedy == "ALTER TABLE \"public\".\"t\" ALTER COLUMN \"v\" TYPE bigint;")
    source.fileNode = 8
    #expect(try difference().isToBeCopied)
    #expect(try difference().remedy.contains("TYPE bigint USING \"v\"::pg_catalog.text::bigint;"))
  }

  @Test("A serial column is advised with its sequence")
  mutating func serial() throws {
    var new = Self.column("n", 4)
    new.expression = "nextval('public.t_n_seq'::regclass)"
    new.isNotNull = true
    new.revision = "101"
    new.sequence = OwnedSequence(
      name: RelationName(schema: "public", name: "t_n_seq"), options: "AS integer")
    source.columns.append(new)
    source.fileNode = 8
    let difference = try difference()
    #expect(difference.isToBeCopied)
    #expect(difference.remedy.hasPrefix("CREATE SEQUENCE \"public\".\"t_n_seq\" AS integer; ALTER TABLE"))
    #expect(difference.remedy.hasSuffix("OWNED BY \"public\".\"t\".\"n\";"))
  }

  @Test("A table that is logged on the source only, renamed, or another one on the target, is distinguished")
  mutating func tables() throws {
    target.isUnlogged = true
    #expect(try difference().remedy == "ALTER TABLE \"public\".\"t\" SET LOGGED;")
    target.isUnlogged = false
    source.name = RelationName(schema: "other", name: "u")
    #expect(
      try difference().remedy
        == "ALTER TABLE \"public\".\"t\" SET SCHEMA \"other\"; ALTER TABLE \"other\".\"t\" RENAME TO \"u\";")
    target.name = source.name
    target.oid = 3
    #expect(isCopiedAgain)
  }

  @Test(
    "A column holds what another has under a modifier that changes no value",
    arguments: [
      // varchar(10), varchar(20), varchar
      (1043, 14, 24, true), (1043, 24, 14, false), (1043, 14, -1, true), (1043, -1, 14, false),
      // timestamp(0), timestamp(6)
      (1114, 0, 6, true), (1114, 6, 0, false), (1184, -1, 0, false),
      // numeric(10,2), numeric(12,4): what is written as 1.50 would be 1.5000
      (1700, 655366, 786440, false), (1700, 655366, -1, true),
      // char(3), char(5)
      (1042, 7, 9, false), (1042, 7, 7, true),
      // bit(3), bit(5); varbit
      (1560, 3, 5, false), (1562, 3, 5, true),
    ] as [(UInt32, Int32, Int32, Bool)])
  func modifiers(_ type: UInt32, _ source: Int32, _ target: Int32, _ holds: Bool) {
    var column = Column(
      name: "v", type: "", typeOID: type, wireTypeOID: type, identity: .none, isGenerated: false)
    column.modifier = target
    #expect(column.holds(typeOID: type, typeName: nil, modifier: source) == holds)
    #expect(!column.holds(typeOID: 25, typeName: nil, modifier: source), "another type")
  }
}
