import LibPQ

/// What a server can do from a version on. All that hangs on the version of a server stands here, in
/// `Session.fixed` for its settings and in `SchemaVersions` for its catalogs.
struct ServerFeature: Sendable {
  /// As `PQserverVersion` counts: 150004 is 15.4.
  let since: Int

  private init(_ major: Int) { since = major * 10_000 }

  // MARK: What pgoutput sends (manual, section 55.5)

  /// What `pg_logical_emit_message` wrote, values in binary, and transactions before they have committed.
  static let decodedMessages = ServerFeature(14)
  static let binaryStream = ServerFeature(14)
  static let streamedTransactions = ServerFeature(14)

  // MARK: How it reads

  /// Only those blocks of a table that a condition on `ctid` names.
  static let tidRangeScan = ServerFeature(14)
  static let recordHash = ServerFeature(14)
  static let extendedHash = ServerFeature(11)
  /// The shortest text that gives a float back.
  static let shortestFloats = ServerFeature(12)
  static let generatedColumns = ServerFeature(12)

  // MARK: What it knows of sessions, databases and roles

  static let memoize = ServerFeature(14)
  static let clientConnectionCheck = ServerFeature(14)
  /// Everybody may read the number of a subscription.
  static let subscriptionNumbers = ServerFeature(14)
  static let databaseCollationVersions = ServerFeature(15)
  static let parameterPrivileges = ServerFeature(15)
  /// Membership that lets a role only be set, or only be inherited.
  static let membershipOptions = ServerFeature(16)
  /// Each range type has a multirange type, with a name.
  static let multiranges = ServerFeature(14)
  /// A privilege on tables, which all owners have.
  static let maintainPrivilege = ServerFeature(17)
  /// NOT NULL is a constraint with a name, which the server gives before it knows the table's later names.
  static let namedNotNull = ServerFeature(18)
}

extension Connection {
  func has(_ feature: ServerFeature) throws -> Bool { try serverVersion() >= feature.since }
}
