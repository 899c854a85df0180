/// The AWS steps' checks before the cutover: the same requests as later, so that a missing program,
/// permission or object is found in time.
enum AWSLook {
  static func blockers(_ look: () async throws -> [SwitchFinding]) async -> [SwitchFinding] {
    do {
      return try await look()
    } catch let error as AWSFailure {
      return [.blocker("\(error)", remedy(error))]
    } catch {
      return [.blocker("\(error)", "Correct the step.")]
    }
  }

  private static func remedy(_ error: AWSFailure) -> String {
    if error.why.hasPrefix("cannot be run") {
      return "Install the AWS CLI, so that aws is in PATH."
    }
    return "See that the AWS CLI has credentials and a region here, may make this call, and that what the "
      + "step names is there."
  }
}
