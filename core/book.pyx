"""The order book of one market: set-up, state hash and checking. Layout and operations are in book.pxd."""

from matchbox.core.arena cimport arena_map, arena_unmap
from matchbox.core.price_index cimport (
    PRICE_INDEX_MAX_LEVELS, price_index_create, price_index_destroy, price_index_validate,
)

from matchbox.shm.errors import BadArgument

if sizeof(order) != 64 or sizeof(special) != 96:
    raise ImportError("book: an order is not one cache line, or a special not 96 bytes")


cdef int book_create(book* b, uint32_t capacity, uint32_t max_specials) except -1:
    cdef uint32_t i
    if not 1 <= capacity <= PRICE_INDEX_MAX_LEVELS:
        raise BadArgument(f"bad capacity of a book: max_orders={capacity}, maximum={PRICE_INDEX_MAX_LEVELS}")
    if max_specials > capacity:
        raise BadArgument(f"more special orders than orders: max_specials={max_specials}, max_orders={capacity}")
    price_index_create(&b.prices, capacity)
    b.bucket_bits = 4
    while <uint64_t>1 << b.bucket_bits < capacity:
        b.bucket_bits += 1
    b.bucket_mask = (<uint64_t>1 << b.bucket_bits) - 1
    b.arena_bytes = (<size_t>capacity + 1) * sizeof(order) + (<size_t>max_specials + 1) * sizeof(special) \
        + (b.bucket_mask + 1) * sizeof(uint32_t)
    b.arena = NULL
    try:
        b.arena = arena_map(b.arena_bytes)
    except MemoryError:
        price_index_destroy(&b.prices)
        raise
    b.orders = <order*>b.arena
    b.specials = <special*>(b.orders + <size_t>capacity + 1)
    b.buckets = <uint32_t*>(b.specials + <size_t>max_specials + 1)
    b.capacity = capacity
    b.max_specials = max_specials
    b.hidden_lots = 0
    b.free_special = 1 if max_specials else 0
    for i in range(1, max_specials):
        b.specials[i].slot = i + 1
    b.count = 0
    b.trades = 0
    b.free_order = 1
    for i in range(1, capacity):
        b.orders[i].next = i + 1
    return 0


cdef void book_destroy(book* b) noexcept nogil:
    price_index_destroy(&b.prices)
    arena_unmap(b.arena, b.arena_bytes)
    b.arena = NULL
    b.arena_bytes = 0


cdef size_t book_memory(const book* b) noexcept nogil:
    return b.arena_bytes + b.prices.arena_bytes


cdef uint64_t hash_mix(uint64_t state, uint64_t word) noexcept nogil:
    state = (state ^ word) * <uint64_t>0x9E3779B97F4A7C15
    return state ^ state >> 32


cdef uint64_t book_hash(const book* b) noexcept nogil:
    """mix(h, w) = x ^ x >> 32 where x = (h ^ w) * 0x9E3779B97F4A7C15 mod 2^64.

    h = 0; mix in the number of trades; then bids, then asks: for each order from the best level on, in queue order,
    its id, price, what is shown, what is hidden, display quantity (0: all), cumulative, account and terms (bytes 40 to
    46 of its record as a number), and of one of a pair the other's id; at the end of a side 2^64 - 1. So it depends on
    the state and on iteration order, not on where things lie in memory.
    """
    cdef uint64_t state = hash_mix(0, b.trades)
    cdef uint32_t side, number, slot
    cdef const price_level* level
    cdef const order* o
    for side in range(2):
        number = b.prices.best[side]
        while number:
            level = &b.prices.levels[number]
            slot = level.first
            while slot:
                o = &b.orders[slot]
                state = hash_mix(state, o.order_id)
                state = hash_mix(state, <uint64_t>price_of(level))
                state = hash_mix(state, <uint64_t>o.leaves_lots)
                state = hash_mix(state, <uint64_t>b.specials[o.special].hidden_lots)
                state = hash_mix(state, <uint64_t>b.specials[o.special].display_lots)
                state = hash_mix(state, <uint64_t>o.cumulative_lots)
                state = hash_mix(state, o.account)
                state = hash_mix(state, o.terms)
                if b.specials[o.special].partner:
                    state = hash_mix(state, b.orders[b.specials[o.special].partner].order_id)
                slot = o.next
            number = price_index_next(&b.prices, number)
        state = hash_mix(state, <uint64_t>-1)
    return state


cdef bint _special_fits(const book* b, uint32_t slot) noexcept nogil:
    cdef const special* s = &b.specials[b.orders[slot].special]
    if s.slot != slot or s.state != SHOWS or s.order_id != b.orders[slot].order_id:
        return False
    if s.display_lots == 0:
        return s.partner != 0 and s.hidden_lots == 0
    return s.display_lots > 0 and s.hidden_lots >= 0 and b.orders[slot].leaves_lots <= s.display_lots


cdef bint _partners_fit(const book* b) noexcept nogil:
    """Of all pairs: they name each other, are of one account, and both live."""
    cdef uint32_t number, slot
    cdef const special* s
    cdef const special* other
    for number in range(1, b.max_specials + 1):
        s = &b.specials[number]
        # A free special names another in `slot`, which is no order of its own.
        if s.partner == 0 or b.orders[s.slot].special != number:
            continue
        slot = s.partner
        other = &b.specials[b.orders[slot].special]
        if b.orders[slot].special == 0 or other.slot != slot or other.partner != s.slot \
                or b.orders[slot].account != b.orders[s.slot].account or book_find(b, other.order_id) != slot:
            return False
    return b.specials[0].partner == 0


cdef int _validate_level(const book* b, uint32_t number, uint32_t* seen, int64_t* hidden) noexcept nogil:
    cdef const price_level* level = &b.prices.levels[number]
    cdef uint32_t slot = level.first, prev = 0
    cdef int64_t lots = 0
    cdef const order* o
    while slot:
        o = &b.orders[slot]
        seen[0] += 1
        if seen[0] > b.count:
            return 21
        if o.prev != prev or o.level != number:
            return 22
        if o.leaves_lots <= 0 or o.cumulative_lots < 0:
            return 23
        if book_find(b, o.order_id) != slot:
            return 24
        if o.special:
            if not _special_fits(b, slot):
                return 29
            hidden[0] += b.specials[o.special].hidden_lots
        lots += o.leaves_lots
        prev = slot
        slot = o.next
    if level.last != prev or prev == 0:
        return 25
    return 0 if level.lots == lots else 26


cdef int book_validate(const book* b, uint32_t waiting) noexcept nogil:
    """0, or: 1 to 9 the price index's, 21 too many orders in queues, 22 links, 23 quantities, 24 not found by id,
    25 ends of a queue, 26 a level's total, 27 crossed, 28 free slots, 29 a special, 30 hidden total, 31 a pair. Not
    while an order is being matched.
    """
    cdef uint32_t side, number, slot, seen = 0, free = 0
    cdef int64_t hidden = 0
    cdef int failed = price_index_validate(&b.prices)
    cdef const price_level* bid = &b.prices.levels[b.prices.best[BID]]
    cdef const price_level* ask = &b.prices.levels[b.prices.best[ASK]]
    if failed:
        return failed
    for side in range(2):
        number = b.prices.best[side]
        while number:
            failed = _validate_level(b, number, &seen, &hidden)
            if failed:
                return failed
            number = price_index_next(&b.prices, number)
    if b.prices.best[BID] and b.prices.best[ASK] and price_of(bid) >= price_of(ask):
        return 27
    if hidden != b.hidden_lots or b.specials[0].hidden_lots or b.specials[0].display_lots:
        return 30
    if not _partners_fit(b):
        return 31
    slot = b.free_order
    while slot and free <= b.capacity:
        free += 1
        slot = b.orders[slot].next
    return 0 if seen + waiting == b.count and free + b.count == b.capacity else 28
