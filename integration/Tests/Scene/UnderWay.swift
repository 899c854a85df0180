/// Something under way, whose end can be asked for.
final class UnderWay<Value: Sendable>: Sendable {
  private let task: Task<Value, any Error>
  private let ended: Ended

  private actor Ended {
    private(set) var it = false
    func note() { it = true }
  }

  init(_ body: @escaping @Sendable () async throws -> Value) {
    let ended = Ended()
    self.ended = ended
    task = Task {
      do {
        let value = try await body()
        await ended.note()
        return value
      } catch {
        await ended.note()
        throw error
      }
    }
  }

  var hasEnded: Bool { get async { await ended.it } }
  var value: Value { get async throws { try await task.value } }
}
