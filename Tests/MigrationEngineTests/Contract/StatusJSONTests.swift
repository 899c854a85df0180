import Foundation
import Testing

@testable import MigrationEngine

/// `status --json` is a contract: fields may be added, never renamed.
struct StatusJSONTests {
  private func object(_ value: some Encodable) throws -> [String: Any] {
    let json = try JSONEncoder().encode(value)
    return try #require(JSONSerialization.jsonObject(with: json) as? [String: Any])
  }

  private func keys(_ object: [String: Any], _ path: String) throws -> Set<String> {
    var object = object
    for part in path.split(separator: ".") { object = try #require(object[String(part)] as? [String: Any]) }
    return Set(object.keys)
  }

  private func full() -> Status {
    var status = Status(phase: .streaming)
    var cutover = Status.Cutover(step: .drain)
    cutover.fenceLSN = "0/10"
    cutover.writePauseSeconds = 0.08
    cutover.result = .aborted
    cutover.reason = "the drain took too long"
    cutover.timeline = [.init(step: "fence", startSeconds: 0, seconds: 0.01, detail: "")]
    status.cutover = cutover
    status.failure = "no"
    status.slot.safeBytes = 1
    status.stream.catchUpSeconds = 1
    status.stream.predictedPauseSeconds = 1
    return status
  }

  @Test(arguments: [
    (
      "",
      ["migration", "phase", "ready", "engine", "source", "target", "copy", "stream", "slot", "cutover"]
    ),
    ("engine", ["running", "host", "pid", "heartbeat_age_seconds"]),
    ("source", ["database", "server_version", "tls"]),
    ("target", ["database", "server_version", "tls", "encryption"]),
    ("target.encryption", ["status", "provider", "detail"]),
    ("copy", ["tables_total", "tables_done", "bytes_total", "bytes_done", "rows_done", "seconds"]),
    (
      "stream",
      [
        "received_lsn", "applied_lsn", "source_lsn", "lag_bytes", "lag_seconds", "transactions", "changes",
      ]
    ),
    ("slot", ["name", "status", "retained_bytes"]),
    ("cutover", ["step", "fence_lsn", "write_pause_seconds", "result", "reason"]),
  ])
  func `has every key of the contract`(path: String, expected: [String]) throws {
    let missing = Set(expected).subtracting(try keys(try object(full()), path))
    #expect(missing.isEmpty, "missing in \(path): \(missing.sorted())")
  }

  @Test func `every key is in snake case`() throws {
    func check(_ value: Any) {
      if let object = value as? [String: Any] {
        for (key, value) in object {
          #expect(key.wholeMatch(of: /[a-z]+(_[a-z]+)*/) != nil, "\(key)")
          check(value)
        }
      } else if let array = value as? [Any] {
        array.forEach(check)
      }
    }
    check(try object(full()))
  }

  @Test func `a migration that has just begun has all keys too, and no cutover`() throws {
    let object = try object(Status(phase: .preflight))
    #expect(object["cutover"] is NSNull)
    #expect(object["migration"] as? String == "replicate")
    #expect(object["phase"] as? String == "preflight")
    #expect(object["ready"] as? Bool == false)
    let stream = try #require(object["stream"] as? [String: Any])
    #expect(stream["applied_lsn"] as? String == "0/0")
  }

  @Test func `values of fixed choice are spelled as in the contract`() throws {
    let evidence = EncryptionEvidence(status: .attested, provider: .pgTDE, detail: "d")
    let object = try object(evidence)
    #expect(object["status"] as? String == "attested")
    #expect(object["provider"] as? String == "pg_tde")
    #expect(Status.Cutover.Result(rawValue: "rehearsed") == .rehearsed)
    #expect(try keys(try self.object(full()), "").contains("failure"))
  }

  @Test func `comes back from JSON as it was`() throws {
    for status in [full(), Status(phase: .copy)] {
      #expect(try JSONDecoder().decode(Status.self, from: JSONEncoder().encode(status)) == status)
    }
  }

  @Test func `a cutover request comes back from the state as it was`() throws {
    var request = CutoverRequest(requestedBy: "amy@host")
    (request.maxPauseSeconds, request.timeoutSeconds) = (2.5, 30)
    #expect(try JSONDecoder().decode(CutoverRequest.self, from: JSONEncoder().encode(request)) == request)
  }

  @Test func `a cutover that has just begun has the contract's keys as null`() throws {
    let cutover = try object(Status.Cutover(step: .arm))
    for key in ["fence_lsn", "write_pause_seconds", "result", "reason"] {
      #expect(cutover[key] is NSNull, "\(key)")
    }
  }
}
