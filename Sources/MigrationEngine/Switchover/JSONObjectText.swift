import Foundation

/// A JSON object as it is written, one of whose fields can be changed while every other byte stays.
struct JSONObjectText {
  /// A field at the top.
  private struct Member {
    var name: String
    var value: Range<Int>
  }

  /// A field's value, as far as a step may set it.
  enum Value: Equatable {
    case text(String)
    /// As it is written.
    case number(String)
    /// True, false, null, a list or an object.
    case other
  }

  private let bytes: [UInt8]
  private let members: [Member]

  /// - Returns: nil when the text is no JSON object.
  init?(_ text: String) {
    let bytes = Array(text.utf8)
    guard (try? JSONSerialization.jsonObject(with: Data(bytes))) is [String: Any],
      let members = Self.members(of: bytes)
    else { return nil }
    self.bytes = bytes
    self.members = members
  }

  /// - Returns: nil when the object has no such field, or has it twice.
  func value(of field: String) -> Value? {
    guard let range = range(of: field) else { return nil }
    let written = bytes[range]
    if written.first == UInt8(ascii: "\"") { return Self.text(written).map { .text($0) } ?? .other }
    let isNumber = written.first.map { $0 == UInt8(ascii: "-") || (0x30...0x39).contains($0) } ?? false
    return isNumber ? .number(String(decoding: written, as: UTF8.self)) : .other
  }

  /// - Parameter written: the value as JSON.
  /// - Returns: nil as `value(of:)` does.
  func replacing(_ field: String, with written: String) -> String? {
    guard let range = range(of: field) else { return nil }
    var changed = bytes
    changed.replaceSubrange(range, with: Array(written.utf8))
    return String(decoding: changed, as: UTF8.self)
  }

  /// A text as JSON writes it.
  static func quoted(_ text: String) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .withoutEscapingSlashes
    return String(decoding: try encoder.encode(text), as: UTF8.self)
  }

  private func range(of field: String) -> Range<Int>? {
    let found = members.filter { $0.name == field }
    return found.count == 1 ? found.first?.value : nil
  }

  private static func text(_ written: ArraySlice<UInt8>) -> String? {
    try? JSONDecoder().decode(String.self, from: Data(written))
  }

  // MARK: Where the fields are

  /// Of text that is known to be an object.
  private static func members(of bytes: [UInt8]) -> [Member]? {
    var place = Place(bytes)
    guard place.take("{") else { return nil }
    var members: [Member] = []
    guard !place.take("}") else { return members }
    repeat {
      guard let key = place.value(), let name = text(bytes[key]), place.take(":"), let value = place.value()
      else { return nil }
      members.append(Member(name: name, value: value))
    } while place.take(",")
    return place.take("}") ? members : nil
  }

  /// A place in the text, which moves on.
  private struct Place {
    private let bytes: [UInt8]
    private var index = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    private static let blanks = Set(" \t\r\n".utf8)
    private static let ends = Set(",]}".utf8)

    private mutating func skipBlanks() {
      while index < bytes.count, Self.blanks.contains(bytes[index]) { index += 1 }
    }

    /// Past blanks, and past this byte if it follows.
    mutating func take(_ byte: Unicode.Scalar) -> Bool {
      skipBlanks()
      guard index < bytes.count, bytes[index] == UInt8(ascii: byte) else { return false }
      index += 1
      return true
    }

    /// Past blanks and one value.
    mutating func value() -> Range<Int>? {
      skipBlanks()
      let start = index
      var depth = 0
      while index < bytes.count {
        let byte = bytes[index]
        if depth == 0, index > start, Self.ends.contains(byte) || Self.blanks.contains(byte) { break }
        switch byte {
        case UInt8(ascii: "\""): guard skipText() else { return nil }
        case UInt8(ascii: "{"), UInt8(ascii: "["): (depth, index) = (depth + 1, index + 1)
        case UInt8(ascii: "}"), UInt8(ascii: "]"): (depth, index) = (depth - 1, index + 1)
        default:
          index += 1
          continue
        }
        if depth == 0 { break }
        if depth < 0 { return nil }
      }
      return index > start && depth == 0 ? start..<index : nil
    }

    /// Past a text in quotes.
    private mutating func skipText() -> Bool {
      index += 1
      while index < bytes.count {
        switch bytes[index] {
        case UInt8(ascii: "\\"): index += 2
        case UInt8(ascii: "\""):
          index += 1
          return true
        default: index += 1
        }
      }
      return false
    }
  }
}
