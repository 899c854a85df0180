/// The state of a migration at one instant: what the printers render and what `status --json` prints.
/// Fields may be added, never renamed.
package struct Status: Sendable, Codable, Equatable {
  /// Always `replicate`: there is one migration to a target.
  package var migration = "replicate"
  /// Where the migration stands, or `failed` after an engine has stopped with an error.
  package var phase: Phase
  /// A cutover could begin now.
  package var ready = false
  /// Who does the work.
  package var engine = Engine()
  /// Where the database was before the cutover.
  package var source = End()
  /// Where it goes.
  package var target = Target()
  /// How far the first copy has come.
  package var copy = Copy()
  /// How far the target follows.
  package var stream = Stream()
  /// The replication slot of the current stream.
  package var slot = Slot()
  /// The newest, rehearsals and rollbacks included; nil before the first.
  package var cutover: Cutover?
  /// A comparison of both ends that is under way.
  package var verification: Verification?
  /// Why the engine stopped, if it did so with an error.
  package var failure: String?

  /// Everything but the phase is empty.
  package init(phase: Phase) { self.phase = phase }

  /// The process that migrates, as the target has recorded it.
  package struct Engine: Sendable, Codable, Equatable {
    /// It holds the lock that only one engine can have.
    package var running = false
    /// Of the machine that it runs on, or ran on.
    package var host = ""
    /// On that machine.
    package var pid = 0
    /// Since its last sign of life, by the target's clock.
    package var heartbeatAgeSeconds: Double = 0

    enum CodingKeys: String, CodingKey {
      case running, host, pid
      case heartbeatAgeSeconds = "heartbeat_age_seconds"
    }
  }

  /// One end, as it was when it was last reached.
  package struct End: Sendable, Codable, Equatable {
    /// Without quotes.
    package var database = ""
    /// As the server reports it: `15.20`.
    package var serverVersion = ""
    /// Whether the engine's sessions there are encrypted.
    package var tls = false

    enum CodingKeys: String, CodingKey {
      case database, tls
      case serverVersion = "server_version"
    }
  }

  /// The same for the target, and whether its storage is encrypted.
  package struct Target: Sendable, Codable, Equatable {
    /// Without quotes.
    package var database = ""
    /// As the server reports it: `15.20`.
    package var serverVersion = ""
    /// Whether the engine's sessions there are encrypted.
    package var tls = false
    /// What the newest look at the target found.
    package var encryption = EncryptionEvidence.none

    enum CodingKeys: String, CodingKey {
      case database, tls, encryption
      case serverVersion = "server_version"
    }
  }

  /// Sums over all tables that are migrated.
  package struct Copy: Sendable, Codable, Equatable {
    /// Those with rows of their own, partitions among them.
    package var tablesTotal = 0
    /// In the target for good.
    package var tablesDone = 0
    /// An estimate until the copy has ended, and then `bytesDone`; never less than that.
    package var bytesTotal: Int64 = 0
    /// Size of COPY data.
    package var bytesDone: Int64 = 0
    /// As far as they are known.
    package var rowsDone: Int64 = 0
    /// From the beginning of the copy to now, or to its end.
    package var seconds: Double = 0

    enum CodingKeys: String, CodingKey {
      case tablesTotal = "tables_total"
      case tablesDone = "tables_done"
      case bytesTotal = "bytes_total"
      case bytesDone = "bytes_done"
      case rowsDone = "rows_done"
      case seconds
    }
  }

  /// Positions, counts and rates of the stream; of the reverse stream after a cutover.
  package struct Stream: Sendable, Codable, Equatable {
    /// Up to where WAL has been received.
    package var receivedLSN = "0/0"
    /// The end of the last transaction that is committed on the other end.
    package var appliedLSN = "0/0"
    /// Up to where the sending end had written WAL a moment ago.
    package var sourceLSN = "0/0"
    /// WAL that the source has written and the other end has not applied.
    package var lagBytes: Int64 = 0
    /// How long a commit takes to reach the other end, measured by heartbeats about once a second.
    package var lagSeconds: Double = 0
    /// Transactions applied.
    package var transactions: Int64 = 0
    /// Row changes applied.
    package var changes: Int64 = 0
    /// Bytes of WAL applied a second, over the last seconds.
    package var applyBytesPerSecond: Double = 0
    /// Bytes of WAL written by the source a second, over the last seconds.
    package var sourceBytesPerSecond: Double = 0
    /// Seconds until the stream has caught up at these rates; nil when it is not gaining on the source.
    package var catchUpSeconds: Double?
    /// The write pause that a cutover would cost right now.
    package var predictedPauseSeconds: Double?
    /// What must be done on the target before the stream can continue: a table was changed on the source.
    package var waitsFor: String?

    enum CodingKeys: String, CodingKey {
      case receivedLSN = "received_lsn"
      case appliedLSN = "applied_lsn"
      case sourceLSN = "source_lsn"
      case lagBytes = "lag_bytes"
      case lagSeconds = "lag_seconds"
      case transactions, changes
      case applyBytesPerSecond = "apply_bytes_per_second"
      case sourceBytesPerSecond = "source_bytes_per_second"
      case catchUpSeconds = "catch_up_seconds"
      case predictedPauseSeconds = "predicted_pause_seconds"
      case waitsFor = "waits_for"
    }
  }

  /// As in `pg_replication_slots` of the sending server (manual, section 54.19).
  package struct Slot: Sendable, Codable, Equatable {
    /// Without quotes; the engine chooses it.
    package var name = ""
    /// `pg_replication_slots.wal_status`: reserved, extended, unreserved or lost.
    package var status = ""
    /// WAL that the source keeps for the slot.
    package var retainedBytes: Int64 = 0
    /// WAL that may still be written before the slot is lost; nil without `max_slot_wal_keep_size`.
    package var safeBytes: Int64?

    enum CodingKeys: String, CodingKey {
      case name, status
      case retainedBytes = "retained_bytes"
      case safeBytes = "safe_bytes"
    }
  }

  /// One cutover, rehearsal or rollback; the first keys of its JSON are always there.
  package struct Cutover: Sendable, Codable, Equatable {
    /// Nothing has changed after `aborted`, nor after `rehearsed`, which is meant to end so.
    package enum Result: String, Sendable, Codable { case complete, aborted, rehearsed }

    /// The one under way, or how it ended.
    package var step: Step
    /// The marker written after the fence; nil before.
    package var fenceLSN: String?
    /// How long users could not write; nil until the pause is over.
    package var writePauseSeconds: Double?
    /// Nil while it is under way.
    package var result: Result?
    /// Why it was aborted; nil otherwise.
    package var reason: String?
    /// The steps that have ended, in their order.
    package var timeline: [TimelineEntry] = []
    /// `back` for a rollback; nil for a cutover to the target.
    package var direction: Direction?
    /// Sessions that were terminated because they held it up; nil when none was.
    package var terminated: [String]?
    /// What was compared before the seal; nil when nothing was to be.
    package var verification: Comparison?
    /// `seal`, as it is stored and printed.
    var isSealed: Bool?
    /// When writes were stopped, by the clock of the engine's machine, in seconds since 1970.
    var stoppedAt: Double?
    /// What needs attention although the cutover continued; nil when there is nothing.
    package var warnings: [String]?
    /// How the schemas of both ends differed before it; nil where they did not, or were not compared.
    var schemaDifferences: [SchemaDifference]?

    init(step: Step) { self.step = step }

    enum CodingKeys: String, CodingKey {
      case step, result, reason, timeline, terminated, direction, verification, warnings
      case schemaDifferences = "schema_differences"
      case isSealed = "sealed"
      case stoppedAt = "stopped_at"
      case fenceLSN = "fence_lsn"
      case writePauseSeconds = "write_pause_seconds"
    }
  }

  struct SchemaDifference: Sendable, Codable, Equatable {
    /// The name it is accepted by.
    var name: String
    /// As a sentence without a full stop, beginning with the name.
    var words: String
    /// Whether it was accepted by its name.
    var isAccepted: Bool

    init(name: String, words: String, isAccepted: Bool) {
      (self.name, self.words, self.isAccepted) = (name, words, isAccepted)
    }

    enum CodingKeys: String, CodingKey {
      case name, words
      case isAccepted = "accepted"
    }
  }

  /// How both ends were compared in a write pause.
  package struct Comparison: Sendable, Codable, Equatable {
    /// What a comparison came to.
    package enum Result: String, Sendable, Codable {
      /// What was compared is the same on both ends.
      case equal
      /// Somewhere they differ.
      case different
      /// Nothing was compared that could have shown a difference.
      case nothing
    }

    /// What was compared, which may be more or less than requested: `notice` says why.
    package var extent: CutoverVerification
    /// Whether the ends are the same in what was compared.
    package var result: Result
    /// How rows were compared, in words.
    package var digest: String
    /// How many were compared.
    package var tables: Int
    /// What was compared and found, in words.
    package var summary: String
    /// How long it took inside the pause.
    package var seconds: Double
    /// The fence's marker: neither end has anything after it. Nil where nothing was compared.
    package var lsn: String?
    /// Why something other than requested was compared, and what to do about it; nil otherwise.
    package var notice: String?
  }

  /// A comparison that `verify` asked for, while it runs.
  package struct Verification: Sendable, Codable, Equatable {
    /// The position in the stream at which both ends are read; nil until it is known.
    package var lsn: String?
    /// Nil until there is some.
    package var progress: VerificationProgress?
    /// The request that it is for.
    var id: Int64

    /// - Parameter id: the request's.
    package init(id: Int64) { self.id = id }
  }

  /// One step of a cutover, as it happened.
  package struct TimelineEntry: Sendable, Codable, Equatable {
    /// As a phrase: `drain the stream`.
    package var step: String
    /// Seconds from the beginning of the cutover.
    package var startSeconds: Double
    /// How long it took.
    package var seconds: Double
    /// What it found or did, for people; empty where there is nothing to say.
    package var detail: String

    enum CodingKeys: String, CodingKey {
      case step, seconds, detail
      case startSeconds = "start_seconds"
    }
  }
}

extension Status.Cutover {
  /// Unlike the synthesised method, writes null for what is not known yet: these keys are always there.
  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(step, forKey: .step)
    try container.encode(fenceLSN, forKey: .fenceLSN)
    try container.encode(writePauseSeconds, forKey: .writePauseSeconds)
    try container.encode(result, forKey: .result)
    try container.encode(reason, forKey: .reason)
    try container.encode(timeline, forKey: .timeline)
    try container.encodeIfPresent(terminated, forKey: .terminated)
    try container.encodeIfPresent(direction, forKey: .direction)
    try container.encodeIfPresent(verification, forKey: .verification)
    try container.encodeIfPresent(isSealed, forKey: .isSealed)
    try container.encodeIfPresent(stoppedAt, forKey: .stoppedAt)
    try container.encodeIfPresent(warnings, forKey: .warnings)
    try container.encodeIfPresent(schemaDifferences, forKey: .schemaDifferences)
  }
}

extension Status {
  /// Unlike the synthesised method, writes `"cutover": null`: the key is always there.
  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(migration, forKey: .migration)
    try container.encode(phase, forKey: .phase)
    try container.encode(ready, forKey: .ready)
    try container.encode(engine, forKey: .engine)
    try container.encode(source, forKey: .source)
    try container.encode(target, forKey: .target)
    try container.encode(copy, forKey: .copy)
    try container.encode(stream, forKey: .stream)
    try container.encode(slot, forKey: .slot)
    try container.encode(cutover, forKey: .cutover)
    try container.encodeIfPresent(verification, forKey: .verification)
    try container.encodeIfPresent(failure, forKey: .failure)
  }
}
