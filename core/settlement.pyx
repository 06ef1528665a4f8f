"""Settlement. After each event an order holds exactly what it can still need; the rest is free again.

    limit order      hold = hold_of(price, what is open) + what amends under way hold more
    one of a pair    as that, less what the other holds for both
    budget           hold = the budget, or the base held for a quote amount, less what was spent of it
    ended            nothing

A fill moves: quote from the buyer's held to the seller's free, base the other way, fees to the fee account, a rebate
from the taker's fee to the maker. Fees are in the event; that they are no more than what is received is the matcher's
rule.
Invariants: supply never changes here; `hold` never goes below 0.
"""

from libc.stdint cimport int64_t
from matchbox.core.bits cimport mb_unlikely
from matchbox.core.ledger cimport ledger_add_volume, ledger_hold
from matchbox.core.order_life cimport order_end, order_hand_over
from matchbox.core.orders cimport live_order, orders_find
from matchbox.core.sequencer_state cimport market_state, money_of, order_money, order_need, sequencer
from matchbox.shm.records cimport *


cdef inline void _trim(sequencer* s, const live_order* order, order_money* money, int64_t pending) noexcept nogil:
    """Free what the order no longer needs; `pending` is what amends under way hold more."""
    cdef int64_t excess
    if money.budget:
        return
    excess = money.hold + money.lack - pending - order_need(s, order)
    ledger_hold(&s.books, money.pays, -excess)
    money.hold -= excess


cdef inline int64_t _pending(sequencer* s, const live_order* order, const order_money* money) noexcept nogil:
    """What amends under way hold more: all above what the order itself needs."""
    if money.amends == 0:
        return 0
    return money.hold + money.lack - order_need(s, order)


cdef inline void _fill(sequencer* s, live_order* order, int64_t paid, int64_t got, int64_t leaves,
                       int64_t cumulative) noexcept nogil:
    """One side of a fill: pay out of what is held, receive."""
    cdef order_money* money = money_of(s, order)
    cdef int64_t pending = _pending(s, order, money)
    s.books.balances[money.pays].held -= paid
    money.hold -= paid
    s.books.balances[money.gets].free += got
    order.leaves_lots = leaves
    order.cumulative_lots = cumulative
    if leaves == 0:
        order_end(s, order)
    else:
        _trim(s, order, money, pending)


cdef void _trade(sequencer* s, const mb_event* event, const mb_record* cause) noexcept nogil:
    cdef live_order* maker = orders_find(&s.orders, event.maker_order_id)
    cdef live_order* taker = orders_find(&s.orders, event.order_id)
    cdef market_state* market = &s.markets[taker.market]
    cdef int64_t base = event.quantity_lots * market.definition.lot_units
    cdef int64_t quote = event.price_ticks * event.quantity_lots * market.definition.notional_units
    cdef bint buys = event.side == MB_BUY
    cdef int64_t taker_gets = base if buys else quote, maker_gets = quote if buys else base
    cdef int64_t rebate = -event.maker_fee if event.maker_fee < 0 else 0
    cdef int64_t maker_fee = event.maker_fee if event.maker_fee > 0 else 0
    # What the taker receives is what the maker pays with.
    s.books.balances[money_of(s, maker).pays].free += rebate
    s.books.balances[market.fee_base if buys else market.fee_quote].free += event.fee - rebate
    s.books.balances[market.fee_quote if buys else market.fee_base].free += maker_fee
    if s.books.volume_asset != 0 and s.books.volume_asset == market.definition.quote_asset:
        ledger_add_volume(&s.books, maker.account, quote, cause.timestamp_ns)
        ledger_add_volume(&s.books, taker.account, quote, cause.timestamp_ns)
    _fill(s, maker, taker_gets, maker_gets - maker_fee, event.maker_leaves_lots, event.maker_cumulative_lots)
    _fill(s, taker, maker_gets, taker_gets - event.fee, event.leaves_lots, event.cumulative_lots)
    if event.sequence > market.reference_sequence:
        market.last_price = event.price_ticks


cdef void _lessen(sequencer* s, live_order* order, int64_t prevented, int64_t leaves) noexcept nogil:
    """Self-trade prevention took quantity off an order."""
    cdef order_money* money = money_of(s, order)
    cdef int64_t pending = _pending(s, order, money)
    order.quantity_lots -= prevented
    money.next_total -= prevented
    order.leaves_lots = leaves
    if leaves == 0:
        order_end(s, order)
    else:
        _trim(s, order, money, pending)


cdef void _amend_done(sequencer* s, live_order* order, const mb_event* event, const mb_record* cause) noexcept nogil:
    """An amend was matched, or refused: what it held more is part of the order's need now, or free."""
    cdef order_money* money = money_of(s, order)
    cdef int64_t pending = _pending(s, order, money) - cause.hold
    money.amends -= 1
    if event.kind == MB_AMENDED:
        order.price_ticks = event.price_ticks
        order.quantity_lots = event.quantity_lots
        order.leaves_lots = event.leaves_lots
    if money.amends == 0:
        money.next_price = order.price_ticks
        money.next_total = order.quantity_lots
    _trim(s, order, money, pending)


cdef live_order* _in_its_place(sequencer* s, const mb_record* cancel) noexcept nogil:
    """The order that replaces the canceled one and lacks something; terms may stand between the two records."""
    cdef live_order* order = orders_find(&s.orders, cancel.sequence + 1)
    return order if order != NULL else orders_find(&s.orders, cancel.sequence + 2)


cdef void settle_event(sequencer* s, const mb_event* event, const mb_record* cause) noexcept nogil:
    cdef live_order* order
    if event.kind == MB_TRADE:
        _trade(s, event, cause)
    elif event.kind == MB_CANCELED or event.kind == MB_EXPIRED:
        order = orders_find(&s.orders, event.order_id)
        if mb_unlikely(cause.flags & MB_REPLACE and event.order_id == cause.order_id and cause.kind == MB_CANCEL_ORDER
                       and cause.quantity_lots):
            order_hand_over(s, order, _in_its_place(s, cause))
        order_end(s, order)
    elif event.kind == MB_REJECTED:
        # A new order is the one that its own record created; a refused cancel changes nothing.
        if cause.kind == MB_NEW_ORDER:
            order_end(s, orders_find(&s.orders, event.sequence))
        elif cause.kind == MB_AMEND_ORDER:
            order = orders_find(&s.orders, cause.order_id)
            if order != NULL:
                _amend_done(s, order, event, cause)
    elif event.kind == MB_AMENDED:
        _amend_done(s, orders_find(&s.orders, event.order_id), event, cause)
    elif event.kind == MB_PREVENTED:
        _lessen(s, orders_find(&s.orders, event.maker_order_id), event.quantity_lots, event.maker_leaves_lots)
        _lessen(s, orders_find(&s.orders, event.order_id), event.quantity_lots, event.leaves_lots)
