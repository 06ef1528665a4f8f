"""Settlement: what an event of a matcher does to orders, balances and last prices."""

from libc.stdint cimport uint64_t
from matchbox.core.orders cimport live_order
from matchbox.core.sequencer_state cimport sequencer
from matchbox.shm.records cimport mb_event, mb_record

# Apply the next event of the merged stream. `cause` is its log record.
cdef void settle_event(sequencer* s, const mb_event* event, const mb_record* cause) noexcept nogil
