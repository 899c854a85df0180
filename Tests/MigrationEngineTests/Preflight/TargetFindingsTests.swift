import Testing

@testable import LibPQ
@testable import MigrationEngine

/// What the target lacks or has too much of, and the report as a whole.
@Suite struct TargetFindingsTests {
  @Test func `an extension that the target does not offer blocks`() {
    let found = Preflight.Extensions.judge(.init(name: "vector", version: "0.8"), offer: nil)
    #expect(found.map(\.severity) == [.blocker] && found.first?.object == "extension \"vector\"")
  }

  @Test func `an extension's other version is a warning`() {
    var offer = Preflight.Extensions.Offer(defaultVersion: "2.0", versions: ["2.0", "1.0"])
    #expect(Preflight.Extensions.judge(.init(name: "e", version: "1.0"), offer: offer).isEmpty)
    #expect(
      Preflight.Extensions.judge(.init(name: "e", version: "0.9"), offer: offer).map(\.severity) == [.warning]
    )
    offer.installedVersion = "2.0"
    #expect(Preflight.Extensions.judge(.init(name: "e", version: "2.0"), offer: offer).isEmpty)
    #expect(
      Preflight.Extensions.judge(.init(name: "e", version: "1.0"), offer: offer).first?.remedy
        .contains(#"ALTER EXTENSION "e" UPDATE TO '1.0'"#) == true)
  }

  @Test func `an extension that the role may not create is a warning until it is there`() {
    var offer = Preflight.Extensions.Offer(defaultVersion: "1", versions: ["1"], isCreatable: false)
    #expect(
      Preflight.Extensions.judge(.init(name: "e", version: "1"), offer: offer).map(\.check) == [
        "extension_privilege"
      ])
    offer.installedVersion = "1"
    #expect(Preflight.Extensions.judge(.init(name: "e", version: "1"), offer: offer).isEmpty)
  }

  @Test func `scheduled jobs are a warning`() {
    let offer = Preflight.Extensions.Offer(defaultVersion: "1", versions: ["1"])
    #expect(
      Preflight.Extensions.judge(.init(name: "pg_cron", version: "1"), offer: offer).map(\.check) == [
        "scheduled_jobs"
      ])
  }

  @Test func `a role blocks where it is missing or cannot be given objects`() {
    let owner = NamedRole(name: "app", canLogin: true, part: .owner)
    #expect(
      Preflight.Roles.judge(owner, .missing, ownRole: "me")?.remedy
        == #"On the target: CREATE ROLE "app" LOGIN; Or give --create-roles."#)
    #expect(Preflight.Roles.judge(owner, .missing, ownRole: "me")?.severity == .blocker)
    #expect(Preflight.Roles.judge(owner, .missing, ownRole: "me", creation: .possible)?.severity == .note)
    let refused = Preflight.Roles.judge(owner, .missing, ownRole: "me", creation: .refused)
    #expect(refused?.severity == .blocker)
    #expect(refused?.remedy.contains(#"ALTER ROLE "me" CREATEROLE;"#) == true)
    let member = NamedRole(name: "web", canLogin: true, part: .member)
    #expect(Preflight.Roles.judge(member, .missing, ownRole: "me")?.severity == .warning)
    #expect(
      Preflight.Roles.judge(owner, .present(mayOwn: false), ownRole: "me")?.remedy
        == #"On the target: GRANT "app" TO "me";"#)
    #expect(Preflight.Roles.judge(owner, .present(mayOwn: true), ownRole: "me") == nil)
    let grantee = NamedRole(name: "reader")
    #expect(
      Preflight.Roles.judge(grantee, .missing, ownRole: "me")?.remedy
        == #"On the target: CREATE ROLE "reader"; Or give --create-roles."#)
    #expect(Preflight.Roles.judge(grantee, .present(mayOwn: false), ownRole: "me") == nil)
  }

  @Test(
    arguments: [
      ("UTF8", "UTF8", nil), ("SQL_ASCII", "SQL_ASCII", nil), ("LATIN1", "UTF8", .warning),
      ("SQL_ASCII", "UTF8", .blocker), ("UTF8", "LATIN1", .blocker), ("LATIN1", "SQL_ASCII", .blocker),
    ] as [(String, String, Finding.Severity?)])
  func `encodings that lose text block, those that convert it warn`(
    source: String, target: String, severity: Finding.Severity?
  ) {
    let found = Preflight.Encodings.judge(source: .init(encoding: source), target: .init(encoding: target))
    #expect(found.first?.severity == severity)
    #expect(found.count == (severity == nil ? 0 : 1))
  }

  @Test func `another collation is a warning, another version of it a note`() {
    #expect(
      Preflight.Encodings.judge(source: .init(), target: .init(collate: "de_DE.UTF-8")).map(\.severity) == [
        .warning
      ])
    #expect(
      Preflight.Encodings.judge(source: .init(), target: .init(provider: "i")).map(\.check) == ["collation"])
    let stale = Preflight.Encodings.Facts(collationVersion: "2.31", installedVersion: "2.36")
    #expect(Preflight.Encodings.judge(source: .init(), target: stale).map(\.severity) == [.note])
    #expect(Preflight.Encodings.judge(source: stale, target: .init()).isEmpty)
  }

  @Test func `a target that holds anything blocks and names it`() {
    #expect(Preflight.TargetContent.judge(.init()).isEmpty)
    let found = Preflight.TargetContent.judge(
      .init(objects: ["table public.a", "schema b"], hasOwnSchema: true))
    #expect(found.map(\.check) == ["target_not_empty", "target_leftovers"])
    #expect(found.first?.why.contains("2 objects: table public.a, schema b") == true)
  }

  @Test func `a question that the server refuses is a finding`() {
    let check = Preflight.Check("large_objects", on: "source", worst: .warning) { _ in [] }
    let error = PostgresError(
      code: .server, action: "source: examining large objects", message: "permission denied",
      sqlState: .insufficientPrivilege)
    let finding = check.refused(error)
    #expect(finding.severity == .warning && finding.check == "large_objects")
    #expect(finding.why.contains("permission denied") && finding.remedy.contains("superuser"))
  }

  @Test func `blockers come first, then warnings, each in the order of the checks`() {
    func finding(_ severity: Finding.Severity, _ check: String) -> Finding {
      Finding(severity, check: check, object: "", why: "", remedy: "")
    }
    let findings = [
      finding(.note, "a"), finding(.blocker, "b"), finding(.warning, "c"), finding(.blocker, "d"),
    ]
    let ordered = Preflight.inOrder(findings)
    #expect(ordered.map(\.check) == ["b", "d", "c", "a"])
    #expect(PreflightReport(findings: ordered).isBlocked)
    #expect(!PreflightReport(findings: [findings[0], findings[2]]).isBlocked)
  }
}
