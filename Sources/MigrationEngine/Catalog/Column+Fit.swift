/// Which values a column can hold.
extension Column {
  /// OIDs below it are the same in every database: `FirstNormalObjectId`.
  static let firstUserOID: UInt32 = 16384

  /// Whether every value of `other`, a column of the other end, is kept as it is.
  func holds(_ other: Column) -> Bool {
    holds(typeOID: other.typeOID, typeName: other.typeName, modifier: other.modifier)
  }

  /// - Parameters:
  ///   - typeOID: of the other end's type, whose number is the same here only where it is built in.
  ///   - typeName: of that type; nil when it is not known, and the number alone decides.
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

  /// Built-in types of which a value is the same under every modifier that is large enough, and their arrays,
  /// which have the modifier of their elements. Of all others it must be the same: `numeric` has its digits
  /// behind the point, and `char` its blanks.
  private static let growing: Set<UInt32> = [
    // varchar, varbit
    1043, 1015, 1562, 1563,
    // time, timetz, timestamp, timestamptz
    1083, 1183, 1266, 1270, 1114, 1115, 1184, 1185,
  ]
}
