import Foundation

@testable import MigrationEngine

/// A small `/sys`, `/proc` and disk of our own making, in a temporary folder that goes with it.
final class FakeMachine: Sendable {
  let root: String

  init() throws {
    let made = FileManager.default.temporaryDirectory.appending(path: "fake-machine-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: made, withIntermediateDirectories: true)
    root = try BoundedFile.resolved(made.path)
  }

  deinit {
    try? FileManager.default.removeItem(atPath: root)
  }

  @discardableResult
  func folder(_ path: String) throws -> String {
    let made = "\(root)/\(path)"
    try FileManager.default.createDirectory(atPath: made, withIntermediateDirectories: true)
    return made
  }

  func file(_ path: String, _ bytes: [UInt8]) throws {
    try folder((path as NSString).deletingLastPathComponent)
    try Data(bytes).write(to: URL(filePath: "\(root)/\(path)"))
  }

  func file(_ path: String, _ text: String) throws {
    try file(path, Array(text.utf8))
  }

  /// - Parameter target: relative to the machine's root
  func link(_ path: String, to target: String) throws {
    try folder((path as NSString).deletingLastPathComponent)
    try FileManager.default.createSymbolicLink(
      atPath: "\(root)/\(path)", withDestinationPath: "\(root)/\(target)")
  }

  /// A block device in sysfs: its folder, what is under it, and the attributes of device-mapper.
  func device(
    _ name: String, number: String, slaves: [String] = [], dmUUID: String? = nil, dmName: String? = nil
  ) throws {
    let folder = "sys/devices/virtual/block/\(name)"
    try self.folder("\(folder)/slaves")
    try link("sys/dev/block/\(number)", to: folder)
    for slave in slaves { try link("\(folder)/slaves/\(slave)", to: "sys/devices/virtual/block/\(slave)") }
    if let dmUUID { try file("\(folder)/dm/uuid", dmUUID + "\n") }
    if let dmName { try file("\(folder)/dm/name", dmName + "\n") }
  }

  func partition(_ name: String, of disk: String, number: String) throws {
    let folder = "sys/devices/virtual/block/\(disk)/\(name)"
    try file("\(folder)/partition", "1\n")
    try link("sys/dev/block/\(number)", to: folder)
  }

  /// A data directory with the folders that every cluster has.
  @discardableResult
  func cluster(_ path: String) throws -> String {
    for name in ["base", "global", "pg_tblspc", "pg_wal"] { try folder("\(path)/\(name)") }
    return "\(root)/\(path)"
  }

  /// The root of this machine on device 254:0, and the mounts given, each a child of it.
  func mount(_ mounts: [(path: String, device: String, type: String, source: String)]) throws {
    var lines = ["27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw"]
    for (index, mount) in mounts.enumerated() {
      lines.append(
        "\(40 + index) 27 \(mount.device) / \(root)/\(mount.path) rw - \(mount.type) \(mount.source) rw")
    }
    try file("mountinfo", lines.joined(separator: "\n") + "\n")
  }

  func evidence(policies: Set<String> = [], zfs: [String: String] = [:]) -> FilesystemEvidence {
    var evidence = FilesystemEvidence()
    evidence.sysRoot = "\(root)/sys"
    evidence.mountInfo = "\(root)/mountinfo"
    let paths = Set(policies.map { "\(root)/\($0)" })
    evidence.hasEncryptionPolicy = { paths.contains($0) }
    evidence.zfsEncryption = { zfs[$0] }
    return evidence
  }
}
