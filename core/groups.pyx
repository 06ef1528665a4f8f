"""Records that go together; see groups.pxd. The checks and their order are in docs/trading-rules.md."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp
from matchbox.core.decisions cimport (
    check_states, decide, decide_account, decide_change, decide_client_id, decide_order_alone, decide_order_money,
    decide_room, same_place,
)
from matchbox.core.ledger cimport account_state, ledger_account, ledger_free
from matchbox.core.order_life cimport release_pending, release_records
from matchbox.core.orders cimport live_order, orders_find
from matchbox.core.sequencer_state cimport (
    in_list, market_of, market_state, money_of, order_need, sequencer, session_state,
)
from matchbox.core.sequencing cimport clear_stamps, conclude, stamp_record
from matchbox.core.validation cimport check_list, is_pair, leg_terms, legs_of
from matchbox.shm.records cimport *
from matchbox.shm.ring cimport mb_producer_slot


# ---- what goes together ----------------------------------------------------------------------------------

cdef inline bint _is_leg(const mb_record* record) noexcept nogil:
    return record.kind == MB_NEW_ORDER and record.flags & MB_LEG


cdef inline uint8_t _belongs(const mb_record* record) noexcept nogil:
    return (<const mb_new_order*>record).has_terms if record.kind == MB_NEW_ORDER else 0


cdef uint32_t group_of_commands(mb_record** records, uint32_t count) noexcept nogil:
    cdef const mb_record* head = records[0]
    cdef uint32_t at = 1, legs
    if head.kind == MB_ORDER_TERMS:
        return 2 if count > 1 and records[1].kind == MB_NEW_ORDER else 1
    if head.kind == MB_CANCEL_ORDER and head.flags & MB_REPLACE:
        if count > 1 and records[1].kind == MB_ORDER_TERMS:
            at = 2
        return at + 1 if count > at and _is_leg(records[at]) else 1
    if head.kind != MB_ORDER_LIST:
        return 1
    legs = legs_of((<const mb_list_record*>head).list_type)
    if legs == 0 or count <= legs:
        return 1
    for at in range(1, legs + 1):
        if not _is_leg(records[at]):
            return 1
    return legs + 1


cdef uint32_t group_of_log(mb_record** records, uint32_t count) noexcept nogil:
    cdef const mb_record* head = records[0]
    cdef uint32_t at = 1
    if head.kind == MB_ORDER_TERMS:
        return 2 if count > 1 and _belongs(records[1]) == MB_HAS_TERMS else 1
    if head.kind == MB_CANCEL_ORDER and head.flags & MB_REPLACE:
        if count > 1 and records[1].kind == MB_ORDER_TERMS:
            at = 2
        return at + 1 if count > at and _belongs(records[at]) & MB_REPLACES else 1
    if head.kind == MB_ORDER_LIST or head.kind == MB_RELEASE:
        at = (<const mb_list_record*>head).legs
        return at + 1 if at < GROUP_MAX and count > at else 1
    return 1


# ---- an order in the place of another --------------------------------------------------------------------

cdef int64_t _set_free(const sequencer* s, const live_order* old, const mb_record* order) noexcept nogil:
    """What the canceled order will free for the one in its place."""
    if old == NULL or old.side != order.side or in_list(money_of(s, old)) or money_of(s, old).at_once:
        return 0
    return order_need(s, old)


cdef uint16_t _decide_in_place(sequencer* s, mb_record* cancel, mb_record* order) noexcept nogil:
    """The new order, from who may on; `cancel` is decided."""
    cdef market_state* market = &s.markets[order.market]
    cdef const live_order* old = orders_find(&s.orders, cancel.order_id) if cancel.reject == MB_NONE else NULL
    cdef mb_new_order* new = <mb_new_order*>order
    cdef int64_t free
    cdef uint16_t reason = check_states(ledger_account(&s.books, order.account), market, True,
                                        not order.flags & MB_POST_ONLY, False)
    if reason != MB_NONE:
        return reason
    reason = decide_client_id(s, order, old)
    if reason != MB_NONE:
        return reason
    reason = decide_room(s, order, 1, old)
    if reason != MB_NONE:
        return reason
    reason = decide_order_money(s, market, new, _set_free(s, old, order))
    if reason != MB_NONE:
        return reason
    free = ledger_free(&s.books, order.account, market.definition.quote_asset if order.side == MB_BUY
                       else market.definition.base_asset)
    if new.hold > free:
        cancel.quantity_lots = new.hold - free
    return MB_NONE


cdef void _decide_replace(sequencer* s, const session_state* session, mb_record* cancel, mb_record* order,
                          const mb_terms_record* terms) noexcept nogil:
    cdef uint32_t market = cancel.market
    cdef bint apart = (terms != NULL and not same_place(session, <const mb_record*>terms, order)) or not (
        same_place(session, cancel, order) if market else
        (cancel.account if cancel.account else session.account) == (
            order.account if order.account else session.account))
    order.reject = decide_account(s, session, order)
    if order.reject == MB_NONE and apart:
        order.reject = MB_BAD_LEGS
    if order.reject == MB_NONE:
        order.reject = decide_order_alone(s, order, terms)
    cancel.reject = order.reject
    if order.reject != MB_NONE:
        return
    cancel.account, cancel.market = order.account, order.market
    cancel.reject = decide_change(s, session, cancel)
    if cancel.reject == MB_UNKNOWN_ORDER:
        cancel.market = market
    if cancel.reject != MB_NONE and not cancel.flags & MB_ALLOW_FAILURE:
        order.reject = MB_CANCEL_FAILED
    else:
        order.reject = _decide_in_place(s, cancel, order)


# ---- lists -----------------------------------------------------------------------------------------------

cdef uint16_t _decide_places(sequencer* s, const mb_record* head, mb_record** legs, uint32_t placed,
                             uint32_t count) noexcept nogil:
    """Who may, and room: `placed` of `count` legs are placed at once."""
    cdef const account_state* account = ledger_account(&s.books, head.account)
    cdef const market_state* market = &s.markets[head.market]
    cdef uint16_t reason
    cdef uint32_t i, j
    for i in range(placed):
        reason = check_states(account, market, True, not legs[i].flags & MB_POST_ONLY, False)
        if reason != MB_NONE:
            return reason
    for i in range(count):
        reason = decide_client_id(s, legs[i], NULL)
        if reason != MB_NONE:
            return reason
        for j in range(i):
            if legs[i].client_order_id[0] and memcmp(legs[i].client_order_id, legs[j].client_order_id,
                                                     MB_CLIENT_ID_BYTES) == 0:
                return MB_DUPLICATE_CLIENT_ORDER_ID
    return decide_room(s, head, count, NULL)


cdef uint16_t _decide_pair_money(sequencer* s, mb_new_order* first, mb_new_order* second) noexcept nogil:
    """The first holds what it needs, the second what it needs beyond that."""
    cdef market_state* market = &s.markets[first.market]
    cdef uint16_t reason = decide_order_money(s, market, first, 0)
    if reason != MB_NONE:
        return reason
    reason = decide_order_money(s, market, second, 0)
    second.hold = second.hold - first.hold if second.hold > first.hold else 0
    return reason


cdef uint16_t _decide_legs(sequencer* s, const mb_list_record* head, mb_record** legs, uint32_t count,
                           bint released) noexcept nogil:
    """The legs of an ORDER_LIST, or of a RELEASE (all of which are placed), from each alone on."""
    cdef mb_terms_record terms
    cdef uint16_t reason
    cdef uint32_t i, pair = count, placed = count
    cdef bint timed = False
    for i in range(count):
        timed = timed or legs[i].time_in_force == MB_GTD
        leg_terms(head, <const mb_new_order*>legs[i], i, &terms)
        if i == count - 1 and not timed:
            terms.expire_ns = head.expire_ns
        reason = decide_order_alone(s, legs[i], &terms)
        if reason != MB_NONE:
            return reason
    # Where the pair begins, if there is one, and what is placed now.
    if head.list_type == MB_OCO:
        pair = 0
    elif head.list_type == MB_OTOCO:
        pair = 1
    if not released:
        placed = 2 if pair == 0 else 1
        if pair != 0 and legs[0].order_type != MB_LIMIT:
            return MB_BAD_LEGS
    if pair < count and not is_pair(<const mb_new_order*>legs[pair], <const mb_new_order*>legs[pair + 1]):
        return MB_BAD_LEGS
    reason = _decide_places(s, <const mb_record*>head, legs, placed, count)
    if reason != MB_NONE:
        return reason
    if pair == 0:
        return _decide_pair_money(s, <mb_new_order*>legs[0], <mb_new_order*>legs[1])
    return decide_order_money(s, &s.markets[head.market], <mb_new_order*>legs[0], 0)


cdef uint16_t _decide_list(sequencer* s, const session_state* session, mb_list_record* head, mb_record** legs,
                           uint32_t count) noexcept nogil:
    cdef uint16_t reason
    cdef uint32_t i
    cdef bint apart = False
    for i in range(count):
        apart = apart or not same_place(session, <const mb_record*>head, legs[i])
    reason = decide_account(s, session, <mb_record*>head)
    if reason != MB_NONE:
        return reason
    if apart:
        return MB_BAD_LEGS
    if market_of(s, head.market) == NULL:
        return MB_UNKNOWN_MARKET
    reason = check_list(head, count)
    if reason != MB_NONE:
        return reason
    for i in range(count):
        legs[i].account = head.account
    return _decide_legs(s, head, legs, count, False)


# ---- a client's ------------------------------------------------------------------------------------------

cdef inline uint8_t _belongs_to(const mb_record* head, uint32_t place, uint32_t count) noexcept nogil:
    """How a NEW_ORDER at this place in its group belongs to the records before it."""
    if head.kind == MB_ORDER_TERMS:
        return MB_HAS_TERMS
    if head.kind == MB_CANCEL_ORDER:
        return MB_REPLACES if count == 2 else MB_REPLACES | MB_HAS_TERMS
    return MB_IN_LIST if place == 1 or (<const mb_list_record*>head).list_type == MB_OCO else MB_IS_PENDING


cdef void _refuse_order(mb_record* record, int64_t price) noexcept nogil:
    """It has the price it came with, and nothing held."""
    cdef mb_new_order* order = <mb_new_order*>record
    order.price_ticks, order.hold = price, 0
    order.maker_fee_ppm = order.taker_fee_ppm = 0


cdef void decide_group(sequencer* s, const session_state* session, mb_record** records, uint32_t count) noexcept nogil:
    cdef mb_record* head = records[0]
    cdef mb_record* order = records[count - 1]
    cdef mb_list_record* of_list = <mb_list_record*>head
    cdef const mb_terms_record* terms = NULL
    cdef int64_t prices[GROUP_MAX]
    cdef uint16_t reason
    cdef uint32_t i
    for i in range(count):
        prices[i] = records[i].price_ticks
        clear_stamps(records[i], _belongs_to(head, i, count))
    if head.kind == MB_ORDER_LIST:
        of_list.legs = <uint8_t>(count - 1)
        reason = _decide_list(s, session, of_list, &records[1], count - 1) \
            if session.capabilities & MB_CAN_TRADE else MB_NOT_PERMITTED
        for i in range(count):
            records[i].reject = reason
        of_list.list_id = of_list.sequence if reason == MB_NONE else 0
    else:
        if head.kind == MB_ORDER_TERMS or count == 3:
            terms = <const mb_terms_record*>records[count - 2]
        if not session.capabilities & MB_CAN_TRADE:
            head.reject = order.reject = MB_NOT_PERMITTED
        elif head.kind == MB_CANCEL_ORDER:
            _decide_replace(s, session, head, order, terms)
        else:
            order.reject = decide(s, session, order, terms)
        if terms != NULL:
            records[count - 2].reject = order.reject
    for i in range(count):
        if records[i].account == 0 and records[i].reject != MB_NOT_PERMITTED:
            records[i].account = session.account
        if records[i].reject != MB_NONE and records[i].kind == MB_NEW_ORDER:
            _refuse_order(records[i], prices[i])


cdef void conclude_group(sequencer* s, mb_record** records, uint32_t count) noexcept nogil:
    cdef const mb_record* head = records[0]
    cdef const mb_terms_record* terms = NULL
    cdef mb_terms_record own
    cdef uint32_t i
    conclude(s, head, NULL, NULL)
    if head.kind == MB_ORDER_TERMS:
        terms = <const mb_terms_record*>head
        head = NULL
    for i in range(1, count):
        if records[i].kind == MB_ORDER_TERMS:
            terms = <const mb_terms_record*>records[i]
        elif head != NULL and head.kind != MB_CANCEL_ORDER:
            leg_terms(<const mb_list_record*>head, <const mb_new_order*>records[i], i - 1, &own)
            terms = &own
        conclude(s, records[i], terms, head)


cdef void sequence_group(sequencer* s, mb_record** records, uint32_t count, uint32_t number,
                         uint64_t now) noexcept nogil:
    cdef session_state* session = &s.sessions[number]
    cdef uint32_t i
    for i in range(count):
        stamp_record(s, records[i], now, i)
        session.position += 1
        records[i].session_position = session.position
        records[i].session = number
    decide_group(s, session, records, count)
    conclude_group(s, records, count)
    s.filled += count


# ---- the exchange's own ----------------------------------------------------------------------------------

cdef void decide_release(sequencer* s, mb_record** records, uint32_t count, uint32_t* sessions) noexcept nogil:
    cdef const mb_list_record* release = <const mb_list_record*>records[0]
    cdef int64_t prices[GROUP_MAX]
    cdef uint32_t i
    cdef uint16_t reason
    for i in range(1, count):
        prices[i] = records[i].price_ticks
    release_pending(s, release, sessions)
    reason = _decide_legs(s, release, &records[1], count - 1, True)
    for i in range(1, count):
        records[i].reject = reason
        if reason != MB_NONE:
            _refuse_order(records[i], prices[i])


cdef void conclude_release(sequencer* s, mb_record** records, uint32_t count, const uint32_t* sessions) noexcept nogil:
    cdef uint32_t i
    cdef live_order* order
    conclude_group(s, records, count)
    for i in range(1, count):
        order = orders_find(&s.orders, records[i].sequence)
        if order != NULL:
            order.session = sessions[i - 1]


cdef void sequence_release(sequencer* s, const live_order* first, uint64_t now) noexcept nogil:
    cdef mb_record* records[GROUP_MAX]
    cdef uint32_t sessions[2]
    cdef uint32_t i, count
    for i in range(GROUP_MAX):
        records[i] = <mb_record*>mb_producer_slot(&s.log, s.filled + i)
    count = release_records(s, first, records)
    for i in range(count):
        stamp_record(s, records[i], now, i)
    decide_release(s, records, count, sessions)
    conclude_release(s, records, count, sessions)
    s.filled += count
