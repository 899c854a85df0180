import LibPQ

/// What the name of an endpoint of Amazon RDS or Aurora says.
enum AWSEndpoint {
  /// The host, and what its name leads to, where that is an endpoint: applications often have a name of their
  /// own for their database.
  static func names(of host: String) async -> [String] {
    guard !host.isEmpty, !host.hasPrefix("/"), !matches(host) else { return [host] }
    guard let canonical = await CanonicalName.of(host), matches(canonical) else { return [host] }
    return [host, canonical]
  }

  /// Whether a host is an endpoint of RDS or Aurora by its name.
  static func matches(_ host: String) -> Bool {
    let host = host.lowercased()
    return host.hasSuffix(".rds.amazonaws.com") || host.hasSuffix(".rds.amazonaws.com.cn")
      || host.wholeMatch(of: /.+\.rds\.[a-z0-9-]+\.amazonaws\.com\.cn/) != nil
  }

  /// The region in an endpoint's name; nil where it has none, as a global cluster's.
  static func region(of host: String) -> String? {
    let host = host.lowercased()
    if isGlobal(host) { return nil }
    if let match = host.wholeMatch(of: /.+\.([a-z0-9-]+)\.rds\.amazonaws\.com(?:\.cn)?/) {
      return String(match.output.1)
    }
    return host.wholeMatch(of: /.+\.rds\.([a-z0-9-]+)\.amazonaws\.com\.cn/).map { String($0.output.1) }
  }

  /// `app.global-abc123.global.rds.amazonaws.com`: it leads to the writer of whichever region has it.
  static func isGlobal(_ host: String) -> Bool { host.lowercased().contains(".global.rds.amazonaws.com") }
}
