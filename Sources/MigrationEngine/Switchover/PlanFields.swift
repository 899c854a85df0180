import Yams

/// The keys of one mapping in the plan file. Reads them strictly, and records errors instead of stopping;
/// `finish` records unknown keys.
struct PlanFields {
  /// "step 2 (ecs)": the place that mistakes are reported for.
  let place: String
  private let mapping: Node.Mapping
  private let variables: PlanText
  private let mistakes: PlanErrorList
  private var known: [String] = []

  init(_ mapping: Node.Mapping, in place: String, variables: PlanText, mistakes: PlanErrorList) {
    self.mapping = mapping
    self.place = place
    self.variables = variables
    self.mistakes = mistakes
  }

  /// The same keys under another name.
  func called(_ place: String) -> PlanFields {
    var copy = PlanFields(mapping, in: place, variables: variables, mistakes: mistakes)
    copy.known = known
    return copy
  }

  func mistake(_ what: String, at key: String? = nil) {
    let mark = key.flatMap { node($0)?.mark } ?? mapping.mark
    mistakes.add(what, in: key.map { "\(place), \($0)" } ?? place, at: mark)
  }

  /// - Parameter unknown: what to say of a key that was not asked for.
  func finish(_ unknown: String? = nil) {
    for (key, _) in mapping {
      guard let name = key.scalar?.string else {
        mistakes.add("a key must be a word", in: place, at: key.mark)
        continue
      }
      guard !known.contains(name) else { continue }
      mistakes.add(
        unknown ?? "there is no such key; there are \(known.joined(separator: ", "))",
        in: "\(place), \(name)", at: key.mark)
    }
  }

  /// The keys that `read` asks for are known from now on; what it finds wrong with them is not recorded.
  mutating func know(_ read: (inout PlanFields) -> Void) {
    var probe = PlanFields(mapping, in: place, variables: variables, mistakes: PlanErrorList())
    read(&probe)
    for key in probe.known { know(key) }
  }

  /// Records what is wrong with texts, whatever their keys mean.
  /// - Parameters:
  ///   - keys: which were read already.
  ///   - commands: keys whose texts are not expanded.
  func checkTexts(besides keys: [String], commands: [String]) {
    for (key, node) in mapping {
      guard let name = key.scalar?.string, !keys.contains(name) else { continue }
      check(node, name, commands)
    }
  }

  private func check(_ node: Node, _ key: String, _ commands: [String]) {
    if node.scalar != nil { _ = text(node, key, isExpanded: !commands.contains(key)) }
    for part in node.sequence ?? [] { check(part, key, commands) }
    for (inner, part) in node.mapping ?? [:] { check(part, inner.scalar?.string ?? key, commands) }
  }

  // MARK: Values

  mutating func has(_ key: String) -> Bool {
    know(key)
    return node(key) != nil
  }

  /// - Parameter isExpanded: false for text read by a shell, which has the same variables itself.
  mutating func text(_ key: String, isRequired: Bool = false, isExpanded: Bool = true) -> String? {
    know(key)
    guard let node = node(key) else {
      if isRequired { mistake("\(key) is missing") }
      return nil
    }
    return text(node, key, isExpanded: isExpanded)
  }

  mutating func choice(_ key: String, among choices: [String]) -> String? {
    guard let text = text(key) else { return nil }
    if choices.contains(text) { return text }
    mistake("give \(choices.joined(separator: ", "))", at: key)
    return nil
  }

  mutating func number(_ key: String, in range: ClosedRange<Int>) -> Int? {
    guard let text = text(key) else { return nil }
    if let number = Int(text), range.contains(number) { return number }
    mistake("give a whole number from \(range.lowerBound) to \(range.upperBound)", at: key)
    return nil
  }

  mutating func duration(_ key: String) -> Duration? {
    guard let text = text(key) else { return nil }
    do {
      return .seconds(try DurationText.seconds(text))
    } catch {
      mistake("\(error)", at: key)
      return nil
    }
  }

  mutating func texts(_ key: String) -> [String] {
    list(key).compactMap { text($0, key, isExpanded: true) }
  }

  /// A list of mappings, each with its own place: "step 1 (pgbouncer), poolers 2".
  mutating func mappings(_ key: String) -> [PlanFields] {
    list(key).enumerated().compactMap { index, node in
      let place = "\(place), \(key) \(index + 1)"
      guard let mapping = node.mapping else {
        mistakes.add("give keys with values", in: place, at: node.mark)
        return nil
      }
      return PlanFields(mapping, in: place, variables: variables, mistakes: mistakes)
    }
  }

  private mutating func list(_ key: String) -> [Node] {
    know(key)
    guard let node = node(key) else {
      mistake("\(key) is missing")
      return []
    }
    guard let sequence = node.sequence else {
      mistake("give a list", at: key)
      return []
    }
    if sequence.isEmpty { mistake("the list is empty", at: key) }
    return Array(sequence)
  }

  private mutating func know(_ key: String) {
    if !known.contains(key) { known.append(key) }
  }

  private func node(_ key: String) -> Node? { mapping.first { $0.key.scalar?.string == key }?.value }

  private func text(_ node: Node, _ key: String, isExpanded: Bool) -> String? {
    func refuse(_ what: String) -> String? {
      mistakes.add(what, in: "\(place), \(key)", at: node.mark)
      return nil
    }
    guard let scalar = node.scalar else { return refuse("give one value, no list and no keys") }
    if scalar.style == .plain, Self.nulls.contains(scalar.string) { return refuse("the value is missing") }
    if scalar.style == .plain, Self.truths.contains(scalar.string.lowercased()) {
      return refuse("'\(scalar.string)' is yes or no to YAML: put quotes around it")
    }
    guard isExpanded else {
      return scalar.string.contains { !$0.isWhitespace } ? scalar.string : refuse("the value is empty")
    }
    let (text, wrong) = variables.expanded(scalar.string)
    for what in wrong { mistakes.add(what, in: "\(place), \(key)", at: node.mark) }
    guard wrong.isEmpty else { return nil }
    return text.contains { !$0.isWhitespace } ? text : refuse("the value is empty")
  }

  private static let nulls: Set<String> = ["", "~", "null", "Null", "NULL"]
  private static let truths: Set<String> = ["true", "false", "yes", "no", "on", "off"]
}
