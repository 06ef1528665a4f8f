"""The agent loop: one thread that polls its agents, and what it does when there is nothing to do.

    spin     look again at once (cores that were asked for, pinned)
    yield    give the core away between looks
    park     look for a while, then announce in the process's bell and in the park word of every attached
             session, look once more, and sleep in the kernel until one of them is rung or a timeout passes

After a round that did something, the bells of the processes that read what ours write are rung, if announced.
Other threads of the process reach the agents only through call(): the function runs between two rounds.
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

import threading

from matchbox.core.agent cimport Agent, agent, mb_in_hand
from matchbox.core.sequencer cimport Sequencer, sequencer_due_in
from matchbox.core.sequencer_state cimport SLOT_LIVE, sequencer, session_slot
from matchbox.shm.ring cimport (
    mb_announce, mb_park_word, mb_pause, mb_unannounce, mb_wake
)

from matchbox.shm.board import AGENTS_OFFSET, BELLS_OFFSET
from matchbox.shm.errors import BadArgument

cdef extern from *:
    """
    #include <linux/futex.h>
    #include <sched.h>
    #include <signal.h>
    #include <string.h>
    #include <sys/syscall.h>
    #include <time.h>
    #include <unistd.h>

    #ifndef SYS_futex_waitv
    #define SYS_futex_waitv 449
    #endif
    typedef struct mb_wait { uint64_t value; uint64_t address; uint32_t flags; uint32_t reserved; } mb_wait;

    /* Sleep until one of `count` (1..128) shared words is no longer 1 or is woken, or the timeout passes. */
    static inline void mb_park_any(uint32_t **words, unsigned count, int64_t timeout_ns) {
        mb_wait waits[128];
        struct timespec until;
        unsigned i;
        for (i = 0; i < count; i++) {
            waits[i].value = 1;
            waits[i].address = (uint64_t)(uintptr_t)words[i];
            waits[i].flags = 2; /* FUTEX2_SIZE_U32, shared */
            waits[i].reserved = 0;
        }
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += timeout_ns;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        if (syscall(SYS_futex_waitv, waits, count, 0, &until, CLOCK_MONOTONIC) < 0 && errno == ENOSYS) {
            /* Kernels before 5.16: sleep on the bell alone, and shortly, for the sessions' sake. */
            mb_park(words[0], count > 1 ? 1000000 : timeout_ns);
        }
    }

    /* Where the agent that this thread polls shows the signal that it dies of. */
    static __thread uint32_t *mb_at_fault;
    static inline void mb_show_fault_at(uint32_t *word) { mb_at_fault = word; }
    static const int mb_faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    static struct sigaction mb_before[NSIG];

    /* Then it dies as it would have: the instruction is tried again, abort() goes on. */
    static void mb_on_fault(int number) {
        if (mb_at_fault) *(volatile uint32_t *)mb_at_fault = (uint32_t)number;
        sigaction(number, &mb_before[number], NULL);
    }

    static inline void mb_show_faults(void) {
        struct sigaction action;
        unsigned i;
        memset(&action, 0, sizeof(action));
        action.sa_handler = mb_on_fault;
        sigemptyset(&action.sa_mask);
        for (i = 0; i < sizeof(mb_faults) / sizeof(*mb_faults); i++)
            sigaction(mb_faults[i], &action, &mb_before[mb_faults[i]]);
    }
    """
    void mb_show_fault_at(uint32_t* word) nogil
    void mb_show_faults()
    void mb_park_any(uint32_t** words, unsigned int count, int64_t timeout_ns) nogil
    int sched_yield() nogil

cdef enum:
    MAX_AGENTS = 96
    MAX_PEERS = 32
    MAX_WORDS = 128             # of futex_waitv
    PARK_TIMEOUT_NS = 100000000
    # With more sessions than words the rest is looked at this often.
    CROWDED_TIMEOUT_NS = 1000000
    SHOW_ROUNDS = 256           # rounds between updates of the board

cdef enum idle_strategy:
    SPIN
    YIELD
    PARK

ctypedef struct agent_row:      # as in shm/board.py
    char name[32]
    uint32_t process
    uint32_t serving            # between two rounds, for who called
    uint64_t rounds
    uint64_t work
    uint64_t position
    uint64_t parks
    mb_in_hand hand
    uint32_t fault              # the signal that it died of, if that was its own
    char reserved[36]


def show_faults():
    """Have the agents of this process show on the board which signal they die of, if that was their own (SIGSEGV,
    SIGBUS, SIGILL, SIGFPE, SIGABRT). Once in a process.
    """
    mb_show_faults()


cdef idle_strategy _idle_strategy(str idle) except *:
    strategies = {"spin": SPIN, "yield": YIELD, "park": PARK}
    if idle not in strategies:
        raise BadArgument(f"idle must be one of {', '.join(strategies)}: idle={idle!r}")
    return strategies[idle]


cdef class Loop:
    """Polls `agents` in their order until stopped.

    board, process   the instance's board and our number on it
    rows             the agents' numbers on the board
    peers            numbers of the processes to wake after work
    idle             "spin", "yield" or "park"
    looks            rounds without work before parking
    """

    cdef agent _agents[MAX_AGENTS]
    cdef agent_row* _rows[MAX_AGENTS]
    cdef uint64_t _work[MAX_AGENTS]
    cdef uint64_t _rounds
    cdef uint64_t _parks
    cdef uint32_t _count
    cdef uint32_t _peer_count
    cdef uint32_t _looks
    cdef mb_park_word* _bells
    cdef uint32_t _peers[MAX_PEERS]
    cdef uint32_t _process
    cdef idle_strategy _idle
    cdef sequencer* _sequencer
    cdef uint32_t* _words[MAX_WORDS]
    cdef uint32_t _word_count
    cdef mb_park_word* _other_bell
    cdef mb_park_word* _other_peer
    cdef volatile int _asked
    cdef volatile int _stopping
    cdef list _kept
    cdef list _calls
    cdef object _lock

    def __cinit__(self, list agents not None, board not None, uint32_t process, list rows not None, *,
                  peers=(), str idle="park", uint32_t looks=200):
        cdef Py_buffer view
        cdef Agent one
        cdef uint8_t* base
        if len(agents) > MAX_AGENTS or len(peers) > MAX_PEERS or len(rows) != len(agents):
            raise BadArgument(f"too many agents or peers: agents={len(agents)}, peers={len(peers)}")
        PyObject_GetBuffer(board.buffer, &view, PyBUF_WRITABLE)
        base = <uint8_t*>view.buf
        PyBuffer_Release(&view)
        self._kept = [agents, board]
        self._calls = []
        self._lock = threading.Lock()
        self._bells = <mb_park_word*>(base + <size_t>BELLS_OFFSET)
        self._process, self._idle, self._looks = process, _idle_strategy(idle), looks
        for i, one in enumerate(agents):
            self._agents[i] = one.c_agent
            self._rows[i] = <agent_row*>(base + <size_t>AGENTS_OFFSET) + <uint32_t>rows[i]
            one.show_hand(&self._rows[i].hand, board)
            if isinstance(one, Sequencer):
                self._sequencer = &(<Sequencer>one).state
        self._count = len(agents)
        for i, peer in enumerate(peers):
            self._peers[i] = peer
        self._peer_count = len(peers)

    def run(self):
        """Poll until stop(); returns then. Runs without the GIL but for call()s."""
        cdef uint32_t quiet = 0
        cdef bint stopping = False
        while not stopping:
            with nogil:
                while not self._asked:
                    if self._round():
                        self._wake_peers()
                        quiet = 0
                    elif self._idle == SPIN:
                        mb_pause()
                    elif self._idle == YIELD:
                        sched_yield()
                    else:
                        quiet += 1
                        if quiet < self._looks:
                            mb_pause()
                        else:
                            self._sleep()
                            quiet = 0
            self._serve()
            # What was called may have published: a replay does.
            self._wake_peers()
            stopping = self._stopping

    cdef int64_t _round(self) noexcept nogil:
        cdef int64_t total = 0, work
        cdef uint32_t i
        for i in range(self._count):
            mb_show_fault_at(&self._rows[i].fault)
            work = self._agents[i].poll(self._agents[i].state)
            self._work[i] += <uint64_t>work
            total += work
        mb_show_fault_at(NULL)
        self._rounds += 1
        if self._rounds % SHOW_ROUNDS == 0:
            self._show()
        return total

    cdef void _show(self) noexcept nogil:
        cdef uint32_t i
        for i in range(self._count):
            self._rows[i].rounds = self._rounds
            self._rows[i].work = self._work[i]
            self._rows[i].parks = self._parks

    cdef void _wake_peers(self) noexcept nogil:
        cdef uint32_t i
        for i in range(self._peer_count):
            mb_wake(&self._bells[self._peers[i]].waiting)
        if self._other_peer != NULL:
            mb_wake(&self._other_peer.waiting)

    cdef void _collect_words(self) noexcept nogil:
        """Our bell and the park words of the attached sessions' command rings."""
        cdef uint32_t i
        cdef session_slot* slot
        self._words[0] = &self._bells[self._process].waiting
        self._word_count = 1
        if self._other_bell != NULL:
            self._words[1] = &self._other_bell.waiting
            self._word_count = 2
        if self._sequencer != NULL:
            for i in range(self._sequencer.slots):
                slot = &self._sequencer.slot_table[i]
                if slot.state == SLOT_LIVE and self._word_count < MAX_WORDS:
                    self._words[self._word_count] = &slot.commands.reader_waiting.waiting
                    self._word_count += 1

    cdef void _sleep(self) noexcept nogil:
        cdef uint32_t i
        cdef int64_t timeout_ns
        self._collect_words()
        for i in range(self._word_count):
            mb_announce(self._words[i])
        if self._round():
            self._wake_peers()
        elif not self._asked:
            self._parks += 1
            self._show()
            timeout_ns = CROWDED_TIMEOUT_NS if self._word_count == MAX_WORDS else PARK_TIMEOUT_NS
            if self._sequencer != NULL and sequencer_due_in(self._sequencer) < timeout_ns:
                timeout_ns = sequencer_due_in(self._sequencer)
            if timeout_ns > 0:
                mb_park_any(self._words, self._word_count, timeout_ns)
        for i in range(self._word_count):
            mb_unannounce(self._words[i])

    cdef _serve(self):
        # Whoever watches the rounds must know why there are none meanwhile.
        self._rows[0].serving = 1
        with self._lock:
            calls, self._calls = self._calls, []
            self._asked = 0
        for function, done, answer in calls:
            try:
                answer.append((True, function()))
            except BaseException as error:
                answer.append((False, error))
            done.set()
        self._rows[0].serving = 0

    def call(self, function, timeout=10.0):
        """Run function() on the loop's thread between two rounds; returns what it returns, raises what it raises."""
        done, answer = threading.Event(), []
        with self._lock:
            self._calls.append((function, done, answer))
            self._asked = 1
        self.ring()
        if not done.wait(timeout):
            raise TimeoutError(f"the loop did not answer within {timeout} s")
        good, value = answer[0]
        if good:
            return value
        raise value

    def set_idle(self, str idle not None):
        """What to do from now on when there is nothing to do; by the loop's thread."""
        self._idle = _idle_strategy(idle)

    def listen(self, Bell bell, Bell peer=None):
        """Wake up by another board's bell, too, and ring a `peer` there after work; None: no more.

        By the loop's thread.
        """
        self._other_bell = NULL if bell is None else bell._word
        self._other_peer = NULL if peer is None else peer._word
        self._kept += (bell, peer)

    def ring(self):
        """Wake the loop if it sleeps."""
        mb_wake(&self._bells[self._process].waiting)

    def stop(self, timeout=10.0):
        """Make run() return after the current round."""
        def last():
            self._stopping = 1
        self.call(last, timeout)


cdef class Bell:
    """A process's own bell, for loops written in Python (the journaler's): announce, look again, sleep."""

    cdef mb_park_word* _word
    cdef object _board

    def __cinit__(self, board not None, uint32_t process):
        cdef Py_buffer view
        PyObject_GetBuffer(board.buffer, &view, PyBUF_WRITABLE)
        self._word = <mb_park_word*>(<uint8_t*>view.buf + <size_t>BELLS_OFFSET) + process
        PyBuffer_Release(&view)
        self._board = board

    def announce(self):
        """Say that we are about to sleep; look at the inputs once more after this."""
        mb_announce(&self._word.waiting)

    def sleep(self, double timeout):
        """Sleep until rung, at most `timeout` seconds. announce() first."""
        cdef uint32_t* word = &self._word.waiting
        cdef int64_t timeout_ns = <int64_t>(timeout * 1e9)
        with nogil:
            mb_park_any(&word, 1, timeout_ns)
        mb_unannounce(word)

    def unannounce(self):
        mb_unannounce(&self._word.waiting)

    def ring(self):
        mb_wake(&self._word.waiting)
