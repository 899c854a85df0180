import Foundation
import LogicalReplication
import Testing

struct LSNCodingTests {
  @Test func `is its text form in JSON`() throws {
    let json = try JSONEncoder().encode([LSN(rawValue: 0x16_B374_D848)])
    #expect(try JSONDecoder().decode([String].self, from: json) == ["16/B374D848"])
    #expect(try JSONDecoder().decode([LSN].self, from: json) == [LSN(rawValue: 0x16_B374_D848)])
  }

  @Test func `refuses other text in JSON`() {
    #expect(throws: DecodingError.self) {
      try JSONDecoder().decode([LSN].self, from: Data(#"["16-B374D848"]"#.utf8))
    }
  }
}
