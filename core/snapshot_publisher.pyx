"""The publisher in a snapshot: who is told of which order, who subscribes to what, and every market's depth.

    publisher.state          one row
    publisher.orders         live orders, in no order that counts
    publisher.subscriptions  in their order, which is the order of reports
    publisher.sessions       which session has which slot; counts where the loading engine knows the slot's memory
    publisher.depths         open markets
    publisher.levels         of all of them: bids, then asks, from the best on

A level's place in its depth table is given anew: readers look at all places.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from matchbox.core.depth cimport depth_writer
from matchbox.core.price_index cimport ASK, price_index_insert, price_index_next, price_of
from matchbox.core.publisher cimport Publisher, publisher, report_slot, subscription
from matchbox.core.routes cimport order_route, routes_add
from matchbox.core.snapshot_parts cimport part_make, part_row, part_rows
from matchbox.core.succession cimport reports_anew
from matchbox.shm.depth cimport mb_depth_begin, mb_depth_end, mb_depth_put, mb_depth_top
from matchbox.shm.records cimport MB_BUY, MB_SELL
from matchbox.shm.ring cimport mb_store_relaxed

from matchbox.shm.errors import BadArgument, SnapshotError

ctypedef struct saved_publisher:
    uint64_t position
    uint64_t release
    uint64_t release_list
    uint64_t events
    uint64_t reports
    uint64_t dropped

ctypedef struct saved_slot:
    uint64_t read
    uint64_t answered
    uint64_t position       # reports so far
    uint64_t attached_at
    uint32_t slot
    uint32_t session
    uint32_t full
    uint32_t assurance

ctypedef struct saved_depth:
    mb_depth_top top
    uint64_t update
    uint64_t levels
    uint32_t market
    uint32_t bids           # of the levels

ctypedef struct saved_level:
    int64_t price_ticks
    int64_t quantity_lots


ROW_BYTES = {
    "publisher.state": sizeof(saved_publisher),
    "publisher.orders": sizeof(order_route),
    "publisher.subscriptions": sizeof(subscription),
    "publisher.sessions": sizeof(saved_slot),
    "publisher.depths": sizeof(saved_depth),
    "publisher.levels": sizeof(saved_level),
}


# ---- saving ----------------------------------------------------------------------------------------------

def save_publisher(Publisher agent not None):
    """The state between two log records: a list of (part, array). Raises BadArgument within a record."""
    cdef publisher* p = &agent.state
    cdef list parts = []
    cdef saved_publisher* out
    if p.in_record or p.released != p.log.position:
        raise BadArgument(f"the publisher is within a record: sequence={p.log.position + 1}")
    out = <saved_publisher*>part_make(parts, "publisher.state", 1, sizeof(saved_publisher))
    out.position, out.release, out.release_list = p.released, p.release, p.release_list
    out.events, out.reports, out.dropped = p.events, p.reports, p.dropped
    _save_routes(p, parts)
    _save_depths(p, parts)
    return parts


cdef int _save_routes(const publisher* p, list parts) except -1:
    cdef uint32_t i, found = 0
    cdef uint64_t count = 0
    cdef saved_slot* sessions
    cdef void* subscriptions
    cdef order_route* orders = <order_route*>part_make(
        parts, "publisher.orders", p.orders.count, sizeof(order_route))
    with nogil:
        for i in range(p.orders.capacity):
            if found == p.orders.count:
                break
            if p.orders.slab[i].order_id:
                orders[found] = p.orders.slab[i]
                found += 1
    subscriptions = part_make(parts, "publisher.subscriptions", p.subscription_count, sizeof(subscription))
    memcpy(subscriptions, p.subscriptions, p.subscription_count * sizeof(subscription))
    for i in range(p.slots):
        count += p.slot_table[i].session != 0
    sessions = <saved_slot*>part_make(parts, "publisher.sessions", count, sizeof(saved_slot))
    for i in range(p.slots):
        if p.slot_table[i].session:
            sessions.slot, sessions.session = i, p.slot_table[i].session
            sessions.answered, sessions.read = p.slot_table[i].answered, p.slot_table[i].read
            sessions.full, sessions.assurance = p.slot_table[i].full, p.slot_table[i].assurance
            sessions.position = p.slot_table[i].reports.position + p.slot_table[i].filled
            sessions.attached_at = p.slot_table[i].attached_at
            sessions += 1
    return 0


cdef int _save_depths(const publisher* p, list parts) except -1:
    cdef uint64_t count = 0, levels = 0
    cdef uint32_t i
    cdef saved_depth* depths
    cdef saved_level* level
    for i in range(p.max_markets + 1):
        if p.depths[i] != NULL and p.depths[i].open:
            count += 1
            levels += p.depths[i].index.count
    depths = <saved_depth*>part_make(parts, "publisher.depths", count, sizeof(saved_depth))
    level = <saved_level*>part_make(parts, "publisher.levels", levels, sizeof(saved_level))
    with nogil:
        for i in range(p.max_markets + 1):
            if p.depths[i] != NULL and p.depths[i].open:
                depths.market = i
                level = _save_depth(p.depths[i], depths, level)
                depths += 1
    return 0


cdef saved_level* _save_depth(const depth_writer* depth, saved_depth* row, saved_level* out) noexcept nogil:
    """Returns where the next market's levels go."""
    cdef uint32_t side, level
    row.top, row.update = depth.table.top, depth.update
    for side in range(<uint32_t>ASK + 1):
        if side == ASK:
            row.bids = <uint32_t>row.levels
        level = depth.index.best[side]
        while level:
            out.price_ticks = price_of(&depth.index.levels[level])
            out.quantity_lots = depth.index.levels[level].lots
            out += 1
            row.levels += 1
            level = price_index_next(&depth.index, level)
    return out


# ---- loading ---------------------------------------------------------------------------------------------

def load_publisher(Publisher agent not None, dict parts not None):
    """Make a new publisher what was saved; its markets are placed, sessions that shall hear of it are open.

    Raises SnapshotError, which names the limit that is too low, or BadArgument if the publisher is not new. It is of no
    use after either.
    """
    cdef publisher* p = &agent.state
    cdef const saved_publisher* row = <const saved_publisher*>part_row(
        parts, "publisher.state", sizeof(saved_publisher))
    if p.orders.count or p.in_record:
        raise BadArgument(f"the publisher is not new: orders={p.orders.count}")
    if p.log.position != row.position:
        raise BadArgument(f"the log ring is not at the snapshot: position={p.log.position}, snapshot={row.position}")
    p.released, p.release, p.release_list = row.position, row.release, row.release_list
    p.events, p.reports, p.dropped = row.events, row.reports, row.dropped
    _load_routes(p, parts)
    _load_sessions(p, parts)
    _load_depths(p, parts)


cdef int _fits(str limit, uint64_t wanted, uint64_t there) except -1:
    if wanted > there:
        raise SnapshotError(f"{limit} is too low for the snapshot: limit={there}, needed={wanted}")
    return 0


cdef int _load_routes(publisher* p, dict parts) except -1:
    cdef uint64_t count, i
    cdef order_route* route
    cdef const order_route* orders = <const order_route*>part_rows(
        parts, "publisher.orders", sizeof(order_route), &count)
    cdef const void* subscriptions
    _fits("limits.max_orders", count, p.orders.capacity)
    with nogil:
        for i in range(count):
            route = routes_add(&p.orders, orders[i].order_id, orders[i].client_order_id)
            route.account, route.market = orders[i].account, orders[i].market
            route.session, route.side = orders[i].session, orders[i].side
    subscriptions = part_rows(parts, "publisher.subscriptions", sizeof(subscription), &count)
    _fits("the number of subscriptions", count, p.max_subscriptions)
    memcpy(p.subscriptions, subscriptions, count * sizeof(subscription))
    p.subscription_count = <uint32_t>count
    return 0


cdef int _load_sessions(publisher* p, dict parts) except -1:
    """Those whose memory is known here. The others hear nothing, as in a replay."""
    cdef uint64_t count, i
    cdef report_slot* slot
    cdef const saved_slot* sessions = <const saved_slot*>part_rows(
        parts, "publisher.sessions", sizeof(saved_slot), &count)
    for i in range(count):
        if sessions[i].slot >= p.slots or sessions[i].session > p.max_sessions:
            continue
        slot = &p.slot_table[sessions[i].slot]
        if not slot.open:
            continue
        slot.session, slot.full = sessions[i].session, <uint8_t>sessions[i].full
        slot.answered, slot.read = sessions[i].answered, sessions[i].read
        slot.attached_at, slot.assurance = sessions[i].attached_at, <uint8_t>sessions[i].assurance
        if p.shadow:
            # Its reports go on counting; what they were nobody will ask (succession.pxd).
            reports_anew(slot)
            slot.reports.position = sessions[i].position
            slot.reports.ring.producer.value = sessions[i].position
            slot.read, slot.full = sessions[i].position, 0
        p.slot_of[slot.session] = <uint16_t>sessions[i].slot
    return 0


cdef int _load_depths(publisher* p, dict parts) except -1:
    cdef uint64_t count, levels, used = 0, i
    cdef const saved_depth* row = <const saved_depth*>part_rows(parts, "publisher.depths", sizeof(saved_depth), &count)
    cdef const saved_level* level = <const saved_level*>part_rows(
        parts, "publisher.levels", sizeof(saved_level), &levels)
    cdef depth_writer* depth
    for i in range(count):
        _fits("limits.max_markets", row[i].market, p.max_markets)
        depth = p.depths[row[i].market]
        if used + row[i].levels > levels or row[i].bids > row[i].levels:
            raise SnapshotError(f"the snapshot is damaged: part=publisher.levels, market={row[i].market}")
        if depth == NULL or depth.open or depth.index.capacity < row[i].levels:
            raise BadArgument(
                f"a market of the snapshot has not its memory: market={row[i].market}, "
                f"levels={0 if depth == NULL else depth.index.capacity}, needed={row[i].levels}"
            )
        with nogil:
            _load_depth(depth, &row[i], level + used)
        used += row[i].levels
    return 0


cdef void _load_depth(depth_writer* depth, const saved_depth* row, const saved_level* rows) noexcept nogil:
    cdef uint64_t i
    cdef uint32_t side, level
    depth.open = True
    depth.update = row.update
    for i in range(row.levels):
        side = i >= row.bids
        level = price_index_insert(&depth.index, side, rows[i].price_ticks)
        depth.index.levels[level].lots = rows[i].quantity_lots
        mb_depth_put(depth.table, MB_SELL if side else MB_BUY, level, row.update, rows[i].price_ticks,
                     rows[i].quantity_lots)
    # `started` also where there is no level.
    mb_store_relaxed(&depth.table.started.value, row.update)
    mb_depth_begin(depth.table)
    depth.table.top = row.top
    mb_depth_end(depth.table)
