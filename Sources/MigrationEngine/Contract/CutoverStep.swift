extension Status.Cutover {
  /// Where a cutover or a rollback stands, under the names that the status, the report and the stored state
  /// have.
  package enum Step: String, Sendable, Codable, CaseIterable {
    /// What must fit is looked at; nothing has begun.
    case prepare
    /// Both ends must have the same definitions, but for what was accepted.
    case compareSchemas = "compare schemas"
    /// Taken up by the engine; the first step comes next.
    case begin
    /// Every table of the end to be left gets its trigger, which does nothing yet.
    case arm
    /// Clients wait in their poolers.
    case pause
    /// The triggers refuse writes from here on: the write pause.
    case fence
    /// Transactions that held a write lock before the fence come to their end.
    case awaitWriters = "await writers"
    /// A marker is written into the WAL behind all that they have written.
    case mark
    /// The stream has brought everything up to the marker.
    case drain
    /// What no stream carries is brought over: sequences, unlogged tables.
    case finalise
    /// Both ends are compared as far as was asked.
    case verify
    /// What the seal looks for is looked for without it: the end of a rehearsal.
    case examine
    /// The fence becomes one without expiry: the point of no return.
    case seal
    /// The fence is taken down, since the cutover failed or was a rehearsal.
    case unfence
    /// Clients that wait in poolers go on; or a cutover of an engine that ended goes on.
    case resume
    /// The end that is moved to takes writes: the pause is over.
    case open
    /// The steps of the user lead the application over.
    case switchOver = "switch"
    /// It has ended in one of these.
    case complete, rehearsed, aborted
  }

  /// What the end that opens knows of the seal, once it has everything from before it.
  enum Seal: Sendable {
    /// It does not have everything.
    case none
    /// The seal was about to be committed: nobody but the end that is left knows whether it was.
    case announced
    case stands
  }

  var seal: Seal {
    get {
      switch isSealed {
      case nil: .none
      case false: .announced
      case true: .stands
      }
    }
    set {
      isSealed =
        switch newValue {
        case .none: nil
        case .announced: false
        case .stands: true
        }
    }
  }
}
