"""A matcher in a snapshot: the books of its markets, what waits in them, and what it remembers of those that are gone.

    matcher-K.state       one row: what the last record leaves for the next
    matcher-K.markets     those that are open: rules, counts, last price
    matcher-K.orders      of all of them, market by market: bids from the best on, each level in queue order; asks;
                          what waits for a price, side by side; what trails, so that building it takes no searching
    matcher-K.specials    of the orders that have one, in the order of those
    matcher-K.trades      trades given out by markets that were removed

Loading does what the orders' records did: each is put at the end of its queue, so all of it is as it was but for the
slots, which nothing that leaves the engine depends on. A matcher takes the markets that it has memory for, whichever
had them.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from matchbox.core.book cimport (
    BEGINS, WAITS, book, book_find, book_hide, book_new, book_queue, order, special, special_new,
)
from matchbox.core.instrument cimport instrument
from matchbox.core.markets cimport market, market_find, market_remember, market_table
from matchbox.core.matcher cimport MatcherAgent, matcher, replacement
from matchbox.core.price_index cimport ASK, PRICE_SIDES, price_index_next, price_of
from matchbox.core.snapshot_parts cimport part_make, part_row, part_rows
from matchbox.core.taker cimport IDLE
from matchbox.core.trailing cimport trailing, trailing_begin
from matchbox.core.triggers cimport RISE, triggers
from matchbox.shm.records cimport mb_list_record, mb_record, mb_terms_record

from matchbox.shm.errors import BadArgument, SnapshotError

cdef enum:
    ON_NO_LEVEL = PRICE_SIDES   # in saved_resting.side: it trails

ctypedef struct saved_matcher:
    uint64_t position
    uint64_t refused_markets
    replacement replaced
    mb_terms_record terms
    mb_list_record of_list
    mb_record first
    uint8_t expects
    uint8_t legs
    uint8_t leg
    uint8_t reserved[5]

ctypedef struct saved_market:
    instrument rules
    uint64_t trades
    int64_t last_price
    uint64_t orders
    uint64_t specials
    uint32_t number
    uint32_t banded

ctypedef struct saved_resting:
    uint64_t order_id
    int64_t price_ticks     # of its level; of one that trails 0
    int64_t leaves_lots
    int64_t cumulative_lots
    uint64_t terms
    uint32_t account
    uint8_t side            # of the price index, or ON_NO_LEVEL
    uint8_t has_special
    uint8_t reserved[2]

ctypedef struct saved_special:
    int64_t display_lots
    int64_t hidden_lots
    int64_t price
    int64_t trigger
    int64_t hold
    int64_t best            # while it trails, 0: it has not begun
    uint64_t partner_id     # 0 = none
    uint8_t side
    uint8_t order_type
    uint8_t time_in_force
    uint8_t reserved[5]

ctypedef struct saved_trades:
    uint64_t trades
    uint32_t number
    uint32_t reserved

# Where the rows of orders and specials go to or come from.
ctypedef struct rows:
    saved_resting* orders
    saved_special* specials


# Of the parts of each matcher.
ROW_BYTES = {
    "matcher.state": sizeof(saved_matcher),
    "matcher.markets": sizeof(saved_market),
    "matcher.orders": sizeof(saved_resting),
    "matcher.specials": sizeof(saved_special),
    "matcher.trades": sizeof(saved_trades),
}


# ---- saving ----------------------------------------------------------------------------------------------

def save_matcher(MatcherAgent agent not None):
    """The state between two records: a list of (part, array). Raises BadArgument within a record."""
    cdef matcher* m = &agent.state.core
    cdef list parts = []
    cdef uint64_t orders = 0, specials = 0, count = 0
    cdef uint32_t i
    cdef saved_market* markets
    cdef saved_market* row
    cdef rows out
    cdef str name = agent.name
    if m.current.stage != IDLE:
        raise BadArgument(f"the matcher is within a record: matcher={name}, sequence={m.current.sequence}")
    for i in range(m.markets.count):
        count += m.markets.markets[i].open
    markets = <saved_market*>part_make(parts, f"{name}.markets", count, sizeof(saved_market))
    row = markets
    for i in range(m.markets.count):
        if m.markets.markets[i].open:
            _describe(m.markets.markets[i], row)
            orders += row.orders
            specials += row.specials
            row += 1
    out.orders = <saved_resting*>part_make(parts, f"{name}.orders", orders, sizeof(saved_resting))
    out.specials = <saved_special*>part_make(parts, f"{name}.specials", specials, sizeof(saved_special))
    with nogil:
        for i in range(m.markets.count):
            if m.markets.markets[i].open:
                _save_book(m.markets.markets[i], &out)
    _save_rest(agent, parts)
    return parts


cdef void _describe(const market* place, saved_market* row) noexcept nogil:
    cdef uint32_t free = place.orders.free_special
    row.rules = place.rules
    row.number, row.banded = place.number, place.banded
    row.trades, row.last_price = place.orders.trades, place.waiting.last_price
    row.orders = place.orders.count
    row.specials = place.orders.max_specials
    while free:
        row.specials -= 1
        free = place.orders.specials[free].slot


cdef int _save_rest(MatcherAgent agent, list parts) except -1:
    cdef matcher* m = &agent.state.core
    cdef const market_table* table = &m.markets
    cdef saved_trades* trades
    cdef uint64_t count = 0
    cdef uint32_t i
    cdef saved_matcher* out = <saved_matcher*>part_make(parts, f"{agent.name}.state", 1, sizeof(saved_matcher))
    out.position, out.refused_markets = agent.state.log.position, agent.state.refused_markets
    out.expects, out.legs, out.leg = m.expects, m.legs, m.leg
    out.replaced, out.terms, out.of_list, out.first = m.replaced, m.terms, m.of_list, m.first
    for i in range(table.table_mask + 1):
        count += table.table[i].number != 0
    trades = <saved_trades*>part_make(parts, f"{agent.name}.trades", count, sizeof(saved_trades))
    for i in range(table.table_mask + 1):
        if table.table[i].number:
            trades.number, trades.trades = table.table[i].number, table.table[i].trades
            trades += 1
    return 0


cdef void _save_book(const market* place, rows* out) noexcept nogil:
    cdef const book* b = &place.orders
    cdef uint32_t side, level, slot
    for side in range(<uint32_t>PRICE_SIDES):
        level = b.prices.best[side]
        while level:
            slot = b.prices.levels[level].first
            while slot:
                _save_order(b, slot, side, price_of(&b.prices.levels[level]), 0, out)
                slot = b.orders[slot].next
            level = price_index_next(&b.prices, level)
    _save_trailing(&place.waiting.trails, b, out)


cdef void _save_trailing(const trailing* t, const book* b, rows* out) noexcept nogil:
    """Buckets from the last on, since each new one becomes the first; groups from the far end on, since each new one is
    looked for from the near end.
    """
    cdef uint32_t bucket = t.buckets, group
    while bucket and t.bucket[bucket].next:
        bucket = t.bucket[bucket].next
    while bucket:
        _save_heap(b, t.bucket[bucket].pending, 0, out)
        group = t.bucket[bucket].far
        while group:
            _save_heap(b, t.group[group].root, t.group[group].best, out)
            group = t.group[group].near
        bucket = t.bucket[bucket].back


cdef void _save_heap(const book* b, uint32_t number, int64_t best, rows* out) noexcept nogil:
    """To the right it is as deep as a logarithm."""
    while number:
        _save_order(b, b.specials[number].slot, ON_NO_LEVEL, 0, best, out)
        _save_heap(b, b.specials[number].right, best, out)
        number = b.specials[number].left


cdef void _save_order(const book* b, uint32_t slot, uint32_t side, int64_t price, int64_t best,
                      rows* out) noexcept nogil:
    cdef const order* o = &b.orders[slot]
    cdef const special* s = &b.specials[o.special]
    out.orders.order_id, out.orders.price_ticks, out.orders.side = o.order_id, price, <uint8_t>side
    out.orders.leaves_lots, out.orders.cumulative_lots = o.leaves_lots, o.cumulative_lots
    out.orders.terms, out.orders.account = o.terms, o.account
    out.orders.has_special = o.special != 0
    out.orders += 1
    if o.special == 0:
        return
    out.specials.display_lots, out.specials.hidden_lots = s.display_lots, s.hidden_lots
    out.specials.price, out.specials.trigger, out.specials.hold = s.price, s.trigger, s.hold
    out.specials.side, out.specials.order_type, out.specials.time_in_force = s.side, s.order_type, s.time_in_force
    out.specials.best = best
    out.specials.partner_id = b.orders[s.partner].order_id if s.partner else 0
    out.specials += 1


# ---- loading ---------------------------------------------------------------------------------------------

def load_matcher(MatcherAgent agent not None, dict parts not None):
    """Make a new matcher what was saved of its markets, which have their memory and are not open.

    Raises SnapshotError if they do not fit, BadArgument if the matcher is not new. It is of no use after either.
    """
    cdef matcher* m = &agent.state.core
    cdef const saved_matcher* state
    saved = sorted(name[:-len(".state")] for name in parts if name.startswith("matcher-") and name.endswith(".state"))
    for name in saved:
        _load_from(m, name, parts)
    # All of them end with the same record, and keep the same of it.
    state = <const saved_matcher*>part_row(parts, f"{saved[0]}.state" if saved else "matcher-0.state",
                                           sizeof(saved_matcher))
    if agent.state.log.position != state.position:
        raise BadArgument(
            f"the log ring is not at the snapshot: position={agent.state.log.position}, snapshot={state.position}")
    m.expects, m.legs, m.leg = state.expects, state.legs, state.leg
    m.replaced, m.terms, m.of_list, m.first = state.replaced, state.terms, state.of_list, state.first
    if f"{agent.name}.state" in parts:
        state = <const saved_matcher*>part_row(parts, f"{agent.name}.state", sizeof(saved_matcher))
        agent.state.refused_markets = state.refused_markets


cdef int _load_from(matcher* m, str name, dict parts) except -1:
    """Our markets among those of one saved matcher."""
    cdef uint64_t count, orders, specials, used_orders = 0, used_specials = 0, i
    cdef const saved_market* row = <const saved_market*>part_rows(
        parts, f"{name}.markets", sizeof(saved_market), &count)
    cdef saved_resting* first = <saved_resting*>part_rows(parts, f"{name}.orders", sizeof(saved_resting), &orders)
    cdef saved_special* special_rows = <saved_special*>part_rows(
        parts, f"{name}.specials", sizeof(saved_special), &specials)
    cdef rows source
    cdef market* place
    for i in range(count):
        if used_orders + row[i].orders > orders or used_specials + row[i].specials > specials:
            raise SnapshotError(f"the snapshot is damaged: part={name}.orders, market={row[i].number}")
        place = market_find(&m.markets, row[i].number)
        if place != NULL:
            source.orders, source.specials = first + used_orders, special_rows + used_specials
            _check_fits(place, &row[i])
            with nogil:
                _load_market(place, &row[i], &source)
        used_orders += row[i].orders
        used_specials += row[i].specials
    return _load_trades(m, name, parts)


cdef int _check_fits(const market* place, const saved_market* row) except -1:
    if place.open or place.orders.count:
        raise BadArgument(f"the matcher is not new: market={place.number}, orders={place.orders.count}")
    if row.orders > place.orders.capacity or row.specials > place.orders.max_specials:
        raise SnapshotError(
            f"a market has less memory than the snapshot needs: market={row.number}, "
            f"max_orders={place.orders.capacity}, needed={row.orders}, "
            f"max_specials={place.orders.max_specials}, needed={row.specials}"
        )
    return 0


cdef int _load_trades(matcher* m, str name, dict parts) except -1:
    """Every matcher remembers every number: nobody knows which of them will get it again."""
    cdef uint64_t count, i
    cdef const saved_trades* trades = <const saved_trades*>part_rows(
        parts, f"{name}.trades", sizeof(saved_trades), &count)
    for i in range(count):
        market_remember(&m.markets, trades[i].number, trades[i].trades)
    return 0


cdef void _load_market(market* place, const saved_market* row, rows* source) noexcept nogil:
    cdef rows again = source[0]
    cdef uint64_t _i
    place.rules, place.banded, place.open = row.rules, row.banded, True
    for _i in range(row.orders):
        _load_order(place, source)
    for _i in range(row.orders):
        _load_partner(&place.orders, &again)
    place.orders.trades, place.waiting.last_price = row.trades, row.last_price


cdef void _load_order(market* place, rows* source) noexcept nogil:
    """The next one."""
    cdef book* b = &place.orders
    cdef triggers* t = &place.waiting
    cdef const saved_resting* row = source.orders
    cdef const saved_special* rest = source.specials
    cdef uint32_t slot = book_new(b, row.order_id, row.account, row.cumulative_lots, row.terms)
    cdef special* s
    source.orders += 1
    if row.has_special:
        source.specials += 1
        s = special_new(b, slot)
        s.display_lots, s.price, s.trigger, s.hold = rest.display_lots, rest.price, rest.trigger, rest.hold
        s.side, s.order_type, s.time_in_force = rest.side, rest.order_type, rest.time_in_force
        book_hide(b, slot, rest.hidden_lots)
    if row.side <= ASK:
        book_queue(b, slot, row.side, row.price_ticks, row.leaves_lots)
        return
    t.count += 1
    if row.side == ON_NO_LEVEL:
        b.orders[slot].leaves_lots, b.orders[slot].level = row.leaves_lots, 0
        trailing_begin(&t.trails, b, slot, rest.best, &t.rise_at, &t.fall_at)
        return
    s.state = WAITS if row.side <= RISE else BEGINS
    book_queue(b, slot, row.side, row.price_ticks, row.leaves_lots)
    if row.side & 1:
        t.rise_at = min(t.rise_at, row.price_ticks)
    else:
        t.fall_at = max(t.fall_at, row.price_ticks)


cdef void _load_partner(book* b, rows* source) noexcept nogil:
    """Of the next order, if it is one of a pair: now all are there."""
    cdef const saved_resting* row = source.orders
    source.orders += 1
    if row.has_special:
        if source.specials.partner_id:
            b.specials[b.orders[book_find(b, row.order_id)].special].partner = book_find(b, source.specials.partner_id)
        source.specials += 1
