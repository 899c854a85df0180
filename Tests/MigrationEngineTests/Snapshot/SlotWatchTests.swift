import Testing

@testable import MigrationEngine

@Suite struct SlotWatchTests {
  private let megabyte: Int64 = 1 << 20

  @Test func eachDangerIsToldOnceAndAgainWhenItComesBack() {
    var watch = SlotWatch()
    func look(_ retained: Int64, _ safe: Int64?, _ status: String = "reserved") -> SlotWatch.Verdict {
      watch.look(status: status, retainedBytes: retained * megabyte, safeBytes: safe.map { $0 * megabyte })
    }
    #expect(look(10, 90) == .fine)
    let near = look(75, 25)
    #expect(near == .warning("the slot retains 75 MB of WAL; 25 MB more and it is lost"))
    #expect(look(76, 24) == .fine)
    #expect(look(95, 5) != .fine)
    #expect(look(96, 4) == .fine)
    #expect(look(101, -1, "unreserved") != .fine)
    #expect(look(0, 100) == .fine)
    #expect(look(75, 25) != .fine)
    #expect(look(120, nil, "lost") == .lost)
  }

  @Test func withoutALimitOnlyTheServersOwnWordCounts() {
    var watch = SlotWatch()
    #expect(watch.look(status: "extended", retainedBytes: .max, safeBytes: nil) == .fine)
    #expect(watch.look(status: "", retainedBytes: 0, safeBytes: nil) == .fine)
    #expect(watch.look(status: "unreserved", retainedBytes: .max, safeBytes: nil) != .fine)
  }
}
