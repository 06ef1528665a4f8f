"""What Python sees of the sequencer's state; see sequencer_view.pxd."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from matchbox.core.index cimport index_mix
from matchbox.core.ledger cimport ledger_check, ledger_find, ledger_hash
from matchbox.core.line cimport next_in_line, order_in_line
from matchbox.core.orders cimport live_order
from matchbox.core.sequencer_state cimport PENDING, order_money, order_need, sequencer, session_state
from matchbox.core.timers cimport timers_hash
from matchbox.shm.records cimport MB_NAME_BYTES

import numpy as np

OPEN_ORDER = np.dtype([
    ("order_id", "<u8"), ("price_ticks", "<i8"), ("quantity_lots", "<i8"), ("leaves_lots", "<i8"),
    ("cumulative_lots", "<i8"), ("hold", "<i8"), ("account", "<u4"), ("market", "<u4"), ("session", "<u4"),
    ("side", "u1"), ("client_order_id", "S36"), ("pending", "?"), ("partner_id", "<u8"),
])


cdef list view_sessions(const sequencer* s):
    cdef uint32_t number
    cdef const session_state* session
    out = []
    for number in range(1, s.sessions_count + 1):
        session = &s.sessions[number]
        out.append({
            "session": number,
            "name": bytes(session.name[:MB_NAME_BYTES]).rstrip(b"\0").decode(),
            "account": session.account,
            "capabilities": session.capabilities,
            "attached": bool(session.attached),
            "slot": session.slot,
            "position": session.position,
        })
    return out


cdef uint64_t view_hash(sequencer* s) noexcept nogil:
    cdef uint64_t h = index_mix(s.settled ^ <uint64_t>s.settled_index << 48)
    cdef uint64_t total = 0, i
    cdef live_order* order
    cdef uint16_t reason = 0
    for i in range(s.orders.capacity):
        order = &s.orders.slab[i]
        if order.order_id:
            # A sum: the table has no order of its own.
            total += index_mix(index_mix(order.order_id) ^ index_mix(<uint64_t>order.leaves_lots)
                               ^ index_mix(<uint64_t>s.money[i].hold) ^ (<uint64_t>order.price_ticks << 8)
                               ^ order.account)
    h = index_mix(h ^ total)
    for i in range(1, s.sessions_count + 1):
        h = index_mix(h ^ s.sessions[i].position ^ (<uint64_t>s.sessions[i].attached << 63))
    for i in range(<uint64_t>s.max_markets + 1):
        if s.markets[i].exists:
            h = index_mix(h ^ i ^ (<uint64_t>s.markets[i].live_orders << 32)
                          ^ index_mix(<uint64_t>s.markets[i].last_price)
                          ^ <uint64_t>s.markets[i].definition.state << 56)
    # What has ended while it stood in line is no longer in it.
    next_in_line(s, &reason)
    for i in range(s.line_first, s.line_end):
        if order_in_line(s, &s.line[i & s.line_mask]) != NULL:
            h = index_mix(h ^ s.line[i & s.line_mask].order_id)
    return index_mix(h ^ ledger_hash(&s.books) ^ timers_hash(&s.due))


cdef object view_orders(const sequencer* s, uint32_t account, uint32_t market):
    cdef const live_order* order
    cdef uint32_t i, partner
    found = []
    for i in range(s.orders.capacity):
        order = &s.orders.slab[i]
        if order.order_id and account in (0, order.account) and market in (0, order.market):
            partner = s.money[i].partner
            found.append((order.order_id, order.price_ticks, order.quantity_lots, order.leaves_lots,
                          order.cumulative_lots, s.money[i].hold, order.account, order.market, order.session,
                          order.side, bytes(order.client_order_id[:36]), s.money[i].role == PENDING,
                          s.orders.slab[partner - 1].order_id if partner else 0))
    return np.array(sorted(found), OPEN_ORDER)


cdef object _check_order(const sequencer* s, uint32_t slot):
    """Does an order hold what it needs, together with its partner or what it replaces?"""
    cdef const live_order* order = &s.orders.slab[slot]
    cdef const order_money* money = &s.money[slot]
    cdef bint wrong
    if money.partner and s.money[money.partner - 1].partner != slot + 1:
        raise AssertionError(f"a pair that is none: order={order.order_id}")
    if money.role == PENDING:
        wrong = money.hold != 0
    elif money.budget:
        wrong = money.hold < 0 or money.lack < 0
    else:
        wrong = money.hold < 0 or money.lack < 0 or money.hold + money.lack < order_need(s, order) or (
            money.amends == 0 and money.hold + money.lack > order_need(s, order))
    if wrong:
        raise AssertionError(f"not what it needs: order={order.order_id}, hold={money.hold}, lack={money.lack}, "
                             f"open={order.leaves_lots}, price={order.price_ticks}")


cdef object view_check(const sequencer* s):
    cdef uint32_t wrong = ledger_check(&s.books), i
    if wrong:
        raise AssertionError(f"asset {wrong} is not conserved, or a balance is below 0")
    cdef uint64_t place
    held = {}
    for i in range(s.orders.capacity):
        if s.orders.slab[i].order_id:
            _check_order(s, i)
            if s.money[i].role != PENDING:
                held[s.money[i].pays] = held.get(s.money[i].pays, 0) + s.money[i].hold
    for i in range(s.books.movement_count):
        if s.books.movements[i].waits:
            number = ledger_find(&s.books, s.books.movements[i].account, s.books.movements[i].asset)
            held[number] = held.get(number, 0) + s.books.movements[i].amount
    for place in range(1, <uint64_t>s.books.balance_mask + 2):
        if s.books.balances[place].held != held.get(place, 0):
            raise AssertionError(
                f"held without a reason: account={s.books.balances[place].account}, "
                f"asset={s.books.balances[place].asset}, held={s.books.balances[place].held}, "
                f"orders and withdrawals={held.get(place, 0)}"
            )
