"""What must hold of the sequencer's state between any two records. Slow: for tests and debug builds."""

from libc.stdint cimport uint64_t
from matchbox.core.sequencer_state cimport sequencer

cdef enum sequencer_invariant:
    CONSERVED = 1           # free and held of an asset are its supply, and none is below 0; of: asset
    HELD = 2                # held of a balance is what orders and waiting withdrawals hold; of: balance
    HOLD = 3                # an order holds, with what it lacks, what it needs; a pending one nothing; of: order id
    CHAIN = 4               # an account's chain has its live orders, oldest first; of: account
    COUNTS = 5              # a market's, or all, live orders; of: market, 0 = all
    UNCHECKED = 6           # there is no memory to check HELD with
    PAIR = 7                # the partner of an order's partner is the order; of: order id

# 0, or the first that does not hold, and of what. Allocates.
cdef int sequencer_broken(const sequencer* s, uint64_t* of) noexcept nogil

# Debug builds, after whatever changed the state: end the process if one does not hold.
cdef void sequencer_verify(const sequencer* s) noexcept nogil
