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
  /// What the copy may read from the source, all workers together; nil: as much as it can.
  package var maxBytesPerSecond: Int64?
  /// Who begins the cutover.
  package var cutover = Trigger.manual
  /// Gives REPLICA IDENTITY FULL to the tables that have no identity of their own.
  package var setsReplicaIdentityFull = false
  /// Tables left behind: neither copied nor streamed.
  package var excluded: [RelationName] = []
  /// Large objects are neither copied nor compared.
  package var leavesLargeObjectsBehind = false
  /// Makes roles that the target lacks, without passwords.
  package var createsRoles = false
  /// Starts although nothing proves that the target is encrypted; the trail says so.
  package var allowsUnencryptedTarget = false
  /// A shell command whose exit code 0 vouches for the target's encryption at rest.
  package var encryptionEvidenceCommand: String?
  /// Who is asked first whether the target is encrypted at rest; nil: whom its host suggests.
  package var encryptionProvider: EncryptionEvidence.Provider?
  /// Differences of the schemas, by their names, with which a cutover may begin by itself.
  package var acceptedDifferences: [String] = []
  /// After a cutover the target's writes go back to the source, so that there is a way back.
  package var replicatesBack = true
  /// The source is no more: a cutover that had come to its seal is finished with what the target has.
  package var isSourceLost = false
  /// What leads the application to the target once it takes writes.
  package var switchPlan = SwitchPlan()
  /// The program and arguments that resume poolers should this process die; nil: nobody does.
  package var poolerWatch: (path: String, arguments: [String])?

  /// Everything else is as a user has it who gives no other option.
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
  /// All for real up to the seal; then the fence is taken down.
  package var isRehearsal = false
  /// Ends the sessions that hold the cutover up, and no others.
  package var terminatesBlockers = false
  /// How far both ends are compared before the seal.
  package var verification = CutoverVerification.changed
  /// What a comparison may take of the pause where more is compared than was asked for, because nothing tells
  /// what was touched; nil: all that is left of it.
  package var unaskedSeconds: Double? = defaultUnaskedSeconds
  /// Differences of the schemas that may stay, by the names that they are told by. Nil where it was asked for
  /// by a version that compared none.
  package var acceptedDifferences: [String]? = []

  /// In seconds, where the user gives no `--max-pause`.
  static let defaultMaxPauseSeconds = 10.0
  /// Nobody who did not say what the pause may be is to wait for long.
  static let defaultUnaskedSeconds = 2.0

  /// Everything else is as a user has it who gives no other option.
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
