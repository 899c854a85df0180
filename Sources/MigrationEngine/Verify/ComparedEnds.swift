import LibPQ
import LogicalReplication

/// What can be compared on both ends, and how.
struct ComparedEnds: Sendable {
  let agreement: ComparedTable.Agreement
  let source: [RelationName: TableShape]
  let target: [RelationName: TableShape]
  /// Unique indexes of the source's tables, if rows are to be looked up by their keys.
  let indexes: [UInt32: [UniqueIndex]]
  /// For the report.
  let notes: [String]

  static func read(
    _ source: VerifiedEnd, _ target: VerifiedEnd, digests: [DigestFunction], looksUpKeys: Bool
  ) async throws -> ComparedEnds {
    let versions = (source.versionNumber, target.versionNumber)
    let writesFloatsDifferently =
      (versions.0 < ServerFeature.shortestFloats.since)
      != (versions.1 < ServerFeature.shortestFloats.since)
    let sharesEncoding = source.encoding == target.encoding
    let digest = try await digest(digests, source, target, sharesEncoding: sharesEncoding)
    async let here = TableShape.read(from: source.first, findsFloats: writesFloatsDifferently)
    async let there = TableShape.read(from: target.first, findsFloats: writesFloatsDifferently)
    let (sourceShapes, targetShapes) = try await (here, there)
    let isSlower = digest.function == .md5 && min(versions.0, versions.1) >= ServerFeature.extendedHash.since
    return ComparedEnds(
      agreement: ComparedTable.Agreement(
        digest: digest, sharesEncoding: sharesEncoding, writesFloatsDifferently: writesFloatsDifferently),
      source: sourceShapes, target: targetShapes,
      indexes: looksUpKeys ? try await UniqueIndex.read(from: source.first) : [:],
      notes: isSlower ? ["the servers' hash functions differ, so that MD5 is used"] : [])
  }

  /// The fastest digest that both ends compute in the same way.
  private static func digest(
    _ functions: [DigestFunction], _ source: VerifiedEnd, _ target: VerifiedEnd, sharesEncoding: Bool
  ) async throws -> Digest {
    let version = min(source.versionNumber, target.versionNumber)
    let seed = Int64.random(in: 1 ... .max)
    for function in functions {
      switch function {
      case .record where version < ServerFeature.recordHash.since: continue
      case .array where version < ServerFeature.extendedHash.since: continue
      case .record, .array, .md5: break
      }
      let digest = Digest(function: function, seed: seed)
      let sql = digest.probe(sharesEncoding: sharesEncoding)
      async let here = source.first.query(sql, doing: "trying out a digest", within: .seconds(30))
      async let there = target.first.query(sql, doing: "trying out a digest", within: .seconds(30))
      let (left, right) = try await (here.first, there.first)
      if try left?.text("key") == right?.text("key"), try left?.text("row") == right?.text("row") {
        return digest
      }
    }
    throw MigrationError(
      .failed, doing: "looking for a digest that both ends compute alike",
      reason: "the source (\(source.version)) and the target (\(target.version)) send the same values in "
        + "different forms",
      remedy: "Compare them with --verify counts, and report this to the vendor of these servers.")
  }
}
