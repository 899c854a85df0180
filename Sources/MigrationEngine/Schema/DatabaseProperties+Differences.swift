import LogicalReplication

/// How the databases themselves differ. Values of settings may be secrets, and are not reported.
extension DatabaseProperties {
  typealias Difference = VerificationReport.ObjectDifference

  /// - Parameters:
  ///   - source: the counterpart of these properties.
  ///   - direction: the direction that writes go, or will go. What only the receiving end has may be
  ///     intended.
  static func differences(
    source: DatabaseProperties, target: DatabaseProperties, direction: Direction
  ) -> [Difference] {
    let (from, to) = direction == .forward ? (source, target) : (target, source)
    var differences = settings(from, to, direction)
    if from.comment == nil, to.comment != nil {
      differences.append(
        difference("comment of the database", "is only on the \(direction.to)", isExpected: true))
    } else if from.comment != to.comment {
      let words = to.comment == nil ? "is missing on the" : "is another on the"
      differences.append(difference("comment of the database", "\(words) \(direction.to)"))
    }
    if source.connectionLimit != target.connectionLimit {
      let limits = "is \(source.connectionLimit) on the source and \(target.connectionLimit) on the target"
      differences.append(
        difference(
          "connection limit of the database", limits,
          remedy: .init(
            end: direction.to,
            sql: "ALTER DATABASE \(SQL.identifier(to.name)) CONNECTION LIMIT \(from.connectionLimit);")))
    }
    if source.owner != target.owner {
      // It was chosen when the target's database was created.
      differences.append(
        difference(
          "owner of the database", "is \(source.owner) on the source and \(target.owner) on the target",
          isExpected: true))
    }
    return differences + grants(from, to, direction)
  }

  private static func difference(
    _ name: String, _ words: String, isExpected: Bool = false, remedy: Difference.Remedy? = nil
  ) -> Difference {
    Difference(
      kind: "database", object: name, name: name, words: "\(name) \(words)", isExpected: isExpected,
      remedy: remedy)
  }

  /// The end that was left has it since it was left.
  private static let setByUs = "default_transaction_read_only"

  private static func settings(
    _ from: DatabaseProperties, _ to: DatabaseProperties, _ direction: Direction
  ) -> [Difference] {
    func named(_ properties: DatabaseProperties) -> [String: String] {
      let settings = properties.settings.filter { !($0.role == nil && $0.name == setByUs) }
      return Dictionary(
        settings.map { setting in
          let whose = setting.role.map { " of role \(SQL.words($0)) in the database" } ?? " of the database"
          return ("setting \(setting.name)\(whose)", setting.value)
        }, uniquingKeysWith: { first, _ in first })
    }
    let (wanted, there) = (named(from), named(to))
    return Set(wanted.keys).union(there.keys).sorted().compactMap { name in
      switch (wanted[name], there[name]) {
      case (let value, let other) where value == other: nil
      case (_, nil): difference(name, "is missing on the \(direction.to)")
      case (nil, _): difference(name, "is only on the \(direction.to)", isExpected: true)
      case (_, _): difference(name, "has another value on the \(direction.to)")
      }
    }
  }

  /// An owner may do everything, whatever is granted; and our role on an end has been granted what it needs.
  private static func grants(
    _ from: DatabaseProperties, _ to: DatabaseProperties, _ direction: Direction
  ) -> [Difference] {
    let owners = [from.owner, to.owner]
    func ofOthers(_ properties: DatabaseProperties) -> Set<Grant> {
      Set(properties.allGrants.filter { !owners.contains($0.role ?? "") && $0.role != properties.role })
    }
    let (wanted, there) = (ofOthers(from), ofOthers(to))
    return wanted.symmetricDifference(there).sorted().map { grant in
      let isMissing = wanted.contains(grant)
      let what = "\(grant.privilege) ON DATABASE \(SQL.identifier(to.name))"
      let role = grant.role.map(SQL.identifier) ?? "PUBLIC"
      let option = grant.isGrantable ? " WITH GRANT OPTION" : ""
      return difference(
        "privilege \(grant.privilege)\(option) of \(grant.role.map(SQL.words) ?? "PUBLIC") on the database",
        "is \(isMissing ? "missing" : "only") on the \(direction.to)",
        remedy: .init(
          end: direction.to,
          sql: isMissing ? "GRANT \(what) TO \(role)\(option);" : "REVOKE \(what) FROM \(role);"))
    }
  }
}

extension DatabaseProperties.Grant: Comparable {
  static func < (left: Self, right: Self) -> Bool {
    (left.role ?? "", left.privilege, left.isGrantable ? 1 : 0)
      < (right.role ?? "", right.privilege, right.isGrantable ? 1 : 0)
  }
}
