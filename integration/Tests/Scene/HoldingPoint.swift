import Clusters
import Foundation

/// A failpoint at which a process waits until it is let go; `Scene.start(meeting:)` takes it.
struct HoldingPoint: Sendable {
  private let step: String
  private let file: String

  /// - Parameter step: as `Failpoint` names it.
  init(_ step: String) async throws {
    self.step = step
    file = try await freshDirectory() + "/met"
  }

  /// What the process is given.
  var failpoint: String { "\(step)=wait:\(file)" }

  func wait(for process: BackgroundProcess, within limit: Duration = .seconds(20)) async throws {
    try await process.waitUntil(step, within: limit) { FileManager.default.fileExists(atPath: file) }
  }

  func release() throws { try FileManager.default.removeItem(atPath: file) }
}
