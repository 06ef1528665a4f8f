"""What the agent loop needs of an agent: one function and one pointer.

An agent's poll() does a bounded amount of work, never waits, and returns how much it did (records and
events handled; 0 = there was nothing to do). It runs without the GIL, on one thread at a time.
"""

from libc.stdint cimport int64_t

ctypedef int64_t (*agent_poll)(void* state) noexcept nogil

ctypedef struct agent:
    agent_poll poll
    void* state


cdef class Agent:
    """Base of every engine agent: owns its state, hands the loop a C view of it."""

    cdef agent c_agent
    cdef readonly str name
