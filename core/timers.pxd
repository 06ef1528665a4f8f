"""What time will bring: orders that expire (GTD), and countdowns that must be renewed.

    expiries     a binary heap of (expiry, order id), smallest first; an order's `timer` is its place in it, from 1, so
                 that it can be taken out when the order ends otherwise
    countdowns   a short table of (session, account, due), in no order; what is due is found by looking at all of it

Deterministic: what comes next depends on what was put in, not on the order in which it was. Times are sequenced time,
nanoseconds since 1970.
"""

from libc.stdint cimport uint32_t, uint64_t

ctypedef struct expiry:
    uint64_t due_ns
    uint64_t order_id
    uint32_t slot           # of the order

ctypedef struct countdown:
    uint64_t due_ns
    uint32_t session
    uint32_t account

ctypedef struct timers:
    expiry* heap            # [1] is the first
    uint32_t* places        # by slot of the order: its place in the heap, 0 = none
    uint32_t count
    uint32_t capacity
    countdown* countdowns
    uint32_t countdown_count
    uint32_t max_countdowns
    uint64_t next_ns        # when something is due next; 2^64 - 1 = never

# Room for `capacity` orders and `max_countdowns` countdowns. Raises MemoryError.
cdef int timers_create(timers* t, uint32_t capacity, uint32_t max_countdowns) except -1
cdef void timers_destroy(timers* t) noexcept

cdef void timers_add(timers* t, uint32_t slot, uint64_t order_id, uint64_t due_ns) noexcept nogil
# The order in this slot has ended: forget its expiry, which it has.
cdef void timers_remove(timers* t, uint32_t slot) noexcept nogil
# The slot + 1 of the order that expires first, if that is due at `now`, and forget it; else 0.
cdef uint32_t timers_pop(timers* t, uint64_t now_ns) noexcept nogil

# Arm (due_ns > 0), renew or disarm (0) a countdown. False if there is no room for one more.
cdef bint timers_countdown(timers* t, uint32_t session, uint32_t account, uint64_t due_ns) noexcept nogil
# Can a countdown be armed?
cdef bint timers_room(const timers* t, uint32_t session, uint32_t account) noexcept nogil
# The account whose countdown is due first at `now` (then the lowest account, then session), and forget it; else 0.
cdef uint32_t timers_pop_countdown(timers* t, uint64_t now_ns) noexcept nogil
cdef uint64_t timers_hash(const timers* t) noexcept nogil
