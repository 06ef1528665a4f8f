"""The matcher: Matcher for arrays of commands, MatcherAgent for the live log. How it goes on is in matcher.pxd.

Events of each command, `index` from 0, the last with LAST (fields not named are 0; all carry sequence,
order_id, market, account, side):

    new, rests at once     ACCEPTED(RESTING: price, quantity = leaves, level)
    new, takes             ACCEPTED(price, quantity = leaves), TRADE..., then if anything is left
                           RESTED(price, quantity = total, leaves, cumulative, level) for GTC, else
                           EXPIRED(NO_LIQUIDITY: price, quantity = what was left, cumulative)
    cancel                 CANCELED(price, quantity = what was open, cumulative, level)
    amend, keeps its place AMENDED(RESTING: price, quantity = total, leaves, cumulative, level, previous price
                           = price, previous level = the level without this order)
    amend, loses it        AMENDED(RESTING: ...) if it rests at once, or AMENDED without RESTING and level, then
                           TRADE..., RESTED; previous price and level say what it left behind
    fill                   TRADE(price and level of the maker, quantity, leaves and cumulative of taker and maker)
    refused                REJECTED(reason, price and quantity as in the command)

State is only what books hold; a refused command changes none of it.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from matchbox.core.agent cimport Agent
from matchbox.core.bits cimport mb_clear_record, mb_likely, mb_prefetch, mb_unlikely
from matchbox.core.book cimport (
    book, book_bucket, book_create, book_crosses, book_destroy, book_fill, book_find, book_free, book_hash,
    book_memory, book_new, book_queue, book_reduce, book_unqueue, book_validate, fill, order,
)
from matchbox.core.instrument cimport instrument_check, instrument_from_record
from matchbox.core.price_index cimport ASK, BID, PRICE_KEY_MASK, price_index_next, price_key, price_level, price_of
from matchbox.core.validation cimport notional_fits, validate_command
from matchbox.shm.records cimport *
from matchbox.shm.ring cimport *

import numpy as np

from matchbox.shm.errors import BadArgument
from matchbox.shm.records import COMMAND, EVENT, MARKET_RECORD

LEVEL = np.dtype([("price_ticks", "<i8"), ("quantity_lots", "<i8")])
ORDER = np.dtype([
    ("order_id", "<u8"), ("price_ticks", "<i8"), ("leaves_lots", "<i8"), ("cumulative_lots", "<i8"),
    ("account", "<u4"), ("side", "u1"),
])

cdef enum:
    # Fills or levels of one matcher_step(): bounds the time of a poll, and is far more than most commands need.
    STEP_WORK = 1024
    # Records of one poll() of the agent: bounds its time and how late the log's slots are given back.
    POLL_RECORDS = 256
    # Events of one poll().
    POLL_EVENTS = 1024
    # How many commands ahead an order's bucket, its slot and its neighbours are fetched into the cache.
    AHEAD_BUCKET = 12
    AHEAD_ORDER = 8
    AHEAD_LINKS = 4


# ---- events ----------------------------------------------------------------------------------------------

cdef inline mb_event* _event(taker* t, event_room* room, uint8_t kind) noexcept nogil:
    """The next event of the command under way, with what all of them carry. There is room."""
    cdef mb_event* event = &room.slots[room.position & room.mask]
    room.position += 1
    mb_clear_record(event)
    event.sequence = t.sequence
    event.order_id = t.order_id
    event.market = t.place.number
    event.account = t.account
    event.side = <uint8_t>(t.side + 1)
    event.kind = kind
    event.index = t.index
    t.index += 1
    return event


cdef matcher_status _reject(const mb_record* record, uint64_t sequence, uint16_t reason,
                            event_room* room) noexcept nogil:
    cdef mb_event* event = &room.slots[room.position & room.mask]
    room.position += 1
    mb_clear_record(event)
    event.sequence = sequence
    event.order_id = sequence if record.kind == MB_NEW_ORDER else record.order_id
    event.market = record.market
    event.account = record.account
    event.side = record.side
    event.price_ticks = record.price_ticks
    event.quantity_lots = record.quantity_lots
    event.reason = reason
    event.kind = MB_REJECTED
    event.flags = MB_LAST
    return DONE


# ---- one command -----------------------------------------------------------------------------------------

cdef inline void _rest(taker* t, mb_event* event, uint8_t flags) noexcept nogil:
    """Queue what is open of the taker, and complete the event that says so."""
    cdef book* b = &t.place.orders
    if t.slot == 0:
        t.slot = book_new(b, t.order_id, t.account, t.cumulative_lots)
    else:
        b.orders[t.slot].cumulative_lots = t.cumulative_lots
    event.price_ticks = t.price
    event.quantity_lots = t.cumulative_lots + t.open_lots
    event.leaves_lots = t.open_lots
    event.cumulative_lots = t.cumulative_lots
    event.level_lots = book_queue(b, t.slot, t.side, t.price, t.open_lots)
    event.flags = flags


cdef inline void _trade(taker* t, event_room* room) noexcept nogil:
    """One fill against the best order of the other side, which is there and matches."""
    cdef mb_event* event = _event(t, room, MB_TRADE)
    cdef fill made
    cdef int64_t lots = book_fill(&t.place.orders, t.side ^ 1, t.open_lots, &made)
    t.open_lots -= lots
    t.cumulative_lots += lots
    event.maker_order_id = made.maker_order_id
    event.trade_id = t.place.orders.trades
    event.price_ticks = made.price
    event.quantity_lots = lots
    event.leaves_lots = t.open_lots
    event.cumulative_lots = t.cumulative_lots
    event.maker_leaves_lots = made.maker_leaves
    event.maker_cumulative_lots = made.maker_cumulative
    event.level_lots = made.level_lots
    event.maker_account = made.maker_account
    event.flags = MB_LAST if t.open_lots == 0 else 0


cdef matcher_status _sweep(taker* t, event_room* room) noexcept nogil:
    """Match until nothing is open or nothing matches; then the rest rests or expires."""
    cdef mb_event* event
    cdef int work = STEP_WORK
    while book_crosses(&t.place.orders, t.side ^ 1, t.limit_key):
        if room.position == room.limit:
            return FULL
        if work == 0:
            return MORE
        work -= 1
        _trade(t, room)
        if t.open_lots == 0:
            if t.slot:
                book_free(&t.place.orders, t.slot)
            t.stage = IDLE
            return DONE
    if room.position == room.limit:
        return FULL
    t.stage = IDLE
    if t.rests:
        _rest(t, _event(t, room, MB_RESTED), MB_LAST)
        return DONE
    event = _event(t, room, MB_EXPIRED)
    event.price_ticks = t.price
    event.quantity_lots = t.open_lots
    event.cumulative_lots = t.cumulative_lots
    event.reason = MB_NO_LIQUIDITY
    event.flags = MB_LAST
    return DONE


cdef matcher_status _accept(taker* t, event_room* room) noexcept nogil:
    """A new order that takes, or cannot rest: say that it is accepted, and match it."""
    cdef mb_event* event = _event(t, room, MB_ACCEPTED)
    event.price_ticks = t.price
    event.quantity_lots = t.open_lots
    event.leaves_lots = t.open_lots
    t.stage = SWEEPING
    return _sweep(t, room)


cdef matcher_status _count(taker* t, const mb_record* record, event_room* room) noexcept nogil:
    """Fill-or-kill: add up the levels that match until they suffice. Nothing changes while this goes on."""
    cdef book* b = &t.place.orders
    cdef const price_level* level
    cdef int work = STEP_WORK
    # Everything on a side fits 63 bits: max_quantity * max_orders is at most MB_MAX_MARKET_LOTS.
    while t.counted_lots < t.open_lots:
        level = &b.prices.levels[t.counted_level]
        if level.key > t.limit_key:
            # Also at the end of the side: level 0 has a key above all.
            t.stage = IDLE
            return _reject(record, t.sequence, MB_NOT_FILLABLE, room)
        if work == 0:
            return MORE
        work -= 1
        t.counted_lots += level.lots
        t.counted_level = price_index_next(&b.prices, t.counted_level)
    return _accept(t, room)


cdef matcher_status _new_order(taker* t, const mb_record* record, event_room* room) noexcept nogil:
    cdef book* b = &t.place.orders
    cdef bint takes
    t.order_id = t.sequence
    t.account = record.account
    t.side = <uint8_t>(record.side - 1)
    t.price = record.price_ticks
    t.open_lots = record.quantity_lots
    t.cumulative_lots = 0
    t.slot = 0
    t.rests = record.time_in_force == MB_GTC
    # Any price will do for a market order.
    t.limit_key = price_key(t.side ^ 1, t.price) if record.order_type == MB_LIMIT else PRICE_KEY_MASK
    takes = book_crosses(b, t.side ^ 1, t.limit_key)
    if mb_likely(t.rests):
        if mb_unlikely(b.count == b.capacity):
            return _reject(record, t.sequence, MB_TOO_MANY_ORDERS, room)
        if not takes:
            _rest(t, _event(t, room, MB_ACCEPTED), MB_RESTING | MB_LAST)
            return DONE
        if record.flags & MB_POST_ONLY:
            return _reject(record, t.sequence, MB_WOULD_TAKE, room)
    elif record.time_in_force == MB_FOK:
        t.counted_lots = 0
        t.counted_level = b.prices.best[t.side ^ 1]
        t.stage = COUNTING
        return _count(t, record, room)
    return _accept(t, room)


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


cdef matcher_status _cancel(taker* t, const mb_record* record, event_room* room) noexcept nogil:
    cdef book* b = &t.place.orders
    cdef uint32_t slot = _find(t, record.order_id)
    cdef mb_event* event
    if mb_unlikely(slot == 0):
        return _reject(record, t.sequence, MB_UNKNOWN_ORDER, room)
    event = _event(t, room, MB_CANCELED)
    event.price_ticks = price_of(&b.prices.levels[b.orders[slot].level])
    event.quantity_lots = b.orders[slot].leaves_lots
    event.cumulative_lots = b.orders[slot].cumulative_lots
    event.level_lots = book_unqueue(b, slot)
    event.flags = MB_LAST
    book_free(b, slot)
    return DONE


cdef inline uint16_t _check_amend(const taker* t, const mb_record* record) noexcept nogil:
    """Whether the order may become what the amend makes of it: t.price, t.open_lots, t.cumulative_lots."""
    cdef int64_t total = t.cumulative_lots + t.open_lots
    if mb_unlikely(t.open_lots <= 0):
        return MB_BELOW_FILLED
    if record.quantity_lots and mb_unlikely(total < t.place.rules.min_quantity_lots
                                            or total > t.place.rules.max_quantity_lots):
        return MB_BAD_QUANTITY
    if mb_unlikely(not notional_fits(&t.place.rules, t.price, total)):
        return MB_NOTIONAL_OVERFLOW
    return MB_NONE


cdef matcher_status _amend(taker* t, const mb_record* record, event_room* room) noexcept nogil:
    cdef book* b = &t.place.orders
    cdef uint32_t slot = _find(t, record.order_id)
    cdef int64_t old_price, old_leaves, level_lots
    cdef const order* o = &b.orders[slot]
    cdef uint16_t reason
    cdef mb_event* event
    if mb_unlikely(slot == 0):
        return _reject(record, t.sequence, MB_UNKNOWN_ORDER, room)
    old_price = price_of(&b.prices.levels[o.level])
    old_leaves = o.leaves_lots
    t.cumulative_lots = o.cumulative_lots
    t.price = record.price_ticks if record.price_ticks else old_price
    t.open_lots = old_leaves
    if record.quantity_lots:
        t.open_lots = record.quantity_lots - (0 if record.flags & MB_TO_OPEN else t.cumulative_lots)
    reason = _check_amend(t, record)
    if mb_unlikely(reason != MB_NONE):
        return _reject(record, t.sequence, reason, room)
    event = _event(t, room, MB_AMENDED)
    event.previous_price_ticks = old_price
    if t.price == old_price and t.open_lots <= old_leaves and not record.flags & MB_REQUEUE:
        level_lots = book_reduce(b, slot, t.open_lots)
        event.previous_level_lots = level_lots - t.open_lots
        event.price_ticks = t.price
        event.quantity_lots = t.cumulative_lots + t.open_lots
        event.leaves_lots = t.open_lots
        event.cumulative_lots = t.cumulative_lots
        event.level_lots = level_lots
        event.flags = MB_RESTING | MB_LAST
        return DONE
    event.previous_level_lots = book_unqueue(b, slot)
    t.limit_key = price_key(t.side ^ 1, t.price)
    if not book_crosses(b, t.side ^ 1, t.limit_key):
        _rest(t, event, MB_RESTING | MB_LAST)
        return DONE
    event.price_ticks = t.price
    event.quantity_lots = t.cumulative_lots + t.open_lots
    event.leaves_lots = t.open_lots
    event.cumulative_lots = t.cumulative_lots
    t.rests = True
    t.stage = SWEEPING
    return _sweep(t, room)


cdef inline market* _market(const matcher* m, uint32_t number) noexcept nogil:
    """The market with this number, or NULL."""
    cdef uint32_t at = number * <uint32_t>2654435769 & m.table_mask
    while mb_unlikely(m.table[at].number != number):
        if m.table[at].number == 0:
            return NULL
        at = (at + 1) & m.table_mask
    # An empty entry, which is what number 0 finds, has none.
    return m.table[at].place


cdef matcher_status _begin(matcher* m, const mb_record* record, uint64_t sequence, event_room* room) noexcept nogil:
    cdef taker* t = &m.current
    cdef uint16_t reason
    if mb_unlikely(record.kind < MB_NEW_ORDER or record.kind > MB_AMEND_ORDER):
        return _reject(record, sequence, MB_UNKNOWN_KIND, room)
    t.place = _market(m, record.market)
    if mb_unlikely(t.place == NULL or not t.place.open):
        return _reject(record, sequence, MB_UNKNOWN_MARKET, room)
    reason = validate_command(record, &t.place.rules)
    if mb_unlikely(reason != MB_NONE):
        return _reject(record, sequence, reason, room)
    t.sequence = sequence
    t.index = 0
    if record.kind == MB_NEW_ORDER:
        return _new_order(t, record, room)
    if record.kind == MB_CANCEL_ORDER:
        return _cancel(t, record, room)
    return _amend(t, record, room)


cdef matcher_status matcher_step(matcher* m, const mb_record* record, uint64_t sequence,
                                 event_room* room) noexcept nogil:
    if mb_unlikely(room.position == room.limit):
        return FULL
    if mb_likely(m.current.stage == IDLE):
        return _begin(m, record, sequence, room)
    if m.current.stage == COUNTING:
        return _count(&m.current, record, room)
    return _sweep(&m.current, room)


# ---- batches ---------------------------------------------------------------------------------------------

cdef inline void _ahead(const matcher* m, const mb_record* bucket, const mb_record* slot,
                        const mb_record* links) noexcept nogil:
    """Fetch what coming commands will touch: by hash, so wrong guesses cost time and nothing else.

    A new order names none, and what is fetched for it is of no use; asking what kind each command is costs more,
    as no branch predictor knows.
    """
    cdef const market* place = _market(m, bucket.market)
    cdef const book* b
    cdef const order* o
    if mb_likely(place != NULL):
        mb_prefetch(book_bucket(&place.orders, bucket.order_id))
    place = _market(m, slot.market)
    if mb_likely(place != NULL):
        b = &place.orders
        mb_prefetch(&b.orders[book_bucket(b, slot.order_id)[0]])
    place = _market(m, links.market)
    if mb_likely(place != NULL):
        b = &place.orders
        o = &b.orders[book_bucket(b, links.order_id)[0]]
        mb_prefetch(&b.orders[o.prev])
        mb_prefetch(&b.orders[o.next])
        mb_prefetch(&b.prices.levels[o.level])


# ---- markets ---------------------------------------------------------------------------------------------

cdef market* _prepare(matcher* m, uint32_t number, uint32_t max_orders) except NULL:
    """A market whose book is allocated, not open yet. Raises BadArgument if it exists, MemoryError."""
    cdef market* place
    if number == 0 or _market(m, number) != NULL:
        raise BadArgument(f"no new market can have this number: market={number}")
    if 4 * (m.count + 1) > m.table_mask + 1:
        _grow(m)
    place = <market*>calloc(1, sizeof(market))
    if place == NULL:
        raise MemoryError
    try:
        book_create(&place.orders, max_orders)
    except BaseException:
        free(place)
        raise
    place.number = number
    m.markets[m.count] = place
    _enter(m, place)
    m.count += 1
    return place


cdef void _enter(matcher* m, market* place) noexcept nogil:
    cdef uint32_t at = place.number * <uint32_t>2654435769 & m.table_mask
    while m.table[at].number:
        at = (at + 1) & m.table_mask
    m.table[at].number = place.number
    m.table[at].place = place


cdef int _grow(matcher* m) except -1:
    """Room for twice as many markets."""
    cdef uint32_t size = 2 * (m.table_mask + 1), i
    cdef market** markets = <market**>calloc(size // 4, sizeof(market*))
    cdef market_entry* table = <market_entry*>calloc(size, sizeof(market_entry))
    if markets == NULL or table == NULL:
        free(markets)
        free(table)
        raise MemoryError
    for i in range(m.count):
        markets[i] = m.markets[i]
    free(m.markets)
    free(m.table)
    m.markets = markets
    m.table = table
    m.table_mask = size - 1
    for i in range(m.count):
        _enter(m, m.markets[i])
    return 0


cdef int _create(matcher* m) except -1:
    memset(m, 0, sizeof(matcher))
    m.table_mask = 7
    return _grow(m)


cdef void _destroy(matcher* m) noexcept:
    cdef uint32_t i
    for i in range(m.count):
        book_destroy(&m.markets[i].orders)
        free(m.markets[i])
    free(m.markets)
    free(m.table)
    memset(m, 0, sizeof(matcher))


cdef bint _open(market* place, const mb_market_record* record) noexcept nogil:
    """Give a prepared market its rules; False if it is open already, or its book too small for them."""
    if place.open or instrument_check(record) != MB_NONE or record.max_orders > place.orders.capacity:
        return False
    instrument_from_record(&place.rules, record)
    place.open = True
    return True


cdef market* _known(matcher* m, number) except NULL:
    cdef market* place = _market(m, number)
    if place == NULL:
        raise BadArgument(f"no such market: market={number}")
    return place


cdef object _hash(matcher* m, number):
    """The hash of one market's book; or of all of them: mix(mix(h, market), hash) by rising number, from h = 0."""
    if number is not None:
        return book_hash(&_known(m, number).orders)
    state = 0
    for each in _numbers(m):
        for word in (each, book_hash(&_known(m, each).orders)):
            state = (state ^ word) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
            state ^= state >> 32
    return state


cdef list _numbers(matcher* m):
    """The numbers of the open markets, rising."""
    return sorted([m.markets[i].number for i in range(m.count) if m.markets[i].open])


cdef object _check_all(matcher* m):
    cdef uint32_t i
    cdef int failed
    if m.current.stage != IDLE:
        raise BadArgument("a command is under way: go on with it first")
    for i in range(m.count):
        failed = book_validate(&m.markets[i].orders)
        if failed:
            raise AssertionError(f"book is broken: market={m.markets[i].number}, invariant={failed}")


cdef size_t _memory(const market* place) noexcept:
    return sizeof(market) + book_memory(&place.orders)


cdef object _depth(book* b, uint32_t side, Py_ssize_t levels):
    found = []
    cdef uint32_t number = b.prices.best[side]
    while number and len(found) < levels:
        found.append((price_of(&b.prices.levels[number]), b.prices.levels[number].lots))
        number = price_index_next(&b.prices, number)
    return np.array(found, LEVEL)


cdef object _orders(book* b):
    found = []
    cdef uint32_t side, number, slot
    cdef const order* o
    for side in range(2):
        number = b.prices.best[side]
        while number:
            slot = b.prices.levels[number].first
            while slot:
                o = &b.orders[slot]
                found.append((o.order_id, price_of(&b.prices.levels[number]), o.leaves_lots, o.cumulative_lots,
                              o.account, side + 1))
                slot = o.next
            number = price_index_next(&b.prices, number)
    return np.array(found, ORDER)


# ---- Python ----------------------------------------------------------------------------------------------

cdef class Matcher:
    """Books without processes: commands in, events out, whole arrays at a time.

    `markets` are MARKET_RECORDs (see core.instrument.market_record). One thread at a time.
    """

    def __cinit__(self):
        _create(&self.core)

    def __init__(self, markets=()):
        for record in markets:
            self.add_market(record)

    def __dealloc__(self):
        _destroy(&self.core)

    def add_market(self, record):
        """Open one more market. Raises BadArgument for a bad definition or a number that is taken."""
        cdef const uint8_t[::1] view = _bytes(np.array([record], MARKET_RECORD), MARKET_RECORD, "record")
        cdef const mb_market_record* definition = <const mb_market_record*>&view[0]
        if instrument_check(definition) != MB_NONE:
            raise BadArgument(f"not a market that can be run: {record}")
        _open(_prepare(&self.core, definition.market, definition.max_orders), definition)

    def process(self, commands, out=None):
        """The events of `commands`, in order.

        commands: one-dimensional, contiguous array of COMMAND. A command's sequence is its order's id; 0 means
        "one more than the last". The fields that a sequencer stamps, but for it, are ignored.
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
        return _numbers(&self.core)

    def state_hash(self, market=None):
        """64-bit hash of one market's book, or of all: iteration order counts, memory layout does not."""
        return _hash(&self.core, market)

    def validate(self):
        """Check every invariant of every book. Raises AssertionError; BadArgument if a command is under way."""
        _check_all(&self.core)

    def depth(self, market, levels=10):
        """(bids, asks): arrays of up to `levels` LEVELs (price_ticks, quantity_lots), best first."""
        cdef book* b = &_known(&self.core, market).orders
        return _depth(b, BID, levels), _depth(b, ASK, levels)

    def orders(self, market):
        """All resting orders as an array of ORDER: bids from the best on, then asks, in queue order."""
        return _orders(&_known(&self.core, market).orders)

    def memory(self, market):
        """Bytes of a market, all in: fixed when it is added."""
        return _memory(_known(&self.core, market))


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
    cdef uint64_t sequence
    cdef matcher_status status
    while i < reach:
        if i + AHEAD_BUCKET < reach:
            _ahead(m, &records[i + AHEAD_BUCKET], &records[i + AHEAD_ORDER], &records[i + AHEAD_LINKS])
        sequence = m.current.sequence
        if m.current.stage == IDLE and room.position != room.limit:
            sequence = records[i].sequence if records[i].sequence else last[0] + 1
            last[0] = sequence
        status = matcher_step(m, &records[i], sequence, room)
        if status == FULL:
            break
        if status == DONE:
            i += 1
    return i


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
    events = mb_producer_free(&a.events, POLL_EVENTS)
    room.slots = <mb_event*>a.events.slots
    room.mask = a.events.mask
    room.position = a.events.position
    room.limit = room.position + (events if events < POLL_EVENTS else POLL_EVENTS)
    while done < ready:
        record = <const mb_record*>mb_reader_slot(&a.log, done)
        if done + AHEAD_BUCKET < ready:
            _ahead(&a.core, <const mb_record*>mb_reader_slot(&a.log, done + AHEAD_BUCKET),
                   <const mb_record*>mb_reader_slot(&a.log, done + AHEAD_ORDER),
                   <const mb_record*>mb_reader_slot(&a.log, done + AHEAD_LINKS))
        status = _live(a, record, &room)
        if status != DONE:
            break
        done += 1
    events = room.position - a.events.position
    if events:
        mb_publish(&a.events, events)
    if done:
        mb_reader_advance(&a.log, done)
        mb_release(&a.log)
    # Counting for a fill-or-kill shows in neither, but must not look idle.
    return <int64_t>(done + events) + (status == MORE)


cdef inline matcher_status _live(matcher_agent* a, const mb_record* record, event_room* room) noexcept nogil:
    """One log record, if it concerns this matcher."""
    cdef market* place
    if record.reject != 0:
        return DONE
    if MB_NEW_ORDER <= record.kind <= MB_AMEND_ORDER:
        if _market(&a.core, record.market) == NULL:
            return DONE
        return matcher_step(&a.core, record, record.sequence, room)
    if record.kind == MB_ADD_MARKET:
        place = _market(&a.core, record.market)
        if place != NULL and not _open(place, <const mb_market_record*>record):
            a.refused_markets += 1
    return DONE


cdef class MatcherAgent(Agent):
    """Follows the log as gating reader `reader_index` and writes its markets' events to `events`.

    Markets are prepared (their memory mapped) before the loop runs, and open when their ADD_MARKET record
    passes in the log. Goes on where the last owner of the reader's position stopped.
    """

    def __cinit__(self):
        _create(&self.state.core)

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
        _destroy(&self.state.core)

    def prepare_market(self, uint32_t market, uint32_t max_orders):
        """Allocate the book of a market of ours, for up to `max_orders`. Not while the loop runs."""
        _prepare(&self.state.core, market, max_orders)

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
        return _numbers(&self.state.core)

    @property
    def refused_markets(self):
        """ADD_MARKET records that did not fit what was prepared: 0 in an exchange that is set up right."""
        return self.state.refused_markets

    def orders_count(self, market):
        """Resting orders of a market."""
        return _known(&self.state.core, market).orders.count

    def state_hash(self, market=None):
        """As Matcher.state_hash(). Not while the loop runs on another thread."""
        return _hash(&self.state.core, market)

    def validate(self):
        """As Matcher.validate()."""
        _check_all(&self.state.core)

    def orders(self, market):
        """As Matcher.orders()."""
        return _orders(&_known(&self.state.core, market).orders)

    def memory(self, market):
        """As Matcher.memory()."""
        return _memory(_known(&self.state.core, market))
