"""Mapped memory for slabs; the contract is in arena.pxd."""

from libc.string cimport memset


cdef extern from "<sys/mman.h>" nogil:
    enum:
        PROT_READ
        PROT_WRITE
        MAP_PRIVATE
        MAP_ANONYMOUS
        MADV_HUGEPAGE
    void* MAP_FAILED
    void* mmap(void* address, size_t size, int protection, int flags, int descriptor, long offset)
    int munmap(void* address, size_t size)
    int madvise(void* address, size_t size, int advice)


# Smaller slabs stay in ordinary pages: a huge page for each would only waste memory.
cdef size_t HUGE_FROM_BYTES = 4 << 20


cdef void* arena_map(size_t size) except NULL:
    cdef void* arena = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if arena == MAP_FAILED:
        raise MemoryError(f"cannot map memory for a slab: bytes={size}")
    if size >= HUGE_FROM_BYTES:
        # Advice only: a host without huge pages costs speed, not correctness.
        madvise(arena, size, MADV_HUGEPAGE)
    # Back every page now, so that the order path never faults.
    memset(arena, 0, size)
    return arena


cdef void arena_unmap(void* arena, size_t size) noexcept nogil:
    if arena != NULL:
        munmap(arena, size)
