"""The line: what the exchange itself has to log before any client's command. A cancel for each order that follows from
another record: mass cancels, kill switches, expiries, the end of a session (oldest order first), the end of a list;
and releases of pending orders.

It is part of the state: a ring of order ids, each order in it once at most (`in_line`), and each list, so there is room
for all if there is for two places an order.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from matchbox.core.orders cimport live_order
from matchbox.core.sequencer_state cimport cancel_in_line, sequencer

# Put the cancel of an order in line, unless one stands there.
cdef void stand_in_line(sequencer* s, live_order* order, uint16_t reason) noexcept nogil

# Put the release of a list in line.
cdef void release_in_line(sequencer* s, uint64_t list_id) noexcept nogil

# The order whose cancel is the next to be logged, and why, NULL if none stands in line; or, with reason 0, the first
# pending order of the list that is to be released. Orders that have ended are passed over, and releases of lists whose
# pending orders are to be canceled.
cdef live_order* next_in_line(sequencer* s, uint16_t* reason) noexcept nogil

# The order that a place in the line is for, as above; NULL if it is passed over.
cdef live_order* order_in_line(sequencer* s, const cancel_in_line* place) noexcept nogil

# All orders of an account, or those of one market, or side.
cdef void cancel_account(sequencer* s, uint32_t account, uint32_t market, uint8_t side, uint16_t reason) noexcept nogil

# All orders of a market, or all that a session entered. Rare, so it looks at every slot.
cdef void cancel_where(sequencer* s, uint32_t market, uint32_t session, uint16_t reason) noexcept nogil
