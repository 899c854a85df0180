import Logging

/// What the engine logs, on the console.
struct ConsoleLogHandler: LogHandler {
  let writer: LogWriter
  var logLevel: Logger.Level
  var metadata: Logger.Metadata = [:]
  var metadataProvider: Logger.MetadataProvider?

  init(writer: LogWriter, logLevel: Logger.Level) {
    self.writer = writer
    self.logLevel = logLevel
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    var all = metadata
    all.merge(metadataProvider?.get() ?? [:]) { _, new in new }
    all.merge(event.metadata ?? [:]) { _, new in new }
    var words = all.mapValues(Self.text)
    if let error = event.error { words["error"] = "\(error)" }
    writer.write("\(event.message)", level: event.level, metadata: words)
  }

  private static func text(_ value: Logger.Metadata.Value) -> String {
    switch value {
    case .string(let text): text
    case .stringConvertible(let text): "\(text)"
    case .array(let values): "[" + values.map(text).joined(separator: ", ") + "]"
    case .dictionary(let values):
      "[" + values.sorted { $0.key < $1.key }.map { "\($0.key): \(text($0.value))" }.joined(separator: ", ")
        + "]"
    }
  }
}
