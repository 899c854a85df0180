import CLibPQ

/// The process's heap, for buffers.
package enum Heap {
  /// By default glibc keeps a heap for each thread, with what was freed in it: buffers of a megabyte, one
  /// thread per connection (manual page mallopt(3)). Call before the first thread is created.
  package static func keepSmall() {
    #if canImport(Glibc)
      _ = mallopt(M_ARENA_MAX, 2)
      _ = mallopt(M_MMAP_THRESHOLD, 512 << 10)
      _ = mallopt(M_TRIM_THRESHOLD, 1 << 20)
    #endif
  }
}
