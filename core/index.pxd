"""A hash index from 64-bit keys to 32-bit values, in memory allocated before.

    entries   capacity (a power of two, at least twice the keys) of 16 bytes: key, value, used
    lookup    linear probing from index_home(key); removal shifts the run back, so there are no tombstones and the
              cost depends on what is in the index now, not on what once was
    home      four keys that differ in the last two bits only are neighbours, in one cache line: order ids are
              sequence numbers, and so a new order finds the line that the one before it fetched. More than four would
              make runs longer where many orders rest that came one after the other.

The same key may stand in it several times (keys that are hashes collide): index_find() gives the first place,
index_next() the next; the caller compares what the value refers to. Nothing that leaves the engine depends on
the order of entries.
"""

from libc.stdint cimport uint32_t, uint64_t
from matchbox.core.bits cimport mb_prefetch

ctypedef struct index_entry:
    uint64_t key
    uint32_t value
    uint32_t used

ctypedef struct index64:
    index_entry* entries
    uint64_t mask
    uint64_t count


cdef int index_allocate(index64* index, uint64_t keys) except -1
cdef void index_free(index64* index) noexcept


cdef inline uint64_t index_mix(uint64_t key) noexcept nogil:
    # The finaliser of MurmurHash3: every input bit reaches every output bit.
    key ^= key >> 33
    key *= 0xFF51AFD7ED558CCDULL
    key ^= key >> 33
    key *= 0xC4CEB9FE1A85EC53ULL
    return key ^ (key >> 33)


cdef inline uint64_t index_home(const index64* index, uint64_t key) noexcept nogil:
    return (index_mix(key >> 2) << 2 | (key & 3)) & index.mask


cdef inline index_entry* index_next(const index64* index, const index_entry* after) noexcept nogil:
    """The next entry with the same key, or NULL."""
    cdef uint64_t key = after.key
    cdef uint64_t at = (<uint64_t>(after - index.entries) + 1) & index.mask
    while index.entries[at].used:
        if index.entries[at].key == key:
            return &index.entries[at]
        at = (at + 1) & index.mask
    return NULL


cdef inline index_entry* index_find(const index64* index, uint64_t key) noexcept nogil:
    """The first entry with this key, or NULL."""
    cdef uint64_t at = index_home(index, key)
    while index.entries[at].used:
        if index.entries[at].key == key:
            return &index.entries[at]
        at = (at + 1) & index.mask
    return NULL


cdef inline void index_prefetch(const index64* index, uint64_t key) noexcept nogil:
    # And the line after it, where a run goes on.
    mb_prefetch(&index.entries[index_home(index, key)])
    mb_prefetch(&index.entries[(index_home(index, key) + 4) & index.mask])


cdef inline uint32_t index_guess(const index64* index, uint64_t key) noexcept nogil:
    """A value that is mostly that of the key: for fetching ahead. Looks no further than fetching ahead pays."""
    cdef uint64_t at = index_home(index, key)
    cdef int _i
    for _i in range(8):
        if index.entries[at].key == key:
            break
        at = (at + 1) & index.mask
    return index.entries[at].value


cdef inline void index_insert(index64* index, uint64_t key, uint32_t value) noexcept nogil:
    """Add an entry. The caller never adds more keys than it allocated for."""
    cdef uint64_t at = index_home(index, key)
    while index.entries[at].used:
        at = (at + 1) & index.mask
    index.entries[at].key = key
    index.entries[at].value = value
    index.entries[at].used = 1
    index.count += 1


cdef inline void index_remove(index64* index, index_entry* entry) noexcept nogil:
    """Remove an entry; pointers to other entries are no longer valid."""
    cdef uint64_t hole = <uint64_t>(entry - index.entries)
    cdef uint64_t at = hole
    cdef uint64_t home
    while True:
        at = (at + 1) & index.mask
        if not index.entries[at].used:
            break
        home = index_home(index, index.entries[at].key)
        # Move it into the hole unless its home lies cyclically after the hole.
        if ((at - home) & index.mask) >= ((at - hole) & index.mask):
            index.entries[hole] = index.entries[at]
            hole = at
    index.entries[hole].used = 0
    index.count -= 1
