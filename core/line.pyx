"""The line; see line.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport qsort
from matchbox.core.orders cimport live_order, orders_find
from matchbox.core.sequencer_state cimport (
    cancel_in_line, money_of, order_money, order_pending, pending_leg, pending_of, sequencer,
)
from matchbox.shm.records cimport MB_NONE


cdef void stand_in_line(sequencer* s, live_order* order, uint16_t reason) noexcept nogil:
    cdef order_money* money = money_of(s, order)
    cdef cancel_in_line* place
    if money.in_line:
        return
    money.in_line = 1
    place = &s.line[s.line_end & s.line_mask]
    place.order_id, place.reason = order.order_id, reason
    s.line_end += 1


cdef void release_in_line(sequencer* s, uint64_t list_id) noexcept nogil:
    cdef cancel_in_line* place = &s.line[s.line_end & s.line_mask]
    place.order_id, place.reason = list_id, MB_NONE
    s.line_end += 1


cdef live_order* order_in_line(sequencer* s, const cancel_in_line* place) noexcept nogil:
    cdef live_order* order
    cdef const order_pending* pending
    if place.reason != MB_NONE:
        return orders_find(&s.orders, place.order_id)
    order = pending_leg(s, place.order_id, 2)
    if order == NULL:
        return NULL
    pending = pending_of(s, order)
    # Where one of two is to be canceled, so is the other.
    return NULL if pending.in_line or (pending.partner and s.money[pending.partner - 1].in_line) else order


cdef live_order* next_in_line(sequencer* s, uint16_t* reason) noexcept nogil:
    cdef live_order* order
    while s.line_first != s.line_end:
        order = order_in_line(s, &s.line[s.line_first & s.line_mask])
        if order != NULL:
            reason[0] = s.line[s.line_first & s.line_mask].reason
            return order
        s.line_first += 1
    return NULL


cdef void cancel_account(sequencer* s, uint32_t account, uint32_t market, uint8_t side,
                         uint16_t reason) noexcept nogil:
    cdef uint32_t at = s.books.accounts[account].first_order
    cdef live_order* order
    while at:
        order = &s.orders.slab[at - 1]
        if (market == 0 or order.market == market) and (side == 0 or order.side == side):
            stand_in_line(s, order, reason)
        at = s.money[at - 1].next


cdef int _by_order_id(const void* a, const void* b) noexcept nogil:
    cdef uint64_t x = (<const cancel_in_line*>a).order_id, y = (<const cancel_in_line*>b).order_id
    return -1 if x < y else x > y


cdef void cancel_where(sequencer* s, uint32_t market, uint32_t session, uint16_t reason) noexcept nogil:
    cdef uint64_t first = s.line_end
    cdef uint64_t i
    cdef live_order* order
    if s.line_first == s.line_end:
        # Not to sort around the end of the ring.
        s.line_first = s.line_end = first = 0
    for i in range(s.orders.capacity):
        order = &s.orders.slab[i]
        if order.order_id and (order.market == market or (session and order.session == session)):
            stand_in_line(s, order, reason)
    if (first & s.line_mask) + (s.line_end - first) <= s.line_mask + 1:
        qsort(&s.line[first & s.line_mask], s.line_end - first, sizeof(cancel_in_line), _by_order_id)
    else:
        _sort_around_the_end(s, first)


cdef void _sort_around_the_end(sequencer* s, uint64_t first) noexcept nogil:
    """Insertion: the line wraps here once in a very long time."""
    cdef uint64_t i, at
    cdef cancel_in_line moving
    for i in range(first + 1, s.line_end):
        moving = s.line[i & s.line_mask]
        at = i
        while at > first and s.line[(at - 1) & s.line_mask].order_id > moving.order_id:
            s.line[at & s.line_mask] = s.line[(at - 1) & s.line_mask]
            at -= 1
        s.line[at & s.line_mask] = moving
