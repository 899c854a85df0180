import LibPQ

extension Verification {
  /// Compares all rows of all tables, and whatever else the options ask for.
  /// - Throws: `PostgresError`, `MigrationError` or `CancellationError` when the comparison could not be
  ///   done. A difference is no error.
  package func compare() async throws -> VerificationReport {
    let ready = try await ready()
    return try await finally(ready.close) { try await ready.compare() }
  }

  /// Opens the sessions on both ends, which are then idle.
  package func ready() async throws -> PreparedVerification {
    async let source = VerifiedEnd.open(self.source, .source, jobs: options.jobs)
    async let target = VerifiedEnd.open(self.target, .target, jobs: options.jobs)
    let there: VerifiedEnd
    do {
      there = try await target
    } catch {
      if let here = try? await source { await here.close() }
      throw error
    }
    do {
      return PreparedVerification(self, source: try await source, target: there)
    } catch {
      await there.close()
      throw error
    }
  }
}
