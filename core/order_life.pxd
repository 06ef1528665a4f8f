"""How live orders come and go in the ledger, alone and in lists; and what they hold when they do.

    working     its pending orders wait for its end: with a fill they are released, else canceled, through the line
    pending     in the tables, so it has its client order id and counts as open; but it holds nothing, and no matcher
                knows it
    a pair      each holds what it needs less what it `lack`s, which the other holds; when one ends, that goes over
    replacing   an order holds what was free when it came; what it lacks is handed over by the one it replaces

The ids of a list are adjacent: the list's, the working order's, the pending ones'.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from matchbox.core.orders cimport live_order
from matchbox.core.sequencer_state cimport sequencer
from matchbox.shm.records cimport mb_list_record, mb_record, mb_terms_record

# A new order that was accepted: hold what was decided, remember it. `terms`: its own, or NULL. `head`: the record that
# it belongs to (ORDER_LIST, RELEASE, CANCEL_ORDER with REPLACE), or NULL.
cdef void order_enter(sequencer* s, const mb_record* record, const mb_terms_record* terms,
                      const mb_record* head) noexcept nogil

# An order has ended in the matcher: free what it holds or give it to its partner, release or cancel what it leaves
# behind in its list.
cdef void order_end(sequencer* s, live_order* order) noexcept nogil

# A pending order is canceled: its partner is, too.
cdef void pending_cancel(sequencer* s, live_order* order) noexcept nogil

# What `old` held goes to the order that has come in its place, as far as that lacks it.
cdef void order_hand_over(sequencer* s, live_order* old, live_order* new) noexcept nogil

# Fill in RELEASE and the new orders of the list whose first pending order this is: all but what is stamped. Returns how
# many records it is.
cdef uint32_t release_records(sequencer* s, const live_order* first, mb_record** records) noexcept nogil

# The pending orders of a RELEASE are no more; the new ones take their place, in the same order, under `sessions`.
cdef void release_pending(sequencer* s, const mb_list_record* release, uint32_t* sessions) noexcept nogil
