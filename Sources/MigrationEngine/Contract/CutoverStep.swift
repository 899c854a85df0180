extension Status.Cutover {
  /// Where a cutover or a rollback stands, under the names that the status, the report and the stored state
  /// have.
  package enum Step: String, Sendable, Codable, CaseIterable {
    /// What must fit is looked at; nothing has begun.
    case prepare
    case compareSchemas = "compare schemas"
    case begin
    case arm
    case pause
    case fence
    case awaitWriters = "await writers"
    case mark
    case drain
    case finalise
    case verify
    case examine
    case seal
    case unfence
    /// Clients that wait in poolers go on; or a cutover of an engine that ended goes on.
    case resume
    case open
    case switchOver = "switch"
    /// It has ended in one of these.
    case complete, rehearsed, aborted
  }

  /// What the end that opens knows of the seal, once it has everything from before it.
  package enum Seal: Sendable {
    /// It does not have everything.
    case none
    /// The seal was about to be committed: nobody but the end that is left knows whether it was.
    case announced
    case stands
  }

  package var seal: Seal {
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
