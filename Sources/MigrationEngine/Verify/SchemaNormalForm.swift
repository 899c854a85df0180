/// A server may write an expression differently after parsing its own output again, as happens after pg_dump
/// and pg_restore: `v IN ('a', 'b')` of a varchar column becomes another text then, and stays so. The parser
/// does few such things (`parse_expr.c`, `gram.y`, `parse_target.c`); here they are done to the text of both
/// ends, so that what means the same reads the same. Each keeps the meaning: no two texts become equal that
/// the parser would distinguish. Pure.
///
/// - A cast of `ARRAY[…]` to an array is one of its elements.
/// - `((a AND b) AND c)` is one list, and so is OR.
/// - A minus sign before a literal belongs to it.
/// - An unnamed column of a subquery gets a name from its expression, which is then written.
/// - `ON TRUE` of a join is written `ON (true)`.
struct SchemaNormalForm: Sendable {
  /// - Returns: the text itself where it cannot be parsed completely.
  static func of(_ text: String) -> String {
    guard let tokens = tokens(of: text), let nodes = nodes(of: tokens) else { return text }
    return written(normal(nodes))
  }

  /// With unqualified names: from 16 on, views of one table do not qualify their columns.
  static func withoutQualifiers(_ text: String) -> String {
    guard let tokens = tokens(of: text) else { return text }
    var names: [String] = []
    for token in tokens {
      guard token.contains("."), token.utf8.first.map({ isOfWord($0) }) == true, Double(token) == nil else {
        names.append(token)
        continue
      }
      if token.hasPrefix("."), names.last?.hasPrefix("\"") == true { names.removeLast() }
      names.append(token.split(separator: ".", omittingEmptySubsequences: false).last.map(String.init) ?? "")
    }
    return names.joined()
  }

  private enum Node: Equatable {
    /// A word or a number with its dots, a string, a quoted name, white space, `::`, or one character.
    case token(String)
    case group(open: String, [Node])

    var text: String? { if case .token(let text) = self { text } else { nil } }
    var isSpace: Bool { text?.utf8.allSatisfy(SchemaNormalForm.isSpace) ?? false }
    var isString: Bool { text?.first == "'" }

    func contents(of open: String) -> [Node]? {
      if case .group(open, let nodes) = self { nodes } else { nil }
    }
  }

  // MARK: Reading and writing

  private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }

  private static func isOfWord(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "."), 0x80...0xFF:
      true
    default: false
    }
  }

  /// - Returns: nil when a quotation has no end.
  private static func tokens(of text: String) -> [String]? {
    let bytes = Array(text.utf8)
    var tokens: [String] = []
    var start = 0
    while start < bytes.count {
      var end = start + 1
      switch bytes[start] {
      case UInt8(ascii: "'"), UInt8(ascii: "\""):
        guard let close = bytes[end...].firstIndex(of: bytes[start]) else { return nil }
        // A doubled quote makes two adjacent tokens, with nothing between them.
        end = close + 1
      case UInt8(ascii: "$"):
        // A function's body; otherwise a parameter.
        if let tagEnd = bytes[end...].firstIndex(where: { !isOfWord($0) }), bytes[tagEnd] == bytes[start] {
          let tag = bytes[start...tagEnd]
          guard let close = bytes[(tagEnd + 1)...].firstRange(of: tag) else { return nil }
          end = close.upperBound
        }
      case let byte where isOfWord(byte):
        end = bytes[end...].firstIndex { !isOfWord($0) && $0 != UInt8(ascii: "$") } ?? bytes.count
      case let byte where isSpace(byte):
        end = bytes[end...].firstIndex { !isSpace($0) } ?? bytes.count
      case UInt8(ascii: ":") where end < bytes.count && bytes[end] == UInt8(ascii: ":"): end += 1
      default: break
      }
      tokens.append(String(decoding: bytes[start..<end], as: UTF8.self))
      start = end
    }
    return tokens
  }

  /// Deeper than anybody writes; deeper text is not parsed.
  private static let deepest = 400

  private static func nodes(of tokens: [String]) -> [Node]? {
    var open: [(bracket: String, nodes: [Node])] = [("", [])]
    for token in tokens {
      switch token {
      case "(", "[":
        guard open.count < deepest else { return nil }
        open.append((token, []))
      case ")", "]":
        guard let last = open.popLast(), closing(last.bracket) == token else { return nil }
        open[open.count - 1].nodes.append(.group(open: last.bracket, last.nodes))
      default: open[open.count - 1].nodes.append(.token(token))
      }
    }
    return open.count == 1 ? open[0].nodes : nil
  }

  private static func closing(_ bracket: String) -> String {
    switch bracket {
    case "(": ")"
    case "[": "]"
    default: ""
    }
  }

  private static func written(_ nodes: some Sequence<Node>) -> String {
    nodes.reduce(into: "") { text, node in
      switch node {
      case .token(let token): text += token
      case .group(let open, let nodes): text += open + written(nodes) + closing(open)
      }
    }
  }

  // MARK: The rules

  private static func normal(_ nodes: [Node]) -> [Node] {
    var normal: [Node] = []
    for node in nodes {
      guard case .group(let open, let inner) = node else {
        normal.append(node)
        continue
      }
      let contents = Self.normal(inner)
      normal += negative(contents) ?? [.group(open: open, flattened(contents))]
    }
    return withJoins(withoutNames(withCastsInside(normal)))
  }

  /// `(- 1)` → `'-1'::integer`
  private static func negative(_ nodes: [Node]) -> [Node]? {
    guard nodes.count == 3, nodes[0] == .token("-"), nodes[1] == .token(" "), let number = nodes[2].text,
      number.utf8.first.map({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) == true
    else { return nil }
    return [
      .token("'-\(number)'"), .token("::"), .token(Int32(number) == nil ? "numeric" : "integer"),
    ]
  }

  /// `((a AND b) AND c)` → `(a AND b AND c)`
  private static func flattened(_ nodes: [Node]) -> [Node] {
    guard let connective = connective(nodes), let place = nodes.firstIndex(of: connective) else {
      return nodes
    }
    let first = nodes[..<place].filter { !$0.isSpace }
    guard first.count == 1, let inner = first[0].contents(of: "("), Self.connective(inner) == connective
    else { return nodes }
    return inner + [.token(" ")] + nodes[place...]
  }

  /// AND or OR, if it is the only one of them.
  private static func connective(_ nodes: [Node]) -> Node? {
    let found = [Node.token("AND"), .token("OR")].filter(nodes.contains)
    return found.count == 1 ? found[0] : nil
  }

  /// `ON TRUE` → `ON (true)`
  private static func withJoins(_ nodes: [Node]) -> [Node] {
    var nodes = nodes
    for index in nodes.indices.dropLast(2)
    where nodes[index] == .token("ON") && nodes[index + 2] == .token("TRUE") {
      nodes[index + 2] = .group(open: "(", [.token("true")])
    }
    return nodes
  }

  // MARK: Types

  /// A type as a cast names it.
  private struct TypeName {
    /// Without the brackets of an array.
    var nodes: [Node]
    var isArray: Bool
    /// Where it ends.
    var end: Int

    var text: String { SchemaNormalForm.written(nodes) }

    /// Without what is in parentheses: a length, a precision.
    var bare: String { SchemaNormalForm.written(nodes.filter { $0.contents(of: "(") == nil }) }

    /// The name of a column whose expression is a cast to it.
    var title: String {
      let bare = bare.hasPrefix("interval ") ? "interval" : bare
      if let name = Self.names[bare] { return name }
      // Where the last part of a name with dots begins is not known, and does not matter here.
      return String(bare.split(separator: ".").last ?? "")
    }

    private static let names = [
      "character varying": "varchar", "character": "bpchar", "integer": "int4", "bigint": "int8",
      "smallint": "int2", "double precision": "float8", "real": "float4", "boolean": "bool",
      "bit varying": "varbit", "timestamp without time zone": "timestamp",
      "timestamp with time zone": "timestamptz", "time without time zone": "time",
      "time with time zone": "timetz",
    ]
  }

  /// Words that may follow the first word of a type's name.
  private static let furtherWords: [String: [String]] = [
    "character": [" varying"], "bit": [" varying"], "double": [" precision"],
    "timestamp": [" without time zone", " with time zone"],
    "time": [" without time zone", " with time zone"],
    "interval": [
      " year to month", " day to hour", " day to minute", " day to second", " hour to minute",
      " hour to second", " minute to second", " year", " month", " day", " hour", " minute", " second",
    ],
  ]

  private static func typeName(_ nodes: [Node], at start: Int) -> TypeName? {
    func isName(_ index: Int) -> Bool {
      guard index < nodes.count, let byte = nodes[index].text?.utf8.first else { return false }
      return byte == UInt8(ascii: "\"") || isOfWord(byte)
    }
    guard isName(start) else { return nil }
    var end = start + 1
    while isName(end) { end += 1 }
    let first = written(nodes[start..<end])
    func takeModifier() {
      if end < nodes.count, nodes[end].contents(of: "(") != nil { end += 1 }
    }
    func takeWords() {
      for words in furtherWords[first] ?? [] {
        let count = words.split(separator: " ").count * 2
        guard end + count <= nodes.count, written(nodes[end..<(end + count)]) == words else { continue }
        end += count
        return
      }
    }
    // `timestamp(3) without time zone`, but `character varying(3)`.
    if first == "timestamp" || first == "time" { takeModifier() }
    takeWords()
    takeModifier()
    let isArray = end < nodes.count && nodes[end].contents(of: "[") == []
    return TypeName(nodes: Array(nodes[start..<end]), isArray: isArray, end: isArray ? end + 1 : end)
  }

  // MARK: Casts of arrays

  /// `(ARRAY[a, b])::text[]` → `ARRAY[(a)::text, (b)::text]`
  private static func withCastsInside(_ nodes: [Node]) -> [Node] {
    var result: [Node] = []
    var index = 0
    while index < nodes.count {
      if let cast = arrayCast(nodes, at: index) {
        result += cast.nodes
        index = cast.end
      } else {
        result.append(nodes[index])
        index += 1
      }
    }
    return result
  }

  private static func arrayCast(_ nodes: [Node], at index: Int) -> (nodes: [Node], end: Int)? {
    let elements: [Node]
    var end = index + 1
    // Statistics objects are written without unneeded parentheses.
    var isBare = false
    if let inner = nodes[index].contents(of: "("), inner.count == 2, inner[0] == .token("ARRAY"),
      let array = inner[1].contents(of: "[")
    {
      elements = array
    } else if nodes[index] == .token("ARRAY"), end < nodes.count, let array = nodes[end].contents(of: "[") {
      elements = array
      end += 1
      isBare = true
    } else {
      return nil
    }
    guard !elements.isEmpty, end < nodes.count, nodes[end] == .token("::"),
      let type = typeName(nodes, at: end + 1), type.isArray
    else { return nil }
    return ([.token("ARRAY"), .group(open: "[", cast(elements, to: type, isBare))], type.end)
  }

  private static func cast(_ elements: [Node], to type: TypeName, _ isBare: Bool) -> [Node] {
    let elements = elements.split(separator: .token(","), omittingEmptySubsequences: false)
    return Array(elements.map { cast($0, to: type, isBare) }.joined(separator: [.token(","), .token(" ")]))
  }

  private static func cast(_ element: some Collection<Node>, to type: TypeName, _ isBare: Bool) -> [Node] {
    let lineBreak = element.prefix { $0.isSpace }.filter { $0.text?.contains("\n") == true }
    let element = Array(element.drop { $0.isSpace })
    if element.count == 2, element[0] == .token("ARRAY"), let inner = element[1].contents(of: "[") {
      return [.token("ARRAY"), .group(open: "[", cast(inner, to: type, isBare))]
    }
    // COLLATE is written around a cast.
    if element.count == 1, let inner = element[0].contents(of: "("),
      let collate = inner.lastIndex(of: .token("COLLATE")), collate > 1
    {
      return [.group(open: "(", cast(inner[..<(collate - 1)], to: type, isBare) + inner[(collate - 1)...])]
    }
    if isBare, let collate = element.lastIndex(of: .token("COLLATE")), collate > 1 {
      return cast(element[..<(collate - 1)], to: type, isBare) + element[(collate - 1)...]
    }
    // A literal of the type itself only gets its length.
    let literal = element.prefix { $0.isString }
    if !literal.isEmpty, type.bare != type.text, element.dropFirst(literal.count).first == .token("::"),
      written(element.dropFirst(literal.count + 1)) == type.bare
    {
      return literal + [.token("::")] + type.nodes
    }
    let isAlone = isBare && isSimple(element)
    return (isAlone ? lineBreak + element : [.group(open: "(", lineBreak + element)]) + [.token("::")]
      + type.nodes
  }

  /// What needs no parentheses before a cast.
  private static func isSimple(_ element: [Node]) -> Bool {
    if element.first == .token("CASE"), element.last == .token("END") { return true }
    var index = 0
    while index < element.count {
      if element[index].isSpace { return false }
      index += 1
      if element[index - 1] == .token("::"), let type = typeName(element, at: index) { index = type.end }
    }
    return true
  }

  // MARK: Names of columns

  /// `'a'::text AS text` → `'a'::text`
  private static func withoutNames(_ nodes: [Node]) -> [Node] {
    var result: [Node] = []
    var item: [Node] = []
    var index = 0
    while index < nodes.count {
      let node = nodes[index]
      if node == .token("AS"), index + 2 < nodes.count, let name = nodes[index + 2].text,
        let title = title(item), name == title || name == "\"\(title)\""
      {
        if result.last?.isSpace == true { result.removeLast() }
        index += 3
        continue
      }
      result.append(node)
      if [.token(","), .token("SELECT"), .token("RETURNING")].contains(node) {
        item = []
      } else if !node.isSpace || !item.isEmpty {
        item.append(node)
      }
      index += 1
    }
    return result
  }

  /// The name of an unnamed column with such an expression; nil where it is not known.
  private static func title(_ nodes: some BidirectionalCollection<Node>) -> String? {
    let nodes = Array(nodes.drop { $0.isSpace }.reversed().drop { $0.isSpace }.reversed())
    if nodes.count == 1, let inner = nodes[0].contents(of: "(") {
      let inner = inner.drop { $0.isSpace }
      if inner.first == .token("SELECT") {
        let ends = [",", "FROM", "WHERE", "GROUP", "ORDER", "LIMIT", "UNION", "INTERSECT", "EXCEPT"]
        return title(inner.dropFirst().prefix { node in !ends.contains { node == .token($0) } })
      }
      return inner.lastIndex(of: .token("COLLATE")).flatMap { title(inner[..<$0]) }
    }
    guard let place = nodes.lastIndex(of: .token("::")), let type = typeName(nodes, at: place + 1),
      type.end == nodes.count
    else { return nil }
    return type.title
  }
}
