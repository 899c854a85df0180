import Testing

@testable import MigrationEngine

struct DecodingSettingsTests {
  @Test func `a server that can decode needs nothing`() {
    #expect(DecodingSettings().needs == [])
    #expect(DecodingSettings(maxSlots: 2, usedSlots: 1, isResuming: true).needs == [])
  }

  @Test func `what it needs is what check finds`() {
    let settings = DecodingSettings(
      walLevel: "replica", maxSlots: 2, usedSlots: 1, maxWalSenders: 3, usedWalSenders: 2)
    #expect(
      settings.needs == [
        DecodingSettings.Need(setting: "wal_level", now: "replica", needed: "logical"),
        DecodingSettings.Need(setting: "max_replication_slots", now: "2", needed: "11"),
        DecodingSettings.Need(setting: "max_wal_senders", now: "3", needed: "12"),
      ])
    let found = Preflight.ReplicationCapacity.judge(
      Preflight.ReplicationCapacity.Facts(
        maxSlots: 2, usedSlots: 1, maxWalSenders: 3, usedWalSenders: 2))
    #expect(found.map(\.check) == settings.needs.dropFirst().map(\.setting))
    for (finding, need) in zip(found, settings.needs.dropFirst()) {
      #expect(finding.remedy.contains("ALTER SYSTEM SET \(need.setting) = \(need.needed);"))
    }
  }

  @Test func `a need is met by its word, or by its number and more`() {
    let level = DecodingSettings.Need(setting: "wal_level", now: "replica", needed: "logical")
    #expect(level.isMet(by: "logical") && !level.isMet(by: "replica"))
    let slots = DecodingSettings.Need(setting: "max_replication_slots", now: "0", needed: "10")
    #expect(slots.isMet(by: "10") && slots.isMet(by: "40") && !slots.isMet(by: "9") && !slots.isMet(by: "x"))
  }
}

struct ServerSettingsTests {
  private let need = DecodingSettings.Need(setting: "wal_level", now: "replica", needed: "logical")

  @Test func `what the files say already is not stored again`() {
    var settings = ServerSettings(
      entries: ["wal_level": ServerSettings.Entry(mayAlter: true, inFiles: "logical")], seesFiles: true)
    #expect(settings.isStored(need) && settings.changes(for: [need]) == [])
    settings.entries["wal_level"]?.inFiles = "replica"
    settings.entries["wal_level"]?.own = "replica"
    let changes = settings.changes(for: [need])
    #expect(changes.map(\.statement) == ["ALTER SYSTEM SET wal_level = 'logical';"])
    #expect(changes.map(\.undo) == ["ALTER SYSTEM SET wal_level = 'replica';"])
    #expect(changes.map(\.line) == ["wal_level = 'logical'"])
  }

  @Test func `where the files are not seen, a pending change is taken for the one that is needed`() {
    var settings = ServerSettings(entries: ["wal_level": ServerSettings.Entry(isPending: true)])
    #expect(settings.isStored(need))
    settings.entries["wal_level"] = ServerSettings.Entry(isFromFile: true, mayAlter: true)
    #expect(settings.changes(for: [need]).map(\.undo) == ["ALTER SYSTEM SET wal_level = 'replica';"])
    settings.entries["wal_level"] = ServerSettings.Entry(mayAlter: true)
    #expect(settings.changes(for: [need]).map(\.undo) == ["ALTER SYSTEM RESET wal_level;"])
  }
}
