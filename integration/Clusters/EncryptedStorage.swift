import Foundation

/// Data directories on encrypted storage, by way of `integration/encrypted-storage`.
enum EncryptedStorage {
  /// The data directory to use for the cluster in `directory`, and what its storage is.
  static func mount(for directory: String) async throws -> (dataDirectory: String, storage: String) {
    let mountPoint = "\(directory)/encrypted"
    // `PID` is who owns the storage: `gc` removes it when we are gone, not when timeout(1), the parent, is.
    let said = try await Command.check(
      [TestRoot.script("encrypted-storage"), "mount", mountPoint], environment: ["PID": "\(getpid())"],
      limit: .seconds(120))
    let storage = said.trimmingCharacters(in: .whitespacesAndNewlines)
    // One below the mount point, since what a file system keeps at its root is not the server's.
    return ("\(mountPoint)/data", storage)
  }

  static func unmount(for directory: String) async throws {
    // Says nothing and does nothing where nothing was mounted.
    try await Command.check([TestRoot.script("encrypted-storage"), "unmount", "\(directory)/encrypted"])
  }
}
