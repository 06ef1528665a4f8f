"""What coming records will touch is fetched into the cache, by what they seem to be: a wrong guess costs time and
nothing else.
"""

from libc.stdint cimport uint32_t
from matchbox.core.bits cimport mb_prefetch
from matchbox.core.index cimport index_guess, index_prefetch
from matchbox.core.ledger cimport ledger_prefetch
from matchbox.core.orders cimport client_id_hash
from matchbox.core.sequencer_state cimport sequencer
from matchbox.shm.records cimport MB_NEW_ORDER, mb_record

cdef enum:
    # How many records ahead an order's place in the index and the account, and the order.
    AHEAD_ENTRY = 10
    AHEAD_ORDER = 5


cdef inline void fetch_ahead(const sequencer* s, const mb_record* far, const mb_record* near) noexcept nogil:
    """Of the records that are AHEAD_ENTRY and AHEAD_ORDER places after the next one."""
    cdef uint32_t place
    index_prefetch(&s.orders.by_id, far.order_id)
    # Where an order will stand whose record this becomes.
    index_prefetch(&s.orders.by_id, s.log.position + s.filled + 1 + AHEAD_ENTRY)
    ledger_prefetch(&s.books, far.account)
    place = index_guess(&s.orders.by_id, near.order_id)
    mb_prefetch(&s.orders.slab[place])
    mb_prefetch(<const char*>&s.orders.slab[place] + 64)
    mb_prefetch(&s.money[place])


cdef inline void fetch_client_id(const sequencer* s, const mb_record* far) noexcept nogil:
    """And where it is looked up whether a new order's client order id is taken."""
    if far.kind == MB_NEW_ORDER and far.client_order_id[0]:
        index_prefetch(&s.orders.by_client, client_id_hash(&s.orders, far.account, far.client_order_id))
