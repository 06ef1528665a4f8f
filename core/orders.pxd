"""The live orders as the sequencer and the publisher each keep them: by order id and by client order id.

An order is live from its NEW_ORDER record until the event that ends it. Each agent has a table of its own
and moves it on at its own place in the log and the event stream.

    slab       capacity orders of 96 bytes, free ones chained through `next_free`
    by_id      order id -> slot
    by_client  hash of (account, client order id) -> slot, for orders that have one
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy
from matchbox.core.index cimport index64, index_entry, index_find, index_insert, index_mix, index_next, index_remove

ctypedef struct live_order:
    uint64_t order_id
    int64_t price_ticks
    int64_t quantity_lots
    int64_t leaves_lots
    int64_t cumulative_lots
    uint32_t account
    uint32_t market
    uint32_t session
    uint32_t next_free
    uint8_t side
    uint8_t has_client_id
    uint8_t reserved[2]
    char client_order_id[36]

ctypedef struct live_orders:
    live_order* slab
    uint32_t capacity
    uint32_t count
    uint32_t first_free     # slot + 1, 0 = none
    uint64_t seed           # of the client id hash; it changes speed, never a result
    index64 by_id
    index64 by_client


cdef int orders_allocate(live_orders* orders, uint32_t capacity, uint64_t seed) except -1
cdef void orders_free(live_orders* orders) noexcept


cdef inline uint64_t client_id_hash(const live_orders* orders, uint32_t account, const char* client_id) noexcept nogil:
    cdef uint64_t word
    cdef uint64_t h = index_mix(orders.seed ^ account)
    cdef int i
    for i in range(4):
        memcpy(&word, client_id + 8 * i, 8)
        h = index_mix(h ^ word)
    word = 0
    memcpy(&word, client_id + 32, 4)
    return index_mix(h ^ word)


cdef inline live_order* orders_find(live_orders* orders, uint64_t order_id) noexcept nogil:
    """The live order with this id, or NULL."""
    cdef index_entry* entry = index_find(&orders.by_id, order_id)
    return NULL if entry == NULL else &orders.slab[entry.value]


cdef inline index_entry* orders_client_entry(live_orders* orders, uint32_t account,
                                             const char* client_id) noexcept nogil:
    cdef live_order* order
    cdef index_entry* entry = index_find(&orders.by_client, client_id_hash(orders, account, client_id))
    while entry != NULL:
        order = &orders.slab[entry.value]
        if order.account == account and memcmp(order.client_order_id, client_id, 36) == 0:
            return entry
        entry = index_next(&orders.by_client, entry)
    return NULL


cdef inline live_order* orders_find_client(live_orders* orders, uint32_t account, const char* client_id) noexcept nogil:
    """The live order of this account with this client order id (36 bytes, zero-padded), or NULL."""
    cdef index_entry* entry = orders_client_entry(orders, account, client_id)
    return NULL if entry == NULL else &orders.slab[entry.value]


cdef inline live_order* orders_add(
    live_orders* orders, uint64_t order_id, uint32_t account, const char* client_id, bint index_client
) noexcept nogil:
    """A new live order, its other fields for the caller to fill; NULL if there are `capacity` of them already."""
    cdef live_order* order
    if orders.first_free == 0:
        return NULL
    order = &orders.slab[orders.first_free - 1]
    orders.first_free = order.next_free
    orders.count += 1
    order.order_id = order_id
    order.account = account
    memcpy(order.client_order_id, client_id, 36)
    index_insert(&orders.by_id, order_id, <uint32_t>(order - orders.slab))
    order.has_client_id = index_client and client_id[0] != 0
    if order.has_client_id:
        index_insert(&orders.by_client, client_id_hash(orders, account, client_id), <uint32_t>(order - orders.slab))
    return order


cdef inline void orders_forget_client(live_orders* orders, live_order* order) noexcept nogil:
    """The order, which is found by its client order id, is so no longer: another may have it."""
    index_remove(&orders.by_client, orders_client_entry(orders, order.account, order.client_order_id))
    order.has_client_id = 0


cdef inline void orders_remove(live_orders* orders, live_order* order) noexcept nogil:
    cdef index_entry* entry
    if order.has_client_id:
        entry = orders_client_entry(orders, order.account, order.client_order_id)
        index_remove(&orders.by_client, entry)
    index_remove(&orders.by_id, index_find(&orders.by_id, order.order_id))
    order.order_id = 0
    order.next_free = orders.first_free
    orders.first_free = <uint32_t>(order - orders.slab) + 1
    orders.count -= 1
