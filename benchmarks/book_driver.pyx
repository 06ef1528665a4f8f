"""Plays an order flow of 24-byte records (see flows.py) into a book: no matcher, no validation, no events.

What it measures is the book alone: commands in, and for each trade its maker, taker, price and quantity into
an order-sensitive hash. benchmarks/baseline/stdmap.cpp does the same with std::map, std::list and
std::unordered_map, from the same records, with the same clocks around the same loop.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset
from matchbox.core.bits cimport mb_prefetch
from matchbox.core.book cimport (
    book, book_bucket, book_create, book_crosses, book_destroy, book_fill, book_find, book_free, book_memory, book_new,
    book_queue, book_reduce, book_unqueue, book_validate, fill, order,
)
from matchbox.core.matcher cimport Matcher, matcher_step
from matchbox.core.taker cimport DONE, event_room
from matchbox.core.price_index cimport price_key
from matchbox.shm.records cimport MB_TRADE, mb_event, mb_record

import numpy as np


cdef extern from * nogil:
    """
    #include <time.h>
    static inline uint64_t bench_clock_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    }
    #if defined(__x86_64__)
    #include <x86intrin.h>
    /* Fenced, so that nothing of the operation leaks out of the pair. */
    static inline uint64_t bench_begin(void) { _mm_lfence(); uint64_t t = __rdtsc(); _mm_lfence(); return t; }
    static inline uint64_t bench_end(void) { unsigned a; uint64_t t = __rdtscp(&a); _mm_lfence(); return t; }
    #else
    static inline uint64_t bench_begin(void) { return bench_clock_ns(); }
    static inline uint64_t bench_end(void) { return bench_clock_ns(); }
    #endif
    """
    uint64_t bench_clock_ns()
    uint64_t bench_begin()
    uint64_t bench_end()


ctypedef struct flow_record:
    uint8_t op
    uint8_t side
    uint16_t quantity_high
    uint32_t price
    uint32_t quantity_low
    uint32_t account
    uint64_t order_id

ctypedef struct totals:
    uint64_t trades
    uint64_t quantity
    uint64_t notional
    uint64_t trade_hash

cdef enum:
    GTC = 1
    CANCEL = 2
    IOC = 3
    REPLACE = 4
    REDUCE = 5
    # How far ahead the book's memory is fetched: commands come as an array, as they do in a log.
    AHEAD_BUCKET = 12
    AHEAD_ORDER = 8
    AHEAD_LINKS = 4
    # A smaller book stays in the near caches, where fetching ahead costs more than it saves.
    AHEAD_FROM_ORDERS = 8192


cdef inline int64_t _quantity(const flow_record* r) noexcept nogil:
    return <int64_t>(r.quantity_low | <uint64_t>r.quantity_high << 32)


cdef inline uint64_t _hash_fill(uint64_t state, uint64_t maker, uint64_t taker, uint64_t price,
                                uint64_t lots) noexcept nogil:
    cdef uint64_t word = maker * <uint64_t>0x9E3779B97F4A7C15 + taker * <uint64_t>0xC2B2AE3D27D4EB4F
    word += price * <uint64_t>0x165667B19E3779F9 + lots
    return (state ^ word) * <uint64_t>0x100000001B3


cdef inline int64_t _take(book* b, totals* t, const flow_record* r) noexcept nogil:
    """Match what crosses; returns what is left."""
    cdef uint64_t limit_key = price_key(r.side ^ 1, r.price)
    cdef int64_t left = _quantity(r)
    cdef fill made
    while left and book_crosses(b, r.side ^ 1, limit_key):
        left -= book_fill(b, r.side ^ 1, left, &made)
        t.trades += 1
        t.quantity += <uint64_t>made.lots
        t.notional += <uint64_t>(made.lots * made.price)
        t.trade_hash = _hash_fill(t.trade_hash, made.maker_order_id, r.order_id, <uint64_t>made.price,
                                  <uint64_t>made.lots)
    return left


cdef inline void _apply(book* b, totals* t, const flow_record* r) noexcept nogil:
    cdef uint32_t slot
    cdef int64_t left
    if r.op == GTC:
        left = _take(b, t, r)
        if left:
            slot = book_new(b, r.order_id, r.account, 0, 0)
            book_queue(b, slot, r.side, r.price, left)
    elif r.op == REPLACE:
        slot = book_find(b, r.order_id)
        book_unqueue(b, slot)
        left = _take(b, t, r)
        if left:
            book_queue(b, slot, r.side, r.price, left)
        else:
            book_free(b, slot)
    elif r.op == CANCEL:
        slot = book_find(b, r.order_id)
        book_unqueue(b, slot)
        book_free(b, slot)
    elif r.op == IOC:
        _take(b, t, r)
    else:
        slot = book_find(b, r.order_id)
        book_reduce(b, slot, b.orders[slot].leaves_lots - _quantity(r))


cdef inline void _ahead(const book* b, const flow_record* r) noexcept nogil:
    """Fetch what the next records will touch. New orders' buckets, too; a stale guess only costs time."""
    cdef const order* o
    mb_prefetch(book_bucket(b, r[AHEAD_BUCKET].order_id))
    mb_prefetch(&b.orders[book_bucket(b, r[AHEAD_ORDER].order_id)[0]])
    o = &b.orders[book_bucket(b, r[AHEAD_LINKS].order_id)[0]]
    mb_prefetch(&b.orders[o.prev])
    mb_prefetch(&b.orders[o.next])
    mb_prefetch(&b.prices.levels[o.level])


def timer_ticks():
    """What an empty pair of clock reads takes (median)."""
    cdef uint32_t[::1] empty = np.empty(1 << 16, np.uint32)
    cdef uint64_t begin
    cdef Py_ssize_t i
    for i in range(1 << 16):
        begin = bench_begin()
        empty[i] = <uint32_t>(bench_end() - begin)
    return int(np.median(empty))


cdef class Player:
    """A book, and the totals of what was played into it."""

    cdef book b
    cdef totals t

    def __cinit__(self, uint32_t capacity):
        memset(&self.b, 0, sizeof(book))
        memset(&self.t, 0, sizeof(totals))
        book_create(&self.b, capacity, 0)

    def __dealloc__(self):
        book_destroy(&self.b)

    def play(self, const uint8_t[::1] flow):
        """Apply the records of `flow` (bytes of whole records); returns nanoseconds."""
        cdef const flow_record* r = <const flow_record*>&flow[0]
        cdef const flow_record* end = r + len(flow) // sizeof(flow_record)
        cdef const flow_record* near_end = end - AHEAD_BUCKET
        cdef uint64_t before
        with nogil:
            before = bench_clock_ns()
            while r < near_end:
                if self.b.count >= AHEAD_FROM_ORDERS:
                    _ahead(&self.b, r)
                _apply(&self.b, &self.t, r)
                r += 1
            while r < end:
                _apply(&self.b, &self.t, r)
                r += 1
            before = bench_clock_ns() - before
        return before

    def latencies(self, const uint8_t[::1] flow):
        """Apply the records one by one, each between two fenced clock reads.

        Returns (ticks of each record, ticks of an empty pair of reads, ticks a nanosecond). Nothing is
        fetched ahead: an operation pays for all of its own cache misses.
        """
        cdef const flow_record* r = <const flow_record*>&flow[0]
        cdef Py_ssize_t count = len(flow) // sizeof(flow_record), i
        cdef uint32_t[::1] ticks = np.empty(count, np.uint32)
        cdef uint64_t begin, ns, all_ticks, empty = timer_ticks()
        with nogil:
            ns = bench_clock_ns()
            all_ticks = bench_begin()
            for i in range(count):
                begin = bench_begin()
                _apply(&self.b, &self.t, &r[i])
                ticks[i] = <uint32_t>(bench_end() - begin)
            all_ticks = bench_end() - all_ticks
            ns = bench_clock_ns() - ns
        return np.asarray(ticks), empty, all_ticks / ns

    def remaining(self, const uint8_t[::1] flow):
        """Apply the records; returns what each reduce among them left open, as int64."""
        cdef const flow_record* r = <const flow_record*>&flow[0]
        cdef Py_ssize_t count = len(flow) // sizeof(flow_record), i, found = 0
        left_array = np.empty(count, np.int64)
        cdef int64_t[::1] left = left_array
        for i in range(count):
            _apply(&self.b, &self.t, &r[i])
            if r[i].op == REDUCE:
                left[found] = self.b.orders[book_find(&self.b, r[i].order_id)].leaves_lots
                found += 1
        return left_array[:found].copy()

    def leaves(self, uint64_t order_id):
        """What is open of an order, 0 if there is none."""
        cdef uint32_t slot = book_find(&self.b, order_id)
        return self.b.orders[slot].leaves_lots if slot else 0

    @property
    def totals(self):
        """(trades, quantity, notional, orders resting, hash over all trades)."""
        return self.t.trades, self.t.quantity, self.t.notional, self.b.count, self.t.trade_hash

    @property
    def memory_bytes(self):
        return book_memory(&self.b)

    def validate(self):
        """Check the book's invariants. Raises AssertionError."""
        cdef int failed = book_validate(&self.b, 0)
        if failed:
            raise AssertionError(f"book is broken: invariant={failed}")


# ---- the matcher -----------------------------------------------------------------------------------------

def hash_trades(const uint8_t[::1] events, const uint64_t[::1] flow_ids, uint64_t state):
    """`state`, gone on over the trades among `events`; flow_ids[sequence] = that order's id in the flow."""
    cdef const mb_event* e = <const mb_event*>&events[0]
    cdef Py_ssize_t count = len(events) // sizeof(mb_event), i
    with nogil:
        for i in range(count):
            if e[i].kind == MB_TRADE:
                state = _hash_fill(state, flow_ids[e[i].maker_order_id], flow_ids[e[i].order_id],
                                   <uint64_t>e[i].price_ticks, <uint64_t>e[i].quantity_lots)
    return state


def matcher_latencies(Matcher matcher not None, const uint8_t[::1] commands, uint8_t[::1] out):
    """As Player.latencies(), for complete commands and all their events; `out` is used as a ring of events.

    `out` holds a power of two of events, enough for each command.
    """
    cdef const mb_record* records = <const mb_record*>&commands[0]
    cdef Py_ssize_t count = len(commands) // sizeof(mb_record), i
    cdef uint32_t[::1] ticks = np.empty(count, np.uint32)
    cdef uint64_t begin, ns, all_ticks, empty = timer_ticks()
    cdef event_room room
    room.slots = <mb_event*>&out[0]
    room.mask = len(out) // sizeof(mb_event) - 1
    room.position = 0
    with nogil:
        ns = bench_clock_ns()
        all_ticks = bench_begin()
        for i in range(count):
            begin = bench_begin()
            room.limit = room.position + room.mask + 1
            while matcher_step(&matcher.core, &records[i], records[i].sequence, &room) != DONE:
                room.limit = room.position + room.mask + 1
            ticks[i] = <uint32_t>(bench_end() - begin)
        all_ticks = bench_end() - all_ticks
        ns = bench_clock_ns() - ns
    matcher.last_sequence = records[count - 1].sequence
    return np.asarray(ticks), empty, all_ticks / ns
