/// Waits until `condition` holds, and throws an error that names what was waited for when `limit` passes first.
///
/// This is the one place that polls: what the tests wait for happens in other processes (a server, the
/// program under test), which send no event here. Everything else waits by calling this.
package func waitUntil(
  _ what: String, within limit: Duration = .seconds(30), every interval: Duration = .milliseconds(20),
  isolation: isolated (any Actor)? = #isolation, condition: () async throws -> Bool
) async throws {
  let clock = ContinuousClock()
  let deadline = clock.now + limit
  while try await !condition() {
    guard clock.now < deadline else { throw HarnessError("\(what): not within \(limit)") }
    try await Task.sleep(for: interval)
  }
}
