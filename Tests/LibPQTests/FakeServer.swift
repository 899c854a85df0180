import Foundation
import Synchronization

#if canImport(Glibc)
  import Glibc
#endif

/// A server on loopback that speaks as much of the protocol as a test needs, and misbehaves as it is asked to
/// (PostgreSQL manual, "Frontend/Backend Protocol").
final class FakeServer: Sendable {
  enum Answer: Sendable {
    case messages([[UInt8]])
    /// Only when a cancel request has come; the request itself is answered as a server does, by hanging up.
    case afterCancel([[UInt8]])
    /// Never; a cancel request is taken and never answered either.
    case never
    case messagesThenHangUp([[UInt8]])
  }

  let port: Int
  private let listener: Int32
  private let answers: [String: Answer]
  private let refusal: [UInt8]?
  private let connections = Mutex<[Int32]>([])
  private let statements = Mutex<[String]>([])

  /// What was sent to it until now.
  var received: [String] { statements.withLock { $0 } }

  /// - Parameters:
  ///   - answers: by the text of the statement; others get an empty command's end.
  ///   - isSilent: takes connections and never says anything.
  ///   - refusal: what a login gets before it hangs up; nil: it is let in.
  init(_ answers: [String: Answer] = [:], isSilent: Bool = false, refusal: [UInt8]? = nil) throws {
    (listener, port) = try Self.listen()
    self.answers = answers
    self.refusal = refusal
    guard !isSilent else { return }
    let listener = listener
    Thread { [weak self] in
      while true {
        let connection = accept(listener, nil, nil)
        guard connection >= 0, let self else { return }
        take(connection)
      }
    }.start()
  }

  deinit {
    stop()
    for socket in connections.withLock({ $0 }) + [listener] { close(socket) }
  }

  /// Hangs up on everybody.
  func stop() {
    shutdown(listener, Int32(SHUT_RDWR))
    for connection in connections.withLock({ $0 }) { shutdown(connection, Int32(SHUT_RDWR)) }
  }

  /// A port on which nobody listens: it was free a moment ago, and the system does not give it away soon.
  static func closedPort() throws -> Int {
    let (listener, port) = try listen()
    close(listener)
    return port
  }

  private static func listen() throws -> (Int32, Int) {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isListening = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(listener, $0, length) == 0 && Glibc.listen(listener, 16) == 0
          && getsockname(listener, $0, &length) == 0
      }
    }
    guard isListening else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
    return (listener, Int(UInt16(bigEndian: address.sin_port)))
  }

  private func take(_ connection: Int32) {
    connections.withLock { $0.append(connection) }
    Thread { [self] in
      if serve(connection) { shutdown(connection, Int32(SHUT_RDWR)) }
    }.start()
  }

  /// - Returns: false if the connection stays open and silent.
  private func serve(_ connection: Int32) -> Bool {
    guard let length = Self.integer(connection), let code = Self.integer(connection),
      Self.bytes(connection, length - 8) != nil
    else { return true }
    if code == 80_877_102 { return cancel() }
    if let refusal {
      _ = Self.send([refusal], connection)
      return true
    }
    let greeting = [BackendMessage.authenticationOK, BackendMessage.keyData, BackendMessage.ready]
    guard Self.send(greeting, connection) else { return true }
    while let kind = Self.bytes(connection, 1), let length = Self.integer(connection),
      let body = Self.bytes(connection, length - 4), kind != [UInt8(ascii: "X")]
    {
      guard kind == [UInt8(ascii: "Q")] else { continue }
      let sql = String(decoding: body.dropLast(), as: UTF8.self)
      statements.withLock { $0.append(sql) }
      switch answers[sql] ?? .messages([BackendMessage.complete("OK"), BackendMessage.ready]) {
      case .messages(let messages): guard Self.send(messages, connection) else { return true }
      case .messagesThenHangUp(let messages):
        _ = Self.send(messages, connection)
        return true
      case .afterCancel, .never: break
      }
    }
    return true
  }

  private func cancel() -> Bool {
    guard let sql = received.last, let main = connections.withLock({ $0.first }) else { return true }
    guard case .afterCancel(let messages) = answers[sql] else { return false }
    _ = Self.send(messages, main)
    return true
  }

  private static func send(_ messages: [[UInt8]], _ connection: Int32) -> Bool {
    let bytes = Array(messages.joined())
    return Glibc.send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count
  }

  private static func integer(_ connection: Int32) -> Int? {
    bytes(connection, 4).map { $0.reduce(0) { $0 << 8 | Int($1) } }
  }

  private static func bytes(_ connection: Int32, _ count: Int) -> [UInt8]? {
    guard count >= 0 else { return nil }
    var bytes = [UInt8](repeating: 0, count: count)
    guard count == 0 || recv(connection, &bytes, count, Int32(MSG_WAITALL)) == count else {
      return nil
    }
    return bytes
  }
}

/// Messages from the server (PostgreSQL manual, "Message Formats").
enum BackendMessage {
  static let authenticationOK = message("R", int32(0))
  static let keyData = message("K", int32(1) + int32(2))
  static let ready = message("Z", Array("I".utf8))
  static let readyInTransaction = message("Z", Array("T".utf8))
  static let readyInFailedTransaction = message("Z", Array("E".utf8))
  static let copyOut = message("H", [0] + int16(1) + int16(0))
  static let copyBoth = message("W", [0] + int16(0))
  static let copyDone = message("c", [])

  static func complete(_ tag: String) -> [UInt8] { message("C", string(tag)) }

  static func copyData(_ text: String) -> [UInt8] { message("d", Array(text.utf8)) }

  static func columns(_ names: String...) -> [UInt8] {
    let fields = names.map { string($0) + int32(0) + int16(0) + int32(25) + int16(-1) + int32(-1) + int16(0) }
    return message("T", int16(Int16(names.count)) + fields.joined())
  }

  static func row(_ values: String?...) -> [UInt8] {
    let fields = values.map { value in
      value.map { int32(Int32($0.utf8.count)) + Array($0.utf8) } ?? int32(-1)
    }
    return message("D", int16(Int16(values.count)) + fields.joined())
  }

  /// - Parameter fields: by the field codes of the manual, "Error and Notice Message Fields".
  static func error(_ fields: KeyValuePairs<Character, String>) -> [UInt8] {
    message("E", fields.flatMap { Array(String($0.key).utf8) + string($0.value) } + [0])
  }

  private static func message(_ kind: Character, _ body: [UInt8]) -> [UInt8] {
    Array(String(kind).utf8) + int32(Int32(body.count + 4)) + body
  }

  private static func string(_ text: String) -> [UInt8] { Array(text.utf8) + [0] }
  private static func int32(_ value: Int32) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }
  private static func int16(_ value: Int16) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }
}
