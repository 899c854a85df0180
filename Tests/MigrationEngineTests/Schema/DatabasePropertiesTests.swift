import Testing

@testable import MigrationEngine

@Suite struct DatabasePropertiesTests {
  @Test func settingsAreNamedWithoutTheirValues() {
    var properties = DatabaseProperties()
    properties.settings = [
      .init(role: nil, name: "work_mem", value: "7MB"),
      .init(role: "o'k \"x\"", name: "app.jwt", value: "it's"),
    ]
    let steps = properties.steps(on: "A db", isOwner: true)
    #expect(
      steps.map(\.name) == [
        #"ALTER DATABASE "A db" SET "work_mem""#,
        #"ALTER ROLE "o'k ""x""" IN DATABASE "A db" SET "app"."jwt""#,
      ])
    #expect(
      steps.map(\.sql) == [
        #"ALTER DATABASE "A db" SET "work_mem" TO '7MB'"#,
        #"ALTER ROLE "o'k ""x""" IN DATABASE "A db" SET "app"."jwt" TO 'it''s'"#,
      ])
  }

  @Test func whatWouldLockEverybodyOutIsTriedFirst() {
    var properties = DatabaseProperties()
    properties.settings = ["work_mem", "Session_Preload_Libraries", "local_preload_libraries"].map {
      .init(role: nil, name: $0, value: "x")
    }
    #expect(
      properties.steps(on: "d", isOwner: true).map(\.trial) == [
        nil, Session.Setting("Session_Preload_Libraries", "x"),
        Session.Setting("local_preload_libraries", "x"),
      ])
  }

  @Test(arguments: [
    ("public, Owned", "'public', 'owned'"), ("public, owned", "'public', 'owned'"),
    (#""$user", "a""b,c" ,x"#, #"'$user', 'a"b,c', 'x'"#),
    (#""""#, "''"), ("", "''"), ("a,", "'a'"), (#""unclosed"#, "'unclosed'"),
  ]) func aListIsTakenApart(value: String, literals: String) {
    #expect(SettingText.literal(value, of: "search_path") == literals)
  }

  @Test func aListOfAnotherParameterStaysWhole() {
    #expect(SettingText.literal("SQL, DMY", of: "DateStyle") == "'SQL, DMY'")
  }

  @Test func privilegesAreGivenAtOnceAndOnlyByTheOwner() {
    var properties = DatabaseProperties(comment: "c")
    properties.grants = [
      .init(role: nil, privilege: "CONNECT", isGrantable: false),
      .init(role: "r", privilege: "CREATE", isGrantable: true),
    ]
    #expect(properties.steps(on: "d", isOwner: false).map(\.name) == [#"COMMENT ON DATABASE "d""#])
    #expect(
      properties.steps(on: "d", isOwner: true).last?.sql == """
        REVOKE ALL ON DATABASE "d" FROM PUBLIC; GRANT CONNECT ON DATABASE "d" TO PUBLIC; \
        GRANT CREATE ON DATABASE "d" TO "r" WITH GRANT OPTION
        """)
  }
}
