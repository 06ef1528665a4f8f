"""The base class of agents; the loop that runs them is core.loop."""


cdef class Agent:
    """Something with a poll(). Subclasses fill `c_agent` in their constructor."""

    def poll(self):
        """Run one poll() now, from Python: tests and recovery step agents by hand. Returns the work done."""
        if self.c_agent.poll == NULL:
            raise TypeError(f"{type(self).__name__} has no poll function")
        cdef int64_t work
        with nogil:
            work = self.c_agent.poll(self.c_agent.state)
        return work

    cdef void show_hand(self, mb_in_hand* hand, object board):
        """For those that have anything in hand."""
        self._board = board
