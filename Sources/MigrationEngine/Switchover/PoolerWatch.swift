package import Foundation
import LibPQ
import Logging
import Subprocess

#if canImport(System)
  import System
#else
  import SystemPackage
#endif

/// A second process that resumes paused poolers if ours dies, even from SIGKILL: its input then ends. It does
/// not help when the whole machine is lost.
package actor PoolerWatch {
  /// What starts the process: `run` is what it does.
  struct Command: Sendable {
    var path: String
    var arguments: [String]
  }

  /// A database of one pooler, as sent to the process: through its input, since it may contain a password.
  private struct Order: Codable {
    var admin: [[String]]
    var database: String
  }

  private let command: Command?
  private let orders: [Order]
  private let logger: Logger
  private var ender: AsyncStream<Void>.Continuation?

  private static let allIsWell = "all is well"

  init(_ command: Command?, over poolers: [SwitchStep.Pooler], logger: Logger) {
    self.command = command
    orders = poolers.map {
      Order(admin: $0.admin.keywords.map { [$0.name, $0.value] }, database: $0.database)
    }
    self.logger = logger
  }

  /// Its input ends with us.
  deinit { ender?.finish() }

  /// Returns once the process is ready. Without it a dead engine leaves poolers paused: that is worth a
  /// warning, but does not stop the cutover.
  func begin() async {
    guard let command, ender == nil else { return }
    let (ends, ender) = AsyncStream.makeStream(of: Void.self)
    let (beginnings, beginner) = AsyncStream.makeStream(of: Void.self)
    self.ender = ender
    let (orders, logger) = (orders, logger)
    // Not a child of the cutover's task: cancelling that must not end its watch.
    Task {
      defer { beginner.finish() }
      do {
        try await Self.serve(command, orders, until: ends) { beginner.yield() }
      } catch {
        logger.warning(
          "should the engine die now, nobody resumes the paused poolers", metadata: ["why": "\(error)"])
      }
    }
    _ = await beginnings.first { _ in true }
  }

  /// The clients continue.
  func end() {
    ender?.yield()
    ender?.finish()
    ender = nil
  }

  private static func serve(
    _ command: Command, _ orders: [Order], until ends: AsyncStream<Void>,
    onBegin: @escaping @Sendable () -> Void
  ) async throws {
    var options = PlatformOptions()
    // Signals to our terminal or process group must not end it.
    options.createSession = true
    let words = try JSONEncoder().encode(orders) + Data("\n".utf8)
    _ = try await Subprocess.run(
      .path(FilePath(command.path)), arguments: Arguments(command.arguments),
      environment: .inherit.updating(BoundedCommand.withoutConnectionStrings),
      platformOptions: options, input: .inputWriter, output: .discarded, error: .discarded
    ) { execution in
      _ = try await execution.standardInputWriter.write(Array(words))
      onBegin()
      if await ends.first(where: { true }) != nil {
        _ = try await execution.standardInputWriter.write(Array(Self.allIsWell.utf8))
      }
      try await execution.standardInputWriter.finish()
    }
  }

  // MARK: In the process itself

  /// Waits for the end of the input, then resumes the poolers unless all is well.
  /// - Returns: whether no client is waiting.
  package static func watch(reading input: FileHandle) async -> Bool {
    for number in [SIGTERM, SIGINT, SIGHUP] { signal(number, SIG_IGN) }
    let said = input.readDataToEndOfFile()
    let lines = said.split(separator: UInt8(ascii: "\n"), maxSplits: 1)
    guard let first = lines.first, let orders = try? JSONDecoder().decode([Order].self, from: first) else {
      return false
    }
    if lines.count > 1, String(decoding: lines[1], as: UTF8.self) == allIsWell { return true }
    return await withTaskGroup(of: Bool.self) { group in
      for order in orders { group.addTask { await resume(order) } }
      return await group.reduce(true) { $0 && $1 }
    }
  }

  private static func resume(_ order: Order) async -> Bool {
    do {
      var admin = try ConnectionString("", for: "admin console")
      for pair in order.admin where pair.count == 2 { admin = admin.setting(pair[0], to: pair[1]) }
      let pooler = SwitchStep.Pooler(
        admin: admin, database: order.database, configuration: .command("true"))
      let session = PoolerSession(pooler)
      _ = try await session.resume(until: .now + .seconds(60))
      await session.close()
      return true
    } catch {
      return false
    }
  }
}
