import Clusters
import Logging
import Testing

@testable import LibPQ
@testable import MigrationEngine

/// A scene with a table and a sequence on both ends, the target closed as it is before a cutover: for one
/// cutover without an engine around it, whose stages are scripted.
struct ClosedTarget: Sendable {
  let scene: Scene
  var request: CutoverRequest {
    var request = CutoverRequest(requestedBy: "a test")
    request.timeoutSeconds = 20
    return request
  }

  static func run(_ name: String, _ body: @Sendable (ClosedTarget) async throws -> Void) async throws {
    try await Scene.run(name) { scene in
      try await scene.both(["CREATE TABLE t (id int PRIMARY KEY)", "CREATE SEQUENCE counter"])
      try await SourceState(try await scene.connection(.source)).create()
      let target = try await scene.connection(.target)
      try await target.query("CREATE SCHEMA replicate", doing: "preparing the target")
      try await TargetFence(target).close()
      try await body(ClosedTarget(scene: scene))
    }
  }

  func cutover(
    _ handover: ScriptedHandover = ScriptedHandover(),
    onStep: @escaping @Sendable (Status.Cutover) -> Void = { _ in }
  ) throws -> Cutover {
    Cutover(
      ends: Leg.Addresses(from: try server(.source), to: try server(.target)), handover: handover,
      logger: logger, onStep: onStep)
  }

  /// Back to the source, which a cutover has sealed.
  func rollback(_ handover: ScriptedHandover) async throws -> Cutover {
    let pass = WriteFence.Pass()
    try await WriteFence(try await scene.connection(.source)).admit(pass)
    return Cutover(
      ends: Leg.Addresses(
        direction: .back, from: try server(.target), to: pass.applied(to: try server(.source))),
      handover: handover,
      logger: logger, onStep: { _ in })
  }

  private var logger: Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }

  private func server(_ end: Scene.End) throws -> LibPQ.ConnectionString {
    try LibPQ.ConnectionString(scene.server(end).text, for: "\(end)")
  }

  func sourceRefusal() async throws -> String? { try await refusal(.source) }
  func targetRefusal() async throws -> String? { try await refusal(.target) }

  private func refusal(_ end: Scene.End) async throws -> String? {
    try await scene.refusal(
      of: "DELETE FROM t", on: scene.server(end), settings: ["default_transaction_read_only": "off"])
  }

  /// The source takes writes and the target none, and a cutover of which nothing fails goes through.
  func expectUndone() async throws {
    #expect(try await sourceRefusal() == nil)
    #expect(try await targetRefusal() == "25006")
    #expect(try await cutover().perform(request).result == .complete)
    try await expectCutOver()
  }

  func expectCutOver() async throws {
    #expect(try await sourceRefusal() == "25006")
    #expect(try await targetRefusal() == nil)
  }
}
