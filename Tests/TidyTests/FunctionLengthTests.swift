import Testing

struct FunctionLengthTests {
  private func lengths(_ text: String) -> [Int] {
    FunctionLength.all(in: SourceFile(path: "sample", text: text)).map(\.lines)
  }

  @Test func `counts from the first line of the declaration to its closing brace`() {
    let text = """
      struct A {
        func one() { call { 1 } }
        func four(
          a: Int = { 1 }()
        ) -> Int {
          a }
        init() {
          // {
        }
        var computed: Int {
          "}".count
        }
        let stored = 1
      }
      """
    #expect(lengths(text) == [1, 4, 3, 3])
  }

  @Test func `leaves out what has no body`() {
    let text = """
      protocol A {
        func one()
        init(a: Int)
      }
      struct B {
        var stored = [1, 2].map {
          $0
        }
        let b = B.init()
      }
      """
    #expect(lengths(text) == [])
  }
}
