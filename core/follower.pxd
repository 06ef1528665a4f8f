"""The follower: what makes a second engine the standby of a living one.

It polls on the thread of the standby's sequencer, before it, and replays what the living engine has put into its log:

    source      the living engine's log ring. We read it without gating it; what we are done with we say in
                readers[MB_RING_REPLICATED]
    log         our own log ring, written by our sequencer as it replays

Invariants:
    - A record is begun only when the living matchers and the living publisher are past it (`gates` gating readers), so
      whatever a record does to an engine, it does to the living one first. DRAINING, when that is dead, ends this.
    - A record is used only if it cannot have been overwritten while it was copied: the journaler, who gates, has not
      read it; or it is less than half a ring behind what is published, and a sequencer never fills more than half a
      ring before it publishes (log_room). Else LAPPED: it is in the journal, and whoever tends us replays it from
      there.
    - What our matchers and our ledger say of a record is what the living ones say, byte for byte. It is compared where
      both rings still have it, which is nearly always; a difference ends the following (DIFFERING).
    - Our log gives back what the journal has, as if our journaler were the living one: at a takeover our ring holds
      every record that is not durable.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from matchbox.core.agent cimport Agent
from matchbox.core.sequencer_state cimport sequencer
from matchbox.shm.records cimport mb_record
from matchbox.shm.ring cimport mb_ring

cdef enum:
    CHUNK = 256             # records of one poll
    MOST_PAIRS = 65         # event rings: the ledger's and 64 matchers'
    MOST_CUTS = 16

cdef enum follower_stage:
    WAITING = 0             # somebody else replays, from the journal
    FOLLOWING = 1
    DRAINING = 2
    LAPPED = 3
    WANTING = 4             # memory for the market that the next record adds
    DIFFERING = 5           # we would not have decided so: this engine must not take over
    DONE = 6                # we are what was followed

# Are the two rings of a pair at the same positions? They are not if one engine has begun with a snapshot of times when
# markets were on other matchers. Known by the first event that both have.
cdef enum alignment:
    UNKNOWN = 0
    ALIGNED = 1
    APART = 2

ctypedef struct follower:
    sequencer* own
    mb_ring* log
    mb_ring* source
    const uint8_t* slots
    uint64_t mask
    uint32_t gates          # readers[0..gates] of the source must be past a record
    uint32_t journaler      # which of the readers the journaler is, in both rings
    uint32_t stage          # enum follower_stage, stored by our thread and by who tends us while we are between polls
    uint32_t pairs
    mb_ring* theirs[65]     # event rings of the living engine, and ours
    mb_ring* ours[65]
    uint64_t compared[65]   # up to here they are the same, or were not there to compare
    uint8_t aligned[65]     # enum alignment
    uint64_t passed_over    # events that were not there
    int wrong               # enum replay_difference, or OTHER_EVENT
    uint64_t replicated     # as last said
    uint64_t cuts[16]       # records of the source that are marked as cut out (persistence/cuts.py) as they are copied
    uint32_t cut_count
    mb_record different
    mb_record chunk[256 + 4]


cdef class Follower(Agent):
    cdef follower state
    cdef object _kept
