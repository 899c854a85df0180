import LibPQ

/// Identifies a step, to know whether it is still the recorded one: its kind and a digest of what it does,
/// since a command or value may contain a secret.
struct SwitchDefinition: Equatable {
  let text: String

  init(_ action: SwitchStep.Action) {
    text = "\(action.kind) \(String(Self.digest(Self.words(action)), radix: 16))"
  }

  private static func words(_ action: SwitchStep.Action) -> String {
    func access(_ access: SwitchStep.AWSAccess) -> [String] { [access.profile ?? "", access.region ?? ""] }
    let words: [String] =
      switch action {
      case .pgBouncer(let step):
        [step.host ?? "", step.port.map(String.init) ?? "", step.database ?? ""]
          + step.poolers.flatMap { [$0.admin.redacted, $0.database, "\($0.configuration)"] }
      case .route53(let step):
        [step.zone, step.record, step.type, String(step.ttl), step.value ?? "", step.aliasZone ?? ""]
          + access(step.access)
      case .ecs(let step): [step.cluster] + step.services + access(step.access)
      case .parameterGroup(let step): ["\(step.group)"] + access(step.access)
      case .ssmParameter(let step): [step.parameter, step.value ?? ""] + access(step.access)
      case .terminateSessions(let step): step.roles + [""] + step.addresses + ["\(step.grace)"]
      case .trial(let step): [step.connection?.redacted ?? "", step.statement]
      case .secret(let step): [step.secret, step.field, step.value ?? ""] + access(step.access)
      case .proxyTarget(let step):
        [step.proxy, step.group, step.database.map { "\($0)" } ?? ""] + access(step.access)
      case .kubernetesRollout(let step): [step.namespace, step.context ?? ""] + step.workloads
      case .exec(let command): [command]
      }
    return words.joined(separator: "\u{1f}")
  }

  /// FNV-1a of 64 bits: the same on every machine.
  private static func digest(_ text: String) -> UInt64 {
    text.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }
}
