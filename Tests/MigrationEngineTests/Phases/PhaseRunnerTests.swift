import Logging
import Synchronization
import Testing

@testable import MigrationEngine

/// The walk through the phases, with work that only remembers that it was done.
struct PhaseRunnerTests {
  private struct Crash: Error {}

  /// What outlives an engine: the stored phase, and what was done.
  private final class Store: PhaseKeeper {
    private struct State {
      var phases: PhaseMachine
      var done: [String] = []
      var failing: String?
    }
    private let state: Mutex<State>

    init(_ phase: Phase, failing: String? = nil) {
      state = Mutex(State(phases: PhaseMachine(phase: phase), failing: failing))
    }

    var current: Phase { state.withLock { $0.phases.phase } }
    var done: [String] { state.withLock { $0.done } }

    func resume() async -> PhaseMachine.Action { state.withLock { $0.phases.resume() } }

    func advance(_ event: PhaseMachine.Event) async throws -> PhaseMachine.Action {
      try perform("store \(event)")
      return try state.withLock { try $0.phases.handle(event) }
    }

    /// Fails once where it is to.
    func perform(_ step: String) throws {
      try state.withLock { state in
        state.done.append(step)
        guard state.failing == step else { return }
        state.failing = nil
        throw Crash()
      }
    }
  }

  private struct Work: PhaseWork {
    let store: Store
    var isReversible = false

    func begin() async throws {}
    func transferSchema() async throws { try store.perform("schema") }
    func copyTables() async throws { try store.perform("copy") }
    func buildIndexes() async throws { try store.perform("index") }
    func catchUp() async throws { try store.perform("catch up") }
    func stream(resumesCutover: Bool) async throws -> Status.Cutover {
      if !resumesCutover { _ = try await store.advance(.cutoverBegun) }
      try store.perform("cutover")
      _ = try await store.advance(isReversible ? .targetOpenedReversibly : .targetOpened)
      return Status.Cutover(step: .complete)
    }
    func conclude() async throws { try store.perform("conclude") }
    func streamBack() async throws -> Migration.Outcome {
      try store.perform("stream back")
      return .complete(Status.Cutover(step: .complete))
    }
    func stop() async throws -> Migration.Outcome {
      try store.perform("stop")
      return .stopped
    }
  }

  private func runner(_ store: Store, isReversible: Bool = false) -> PhaseRunner {
    PhaseRunner(
      phase: store, work: Work(store: store, isReversible: isReversible),
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  }

  private static let walk = [
    "schema", "store schemaTransferred", "copy", "store tablesCopied", "index", "store indexesBuilt",
    "catch up", "store caughtUp", "store cutoverBegun", "cutover", "store targetOpened", "conclude",
  ]

  @Test func `each phase is stored once its work is done, and before the next one's begins`() async throws {
    let store = Store(.schema)
    guard case .outcome(.complete) = try await runner(store).run() else {
      Issue.record("it has not come to its end")
      return
    }
    #expect(store.done == Self.walk)
    #expect(store.current == .complete)
  }

  @Test(arguments: walk.indices)
  func `an engine that dies anywhere goes on with the piece that was not stored`(index: Int) async throws {
    let step = Self.walk[index]
    let store = Store(.schema, failing: step)
    await #expect(throws: Crash.self) { _ = try await runner(store).run() }
    let before = store.done
    #expect(before == Array(Self.walk[...index]))
    let reached = store.current
    _ = try await runner(store).run()
    #expect(reached == .complete || store.current == .complete)
    // What is stored is not done again; what was under way is, and nothing is left out.
    let after = store.done.dropFirst(before.count)
    let stored = Set(before.dropLast().filter { $0.hasPrefix("store") })
    #expect(stored.isDisjoint(with: after), "\(after)")
    #expect(Set(before).union(after).isSuperset(of: Self.walk.filter { $0 != "conclude" }))
  }

  @Test func `a target that opens with reverse replication begins another run, which streams back`()
    async throws
  {
    let store = Store(.streaming)
    guard case .turned = try await runner(store, isReversible: true).run() else {
      Issue.record("it has not turned")
      return
    }
    #expect(store.current == .reverse)
    _ = try await runner(store).run()
    #expect(store.done.suffix(2) == ["store targetOpenedReversibly", "stream back"])
  }

  @Test(arguments: [Phase.complete, .aborted, .failed])
  func `where nothing is left to do nothing is done`(phase: Phase) async throws {
    let store = Store(phase)
    guard case .outcome(.stopped) = try await runner(store).run() else {
      Issue.record("it has not stopped")
      return
    }
    #expect(store.done == ["stop"])
  }
}
