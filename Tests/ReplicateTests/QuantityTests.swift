import Testing

@testable import replicate

@Suite struct QuantityTests {
  @Test(arguments: [
    (0, "0 bytes"), (1, "1 byte"), (1023, "1023 bytes"), (1024, "1.0 kB"), (10_188, "9.9 kB"),
    (10_240, "10 kB"),
    (1_048_575, "1.0 MB"), (642_000_000, "612 MB"), (1_288_490_189, "1.2 GB"), (-2048, "-2.0 kB"),
    (Int64.max, "8192 PB"), (Int64.min, "-8192 PB"),
  ])
  func bytesAreCountedInStepsOf1024(count: Int64, text: String) {
    #expect(Quantity.bytes(count) == text)
  }

  @Test(arguments: [
    (0, "0 ms"), (0.0004, "0.4 ms"), (0.00001, "0.1 ms"), (0.083, "83 ms"), (0.9994, "999 ms"),
    (0.9996, "1.0 s"),
    (8.34, "8.3 s"), (9.96, "10 s"), (42, "42 s"), (59.6, "1m 00s"), (80, "1m 20s"), (7500, "2h 05m"),
    (273_600, "3d 04h"), (-0.5, "-500 ms"), (.infinity, "unknown"), (.nan, "unknown"),
    (1e300, "104166666666666d 16h"),
  ])
  func durationsKeepTwoUnits(seconds: Double, text: String) {
    #expect(Quantity.seconds(seconds) == text)
  }

  @Test func ratesAndCountsNeverTrap() {
    #expect(Quantity.bytesPerSecond(12_582_912) == "12 MB/s")
    #expect(Quantity.bytesPerSecond(.nan) == "0 bytes/s")
    #expect(Quantity.bytesPerSecond(.infinity) == "7994 PB/s")
    #expect(Quantity.count(8_123_456) == "8,123,456")
    #expect(Quantity.count(-1000) == "-1,000")
    #expect(Quantity.count(1, "row", "rows") == "1 row")
    #expect(Quantity.percent(0.9999) == "99%")
    #expect(Quantity.percent(.nan) == "0%")
    #expect(Quantity.percent(7) == "100%")
  }
}

@Suite struct FittingTests {
  @Test func whatDoesNotFitIsCutAndMarked() {
    #expect(Fitting.truncated("abcdef", to: 6) == "abcdef")
    #expect(Fitting.truncated("abcdef", to: 4) == "abc…")
    #expect(Fitting.truncated("数据库", to: 4) == "数…")
    #expect(Fitting.truncated("abc", to: 0) == "")
  }

  @Test func partsGoOnAsManyRowsAsTheyNeed() {
    let rows = Fitting.packed(title: "copy  ", ["12 of 40 tables", "612 MB", "ETA 13 s"], columns: 24)
    #expect(rows == ["copy  12 of 40 tables", "      612 MB, ETA 13 s"])
  }

  @Test(arguments: 1...60) func noRowIsWiderThanTheScreen(columns: Int) {
    let rows = Fitting.packed(
      title: "streaming ", ["a name that is long enough to be cut", "b", "数据库数据库"], columns: columns)
    #expect(rows.allSatisfy { Fitting.width(of: $0) <= columns })
  }

  @Test func controlCharactersDoNotReachTheScreen() {
    #expect(Fitting.plain("a\u{1B}[2Jb\r\u{202E}c") == "a?[2Jb??c")
    #expect(Fitting.plain("Ärger 数据") == "Ärger 数据")
    #expect(Fitting.plain("a\u{9B}31m\u{2028}\u{7F}\r\nb") == "a?31m????b")
  }
}
