import Testing

@testable import MigrationEngine

@Suite struct MountTableTests {
  private let plain = """
    27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
    40 27 253:1 / /data rw,relatime shared:7 master:1 - xfs /dev/mapper/vg-data rw
    41 40 253:2 / /data/wal rw - ext4 /dev/sdb1 rw
    42 27 253:1 /pg /srv/copy rw - xfs /dev/mapper/vg-data rw
    43 27 253:3 / /with\\040space\\134and\\011tab rw - ext4 /dev/sdc rw

    """

  @Test(arguments: [
    ("/etc", "254:0"), ("/data", "253:1"), ("/data/pg/base", "253:1"), ("/data/wal", "253:2"),
    ("/data/wal/x", "253:2"), ("/data/walnut", "253:1"), ("/database", "254:0"), ("/srv/copy/base", "253:1"),
    ("/srv", "254:0"), ("/with space\\and\ttab/pg", "253:3"),
  ])
  func aPathLiesOnTheNearestMountAboveIt(path: String, device: String) {
    #expect(MountTable(parsing: plain).mount(of: path)?.device == device)
  }

  @Test func optionalFieldsDoNotShiftTypeAndSource() {
    let mount = MountTable(parsing: plain).mount(of: "/data")
    #expect(mount?.type == "xfs")
    #expect(mount?.source == "/dev/mapper/vg-data")
  }

  @Test func aMountHiddenByALaterOneAboveItDoesNotCount() {
    let table = MountTable(
      parsing: """
        27 1 254:0 / / rw - ext4 /dev/vda rw
        40 27 253:1 / /srv/pg rw - ext4 /dev/mapper/crypt rw
        41 27 253:2 / /srv rw - ext4 /dev/sdb rw
        """)
    #expect(table.mount(of: "/srv/pg/base")?.device == "253:2")
    #expect(table.mounts(below: "/").map(\.mountPoint) == ["/srv"])
  }

  @Test func ofTwoMountsOnOnePlaceTheUpperOneCounts() {
    let table = MountTable(
      parsing: """
        27 1 254:0 / / rw - ext4 /dev/vda rw
        30 41 253:2 / /srv rw - ext4 /dev/sdb rw
        41 27 253:1 / /srv rw - ext4 /dev/mapper/crypt rw
        """)
    #expect(table.mount(of: "/srv")?.device == "253:2")
  }

  @Test func whatIsMountedInsideAFolderIsFound() {
    #expect(MountTable(parsing: plain).mounts(below: "/data").map(\.mountPoint) == ["/data/wal"])
    #expect(MountTable(parsing: plain).mounts(below: "/data/wal").isEmpty)
  }

  @Test(arguments: [
    "", "\n\n", "27 1 254:0 / / rw", "27 1 254:0 / / rw shared:1 -", "x y z / / rw - ext4 /dev/vda rw",
    "27 1 254:0 / / rw a b c d e", "- - - - - - - - - -", "27 1 254:0 / \\0 rw - ext4 \\04 rw",
    "27 1 254:0 / \\777 rw - ext4 \\ rw",
  ])
  func aBrokenTableKnowsNoMount(text: String) {
    #expect(MountTable(parsing: text).mount(of: "/data") == nil)
  }

  @Test func mountsThatAreEachOthersParentEndTheWalk() {
    let ring = """
      1 1 254:0 / / rw - ext4 /dev/vda rw
      2 1 253:1 / /a rw - ext4 /dev/sdb rw
      2 2 253:2 / /a rw - ext4 /dev/sdc rw
      """
    #expect(MountTable(parsing: ring).mount(of: "/a/b")?.device == "253:1")
  }
}
