import Foundation
import MigrationEngine

/// `replicate.yaml`, or the file given by `--config`.
enum SwitchPlanFile {
  static let usualPath = "replicate.yaml"

  /// - Parameter path: nil: the default file, if it exists.
  /// - Throws: `MigrationError(.usage)` with everything that is wrong in the file.
  static func read(_ path: String?, environment: [String: String]) throws -> SwitchPlan {
    if path == nil, !FileManager.default.fileExists(atPath: usualPath) { return SwitchPlan() }
    let name = path ?? usualPath
    let text: String
    do {
      text = try String(contentsOf: URL(filePath: name), encoding: .utf8)
    } catch {
      throw MigrationError(
        .usage, doing: "reading \(name)", reason: (error as NSError).localizedDescription,
        remedy: "Give --config the path of a file in UTF-8.")
    }
    do {
      return try SwitchPlanReader.read(text, environment: environment)
    } catch {
      throw MigrationError(
        .usage, doing: "reading \(name)", reason: error.mistakes.joined(separator: "\n  "),
        remedy: "Correct the file: docs/SWITCH.md shows what it may hold.")
    }
  }
}
