"""Changes: what a record of the log does to the sequencer's state."""

from libc.stdint cimport uint32_t
from matchbox.core.sequencer_state cimport sequencer
from matchbox.shm.records cimport mb_event, mb_record, mb_terms_record

# Apply an accepted record. `terms`, `head`: of a NEW_ORDER, as in order_enter(); else NULL.
cdef void apply_record(sequencer* s, const mb_record* record, const mb_terms_record* terms,
                       const mb_record* head) noexcept nogil

# Fill in the BALANCE events of an accepted money record: one or two. Returns how many.
cdef uint32_t balance_events(const sequencer* s, const mb_record* record, mb_event* first,
                             mb_event* second) noexcept nogil
