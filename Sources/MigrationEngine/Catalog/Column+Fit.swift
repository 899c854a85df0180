/// Which values a column can hold.
extension Column {
  /// OIDs below it are the same in every database: `FirstNormalObjectId`.
  static let firstUserOID: UInt32 = 16384

  /// Whether every value of `other`, a column of the other end, is stored unchanged.
  func holds(_ other: Column) -> Bool {
    holds(typeOID: other.typeOID, typeName: other.typeName, modifier: other.modifier)
  }

  /// - Parameters:
  ///   - typeOID: the other end's type OID, which is the same here only for built-in types.
  ///   - typeName: that type's name; nil when it is not known, so that only the OID decides.
  func holds(typeOID: UInt32, typeName: String?, modifier: Int32) -> Bool {
    let isBuiltIn = self.typeOID < Self.firstUserOID && typeOID < Self.firstUserOID
    guard isBuiltIn ? self.typeOID == typeOID : typeName.map({ $0 == self.typeName }) ?? true else {
      return false
    }
    return holds(modifier: modifier)
  }

  /// A type's modifier rounds, cuts or pads what does not fit it (manual, sections 8.1.2, 8.3, 8.5, 8.10).
  private func holds(modifier other: Int32) -> Bool {
    if modifier == other || modifier == -1 { return true }
    return other != -1 && Self.growing.contains(typeOID) && other <= modifier
  }

  /// Built-in types whose values are the same under every modifier that is large enough, and their arrays,
  /// which have the modifier of their elements. All others need the same modifier: `numeric` stores its
  /// decimal places, and `char` its blanks.
  private static let growing: Set<UInt32> = [
    // varchar, varbit
    1043, 1015, 1562, 1563,
    // time, timetz, timestamp, timestamptz
    1083, 1183, 1266, 1270, 1114, 1115, 1184, 1185,
  ]
}
