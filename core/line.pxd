"""The line: what the exchange itself has to log before any client's command. A cancel for each order that follows from
another record: mass cancels, kill switches, expiries, the end of a session; oldest order first.

It is part of the state: a ring of order ids, each order in it once at most (`in_line`), so it has room for all.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from matchbox.core.orders cimport live_order
from matchbox.core.sequencer_state cimport sequencer

# Put the cancel of an order in line, unless one stands there.
cdef void stand_in_line(sequencer* s, live_order* order, uint16_t reason) noexcept nogil

# The order whose cancel is the next to be logged, and why; NULL if none stands in line. Orders that have ended are
# passed over.
cdef live_order* next_in_line(sequencer* s, uint16_t* reason) noexcept nogil

# All orders of an account, or those of one market, or side.
cdef void cancel_account(sequencer* s, uint32_t account, uint32_t market, uint8_t side, uint16_t reason) noexcept nogil

# All orders of a market, or all that a session entered. Rare, so it looks at every slot.
cdef void cancel_where(sequencer* s, uint32_t market, uint32_t session, uint16_t reason) noexcept nogil
