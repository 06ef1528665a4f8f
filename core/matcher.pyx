"""The matcher: Matcher for arrays of commands, MatcherAgent for the live log. How it goes on is in matcher.pxd.

Events of each command, `index` from 0, the last with LAST (fields not named are 0; all carry sequence,
order_id, market, account, side; `price` is the order's limit or bound, `leaves` all that is open, `level` what is
shown at the price):

    new, rests at once     ACCEPTED(RESTING: price, quantity = leaves, level)
    new, waits             ACCEPTED(WAITING: price, quantity = leaves)
    new, takes             ACCEPTED(price, quantity = leaves), TRADE..., then if anything is left
                           RESTED(price, quantity = total, leaves, cumulative, level) for GTC and GTD, else
                           EXPIRED(reason: price, quantity = what was left, cumulative)
    cancel                 CANCELED(reason, RESTING: price, quantity = what was open, cumulative, level), or without
                           RESTING and level if it waited
    amend, keeps its place AMENDED(RESTING: price, quantity = total, leaves, cumulative, level, previous price
                           = price, previous level = the level without this order)
    amend, loses it        AMENDED(RESTING: ...) if it rests at once, or AMENDED without RESTING and level, then
                           TRADE..., RESTED; previous price and level say what it left behind
    fill                   TRADE(price and level of the maker, quantity, leaves and cumulative of taker and maker, fees)
    own orders meet        instead of a fill: PREVENTED(as TRADE, without trade id and fees), or of the maker
                           EXPIRED(SELF_TRADE, RESTING: price, quantity = what was open, cumulative, level)
    one of a pair          right after what happened to it (a fill, PREVENTED, EXPIRED, CANCELED, TRIGGERED): of the
                           other CANCELED(LIST_ENDED, as cancel)
    triggered              after the end of the taker before: TRIGGERED(price, quantity = leaves), then as a new order
                           that takes, or RESTED at once
    refused                REJECTED(reason, price and quantity as in the command)

State is only what markets hold, and what is kept between records that go together; a refused command changes none of
it.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset
from matchbox.core.agent cimport Agent, MB_MATCHING, mb_in_hand, mb_take_in_hand, mb_take_poison
from matchbox.core.bits cimport mb_copy_record, mb_likely, mb_prefetch, mb_unlikely
from matchbox.core.book cimport (
    SHOWS, book, book_bucket, book_crosses, book_find, book_free, book_hidden, book_hide, book_new, book_pair,
    book_reduce, book_unpair, book_unqueue, order, special, special_new, terms_kept, terms_self_trade,
)
from matchbox.core.debug cimport MB_DEBUG, mb_broken
from matchbox.core.fees cimport mb_amount
from matchbox.core.instrument cimport instrument_check, instrument_check_rules
from matchbox.core.ledger cimport hold_of
from matchbox.core.markets cimport (
    PreparedMarket, market as market_state, market_apply_rules, market_close, market_depth, market_find, market_known,
    market_memory, market_numbers, market_open, market_orders, market_place, market_take, market_waiting,
    markets_broken, markets_create, markets_destroy, markets_hash, markets_pass_over,
    markets_validate,
)
from matchbox.core.price_index cimport ASK, BID, price_of
from matchbox.core.taker cimport *
from matchbox.core.triggers cimport trigger_reached, triggers_add, triggers_remove
from matchbox.core.validation cimport (
    has_limit, is_pair, leg_terms, legs_of, may_rest, notional_fits, validate_command,
)
from matchbox.shm.records cimport *
from matchbox.shm.ring cimport *

import numpy as np

from matchbox.core.markets import LEVEL, ORDER, WAITING  # no-cython-lint: given on
from matchbox.shm.errors import BadArgument
from matchbox.shm.records import COMMAND, EVENT, MARKET_RECORD

cdef enum:
    # Records of one poll() of the agent: bounds its time and how late the log's slots are given back.
    POLL_RECORDS = 256
    # Events of one poll().
    POLL_EVENTS = 1024
    # How many commands ahead an order's bucket, its slot and its neighbours are fetched into the cache.
    AHEAD_BUCKET = 12
    AHEAD_ORDER = 8
    AHEAD_LINKS = 4


# ---- new orders ------------------------------------------------------------------------------------------

cdef bint _triggered_already(const taker* t, const mb_record* record) noexcept nogil:
    cdef int64_t last = t.place.waiting.last_price
    return (<const mb_new_order*>record).trailing_bips == 0 and last != 0 \
        and trigger_reached(t.side, record.order_type, record.trigger_ticks, last)


cdef void _wait(taker* t, const mb_record* record, event_room* room) noexcept nogil:
    """A new order with a trigger that is not reached waits."""
    cdef book* b = &t.place.orders
    cdef special* s
    cdef mb_event* event
    t.slot = book_new(b, t.order_id, t.account, 0, t.terms)
    b.orders[t.slot].leaves_lots = t.open_lots
    b.orders[t.slot].level = 0
    s = special_new(b, t.slot)
    s.side = t.side
    s.order_type = record.order_type
    s.time_in_force = record.time_in_force
    s.price = t.price
    s.trigger = record.trigger_ticks
    s.hold = 0 if has_limit(record.order_type) else record.hold
    s.display_lots = t.display_lots
    triggers_add(&t.place.waiting, b, t.slot)
    event = taker_event(t, room, MB_ACCEPTED)
    taker_fill_in(t, event)
    event.flags = MB_WAITING | MB_LAST


cdef inline uint16_t _check_room(const taker* t, const mb_record* record) noexcept nogil:
    """Of an order that may stay here."""
    cdef const book* b = &t.place.orders
    if mb_unlikely(b.count == b.capacity):
        return MB_TOO_MANY_ORDERS
    if mb_unlikely(record.order_type > MB_MARKET or t.display_lots) and b.free_special == 0:
        return MB_TOO_MANY_ORDERS
    return MB_NONE


cdef inline void _set_up(taker* t, const mb_record* record, const mb_terms_record* terms) noexcept nogil:
    """A new order is the taker."""
    t.order_id = t.sequence
    t.account = record.account
    t.side = <uint8_t>(record.side - 1)
    t.price = record.price_ticks
    t.open_lots = record.quantity_lots
    t.cumulative_lots = 0
    t.slot = 0
    # In a NEW_ORDER, its terms are where others name an order.
    t.terms = terms_kept(record.order_id)
    t.care = OWN if mb_unlikely(terms_self_trade(t.terms) != 0) else 0
    t.display_lots = terms.display_lots if mb_unlikely(terms != NULL) else 0
    t.rests = may_rest(record.time_in_force)


cdef matcher_status _new_order(taker* t, const mb_record* record, const mb_terms_record* terms,
                               event_room* room) noexcept nogil:
    cdef book* b = &t.place.orders
    cdef uint16_t reason
    _set_up(t, record, terms)
    if t.rests or mb_unlikely(record.order_type > MB_MARKET):
        reason = _check_room(t, record)
        if mb_unlikely(reason != MB_NONE):
            return taker_reject(record, t.sequence, reason, room)
    if mb_likely(has_limit(record.order_type)):
        taker_set_limit(t)
        if mb_unlikely(not taker_in_band(t)):
            return taker_reject(record, t.sequence, MB_PRICE_BAND, room)
    else:
        taker_set_market(t, record.hold, record.flags & MB_QUOTE_AMOUNT != 0)
    if mb_unlikely(record.order_type > MB_MARKET):
        if _triggered_already(t, record):
            return taker_reject(record, t.sequence, MB_WOULD_TRIGGER, room)
        _wait(t, record, room)
        return DONE
    taker_clamp(t)
    if mb_likely(t.rests):
        if not book_crosses(b, t.side ^ 1, t.limit_key):
            taker_rest(t, taker_event(t, room, MB_ACCEPTED), MB_RESTING | MB_LAST)
            return DONE
        if record.flags & MB_POST_ONLY:
            return taker_reject(record, t.sequence, MB_WOULD_TAKE, room)
    elif record.time_in_force == MB_FOK:
        taker_count(t)
        return taker_go_on(t, record, room)
    taker_fill_in(t, taker_event(t, room, MB_ACCEPTED))
    t.stage = SWEEPING
    return taker_go_on(t, record, room)


# ---- pairs -----------------------------------------------------------------------------------------------

cdef uint16_t _check_leg(taker* t, const mb_record* record, const mb_terms_record* terms) noexcept nogil:
    """Whether one of a pair, which is the taker then, can be accepted. Changes no book."""
    _set_up(t, record, terms)
    if has_limit(record.order_type):
        taker_set_limit(t)
        if not taker_in_band(t):
            return MB_PRICE_BAND
    if record.order_type > MB_MARKET:
        return MB_WOULD_TRIGGER if _triggered_already(t, record) else MB_NONE
    taker_clamp(t)
    return MB_WOULD_TAKE if book_crosses(&t.place.orders, t.side ^ 1, t.limit_key) else MB_NONE


cdef void _accept_leg(taker* t, const mb_record* record, const mb_terms_record* terms, event_room* room) noexcept nogil:
    """One of a pair rests or waits, with a special in any case. It holds, with its partner, what it can need."""
    cdef book* b = &t.place.orders
    _set_up(t, record, terms)
    t.index = 0
    if record.order_type > MB_MARKET:
        _wait(t, record, room)
        b.specials[b.orders[t.slot].special].hold = 0
        return
    taker_set_limit(t)
    t.slot = book_new(b, t.order_id, t.account, 0, t.terms)
    special_new(b, t.slot).display_lots = t.display_lots
    taker_rest(t, taker_event(t, room, MB_ACCEPTED), MB_RESTING | MB_LAST)


cdef uint16_t _check_pair(matcher* m, const mb_record* second) noexcept nogil:
    cdef taker* t = &m.current
    cdef const book* b = &t.place.orders
    cdef mb_terms_record terms
    cdef uint16_t reason
    if b.count + 2 > b.capacity or b.free_special == 0 or b.specials[b.free_special].slot == 0:
        return MB_TOO_MANY_ORDERS
    leg_terms(&m.of_list, <const mb_new_order*>&m.first, 0, &terms)
    reason = _check_leg(t, &m.first, &terms)
    if reason != MB_NONE:
        return reason
    leg_terms(&m.of_list, <const mb_new_order*>second, 1, &terms)
    return _check_leg(t, second, &terms)


cdef matcher_status _pair(matcher* m, const mb_record* second, uint64_t sequence, event_room* room) noexcept nogil:
    """The second of a pair is here: both are accepted, or both refused. The first's event comes first."""
    cdef taker* t = &m.current
    cdef mb_terms_record terms
    t.reason = _check_pair(m, second)
    if t.reason != MB_NONE:
        taker_reject(&m.first, m.first.sequence, t.reason, room)
    else:
        leg_terms(&m.of_list, <const mb_new_order*>&m.first, 0, &terms)
        t.sequence = m.first.sequence
        _accept_leg(t, &m.first, &terms, room)
        t.partner = t.slot
    t.sequence = sequence
    t.stage = PAIRING
    return _pair_second(m, second, room)


cdef matcher_status _pair_second(matcher* m, const mb_record* second, event_room* room) noexcept nogil:
    cdef taker* t = &m.current
    cdef mb_terms_record terms
    if room.position == room.limit:
        return FULL
    t.stage = IDLE
    if t.reason != MB_NONE:
        return taker_reject(second, t.sequence, t.reason, room)
    leg_terms(&m.of_list, <const mb_new_order*>second, 1, &terms)
    _accept_leg(t, second, &terms, room)
    book_pair(&t.place.orders, t.partner, t.slot)
    return DONE


# ---- cancels and amends ----------------------------------------------------------------------------------

cdef inline uint32_t _find(taker* t, uint64_t order_id) noexcept nogil:
    """The slot of the order, whose owner and side the events then carry, or 0."""
    cdef book* b = &t.place.orders
    cdef uint32_t slot = book_find(b, order_id)
    cdef const order* o = &b.orders[slot]
    t.slot = slot
    t.order_id = order_id
    t.account = o.account
    t.side = <uint8_t>b.prices.levels[o.level].side
    return slot


cdef inline bint _waits(const book* b, uint32_t slot) noexcept nogil:
    return b.orders[slot].special != 0 and b.specials[b.orders[slot].special].state != SHOWS


cdef matcher_status _cancel(taker* t, const mb_record* record, event_room* room) noexcept nogil:
    cdef book* b = &t.place.orders
    cdef uint32_t slot = _find(t, record.order_id), partner = 0
    cdef mb_event* event
    if mb_unlikely(slot == 0):
        return taker_reject(record, t.sequence, MB_UNKNOWN_ORDER, room)
    event = taker_event(t, room, MB_CANCELED)
    event.reason = <uint16_t>record.cancel_reason if record.cancel_reason else MB_ON_REQUEST
    event.quantity_lots = b.orders[slot].leaves_lots
    event.cumulative_lots = b.orders[slot].cumulative_lots
    if mb_unlikely(_waits(b, slot)):
        event.side = b.specials[b.orders[slot].special].side + 1
        event.price_ticks = b.specials[b.orders[slot].special].price
        event.flags = MB_LAST
        triggers_remove(&t.place.waiting, b, slot)
    else:
        event.quantity_lots += book_hidden(b, slot)
        event.price_ticks = price_of(&b.prices.levels[b.orders[slot].level])
        event.level_lots = book_unqueue(b, slot)
        event.flags = MB_RESTING | MB_LAST
    if mb_unlikely(b.orders[slot].special != 0):
        partner = book_unpair(b, slot)
    book_free(b, slot)
    if mb_unlikely(partner != 0):
        event.flags &= ~MB_LAST
        taker_part(t, partner, IDLE)
        return taker_go_on(t, record, room)
    return DONE


cdef inline bint _held(const taker* t, int64_t old_price, int64_t old_open, int64_t extra) noexcept nogil:
    """Does what the order holds, and `extra`, cover what it is to hold? extra -1: whatever it is."""
    cdef mb_amount now, then, unit
    if extra == -1:
        return True
    if t.side == ASK:
        unit = <mb_amount>t.place.rules.lot_units
        now = unit * <mb_amount>old_open
        then = unit * <mb_amount>t.open_lots
    else:
        now = <mb_amount>(old_price * old_open * t.place.rules.notional_units)
        then = <mb_amount>(t.price * t.open_lots * t.place.rules.notional_units)
    return then <= now or then - now <= <mb_amount>max(extra, 0)


cdef inline uint16_t _check_amend(const taker* t, const mb_record* record, int64_t old_price, int64_t old_open,
                                  bint check_holds) noexcept nogil:
    """Whether the order may become what the amend makes of it: t.price, t.open_lots, t.cumulative_lots."""
    cdef int64_t total = t.cumulative_lots + t.open_lots
    if mb_unlikely(t.open_lots <= 0):
        return MB_BELOW_FILLED
    if record.quantity_lots and mb_unlikely(total < t.place.rules.min_quantity_lots
                                            or total > t.place.rules.max_quantity_lots):
        return MB_BAD_QUANTITY
    if mb_unlikely(not notional_fits(&t.place.rules, t.price, total)):
        return MB_NOTIONAL_OVERFLOW
    if record.price_ticks and mb_unlikely(not taker_in_band(t)):
        return MB_PRICE_BAND
    if check_holds and mb_unlikely(not _held(t, old_price, old_open, record.hold)):
        return MB_HOLD_EXCEEDED
    return MB_NONE


cdef void _amend_in_place(taker* t, int64_t less, mb_event* event) noexcept nogil:
    """`less` lots less of it; hidden ones go first."""
    cdef book* b = &t.place.orders
    cdef int64_t hidden = book_hidden(b, t.slot), shown
    if mb_unlikely(hidden != 0):
        book_hide(b, t.slot, hidden - min(less, hidden))
        less -= min(less, hidden)
    shown = b.orders[t.slot].leaves_lots - less
    event.level_lots = book_reduce(b, t.slot, shown)
    event.previous_level_lots = event.level_lots - shown
    event.flags = MB_RESTING | MB_LAST


cdef matcher_status _amend(taker* t, const mb_record* record, bint check_holds, event_room* room) noexcept nogil:
    cdef book* b = &t.place.orders
    cdef uint32_t slot = _find(t, record.order_id)
    cdef int64_t old_price, old_open
    cdef const order* o = &b.orders[slot]
    cdef uint16_t reason
    cdef mb_event* event
    if mb_unlikely(slot == 0):
        return taker_reject(record, t.sequence, MB_UNKNOWN_ORDER, room)
    if mb_unlikely(o.special != 0) and (_waits(b, slot) or b.specials[o.special].partner):
        return taker_reject(record, t.sequence, MB_CANNOT_AMEND, room)
    old_price = price_of(&b.prices.levels[o.level])
    old_open = o.leaves_lots + book_hidden(b, slot)
    t.cumulative_lots = o.cumulative_lots
    t.price = record.price_ticks if record.price_ticks else old_price
    t.open_lots = old_open
    if record.quantity_lots:
        t.open_lots = record.quantity_lots - (0 if record.flags & MB_TO_OPEN else t.cumulative_lots)
    reason = _check_amend(t, record, old_price, old_open, check_holds)
    if mb_unlikely(reason != MB_NONE):
        return taker_reject(record, t.sequence, reason, room)
    event = taker_event(t, room, MB_AMENDED)
    event.previous_price_ticks = old_price
    taker_fill_in(t, event)
    if t.price == old_price and t.open_lots <= old_open and not record.flags & MB_REQUEUE:
        _amend_in_place(t, old_open - t.open_lots, event)
        return DONE
    event.previous_level_lots = book_unqueue(b, slot)
    t.display_lots = b.specials[o.special].display_lots
    if mb_unlikely(t.display_lots != 0):
        book_hide(b, slot, 0)
    taker_set_limit(t)
    if not book_crosses(b, t.side ^ 1, t.limit_key):
        taker_rest(t, event, MB_RESTING | MB_LAST)
        return DONE
    taker_clamp(t)
    t.terms = o.terms
    t.care = OWN if terms_self_trade(o.terms) else 0
    t.rests = True
    t.stage = SWEEPING
    return taker_go_on(t, record, room)


# ---- one record ------------------------------------------------------------------------------------------

cdef matcher_status _set_market(matcher* m, const mb_rules_record* record, uint64_t sequence,
                                event_room* room) noexcept nogil:
    cdef market_state* place = market_find(&m.markets, record.market)
    cdef uint16_t reason
    if place == NULL or not place.open:
        return taker_reject(<const mb_record*>record, sequence, MB_UNKNOWN_MARKET, room)
    reason = instrument_check_rules(&place.rules, record)
    if reason != MB_NONE:
        return taker_reject(<const mb_record*>record, sequence, reason, room)
    market_apply_rules(place, record)
    return DONE


cdef inline uint16_t _find_place(matcher* m, const mb_record* record, const mb_terms_record* terms,
                                 uint64_t sequence) noexcept nogil:
    """The record's market is where it happens, if the record is fine alone; else why it is refused."""
    cdef taker* t = &m.current
    cdef uint16_t reason
    t.place = market_find(&m.markets, record.market)
    if mb_unlikely(t.place == NULL or not t.place.open):
        return MB_UNKNOWN_MARKET
    reason = validate_command(record, terms, &t.place.rules, True)
    if mb_unlikely(reason != MB_NONE):
        # No sequencer lets through what has something in reserve: a record that is cut has it from who reads the log.
        return MB_POISONED if record.reserved == MB_CUT else reason
    mb_take_poison(&m.poison, record.quantity_lots)
    t.sequence = sequence
    t.index = 0
    t.triggered = False
    t.banded = False
    if mb_unlikely(t.place.banded):
        taker_set_band(t)
    return MB_NONE


cdef inline matcher_status _begin_alone(matcher* m, const mb_record* record, const mb_terms_record* terms,
                                        uint64_t sequence, event_room* room) noexcept nogil:
    cdef uint16_t reason = _find_place(m, record, terms, sequence)
    if mb_unlikely(reason != MB_NONE):
        return taker_reject(record, sequence, reason, room)
    if record.kind == MB_NEW_ORDER:
        return _new_order(&m.current, record, terms, room)
    if record.kind == MB_CANCEL_ORDER:
        return _cancel(&m.current, record, room)
    return _amend(&m.current, record, m.check_holds, room)


cdef matcher_status _begin(matcher* m, const mb_record* record, uint64_t sequence, event_room* room) noexcept nogil:
    if mb_unlikely(m.expects != NOTHING or record.kind > MB_AMEND_ORDER or record.kind < MB_NEW_ORDER
                   or record.flags & (MB_LEG | MB_REPLACE)):
        return _begin_together(m, record, sequence, room)
    return _begin_alone(m, record, NULL, sequence, room)


# ---- records that go together ----------------------------------------------------------------------------

cdef matcher_status _keep(matcher* m, const mb_record* record, uint64_t sequence, event_room* room) noexcept nogil:
    """What is no command on an order: kept for what follows, or done."""
    if record.kind == MB_ORDER_TERMS:
        mb_copy_record(&m.terms, record)
        m.expects = AN_ORDER | (m.expects & A_REPLACEMENT)
        return DONE
    m.expects = NOTHING
    if record.kind == MB_SET_MARKET:
        return _set_market(m, <const mb_rules_record*>record, sequence, room)
    if record.kind != MB_ORDER_LIST and record.kind != MB_RELEASE:
        return taker_reject(record, sequence, MB_UNKNOWN_KIND, room)
    mb_copy_record(&m.of_list, record)
    m.legs = m.of_list.legs if record.kind == MB_RELEASE else <uint8_t>legs_of(m.of_list.list_type)
    m.leg = 0
    m.expects = LEGS if m.legs else NOTHING
    return DONE


cdef matcher_status _cancel_for(matcher* m, const mb_record* record, uint64_t sequence,
                                event_room* room) noexcept nogil:
    """CANCEL_ORDER with REPLACE."""
    cdef uint64_t position = room.position
    cdef matcher_status status = _begin_alone(m, record, NULL, sequence, room)
    cdef const mb_event* event = &room.slots[position & room.mask]
    m.replaced.failed = event.kind == MB_REJECTED
    m.replaced.allowed = record.flags & MB_ALLOW_FAILURE != 0
    m.replaced.lack = record.quantity_lots
    m.replaced.market = record.market
    m.replaced.hold = 0
    if not m.replaced.failed:
        m.replaced.hold = hold_of(&m.current.place.rules, event.side, event.price_ticks, event.quantity_lots)
    m.expects = A_REPLACEMENT
    return status


cdef matcher_status _replace(matcher* m, const mb_record* record, const mb_terms_record* terms, uint64_t sequence,
                             event_room* room) noexcept nogil:
    """An order in the place of the one that was canceled right before it."""
    cdef uint16_t reason = _find_place(m, record, terms, sequence)
    if reason == MB_NONE and m.replaced.failed and not m.replaced.allowed:
        reason = MB_CANCEL_FAILED
    if reason == MB_NONE and m.replaced.lack > m.replaced.hold:
        reason = MB_HOLD_EXCEEDED
    if reason != MB_NONE:
        return taker_reject(record, sequence, reason, room)
    return _new_order(&m.current, record, terms, room)


cdef matcher_status _leg(matcher* m, const mb_record* record, uint64_t sequence, event_room* room) noexcept nogil:
    """The next leg of the list."""
    cdef const mb_new_order* sent = <const mb_new_order*>record
    cdef mb_terms_record terms
    cdef uint32_t number = m.leg
    cdef uint8_t expected = m.expects
    cdef uint16_t reason
    m.leg += 1
    if m.leg == m.legs:
        m.expects = NOTHING
    if m.of_list.list_type != MB_OCO:
        if sent.has_terms & MB_IS_PENDING:
            return DONE
        if not sent.has_terms & MB_IN_LIST:
            # Nobody is there who would release what waits.
            return taker_reject(record, sequence, MB_BAD_LEGS, room)
        leg_terms(&m.of_list, sent, number, &terms)
        return _begin_alone(m, record, &terms, sequence, room)
    leg_terms(&m.of_list, sent, number, &terms)
    if number == 0:
        reason = _find_place(m, record, &terms, sequence)
        if reason != MB_NONE:
            m.expects = NOTHING
            return taker_reject(record, sequence, reason, room)
        mb_copy_record(&m.first, record)
        m.first.sequence = sequence
        m.expects |= A_SECOND
        return DONE
    reason = _find_place(m, record, &terms, sequence)
    if reason == MB_NONE and not is_pair(<const mb_new_order*>&m.first, sent):
        reason = MB_BAD_LEGS
    if reason == MB_NONE:
        return _pair(m, record, sequence, room)
    if expected & A_SECOND:
        taker_reject(&m.first, m.first.sequence, reason, room)
    m.current.reason = reason
    m.current.sequence = sequence
    m.current.stage = PAIRING
    return _pair_second(m, record, room)


cdef matcher_status _begin_together(matcher* m, const mb_record* record, uint64_t sequence,
                                    event_room* room) noexcept nogil:
    cdef const mb_terms_record* terms = NULL
    cdef uint8_t expected = m.expects
    cdef bint leg = record.kind == MB_NEW_ORDER and record.flags & MB_LEG
    if expected & LEGS:
        if leg and record.market == m.of_list.market:
            return _leg(m, record, sequence, room)
        # Not what the list announced.
        m.expects = NOTHING
        if expected & A_SECOND:
            taker_reject(&m.first, m.first.sequence, MB_BAD_LEGS, room)
            if room.position == room.limit:
                return FULL
    if record.kind < MB_NEW_ORDER or record.kind > MB_AMEND_ORDER:
        return _keep(m, record, sequence, room)
    m.expects = NOTHING
    if record.kind == MB_CANCEL_ORDER and record.flags & MB_REPLACE:
        return _cancel_for(m, record, sequence, room)
    if record.kind == MB_NEW_ORDER and expected & AN_ORDER and record.market == m.terms.market:
        terms = &m.terms
    if not leg:
        return _begin_alone(m, record, terms, sequence, room)
    if expected & A_REPLACEMENT and record.market == m.replaced.market:
        return _replace(m, record, terms, sequence, room)
    if (<const mb_new_order*>record).has_terms & MB_REPLACES:
        # The cancel was refused before it came here, which was allowed.
        return _begin_alone(m, record, terms, sequence, room)
    return taker_reject(record, sequence, MB_BAD_LEGS, room)


cdef matcher_status matcher_step(matcher* m, const mb_record* record, uint64_t sequence,
                                 event_room* room) noexcept nogil:
    if mb_unlikely(room.position == room.limit):
        return FULL
    if mb_likely(m.current.stage == IDLE):
        return _begin(m, record, sequence, room)
    if mb_unlikely(m.current.stage == PAIRING):
        return _pair_second(m, record, room)
    return taker_go_on(&m.current, record, room)


# ---- batches ---------------------------------------------------------------------------------------------

cdef inline void _ahead(const matcher* m, const mb_record* bucket, const mb_record* slot,
                        const mb_record* links) noexcept nogil:
    """Fetch what coming commands will touch: by hash, so wrong guesses cost time and nothing else.

    A new order names none, and what is fetched for it is of no use; asking what kind each command is costs more,
    as no branch predictor knows.
    """
    cdef const market_state* place = market_find(&m.markets, bucket.market)
    cdef const book* b
    cdef const order* o
    if mb_likely(place != NULL):
        mb_prefetch(book_bucket(&place.orders, bucket.order_id))
    place = market_find(&m.markets, slot.market)
    if mb_likely(place != NULL):
        b = &place.orders
        mb_prefetch(&b.orders[book_bucket(b, slot.order_id)[0]])
    place = market_find(&m.markets, links.market)
    if mb_likely(place != NULL):
        b = &place.orders
        o = &b.orders[book_bucket(b, links.order_id)[0]]
        mb_prefetch(&b.orders[o.prev])
        mb_prefetch(&b.orders[o.next])
        mb_prefetch(&b.prices.levels[o.level])


# ---- Python ----------------------------------------------------------------------------------------------

cdef class Matcher:
    """Books without processes: commands in, events out, whole arrays at a time.

    `markets` are MARKET_RECORDs (see core.instrument.market_record). max_specials: how many orders of a market can be
    icebergs or wait for a trigger at a time (by default a 16th, 64 at least). check_holds: refuse amends that their
    `hold` does not cover, as the live matcher does. One thread at a time.
    """

    def __cinit__(self):
        memset(&self.core, 0, sizeof(matcher))
        markets_create(&self.core.markets)

    def __init__(self, markets=(), *, max_specials=None, check_holds=False):
        self.core.check_holds = check_holds
        for record in markets:
            self.add_market(record, max_specials=max_specials)

    def __dealloc__(self):
        markets_destroy(&self.core.markets)

    def add_market(self, record, *, max_specials=None):
        """Open one more market. Raises BadArgument for a bad definition or a number that is taken."""
        cdef const uint8_t[::1] view = _bytes(np.array([record], MARKET_RECORD), MARKET_RECORD, "record")
        cdef const mb_market_record* definition = <const mb_market_record*>&view[0]
        if instrument_check(definition) != MB_NONE:
            raise BadArgument(f"not a market that can be run: {record}")
        prepared = PreparedMarket(definition.market, definition.max_orders, max_specials)
        _place(&self.core, prepared)
        market_open(market_find(&self.core.markets, definition.market), definition)

    def process(self, commands, out=None):
        """The events of `commands`, in order.

        commands: one-dimensional, contiguous array of COMMAND: orders, cancels, amends; ORDER_TERMS right before the
        order that they are of; ORDER_LIST of type OCO and its two legs; CANCEL_ORDER with REPLACE and the order that
        comes in its place; SET_MARKET. Pending orders need a sequencer: BAD_LEGS. A command's sequence is its order's
        id; 0 means "one more than the last".
        Of the fields that a sequencer stamps, the time counts for expiry, and of an order its fee rates, and if it
        is a market order its bound (price_ticks; 0: none) and budget (hold; 0: none); of a cancel its reason, with
        REPLACE what the new order lacks.
        What only a sequencer decides (who may, states, balances) is not asked.
        out: array of EVENT to fill. The result is the part of it that was filled, and `consumed` says how many
        commands are complete. If that is not all of them, call again with the rest, beginning with the
        command that was interrupted. Without `out` the result is a new array of all events.

        The GIL is released. Raises BadArgument, before anything is processed, for another dtype or shape, or
        for a sequence that is not above the one before it.
        """
        if self.busy:
            raise BadArgument("another thread is in this matcher's process()")
        cdef const uint8_t[::1] view = _bytes(commands, COMMAND, "commands")
        cdef Py_ssize_t count = len(commands), taken
        self.consumed = 0
        if out is not None:
            return out[:_fill(self, view, count, 0, out)]
        parts = []
        while self.consumed < count:
            taken = self.consumed
            part = np.empty(min(count - taken, 1 << 20) * 5 // 4 + 16, EVENT)
            parts.append(part[:_fill(self, view, count, taken, part)])
        return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.empty(0, EVENT)

    @property
    def sequence(self):
        """The sequence of the last command."""
        return self.last_sequence

    @property
    def markets(self):
        """The numbers of the markets, rising."""
        return market_numbers(&self.core.markets)

    def state_hash(self, market=None):
        """64-bit hash of one market, or of all: iteration order counts, memory layout does not."""
        return markets_hash(&self.core.markets, market)

    def validate(self):
        """Check every invariant of every book. Raises AssertionError; BadArgument if a command is under way."""
        _check_all(&self.core)

    def depth(self, market, levels=10, *, hidden=False):
        """(bids, asks): arrays of up to `levels` LEVELs (price_ticks, quantity_lots), best first.

        Quantity is what is shown, as market data has it; hidden=True: with what icebergs hide.
        """
        return _depth(market_known(&self.core.markets, market), levels, hidden)

    def orders(self, market):
        """All resting orders as an array of ORDER: bids from the best on, then asks, in queue order.

        leaves_lots is all that is open of an order, hidden_lots the part of it that is not shown.
        """
        return market_orders(market_known(&self.core.markets, market))

    def waiting(self, market):
        """All orders that wait for a trigger as an array of WAITING, by order id."""
        return market_waiting(market_known(&self.core.markets, market))

    def last_price(self, market):
        """The last price in ticks: of the latest trade, or a reference set since; None until there is one."""
        return market_known(&self.core.markets, market).waiting.last_price or None

    def memory(self, market):
        """Bytes of a market, all in: fixed when it is added."""
        return market_memory(market_known(&self.core.markets, market))


cdef Py_ssize_t _fill(Matcher self, const uint8_t[::1] view, Py_ssize_t count, Py_ssize_t first, out) except -1:
    """Process commands first to count of `view` into `out`; returns the number of events, moves `consumed`."""
    cdef uint8_t[::1] slots = _bytes(out, EVENT, "out")
    cdef event_room room
    cdef const mb_record* records
    cdef Py_ssize_t done = first, size = len(out), reach
    if count == first or size == 0:
        return 0
    records = <const mb_record*>&view[0]
    room.slots = <mb_event*>&slots[0]
    room.mask = <uint64_t>-1
    room.position = 0
    room.limit = size
    # Each command takes one event or more, so no further one can be reached.
    reach = first + min(count - first, size)
    _check_sequences(self, records, first, reach)
    self.busy = True
    try:
        with nogil:
            done = _run(&self.core, records, first, reach, &self.last_sequence, &room)
    finally:
        self.busy = False
    self.consumed = done
    return room.position


cdef int _check_sequences(Matcher self, const mb_record* records, Py_ssize_t first, Py_ssize_t reach) except -1:
    cdef Py_ssize_t i
    cdef uint64_t last = self.last_sequence, sequence
    for i in range(first, reach):
        sequence = records[i].sequence
        if i == first and self.core.current.stage != IDLE:
            if sequence not in (0, self.core.current.sequence):
                raise BadArgument(f"another command is under way: sequence={sequence}, "
                                  f"under_way={self.core.current.sequence}")
            continue
        if sequence == 0:
            sequence = last + 1
        if sequence <= last:
            raise BadArgument(f"sequence not above the last: index={i}, sequence={sequence}, last={last}")
        last = sequence
    return 0


cdef Py_ssize_t _run(matcher* m, const mb_record* records, Py_ssize_t first, Py_ssize_t reach, uint64_t* last,
                     event_room* room) noexcept nogil:
    """Process records[first:reach]; returns the index of the first that is not complete."""
    cdef Py_ssize_t i = first
    cdef uint64_t sequence, before
    cdef matcher_status status
    while i < reach:
        if i + AHEAD_BUCKET < reach:
            _ahead(m, &records[i + AHEAD_BUCKET], &records[i + AHEAD_ORDER], &records[i + AHEAD_LINKS])
        sequence = m.current.sequence
        before = last[0]
        if m.current.stage == IDLE and room.position != room.limit:
            sequence = records[i].sequence if records[i].sequence else last[0] + 1
            last[0] = sequence
        status = matcher_step(m, &records[i], sequence, room)
        if status == FULL:
            if m.current.stage == IDLE:
                last[0] = before  # it has not begun
            break
        if status == DONE:
            i += 1
    return i


cdef int _place(matcher* m, PreparedMarket prepared) except -1:
    if prepared.place == NULL:
        raise BadArgument("this market is placed already")
    market_place(&m.markets, prepared.place)
    prepared.place = NULL
    return 0


cdef tuple _depth(const market_state* place, levels, hidden):
    return market_depth(place, BID, levels, hidden), market_depth(place, ASK, levels, hidden)


cdef object _check_all(matcher* m):
    if m.current.stage != IDLE:
        raise BadArgument("a command is under way: go on with it first")
    return markets_validate(&m.markets)


cdef object _bytes(array, dtype, name):
    """`array` as bytes, if it is what we can read and write in place."""
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        raise BadArgument(f"{name} must be an array of the right dtype: got={getattr(array, 'dtype', type(array))}")
    if array.ndim != 1 or not array.flags.c_contiguous:
        raise BadArgument(f"{name} must be one-dimensional and contiguous: shape={array.shape}, "
                          f"strides={array.strides}")
    if array.ctypes.data % 8:
        raise BadArgument(f"{name} must begin at a multiple of 8 bytes: address={array.ctypes.data:#x}")
    return array.view(np.uint8)


# ---- live ------------------------------------------------------------------------------------------------

cdef int64_t _poll(void* state) noexcept nogil:
    """Some log records into events. Events are published before the log's slots are given back."""
    cdef matcher_agent* a = <matcher_agent*>state
    cdef uint64_t ready = mb_reader_ready(&a.log, POLL_RECORDS), done = 0, events
    cdef const mb_record* record
    cdef matcher_status status = DONE
    cdef event_room room
    if ready == 0:
        return 0
    if ready > POLL_RECORDS:
        ready = POLL_RECORDS
    # Never more than half a ring before it is published, see follower.pxd.
    events = min(mb_producer_free(&a.events, POLL_EVENTS), (a.events.mask + 1) // 2)
    room.slots = <mb_event*>a.events.slots
    room.mask = a.events.mask
    room.position = a.events.position
    room.limit = room.position + (events if events < POLL_EVENTS else POLL_EVENTS)
    while done < ready:
        record = <const mb_record*>mb_reader_slot(&a.log, done)
        mb_take_in_hand(a.hand, record.sequence)
        if done + AHEAD_BUCKET < ready:
            _ahead(&a.core, <const mb_record*>mb_reader_slot(&a.log, done + AHEAD_BUCKET),
                   <const mb_record*>mb_reader_slot(&a.log, done + AHEAD_ORDER),
                   <const mb_record*>mb_reader_slot(&a.log, done + AHEAD_LINKS))
        status = _live(a, record, &room)
        if status != DONE:
            break
        done += 1
    mb_take_in_hand(a.hand, 0)
    events = room.position - a.events.position
    if events:
        mb_publish(&a.events, events)
    if done:
        mb_reader_advance(&a.log, done)
        mb_release(&a.log)
    if MB_DEBUG and (done or events) and a.core.current.stage == IDLE:
        _verify(a)
    # Counting for a fill-or-kill shows in neither, but must not look idle.
    return <int64_t>(done + events) + (status == MORE)


cdef matcher_status _pending_canceled(matcher* m, const mb_record* record) noexcept nogil:
    """No matcher knows the order; but another may come in its place."""
    m.expects = NOTHING
    if record.flags & MB_REPLACE:
        memset(&m.replaced, 0, sizeof(replacement))
        m.replaced.market = record.market
        m.expects = A_REPLACEMENT
    return DONE


cdef void _verify(matcher_agent* a) noexcept nogil:
    """Debug builds, after a poll that did something."""
    cdef uint32_t number = 0
    cdef int broken = markets_broken(&a.core.markets, &number)
    if broken:
        mb_broken("books (core/book.pyx, core/triggers.pyx)", <uint32_t>broken, number, a.log.position)


cdef inline matcher_status _live(matcher_agent* a, const mb_record* record, event_room* room) noexcept nogil:
    """One log record, if it concerns this matcher."""
    cdef market_state* place
    if record.reject != 0:
        # What goes together and is refused in part ends here.
        a.core.expects = NOTHING
        return DONE
    if MB_NEW_ORDER <= record.kind <= MB_AMEND_ORDER or record.kind == MB_ORDER_TERMS \
            or record.kind == MB_SET_MARKET or record.kind == MB_ORDER_LIST or record.kind == MB_RELEASE:
        if mb_unlikely(record.kind == MB_CANCEL_ORDER and record.flags & MB_OF_PENDING):
            return _pending_canceled(&a.core, record)
        if market_find(&a.core.markets, record.market) == NULL:
            return DONE
        return matcher_step(&a.core, record, record.sequence, room)
    if record.kind == MB_REMOVE_MARKET:
        # Nothing of it is live, which is the sequencer's to see to.
        market_close(&a.core.markets, record.market)
    elif record.kind == MB_LOST:
        if record.order_id == record.sequence:
            markets_pass_over(&a.core.markets, MB_LOST_NUMBERS)
    elif record.kind == MB_ADD_MARKET:
        place = market_find(&a.core.markets, record.market)
        if place != NULL and not market_open(place, <const mb_market_record*>record):
            a.refused_markets += 1
    return DONE


cdef class MatcherAgent(Agent):
    """Follows the log as gating reader `reader_index` and writes its markets' events to `events`.

    Markets are placed before the loop runs or between two of its rounds, and open when their ADD_MARKET record
    passes in the log. Goes on where the last owner of the reader's position stopped.
    """

    def __cinit__(self):
        memset(&self.state, 0, sizeof(matcher_agent))
        markets_create(&self.state.core.markets)
        self.state.core.check_holds = True
        self.show_hand(&self.hand, None)

    cdef void show_hand(self, mb_in_hand* hand, object board):
        self._board = board
        self.state.hand = hand
        hand.task = MB_MATCHING

    def poison(self, int64_t lots):
        """For drills: an order of so many lots plus a signal's number kills by that; plus 0: it never ends."""
        self.state.core.poison.lots = lots

    def __init__(self, Ring log not None, uint32_t reader_index, Ring events not None, *, name="matcher"):
        if reader_index >= log.ring.header.readers:
            raise BadArgument(f"no such reader: index={reader_index}, readers={log.ring.header.readers}")
        self.name = name
        self.log = log
        self.events = events
        mb_reader_attach(&self.state.log, log.ring, reader_index)
        mb_producer_attach(&self.state.events, events.ring)
        self.c_agent.poll = _poll
        self.c_agent.state = &self.state

    def __dealloc__(self):
        markets_destroy(&self.state.core.markets)

    def prepare_market(self, uint32_t market, uint32_t max_orders, max_specials=None):
        """Make the book of a market of ours and place it. Not while the loop runs: mapping its memory takes time.

        max_specials: how many of them can be icebergs or wait for a trigger (by default a 16th of them, 64 at least).
        """
        self.place_market(PreparedMarket(market, max_orders, max_specials))

    def place_market(self, PreparedMarket prepared not None):
        """Take over a market's memory, between two rounds. Raises BadArgument if its number is taken."""
        _place(&self.state.core, prepared)

    def take_market(self, uint32_t market):
        """The memory of a market that is not open, to be given back, between two rounds; None if there is none.

        Raises BadArgument while it is open.
        """
        cdef market_state* place = market_take(&self.state.core.markets, market)
        cdef PreparedMarket taken
        if place == NULL:
            return None
        taken = PreparedMarket.__new__(PreparedMarket)
        taken.place = place
        return taken

    @property
    def position(self):
        """Log records done."""
        return self.state.log.position

    @property
    def event_position(self):
        """Events published."""
        return self.state.events.position

    @property
    def markets(self):
        """The numbers of the open markets, rising."""
        return market_numbers(&self.state.core.markets)

    @property
    def refused_markets(self):
        """ADD_MARKET records that did not fit what was prepared: 0 in an exchange that is set up right."""
        return self.state.refused_markets

    def orders_count(self, market):
        """Open orders of a market, those that wait included."""
        return market_known(&self.state.core.markets, market).orders.count

    def state_hash(self, market=None):
        """As Matcher.state_hash(). Not while the loop runs on another thread."""
        return markets_hash(&self.state.core.markets, market)

    def validate(self):
        """As Matcher.validate()."""
        _check_all(&self.state.core)

    def orders(self, market):
        """As Matcher.orders()."""
        return market_orders(market_known(&self.state.core.markets, market))

    def waiting(self, market):
        """As Matcher.waiting()."""
        return market_waiting(market_known(&self.state.core.markets, market))

    def last_price(self, market):
        """As Matcher.last_price()."""
        return market_known(&self.state.core.markets, market).waiting.last_price or None

    def memory(self, market):
        """As Matcher.memory()."""
        return market_memory(market_known(&self.state.core.markets, market))
