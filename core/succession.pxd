"""What changes hands when a standby takes over: the outputs that others have mapped.

A standby's publisher is a shadow: it does all that the living one does, but writes into memory of its own: a report
ring for each slot of a session, a market-data ring, and depth tables, of the same sizes. All of it is a function of the
log, so at the end of the dead engine's log the shadow has written at least as much as the dead one, and the same. To
go on it needs no more than the living positions:

    reports         of a session, those from the living ring's position on are copied over. A ring that was found full
                    stays so: its session is detached, as it would have been
    market data     likewise, as far as the shadow's ring reaches back: who is further behind is lapped
    depth           tables are written anew, whole; readers wait meanwhile (`version` and `rebuilt` are odd)

Which levels are in which places of a depth table is the one thing that need not be the same.

Order: depth is closed to readers first, then market data goes out, then depth is shown. So who rebuilds a book from
table and ring finds in the ring what the table has.
"""

from libc.stdint cimport uint64_t
from matchbox.core.depth cimport depth_writer
from matchbox.core.publisher cimport publisher, report_slot
from matchbox.shm.depth cimport mb_depth
from matchbox.shm.ring cimport mb_ring

# A shadow's report ring begins again: another session is attached to its slot.
cdef void reports_anew(report_slot* slot) noexcept nogil

# Go on in the living rings of a slot, which were opened after log record `opened_after`. False: they have more than the
# shadow, so the two are not of the same log.
cdef bint adopt_reports(publisher* p, report_slot* slot, mb_ring* commands, mb_ring* reports,
                        uint64_t opened_after) noexcept nogil
cdef bint adopt_market_data(publisher* p, mb_ring* ring) noexcept nogil

# Write the living table `to` from now on; readers wait until show_depth().
cdef void adopt_depth(depth_writer* depth, mb_depth* to) noexcept nogil
cdef void show_depth(depth_writer* depth) noexcept nogil
