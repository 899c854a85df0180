import Testing

@testable import MigrationEngine

@Suite struct BlockDeviceTests {
  private let machine: FakeMachine
  private var sysfs: BlockDevice { BlockDevice(sysRoot: "\(machine.root)/sys") }

  init() throws {
    machine = try FakeMachine()
    try machine.device("sda", number: "8:0")
    try machine.device("sdb", number: "8:16")
    try machine.device(
      "dm-0", number: "253:0", slaves: ["sda"], dmUUID: "CRYPT-LUKS2-0123-secret", dmName: "secret")
    try machine.device("dm-1", number: "253:1", slaves: ["sdb"], dmUUID: "CRYPT-PLAIN-other", dmName: "other")
  }

  @Test func aPlainDiskIsOpen() {
    #expect(sysfs.cover(number: "8:0") == .open("the device sda is not encrypted"))
  }

  @Test func dmCryptIsNamed() {
    #expect(sysfs.cover(number: "253:0") == .closed("LUKS2 on secret"))
    #expect(sysfs.cover(number: "253:1") == .closed("PLAIN on other"))
  }

  @Test func aLogicalVolumeOnDmCryptIsCovered() throws {
    try machine.device("dm-2", number: "253:2", slaves: ["dm-0"], dmUUID: "LVM-abc", dmName: "vg-pg")
    #expect(sysfs.cover(number: "253:2") == .closed("LUKS2 on secret"))
  }

  @Test func aVolumeSpreadOverAnOpenDiskIsOpen() throws {
    try machine.device("dm-3", number: "253:3", slaves: ["dm-0", "sdb"], dmUUID: "LVM-abc", dmName: "vg-pg")
    #expect(sysfs.cover(number: "253:3") == .open("the device sdb is not encrypted"))
  }

  @Test func aMirrorOfTwoEncryptedHalvesNamesBoth() throws {
    try machine.device("md0", number: "9:0", slaves: ["dm-0", "dm-1"])
    #expect(sysfs.cover(number: "9:0") == .closed("LUKS2 on secret and PLAIN on other"))
  }

  @Test func aPartitionIsAsItsDisk() throws {
    try machine.device("md0", number: "9:0", slaves: ["dm-0"])
    try machine.partition("md0p1", of: "md0", number: "259:0")
    try machine.partition("sda1", of: "sda", number: "8:1")
    #expect(sysfs.cover(number: "259:0") == .closed("LUKS2 on secret"))
    #expect(sysfs.cover(number: "8:1") == .open("the device sda is not encrypted"))
  }

  @Test(arguments: [
    "CRYPT-VERITY-0123-v", "CRYPT-INTEGRITY-i", "CRYPT-SUBDEV-s", "LVM-CRYPT-LUKS2-x", "CRYPT-",
  ])
  func whatOnlyChecksDataIsNotTakenForEncryption(uuid: String) throws {
    try machine.device("dm-4", number: "253:4", slaves: ["sda"], dmUUID: uuid, dmName: "checked")
    #expect(sysfs.cover(number: "253:4") == .open("the device sda is not encrypted"))
  }

  @Test func aRingOfDevicesEnds() throws {
    try machine.device("dm-5", number: "253:5", slaves: ["dm-6"])
    try machine.device("dm-6", number: "253:6", slaves: ["dm-5"])
    guard case .open = sysfs.cover(number: "253:5") else {
      Issue.record("a ring was taken for encrypted")
      return
    }
  }

  @Test(arguments: ["0:25", "99:99", "../../../etc", ""])
  func anUnknownDeviceIsOpen(number: String) {
    guard case .open = sysfs.cover(number: number) else {
      Issue.record("the unknown device \(number) was taken for encrypted")
      return
    }
  }
}
