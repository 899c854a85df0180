/// What the test harness itself could not do; never a finding about the program under test.
package struct HarnessError: Error, CustomStringConvertible {
  package let description: String

  /// - Parameter description: what could not be done, and why.
  package init(_ description: String) {
    self.description = description
  }
}
