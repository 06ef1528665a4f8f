"""Orders that wait for a trigger: found by the price of a fill, and put into a queue in the order of triggering.

Each has a slot of the book (so it is found by its id and counts as open) and a special (book.pxd), and is either on
a level of the book's price index, by trigger price, the older first:

    RISE, FALL                those that trigger when the price is at or above, at or below the level's
    BEGIN_RISE, BEGIN_FALL    trailing ones that begin then

or it trails, and is in `trails` (trailing.pxd). A fill that reaches nothing costs two comparisons, with `rise_at` and
`fall_at`: no price between them does anything.

The queue (`first`, `last`: slots, linked both ways) holds what is triggered and not yet matched, while one log record
is processed: single orders, and roots of heaps (state TRAILS), which stand for all of theirs. An order whose partner
was triggered leaves it.

Invariants (triggers_validate): every waiting order is in one place; levels hold them by rising id, so by age;
rise_at and fall_at leave nothing out; between records the queue is empty.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from matchbox.core.book cimport book
from matchbox.core.trailing cimport trailing

cdef enum:
    FALL = 2
    RISE = 3
    BEGIN_FALL = 4
    BEGIN_RISE = 5

ctypedef struct triggers:
    int64_t rise_at
    int64_t fall_at
    int64_t last_price      # of the market; 0 = none
    uint32_t first          # queue of triggered orders: slots, 0 = none
    uint32_t last
    uint32_t count          # orders that wait
    trailing trails

# Memory for `max_specials` orders. Raises MemoryError.
cdef int triggers_create(triggers* t, uint32_t max_specials) except -1
cdef void triggers_destroy(triggers* t) noexcept nogil

# Does `price` reach the trigger of such an order?
cdef bint trigger_reached(uint32_t side, uint32_t order_type, int64_t trigger, int64_t price) noexcept nogil

# Let an order wait. It has a slot in no queue, with leaves, and a special that is complete but for its state. If it
# trails and can begin (no trigger price, or a reached one), it begins with the last price.
cdef void triggers_add(triggers* t, book* b, uint32_t slot) noexcept nogil

# Take out an order that waits, or stands in the queue; its slot and special stay.
cdef void triggers_remove(triggers* t, book* b, uint32_t slot) noexcept nogil

# Will a fill at `price` put anything into the queue? Changes nothing.
cdef bint triggers_reaches(const triggers* t, const book* b, int64_t price) noexcept nogil

# After a fill at `price`: queue what it triggers, move and begin what trails. False when `work` is used up (call again
# before anything else); True when done.
cdef bint triggers_collect(triggers* t, book* b, int64_t price, int* work) noexcept nogil

# The slot of the next triggered order, out of the queue (which is not empty), waiting no more.
cdef uint32_t triggers_next(triggers* t, book* b) noexcept nogil

# Hash of all that waits, and of the last price; the formula is in triggers.pyx.
cdef uint64_t triggers_hash(const triggers* t, const book* b) noexcept nogil
# 0, or the number of the first broken invariant (see triggers.pyx). Slow; for tests.
cdef int triggers_validate(const triggers* t, const book* b) noexcept nogil


cdef inline bint triggers_touched(const triggers* t, int64_t price) noexcept nogil:
    """Does a fill at `price` need triggers_collect()?"""
    return price >= t.rise_at or price <= t.fall_at
