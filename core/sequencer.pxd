"""The sequencer as an agent; its state is in sequencer_state.pxd, what it does in sequencer.pyx."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from matchbox.core.agent cimport Agent, mb_in_hand
from matchbox.core.sequencer_state cimport sequencer, session_slot

# Nanoseconds until something is due by sequenced time; 2^63 - 1 = nothing will be.
cdef int64_t sequencer_due_in(sequencer* s) noexcept nogil


cdef class Sequencer(Agent):
    cdef sequencer state
    cdef list _kept
    cdef readonly uint64_t replayed

    cdef void show_hand(self, mb_in_hand* hand, object board)
    cdef session_slot* _slot(self, uint32_t slot) except NULL
    cdef _write_mark(self, uint8_t kind, uint64_t epoch)
