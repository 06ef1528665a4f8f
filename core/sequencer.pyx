"""The sequencer: turns what sessions send into one totally ordered log.

A round, in this order (DESIGN: a client that acts on a report it has seen finds its consequences settled):

    1. note the position of every command ring, and check what the bots wrote there;
    2. settle all events published so far, in the merged order (log sequence, index);
    3. detach the sessions that broke the protocol or whose reports did not fit;
    4. log a TICK if something is due, and the cancels that stand in line;
    5. take commands up to the noted positions, round-robin, at most `batch` of a session, only as many as
       their replies fit; each becomes exactly one log record, accepted or refused; those that go together (groups.pxd)
       are decided together;
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
from libc.string cimport memcpy, memset

import numpy as np

from matchbox.core.agent cimport Agent, MB_SEQUENCING, mb_in_hand, mb_take_in_hand, mb_take_poison
from matchbox.core.ahead cimport AHEAD_ENTRY, AHEAD_ORDER, fetch_ahead
from matchbox.core.bits cimport mb_clear_record, mb_copy_record, mb_unlikely
from matchbox.core.debug cimport MB_DEBUG
from matchbox.core.decisions cimport decide_attach
from matchbox.core.groups cimport group_of_commands, may_lead, sequence_group, sequence_release
from matchbox.core.invariants cimport (
    CHAIN, CONSERVED, COUNTS, HELD, HOLD, PAIR, UNCHECKED, sequencer_broken, sequencer_verify,
)
from matchbox.core.ledger cimport (
    account_state, balance, fee_rates, ledger_account, ledger_create, ledger_destroy, ledger_find, ledger_rates,
    volume_row,
)
from matchbox.core.line cimport next_in_line
from matchbox.core.orders cimport live_order, orders_allocate, orders_free
from matchbox.core.replaying cimport (
    CUT, NOT_ITS_TURN, NOT_NEXT, OTHER, OTHER_STAMPS, replay_records,
)
from matchbox.core.sequencer_state cimport (
    MAX_COUNTDOWNS, MAX_SOURCES, PENDING, REPLAYING, RUNNING, SLOT_FREE, SLOT_LIVE, SLOT_OPEN, STOPPED, cancel_in_line,
    market_state, money_of, order_money, sequencer, session_slot, session_state,
)
from matchbox.core.sequencer_view cimport view_hash, view_orders, view_sessions
from matchbox.core.sequencing cimport (
    GROUP_MAX, engine_record, log_room, publish_log, sequence_poisoned, sequence_record, sequenced_now, settle,
)
from matchbox.core.arena cimport arena_map, arena_unmap
from matchbox.core.timers cimport timers_create, timers_destroy
from matchbox.shm.records cimport *
from matchbox.shm.ring cimport *

from matchbox.core.sequencer_view import OPEN_ORDER  # no-cython-lint: given on
from matchbox.shm.errors import BadArgument, JournalError
from matchbox.shm.reasons import describe
from matchbox.shm.records import LOG_RECORD

cdef enum:
    SETTLE_BUDGET = 2048    # events settled in one poll, at most

_DIFFERENCES = {
    NOT_ITS_TURN: "the exchange itself would log another record here",
    OTHER_STAMPS: "hold, price bound, fee rates or numbers differ",
    CUT: "the records that belong to it are missing",
}

_BROKEN = {
    CONSERVED: "an asset is not conserved, or a balance is below 0",
    HOLD: "an order holds other than it needs",
    PAIR: "a pair of orders is none",
    CHAIN: "the orders of an account are not in one chain, oldest first",
    COUNTS: "live orders are miscounted, of a market or all (0)",
    UNCHECKED: "no memory to check with",
}


def difference(int wrong, record, uint64_t position):
    """What is wrong with a record that was to be replayed, in words; `position`: of the log before it."""
    if wrong == NOT_NEXT:
        return f"records do not go on where the log ends: sequence={record['sequence']}, expected={position + 1}"
    why = (f"journal: {describe(record['reject'])}, engine: {describe(wrong - OTHER)}" if wrong >= OTHER
           else _DIFFERENCES[wrong])
    return f"replay differs from the journal at sequence {record['sequence']}: {why}"


# ---- rounds ----------------------------------------------------------------------------------------------

cdef uint16_t _note(sequencer* s, session_slot* slot) noexcept nogil:
    """Read what the bot wrote, once, and check it. Returns a reason to detach the session, or 0."""
    cdef uint64_t taken = s.sessions[slot.session].position
    cdef uint64_t produced = mb_load_acquire(&slot.commands.producer.value)
    cdef uint64_t read = mb_load_acquire(&slot.commands.readers[1].value)
    cdef uint64_t reports, held, answered, unanswered, free_reports
    cdef uint64_t asked = mb_load_relaxed(&slot.reports.detach.value)
    slot.allowed = 0
    if asked:
        return <uint16_t>asked
    # In the opposite order of the publisher's stores, so that no report is missed: at worst one counts twice.
    answered = mb_load_acquire(&slot.reports.answered.value)
    held = mb_load_acquire(&slot.reports.answered.held)
    reports = mb_load_acquire(&slot.reports.producer.value)
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
    # Reports that are held back take room as those that were not read.
    held += reports - read
    free_reports = (slot.report_capacity - held) // 2 if held < slot.report_capacity else 0
    unanswered = taken - answered
    if free_reports > unanswered:
        slot.allowed = free_reports - unanswered
    return MB_NONE


cdef bint _detach_now(sequencer* s, uint32_t number, uint16_t reason) noexcept nogil:
    """Log the detachment of a session by the engine; False if the log is full."""
    cdef mb_named_record* record
    if log_room(s) == 0:
        return False
    record = <mb_named_record*>mb_producer_slot(&s.log, s.filled)
    mb_clear_record(record)
    record.kind = MB_DETACH_SESSION
    record.id = number
    record.position = s.sessions[number].position
    record.reason = reason
    memcpy(record.name, s.sessions[number].name, MB_NAME_BYTES)
    engine_record(s, <mb_record*>record, sequenced_now(s))
    return True


cdef bint _own_records(sequencer* s, uint64_t now) noexcept nogil:
    """Log what the exchange itself has to do before any client's command. False: not all of it fits the log now."""
    cdef mb_record* record
    cdef live_order* order
    cdef uint16_t reason = MB_NONE
    if now >= s.due.next_ns:
        if log_room(s) == 0:
            return False
        record = <mb_record*>mb_producer_slot(&s.log, s.filled)
        mb_clear_record(record)
        record.kind = MB_TICK
        engine_record(s, record, now)
    order = next_in_line(s, &reason)
    while order != NULL:
        if log_room(s) < (1 if reason else GROUP_MAX):
            return False
        if mb_unlikely(reason == MB_NONE):
            s.line_first += 1
            sequence_release(s, order, now)
            order = next_in_line(s, &reason)
            continue
        record = <mb_record*>mb_producer_slot(&s.log, s.filled)
        mb_clear_record(record)
        record.kind = MB_CANCEL_ORDER
        record.order_id = order.order_id
        record.account = order.account
        record.market = order.market
        record.side = order.side
        record.cancel_reason = reason
        if mb_unlikely(money_of(s, order).role == PENDING):
            record.flags = MB_OF_PENDING
        engine_record(s, record, now)
        order = next_in_line(s, &reason)
    return True


cdef int _take_group(sequencer* s, session_slot* slot, uint32_t number, uint64_t now) noexcept nogil:
    """Take the next command, which is in its log slot, and those that go with it; 0 if none does."""
    cdef uint64_t position = s.sessions[number].position
    cdef uint32_t ready = <uint32_t>min(slot.noted - position, <uint64_t>GROUP_MAX), i
    cdef mb_record* records[GROUP_MAX]
    for i in range(ready):
        records[i] = <mb_record*>mb_producer_slot(&s.log, s.filled + i)
        if i:
            mb_copy_record(records[i], slot.command_slots + ((position + i) & slot.command_mask) * sizeof(mb_record))
    i = group_of_commands(records, ready)
    if i == 1:
        return 0
    slot.touched = 1
    sequence_group(s, records, i, number, now)
    return i


cdef int _refuse_group(sequencer* s, session_slot* slot, uint32_t number, uint64_t now) noexcept nogil:
    """Refuse the next command, and those that go with it, unseen. There is room for them."""
    cdef uint64_t position = s.sessions[number].position
    cdef uint32_t ready = <uint32_t>min(slot.noted - position, <uint64_t>GROUP_MAX), i, count = 1
    cdef mb_record* records[GROUP_MAX]
    for i in range(ready):
        records[i] = <mb_record*>mb_producer_slot(&s.log, s.filled + i)
        mb_copy_record(records[i], slot.command_slots + ((position + i) & slot.command_mask) * sizeof(mb_record))
    if may_lead(records[0]):
        count = group_of_commands(records, ready)
    slot.touched = 1
    for i in range(count):
        sequence_poisoned(s, records[i], number, now)
    return count


cdef int _take_one(sequencer* s, session_slot* slot, uint32_t number, bint nested, uint64_t now) noexcept nogil:
    """Take the session's next command, which is noted, with those that go together with it. Returns how many it took, 0
    if the log has no room. nested: it is drained by another's request.
    """
    cdef uint64_t position = s.sessions[number].position
    cdef mb_record* record
    cdef int took
    if not _own_records(s, now) or log_room(s) < GROUP_MAX:
        return 0
    if mb_unlikely(number == s.refused_session and position + 1 == s.refused_position):
        return _refuse_group(s, slot, number, now)
    s.hand.task, s.hand.session = MB_SEQUENCING, number
    mb_take_in_hand(s.hand, position + 1)
    record = <mb_record*>mb_producer_slot(&s.log, s.filled)
    mb_copy_record(record, slot.command_slots + (position & slot.command_mask) * sizeof(mb_record))
    if record.kind == MB_DETACH_SESSION and not nested:
        if not _drain(s, <mb_named_record*>record, number, now):
            return 0
        record = <mb_record*>mb_producer_slot(&s.log, s.filled)
        mb_take_in_hand(s.hand, position + 1)
    elif mb_unlikely(may_lead(record)):
        took = _take_group(s, slot, number, now)
        if took:
            return took
    mb_take_poison(&s.poison, record.quantity_lots)
    slot.touched = 1
    sequence_record(s, record, number, now)
    return 1


cdef inline void _ahead(const sequencer* s, const session_slot* slot, uint64_t position) noexcept nogil:
    """Fetch what coming commands will touch, by what stands in the ring now. It need not be true, and is not kept: a
    wrong guess costs time and nothing else.
    """
    cdef const mb_record* far = <const mb_record*>(
        slot.command_slots + ((position + AHEAD_ENTRY) & slot.command_mask) * sizeof(mb_record))
    cdef const mb_record* near = <const mb_record*>(
        slot.command_slots + ((position + AHEAD_ORDER) & slot.command_mask) * sizeof(mb_record))
    fetch_ahead(s, far, near)


cdef int64_t _take(sequencer* s, session_slot* slot, uint64_t limit, uint64_t now) noexcept nogil:
    """Take up to `limit` noted commands of one session. Returns how many."""
    cdef uint32_t number = slot.session
    cdef int64_t taken = 0
    cdef int took
    while <uint64_t>taken + GROUP_MAX <= limit or taken == 0:
        if slot.state != SLOT_LIVE or slot.session != number or s.sessions[number].position == slot.noted:
            break
        _ahead(s, slot, s.sessions[number].position)
        took = _take_one(s, slot, number, False, now)
        if took == 0:
            break
        taken += took
    mb_take_in_hand(s.hand, 0)
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
    if not _own_records(s, now) or log_room(s) == 0:
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
    return s.line_first != s.line_end or (s.due.next_ns != <uint64_t>-1 and sequenced_now(s) >= s.due.next_ns)


cdef int64_t _round(void* state) noexcept nogil:
    cdef sequencer* s = <sequencer*>state
    cdef session_slot* slot
    cdef uint32_t i, place
    cdef uint64_t now
    cdef int64_t work
    if s.stage != RUNNING:
        return 0 if s.stage == REPLAYING else settle(s, <uint64_t>-1, 0, SETTLE_BUDGET)
    if not s.round_open:
        s.round_open = 1 if _look_at_sessions(s) or _has_own_work(s) else 0
    work = settle(s, <uint64_t>-1, 0, SETTLE_BUDGET)
    if work == SETTLE_BUDGET:
        if s.filled:
            publish_log(s)
        return work
    if s.round_open:
        s.round_open = 0
        s.rounds += 1
        now = sequenced_now(s)
        if _own_records(s, now):
            for i in range(s.slots):
                place = (s.first_slot + i) % s.slots
                slot = &s.slot_table[place]
                if slot.state == SLOT_LIVE and slot.allowed:
                    work += _take(s, slot, slot.allowed if slot.allowed < s.batch else s.batch, now)
            s.first_slot = (s.first_slot + 1) % s.slots
    if s.filled:
        work += 1
        publish_log(s)
    if MB_DEBUG and work:
        sequencer_verify(s)
    return work


cdef int64_t sequencer_due_in(sequencer* s) noexcept nogil:
    """Nanoseconds until something is due, 0 if it is; INT64_MAX if nothing will be."""
    cdef uint64_t now
    if s.stage != RUNNING or s.due.next_ns == <uint64_t>-1:
        return 0x7FFFFFFFFFFFFFFF
    now = sequenced_now(s)
    return 0 if now >= s.due.next_ns else <int64_t>(s.due.next_ns - now)


cdef class Sequencer(Agent):
    """The sequencer of an exchange.

    log            the log ring; the sequencer is its producer
    ledger         event ring of source 0
    events         the matchers' event rings; this agent is gating reader `reader_index` of each
    slots          sessions that can be attached at once
    max_*          sizes of the tables, fixed at start (max_balances: of all accounts; 0: four each)
    seed           of hashes of client order ids (speed only)
    journaled      a journaler makes the log durable; without one, who wants to wait for that is refused
    manual_clock   stamp `clock_ns` instead of the real time (tests)

    All methods are called by the thread that polls, or while nothing polls.
    """

    def __cinit__(self, Ring log not None, Ring ledger not None, list events not None, *, uint32_t reader_index=0,
                  uint32_t slots=64, uint32_t max_sessions=4096, uint32_t max_accounts=65536,
                  uint32_t max_markets=1024, uint32_t max_assets=1024, uint32_t max_orders=65536,
                  uint64_t max_balances=0, uint32_t max_references=65536, uint32_t batch=256, uint64_t seed=0,
                  bint journaled=False):
        cdef sequencer* s = &self.state
        cdef Ring ring
        cdef uint32_t i
        if len(events) > MAX_SOURCES:
            raise BadArgument(f"too many matchers: matchers={len(events)}, maximum={MAX_SOURCES}")
        self.name = "sequencer"
        self.show_hand(&self.hand, None)
        self._kept = [log, ledger, events, [None] * slots]
        mb_producer_attach(&s.log, log.ring)
        mb_producer_attach(&s.events_out, ledger.ring)
        for i in range(len(events)):
            ring = events[i]
            mb_reader_attach(&s.events[i], ring.ring, reader_index)
        s.event_rings = len(events)
        s.slots, s.batch, s.journaled = slots, batch, journaled
        s.max_sessions, s.max_markets = max_sessions, max_markets
        s.settled = s.log.position
        s.concerns = <uint8_t*>calloc(s.log.mask + 1, 1)
        s.markets = <market_state*>calloc(max_markets + 1, sizeof(market_state))
        s.sessions = <session_state*>calloc(max_sessions + 1, sizeof(session_state))
        s.slot_table = <session_slot*>calloc(slots, sizeof(session_slot))
        if not (s.concerns and s.markets and s.sessions and s.slot_table):
            raise MemoryError(f"sequencer: accounts={max_accounts}, sessions={max_sessions}, markets={max_markets}")
        # Of each market, one order that another has replaced can be there besides, see decide_room().
        orders_allocate(&s.orders, max_orders + max_markets, seed)
        ledger_create(&s.books, max_accounts, max_assets, max_balances or 4 * (<uint64_t>max_accounts + 16),
                      max_references)
        timers_create(&s.due, s.orders.capacity, MAX_COUNTDOWNS)
        s.line_mask = 1
        while s.line_mask < 2 * <uint64_t>s.orders.capacity + 1:
            s.line_mask *= 2
        s.line = <cancel_in_line*>arena_map(s.line_mask * sizeof(cancel_in_line))
        s.line_mask -= 1
        s.money = <order_money*>arena_map((<size_t>s.orders.capacity + 1) * sizeof(order_money))
        self.c_agent.poll = _round
        self.c_agent.state = s

    cdef void show_hand(self, mb_in_hand* hand, object board):
        self._board = board
        self.state.hand = hand

    def poison(self, int64_t lots):
        """For drills, as of a matcher; before the order is in the log."""
        self.state.poison.lots = lots

    def refuse(self, uint32_t session, uint64_t position):
        """Refuse a command to come, and those that go with it, as POISONED, without a look at it."""
        self.state.refused_session, self.state.refused_position = session, position

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

    def place_market(self, uint32_t market, uint32_t matcher, uint32_t max_orders, uint32_t max_specials):
        """Say which matcher (from 0) has set memory aside for a market, and for how many open and special orders.

        An ADD_MARKET without is refused; one that is replayed has to wait. Raises BadArgument, also if all markets
        together have more orders than there is room for.
        """
        cdef market_state* place
        # One a market is for orders that another has replaced (decide_room).
        cdef uint32_t room = self.state.orders.capacity - self.state.max_markets
        if market == 0 or market > self.state.max_markets or matcher >= self.state.event_rings:
            raise BadArgument(
                f"no such place: market={market}, maximum={self.state.max_markets}, "
                f"matcher={matcher}, matchers={self.state.event_rings}"
            )
        place = &self.state.markets[market]
        if place.prepared:
            raise BadArgument(f"this market is placed already: market={market}")
        if max_orders > room - self.state.prepared_orders:
            raise BadArgument(
                f"no room for so many open orders: max_orders={max_orders}, "
                f"free={room - self.state.prepared_orders}, limit={room}"
            )
        place.source = <uint8_t>matcher
        place.prepared, place.prepared_specials = max_orders, max_specials
        self.state.prepared_orders += max_orders

    def take_market(self, uint32_t market):
        """The memory of a market that was not added is used otherwise. Raises BadArgument while the market is open."""
        if market == 0 or market > self.state.max_markets:
            return
        if self.state.markets[market].exists:
            raise BadArgument(f"this market is open: market={market}")
        self.state.prepared_orders -= self.state.markets[market].prepared
        self.state.markets[market].prepared = 0

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

        records: LOG_RECORD array that goes on where the log ends, and does not end between records that go together.
        Returns how many were published; call again with the rest after the other agents have polled. Stops before a
        market is added that no memory was set aside for; wanted_market says which. Raises JournalError where the
        journal and this engine disagree about a decision.
        """
        if records.dtype != LOG_RECORD:
            raise BadArgument(f"records must have dtype LOG_RECORD: dtype={records.dtype}")
        if self.state.stage != REPLAYING:
            raise BadArgument("replay after start")
        cdef sequencer* s = &self.state
        cdef const uint8_t[::1] view = np.ascontiguousarray(records).view(np.uint8).reshape(-1)
        cdef uint64_t done, count = len(records)
        cdef uint32_t at = 0  # which of a group's records
        cdef int wrong = 0
        if count == 0:
            return 0
        with nogil:
            done = replay_records(s, <const mb_record*>&view[0], count, count, True, &wrong, &at)
        if wrong:
            raise JournalError(difference(wrong, records[done + at], s.log.position))
        self.replayed = s.log.position
        return done

    @property
    def wanted_market(self):
        """The market that the next record of the journal adds, and that waits for its memory; 0: none."""
        return self.state.wanted

    def settle(self):
        """Settle the events that are there (recovery, when no command comes); returns how many steps it did."""
        return settle(&self.state, <uint64_t>-1, 0, SETTLE_BUDGET)

    def start(self, uint64_t epoch):
        """Begin an epoch: log START, which detaches every earlier session, and take commands from now on."""
        self._write_mark(MB_START, epoch)
        self.state.stage = RUNNING

    def attach_operator(self, uint32_t slot=0, str name="operator", uint32_t capabilities=7, uint32_t user=0):
        """Attach the appliance's own session to an open slot, without an operator to ask for it."""
        cdef mb_named_record* record = <mb_named_record*>mb_producer_slot(&self.state.log, 0)
        if log_room(&self.state) == 0:
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
        engine_record(&self.state, <mb_record*>record, sequenced_now(&self.state))
        publish_log(&self.state)
        return record.id

    # -- taking over, see succession.pxd

    def adopt_session(self, uint32_t slot, Ring commands not None, Ring reports not None, uint32_t session):
        """Make a session's living rings known; `session`: which is attached there, 0 = none yet, or none any more."""
        cdef session_slot* place
        cdef uint64_t read, produced
        self.open_session(slot, commands, reports)
        if session == 0:
            return
        place = self._slot(slot)
        place.session = session
        # What the dead engine had taken and not logged was not taken.
        place.noted = self.state.sessions[session].position
        produced = mb_load_acquire(&reports.ring.producer.value)
        read = mb_load_acquire(&commands.ring.readers[1].value)
        # The bot's own word: one that cannot be true is found out by the first look at it.
        place.reports_read = read if produced - read <= place.report_capacity else produced
        place.state = SLOT_LIVE
        mb_store_release(&commands.ring.readers[0].value, place.noted)
        mb_wake(&commands.ring.producer_waiting.waiting)

    def take_over(self, uint64_t epoch):
        """Go on as the sequencer of an engine that is dead: all of its log is replayed and settled.

        Sessions whose memory was not adopted are detached. Raises BadArgument while the log is full or not settled.
        """
        cdef sequencer* s = &self.state
        cdef session_state* session
        cdef uint32_t number
        lost = []
        if s.stage != REPLAYING or s.settled < s.log.position:
            raise BadArgument(f"taking over needs a log that is replayed and settled: settled={s.settled}, "
                              f"log={s.log.position}")
        for number in range(1, s.sessions_count + 1):
            session = &s.sessions[number]
            if session.attached and not (s.slot_table[session.slot].state == SLOT_LIVE
                                         and s.slot_table[session.slot].session == number):
                lost.append(number)
        if log_room(s) < 1 + <uint64_t>len(lost):
            raise BadArgument("the log is full")
        self._write_mark(MB_TAKE_OVER, epoch)
        for number in lost:
            _detach_now(s, number, MB_DISCONNECTED)
        publish_log(s)
        s.stage = RUNNING

    def stop(self, uint64_t epoch):
        """Log STOP, the mark of a clean end, and take no more commands. Raises BadArgument while the log is full."""
        self.state.stage = STOPPED
        self._write_mark(MB_STOP, epoch)

    cdef _write_mark(self, uint8_t kind, uint64_t epoch):
        cdef mb_named_record* record = <mb_named_record*>mb_producer_slot(&self.state.log, 0)
        if log_room(&self.state) == 0:
            raise BadArgument("the log is full")
        memset(record, 0, sizeof(mb_named_record))
        record.kind = kind
        record.epoch = epoch
        record.reason = MB_ENGINE_STOPPED
        engine_record(&self.state, <mb_record*>record, sequenced_now(&self.state))
        publish_log(&self.state)

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
        return view_sessions(&self.state)

    def state_hash(self):
        """64 bits over definitions, sessions, live orders and money; equal wherever the same log was settled as far."""
        return view_hash(&self.state)

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

    def fees(self, uint32_t account):
        """[(market, maker rate, taker rate)] of an account's orders now, in ppm; market 0: those without own rates."""
        cdef account_state* state = ledger_account(&self.state.books, account)
        cdef market_state* market
        cdef volume_row row
        cdef fee_rates rates
        cdef uint32_t number
        if state == NULL:
            return []
        # A look must not change the state, not even what it remembers of the last one.
        if state.volume:
            row = self.state.books.volumes[state.volume]
        rates = ledger_rates(&self.state.books, NULL, account, self.state.last_timestamp_ns)
        out = [(0, rates.maker_ppm, rates.taker_ppm)]
        for number in range(1, self.state.max_markets + 1):
            market = &self.state.markets[number]
            if market.exists and market.own_fees:
                rates = ledger_rates(&self.state.books, &market.fees, account, self.state.last_timestamp_ns)
                out.append((number, rates.maker_ppm, rates.taker_ppm))
        if state.volume:
            self.state.books.volumes[state.volume] = row
        return out

    def supply(self, uint16_t asset):
        """Deposits less withdrawals of an asset, in units."""
        return self.state.books.supply[asset] if asset <= self.state.books.max_assets else 0

    def assets(self):
        """[(asset, scale, supply)] of all that there are, by asset."""
        return [(asset, self.state.books.asset_scales[asset] - 1, self.state.books.supply[asset])
                for asset in range(1, self.state.books.max_assets + 1) if self.state.books.asset_scales[asset]]

    def markets(self):
        """What holds of each market now, as far as settled: a dict each, by number. Prices in ticks, 0: none."""
        cdef uint32_t number
        cdef const market_state* market
        out = []
        for number in range(1, self.state.max_markets + 1):
            market = &self.state.markets[number]
            if market.exists:
                out.append({
                    "market": number,
                    "state": market.definition.state,
                    "min_notional": market.definition.min_notional,
                    "last_price_ticks": market.last_price,
                    "band_up_bips": market.definition.band_up_bips,
                    "band_down_bips": market.definition.band_down_bips,
                    "protection_bips": market.definition.protection_bips,
                    "account_orders": market.definition.account_orders,
                    "live_orders": market.live_orders,
                    "max_orders": market.definition.max_orders,
                    "own_fees": bool(market.own_fees),
                })
        return out

    def open_orders(self, uint32_t account=0, uint32_t market=0):
        """The live orders as far as settled, oldest first: OPEN_ORDER array. 0: of all accounts, or of all markets."""
        return view_orders(&self.state, account, market)

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
