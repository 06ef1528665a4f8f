"""How live orders come and go; see order_life.pxd."""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from matchbox.core.bits cimport mb_clear_record, mb_unlikely
from matchbox.core.ledger cimport account_state, ledger_find, ledger_hold, ledger_open
from matchbox.core.line cimport release_in_line, stand_in_line
from matchbox.core.orders cimport (
    live_order, orders_add, orders_find, orders_find_client, orders_forget_client, orders_remove,
)
from matchbox.core.sequencer_state cimport (
    ALONE, PENDING, WORKING, market_state, money_of, order_money, order_need, order_pending, pending_leg, pending_of,
    sequencer,
)
from matchbox.core.timers cimport timers_add, timers_remove
from matchbox.core.validation cimport has_limit
from matchbox.shm.records cimport *

if sizeof(order_money) != 64 or sizeof(order_pending) != 64:
    raise ImportError("order_life: what is kept of an order is not one cache line")


# ---- the tables ------------------------------------------------------------------------------------------

cdef void _chain(sequencer* s, account_state* account, order_money* money, uint32_t slot) noexcept nogil:
    """Put the order at the end of its account's chain."""
    money.previous = account.last_order
    money.next = 0
    if account.last_order:
        s.money[account.last_order - 1].next = slot + 1
    else:
        account.first_order = slot + 1
    account.last_order = slot + 1


cdef live_order* _add(sequencer* s, const mb_record* record) noexcept nogil:
    """Into every table, with a partner to be set and nothing held."""
    cdef live_order* order = orders_add(&s.orders, record.sequence, record.account, record.client_order_id, True)
    cdef order_money* money = money_of(s, order)
    order.market = record.market
    order.session = record.session
    order.side = record.side
    order.price_ticks = record.price_ticks
    order.quantity_lots = record.quantity_lots
    order.leaves_lots = record.quantity_lots
    order.cumulative_lots = 0
    money.hold = 0
    money.partner = 0
    money.in_line = 0
    money.timed = 0
    money.role = ALONE
    _chain(s, &s.books.accounts[record.account], money, <uint32_t>(order - s.orders.slab))
    s.markets[record.market].live_orders += 1
    return order


cdef void _leave(sequencer* s, live_order* order) noexcept nogil:
    """Out of every table."""
    cdef order_money* money = money_of(s, order)
    if money.timed:
        timers_remove(&s.due, <uint32_t>(order - s.orders.slab))
    if money.previous:
        s.money[money.previous - 1].next = money.next
    else:
        s.books.accounts[order.account].first_order = money.next
    if money.next:
        s.money[money.next - 1].previous = money.previous
    else:
        s.books.accounts[order.account].last_order = money.previous
    s.markets[order.market].live_orders -= 1
    orders_remove(&s.orders, order)


cdef void _pair(sequencer* s, live_order* first, live_order* second) noexcept nogil:
    money_of(s, first).partner = <uint32_t>(second - s.orders.slab) + 1
    money_of(s, second).partner = <uint32_t>(first - s.orders.slab) + 1


# ---- orders ----------------------------------------------------------------------------------------------

cdef void order_enter(sequencer* s, const mb_record* record, const mb_terms_record* terms,
                      const mb_record* head) noexcept nogil:
    cdef live_order* order
    cdef order_money* money
    cdef market_state* market = &s.markets[record.market]
    cdef uint16_t pays = market.definition.base_asset, gets = market.definition.quote_asset
    if mb_unlikely(head != NULL):
        if (<const mb_new_order*>record).has_terms & MB_IS_PENDING:
            _enter_pending(s, record, terms, <const mb_list_record*>head)
            return
        if head.kind == MB_CANCEL_ORDER and record.client_order_id[0]:
            _take_client_id(s, record)
    if record.side == MB_BUY:
        pays, gets = gets, pays
    order = _add(s, record)
    money = money_of(s, order)
    money.hold = record.hold
    money.lack = 0
    money.next_price = record.price_ticks
    money.next_total = record.quantity_lots
    money.pays = ledger_find(&s.books, record.account, pays)
    money.gets = ledger_open(&s.books, record.account, gets)
    money.amends = 0
    money.at_once = record.order_type == MB_MARKET
    money.budget = money.at_once and (record.side == MB_BUY or record.flags & MB_QUOTE_AMOUNT != 0)
    money.timed = terms != NULL and terms.expire_ns != 0
    money.market_order = not has_limit(record.order_type)
    if mb_unlikely(head != NULL):
        _enter_in_group(s, order, money, record, head)
    ledger_hold(&s.books, money.pays, money.hold)
    if money.timed:
        timers_add(&s.due, <uint32_t>(order - s.orders.slab), record.sequence, terms.expire_ns)


cdef void _enter_in_group(sequencer* s, live_order* order, order_money* money, const mb_record* record,
                          const mb_record* head) noexcept nogil:
    """What an order that is placed now has to do with the records before it."""
    cdef const mb_list_record* of_list = <const mb_list_record*>head
    cdef live_order* first
    if head.kind == MB_CANCEL_ORDER:
        if head.reject == MB_NONE:
            money.lack = head.quantity_lots
            money.hold -= money.lack
    elif of_list.list_type == MB_OCO:
        if record.sequence == head.sequence + 2:
            first = orders_find(&s.orders, record.sequence - 1)
            _pair(s, first, order)
            # What both need is held by the first.
            money.lack = order_need(s, order) - money.hold
    elif head.kind == MB_ORDER_LIST:
        money.role = WORKING


cdef void _take_client_id(sequencer* s, const mb_record* record) noexcept nogil:
    """An order may take the client order id of the one that it replaces."""
    cdef live_order* old = orders_find_client(&s.orders, record.account, record.client_order_id)
    if old != NULL:
        orders_forget_client(&s.orders, old)


cdef void order_end(sequencer* s, live_order* order) noexcept nogil:
    cdef order_money* money = money_of(s, order)
    cdef order_money* other
    cdef int64_t given
    if mb_unlikely(money.partner != 0):
        other = &s.money[money.partner - 1]
        given = money.hold if money.hold < other.lack else other.lack
        money.hold -= given
        other.hold += given
        other.lack -= given
        other.partner = 0
    if mb_unlikely(money.role == WORKING):
        _list_goes_on(s, order)
    ledger_hold(&s.books, money.pays, -money.hold)
    money.hold = 0
    _leave(s, order)


cdef void order_hand_over(sequencer* s, live_order* old, live_order* new) noexcept nogil:
    cdef order_money* gives = money_of(s, old)
    cdef order_money* takes = money_of(s, new)
    cdef int64_t given = takes.lack if takes.lack < gives.hold else gives.hold
    # Both pay with the same balance.
    gives.hold -= given
    takes.hold += given
    takes.lack = 0


# ---- lists -----------------------------------------------------------------------------------------------

cdef void _enter_pending(sequencer* s, const mb_record* record, const mb_terms_record* terms,
                         const mb_list_record* of_list) noexcept nogil:
    cdef const mb_new_order* sent = <const mb_new_order*>record
    cdef live_order* order = _add(s, record)
    cdef order_pending* pending = pending_of(s, order)
    pending.role = PENDING
    pending.list_id = of_list.sequence
    pending.display_lots = terms.display_lots
    pending.expire_ns = terms.expire_ns
    pending.trigger_ticks = sent.trigger_ticks
    pending.trailing_bips = sent.trailing_bips
    pending.self_trade = sent.self_trade
    pending.order_type = sent.order_type
    pending.time_in_force = sent.time_in_force
    pending.flags = sent.flags
    if record.sequence == of_list.sequence + 3:
        _pair(s, orders_find(&s.orders, record.sequence - 1), order)


cdef void pending_cancel(sequencer* s, live_order* order) noexcept nogil:
    cdef order_pending* pending = pending_of(s, order)
    cdef live_order* working
    if pending.partner:
        s.money[pending.partner - 1].partner = 0
        stand_in_line(s, &s.orders.slab[pending.partner - 1], MB_LIST_ENDED)
    else:
        working = orders_find(&s.orders, pending.list_id + 1)
        if working != NULL:
            # Nothing waits for it any more.
            money_of(s, working).role = ALONE
    _leave(s, order)


cdef void _list_goes_on(sequencer* s, const live_order* working) noexcept nogil:
    """The working order has ended; the list's id is one less than its own."""
    cdef uint64_t list_id = working.order_id - 1, leg
    cdef live_order* order
    if working.cumulative_lots:
        release_in_line(s, list_id)
        return
    for leg in range(2, 4):
        order = pending_leg(s, list_id, leg)
        if order != NULL:
            stand_in_line(s, order, MB_LIST_ENDED)


# ---- releases --------------------------------------------------------------------------------------------

cdef void _release_record(sequencer* s, const live_order* order, mb_list_record* release,
                          mb_new_order* record) noexcept nogil:
    """The new record of a pending order."""
    cdef const order_pending* pending = pending_of(s, order)
    mb_clear_record(record)
    record.kind = MB_NEW_ORDER
    record.has_terms = MB_IN_LIST
    record.account = order.account
    record.market = order.market
    record.side = order.side
    record.price_ticks = order.price_ticks
    record.quantity_lots = order.quantity_lots
    record.trigger_ticks = pending.trigger_ticks
    record.trailing_bips = pending.trailing_bips
    record.self_trade = pending.self_trade
    record.order_type = pending.order_type
    record.time_in_force = pending.time_in_force
    record.flags = pending.flags
    memcpy(record.client_order_id, order.client_order_id, MB_CLIENT_ID_BYTES)
    release.display_lots[release.legs] = pending.display_lots
    if pending.expire_ns:
        release.expire_ns = pending.expire_ns
    release.legs += 1


cdef uint32_t release_records(sequencer* s, const live_order* first, mb_record** records) noexcept nogil:
    cdef mb_list_record* release = <mb_list_record*>records[0]
    cdef uint32_t partner = pending_of(s, first).partner
    mb_clear_record(release)
    release.kind = MB_RELEASE
    release.list_id = pending_of(s, first).list_id
    release.account = first.account
    release.market = first.market
    _release_record(s, first, release, <mb_new_order*>records[1])
    if partner:
        release.list_type = MB_OCO
        _release_record(s, &s.orders.slab[partner - 1], release, <mb_new_order*>records[2])
    return 1 + release.legs


cdef void release_pending(sequencer* s, const mb_list_record* release, uint32_t* sessions) noexcept nogil:
    cdef uint32_t i
    cdef live_order* order
    for i in range(release.legs):
        order = orders_find(&s.orders, release.list_id + 2 + i)
        sessions[i] = order.session
        _leave(s, order)
