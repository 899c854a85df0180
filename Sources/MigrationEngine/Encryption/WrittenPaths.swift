import Foundation

/// A place that a server writes to.
struct WrittenPath: Equatable {
  /// In the server's words: data directory, pg_wal, tablespace.
  let role: String
  /// Without symbolic links.
  let path: String
}

/// Where a local server writes: its data directory, and wherever symbolic links lead out of it.
///
/// `pg_wal` and the entries of `pg_tblspc` are links by design (manual, "Database File Layout"). Other links
/// are made by hand when a disk is full, and lead to data just as well.
enum WrittenPaths {
  static func find(
    dataDirectory: String, tablespaceLocations: [String]
  ) throws(UnreadableFile) -> [WrittenPath] {
    let root = try BoundedFile.resolved(dataDirectory)
    var found = [WrittenPath(role: "data directory", path: root)]
    for folder in ["", "base/", "pg_tblspc/"] {
      for name in try BoundedFile.names(in: folder.isEmpty ? root : "\(root)/\(folder)") {
        guard isLinkToFolder("\(root)/\(folder)\(name)") else { continue }
        let path = try BoundedFile.resolved("\(root)/\(folder)\(name)")
        let role = folder == "pg_tblspc/" ? "tablespace \(name)" : "\(folder)\(name)"
        add(WrittenPath(role: role, path: path), to: &found)
      }
    }
    for location in tablespaceLocations {
      let path = try BoundedFile.resolved(location)
      add(WrittenPath(role: "tablespace", path: path), to: &found)
    }
    return found
  }

  /// Only an equal path is dropped. A folder below another may be a different matter.
  private static func add(_ path: WrittenPath, to found: inout [WrittenPath]) {
    if !found.contains(where: { $0.path == path.path }) { found.append(path) }
  }

  /// Nothing is written to a broken link.
  private static func isLinkToFolder(_ path: String) -> Bool {
    var link = stat()
    var target = stat()
    guard lstat(path, &link) == 0, link.st_mode & S_IFMT == S_IFLNK else { return false }
    // Where the target cannot be seen, resolving it reports why.
    guard stat(path, &target) == 0 else { return errno != ENOENT }
    return target.st_mode & S_IFMT == S_IFDIR
  }
}
