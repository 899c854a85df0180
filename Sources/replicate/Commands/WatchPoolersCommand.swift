import ArgumentParser
import Foundation
import MigrationEngine

/// The process that the engine starts beside itself while poolers are paused. Not for people.
struct WatchPoolersCommand: EngineCommand {
  static let configuration = CommandConfiguration(
    commandName: "watch-poolers", abstract: "Resume paused poolers when the engine has died.",
    shouldDisplay: false)

  /// How it is started: this very program, even when its file has been replaced meanwhile.
  static var invocation: (path: String, arguments: [String])? {
    #if os(Linux)
      let path: String? = "/proc/self/exe"
    #else
      let path = Bundle.main.executablePath
    #endif
    return path.map { ($0, ["watch-poolers"]) }
  }

  func run(in surroundings: Surroundings) async throws -> ExitStatus {
    await PoolerWatch.watch(reading: .standardInput) ? .done : .failed
  }
}
