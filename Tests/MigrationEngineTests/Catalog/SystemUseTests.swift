import Foundation
import Testing

@testable import MigrationEngine

/// Whether our role may use what we use of the system is asked before a migration and before a fence, so the
/// list of it must be whole.
struct SystemUseTests {
  private static func names(_ expression: String) throws -> Set<String> {
    let regex = try Regex(expression, as: (Substring, Substring).self)
    var sources = URL(filePath: #filePath)
    for _ in 0..<4 { sources.deleteLastPathComponent() }
    sources.append(path: "Sources/MigrationEngine")
    return Set(
      try FileManager.default.subpathsOfDirectory(atPath: sources.path).filter { $0.hasSuffix(".swift") }
        .flatMap { path in
          try String(contentsOf: sources.appending(path: path), encoding: .utf8).matches(of: regex)
            .map { String($0.output.1) }
        })
  }

  @Test func `every function of the system that is called is one that is asked for`() throws {
    let called = try Self.names(#"pg_catalog\.([a-z_0-9]+)\("#)
    #expect(called.count > 50)
    #expect(called.subtracting(SystemPrivileges.functions) == [])
    #expect(Set(SystemPrivileges.functions).subtracting(called) == [])
  }

  @Test func `every relation of the system that is read is one that is asked for`() throws {
    let read = try Self.names(#"(?:FROM|JOIN|IN|,) pg_catalog\.(pg_[a-z_0-9]+) "#)
    #expect(read.count > 20)
    #expect(read.subtracting(SystemPrivileges.relations).subtracting(SystemPrivileges.functions) == [])
  }
}
