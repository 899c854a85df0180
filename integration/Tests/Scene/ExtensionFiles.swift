import Clusters
import Foundation

/// The files of an extension of a test's own. The servers are of one installation, so they share them.
enum ExtensionFiles {
  /// - Parameter files: by their names, which no other test uses.
  static func with<Result>(
    _ files: [String: String], isolation: isolated (any Actor)? = #isolation,
    _ body: () async throws -> Result
  ) async throws -> Result {
    let configuration = try await Command.check([PostgresPrograms.path("pg_config"), "--sharedir"])
    let directory = configuration.trimmingCharacters(in: .whitespacesAndNewlines) + "/extension"
    defer {
      for file in files.keys { try? FileManager.default.removeItem(atPath: "\(directory)/\(file)") }
    }
    for (file, text) in files { try Data(text.utf8).write(to: URL(filePath: "\(directory)/\(file)")) }
    return try await body()
  }
}
