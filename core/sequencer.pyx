"""The sequencer: turns what sessions send into one totally ordered log.

A round, in this order (DESIGN: a client that acts on a report it has seen finds its consequences settled):

    1. note the position of every command ring, and check what the bots wrote there;
    2. settle all events published so far, in the merged order (log sequence, index);
    3. detach the sessions that broke the protocol or whose reports did not fit;
    4. take commands up to the noted positions, round-robin, at most `batch` of a session, only as many as
       their replies fit; each becomes exactly one log record, accepted or refused;
    5. publish the log once, the refusals once, and give the taken slots back.

Invariants:
    - A command is copied out of shared memory before it is looked at; positions are read once and checked.
    - A command is given back to its ring only after its record is published.
    - Nothing here waits: a full log or ledger ring ends the round early and the next goes on.
    - What the log says of a session, an order or a market is state; which memory slot carries a session is not.
    - `decide` reads only state and the record, so a replay decides the same; replay() checks that it does.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

import numpy as np

from matchbox.core.agent cimport Agent
from matchbox.core.bits cimport mb_clear_record, mb_copy_record
from matchbox.core.index cimport index_mix
from matchbox.core.instrument cimport instrument_check, instrument_check_scales, instrument_from_record
from matchbox.core.orders cimport (
    live_order, orders_add, orders_allocate, orders_find, orders_find_client, orders_free, orders_remove
)
from matchbox.core.validation cimport validate_command
from matchbox.shm.records cimport *
from matchbox.shm.ring cimport *

from matchbox.shm.errors import BadArgument, JournalError
from matchbox.shm.reasons import describe
from matchbox.shm.records import LOG_RECORD

cdef enum:
    SETTLE_BUDGET = 2048    # events settled in one poll, at most


# ---- settling: events move the money side of live orders -------------------------------------------------

cdef inline void _end_order(sequencer* s, live_order* order) noexcept nogil:
    s.markets[order.market].live_orders -= 1
    orders_remove(&s.orders, order)


cdef inline void _settle_event(sequencer* s, const mb_event* event) noexcept nogil:
    cdef live_order* order
    if event.kind == MB_TRADE:
        order = orders_find(&s.orders, event.maker_order_id)
        order.leaves_lots = event.maker_leaves_lots
        order.cumulative_lots = event.maker_cumulative_lots
        if event.maker_leaves_lots == 0:
            _end_order(s, order)
        order = orders_find(&s.orders, event.order_id)
        order.leaves_lots = event.leaves_lots
        order.cumulative_lots = event.cumulative_lots
        if event.leaves_lots == 0:
            _end_order(s, order)
    elif event.kind == MB_CANCELED or event.kind == MB_EXPIRED:
        _end_order(s, orders_find(&s.orders, event.order_id))
    elif event.kind == MB_REJECTED:
        # A refused new order is the one that its own record created; refused cancels and amends change nothing.
        if event.order_id == event.sequence:
            _end_order(s, orders_find(&s.orders, event.order_id))
    elif event.kind == MB_AMENDED:
        order = orders_find(&s.orders, event.order_id)
        order.price_ticks = event.price_ticks
        order.quantity_lots = event.quantity_lots
        order.leaves_lots = event.leaves_lots


cdef int64_t _settle(sequencer* s, uint64_t to_settled, uint32_t to_index, int64_t budget) noexcept nogil:
    """Settle in merged order up to the place given, as far as events are there. Returns how many steps it did."""
    cdef int64_t steps = 0
    cdef uint64_t published = s.log.position
    cdef uint8_t source
    cdef mb_reader* reader
    cdef const mb_event* event
    while steps < budget and s.settled < published:
        if s.settled > to_settled or (s.settled == to_settled and s.settled_index >= to_index):
            break
        source = s.concerns[s.settled & s.log.mask]  # of record settled + 1, at position settled
        if source == NO_SOURCE:
            s.settled += 1
            steps += 1
            continue
        reader = &s.events[source]
        if mb_reader_ready(reader, 1) == 0:
            break
        event = <const mb_event*>mb_reader_slot(reader, 0)
        _settle_event(s, event)
        if event.flags & MB_LAST:
            s.settled += 1
            s.settled_index = 0
        else:
            s.settled_index += 1
        mb_reader_advance(reader, 1)
        steps += 1
    if steps:
        for source in range(s.event_rings):
            mb_release(&s.events[source])
    return steps


# ---- deciding: what a command may do, from state alone ---------------------------------------------------

cdef inline bint _account_exists(const sequencer* s, uint32_t account) noexcept nogil:
    return account != 0 and account <= s.max_accounts and (s.account_bits[account >> 6] >> (account & 63)) & 1


cdef inline uint16_t _decide_account(const sequencer* s, const session_state* session,
                                     mb_record* record) noexcept nogil:
    if record.account == 0:
        record.account = session.account
    elif record.account != session.account and not session.capabilities & MB_CAN_NAME_ACCOUNTS:
        return MB_ACCOUNT_NOT_PERMITTED
    return MB_NONE if _account_exists(s, record.account) else MB_UNKNOWN_ACCOUNT


cdef inline market_state* _market(const sequencer* s, uint32_t market) noexcept nogil:
    if market == 0 or market > s.max_markets or not s.markets[market].exists:
        return NULL
    return &s.markets[market]


cdef uint16_t _decide_new(sequencer* s, mb_record* record) noexcept nogil:
    cdef market_state* market = _market(s, record.market)
    cdef uint16_t reason
    if market == NULL:
        return MB_UNKNOWN_MARKET
    reason = validate_command(record, NULL, &market.definition, False)
    if reason != MB_NONE:
        return reason
    if record.client_order_id[0] and orders_find_client(&s.orders, record.account, record.client_order_id) != NULL:
        return MB_DUPLICATE_CLIENT_ORDER_ID
    if market.live_orders >= market.definition.max_orders or s.orders.first_free == 0:
        return MB_TOO_MANY_ORDERS
    return MB_NONE


cdef uint16_t _decide_change(sequencer* s, mb_record* record) noexcept nogil:
    """CANCEL_ORDER and AMEND_ORDER: find the order, by its id or by its client order id, if it is the account's."""
    cdef live_order* order
    cdef market_state* market
    cdef uint16_t reason
    if record.order_id:
        order = orders_find(&s.orders, record.order_id)
        if order != NULL and record.client_order_id[0] and memcmp(record.client_order_id, order.client_order_id, 36):
            order = NULL
    elif record.client_order_id[0]:
        order = orders_find_client(&s.orders, record.account, record.client_order_id)
    else:
        order = NULL
    # "Not yours" and "not there" look the same.
    if order == NULL or order.account != record.account or (record.market and record.market != order.market):
        return MB_UNKNOWN_ORDER
    market = &s.markets[order.market]
    record.market = order.market
    reason = validate_command(record, NULL, &market.definition, False)
    if reason != MB_NONE:
        return reason
    record.order_id = order.order_id
    record.side = order.side
    return MB_NONE


cdef bint _printable(const char* text, int size, int minimum) noexcept nogil:
    """`minimum` or more printable ASCII characters, then only zero bytes."""
    cdef int i, length = 0
    while length < size and text[length] != 0:
        if not 0x21 <= <uint8_t>text[length] <= 0x7E:
            return False
        length += 1
    for i in range(length, size):
        if text[i] != 0:
            return False
    return length >= minimum


cdef uint16_t _decide_definition(sequencer* s, mb_record* record) noexcept nogil:
    cdef mb_named_record* named = <mb_named_record*>record
    cdef mb_market_record* market = <mb_market_record*>record
    cdef uint16_t reason
    if record.kind == MB_ADD_ASSET:
        if not _printable(named.name, MB_NAME_BYTES, 1) or named.scale > 18 or named.id == 0:
            return MB_BAD_DEFINITION
        if named.id > s.max_assets:
            return MB_TOO_MANY_OBJECTS
        return MB_ALREADY_EXISTS if s.asset_scales[named.id] else MB_NONE
    if record.kind == MB_ADD_ACCOUNT:
        if not _printable(named.name, MB_NAME_BYTES, 1) or named.account == 0:
            return MB_BAD_DEFINITION
        if named.account > s.max_accounts:
            return MB_TOO_MANY_OBJECTS
        return MB_ALREADY_EXISTS if _account_exists(s, named.account) else MB_NONE
    reason = instrument_check(market)
    if reason != MB_NONE:
        return reason
    if not _printable(market.symbol, MB_SYMBOL_BYTES - 1, 1):
        return MB_BAD_DEFINITION
    if market.market > s.max_markets:
        return MB_TOO_MANY_OBJECTS
    if s.markets[market.market].exists:
        return MB_ALREADY_EXISTS
    if market.base_asset > s.max_assets or market.quote_asset > s.max_assets \
            or not s.asset_scales[market.base_asset] or not s.asset_scales[market.quote_asset]:
        return MB_BAD_DEFINITION
    return instrument_check_scales(market, s.asset_scales[market.base_asset] - 1,
                                   s.asset_scales[market.quote_asset] - 1)


cdef uint32_t _session_named(const sequencer* s, const char* name) noexcept nogil:
    """The number of the session with this name, or 0."""
    cdef uint32_t number
    for number in range(1, s.sessions_count + 1):
        if memcmp(s.sessions[number].name, name, MB_NAME_BYTES) == 0:
            return number
    return 0


cdef uint16_t _decide_attach(sequencer* s, mb_named_record* record) noexcept nogil:
    cdef uint32_t number
    if not _printable(record.name, MB_NAME_BYTES, 1) or record.slot >= s.slots:
        return MB_BAD_DEFINITION
    if record.account != 0 and not _account_exists(s, record.account):
        return MB_UNKNOWN_ACCOUNT
    number = _session_named(s, record.name)
    if number == 0:
        if s.sessions_count >= s.max_sessions:
            return MB_TOO_MANY_OBJECTS
        number = s.sessions_count + 1
    elif s.sessions[number].attached:
        return MB_ALREADY_EXISTS
    record.id = number
    record.position = s.sessions[number].position
    return MB_NONE


cdef uint16_t _decide(sequencer* s, const session_state* session, mb_record* record) noexcept nogil:
    """The reject code of a record, 0 to accept; stamps account, market, order id, side and session numbers."""
    cdef mb_named_record* named = <mb_named_record*>record
    cdef uint16_t reason
    if record.kind in (MB_NEW_ORDER, MB_CANCEL_ORDER, MB_AMEND_ORDER):
        if not session.capabilities & MB_CAN_TRADE:
            return MB_NOT_PERMITTED
        reason = _decide_account(s, session, record)
        if reason != MB_NONE:
            return reason
        return _decide_new(s, record) if record.kind == MB_NEW_ORDER else _decide_change(s, record)
    if record.kind == MB_SUBSCRIBE or record.kind == MB_UNSUBSCRIBE:
        return _decide_account(s, session, record)
    if record.kind == MB_LOGOUT:
        return MB_NONE
    if MB_ADD_ASSET <= record.kind <= MB_DETACH_SESSION:
        if not session.capabilities & MB_CAN_OPERATE:
            return MB_NOT_PERMITTED
        if record.kind == MB_ATTACH_SESSION:
            return _decide_attach(s, named)
        if record.kind == MB_DETACH_SESSION:
            if named.id == 0 or named.id > s.sessions_count or not s.sessions[named.id].attached:
                return MB_UNKNOWN_SESSION
            named.position = s.sessions[named.id].position
            return MB_NONE
        return _decide_definition(s, record)
    record.kind = MB_INVALID
    return MB_UNKNOWN_KIND


# ---- applying: an accepted record changes the state ------------------------------------------------------

cdef void _detach(sequencer* s, uint32_t number) noexcept nogil:
    cdef session_slot* slot = &s.slot_table[s.sessions[number].slot]
    s.sessions[number].attached = 0
    if slot.state == SLOT_LIVE and slot.session == number:
        slot.state = SLOT_OPEN
        slot.session = 0


cdef void _attach(sequencer* s, const mb_named_record* record) noexcept nogil:
    cdef session_state* session = &s.sessions[record.id]
    cdef session_slot* slot = &s.slot_table[record.slot]
    if record.id > s.sessions_count:
        s.sessions_count = record.id
        memcpy(session.name, record.name, MB_NAME_BYTES)
    session.account = record.account
    session.capabilities = record.capabilities
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


cdef void _apply(sequencer* s, const mb_record* record) noexcept nogil:
    cdef const mb_named_record* named = <const mb_named_record*>record
    cdef const mb_market_record* definition = <const mb_market_record*>record
    cdef live_order* order
    cdef uint32_t number
    if record.kind == MB_NEW_ORDER:
        order = orders_add(&s.orders, record.sequence, record.account, record.client_order_id, True)
        order.market = record.market
        order.session = record.session
        order.side = record.side
        order.price_ticks = record.price_ticks
        order.quantity_lots = record.quantity_lots
        order.leaves_lots = record.quantity_lots
        order.cumulative_lots = 0
        s.markets[record.market].live_orders += 1
    elif record.kind == MB_ADD_ASSET:
        s.asset_scales[named.id] = named.scale + 1
    elif record.kind == MB_ADD_ACCOUNT:
        s.account_bits[named.account >> 6] |= <uint64_t>1 << (named.account & 63)
    elif record.kind == MB_ADD_MARKET:
        instrument_from_record(&s.markets[definition.market].definition, definition)
        s.markets[definition.market].exists = 1
    elif record.kind == MB_ATTACH_SESSION:
        _attach(s, named)
    elif record.kind == MB_DETACH_SESSION:
        _detach(s, named.id)
    elif record.kind == MB_LOGOUT:
        _detach(s, record.session)
    elif record.kind == MB_START:
        for number in range(1, s.sessions_count + 1):
            _detach(s, number)


# ---- writing the log -------------------------------------------------------------------------------------

cdef inline uint64_t _room(sequencer* s) noexcept nogil:
    """Records that fit the log, the ledger's ring (each may be refused) and the memory of unsettled records."""
    cdef uint64_t room = mb_producer_free(&s.log, s.filled + 1)
    cdef uint64_t ledger = mb_producer_free(&s.ledger, s.ledger_filled + 1)
    cdef uint64_t unsettled = s.log.mask + 1 - (s.log.position - s.settled)
    if ledger - s.ledger_filled < room - s.filled:
        room = ledger - s.ledger_filled + s.filled
    return (room if room < unsettled else unsettled) - s.filled


cdef inline uint8_t _source_of(const sequencer* s, const mb_record* record) noexcept nogil:
    if record.reject == 0 and MB_NEW_ORDER <= record.kind <= MB_AMEND_ORDER:
        return s.markets[record.market].source
    return NO_SOURCE


cdef void _refuse(sequencer* s, const mb_record* record) noexcept nogil:
    """The ledger's own event: every consumer finds refusals in the event stream, whoever decided them."""
    cdef mb_event* event = <mb_event*>mb_producer_slot(&s.ledger, s.ledger_filled)
    mb_clear_record(event)
    event.sequence = record.sequence
    event.kind = MB_REJECTED
    event.flags = MB_LAST
    event.reason = record.reject
    if MB_NEW_ORDER <= record.kind <= MB_AMEND_ORDER:
        event.order_id = record.sequence if record.kind == MB_NEW_ORDER else record.order_id
        event.market = record.market
        event.account = record.account
        event.side = record.side
        event.price_ticks = record.price_ticks
        event.quantity_lots = record.quantity_lots
    s.ledger_filled += 1


cdef inline void _stamp(sequencer* s, mb_record* record, uint64_t now) noexcept nogil:
    record.sequence = s.log.position + s.filled + 1
    record.timestamp_ns = now
    record.settled_lag = <uint32_t>(record.sequence - s.settled)
    record.settled_index = s.settled_index


cdef void _sequence(sequencer* s, mb_record* record, uint32_t number, uint64_t now) noexcept nogil:
    """Decide the record, which is a copy of a command in its log slot, and make it the next entry of the log."""
    cdef session_state* session = &s.sessions[number]
    cdef mb_named_record* named = <mb_named_record*>record
    _stamp(s, record, now)
    session.position += 1
    record.session_position = session.position
    record.session = number
    if MB_NEW_ORDER <= record.kind <= MB_AMEND_ORDER:
        # What is the engine's to fill in; `reserved` is left to the checks.
        record.hold = -1 if record.kind == MB_AMEND_ORDER else 0
        if record.kind == MB_NEW_ORDER:
            # Fee rates; it has no terms record.
            record.order_id &= <uint64_t>0x00FFFFFF00000000
    else:
        record.reserved = 0
    record.reject = _decide(s, session, record)
    if record.reject == MB_NONE and record.kind == MB_ATTACH_SESSION and s.slot_table[named.slot].state != SLOT_OPEN:
        record.reject = MB_BAD_DEFINITION
    s.concerns[(record.sequence - 1) & s.log.mask] = _source_of(s, record)
    if record.reject == MB_NONE:
        s.accepted += 1
        _apply(s, record)
    else:
        s.refused += 1
        _refuse(s, record)
    s.filled += 1


cdef void _engine_record(sequencer* s, mb_record* record, uint64_t now) noexcept nogil:
    """The same for a record of the engine itself; `record` is its log slot, filled but for the stamps."""
    _stamp(s, record, now)
    s.concerns[(record.sequence - 1) & s.log.mask] = NO_SOURCE
    _apply(s, record)
    s.filled += 1


cdef void _publish(sequencer* s) noexcept nogil:
    cdef uint32_t i
    cdef session_slot* slot
    # Refusals first: whoever sees a refused record in the log finds its event.
    if s.ledger_filled:
        mb_publish(&s.ledger, s.ledger_filled)
        s.ledger_filled = 0
    if s.filled:
        mb_publish(&s.log, s.filled)
        s.filled = 0
    for i in range(s.slots):
        slot = &s.slot_table[i]
        if slot.touched:
            slot.touched = 0
            if slot.state == SLOT_LIVE:
                mb_store_release(&slot.commands.readers[0].value, s.sessions[slot.session].position)
                mb_wake(&slot.commands.producer_waiting.waiting)


# ---- rounds ----------------------------------------------------------------------------------------------

cdef inline uint64_t _now(sequencer* s) noexcept nogil:
    """Sequenced time, never before the last one. Outside the deterministic part: the log carries it from here."""
    cdef timespec clock
    cdef uint64_t now = s.manual_clock_ns
    if now == 0:
        clock_gettime(CLOCK_REALTIME, &clock)
        now = <uint64_t>clock.tv_sec * 1000000000 + <uint64_t>clock.tv_nsec
    if now > s.last_timestamp_ns:
        s.last_timestamp_ns = now
    return s.last_timestamp_ns


cdef uint16_t _note(sequencer* s, session_slot* slot) noexcept nogil:
    """Read what the bot wrote, once, and check it. Returns a reason to detach the session, or 0."""
    cdef uint64_t taken = s.sessions[slot.session].position
    cdef uint64_t produced = mb_load_acquire(&slot.commands.producer.value)
    cdef uint64_t read = mb_load_acquire(&slot.commands.readers[1].value)
    cdef uint64_t reports = mb_load_acquire(&slot.reports.producer.value)
    cdef uint64_t unanswered, free_reports
    cdef uint64_t asked = mb_load_relaxed(&slot.reports.detach.value)
    slot.allowed = 0
    if asked:
        return <uint16_t>asked
    # Unsigned differences: a position that moved backwards, too far forwards or by 2^63 is out of range.
    if produced - taken > slot.command_mask + 1 or produced - slot.noted > slot.command_mask + 1:
        return MB_PROTOCOL_VIOLATION
    if read - slot.reports_read > reports - slot.reports_read:
        return MB_PROTOCOL_VIOLATION
    slot.noted = produced
    slot.reports_read = read
    if produced == taken:
        return MB_NONE
    # A command is taken only if its reply fits: half of the free report slots are kept for what it did not ask for.
    free_reports = (slot.report_capacity - (reports - read)) // 2
    unanswered = taken - mb_load_relaxed(&slot.reports.answered.value)
    if free_reports > unanswered:
        slot.allowed = free_reports - unanswered
    return MB_NONE


cdef bint _detach_now(sequencer* s, uint32_t number, uint16_t reason) noexcept nogil:
    """Log the detachment of a session by the engine; False if the log is full."""
    cdef mb_named_record* record
    if _room(s) == 0:
        return False
    record = <mb_named_record*>mb_producer_slot(&s.log, s.filled)
    mb_clear_record(record)
    record.kind = MB_DETACH_SESSION
    record.id = number
    record.position = s.sessions[number].position
    record.reason = reason
    memcpy(record.name, s.sessions[number].name, MB_NAME_BYTES)
    _engine_record(s, <mb_record*>record, _now(s))
    return True


cdef int64_t _take(sequencer* s, session_slot* slot, uint64_t limit, uint64_t now) noexcept nogil:
    """Take up to `limit` noted commands of one session. Returns how many."""
    cdef uint32_t number = slot.session
    cdef int64_t taken = 0
    cdef uint64_t position
    cdef mb_record* record
    while <uint64_t>taken < limit and slot.state == SLOT_LIVE and slot.session == number:
        position = s.sessions[number].position
        if position == slot.noted or _room(s) == 0:
            break
        record = <mb_record*>mb_producer_slot(&s.log, s.filled)
        mb_copy_record(record, slot.command_slots + (position & slot.command_mask) * sizeof(mb_record))
        if record.kind == MB_DETACH_SESSION and not _drain(s, <mb_named_record*>record, number, now):
            break
        slot.touched = 1
        _sequence(s, <mb_record*>mb_producer_slot(&s.log, s.filled), number, now)
        taken += 1
    return taken


cdef bint _drain(sequencer* s, mb_named_record* request, uint32_t by, uint64_t now) noexcept nogil:
    """Before a session is detached, what it had committed to its ring is taken. False: not all fits the log now.

    `request` is a copy in the next log slot, which the drained commands use first; it is restored after them.
    """
    cdef mb_named_record copy
    cdef session_slot* slot
    cdef session_state* session
    if request.id == 0 or request.id > s.sessions_count or request.id == by:
        return True
    session = &s.sessions[request.id]
    if not session.attached or not s.sessions[by].capabilities & MB_CAN_OPERATE:
        return True
    slot = &s.slot_table[session.slot]
    if slot.state != SLOT_LIVE or slot.session != request.id or _note(s, slot) != MB_NONE:
        return True
    mb_copy_record(&copy, request)
    # A dying session's own commands cannot ask to detach others, or this would nest.
    while slot.state == SLOT_LIVE and session.position != slot.noted:
        if _room(s) < 2:
            return False
        mb_copy_record(mb_producer_slot(&s.log, s.filled),
                       slot.command_slots + (session.position & slot.command_mask) * sizeof(mb_record))
        slot.touched = 1
        _sequence(s, <mb_record*>mb_producer_slot(&s.log, s.filled), copy.id, now)
    mb_copy_record(mb_producer_slot(&s.log, s.filled), &copy)
    return True


cdef int64_t _round(void* state) noexcept nogil:
    cdef sequencer* s = <sequencer*>state
    cdef session_slot* slot
    cdef uint32_t i, place
    cdef uint64_t now
    cdef uint16_t reason
    cdef int64_t work, took
    cdef bint waiting = False
    if s.stage != RUNNING:
        return 0 if s.stage == REPLAYING else _settle(s, <uint64_t>-1, 0, SETTLE_BUDGET)
    if not s.round_open:
        for i in range(s.slots):
            slot = &s.slot_table[i]
            if slot.state == SLOT_LIVE:
                reason = _note(s, slot)
                if reason != MB_NONE:
                    slot.allowed = 0
                    slot.noted = s.sessions[slot.session].position
                    _detach_now(s, slot.session, reason)
                elif slot.allowed:
                    waiting = True
        s.round_open = 1 if waiting else 0
    work = _settle(s, <uint64_t>-1, 0, SETTLE_BUDGET)
    if work == SETTLE_BUDGET:
        if s.filled:
            _publish(s)
        return work
    if s.round_open:
        s.round_open = 0
        s.rounds += 1
        now = _now(s)
        for i in range(s.slots):
            place = (s.first_slot + i) % s.slots
            slot = &s.slot_table[place]
            if slot.state == SLOT_LIVE and slot.allowed:
                took = _take(s, slot, slot.allowed if slot.allowed < s.batch else s.batch, now)
                work += took
        s.first_slot = (s.first_slot + 1) % s.slots
    if s.filled:
        work += 1
        _publish(s)
    return work


cdef class Sequencer(Agent):
    """The sequencer of an exchange.

    log            the log ring; the sequencer is its producer
    ledger         event ring of source 0
    events         the matchers' event rings; this agent is gating reader `reader_index` of each
    slots          sessions that can be attached at once
    max_*          sizes of the tables, fixed at start
    seed           of hashes of client order ids (speed only)
    manual_clock   stamp `clock_ns` instead of the real time (tests)

    All methods are called by the thread that polls, or while nothing polls.
    """

    def __cinit__(self, Ring log not None, Ring ledger not None, list events not None, *, uint32_t reader_index=0,
                  uint32_t slots=64, uint32_t max_sessions=4096, uint32_t max_accounts=65536,
                  uint32_t max_markets=1024, uint32_t max_assets=1024, uint32_t max_orders=65536,
                  uint32_t batch=256, uint64_t seed=0):
        cdef sequencer* s = &self.state
        cdef Ring ring
        cdef uint32_t i
        if len(events) > MAX_SOURCES:
            raise BadArgument(f"too many matchers: matchers={len(events)}, maximum={MAX_SOURCES}")
        self.name = "sequencer"
        self._kept = [log, ledger, events, [None] * slots]
        mb_producer_attach(&s.log, log.ring)
        mb_producer_attach(&s.ledger, ledger.ring)
        for i in range(len(events)):
            ring = events[i]
            mb_reader_attach(&s.events[i], ring.ring, reader_index)
        s.event_rings = len(events)
        s.slots, s.batch = slots, batch
        s.max_sessions, s.max_accounts = max_sessions, max_accounts
        s.max_markets, s.max_assets = max_markets, max_assets
        s.settled = s.log.position
        s.concerns = <uint8_t*>calloc(s.log.mask + 1, 1)
        s.account_bits = <uint64_t*>calloc(max_accounts // 64 + 1, 8)
        s.asset_scales = <uint8_t*>calloc(max_assets + 1, 1)
        s.markets = <market_state*>calloc(max_markets + 1, sizeof(market_state))
        s.sessions = <session_state*>calloc(max_sessions + 1, sizeof(session_state))
        s.slot_table = <session_slot*>calloc(slots, sizeof(session_slot))
        if not (s.concerns and s.account_bits and s.asset_scales and s.markets and s.sessions and s.slot_table):
            raise MemoryError(f"sequencer: accounts={max_accounts}, sessions={max_sessions}, markets={max_markets}")
        orders_allocate(&s.orders, max_orders, seed)
        self.c_agent.poll = _round
        self.c_agent.state = s

    def __dealloc__(self):
        cdef sequencer* s = &self.state
        free(s.concerns)
        free(s.account_bits)
        free(s.asset_scales)
        free(s.markets)
        free(s.sessions)
        free(s.slot_table)
        orders_free(&s.orders)

    def place_market(self, uint32_t market, uint32_t matcher):
        """Say which matcher (from 0) handles a market; before the market is added."""
        if market == 0 or market > self.state.max_markets or matcher >= self.state.event_rings:
            raise BadArgument(
                f"no such place: market={market}, maximum={self.state.max_markets}, "
                f"matcher={matcher}, matchers={self.state.event_rings}"
            )
        self.state.markets[market].source = <uint8_t>matcher

    # -- sessions' memory

    def open_session(self, uint32_t slot, Ring commands not None, Ring reports not None):
        """Make a session's two rings known; an ATTACH_SESSION record for this slot brings it to life."""
        cdef session_slot* place = self._slot(slot)
        if place.state != SLOT_FREE:
            raise BadArgument(f"session slot is in use: slot={slot}")
        memset(place, 0, sizeof(session_slot))
        place.commands = commands.ring
        place.command_slots = <uint8_t*>commands.ring + MB_RING_SLOTS_OFFSET
        place.command_mask = commands.ring.header.capacity - 1
        place.reports = reports.ring
        place.report_capacity = reports.ring.header.capacity
        place.state = SLOT_OPEN
        self._kept[3][slot] = (commands, reports)

    def close_session(self, uint32_t slot):
        """Forget a slot's memory. Raises BadArgument while a session is attached to it."""
        cdef session_slot* place = self._slot(slot)
        if place.state == SLOT_LIVE:
            raise BadArgument(f"a session is attached: slot={slot}, session={place.session}")
        place.state = SLOT_FREE
        self._kept[3][slot] = None

    cdef session_slot* _slot(self, uint32_t slot) except NULL:
        if slot >= self.state.slots:
            raise BadArgument(f"no such session slot: slot={slot}, slots={self.state.slots}")
        return &self.state.slot_table[slot]

    # -- starting, stopping, replaying

    def replay(self, records):
        """Publish journaled records again, as far as the log ring and the matchers' events allow now.

        records: LOG_RECORD array that goes on where the log ends. Returns how many were published; call again
        with the rest after the other agents have polled. Raises JournalError where the journal and this engine
        disagree about a decision.
        """
        if records.dtype != LOG_RECORD:
            raise BadArgument(f"records must have dtype LOG_RECORD: dtype={records.dtype}")
        if self.state.stage != REPLAYING:
            raise BadArgument("replay after start")
        cdef sequencer* s = &self.state
        cdef const uint8_t[::1] view = np.ascontiguousarray(records).view(np.uint8).reshape(-1)
        cdef Py_ssize_t done = 0, count = len(records)
        cdef const mb_record* given
        cdef mb_record* record
        cdef int wrong = 0
        with nogil:
            while done < count:
                given = <const mb_record*>&view[done * sizeof(mb_record)]
                if given.sequence != s.log.position + s.filled + 1:
                    wrong = 1
                    break
                if _room(s) == 0 or not _settled_to(s, given):
                    break
                record = <mb_record*>mb_producer_slot(&s.log, s.filled)
                mb_copy_record(record, given)
                wrong = _replay_one(s, record)
                if wrong:
                    break
                done += 1
            _publish(s)
        if wrong == 1:
            raise JournalError(f"records do not go on where the log ends: sequence={records[done]['sequence']}, "
                               f"expected={s.log.position + 1}")
        if wrong:
            raise JournalError(
                f"replay differs from the journal at sequence {records[done]['sequence']}: "
                f"journal: {describe(records[done]['reject'])}, engine: {describe(wrong - 2)}"
            )
        self.replayed = s.log.position
        return done

    def settle(self):
        """Settle the events that are there (recovery, when no command comes); returns how many steps it did."""
        return _settle(&self.state, <uint64_t>-1, 0, SETTLE_BUDGET)

    def start(self, uint64_t epoch):
        """Begin an epoch: log START, which detaches every earlier session, and take commands from now on."""
        self._write_mark(MB_START, epoch)
        self.state.stage = RUNNING

    def attach_operator(self, uint32_t slot=0, str name="operator", uint32_t capabilities=7):
        """Attach the appliance's own session to an open slot, without an operator to ask for it."""
        cdef mb_named_record* record = <mb_named_record*>mb_producer_slot(&self.state.log, 0)
        if _room(&self.state) == 0:
            raise BadArgument("the log is full")
        memset(record, 0, sizeof(mb_named_record))
        text = name.encode()[:36]
        memcpy(record.name, <const char*>text, len(text))
        record.kind = MB_ATTACH_SESSION
        record.slot = slot
        record.capabilities = <uint8_t>capabilities
        reason = _decide_attach(&self.state, record)
        if reason:
            raise BadArgument(f"cannot attach the operator's session: {describe(reason)}")
        _engine_record(&self.state, <mb_record*>record, _now(&self.state))
        _publish(&self.state)
        return record.id

    def stop(self, uint64_t epoch):
        """Log STOP, the mark of a clean end, and take no more commands. Raises BadArgument while the log is full."""
        self.state.stage = STOPPED
        self._write_mark(MB_STOP, epoch)

    cdef _write_mark(self, uint8_t kind, uint64_t epoch):
        cdef mb_named_record* record = <mb_named_record*>mb_producer_slot(&self.state.log, 0)
        if _room(&self.state) == 0:
            raise BadArgument("the log is full")
        memset(record, 0, sizeof(mb_named_record))
        record.kind = kind
        record.epoch = epoch
        record.reason = MB_ENGINE_STOPPED
        _engine_record(&self.state, <mb_record*>record, _now(&self.state))
        _publish(&self.state)

    # -- looking

    @property
    def position(self):
        """Sequence of the last published record."""
        return self.state.log.position

    @property
    def settled(self):
        """Last log record all of whose events are settled."""
        return self.state.settled

    @property
    def counters(self):
        """Records accepted and refused, rounds that took commands, live orders, sessions known."""
        return {
            "accepted": self.state.accepted,
            "refused": self.state.refused,
            "rounds": self.state.rounds,
            "live_orders": self.state.orders.count,
            "sessions": self.state.sessions_count,
        }

    @property
    def clock_ns(self):
        return self.state.last_timestamp_ns

    @clock_ns.setter
    def clock_ns(self, uint64_t value):
        """Stamp this instead of the real time from now on (tests)."""
        self.state.manual_clock_ns = value

    def sessions(self):
        """What the log says of every session: number, name, account, capabilities, attached, position."""
        cdef uint32_t number
        cdef session_state* session
        out = []
        for number in range(1, self.state.sessions_count + 1):
            session = &self.state.sessions[number]
            out.append({
                "session": number,
                "name": bytes(session.name[:MB_NAME_BYTES]).rstrip(b"\0").decode(),
                "account": session.account,
                "capabilities": session.capabilities,
                "attached": bool(session.attached),
                "slot": session.slot,
                "position": session.position,
            })
        return out

    def state_hash(self):
        """64 bits over definitions, sessions and live orders; equal wherever the same log was settled as far."""
        cdef sequencer* s = &self.state
        cdef uint64_t h = index_mix(s.settled)
        cdef uint64_t total = 0
        cdef uint32_t i
        cdef live_order* order
        for i in range(s.orders.capacity):
            order = &s.orders.slab[i]
            if order.order_id:
                # A sum: the table has no order of its own.
                total += index_mix(index_mix(order.order_id) ^ index_mix(<uint64_t>order.leaves_lots)
                                   ^ (<uint64_t>order.price_ticks << 8) ^ order.account)
        h = index_mix(h ^ total)
        for i in range(1, s.sessions_count + 1):
            h = index_mix(h ^ s.sessions[i].position ^ (<uint64_t>s.sessions[i].attached << 63))
        for i in range(s.max_markets + 1):
            if s.markets[i].exists:
                h = index_mix(h ^ i ^ (<uint64_t>s.markets[i].live_orders << 32))
        return h


cdef bint _settled_to(sequencer* s, const mb_record* record) noexcept nogil:
    """Settle exactly as far as the sequencer had when it decided this record."""
    cdef uint64_t settled = record.sequence - record.settled_lag
    if s.settled < settled or (s.settled == settled and s.settled_index < record.settled_index):
        # What is filled has to be out before its events can come in.
        if s.filled:
            _publish(s)
        _settle(s, settled, record.settled_index, 1 << 30)
    return s.settled == settled and s.settled_index == record.settled_index


cdef int _replay_one(sequencer* s, mb_record* record) noexcept nogil:
    """Apply a journaled record, after checking that we would decide the same. 0, or 2 + our reject code."""
    cdef mb_record copy
    cdef uint16_t reason
    s.last_timestamp_ns = record.timestamp_ns
    s.concerns[(record.sequence - 1) & s.log.mask] = _source_of(s, record)
    if record.session == 0:
        _apply(s, record)
        s.filled += 1
        return 0
    s.sessions[record.session].position = record.session_position
    mb_copy_record(&copy, record)
    reason = _decide(s, &s.sessions[record.session], &copy)
    # An attachment can also be refused because its memory is not there, which no log can say.
    if reason != record.reject and not (record.kind == MB_ATTACH_SESSION and record.reject == MB_BAD_DEFINITION):
        return 2 + reason
    if record.reject == MB_NONE:
        _apply(s, record)
    else:
        _refuse(s, record)
    s.filled += 1
    return 0
