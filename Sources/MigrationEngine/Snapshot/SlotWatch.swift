/// How close a slot is to being lost: the source removes WAL that the slot still needs once
/// `max_slot_wal_keep_size` is passed (manual, section 20.6.1 and 54.20). Pure: states in, verdicts out.
struct SlotWatch: Sendable {
  enum Verdict: Sendable, Equatable {
    case fine
    /// Reported once each time it gets worse.
    case warning(String)
    case lost
  }

  private enum Danger: Int, Comparable {
    case none, near, close, unreserved

    static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
  }

  private var reported = Danger.none

  /// - Parameters:
  ///   - status: `wal_status`; empty when there is no slot.
  ///   - safeBytes: WAL that may still be written before the slot is lost; nil without a limit.
  mutating func look(status: String, retainedBytes: Int64, safeBytes: Int64?) -> Verdict {
    if status == "lost" { return .lost }
    let danger = Self.danger(status, retainedBytes, safeBytes)
    defer { reported = danger }
    guard danger > reported else { return .fine }
    let left =
      safeBytes.map { "\(max(0, $0) >> 20) MB more and it is lost" } ?? "it may be lost at any checkpoint"
    return .warning("the slot retains \(retainedBytes >> 20) MB of WAL; \(left)")
  }

  private static func danger(_ status: String, _ retained: Int64, _ safe: Int64?) -> Danger {
    if status == "unreserved" { return .unreserved }
    guard let safe else { return .none }
    let share = Double(max(0, safe)) / Double(max(1, max(0, safe) + max(0, retained)))
    return share < 0.1 ? .close : share < 0.3 ? .near : .none
  }
}
