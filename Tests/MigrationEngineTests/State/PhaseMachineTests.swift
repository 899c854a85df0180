import Testing

@testable import MigrationEngine

struct PhaseMachineTests {
  typealias Event = PhaseMachine.Event

  private static let events: [Event] = [
    .preflightPassed, .schemaTransferred, .tablesCopied, .indexesBuilt, .caughtUp, .cutoverBegun,
    .cutoverAborted, .targetOpened, .targetOpenedReversibly, .reverseEnded, .abortRequested,
  ]

  /// Everything that may happen; whatever is not here must be refused.
  private static let transitions: [Phase: [(event: Event, next: Phase)]] = [
    .preflight: [(.preflightPassed, .schema), (.abortRequested, .aborted)],
    .schema: [(.schemaTransferred, .copy), (.abortRequested, .aborted)],
    .copy: [(.tablesCopied, .index), (.abortRequested, .aborted)],
    .index: [(.indexesBuilt, .catchup), (.abortRequested, .aborted)],
    .catchup: [(.caughtUp, .streaming), (.abortRequested, .aborted)],
    .streaming: [(.cutoverBegun, .cutover), (.abortRequested, .aborted)],
    .cutover: [
      (.cutoverAborted, .streaming), (.targetOpened, .complete), (.targetOpenedReversibly, .reverse),
      (.abortRequested, .aborted),
    ],
    .reverse: [(.reverseEnded, .complete)], .complete: [], .aborted: [], .failed: [],
  ]

  @Test(arguments: Phase.allCases)
  func `every event is answered in every phase, and only those that may happen change it`(
    phase: Phase
  ) throws {
    let possible = try #require(Self.transitions[phase])
    for event in Self.events {
      var phases = PhaseMachine(phase: phase)
      if let next = possible.first(where: { $0.event == event })?.next {
        let action = try phases.handle(event)
        #expect(phases.phase == next)
        #expect(action == phases.resume(), "what follows an event is what a restart would do")
      } else {
        let impossible = #expect(throws: PhaseMachine.Impossible.self) { try phases.handle(event) }
        #expect(impossible?.phase == phase && impossible?.event == event)
        #expect(phases.phase == phase)
      }
    }
  }

  @Test(
    arguments: [
      (.preflight, .transferSchema), (.schema, .transferSchema), (.copy, .copyTables),
      (.index, .buildIndexes),
      (.catchup, .catchUp), (.streaming, .stream), (.cutover, .cutOver), (.complete, .stop),
      (.reverse, .streamBack),
      (.aborted, .stop), (.failed, .stop),
    ] as [(Phase, PhaseMachine.Action)])
  func `an engine that finds a phase goes on where it stopped`(
    phase: Phase, action: PhaseMachine.Action
  ) {
    #expect(PhaseMachine(phase: phase).resume() == action)
  }

  @Test func `a migration without trouble passes through all phases to complete`() throws {
    var phases = PhaseMachine(phase: .preflight)
    var actions = [phases.resume()]
    for event in [
      Event.preflightPassed, .schemaTransferred, .tablesCopied, .indexesBuilt, .caughtUp, .cutoverBegun,
      .cutoverAborted, .cutoverBegun, .targetOpened,
    ] { actions.append(try phases.handle(event)) }
    #expect(phases.phase == .complete)
    #expect(
      actions == [
        .transferSchema, .transferSchema, .copyTables, .buildIndexes, .catchUp, .stream, .cutOver, .stream,
        .cutOver, .stop,
      ])
  }

  @Test func `what cannot happen is named with event and phase`() {
    var phases = PhaseMachine(phase: .complete)
    let impossible = #expect(throws: PhaseMachine.Impossible.self) { try phases.handle(.abortRequested) }
    #expect(impossible?.description == "event abortRequested cannot happen in phase complete")
  }

  @Test func `phases are stored under the names of the contract`() {
    #expect(
      Phase.allCases.map(\.rawValue) == [
        "preflight", "schema", "copy", "index", "catchup", "streaming", "cutover", "complete", "reverse",
        "aborted", "failed",
      ])
  }
}
