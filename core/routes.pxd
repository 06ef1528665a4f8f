"""The live orders as the publisher knows them: who is told of each.

An order is here from its NEW_ORDER record until the event that ends it. What is open and filled of it stands in
each event, so that one cache line an order is enough.

    slab     capacity orders of 64 bytes, free ones chained through `next_free`
    by_id    order id -> slot
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy
from matchbox.core.index cimport index64, index_entry, index_find, index_insert, index_remove

ctypedef struct order_route:
    uint64_t order_id
    uint32_t account
    uint32_t market
    uint32_t session        # that entered it
    uint32_t next_free      # slot + 1, 0 = none
    char client_order_id[36]
    uint8_t side
    uint8_t reserved[3]

ctypedef struct order_routes:
    order_route* slab
    uint32_t capacity
    uint32_t count
    uint32_t first_free     # slot + 1, 0 = none
    index64 by_id


cdef int routes_allocate(order_routes* routes, uint32_t capacity) except -1
cdef void routes_free(order_routes* routes) noexcept


cdef inline order_route* routes_find(order_routes* routes, uint64_t order_id) noexcept nogil:
    """The live order with this id, or NULL."""
    cdef index_entry* entry = index_find(&routes.by_id, order_id)
    return NULL if entry == NULL else &routes.slab[entry.value]


cdef inline order_route* routes_add(order_routes* routes, uint64_t order_id, const char* client_id) noexcept nogil:
    """A new live order, its other fields for the caller to fill. The caller never adds more than `capacity`."""
    cdef order_route* route = &routes.slab[routes.first_free - 1]
    routes.first_free = route.next_free
    routes.count += 1
    route.order_id = order_id
    memcpy(route.client_order_id, client_id, 36)
    index_insert(&routes.by_id, order_id, <uint32_t>(route - routes.slab))
    return route


cdef inline void routes_remove(order_routes* routes, order_route* route) noexcept nogil:
    index_remove(&routes.by_id, index_find(&routes.by_id, route.order_id))
    route.order_id = 0
    route.next_free = routes.first_free
    routes.first_free = <uint32_t>(route - routes.slab) + 1
    routes.count -= 1
