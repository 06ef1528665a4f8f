"""The matcher: log records in, events out, for any number of markets.

matcher_step() takes one command and fills event slots that the caller has room for. When the room ends in the
middle of a command, what is left to do stands in `current` (see taker.pxd), and the next call with the same command
goes on there; so the events are the same bytes however the room was cut. A call does a bounded amount of work, too:
a sweep of a million makers is many calls.

    NEW_ORDER, CANCEL_ORDER, AMEND_ORDER    one event or more, the last with LAST
    ORDER_TERMS                             none; it is kept for the next record, if that is a NEW_ORDER of its market
    SET_MARKET                              none (REJECTED if it is not valid, which a sequencer has seen to)
    ADD_MARKET, REMOVE_MARKET               none; of the live log only. Between them the market is open

The same functions serve Matcher.process() and MatcherAgent.poll().
"""

from libc.stdint cimport uint64_t
from matchbox.core.agent cimport Agent
from matchbox.core.markets cimport market_table
from matchbox.core.taker cimport DONE, FULL, MORE, event_room, matcher_status, taker
from matchbox.shm.records cimport mb_record, mb_terms_record
from matchbox.shm.ring cimport Ring, mb_producer, mb_reader

ctypedef struct matcher:
    taker current
    market_table markets
    mb_terms_record terms   # the ORDER_TERMS that the last record was
    bint has_terms          # it was one
    bint check_holds        # refuse amends that their hold does not cover

ctypedef struct matcher_agent:
    matcher core
    mb_reader log
    mb_producer events
    uint64_t refused_markets    # ADD_MARKET records that do not fit what was prepared


# Process `record` as log record `sequence`, or go on with it. The caller has room for one event at least, or gets FULL.
cdef matcher_status matcher_step(matcher* m, const mb_record* record, uint64_t sequence,
                                 event_room* room) noexcept nogil


cdef class Matcher:
    cdef matcher core
    cdef uint64_t last_sequence
    cdef readonly Py_ssize_t consumed
    cdef bint busy


cdef class MatcherAgent(Agent):
    cdef matcher_agent state
    cdef readonly Ring log
    cdef readonly Ring events
