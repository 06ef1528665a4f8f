"""Following a living engine's log; see follower.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

import numpy as np

from matchbox.core.agent cimport Agent
from matchbox.core.bits cimport mb_copy_record
from matchbox.core.replaying cimport replay_records
from matchbox.core.sequencer cimport Sequencer
from matchbox.core.sequencing cimport GROUP_MAX
from matchbox.shm.records cimport MB_CUT, mb_event, mb_record
from matchbox.shm.ring cimport *

from matchbox.core.sequencer import difference
from matchbox.shm.errors import BadArgument
from matchbox.shm.records import LOG_RECORD

cdef enum:
    OTHER_EVENT = -1            # beside enum replay_difference

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


cdef inline int64_t _give_back(follower* f) noexcept nogil:
    """What is in the journal, our log need not keep; what all of our agents are past is replicated. 1: more is."""
    cdef uint64_t position = f.own.log.position
    cdef uint64_t durable = mb_load_acquire(&f.source.readers[f.journaler].value)
    cdef uint64_t applied = _least(f.log, f.gates, position)
    mb_store_release(&f.log.readers[f.journaler].value, durable if durable < position else position)
    if applied == f.replicated:
        return 0
    f.replicated = applied
    mb_store_release(&f.source.readers[MB_RING_REPLICATED].value, applied)
    return 1


cdef bint _same(const mb_record* one, const mb_record* other) noexcept nogil:
    return memcmp(one, other, sizeof(mb_record)) == 0


cdef int64_t _compare(follower* f, uint32_t pair) noexcept nogil:
    """Compare what both have said by now, a chunk at most. Returns how many events."""
    cdef const mb_ring* theirs = f.theirs[pair]
    cdef const mb_ring* ours = f.ours[pair]
    cdef uint64_t mask = ours.header.capacity - 1, half = ours.header.capacity // 2
    cdef uint64_t said = mb_load_acquire(&theirs.producer.value)
    cdef uint64_t end = min(said, mb_load_acquire(&ours.producer.value)), at = f.compared[pair]
    cdef const uint8_t* there = <const uint8_t*>theirs + MB_RING_SLOTS_OFFSET
    cdef const uint8_t* here = <const uint8_t*>ours + MB_RING_SLOTS_OFFSET
    cdef const mb_event* said_there
    cdef const mb_event* said_here
    if end <= at or f.aligned[pair] == APART:
        return 0
    # What is further back than that may be overwritten while we look. Ours is looked at by the thread that settles it,
    # and the living one is ahead.
    if said - at > half:
        f.passed_over += min(said - half, end) - at
        at = min(said - half, end)
    end = min(end, at + CHUNK)
    if end == at:
        return 0
    if f.aligned[pair] == UNKNOWN:
        # An engine that began with a snapshot has nothing in the places before it, as we have not.
        while at < end and (<const mb_event*>(there + (at & mask) * sizeof(mb_record))).sequence == 0:
            at += 1
            f.passed_over += 1
        f.compared[pair] = at
        if at == end:
            return 1
        said_there = <const mb_event*>(there + (at & mask) * sizeof(mb_record))
        said_here = <const mb_event*>(here + (at & mask) * sizeof(mb_record))
        f.aligned[pair] = ALIGNED if said_there.sequence == said_here.sequence and said_there.index == said_here.index \
            else APART
        if f.aligned[pair] == APART:
            return 0
    f.compared[pair] = end
    while at < end:
        if not _same(<const mb_record*>(there + (at & mask) * sizeof(mb_record)),
                     <const mb_record*>(here + (at & mask) * sizeof(mb_record))):
            mb_fence_acquire()  # the comparison before the look whether it was one
            if mb_load_relaxed(&theirs.producer.value) - at > half or mb_load_relaxed(&ours.producer.value) - at > half:
                f.passed_over += end - at
                return <int64_t>(end - at)
            mb_copy_record(&f.different, here + (at & mask) * sizeof(mb_record))
            f.wrong = OTHER_EVENT
            f.stage = DIFFERING
            return 1
        at += 1
    return 1


cdef int64_t _compare_all(follower* f) noexcept nogil:
    cdef int64_t work = 0
    cdef uint32_t i
    for i in range(f.pairs):
        work += _compare(f, i)
    return work


cdef inline bint _lapped(const follower* f) noexcept nogil:
    """May what comes next be overwritten? Not what the journaler has still to read."""
    cdef uint64_t position = f.own.log.position
    return mb_load_relaxed(&f.source.producer.value) - position > (f.mask + 1) // 2 \
        and mb_load_relaxed(&f.source.readers[f.journaler].value) > position


cdef void _mark(follower* f, uint64_t count) noexcept nogil:
    """The records that are cut out, among those that were copied."""
    cdef uint32_t i
    for i in range(f.cut_count):
        if f.chunk[0].sequence <= f.cuts[i] < f.chunk[0].sequence + count:
            f.chunk[f.cuts[i] - f.chunk[0].sequence].reserved = MB_CUT


cdef int64_t _poll(void* state) noexcept nogil:
    cdef follower* f = <follower*>state
    cdef uint64_t position, produced, limit, count, done, i
    cdef uint32_t at = 0
    cdef int64_t work
    if f.stage == DONE:
        return 0
    # Work, since the living publisher may wait for it: our loop rings it.
    work = _give_back(f)
    work += _compare_all(f)
    if f.stage != FOLLOWING and f.stage != DRAINING:
        return work
    position = f.own.log.position
    produced = mb_load_acquire(&f.source.producer.value)
    limit = produced if f.stage == DRAINING else _least(f.source, f.gates, produced)
    if limit <= position:
        return work
    count = min(produced - position, <uint64_t>(CHUNK + GROUP_MAX))
    for i in range(count):
        mb_copy_record(&f.chunk[i], f.slots + ((position + i) & f.mask) * sizeof(mb_record))
    mb_fence_acquire()  # the copy before the look whether it was one
    if _lapped(f):
        f.stage = LAPPED
        return 0
    if f.cut_count:
        _mark(f, count)
    done = replay_records(f.own, f.chunk, count, min(limit - position, <uint64_t>CHUNK), f.stage == DRAINING,
                          &f.wrong, &at)
    if f.wrong:
        mb_copy_record(&f.different, &f.chunk[done + at])
        f.stage = DIFFERING
    elif f.own.wanted:
        mb_copy_record(&f.different, &f.chunk[done])
        f.stage = WANTING
    return work + <int64_t>done


cdef class Follower(Agent):
    """Replays the log of a living engine into `own`, a sequencer that has not started.

    source       the living engine's log ring
    log          the log ring of `own`
    theirs       the living engine's event rings, the ledger's first
    ours         those of `own` and its matchers
    gates        how many of the readers, from the first on, are matchers and publisher
    journaler    which of them the journaler is

    All methods are called by the thread that polls, or while nothing polls.
    """

    def __cinit__(self, Sequencer own not None, Ring log not None, Ring source not None, list theirs not None,
                  list ours not None, *, uint32_t gates, uint32_t journaler):
        cdef follower* f = &self.state
        cdef Ring one, other
        if source.capacity != log.capacity:
            raise BadArgument(f"rings of other sizes: source={source.capacity}, log={log.capacity}")
        memset(f, 0, sizeof(follower))
        self.name = "follower"
        self._kept = (own, log, source, theirs, ours)
        if len(theirs) != len(ours) or len(ours) > MOST_PAIRS:
            raise BadArgument(f"pairs of event rings: theirs={len(theirs)}, ours={len(ours)}, maximum={MOST_PAIRS}")
        for one, other in zip(theirs, ours):
            if one.capacity != other.capacity:
                raise BadArgument(f"event rings of other sizes: theirs={one.capacity}, ours={other.capacity}")
            f.theirs[f.pairs], f.ours[f.pairs] = one.ring, other.ring
            # What was said before that is in no place of ours.
            f.compared[f.pairs] = other.ring.producer.value
            f.passed_over += other.ring.producer.value
            f.pairs += 1
        f.own, f.log, f.source = &own.state, log.ring, source.ring
        f.slots = <const uint8_t*>source.ring + MB_RING_SLOTS_OFFSET
        f.mask = source.ring.header.capacity - 1
        f.gates, f.journaler = gates, journaler
        # What another standby had applied is not replicated any more.
        f.replicated = _least(f.log, gates, f.own.log.position)
        mb_store_release(&f.source.readers[MB_RING_REPLICATED].value, f.replicated)
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
    def compared(self):
        """Events that were compared with the living engine's, and that were passed over."""
        cdef uint32_t i
        total = sum(self.state.compared[i] for i in range(self.state.pairs))
        return total - self.state.passed_over, self.state.passed_over

    @property
    def passed(self):
        """Up to which record the living matchers and publisher are past all."""
        return _least(self.state.source, self.state.gates, mb_load_acquire(&self.state.source.producer.value))

    def cut_out(self, uint64_t sequence):
        """A record of the source, not replayed yet, is cut out. What the dead engine said of it is not compared."""
        cdef uint32_t i
        if self.state.cut_count == MOST_CUTS:
            raise BadArgument(f"too many records to cut out at once: maximum={MOST_CUTS}")
        self.state.cuts[self.state.cut_count] = sequence
        self.state.cut_count += 1
        for i in range(self.state.pairs):
            self.state.aligned[i] = APART

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
        if self.state.wrong == OTHER_EVENT:
            return f"the standby's event differs from the engine's: sequence={self.record['sequence'][0]}"
        return difference(self.state.wrong, self.record[0], self.state.own.log.position) if self.state.wrong else ""
