/// The mounts visible to this process: `/proc/self/mountinfo`, see proc_pid_mountinfo(5).
struct MountTable {
  struct Mount: Equatable {
    let id: Int
    let parent: Int
    /// `major:minor`, the name under `/sys/dev/block`; major 0 where no block device is behind it.
    let device: String
    let mountPoint: String
    let type: String
    /// The block device's path, a ZFS dataset, or whatever the file system calls its origin.
    let source: String
  }

  let mounts: [Mount]

  /// Lines that are not mounts are left out: nothing is then known about what lies below them.
  init(parsing text: String) {
    mounts = text.split(separator: "\n").compactMap(Self.mount(line:))
  }

  /// The mount that a path without symbolic links lies on.
  ///
  /// Walks down as the kernel does. The longest mount point would be the same, except for mounts hidden by a
  /// later mount on a folder above.
  func mount(of path: String) -> Mount? {
    let ids = Set(mounts.map(\.id))
    let roots = mounts.filter { $0.mountPoint == "/" && ($0.parent == $0.id || !ids.contains($0.parent)) }
    guard var current = roots.last else { return nil }
    var seen: Set<Int> = [current.id]
    while let child = topmostChild(of: current, towards: path), seen.insert(child.id).inserted {
      current = child
    }
    return current
  }

  /// The visible mounts strictly below a folder.
  func mounts(below folder: String) -> [Mount] {
    mounts.filter { candidate in
      candidate.mountPoint != folder && Self.covers(folder, candidate.mountPoint)
        && mount(of: candidate.mountPoint)?.id == candidate.id
    }
  }

  private func topmostChild(of parent: Mount, towards path: String) -> Mount? {
    mounts
      .filter { $0.parent == parent.id && $0.id != parent.id && Self.covers($0.mountPoint, path) }
      .min { $0.mountPoint.utf8.count < $1.mountPoint.utf8.count }
  }

  private static func covers(_ folder: String, _ path: String) -> Bool {
    if folder == "/" || folder == path { return true }
    // Bytes, since Swift's own comparison treats canonically equivalent names, which are different files, as
    // equal.
    return path.utf8.starts(with: (folder + "/").utf8)
  }

  /// `36 35 98:0 /root /mount/point rw,noatime shared:1 - ext4 /dev/root rw`; any number of optional fields
  /// before `-`.
  private static func mount(line: Substring) -> Mount? {
    let fields = line.split(separator: " ", omittingEmptySubsequences: false)
    guard fields.count >= 10, let dash = fields.dropFirst(6).firstIndex(of: "-"), dash + 2 < fields.count,
      let id = Int(fields[0]), let parent = Int(fields[1])
    else { return nil }
    return Mount(
      id: id, parent: parent, device: String(fields[2]), mountPoint: unescaped(fields[4]),
      type: unescaped(fields[dash + 1]), source: unescaped(fields[dash + 2]))
  }

  /// Space, tab, newline and backslash (and `#`) are written as a backslash and three octal digits.
  private static func unescaped(_ field: Substring) -> String {
    var bytes: [UInt8] = []
    var rest = field.utf8[...]
    while let byte = rest.popFirst() {
      let digits = rest.prefix(3)
      let zero = UInt8(ascii: "0")
      guard byte == UInt8(ascii: "\\"), digits.count == 3,
        digits.allSatisfy({ (zero...zero + 7).contains($0) }),
        let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
      else {
        bytes.append(byte)
        continue
      }
      bytes.append(value)
      rest = rest.dropFirst(3)
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
