import Dispatch

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The name that a host's name leads to.
package enum CanonicalName {
  /// Follows CNAME records: `db.internal` may be the endpoint of a cluster.
  /// - Returns: nil when the name leads to none, or cannot be resolved.
  package static func of(_ host: String) async -> String? {
    await withCheckedContinuation { continuation in
      // It blocks, and must not hold a thread of the cooperative pool.
      DispatchQueue.global().async { continuation.resume(returning: resolve(host)) }
    }
  }

  private static func resolve(_ host: String) -> String? {
    var hints = addrinfo()
    hints.ai_flags = AI_CANONNAME
    var found: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(host, nil, &hints, &found) == 0, let found else { return nil }
    defer { freeaddrinfo(found) }
    return found.pointee.ai_canonname.map { String(cString: $0) }
  }
}
