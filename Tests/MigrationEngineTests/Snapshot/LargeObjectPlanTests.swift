import Testing

@testable import MigrationEngine

@Suite struct LargeObjectPlanTests {
  private func object(_ oid: UInt32, owner: String = "o", grants: String? = nil) -> LargeObject {
    LargeObject(oid: oid, owner: owner, grants: grants)
  }

  @Test func onlyWhatDiffersIsTouched() {
    let source = [object(1), object(2, owner: "new"), object(3, grants: "g"), object(4), object(5)]
    let target = [object(1), object(2), object(3), object(4), object(6)]
    let plan = LargeObjectPlan(source: source, target: target) { $0 == 4 }
    #expect(plan.copied.map(\.oid) == [2, 3, 4, 5])
    #expect(Set(plan.removed) == [2, 3, 4, 6])
  }

  @Test func aFirstCopyTakesAll() {
    let plan = LargeObjectPlan(source: [object(1), object(2)], target: [object(2)]) { _ in true }
    #expect(plan.copied.map(\.oid) == [1, 2])
    #expect(plan.removed == [2])
  }
}
