import CLibPQ

extension Connection {
  /// The `options` that the session started with, from the string, a service or the environment.
  package var sessionOptions: String {
    guard let handle = try? live(), let options = PQconninfo(handle) else { return "" }
    defer { PQconninfoFree(options) }
    var option = options
    while let name = option.pointee.keyword {
      if String(cString: name) == "options" { return option.pointee.val.map { String(cString: $0) } ?? "" }
      option += 1
    }
    return ""
  }
}
