"""Orders that wait for a trigger: found by the price of a fill, and put into a queue in the order of triggering.

Each has a slot of the book (so it is found by its id and counts as open) and a special (book.pxd), and is in one of

    levels   of the book's price index, sides FALL and RISE: by trigger price, the older first; and sides BEGIN_FALL
             and BEGIN_RISE: trailing orders that wait for the price they begin with
    buckets  trailing orders that have begun: one bucket for each (side, distance) in use. A bucket is a list of
             groups of orders that have the same best price `best`, sorted by it: `far` is the group that triggers
             first, `near` the one that the next new best price moves first
    pending  of a bucket: orders that begin with the first trade

    a bucket of buys    far ── best 100 ─ best 103 ─ best 107 ── near      last price 107 or more
                            triggers at 101, ...     a trade at 105 makes one group of 107 and 105

A new price only ever moves groups from the near end on, all to the same best price, so they become one group; and
triggers from the far end on. Each step of that ends a group, so it costs no more than making it did; what is left is
a look at both ends of each bucket. A group is a leftist heap of specials by order id: two become one in
logarithmic time, and triggered orders come out oldest first, whatever groups they are from.

A fill that reaches nothing costs two comparisons, with `rise_at` and `fall_at`: no price between them does anything.

The queue (`first`, `last`: slots, linked through order.next) holds what is triggered and not yet matched, while one
log record is processed: single orders, and roots of heaps (state TRAILS), which stand for all of theirs.

Invariants (triggers_validate): every waiting order is in one place; levels hold them by rising id; groups are sorted,
not empty, and none of a bucket is beyond its trigger; heaps are heaps; rise_at and fall_at leave nothing out;
the queue is empty. Groups and buckets: 32 bytes for each special. Order ids rise with time.
"""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from matchbox.core.book cimport book

cdef enum:
    FALL = 2                # triggered by a price at or below the level's; the highest is the best
    RISE = 3                # at or above; the lowest is the best
    BEGIN_FALL = 4
    BEGIN_RISE = 5

ctypedef struct trailing_group:
    int64_t best            # the lowest price so far of buys, the highest of sells
    uint32_t root           # special with the lowest order id; a free group: the next free one
    uint32_t near           # next group towards the near end
    uint32_t far
    uint32_t bucket

ctypedef struct trailing_bucket:
    uint32_t near           # group, 0 = none
    uint32_t far
    uint32_t pending        # root special
    uint32_t next           # bucket in use, or free one
    uint32_t back           # bucket in use before
    uint16_t bips
    uint16_t side           # BID or ASK

ctypedef struct triggers:
    int64_t rise_at         # no price below it, and above fall_at, reaches anything
    int64_t fall_at
    int64_t last_price      # of the market; 0 = none
    uint32_t first          # queue of triggered orders: slots
    uint32_t last
    uint32_t count          # orders that wait
    uint32_t buckets        # first bucket in use
    uint32_t free_bucket
    uint32_t free_group
    uint32_t triggered      # collecting: heap of trailing orders that triggered
    trailing_group* group
    trailing_bucket* bucket
    void* arena
    size_t arena_bytes

cdef int triggers_create(triggers* t, uint32_t max_specials) except -1
cdef void triggers_destroy(triggers* t) noexcept nogil

# Would the last price, were it `price`, have reached the trigger of such an order?
cdef bint trigger_reached(uint32_t side, uint32_t order_type, int64_t trigger, int64_t price) noexcept nogil

# Let an order wait. It has a slot in no queue, with leaves, and a special that is complete but for its state. If it
# trails and can begin (no trigger price, or a reached one), it begins with the last price.
cdef void triggers_add(triggers* t, book* b, uint32_t slot) noexcept nogil

# Take out an order that waits; its slot and special stay.
cdef void triggers_remove(triggers* t, book* b, uint32_t slot) noexcept nogil

# Will a fill at `price` put anything into the queue? Changes nothing.
cdef bint triggers_reaches(const triggers* t, const book* b, int64_t price) noexcept nogil

# After a fill at `price`: queue what it triggers, move and begin what trails. False when `work` is used up (call again
# before anything else); True when done.
cdef bint triggers_collect(triggers* t, book* b, int64_t price, int* work) noexcept nogil

# The slot of the next triggered order, out of the queue (which is not empty), waiting no more.
cdef uint32_t triggers_next(triggers* t, book* b) noexcept nogil

# The best price so far of an order with state TRAILS.
cdef int64_t triggers_best(const triggers* t, const book* b, uint32_t number) noexcept nogil

# Hash of all that waits, and of the last price; the formula is in triggers.pyx.
cdef uint64_t triggers_hash(const triggers* t, const book* b) noexcept nogil
# 0, or the number of the first broken invariant (see triggers.pyx). Slow; for tests.
cdef int triggers_validate(const triggers* t, const book* b) noexcept nogil


cdef inline bint triggers_touched(const triggers* t, int64_t price) noexcept nogil:
    """Does a fill at `price` need triggers_collect()?"""
    return price >= t.rise_at or price <= t.fall_at
