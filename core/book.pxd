"""The order book of one market: price-time priority, every operation in constant time.

    orders    0 order_id   8 leaves_lots   16 cumulative_lots   24 prev   28 next   32 level
             36 chain     40 account       44 special           48 terms  56 reserved        64 bytes, a cache line
    levels   see price_index.pxd: `lots` is the sum of leaves, `first` and `last` are the ends of the queue
    buckets  an order's slot by its id, the others of the same bucket through `chain`         4 bytes
    specials what only some orders need: an iceberg's hidden part, an order that waits, a pair 96 bytes

    bids (best first)      levels[best] ── first ──> orders[a] <── prev/next ──> orders[b] <── last
                               │
                           price_index_next()

An order's slot is its number while it lives; 0 means none, and orders[0] and levels[0] are there to be
written to, so that linking needs no branch. Order ids are sequence numbers: consecutive ids have consecutive
buckets (a line of buckets serves 16 of them), and each wrap of the table has another offset, so that new
orders do not pile up on the buckets of old ones that stay. There are at least as many buckets as orders.

Of an iceberg, `leaves_lots` is the slice that is shown; the rest is in its special. So a level's `lots` is what
is shown of it, and an order without a special is one that shows all. When a slice is filled, the next goes to the
end of the queue. Two orders of a pair (one cancels the other) name each other in their specials. `terms` are bytes
40 to 47 of the order's record: its fee rates, its trailing distance and its self-trade mode, for its whole life
(terms_... read them).

Orders that wait for a trigger have a slot here, too, but stand on no level of sides BID and ASK: see triggers.pxd.

Invariants (book_validate): bids below asks; a level's `lots` = the sum of its orders' leaves > 0; queues
linked both ways; every order is found by its id; free + resting + waiting slots = capacity; hidden_lots = the sum of
what is hidden; a resting order with a special is an iceberg or one of a pair; partners name each other.

Memory: 64 + 112 + 4 to 8 bytes for each order the book can hold, whatever the prices and ids are, 96 for each
special (24 more in trailing.pxd), and three pages: with a million orders and 65,536 specials 188 bytes an order, all
in. All of it is mapped and backed by book_create(). One thread at a time. Nothing here blocks, allocates or fails; what
the caller must see to is said with each function.
"""

from libc.stdint cimport int16_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from matchbox.core.bits cimport mb_likely, mb_prefetch, mb_unlikely
from matchbox.core.price_index cimport (
    ASK, BID, price_index, price_index_insert, price_index_next, price_index_remove, price_key, price_level, price_of,
)

ctypedef struct order:
    uint64_t order_id
    int64_t leaves_lots
    int64_t cumulative_lots
    uint32_t prev           # towards the head of the queue
    uint32_t next           # of a free slot: the next free one
    uint32_t level          # 0 = out of the queue (an amend under way)
    uint32_t chain          # next slot of the same bucket
    uint32_t account
    uint32_t special        # 0 = none
    uint64_t terms
    uint64_t reserved

# What an order with a special is doing.
cdef enum special_state:
    SHOWS = 0               # an iceberg on the book (or free)
    WAITS = 1               # for its trigger price, on a level of side FALL or RISE
    BEGINS = 2              # trailing, but waits for the price it begins with, on a level of side BEGIN_FALL or _RISE
    TRAILS = 3              # in a bucket: it has begun, or begins with the first trade

ctypedef struct special:
    int64_t display_lots    # 0 = it shows all
    int64_t hidden_lots     # on the book: beyond leaves_lots
    int64_t price           # while it waits: limit, or bound
    int64_t trigger         # while it waits: price, 0 = none
    int64_t hold            # while it waits: as stamped
    uint64_t order_id
    uint32_t slot           # of the order; of a free special: the next free one
    uint32_t left           # these five: while it trails, see trailing.pxd
    uint32_t right
    uint32_t parent
    uint32_t group
    uint32_t rank
    uint8_t state           # enum special_state
    uint8_t side            # while it waits: BID or ASK
    uint8_t order_type      # while it waits
    uint8_t time_in_force   # while it waits
    uint32_t partner        # slot of the other order of a pair, 0 = none
    uint32_t reserved[4]

ctypedef struct book:
    price_index prices
    order* orders
    uint32_t* buckets
    uint64_t bucket_mask
    uint32_t bucket_bits
    uint32_t free_order
    uint32_t count          # slots in use
    uint32_t capacity
    uint64_t trades         # in this market so far: the number of the last one
    int64_t hidden_lots     # of all icebergs on the book
    special* specials
    uint32_t free_special
    uint32_t max_specials
    void* arena
    size_t arena_bytes

# One fill as book_fill() reports it: the maker as it is afterwards.
ctypedef struct fill:
    uint64_t maker_order_id
    uint64_t maker_terms
    int64_t price
    int64_t lots
    int64_t maker_leaves    # hidden quantity included
    int64_t maker_cumulative
    int64_t level_lots
    uint32_t maker_account
    uint32_t maker_partner  # slot of what was its partner until now; the caller has set it to 0

# Map the memory for `capacity` orders, `max_specials` of which can have a special. Raises BadArgument, MemoryError.
cdef int book_create(book* b, uint32_t capacity, uint32_t max_specials) except -1
cdef void book_destroy(book* b) noexcept nogil
# Bytes mapped, all in.
cdef size_t book_memory(const book* b) noexcept nogil
# One word more of a hash; the formula is in book.pyx.
cdef uint64_t hash_mix(uint64_t state, uint64_t word) noexcept nogil
# 64-bit hash of what rests; the formula is in book.pyx.
cdef uint64_t book_hash(const book* b) noexcept nogil
# 0, or the number of the first broken invariant (see book.pyx); `waiting` orders wait. Slow; for tests.
cdef int book_validate(const book* b, uint32_t waiting) noexcept nogil


# ---- terms and specials ----------------------------------------------------------------------------------

cdef inline int64_t terms_maker_ppm(uint64_t terms) noexcept nogil:
    return <int16_t>(terms & 0xFFFF)


cdef inline int64_t terms_taker_ppm(uint64_t terms) noexcept nogil:
    return <int16_t>(terms >> 16 & 0xFFFF)


cdef inline int64_t terms_trailing_bips(uint64_t terms) noexcept nogil:
    return <int64_t>(terms >> 32 & 0xFFFF)


cdef inline uint8_t terms_self_trade(uint64_t terms) noexcept nogil:
    return <uint8_t>(terms >> 48)


cdef inline uint64_t terms_kept(uint64_t terms) noexcept nogil:
    """Without the byte that says whether an ORDER_TERMS record came before."""
    return terms & <uint64_t>0x00FFFFFFFFFFFFFF


cdef inline special* special_new(book* b, uint32_t slot) noexcept nogil:
    """A special for an order that has none. The caller has checked that b.free_special is not 0."""
    cdef uint32_t number = b.free_special
    cdef special* s = &b.specials[number]
    b.free_special = s.slot
    b.orders[slot].special = number
    s.order_id = b.orders[slot].order_id
    s.slot = slot
    s.display_lots = s.hidden_lots = s.price = s.trigger = s.hold = 0
    s.left = s.right = s.parent = s.group = s.rank = s.partner = 0
    s.state = SHOWS
    return s


cdef inline void special_free(book* b, uint32_t slot) noexcept nogil:
    """Give the order's special back."""
    cdef uint32_t number = b.orders[slot].special
    cdef special* s = &b.specials[number]
    b.hidden_lots -= s.hidden_lots
    s.hidden_lots = 0
    s.slot = b.free_special
    b.free_special = number
    b.orders[slot].special = 0


cdef inline void book_pair(book* b, uint32_t one, uint32_t other) noexcept nogil:
    """Make two orders, which have specials, a pair."""
    b.specials[b.orders[one].special].partner = other
    b.specials[b.orders[other].special].partner = one


cdef inline uint32_t book_unpair(book* b, uint32_t slot) noexcept nogil:
    """End the pair of an order that has a special. Returns the other's slot, 0 if it has no partner."""
    cdef special* s = &b.specials[b.orders[slot].special]
    cdef uint32_t other = s.partner
    if other:
        s.partner = 0
        b.specials[b.orders[other].special].partner = 0
        if s.state == SHOWS and s.display_lots == 0:
            special_free(b, slot)
    return other


cdef inline int64_t book_hidden(const book* b, uint32_t slot) noexcept nogil:
    """What is hidden of an order."""
    # specials[0] hides nothing.
    return b.specials[b.orders[slot].special].hidden_lots


cdef inline void book_hide(book* b, uint32_t slot, int64_t lots) noexcept nogil:
    """Set what is hidden of an iceberg."""
    cdef special* s = &b.specials[b.orders[slot].special]
    b.hidden_lots += lots - s.hidden_lots
    s.hidden_lots = lots


# ---- by order id -----------------------------------------------------------------------------------------

cdef inline uint32_t* book_bucket(const book* b, uint64_t order_id) noexcept nogil:
    """Where the chain of an order id begins."""
    # An odd multiplier near 2^32 / golden ratio spreads the wraps; any would do for correctness.
    return &b.buckets[(order_id + (order_id >> b.bucket_bits) * <uint64_t>2654435761) & b.bucket_mask]


cdef inline uint32_t book_find(const book* b, uint64_t order_id) noexcept nogil:
    """The slot of a live order, or 0."""
    cdef uint32_t slot = book_bucket(b, order_id)[0]
    while slot and mb_unlikely(b.orders[slot].order_id != order_id):
        slot = b.orders[slot].chain
    return slot


cdef inline uint32_t book_new(book* b, uint64_t order_id, uint32_t account, int64_t cumulative,
                              uint64_t terms) noexcept nogil:
    """A slot for a new order, found by its id from now on, not queued yet.

    The caller has checked that count < capacity, and that no live order has this id.
    """
    cdef uint32_t slot = b.free_order
    cdef order* o = &b.orders[slot]
    cdef uint32_t* bucket = book_bucket(b, order_id)
    b.free_order = o.next
    b.count += 1
    o.order_id = order_id
    o.cumulative_lots = cumulative
    o.account = account
    o.special = 0
    o.terms = terms
    o.chain = bucket[0]
    bucket[0] = slot
    return slot


cdef inline void book_free(book* b, uint32_t slot) noexcept nogil:
    """Forget an order that is out of its queue."""
    cdef order* o = &b.orders[slot]
    cdef uint32_t* link = book_bucket(b, o.order_id)
    if mb_unlikely(o.special != 0):
        special_free(b, slot)
    while mb_unlikely(link[0] != slot):
        link = &b.orders[link[0]].chain
    link[0] = o.chain
    o.next = b.free_order
    b.free_order = slot
    b.count -= 1


# ---- queues ----------------------------------------------------------------------------------------------

cdef inline int64_t book_queue(book* b, uint32_t slot, uint32_t side, int64_t price, int64_t leaves) noexcept nogil:
    """Put an order that is in no queue at the end of its level's. Returns the level's total with it.

    The caller has matched it first: the price does not cross.
    """
    cdef uint32_t number = price_index_insert(&b.prices, side, price)
    cdef price_level* level = &b.prices.levels[number]
    cdef order* o = &b.orders[slot]
    o.leaves_lots = leaves
    o.level = number
    o.prev = level.last
    o.next = 0
    b.orders[level.last].next = slot
    level.first = level.first if level.first else slot
    level.last = slot
    level.lots += leaves
    return level.lots


cdef inline int64_t book_unqueue(book* b, uint32_t slot) noexcept nogil:
    """Take an order out of its queue. Returns what is left at the level, which goes if that is nothing."""
    cdef order* o = &b.orders[slot]
    cdef uint32_t number = o.level, prev = o.prev, next = o.next
    cdef price_level* level = &b.prices.levels[number]
    cdef int64_t lots = level.lots - o.leaves_lots
    b.orders[prev].next = next
    b.orders[next].prev = prev
    level.first = level.first if prev else next
    level.last = level.last if next else prev
    level.lots = lots
    o.level = 0
    if lots == 0:
        price_index_remove(&b.prices, number)
    return lots


cdef inline int64_t book_reduce(book* b, uint32_t slot, int64_t leaves) noexcept nogil:
    """Lower what is open of an order in place (0 < leaves <= what was). Returns the level's total."""
    cdef order* o = &b.orders[slot]
    cdef price_level* level = &b.prices.levels[o.level]
    level.lots -= o.leaves_lots - leaves
    o.leaves_lots = leaves
    return level.lots


# ---- matching --------------------------------------------------------------------------------------------

cdef inline bint book_crosses(const book* b, uint32_t side, uint64_t limit_key) noexcept nogil:
    """Does `side` have an order at a price as good as `limit_key` (of that side) or better?"""
    return b.prices.levels[b.prices.best[side]].key <= limit_key


cdef inline bint _next_slice(book* b, uint32_t slot, price_level* level) noexcept nogil:
    """Show the next slice of a maker that shows nothing any more, at the end of its queue; False if there is none.

    The maker is the first of `level`.
    """
    cdef order* o = &b.orders[slot]
    cdef special* s = &b.specials[o.special]
    cdef int64_t slice = s.display_lots if s.display_lots < s.hidden_lots else s.hidden_lots
    if slice == 0:
        return False
    book_hide(b, slot, s.hidden_lots - slice)
    o.leaves_lots = slice
    level.lots += slice
    if o.next:
        level.first = o.next
        b.orders[o.next].prev = 0
        o.prev = level.last
        o.next = 0
        b.orders[level.last].next = slot
        level.last = slot
    return True


cdef inline int64_t _take(book* b, uint32_t side, int64_t wanted, bint trade, fill* out) noexcept nogil:
    """Take up to `wanted` > 0 lots off the first order of `side`, which is there. Returns how many."""
    cdef uint32_t number = b.prices.best[side]
    cdef price_level* level = &b.prices.levels[number]
    cdef uint32_t slot = level.first, next
    cdef order* maker = &b.orders[slot]
    cdef int64_t lots = wanted if wanted < maker.leaves_lots else maker.leaves_lots
    level.lots -= lots
    maker.leaves_lots -= lots
    if trade:
        maker.cumulative_lots += lots
        b.trades += 1
    out.maker_order_id = maker.order_id
    out.maker_terms = maker.terms
    out.price = price_of(level)
    out.lots = lots
    out.maker_leaves = maker.leaves_lots
    out.maker_cumulative = maker.cumulative_lots
    out.maker_account = maker.account
    out.level_lots = level.lots
    if mb_unlikely(maker.special != 0):
        out.maker_leaves += b.specials[maker.special].hidden_lots
        out.maker_partner = book_unpair(b, slot)
        if maker.leaves_lots == 0 and maker.special and _next_slice(b, slot, level):
            out.level_lots = level.lots
            return lots
    if maker.leaves_lots == 0:
        next = maker.next
        mb_prefetch(&b.orders[next])
        level.first = next
        b.orders[next].prev = 0
        if next == 0:
            price_index_remove(&b.prices, number)
        book_free(b, slot)
    return lots


cdef inline int64_t book_fill(book* b, uint32_t side, int64_t wanted, fill* out) noexcept nogil:
    """Fill up to `wanted` > 0 lots against the first order of `side`, which is there. Returns how many."""
    return _take(b, side, wanted, True, out)


cdef inline int64_t book_prevent(book* b, uint32_t side, int64_t wanted, fill* out) noexcept nogil:
    """As book_fill(), but without a trade: the maker loses the quantity."""
    return _take(b, side, wanted, False, out)
