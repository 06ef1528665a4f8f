"""Orders whose trigger follows the price, from when they have begun to: their part of what waits (triggers.pxd).

They are in buckets, one for each (side, distance) in use. A bucket is a list of groups of orders that have the same
best price `best`, sorted by it: `far` is the group that triggers first, `near` the one that the next new best price
moves first. Orders that begin with the first trade there is are `pending` in their bucket until then.

    a bucket of buys    far ── best 100 ─ best 103 ─ best 107 ── near      last price 107 or more
    with distance 1 %       triggers at 101, ...     a trade at 102 makes one group of 107 and 103, with best 102

A new best price moves groups from the near end on, all to that price, so they become one group; and a price triggers
groups from the far end on. Each such step ends a group, so it costs no more than making it did; what is left is a
look at both ends of each bucket. A group is a leftist heap of specials by order id, linked through left, right and
parent: two become one in logarithmic time, and triggered orders come out oldest first, whatever groups they are
from. Order ids rise with time.

A new order's best price is the last price, so its group is at the near end, unless an operator has set a reference
price since the last trade: then its place is looked for from there.

Invariants (trailing_validate): groups are sorted and not empty; buckets are not empty; heaps are heaps; a root knows
its group, or its bucket. Memory: 24 bytes for each special, and 24 for each of at most 4,000 buckets.
"""

from libc.stdint cimport int64_t, uint16_t, uint32_t
from matchbox.core.book cimport book

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

ctypedef struct trailing:
    uint32_t buckets        # first bucket in use
    uint32_t free_bucket
    uint32_t free_group
    uint32_t triggered      # heap of orders that trailing_collect() took out
    trailing_group* group
    trailing_bucket* bucket
    void* arena
    size_t arena_bytes

cdef int trailing_create(trailing* t, uint32_t capacity) except -1
cdef void trailing_destroy(trailing* t) noexcept nogil

# Let an order trail from the price `best` on; 0: from the first trade on. Narrows the bounds (see trailing_narrow).
cdef void trailing_begin(trailing* t, book* b, uint32_t slot, int64_t best, int64_t* rise_at,
                         int64_t* fall_at) noexcept nogil

# Take out the order of special `number`. True if it was the root of a heap of triggered orders that stands in the
# queue: `root` is then the root of what is left of it, 0 if that is nothing.
cdef bint trailing_remove(trailing* t, book* b, uint32_t number, uint32_t* root) noexcept nogil

# Bring `rise_at` down and `fall_at` up so that no price between them moves, begins or triggers anything.
cdef void trailing_narrow(const trailing* t, int64_t* rise_at, int64_t* fall_at) noexcept nogil

# Will a fill at `price` trigger anything? Changes nothing.
cdef bint trailing_reaches(const trailing* t, int64_t price) noexcept nogil

# After a fill at `price`: begin and move groups, and meld what it triggers into `triggered`. False when `work` is used
# up (call again before anything else); True when done.
cdef bint trailing_collect(trailing* t, book* b, int64_t price, int* work) noexcept nogil

# A heap of triggered orders, with this root, stands in the queue from now on.
cdef void trailing_queued(book* b, uint32_t root) noexcept nogil

# The root of what is left of a heap of triggered orders without its root `number`, 0 if that is nothing.
cdef uint32_t trailing_pop(book* b, uint32_t number) noexcept nogil

# The best price so far, 0 if it has not begun.
cdef int64_t trailing_best(const trailing* t, const book* b, uint32_t number) noexcept nogil

# 0, or the number of the first broken invariant (see triggers.pyx); adds to `seen` what it found. Slow; for tests.
cdef int trailing_validate(const trailing* t, const book* b, uint32_t* seen) noexcept nogil
