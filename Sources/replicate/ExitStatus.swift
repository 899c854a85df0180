import ArgumentParser
import LibPQ
import MigrationEngine

/// The exit codes of the public contract.
enum ExitStatus: Int32, Sendable {
  case done = 0
  case failed = 1
  case blocked = 3
  case different = 4
  case cutoverAborted = 5
  case anotherEngine = 6
  case usage = 64

  init(_ error: any Error) {
    switch error {
    case let error as MigrationError: self.init(error.kind)
    case let error as PostgresError: self = error.code == .connectionString ? .usage : .failed
    default: self = .failed
    }
  }

  init(_ kind: MigrationError.Kind) {
    switch kind {
    case .failed: self = .failed
    case .blocked: self = .blocked
    case .cutoverAborted: self = .cutoverAborted
    case .anotherEngine: self = .anotherEngine
    case .usage: self = .usage
    }
  }

  /// A cutover with a failed switch step is complete, but somebody has to take care of the rest.
  init(_ cutover: Status.Cutover) {
    switch cutover.result {
    case .aborted: self = .cutoverAborted
    case .complete where cutover.reason != nil: self = .failed
    case .complete, .rehearsed, nil: self = .done
    }
  }

  /// Silence is no proof: if none of the named tables could be compared, the result is not success.
  init(_ report: VerificationReport) {
    self = report.hasDifferences ? .different : report.isVoid ? .failed : .done
  }

  /// The exit code of any error: ArgumentParser knows its own, among them the clean exit of `--help`.
  static func code(of error: any Error) -> Int32 {
    switch error {
    case is MigrationError, is PostgresError: ExitStatus(error).rawValue
    default: Replicate.exitCode(for: error).rawValue
    }
  }
}
