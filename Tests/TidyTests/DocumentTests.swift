import Foundation
import Testing

/// The documentation leads somewhere, and speaks of what is there.
struct DocumentTests {
  private static func pages() throws -> [String] {
    try ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
      + Repository.paths(below: "docs").filter { $0.hasSuffix(".md") }
  }

  @Test func `each link of a page leads to a page and a heading`() throws {
    var found = 0
    var offenders: [String] = []
    for page in try Self.pages() {
      for link in Self.links(in: try Repository.text(of: page)) where !link.contains("://") {
        found += 1
        let parts = link.split(separator: "#", omittingEmptySubsequences: false).map(String.init)
        let path = parts[0].isEmpty ? page : Self.resolved(parts[0], from: page)
        guard let text = try? Repository.text(of: path) else {
          offenders.append("\(page): \(link): there is no such file")
          continue
        }
        if parts.count == 2, !Self.anchors(of: text).contains(parts[1]) {
          offenders.append("\(page): \(link): there is no such heading")
        }
      }
    }
    #expect(found > 50, "links are not found any more")
    expectNone(offenders, "a link leads somewhere")
  }

  @Test func `each page of docs is in its contents`() throws {
    let contents = try Set(Self.links(in: Repository.text(of: "docs/README.md")))
    let offenders = try Repository.paths(below: "docs").filter { $0.hasSuffix(".md") }
      .filter { $0 != "docs/README.md" && !contents.contains(String($0.dropFirst("docs/".count))) }
    expectNone(offenders, "docs/README.md leads to each page")
  }

  @Test func `each file of docs that the code names is there`() throws {
    var found = 0
    var offenders: [String] = []
    for file in try Repository.allSwiftFiles() {
      for (index, line) in file.lines.enumerated() where line.range(of: "docs/", options: .literal) != nil {
        for name in line.matches(of: /docs\/[A-Za-z_]+\.md/) {
          found += 1
          if (try? Repository.text(of: String(name.0))) == nil { offenders.append(file.place(index)) }
        }
      }
    }
    #expect(found > 1)
    expectNone(offenders, "a page that is named is there")
  }

  @Test func `each message of the troubleshooting is one of the program's, and in its place`() throws {
    let code = try Repository.swiftFiles(below: "Sources").map { Self.joined($0.lines) }
    var found = 0
    for section in try Repository.text(of: "docs/TROUBLESHOOTING.md").split(separator: "\n## ").dropFirst() {
      let messages = section.matches(of: /\n### `(.+)`/).map { String($0.1) }
      found += messages.count
      #expect(messages == messages.sorted { $0.lowercased() < $1.lowercased() })
      for message in messages {
        let parts = message.split(separator: "\u{2026}").map { $0.trimmingCharacters(in: .whitespaces) }
        let isSaid = code.contains { text in
          parts.allSatisfy { text.range(of: $0, options: .literal) != nil }
        }
        #expect(isSaid, "nothing says: \(message)")
      }
    }
    #expect(found > 25, "messages are not found any more")
  }

  /// A file's code, in which a text that is written in several lines is one.
  private static func joined(_ lines: [String]) -> String {
    lines.reduce(into: "") { code, line in
      let line = line.trimmingCharacters(in: .whitespaces)
      if code.hasSuffix("\\") {
        code.removeLast()
        code += line
      } else if code.hasSuffix("\""), line.hasPrefix("+ \"") {
        code.removeLast()
        code += line.dropFirst(3)
      } else {
        code += "\n" + line
      }
    }
  }

  private static func links(in text: String) -> [String] {
    withoutCode(text).matches(of: /\]\(([^)\s]+)\)/).map { String($0.1) }
  }

  /// Every other part is between two fences.
  private static func withoutCode(_ text: String) -> String {
    let parts = text.components(separatedBy: "```")
    return parts.indices.filter { $0 % 2 == 0 }.map { parts[$0] }.joined()
  }

  private static func resolved(_ link: String, from page: String) -> String {
    var parts = page.split(separator: "/").dropLast().map(String.init)
    for part in link.split(separator: "/").map(String.init) {
      if part == ".." { _ = parts.popLast() } else { parts.append(part) }
    }
    return parts.joined(separator: "/")
  }

  /// As GitHub makes them of headings: letters, digits and `_` stay, a blank becomes a hyphen.
  private static func anchors(of text: String) -> Set<String> {
    Set(
      withoutCode(text).matches(of: /(?m:^)#+ (.+)/).map { heading in
        String(
          heading.1.lowercased().compactMap { character -> Character? in
            if character == " " { return "-" }
            return character.isLetter || character.isNumber || "-_".contains(character) ? character : nil
          })
      })
  }
}
