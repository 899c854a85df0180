import CLibPQ

/// The memory that buffers come from and go to, of this process.
package enum Heap {
  /// Left to itself glibc keeps a heap for each thread, with what was freed in it: buffers of a megabyte, one
  /// thread a connection (manual page mallopt(3)). Before the first thread is made.
  package static func keepSmall() {
    #if canImport(Glibc)
      _ = mallopt(M_ARENA_MAX, 2)
      _ = mallopt(M_MMAP_THRESHOLD, 512 << 10)
      _ = mallopt(M_TRIM_THRESHOLD, 1 << 20)
    #endif
  }
}
