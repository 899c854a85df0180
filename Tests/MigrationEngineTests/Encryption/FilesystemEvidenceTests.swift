import Foundation
import Testing

@testable import MigrationEngine

@Suite struct FilesystemEvidenceTests {
  private let machine: FakeMachine

  init() throws {
    machine = try FakeMachine()
    try machine.device("vda", number: "254:0")
    try machine.device("sda", number: "8:0")
    try machine.device(
      "dm-0", number: "253:0", slaves: ["sda"], dmUUID: "CRYPT-LUKS2-0123-secret", dmName: "secret")
    try machine.folder("crypt")
    try machine.mount([(path: "crypt", device: "253:0", type: "xfs", source: "/dev/mapper/secret")])
  }

  private func examine(
    _ dataDirectory: String, tablespaces: [String] = [], with evidence: FilesystemEvidence? = nil
  ) async -> EncryptionEvidence {
    await (evidence ?? machine.evidence()).examine(
      dataDirectory: "\(machine.root)/\(dataDirectory)",
      tablespaceLocations: tablespaces.map { "\(machine.root)/\($0)" })
  }

  @Test func aClusterOnLUKSIsVerified() async throws {
    let cluster = try machine.cluster("crypt/pg")
    let found = await examine("crypt/pg")
    #expect(found.status == .verified)
    #expect(found.provider == .filesystem)
    #expect(found.detail == "data directory \(cluster): LUKS2 on secret")
  }

  @Test func aClusterOnAPlainDiskIsNot() async throws {
    let cluster = try machine.cluster("plain/pg")
    let found = await examine("plain/pg")
    #expect(found.status == .unverified)
    #expect(
      found.detail == "data directory \(cluster): ext4 on /dev/vda, the device vda is not encrypted")
  }

  @Test func aDataDirectoryReachedThroughALinkIsJudgedByItsDestination() async throws {
    try machine.cluster("plain/pg")
    try machine.link("crypt/pg", to: "plain/pg")
    #expect(await examine("crypt/pg").status == .unverified)
  }

  @Test(arguments: ["pg_wal", "pg_tblspc/16400", "base/5", "pg_stat_tmp"])
  func aLinkToAnOpenFolderSpoilsTheProofAndIsNamed(link: String) async throws {
    try machine.cluster("crypt/pg")
    let outside = try machine.folder("plain/outside")
    try? FileManager.default.removeItem(atPath: "\(machine.root)/crypt/pg/\(link)")
    try machine.link("crypt/pg/\(link)", to: "plain/outside")
    let found = await examine("crypt/pg")
    #expect(found.status == .unverified)
    #expect(found.detail.contains(outside))
    #expect(found.detail.contains(link.replacingOccurrences(of: "pg_tblspc/", with: "tablespace ")))
  }

  @Test func everyPlaceIsNamedWithItsCover() async throws {
    let cluster = try machine.cluster("crypt/pg")
    let space = try machine.folder("private/space")
    let second = try machine.folder("crypt/second")
    try machine.link("crypt/pg/pg_tblspc/16400", to: "private/space")
    let found = await examine(
      "crypt/pg", tablespaces: ["private/space", "crypt/second"],
      with: machine.evidence(policies: ["private/space"]))
    #expect(found.status == .verified)
    #expect(
      found.detail == "data directory \(cluster): LUKS2 on secret; tablespace 16400 \(space): fscrypt; "
        + "tablespace \(second): LUKS2 on secret")
  }

  @Test func aTablespaceThatOnlyTheServerKnowsOfCounts() async throws {
    try machine.cluster("crypt/pg")
    let space = try machine.folder("plain/space")
    let found = await examine("crypt/pg", tablespaces: ["plain/space"])
    #expect(found.status == .unverified)
    #expect(found.detail.contains(space))
  }

  @Test func aMountInsideTheDataDirectoryIsJudgedByItself() async throws {
    let cluster = try machine.cluster("private/pg")
    try machine.mount([(path: "private/pg/base", device: "8:0", type: "ext4", source: "/dev/sda")])
    let found = await examine("private/pg", with: machine.evidence(policies: ["private/pg"]))
    #expect(found.status == .unverified)
    #expect(found.detail.hasPrefix("mount in the data directory \(cluster)/base: ext4 on /dev/sda"))
  }

  @Test(arguments: [("fuse.gocryptfs", "gocryptfs"), ("ecryptfs", "eCryptfs")])
  func aStackedFileSystemCovers(type: String, name: String) async throws {
    let cluster = try machine.cluster("stacked/pg")
    try machine.mount([(path: "stacked", device: "0:40", type: type, source: "/cipher")])
    let found = await examine("stacked/pg")
    #expect(found.status == .verified)
    #expect(found.detail == "data directory \(cluster): \(name)")
  }

  @Test(arguments: ["fuse.sshfs", "nfs4", "tmpfs", "overlay", "fuse.gocryptfs-reverse"])
  func otherFileSystemsDoNotWhateverTheirIoctlSays(type: String) async throws {
    try machine.cluster("other/pg")
    try machine.mount([(path: "other", device: "0:40", type: type, source: "x")])
    let found = await examine("other/pg", with: machine.evidence(policies: ["other/pg"]))
    #expect(found.status == .unverified)
    #expect(found.detail.contains(type))
  }

  @Test(
    arguments: [
      ("aes-256-gcm", .verified), ("off", .unverified), ("-", .unverified), (nil, .unverified),
    ] as [(String?, EncryptionEvidence.Status)])
  func zfsIsAsItsDatasetSays(property: String?, status: EncryptionEvidence.Status) async throws {
    try machine.cluster("tank/pg")
    try machine.mount([(path: "tank", device: "0:50", type: "zfs", source: "tank/pg")])
    let answers = property.map { ["tank/pg": $0] } ?? [:]
    let found = await examine("tank/pg", with: machine.evidence(zfs: answers))
    #expect(found.status == status)
    #expect(found.detail.contains("tank/pg"))
  }

  @Test func whatCannotBeReadIsNoEvidence() async throws {
    let missing = await examine("nowhere")
    #expect(missing.status == .unverified)
    #expect(missing.detail.contains("\(machine.root)/nowhere"))

    try machine.cluster("crypt/pg")
    var blind = machine.evidence()
    blind.mountInfo = "\(machine.root)/no-mountinfo"
    #expect(await examine("crypt/pg", with: blind).status == .unverified)
  }
}
