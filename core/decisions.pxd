"""Decisions: what a command may do, from the sequencer's state and the record alone."""

from libc.stdint cimport int64_t, uint16_t, uint32_t
from matchbox.core.sequencer_state cimport sequencer, session_state
from matchbox.shm.records cimport mb_named_record, mb_record, mb_terms_record

# The reject code of a record, 0 to accept. Stamps what the sequencer decides: account, market, order id, side, hold,
# bound, fee rates, session and operator numbers. `terms`: the ORDER_TERMS of a NEW_ORDER, or NULL.
cdef uint16_t decide(sequencer* s, const session_state* session, mb_record* record,
                     const mb_terms_record* terms) noexcept nogil

# The same for an ATTACH_SESSION record alone: stamps its session's number and position.
cdef uint16_t decide_attach(sequencer* s, mb_named_record* record) noexcept nogil
