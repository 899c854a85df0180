extension Route53Action {
  /// A record, as far as steps of one plan are told apart.
  struct Key: Hashable, Sendable {
    let name: String
    let type: String

    init(name: String, type: String) {
      let lower = name.lowercased()
      self.name = lower.hasSuffix(".") ? String(lower.dropLast()) : lower
      self.type = type
    }
  }

  /// What the records that are there under a name mean for the one that the step sets.
  enum Records {
    /// What the service would refuse, or what would go on leading elsewhere.
    static func obstacles(_ present: [Record], to wanted: Record) -> [SwitchFinding] {
      let sets = present.filter { $0.type == wanted.type }.compactMap(\.set)
      if !sets.isEmpty {
        return [
          .blocker(
            "\(wanted.name) has \(wanted.type) records with set identifiers "
              + "(\(sets.joined(separator: ", "))): weighted, by latency, or the like. The step sets one "
              + "simple record, which cannot stand beside them.",
            "Leave one simple record in their place before the cutover, or change them with a step exec.")
        ]
      }
      let others = Set(present.map(\.type)).subtracting([wanted.type]).sorted()
      let hindering = wanted.type == "CNAME" ? others : others.filter { $0 == "CNAME" }
      guard !hindering.isEmpty else { return [] }
      return [
        .blocker(
          "\(wanted.name) has a record of type \(hindering.joined(separator: ", ")), beside which there can "
            + "be none of type \(wanted.type).",
          "Give the step the type of the record that is there, with a value for it, or delete that record "
            + "before the cutover.")
      ]
    }

    /// An address of the other family: clients choose between the two.
    static func bystanders(
      _ present: [Record], of wanted: Record, moved: Set<Key>
    ) -> [SwitchFinding] {
      let families = ["A": "AAAA", "AAAA": "A"]
      guard let other = families[wanted.type], present.contains(where: { $0.type == other }),
        !moved.contains(Key(name: wanted.name, type: other))
      else { return [] }
      return [
        .warning(
          "\(wanted.name) has a record of type \(other) as well, which leads on to where it leads now.",
          "Add a step for it, or delete it before the cutover.")
      ]
    }

    /// The record whose answers clients may still hold: nil when there is none, or it leads to the same.
    static func replaced(_ present: [Record], by wanted: Record) -> Record? {
      guard let old = present.first(where: { $0.isSameSet(as: wanted) }) else { return nil }
      var alike = wanted
      alike.ttl = old.ttl
      return old.says(alike) ? nil : old
    }
  }
}
