import LibPQ

/// How the settings of a server are changed and how it is restarted: by a command of the user's, or by AWS.
protocol ServerRestart: Sendable {
  /// What `makeReady` will do, in order.
  var readySteps: [String] { get }
  /// What `restart` will do, in order.
  var steps: [String] { get }
  /// What stands in the way.
  var findings: [Finding] { get }
  /// How long the server may go on as it is after `restart` has returned; nil: until the deadline.
  var grace: Duration? { get }

  /// Everything that can be done while clients go on; takes it back when it throws.
  func makeReady(until deadline: ContinuousClock.Instant) async throws

  /// Returns once the restart is done or under way. Clients may be waiting.
  /// - Parameter source: is closed: a server that shuts down would wait for it.
  /// - Throws: `RestartFailure`, `PostgresError`; the server may have been restarted all the same.
  func restart(_ source: Connection, until deadline: ContinuousClock.Instant) async throws

  /// After the server has answered again.
  func settle(until deadline: ContinuousClock.Instant) async throws

  /// Takes back what `makeReady` has changed.
  /// - Returns: what is so now, as a phrase.
  func undoReadying() async -> String

  /// Takes back all that was changed, on a server that was not restarted.
  /// - Returns: what is so now, as a phrase.
  func undo() async -> String

  /// What to say of an order that was taken and had no effect.
  var withoutEffect: String { get }
  /// What to do after a restart that was refused or had no effect.
  var remedy: String { get }

  /// How to take the change back without a running server.
  var undoByHand: String { get }
}

/// Why a restart could not be had.
struct RestartFailure: Error, Equatable, CustomStringConvertible {
  let description: String
  /// What was to restart the server has not ended, and may still do it.
  var isUnderWay = false
  /// What to do next, where it is not to try the command by hand.
  var remedy: String?

  init(_ description: String, isUnderWay: Bool = false, remedy: String? = nil) {
    self.description = description
    self.isUnderWay = isUnderWay
    self.remedy = remedy
  }
}
