"""Changes. A record that was accepted has all of its effect on accounts and orders at once; what follows for other
orders (mass cancels, kill switches, expiries, the end of a session) is put in line (line.pxd).
"""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from matchbox.core.bits cimport mb_clear_record, mb_unlikely
from matchbox.core.instrument cimport instrument_apply_rules, instrument_from_record
from matchbox.core.ledger cimport (
    account_state, balance, fees_set, ledger_add_movement, ledger_find, ledger_hold, ledger_movement,
    ledger_open, movement,
)
from matchbox.core.line cimport cancel_account, cancel_where, next_in_line, stand_in_line
from matchbox.core.order_life cimport order_enter, pending_cancel
from matchbox.core.orders cimport live_order, orders_find
from matchbox.core.sequencer_state cimport (
    RUNNING, SLOT_LIVE, SLOT_OPEN, market_state, money_of, order_money, sequencer, session_slot, session_state,
)
from matchbox.core.timers cimport timers_countdown, timers_pop, timers_pop_countdown
from matchbox.shm.records cimport *
from matchbox.shm.ring cimport mb_store_release


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
        cancel_where(s, 0, number, MB_SESSION_ENDED)


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
    """The exchange's own cancel takes its order from the line. What is pending ends here; else the matcher decides."""
    cdef uint16_t reason
    if record.session == 0 and next_in_line(s, &reason) != NULL:
        s.line_first += 1
    if mb_unlikely(record.flags & MB_OF_PENDING):
        pending_cancel(s, orders_find(&s.orders, record.order_id))


cdef void _tick(sequencer* s, uint64_t now) noexcept nogil:
    """What is due acts in the order in which it was due; of the same moment, countdowns first."""
    cdef uint32_t found
    cdef uint64_t until
    while now >= s.due.next_ns:
        until = s.due.heap[1].due_ns if s.due.count and s.due.heap[1].due_ns < now else now
        found = timers_pop_countdown(&s.due, until)
        if found:
            cancel_account(s, found, 0, 0, MB_COUNTDOWN_ENDED)
            continue
        found = timers_pop(&s.due, now)
        s.money[found - 1].timed = 0
        stand_in_line(s, &s.orders.slab[found - 1], MB_GTD_EXPIRED)


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
            cancel_where(s, record.market, 0, MB_MARKET_KILLED)
    elif record.kind == MB_SET_ACCOUNT:
        if record.rules & MB_RULE_STATE:
            account.state = record.state
        if record.rules & MB_RULE_TIER:
            account.tier = record.tier
        if record.rules & MB_RULE_CANCEL:
            cancel_account(s, record.account, 0, 0, MB_ACCOUNT_KILLED)
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


cdef void apply_record(sequencer* s, const mb_record* record, const mb_terms_record* terms,
                       const mb_record* head) noexcept nogil:
    cdef const mb_named_record* named = <const mb_named_record*>record
    cdef uint32_t number
    if record.kind == MB_NEW_ORDER:
        order_enter(s, record, terms, head)
    elif record.kind == MB_CANCEL_ORDER:
        _cancel(s, record)
    elif record.kind == MB_AMEND_ORDER:
        _amend(s, record)
    elif record.kind == MB_MASS_CANCEL:
        cancel_account(s, record.account, record.market, record.side, MB_MASS_CANCELED)
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
