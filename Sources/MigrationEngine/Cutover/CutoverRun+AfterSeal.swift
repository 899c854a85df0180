import LibPQ
import Logging

/// What is done after the point of no return.
extension CutoverRun {
  /// Nothing is undone after the seal, so it is retried until it succeeds, or the engine is asked to stop.
  func again(after reason: String) async throws -> CutoverMachine.Action {
    guard !isForeign else {
      throw MigrationError(
        .anotherEngine, doing: "cutting over", reason: reason, remedy: "Look at replicate status.")
    }
    var reason = reason
    while true {
      try Task.checkCancellation()
      let pause = retryPause.next()
      logger.error(
        "after the seal nothing is undone: trying again",
        metadata: ["why": "\(reason)", "in": "\(pause)"])
      report.reason = "trying again: \(reason)"
      onStep(report)
      try await Task.sleep(for: pause)
      do {
        let fence = try await reopen()
        let isOpen = fence == .sealed ? try await door.isOpen(target) : false
        return machine.resume(from: fence, targetIsOpen: isOpen)
      } catch is CancellationError {
        throw CancellationError()
      } catch {
        reason = "\(error)"
      }
    }
  }

  /// Opens new connections in place of lost ones.
  /// - Returns: the state of the fence.
  private func reopen() async throws -> SourceState.Fence {
    if !(await isAlive(target)) {
      let new = try await ends.openTaking()
      await target.close()
      target = new
    }
    if let reachedSource, await !isAlive(reachedSource) {
      await reachedSource.close()
      self.reachedSource = nil
    }
    if reachedSource == nil, need != .lost { try await reachSourceOrForgetIt() }
    return machine.isSealed ? .sealed : try await SourceState(try source).fence() ?? .open
  }

  // MARK: A source that is lost

  /// In place of a lost connection.
  func reachSource() async throws {
    let connection = try await ends.openLeft()
    await reachedSource?.close()
    reachedSource = connection
    let peer = try await connection.peer()
    place = Knock.Place(host: peer.host, address: peer.address, port: peer.port)
  }

  /// Waiting for a lost source would only keep the target closed. A source that answers is asked until it
  /// confirms its seal: after a failover it may have lost it, and accept writes.
  func reachSourceOrForgetIt() async throws {
    await reachedSource?.close()
    reachedSource = nil
    guard machine.isDrained else { return try await reachSource() }
    let heard = try await Silence.listen(ends.from, end: ends.direction.from, known: place)
    if case .silent = heard.verdict { return noteSilence(heard.words) }
    do {
      try await reachSource()
    } catch let error as PostgresError where error.code == .timedOut {
      // It accepts connections, and does not answer on them.
      return noteSilence("\(error)")
    }
    guard machine.isSealed, try await SourceState(try source).fence() != .sealed else { return }
    await reachedSource?.close()
    reachedSource = nil
    throw MigrationError(
      .failed, doing: "looking for the seal of the \(ends.direction.from)",
      reason: "it was sealed and no longer is: a failover or a restore may have lost the seal",
      remedy: "What is written to it now is lost. Stop it: without it the engine finishes the "
        + "\(ends.direction.deed).")
  }

  /// - Throws: `error` when something answers where the source is, or it cannot be known.
  func ensureSilence(after error: any Error) async throws {
    if let hang = error as? PostgresError, hang.code == .timedOut { return noteSilence("\(hang)") }
    let heard = try await Silence.listen(ends.from, end: ends.direction.from, known: place)
    guard case .silent = heard.verdict else { throw error }
    noteSilence(heard.words)
  }

  private func noteSilence(_ heard: String) {
    logger.warning(
      "the \(ends.direction.from) cannot be reached, and is no longer needed",
      metadata: ["why": "\(heard)"])
  }

  private func isAlive(_ connection: Connection) async -> Bool {
    do {
      try await connection.query("SELECT", doing: "asking whether the server is there", within: .seconds(5))
      return true
    } catch {
      logger.debug("a connection is lost", metadata: ["why": "\(error)"])
      return false
    }
  }

  // MARK: Steps

  /// Once the target knows of the seal, the source is no longer needed.
  func openTarget() async throws -> String {
    report.seal = .stands
    try await handover.record(report)
    await Failpoint.reached("sealed and noted")
    let proof = try await proveAgain()
    await noteLargeObjects()
    async let sequences = copySequencesAgain()
    async let restored = handover.settleTables()
    let detail = try await "\(sequences)\(restored)"
    try await door.open(target)
    let pause = handover.poolers == nil ? pause() : ""
    await warnOfLargeObjects()
    return "\(proof)\(detail)\(pause)"
  }

  /// What follows may take minutes, and the next engine after a crash reports this. Nobody waits for it, so a
  /// failure here does no harm.
  func recordOpening() async {
    do {
      try await handover.record(report)
    } catch {
      logger.warning("the opening could not be recorded", metadata: ["why": "\(error)"])
    }
  }

  /// Values may have been drawn since, without a write that the fence could refuse. The target is complete
  /// without the source, so its loss stops nothing.
  private func copySequencesAgain() async throws -> String {
    let asTheyWere = "sequences are as they were read after the fence"
    guard reachedSource != nil else { return asTheyWere }
    do {
      return try await readSequences()
    } catch let error as PostgresError where error.isConnectionLoss {
      try await reachSourceOrForgetIt()
      guard reachedSource != nil else { return asTheyWere }
      return try await readSequences()
    } catch {
      logger.warning("sequences could not be read again after the seal", metadata: ["why": "\(error)"])
      return asTheyWere
    }
  }

  private func readSequences() async throws -> String {
    let count = try await Sequences.copy(from: try source, to: target, without: handover.excluded)
    return "\(count) sequences read again"
  }

  /// Warns in log, report and trail: somebody must look.
  func warn(_ what: String) {
    guard report.warnings?.contains(what) != true else { return }
    logger.warning("\(what)")
    report.warnings = (report.warnings ?? []) + [what]
  }

  /// Before they are read again.
  private func noteLargeObjects() async {
    guard let source = try? source else { return }
    do {
      largeObjectsHorizon = try await Writers(source).largeObjectsHorizon()
    } catch {
      logger.warning("large objects written late will not be reported", metadata: ["why": "\(error)"])
    }
  }

  private func warnOfLateLargeObjects() async {
    guard let largeObjectsHorizon, let source = try? source else { return }
    do {
      let late = try await Writers(source).largeObjects(writtenSince: largeObjectsHorizon)
      guard !late.isEmpty else { return }
      let named = late.prefix(5).map(String.init).joined(separator: ", ")
      warn(
        "large objects were written on the \(ends.direction.from) after its seal, and may not be on the "
          + "\(ends.direction.to): \(named)\(late.count > 5 ? " and \(late.count - 5) more" : "")")
    } catch {
      logger.warning(
        "it is not known whether large objects were written on the \(ends.direction.from) after its seal",
        metadata: ["why": "\(error)"])
    }
  }

  /// After the switch, commits that the source acknowledged late have had time to show.
  private func lookAgain() async {
    await warnOfLargeObjects()
    await warnOfLateLargeObjects()
    if let left = await lookForWhatStays() {
      report.reason = [report.reason, left].compactMap { $0 }.joined(separator: "; ")
    }
  }

  /// What was committed before the seal has been read again; later writes stay in the old database.
  private func warnOfLargeObjects() async {
    guard let source = try? source else { return }
    do {
      let writers = try await Writers(source).ofUnfenced()
      guard !writers.isEmpty else { return }
      warn(
        "large objects or tables of extensions are written on the \(ends.direction.from) after its seal, "
          + "and stay there: "
          + Writers.list(writers))
    } catch {
      logger.warning(
        "it is not known whether large objects or tables of extensions are written after the seal",
        metadata: ["why": "\(error)"])
    }
  }

  func switchOver() async -> String {
    // Nobody waits for the read-only default where clients wait in poolers.
    var readOnly = handover.poolers == nil ? await setReadOnlyDefault() : ""
    let events = SwitchEvents(
      onStep: { step, duration, detail in await self.note(step, .now - duration, duration, detail) },
      onClientsResumed: { await self.noteClientsResumed() })
    let failure = await handover.switchOver(fenceLSN: report.fenceLSN, events)
    report.reason = failure
    await lookAgain()
    if handover.poolers != nil { readOnly = await setReadOnlyDefault() }
    return "\(readOnly)\(pooledPause)\(pause())\(failure.map { "; \($0)" } ?? "")"
  }

  private func noteClientsResumed() { pooledPause = pause() }

  /// New sessions on the source are read-only from the start, not only when the fence refuses a write.
  private func setReadOnlyDefault() async -> String {
    let end = ends.direction.from
    do {
      let source = try source
      let rows = try await source.query(
        "SELECT pg_catalog.current_database() AS name", doing: "asking for the \(end)'s name",
        within: .seconds(15))
      let name = SQL.identifier(try rows.first?.text("name") ?? "")
      try await source.query(
        "ALTER DATABASE \(name) SET default_transaction_read_only = on",
        doing: "setting default_transaction_read_only on the \(end)", within: .seconds(15))
      return "default_transaction_read_only is on for new sessions on the \(end)"
    } catch {
      logger.warning(
        "default_transaction_read_only could not be set on the \(end)", metadata: ["why": "\(error)"])
      return "default_transaction_read_only could not be set on the \(end); the fence stands"
    }
  }
}
