/// The order of one cutover, as a pure state machine: what happened goes in, the next thing to do comes out.
///
/// Before the seal every failure leads to `unfence` and the source accepts writes again. After it nothing is
/// undone: what fails is retried, by this engine or the next.
struct CutoverMachine: Sendable, Equatable {
  enum Step: String, Sendable, CaseIterable {
    case arm
    /// Clients of poolers wait there from now on.
    case pause
    case fence
    case awaitWriters = "await writers"
    case mark
    case drain
    case finalise
    /// Both ends are compared.
    case verify
    case seal
    /// In a rehearsal: checks for what would prevent the seal.
    case examine
    case unfence
    /// Clients waiting in poolers continue on the source.
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
    /// The requested step is done.
    case done
    /// The seal has been committed. Too late means that the fence may have expired before it, and let writes
    /// pass.
    case sealed(inTime: Bool)
    /// The step failed, or ran out of time. Its outcome may be unknown.
    case failed(String)
  }

  enum Action: Sendable, Equatable {
    case perform(Step)
    /// The target accepts writes.
    case complete
    /// The source accepts writes.
    case aborted(reason: String)
    /// The source accepts writes, and nothing failed.
    case rehearsed
    /// The source is sealed, or may be, and the target is not open yet: `resume` continues.
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
  /// The point of no return has been passed.
  private(set) var isSealed = false
  /// The target has everything that was committed before the seal.
  private(set) var isDrained = false
  private var failure: String?
  private let pausesPoolers: Bool
  private let isRehearsal: Bool
  private let verifies: Bool

  /// - Parameters:
  ///   - pausesPoolers: whether clients wait in poolers from before the fence.
  ///   - isRehearsal: whether the fence is removed instead of sealed.
  ///   - verifies: whether both ends are compared before the seal.
  init(pausesPoolers: Bool = false, isRehearsal: Bool = false, verifies: Bool = false) {
    self.verifies = verifies
    self.pausesPoolers = pausesPoolers
    self.isRehearsal = isRehearsal
  }

  mutating func begin() -> Action { perform(.arm) }

  /// Continues in the middle of a cutover: after an engine that ended there, or after a failed step.
  /// - Parameters:
  ///   - fence: its state; `sealed` where that is already known without asking.
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
      // Where it is not known what was drained, another drain's marker proves it. An open target may have
      // taken writes, which nothing from the source may overwrite.
      return perform(targetIsOpen ? .switchOver : isDrained ? .open : .awaitWriters)
    }
  }

  mutating func handle(_ event: Event) throws(Impossible) -> Action {
    guard let step else { throw Impossible(step: nil, event: event) }
    switch event {
    case .done: return try done(step)
    case .failed(let reason): return try failed(step, reason)
    case .sealed(let inTime):
      // A seal whose outcome was unknown shows when the fence is to be removed.
      guard step == .seal || step == .unfence else { throw Impossible(step: step, event: event) }
      isSealed = true
      isDrained = inTime
      // Writes that slipped through between expiry and seal have not been drained yet.
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
    // The target is open: the steps themselves report what failed.
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
