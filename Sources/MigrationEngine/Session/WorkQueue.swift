/// Hands out work to several workers, each piece once and in order.
actor WorkQueue<Work: Sendable> {
  private var work: ArraySlice<Work>

  init(_ work: [Work]) { self.work = work[...] }

  func next() -> Work? { work.popFirst() }
}
