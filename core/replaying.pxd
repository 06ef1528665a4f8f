"""Replaying: a journaled record becomes an entry of the log again, after it was checked that it would be the same."""

from libc.stdint cimport uint32_t, uint64_t
from matchbox.core.sequencer_state cimport sequencer
from matchbox.shm.records cimport mb_record

cdef enum replay_difference:
    NOT_NEXT = 1
    NOT_ITS_TURN = 2
    OTHER_STAMPS = 3
    CUT = 4                 # a record of a group without the others
    OTHER = 5               # and the code by which we would refuse

# Publish the records of a log again, of which the first `limit` of `count` may be begun: as far as the log and the
# matchers' events allow now. Returns how many were. It stops before a market is added that no memory was set aside for
# (s.wanted), before a group that is not whole, and where we differ: then `wrong` is not 0, and of the record that is
# `at` places after those that were done. Records that go together may end beyond `limit`, if `beyond`.
cdef uint64_t replay_records(sequencer* s, const mb_record* records, uint64_t count, uint64_t limit, bint beyond,
                             int* wrong, uint32_t* at) noexcept nogil

# Settle exactly as far as the sequencer had when it decided this record. False: its events are not there yet.
cdef bint settled_to(sequencer* s, const mb_record* record) noexcept nogil

# Make a journaled record that stands alone the next entry of the log and apply it, after checking that we would decide
# and stamp the same. 0, or what is wrong.
cdef int replay_record(sequencer* s, const mb_record* given) noexcept nogil

# The same for records that go together (groups.pxd); `at` is which of them is wrong.
cdef int replay_group(sequencer* s, mb_record** given, uint32_t count, uint32_t* at) noexcept nogil
