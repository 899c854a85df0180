/// A trigger, rule or event trigger whose mode differs between the ends.
struct TriggerState: Sendable, Equatable {
  /// From `pg_trigger.tgenabled`, `pg_rewrite.ev_enabled` and `pg_event_trigger.evtenabled`.
  enum Enabled: String, Sendable {
    case enabled = "O"
    case disabled = "D"
    case always = "A"
    case replica = "R"

    var words: String {
      switch self {
      case .enabled: "enabled"
      case .disabled: "disabled"
      case .always: "enabled always"
      case .replica: "enabled for replicated changes"
      }
    }
  }

  /// pg_dump's name: `TRIGGER`, `RULE`, `EVENT TRIGGER`.
  var kind: String
  /// `-` for none.
  var schema: String
  /// As in pg_dump: the table's name and the trigger's.
  var tag: String
  var source: Enabled
  /// Its mode once the target opens, if it is suspended.
  var target: Enabled
  /// Sets its mode on the target.
  var remedy: String

  init(
    kind: String, schema: String, tag: String, source: Enabled, target: Enabled, remedy: String
  ) {
    (self.kind, self.schema, self.tag) = (kind, schema, tag)
    (self.source, self.target, self.remedy) = (source, target, remedy)
  }
}
