import Foundation
import Testing

@testable import MigrationEngine

@Suite("JSON object as text")
struct JSONObjectTextTests {
  @Test("One field is changed, and every other byte stays")
  func replaces() throws {
    let text = #"""
      { "password" : "a\"b, \\", "host":"old" , "n": 5432,
        "inner": {"host": "x", "list": [1, "}", {"host": 2}]}, "é\u0041": "z", "e": 1.0E3, "last":null }

      """#
    let object = try #require(JSONObjectText(text))
    #expect(object.value(of: "host") == .text("old"))
    #expect(object.value(of: "n") == .number("5432") && object.value(of: "e") == .number("1.0E3"))
    #expect(object.value(of: "éA") == .text("z"), "a name is what it says, however it is written")
    #expect(object.value(of: "inner") == .other && object.value(of: "last") == .other)
    #expect(object.value(of: "list") == nil, "only fields at the top")
    let new = try JSONObjectText.quoted("new/\"é\u{1}")
    #expect(new == #""new/\"é\u0001""#)
    #expect(object.replacing("host", with: new) == text.replacing(#""old""#, with: new))
    #expect(object.replacing("n", with: "1") == text.replacing("5432", with: "1"))
    #expect(object.replacing("list", with: "1") == nil)
  }

  @Test("What is no object, or has a field twice, is not changed")
  func unusable() {
    for text in ["", "x", "[]", "1", #""a""#, "{", #"{"a": }"#, #"{"a": 1,}"#, #"{"a": 1} x"#, #"{a: 1}"#] {
      #expect(JSONObjectText(text) == nil, "\(text)")
    }
    #expect(JSONObjectText(" { } ")?.value(of: "a") == nil)
    let twice = JSONObjectText(#"{"a": "1", "a": "2"}"#)
    #expect(twice?.value(of: "a") == nil && twice?.replacing("a", with: "1") == nil)
  }

  @Test("Whatever an object holds, each field is found, and changing it changes nothing else")
  func property() throws {
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<300 {
      let fields = (0..<Int.random(in: 1...6, using: &generator)).map { index in
        (name: "f\(index)\(Self.noise(&generator))", text: Self.noise(&generator))
      }
      let gaps = ["", " ", "\n\t", "\r\n "]
      func gap() -> String { gaps.randomElement(using: &generator) ?? "" }
      let members = try fields.map { field in
        "\(gap())\(try JSONObjectText.quoted(field.name))\(gap()):\(gap())"
          + "\(try JSONObjectText.quoted(field.text))\(gap())"
      }
      let object = try #require(JSONObjectText("{\(members.joined(separator: ","))}\(gap())"))
      let chosen = try #require(fields.randomElement(using: &generator))
      #expect(object.value(of: chosen.name) == .text(chosen.text))
      let changed = try #require(
        object.replacing(chosen.name, with: #""new""#).flatMap { JSONObjectText($0) })
      for field in fields {
        let expected = field.name == chosen.name ? "new" : field.text
        #expect(changed.value(of: field.name) == .text(expected))
      }
    }
  }

  private static func noise(_ generator: inout SystemRandomNumberGenerator) -> String {
    let letters = ["a", "\"", "\\", "{", "}", "[", "]", ",", ":", " ", "é", "\u{1F600}", "\n", "/"]
    return (0..<Int.random(in: 0...8, using: &generator))
      .compactMap { _ in letters.randomElement(using: &generator) }.joined()
  }
}
