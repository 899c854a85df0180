import Dispatch

/// Runs an actor on a thread of its own queue. libpq's calls block, and a blocked thread of the cooperative
/// pool, which has one per core, would stop every other task.
final class DispatchQueueExecutor: SerialExecutor {
  private let queue: DispatchQueue

  init(label: String) { queue = DispatchQueue(label: label) }

  func enqueue(_ job: consuming ExecutorJob) {
    let unowned = UnownedJob(job)
    let executor = asUnownedSerialExecutor()
    queue.async { unowned.runSynchronously(on: executor) }
  }

  /// The runtime asks when its own records do not show that the queue's thread is ours.
  func checkIsolated() { dispatchPrecondition(condition: .onQueue(queue)) }

  func asUnownedSerialExecutor() -> UnownedSerialExecutor {
    UnownedSerialExecutor(ordinary: self)
  }
}
