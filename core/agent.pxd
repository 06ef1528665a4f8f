"""What the agent loop needs of an agent: one function and one pointer; and what the agent shows of itself.

An agent's poll() does a bounded amount of work, never waits, and returns how much it did (records and
events handled; 0 = there was nothing to do). It runs without the GIL, on one thread at a time.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from * nogil:
    """
    /* What an agent has in hand. On the board, where it outlives the process: whoever comes after a death reads there
     * which record the agent was at, and cuts it out if it was the record that killed (tools/poison.py). */
    typedef struct mb_in_hand {
        uint32_t task;      /* enum mb_task */
        uint32_t session;   /* MB_SEQUENCING: whose command it is */
        uint64_t number;    /* sequence of the log record; MB_SEQUENCING: position of the command; 0: nothing */
    } mb_in_hand;
    enum mb_task { MB_IDLE = 0, MB_SEQUENCING = 1, MB_SETTLING = 2, MB_MATCHING = 3, MB_PUBLISHING = 4 };

    /* Each a plain store, and not moved or left out by the compiler: a fault can be anywhere behind it. */
    static inline void mb_take_in_hand(mb_in_hand *hand, uint64_t number) {
        *(volatile uint64_t *)&hand->number = number;
        __asm__ volatile("" ::: "memory");
    }

    /* For drills: what an agent dies of, a command of this quantity plus the number of the signal; plus 0: it never
     * ends. 0: nothing. */
    typedef struct mb_poison {
        int64_t lots;
    } mb_poison;
    #include <signal.h>
    static inline void mb_take_poison(const mb_poison *poison, int64_t lots) {
        if (__builtin_expect(poison->lots != 0, 0) && lots >= poison->lots && lots < poison->lots + 32) {
            int how = (int)(lots - poison->lots);
            if (how == SIGSEGV) *(volatile int *)(uintptr_t)8 = 0;
            for (;;) {
                if (how) raise(how);
                __asm__ volatile("");
            }
        }
    }
    """
    ctypedef struct mb_in_hand:
        uint32_t task
        uint32_t session
        uint64_t number
    ctypedef struct mb_poison:
        int64_t lots
    enum mb_task:
        MB_IDLE
        MB_SEQUENCING
        MB_SETTLING
        MB_MATCHING
        MB_PUBLISHING
    void mb_take_in_hand(mb_in_hand* hand, uint64_t number)
    void mb_take_poison(const mb_poison* poison, int64_t lots)

ctypedef int64_t (*agent_poll)(void* state) noexcept nogil

ctypedef struct agent:
    agent_poll poll
    void* state


cdef class Agent:
    """Base of every engine agent: owns its state, hands the loop a C view of it."""

    cdef agent c_agent
    cdef readonly str name
    cdef mb_in_hand hand        # where it is shown while no loop runs it
    cdef object _board          # of `shown`

    # From now on, show what is in hand there, in memory of `board`.
    cdef void show_hand(self, mb_in_hand* hand, object board)
