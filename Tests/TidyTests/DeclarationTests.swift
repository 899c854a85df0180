import Testing

struct DeclarationTests {
  private func declarations(_ text: String) -> [Declaration] {
    Declaration.all(in: SourceFile(path: "sample", text: text))
  }

  private func names(_ text: String, where isWanted: (Declaration) -> Bool = { _ in true }) -> [String] {
    declarations(text).filter(isWanted).flatMap(\.names)
  }

  @Test func `finds what a type declares, and nothing in a body`() {
    let text = """
      struct A: B {
        static let text = "let no = 1"
        let number = 1
        var computed: Int { let no = 2; return no }
        var stored = { let no = 3 }()
        func call(
          one: Int = { let no = 4 }()
        ) -> Int {
          struct No {}
        }
        init?(_ a: Int) {}
        subscript(a: Int) -> Int { a }
        enum Kind: String { case a, b(Int), c = "no" }
      }
      extension A.Kind { class func d() {} }
      """
    #expect(
      names(text) == [
        "A", "text", "number", "computed", "stored", "call", "init", "subscript", "Kind", "a", "b", "c",
        "A.Kind", "d",
      ])
    #expect(declarations(text).first { $0.names == ["a", "b", "c"] }?.containers == ["A", "Kind"])
  }

  @Test func `shows what other modules see`() {
    let text = """
      package protocol P {
        func inProtocol()
      }
      package enum E {
        case inEnum
        func no() {}
        package private(set) var modified = 1
        @inlinable
        package static func attributed() {}
      }
      struct S { package var inside: Int }
      package extension S { var inExtension: Int { 1 }; private var no: Int { 1 } }
      private package let a = 1
      """
    #expect(
      names(text) { $0.isPackage } == [
        "P", "inProtocol", "E", "inEnum", "modified", "attributed", "inside", "S", "inExtension", "a",
      ])
  }

  @Test func `a comment belongs to what follows it, attributes and modifiers included`() {
    let text = """
      /// One.
      @available(*, unavailable)
      final class A {
        /// Two.
        let b = 1
        let c = 1
        // No documentation.
        let d = 1

        /// Nor is this.

        let e = 1
      }
      """
    #expect(names(text) { $0.isDocumented } == ["A", "b"])
  }

  @Test func `knows what protocols of others ask for`() {
    let text = """
      struct A {
        static func < (left: A, right: A) -> Bool { true }
        static func == (left: A, right: A) -> Bool { true }
        init(from decoder: any Decoder) {}
        init?(rawValue: Int) {}
        var description: String { "" }
        init(number: Int) {}
        var words: String { "" }
      }
      """
    #expect(names(text) { !$0.isRequirementOfOthers } == ["A", "init", "words"])
    #expect(declarations(text).compactMap(\.firstLabel) == ["left", "left", "from", "rawValue", "number"])
  }

  @Test func `a signature ends where the body begins, or with its line`() {
    let text = """
      struct A {
        let a: B?
        let b = ""
        func c<T>(
          d: T
        ) async throws -> E
        where T: F {
          G()
        }
        var h: [I]
      }
      """
    #expect(
      declarations(text).dropFirst().map { $0.signature.joined(separator: " ") } == [
        "let a : B ?", "let b =", "func c < T > ( d : T ) async throws - > E where T : F", "var h : [ I ]",
      ])
  }
}
