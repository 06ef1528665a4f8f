"""The markets of a matcher: set-up, and what Python sees of them. The struct is in markets.pxd."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from matchbox.core.book cimport (
    SHOWS, TRAILS, book, book_create, book_destroy, book_hash, book_hidden, book_memory, book_validate,
    hash_mix, order, special, terms_self_trade, terms_trailing_bips,
)
from matchbox.core.instrument cimport instrument_apply_rules, instrument_check, instrument_from_record
from matchbox.core.price_index cimport price_index_next, price_of
from matchbox.core.trailing cimport trailing_best
from matchbox.core.triggers cimport triggers_create, triggers_destroy, triggers_hash, triggers_validate
from matchbox.shm.records cimport MB_RULE_REFERENCE, mb_market_record, mb_rules_record

import numpy as np

from matchbox.shm.errors import BadArgument

LEVEL = np.dtype([("price_ticks", "<i8"), ("quantity_lots", "<i8")])
# leaves_lots: all that is open; hidden_lots: the part of it that an iceberg does not show.
ORDER = np.dtype([
    ("order_id", "<u8"), ("price_ticks", "<i8"), ("leaves_lots", "<i8"), ("cumulative_lots", "<i8"),
    ("account", "<u4"), ("side", "u1"), ("hidden_lots", "<i8"),
])
# price_ticks: limit, or bound. best_ticks: of an order that trails, 0 until it has begun.
WAITING = np.dtype([
    ("order_id", "<u8"), ("price_ticks", "<i8"), ("leaves_lots", "<i8"), ("display_lots", "<i8"),
    ("trigger_ticks", "<i8"), ("best_ticks", "<i8"), ("account", "<u4"), ("trailing_bips", "<u2"), ("side", "u1"),
    ("order_type", "u1"), ("time_in_force", "u1"), ("self_trade", "u1"), ("trails", "?"),
])


cdef market* market_make(uint32_t number, uint32_t max_orders, max_specials) except NULL:
    cdef market* place
    cdef uint32_t specials = min(max_orders, max(64, max_orders // 16)) if max_specials is None else max_specials
    if number == 0:
        raise BadArgument(f"no market can have this number: market={number}")
    place = <market*>calloc(1, sizeof(market))
    if place == NULL:
        raise MemoryError
    try:
        book_create(&place.orders, max_orders, specials)
        triggers_create(&place.waiting, specials)
    except BaseException:
        market_free(place)
        raise
    place.number = number
    return place


cdef void market_free(market* place) noexcept:
    book_destroy(&place.orders)
    triggers_destroy(&place.waiting)
    free(place)


cdef market_entry* _entry(const market_table* m, uint32_t number) noexcept nogil:
    """The entry of a number, or the empty one that it belongs to."""
    cdef uint32_t at = number * <uint32_t>2654435769 & m.table_mask
    while m.table[at].number and m.table[at].number != number:
        at = (at + 1) & m.table_mask
    return &m.table[at]


cdef market_entry* _make_entry(market_table* m, uint32_t number) except NULL:
    """The entry of a number, made if there was none."""
    cdef market_entry* entry = _entry(m, number)
    if entry.number == 0:
        if 4 * (m.entries + 1) > m.table_mask + 1:
            _grow(m)
            entry = _entry(m, number)
        entry.number = number
        m.entries += 1
    return entry


cdef int market_remember(market_table* m, uint32_t number, uint64_t trades) except -1:
    cdef market_entry* entry = _make_entry(m, number)
    # A market that was there again and again was with one matcher, which counts on; the others know less.
    entry.trades = max(entry.trades, trades)
    if entry.place != NULL and not entry.place.open:
        entry.place.orders.trades = entry.trades
    return 0


cdef int market_place(market_table* m, market* place) except -1:
    cdef market_entry* entry = _entry(m, place.number)
    if entry.place != NULL:
        raise BadArgument(f"a market with this number is there: market={place.number}")
    entry = _make_entry(m, place.number)
    entry.place = place
    place.orders.trades = entry.trades
    m.markets[m.count] = place
    m.count += 1
    return 0


cdef market* market_take(market_table* m, uint32_t number) except? NULL:
    cdef market_entry* entry = _entry(m, number)
    cdef market* place = entry.place
    cdef uint32_t i
    if place == NULL:
        return NULL
    if place.open:
        raise BadArgument(f"this market is open: market={number}")
    entry.place = NULL
    m.count -= 1
    for i in range(m.count + 1):
        if m.markets[i] == place:
            break
    for i in range(i, m.count):
        m.markets[i] = m.markets[i + 1]
    return place


cdef int _grow(market_table* m) except -1:
    """Room for twice as many numbers."""
    cdef uint32_t size = 2 * (m.table_mask + 1), i
    cdef market** markets = <market**>calloc(size // 4, sizeof(market*))
    cdef market_entry* table = <market_entry*>calloc(size, sizeof(market_entry))
    cdef market_table old = m[0]
    if markets == NULL or table == NULL:
        free(markets)
        free(table)
        raise MemoryError
    for i in range(m.count):
        markets[i] = m.markets[i]
    m.markets, m.table, m.table_mask = markets, table, size - 1
    if old.table != NULL:
        for i in range(old.table_mask + 1):
            if old.table[i].number:
                _entry(m, old.table[i].number)[0] = old.table[i]
    free(old.markets)
    free(old.table)
    return 0


cdef int markets_create(market_table* m) except -1:
    memset(m, 0, sizeof(market_table))
    m.table_mask = 7
    return _grow(m)


cdef void markets_destroy(market_table* m) noexcept:
    cdef uint32_t i
    for i in range(m.count):
        market_free(m.markets[i])
    free(m.markets)
    free(m.table)
    memset(m, 0, sizeof(market_table))


cdef bint market_open(market* place, const mb_market_record* record) noexcept nogil:
    if place.open or instrument_check(record) != 0 or record.max_orders > place.orders.capacity:
        return False
    instrument_from_record(&place.rules, record)
    place.open = True
    return True


cdef void market_close(market_table* m, uint32_t number) noexcept nogil:
    cdef market_entry* entry = _entry(m, number)
    if entry.place != NULL and entry.place.open:
        entry.place.open = False
        entry.trades = entry.place.orders.trades


cdef void markets_pass_over(market_table* m, uint64_t numbers) noexcept nogil:
    cdef uint32_t i
    cdef market* place
    for i in range(m.table_mask + 1):
        place = m.table[i].place
        if place != NULL and place.open:
            place.orders.trades += numbers
        elif m.table[i].trades:
            # Of what only has its memory, and never traded, the log knows nothing.
            m.table[i].trades += numbers
            if place != NULL:
                place.orders.trades = m.table[i].trades


cdef void market_apply_rules(market* place, const mb_rules_record* record) noexcept nogil:
    instrument_apply_rules(&place.rules, record)
    if record.rules & MB_RULE_REFERENCE:
        place.waiting.last_price = record.reference_ticks
    place.banded = place.rules.band_up_bips or place.rules.band_down_bips


cdef class PreparedMarket:
    """The memory of a market that no matcher has: mapped by any thread, before its ADD_MARKET record is sent.

    max_orders     how many orders can be open
    max_specials   how many of them can be icebergs or wait for a trigger; None: a 16th of them, 64 at least

    Raises BadArgument, MemoryError.
    """

    def __init__(self, uint32_t market, uint32_t max_orders, max_specials=None):
        if self.place != NULL:
            raise BadArgument("its memory is mapped already")
        self.place = market_make(market, max_orders, max_specials)

    def __dealloc__(self):
        if self.place != NULL:
            market_free(self.place)


# ---- for Python ------------------------------------------------------------------------------------------

cdef market* market_known(market_table* m, number) except NULL:
    cdef market* place = market_find(m, number)
    if place == NULL:
        raise BadArgument(f"no such market: market={number}")
    return place


cdef list market_numbers(const market_table* m):
    """The numbers of the open markets, rising."""
    return sorted([m.markets[i].number for i in range(m.count) if m.markets[i].open])


cdef uint64_t _hash(const market* place) noexcept nogil:
    return hash_mix(book_hash(&place.orders), triggers_hash(&place.waiting, &place.orders))


cdef object markets_hash(market_table* m, number):
    """The hash of one market: mix(hash of the book, hash of what waits); or of all of them: mix(mix(h, market), hash)
    by rising number, from h = 0. mix() is in book.pyx.
    """
    cdef uint64_t state = 0
    if number is not None:
        return _hash(market_known(m, number))
    for each in market_numbers(m):
        state = hash_mix(hash_mix(state, each), _hash(market_known(m, each)))
    return state


cdef int markets_broken(const market_table* m, uint32_t* number) noexcept nogil:
    cdef uint32_t i
    cdef int broken
    for i in range(m.count):
        number[0] = m.markets[i].number
        broken = triggers_validate(&m.markets[i].waiting, &m.markets[i].orders)
        if not broken:
            broken = book_validate(&m.markets[i].orders, m.markets[i].waiting.count)
        if broken:
            return broken
    return 0


cdef object markets_validate(market_table* m):
    cdef uint32_t number = 0
    cdef int broken = markets_broken(m, &number)
    if broken:
        raise AssertionError(f"book is broken: market={number}, invariant={broken}")


cdef size_t market_memory(const market* place) noexcept:
    return sizeof(market) + book_memory(&place.orders) + place.waiting.trails.arena_bytes


cdef object market_depth(const market* place, uint32_t side, Py_ssize_t levels, bint hidden):
    found = []
    cdef const book* b = &place.orders
    cdef uint32_t number = b.prices.best[side], slot
    cdef int64_t lots
    while number and len(found) < levels:
        lots = b.prices.levels[number].lots
        slot = b.prices.levels[number].first
        while hidden and slot:
            lots += book_hidden(b, slot)
            slot = b.orders[slot].next
        found.append((price_of(&b.prices.levels[number]), lots))
        number = price_index_next(&b.prices, number)
    return np.array(found, LEVEL)


cdef object market_orders(const market* place):
    found = []
    cdef const book* b = &place.orders
    cdef uint32_t side, number, slot
    cdef const order* o
    for side in range(2):
        number = b.prices.best[side]
        while number:
            slot = b.prices.levels[number].first
            while slot:
                o = &b.orders[slot]
                found.append((o.order_id, price_of(&b.prices.levels[number]), o.leaves_lots + book_hidden(b, slot),
                              o.cumulative_lots, o.account, side + 1, book_hidden(b, slot)))
                slot = o.next
            number = price_index_next(&b.prices, number)
    return np.array(found, ORDER)


cdef object market_waiting(const market* place):
    found = []
    cdef const book* b = &place.orders
    cdef uint32_t number
    cdef const special* s
    cdef const order* o
    for number in range(1, b.max_specials + 1):
        s = &b.specials[number]
        if s.state != SHOWS:
            o = &b.orders[s.slot]
            found.append((s.order_id, s.price, o.leaves_lots, s.display_lots, s.trigger,
                          trailing_best(&place.waiting.trails, b, number) if s.state == TRAILS else 0, o.account,
                          terms_trailing_bips(o.terms), s.side + 1, s.order_type, s.time_in_force,
                          terms_self_trade(o.terms), s.state == TRAILS))
    return np.sort(np.array(found, WAITING), order="order_id")
