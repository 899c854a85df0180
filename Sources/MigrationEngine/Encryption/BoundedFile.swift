import Foundation

/// Why a file or folder of the operating system could not be read.
struct UnreadableFile: Error, Equatable, CustomStringConvertible {
  let path: String
  let why: String
  var description: String { "\(path): \(why)" }

  /// From `errno`, which must not have changed since the failed call.
  static func lastError(_ path: String) -> UnreadableFile {
    UnreadableFile(path: path, why: String(cString: strerror(errno)))
  }
}

/// Reads of files that others own: bounded, and never waiting for a FIFO's other end.
enum BoundedFile {
  /// The first bytes of the file, `limit` at most.
  static func head(_ path: String, limit: Int) throws(UnreadableFile) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw .lastError(path) }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: min(limit, 65536))
    while bytes.count < limit {
      let wanted = min(chunk.count, limit - bytes.count)
      let got = chunk.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, wanted) }
      if got < 0 {
        if errno == EINTR { continue }
        throw .lastError(path)
      }
      if got == 0 { break }
      bytes += chunk.prefix(got)
    }
    return bytes
  }

  /// The whole file as text. A file longer than `limit` is an error: half of a list proves nothing.
  static func text(_ path: String, limit: Int) throws(UnreadableFile) -> String {
    let bytes = try head(path, limit: limit + 1)
    guard bytes.count <= limit else {
      throw UnreadableFile(path: path, why: "longer than the expected \(limit) bytes")
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// The path with every symbolic link followed.
  static func resolved(_ path: String) throws(UnreadableFile) -> String {
    guard let real = realpath(path, nil) else { throw .lastError(path) }
    defer { free(real) }
    return String(cString: real)
  }

  /// The names in a folder, sorted.
  static func names(in folder: String) throws(UnreadableFile) -> [String] {
    do {
      return try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
    } catch {
      throw UnreadableFile(path: folder, why: folderProblem(folder))
    }
  }

  /// Device and inode, which name a folder whatever path led to it.
  static func identity(_ path: String) throws(UnreadableFile) -> FileIdentity {
    var status = stat()
    guard stat(path, &status) == 0 else { throw .lastError(path) }
    return FileIdentity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
  }

  private static func folderProblem(_ folder: String) -> String {
    guard let stream = opendir(folder) else { return String(cString: strerror(errno)) }
    closedir(stream)
    return "its entries cannot be listed"
  }
}

struct FileIdentity: Equatable {
  let device: UInt64
  let inode: UInt64
}
