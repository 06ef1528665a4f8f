"""The matcher: log records in, events out, for any number of markets.

matcher_step() takes one command and fills event slots that the caller has room for. When the room ends in the
middle of a command, what is left to do stands in `current` (see taker.pxd), and the next call with the same command
goes on there; so the events are the same bytes however the room was cut. A call does a bounded amount of work, too:
a sweep of a million makers is many calls.

    NEW_ORDER, CANCEL_ORDER, AMEND_ORDER    one event or more, the last with LAST
    ORDER_TERMS                             none; it is kept for the next record, if that is a NEW_ORDER of its market
    ORDER_LIST, RELEASE                     none; it is kept for its legs, which follow
    NEW_ORDER that is pending               none
    the first of a pair                     none; its own event comes right before that of the second
    SET_MARKET                              none (REJECTED if it is not valid, which a sequencer has seen to)
    ADD_MARKET, REMOVE_MARKET               none; of the live log only. Between them the market is open

The same functions serve Matcher.process() and MatcherAgent.poll().
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from matchbox.core.agent cimport Agent, mb_in_hand, mb_poison
from matchbox.core.markets cimport market_table
from matchbox.core.taker cimport DONE, FULL, MORE, event_room, matcher_status, taker
from matchbox.shm.records cimport mb_list_record, mb_record, mb_terms_record
from matchbox.shm.ring cimport Ring, mb_producer, mb_reader

# What the records before announce.
cdef enum matcher_expects:
    NOTHING = 0
    AN_ORDER = 1            # `terms` are of it
    A_REPLACEMENT = 2       # `replaced` is what it comes in the place of
    LEGS = 4                # of `of_list`
    A_SECOND = 8            # of the pair whose first is `first`

# What a CANCEL_ORDER with REPLACE did.
ctypedef struct replacement:
    int64_t hold            # what the canceled order needed
    int64_t lack            # how much of that the new order needs
    uint32_t market
    bint failed
    bint allowed            # go on if it failed

ctypedef struct matcher:
    taker current
    market_table markets
    uint8_t expects         # enum matcher_expects
    uint8_t legs            # of the list
    uint8_t leg             # how many have been seen
    bint check_holds        # refuse amends that their hold does not cover
    mb_poison poison
    replacement replaced
    mb_terms_record terms
    mb_list_record of_list
    mb_record first

ctypedef struct matcher_agent:
    matcher core
    mb_reader log
    mb_producer events
    uint64_t refused_markets    # ADD_MARKET records that do not fit what was prepared
    mb_in_hand* hand


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
    cdef void show_hand(self, mb_in_hand* hand, object board)
    cdef readonly Ring log
    cdef readonly Ring events
