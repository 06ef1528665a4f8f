"""Records that go together: next to each other in ring and log, taken at once, decided at once.

    ORDER_TERMS, NEW_ORDER                                  an order and what few orders need
    CANCEL_ORDER with REPLACE, (ORDER_TERMS,) NEW_ORDER     an order in the place of another; the NEW_ORDER has LEG
    ORDER_LIST, NEW_ORDER, NEW_ORDER, (NEW_ORDER)           a list; each NEW_ORDER has LEG
    RELEASE, NEW_ORDER, (NEW_ORDER)                         the exchange's own: pending orders of a list are placed

A client's are a group only if all of them were in the ring when the round began, as they are when they are published by
one store. In the log, has_terms of the NEW_ORDERs (enum mb_belongs) says what goes together, whether it was accepted
or not. All log slots of a group are published by one store.
"""

from libc.stdint cimport uint32_t, uint64_t
from matchbox.core.orders cimport live_order
from matchbox.core.sequencer_state cimport sequencer, session_state
from matchbox.core.sequencing cimport GROUP_MAX
from matchbox.shm.records cimport (
    MB_CANCEL_ORDER, MB_ORDER_LIST, MB_ORDER_TERMS, MB_RELEASE, MB_REPLACE, mb_record,
)


cdef inline bint may_lead(const mb_record* record) noexcept nogil:
    """Can it be the first of a group?"""
    return record.kind == MB_ORDER_TERMS or record.kind == MB_ORDER_LIST or record.kind == MB_RELEASE or (
        record.kind == MB_CANCEL_ORDER and record.flags & MB_REPLACE)


# How many of `count` >= 1 commands, which follow each other in a ring, go together with the first.
cdef uint32_t group_of_commands(mb_record** records, uint32_t count) noexcept nogil

# The same of records of a log. All of a group are there, or none of it after the first.
cdef uint32_t group_of_log(mb_record** records, uint32_t count) noexcept nogil

# Decide the records of a client's group, each with its own reject code, and stamp the decisions.
cdef void decide_group(sequencer* s, const session_state* session, mb_record** records, uint32_t count) noexcept nogil

# Make a group, which are copies of commands in the next log slots, the next entries of the log.
cdef void sequence_group(sequencer* s, mb_record** records, uint32_t count, uint32_t number,
                         uint64_t now) noexcept nogil

# A decided group: do what it does.
cdef void conclude_group(sequencer* s, mb_record** records, uint32_t count) noexcept nogil

# Log the release of the list whose first pending order this is. There is room for GROUP_MAX records.
cdef void sequence_release(sequencer* s, const live_order* first, uint64_t now) noexcept nogil

# The first `count` records, filled in but for what their new orders are decided to be, are RELEASE and its orders:
# the pending orders end, and the new ones are decided.
cdef void decide_release(sequencer* s, mb_record** records, uint32_t count, uint32_t* sessions) noexcept nogil

# A decided release.
cdef void conclude_release(sequencer* s, mb_record** records, uint32_t count, const uint32_t* sessions) noexcept nogil
