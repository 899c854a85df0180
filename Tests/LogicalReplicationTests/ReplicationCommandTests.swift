import Testing

@testable import LogicalReplication

struct ReplicationCommandTests {
  @Test func `creates a slot in the spelling every version takes`() throws {
    let slot = try #require(SlotName("replicate_1"))
    #expect(
      ReplicationCommand.createSlot(slot)
        == #"CREATE_REPLICATION_SLOT "replicate_1" LOGICAL pgoutput EXPORT_SNAPSHOT"#)
    #expect(
      ReplicationCommand.createSlot(slot, temporary: true)
        == #"CREATE_REPLICATION_SLOT "replicate_1" TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT"#)
    #expect(ReplicationCommand.dropSlot(slot) == #"DROP_REPLICATION_SLOT "replicate_1""#)
    #expect(ReplicationCommand.dropSlot(slot, wait: true) == #"DROP_REPLICATION_SLOT "replicate_1" WAIT"#)
  }

  @Test func `sends no option that was not asked for`() throws {
    let slot = try #require(SlotName("s"))
    let options = PgOutputOptions(version: .one, publications: ["pub"])
    #expect(
      ReplicationCommand.start(slot: slot, at: LSN(rawValue: 0x16_B374_D848), options: options)
        == #"START_REPLICATION SLOT "s" LOGICAL 16/B374D848 (proto_version '1', publication_names '"pub"')"#)
  }

  @Test func `quotes publications twice and sends every option asked for`() throws {
    let slot = try #require(SlotName("s"))
    var options = PgOutputOptions(version: .four, publications: [#"it's "odd"\"#, "b"])
    options.messages = true
    options.binary = true
    options.streaming = .parallel
    options.onlyLocalOrigin = true
    let expected =
      #"START_REPLICATION SLOT "s" LOGICAL 0/0 (proto_version '4', "#
      + #"publication_names '"it''s ""odd""\","b"', "#
      + "messages 'true', binary 'true', streaming 'parallel', origin 'none')"
    #expect(ReplicationCommand.start(slot: slot, at: .zero, options: options) == expected)
  }

  @Test(arguments: [
    "", "Upper", "has space", "quo\"te", "é", "a-b", "a\0", String(repeating: "a", count: 64),
  ])
  func `refuses a slot name the server would refuse`(name: String) {
    #expect(SlotName(name) == nil)
  }

  @Test func `takes a slot name of 63 bytes`() {
    #expect(SlotName(String(repeating: "z", count: 63)) != nil)
    #expect(SlotName("az_09")?.description == "az_09")
  }

  @Test func `quotes identifiers`() {
    #expect(quotedIdentifier("plain") == "\"plain\"")
    #expect(quotedIdentifier("a\"b\"") == "\"a\"\"b\"\"\"")
    #expect(quotedIdentifier(schema: "My", name: "t\"") == "\"My\".\"t\"\"\"")
  }

  @Test func `quotes a quote that a combining mark follows`() {
    #expect(quotedIdentifier("a\"\u{301}").unicodeScalars.count(where: { $0 == "\"" }) == 4)
    #expect(quotedLiteral("'\u{301}").unicodeScalars.count(where: { $0 == "'" }) == 4)
  }

  @Test func `quotes literals, with E when there is a backslash`() {
    #expect(quotedLiteral("it's") == "'it''s'")
    #expect(quotedLiteral(#"a\'b"#) == #" E'a\\''b'"#)
    #expect(quotedLiteral("") == "''")
  }
}
