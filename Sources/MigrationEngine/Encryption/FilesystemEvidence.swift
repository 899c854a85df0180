import Foundation
import Subprocess

/// Looks at the storage under a local server's folders: fscrypt, LUKS and its relatives, gocryptfs,
/// eCryptfs, ZFS.
///
/// What it cannot see: a cipher that is `null`, swap, and log files that the server is configured to write
/// elsewhere.
struct FilesystemEvidence: Sendable {
  /// `/sys` and `/proc/self/mountinfo` unless a test says otherwise.
  var sysRoot = "/sys"
  var mountInfo = "/proc/self/mountinfo"
  /// Whether a folder carries an fscrypt policy.
  var hasEncryptionPolicy: @Sendable (String) -> Bool = Self.inodeIsEncrypted
  /// The property `encryption` of a ZFS dataset, or nil if it cannot be known.
  var zfsEncryption: @Sendable (String) async -> String? = Self.askZFS

  /// File systems whose kernel code sets the flag. Others, especially FUSE, may answer an ioctl arbitrarily.
  private static let fscryptTypes: Set<String> = ["ext4", "f2fs", "ubifs", "ceph"]
  private static let stackedTypes = ["fuse.gocryptfs": "gocryptfs", "ecryptfs": "eCryptfs"]
  /// Some 10,000 mounts: a busy container host has them.
  private static let mountInfoLimit = 8 << 20

  /// `verified` only if encryption covers every place that the server writes to.
  func examine(dataDirectory: String, tablespaceLocations: [String]) async -> EncryptionEvidence {
    let paths: [WrittenPath]
    let table: MountTable
    do {
      paths = try WrittenPaths.find(dataDirectory: dataDirectory, tablespaceLocations: tablespaceLocations)
      table = MountTable(parsing: try BoundedFile.text(mountInfo, limit: Self.mountInfoLimit))
    } catch {
      return unverified("the server's storage cannot be examined (\(error))")
    }
    var found: [String] = []
    for place in paths.flatMap({ Self.withMounts($0, table) }) {
      switch await cover(of: place.path, table) {
      case .closed(let how): found.append("\(place.role) \(place.path): \(how)")
      case .open(let why): return unverified("\(place.role) \(place.path): \(why)")
      }
    }
    return EncryptionEvidence(
      status: .verified, provider: .filesystem, detail: found.joined(separator: "; "))
  }

  /// Mounts inside a folder are not covered by the folder's encryption.
  private static func withMounts(_ place: WrittenPath, _ table: MountTable) -> [WrittenPath] {
    [place]
      + table.mounts(below: place.path).map {
        WrittenPath(role: "mount in the \(place.role)", path: $0.mountPoint)
      }
  }

  private func cover(of path: String, _ table: MountTable) async -> Cover {
    guard let mount = table.mount(of: path) else { return .open("no mount is known for it") }
    if let stacked = Self.stackedTypes[mount.type] { return .closed(stacked) }
    if mount.type == "zfs" { return await cover(dataset: mount.source) }
    // A policy can only be set on an empty folder, and nothing can be linked in past it, so it covers
    // everything below.
    if Self.fscryptTypes.contains(mount.type), hasEncryptionPolicy(path) { return .closed("fscrypt") }
    switch BlockDevice(sysRoot: sysRoot).cover(number: mount.device) {
    case .closed(let how): return .closed(how)
    case .open(let why): return .open("\(mount.type) on \(mount.source), \(why)")
    }
  }

  private func cover(dataset: String) async -> Cover {
    switch await zfsEncryption(dataset) {
    case nil: .open("zfs dataset \(dataset), and `zfs get encryption` gave no answer")
    case "off", "-", "": .open("zfs dataset \(dataset), encryption is off")
    case .some(let algorithm): .closed("ZFS \(algorithm) on \(dataset)")
    }
  }

  private func unverified(_ detail: String) -> EncryptionEvidence {
    EncryptionEvidence(status: .unverified, provider: .filesystem, detail: detail)
  }
}

extension FilesystemEvidence {
  /// `FS_ENCRYPT_FL` in the flags of the inode, by ioctl_iflags(2).
  ///
  /// statx(2) would need no open folder, but Swift's Glibc module does not show it (it hides behind
  /// `_GNU_SOURCE`), and a call by hand would need the layout of its struct. ioctl(2) is there. Needs read
  /// permission on the folder, which listing its links needs anyway.
  static func inodeIsEncrypted(_ path: String) -> Bool {
    #if os(Linux)
      let getFlags: UInt = 0x8008_6601  // _IOR('f', 1, long), the same on x86-64 and arm64
      let encrypted = 0x0000_0800
      let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
      guard descriptor >= 0 else { return false }
      defer { close(descriptor) }
      // Declared as a long, written as an int: allocate the former, and read the low bits.
      var flags = 0
      let result = withUnsafeMutablePointer(to: &flags) {
        ioctl(descriptor, getFlags, UnsafeMutableRawPointer($0))
      }
      return result == 0 && flags & encrypted != 0
    #else
      return false
    #endif
  }

  static func askZFS(_ dataset: String) async -> String? {
    let answer = await BoundedCommand(
      executable: .name("zfs"), arguments: ["get", "-H", "-o", "value", "encryption", dataset],
      environment: .inherit, timeLimit: .seconds(10)
    ).run()
    guard case .ended(.exited(0), let output, _) = answer else { return nil }
    return BoundedCommand.lines(output).first
  }
}
