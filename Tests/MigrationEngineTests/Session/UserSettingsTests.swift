import Testing

@testable import MigrationEngine

struct UserSettingsTests {
  private typealias Setting = UserSettings.Setting

  private static let settings = UserSettings(
    everyone: [
      "search_path": #""$user", Public, "B c""#, "timezone": "Asia/Tokyo", "array_nulls": "off",
      "work_mem": "9MB", "role": "other", "session_preload_libraries": "x", "app.tenant": "7",
      "replicate.pass": "secret",
    ],
    roles: ["owner": ["timezone": "Europe/Paris"], "other": ["app.more": "it's"]],
    ownSchemas: ["owner"], mainOwner: "main")

  @Test func `expressions get what they may depend on, and nothing that changes our own values`() {
    #expect(
      Self.settings.settings(of: "main") == [
        Setting("app.tenant", "7"), Setting("search_path", #""public", "B c""#),
        Setting("timezone", "Asia/Tokyo"),
      ])
  }

  @Test func `where nothing of ours travels, the rest comes along`() {
    #expect(
      Self.settings.settings(of: "main", isAlone: true).map(\.name) == [
        "app.tenant", "array_nulls", "search_path", "timezone",
      ])
  }

  @Test func `a role's settings win, and the schema that is called like it is on its path`() {
    #expect(
      Self.settings.settings(of: "owner") == [
        Setting("app.tenant", "7"), Setting("search_path", #""owner", "public", "B c""#),
        Setting("timezone", "Europe/Paris"),
      ])
  }

  @Test(arguments: [false, true])
  func `where names of ours travel, PostgreSQL's own come first`(isAlone: Bool) {
    let settings = UserSettings(
      everyone: ["search_path": "app, pg_catalog"], roles: [:], ownSchemas: [], mainOwner: "main")
    #expect(
      settings.settings(of: "main", isAlone: isAlone).map(\.value) == [
        isAlone ? #""app", "pg_catalog""# : #""pg_catalog", "app""#
      ])
  }

  @Test func `the way to other settings and back`() {
    #expect(Self.settings.detour(to: "main") == nil)
    #expect(Self.settings.detour(to: "nobody") == nil, "the same as all others")
    #expect(
      Self.settings.detour(to: "other")
        == UserSettings.Detour(
          enter: "SELECT pg_catalog.set_config('app.more', 'it''s', true)",
          leave: "SELECT pg_catalog.set_config('app.more', '', true)"))
    #expect(
      Self.settings.detour(to: "owner", isLocal: false)
        == UserSettings.Detour(
          enter: """
            SELECT pg_catalog.set_config('search_path', '"owner", "public", "B c"', false), \
            pg_catalog.set_config('timezone', 'Europe/Paris', false)
            """,
          leave: """
            SELECT pg_catalog.set_config('search_path', '"public", "B c"', false), \
            pg_catalog.set_config('timezone', 'Asia/Tokyo', false)
            """))
  }

  @Test func `no setting is both fixed for our text and passed on beside it`() {
    // Whose text in our values is read the same, whatever they are.
    let harmless: Set = [
      "search_path", "datestyle", "intervalstyle", "timezone", "extra_float_digits", "bytea_output",
      "quote_all_identifiers", "standard_conforming_strings", "transform_null_equals", "xmlbinary",
    ]
    let fixed = Set(Session.fixed.map { $0.name.lowercased() })
    #expect(fixed.intersection(UserSettings.meaningful) == harmless)
    #expect(UserSettings.meaningfulAlone.isSubset(of: fixed))
  }
}
