import LogicalReplication

/// The tables that are part of a migration, as both ends have them now: identified by OID, so that names may
/// change or be swapped. Pure.
struct Lineages: Sendable {
  /// One of them.
  struct Table: Sendable {
    var stored: StoredRelation
    var source: Relation
    /// Nil when the target has lost it.
    var target: Relation?
    /// Nil when the target has lost it.
    var verdict: TableLineage.Verdict?

    /// From which LSN on its changes apply; nil while its rows are not the source's.
    var appliesFrom: LSN? {
      switch verdict {
      case .follows: stored.snapshotLSN
      case .differs(let difference): difference.isToBeCopied ? nil : stored.snapshotLSN
      case .copyAgain, nil: nil
      }
    }

    /// Why its rows cannot be copied yet, for people; nil when they can.
    var obstacle: String? {
      guard case .differs(let difference) = verdict else { return nil }
      return """
        table \(source.name) was changed on the source: \(difference.reason). Do the same on the target\
        \(difference.isToBeCopied ? ", and it is copied again" : ""): \(difference.remedy)
        """
    }
  }

  /// The tables that the source still has.
  let tables: [Table]

  init(_ stored: [StoredRelation], source: [Relation], target: [Relation]) {
    let onSource = Dictionary(source.map { ($0.oid, $0) }) { first, _ in first }
    let byOID = Dictionary(target.map { ($0.oid, $0) }) { first, _ in first }
    let byName = Dictionary(target.map { ($0.name, $0) }) { first, _ in first }
    let owned = Set(stored.compactMap(\.lineage?.targetOID))
    tables = stored.compactMap { stored in
      guard let relation = onSource[stored.sourceOID] else { return nil }
      var table = Table(stored: stored, source: relation)
      table.target =
        stored.lineage.flatMap { byOID[$0.targetOID] }
        ?? [relation.name, stored.name].lazy.compactMap { byName[$0] }.first { !owned.contains($0.oid) }
      guard let found = table.target else { return table }
      let lineage = stored.lineage ?? TableLineage(source: relation, target: found)
      table.verdict = lineage.verdict(
        source: relation, target: found, targetFile: stored.targetFile, taken: { byName[$0] != nil })
      return table
    }
  }
}
