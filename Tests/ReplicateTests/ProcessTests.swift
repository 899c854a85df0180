import Foundation
import Testing

@testable import replicate

/// What only a process shows: the built program with real descriptors.
@Suite(.timeLimit(.minutes(1))) struct ProcessTests {
  /// The program is built beside the bundle of these tests.
  private var program: URL {
    get throws {
      let folders = CommandLine.arguments.prefix(1) + [Bundle.main.bundlePath]
      let candidates = folders.map { URL(filePath: $0) }.flatMap { folder in
        [folder.deletingLastPathComponent(), folder].map { $0.appending(path: "replicate") }
      }
      return try #require(candidates.first { FileManager.default.isExecutableFile(atPath: $0.path()) })
    }
  }

  private func run(_ arguments: [String], output: FileHandle) async throws -> (
    reason: Int, code: Int32, errors: String
  ) {
    let process = Process()
    let errors = Pipe()
    process.executableURL = try program
    process.arguments = arguments
    process.environment = [:]
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = output
    process.standardError = errors
    return try await withCheckedThrowingContinuation { continuation in
      process.terminationHandler = { ended in
        let text = String(decoding: errors.fileHandleForReading.availableData, as: UTF8.self)
        continuation.resume(returning: (ended.terminationReason.rawValue, ended.terminationStatus, text))
      }
      do { try process.run() } catch { continuation.resume(throwing: error) }
    }
  }

  @Test func aReaderThatLeftDoesNotKillIt() async throws {
    let pipe = Pipe()
    try pipe.fileHandleForReading.close()
    let ended = try await run(["--help"], output: pipe.fileHandleForWriting)
    #expect(ended.reason == Process.TerminationReason.exit.rawValue)
    #expect(ended.code == 0)
    #expect(ended.errors.isEmpty)
  }

  @Test func withoutItsEndsItIsAUsageError() async throws {
    let ended = try await run(["check"], output: .nullDevice)
    #expect(ended.code == 64)
    #expect(ended.errors.hasPrefix("replicate: reading the connection string of the source: there is none\n"))
  }

  @Test func aRefusedConnectionStringDoesNotEchoItsPassword() async throws {
    let ended = try await run(
      ["status", "--target", "host=h passwort=s3cret"], output: .nullDevice)
    #expect(ended.code == 64)
    #expect(!ended.errors.contains("s3cret"))
  }
}
