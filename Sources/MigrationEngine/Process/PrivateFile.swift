import Foundation

/// A file that nobody else may read, for as long as a command takes.
struct PrivateFile {
  let path: String

  /// - Returns: nil when it cannot be created; `refusal` says why.
  init?(holding data: Data) throws {
    var template = Array("\(FileManager.default.temporaryDirectory.path)/replicate-XXXXXX".utf8CString)
    // Made with mode 0600 (manual page mkstemp(3)).
    let descriptor = mkstemp(&template)
    guard descriptor >= 0 else { return nil }
    path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    do {
      try handle.write(contentsOf: data)
    } catch {
      remove()
      throw error
    }
  }

  /// Read directly after the failed try.
  static var refusal: String { "no temporary file: \(String(cString: strerror(errno)))" }

  func remove() { unlink(path) }
}
