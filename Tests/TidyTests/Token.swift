/// A word or a sign of a file's code, and the line on which it is.
struct Token: Equatable {
  let text: String
  let line: Int

  /// Words are letters, digits and `_`; of all other characters each is one token.
  static func all(in file: SourceFile) -> [Token] {
    var tokens: [Token] = []
    for (line, code) in file.code.enumerated() {
      var word: [UInt8] = []
      func endWord() {
        guard !word.isEmpty else { return }
        tokens.append(Token(text: String(decoding: word, as: UTF8.self), line: line))
        word = []
      }
      for byte in code.utf8 {
        if isPartOfWord(byte) {
          word.append(byte)
        } else {
          endWord()
          if byte != UInt8(ascii: " ") { tokens.append(Token(text: signs[Int(byte)], line: line)) }
        }
      }
      endWord()
    }
    return tokens
  }

  /// Bytes beyond ASCII are taken for letters: names may have them, and signs do not matter.
  private static func isPartOfWord(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), 0x80...:
      true
    default: false
    }
  }

  private static let signs = (0..<128).map { String(UnicodeScalar(UInt8($0))) }
}
