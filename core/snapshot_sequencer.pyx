"""The sequencer in a snapshot: sessions, markets, live orders, the line, the ledger, timers, what is not settled.

    sequencer.state        one row: positions, counters, what the ledger has once
    sequencer.sessions     by number, from 1
    sequencer.markets      those that exist
    sequencer.orders       live orders with their money or what they wait for; other rows name them by their slots
    sequencer.line         what stands in line, in its order
    sequencer.balances     with their numbers, by which orders and markets name them
    sequencer.accounts     by number, from 1
    sequencer.assets       by number, from 0
    sequencer.volumes      by row, from 1
    sequencer.movements    in their order
    sequencer.expiries     the heap
    sequencer.countdowns   in their order
    sequencer.log          log records that are not settled, and in any case the last one
    sequencer.concerns     of each of the log records, which source answers it
    sequencer.events-K     what matcher K has said and is not settled

Slots and balance numbers are places in tables, which may have another size when they are loaded: so they are given
anew, slots in the order of the rows, and what names them is translated. Nothing that leaves the engine depends on
them. The chains of the accounts' orders keep their order.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from matchbox.core.ledger cimport (
    account_state, balance, fee_table, ledger, ledger_add_movement, ledger_open, movement, volume_row,
)
from matchbox.core.orders cimport live_order, orders_add
from matchbox.core.sequencer cimport Sequencer
from matchbox.core.sequencer_state cimport (
    NO_SOURCE, PENDING, REPLAYING, cancel_in_line, market_state, order_money, sequencer, session_state,
)
from matchbox.core.snapshot_parts cimport part_make, part_row, part_rows
from matchbox.core.timers cimport countdown, expiry, timers_add, timers_countdown
from matchbox.shm.records cimport mb_event, mb_record

from matchbox.shm.errors import BadArgument, SnapshotError

ctypedef struct saved_sequencer:
    uint64_t position
    uint64_t settled
    uint32_t settled_index
    uint32_t volume_asset
    uint64_t last_timestamp_ns
    uint64_t accepted
    uint64_t refused
    uint32_t tier_version
    uint32_t tier_volumes[10]
    fee_table default_fees

ctypedef struct saved_order:
    live_order order
    order_money money       # or order_pending
    uint32_t slot
    uint32_t reserved

ctypedef struct saved_balance:
    int64_t free
    int64_t held
    uint32_t number
    uint32_t account
    uint32_t asset
    uint32_t reserved

ctypedef struct saved_asset:
    int64_t supply
    uint32_t scale          # + 1; 0 = no such asset
    uint32_t reserved

# What names rows of the file, in the tables that they are loaded into.
ctypedef struct translation:
    uint32_t* slots         # by slot: new slot + 1
    uint64_t slots_count
    uint32_t* balances      # by number: new number
    uint64_t balances_count


# Of each part but the events'.
ROW_BYTES = {
    "sequencer.state": sizeof(saved_sequencer),
    "sequencer.sessions": sizeof(session_state),
    "sequencer.markets": sizeof(market_state),
    "sequencer.orders": sizeof(saved_order),
    "sequencer.line": sizeof(cancel_in_line),
    "sequencer.balances": sizeof(saved_balance),
    "sequencer.accounts": sizeof(account_state),
    "sequencer.assets": sizeof(saved_asset),
    "sequencer.volumes": sizeof(volume_row),
    "sequencer.movements": sizeof(movement),
    "sequencer.expiries": sizeof(expiry),
    "sequencer.countdowns": sizeof(countdown),
    "sequencer.log": sizeof(mb_record),
    "sequencer.concerns": 1,
}


# ---- saving ----------------------------------------------------------------------------------------------

def save_sequencer(Sequencer agent not None):
    """The state between two rounds: a list of (part, array). Raises BadArgument within a round."""
    cdef sequencer* s = &agent.state
    if s.filled or s.events_filled:
        raise BadArgument(f"the sequencer is within a round: filled={s.filled}")
    parts = []
    _save_state(s, parts)
    _save_tables(s, parts)
    _save_orders(s, parts)
    _save_ledger(&s.books, parts)
    _save_unsettled(s, parts)
    return parts


cdef int _save_state(const sequencer* s, list parts) except -1:
    cdef saved_sequencer* out = <saved_sequencer*>part_make(parts, "sequencer.state", 1, sizeof(saved_sequencer))
    out.position, out.settled, out.settled_index = s.log.position, s.settled, s.settled_index
    out.last_timestamp_ns = s.last_timestamp_ns
    out.accepted, out.refused = s.accepted, s.refused
    out.volume_asset, out.tier_version = s.books.volume_asset, s.books.tier_version
    memcpy(out.tier_volumes, s.books.tier_volumes, sizeof(out.tier_volumes))
    memcpy(&out.default_fees, &s.books.default_fees, sizeof(fee_table))
    return 0


cdef int _save_tables(const sequencer* s, list parts) except -1:
    cdef uint32_t i
    cdef uint64_t count = 0, place
    cdef market_state* markets
    cdef cancel_in_line* line
    cdef void* out = part_make(parts, "sequencer.sessions", s.sessions_count, sizeof(session_state))
    memcpy(out, s.sessions + 1, s.sessions_count * sizeof(session_state))
    for i in range(1, s.max_markets + 1):
        count += s.markets[i].exists
    markets = <market_state*>part_make(parts, "sequencer.markets", count, sizeof(market_state))
    count = 0
    for i in range(1, s.max_markets + 1):
        if s.markets[i].exists:
            markets[count] = s.markets[i]
            count += 1
    line = <cancel_in_line*>part_make(parts, "sequencer.line", s.line_end - s.line_first, sizeof(cancel_in_line))
    for place in range(s.line_first, s.line_end):
        line[place - s.line_first].order_id = s.line[place & s.line_mask].order_id
        line[place - s.line_first].reason = s.line[place & s.line_mask].reason
    out = part_make(parts, "sequencer.expiries", s.due.count, sizeof(expiry))
    memcpy(out, s.due.heap + 1, s.due.count * sizeof(expiry))
    out = part_make(parts, "sequencer.countdowns", s.due.countdown_count, sizeof(countdown))
    memcpy(out, s.due.countdowns, s.due.countdown_count * sizeof(countdown))
    return 0


def saved_markets(dict parts not None):
    """[(number, matcher, max_orders, max_specials)] of the markets that were open, by number. Raises SnapshotError."""
    cdef uint64_t count, i
    cdef const market_state* rows = <const market_state*>part_rows(
        parts, "sequencer.markets", sizeof(market_state), &count)
    return [(rows[i].definition.market, rows[i].source, rows[i].prepared, rows[i].prepared_specials)
            for i in range(count)]


cdef int _save_orders(const sequencer* s, list parts) except -1:
    cdef uint32_t i, found = 0, count = s.orders.count
    cdef saved_order* rows = <saved_order*>part_make(parts, "sequencer.orders", count, sizeof(saved_order))
    with nogil:
        for i in range(s.orders.capacity):
            if found == count:
                break
            if s.orders.slab[i].order_id:
                rows[found].order = s.orders.slab[i]
                rows[found].money = s.money[i]
                rows[found].slot = i
                found += 1
    return 0


cdef int _save_ledger(const ledger* l, list parts) except -1:
    cdef uint64_t i, found = 0
    cdef uint32_t last = 0
    cdef void* out
    cdef const balance* b
    cdef saved_balance* balances = <saved_balance*>part_make(
        parts, "sequencer.balances", l.balance_count, sizeof(saved_balance))
    cdef saved_asset* assets = <saved_asset*>part_make(
        parts, "sequencer.assets", <uint64_t>l.max_assets + 1, sizeof(saved_asset))
    with nogil:
        for i in range(1, l.balance_mask + 2):
            b = &l.balances[i]
            if b.account:
                balances[found].number = <uint32_t>i
                balances[found].account, balances[found].asset = b.account, b.asset
                balances[found].free, balances[found].held = b.free, b.held
                found += 1
        for i in range(<uint64_t>l.max_assets + 1):
            assets[i].supply, assets[i].scale = l.supply[i], l.asset_scales[i]
        for i in range(1, <uint64_t>l.max_accounts + 1):
            if l.accounts[i].state:
                last = <uint32_t>i
    out = part_make(parts, "sequencer.accounts", last, sizeof(account_state))
    memcpy(out, l.accounts + 1, last * sizeof(account_state))
    out = part_make(parts, "sequencer.volumes", l.volume_count, sizeof(volume_row))
    memcpy(out, l.volumes + 1, l.volume_count * sizeof(volume_row))
    out = part_make(parts, "sequencer.movements", l.movement_count, sizeof(movement))
    memcpy(out, l.movements, l.movement_count * sizeof(movement))
    return 0


cdef int _save_unsettled(const sequencer* s, list parts) except -1:
    """The slots of rings that are still to be read, and the last record, by which a journal is known."""
    cdef uint64_t first = min(s.settled, s.log.position - 1) if s.log.position else 0
    cdef uint64_t count = s.log.position - first, i, place
    cdef mb_record* records = <mb_record*>part_make(parts, "sequencer.log", count, sizeof(mb_record))
    cdef uint8_t* concerns = <uint8_t*>part_make(parts, "sequencer.concerns", count, 1)
    cdef mb_event* events
    cdef uint32_t k
    for i in range(count):
        place = (first + i) & s.log.mask
        memcpy(&records[i], s.log.slots + place * sizeof(mb_record), sizeof(mb_record))
        concerns[i] = s.concerns[place]
    for k in range(s.event_rings):
        first = s.events[k].position
        count = s.events[k].ring.producer.value - first
        events = <mb_event*>part_make(parts, f"sequencer.events-{k}", count, sizeof(mb_event))
        for i in range(count):
            memcpy(&events[i], s.events[k].slots + ((first + i) & s.events[k].mask) * sizeof(mb_event),
                   sizeof(mb_event))
    return 0


# ---- loading ---------------------------------------------------------------------------------------------

def load_sequencer(Sequencer agent not None, dict parts not None):
    """Make a new sequencer what was saved; its markets have their memory, its rings their positions and slots.

    Raises SnapshotError, which names the limit that is too low, or BadArgument if the sequencer is not new. It is of no
    use after either.
    """
    cdef sequencer* s = &agent.state
    cdef translation new
    if s.stage != REPLAYING or s.orders.count or s.sessions_count or s.books.balance_count:
        raise BadArgument(f"the sequencer is not new: position={s.log.position}, orders={s.orders.count}")
    memset(&new, 0, sizeof(translation))
    try:
        _load_state(s, parts)
        _load_ledger(&s.books, parts, &new)
        _load_orders(s, parts, &new)
        _load_tables(s, parts, &new)
        _load_unsettled(s, parts)
    finally:
        free(new.slots)
        free(new.balances)
    agent.replayed = s.log.position


cdef int _fits(str limit, uint64_t wanted, uint64_t there) except -1:
    if wanted > there:
        raise SnapshotError(f"{limit} is too low for the snapshot: limit={there}, needed={wanted}")
    return 0


cdef int _load_state(sequencer* s, dict parts) except -1:
    cdef const saved_sequencer* row = <const saved_sequencer*>part_row(
        parts, "sequencer.state", sizeof(saved_sequencer))
    if s.log.position != row.position:
        raise BadArgument(f"the log ring is not at the snapshot: position={s.log.position}, snapshot={row.position}")
    s.settled, s.settled_index = row.settled, row.settled_index
    s.last_timestamp_ns = row.last_timestamp_ns
    s.accepted, s.refused = row.accepted, row.refused
    s.books.volume_asset, s.books.tier_version = <uint16_t>row.volume_asset, row.tier_version
    memcpy(s.books.tier_volumes, row.tier_volumes, sizeof(row.tier_volumes))
    memcpy(&s.books.default_fees, &row.default_fees, sizeof(fee_table))
    return 0


cdef uint32_t* _numbers(uint64_t count) except NULL:
    cdef uint32_t* made = <uint32_t*>malloc((count + 1) * sizeof(uint32_t))
    if made == NULL:
        raise MemoryError(f"no memory to load a snapshot: numbers={count}")
    memset(made, 0, (count + 1) * sizeof(uint32_t))
    return made


cdef int _load_ledger(ledger* l, dict parts, translation* new) except -1:
    cdef uint64_t count, i, last = 0
    cdef uint32_t number
    cdef const saved_balance* balances = <const saved_balance*>part_rows(
        parts, "sequencer.balances", sizeof(saved_balance), &count)
    cdef const saved_asset* assets
    cdef const movement* movements
    cdef const void* rows
    _fits("limits.max_balances", count, l.max_balances)
    for i in range(count):
        last = max(last, <uint64_t>balances[i].number)
    new.balances_count = last + 1
    new.balances = _numbers(new.balances_count)
    with nogil:
        for i in range(count):
            number = ledger_open(l, balances[i].account, <uint16_t>balances[i].asset)
            new.balances[balances[i].number] = number
            l.balances[number].free, l.balances[number].held = balances[i].free, balances[i].held
    assets = <const saved_asset*>part_rows(parts, "sequencer.assets", sizeof(saved_asset), &count)
    while count > <uint64_t>l.max_assets + 1 and assets[count - 1].scale == 0 and assets[count - 1].supply == 0:
        count -= 1
    _fits("limits.max_assets", count - 1, l.max_assets)
    for i in range(count):
        l.supply[i], l.asset_scales[i] = assets[i].supply, <uint8_t>assets[i].scale
    rows = part_rows(parts, "sequencer.accounts", sizeof(account_state), &count)
    _fits("limits.max_accounts", count, l.max_accounts)
    memcpy(l.accounts + 1, rows, count * sizeof(account_state))
    rows = part_rows(parts, "sequencer.volumes", sizeof(volume_row), &count)
    _fits("limits.max_accounts", count, l.max_volumes)
    memcpy(l.volumes + 1, rows, count * sizeof(volume_row))
    l.volume_count = <uint32_t>count
    movements = <const movement*>part_rows(parts, "sequencer.movements", sizeof(movement), &count)
    _fits("limits.max_references", count, l.max_movements)
    for i in range(count):
        ledger_add_movement(l, movements[i].reference, movements[i].account, movements[i].asset,
                            movements[i].amount, movements[i].waits)
    return 0


cdef inline uint32_t _slot(const translation* new, uint32_t plus_one) noexcept nogil:
    """A slot + 1, or 0 for none, as it is now."""
    return new.slots[plus_one - 1] if plus_one else 0


cdef int _load_orders(sequencer* s, dict parts, translation* new) except -1:
    cdef uint64_t count, i
    cdef uint32_t account
    cdef account_state* of
    cdef const saved_order* rows = <const saved_order*>part_rows(
        parts, "sequencer.orders", sizeof(saved_order), &count)
    _fits("limits.max_orders", count, s.orders.capacity)
    new.slots_count = rows[count - 1].slot + 1 if count else 0
    new.slots = _numbers(new.slots_count)
    with nogil:
        for i in range(count):
            _load_order(s, &rows[i], new)
        for i in range(count):
            _load_money(s, &s.money[new.slots[rows[i].slot] - 1], &rows[i].money, new)
        for account in range(1, s.books.max_accounts + 1):
            of = &s.books.accounts[account]
            of.first_order, of.last_order = _slot(new, of.first_order), _slot(new, of.last_order)
    return 0


cdef void _load_order(sequencer* s, const saved_order* row, translation* new) noexcept nogil:
    cdef live_order* order = orders_add(
        &s.orders, row.order.order_id, row.order.account, row.order.client_order_id, row.order.has_client_id)
    order.price_ticks, order.quantity_lots = row.order.price_ticks, row.order.quantity_lots
    order.leaves_lots, order.cumulative_lots = row.order.leaves_lots, row.order.cumulative_lots
    order.market, order.session, order.side = row.order.market, row.order.session, row.order.side
    new.slots[row.slot] = <uint32_t>(order - s.orders.slab) + 1


cdef void _load_money(sequencer* s, order_money* money, const order_money* row, const translation* new) noexcept nogil:
    money[0] = row[0]
    money.previous, money.next = _slot(new, row.previous), _slot(new, row.next)
    money.partner = _slot(new, row.partner)
    if row.role != PENDING:
        # Of a pending order, other things stand there.
        money.pays, money.gets = new.balances[row.pays], new.balances[row.gets]


cdef int _load_tables(sequencer* s, dict parts, const translation* new) except -1:
    cdef uint64_t count, i
    cdef const void* rows = part_rows(parts, "sequencer.sessions", sizeof(session_state), &count)
    cdef const market_state* markets
    cdef const cancel_in_line* line
    cdef const expiry* expiries
    cdef const countdown* countdowns
    _fits("the number of sessions", count, s.max_sessions)
    memcpy(s.sessions + 1, rows, count * sizeof(session_state))
    s.sessions_count = <uint32_t>count
    markets = <const market_state*>part_rows(parts, "sequencer.markets", sizeof(market_state), &count)
    for i in range(count):
        _load_market(s, &markets[i], new)
    line = <const cancel_in_line*>part_rows(parts, "sequencer.line", sizeof(cancel_in_line), &count)
    _fits("limits.max_orders", count, s.line_mask + 1)
    memcpy(s.line, line, count * sizeof(cancel_in_line))
    s.line_first, s.line_end = 0, count
    expiries = <const expiry*>part_rows(parts, "sequencer.expiries", sizeof(expiry), &count)
    for i in range(count):
        # In the order of the heap, so it is the same one.
        timers_add(&s.due, new.slots[expiries[i].slot] - 1, expiries[i].order_id, expiries[i].due_ns)
    countdowns = <const countdown*>part_rows(parts, "sequencer.countdowns", sizeof(countdown), &count)
    _fits("the number of countdowns", count, s.due.max_countdowns)
    for i in range(count):
        timers_countdown(&s.due, countdowns[i].session, countdowns[i].account, countdowns[i].due_ns)
    return 0


cdef int _load_market(sequencer* s, const market_state* row, const translation* new) except -1:
    cdef uint32_t number = row.definition.market
    cdef market_state* market
    cdef uint32_t prepared, specials
    cdef uint8_t source
    _fits("limits.max_markets", number, s.max_markets)
    market = &s.markets[number]
    prepared, specials, source = market.prepared, market.prepared_specials, market.source
    if prepared != row.prepared or specials != row.prepared_specials:
        raise BadArgument(
            f"a market of the snapshot has not its memory: market={number}, max_orders={prepared}, "
            f"needed={row.prepared}, max_specials={specials}, needed={row.prepared_specials}"
        )
    market[0] = row[0]
    market.source = source
    market.fee_base, market.fee_quote = new.balances[row.fee_base], new.balances[row.fee_quote]
    return 0


cdef int _load_unsettled(sequencer* s, dict parts) except -1:
    """Which source answers what is not settled. The rings have their slots (snapshot_rings.pyx)."""
    cdef uint64_t count, i, first
    cdef const uint8_t* concerns = <const uint8_t*>part_rows(parts, "sequencer.concerns", 1, &count)
    _fits("rings.log", s.log.position - s.settled, s.log.mask + 1)
    first = s.log.position - count
    for i in range(count):
        s.concerns[(first + i) & s.log.mask] = source_now(concerns[i], s.event_rings)
    return 0


cdef uint8_t source_now(uint8_t source, uint32_t event_rings) noexcept nogil:
    """The ring that has the events of a source when there are fewer rings than before: the first has the others', too.

    Matchers add to each ring what comes later, wherever their markets are now.
    """
    return source if source == NO_SOURCE or source < event_rings else 0
