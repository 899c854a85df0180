/// What libFuzzer calls with each input: the first byte chooses the layer, the version and streaming; the
/// rest is a frame, or messages with their lengths before them, as one decoder reads them one after another.
/// Whatever a source sends must be refused or lie where it says, and never trap.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOne(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let input = UnsafeRawBufferPointer(start: bytes, count: count)
  guard let choice = input.first else { return 0 }
  if choice == UInt8(ascii: "f") {
    readFrame(input, 1..<count)
  } else {
    readMessages(input, choice)
  }
  return 0
}

private func readFrame(_ input: UnsafeRawBufferPointer, _ range: Range<Int>) {
  guard let frame = try? ReplicationFrame(input, range) else { return }
  switch frame {
  case .xLogData(let data):
    precondition(data.payload.upperBound == range.upperBound && data.payload.lowerBound >= range.lowerBound)
    _ = data.sendTime.unixMicroseconds
    _ = data.startLSN.distance(from: data.serverLSN)
    precondition(LSN(data.startLSN.description) == data.startLSN)
  case .primaryKeepalive(let keepalive):
    let update = StandbyStatusUpdate(
      writtenLSN: keepalive.serverLSN, flushedLSN: keepalive.serverLSN, appliedLSN: keepalive.serverLSN,
      clock: keepalive.sendTime, replyRequested: keepalive.replyRequested)
    precondition(update.encoded.count == 34)
  }
}

private func readMessages(_ input: UnsafeRawBufferPointer, _ choice: UInt8) {
  let version = PgOutputVersion(rawValue: Int(choice & 3) + 1) ?? .one
  let streaming: PgOutputStreaming = choice & 4 == 0 ? .off : choice & 8 == 0 ? .on : .parallel
  var decoder = PgOutputDecoder(version: version, streaming: streaming)
  var start = 1
  while input.count - start >= 2 {
    let length = Int(input[start]) << 8 | Int(input[start + 1])
    let range = (start + 2)..<min(start + 2 + length, input.count)
    guard let message = try? decoder.decode(input, range) else { return }
    look(at: message, input, range)
    start = range.upperBound
  }
}

private func look(at message: PgOutputMessage, _ input: UnsafeRawBufferPointer, _ range: Range<Int>) {
  func within(_ part: Range<Int>) {
    precondition(part.lowerBound >= range.lowerBound && part.upperBound <= range.upperBound)
  }
  func read(_ tuple: TupleData) {
    within(tuple.bytes)
    var count = 0
    for value in tuple.columns(in: input) {
      count += 1
      if let bytes = value.bytes { within(bytes) }
    }
    precondition(count == tuple.columnCount)
    // Bytes that are not those that were decoded.
    for value in tuple.columns(in: UnsafeRawBufferPointer(rebasing: input.dropLast(3))) {
      if let bytes = value.bytes { precondition(bytes.upperBound <= input.count - 3) }
    }
  }
  switch message {
  case .insert(let insert): read(insert.new)
  case .update(let update):
    read(update.new)
    if let old = update.old { read(old.tuple) }
  case .delete(let delete): read(delete.old.tuple)
  case .logicalMessage(let message): within(message.content)
  case .relation(let relation):
    for column in relation.columns { _ = quotedIdentifier(column.name) + quotedLiteral(column.name) }
  default: break
  }
}
