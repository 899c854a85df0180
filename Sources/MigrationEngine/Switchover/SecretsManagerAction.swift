/// Step `secretsmanager`: the field of a secret in which the application finds the database's host.
struct SecretsManagerAction: SwitchAction {
  private let step: SwitchStep.Secret
  private let aws: AWSCommand

  init(_ step: SwitchStep.Secret) {
    self.step = step
    aws = AWSCommand(profile: step.access.profile, region: step.access.region)
  }

  func examine(_ scene: SwitchScene) async -> [SwitchFinding] {
    await AWSLook.blockers {
      switch try await look(scene) {
      case .hindered(let finding): [finding]
      case .there, .other: []
      }
    }
  }

  func perform(_ scene: SwitchScene, until deadline: ContinuousClock.Instant) async throws -> String {
    switch try await look(scene) {
    case .hindered(let finding): throw SwitchFailure("\(finding.why) Nothing was changed.")
    case .there: return "\(step.field) of \(step.secret) held it already"
    case .other(let changed):
      let put = try await aws.answer(
        Put.self, ["secretsmanager", "put-secret-value", "--query", "{version: VersionId}"],
        input: Request(secret: step.secret, text: changed))
      return "\(step.field) of \(step.secret) holds it in version \(put.version)"
    }
  }

  /// What the secret holds, without a word of it.
  private enum Look {
    case hindered(SwitchFinding)
    case there
    /// Something else: the whole secret as it is to be.
    case other(String)
  }

  private func look(_ scene: SwitchScene) async throws -> Look {
    let description = try await aws.answer(
      Description.self,
      ["secretsmanager", "describe-secret", "--secret-id", step.secret, "--query", Description.query])
    if let finding = description.hindrance(step.secret) { return .hindered(finding) }
    let current = try await aws.answer(
      Current.self,
      [
        "secretsmanager", "get-secret-value", "--secret-id", step.secret, "--query", "{text: SecretString}",
      ])
    return try Self.look(at: current.text, step, step.value ?? scene.target.host)
  }

  private static func look(at text: String?, _ step: SwitchStep.Secret, _ value: String) throws -> Look {
    func hindered(_ why: String, _ remedy: String) -> Look { .hindered(.blocker(why, remedy)) }
    guard let object = text.flatMap({ JSONObjectText($0) }) else {
      return hindered(
        "Secret \(step.secret) is no JSON object.", "Name a secret with fields, or change it by a step exec.")
    }
    guard let present = object.value(of: step.field) else {
      return hindered(
        "Secret \(step.secret) has no field \(step.field), or has it twice.",
        "Name the field that holds the host.")
    }
    let written: String
    switch present {
    case .text(value): return .there
    case .number(value): return .there
    case .text: written = try JSONObjectText.quoted(value)
    case .number where Int(value) != nil: written = value
    case .number, .other:
      return hindered(
        "Field \(step.field) of secret \(step.secret) holds neither a text nor a number in whose place the "
          + "value could stand.", "Name the field that holds the host, or give a value of its kind.")
    }
    return object.replacing(step.field, with: written).map { .other($0) }
      ?? hindered("Secret \(step.secret) cannot be changed.", "Change it by a step exec.")
  }
}

extension SecretsManagerAction {
  struct Description: Decodable {
    static let query = "{rotates: RotationEnabled, owner: OwningService, stages: VersionIdsToStages}"

    var rotates: Bool?
    /// The service that alone may change it.
    var owner: String?
    /// The stages of each version.
    var stages: [String: [String]]?

    func hindrance(_ secret: String) -> SwitchFinding? {
      if let owner {
        return .blocker(
          "Secret \(secret) belongs to \(owner), which alone may change it.",
          "Leave this step out, and let the application use the target's own secret.")
      }
      if rotates == true {
        return .blocker(
          "Secret \(secret) is being rotated (RotationEnabled): a rotation and the step could each undo what "
            + "the other wrote.", "Turn its rotation off until the migration is finished.")
      }
      guard
        stages?.values.contains(where: { $0.contains("AWSPENDING") && !$0.contains("AWSCURRENT") }) == true
      else { return nil }
      return .blocker(
        "Secret \(secret) is being rotated: it has a version AWSPENDING.",
        "Wait for its rotation to end, or remove that version's stage.")
    }
  }

  /// Its text goes nowhere but into the next version.
  struct Current: Decodable { var text: String? }

  struct Put: Decodable { var version: String }

  struct Request: Encodable {
    var secret: String
    var text: String

    enum CodingKeys: String, CodingKey {
      case secret = "SecretId"
      case text = "SecretString"
    }
  }
}
