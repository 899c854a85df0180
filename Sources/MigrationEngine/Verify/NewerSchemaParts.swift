/// What only the newer of two servers knows of objects that both have, and gives them by itself. pg_dump
/// writes it for that server alone, so it is left out of what is compared. Pure.
struct NewerSchemaParts: Sendable, Equatable {
  /// Their names, which pg_dump writes where they are not the usual ones.
  var notNullNames = false
  var multiranges = false
  var maintainPrivilege = false

  init() {}

  /// - Parameters: the versions of both servers, as `PQserverVersion` counts.
  init(_ one: Int, _ other: Int) {
    func isNew(_ feature: ServerFeature) -> Bool { (one >= feature.since) != (other >= feature.since) }
    notNullNames = isNew(.namedNotNull)
    multiranges = isNew(.multiranges)
    maintainPrivilege = isNew(.maintainPrivilege)
  }

  /// - Parameters:
  ///   - line: of an entry of pg_dump's.
  ///   - kind: the entry's, as pg_dump names it.
  /// - Returns: what both servers could have written; nil for nothing.
  func left(out line: Substring, of kind: String) -> Substring? {
    switch kind {
    case "TABLE" where notNullNames, "FOREIGN TABLE" where notNullNames:
      return Substring(
        line.replacing(#/ CONSTRAINT (?:"(?:[^"]|"")+"|[^ "]+) NOT NULL/#, with: " NOT NULL"))
    case "TYPE" where multiranges:
      if line.hasPrefix("    multirange_type_name = ") { return nil }
      // It was the last but one, or is the last now.
      return line.last == "," ? line.dropLast() : line
    case "ACL" where maintainPrivilege, "DEFAULT ACL" where maintainPrivilege:
      return Self.withoutMaintain(line)
    default: return line
    }
  }

  /// `GRANT ALL ON TABLE` means more on the newer server; for the older, pg_dump lists what it means there.
  private static func withoutMaintain(_ line: Substring) -> Substring {
    let all = "SELECT,INSERT,REFERENCES,DELETE,TRIGGER,TRUNCATE,UPDATE"
    guard let on = line.firstMatch(of: #/ ON TABLES? /#)?.range.lowerBound else { return line }
    let privileges = line[..<on].replacing("MAINTAIN,", with: "")
    let isAll = privileges.hasSuffix("GRANT ALL") || privileges.hasSuffix("REVOKE ALL")
    return (isAll ? privileges.dropLast(3) + all : Substring(privileges)) + line[on...]
  }
}
