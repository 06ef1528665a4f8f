"""Sequencing: records are decided, stamped and put into the log, one after the other, and their events settled.

What is here is the same whether a round takes a command from a session's ring, the exchange logs something of its
own, or a journal is played again.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from matchbox.core.bits cimport mb_unlikely
from matchbox.core.sequencer_state cimport NO_SOURCE, sequencer, session_state
from matchbox.shm.records cimport (
    MB_AMEND_ORDER, MB_CANCEL_ORDER, MB_CANCEL_WITHDRAWAL, MB_DEPOSIT, MB_IS_PENDING, MB_LEG, MB_NEW_ORDER,
    MB_OF_PENDING, MB_SETTLE_WITHDRAWAL, MB_TRANSFER, mb_new_order, mb_record, mb_terms_record,
)
from matchbox.shm.ring cimport mb_producer_free

cdef enum:
    GROUP_MAX = 4           # records that go together, see groups.pxd

# Settle in merged order up to the place given, as far as events are there, in at most `budget` steps. Returns how many
# steps it did.
cdef int64_t settle(sequencer* s, uint64_t to_settled, uint32_t to_index, int64_t budget) noexcept nogil

# Decide a record that stands alone, and stamp the decision; a refused order has the price it came with and nothing
# held.
cdef void decide_record(sequencer* s, const session_state* session, mb_record* record) noexcept nogil

# A decided record: do what it does, say what the ledger has to say of it. `terms`, `head`: as in order_enter().
cdef void conclude(sequencer* s, const mb_record* record, const mb_terms_record* terms,
                   const mb_record* head) noexcept nogil

# Number, time and settled place of the record that is `ahead` places after what is filled.
cdef void stamp_record(sequencer* s, mb_record* record, uint64_t now, uint32_t ahead) noexcept nogil

# Clear what is the engine's to fill in; `reserved` of orders and money is left to the checks. `belongs`: of a
# NEW_ORDER, enum mb_belongs.
cdef void clear_stamps(mb_record* record, uint8_t belongs) noexcept nogil

# Is it an ADD_MARKET, not refused, for which other memory was set aside, or none?
cdef bint wants_memory(const sequencer* s, const mb_record* record) noexcept nogil

# Decide the record, which is a copy of a command in its log slot, and make it the next entry of the log.
cdef void sequence_record(sequencer* s, mb_record* record, uint32_t number, uint64_t now) noexcept nogil

# The same for a command that is not looked at, but refused as POISONED.
cdef void sequence_poisoned(sequencer* s, mb_record* record, uint32_t number, uint64_t now) noexcept nogil

# The same for a record of the engine itself; `record` is its log slot, filled but for the stamps.
cdef void engine_record(sequencer* s, mb_record* record, uint64_t now) noexcept nogil

# What such a record, stamped, does.
cdef void engine_applies(sequencer* s, const mb_record* record) noexcept nogil

# Make what was filled visible, the ledger's events first, and give the taken slots back.
cdef void publish_log(sequencer* s) noexcept nogil

# Sequenced time, never before the last one. Outside the deterministic part: the log carries it from here.
cdef uint64_t sequenced_now(sequencer* s) noexcept nogil


cdef inline uint64_t log_room(sequencer* s) noexcept nogil:
    """Records that fit the log, the ledger's ring (two events each at most) and the memory of unsettled records.

    No more than half of either is filled before it is published: what is less than that behind can be read by who
    does not gate.
    """
    cdef uint64_t room = mb_producer_free(&s.log, s.filled + GROUP_MAX)
    cdef uint64_t events = mb_producer_free(&s.events_out, s.events_filled + 2 * GROUP_MAX)
    cdef uint64_t unsettled = s.log.mask + 1 - (s.log.position - s.settled)
    cdef uint64_t half = (s.log.mask + 1) // 2
    if room > half:
        room = half
    half = (s.events_out.mask + 1) // 2
    if events > half:
        events = half
    if (events - s.events_filled) // 2 < room - s.filled:
        room = (events - s.events_filled) // 2 + s.filled
    return (room if room < unsettled else unsettled) - s.filled


cdef inline bint is_pending(const mb_record* record) noexcept nogil:
    """Is it an order or cancel (accepted) that no matcher sees, since the order is pending?"""
    return record.kind <= MB_CANCEL_ORDER and mb_unlikely(record.flags & (MB_LEG | MB_OF_PENDING) != 0) and (
        (<const mb_new_order*>record).has_terms & MB_IS_PENDING if record.kind == MB_NEW_ORDER
        else record.flags & MB_OF_PENDING) != 0


cdef inline uint8_t source_of(const sequencer* s, const mb_record* record) noexcept nogil:
    """The matcher's event ring that answers the record, or NO_SOURCE."""
    if record.reject == 0 and MB_NEW_ORDER <= record.kind <= MB_AMEND_ORDER and not is_pending(record):
        return s.markets[record.market].source
    return NO_SOURCE


cdef inline bint moves_money(const mb_record* record) noexcept nogil:
    return MB_TRANSFER <= record.kind <= MB_CANCEL_WITHDRAWAL or record.kind == MB_DEPOSIT \
        or record.kind == MB_SETTLE_WITHDRAWAL
