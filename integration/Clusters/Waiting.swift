/// Waits until `condition` holds, and throws an error that names what was waited for when `limit` passes
/// first.
///
/// This is the one place that polls: what the tests wait for happens in other processes (a server, the
/// program under test), which send no event here. Everything else waits by calling this.
///
/// A look that takes long, as one that opens a session does, is repeated less often, since it takes from the
/// servers what they work with. Sessions that a look reads by are kept until the wait is over.
package func waitUntil(
  _ what: String, within limit: Duration = .seconds(30), every interval: Duration = .milliseconds(20),
  isolation: isolated (any Actor)? = #isolation, condition: () async throws -> Bool
) async throws {
  let kept = KeptSessions()
  let result: Result<Void, any Error>
  do {
    try await KeptSessions.$current.withValue(kept) {
      try await poll(what, within: limit, every: interval, condition)
    }
    result = .success(())
  } catch {
    result = .failure(error)
  }
  await kept.close()
  try result.get()
}

private func poll(
  _ what: String, within limit: Duration, every interval: Duration,
  isolation: isolated (any Actor)? = #isolation, _ condition: () async throws -> Bool
) async throws {
  let clock = ContinuousClock()
  let deadline = clock.now + limit
  while true {
    let began = clock.now
    if try await condition() { return }
    let ended = clock.now
    guard ended < deadline else { throw HarnessError("\(what): not within \(limit)") }
    try await Task.sleep(for: max(interval, min((ended - began) * 2, .milliseconds(150))))
  }
}
