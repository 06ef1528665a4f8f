"""Memory of the hash index; see index.pxd."""

from matchbox.core.arena cimport arena_map, arena_unmap


cdef int index_allocate(index64* index, uint64_t keys) except -1:
    """Room for `keys` keys at a load of at most one half. Raises MemoryError."""
    cdef uint64_t capacity = 16
    while capacity < 2 * keys:
        capacity *= 2
    index.entries = <index_entry*>arena_map(capacity * sizeof(index_entry))
    index.mask = capacity - 1
    index.count = 0
    return 0


cdef void index_free(index64* index) noexcept:
    arena_unmap(index.entries, (index.mask + 1) * sizeof(index_entry))
    index.entries = NULL
