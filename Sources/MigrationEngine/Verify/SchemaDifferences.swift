/// The parts of the schemas that belong to the migration itself, or were on the target before it: no
/// differences.
struct OwnObjects: Sendable {
  var publications: Set<String> = []
  /// Tables that the migration has given REPLICA IDENTITY FULL, on either end.
  var identities: Set<RelationName> = []
  /// What the target had before the migration, according to the state: `extension hstore`.
  var targetBefore: Set<String> = []
  /// Triggers and rules that will be enabled differently, where that is known. Otherwise the text shows it.
  var triggerStates: [TriggerState]?
  /// Tables whose columns are in another order on one end, which pg_dump's text does not show.
  var columnOrders: [ColumnOrder] = []
  /// The role used on the target: it was granted what it needs there.
  var targetRole: String?
  /// Comments of extensions, and schemas made for extensions, which are others' on the target: `COMMENT
  /// EXTENSION hstore`, `SCHEMA aws_commons`.
  var ofOthers: Set<String> = []
}

/// How two schemas differ, object by object, in words. Pure.
struct SchemaDifferences: Sendable {
  var own = OwnObjects()
  /// The stream is on: what it needs on either end is no difference.
  var isStreaming = true
  /// The servers have different major versions, which may write the same object differently.
  var isAcrossVersions = false
  /// What only one of the servers knows of objects that both have.
  var newer = NewerSchemaParts()
  /// The direction that writes go, or will go: on that end statements may fix a difference.
  var direction = Direction.forward

  typealias Difference = VerificationReport.ObjectDifference
  private typealias Objects = [SchemaText.Name: [SchemaText.Entry]]

  func differences(source: SchemaText, target: SchemaText) -> [Difference] {
    let left = prepared(source)
    let right = prepared(target)
    let differences = Set(left.keys).union(right.keys).sorted().compactMap { name -> Difference? in
      guard left[name] != right[name], !comesWithExtension(name, left, right) else { return nil }
      let ours = SchemaNormalForm.of(left[name])
      var theirs = SchemaNormalForm.of(right[name])
      guard ours != theirs else { return nil }
      if name.kind == "ACL" { theirs = withoutGrantsToUs(theirs, besides: ours) }
      switch (ours, theirs) {
      case (let ours?, let theirs?):
        guard ours != theirs else { return nil }
        var found = difference(name, ours, theirs, ownersInSchema(name, target))
        if own.ofOthers.contains("\(name.kind) \(name.tag)") { found?.isExpected = true }
        return found
      case (_?, nil):
        return difference(name, "is missing on the target", remedy: remedy(.forward, name, source))
      case (nil, let theirs?):
        guard !wasThereBefore(name) else { return nil }
        if onlyLetsOwnersCreate(name, theirs.flatMap(\.lines), besides: [], ownersInSchema(name, target)) {
          return difference(name, Self.neededToRestore, isExpected: true)
        }
        return difference(name, "is missing on the source", remedy: remedy(.back, name, target))
      case (nil, nil): return nil
      }
    }
    return differences + (own.triggerStates ?? []).map { difference($0) }
      + own.columnOrders.map { difference($0) }
  }

  private func difference(_ order: ColumnOrder) -> Difference {
    let table = SchemaText.Name(kind: "TABLE", schema: order.table.schema, tag: order.table.name).words
    return Difference(
      kind: "column order", object: table, name: "column order of \(table)",
      words: "the columns of \(table) are in another order on the target "
        + "(\(order.target.joined(separator: ", "))) than on the source "
        + "(\(order.source.joined(separator: ", ")))")
  }

  private func difference(_ state: TriggerState) -> Difference {
    difference(
      SchemaText.Name(kind: state.kind, schema: state.schema, tag: state.tag),
      Self.words(state.source, state.target),
      remedy: direction == .forward ? .init(end: direction.to, sql: state.remedy) : nil)
  }

  private func difference(
    _ name: SchemaText.Name, _ words: String, isExpected: Bool = false, remedy: Difference.Remedy? = nil
  ) -> Difference {
    let isPlural = name.words.hasPrefix("privileges ") || name.words.hasPrefix("default privileges ")
    let words = isPlural && words.hasPrefix("is ") ? "are\(words.dropFirst(2))" : words
    // Privileges on system objects are up to each server's operator; ours asks for some itself.
    let isOfSystem = name.kind == "ACL" && name.schema == "pg_catalog"
    var difference = Difference(
      kind: name.kind.lowercased(), object: name.object, name: name.words, words: "\(name.words) \(words)",
      isExpected: isExpected || isOfSystem, remedy: remedy)
    if isOfSystem { difference.isDoubtful = true }
    return difference
  }

  // MARK: What belongs to the migration itself

  private func prepared(_ text: SchemaText) -> Objects {
    var prepared: Objects = [:]
    for (name, entries) in text.entries where !isOwn(name) {
      let kept = entries.filter { entry in
        !(name.kind == "TRIGGER" && entry.lines.contains { $0.contains(" EXECUTE FUNCTION replicate.") })
      }
      // A partition's trigger may differ from its parent's only in its mode.
      let normal = kept.map { normalised($0, name) }.filter { !$0.lines.isEmpty }
      if !normal.isEmpty { prepared[name] = normal }
    }
    return prepared
  }

  private func isOwn(_ name: SchemaText.Name) -> Bool {
    switch name.kind {
    case "PUBLICATION": own.publications.contains(name.tag)
    case "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA":
      own.publications.contains { name.tag.hasPrefix("\($0) ") }
    case "COMMENT" where name.tag.hasPrefix("PUBLICATION "):
      own.publications.contains { name.tag == "PUBLICATION \($0)" }
    default: name.schema == "replicate" || Self.ofOwnSchema.contains(name)
    }
  }

  private static let ofOwnSchema: Set = [
    SchemaText.Name(kind: "SCHEMA", schema: "-", tag: "replicate"),
    SchemaText.Name(kind: "COMMENT", schema: "-", tag: "SCHEMA replicate"),
    SchemaText.Name(kind: "ACL", schema: "-", tag: "SCHEMA replicate"),
  ]

  /// The comment of an extension that is missing.
  private func comesWithExtension(_ name: SchemaText.Name, _ left: Objects, _ right: Objects) -> Bool {
    guard name.kind == "COMMENT", name.tag.hasPrefix("EXTENSION ") else { return false }
    let `extension` = SchemaText.Name(
      kind: "EXTENSION", schema: name.schema, tag: String(name.tag.dropFirst("EXTENSION ".count)))
    return (left[`extension`] == nil) != (right[`extension`] == nil)
  }

  private func wasThereBefore(_ name: SchemaText.Name) -> Bool {
    let object = ["COMMENT", "ACL"].contains(name.kind) ? name.tag : "\(name.kind) \(name.tag)"
    return ["EXTENSION", "EVENT TRIGGER", "PUBLICATION", "SCHEMA"].contains { kind in
      guard object.hasPrefix("\(kind) ") else { return false }
      let tag = String(object.dropFirst(kind.count + 1))
      return [tag, SQL.identifier(tag)].contains { own.targetBefore.contains("\(kind.lowercased()) \($0)") }
    }
  }

  /// The migration may have given a table REPLICA IDENTITY FULL, and while its stream runs, the receiving end
  /// has no GENERATED ALWAYS AS IDENTITY columns.
  private func normalised(_ entry: SchemaText.Entry, _ name: SchemaText.Name) -> SchemaText.Entry {
    var entry = entry
    if Self.ownerless.contains(name.kind) { entry.owner = "" }
    if own.triggerStates != nil, ["TRIGGER", "RULE", "EVENT TRIGGER"].contains(name.kind) {
      entry.lines = Self.state(entry.lines).rest
    }
    let hasOwnIdentity =
      name.kind == "TABLE" && own.identities.contains(RelationName(schema: name.schema, name: name.tag))
    entry.lines = entry.lines.compactMap { line in
      if hasOwnIdentity,
        line.hasSuffix(" REPLICA IDENTITY FULL;") || line.hasSuffix(" REPLICA IDENTITY NOTHING;")
      {
        return nil
      }
      if isStreaming, line.contains(" ADD GENERATED ALWAYS AS IDENTITY (") {
        return Substring(line.replacing(" GENERATED ALWAYS AS", with: " GENERATED BY DEFAULT AS"))
      }
      return newer.left(out: line, of: name.kind)
    }
    return entry
  }

  /// They have the owner of their table or object.
  private static let ownerless: Set = [
    "ACL", "CHECK CONSTRAINT", "COMMENT", "CONSTRAINT", "DEFAULT", "FK CONSTRAINT", "INDEX", "INDEX ATTACH",
    "POLICY", "PUBLICATION TABLE", "ROW SECURITY", "RULE", "SECURITY LABEL", "SEQUENCE OWNED BY",
    "TABLE ATTACH", "TRIGGER",
  ]

  // MARK: Privileges that the migration needs

  private static let neededToRestore =
    "let owners of objects create there on the target, which needed that to restore them"

  /// The role used on the target was granted what it needs on its schemas.
  private func withoutGrantsToUs(
    _ entries: [SchemaText.Entry]?, besides others: [SchemaText.Entry]?
  ) -> [SchemaText.Entry]? {
    guard let role = own.targetRole else { return entries }
    let known = Set((others ?? []).flatMap(\.lines))
    let kept = entries?.compactMap { entry -> SchemaText.Entry? in
      var entry = entry
      entry.lines.removeAll { line in
        !known.contains(line) && line.hasPrefix("GRANT ") && line.contains(" ON SCHEMA ")
          && Self.isGrant(line, to: role)
      }
      return entry.lines.isEmpty ? nil : entry
    }
    return kept?.isEmpty == true ? nil : kept
  }

  private static func isGrant(_ line: Substring, to role: String) -> Bool {
    [role, SQL.identifier(role)].contains { line.hasSuffix(" TO \($0);") }
  }

  /// The owners of objects on the target, in the schema of these privileges.
  private func ownersInSchema(_ name: SchemaText.Name, _ target: SchemaText) -> Set<String> {
    guard name.kind == "ACL", name.tag.hasPrefix("SCHEMA ") else { return [] }
    let schema = name.tag.dropFirst("SCHEMA ".count)
    return Set(target.entries.filter { $0.key.schema == schema }.values.joined().map(\.owner))
  }

  /// pg_restore gives an object only to an owner that may create in its schema.
  private func onlyLetsOwnersCreate(
    _ name: SchemaText.Name, _ lines: [Substring], besides others: [Substring], _ owners: Set<String>
  ) -> Bool {
    guard !owners.isEmpty else { return false }
    return lines.filter { !others.contains($0) }.allSatisfy { line in
      line.hasPrefix("GRANT CREATE ON SCHEMA ") && owners.contains { Self.isGrant(line, to: $0) }
    }
  }

  // MARK: What fixes a difference

  /// Kinds whose statements can be shown: they hold no secret, and need nothing else.
  private static let statedKinds: Set = [
    "INDEX", "CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT", "SEQUENCE", "TYPE", "TRIGGER", "ACL",
    "DEFAULT ACL", "EXTENSION", "SCHEMA", "ROW SECURITY", "STATISTICS", "PUBLICATION TABLE", "TABLE ATTACH",
    "SEQUENCE OWNED BY", "TABLE",
  ]
  private static let longestStatement = 600

  /// - Parameter direction: which of the ends lacks the object.
  private func remedy(
    _ direction: Direction, _ name: SchemaText.Name, _ text: SchemaText
  ) -> Difference.Remedy? {
    guard direction == self.direction, Self.statedKinds.contains(name.kind) else { return nil }
    return Self.remedy(direction, (text.entries[name] ?? []).flatMap(\.lines))
  }

  private static func remedy(_ direction: Direction, _ lines: [Substring]) -> Difference.Remedy? {
    let lines = lines.map { line in
      // One that fires for replicated changes would repeat what the stream brings: it is suspended.
      direction == .forward && line.hasPrefix("ALTER TABLE ")
        ? line.replacing(" ENABLE ALWAYS TRIGGER ", with: " DISABLE TRIGGER ")
          .replacing(" ENABLE REPLICA TRIGGER ", with: " DISABLE TRIGGER ") : line
    }
    let sql = lines.map { $0.drop { $0 == " " } }.joined(separator: " ")
    guard !sql.isEmpty, sql.utf8.count <= longestStatement else { return nil }
    return Difference.Remedy(end: direction.to, sql: sql)
  }

  /// Whole statements that only one end has.
  private func remedy(
    _ name: SchemaText.Name, _ ours: [Substring], _ theirs: [Substring]
  ) -> Difference.Remedy? {
    guard Self.statedKinds.contains(name.kind) else { return nil }
    let (wanted, there) = direction == .forward ? (ours, theirs) : (theirs, ours)
    let statements = wanted.filter { line in
      !there.contains(line) && line.hasSuffix(";") && (line.hasPrefix("ALTER ") || line.hasPrefix("GRANT "))
    }
    return Self.remedy(direction, statements)
  }

  // MARK: Words

  private func difference(
    _ name: SchemaText.Name, _ source: [SchemaText.Entry], _ target: [SchemaText.Entry],
    _ owners: Set<String>
  ) -> Difference? {
    let ours = source.flatMap(\.lines)
    let theirs = target.flatMap(\.lines)
    if source.map(\.owner) != target.map(\.owner) {
      let owners = (source.map(\.owner).first ?? "", target.map(\.owner).first ?? "")
      if owners.0 != owners.1 {
        return difference(
          name, "belongs to \(owners.0) on the source and \(owners.1) on the target",
          remedy: remedy(name, ours, theirs))
      }
    }
    if let state = enabling(ours, theirs) {
      // Those that fire for replicated changes are suspended on the target until it opens.
      return difference(
        name, state.words, isExpected: isStreaming && state.isHeldBack, remedy: remedy(name, ours, theirs))
    }
    if onlyLetsOwnersCreate(name, theirs, besides: ours, owners), ours.allSatisfy(theirs.contains) {
      return difference(name, Self.neededToRestore, isExpected: true)
    }
    if ours.map(Self.withoutComma).sorted() == theirs.map(Self.withoutComma).sorted() {
      return difference(name, "has its parts in another order on the target", isExpected: true)
    }
    guard !isAcrossVersions || Self.isSameAcrossVersions(name, ours, theirs) else {
      var written = difference(
        name, "is written differently, as the servers' versions may do", isExpected: true)
      written.isDoubtful = Self.withoutQualifiers(ours) != Self.withoutQualifiers(theirs)
      return written
    }
    return difference(
      name, "is defined differently on the target\(Self.firstDifference(name, ours, theirs))",
      remedy: remedy(name, ours, theirs))
  }

  private static func withoutQualifiers(_ lines: [Substring]) -> String {
    SchemaNormalForm.withoutQualifiers(lines.joined(separator: "\n"))
  }

  private static func withoutComma(_ line: Substring) -> Substring {
    line.last == "," ? line.dropLast() : line
  }

  /// Kinds that every version writes in the same way.
  private static let sameAcrossVersions: Set = [
    "ACL", "COMMENT", "DEFAULT ACL", "EXTENSION", "INDEX ATTACH", "PUBLICATION", "ROW SECURITY", "SCHEMA",
    "SECURITY LABEL", "SEQUENCE", "SEQUENCE OWNED BY", "TYPE",
  ]

  /// pg_dump itself writes all of a table but its expressions, in the same way for both ends; the servers
  /// write expressions, and everything without one in the same words.
  private static func isSameAcrossVersions(
    _ name: SchemaText.Name, _ ours: [Substring], _ theirs: [Substring]
  ) -> Bool {
    if sameAcrossVersions.contains(name.kind) { return true }
    if ["INDEX", "CONSTRAINT", "FK CONSTRAINT"].contains(name.kind) {
      return !(ours + theirs).contains(where: mayHoldExpression)
    }
    if ["FUNCTION", "PROCEDURE"].contains(name.kind) {
      // The rest is as the user wrote it.
      return !(ours + theirs).contains {
        $0.contains(" DEFAULT ") || $0.contains("BEGIN ATOMIC") || $0.hasPrefix("    RETURN ")
      }
    }
    if name.kind == "TRIGGER" { return !(ours + theirs).contains { $0.contains(" WHEN (") } }
    guard name.kind == "TABLE" else { return false }
    return ours.map(withoutExpression).sorted() != theirs.map(withoutExpression).sorted()
  }

  /// More than a list of columns.
  private static func mayHoldExpression(_ line: Substring) -> Bool {
    var depth = 0
    return line.contains(" WHERE ")
      || line.contains { character in
        if character == "(" { depth += 1 } else if character == ")" { depth -= 1 }
        return depth > 1
      }
  }

  private static func withoutExpression(_ line: Substring) -> String {
    let line = withoutComma(line)
    let expressions = [" DEFAULT ", " GENERATED ALWAYS AS (", " CHECK (", "PARTITION BY "]
    guard
      let range = expressions.compactMap({ line.firstRange(of: $0) }).min(by: {
        $0.lowerBound < $1.lowerBound
      })
    else { return String(line) }
    return line[..<range.upperBound] + (line.hasSuffix(" NOT NULL") ? " NOT NULL" : "")
  }

  /// Kinds whose definitions hold no secret.
  private static let reportedKinds: Set = [
    "TABLE", "INDEX", "CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT", "SEQUENCE", "TYPE", "TRIGGER", "ACL",
    "DEFAULT ACL", "STATISTICS",
  ]

  private static func firstDifference(
    _ name: SchemaText.Name, _ ours: [Substring], _ theirs: [Substring]
  ) -> String {
    guard reportedKinds.contains(name.kind) else { return "" }
    func only(_ these: [Substring], _ those: [Substring]) -> String? {
      let others = Set(those.map(withoutComma))
      return these.map(withoutComma).first { !others.contains($0) }
        .map { String($0.drop { $0 == " " }.prefix(160)) }
    }
    let parts = [
      only(ours, theirs).map { "the source has: \($0)" }, only(theirs, ours).map { "the target has: \($0)" },
    ].compactMap { $0 }
    return parts.isEmpty ? "" : " (\(parts.joined(separator: "; ")))"
  }

  // MARK: Triggers and rules

  private typealias Enabled = TriggerState.Enabled

  private static func words(_ source: Enabled, _ target: Enabled) -> String {
    source == .enabled
      ? "is \(target.words) on the target"
      : "is \(source.words) on the source and \(target.words) on the target"
  }

  /// The modes of a trigger, rule or event trigger, when only they differ.
  private func enabling(_ ours: [Substring], _ theirs: [Substring]) -> (words: String, isHeldBack: Bool)? {
    let left = Self.state(ours)
    let right = Self.state(theirs)
    guard left.enabled != right.enabled, left.rest == right.rest else { return nil }
    // On the end that a stream is applied to.
    let pair: Set<Enabled> = [left.enabled, right.enabled]
    let isHeldBack =
      left.isEvent
      ? right.enabled == .disabled : pair == [.always, .enabled] || pair == [.replica, .disabled]
    return (Self.words(left.enabled, right.enabled), isHeldBack)
  }

  private static func state(_ lines: [Substring]) -> (enabled: Enabled, rest: [Substring], isEvent: Bool) {
    var enabled = Enabled.enabled
    let isEvent = lines.contains { $0.hasPrefix("CREATE EVENT TRIGGER ") }
    let rest = lines.filter { line in
      guard line.hasPrefix("ALTER TABLE ") || line.hasPrefix("ALTER EVENT TRIGGER "), line.hasSuffix(";")
      else {
        return true
      }
      for (words, state) in [
        (" ENABLE ALWAYS", Enabled.always), (" ENABLE REPLICA", .replica), (" DISABLE", .disabled),
        // For a partition's trigger, where its parent's is not enabled.
        (" ENABLE", .enabled),
      ]
      where line.contains("\(words) TRIGGER ") || line.contains("\(words) RULE ")
        || line.hasSuffix("\(words);")
      {
        enabled = state
        return false
      }
      return true
    }
    return (enabled, rest, isEvent)
  }
}

extension SchemaNormalForm {
  /// An entry may then have fewer lines.
  static func of(_ entries: [SchemaText.Entry]?) -> [SchemaText.Entry]? {
    entries?.map { entry in
      let text = entry.lines.joined(separator: "\n")
      let normal = of(text)
      guard normal != text else { return entry }
      var entry = entry
      entry.lines = SchemaText.joined(normal.split(separator: "\n"))
      return entry
    }
  }
}
