import Foundation
import Testing

@testable import LogicalReplication

/// The inputs that `integration/fuzz` keeps: the fewest that reach all of the decoder that was ever reached,
/// and those that once made it trap. They are read as `integration/Fuzz` reads them.
struct CorpusTests {
  private static let files: [URL] = {
    let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Corpus")
    let found = try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
    return (found ?? []).sorted { $0.path < $1.path }
  }()

  @Test func `what the fuzzer has found is decoded or refused`() throws {
    #expect(Self.files.count > 50)
    var decoded = 0
    for file in Self.files {
      let bytes = Array(try Data(contentsOf: file))
      guard let choice = bytes.first else { continue }
      if choice == UInt8(ascii: "f") {
        let frame = bytes.withUnsafeBytes { try? ReplicationFrame($0, 1..<$0.count) }
        if frame != nil { decoded += 1 }
      } else {
        decoded += messages(in: bytes, choice, file)
      }
    }
    #expect(decoded > 50)
  }

  private func messages(in bytes: [UInt8], _ choice: UInt8, _ file: URL) -> Int {
    var decoder = PgOutputDecoder(
      version: PgOutputVersion(rawValue: Int(choice & 3) + 1) ?? .one,
      streaming: choice & 4 == 0 ? .off : choice & 8 == 0 ? .on : .parallel)
    var start = 1
    var count = 0
    while bytes.count - start >= 2 {
      let end = min(start + 2 + Int(bytes[start]) << 8 + Int(bytes[start + 1]), bytes.count)
      guard let message = try? decoder.decode(bytes, start + 2..<end) else { return count }
      if case .insert(let insert) = message {
        #expect(insert.new.values(in: bytes).count == insert.new.columnCount, "\(file.lastPathComponent)")
      }
      count += 1
      start = end
    }
    return count
  }
}
