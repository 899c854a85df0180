import CLibPQ
import Dispatch

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A knock at one address where a server may be: whether anything is there at all, as far as the network
/// shows, not PostgreSQL. Whatever accepts a connection is there, whether or not it answers on it.
package struct Knock: Sendable, CustomStringConvertible {
  /// What one address did within its limit.
  package enum Outcome: Sendable, Equatable {
    /// Something accepted the connection.
    case taken
    /// Refused, no route, no response: as when nothing is there.
    case silent(String)
    /// Not known: the name has no address, or this machine could not try.
    case untried(String)
  }

  /// Where a server may be.
  package struct Place: Sendable, Hashable, CustomStringConvertible {
    /// As in the connection string, or the directory of a socket.
    package var host: String
    /// Numeric; nil for a socket in a directory, and for a name that has none.
    package var address: String?
    /// A decimal number, or whatever else the connection string has in its place.
    package var port: String

    /// - Parameter address: numeric, nil for a socket in a directory and for a name that has none.
    package init(host: String, address: String?, port: String) {
      (self.host, self.address, self.port) = (host, address, port)
    }

    /// `db1 (10.0.0.7:5432)`.
    package var description: String {
      guard let address else { return isSocket(host) ? "\(host)/.s.PGSQL.\(port)" : "\(host):\(port)" }
      return address == host ? "\(address):\(port)" : "\(host) (\(address):\(port))"
    }
  }

  /// Where it knocked.
  package let place: Place
  /// What came of it.
  package let outcome: Outcome

  init(at place: Place, _ outcome: Outcome) {
    self.place = place
    self.outcome = outcome
  }

  /// What was found where: `connection refused by db1 (10.0.0.7:5432)`.
  package var description: String {
    switch outcome {
    case .taken: "\(place) takes connections"
    case .silent(let words): "\(words) \(place)"
    case .untried(let words): "\(place) could not be tried: \(words)"
    }
  }

  /// Knocks at every address of every host that the string names, at the same time.
  /// - Parameters:
  ///   - known: where the server was; tried as well, so that neither a name without an address nor one that
  ///     leads elsewhere by now hides it.
  ///   - limit: how long each address has to respond.
  /// - Throws: `PostgresError` with code `.connectionString` when the string, or a service that it names,
  ///   does not say where a server is.
  package static func everywhere(
    _ string: ConnectionString, end: String, known: Place? = nil, within limit: Duration = .seconds(3)
  ) async throws -> [Knock] {
    let doors = try await offThePool {
      var found = try hosts(of: string, end: end).flatMap(addresses(of:))
      guard let known, let address = known.address, !address.isEmpty else { return found }
      // If it was there, that is not needed.
      found.removeAll { $0.bytes == nil && $0.host == known.host && $0.port == known.port }
      let earlier = addresses(of: Host(name: known.host, address: address, port: known.port))
      return found + earlier.filter { new in !found.contains { $0.bytes == new.bytes } }
    }
    return try await withThrowingTaskGroup(of: (Int, Knock).self) { group in
      for (index, door) in doors.enumerated() {
        group.addTask { (index, try await door.knock(until: .now + limit)) }
      }
      var knocks: [(Int, Knock)] = []
      for try await knock in group { knocks.append(knock) }
      return knocks.sorted { $0.0 < $1.0 }.map(\.1)
    }
  }

  fileprivate static func isSocket(_ host: String) -> Bool { host.hasPrefix("/") || host.hasPrefix("@") }

  // MARK: Where

  private struct Host: Sendable {
    var name: String
    /// Empty where the name is to be looked up.
    var address: String
    var port: String
  }

  /// Including what services, the environment and libpq's defaults add to the string.
  private static func hosts(of string: ConnectionString, end: String) throws -> [Host] {
    let started = CStrings(string.complete.map(\.name)).withPointers { names in
      CStrings(string.complete.map(\.value)).withPointers { PQconnectStartParams(names, $0, 0) }
    }
    let action = "looking up where the \(end) is"
    guard let started else {
      throw PostgresError(code: .connection, action: action, message: "out of memory")
    }
    // It may have begun to connect, which does no harm.
    defer { PQfinish(started) }
    let first = String(cString: PQhost(started))
    // Without any host it has failed to parse the string.
    guard !first.isEmpty, let options = PQconninfo(started) else {
      throw PostgresError(connection: started, code: .connectionString, action: action)
    }
    defer { PQconninfoFree(options) }
    var values: [String: [String]] = [:]
    var option = options
    while let name = option.pointee.keyword {
      if let value = option.pointee.val, value.pointee != 0 {
        values[String(cString: name)] = String(cString: value)
          .split(separator: ",", omittingEmptySubsequences: false).map(String.init)
      }
      option += 1
    }
    let addresses = values["hostaddr"] ?? []
    let names = values["host"] ?? (addresses.isEmpty ? [first] : addresses)
    let ports = values["port"] ?? [defaultPort]
    guard addresses.isEmpty || addresses.count == names.count, [1, names.count].contains(ports.count) else {
      throw PostgresError(
        code: .connectionString, action: action,
        message: "the numbers of hosts, addresses and ports do not match")
    }
    return names.indices.map { index in
      let port = ports.count == 1 ? ports[0] : ports[index]
      return Host(
        name: names[index].isEmpty ? first : names[index], address: addresses.isEmpty ? "" : addresses[index],
        port: port.isEmpty ? defaultPort : port)
    }
  }

  private static let defaultPort = "5432"

  private static func addresses(of host: Host) -> [Address] {
    if host.address.isEmpty, isSocket(host.name) {
      return [Address(socketIn: host.name, port: host.port)]
    }
    var hints = addrinfo()
    hints.ai_socktype = Address.stream
    var found: UnsafeMutablePointer<addrinfo>?
    let failure = getaddrinfo(host.address.isEmpty ? host.name : host.address, host.port, &hints, &found)
    guard failure == 0, let found else {
      let why = String(cString: gai_strerror(failure))
      return [Address(host: host.name, port: host.port, why: "the name has no address (\(why))")]
    }
    defer { freeaddrinfo(found) }
    return sequence(first: found, next: { $0.pointee.ai_next }).map {
      Address(host: host.name, port: host.port, found: $0.pointee)
    }
  }

  /// Blocking calls must not hold a thread of the cooperative pool.
  fileprivate static func offThePool<Value: Sendable>(
    _ body: @escaping @Sendable () throws -> Value
  ) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
      DispatchQueue.global().async { continuation.resume(with: Result(catching: body)) }
    }
  }
}

/// Where to knock.
private struct Address: Sendable {
  var host: String
  var port: String
  /// Numeric.
  var text: String?
  var family: Int32 = 0
  /// A `sockaddr`; nil when there is none.
  var bytes: [UInt8]?
  /// Why there is none.
  var why = ""

  #if canImport(Glibc)
    static let stream = Int32(SOCK_STREAM.rawValue)
  #else
    static let stream = SOCK_STREAM
  #endif

  init(host: String, port: String, why: String) {
    (self.host, self.port, self.why) = (host, port, why)
  }

  init(host: String, port: String, found: addrinfo) {
    (self.host, self.port) = (host, port)
    family = found.ai_family
    bytes = Array(UnsafeRawBufferPointer(start: found.ai_addr, count: Int(found.ai_addrlen)))
    var name = [CChar](repeating: 0, count: Int(NI_MAXHOST))
    let isNamed =
      getnameinfo(
        found.ai_addr, found.ai_addrlen, &name, socklen_t(name.count), nil, 0, NI_NUMERICHOST) == 0
    if isNamed { text = String(decoding: name.prefix { $0 != 0 }.map(UInt8.init), as: UTF8.self) }
  }

  init(socketIn directory: String, port: String) {
    (host, self.port) = (directory, port)
    family = AF_UNIX
    var path = Array("\(directory)/.s.PGSQL.\(port)".utf8)
    // An abstract name begins with a zero.
    if directory.hasPrefix("@") { path[0] = 0 }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let room = MemoryLayout.size(ofValue: address.sun_path)
    guard path.count < room else {
      why = "the path of the socket is too long"
      return
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
    let length = MemoryLayout<sockaddr_un>.size - room + path.count + (directory.hasPrefix("@") ? 0 : 1)
    bytes = withUnsafeBytes(of: address) { Array($0.prefix(length)) }
  }

  func knock(until deadline: ContinuousClock.Instant) async throws -> Knock {
    guard let bytes else { return knock(.untried(why)) }
    try Task.checkCancellation()
    let waiter = try SocketWait()
    let outcome = try await withTaskCancellationHandler {
      try await Knock.offThePool { connect(to: bytes, waiter, until: deadline) }
    } onCancel: {
      waiter.nudge()
    }
    try Task.checkCancellation()
    return knock(outcome)
  }

  private func knock(_ outcome: Knock.Outcome) -> Knock {
    Knock(at: Knock.Place(host: host, address: text, port: port), outcome)
  }

  private func connect(
    to bytes: [UInt8], _ waiter: SocketWait, until deadline: ContinuousClock.Instant
  ) -> Knock.Outcome {
    let descriptor = socket(family, Self.stream, 0)
    guard descriptor >= 0 else { return outcome(errno) }
    defer { close(descriptor) }
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    guard fcntl(descriptor, F_SETFL, O_NONBLOCK) == 0 else { return outcome(errno) }
    let result = bytes.withUnsafeBytes { raw in
      raw.withMemoryRebound(to: sockaddr.self) {
        #if canImport(Glibc)
          Glibc.connect(descriptor, $0.baseAddress, socklen_t(bytes.count))
        #else
          Darwin.connect(descriptor, $0.baseAddress, socklen_t(bytes.count))
        #endif
      }
    }
    if result == 0 { return .taken }
    // A full queue belongs to somebody.
    if family == AF_UNIX, errno == EAGAIN { return .taken }
    guard errno == EINPROGRESS || errno == EINTR else { return outcome(errno) }
    switch waiter.wait(descriptor, for: .writable, until: deadline) {
    case .timedOut: return .silent("no sign of life from")
    case .nudged: return .untried("interrupted")
    case .ready:
      var code: Int32 = 0
      var length = socklen_t(MemoryLayout<Int32>.size)
      guard getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &length) == 0 else { return outcome(errno) }
      return code == 0 ? .taken : outcome(code)
    }
  }

  private func outcome(_ code: Int32) -> Knock.Outcome {
    switch code {
    case ECONNREFUSED: .silent("connection refused by")
    case EHOSTUNREACH, EHOSTDOWN: .silent("no route to")
    case ETIMEDOUT: .silent("no sign of life from")
    case ENOENT where family == AF_UNIX: .silent("there is no socket")
    default: .untried(String(cString: strerror(code)))
    }
  }
}
