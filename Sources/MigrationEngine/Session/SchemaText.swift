/// The output of `pg_dump --schema-only`, split into objects. Pure.
struct SchemaText: Sendable, Equatable {
  struct Name: Sendable, Hashable, Comparable {
    /// As pg_dump calls it: `TABLE`, `FK CONSTRAINT`.
    var kind: String
    var schema: String
    var tag: String

    static func < (left: Self, right: Self) -> Bool {
      (left.kind, left.schema, left.tag) < (right.kind, right.schema, right.tag)
    }

    /// `index public.t_v_idx`, `trigger x on public.t`, `privileges of table public.t`.
    var words: String {
      let kind = self.kind.lowercased()
      let prefix = schema == "-" || schema.isEmpty ? "" : "\(schema)."
      let parts = tag.split(separator: " ", omittingEmptySubsequences: false)
      if let phrase = Self.ofObjects[self.kind] {
        let kinds = parts.dropLast().prefix { Self.kindWords.contains($0) }
        let name = parts.dropFirst(kinds.count).joined(separator: " ")
        return ([phrase] + kinds.map { $0.lowercased() } + ["\(prefix)\(name)"]).joined(separator: " ")
      }
      if self.kind == "DEFAULT ACL" {
        return tag.lowercased() + (prefix.isEmpty ? "" : " in schema \(schema)")
      }
      // Such an object's tag begins with its table's name; where a name contains a blank, its end is not
      // known.
      if Self.ofTables.contains(self.kind), parts.count == 2 {
        return "\(kind) \(parts[1]) on \(prefix)\(parts[0])"
      }
      // Some tags say the kind themselves.
      let name = tag.hasPrefix("\(self.kind) ") ? tag.dropFirst(self.kind.count + 1) : tag[...]
      return "\(kind) \(prefix)\(name)"
    }

    /// The object alone.
    var object: String {
      guard Self.ofObjects[kind] == nil, kind != "DEFAULT ACL" else { return words }
      return String(words.dropFirst(kind.count + 1))
    }

    private static let ofTables: Set = [
      "TRIGGER", "CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT", "RULE", "POLICY", "DEFAULT",
    ]

    /// Their tags begin with the kind of the object that they belong to.
    private static let ofObjects = [
      "ACL": "privileges of", "COMMENT": "comment on", "SECURITY LABEL": "security label on",
    ]

    private static let kindWords: Set<Substring> = [
      "ACCESS", "AGGREGATE", "CAST", "CLASS", "COLLATION", "COLUMN", "CONFIGURATION", "CONSTRAINT",
      "CONVERSION", "DATA", "DICTIONARY", "DOMAIN", "EVENT", "EXTENSION", "FAMILY", "FOREIGN", "FUNCTION",
      "INDEX", "LANGUAGE", "MATERIALIZED", "METHOD", "OPERATOR", "PARSER", "POLICY", "PROCEDURE",
      "PUBLICATION", "RULE", "SCHEMA", "SEARCH", "SEQUENCE", "SERVER", "STATISTICS", "TABLE", "TEMPLATE",
      "TEXT", "TRIGGER", "TYPE", "VIEW", "WRAPPER",
    ]
  }

  struct Entry: Sendable, Equatable {
    var owner: String
    var lines: [Substring]
  }

  /// Several may have one name: overloaded functions have their arguments in it, but a body may look like a
  /// comment of pg_dump's.
  private(set) var entries: [Name: [Entry]] = [:]

  init(_ text: String) {
    var current: (name: Name, entry: Entry)?
    func close(_ entries: inout [Name: [Entry]]) {
      guard let name = current?.name, var entry = current?.entry else { return }
      let lines = entry.lines.filter { !$0.isEmpty && $0 != "--" && !Self.isGuard($0) }
      entry.lines = Self.joined(lines.map(ColumnOptions.ofUsers)).filter { !ColumnOptions.isNothing($0) }
      entries[name, default: []].append(entry)
    }
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      if let header = Self.header(line) {
        close(&entries)
        current = (header.name, Entry(owner: header.owner, lines: []))
      } else if !Self.isState(line) {
        current?.entry.lines.append(line)
      }
    }
    close(&entries)
  }

  /// Joins again what a line break in a name has split.
  static func joined(_ lines: [Substring]) -> [Substring] {
    let (name, text) = (UInt8(ascii: "\""), UInt8(ascii: "'"))
    var joined: [Substring] = []
    var open: UInt8?
    for line in lines {
      let isInside = open == name
      for byte in line.utf8 where byte == name || byte == text {
        if open == nil { open = byte } else if open == byte { open = nil }
      }
      if isInside, let begun = joined.popLast() {
        joined.append(begun + "\n" + line)
      } else {
        joined.append(line)
      }
    }
    return joined
  }

  /// `-- Name: t_v_idx; Type: INDEX; Schema: public; Owner: postgres`
  private static func header(_ line: Substring) -> (name: Name, owner: String)? {
    guard line.hasPrefix("-- Name: "), let type = line.lastRange(of: "; Type: "),
      let schema = line[type.upperBound...].firstRange(of: "; Schema: "),
      let owner = line[schema.upperBound...].firstRange(of: "; Owner: ")
    else { return nil }
    let tag = line[line.index(line.startIndex, offsetBy: 9)..<type.lowerBound]
    // A tablespace follows the owner where there is one.
    let name = line[owner.upperBound...].split(separator: "; Tablespace: ", maxSplits: 1).first ?? ""
    return (
      Name(
        kind: String(line[type.upperBound..<schema.lowerBound]),
        schema: String(line[schema.upperBound..<owner.lowerBound]), tag: String(tag)),
      String(name)
    )
  }

  /// pg_dump restricts its output with a random key, different each time.
  private static func isGuard(_ line: Substring) -> Bool {
    line.hasPrefix("\\restrict ") || line.hasPrefix("\\unrestrict ")
      || line == "-- PostgreSQL database dump complete"
  }

  /// What belongs to the position in the dump and not to the object.
  private static func isState(_ line: Substring) -> Bool {
    line.hasPrefix("SET default_tablespace = ") || line.hasPrefix("SET default_table_access_method = ")
  }
}

extension Substring {
  fileprivate func lastRange(of text: String) -> Range<Index>? { ranges(of: text).last }
}
