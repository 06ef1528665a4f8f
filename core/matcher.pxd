"""The matcher: log records in, events out, for any number of markets.

matcher_step() takes one command and fills event slots that the caller has room for. When the room ends in the
middle of a command, what is left to do stands in `current`, and the next call with the same command goes on
there; so the events are the same bytes however the room was cut. A call does a bounded amount of work, too:
a sweep of a million makers is many calls.

    idle ──begin──> done                            everything that does not match (one event)
              └───> counting ──> done               fill-or-kill: level by level, is there enough?
              │         └──────> sweeping
              └───> sweeping ──> done               a fill a turn, then what is left rests or expires

The same functions serve Matcher.process() and MatcherAgent.poll().
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from matchbox.core.agent cimport Agent
from matchbox.core.book cimport book
from matchbox.core.instrument cimport instrument
from matchbox.shm.records cimport mb_event, mb_record
from matchbox.shm.ring cimport Ring, mb_producer, mb_reader

cdef enum matcher_stage:
    IDLE = 0
    COUNTING = 1
    SWEEPING = 2

cdef enum matcher_status:
    DONE = 0                # the command is complete, its last event is written
    FULL = 1                # the room is used up; call again with the same command
    MORE = 2                # the work of one call is used up; call again with the same command

# One market: its rules and its book. Never moves once it is prepared.
ctypedef struct market:
    instrument rules
    book orders
    uint32_t number
    bint open               # its ADD_MARKET record has been seen

# Where events go: slots[position & mask] is the next, up to and without slots[limit & mask].
ctypedef struct event_room:
    mb_event* slots
    uint64_t mask
    uint64_t position
    uint64_t limit

# The command under way; meaningful while stage != IDLE.
ctypedef struct taker:
    uint64_t sequence
    uint64_t order_id
    market* place
    int64_t price           # limit, 0 for a market order
    int64_t open_lots
    int64_t cumulative_lots
    uint64_t limit_key      # of the other side: makers with a key up to it match
    int64_t counted_lots    # COUNTING: on the levels before `counted_level`
    uint32_t counted_level
    uint32_t account
    uint32_t index          # of the next event
    uint32_t slot           # of an amended order, 0 for a new one
    uint8_t side            # BID or ASK
    uint8_t rests           # what is left joins the book
    uint8_t stage           # enum matcher_stage

ctypedef struct market_entry:
    uint32_t number         # 0 = empty
    market* place

ctypedef struct matcher:
    taker current
    market** markets        # in the order in which they were prepared
    market_entry* table     # by number, linear probing, at most a quarter full
    uint32_t table_mask
    uint32_t count

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
