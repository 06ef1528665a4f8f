"""Drives agents on one thread, as fast as they go, with nobody else: see ledger.py.

Chain submits commands to a session's ring and polls the agents in turn until all of them are at rest. What other agents
would read (the journaler, the publisher) is given back at once. Copier takes the place of the sequencer in a
chain: it moves records from the session's ring to the log and numbers them, and settles nothing.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from matchbox.core.agent cimport Agent, agent
from matchbox.core.bits cimport mb_copy_record
from matchbox.shm.records cimport mb_record
from matchbox.shm.ring cimport *

from matchbox.shm.errors import BadArgument


cdef extern from * nogil:
    """
    #include <time.h>
    static inline uint64_t chain_clock_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    }
    """
    uint64_t chain_clock_ns()

cdef enum:
    MAX_AGENTS = 4
    MAX_IDLE = 8
    # Commands of one submit: what a busy exchange finds in its rings in a round.
    BATCH = 256


ctypedef struct copier:
    mb_ring* commands
    uint8_t* command_slots
    uint64_t command_mask
    uint64_t position       # commands taken
    mb_producer log
    mb_reader events


cdef int64_t _copy(void* state) noexcept nogil:
    """A round: commands into the log."""
    cdef copier* c = <copier*>state
    cdef uint64_t ready = mb_load_acquire(&c.commands.producer.value) - c.position, events, i
    cdef uint64_t room = mb_producer_free(&c.log, ready)
    cdef mb_record* record
    if ready > room:
        ready = room
    for i in range(ready):
        record = <mb_record*>mb_producer_slot(&c.log, i)
        mb_copy_record(record, c.command_slots + ((c.position + i) & c.command_mask) * sizeof(mb_record))
        record.sequence = c.log.position + i + 1
    if ready:
        mb_publish(&c.log, ready)
        c.position += ready
        mb_store_release(&c.commands.readers[0].value, c.position)
    events = mb_reader_ready(&c.events, 1)
    mb_reader_advance(&c.events, events)
    mb_release(&c.events)
    return <int64_t>(ready + events)


cdef class Copier(Agent):
    """The sequencer's stand-in: reader 0 of `events`."""

    cdef copier c
    cdef list _kept

    def __init__(self, Ring commands not None, Ring log not None, Ring events not None):
        self._kept = [commands, log, events]
        self.name = "copier"
        self.c.commands = commands.ring
        self.c.command_slots = <uint8_t*>commands.ring + MB_RING_SLOTS_OFFSET
        self.c.command_mask = commands.ring.header.capacity - 1
        mb_producer_attach(&self.c.log, log.ring)
        mb_reader_attach(&self.c.events, events.ring, 0)
        self.c_agent.poll = _copy
        self.c_agent.state = &self.c


ctypedef struct chain:
    agent agents[MAX_AGENTS]
    mb_reader idle[MAX_IDLE]
    uint32_t agents_count
    uint32_t idle_count
    mb_producer commands
    mb_ring* reports
    bint answers            # a publisher among the agents says what is answered


cdef int64_t _pass_over(chain* c) noexcept nogil:
    """Read what nobody reads here."""
    cdef uint32_t i
    cdef uint64_t ready
    for i in range(c.idle_count):
        ready = mb_reader_ready(&c.idle[i], 1)
        if ready:
            mb_reader_advance(&c.idle[i], ready)
            mb_release(&c.idle[i])
    if c.answers:
        mb_store_release(&c.commands.ring.readers[1].value, mb_load_acquire(&c.reports.producer.value))
    else:
        mb_store_relaxed(&c.reports.answered.value, mb_load_acquire(&c.commands.ring.readers[0].value))
    return 0


cdef int64_t _poll_all(chain* c) noexcept nogil:
    cdef int64_t work = 0
    cdef uint32_t i
    for i in range(c.agents_count):
        work += c.agents[i].poll(c.agents[i].state)
    _pass_over(c)
    return work


cdef void _run(chain* c, const uint8_t* commands, uint64_t count) noexcept nogil:
    cdef uint64_t sent = 0, room, i
    cdef int quiet = 0
    while sent < count or quiet < 3:
        room = mb_producer_free(&c.commands, BATCH)
        if room > BATCH:
            room = BATCH
        if room > count - sent:
            room = count - sent
        for i in range(room):
            mb_copy_record(mb_producer_slot(&c.commands, i), commands + (sent + i) * sizeof(mb_record))
        if room:
            mb_publish(&c.commands, room)
            sent += room
        quiet = 0 if _poll_all(c) else quiet + 1


cdef class Chain:
    """Agents in the order in which they are polled, the rings of the one session, and readers (ring, index) that
    nobody else is. publishes: one of the agents is a publisher. Make it once the session is attached.
    """

    cdef chain c
    cdef list _kept

    def __init__(self, list agents, Ring commands not None, Ring reports not None, list idle, *, bint publishes):
        cdef Agent each
        cdef Ring ring
        if len(agents) > MAX_AGENTS or len(idle) > MAX_IDLE:
            raise BadArgument(f"too many: agents={len(agents)}, readers={len(idle)}")
        self._kept = [agents, commands, reports, idle]
        for each in agents:
            self.c.agents[self.c.agents_count] = each.c_agent
            self.c.agents_count += 1
        for ring, index in idle:
            mb_reader_attach(&self.c.idle[self.c.idle_count], ring.ring, index)
            self.c.idle_count += 1
        mb_producer_attach(&self.c.commands, commands.ring)
        self.c.reports = reports.ring
        self.c.answers = publishes

    def run(self, const uint8_t[::1] commands):
        """Submit 128-byte commands and let all agents come to rest; nanoseconds of processor time that took."""
        cdef uint64_t count = commands.shape[0] // sizeof(mb_record), began, ended
        with nogil:
            began = chain_clock_ns()
            _run(&self.c, &commands[0], count)
            ended = chain_clock_ns()
        return ended - began
