/// A trigger, rule or event trigger that is enabled in another way on one end than on the other.
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

  /// As pg_dump calls it: `TRIGGER`, `RULE`, `EVENT TRIGGER`.
  var kind: String
  /// `-` for what has none.
  var schema: String
  /// As pg_dump writes it: the table's name and the trigger's.
  var tag: String
  var source: Enabled
  /// What it will be once the target opens, where it is held back.
  var target: Enabled
  /// Makes it what it is to be, on the target.
  var remedy: String

  init(
    kind: String, schema: String, tag: String, source: Enabled, target: Enabled, remedy: String
  ) {
    (self.kind, self.schema, self.tag) = (kind, schema, tag)
    (self.source, self.target, self.remedy) = (source, target, remedy)
  }
}
