extension Array {
  /// The elements in order, at most `size` at a time: for statements that would grow too long, and for
  /// transactions that would lock too much.
  func batches(of size: Int) -> [ArraySlice<Element>] {
    stride(from: 0, to: count, by: size).map { self[$0..<Swift.min($0 + size, count)] }
  }
}
