"""Memory of the live orders; see orders.pxd."""

from matchbox.core.arena cimport arena_map, arena_unmap
from matchbox.core.index cimport index_allocate, index_free


cdef int orders_allocate(live_orders* orders, uint32_t capacity, uint64_t seed) except -1:
    """Room for `capacity` orders. Raises MemoryError."""
    cdef uint32_t slot
    orders.slab = <live_order*>arena_map((<size_t>capacity + 1) * sizeof(live_order))
    for slot in range(capacity):
        orders.slab[slot].next_free = slot + 2 if slot + 1 < capacity else 0
    orders.capacity = capacity
    orders.count = 0
    orders.first_free = 1 if capacity else 0
    orders.seed = seed
    index_allocate(&orders.by_id, capacity)
    index_allocate(&orders.by_client, capacity)
    return 0


cdef void orders_free(live_orders* orders) noexcept:
    arena_unmap(orders.slab, (<size_t>orders.capacity + 1) * sizeof(live_order))
    orders.slab = NULL
    index_free(&orders.by_id)
    index_free(&orders.by_client)
