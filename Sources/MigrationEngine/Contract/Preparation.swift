package import LibPQ

/// What the user asks of `replicate prepare`.
package struct PreparationRequest: Sendable {
  /// Where the database is now.
  package var source: ConnectionString
  /// A command for `/bin/sh -c` that restarts the source's server; nil: AWS restarts it.
  package var restartCommand: String?
  /// Asks AWS even about a host whose name is not an AWS one.
  package var asksAWS = false
  /// The parameter group may be one that others use as well.
  package var acceptsSharedGroup = false
  /// Clients of its poolers wait during the restart; its other steps are not for this.
  package var switchPlan = SwitchPlan()
  /// How long a pooler may wait for transactions to end, in seconds.
  package var maxPauseSeconds = 10.0
  /// How long the restart may take until the server answers again, in seconds.
  package var timeoutSeconds = 300.0
  /// The program and arguments that resume poolers should this process die; nil: nobody does.
  package var poolerWatch: (path: String, arguments: [String])?

  /// Everything else has the value of an option that is not given.
  package init(source: ConnectionString) { self.source = source }
}

/// What the source lacks for logical decoding, what would be done about it, and what that costs.
package struct PreparationPlan: Sendable {
  /// A setting that is not as logical decoding needs it.
  package struct Setting: Sendable, Equatable {
    /// As `SHOW` takes it.
    package var name: String
    /// What is in effect.
    package var now: String
    /// What it must be; for a number, at least.
    package var needed: String
    /// The server takes it over at its next start without anything else.
    package var isStored = false
  }

  /// Sessions of one role and application.
  package struct Sessions: Sendable, Equatable {
    /// Their role.
    package var role: String
    /// As `application_name` has it; may be empty.
    package var application: String
    /// How many they are.
    package var count: Int
    /// How many of them are in a transaction, as far as our role may see it.
    package var transactions: Int
  }

  /// What the restart costs.
  package struct Cost: Sendable, Equatable {
    /// Whom it disconnects, the most first.
    package var sessions: [Sessions] = []
    /// Seconds since the oldest transaction began; nil when none is seen.
    package var oldestTransaction: Double?
    /// Sessions of which our role may not see whether they are in a transaction.
    package var hidden = 0
    /// Standbys, subscribers and other receivers of WAL.
    package var receivers = 0
    /// Seconds since the last checkpoint began; nil when the server does not tell.
    package var checkpointAge: Double?
    /// Bytes of WAL written since then.
    package var checkpointBytes: Int64?
  }

  /// The source's database.
  package var database: String
  /// As `15.20`.
  package var serverVersion: String
  /// Empty: there is nothing to do.
  package var missing: [Setting]
  /// Settings that somebody else has changed and that take effect with the restart as well.
  package var pending: [String] = []
  /// What the restart costs.
  package var cost = Cost()
  /// What will be done, in order, a statement or command each. Empty when nothing says how to restart.
  package var steps: [String] = []
  /// The poolers whose clients wait meanwhile.
  package var poolers: [String] = []
  /// What stands in the way, and what should be known.
  package var findings: [Finding] = []

  /// Nothing is done as long as this is so.
  package var isBlocked: Bool { findings.contains { $0.severity == .blocker } }
}

/// What was done to a source that was prepared.
package struct PreparationReport: Sendable {
  /// Settings and the values that are in effect now.
  package var settings: [(name: String, value: String)]
  /// From the order to restart until the server answered; nil: there was nothing to do.
  package var restartSeconds: Double?
  /// The longest that a client can have waited; nil without poolers.
  package var waitSeconds: Double?
}
