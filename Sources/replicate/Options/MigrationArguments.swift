import ArgumentParser
import MigrationEngine

/// Options of both `check` and `start`: everything that findings depend on.
struct MigrationArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp("Workers that copy tables and build indexes, 1 to 64. (default: 4)", valueName: "N"),
    transform: MigrationArguments.jobs)
  var jobs = 4

  @Option(
    help: ArgumentHelp(
      "Copy at most this many bytes a second, all workers together: 500kB, 20MB.", valueName: "bytes/s"),
    transform: ByteRateParser.parse)
  var maxRate: Int64?

  /// What a table without a replica identity may be given.
  enum GivenIdentity: String, ExpressibleByArgument, CaseIterable { case full }

  @Option(
    name: .customLong("replica-identity"),
    help: ArgumentHelp(
      "Give REPLICA IDENTITY FULL to tables without an identity of their own.", valueName: "full"))
  var givenIdentity: GivenIdentity?

  @Option(
    name: .customLong("exclude-table"),
    help: ArgumentHelp(
      "Exclude a table; may be given again. Names fold to lower case unless quoted.",
      valueName: "schema.table"),
    transform: RelationNameParser.parse)
  var excluded: [RelationName] = []

  @Flag(
    name: .customLong("create-roles"),
    help: "Create roles that the target lacks, without passwords and without server-wide rights.")
  var createsRoles = false

  @Flag(name: .customLong("without-large-objects"), help: "Do not migrate large objects.")
  var leavesLargeObjectsBehind = false

  @Flag(
    name: .customLong("allow-unencrypted-target"),
    help: "Continue without evidence that the target is encrypted at rest; the report records it.")
  var allowsUnencryptedTarget = false

  @Option(
    name: .customLong("encryption-evidence"),
    help: ArgumentHelp(
      "A shell command whose exit code 0 vouches for the target's encryption at rest.", valueName: "command"))
  var encryptionEvidenceCommand: String?

  /// Providers that can be named.
  enum EvidenceProvider: String, ExpressibleByArgument, CaseIterable { case aws }

  @Option(
    name: .customLong("encryption-provider"),
    help: ArgumentHelp(
      "Ask AWS for the target's encryption at rest, whatever its host is called.", valueName: "aws"))
  var encryptionProvider: EvidenceProvider?

  @Flag(
    name: .customLong("reverse"), inversion: .prefixedNo,
    help: """
      After the cutover replicate the target's writes back to the source, for replicate rollback, until \
      replicate finish.
      """)
  var replicatesBack = true

  @Option(
    name: .customLong("config"),
    help: ArgumentHelp(
      "The file with the steps of the switch. (default: replicate.yaml, if there is one)", valueName: "file"))
  var configPath: String?

  func options(ends: EndOptions, in environment: [String: String]) throws -> MigrationOptions {
    var options = MigrationOptions(
      source: try ends.requiredSource(in: environment), target: try ends.requiredTarget(in: environment))
    options.jobs = jobs
    options.maxBytesPerSecond = maxRate
    options.setsReplicaIdentityFull = givenIdentity == .full
    options.excluded = excluded
    options.leavesLargeObjectsBehind = leavesLargeObjectsBehind
    options.createsRoles = createsRoles
    options.allowsUnencryptedTarget = allowsUnencryptedTarget
    options.encryptionEvidenceCommand = encryptionEvidenceCommand
    options.replicatesBack = replicatesBack
    if encryptionProvider == .aws { options.encryptionProvider = .aws }
    options.switchPlan = try SwitchPlanFile.read(configPath, environment: environment)
    return options
  }

  static func jobs(_ text: String) throws -> Int {
    guard let jobs = Int(text), (1...64).contains(jobs) else {
      throw ValidationError("give a number from 1 to 64")
    }
    return jobs
  }
}
