"""Following a living engine's log; see follower.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import numpy as np

from matchbox.core.agent cimport Agent
from matchbox.core.bits cimport mb_copy_record
from matchbox.core.replaying cimport replay_records
from matchbox.core.sequencer cimport Sequencer
from matchbox.core.sequencing cimport GROUP_MAX
from matchbox.shm.records cimport mb_record
from matchbox.shm.ring cimport *

from matchbox.core.sequencer import difference
from matchbox.shm.errors import BadArgument
from matchbox.shm.records import LOG_RECORD

_STAGES = {
    WAITING: "waiting", FOLLOWING: "following", DRAINING: "draining", LAPPED: "lapped", WANTING: "wanting",
    DIFFERING: "differing", DONE: "done",
}


cdef inline uint64_t _least(const mb_ring* ring, uint32_t readers, uint64_t least) noexcept nogil:
    cdef uint32_t i
    cdef uint64_t position
    for i in range(readers):
        position = mb_load_acquire(&ring.readers[i].value)
        if position < least:
            least = position
    return least


cdef inline void _give_back(follower* f) noexcept nogil:
    """What is in the journal, our log need not keep; what all of our agents are past is replicated."""
    cdef uint64_t position = f.own.log.position
    cdef uint64_t durable = mb_load_acquire(&f.source.readers[f.journaler].value)
    cdef uint64_t applied = _least(f.log, f.gates, position)
    mb_store_release(&f.log.readers[f.journaler].value, durable if durable < position else position)
    if applied != f.replicated:
        f.replicated = applied
        mb_store_release(&f.source.readers[MB_RING_REPLICATED].value, applied)


cdef inline bint _lapped(const follower* f) noexcept nogil:
    """May what comes next be overwritten? Not what the journaler has still to read."""
    cdef uint64_t position = f.own.log.position
    return mb_load_relaxed(&f.source.producer.value) - position > (f.mask + 1) // 2 \
        and mb_load_relaxed(&f.source.readers[f.journaler].value) > position


cdef int64_t _poll(void* state) noexcept nogil:
    cdef follower* f = <follower*>state
    cdef uint64_t position, produced, limit, count, done, i
    cdef uint32_t at = 0
    if f.stage == DONE:
        return 0
    _give_back(f)
    if f.stage != FOLLOWING and f.stage != DRAINING:
        return 0
    position = f.own.log.position
    produced = mb_load_acquire(&f.source.producer.value)
    limit = produced if f.stage == DRAINING else _least(f.source, f.gates, produced)
    if limit <= position:
        return 0
    count = min(produced - position, <uint64_t>(CHUNK + GROUP_MAX))
    for i in range(count):
        mb_copy_record(&f.chunk[i], f.slots + ((position + i) & f.mask) * sizeof(mb_record))
    mb_fence_acquire()  # the copy before the look whether it was one
    if _lapped(f):
        f.stage = LAPPED
        return 0
    done = replay_records(f.own, f.chunk, count, min(limit - position, <uint64_t>CHUNK), f.stage == DRAINING,
                          &f.wrong, &at)
    if f.wrong:
        mb_copy_record(&f.different, &f.chunk[done + at])
        f.stage = DIFFERING
    elif f.own.wanted:
        mb_copy_record(&f.different, &f.chunk[done])
        f.stage = WANTING
    return <int64_t>done


cdef class Follower(Agent):
    """Replays the log of a living engine into `own`, a sequencer that has not started.

    source       the living engine's log ring
    log          the log ring of `own`
    gates        how many of the readers, from the first on, are matchers and publisher
    journaler    which of them the journaler is

    All methods are called by the thread that polls, or while nothing polls.
    """

    def __cinit__(self, Sequencer own not None, Ring log not None, Ring source not None, *, uint32_t gates,
                  uint32_t journaler):
        cdef follower* f = &self.state
        if source.capacity != log.capacity:
            raise BadArgument(f"rings of other sizes: source={source.capacity}, log={log.capacity}")
        memset(f, 0, sizeof(follower))
        self.name = "follower"
        self._kept = (own, log, source)
        f.own, f.log, f.source = &own.state, log.ring, source.ring
        f.slots = <const uint8_t*>source.ring + MB_RING_SLOTS_OFFSET
        f.mask = source.ring.header.capacity - 1
        f.gates, f.journaler = gates, journaler
        self.c_agent.poll = _poll
        self.c_agent.state = f

    @property
    def stage(self):
        """What it does: waiting, following, draining, lapped, wanting, differing, done."""
        return _STAGES[self.state.stage]

    @stage.setter
    def stage(self, str value):
        self.state.stage = {text: stage for stage, text in _STAGES.items()}[value]

    @property
    def position(self):
        """Sequence of the last record that was replayed."""
        return self.state.own.log.position

    @property
    def lag(self):
        """Records that the living engine has published and that were not replayed."""
        return mb_load_acquire(&self.state.source.producer.value) - self.state.own.log.position

    @property
    def reachable(self):
        """Does the source's ring have all that comes next?"""
        return not _lapped(&self.state)

    @property
    def record(self):
        """The record that is wanted, or where we differ: LOG_RECORD array of one."""
        cdef uint8_t[::1] view
        out = np.zeros(1, LOG_RECORD)
        view = out.view(np.uint8)
        memcpy(&view[0], &self.state.different, sizeof(mb_record))
        return out

    @property
    def problem(self):
        """Where we differ, in words; empty if we do not."""
        return difference(self.state.wrong, self.record[0], self.state.own.log.position) if self.state.wrong else ""
