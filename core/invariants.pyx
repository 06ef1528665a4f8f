"""The sequencer's state, checked; what must hold is in invariants.pxd."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from matchbox.core.debug cimport mb_broken
from matchbox.core.ledger cimport ledger_check, ledger_find
from matchbox.core.orders cimport live_order
from matchbox.core.sequencer_state cimport PENDING, order_money, order_need, sequencer


cdef uint64_t _held(const sequencer* s, int64_t* reasons) noexcept nogil:
    """The first balance that holds other than there are reasons for, or 0. `reasons`: zeroes, one for each balance."""
    cdef uint64_t i
    for i in range(s.orders.capacity):
        if s.orders.slab[i].order_id and s.money[i].role != PENDING:
            reasons[s.money[i].pays] += s.money[i].hold
    for i in range(s.books.movement_count):
        if s.books.movements[i].waits:
            reasons[ledger_find(&s.books, s.books.movements[i].account, s.books.movements[i].asset)] += \
                s.books.movements[i].amount
    for i in range(1, s.books.balance_mask + 2):
        if s.books.balances[i].held != reasons[i]:
            return i
    return 0


cdef uint64_t _hold(const sequencer* s) noexcept nogil:
    """The first order that holds other than it needs, or 0."""
    cdef uint32_t i
    cdef const live_order* order
    cdef const order_money* money
    for i in range(s.orders.capacity):
        order, money = &s.orders.slab[i], &s.money[i]
        if order.order_id == 0:
            continue
        if money.role == PENDING:
            if money.hold:
                return order.order_id
            continue
        if money.hold < 0 or money.lack < 0:
            return order.order_id
        if money.budget:
            continue
        # Amends under way hold more.
        if money.hold + money.lack < order_need(s, order) \
                or (money.amends == 0 and money.hold + money.lack > order_need(s, order)):
            return order.order_id
    return 0


cdef uint64_t _pair(const sequencer* s) noexcept nogil:
    """The first order that is one of a pair with itself only, or 0."""
    cdef uint32_t i
    for i in range(s.orders.capacity):
        if s.orders.slab[i].order_id and s.money[i].partner and s.money[s.money[i].partner - 1].partner != i + 1:
            return s.orders.slab[i].order_id
    return 0


cdef uint64_t _chain(const sequencer* s, uint64_t* chained) noexcept nogil:
    """The first account whose chain is broken, or 0; how many orders are in all chains."""
    cdef uint32_t account, at, previous
    cdef uint64_t older
    chained[0] = 0
    for account in range(1, s.books.max_accounts + 1):
        at, previous, older = s.books.accounts[account].first_order, 0, 0
        while at:
            if s.orders.slab[at - 1].account != account or s.orders.slab[at - 1].order_id <= older \
                    or s.money[at - 1].previous != previous:
                return account
            chained[0] += 1
            older, previous, at = s.orders.slab[at - 1].order_id, at, s.money[at - 1].next
        if s.books.accounts[account].last_order != previous:
            return account
    return 0


cdef int _counts(const sequencer* s, uint64_t chained, uint64_t* of) noexcept nogil:
    cdef uint32_t market
    cdef uint64_t total = 0
    of[0] = 0
    for market in range(1, s.max_markets + 1):
        total += s.markets[market].live_orders
        # One more may be one that another has replaced, until that is settled (decide_room).
        if s.markets[market].live_orders > s.markets[market].definition.max_orders + 1:
            of[0] = market
            return COUNTS
    return COUNTS if total != s.orders.count or chained != total else 0


cdef int sequencer_broken(const sequencer* s, uint64_t* of) noexcept nogil:
    cdef uint64_t chained
    cdef int64_t* reasons
    of[0] = ledger_check(&s.books)
    if of[0]:
        return CONSERVED
    reasons = <int64_t*>calloc(s.books.balance_mask + 2, sizeof(int64_t))
    if reasons == NULL:
        return UNCHECKED
    of[0] = _held(s, reasons)
    free(reasons)
    if of[0]:
        return HELD
    of[0] = _hold(s)
    if of[0]:
        return HOLD
    of[0] = _pair(s)
    if of[0]:
        return PAIR
    of[0] = _chain(s, &chained)
    return CHAIN if of[0] else _counts(s, chained, of)


cdef void sequencer_verify(const sequencer* s) noexcept nogil:
    cdef uint64_t of = 0
    cdef int broken = sequencer_broken(s, &of)
    if broken:
        mb_broken("sequencer (core/invariants.pxd)", <uint32_t>broken, of, s.log.position + s.filled)
