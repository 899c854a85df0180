import Dispatch

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The addresses that a host's name leads to.
package enum HostAddresses {
  /// - Returns: as libpq writes them; empty when the name cannot be resolved.
  package static func of(_ host: String) async -> Set<String> {
    await withCheckedContinuation { continuation in
      // It blocks, and must not hold a thread of the cooperative pool.
      DispatchQueue.global().async { continuation.resume(returning: resolve(host)) }
    }
  }

  private static func resolve(_ host: String) -> Set<String> {
    var found: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(host, nil, nil, &found) == 0, let found else { return [] }
    defer { freeaddrinfo(found) }
    var addresses: Set<String> = []
    var next: UnsafeMutablePointer<addrinfo>? = found
    while let entry = next {
      // Longer than any address.
      var text = [CChar](repeating: 0, count: 256)
      let length = socklen_t(text.count)
      if getnameinfo(
        entry.pointee.ai_addr, entry.pointee.ai_addrlen, &text, length, nil, 0, NI_NUMERICHOST) == 0
      {
        let bytes = text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:))
        addresses.insert(String(decoding: bytes, as: UTF8.self))
      }
      next = entry.pointee.ai_next
    }
    return addresses
  }
}
