"""Memory of the publisher's live orders; see routes.pxd."""

from matchbox.core.arena cimport arena_map, arena_unmap
from matchbox.core.index cimport index_allocate, index_free


cdef int routes_allocate(order_routes* routes, uint32_t capacity) except -1:
    """Room for `capacity` orders. Raises MemoryError."""
    cdef uint32_t slot
    routes.slab = <order_route*>arena_map((<size_t>capacity + 1) * sizeof(order_route))
    for slot in range(capacity):
        routes.slab[slot].next_free = slot + 2 if slot + 1 < capacity else 0
    routes.capacity = capacity
    routes.count = 0
    routes.first_free = 1 if capacity else 0
    index_allocate(&routes.by_id, capacity)
    return 0


cdef void routes_free(order_routes* routes) noexcept:
    arena_unmap(routes.slab, (<size_t>routes.capacity + 1) * sizeof(order_route))
    routes.slab = NULL
    index_free(&routes.by_id)
