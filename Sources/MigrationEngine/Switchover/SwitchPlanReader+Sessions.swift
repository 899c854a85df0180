import Foundation

extension SwitchPlanReader {
  static func terminateSessions(_ fields: inout PlanFields) -> SwitchStep.TerminateSessions? {
    var step = SwitchStep.TerminateSessions()
    if fields.has("roles") { step.roles = fields.texts("roles") }
    if fields.has("addresses") { step.addresses = fields.texts("addresses") }
    if fields.has("grace") { step.grace = fields.duration("grace") ?? step.grace }
    for address in step.addresses where !isNetwork(address) {
      fields.mistake("no address or network: \(address)", at: "addresses")
    }
    return step
  }

  /// As PostgreSQL's type inet has them: 10.0.0.0/8, fd00::1.
  private static func isNetwork(_ text: String) -> Bool {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard let address = parts.first.map(String.init), parts.count <= 2 else { return false }
    var (four, six) = (in_addr(), in6_addr())
    let bits: Int
    if inet_pton(AF_INET, address, &four) == 1 {
      bits = 32
    } else if inet_pton(AF_INET6, address, &six) == 1 {
      bits = 128
    } else {
      return false
    }
    return parts.count == 1 || Int(parts[1]).map { (0...bits).contains($0) } ?? false
  }

  static func trial(_ fields: inout PlanFields) -> SwitchStep.Trial? {
    var step = SwitchStep.Trial()
    let text = fields.text("connection", isRequired: true)
    step.connection = text.flatMap { connection($0, "connection", for: "application", &fields) }
    step.rollbackConnection = fields.text("rollback-connection").flatMap {
      connection($0, "rollback-connection", for: "application", &fields)
    }
    if let statement = fields.text("statement", isExpanded: false) { step.statement = statement }
    return step.connection == nil ? nil : step
  }
}
