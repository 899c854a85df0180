import Testing

@testable import MigrationEngine

@Suite("Cutover machine")
struct CutoverMachineTests {
  typealias Step = CutoverMachine.Step

  /// Says "done" to every step up to `last`, and gives back the machine that waits for word of `last`.
  private func machine(at last: Step) throws -> CutoverMachine {
    var machine = CutoverMachine()
    var action = machine.begin()
    while machine.step != last {
      action = try machine.handle(machine.step == .seal ? .sealed(inTime: true) : .done)
    }
    #expect(action == .perform(last))
    return machine
  }

  @Test("Without failures the steps come in the order of the proof, and the target opens after the seal")
  func wholeOrder() throws {
    var machine = CutoverMachine()
    var seen: [Step] = []
    var action = machine.begin()
    while case .perform(let step) = action {
      seen.append(step)
      action = try machine.handle(step == .seal ? .sealed(inTime: true) : .done)
    }
    #expect(action == .complete)
    #expect(seen == [.arm, .fence, .awaitWriters, .mark, .drain, .finalise, .seal, .open, .switchOver])
  }

  @Test("Both ends are compared before the seal, in a rehearsal too, and what is found keeps from sealing")
  func verifies() throws {
    for isRehearsal in [false, true] {
      var machine = CutoverMachine(isRehearsal: isRehearsal, verifies: true)
      _ = machine.begin()
      while machine.step != .finalise { _ = try machine.handle(.done) }
      #expect(try machine.handle(.done) == .perform(.verify))
      var other = machine
      #expect(try machine.handle(.done) == .perform(isRehearsal ? .examine : .seal))
      #expect(try other.handle(.failed("they differ")) == .perform(.unfence))
      #expect(try other.handle(.done) == .aborted(reason: "they differ"))
    }
    var sealed = CutoverMachine(verifies: true)
    _ = sealed.resume(from: .sealed, targetIsOpen: false)
    while sealed.step != .finalise { _ = try sealed.handle(.done) }
    #expect(try sealed.handle(.done) == .perform(.open), "after the seal nothing could be undone")
  }

  @Test("A failure before the fence needs no un-fencing")
  func armFails() throws {
    var machine = try machine(at: .arm)
    #expect(try machine.handle(.failed("locked")) == .aborted(reason: "locked"))
  }

  @Test(
    "A failure between fence and seal takes the fence down, and is the reason that is reported",
    arguments: [Step.fence, .awaitWriters, .mark, .drain, .finalise, .seal])
  func failsBehindFence(_ step: Step) throws {
    var machine = try machine(at: step)
    #expect(try machine.handle(.failed("no time")) == .perform(.unfence))
    #expect(!machine.isSealed)
    #expect(try machine.handle(.done) == .aborted(reason: "no time"))
  }

  @Test(
    "A seal that came too late proves the drain once more before the target opens, and is not sealed again")
  func lateSeal() throws {
    var machine = try machine(at: .seal)
    #expect(try machine.handle(.sealed(inTime: false)) == .perform(.awaitWriters))
    #expect(machine.isSealed)
    for next in [Step.mark, .drain, .finalise, .open] {
      #expect(try machine.handle(.done) == .perform(next))
    }
  }

  @Test(
    "After the seal nothing takes the fence down: what failed is tried again, what is proven is not",
    arguments: [Step.awaitWriters, .mark, .drain, .finalise, .open])
  func failsBehindSeal(_ step: Step) throws {
    var machine = try machine(at: .seal)
    var action = try machine.handle(.sealed(inTime: false))
    while machine.step != step { action = try machine.handle(.done) }
    #expect(action == .perform(step))
    #expect(try machine.handle(.failed("target gone")) == .tryAgain(reason: "target gone"))
    var other = machine
    let again = machine.resume(from: .open, targetIsOpen: false)
    #expect(again == .perform(step == .open ? .open : .awaitWriters), "it is known to be sealed")
    #expect(other.resume(from: .sealed, targetIsOpen: true) == .perform(.switchOver))
  }

  @Test("What an engine before had stored as drained is not drained again")
  func resumeDrained() throws {
    var machine = CutoverMachine()
    #expect(machine.resume(from: .sealed, targetIsOpen: false, isDrained: true) == .perform(.open))
  }

  @Test("A seal whose outcome was unknown, and which the un-fencing finds, goes forward")
  func unknownSeal() throws {
    var machine = try machine(at: .seal)
    #expect(try machine.handle(.failed("connection lost")) == .perform(.unfence))
    #expect(try machine.handle(.sealed(inTime: false)) == .perform(.awaitWriters))
    #expect(machine.isSealed)
  }

  @Test("A fence that can neither be taken down nor be known to be gone is no clean abort")
  func unfenceFails() throws {
    var machine = try machine(at: .seal)
    _ = try machine.handle(.failed("connection lost"))
    #expect(try machine.handle(.failed("source gone")) == .tryAgain(reason: "source gone"))
  }

  @Test("After an engine that died before the seal the fence is taken down", arguments: [false, true])
  func resumeBeforeSeal(isFenced: Bool) throws {
    var machine = CutoverMachine()
    #expect(machine.resume(from: isFenced ? .fenced : .open, targetIsOpen: false) == .perform(.unfence))
    guard case .aborted(let reason) = try machine.handle(.done) else {
      Issue.record("the cutover is not aborted")
      return
    }
    #expect(reason.contains("ended"))
  }

  @Test("After an engine that died after the seal the drain is proved anew, then the target opens")
  func resumeBehindSeal() throws {
    var machine = CutoverMachine()
    #expect(machine.resume(from: .sealed, targetIsOpen: false) == .perform(.awaitWriters))
    for next in [Step.mark, .drain, .finalise, .open, .switchOver] {
      #expect(try machine.handle(.done) == .perform(next))
    }
    #expect(try machine.handle(.done) == .complete)
  }

  @Test("After an engine that died when the target was open nothing of the source is written over it")
  func resumeOpen() throws {
    var machine = CutoverMachine()
    #expect(machine.resume(from: .sealed, targetIsOpen: true) == .perform(.switchOver))
    #expect(try machine.handle(.done) == .complete)
  }

  // MARK: Poolers

  /// As `machine(at:)`, with clients that wait in poolers.
  private func pausing(at last: Step) throws -> CutoverMachine {
    var machine = CutoverMachine(pausesPoolers: true)
    _ = machine.begin()
    while machine.step != last {
      _ = try machine.handle(machine.step == .seal ? .sealed(inTime: true) : .done)
    }
    return machine
  }

  @Test("Clients wait in poolers from before the fence, and the switch lets them go")
  func orderWithPoolers() throws {
    var machine = CutoverMachine(pausesPoolers: true)
    var seen: [Step] = []
    var action = machine.begin()
    while case .perform(let step) = action {
      seen.append(step)
      action = try machine.handle(step == .seal ? .sealed(inTime: true) : .done)
    }
    #expect(action == .complete)
    #expect(
      seen == [.arm, .pause, .fence, .awaitWriters, .mark, .drain, .finalise, .seal, .open, .switchOver])
  }

  @Test("A pause that fails needs no un-fencing, and lets go whoever waits already")
  func pauseFails() throws {
    var machine = try pausing(at: .pause)
    #expect(try machine.handle(.failed("busy")) == .perform(.resume))
    #expect(try machine.handle(.done) == .aborted(reason: "busy"))
  }

  @Test(
    "A failure before the seal lets clients go once the fence is down",
    arguments: [Step.fence, .awaitWriters, .mark, .drain, .finalise, .seal])
  func failsWithPoolers(_ step: Step) throws {
    var machine = try pausing(at: step)
    #expect(try machine.handle(.failed("no time")) == .perform(.unfence))
    #expect(try machine.handle(.done) == .perform(.resume))
    #expect(try machine.handle(.done) == .aborted(reason: "no time"))
  }

  @Test("Clients that cannot be let go are named with the reason of the failure")
  func resumeFails() throws {
    var machine = try pausing(at: .drain)
    _ = try machine.handle(.failed("no time"))
    _ = try machine.handle(.done)
    #expect(try machine.handle(.failed("pooler gone")) == .aborted(reason: "no time; pooler gone"))
  }

  @Test("An engine that undoes another's cutover lets clients go", arguments: [false, true])
  func resumeWithPoolers(isFenced: Bool) throws {
    var machine = CutoverMachine(pausesPoolers: true)
    #expect(machine.resume(from: isFenced ? .fenced : .open, targetIsOpen: false) == .perform(.unfence))
    #expect(try machine.handle(.done) == .perform(.resume))
    guard case .aborted = try machine.handle(.done) else {
      Issue.record("the cutover is not aborted")
      return
    }
  }

  @Test("A seal that the un-fencing finds goes forward, and clients go on waiting for the target")
  func unknownSealWithPoolers() throws {
    var machine = try pausing(at: .seal)
    _ = try machine.handle(.failed("connection lost"))
    #expect(try machine.handle(.sealed(inTime: false)) == .perform(.awaitWriters))
    for next in [Step.mark, .drain, .finalise, .open, .switchOver] {
      #expect(try machine.handle(.done) == .perform(next))
    }
    #expect(try machine.handle(.done) == .complete)
  }

  @Test("Only the seal seals, and the seal is not just done")
  func impossible() throws {
    var draining = try machine(at: .drain)
    #expect(throws: CutoverMachine.Impossible.self) {
      try draining.handle(.sealed(inTime: true))
    }
    #expect(draining.step == .drain)
    var sealing = try machine(at: .seal)
    #expect(throws: CutoverMachine.Impossible.self) { try sealing.handle(.done) }
    var idle = CutoverMachine()
    #expect(throws: CutoverMachine.Impossible.self) { try idle.handle(.done) }
  }

  @Test("A rehearsal goes as far as the seal and takes the fence down; one that fails is aborted")
  func rehearsal() throws {
    for pausesPoolers in [false, true] {
      var machine = CutoverMachine(pausesPoolers: pausesPoolers, isRehearsal: true)
      var seen: [Step] = []
      var action = machine.begin()
      while case .perform(let step) = action {
        seen.append(step)
        action = try machine.handle(.done)
      }
      #expect(action == .rehearsed)
      #expect(!seen.contains(.seal) && !machine.isSealed)
      #expect(seen.suffix(pausesPoolers ? 3 : 2) == [.examine, .unfence] + (pausesPoolers ? [.resume] : []))
    }
    var failing = CutoverMachine(isRehearsal: true)
    _ = failing.begin()
    _ = try failing.handle(.done)
    #expect(try failing.handle(.failed("no fence")) == .perform(.unfence))
    #expect(try failing.handle(.done) == .aborted(reason: "no fence"))
  }

  @Test(arguments: Step.allCases)
  func `a step is reported under its own name`(step: Step) {
    #expect(step.reported.rawValue == step.rawValue)
  }
}
