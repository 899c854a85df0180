import Foundation
import Testing

@testable import MigrationEngine

struct ScratchDirectoryTests {
  private func withParent(_ body: (URL) throws -> Void) throws {
    let parent = FileManager.default.temporaryDirectory.appending(path: "scratch-test-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: parent, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: parent) }
    try body(parent)
  }

  private func names(_ parent: URL) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: parent.path).sorted()
  }

  @Test func `nobody else may enter it, and it goes with its value`() throws {
    try withParent { parent in
      var directory: ScratchDirectory? = try ScratchDirectory(below: parent)
      let url = try #require(directory?.url)
      try Data("schema".utf8).write(to: url.appending(path: "dump"))
      let mode = try FileManager.default.attributesOfItem(atPath: url.path)[.posixPermissions] as? Int
      #expect(mode == 0o700)
      #expect(try names(parent) == [url.lastPathComponent])
      directory = nil
      #expect(try names(parent) == [])
    }
  }

  @Test func `what a killed process left goes when the next is made, and nothing else`() throws {
    try withParent { parent in
      let abandoned = parent.appending(path: "replicate-scratch-abandoned")
      try FileManager.default.createDirectory(at: abandoned, withIntermediateDirectories: true)
      try Data("schema".utf8).write(to: abandoned.appending(path: "dump"))
      let others = parent.appending(path: "replicate-of-others")
      try FileManager.default.createDirectory(at: others, withIntermediateDirectories: true)
      let link = parent.appending(path: "replicate-scratch-link")
      try FileManager.default.createSymbolicLink(at: link, withDestinationURL: others)
      let first = try ScratchDirectory(below: parent)
      let second = try ScratchDirectory(below: parent)
      let left = [first.url.lastPathComponent, second.url.lastPathComponent]
      #expect(try names(parent) == (left + ["replicate-of-others", "replicate-scratch-link"]).sorted())
      withExtendedLifetime((first, second)) {}
    }
  }
}
