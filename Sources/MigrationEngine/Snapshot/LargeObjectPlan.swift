/// A large object as the catalogs know it (manual, section 53.31).
struct LargeObject: Sendable, Equatable {
  var oid: UInt32
  var owner: String
  /// The statements that give it the privileges it has; nil where its owner's defaults hold.
  var grants: String?
}

/// What makes one end's large objects those of the other. Pure.
struct LargeObjectPlan: Sendable, Equatable {
  /// Taken off the target: gone from the source, or about to be made anew.
  private(set) var removed: [UInt32] = []
  private(set) var copied: [LargeObject] = []

  /// - Parameter hasOtherContent: whether an object that both ends have must be copied all the same.
  init(source: [LargeObject], target: [LargeObject], hasOtherContent: (UInt32) -> Bool) {
    let present = Dictionary(target.map { ($0.oid, $0) }) { first, _ in first }
    let wanted = Set(source.map(\.oid))
    removed = target.map(\.oid).filter { !wanted.contains($0) }
    for object in source {
      guard present[object.oid] != object || hasOtherContent(object.oid) else { continue }
      copied.append(object)
      if present[object.oid] != nil { removed.append(object.oid) }
    }
  }

  /// Few enough for one transaction: each takes a place in the server's lock table.
  static let batchSize = 200
}
