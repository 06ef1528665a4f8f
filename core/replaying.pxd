"""Replaying: a journaled record becomes an entry of the log again, after it was checked that it would be the same."""

from libc.stdint cimport uint32_t
from matchbox.core.sequencer_state cimport sequencer
from matchbox.shm.records cimport mb_record

cdef enum replay_difference:
    NOT_NEXT = 1
    NOT_ITS_TURN = 2
    OTHER_STAMPS = 3
    CUT = 4                 # a record of a group without the others
    OTHER = 5               # and the code by which we would refuse

# Settle exactly as far as the sequencer had when it decided this record. False: its events are not there yet.
cdef bint settled_to(sequencer* s, const mb_record* record) noexcept nogil

# Make a journaled record that stands alone the next entry of the log and apply it, after checking that we would decide
# and stamp the same. 0, or what is wrong.
cdef int replay_record(sequencer* s, const mb_record* given) noexcept nogil

# The same for records that go together (groups.pxd); `at` is which of them is wrong.
cdef int replay_group(sequencer* s, mb_record** given, uint32_t count, uint32_t* at) noexcept nogil
