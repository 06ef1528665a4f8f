"""Changes. A record that was accepted has all of its effect on accounts and orders at once; what follows for other
orders (mass cancels, kill switches, expiries, the end of a session) is put in line, oldest order first, and logged by
the exchange itself, a cancel for each, before any client's command.

The line is part of the state: a ring of order ids, each order in it once at most (`in_line`), so it has room for all.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memcpy, memset
from matchbox.core.bits cimport mb_clear_record
from matchbox.core.instrument cimport instrument_apply_rules, instrument_from_record
from matchbox.core.ledger cimport (
    account_state, balance, fees_set, ledger_add_movement, ledger_find, ledger_hold, ledger_movement,
    ledger_open, movement,
)
from matchbox.core.orders cimport live_order, orders_add, orders_find
from matchbox.core.sequencer_state cimport (
    RUNNING, SLOT_LIVE, SLOT_OPEN, cancel_in_line, market_state, money_of, order_money, sequencer, session_slot,
    session_state,
)
from matchbox.core.timers cimport timers_add, timers_countdown, timers_pop, timers_pop_countdown
from matchbox.core.validation cimport has_limit
from matchbox.shm.records cimport *
from matchbox.shm.ring cimport mb_store_release


# ---- the line --------------------------------------------------------------------------------------------

cdef void _stand_in_line(sequencer* s, live_order* order, uint16_t reason) noexcept nogil:
    cdef order_money* money = money_of(s, order)
    cdef cancel_in_line* place
    if money.in_line:
        return
    money.in_line = 1
    place = &s.line[s.line_end & s.line_mask]
    place.order_id, place.reason = order.order_id, reason
    s.line_end += 1


cdef live_order* next_in_line(sequencer* s, uint16_t* reason) noexcept nogil:
    cdef live_order* order
    while s.line_first != s.line_end:
        order = orders_find(&s.orders, s.line[s.line_first & s.line_mask].order_id)
        if order != NULL:
            reason[0] = s.line[s.line_first & s.line_mask].reason
            return order
        s.line_first += 1
    return NULL


cdef void _cancel_account(sequencer* s, uint32_t account, uint32_t market, uint8_t side,
                          uint16_t reason) noexcept nogil:
    """All orders of an account, or those of one market, or side."""
    cdef uint32_t at = s.books.accounts[account].first_order
    cdef live_order* order
    while at:
        order = &s.orders.slab[at - 1]
        if (market == 0 or order.market == market) and (side == 0 or order.side == side):
            _stand_in_line(s, order, reason)
        at = s.money[at - 1].next


cdef int _by_order_id(const void* a, const void* b) noexcept nogil:
    cdef uint64_t x = (<const cancel_in_line*>a).order_id, y = (<const cancel_in_line*>b).order_id
    return -1 if x < y else x > y


cdef void _cancel_where(sequencer* s, uint32_t market, uint32_t session, uint16_t reason) noexcept nogil:
    """All orders of a market, or all that a session entered. Rare, so it looks at every slot."""
    cdef uint64_t first = s.line_end
    cdef uint64_t i
    cdef live_order* order
    if s.line_first == s.line_end:
        # Not to sort around the end of the ring.
        s.line_first = s.line_end = first = 0
    for i in range(s.orders.capacity):
        order = &s.orders.slab[i]
        if order.order_id and (order.market == market or (session and order.session == session)):
            _stand_in_line(s, order, reason)
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


# ---- sessions --------------------------------------------------------------------------------------------

cdef void _detach(sequencer* s, uint32_t number) noexcept nogil:
    cdef session_state* session = &s.sessions[number]
    cdef session_slot* slot = &s.slot_table[session.slot]
    if not session.attached:
        return
    session.attached = 0
    if slot.state == SLOT_LIVE and slot.session == number:
        slot.state = SLOT_OPEN
        slot.session = 0
    if session.cancel_on_detach:
        _cancel_where(s, 0, number, MB_SESSION_ENDED)


cdef void _attach(sequencer* s, const mb_named_record* record) noexcept nogil:
    cdef session_state* session = &s.sessions[record.id]
    cdef session_slot* slot = &s.slot_table[record.slot]
    if record.id > s.sessions_count:
        s.sessions_count = record.id
        memcpy(session.name, record.name, MB_NAME_BYTES)
    session.account = record.account
    session.user = record.user
    session.capabilities = record.capabilities
    session.cancel_on_detach = record.cancel_on_detach
    session.slot = <uint16_t>record.slot
    session.attached = 1
    if s.stage == RUNNING and slot.state == SLOT_OPEN:
        # The bot has not been given the memory yet, so this is still ours to write: numbering goes on.
        mb_store_release(&slot.commands.producer.value, session.position)
        mb_store_release(&slot.commands.readers[0].value, session.position)
        slot.noted = session.position
        slot.reports_read = 0
        slot.session = record.id
        slot.state = SLOT_LIVE


# ---- orders ----------------------------------------------------------------------------------------------

cdef void _chain(sequencer* s, account_state* account, order_money* money, uint32_t slot) noexcept nogil:
    """Put the order at the end of its account's chain."""
    money.previous = account.last_order
    money.next = 0
    if account.last_order:
        s.money[account.last_order - 1].next = slot + 1
    else:
        account.first_order = slot + 1
    account.last_order = slot + 1


cdef void _enter(sequencer* s, const mb_record* record, const mb_terms_record* terms) noexcept nogil:
    """A new order: hold what was decided, remember it."""
    cdef live_order* order = orders_add(&s.orders, record.sequence, record.account, record.client_order_id, True)
    cdef order_money* money = money_of(s, order)
    cdef market_state* market = &s.markets[record.market]
    cdef uint16_t pays = market.definition.base_asset, gets = market.definition.quote_asset
    cdef uint32_t slot = <uint32_t>(order - s.orders.slab)
    if record.side == MB_BUY:
        pays, gets = gets, pays
    order.market = record.market
    order.session = record.session
    order.side = record.side
    order.price_ticks = record.price_ticks
    order.quantity_lots = record.quantity_lots
    order.leaves_lots = record.quantity_lots
    order.cumulative_lots = 0
    money.hold = record.hold
    money.next_price = record.price_ticks
    money.next_total = record.quantity_lots
    money.pays = ledger_find(&s.books, record.account, pays)
    money.gets = ledger_open(&s.books, record.account, gets)
    money.amends = 0
    money.in_line = 0
    money.budget = record.order_type == MB_MARKET and (record.side == MB_BUY or record.flags & MB_QUOTE_AMOUNT != 0)
    money.timed = terms != NULL and terms.expire_ns != 0
    money.market_order = not has_limit(record.order_type)
    ledger_hold(&s.books, money.pays, record.hold)
    _chain(s, &s.books.accounts[record.account], money, slot)
    if money.timed:
        timers_add(&s.due, slot, record.sequence, terms.expire_ns)
    market.live_orders += 1


cdef void _amend(sequencer* s, const mb_record* record) noexcept nogil:
    cdef live_order* order = orders_find(&s.orders, record.order_id)
    cdef order_money* money = money_of(s, order)
    cdef int64_t total = money.next_total
    if record.quantity_lots:
        total = record.quantity_lots + (order.cumulative_lots if record.flags & MB_TO_OPEN else 0)
    # One that is too low will be refused, and changes nothing.
    if record.quantity_lots == 0 or total > order.cumulative_lots:
        money.next_total = total
        if record.price_ticks:
            money.next_price = record.price_ticks
    money.hold += record.hold
    money.amends += 1
    ledger_hold(&s.books, money.pays, record.hold)


cdef void _cancel(sequencer* s, const mb_record* record) noexcept nogil:
    """The exchange's own cancel takes its order from the line."""
    cdef uint16_t reason
    if record.session == 0 and next_in_line(s, &reason) != NULL:
        s.line_first += 1


cdef void _tick(sequencer* s, uint64_t now) noexcept nogil:
    """What is due acts in the order in which it was due; of the same moment, countdowns first."""
    cdef uint32_t found
    cdef uint64_t until
    while now >= s.due.next_ns:
        until = s.due.heap[1].due_ns if s.due.count and s.due.heap[1].due_ns < now else now
        found = timers_pop_countdown(&s.due, until)
        if found:
            _cancel_account(s, found, 0, 0, MB_COUNTDOWN_ENDED)
            continue
        found = timers_pop(&s.due, now)
        s.money[found - 1].timed = 0
        _stand_in_line(s, &s.orders.slab[found - 1], MB_GTD_EXPIRED)


# ---- money and rules -------------------------------------------------------------------------------------

cdef void _move(sequencer* s, const mb_money_record* record) noexcept nogil:
    cdef uint32_t account = ledger_open(&s.books, record.account, record.asset)
    cdef balance* own = &s.books.balances[account]
    cdef movement* waiting
    if record.kind == MB_DEPOSIT:
        own.free += record.amount
        s.books.supply[record.asset] += record.amount
    elif record.kind == MB_TRANSFER:
        own.free -= record.amount
        s.books.balances[ledger_open(&s.books, record.counter_account, record.asset)].free += record.amount
    elif record.kind == MB_REQUEST_WITHDRAWAL:
        ledger_hold(&s.books, account, record.amount)
    else:
        waiting = ledger_movement(&s.books, record.reference)
        waiting.waits = 0
        own.held -= record.amount
        if record.kind == MB_CANCEL_WITHDRAWAL:
            own.free += record.amount
        else:
            s.books.supply[record.asset] -= record.amount
        return
    if record.reference[0]:
        ledger_add_movement(&s.books, record.reference, record.account, record.asset, record.amount,
                            record.kind == MB_REQUEST_WITHDRAWAL)


cdef void _rule(sequencer* s, const mb_rules_record* record) noexcept nogil:
    cdef market_state* market = &s.markets[record.market]
    cdef account_state* account = &s.books.accounts[record.account]
    if record.kind == MB_SET_MARKET:
        instrument_apply_rules(&market.definition, record)
        if record.rules & MB_RULE_REFERENCE:
            market.last_price = record.reference_ticks
            market.reference_sequence = record.sequence
        if record.rules & MB_RULE_CANCEL:
            _cancel_where(s, record.market, 0, MB_MARKET_KILLED)
    elif record.kind == MB_SET_ACCOUNT:
        if record.rules & MB_RULE_STATE:
            account.state = record.state
        if record.rules & MB_RULE_TIER:
            account.tier = record.tier
        if record.rules & MB_RULE_CANCEL:
            _cancel_account(s, record.account, 0, 0, MB_ACCOUNT_KILLED)
    elif record.kind == MB_SET_TIER:
        if record.asset != s.books.volume_asset:
            _count_in(s, record.asset)
        s.books.tier_volumes[record.tier] = <uint32_t>record.amount
        s.books.tier_version += 1
    elif record.market:
        market.own_fees = 1
        fees_set(&market.fees, record.tier, record.maker_fee_ppm, record.taker_fee_ppm)
    else:
        fees_set(&s.books.default_fees, record.tier, record.maker_fee_ppm, record.taker_fee_ppm)


cdef void _count_in(sequencer* s, uint16_t asset) noexcept nogil:
    """Volume is counted in another asset from now on: what was counted says nothing any more."""
    cdef uint32_t account
    for account in range(1, s.books.max_accounts + 1):
        s.books.accounts[account].volume = 0
    s.books.volume_count = 0
    s.books.volume_asset = asset


cdef void _define_market(sequencer* s, const mb_market_record* record) noexcept nogil:
    cdef market_state* market = &s.markets[record.market]
    instrument_from_record(&market.definition, record)
    market.fee_base = ledger_open(&s.books, MB_FEE_ACCOUNT, record.base_asset)
    market.fee_quote = ledger_open(&s.books, MB_FEE_ACCOUNT, record.quote_asset)
    market.exists = 1


cdef void _remove_market(sequencer* s, uint32_t number) noexcept nogil:
    """Its rules, fees and prices go with it, and so does the memory that was set aside."""
    cdef market_state* market = &s.markets[number]
    s.prepared_orders -= market.prepared
    memset(market, 0, sizeof(market_state))


cdef void _define_account(sequencer* s, const mb_named_record* record) noexcept nogil:
    cdef account_state* account = &s.books.accounts[record.account]
    account.state = MB_ACTIVE
    account.tier = 0
    account.parent = record.parent


cdef void apply_record(sequencer* s, const mb_record* record, const mb_terms_record* terms) noexcept nogil:
    cdef const mb_named_record* named = <const mb_named_record*>record
    cdef uint32_t number
    if record.kind == MB_NEW_ORDER:
        _enter(s, record, terms)
    elif record.kind == MB_CANCEL_ORDER:
        _cancel(s, record)
    elif record.kind == MB_AMEND_ORDER:
        _amend(s, record)
    elif record.kind == MB_MASS_CANCEL:
        _cancel_account(s, record.account, record.market, record.side, MB_MASS_CANCELED)
    elif record.kind == MB_COUNTDOWN:
        timers_countdown(&s.due, record.session, record.account,
                         record.timestamp_ns + <uint64_t>record.quantity_lots * 1000000 if record.quantity_lots else 0)
    elif record.kind == MB_TICK:
        _tick(s, record.timestamp_ns)
    elif MB_TRANSFER <= record.kind <= MB_CANCEL_WITHDRAWAL or record.kind == MB_DEPOSIT \
            or record.kind == MB_SETTLE_WITHDRAWAL:
        _move(s, <const mb_money_record*>record)
    elif MB_SET_ACCOUNT <= record.kind <= MB_SET_TIER:
        _rule(s, <const mb_rules_record*>record)
    elif record.kind == MB_ADD_ASSET:
        s.books.asset_scales[named.id] = named.scale + 1
    elif record.kind == MB_ADD_ACCOUNT:
        _define_account(s, named)
    elif record.kind == MB_ADD_MARKET:
        _define_market(s, <const mb_market_record*>record)
    elif record.kind == MB_REMOVE_MARKET:
        _remove_market(s, named.id)
    elif record.kind == MB_REMOVE_ASSET:
        s.books.asset_scales[named.id] = 0
    elif record.kind == MB_ATTACH_SESSION:
        _attach(s, named)
    elif record.kind == MB_DETACH_SESSION:
        _detach(s, named.id)
    elif record.kind == MB_LOGOUT:
        _detach(s, record.session)
    elif record.kind == MB_START:
        for number in range(1, s.sessions_count + 1):
            _detach(s, number)


# ---- what the ledger says --------------------------------------------------------------------------------

cdef void _balance(const sequencer* s, const mb_money_record* record, uint32_t account, int64_t change,
                   mb_event* event) noexcept nogil:
    cdef const balance* of = &s.books.balances[ledger_find(&s.books, account, record.asset)]
    mb_clear_record(event)
    event.sequence = record.sequence
    event.kind = MB_BALANCE
    event.account = account
    event.market = record.asset
    event.quantity_lots = of.free
    event.leaves_lots = of.held
    event.cumulative_lots = change


cdef uint32_t balance_events(const sequencer* s, const mb_record* record, mb_event* first,
                             mb_event* second) noexcept nogil:
    cdef const mb_money_record* money = <const mb_money_record*>record
    cdef int64_t change = money.amount
    if record.kind == MB_TRANSFER:
        _balance(s, money, money.account, -money.amount, first)
        _balance(s, money, money.counter_account, money.amount, second)
        second.index = 1
        second.flags = MB_LAST
        return 2
    if record.kind == MB_REQUEST_WITHDRAWAL or record.kind == MB_SETTLE_WITHDRAWAL:
        change = -money.amount
    _balance(s, money, money.account, change, first)
    first.flags = MB_LAST
    return 1
