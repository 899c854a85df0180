/// What a cutover asks of the stages that carry a leg: of the stream that is to be drained, of what no stream
/// carries, and of what leads users to the other end. A cutover calls it in the order below, for some once
/// more; here `from` is the end that writes leave, and `to` the one that they go to.
///
/// From the source to the target it is `ForwardHandover`, in a rollback `ReverseHandover`, and where the
/// source is lost after its seal `SourceLossHandover`. Where a stream runs, this is who does it:
///
/// | call                          | where it is done                                                  |
/// |-------------------------------|-------------------------------------------------------------------|
/// | `lag`                         | `CatchUpMonitor.reading`                                          |
/// | `finalisingSeconds`           | `MigratedTables.finalisingSeconds`, `LargeObjectUpdates.bringOver`|
/// | `ensureSchemas`               | `SchemaAgreement.again`                                           |
/// | `poolers`                     | `Switchover.pause`, `Switchover.resume`                           |
/// | `expectMarker`, `forgetMarker`| `StreamMonitor.expectMarker`, `StreamMonitor.forgetMarker`        |
/// | `drain`                       | `Drain.wait`                                                      |
/// | `finaliseTables`              | `MigratedTables.finalise`, `LargeObjectUpdates.bringOver`         |
/// | `ensureNoBreach`              | `Drain.ensureNoBreach`                                            |
/// | `comparison`                  | `CutoverComparison.predictedSeconds`, `CutoverComparison.compare` |
/// | `record`                      | `CutoverRecord.keep`                                              |
/// | `hold`                        | `Drain.hold`                                                      |
/// | `settleTables`                | `MigratedTables.finaliseAgain`                                    |
/// | `switchOver`                  | `Switchover.performSteps`                                         |
/// | `origins`, `leftBehind`       | `StreamMonitor.origins`, `StreamMonitor.leftBehind`               |
protocol Handover: Sendable {
  // MARK: Before the fence

  /// How many bytes `to` is behind, and the write pause in seconds that this would cost; nil when its pace is
  /// not known.
  func lag() async -> (bytes: Int64, predictedPauseSeconds: Double?)
  /// Brings over as much as can be before the fence of what the stream does not carry.
  /// - Returns: what the rest will take, in seconds.
  /// - Throws: `MigrationError` when what is emptied then is in use on `to`.
  func finalisingSeconds() async throws -> Double
  /// The replication origins of changes that came by the stream, and how long ago the last of each did.
  func origins() async -> [(name: String, age: Duration)]
  /// Just before the fence: whether the schemas are still what they were when they were compared.
  /// - Returns: what somebody should look at.
  /// - Throws: `MigrationError` that names the differences.
  func ensureSchemas() async throws -> [String]
  /// Tables that are not migrated; the fence spares those of other owners.
  var excluded: Set<RelationName> { get }

  // MARK: Between fence and seal

  /// Makes the poolers' clients wait; nil when there are no poolers.
  var poolers: (any HandoverPoolers)? { get }
  /// Where messages are noted that the server of `from` does not send as such.
  var messages: SentMessages { get }
  /// A marker is about to be written, so that the stream reads on without a pause.
  func expectMarker(_ nonce: String, for purpose: MarkerPurpose) async
  /// Returns once `to` has committed the transaction that carries the marker.
  /// - Throws: `MigrationError` when it has not done so in time, or after a breach.
  func drain(_ nonce: String, until deadline: ContinuousClock.Instant) async throws
  /// Brings over what the stream does not carry.
  /// - Returns: what that was, for the timeline.
  func finaliseTables() async throws -> String
  /// - Throws: `MigrationError` when a change was committed after the fence's marker.
  func ensureNoBreach() async throws
  /// Compares both ends before the seal; nil when they are not to be.
  var comparison: (any HandoverComparison)? { get }

  // MARK: After the seal

  /// Stores the report so far on the target: just before the seal, once the seal is known to stand and `to`
  /// to have everything, and once it is open. From the second time on the source is no longer needed.
  func record(_ report: Status.Cutover) async throws
  /// Stops applying changes: `to` is about to open.
  /// - Returns: what was changed there since the fence's marker; nil when nothing was.
  func hold(until deadline: ContinuousClock.Instant) async throws -> String?
  /// Prepares the tables of `to` for the opening, and copies what no fence stops.
  /// - Returns: what that was, beginning with a comma; empty when there was nothing to do.
  func settleTables() async throws -> String
  /// Runs the switch steps.
  /// - Returns: why one of them failed; nil when none did.
  func switchOver(fenceLSN: String?, _ events: SwitchEvents) async -> String?
  /// What has arrived since applying stopped; nil when nothing has.
  func leftBehind() async -> String?

  // MARK: At the end, whatever it is

  func forgetMarker() async
}

/// The poolers that clients connect through.
protocol HandoverPoolers: Sendable {
  /// Returns once no client is in a transaction, and says what waits where. When it throws, some may wait.
  func pause(until deadline: ContinuousClock.Instant) async throws -> String
  /// The pids of server sessions with client transactions, which keep a pause waiting.
  func busyServers() async throws -> [Int32]
  /// Lets all waiting clients continue, and says so.
  func resume() async throws -> String
}

/// The comparison of both ends between fence and seal.
protocol HandoverComparison: Sendable {
  /// Decides what to compare, before the fence.
  /// - Parameter secondsLeft: a comparison beyond the request may take no more of the write pause.
  /// - Returns: how long it may take during the write pause, in seconds.
  func predictedSeconds(within secondsLeft: Double) async throws -> Double
  func compare(at fenceLSN: String?) async throws -> Status.Comparison
  /// Releases what was prepared for it.
  func close() async
}

/// What the switch steps report while they run.
struct SwitchEvents: Sendable {
  /// A step has ended: its name, how long it took, and what it did.
  var onStep: @Sendable (String, Duration, String) async -> Void
  /// Clients that waited in poolers continue on the end that was opened.
  var onClientsResumed: @Sendable () async -> Void
}
