"""The sequencer: turns what sessions send into one totally ordered log.

A round, in this order (DESIGN: a client that acts on a report it has seen finds its consequences settled):

    1. note the position of every command ring, and check what the bots wrote there;
    2. settle all events published so far, in the merged order (log sequence, index);
    3. detach the sessions that broke the protocol or whose reports did not fit;
    4. log a TICK if something is due, and the cancels that stand in line;
    5. take commands up to the noted positions, round-robin, at most `batch` of a session, only as many as
       their replies fit; each becomes exactly one log record, accepted or refused;
    6. publish the log once, the refusals once, and give the taken slots back.

Invariants:
    - A command is copied out of shared memory before it is looked at; positions are read once and checked.
    - A command is given back to its ring only after its record is published.
    - Nothing here waits: a full log or ledger ring ends the round early and the next goes on.
    - What the log says of a session, an order or a market is state; which memory slot carries a session is not.
    - decide() reads only state and the record, so a replay decides the same; replay() checks that, stamps included.
    - What the exchange itself has to do (what is due, cancels in line) is logged before any client's command.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

import numpy as np

from matchbox.core.agent cimport Agent
from matchbox.core.bits cimport mb_clear_record, mb_copy_record, mb_prefetch
from matchbox.core.changes cimport apply_record, balance_events, next_in_line
from matchbox.core.decisions cimport decide, decide_attach
from matchbox.core.debug cimport MB_DEBUG, mb_broken
from matchbox.core.index cimport index_guess, index_mix, index_prefetch
from matchbox.core.invariants cimport (
    CHAIN, CONSERVED, COUNTS, HELD, HOLD, UNCHECKED, sequencer_broken,
)
from matchbox.core.ledger cimport (
    balance, ledger_account, ledger_create, ledger_destroy, ledger_find, ledger_hash, ledger_prefetch,
)
from matchbox.core.orders cimport live_order, orders_allocate, orders_find, orders_free
from matchbox.core.sequencer_state cimport (
    MAX_COUNTDOWNS, MAX_SOURCES, NO_SOURCE, REPLAYING, RUNNING, SLOT_FREE, SLOT_LIVE, SLOT_OPEN, STOPPED,
    cancel_in_line, market_state, order_money, sequencer, session_slot, session_state,
)
from matchbox.core.arena cimport arena_map, arena_unmap
from matchbox.core.settlement cimport settle_event
from matchbox.core.timers cimport timers_create, timers_destroy, timers_hash
from matchbox.core.validation cimport has_limit
from matchbox.shm.records cimport *
from matchbox.shm.ring cimport *

from matchbox.shm.errors import BadArgument, JournalError
from matchbox.shm.reasons import describe
from matchbox.shm.records import LOG_RECORD

cdef enum:
    SETTLE_BUDGET = 2048    # events settled in one poll, at most
    # How many commands ahead an order's place in the index and the account, and the order are fetched into the cache.
    AHEAD_ENTRY = 10
    AHEAD_ORDER = 5

cdef enum replay_difference:
    NOT_NEXT = 1
    NOT_ITS_TURN = 2
    OTHER_STAMPS = 3
    OTHER = 4               # and the code by which we would refuse

_DIFFERENCES = {
    NOT_ITS_TURN: "the exchange itself would log another record here",
    OTHER_STAMPS: "hold, price bound, fee rates or numbers differ",
}

_BROKEN = {
    CONSERVED: "an asset is not conserved, or a balance is below 0",
    HOLD: "an order holds other than it needs",
    CHAIN: "the orders of an account are not in one chain, oldest first",
    COUNTS: "live orders are miscounted, of a market or all (0)",
    UNCHECKED: "no memory to check with",
}

OPEN_ORDER = np.dtype([
    ("order_id", "<u8"), ("price_ticks", "<i8"), ("quantity_lots", "<i8"), ("leaves_lots", "<i8"),
    ("cumulative_lots", "<i8"), ("hold", "<i8"), ("account", "<u4"), ("market", "<u4"), ("session", "<u4"),
    ("side", "u1"), ("client_order_id", "S36"),
])


# ---- settling --------------------------------------------------------------------------------------------

cdef int64_t _settle(sequencer* s, uint64_t to_settled, uint32_t to_index, int64_t budget) noexcept nogil:
    """Settle in merged order up to the place given, as far as events are there. Returns how many steps it did."""
    cdef int64_t steps = 0
    cdef uint64_t published = s.log.position
    cdef uint8_t source
    cdef mb_reader* reader
    cdef const mb_event* event
    cdef const mb_record* cause
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
        # The record is still in its slot: _room() keeps the log from running past what is not settled.
        cause = <const mb_record*>(s.log.slots + (s.settled & s.log.mask) * sizeof(mb_record))
        settle_event(s, event, cause)
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


# ---- writing the log -------------------------------------------------------------------------------------

cdef inline uint64_t _room(sequencer* s) noexcept nogil:
    """Records that fit the log, the ledger's ring (two events each at most) and the memory of unsettled records."""
    cdef uint64_t room = mb_producer_free(&s.log, s.filled + 2)
    cdef uint64_t events = mb_producer_free(&s.events_out, s.events_filled + 4)
    cdef uint64_t unsettled = s.log.mask + 1 - (s.log.position - s.settled)
    if (events - s.events_filled) // 2 < room - s.filled:
        room = (events - s.events_filled) // 2 + s.filled
    return (room if room < unsettled else unsettled) - s.filled


cdef inline uint8_t _source_of(const sequencer* s, const mb_record* record) noexcept nogil:
    if record.reject == 0 and MB_NEW_ORDER <= record.kind <= MB_AMEND_ORDER:
        return s.markets[record.market].source
    return NO_SOURCE


cdef inline bint _moves_money(const mb_record* record) noexcept nogil:
    return MB_TRANSFER <= record.kind <= MB_CANCEL_WITHDRAWAL or record.kind == MB_DEPOSIT \
        or record.kind == MB_SETTLE_WITHDRAWAL


cdef void _say_refused(sequencer* s, const mb_record* record) noexcept nogil:
    """The ledger's own event: every consumer finds refusals in the event stream, whoever decided them."""
    cdef mb_event* event = <mb_event*>mb_producer_slot(&s.events_out, s.events_filled)
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
    s.events_filled += 1


cdef inline void _conclude(sequencer* s, const mb_record* record, const mb_terms_record* terms) noexcept nogil:
    """A decided record: do what it does, say what the ledger has to say of it."""
    s.concerns[(record.sequence - 1) & s.log.mask] = _source_of(s, record)
    if record.reject != MB_NONE:
        s.refused += 1
        _say_refused(s, record)
        return
    s.accepted += 1
    apply_record(s, record, terms)
    if _moves_money(record):
        s.events_filled += balance_events(
            s, record, <mb_event*>mb_producer_slot(&s.events_out, s.events_filled),
            <mb_event*>mb_producer_slot(&s.events_out, s.events_filled + 1),
        )


cdef inline void _stamp(sequencer* s, mb_record* record, uint64_t now) noexcept nogil:
    record.sequence = s.log.position + s.filled + 1
    record.timestamp_ns = now
    record.settled_lag = <uint32_t>(record.sequence - s.settled)
    record.settled_index = s.settled_index


cdef void _take_over_fields(mb_record* record, bint has_terms) noexcept nogil:
    """Clear what is the engine's to fill in; `reserved` of orders and money is left to the checks."""
    cdef mb_new_order* order = <mb_new_order*>record
    if record.kind == MB_NEW_ORDER:
        order.hold = 0
        order.maker_fee_ppm = order.taker_fee_ppm = 0
        order.has_terms = has_terms
    elif record.kind == MB_CANCEL_ORDER or record.kind == MB_AMEND_ORDER:
        record.hold = 0
    elif not _moves_money(record) and record.kind < MB_SET_ACCOUNT and record.kind != MB_MASS_CANCEL \
            and record.kind != MB_COUNTDOWN and record.kind != MB_ORDER_TERMS:
        record.reserved = 0


cdef void _decide_record(sequencer* s, const session_state* session, mb_record* record,
                         const mb_terms_record* terms) noexcept nogil:
    """Decide, and stamp the decision; a refused order has the price it came with and nothing held."""
    cdef mb_new_order* order = <mb_new_order*>record
    cdef int64_t price = record.price_ticks
    _take_over_fields(record, terms != NULL)
    record.reject = decide(s, session, record, terms)
    if record.reject != MB_NONE and record.kind == MB_NEW_ORDER:
        order.price_ticks, order.hold = price, 0
        order.maker_fee_ppm = order.taker_fee_ppm = 0


cdef void _sequence(sequencer* s, mb_record* record, uint32_t number, uint64_t now) noexcept nogil:
    """Decide the record, which is a copy of a command in its log slot, and make it the next entry of the log."""
    cdef session_state* session = &s.sessions[number]
    cdef mb_named_record* named = <mb_named_record*>record
    _stamp(s, record, now)
    session.position += 1
    record.session_position = session.position
    record.session = number
    _decide_record(s, session, record, NULL)
    if record.reject == MB_NONE and record.kind == MB_ATTACH_SESSION and s.slot_table[named.slot].state != SLOT_OPEN:
        record.reject = MB_BAD_DEFINITION
    _conclude(s, record, NULL)
    s.filled += 1


cdef void _sequence_pair(sequencer* s, mb_terms_record* terms, mb_record* order, uint32_t number,
                         uint64_t now) noexcept nogil:
    """ORDER_TERMS and its NEW_ORDER, copies in the next two log slots: decided together."""
    cdef session_state* session = &s.sessions[number]
    _stamp(s, <mb_record*>terms, now)
    order.timestamp_ns = now
    order.sequence = terms.sequence + 1
    order.settled_lag, order.settled_index = terms.settled_lag + 1, terms.settled_index
    terms.session_position = session.position + 1
    session.position += 2
    order.session_position = session.position
    order.session = terms.session = number
    _decide_record(s, session, order, terms)
    terms.reject = order.reject
    if terms.account == 0 and terms.reject != MB_NOT_PERMITTED:
        terms.account = session.account
    _conclude(s, <mb_record*>terms, NULL)
    _conclude(s, order, terms)
    s.filled += 2


cdef void _engine_record(sequencer* s, mb_record* record, uint64_t now) noexcept nogil:
    """The same for a record of the engine itself; `record` is its log slot, filled but for the stamps."""
    _stamp(s, record, now)
    s.concerns[(record.sequence - 1) & s.log.mask] = _source_of(s, record)
    apply_record(s, record, NULL)
    s.filled += 1


cdef void _publish(sequencer* s) noexcept nogil:
    cdef uint32_t i
    cdef session_slot* slot
    # The ledger's events first: whoever sees a record in the log finds what the ledger says of it.
    if s.events_filled:
        mb_publish(&s.events_out, s.events_filled)
        s.events_filled = 0
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


cdef bint _own_records(sequencer* s, uint64_t now) noexcept nogil:
    """Log what the exchange itself has to do before any client's command. False: not all of it fits the log now."""
    cdef mb_record* record
    cdef live_order* order
    cdef uint16_t reason = MB_NONE
    if now >= s.due.next_ns:
        if _room(s) == 0:
            return False
        record = <mb_record*>mb_producer_slot(&s.log, s.filled)
        mb_clear_record(record)
        record.kind = MB_TICK
        _engine_record(s, record, now)
    order = next_in_line(s, &reason)
    while order != NULL:
        if _room(s) == 0:
            return False
        record = <mb_record*>mb_producer_slot(&s.log, s.filled)
        mb_clear_record(record)
        record.kind = MB_CANCEL_ORDER
        record.order_id = order.order_id
        record.account = order.account
        record.market = order.market
        record.side = order.side
        record.cancel_reason = reason
        _engine_record(s, record, now)
        order = next_in_line(s, &reason)
    return True


cdef int _take_one(sequencer* s, session_slot* slot, uint32_t number, bint nested, uint64_t now) noexcept nogil:
    """Take the session's next command, which is noted; two records if it is an order with terms, which must have been
    published together. Returns how many it took, 0 if the log has no room. nested: it is drained by another's request.
    """
    cdef uint64_t position = s.sessions[number].position
    cdef mb_record* record = <mb_record*>mb_producer_slot(&s.log, s.filled)
    cdef mb_record* second
    if not _own_records(s, now) or _room(s) < 2:
        return 0
    record = <mb_record*>mb_producer_slot(&s.log, s.filled)
    mb_copy_record(record, slot.command_slots + (position & slot.command_mask) * sizeof(mb_record))
    if record.kind == MB_DETACH_SESSION and not nested:
        if not _drain(s, <mb_named_record*>record, number, now):
            return 0
        record = <mb_record*>mb_producer_slot(&s.log, s.filled)
    elif record.kind == MB_ORDER_TERMS:
        if position + 1 != slot.noted:
            second = <mb_record*>mb_producer_slot(&s.log, s.filled + 1)
            mb_copy_record(second, slot.command_slots + ((position + 1) & slot.command_mask) * sizeof(mb_record))
            if second.kind == MB_NEW_ORDER:
                slot.touched = 1
                _sequence_pair(s, <mb_terms_record*>record, second, number, now)
                return 2
    slot.touched = 1
    _sequence(s, record, number, now)
    return 1


cdef inline void _ahead(const sequencer* s, const session_slot* slot, uint64_t position) noexcept nogil:
    """Fetch what coming commands will touch, by what stands in the ring now. It need not be true, and is not kept: a
    wrong guess costs time and nothing else.
    """
    cdef const mb_record* far = <const mb_record*>(
        slot.command_slots + ((position + AHEAD_ENTRY) & slot.command_mask) * sizeof(mb_record))
    cdef const mb_record* near = <const mb_record*>(
        slot.command_slots + ((position + AHEAD_ORDER) & slot.command_mask) * sizeof(mb_record))
    cdef uint32_t place
    index_prefetch(&s.orders.by_id, far.order_id)
    # Where an order will stand whose record this becomes.
    index_prefetch(&s.orders.by_id, s.log.position + s.filled + 1 + AHEAD_ENTRY)
    ledger_prefetch(&s.books, far.account)
    place = index_guess(&s.orders.by_id, near.order_id)
    mb_prefetch(&s.orders.slab[place])
    mb_prefetch(<const char*>&s.orders.slab[place] + 64)
    mb_prefetch(&s.money[place])


cdef int64_t _take(sequencer* s, session_slot* slot, uint64_t limit, uint64_t now) noexcept nogil:
    """Take up to `limit` noted commands of one session. Returns how many."""
    cdef uint32_t number = slot.session
    cdef int64_t taken = 0
    cdef int took
    # An order with terms is two.
    while <uint64_t>taken + 1 < limit or taken == 0:
        if slot.state != SLOT_LIVE or slot.session != number or s.sessions[number].position == slot.noted:
            break
        _ahead(s, slot, s.sessions[number].position)
        took = _take_one(s, slot, number, False, now)
        if took == 0:
            break
        taken += took
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
    while slot.state == SLOT_LIVE and session.position != slot.noted:
        if _take_one(s, slot, copy.id, True, now) == 0:
            return False
    if not _own_records(s, now) or _room(s) == 0:
        return False
    mb_copy_record(mb_producer_slot(&s.log, s.filled), &copy)
    return True


cdef bint _look_at_sessions(sequencer* s) noexcept nogil:
    """Note what every session wrote, detach those that broke the protocol. Has any a command that can be taken?"""
    cdef session_slot* slot
    cdef uint32_t i
    cdef uint16_t reason
    cdef bint waiting = False
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
    return waiting


cdef inline bint _has_own_work(sequencer* s) noexcept nogil:
    """Is something due, or in line?"""
    return s.line_first != s.line_end or (s.due.next_ns != <uint64_t>-1 and _now(s) >= s.due.next_ns)


cdef int64_t _round(void* state) noexcept nogil:
    cdef sequencer* s = <sequencer*>state
    cdef session_slot* slot
    cdef uint32_t i, place
    cdef uint64_t now
    cdef int64_t work
    if s.stage != RUNNING:
        return 0 if s.stage == REPLAYING else _settle(s, <uint64_t>-1, 0, SETTLE_BUDGET)
    if not s.round_open:
        s.round_open = 1 if _look_at_sessions(s) or _has_own_work(s) else 0
    work = _settle(s, <uint64_t>-1, 0, SETTLE_BUDGET)
    if work == SETTLE_BUDGET:
        if s.filled:
            _publish(s)
        return work
    if s.round_open:
        s.round_open = 0
        s.rounds += 1
        now = _now(s)
        if _own_records(s, now):
            for i in range(s.slots):
                place = (s.first_slot + i) % s.slots
                slot = &s.slot_table[place]
                if slot.state == SLOT_LIVE and slot.allowed:
                    work += _take(s, slot, slot.allowed if slot.allowed < s.batch else s.batch, now)
            s.first_slot = (s.first_slot + 1) % s.slots
    if s.filled:
        work += 1
        _publish(s)
    if MB_DEBUG and work:
        _verify(s)
    return work


cdef int64_t sequencer_due_in(sequencer* s) noexcept nogil:
    """Nanoseconds until something is due, 0 if it is; INT64_MAX if nothing will be."""
    cdef uint64_t now
    if s.stage != RUNNING or s.due.next_ns == <uint64_t>-1:
        return 0x7FFFFFFFFFFFFFFF
    now = _now(s)
    return 0 if now >= s.due.next_ns else <int64_t>(s.due.next_ns - now)


cdef class Sequencer(Agent):
    """The sequencer of an exchange.

    log            the log ring; the sequencer is its producer
    ledger         event ring of source 0
    events         the matchers' event rings; this agent is gating reader `reader_index` of each
    slots          sessions that can be attached at once
    max_*          sizes of the tables, fixed at start (max_balances: of all accounts; 0: four each)
    seed           of hashes of client order ids (speed only)
    manual_clock   stamp `clock_ns` instead of the real time (tests)

    All methods are called by the thread that polls, or while nothing polls.
    """

    def __cinit__(self, Ring log not None, Ring ledger not None, list events not None, *, uint32_t reader_index=0,
                  uint32_t slots=64, uint32_t max_sessions=4096, uint32_t max_accounts=65536,
                  uint32_t max_markets=1024, uint32_t max_assets=1024, uint32_t max_orders=65536,
                  uint64_t max_balances=0, uint32_t max_references=65536, uint32_t batch=256, uint64_t seed=0):
        cdef sequencer* s = &self.state
        cdef Ring ring
        cdef uint32_t i
        if len(events) > MAX_SOURCES:
            raise BadArgument(f"too many matchers: matchers={len(events)}, maximum={MAX_SOURCES}")
        self.name = "sequencer"
        self._kept = [log, ledger, events, [None] * slots]
        mb_producer_attach(&s.log, log.ring)
        mb_producer_attach(&s.events_out, ledger.ring)
        for i in range(len(events)):
            ring = events[i]
            mb_reader_attach(&s.events[i], ring.ring, reader_index)
        s.event_rings = len(events)
        s.slots, s.batch = slots, batch
        s.max_sessions, s.max_markets = max_sessions, max_markets
        s.settled = s.log.position
        s.concerns = <uint8_t*>calloc(s.log.mask + 1, 1)
        s.markets = <market_state*>calloc(max_markets + 1, sizeof(market_state))
        s.sessions = <session_state*>calloc(max_sessions + 1, sizeof(session_state))
        s.slot_table = <session_slot*>calloc(slots, sizeof(session_slot))
        if not (s.concerns and s.markets and s.sessions and s.slot_table):
            raise MemoryError(f"sequencer: accounts={max_accounts}, sessions={max_sessions}, markets={max_markets}")
        orders_allocate(&s.orders, max_orders, seed)
        ledger_create(&s.books, max_accounts, max_assets, max_balances or 4 * (<uint64_t>max_accounts + 16),
                      max_references)
        timers_create(&s.due, max_orders, MAX_COUNTDOWNS)
        s.line_mask = 1
        while s.line_mask < <uint64_t>max_orders + 1:
            s.line_mask *= 2
        s.line = <cancel_in_line*>arena_map(s.line_mask * sizeof(cancel_in_line))
        s.line_mask -= 1
        s.money = <order_money*>arena_map((<size_t>max_orders + 1) * sizeof(order_money))
        self.c_agent.poll = _round
        self.c_agent.state = s

    def __dealloc__(self):
        cdef sequencer* s = &self.state
        free(s.concerns)
        free(s.markets)
        free(s.sessions)
        free(s.slot_table)
        arena_unmap(s.line, (s.line_mask + 1) * sizeof(cancel_in_line))
        arena_unmap(s.money, (<size_t>s.orders.capacity + 1) * sizeof(order_money))
        timers_destroy(&s.due)
        ledger_destroy(&s.books)
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
                    wrong = NOT_NEXT
                    break
                # Settling needs no room, and the matchers may wait for it to make some.
                if not _settled_to(s, given) or _room(s) == 0:
                    break
                record = <mb_record*>mb_producer_slot(&s.log, s.filled)
                mb_copy_record(record, given)
                wrong = _replay_one(s, record)
                if wrong:
                    break
                done += 1
                if MB_DEBUG:
                    _verify(s)
            _publish(s)
        if wrong == NOT_NEXT:
            raise JournalError(f"records do not go on where the log ends: sequence={records[done]['sequence']}, "
                               f"expected={s.log.position + 1}")
        if wrong:
            raise JournalError(
                f"replay differs from the journal at sequence {records[done]['sequence']}: "
                + (f"journal: {describe(records[done]['reject'])}, engine: {describe(wrong - OTHER)}"
                   if wrong >= OTHER else _DIFFERENCES[wrong])
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

    def attach_operator(self, uint32_t slot=0, str name="operator", uint32_t capabilities=7, uint32_t user=0):
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
        record.user = user
        reason = decide_attach(&self.state, record)
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
        """64 bits over definitions, sessions, live orders and money; equal wherever the same log was settled as far."""
        cdef sequencer* s = &self.state
        cdef uint64_t h = index_mix(s.settled ^ <uint64_t>s.settled_index << 48)
        cdef uint64_t total = 0, i
        cdef live_order* order
        cdef uint16_t reason = 0
        for i in range(s.orders.capacity):
            order = &s.orders.slab[i]
            if order.order_id:
                # A sum: the table has no order of its own.
                total += index_mix(index_mix(order.order_id) ^ index_mix(<uint64_t>order.leaves_lots)
                                   ^ index_mix(<uint64_t>s.money[i].hold) ^ (<uint64_t>order.price_ticks << 8)
                                   ^ order.account)
        h = index_mix(h ^ total)
        for i in range(1, s.sessions_count + 1):
            h = index_mix(h ^ s.sessions[i].position ^ (<uint64_t>s.sessions[i].attached << 63))
        for i in range(<uint64_t>s.max_markets + 1):
            if s.markets[i].exists:
                h = index_mix(h ^ i ^ (<uint64_t>s.markets[i].live_orders << 32)
                              ^ index_mix(<uint64_t>s.markets[i].last_price)
                              ^ <uint64_t>s.markets[i].definition.state << 56)
        # What has ended while it stood in line is no longer in it.
        next_in_line(s, &reason)
        for i in range(s.line_first, s.line_end):
            if orders_find(&s.orders, s.line[i & s.line_mask].order_id) != NULL:
                h = index_mix(h ^ s.line[i & s.line_mask].order_id)
        return index_mix(h ^ ledger_hash(&s.books) ^ timers_hash(&s.due))

    def balance(self, uint32_t account, uint16_t asset):
        """(free, held) in units; (0, 0) if the account never had any."""
        cdef const balance* of = &self.state.books.balances[ledger_find(&self.state.books, account, asset)]
        return of.free, of.held

    def balances(self, uint32_t account):
        """[(asset, free, held)] of an account, in units, by asset; those that are 0 are left out."""
        return [(asset, *self.balance(account, asset)) for asset in range(1, self.state.books.max_assets + 1)
                if self.state.books.asset_scales[asset] and any(self.balance(account, asset))]

    def account(self, uint32_t account):
        """What the ledger knows of an account, or None: state, tier as set, parent."""
        state = ledger_account(&self.state.books, account)
        return None if state == NULL else {"state": state.state, "tier": state.tier, "parent": state.parent}

    def supply(self, uint16_t asset):
        """Deposits less withdrawals of an asset, in units."""
        return self.state.books.supply[asset] if asset <= self.state.books.max_assets else 0

    def open_orders(self, uint32_t account=0, uint32_t market=0):
        """The live orders as far as settled, oldest first: OPEN_ORDER array. 0: of all accounts, or of all markets."""
        cdef sequencer* s = &self.state
        cdef live_order* order
        found = []
        for i in range(s.orders.capacity):
            order = &s.orders.slab[i]
            if order.order_id and account in (0, order.account) and market in (0, order.market):
                found.append((order.order_id, order.price_ticks, order.quantity_lots, order.leaves_lots,
                              order.cumulative_lots, s.money[i].hold, order.account, order.market, order.session,
                              order.side, bytes(order.client_order_id[:36])))
        return np.array(sorted(found), OPEN_ORDER)

    def check(self):
        """Raise AssertionError if an invariant of core/invariants.pxd does not hold, such as that money is conserved.

        Slow.
        """
        cdef uint64_t of = 0
        cdef int broken = sequencer_broken(&self.state, &of)
        cdef const balance* b
        if broken == HELD:
            b = &self.state.books.balances[of]
            raise AssertionError(f"held without a reason: account={b.account}, asset={b.asset}, held={b.held}")
        if broken:
            raise AssertionError(f"{_BROKEN[broken]}: {of}")


cdef void _verify(sequencer* s) noexcept nogil:
    """Debug builds, after whatever changed the state."""
    cdef uint64_t of = 0
    cdef int broken = sequencer_broken(s, &of)
    if broken:
        mb_broken("sequencer (core/invariants.pxd)", <uint32_t>broken, of, s.log.position + s.filled)


cdef bint _settled_to(sequencer* s, const mb_record* record) noexcept nogil:
    """Settle exactly as far as the sequencer had when it decided this record."""
    cdef uint64_t settled = record.sequence - record.settled_lag
    if s.settled < settled or (s.settled == settled and s.settled_index < record.settled_index):
        # What is filled has to be out before its events can come in.
        if s.filled:
            _publish(s)
        _settle(s, settled, record.settled_index, 1 << 30)
    return s.settled == settled and s.settled_index == record.settled_index


cdef bint _own_turn(sequencer* s, const mb_record* record) noexcept nogil:
    """Is it the turn of this record of the engine itself, or of a client's?"""
    cdef uint16_t reason = MB_NONE
    cdef live_order* order = next_in_line(s, &reason)
    if record.session == 0 and record.kind == MB_CANCEL_ORDER:
        return order != NULL and order.order_id == record.order_id and reason == record.cancel_reason
    if record.session == 0 and record.kind == MB_TICK:
        return record.timestamp_ns >= s.due.next_ns
    return record.session == 0 or order == NULL


cdef void _undo_stamps(mb_record* record) noexcept nogil:
    """Make an accepted record of the journal the command that it was, where decide() stamps over what was sent."""
    cdef mb_money_record* money = <mb_money_record*>record
    if record.reject != MB_NONE:
        return
    if record.kind == MB_NEW_ORDER and not has_limit(record.order_type):
        record.price_ticks = 0
    elif record.kind == MB_SETTLE_WITHDRAWAL or record.kind == MB_CANCEL_WITHDRAWAL:
        money.amount, money.asset = 0, 0


cdef int _replay_one(sequencer* s, mb_record* record) noexcept nogil:
    """Apply a journaled record, after checking that we would decide and stamp the same. 0, or what is wrong."""
    cdef mb_record copy
    cdef const mb_terms_record* terms = NULL
    if not _own_turn(s, record):
        return NOT_ITS_TURN
    s.last_timestamp_ns = record.timestamp_ns
    if record.session == 0:
        s.concerns[(record.sequence - 1) & s.log.mask] = _source_of(s, record)
        apply_record(s, record, NULL)
        s.filled += 1
        return 0
    s.sessions[record.session].position = record.session_position
    if record.kind == MB_ORDER_TERMS:
        # Decided with its order, which is the next record, unless there is none.
        mb_copy_record(&s.terms, record)
    else:
        if record.kind == MB_NEW_ORDER and (<mb_new_order*>record).has_terms:
            terms = &s.terms
        mb_copy_record(&copy, record)
        _undo_stamps(&copy)
        _decide_record(s, &s.sessions[record.session], &copy, terms)
        # An attachment can also be refused because its memory is not there, which no log can say.
        if not (record.kind == MB_ATTACH_SESSION and record.reject == MB_BAD_DEFINITION):
            if copy.reject != record.reject:
                return OTHER + copy.reject
            if memcmp(&copy, record, sizeof(mb_record)):
                return OTHER_STAMPS
    _conclude(s, record, terms)
    s.filled += 1
    return 0
