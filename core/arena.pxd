"""Memory of the engine: mapped once at start, backed before use, given back at the end.

Nothing on the order path allocates; every slab is one such mapping.
"""

# Memory of `size` zeroed bytes, page-aligned and backed (in huge pages where it is large and the host gives them).
# Raises MemoryError. May block; not for the order path.
cdef void* arena_map(size_t size) except NULL

# Gives it back; `size` as it was mapped. NULL is ignored.
cdef void arena_unmap(void* arena, size_t size) noexcept nogil
