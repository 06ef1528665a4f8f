"""Writes order flows: which operation comes next, on what order, at what price. Mixes and format are in flows.py.

It keeps a book while it writes, so that every cancel, replace and reduce names an order that is live, and
passive prices never cross. All randomness is a SplitMix64 stream and tables of integers: the same seed gives
the same bytes everywhere.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset
from matchbox.core.book cimport (
    ASK, BID, book, book_create, book_crosses, book_destroy, book_fill, book_find, book_free, book_new, book_queue,
    book_reduce, book_unqueue, fill,
)
from matchbox.core.price_index cimport price_key, price_of

import numpy as np


ctypedef struct flow_record:
    uint8_t op
    uint8_t side
    uint16_t quantity_high
    uint32_t price
    uint32_t quantity_low
    uint32_t account
    uint64_t order_id

cdef enum:
    GTC = 1
    CANCEL = 2
    IOC = 3
    REPLACE = 4
    REDUCE = 5
    # Quantiles in a table of distances or quantities: the top 12 bits of a random word choose one.
    TABLE = 4096
    # Records between two steps of the fair price.
    FAIR_RECORDS = 64

# Ids of one side's live orders by age; 0 where one has gone. `at` says where each id stands.
ctypedef struct live_side:
    uint32_t* ids
    uint32_t length
    uint32_t count

ctypedef struct maker:
    uint64_t random
    book b
    live_side live[2]
    uint32_t* at            # id -> place in its side's ids
    uint32_t* owner         # id -> account
    flow_record* out
    uint64_t written
    uint64_t next_id
    const uint32_t* distances
    const uint32_t* quantities
    const uint32_t* takes
    int64_t lowest
    int64_t highest
    int64_t scale
    int64_t reach
    int64_t reversion


cdef inline uint64_t _random(maker* m) noexcept nogil:
    cdef uint64_t z
    m.random += <uint64_t>0x9E3779B97F4A7C15
    z = m.random
    z = (z ^ z >> 30) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ z >> 27) * <uint64_t>0x94D049BB133111EB
    return z ^ z >> 31


cdef inline uint64_t _below(maker* m, uint64_t bound) noexcept nogil:
    """A random number of 0..bound - 1, bound < 2^32."""
    return (_random(m) >> 32) * bound >> 32


cdef inline bint _chance(maker* m, uint32_t parts) noexcept nogil:
    """True `parts` times out of 10,000."""
    return _below(m, 10000) < parts


cdef inline uint32_t _draw(maker* m, const uint32_t* table) noexcept nogil:
    return table[_random(m) >> 52]


# ---- live orders -----------------------------------------------------------------------------------------

cdef inline void _enter(maker* m, uint32_t side, uint64_t order_id) noexcept nogil:
    cdef live_side* s = &m.live[side]
    m.at[order_id] = s.length
    s.ids[s.length] = <uint32_t>order_id
    s.length += 1
    s.count += 1


cdef inline void _leave(maker* m, uint32_t side, uint64_t order_id) noexcept nogil:
    cdef live_side* s = &m.live[side]
    cdef uint32_t i, kept = 0
    s.ids[m.at[order_id]] = 0
    s.count -= 1
    if s.length > 4 * s.count + 64:
        for i in range(s.length):
            if s.ids[i]:
                m.at[s.ids[i]] = kept
                s.ids[kept] = s.ids[i]
                kept += 1
        s.length = kept


cdef inline uint64_t _pick(maker* m, uint32_t side, bint young) noexcept nogil:
    """A live order of a side that has one; `young`: one of its newest tenth."""
    cdef live_side* s = &m.live[side]
    cdef uint32_t i = s.length - 1 - <uint32_t>_below(m, s.length // 10 + 1) if young else <uint32_t>_below(m, s.length)
    while s.ids[i] == 0:
        i = i - 1 if i else s.length - 1
    return s.ids[i]


# ---- prices ----------------------------------------------------------------------------------------------

cdef inline int64_t _best(maker* m, uint32_t side, int64_t otherwise) noexcept nogil:
    cdef uint32_t level = m.b.prices.best[side]
    return price_of(&m.b.prices.levels[level]) if level else otherwise


cdef inline int64_t _clip(maker* m, int64_t price) noexcept nogil:
    return m.lowest if price < m.lowest else m.highest if price > m.highest else price


cdef inline int64_t _passive(maker* m, uint32_t side, int64_t fair) noexcept nogil:
    """A price away from the fair one, behind the other side's best."""
    cdef int64_t distance = <int64_t>_draw(m, m.distances) * m.scale
    cdef int64_t bound
    if m.scale > 1:
        distance += <int64_t>_below(m, <uint64_t>m.scale)
    if side == BID:
        bound = _best(m, ASK, m.highest + 1) - 1
        return _clip(m, bound if fair - distance > bound else fair - distance)
    bound = _best(m, BID, m.lowest - 1) + 1
    return _clip(m, bound if fair + distance < bound else fair + distance)


cdef inline int64_t _crossing(maker* m, uint32_t side, int64_t fair, int64_t reach) noexcept nogil:
    """A price beyond the other side's best by 0..reach - 1 steps."""
    cdef int64_t more = <int64_t>_below(m, <uint64_t>reach) * m.scale
    return _clip(m, _best(m, ASK, fair) + more if side == BID else _best(m, BID, fair) - more)


cdef inline uint32_t _taker_side(maker* m, int64_t fair) noexcept nogil:
    """Leans to the side that moves the middle of the book towards the fair price."""
    cdef int64_t gap = fair - (_best(m, BID, fair) + _best(m, ASK, fair)) // 2
    cdef int64_t lean = 5000 + 4500 * gap // m.reversion
    lean = 500 if lean < 500 else 9500 if lean > 9500 else lean
    return BID if _chance(m, <uint32_t>lean) else ASK


# ---- operations ------------------------------------------------------------------------------------------

cdef inline void _write(maker* m, uint8_t op, uint32_t side, int64_t price, int64_t quantity,
                        uint64_t order_id) noexcept nogil:
    cdef flow_record* r = &m.out[m.written]
    m.written += 1
    r.op = op
    r.side = <uint8_t>side
    r.price = <uint32_t>price
    r.quantity_low = <uint32_t>quantity
    r.account = m.owner[order_id]
    r.order_id = order_id


cdef inline int64_t _take(maker* m, uint32_t side, int64_t price, int64_t left) noexcept nogil:
    cdef uint64_t limit_key = price_key(side ^ 1, price)
    cdef fill made
    while left and book_crosses(&m.b, side ^ 1, limit_key):
        left -= book_fill(&m.b, side ^ 1, left, &made)
        if made.maker_leaves == 0:
            _leave(m, side ^ 1, made.maker_order_id)
    return left


cdef inline void _place(maker* m, uint8_t op, uint32_t side, int64_t price, int64_t quantity) noexcept nogil:
    cdef uint64_t order_id = m.next_id
    cdef int64_t left
    m.next_id += 1
    m.owner[order_id] = 1 + <uint32_t>_below(m, 1000)
    _write(m, op, side, price, quantity, order_id)
    left = _take(m, side, price, quantity)
    if left and op == GTC:
        book_queue(&m.b, book_new(&m.b, order_id, 0, 0, 0), side, price, left)
        _enter(m, side, order_id)


cdef inline void _cancel(maker* m, uint32_t side, bint young) noexcept nogil:
    cdef uint64_t order_id = _pick(m, side, young)
    cdef uint32_t slot = book_find(&m.b, order_id)
    _write(m, CANCEL, side, 0, 0, order_id)
    _leave(m, side, order_id)
    book_unqueue(&m.b, slot)
    book_free(&m.b, slot)


cdef inline void _replace(maker* m, uint32_t side, bint young, bint crosses, bint keeps, int64_t fair) noexcept nogil:
    cdef uint64_t order_id = _pick(m, side, young)
    cdef uint32_t slot = book_find(&m.b, order_id)
    cdef int64_t old = price_of(&m.b.prices.levels[m.b.orders[slot].level])
    cdef int64_t price = _crossing(m, side, fair, 2) if crosses else _passive(m, side, fair)
    cdef int64_t quantity = m.b.orders[slot].leaves_lots if keeps else <int64_t>_draw(m, m.quantities)
    if price == old:
        # Away from the other side, so that it stays passive.
        price += 1 if side else -1
    _write(m, REPLACE, side, price, quantity, order_id)
    book_unqueue(&m.b, slot)
    quantity = _take(m, side, price, quantity)
    if quantity:
        book_queue(&m.b, slot, side, price, quantity)
    else:
        book_free(&m.b, slot)
        _leave(m, side, order_id)


cdef inline void _reduce(maker* m, uint32_t side, bint young) noexcept nogil:
    """One lot to all but one off what is open; an order of one lot is canceled instead."""
    cdef uint64_t order_id = _pick(m, side, young)
    cdef uint32_t slot = book_find(&m.b, order_id)
    cdef int64_t leaves = m.b.orders[slot].leaves_lots, cut
    if leaves == 1:
        _cancel(m, side, young)
        return
    cut = 1 + <int64_t>_below(m, <uint64_t>(leaves - 1))
    _write(m, REDUCE, side, price_of(&m.b.prices.levels[m.b.orders[slot].level]), cut, order_id)
    book_reduce(&m.b, slot, leaves - cut)


cdef inline void _turn_over(maker* m, uint32_t side, uint32_t add, uint32_t gain, int64_t resting, bint young,
                            int64_t fair) noexcept nogil:
    """Add or cancel, so that about `resting` orders stay on each side."""
    cdef int64_t count = m.live[side].count
    cdef int64_t share = <int64_t>add + <int64_t>gain * (resting - count) // resting
    if count == 0 or (share > 0 and _chance(m, <uint32_t>share)):
        _place(m, GTC, side, _passive(m, side, fair), _draw(m, m.quantities))
    else:
        _cancel(m, side, young)


cdef class FlowMaker:
    """One flow under way. `mix` is a flows.Mix, whose shares are parts of 10,000; tables are uint32, 4096 long."""

    cdef maker m
    cdef object mix, arrays

    def __cinit__(self, mix, uint64_t seed, uint64_t records, distances, quantities, takes):
        cdef uint32_t[::1] ids_bid = np.zeros(8 * mix.resting + records + 128, np.uint32)
        cdef uint32_t[::1] ids_ask = np.zeros(8 * mix.resting + records + 128, np.uint32)
        cdef uint32_t[::1] at = np.zeros(records + 2, np.uint32)
        cdef uint32_t[::1] owner = np.zeros(records + 2, np.uint32)
        cdef const uint32_t[::1] distance_view = distances, quantity_view = quantities, take_view = takes
        if len(distances) < TABLE or len(quantities) < TABLE or len(takes) < TABLE:
            raise ValueError("tables are too short")
        self.arrays = (ids_bid, ids_ask, at, owner, distance_view, quantity_view, take_view)
        self.mix = mix
        memset(&self.m, 0, sizeof(maker))
        book_create(&self.m.b, 2 * mix.resting + <uint32_t>min(records, 2 * mix.resting + 100000), 0)
        self.m.random = seed
        self.m.live[0].ids = &ids_bid[0]
        self.m.live[1].ids = &ids_ask[0]
        self.m.at = &at[0]
        self.m.owner = &owner[0]
        self.m.distances = &distance_view[0]
        self.m.quantities = &quantity_view[0]
        self.m.takes = &take_view[0]
        self.m.lowest = mix.lowest
        self.m.highest = mix.highest
        self.m.scale = mix.scale
        self.m.reversion = mix.reversion
        self.m.next_id = 1

    def __dealloc__(self):
        book_destroy(&self.m.b)

    def prefill(self, uint8_t[::1] out, int64_t fair):
        """Orders that only build the book, one side after the other."""
        cdef uint64_t i
        self.m.out = <flow_record*>&out[0]
        self.m.written = 0
        with nogil:
            for i in range(len(out) // sizeof(flow_record)):
                _place(&self.m, GTC, i & 1, _passive(&self.m, i & 1, fair), _draw(&self.m, self.m.quantities))

    def run(self, uint8_t[::1] out, const int64_t[::1] fair_prices):
        """Fill `out` with operations; the fair price takes its next value every 64 records."""
        cdef maker* m = &self.m
        cdef uint32_t ioc = self.mix.ioc, taking = ioc + <uint32_t>self.mix.taking
        cdef uint32_t moves = taking + <uint32_t>self.mix.moves, reduces = moves + <uint32_t>self.mix.reduces
        cdef uint32_t jumps = self.mix.jumps, add = self.mix.add, gain = self.mix.gain
        cdef uint32_t young_cancels = self.mix.young_cancels, young_moves = self.mix.young_moves
        cdef bint keeps = self.mix.moves_keep_quantity
        cdef int64_t resting = self.mix.resting, fair
        cdef uint64_t i, choice
        cdef uint32_t side
        m.out = <flow_record*>&out[0]
        m.written = 0
        with nogil:
            for i in range(len(out) // sizeof(flow_record)):
                fair = fair_prices[i // FAIR_RECORDS]
                choice = _below(m, 10000)
                side = <uint32_t>(_random(m) >> 63)
                if choice < taking:
                    side = _taker_side(m, fair)
                    _place(m, IOC if choice < ioc else GTC, side, _crossing(m, side, fair, 4), _draw(m, m.takes))
                elif choice < reduces and m.live[side].count:
                    if choice >= moves:
                        _reduce(m, side, _chance(m, young_moves))
                    elif _chance(m, jumps):
                        side = _taker_side(m, fair)
                        if m.live[side].count:
                            _replace(m, side, _chance(m, young_moves), True, keeps, fair)
                        else:
                            _turn_over(m, side, add, gain, resting, False, fair)
                    else:
                        _replace(m, side, _chance(m, young_moves), False, keeps, fair)
                else:
                    _turn_over(m, side, add, gain, resting, _chance(m, young_cancels), fair)

    @property
    def orders(self):
        """Ids given so far."""
        return self.m.next_id - 1
