import Testing

@testable import MigrationEngine

@Suite struct BatchesTests {
  @Test func batchesHoldEverythingInOrder() {
    #expect([Int]().batches(of: 200).isEmpty)
    let batches = Array(1...401).batches(of: 200)
    #expect(batches.map(\.count) == [200, 200, 1])
    #expect(batches.flatMap { $0 } == Array(1...401))
  }
}
