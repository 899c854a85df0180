import Clusters
import Testing

/// What the harness sees the servers through.
@Suite(.serialized, .servers, .timeLimit(.minutes(1)))
struct SessionTests {
  @Test("Values come back as they are: NULL, empty, newlines, quotes, not ASCII")
  func values() async throws {
    let session = try await SQLSession(try await ClusterPair.shared.source)
    let rows = try await session.rows(
      "SELECT NULL, '', E'a\\nb', 'it''s', 'Sélect' UNION ALL SELECT '1','2','3','4','5'")
    #expect(rows == [[nil, "", "a\nb", "it's", "Sélect"], ["1", "2", "3", "4", "5"]])
    #expect(try await session.rows("SELECT 1 WHERE false").isEmpty)
    await session.close()
  }

  @Test("A refused statement shows its SQLSTATE, and the session goes on")
  func refusal() async throws {
    let session = try await SQLSession(try await ClusterPair.shared.source)
    do {
      try await session.execute("SELECT 1/0")
      Issue.record("a division by zero went through")
    } catch let failure as SQLFailure {
      #expect(failure.sqlState == "22012")
    }
    #expect(try await session.value("SELECT 2") == "2")
    await session.close()
  }

  @Test("A terminated session is lost, and says so")
  func termination() async throws {
    let source = try await ClusterPair.shared.source
    let victim = try await SQLSession(source)
    let killer = try await SQLSession(source)
    let pid = try #require(try await victim.value("SELECT pg_backend_pid()"))
    try await killer.execute("SELECT pg_terminate_backend(\(pid), 5000)")
    do {
      try await victim.execute("SELECT 1")
      Issue.record("a terminated session answered")
    } catch SQLFailure.connectionLost(let reason) {
      #expect(reason.contains("terminating connection"))
    }
    await killer.close()
  }
}
