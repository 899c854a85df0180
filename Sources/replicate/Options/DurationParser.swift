import ArgumentParser
import MigrationEngine

/// Reads `500ms`, `10s`, `1.5s`, `2m` as seconds.
enum DurationParser {
  static func seconds(_ text: String) throws -> Double {
    do {
      return try DurationText.seconds(text)
    } catch {
      throw ValidationError("\(error)")
    }
  }
}
