import Foundation
import Testing

@testable import MigrationEngine

/// Storage that `integration/encrypted-storage` really makes, seen through the real kernel.
@Suite(.serialized) struct RealStorageTests {
  @Test(.enabled(if: RealStorage.offers("fscrypt"), "needs root, the fscrypt tool and a kernel with fscrypt"))
  func fscryptIsSeen() async throws {
    try await expectSeen("fscrypt")
  }

  @Test(.enabled(if: RealStorage.offers("gocryptfs"), "needs root, gocryptfs, fusermount and /dev/fuse"))
  func gocryptfsIsSeen() async throws {
    try await expectSeen("gocryptfs")
  }

  @Test(.enabled(if: RealStorage.offers("fscrypt"), "needs root, the fscrypt tool and a kernel with fscrypt"))
  func plaintextDoesNotReachTheDisk() throws {
    let storage = try RealStorage("fscrypt")
    defer { storage.remove() }
    let hidden = "hidden-\(UUID().uuidString)"
    let open = "open-\(UUID().uuidString)"
    try hidden.write(toFile: "\(storage.folder)/file", atomically: false, encoding: .utf8)
    // Beside the encrypted folder in the same image: shows that the search finds what is there to find.
    try open.write(toFile: "\(storage.folder).storage/mnt/file", atomically: false, encoding: .utf8)
    sync()
    let image = try Data(contentsOf: URL(filePath: "\(storage.folder).storage/image"), options: .alwaysMapped)
    #expect(image.range(of: Data(open.utf8)) != nil)
    #expect(image.range(of: Data(hidden.utf8)) == nil)
  }

  private func expectSeen(_ kind: String) async throws {
    let storage = try RealStorage(kind)
    defer { storage.remove() }
    let cluster = try RealStorage.cluster("\(storage.folder)/pg")
    let beside = try RealStorage.cluster("\(storage.root)/plain")
    let evidence = FilesystemEvidence()

    let covered = await evidence.examine(dataDirectory: cluster, tablespaceLocations: [])
    #expect(
      covered
        == EncryptionEvidence(
          status: .verified, provider: .filesystem, detail: "data directory \(cluster): \(kind)"))

    let plain = await evidence.examine(dataDirectory: beside, tablespaceLocations: [])
    #expect(plain.status == .unverified)
    #expect(plain.detail.contains(beside))

    try FileManager.default.removeItem(atPath: "\(cluster)/pg_wal")
    try FileManager.default.createSymbolicLink(
      atPath: "\(cluster)/pg_wal", withDestinationPath: "\(beside)/pg_wal")
    let leaking = await evidence.examine(dataDirectory: cluster, tablespaceLocations: [])
    #expect(leaking.status == .unverified)
    #expect(leaking.detail.hasPrefix("pg_wal \(beside)/pg_wal: "))
  }
}

/// One run of the script; the folder lies in a temporary folder of its own.
struct RealStorage {
  let root: String
  var folder: String { "\(root)/encrypted" }

  struct Unavailable: Error {
    let answer: String
  }

  init(_ kind: String) throws {
    let made = FileManager.default.temporaryDirectory.appending(path: "real-storage-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: made, withIntermediateDirectories: true)
    root = try BoundedFile.resolved(made.path)
    let answer = try Self.script(["mount", folder, "64"], kind: kind)
    guard answer == kind else {
      remove()
      throw Unavailable(answer: answer)
    }
  }

  func remove() {
    do {
      _ = try Self.script(["unmount", folder], kind: "")
      try FileManager.default.removeItem(atPath: root)
    } catch {
      Issue.record("what is left: \(root) (\(error)); encrypted-storage unmount \(folder) removes it")
    }
  }

  static func cluster(_ path: String) throws -> String {
    for name in ["base", "global", "pg_tblspc", "pg_wal"] {
      try FileManager.default.createDirectory(
        atPath: "\(path)/\(name)", withIntermediateDirectories: true)
    }
    return path
  }

  /// Only trying shows whether the kernel plays along.
  static func offers(_ kind: String) -> Bool {
    guard geteuid() == 0, let storage = try? RealStorage(kind) else { return false }
    storage.remove()
    return true
  }

  private static func script(_ arguments: [String], kind: String) throws -> String {
    let package = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    let process = Process()
    process.executableURL = package.appending(path: "integration/encrypted-storage")
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(["STORAGE_KINDS": kind]) { $1 }
    let output = Pipe()
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    try process.run()
    let said = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw Unavailable(answer: "exit code \(process.terminationStatus)")
    }
    return String(decoding: said, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
  }
}
