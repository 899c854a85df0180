import Clusters
import Foundation

/// Measures against peers, interleaved in one run, and prints ratios: absolute times depend on the machine.
@main
struct Bench {
  static func main() async {
    do {
      switch CommandLine.arguments.dropFirst().first {
      case "copy": try await CopyBench(names: Array(CommandLine.arguments.dropFirst(2))).run()
      case "apply": try await ApplyBench(names: Array(CommandLine.arguments.dropFirst(2))).run()
      case "lag": try await LagBench(isVerified: CommandLine.arguments.dropFirst(2).contains("verify")).run()
      case "memory": try await MemoryBench().run()
      case "identity": try await IdentityBench().run()
      case "pause": try await PauseBench().run()
      case "verify": try await VerifyBench(names: Array(CommandLine.arguments.dropFirst(2))).run()
      default:
        throw HarnessError(
          """
          usage: integration/bench copy [\(CopyDataset.allCases.map(\.rawValue).joined(separator: "|"))]…
                 integration/bench apply [\(ApplyDataset.allCases.map(\.rawValue).joined(separator: "|"))]…
                 integration/bench lag [verify]
                 integration/bench memory
                 integration/bench identity
                 integration/bench pause
                 integration/bench verify [\(CopyDataset.allCases.map(\.rawValue).joined(separator: "|"))]…
          """)
      }
    } catch {
      FileHandle.standardError.write(Data("bench: \(error)\n".utf8))
      exit(1)
    }
  }
}

func say(_ words: String) {
  print(words)
  fflush(nil)
}
