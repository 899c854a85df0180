/// The state of a migration at one instant: what the printers render and what `status --json` prints.
/// Fields may be added, never renamed.
package struct Status: Sendable, Codable, Equatable {
  package var migration = "replicate"
  package var phase: Phase
  /// A cutover could begin now.
  package var ready = false
  package var engine = Engine()
  package var source = End()
  package var target = Target()
  package var copy = Copy()
  package var stream = Stream()
  package var slot = Slot()
  package var cutover: Cutover?
  /// A comparison of both ends that is under way.
  package var verification: Verification?
  /// Why the engine stopped, if it did so with an error.
  package var failure: String?

  package init(phase: Phase) { self.phase = phase }

  package struct Engine: Sendable, Codable, Equatable {
    package var running = false
    package var host = ""
    package var pid = 0
    package var heartbeatAgeSeconds: Double = 0

    enum CodingKeys: String, CodingKey {
      case running, host, pid
      case heartbeatAgeSeconds = "heartbeat_age_seconds"
    }
  }

  package struct End: Sendable, Codable, Equatable {
    package var database = ""
    package var serverVersion = ""
    package var tls = false

    enum CodingKeys: String, CodingKey {
      case database, tls
      case serverVersion = "server_version"
    }
  }

  package struct Target: Sendable, Codable, Equatable {
    package var database = ""
    package var serverVersion = ""
    package var tls = false
    package var encryption = EncryptionEvidence.none

    enum CodingKeys: String, CodingKey {
      case database, tls, encryption
      case serverVersion = "server_version"
    }
  }

  package struct Copy: Sendable, Codable, Equatable {
    package var tablesTotal = 0
    package var tablesDone = 0
    package var bytesTotal: Int64 = 0
    package var bytesDone: Int64 = 0
    package var rowsDone: Int64 = 0
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

  package struct Stream: Sendable, Codable, Equatable {
    package var receivedLSN = "0/0"
    package var appliedLSN = "0/0"
    package var sourceLSN = "0/0"
    package var lagBytes: Int64 = 0
    package var lagSeconds: Double = 0
    package var transactions: Int64 = 0
    package var changes: Int64 = 0
    /// Bytes of WAL applied a second, over the last seconds.
    package var applyBytesPerSecond: Double = 0
    /// Bytes of WAL written by the source a second, over the last seconds.
    package var sourceBytesPerSecond: Double = 0
    /// Seconds until the stream has caught up at these rates; nil when it does not gain on the source.
    package var catchUpSeconds: Double?
    /// The write pause that a cutover would cost right now.
    package var predictedPauseSeconds: Double?
    /// What must be done on the target before the stream can go on: a table was changed on the source.
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

  package struct Slot: Sendable, Codable, Equatable {
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

  package struct Cutover: Sendable, Codable, Equatable {
    package enum Result: String, Sendable, Codable { case complete, aborted, rehearsed }

    package var step: String
    package var fenceLSN: String?
    package var writePauseSeconds: Double?
    package var result: Result?
    package var reason: String?
    package var timeline: [TimelineEntry] = []
    /// `back` for a rollback; nil for a cutover to the target.
    package var direction: Direction?
    /// Sessions that were ended because they held it up; nil when none was.
    package var terminated: [String]?
    /// What was compared of both ends before the seal; nil when nothing was to be.
    package var verification: Comparison?
    /// The seal stands and the end that opens has everything. False: that end has everything, and the seal
    /// was about to be committed. Nil before.
    package var isSealed: Bool?
    /// When writes were stopped, by the clock of the engine's machine, in seconds since 1970.
    package var stoppedAt: Double?
    /// What somebody should look at although the cutover went on; nil when there is nothing.
    package var warnings: [String]?
    /// How the schemas of both ends differed before it; nil where they did not, or were not compared.
    package var schemaDifferences: [SchemaDifference]?

    package init(step: String) { self.step = step }

    enum CodingKeys: String, CodingKey {
      case step, result, reason, timeline, terminated, direction, verification, warnings
      case schemaDifferences = "schema_differences"
      case isSealed = "sealed"
      case stoppedAt = "stopped_at"
      case fenceLSN = "fence_lsn"
      case writePauseSeconds = "write_pause_seconds"
    }
  }

  package struct SchemaDifference: Sendable, Codable, Equatable {
    /// What it is accepted by.
    package var name: String
    /// As a sentence without a full stop, beginning with the name.
    package var words: String
    /// It was accepted by its name.
    package var isAccepted: Bool

    package init(name: String, words: String, isAccepted: Bool) {
      (self.name, self.words, self.isAccepted) = (name, words, isAccepted)
    }

    enum CodingKeys: String, CodingKey {
      case name, words
      case isAccepted = "accepted"
    }
  }

  /// How both ends were compared inside a write pause.
  package struct Comparison: Sendable, Codable, Equatable {
    package enum Result: String, Sendable, Codable {
      case equal
      case different
      /// There was nothing that it could have rested on.
      case nothing
    }

    /// What was compared, which may be more or less than was asked for: `notice` tells.
    package var extent: CutoverVerification
    package var result: Result
    /// How rows were compared, in words.
    package var digest: String
    package var tables: Int
    /// What was compared and found, in words.
    package var summary: String
    /// How long it took inside the pause.
    package var seconds: Double
    /// The fence's marker: neither end has anything behind it. Nil where nothing was compared.
    package var lsn: String?
    /// Why something else was compared than was asked for, and what to do about it; nil where it was not so.
    package var notice: String?

    package init(
      extent: CutoverVerification, result: Result, digest: String, tables: Int, summary: String,
      seconds: Double, lsn: String? = nil, notice: String? = nil
    ) {
      self.lsn = lsn
      self.notice = notice
      self.extent = extent
      self.result = result
      self.digest = digest
      self.tables = tables
      self.summary = summary
      self.seconds = seconds
    }
  }

  package struct Verification: Sendable, Codable, Equatable {
    /// Where in the stream both ends are looked at; nil until it is known.
    package var lsn: String?
    /// Nil until there is some.
    package var progress: VerificationProgress?
    /// Which request it is for.
    package var id: Int64

    package init(id: Int64) { self.id = id }
  }

  /// One step of a cutover, as it happened.
  package struct TimelineEntry: Sendable, Codable, Equatable {
    package var step: String
    /// Seconds from the beginning of the cutover.
    package var startSeconds: Double
    package var seconds: Double
    package var detail: String

    package init(step: String, startSeconds: Double, seconds: Double, detail: String) {
      self.step = step
      self.startSeconds = startSeconds
      self.seconds = seconds
      self.detail = detail
    }

    enum CodingKeys: String, CodingKey {
      case step, seconds, detail
      case startSeconds = "start_seconds"
    }
  }
}

extension Status.Cutover {
  /// Unlike the synthesised one, writes null for what is not known yet: the contract has these keys always.
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
  /// Unlike the synthesised one, writes `"cutover": null`: the contract has the key always.
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
