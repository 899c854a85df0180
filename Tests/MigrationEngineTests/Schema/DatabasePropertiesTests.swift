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

  private func properties(_ change: (inout DatabaseProperties) -> Void) -> DatabaseProperties {
    var properties = DatabaseProperties(comment: "c")
    (properties.name, properties.owner, properties.role) = ("d", "o", "mover")
    properties.allGrants = [.init(role: nil, privilege: "CONNECT", isGrantable: false)]
    properties.settings = [.init(role: nil, name: "work_mem", value: "7MB")]
    change(&properties)
    return properties
  }

  private func lines(
    _ direction: Direction = .forward, source: (inout DatabaseProperties) -> Void = { _ in },
    target: (inout DatabaseProperties) -> Void = { _ in }
  ) -> [String] {
    DatabaseProperties.differences(
      source: properties(source), target: properties(target), direction: direction
    ).map { difference in
      let words = difference.isExpected ? "(\(difference.words))" : difference.words
      return difference.remedy.map { "\(words): on the \($0.end) \($0.sql)" } ?? words
    }
  }

  @Test func differencesAreNamedWithoutValues() {
    #expect(lines() == [])
    #expect(lines(target: { $0.name = "another" }) == [])
    #expect(
      lines(target: { $0.settings[0].value = "8MB" }) == [
        "setting work_mem of the database has another value on the target"
      ])
    #expect(
      lines(source: { $0.settings.append(.init(role: "r", name: "app.jwt", value: "s3cret")) }) == [
        "setting app.jwt of role r in the database is missing on the target"
      ])
    #expect(
      lines(target: {
        $0.comment = nil
        $0.owner = "p"
        $0.connectionLimit = 5
      }) == [
        "comment of the database is missing on the target",
        "connection limit of the database is -1 on the source and 5 on the target: on the target "
          + "ALTER DATABASE \"d\" CONNECTION LIMIT -1;",
        "(owner of the database is o on the source and p on the target)",
      ])
  }

  @Test func whatTheEndThatOpensHasForItselfIsToBeExpectedUnlessItLetsSomebodyIn() {
    let setting = { (properties: inout DatabaseProperties) in
      properties.settings.append(.init(role: nil, name: "jit", value: "off"))
    }
    #expect(lines(target: setting) == ["(setting jit of the database is only on the target)"])
    #expect(
      lines(source: { $0.comment = nil }) == ["(comment of the database is only on the target)"],
      "a server's own database has one")
    #expect(
      lines(source: { $0.comment = "d" }) == ["comment of the database is another on the target"])
    #expect(lines(.back, target: setting) == ["setting jit of the database is missing on the source"])
    let grant = { (properties: inout DatabaseProperties) in
      properties.allGrants.append(.init(role: "R", privilege: "CREATE", isGrantable: true))
    }
    let name = "privilege CREATE WITH GRANT OPTION of \"R\" on the database"
    #expect(
      lines(source: grant) == [
        "\(name) is missing on the target: on the target GRANT CREATE ON DATABASE \"d\" TO \"R\" WITH GRANT "
          + "OPTION;"
      ])
    #expect(
      lines(target: grant) == [
        "\(name) is only on the target: on the target REVOKE CREATE ON DATABASE \"d\" FROM \"R\";"
      ])
  }

  @Test func whatTheMigrationItselfSetOrNeedsIsNoDifference() {
    for direction in [Direction.forward, .back] {
      let setting = DatabaseProperties.Setting(role: nil, name: "default_transaction_read_only", value: "on")
      #expect(lines(direction, source: { $0.settings.append(setting) }) == [])
      let needed = DatabaseProperties.Grant(role: "mover", privilege: "CREATE", isGrantable: false)
      #expect(lines(direction, source: { $0.allGrants.append(needed) }) == [])
      #expect(lines(direction, target: { $0.allGrants.append(needed) }) == [])
    }
    // Who owns one of the databases may do everything there.
    let grant = DatabaseProperties.Grant(role: "p", privilege: "CREATE", isGrantable: false)
    #expect(lines(source: { $0.allGrants.append(grant) }, target: { $0.owner = "p" }).count == 1)
  }
}
