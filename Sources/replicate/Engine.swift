import LibPQ
import Logging
import MigrationEngine

/// The engine as the commands call it; a test puts its own in place.
struct Engine: Sendable {
  typealias Progress = @Sendable (Status) -> Void
  typealias Findings = @Sendable (PreflightReport) -> Void

  var check: @Sendable (MigrationOptions, Logger) async throws -> PreflightReport = {
    try await Migration(options: $0, logger: $1).check()
  }

  var examinePreparation: @Sendable (PreparationRequest, Logger) async throws -> PreparationPlan = {
    try await SourcePreparation($0, logger: $1).examine()
  }

  var prepare: @Sendable (PreparationRequest, Logger) async throws -> PreparationReport = {
    try await SourcePreparation($0, logger: $1).perform()
  }

  var start:
    @Sendable (MigrationOptions, Logger, @escaping Progress, @escaping Findings) async throws ->
      Migration.Outcome =
      { try await Migration(options: $0, logger: $1).start(onProgress: $2, onFindings: $3) }

  var status:
    @Sendable (_ source: ConnectionString?, _ target: ConnectionString, Logger) async throws -> Status = {
      try await MigrationClient(source: $0, target: $1, logger: $2).status()
    }

  var report:
    @Sendable (_ source: ConnectionString?, _ target: ConnectionString, Logger) async throws ->
      MigrationReport =
      { try await MigrationClient(source: $0, target: $1, logger: $2).report() }

  var cutover:
    @Sendable (ConnectionString?, ConnectionString, Logger, CutoverRequest, @escaping Progress) async throws
      -> Status.Cutover = {
        try await MigrationClient(source: $0, target: $1, logger: $2).cutover($3, onProgress: $4)
      }

  var verify:
    @Sendable (ConnectionString, Logger, VerificationRequest, @escaping Progress) async throws
      -> VerificationReport = {
        try await MigrationClient(source: nil, target: $0, logger: $1).verify($2, onProgress: $3)
      }

  var finish: @Sendable (ConnectionString, ConnectionString, Logger, FinishOptions) async throws -> [String] =
    {
      try await MigrationFinish(source: $0, target: $1, logger: $2).finish($3)
    }

  var abort:
    @Sendable (ConnectionString, ConnectionString, Logger, AbortOptions) async throws
      -> (removed: [String], left: [String]) = {
        try await MigrationAbort(source: $0, target: $1, logger: $2).abort($3)
      }

  var examineWithoutTarget:
    @Sendable (_ source: ConnectionString, _ target: ConnectionString?, Logger) async throws -> String = {
      try await TargetLoss(source: $0, target: $1, logger: $2).examine()
    }

  var abortWithoutTarget:
    @Sendable (_ source: ConnectionString, _ target: ConnectionString?, Logger) async throws
      -> (removed: [String], left: [String]) = {
        try await TargetLoss(source: $0, target: $1, logger: $2).cleanUpSource()
      }
}
