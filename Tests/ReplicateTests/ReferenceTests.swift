import ArgumentParser
import Foundation
import Testing

@testable import MigrationEngine
@testable import replicate

/// docs/REFERENCE.md says what the program takes, prints and stores: all of it, and nothing else.
struct ReferenceTests {
  private let reference: Page

  init() throws { reference = try Page("docs/REFERENCE.md") }

  @Test func `each option of each command is in the reference, with its values`() throws {
    let commands = try Help.commands()
    #expect(commands.count == 10, "commands are not found any more")
    for command in commands {
      let sections = reference.sections.filter {
        $0.title == "Every command" || Page.codeSpans($0.title).contains(command.commandName)
      }
      let rows = sections.flatMap(\.rows)
      let documented: [String] = sections.flatMap(\.subjects).map { $0.prefix { $0 != " " }.description }
      #expect(Set(documented) == Set(command.options.flatMap(\.spellings)), "\(command.commandName)")
      #expect(documented.count == Set(documented).count, "\(command.commandName) has one twice")
      for option in command.options {
        let row = rows.first { row in option.spellings.contains { row[0].contains("`\($0)") } }
        for value in option.allValues ?? [] where option.kind == "option" {
          #expect(row?.joined().contains(value) == true, "\(command.commandName): \(value) is missing")
        }
      }
    }
  }

  @Test func `each exit code is in the reference`() throws {
    let codes = (0...255).filter { ExitStatus(rawValue: $0) != nil }
    #expect(codes.count > 5)
    #expect(try reference.section("Exit codes").rows.map { $0[0] } == codes.map(String.init))
  }

  @Test func `each field of the status is in the reference`() throws {
    let status = Status.complete()
    #expect(Missing.values(in: status) == [], "the sample leaves something out")
    let json = try JSONSerialization.jsonObject(with: JSONEncoder().encode(status))
    let documented = try reference.section("`status --json`").subjects
    #expect(Set(documented).subtracting(["cutover"]) == Self.paths(in: json))
    #expect(documented.count == Set(documented).count)
  }

  @Test func `each table of the state is in the reference`() throws {
    let names = StateSchema.create.matches(of: /CREATE TABLE (?:IF NOT EXISTS )?replicate\.(\w+)/)
      .map { String($0.1) }
    #expect(names.count > 10)
    #expect(try reference.section("State").subjects == names)
  }

  @Test func `each command that the documents show is one that the program takes`() throws {
    var found = 0
    for path in try Page.all() {
      for line in try Page(path).commands {
        found += 1
        #expect(try Self.refusal(of: line) == nil, "\(path): \(line)")
      }
    }
    #expect(found > 50, "commands are not found any more")
  }

  /// What the program says to it; nil when it takes it.
  private static func refusal(of line: String) throws -> String? {
    do {
      _ = try Replicate.parseAsRoot(ShellWords.split(line))
      return nil
    } catch {
      return ExitStatus.code(of: error) == 0 ? nil : Replicate.message(for: error)
    }
  }

  private static func paths(in json: Any, below path: String = "") -> Set<String> {
    switch json {
    case let object as [String: Any]:
      object.reduce(into: []) {
        $0.formUnion(paths(in: $1.value, below: path.isEmpty ? $1.key : "\(path).\($1.key)"))
      }
    case let array as [Any]: array.reduce(into: []) { $0.formUnion(paths(in: $1, below: "\(path)[]")) }
    default: [path]
    }
  }
}

/// What the commands say of themselves, as `--experimental-dump-help` prints it.
private struct Help: Decodable {
  struct Command: Decodable {
    var commandName: String
    var shouldDisplay: Bool?
    var subcommands: [Command]?
    var arguments: [Argument]?

    var options: [Argument] { (arguments ?? []).filter(\.shouldDisplay) }
  }

  struct Argument: Decodable {
    struct Name: Decodable {
      var kind: String
      var name: String
    }

    var kind: String
    var shouldDisplay: Bool
    var names: [Name]?
    var allValues: [String]?

    var spellings: [String] { (names ?? []).map { ($0.kind == "long" ? "--" : "-") + $0.name } }
  }

  var command: Command

  /// Those that people are shown.
  static func commands() throws -> [Command] {
    let help = try JSONDecoder().decode(Help.self, from: Data(Replicate._dumpHelp().utf8))
    return (help.command.subcommands ?? []).filter { $0.shouldDisplay != false && $0.commandName != "help" }
  }
}

/// Where a value has nothing to encode, so that a field would be missed.
private enum Missing {
  static func values(in value: Any, at path: String = "status") -> [String] {
    let mirror = Mirror(reflecting: value)
    if mirror.displayStyle == .optional || mirror.displayStyle == .collection, mirror.children.isEmpty {
      return [path]
    }
    guard mirror.displayStyle != .enum else { return [] }
    return mirror.children.flatMap { values(in: $0.value, at: "\(path).\($0.label ?? "")") }
  }
}

extension Status {
  /// One in which each field has a value.
  fileprivate static func complete() -> Status {
    var status = Status.sample()
    status.failure = "no"
    status.stream.waitsFor = "a lock"
    var cutover = Cutover.sample(.aborted)
    cutover.reason = "no"
    cutover.direction = .back
    cutover.terminated = ["pid 1"]
    cutover.verification = Comparison(
      extent: .full, result: .equal, digest: "d", tables: 1, summary: "s", seconds: 1, lsn: "0/1",
      notice: "n")
    cutover.seal = .announced
    cutover.stoppedAt = 1
    cutover.warnings = ["look"]
    cutover.schemaDifferences = [SchemaDifference(name: "index i", words: "i differs", isAccepted: true)]
    status.cutover = cutover
    var verification = Verification(id: 1)
    verification.lsn = "0/1"
    verification.progress = VerificationProgress()
    status.verification = verification
    return status
  }
}
