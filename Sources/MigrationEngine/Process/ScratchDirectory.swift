import Foundation

/// A private directory below the temporary one, for the lifetime of this value. What a killed process left is
/// removed when the next one is created.
final class ScratchDirectory: Sendable {
  let url: URL
  /// Holds a lock on the directory, which ends with the process however that ends, and which processes in
  /// other containers see as well: so a directory in use is never taken for abandoned.
  private let descriptor: Int32

  private static let prefix = "replicate-scratch-"

  /// - Throws: the system's error when the directory cannot be created or locked.
  init(below parent: URL = FileManager.default.temporaryDirectory) throws {
    Self.removeAbandoned(below: parent)
    let name = "\(Self.prefix)\(UUID().uuidString)"
    // Under another name until it is locked.
    let unlocked = parent.appending(path: ".\(name)")
    try FileManager.default.createDirectory(
      at: unlocked, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    guard let descriptor = Self.lock(unlocked) else {
      let error = errno
      rmdir(unlocked.path)
      throw CocoaError(
        .fileLocking, userInfo: [NSUnderlyingErrorKey: NSError(domain: NSPOSIXErrorDomain, code: Int(error))])
    }
    self.descriptor = descriptor
    url = parent.appending(path: name)
    guard rename(unlocked.path, url.path) == 0 else {
      let error = errno
      rmdir(unlocked.path)
      close(descriptor)
      throw NSError(domain: NSPOSIXErrorDomain, code: Int(error))
    }
  }

  deinit {
    try? FileManager.default.removeItem(at: url)
    close(descriptor)
  }

  /// - Returns: nil when it is locked, or cannot be opened.
  private static func lock(_ directory: URL) -> Int32? {
    let descriptor = open(directory.path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      close(descriptor)
      return nil
    }
    return descriptor
  }

  /// Those of other users cannot be opened, and stay.
  private static func removeAbandoned(below parent: URL) {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: parent.path)) ?? []
    for name in names where name.hasPrefix(prefix) {
      let directory = parent.appending(path: name)
      guard let descriptor = lock(directory) else { continue }
      try? FileManager.default.removeItem(at: directory)
      close(descriptor)
    }
  }
}
