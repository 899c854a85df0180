@testable import LogicalReplication
@testable import MigrationEngine

/// Writes walsender messages as PostgreSQL does, back to back as a chunk holds them.
struct StreamMessages {
  private(set) var bytes: [UInt8] = []
  private(set) var ranges: [Range<Int>] = []
  /// Inside a block of a streamed transaction messages begin with an xid; nil outside.
  var xid: UInt32?

  enum Value {
    case null, unchanged
    case text(String)
    case binary([UInt8])
  }

  struct Column {
    var name: String
    var isKey = false
    var type: UInt32 = 25
  }

  mutating func relation(
    _ id: UInt32, _ name: String, identity: ReplicaIdentity = .primaryKey, _ columns: [Column]
  ) {
    data("R") { body in
      body.integer(id)
      body.string("public")
      body.string(name)
      body.bytes.append(identity.rawValue)
      body.integer(UInt16(columns.count))
      for column in columns {
        body.bytes.append(column.isKey ? 1 : 0)
        body.string(column.name)
        body.integer(column.type)
        body.integer(UInt32.max)
      }
    }
  }

  mutating func begin(_ finalLSN: UInt64, xid: UInt32 = 7, time: Int64 = 0) {
    data("B") { body in
      body.integer(finalLSN)
      body.integer(time)
      body.integer(xid)
    }
  }

  mutating func commit(_ commitLSN: UInt64, end: UInt64) {
    data("C") { body in
      body.bytes.append(0)
      body.integer(commitLSN)
      body.integer(end)
      body.integer(UInt64(0))
    }
  }

  mutating func insert(_ id: UInt32, _ new: [Value]) {
    data("I") { body in
      body.integer(id)
      body.tuple("N", new)
    }
  }

  mutating func update(_ id: UInt32, key: [Value]? = nil, old: [Value]? = nil, _ new: [Value]) {
    data("U") { body in
      body.integer(id)
      if let key { body.tuple("K", key) }
      if let old { body.tuple("O", old) }
      body.tuple("N", new)
    }
  }

  mutating func delete(_ id: UInt32, key: [Value]? = nil, old: [Value]? = nil) {
    data("D") { body in
      body.integer(id)
      if let key { body.tuple("K", key) }
      if let old { body.tuple("O", old) }
    }
  }

  mutating func truncate(_ ids: [UInt32]) {
    data("T") { body in
      body.integer(UInt32(ids.count))
      body.bytes.append(0)
      for id in ids { body.integer(id) }
    }
  }

  mutating func origin(_ name: String) {
    data("O") { body in
      body.integer(UInt64(1))
      body.string(name)
    }
  }

  mutating func message(_ prefix: String, _ content: String, isTransactional: Bool = true) {
    data("M") { body in
      body.bytes.append(isTransactional ? 1 : 0)
      body.integer(UInt64(1))
      body.string(prefix)
      body.integer(UInt32(content.utf8.count))
      body.bytes.append(contentsOf: content.utf8)
    }
  }

  /// A block of a transaction that is still open on the source.
  mutating func block(_ xid: UInt32, isFirst: Bool = false, _ write: (inout StreamMessages) -> Void) {
    data("S") { body in
      body.integer(xid)
      body.bytes.append(isFirst ? 1 : 0)
    }
    self.xid = xid
    write(&self)
    self.xid = nil
    data("E") { _ in }
  }

  mutating func streamCommit(_ xid: UInt32, _ commitLSN: UInt64, end: UInt64, time: Int64 = 0) {
    data("c") { body in
      body.integer(xid)
      body.bytes.append(0)
      body.integer(commitLSN)
      body.integer(end)
      body.integer(time)
    }
  }

  mutating func streamAbort(_ xid: UInt32, _ subtransaction: UInt32? = nil) {
    data("A") { body in
      body.integer(xid)
      body.integer(subtransaction ?? xid)
    }
  }

  mutating func keepalive(_ serverLSN: UInt64) {
    frame("k") { body in
      body.integer(serverLSN)
      body.integer(UInt64(0))
      body.bytes.append(0)
    }
  }

  private mutating func data(_ tag: Character, _ build: (inout Body) -> Void) {
    let xid = xid
    frame("w") { body in
      body.integer(UInt64(0))
      body.integer(UInt64(0))
      body.integer(UInt64(0))
      body.tag(tag)
      // What begins and ends a block or a transaction has an xid of its own, or none.
      if let xid, !"SEcABCO".contains(tag) { body.integer(xid) }
      build(&body)
    }
  }

  private mutating func frame(_ tag: Character, _ build: (inout Body) -> Void) {
    var body = Body()
    body.tag(tag)
    build(&body)
    ranges.append(bytes.count..<(bytes.count + body.bytes.count))
    bytes += body.bytes
  }

  struct Body {
    var bytes: [UInt8] = []

    mutating func tag(_ tag: Character) { bytes.append(contentsOf: String(tag).utf8) }

    mutating func integer(_ value: some FixedWidthInteger) {
      withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func string(_ text: String) {
      bytes.append(contentsOf: text.utf8)
      bytes.append(0)
    }

    mutating func tuple(_ kind: Character, _ values: [Value]) {
      tag(kind)
      integer(UInt16(values.count))
      for value in values {
        switch value {
        case .null: tag("n")
        case .unchanged: tag("u")
        case .text(let text):
          tag("t")
          integer(UInt32(text.utf8.count))
          bytes.append(contentsOf: text.utf8)
        case .binary(let value):
          tag("b")
          integer(UInt32(value.count))
          bytes += value
        }
      }
    }
  }
}

extension StreamAnchor {
  static func fixture(_ commitLSN: UInt64, xid: UInt32 = 7, time: Int64 = 0) -> StreamAnchor {
    StreamAnchor(
      commitLSN: LSN(rawValue: commitLSN), xid: xid, commitTime: PostgresTime(microseconds: time))
  }
}
