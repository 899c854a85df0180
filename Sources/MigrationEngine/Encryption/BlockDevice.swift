/// Follows a block device down to the dm-crypt mappings under it, in sysfs.
struct BlockDevice {
  /// `/sys` unless a test says otherwise.
  let sysRoot: String

  /// What dm-crypt and its relatives put before the mapping's own name in `dm/uuid`. `CRYPT-VERITY-` and
  /// `CRYPT-INTEGRITY-` are left out: they check data, and store it in the clear.
  private static let encryptingPrefixes = [
    "CRYPT-LUKS1-", "CRYPT-LUKS2-", "CRYPT-PLAIN-", "CRYPT-TCRYPT-", "CRYPT-BITLK-", "CRYPT-FVAULT2-",
    "CRYPT-LOOPAES-",
  ]

  /// LVM on RAID on LUKS is three; a ring of fakes must end.
  private static let depthLimit = 16

  /// - Parameter number: `major:minor`
  func cover(number: String) -> Cover {
    do {
      let folder = try BoundedFile.resolved("\(sysRoot)/dev/block/\(number)")
      return cover(folder: folder, depth: 0)
    } catch {
      return .open("no block device \(number) is known to the kernel here")
    }
  }

  private func cover(folder: String, depth: Int) -> Cover {
    let name = Self.lastComponent(folder)
    guard depth < Self.depthLimit else { return .open("\(name) is nested too deeply to follow") }
    if let uuid = attribute("dm/uuid", of: folder),
      let prefix = Self.encryptingPrefixes.first(where: uuid.hasPrefix)
    {
      let kind = prefix.dropFirst("CRYPT-".count).dropLast()
      return .closed("\(kind) on \(attribute("dm/name", of: folder) ?? name)")
    }
    // A partition lies in the folder of its disk, and what is under the disk is under the partition.
    if attribute("partition", of: folder) != nil, let slash = folder.lastIndex(of: "/") {
      return cover(folder: String(folder[..<slash]), depth: depth + 1)
    }
    do {
      return try cover(slavesOf: folder, name: name, depth: depth)
    } catch {
      return .open("what is under the device \(name) cannot be read (\(error))")
    }
  }

  /// Every device below must be encrypted: one open half of a mirror is an open mirror.
  private func cover(slavesOf folder: String, name: String, depth: Int) throws(UnreadableFile) -> Cover {
    let slaves = try BoundedFile.names(in: "\(folder)/slaves")
    var found: [String] = []
    for slave in slaves {
      let target = try BoundedFile.resolved("\(folder)/slaves/\(slave)")
      switch cover(folder: target, depth: depth + 1) {
      case .closed(let how):
        if !found.contains(how) { found.append(how) }
      case .open(let why):
        return .open(why)
      }
    }
    return found.isEmpty
      ? .open("the device \(name) is not encrypted") : .closed(found.joined(separator: " and "))
  }

  private func attribute(_ name: String, of folder: String) -> String? {
    // A missing attribute is the kernel's way to say no.
    guard let text = try? BoundedFile.text("\(folder)/\(name)", limit: 4096) else { return nil }
    let line = text.prefix { $0 != "\n" }
    return line.isEmpty ? nil : String(line)
  }

  private static func lastComponent(_ path: String) -> String {
    path.split(separator: "/").last.map(String.init) ?? path
  }
}

/// Whether encryption covers a place, and which.
enum Cover: Equatable {
  case closed(String)
  case open(String)
}
