/// Where the password of each new connection comes from, when it changes while a migration runs: a token that
/// expires, a secret that is rotated.
package actor PasswordSource {
  nonisolated let end: String
  private let provide: @Sendable () async throws -> String
  private var running: Task<String, any Error>?

  /// - Parameters:
  ///   - end: `source` or `target`, as the option that gives it begins.
  ///   - provide: called for each connection; connections that are opened at the same time share a call.
  package init(for end: String, _ provide: @escaping @Sendable () async throws -> String) {
    self.end = end
    self.provide = provide
  }

  func password() async throws -> String {
    if let running { return try await running.value }
    let task = Task { try await provide() }
    running = task
    defer { running = nil }
    return try await task.value
  }
}

extension ConnectionString {
  /// With the password of this moment, where there is a source for it.
  /// - Throws: `PostgresError`: no connection, and no sign that the server is lost.
  package func withPassword() async throws -> ConnectionString {
    guard let passwordSource else { return self }
    do {
      return setting("password", to: try await passwordSource.password())
    } catch {
      try Task.checkCancellation()
      var failure = PostgresError(
        code: .connection, action: "\(passwordSource.end): asking for the password", message: "\(error)",
        hint: "Correct --\(passwordSource.end)-password-command; it is run for each new connection.")
      failure.isAnswered = true
      throw failure
    }
  }
}
