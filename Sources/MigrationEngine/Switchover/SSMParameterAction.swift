/// Step `ssm-parameter`: the parameter in which the application finds the database's host.
struct SSMParameterAction: SwitchAction {
  private let step: SwitchStep.SSMParameter
  private let aws: AWSCommand

  init(_ step: SwitchStep.SSMParameter) {
    self.step = step
    aws = AWSCommand(profile: step.access.profile, region: step.access.region)
  }

  func examine(_ scene: SwitchScene) async -> [SwitchFinding] {
    await AWSLook.blockers {
      let present = try await present()
      if present.isSecure { _ = try await key() }
      return []
    }
  }

  func perform(_ scene: SwitchScene, until deadline: ContinuousClock.Instant) async throws -> String {
    let value = step.value ?? scene.target.host
    let present = try await present()
    guard present.value != value else { return "\(step.parameter) held it already" }
    // Without its key a secure string would be re-encrypted with the account's default key.
    let key = present.isSecure ? try await key() : nil
    let put = try await aws.answer(
      Put.self, ["ssm", "put-parameter", "--query", "{version: Version}"],
      input: Request(name: step.parameter, value: value, type: present.type, keyID: key))
    return "\(step.parameter) holds it in version \(put.version)"
  }

  private func present() async throws -> Parameter {
    try await aws.answer(
      Parameter.self,
      [
        "ssm", "get-parameter", "--name", step.parameter, "--with-decryption",
        "--query", "{type: Parameter.Type, value: Parameter.Value}",
      ])
  }

  private func key() async throws -> String? {
    try await aws.answer(
      [Description].self,
      [
        "ssm", "describe-parameters", "--parameter-filters", "Key=Name,Values=\(step.parameter)",
        "--query", "Parameters[].{key: KeyId}",
      ]
    ).first?.key
  }
}

extension SSMParameterAction {
  struct Parameter: Decodable {
    var type: String
    var value: String

    var isSecure: Bool { type == "SecureString" }
  }

  struct Description: Decodable { var key: String? }
  struct Put: Decodable { var version: Int }

  struct Request: Encodable {
    var name: String
    var value: String
    var type: String
    var keyID: String?
    var overwrites = true

    enum CodingKeys: String, CodingKey {
      case name = "Name"
      case value = "Value"
      case type = "Type"
      case keyID = "KeyId"
      case overwrites = "Overwrite"
    }
  }
}
