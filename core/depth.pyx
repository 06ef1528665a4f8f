"""Writing a market's depth table; what it keeps is in depth.pxd, the protocol in shm/depth.h."""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from matchbox.core.price_index cimport (
    ASK, BID, price_index_after, price_index_create, price_index_destroy, price_index_find, price_index_insert,
    price_index_remove, price_key, price_of
)
from matchbox.shm.depth cimport *
from matchbox.shm.records cimport MB_BUY
from matchbox.shm.ring cimport MB_RING_CLOSED, mb_load_relaxed, mb_store_relaxed, mb_store_release32

from matchbox.shm.errors import SegmentError


cdef inline void _put(mb_level* place, int64_t price, int64_t quantity) noexcept nogil:
    """Readers look at any time, so every word is stored whole."""
    mb_store_relaxed(<uint64_t*>&place.price_ticks, <uint64_t>price)
    mb_store_relaxed(<uint64_t*>&place.quantity_lots, <uint64_t>quantity)


cdef inline uint32_t _place_in_top(const mb_level* top, uint32_t count, uint32_t side, uint64_t key) noexcept nogil:
    """Where a key stands, or belongs, among the best levels of its side. Most changes are near the best."""
    cdef uint32_t i = 0
    while i < count and price_key(side, top[i].price_ticks) < key:
        i += 1
    return i


cdef bint _change_top(depth_writer* depth, uint32_t side, int64_t price, int64_t quantity) noexcept nogil:
    """One level of the top changes, comes or goes; the index is up to date. Returns whether the best did."""
    cdef mb_depth* table = depth.table
    cdef mb_level* top = &table.top.bid[0] if side == BID else &table.top.ask[0]
    cdef uint32_t* count = &table.top.bids if side == BID else &table.top.asks
    cdef uint32_t used = count[0], i, level
    cdef uint32_t place = _place_in_top(top, used, side, price_key(side, price))
    cdef bint known = place < used and top[place].price_ticks == price
    if place == MB_DEPTH_TOP or (not known and quantity == 0):
        return False
    if known and quantity:
        _put(&top[place], price, quantity)
    elif quantity:
        i = used if used < MB_DEPTH_TOP else MB_DEPTH_TOP - 1
        while i > place:
            _put(&top[i], top[i - 1].price_ticks, top[i - 1].quantity_lots)
            i -= 1
        _put(&top[place], price, quantity)
        if used < MB_DEPTH_TOP:
            count[0] = used + 1
    else:
        # The level behind the last one moves up, if there is one.
        level = price_index_after(&depth.index, side, top[used - 1].price_ticks) if used == MB_DEPTH_TOP else 0
        for i in range(place, used - 1):
            _put(&top[i], top[i + 1].price_ticks, top[i + 1].quantity_lots)
        if level:
            _put(&top[used - 1], price_of(&depth.index.levels[level]), depth.index.levels[level].lots)
        else:
            _put(&top[used - 1], 0, 0)
            count[0] = used - 1
    return place == 0


cdef void depth_set(depth_writer* depth, uint8_t side, int64_t price, int64_t quantity) noexcept nogil:
    cdef uint32_t of = BID if side == MB_BUY else ASK
    cdef uint32_t level
    depth.update += 1
    if quantity:
        level = price_index_insert(&depth.index, of, price)
        depth.index.levels[level].lots = quantity
        mb_depth_put(depth.table, side, level, depth.update, price, quantity)
        return
    level = price_index_find(&depth.index, of, price)
    # Level 0 stands for none: a change of a level that is not there is a change too.
    mb_depth_put(depth.table, side, level, depth.update, price, 0)
    if level:
        price_index_remove(&depth.index, level)


cdef bint depth_show(depth_writer* depth, uint8_t side, int64_t price, int64_t quantity, uint64_t sequence,
                     uint64_t timestamp_ns) noexcept nogil:
    cdef mb_depth* table = depth.table
    cdef bint moved
    mb_depth_begin(table)
    moved = _change_top(depth, BID if side == MB_BUY else ASK, price, quantity)
    mb_store_relaxed(&table.top.update, depth.update)
    mb_store_relaxed(&table.top.sequence, sequence)
    mb_store_relaxed(&table.top.timestamp_ns, timestamp_ns)
    mb_depth_end(table)
    return moved


cdef void depth_trade(depth_writer* depth, int64_t price, uint64_t trade_id) noexcept nogil:
    cdef mb_depth* table = depth.table
    mb_depth_begin(table)
    mb_store_relaxed(&table.top.trades, trade_id)
    mb_store_relaxed(<uint64_t*>&table.top.last_price_ticks, <uint64_t>price)
    mb_depth_end(table)


cdef void depth_open(depth_writer* depth) noexcept nogil:
    if depth != NULL:
        depth.open = True


cdef void depth_close(depth_writer* depth) noexcept nogil:
    if depth == NULL:
        return
    depth.open = False
    # Nothing is written to the table any more, so whoever sees it open has seen all of its market.
    mb_store_release32(&depth.table.state, MB_RING_CLOSED)


cdef void depth_best(const depth_writer* depth, int64_t* bid, int64_t* bid_quantity, int64_t* ask,
                     int64_t* ask_quantity) noexcept nogil:
    cdef const mb_depth_top* top = &depth.table.top
    bid[0] = top.bid[0].price_ticks
    bid_quantity[0] = top.bid[0].quantity_lots
    ask[0] = top.ask[0].price_ticks
    ask_quantity[0] = top.ask[0].quantity_lots


cdef mb_depth* table_of(buffer, uint32_t levels) except NULL:
    cdef Py_buffer view
    cdef mb_depth* table
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    table = <mb_depth*>view.buf
    size = view.len
    PyBuffer_Release(&view)
    if size < MB_DEPTH_LEVELS_OFFSET or table.magic != MB_DEPTH_MAGIC or table.ready != 1 \
            or mb_depth_bytes(table.capacity) > <uint64_t>size or levels not in (0, table.capacity):
        raise SegmentError(f"not a depth table: bytes={size}")
    return table


cdef class DepthTable:
    """The depth table in `buffer`, laid out by matchbox.shm.depth.format_depth(), for its one writer.

    Raises SegmentError if the buffer holds none, or one that was written to before.
    """

    def __cinit__(self, buffer not None):
        cdef mb_depth* table = table_of(buffer, 0)
        self.buffer = buffer
        if mb_load_relaxed(&table.started.value):
            raise SegmentError(f"this depth table has been written to: market={table.market}")
        price_index_create(&self.writer.index, table.capacity - 1)
        self.writer.table = table

    def __dealloc__(self):
        price_index_destroy(&self.writer.index)

    @property
    def market(self):
        return self.writer.table.market

    @property
    def update(self):
        """Number of the last change."""
        return self.writer.update
