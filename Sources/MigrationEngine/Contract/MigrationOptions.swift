package import LibPQ

/// What the user asks of a migration: given at `start` and `check`, the same from any machine.
package struct MigrationOptions: Sendable {
  /// Whether a cutover waits for `replicate cutover` or begins by itself once the stream has caught up.
  package enum Trigger: String, Sendable { case manual, auto }

  /// Where the database is now.
  package var source: ConnectionString
  /// Where it goes.
  package var target: ConnectionString
  /// Workers that copy tables and build indexes.
  package var jobs = 4
  /// What the copy may read from the source, all workers together; nil: no limit.
  package var maxBytesPerSecond: Int64?
  /// Who begins the cutover.
  package var cutover = Trigger.manual
  /// Sets REPLICA IDENTITY FULL on tables that have no identity of their own.
  package var setsReplicaIdentityFull = false
  /// Tables that are not migrated: neither copied nor streamed.
  package var excluded: [RelationName] = []
  /// Large objects are neither copied nor compared.
  package var leavesLargeObjectsBehind = false
  /// Creates roles that the target lacks, without passwords.
  package var createsRoles = false
  /// Starts although nothing proves that the target is encrypted; the trail says so.
  package var allowsUnencryptedTarget = false
  /// A shell command whose exit code 0 vouches for the target's encryption at rest.
  package var encryptionEvidenceCommand: String?
  /// The provider to ask first whether the target is encrypted at rest; nil: the one its host suggests.
  package var encryptionProvider: EncryptionEvidence.Provider?
  /// Names of the schema differences that do not stop an automatic cutover.
  package var acceptedDifferences: [String] = []
  /// After a cutover the target's writes are replicated back to the source, so that a rollback is possible.
  package var replicatesBack = true
  /// The source is lost: a cutover that had reached its seal is finished with what the target has.
  package var isSourceLost = false
  /// What moves the application to the target once it accepts writes.
  package var switchPlan = SwitchPlan()
  /// The program and arguments that resume poolers should this process die; nil: nobody does.
  package var poolerWatch: (path: String, arguments: [String])?

  /// Everything else has the value of an option that is not given.
  package init(source: ConnectionString, target: ConnectionString) {
    self.source = source
    self.target = target
  }
}

/// What the user asks of one cutover.
package struct CutoverRequest: Sendable, Codable, Equatable {
  /// `back` for a rollback.
  package var direction: Direction
  /// The write pause that is acceptable, in seconds: a cutover that would take longer does not begin, and one
  /// that does take longer is undone.
  package var maxPauseSeconds = defaultMaxPauseSeconds
  /// Seconds from the fence to the seal after which the cutover is aborted, and for what is waited for
  /// before.
  package var timeoutSeconds = 60.0
  /// Who asked, for the trail.
  package var requestedBy: String
  /// Everything is done for real up to the seal; then the fence is removed.
  package var isRehearsal = false
  /// Terminates the sessions that hold up the cutover, and no others.
  package var terminatesBlockers = false
  /// How far both ends are compared before the seal.
  package var verification = CutoverVerification.changed
  /// How much of the pause a comparison may take where more is compared than was requested, because it is not
  /// known which rows changed; nil: all that is left of it.
  package var unaskedSeconds: Double? = defaultUnaskedSeconds
  /// Names of the schema differences that may stay. Nil in a request of a version that compared no schemas.
  package var acceptedDifferences: [String]? = []

  /// In seconds, where the user gives no `--max-pause`.
  static let defaultMaxPauseSeconds = 10.0
  /// Without an explicit `--max-pause` the pause must stay short.
  static let defaultUnaskedSeconds = 2.0

  /// Everything else has the value of an option that is not given.
  /// - Parameters:
  ///   - direction: `back` for a rollback.
  ///   - requestedBy: who asks, for the trail.
  package init(_ direction: Direction = .forward, requestedBy: String) {
    self.direction = direction
    self.requestedBy = requestedBy
  }

  /// Seconds that users wait at most before the seal.
  var limitSeconds: Double { min(maxPauseSeconds, timeoutSeconds) }
  /// The option that says so.
  var limitName: String { maxPauseSeconds <= timeoutSeconds ? "--max-pause" : "--timeout" }
}
