"""Sequencing; what each function does is said in sequencing.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec
from matchbox.core.agent cimport MB_SETTLING, mb_take_in_hand
from matchbox.core.bits cimport mb_clear_record, mb_unlikely
from matchbox.core.changes cimport apply_record, balance_events
from matchbox.core.decisions cimport decide
from matchbox.core.instrument cimport instrument_specials
from matchbox.core.orders cimport live_order, orders_find
from matchbox.core.sequencer_state cimport NO_SOURCE, SLOT_LIVE, SLOT_OPEN, sequencer, session_slot, session_state
from matchbox.core.settlement cimport settle_event
from matchbox.shm.records cimport *
from matchbox.shm.ring cimport *


# ---- settling --------------------------------------------------------------------------------------------

cdef int64_t settle(sequencer* s, uint64_t to_settled, uint32_t to_index, int64_t budget) noexcept nogil:
    cdef int64_t steps = 0
    cdef uint64_t published = s.log.position
    cdef uint8_t source
    cdef mb_reader* reader
    cdef const mb_event* event
    cdef const mb_record* cause
    s.hand.task = MB_SETTLING
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
        # The record is still in its slot: log_room() keeps the log from running past what is not settled.
        cause = <const mb_record*>(s.log.slots + (s.settled & s.log.mask) * sizeof(mb_record))
        mb_take_in_hand(s.hand, s.settled + 1)
        settle_event(s, event, cause)
        if event.flags & MB_LAST:
            s.settled += 1
            s.settled_index = 0
        else:
            s.settled_index += 1
        mb_reader_advance(reader, 1)
        steps += 1
    mb_take_in_hand(s.hand, 0)
    if steps:
        for source in range(s.event_rings):
            mb_release(&s.events[source])
    return steps


# ---- writing the log -------------------------------------------------------------------------------------

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


cdef void _say_pending(sequencer* s, const mb_record* record) noexcept nogil:
    """ACCEPTED of a pending order; or CANCELED, before it is taken out."""
    cdef mb_event* event = <mb_event*>mb_producer_slot(&s.events_out, s.events_filled)
    cdef const live_order* order
    mb_clear_record(event)
    event.sequence = record.sequence
    event.market = record.market
    event.account = record.account
    event.side = record.side
    event.flags = MB_LAST | MB_PENDING
    if record.kind == MB_NEW_ORDER:
        event.kind = MB_ACCEPTED
        event.order_id = record.sequence
        event.price_ticks = record.price_ticks
        event.quantity_lots = event.leaves_lots = record.quantity_lots
    else:
        order = orders_find(&s.orders, record.order_id)
        event.kind = MB_CANCELED
        event.order_id = record.order_id
        event.reason = <uint16_t>record.cancel_reason
        event.price_ticks = order.price_ticks
        event.quantity_lots = order.leaves_lots
    s.events_filled += 1


cdef void conclude(sequencer* s, const mb_record* record, const mb_terms_record* terms,
                   const mb_record* head) noexcept nogil:
    s.concerns[(record.sequence - 1) & s.log.mask] = source_of(s, record)
    if record.reject != MB_NONE:
        s.refused += 1
        _say_refused(s, record)
        return
    s.accepted += 1
    if mb_unlikely(is_pending(record)):
        _say_pending(s, record)
    apply_record(s, record, terms, head)
    if moves_money(record):
        s.events_filled += balance_events(
            s, record, <mb_event*>mb_producer_slot(&s.events_out, s.events_filled),
            <mb_event*>mb_producer_slot(&s.events_out, s.events_filled + 1),
        )


cdef void stamp_record(sequencer* s, mb_record* record, uint64_t now, uint32_t ahead) noexcept nogil:
    record.sequence = s.log.position + s.filled + 1 + ahead
    record.timestamp_ns = now
    record.settled_lag = <uint32_t>(record.sequence - s.settled)
    record.settled_index = s.settled_index


cdef void clear_stamps(mb_record* record, uint8_t belongs) noexcept nogil:
    cdef mb_new_order* order = <mb_new_order*>record
    cdef mb_list_record* of_list = <mb_list_record*>record
    if record.kind == MB_NEW_ORDER:
        order.hold = 0
        order.maker_fee_ppm = order.taker_fee_ppm = 0
        order.has_terms = belongs
    elif record.kind == MB_CANCEL_ORDER or record.kind == MB_AMEND_ORDER:
        record.hold = 0
    elif record.kind == MB_ORDER_LIST:
        of_list.list_id = 0
        of_list.legs = 0
    elif not moves_money(record) and record.kind < MB_SET_ACCOUNT and record.kind != MB_MASS_CANCEL \
            and record.kind != MB_COUNTDOWN and record.kind != MB_ORDER_TERMS and record.kind != MB_ADD_MARKET:
        record.reserved = 0


cdef void decide_record(sequencer* s, const session_state* session, mb_record* record) noexcept nogil:
    cdef mb_new_order* order = <mb_new_order*>record
    cdef int64_t price = record.price_ticks
    clear_stamps(record, 0)
    record.reject = decide(s, session, record, NULL)
    if record.reject != MB_NONE and record.kind == MB_NEW_ORDER:
        order.price_ticks, order.hold = price, 0
        order.maker_fee_ppm = order.taker_fee_ppm = 0


cdef void sequence_record(sequencer* s, mb_record* record, uint32_t number, uint64_t now) noexcept nogil:
    cdef session_state* session = &s.sessions[number]
    cdef mb_named_record* named = <mb_named_record*>record
    stamp_record(s, record, now, 0)
    session.position += 1
    record.session_position = session.position
    record.session = number
    decide_record(s, session, record)
    if record.reject == MB_NONE and record.kind == MB_ATTACH_SESSION and s.slot_table[named.slot].state != SLOT_OPEN:
        record.reject = MB_BAD_DEFINITION
    elif record.reject == MB_NONE and record.kind == MB_ATTACH_SESSION and named.assurance > MB_MATCHED \
            and not s.journaled:
        record.reject = MB_NOT_JOURNALED
    if wants_memory(s, record):
        record.reject = MB_NOT_PREPARED
    conclude(s, record, NULL, NULL)
    s.filled += 1


cdef void sequence_poisoned(sequencer* s, mb_record* record, uint32_t number, uint64_t now) noexcept nogil:
    cdef session_state* session = &s.sessions[number]
    stamp_record(s, record, now, 0)
    session.position += 1
    record.session_position = session.position
    record.session = number
    clear_stamps(record, 0)
    record.reject = MB_POISONED
    if MB_NEW_ORDER <= record.kind <= MB_AMEND_ORDER and record.account == 0:
        record.account = session.account
    conclude(s, record, NULL, NULL)
    s.filled += 1


cdef bint wants_memory(const sequencer* s, const mb_record* record) noexcept nogil:
    cdef const mb_market_record* market = <const mb_market_record*>record
    return record.kind == MB_ADD_MARKET and record.reject == MB_NONE and (
        s.markets[record.market].prepared != market.max_orders
        or s.markets[record.market].prepared_specials != instrument_specials(market))


cdef void engine_record(sequencer* s, mb_record* record, uint64_t now) noexcept nogil:
    stamp_record(s, record, now, 0)
    engine_applies(s, record)
    s.filled += 1


cdef void engine_applies(sequencer* s, const mb_record* record) noexcept nogil:
    s.concerns[(record.sequence - 1) & s.log.mask] = source_of(s, record)
    if is_pending(record):
        _say_pending(s, record)
    apply_record(s, record, NULL, NULL)


cdef void publish_log(sequencer* s) noexcept nogil:
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


cdef uint64_t sequenced_now(sequencer* s) noexcept nogil:
    cdef timespec clock
    cdef uint64_t now = s.manual_clock_ns
    if now == 0:
        clock_gettime(CLOCK_REALTIME, &clock)
        now = <uint64_t>clock.tv_sec * 1000000000 + <uint64_t>clock.tv_nsec
    if now > s.last_timestamp_ns:
        s.last_timestamp_ns = now
    return s.last_timestamp_ns
