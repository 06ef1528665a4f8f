"""Replaying; see replaying.pxd."""

from libc.stdint cimport uint16_t, uint64_t
from libc.string cimport memcmp
from matchbox.core.bits cimport mb_copy_record
from matchbox.core.changes cimport apply_record
from matchbox.core.line cimport next_in_line
from matchbox.core.orders cimport live_order
from matchbox.core.sequencer_state cimport sequencer
from matchbox.core.sequencing cimport conclude, decide_record, publish_log, settle, source_of
from matchbox.core.validation cimport has_limit
from matchbox.shm.records cimport *


cdef bint settled_to(sequencer* s, const mb_record* record) noexcept nogil:
    cdef uint64_t settled = record.sequence - record.settled_lag
    if s.settled < settled or (s.settled == settled and s.settled_index < record.settled_index):
        # What is filled has to be out before its events can come in.
        if s.filled:
            publish_log(s)
        settle(s, settled, record.settled_index, 1 << 30)
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


cdef int replay_record(sequencer* s, mb_record* record) noexcept nogil:
    cdef mb_record copy
    cdef const mb_terms_record* terms = NULL
    if not _own_turn(s, record):
        return NOT_ITS_TURN
    s.last_timestamp_ns = record.timestamp_ns
    if record.session == 0:
        s.concerns[(record.sequence - 1) & s.log.mask] = source_of(s, record)
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
        decide_record(s, &s.sessions[record.session], &copy, terms)
        # An attachment can also be refused because its memory is not there, which no log can say.
        if not (record.kind == MB_ATTACH_SESSION and record.reject == MB_BAD_DEFINITION):
            if copy.reject != record.reject:
                return OTHER + copy.reject
            if memcmp(&copy, record, sizeof(mb_record)):
                return OTHER_STAMPS
    conclude(s, record, terms)
    s.filled += 1
    return 0
