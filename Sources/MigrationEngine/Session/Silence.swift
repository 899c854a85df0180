import LibPQ

/// Whether an unreachable end is silent. It counts as gone only when no address of it accepts a connection:
/// whatever answers, with any error, is there.
enum Silence: Sendable, Equatable {
  /// Nobody answers, as far as this machine can see: what was found, in words.
  case silent(String)
  /// Something accepted a connection.
  case answers(String)
  /// It cannot be known: a name has no address, or this machine cannot try.
  case unknown(String)

  /// What was heard.
  struct Sounding: Sendable {
    var verdict: Silence
    var knocks: [Knock]
    /// How often everything was silent, and for how long.
    var count = 1
    var duration = Duration.zero

    /// What was found where, and for how long.
    var words: String {
      switch verdict {
      case .answers(let words), .unknown(let words): return words
      case .silent(let words):
        let seconds = (duration / .milliseconds(100)).rounded() / 10
        return count == 1 ? words : "\(words); tried \(count) times in \(seconds) s"
      }
    }
  }

  /// - Parameters:
  ///   - known: where the end was when it was last reached.
  ///   - patience: how long everything must be silent, so that a restart is not mistaken for a loss.
  ///   - limit: how long an address has to respond.
  static func listen(
    _ string: ConnectionString, end: String, known: Knock.Place? = nil, for patience: Duration = .zero,
    within limit: Duration = .seconds(3)
  ) async throws -> Sounding {
    let began = ContinuousClock.now
    var count = 0
    while true {
      let knocks = try await Knock.everywhere(string, end: end, known: known, within: limit)
      count += 1
      let sounding = Sounding(
        verdict: judge(knocks), knocks: knocks, count: count, duration: .now - began)
      guard case .silent = sounding.verdict, sounding.duration < patience else { return sounding }
      try await Task.sleep(for: .seconds(1))
    }
  }

  /// Reads once more from an end that is no longer needed, on a new session if the old one is lost. An end
  /// that answers is not lost, and not skipped.
  /// - Parameter body: is given the new session.
  /// - Returns: nil when the end no longer answers in time.
  static func reading<Value>(
    _ string: ConnectionString, end: String, isolation: isolated (any Actor)? = #isolation,
    _ body: (_ fresh: Connection?) async throws -> Value
  ) async throws -> Value? {
    do {
      return try await body(nil)
    } catch let error as PostgresError where error.isConnectionLoss {
      if case .silent = try await listen(string, end: end).verdict { return nil }
      let fresh: Connection
      do {
        fresh = try await Session.open(string, end: end, purpose: "cutover")
      } catch let hang as PostgresError where hang.code == .timedOut {
        return nil
      }
      return try await closing(fresh) { try await body(fresh) }
    }
  }

  /// A name may have addresses that this machine has no route to, such as IPv6 ones.
  static func judge(_ knocks: [Knock]) -> Silence {
    let taken = knocks.filter { $0.outcome == .taken }
    guard taken.isEmpty else { return .answers(words(taken)) }
    let silent = knocks.filter { if case .silent = $0.outcome { true } else { false } }
    func door(_ knock: Knock) -> Knock.Place {
      Knock.Place(host: knock.place.host, address: nil, port: knock.place.port)
    }
    let doors = Set(silent.map(door))
    let open = knocks.filter { !doors.contains(door($0)) }
    return open.isEmpty && !knocks.isEmpty ? .silent(words(silent)) : .unknown(words(open))
  }

  private static func words(_ knocks: [Knock]) -> String {
    knocks.map(\.description).joined(separator: "; ")
  }
}
