/// The order of one cutover, as a pure state machine: what happened goes in, the next thing to do comes out.
///
/// Before the seal every failure leads to `unfence` and the source takes writes again. Behind it nothing is
/// undone: what fails is tried again, by this engine or by one that comes next.
struct CutoverMachine: Sendable, Equatable {
  enum Step: String, Sendable, CaseIterable {
    case arm
    /// Clients that come through poolers wait there from now on.
    case pause
    case fence
    case awaitWriters = "await writers"
    case mark
    case drain
    case finalise
    /// Both ends are compared.
    case verify
    case seal
    /// In a rehearsal: what would keep the source from being sealed.
    case examine
    case unfence
    /// Clients that wait in poolers go on, on the source.
    case resume
    case open
    case switchOver = "switch"

    /// As the report names it.
    var reported: Status.Cutover.Step {
      switch self {
      case .arm: .arm
      case .pause: .pause
      case .fence: .fence
      case .awaitWriters: .awaitWriters
      case .mark: .mark
      case .drain: .drain
      case .finalise: .finalise
      case .verify: .verify
      case .seal: .seal
      case .examine: .examine
      case .unfence: .unfence
      case .resume: .resume
      case .open: .open
      case .switchOver: .switchOver
      }
    }
  }

  enum Event: Sendable, Equatable {
    /// The step that was asked for has been done.
    case done
    /// The seal has been committed. Too late means that the fence may have expired before, and let writes
    /// pass.
    case sealed(inTime: Bool)
    /// The step, or the time it had, failed. Its outcome may be unknown.
    case failed(String)
  }

  enum Action: Sendable, Equatable {
    case perform(Step)
    /// The target takes writes.
    case complete
    /// The source takes writes.
    case aborted(reason: String)
    /// The source takes writes, and nothing had failed.
    case rehearsed
    /// The source is sealed, or may be, and the target is not open yet: `resume` leads on.
    case tryAgain(reason: String)
  }

  /// An event that cannot happen in the step the cutover is in.
  struct Impossible: Error, Sendable, Equatable, CustomStringConvertible {
    let step: Step?
    let event: Event
    var description: String {
      "event \(event) cannot happen in step \(step.map(\.rawValue) ?? "none") of a cutover"
    }
  }

  /// The step that is under way; nil before the first and after the last.
  private(set) var step: Step?
  /// The point of no return is behind us.
  private(set) var isSealed = false
  /// And the target has everything that was ever committed before it.
  private(set) var isDrained = false
  private var failure: String?
  private let pausesPoolers: Bool
  private let isRehearsal: Bool
  private let verifies: Bool

  /// - Parameters:
  ///   - pausesPoolers: whether clients wait in poolers from before the fence.
  ///   - isRehearsal: whether the fence is taken down where it would be sealed.
  ///   - verifies: whether both ends are compared before the seal.
  init(pausesPoolers: Bool = false, isRehearsal: Bool = false, verifies: Bool = false) {
    self.verifies = verifies
    self.pausesPoolers = pausesPoolers
    self.isRehearsal = isRehearsal
  }

  mutating func begin() -> Action { perform(.arm) }

  /// Goes on in the middle of a cutover: after an engine that ended there, or after a step that failed.
  /// - Parameters:
  ///   - fence: how it stands; `sealed` where that is known already, so that nobody need be asked.
  ///   - isDrained: the target is known to have everything.
  mutating func resume(
    from fence: SourceState.Fence, targetIsOpen: Bool, isDrained known: Bool = false
  ) -> Action {
    switch isSealed ? .sealed : fence {
    case .open, .fenced:
      failure = "the engine ended, or lost a connection, in the middle of the cutover"
      return perform(.unfence)
    case .sealed:
      isSealed = true
      isDrained = isDrained || known
      // Where it is not known what was drained, the marker of another drain is proof again. An open target
      // may have taken writes: nothing of the source may be written over them.
      return perform(targetIsOpen ? .switchOver : isDrained ? .open : .awaitWriters)
    }
  }

  mutating func handle(_ event: Event) throws(Impossible) -> Action {
    guard let step else { throw Impossible(step: nil, event: event) }
    switch event {
    case .done: return try done(step)
    case .failed(let reason): return try failed(step, reason)
    case .sealed(let inTime):
      // A seal whose outcome was unknown shows itself when the fence is to be taken down.
      guard step == .seal || step == .unfence else { throw Impossible(step: step, event: event) }
      isSealed = true
      isDrained = inTime
      // Writes that slipped through between expiry and seal are in no drain yet.
      return perform(inTime ? .open : .awaitWriters)
    }
  }

  private mutating func done(_ step: Step) throws(Impossible) -> Action {
    switch step {
    case .arm: return perform(pausesPoolers ? .pause : .fence)
    case .pause: return perform(.fence)
    case .fence: return perform(.awaitWriters)
    case .awaitWriters: return perform(.mark)
    case .mark: return perform(.drain)
    case .drain: return perform(.finalise)
    case .finalise:
      isDrained = isSealed
      return perform(isSealed ? .open : verifies ? .verify : isRehearsal ? .examine : .seal)
    case .verify: return perform(isRehearsal ? .examine : .seal)
    case .examine: return perform(.unfence)
    case .seal: throw Impossible(step: step, event: .done)
    case .unfence: return pausesPoolers ? perform(.resume) : undone()
    case .resume: return undone()
    case .open: return perform(.switchOver)
    case .switchOver: return end(.complete)
    }
  }

  private mutating func failed(_ step: Step, _ reason: String) throws(Impossible) -> Action {
    switch step {
    case .arm: return end(.aborted(reason: reason))
    // Some poolers may have been paused.
    case .pause:
      failure = reason
      return perform(.resume)
    case .resume:
      failure = [failure, reason].compactMap { $0 }.joined(separator: "; ")
      return undone()
    case .fence, .awaitWriters, .mark, .drain, .finalise, .verify, .examine, .seal, .open:
      guard !isSealed else { return end(.tryAgain(reason: reason)) }
      failure = reason
      return perform(.unfence)
    case .unfence: return end(.tryAgain(reason: reason))
    // The target is open: the steps tell by themselves what failed.
    case .switchOver: throw Impossible(step: step, event: .failed(reason))
    }
  }

  private mutating func undone() -> Action { end(failure.map { .aborted(reason: $0) } ?? .rehearsed) }

  private mutating func perform(_ next: Step) -> Action {
    step = next
    return .perform(next)
  }

  private mutating func end(_ action: Action) -> Action {
    step = nil
    return action
  }
}
