/// A large object as in the catalogs (manual, section 53.31).
struct LargeObject: Sendable, Equatable {
  var oid: UInt32
  var owner: String
  /// The statements that grant its privileges; nil where it has its owner's defaults.
  var grants: String?
}

/// What makes one end's large objects equal to the other's. Pure.
struct LargeObjectPlan: Sendable, Equatable {
  /// Removed from the target: gone from the source, or about to be recreated.
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
