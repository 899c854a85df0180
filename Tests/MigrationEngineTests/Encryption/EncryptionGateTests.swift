import Foundation
import Testing

@testable import MigrationEngine

@Suite struct EncryptionGateTests {
  private let verified = EncryptionEvidence(status: .verified, provider: .filesystem, detail: "fscrypt")
  private let attested = EncryptionEvidence(status: .attested, provider: .command, detail: "KMS")
  private let unverified = EncryptionEvidence(status: .unverified, provider: .none, detail: "nothing known")

  private func reasons(
    _ transport: EncryptionGate.Transport, _ evidence: EncryptionEvidence
  ) -> [EncryptionGate.Reason] {
    switch EncryptionGate.decide(transport: transport, evidence: evidence, allowUnencrypted: false) {
    case .refuse(let reasons): reasons
    case .pass, .passOverridden: []
    }
  }

  @Test(arguments: [false, true]) func encryptedBothWaysPassesWithoutAnOverride(allow: Bool) {
    for evidence in [verified, attested] {
      #expect(EncryptionGate.decide(transport: .tls, evidence: evidence, allowUnencrypted: allow) == .pass)
    }
  }

  @Test func plaintextInFlightRefusesAndNamesSSLMode() {
    let found = reasons(.plaintext, verified)
    #expect(found.count == 1)
    #expect(found.first?.remedy.contains("sslmode=require") == true)
  }

  @Test func aUnixSocketIsNotTLS() {
    let found = reasons(.unixSocket, verified)
    #expect(found.count == 1)
    #expect(found.first?.problem.contains("unix socket") == true)
    #expect(found.first?.remedy.contains("--allow-unencrypted-target") == true)
  }

  @Test func noEvidenceAtRestRefusesAndRepeatsWhatWasSeen() {
    let found = reasons(.tls, unverified)
    #expect(found.count == 1)
    #expect(found.first?.problem.contains("nothing known") == true)
    #expect(found.first?.remedy.contains("--encryption-evidence") == true)
    #expect(found.first?.remedy.contains("--allow-unencrypted-target") == true)
  }

  @Test func bothReasonsAreGivenAtOnce() {
    #expect(reasons(.plaintext, unverified).count == 2)
  }

  @Test func theOverridePassesAndKeepsTheReasons() {
    let refused = reasons(.plaintext, unverified)
    let decision = EncryptionGate.decide(
      transport: .plaintext, evidence: unverified, allowUnencrypted: true)
    #expect(decision == .passOverridden(refused))
  }

  @Test func theEvidenceIsWrittenInThePublicWords() throws {
    let evidence = EncryptionEvidence(status: .attested, provider: .pgTDE, detail: "wal and tables")
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    let json = String(decoding: try encoder.encode(evidence), as: UTF8.self)
    #expect(json == #"{"detail":"wal and tables","provider":"pg_tde","status":"attested"}"#)
    #expect(try JSONDecoder().decode(EncryptionEvidence.self, from: Data(json.utf8)) == evidence)
  }
}

@Suite struct EncryptionExaminerTests {
  @Test func withoutAnythingToLookAtThereIsNoEvidence() async {
    let found = await EncryptionExaminer().examine(server: TargetServerFacts(isLocal: false))
    #expect(found.status == .unverified)
    #expect(found.provider == .none)
    #expect(found.detail == "the server is not on this machine")
  }

  @Test func theCommandIsAskedWhenOurEyesDoNotReach() async {
    let examiner = EncryptionExaminer(command: CommandEvidence(command: "echo vouched"))
    let found = await examiner.examine(server: TargetServerFacts(isLocal: false))
    #expect(found == EncryptionEvidence(status: .attested, provider: .command, detail: "vouched"))
  }

  @Test func aRefusingCommandLeavesBothExplanations() async {
    let examiner = EncryptionExaminer(command: CommandEvidence(command: "exit 1"))
    let found = await examiner.examine(server: TargetServerFacts(isLocal: false))
    #expect(found.status == .unverified)
    #expect(found.detail == "the command exited with 1; the server is not on this machine")
  }
}
