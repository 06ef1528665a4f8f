"""Replaying; see replaying.pxd."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp
from matchbox.core.ahead cimport AHEAD_ENTRY, AHEAD_ORDER, fetch_ahead, fetch_client_id
from matchbox.core.bits cimport mb_copy_record, mb_unlikely
from matchbox.core.debug cimport MB_DEBUG
from matchbox.core.groups cimport conclude_group, conclude_release, decide_group, decide_release, group_of_log, may_lead
from matchbox.core.invariants cimport sequencer_verify
from matchbox.core.line cimport next_in_line
from matchbox.core.order_life cimport release_records
from matchbox.core.orders cimport live_order
from matchbox.core.sequencer_state cimport PENDING, money_of, sequencer
from matchbox.core.sequencing cimport (
    GROUP_MAX, conclude, decide_record, engine_applies, log_room, publish_log, settle, wants_memory,
)
from matchbox.core.validation cimport has_limit
from matchbox.shm.records cimport *
from matchbox.shm.ring cimport mb_producer_slot


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
        return order != NULL and order.order_id == record.order_id and reason == record.cancel_reason \
            and (record.flags == MB_OF_PENDING if money_of(s, order).role == PENDING else record.flags == 0)
    if record.session == 0 and record.kind == MB_RELEASE:
        return order != NULL and reason == MB_NONE
    if record.session == 0 and record.kind == MB_TICK:
        return record.timestamp_ns >= s.due.next_ns
    return record.session == 0 or order == NULL


cdef void _undo_stamps(mb_record* record) noexcept nogil:
    """Make an accepted record of the journal the command that it was, where decide() stamps over what was sent."""
    cdef mb_money_record* money = <mb_money_record*>record
    if record.reject != MB_NONE:
        return
    if mb_unlikely(record.reserved == MB_CUT and MB_NEW_ORDER <= record.kind <= MB_AMEND_ORDER):
        # It was decided like any other; the matcher will not see to it.
        record.reserved = 0
    if record.kind == MB_NEW_ORDER and not has_limit(record.order_type):
        record.price_ticks = 0
    elif mb_unlikely(record.kind == MB_CANCEL_ORDER and record.flags):
        record.flags &= ~MB_OF_PENDING
        record.quantity_lots = 0
    elif record.kind == MB_SETTLE_WITHDRAWAL or record.kind == MB_CANCEL_WITHDRAWAL:
        money.amount, money.asset = 0, 0


cdef inline void _cut_again(mb_record* copy, const mb_record* record) noexcept nogil:
    if MB_NEW_ORDER <= record.kind <= MB_AMEND_ORDER:
        copy.reserved = record.reserved


cdef inline mb_record* _fill(sequencer* s, const mb_record* given, uint32_t ahead) noexcept nogil:
    """A copy of a journaled record in its log slot."""
    cdef mb_record* record = <mb_record*>mb_producer_slot(&s.log, s.filled + ahead)
    mb_copy_record(record, given)
    return record


cdef int replay_record(sequencer* s, const mb_record* given) noexcept nogil:
    cdef mb_record copy
    cdef mb_record* record = _fill(s, given, 0)
    if not _own_turn(s, record):
        return NOT_ITS_TURN
    if mb_unlikely(record.reject == MB_NONE and may_lead(record)):
        return CUT
    s.last_timestamp_ns = record.timestamp_ns
    if record.session == 0:
        engine_applies(s, record)
        s.filled += 1
        return 0
    s.sessions[record.session].position = record.session_position
    if mb_unlikely(record.reject == MB_POISONED):
        conclude(s, record, NULL, NULL)
        s.filled += 1
        return 0
    mb_copy_record(&copy, record)
    _undo_stamps(&copy)
    decide_record(s, &s.sessions[record.session], &copy)
    # Some are also refused because their memory, or the journal, is not there, which no log can say.
    if not (record.kind == MB_ATTACH_SESSION and record.reject in (MB_BAD_DEFINITION, MB_NOT_JOURNALED)) and not (
            record.kind == MB_ADD_MARKET and record.reject == MB_NOT_PREPARED):
        if copy.reject != record.reject:
            return OTHER + copy.reject
        _cut_again(&copy, record)
        if memcmp(&copy, record, sizeof(mb_record)):
            return OTHER_STAMPS
    conclude(s, record, NULL, NULL)
    s.filled += 1
    return 0


# ---- groups ----------------------------------------------------------------------------------------------

cdef int _compare(mb_record* copies, mb_record** records, uint32_t count, uint32_t* at) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        at[0] = i
        if copies[i].reject != records[i].reject:
            return OTHER + copies[i].reject
    for i in range(count):
        at[0] = i
        if memcmp(&copies[i], records[i], sizeof(mb_record)):
            return OTHER_STAMPS
    return 0


cdef int _replay_release(sequencer* s, mb_record** records, uint32_t count, uint32_t* at) noexcept nogil:
    """What the pending orders are now must be what the journal says."""
    cdef mb_record copies[GROUP_MAX]
    cdef mb_record* made[GROUP_MAX]
    cdef uint32_t sessions[2]
    cdef uint16_t reason
    cdef uint32_t i
    cdef int wrong
    for i in range(GROUP_MAX):
        made[i] = &copies[i]
    if release_records(s, next_in_line(s, &reason), made) != count:
        return OTHER_STAMPS
    for i in range(count):
        copies[i].sequence, copies[i].timestamp_ns = records[0].sequence + i, records[0].timestamp_ns
        copies[i].settled_lag, copies[i].settled_index = records[0].settled_lag + i, records[0].settled_index
    s.line_first += 1
    decide_release(s, made, count, sessions)
    for i in range(count):
        _cut_again(&copies[i], records[i])
    wrong = _compare(copies, records, count, at)
    if wrong == 0:
        conclude_release(s, records, count, sessions)
    return wrong


cdef int replay_group(sequencer* s, mb_record** given, uint32_t count, uint32_t* at) noexcept nogil:
    cdef mb_record copies[GROUP_MAX]
    cdef mb_record* made[GROUP_MAX]
    cdef mb_record* records[GROUP_MAX]
    cdef uint32_t i
    cdef int wrong
    for i in range(count):
        records[i] = _fill(s, given[i], i)
    if not _own_turn(s, records[0]):
        return NOT_ITS_TURN
    s.last_timestamp_ns = records[0].timestamp_ns
    if records[0].session == 0:
        wrong = _replay_release(s, records, count, at)
    else:
        for i in range(count):
            made[i] = &copies[i]
            mb_copy_record(made[i], records[i])
            _undo_stamps(made[i])
            # Taken at once, as one: the numbers follow each other.
            copies[i].sequence, copies[i].timestamp_ns = records[0].sequence + i, records[0].timestamp_ns
            copies[i].settled_lag, copies[i].settled_index = records[0].settled_lag + i, records[0].settled_index
            copies[i].session, copies[i].session_position = records[0].session, records[0].session_position + i
        s.sessions[records[0].session].position = copies[count - 1].session_position
        decide_group(s, &s.sessions[records[0].session], made, count)
        for i in range(count):
            _cut_again(&copies[i], records[i])
        wrong = _compare(copies, records, count, at)
        if wrong == 0:
            conclude_group(s, records, count)
    s.filled += count
    return wrong


# ---- a log -----------------------------------------------------------------------------------------------

cdef uint64_t replay_records(sequencer* s, const mb_record* records, uint64_t count, uint64_t limit, bint beyond,
                             int* wrong, uint32_t* at) noexcept nogil:
    cdef uint64_t done = 0
    cdef mb_record* ahead[GROUP_MAX]
    cdef uint32_t left, together
    wrong[0] = at[0] = 0
    s.wanted = 0
    while done < limit:
        at[0] = 0
        left = <uint32_t>min(count - done, <uint64_t>GROUP_MAX)
        for together in range(left):
            ahead[together] = <mb_record*>&records[done + together]
        if ahead[0].sequence != s.log.position + s.filled + 1:
            wrong[0] = NOT_NEXT
            break
        if done + AHEAD_ENTRY < count:
            fetch_ahead(s, &records[done + AHEAD_ENTRY], &records[done + AHEAD_ORDER])
            fetch_client_id(s, &records[done + AHEAD_ENTRY])
        # Settling needs no room, and the matchers may wait for it to make some.
        if not settled_to(s, ahead[0]):
            break
        if wants_memory(s, ahead[0]):
            s.wanted = ahead[0].market
            break
        together = 1
        if mb_unlikely(may_lead(ahead[0])):
            together = group_of_log(ahead, left)
            if not beyond and together > limit - done:
                break
        # No more than they need: the exchange had that when it logged them, and others wait for these.
        if log_room(s) < together:
            break
        if together == 1:
            wrong[0] = replay_record(s, ahead[0])
        else:
            wrong[0] = replay_group(s, ahead, together, at)
        if wrong[0]:
            break
        done += together
        if MB_DEBUG:
            sequencer_verify(s)
    publish_log(s)
    return done
