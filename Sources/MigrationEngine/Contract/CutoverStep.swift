extension Status.Cutover {
  /// Where a cutover or rollback stands, under the names used by the status, the report and the stored state.
  package enum Step: String, Sendable, Codable, CaseIterable {
    /// Prerequisites are checked; nothing has begun.
    case prepare
    /// Both ends must have the same definitions, except for accepted differences.
    case compareSchemas = "compare schemas"
    /// The engine has taken the request; the first step comes next.
    case begin
    /// Every table on the end to be left gets its trigger, which does nothing yet.
    case arm
    /// Poolers make their clients wait.
    case pause
    /// The triggers refuse writes from here on: the write pause.
    case fence
    /// Transactions that held a write lock before the fence end.
    case awaitWriters = "await writers"
    /// A marker is written into the WAL after everything they wrote.
    case mark
    /// The stream delivers everything up to the marker.
    case drain
    /// What the stream does not carry is copied: sequences, unlogged tables.
    case finalise
    /// Both ends are compared to the extent requested.
    case verify
    /// The seal's checks are made without sealing: the end of a rehearsal.
    case examine
    /// The fence becomes permanent: the point of no return.
    case seal
    /// The fence is removed: the cutover failed or was a rehearsal.
    case unfence
    /// Clients waiting in poolers continue, or the cutover of an engine that ended does.
    case resume
    /// The receiving end accepts writes: the pause is over.
    case open
    /// The user's steps move the application over.
    case switchOver = "switch"
    /// The possible ends.
    case complete, rehearsed, aborted
  }

  /// What the end that opens knows about the seal, once it has everything written before it.
  enum Seal: Sendable {
    /// It does not have everything yet.
    case none
    /// The seal was about to be committed: only the end being left knows whether it was.
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
