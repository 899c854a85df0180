import Foundation

/// A file that is replaced as a whole: readers see the old one or the new one, with the same owner and mode.
struct ReplacedFile {
  struct Failure: Error, Equatable, CustomStringConvertible {
    let description: String

    /// From `errno`, which must not have changed since the failed call.
    init(_ action: String, _ path: String) {
      description = "\(action) \(path): \(String(cString: strerror(errno)))"
    }
  }

  /// The file itself, if the given path contains links.
  private let path: String
  let content: [UInt8]
  private let status: stat

  init(reading path: String) throws(Failure) {
    guard let real = realpath(path, nil) else { throw Failure("finding", path) }
    defer { free(real) }
    self.path = String(cString: real)
    let descriptor = open(self.path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw Failure("reading", path) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw Failure("reading", path) }
    self.status = status
    var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
    var count = 0
    while count < bytes.count {
      let got = bytes.withUnsafeMutableBytes {
        read(descriptor, $0.baseAddress?.advanced(by: count), $0.count - count)
      }
      guard got > 0 else { throw Failure("reading", path) }
      count += got
    }
    content = bytes
  }

  /// Whether `replace` would succeed up to the rename; leaves nothing behind.
  func tryReplacing() throws(Failure) {
    try prepare(content)
    unlink(draft)
  }

  func replace(with bytes: [UInt8]) throws(Failure) {
    try prepare(bytes)
    guard rename(draft, path) == 0 else {
      let failure = Failure("replacing", path)
      unlink(draft)
      throw failure
    }
    // The rename must survive a crash of the machine.
    let folder = open(directory, O_RDONLY | O_CLOEXEC)
    if folder >= 0 {
      fsync(folder)
      close(folder)
    }
  }

  private var directory: String { path.prefix(upTo: path.lastIndex(of: "/") ?? path.startIndex) + "/" }
  private var draft: String { "\(path).replicate" }

  private func prepare(_ bytes: [UInt8]) throws(Failure) {
    // Left by a killed engine.
    unlink(draft)
    let descriptor = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw Failure("writing", draft) }
    defer { close(descriptor) }
    do throws(Failure) {
      // The mode comes last: giving a file away may clear bits of it.
      guard fchown(descriptor, status.st_uid, status.st_gid) == 0 else {
        throw Failure("giving the file's owner to", draft)
      }
      guard fchmod(descriptor, status.st_mode & 0o7777) == 0 else {
        throw Failure("giving the file's mode to", draft)
      }
      var rest = bytes[...]
      while !rest.isEmpty {
        let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        guard count > 0 else { throw Failure("writing", draft) }
        rest = rest.dropFirst(count)
      }
      guard fsync(descriptor) == 0 else { throw Failure("writing", draft) }
    } catch {
      unlink(draft)
      throw error
    }
  }
}
