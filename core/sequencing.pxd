"""Sequencing: records are decided, stamped and put into the log, one after the other, and their events settled.

What is here is the same whether a round takes a command from a session's ring, the exchange logs something of its
own, or a journal is played again.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from matchbox.core.sequencer_state cimport NO_SOURCE, sequencer, session_state
from matchbox.shm.records cimport (
    MB_AMEND_ORDER, MB_CANCEL_WITHDRAWAL, MB_DEPOSIT, MB_NEW_ORDER, MB_SETTLE_WITHDRAWAL, MB_TRANSFER, mb_record,
    mb_terms_record,
)
from matchbox.shm.ring cimport mb_producer_free

# Settle in merged order up to the place given, as far as events are there, in at most `budget` steps. Returns how many
# steps it did.
cdef int64_t settle(sequencer* s, uint64_t to_settled, uint32_t to_index, int64_t budget) noexcept nogil

# Decide, and stamp the decision; a refused order has the price it came with and nothing held.
cdef void decide_record(sequencer* s, const session_state* session, mb_record* record,
                        const mb_terms_record* terms) noexcept nogil

# A decided record: do what it does, say what the ledger has to say of it.
cdef void conclude(sequencer* s, const mb_record* record, const mb_terms_record* terms) noexcept nogil

# Decide the record, which is a copy of a command in its log slot, and make it the next entry of the log.
cdef void sequence_record(sequencer* s, mb_record* record, uint32_t number, uint64_t now) noexcept nogil

# The same for ORDER_TERMS and its NEW_ORDER, copies in the next two log slots: decided together.
cdef void sequence_pair(sequencer* s, mb_terms_record* terms, mb_record* order, uint32_t number,
                        uint64_t now) noexcept nogil

# The same for a record of the engine itself; `record` is its log slot, filled but for the stamps.
cdef void engine_record(sequencer* s, mb_record* record, uint64_t now) noexcept nogil

# Make what was filled visible, the ledger's events first, and give the taken slots back.
cdef void publish_log(sequencer* s) noexcept nogil

# Sequenced time, never before the last one. Outside the deterministic part: the log carries it from here.
cdef uint64_t sequenced_now(sequencer* s) noexcept nogil


cdef inline uint64_t log_room(sequencer* s) noexcept nogil:
    """Records that fit the log, the ledger's ring (two events each at most) and the memory of unsettled records."""
    cdef uint64_t room = mb_producer_free(&s.log, s.filled + 2)
    cdef uint64_t events = mb_producer_free(&s.events_out, s.events_filled + 4)
    cdef uint64_t unsettled = s.log.mask + 1 - (s.log.position - s.settled)
    if (events - s.events_filled) // 2 < room - s.filled:
        room = (events - s.events_filled) // 2 + s.filled
    return (room if room < unsettled else unsettled) - s.filled


cdef inline uint8_t source_of(const sequencer* s, const mb_record* record) noexcept nogil:
    """The event ring that answers the record, or NO_SOURCE."""
    if record.reject == 0 and MB_NEW_ORDER <= record.kind <= MB_AMEND_ORDER:
        return s.markets[record.market].source
    return NO_SOURCE


cdef inline bint moves_money(const mb_record* record) noexcept nogil:
    return MB_TRANSFER <= record.kind <= MB_CANCEL_WITHDRAWAL or record.kind == MB_DEPOSIT \
        or record.kind == MB_SETTLE_WITHDRAWAL
