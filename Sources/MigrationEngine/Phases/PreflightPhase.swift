import LibPQ
import Logging
import LogicalReplication

/// Preflight, with the target's encryption and the switch steps, which are separate stages.
struct PreflightPhase {
  let options: MigrationOptions
  let ends: Endpoints
  let logger: Logger

  struct Result: Sendable {
    var report: PreflightReport
    var encryption: EncryptionEvidence
    var catalog: Catalog
  }

  func examine(isResuming: Bool) async throws -> Result {
    let catalog: Catalog
    do {
      catalog = try await readCatalog()
    } catch let error as PostgresError where error.sqlState == .lockNotAvailable {
      let locked = try await Preflight.LockedTables.examine(ends.source)
      guard !locked.isEmpty else { throw error }
      // Any other query on the tables would wait as well.
      return Result(
        report: PreflightReport(findings: locked), encryption: .none, catalog: Catalog(relations: []))
    }
    let context = PreflightContext(
      source: ends.source, target: ends.target, catalog: catalog, options: options, isResuming: isResuming,
      names: PreflightContext.Names(
        slot: ends.sourceIdentity.slotName, publication: EngineRun.publicationName,
        reverseSlot: try await DatabaseIdentity.read(from: ends.target).reverseSlotName))
    var report = try await Preflight.examine(context)
    let (evidence, findings) = try await encryption()
    let switching = SwitchSteps(options: options, ends: ends, logger: logger)
    let all = report.findings + findings + (try await switching.findings())
    report.findings = Finding.Severity.allCases.reversed().flatMap { severity in
      all.filter { $0.severity == severity }
    }
    return Result(report: report, encryption: evidence, catalog: catalog)
  }

  /// Reading table sizes waits for ACCESS EXCLUSIVE locks.
  private func readCatalog() async throws -> Catalog {
    try await ends.source.query(
      "SET lock_timeout = '5s'", doing: "examining the source", within: .seconds(15))
    let catalog: Catalog
    do {
      catalog = try await Catalog.read(from: ends.source)
    } catch {
      _ = try? await ends.source.query(
        "SET lock_timeout = 0", doing: "examining the source", within: .seconds(15))
      throw error
    }
    try await ends.source.query("SET lock_timeout = 0", doing: "examining the source", within: .seconds(15))
    return catalog
  }

  /// Whether the target may be written to, as findings; none when it is encrypted in flight and at rest.
  func encryption() async throws -> (EncryptionEvidence, [Finding]) {
    let facts = try await TargetServerFacts.read(from: ends.target)
    let command = options.encryptionEvidenceCommand.map { CommandEvidence(command: $0) }
    let evidence = await EncryptionExaminer(
      command: command, asksAWS: options.encryptionProvider == .aws
    ).examine(server: facts)
    let decision = EncryptionGate.decide(
      transport: try await EncryptionGate.Transport(of: ends.target), evidence: evidence,
      allowUnencrypted: options.allowsUnencryptedTarget)
    let (severity, reasons): (Finding.Severity, [EncryptionGate.Reason]) =
      switch decision {
      case .pass: (.note, [])
      case .passOverridden(let reasons): (.warning, reasons)
      case .refuse(let reasons): (.blocker, reasons)
      }
    return (
      evidence,
      reasons.map {
        Finding(severity, check: "encryption", object: "target", why: $0.problem, remedy: $0.remedy)
      }
    )
  }
}
