"""Memory of the hash index; see index.pxd."""

from libc.stdlib cimport free, malloc
from libc.string cimport memset


cdef int index_allocate(index64* index, uint64_t keys) except -1:
    """Room for `keys` keys at a load of at most one half. Raises MemoryError."""
    cdef uint64_t capacity = 16
    while capacity < 2 * keys:
        capacity *= 2
    index.entries = <index_entry*>malloc(capacity * sizeof(index_entry))
    if index.entries == NULL:
        raise MemoryError(f"index: keys={keys}")
    # Written now, so that no page is first touched on the hot path.
    memset(index.entries, 0, capacity * sizeof(index_entry))
    index.mask = capacity - 1
    index.count = 0
    return 0


cdef void index_free(index64* index) noexcept:
    free(index.entries)
    index.entries = NULL
