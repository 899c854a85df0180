import Testing

@testable import LibPQ
@testable import MigrationEngine

/// When an end is lost, and when it is only not to be used.
struct SilenceTests {
  private func knock(_ host: String, _ address: String?, _ outcome: Knock.Outcome) -> Knock {
    Knock(at: Knock.Place(host: host, address: address, port: "5432"), outcome)
  }

  private let refused = Knock.Outcome.silent("connection refused by")
  private let noWay = Knock.Outcome.untried("Network is unreachable")

  @Test func `all must be silent, and one that answers is enough`() {
    let dead = knock("a", "10.0.0.1", refused)
    let alive = knock("b", "10.0.0.2", .taken)
    #expect(Silence.judge([dead]) == .silent("connection refused by a (10.0.0.1:5432)"))
    #expect(Silence.judge([dead, alive]) == .answers("b (10.0.0.2:5432) takes connections"))
    #expect(
      Silence.judge([knock("a", "10.0.0.9", .taken), dead]) == .answers("a (10.0.0.9:5432) takes connections")
    )
  }

  @Test func `what could not be tried is no silence, but for the other addresses of a name`() {
    let unknown = knock("mistyped", nil, .untried("the name has no address"))
    guard case .unknown(let words) = Silence.judge([knock("a", "10.0.0.1", refused), unknown]) else {
      Issue.record("a name that is not known is taken for a silence")
      return
    }
    #expect(words == "mistyped:5432 could not be tried: the name has no address")
    #expect(
      Silence.judge([knock("a", "fd00::1", noWay), knock("a", "10.0.0.1", refused)])
        == .silent("connection refused by a (10.0.0.1:5432)"))
    guard case .unknown = Silence.judge([knock("a", "10.0.0.1", noWay)]) else {
      Issue.record("without a way to it nothing is known of it")
      return
    }
    guard case .unknown = Silence.judge([]) else {
      Issue.record("nothing was asked")
      return
    }
  }
}
