import Testing

@testable import LogicalReplication
@testable import MigrationEngine

@Suite struct PositionTrailTests {
  @Test("The bound is where the end stood a while ago; first where it stands, and never further back")
  func trail() {
    var trail = PositionTrail(distance: .milliseconds(100))
    let start = ContinuousClock.now
    func note(_ lsn: UInt64, _ milliseconds: Int) -> UInt64 {
      trail.note(LSN(rawValue: lsn), at: start + .milliseconds(milliseconds)).rawValue
    }
    #expect(note(10, 0) == 10)
    #expect(note(20, 50) == 10)
    #expect(note(30, 99) == 10)
    #expect(note(40, 150) == 20)
    #expect(note(50, 199) == 30)
    #expect(note(60, 1000) == 50)
  }
}
