"""One order being matched: the stages. How they follow each other is in taker.pxd."""

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from matchbox.core.bits cimport mb_clear_record, mb_multiply, mb_unlikely
from matchbox.core.book cimport (
    SHOWS, book, book_crosses, book_fill, book_free, book_hidden, book_prevent, book_unpair, book_unqueue, fill, order,
    special, special_free, terms_maker_ppm, terms_self_trade, terms_taker_ppm,
)
from matchbox.core.fees cimport fee_of, mb_amount, rebate_of, received
from matchbox.core.price_index cimport ASK, BID, PRICE_KEY_MASK, price_index_next, price_key, price_level, price_of
from matchbox.core.triggers cimport (
    triggers, triggers_collect, triggers_next, triggers_reaches, triggers_remove, triggers_touched,
)
from matchbox.core.validation cimport has_limit, may_rest
from matchbox.shm.records cimport *


cdef matcher_status taker_reject(const mb_record* record, uint64_t sequence, uint16_t reason,
                                 event_room* room) noexcept nogil:
    cdef mb_event* event = &room.slots[room.position & room.mask]
    room.position += 1
    mb_clear_record(event)
    event.sequence = sequence
    event.market = record.market
    event.reason = reason
    event.kind = MB_REJECTED
    event.flags = MB_LAST
    if record.kind != MB_SET_MARKET:
        event.order_id = sequence if record.kind == MB_NEW_ORDER else record.order_id
        event.account = record.account
        event.side = record.side
        event.price_ticks = record.price_ticks
        event.quantity_lots = record.quantity_lots
    return DONE


# ---- what it may do --------------------------------------------------------------------------------------

cdef void taker_set_market(taker* t, int64_t hold, bint quote_amount) noexcept nogil:
    t.own_key = price_key(t.side ^ 1, t.price) if t.price else PRICE_KEY_MASK
    t.limit_key = t.own_key
    t.budget = hold if hold > 0 else INT64_MAX
    if quote_amount:
        t.care |= QUOTES
        if t.side == ASK and hold > 0:
            t.budget = hold // t.place.rules.lot_units
    elif t.side == BID and hold > 0:
        t.care |= BUDGET


cdef void taker_set_band(taker* t) noexcept nogil:
    cdef int64_t last = t.place.waiting.last_price
    cdef int64_t up = t.place.rules.band_up_bips, down = t.place.rules.band_down_bips
    t.banded = t.place.banded and last != 0
    if t.banded:
        t.band_low = last * (10000 - down) // 10000 if down else 0
        t.band_high = (last * (10000 + up) + 9999) // 10000 if up else INT64_MAX


cdef inline int64_t _payable(const taker* t, int64_t price) noexcept nogil:
    """How many lots at this price what is open, and the budget, pays for."""
    cdef int64_t one
    if mb_multiply(price, t.place.rules.notional_units, &one):
        # More than any amount there is.
        return 0
    if not t.care & QUOTES:
        return min(t.open_lots, t.budget // one)
    if t.side == BID:
        return min(t.open_lots, t.budget) // one
    return min(t.open_lots // one, t.budget)


cdef inline void _spend(taker* t, int64_t price, int64_t lots, bint trade) noexcept nogil:
    """Take `lots` off what is open, and off the budget if they were filled."""
    cdef int64_t value
    if not t.care & (QUOTES | BUDGET):
        t.open_lots -= lots
        return
    value = price * lots * t.place.rules.notional_units
    t.open_lots -= value if t.care & QUOTES else lots
    if trade:
        t.budget -= value if t.side == BID else lots


# ---- fills -----------------------------------------------------------------------------------------------

cdef void _charge(const taker* t, mb_event* event, uint64_t maker_terms) noexcept nogil:
    """The fees of both sides of a fill."""
    cdef mb_amount taken = received(t.side, event.price_ticks, event.quantity_lots, t.place.rules.notional_units,
                                    t.place.rules.lot_units)
    cdef mb_amount given = received(t.side ^ 1, event.price_ticks, event.quantity_lots,
                                    t.place.rules.notional_units, t.place.rules.lot_units)
    cdef int64_t rate = terms_maker_ppm(maker_terms)
    event.fee = fee_of(taken, terms_taker_ppm(t.terms))
    event.maker_fee = fee_of(given, rate) if rate >= 0 else -rebate_of(taken, rate, event.fee)


cdef inline void _maker_fields(const taker* t, mb_event* event, const fill* made) noexcept nogil:
    """What TRADE and PREVENTED say, but for trade and fees."""
    event.maker_order_id = made.maker_order_id
    event.price_ticks = made.price
    event.quantity_lots = made.lots
    event.leaves_lots = t.open_lots
    event.cumulative_lots = t.cumulative_lots
    event.maker_leaves_lots = made.maker_leaves
    event.maker_cumulative_lots = made.maker_cumulative
    event.level_lots = made.level_lots
    event.maker_account = made.maker_account


cdef inline void _trade(taker* t, event_room* room, int64_t wanted) noexcept nogil:
    """One fill of up to `wanted` lots with the best order of the other side, which is there and matches."""
    cdef mb_event* event = taker_event(t, room, MB_TRADE)
    cdef triggers* waiting = &t.place.waiting
    cdef fill made
    cdef int64_t lots
    cdef bint queued = waiting.first != 0
    made.maker_partner = 0
    lots = book_fill(&t.place.orders, t.side ^ 1, wanted, &made)
    t.cumulative_lots += lots
    if mb_unlikely(t.care != 0):
        _spend(t, made.price, lots, True)
    else:
        t.open_lots -= lots
    _maker_fields(t, event, &made)
    event.trade_id = t.place.orders.trades
    # The maker's maker rate and the taker's taker rate.
    if (made.maker_terms & 0xFFFF) | (t.terms & <uint64_t>0xFFFF0000):
        _charge(t, event, made.maker_terms)
    waiting.last_price = made.price
    if mb_unlikely(triggers_touched(waiting, made.price)):
        t.reached = made.price
        t.stage = COLLECTING
        queued = queued or triggers_reaches(waiting, &t.place.orders, made.price)
    if mb_unlikely(made.maker_partner != 0):
        taker_part(t, made.maker_partner, t.stage)
        return
    event.flags = MB_LAST if t.open_lots == 0 and not queued else 0


cdef inline void _ended(taker* t) noexcept nogil:
    """The taker is done; next is what it triggered."""
    t.stage = TRIGGERING if mb_unlikely(t.place.waiting.first != 0) else IDLE


cdef inline void _leave(taker* t) noexcept nogil:
    """It has nothing left that could rest."""
    if t.slot:
        book_free(&t.place.orders, t.slot)
    _ended(t)


cdef bint _nothing_follows(const taker* t) noexcept nogil:
    """After the last cancel of a partner: is the record complete?"""
    if t.after == IDLE:
        return True
    if (t.after != SWEEPING and t.after != COLLECTING) or t.open_lots or t.place.waiting.first:
        return False
    return t.after == SWEEPING or not triggers_reaches(&t.place.waiting, &t.place.orders, t.reached)


cdef matcher_status _part(taker* t, event_room* room) noexcept nogil:
    """Cancel the other of a pair."""
    cdef book* b = &t.place.orders
    cdef uint32_t slot = t.partner
    cdef const order* o = &b.orders[slot]
    cdef const special* s = &b.specials[o.special]
    cdef mb_event* event
    if room.position == room.limit:
        return FULL
    event = taker_event(t, room, MB_CANCELED)
    event.order_id = o.order_id
    event.account = o.account
    event.quantity_lots = o.leaves_lots + book_hidden(b, slot)
    event.cumulative_lots = o.cumulative_lots
    event.reason = MB_LIST_ENDED
    if o.special and s.state != SHOWS:
        event.side = s.side + 1
        event.price_ticks = s.price
        triggers_remove(&t.place.waiting, b, slot)
    else:
        event.side = <uint8_t>(b.prices.levels[o.level].side + 1)
        event.price_ticks = price_of(&b.prices.levels[o.level])
        event.level_lots = book_unqueue(b, slot)
        event.flags = MB_RESTING
    book_free(b, slot)
    if _nothing_follows(t):
        event.flags |= MB_LAST
    t.stage = t.after
    if t.after == SWEEPING and t.open_lots == 0:
        _leave(t)
    return DONE


# ---- self-trade prevention -------------------------------------------------------------------------------

cdef uint32_t _expire_maker(taker* t, uint32_t slot, event_room* room) noexcept nogil:
    """Returns the slot of its partner, or 0."""
    cdef book* b = &t.place.orders
    cdef const order* o = &b.orders[slot]
    cdef uint32_t partner
    cdef mb_event* event = taker_event(t, room, MB_EXPIRED)
    event.order_id = o.order_id
    event.account = o.account
    event.side = <uint8_t>((t.side ^ 1) + 1)
    event.price_ticks = price_of(&b.prices.levels[o.level])
    event.quantity_lots = o.leaves_lots + book_hidden(b, slot)
    event.cumulative_lots = o.cumulative_lots
    event.level_lots = book_unqueue(b, slot)
    event.reason = MB_SELF_TRADE
    event.flags = MB_RESTING
    partner = book_unpair(b, slot) if o.special else 0
    book_free(b, slot)
    return partner


cdef void _prevent(taker* t, uint32_t slot, int64_t wanted, event_room* room) noexcept nogil:
    """What the taker's mode says instead of a fill with `slot`, which is of the same account."""
    cdef uint8_t mode = terms_self_trade(t.terms)
    cdef mb_event* event
    cdef fill made
    cdef uint32_t partner = 0
    if mode == MB_DECREMENT:
        event = taker_event(t, room, MB_PREVENTED)
        made.maker_partner = 0
        book_prevent(&t.place.orders, t.side ^ 1, wanted, &made)
        _spend(t, made.price, made.lots, False)
        _maker_fields(t, event, &made)
        if made.maker_partner:
            taker_part(t, made.maker_partner, SWEEPING)
        elif t.open_lots == 0:
            event.flags = MB_LAST if t.place.waiting.first == 0 else 0
            _leave(t)
        return
    if mode != MB_EXPIRE_TAKER:
        partner = _expire_maker(t, slot, room)
    if mode != MB_EXPIRE_MAKER:
        t.reason = MB_SELF_TRADE
        t.stage = ENDING
    if partner:
        taker_part(t, partner, t.stage)


cdef int64_t _careful(taker* t, event_room* room) noexcept nogil:
    """How many lots may be filled with the next maker; 0: none, and what happens instead has been done."""
    cdef const book* b = &t.place.orders
    cdef const price_level* level = &b.prices.levels[b.prices.best[t.side ^ 1]]
    cdef int64_t wanted = t.open_lots
    if t.care & (BUDGET | QUOTES):
        wanted = _payable(t, price_of(level))
        if wanted <= 0:
            t.reason = MB_BUDGET_SPENT
            t.stage = ENDING
            return 0
    if t.care & OWN and b.orders[level.first].account == t.account:
        _prevent(t, level.first, wanted, room)
        return 0
    return wanted


# ---- stages ----------------------------------------------------------------------------------------------

cdef matcher_status _sweep(taker* t, event_room* room, int* work) noexcept nogil:
    """Match until nothing is open or nothing matches."""
    cdef int64_t wanted
    while book_crosses(&t.place.orders, t.side ^ 1, t.limit_key):
        if room.position == room.limit:
            return FULL
        if work[0] <= 0:
            return MORE
        work[0] -= 1
        wanted = t.open_lots
        if mb_unlikely(t.care != 0):
            wanted = _careful(t, room)
            if wanted == 0:
                if t.stage != SWEEPING:
                    return DONE
                continue
        _trade(t, room, wanted)
        if mb_unlikely(t.stage != SWEEPING):
            return DONE
        if t.open_lots == 0:
            _leave(t)
            return DONE
    t.stage = ENDING
    if mb_unlikely(t.banded) and (book_crosses(&t.place.orders, t.side ^ 1, t.own_key)
                                  or (t.rests and t.triggered and not taker_in_band(t))):
        t.reason = MB_PRICE_BAND
    else:
        t.reason = MB_NONE if t.rests else MB_NO_LIQUIDITY
    return DONE


cdef matcher_status _collect(taker* t, int* work) noexcept nogil:
    """Queue what the last fill triggered."""
    if not triggers_collect(&t.place.waiting, &t.place.orders, t.reached, work):
        return MORE
    t.stage = SWEEPING
    if t.open_lots == 0:
        _leave(t)
    return DONE


cdef matcher_status _end(taker* t, event_room* room) noexcept nogil:
    """What is left rests or expires."""
    cdef uint8_t last = MB_LAST if t.place.waiting.first == 0 else 0
    cdef mb_event* event
    if room.position == room.limit:
        return FULL
    if t.reason == MB_NONE:
        taker_rest(t, taker_event(t, room, MB_RESTED), last)
        _ended(t)
        return DONE
    event = taker_event(t, room, MB_EXPIRED)
    event.price_ticks = t.price
    event.quantity_lots = t.open_lots
    event.cumulative_lots = t.cumulative_lots
    event.reason = t.reason
    event.flags = last
    _leave(t)
    return DONE


cdef matcher_status _trigger(taker* t, event_room* room, int* work) noexcept nogil:
    """The next order of the queue is the taker now."""
    cdef book* b = &t.place.orders
    cdef const order* o
    cdef const special* s
    cdef mb_event* event
    cdef uint32_t partner
    if room.position == room.limit:
        return FULL
    if work[0] <= 0:
        return MORE
    work[0] -= 1
    t.slot = triggers_next(&t.place.waiting, b)
    o = &b.orders[t.slot]
    s = &b.specials[o.special]
    t.order_id = o.order_id
    t.account = o.account
    t.terms = o.terms
    t.side = s.side
    t.price = s.price
    t.open_lots = o.leaves_lots
    t.cumulative_lots = 0
    t.display_lots = s.display_lots
    t.rests = may_rest(s.time_in_force)
    t.care = OWN if terms_self_trade(o.terms) else 0
    t.triggered = True
    if has_limit(s.order_type):
        taker_set_limit(t)
    else:
        taker_set_market(t, s.hold, False)
    taker_clamp(t)
    event = taker_event(t, room, MB_TRIGGERED)
    taker_fill_in(t, event)
    t.stage = SWEEPING
    if s.time_in_force == MB_FOK:
        taker_count(t)
    partner = book_unpair(b, t.slot)
    if partner:
        taker_part(t, partner, t.stage)
    elif s.display_lots == 0:
        special_free(b, t.slot)
    return DONE


# ---- fill or kill ----------------------------------------------------------------------------------------

cdef void taker_count(taker* t) noexcept nogil:
    t.counted_lots = 0
    t.counted_hidden = 0
    t.counted_budget = t.budget
    t.counted_level = t.place.orders.prices.best[t.side ^ 1]
    t.counted_slot = 0
    t.stage = COUNTING


cdef bint _count_in(taker* t, int64_t price, int64_t lots) noexcept nogil:
    """Count `lots` at this price, as far as they are needed; False if the budget does not pay for them."""
    cdef int64_t value
    lots = min(lots, t.open_lots - t.counted_lots)
    t.counted_lots += lots
    if t.care & BUDGET:
        if mb_multiply(price, lots, &value) or mb_multiply(value, t.place.rules.notional_units, &value) \
                or value > t.counted_budget:
            return False
        t.counted_budget -= value
    return True


cdef bint _count_order(taker* t) noexcept nogil:
    """Count one order more, and at the end of its level what is hidden there: all own orders are met before that.

    False if the taker cannot be filled.
    """
    cdef const book* b = &t.place.orders
    cdef const price_level* level = &b.prices.levels[t.counted_level]
    cdef uint32_t slot = t.counted_slot if t.counted_slot else level.first
    cdef const order* o = &b.orders[slot]
    if t.care & OWN and o.account == t.account:
        if terms_self_trade(t.terms) != MB_EXPIRE_MAKER:
            return False
    else:
        t.counted_hidden += book_hidden(b, slot)
        if not _count_in(t, price_of(level), o.leaves_lots):
            return False
    t.counted_slot = o.next
    if o.next == 0:
        if not _count_in(t, price_of(level), t.counted_hidden):
            return False
        t.counted_hidden = 0
        t.counted_level = price_index_next(&b.prices, t.counted_level)
    return True


cdef matcher_status _count(taker* t, const mb_record* record, event_room* room, int* work) noexcept nogil:
    """Fill-or-kill: add up what matches until it suffices. Nothing changes while this goes on."""
    cdef const book* b = &t.place.orders
    cdef const price_level* level
    cdef bint fillable = True
    # Everything on a side fits 63 bits: max_quantity * max_orders is at most MB_MAX_MARKET_LOTS.
    while fillable and t.counted_lots < t.open_lots:
        level = &b.prices.levels[t.counted_level]
        if level.key > t.limit_key:
            # Also at the end of the side: level 0 has a key above all.
            fillable = False
        elif work[0] <= 0:
            return MORE
        elif t.care == 0 and b.hidden_lots == 0:
            t.counted_lots += level.lots
            t.counted_level = price_index_next(&b.prices, t.counted_level)
        else:
            fillable = _count_order(t)
        work[0] -= 1
    t.stage = SWEEPING
    if t.triggered:
        if not fillable:
            t.reason = MB_NOT_FILLABLE
            t.stage = ENDING
    elif fillable:
        taker_fill_in(t, taker_event(t, room, MB_ACCEPTED))
    else:
        t.stage = IDLE
        return taker_reject(record, t.sequence, MB_NOT_FILLABLE, room)
    return DONE


cdef matcher_status taker_go_on(taker* t, const mb_record* record, event_room* room) noexcept nogil:
    cdef int work = STEP_WORK
    cdef matcher_status status = DONE
    while status == DONE and t.stage != IDLE:
        if t.stage == SWEEPING:
            status = _sweep(t, room, &work)
        elif t.stage == ENDING:
            status = _end(t, room)
        elif t.stage == COLLECTING:
            status = _collect(t, &work)
        elif t.stage == TRIGGERING:
            status = _trigger(t, room, &work)
        elif t.stage == PARTING:
            status = _part(t, room)
        else:
            status = _count(t, record, room, &work)
    return status
