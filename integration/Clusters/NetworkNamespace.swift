import Foundation

/// A network of its own for a server, joined to ours by a pair of virtual interfaces that can be cut. Needs
/// root and iproute2 (manual page ip-netns(8)).
package struct NetworkNamespace: Sendable {
  /// As `ip netns` knows it.
  package let name: String
  /// Where a server in it is reached.
  package let address: String
  private let link: String

  /// Whether this machine lets us make one.
  package static var arePossible: Bool {
    get async {
      do {
        try await with { _ in }
        return true
      } catch {
        return false
      }
    }
  }

  /// Runs `body` with a namespace, which goes with everything in it afterwards.
  package static func with(
    isolation: isolated (any Actor)? = #isolation, _ body: (NetworkNamespace) async throws -> Void
  ) async throws {
    let number = Int(getpid()) % 200 + 20
    let name = "replicate-\(getpid())-\(TestRoot.unique())"
    let link = "rp\(getpid())h"
    let network = NetworkNamespace(name: name, address: "10.213.\(number).2", link: link)
    do {
      try await Command.check(["ip", "netns", "add", name])
      try await ip("link", "add", link, "type", "veth", "peer", "name", "\(link)n", "netns", name)
      try await ip("addr", "add", "10.213.\(number).1/24", "dev", link)
      try await ip("link", "set", link, "up")
      try await ip("-n", name, "addr", "add", "\(network.address)/24", "dev", "\(link)n")
      try await ip("-n", name, "link", "set", "\(link)n", "up")
      try await ip("-n", name, "link", "set", "lo", "up")
      try await body(network)
    } catch {
      // The first error is the one to report.
      _ = try? await Command.run(["ip", "netns", "delete", name])
      throw error
    }
    try await Command.check(["ip", "netns", "delete", name])
  }

  /// Packets vanish from here on, in both directions, as when a cable is pulled somewhere on the way.
  package func cut() async throws { try await Self.ip("-n", name, "link", "set", "\(link)n", "down") }

  /// Packets pass again; what was lost in between is for TCP to send again.
  package func mend() async throws { try await Self.ip("-n", name, "link", "set", "\(link)n", "up") }

  /// A command that runs in it.
  func running(_ command: [String]) -> [String] { ["ip", "netns", "exec", name] + command }

  private static func ip(_ arguments: String...) async throws { try await Command.check(["ip"] + arguments) }
}
