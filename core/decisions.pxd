"""Decisions: what a command may do, from the sequencer's state and the record alone."""

from libc.stdint cimport int64_t, uint16_t, uint32_t
from matchbox.core.ledger cimport account_state
from matchbox.core.orders cimport live_order
from matchbox.core.sequencer_state cimport market_state, sequencer, session_state
from matchbox.shm.records cimport mb_named_record, mb_new_order, mb_record, mb_terms_record

# The reject code of a record, 0 to accept. Stamps what the sequencer decides: account, market, order id, side, hold,
# bound, fee rates, session and operator numbers. `terms`: the ORDER_TERMS of a NEW_ORDER, or NULL. A record that needs
# others after or before it is refused here; for those see groups.pxd.
cdef uint16_t decide(sequencer* s, const session_state* session, mb_record* record,
                     const mb_terms_record* terms) noexcept nogil

# The same for an ATTACH_SESSION record alone: stamps its session's number and position.
cdef uint16_t decide_attach(sequencer* s, mb_named_record* record) noexcept nogil

# ---- the checks, one by one; their order is in docs/trading-rules.md

# May the session trade for the record's account? Stamps that, if it is 0.
cdef uint16_t decide_account(const sequencer* s, const session_state* session, mb_record* record) noexcept nogil

# Are both for one account and one market? Account 0 is the session's own.
cdef bint same_place(const session_state* session, const mb_record* one, const mb_record* other) noexcept nogil

# A new order alone.
cdef uint16_t decide_order_alone(const sequencer* s, const mb_record* record,
                                 const mb_terms_record* terms) noexcept nogil

# May the account do this in the market now? takes_place: an order or amend; may_take: one that could match.
cdef uint16_t check_states(const account_state* account, const market_state* market, bint takes_place, bint may_take,
                           bint operates) noexcept nogil

# Is the client order id of a new order free? `replaced`: the order in whose place it comes, or NULL.
cdef uint16_t decide_client_id(sequencer* s, const mb_record* record, const live_order* replaced) noexcept nogil

# Is there room for so many new orders of the record's account and market?
cdef uint16_t decide_room(const sequencer* s, const mb_record* record, uint32_t orders,
                          const live_order* replaced) noexcept nogil

# Bound, hold and fee rates of a new order; refused if there is not enough with `more` than what is free.
cdef uint16_t decide_order_money(sequencer* s, market_state* market, mb_new_order* order,
                                 int64_t more) noexcept nogil

# CANCEL_ORDER and AMEND_ORDER, but for the session.
cdef uint16_t decide_change(sequencer* s, const session_state* session, mb_record* record) noexcept nogil
