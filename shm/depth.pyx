"""A market's depth and the public market data, read in place. The protocols are in depth.h and ring.h."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from matchbox.shm.records cimport *
from matchbox.shm.ring cimport *

import time
from collections import namedtuple

import numpy as np

from matchbox.shm.arguments import seconds, whole
from matchbox.shm.errors import BadArgument, EngineDown, Lapped, MarketRemoved, SegmentError
from matchbox.shm.records import MARKET_DATA, MARKET_RECORD

LEVEL = np.dtype([("price_ticks", "<i8"), ("quantity_lots", "<i8")])

Top = namedtuple("Top", "update sequence timestamp_ns trades last_price_ticks bids asks")
Top.__doc__ = """The best levels of a market at one moment: `bids` and `asks` are arrays of LEVEL, best first.

`update` numbers the market's changes, `sequence` is the log record that caused the last one.
"""
Depth = namedtuple("Depth", "update bids asks")
TOP_PATIENCE_S = 2.0  # how long a change of the top may take, a takeover in its middle included
Depth.__doc__ = """All levels of a market after change `update`: arrays of LEVEL, best first."""

cdef enum:
    LOOKS = 2000                # of market data before sleeping
    TOP_TRIES = 10000           # a change takes some ten nanoseconds


def depth_bytes(uint64_t levels):
    """Bytes of a depth segment for so many levels a side."""
    return mb_depth_bytes(levels + 1)


def format_depth(buffer, definition, base, quote, *, uint32_t levels, uint64_t epoch=0):
    """Lay out a depth table in zeroed memory.

    definition    the market's ADD_MARKET record (MARKET_RECORD)
    base, quote   (name, scale) of its assets
    levels        most levels a side: the market's max_orders
    """
    cdef Py_buffer view
    cdef mb_depth* table
    cdef bytes raw
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    table = <mb_depth*>view.buf
    size = view.len
    PyBuffer_Release(&view)
    if <uint64_t>size < mb_depth_bytes(<uint64_t>levels + 1):
        raise SegmentError(f"buffer too small: bytes={size}, needed={depth_bytes(levels)}")
    table.magic = MB_DEPTH_MAGIC
    table.layout_version = 1
    table.epoch = epoch
    table.capacity = levels + 1  # the place of level 0 is never a level's
    raw = np.asarray(definition, MARKET_RECORD).tobytes()
    memcpy(&table.definition, <const char*>raw, sizeof(mb_market_record))
    table.market = table.definition.market
    _set_asset(&table.base, base)
    _set_asset(&table.quote, quote)
    table.state = MB_RING_OPEN
    mb_store_release32(&table.ready, 1)


def read_definition(buffer):
    """(ADD_MARKET record, (base, scale), (quote, scale)) of a depth table. Raises SegmentError if it is none."""
    cdef const mb_depth* table = _checked(buffer)
    cdef const unsigned char* start = <const unsigned char*>&table.definition
    cdef const unsigned char[::1] raw = <const unsigned char[:sizeof(mb_market_record)]>start
    record = np.frombuffer(bytes(raw), MARKET_RECORD)[0]
    return record, _asset(&table.base), _asset(&table.quote)


cdef _asset(const mb_depth_asset* asset):
    return bytes(asset.name[:MB_NAME_BYTES]).rstrip(b"\0").decode(), asset.scale


cdef const mb_depth* _checked(buffer) except NULL:
    """The table in `buffer`, which must outlive it. Raises SegmentError."""
    cdef Py_buffer view
    cdef const mb_depth* table
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    table = <const mb_depth*>view.buf
    size = view.len
    PyBuffer_Release(&view)
    if size < MB_DEPTH_LEVELS_OFFSET or mb_load_acquire32(&table.ready) != 1 or table.magic != MB_DEPTH_MAGIC \
            or table.layout_version != 1 or mb_depth_bytes(table.capacity) > <uint64_t>size:
        raise SegmentError(f"not a depth table of this version: bytes={size}")
    return table


cdef _set_asset(mb_depth_asset* out, asset):
    cdef bytes name = asset[0].encode()[:MB_NAME_BYTES]
    memcpy(out.name, <const char*>name, len(name))
    out.scale = asset[1]


cdef class Book:
    """A market's book in shared memory, as it is at each look. Reading never disturbs the exchange.

    Quantities and prices are in lots and ticks; `market` converts them. Any thread.
    """

    cdef const mb_depth* _table
    cdef object _buffer
    cdef Ring _market_data
    cdef readonly object market

    def __init__(self, buffer not None, Ring market_data, market=None):
        self._table = _checked(buffer)
        self._buffer, self._market_data, self.market = buffer, market_data, market

    @property
    def removed(self):
        """Has the market been removed? Nothing changes here any more, and another may get its number."""
        return mb_depth_closed(self._table) != 0

    cdef int _look(self) except -1:
        if mb_depth_closed(self._table):
            raise MarketRemoved(f"this market has been removed: market={self._table.market}")
        return 0

    @property
    def update(self):
        """Number of the market's last change; a cheap way to see whether there is anything new."""
        return mb_load_acquire(&self._table.top.update)

    def top(self):
        """The best levels, 20 at most of each side, all of one moment. Raises EngineDown, MarketRemoved."""
        cdef mb_depth_top top
        self._look()
        _read_top(self._table, &top)
        return Top(top.update, top.sequence, top.timestamp_ns, top.trades, top.last_price_ticks,
                   _levels(top.bid, top.bids), _levels(top.ask, top.asks))

    def best(self):
        """(bid_ticks, bid_lots, ask_ticks, ask_lots), 0 where a side is empty. Raises EngineDown, MarketRemoved."""
        cdef mb_depth_top top
        self._look()
        _read_top(self._table, &top)
        return (top.bid[0].price_ticks, top.bid[0].quantity_lots, top.ask[0].price_ticks, top.ask[0].quantity_lots)

    def depth(self, timeout=10.0):
        """All levels of both sides, all of one moment.

        Raises Lapped if that does not succeed in `timeout` seconds, MarketRemoved.
        """
        if self._market_data is None:
            raise BadArgument("this book was opened without market data, so it has the top only")
        deadline = time.monotonic() + timeout
        while True:
            self._look()
            found = self._try_depth(deadline)
            if found is not None:
                return found
            if time.monotonic() > deadline:
                raise Lapped(f"no whole depth could be read in {timeout} s: the market-data ring is too short")

    cdef _try_depth(self, deadline):
        """One attempt; None if the market-data ring overtook it."""
        cdef const mb_ring* ring = self._market_data.ring
        cdef uint64_t noted = mb_load_acquire(&ring.producer.value)
        cdef uint64_t reach = mb_load_acquire(&self._table.reach.value)
        cdef uint64_t started, end, position
        cdef mb_market_data change
        cdef mb_depth_top top
        cdef Py_ssize_t filled = 0
        cdef int found
        cdef uint64_t rebuilt = mb_load_acquire(&self._table.rebuilt.value)
        if rebuilt & 1:
            time.sleep(1e-4)
            return None
        reach = min(reach, <uint64_t>self._table.capacity)
        bids, asks = np.empty((reach, 2), np.int64), np.empty((reach, 2), np.int64)
        _copy(bids, mb_depth_levels(<mb_depth*>self._table, MB_BUY), reach)
        _copy(asks, mb_depth_levels(<mb_depth*>self._table, MB_SELL), reach)
        mb_fence_acquire()  # the copy before the number
        started = mb_load_relaxed(&self._table.started.value)
        if mb_load_relaxed(&self._table.rebuilt.value) != rebuilt:
            return None
        _read_top(self._table, &top)
        while top.update < started:
            if time.monotonic() > deadline:
                raise EngineDown("the publisher stopped within a change of this market")
            time.sleep(0)
            _read_top(self._table, &top)
        end = mb_load_acquire(&ring.producer.value)
        if end - noted > self._market_data._capacity:
            return None
        changes = np.empty((end - noted, 3), np.int64)
        cdef int64_t[:, ::1] view = changes
        with nogil:
            for position in range(noted, end):
                found = mb_lossy_read(ring, position, &change)
                if found <= 0:
                    break
                if change.kind == MB_MD_LEVEL and change.market == self._table.market and change.update <= started:
                    view[filled, 0], view[filled, 1] = change.price_ticks, change.quantity_lots
                    view[filled, 2] = change.side
                    filled += 1
        if end != noted and found <= 0:
            return None
        changes = changes[:filled]
        return Depth(started, _merge(bids, changes[changes[:, 2] == MB_BUY], True),
                     _merge(asks, changes[changes[:, 2] == MB_SELL], False))


cdef _copy(out, const mb_level* levels, uint64_t count):
    """Word by word: the writer stores words."""
    cdef int64_t[:, ::1] view = out
    cdef uint64_t i
    with nogil:
        for i in range(count):
            view[i, 0] = <int64_t>mb_load_relaxed(<const uint64_t*>&levels[i].price_ticks)
            view[i, 1] = <int64_t>mb_load_relaxed(<const uint64_t*>&levels[i].quantity_lots)


def _merge(copied, changes, bint descending):
    """The levels of one side: the last thing said of each price counts, the changes being said last."""
    said = np.concatenate([copied[copied[:, 1] > 0], changes[:, :2]])[::-1]
    prices, first = np.unique(said[:, 0], return_index=True)
    out = np.empty(len(prices), LEVEL)
    out["price_ticks"], out["quantity_lots"] = prices, said[first, 1]
    out = out[out["quantity_lots"] > 0]
    return out[::-1].copy() if descending else out


cdef int _read_top(const mb_depth* table, mb_depth_top* top) except -1:
    """Copy the top. A writer that died within a change leaves it odd; its successor, if there is one, ends it."""
    cdef uint64_t _tries
    cdef bint done = False
    deadline = None
    while not done:
        with nogil:
            for _tries in range(<uint64_t>TOP_TRIES):
                done = mb_depth_read_top(table, top)
                if done:
                    break
                mb_pause()
        if done:
            break
        deadline = deadline or time.monotonic() + TOP_PATIENCE_S
        if time.monotonic() > deadline:
            raise EngineDown("the publisher died while it changed this market's top")
        time.sleep(1e-3)
    return 0


cdef _levels(const mb_level* levels, uint32_t count):
    cdef uint8_t[::1] view
    out = np.empty(min(count, <uint32_t>MB_DEPTH_TOP), LEVEL)
    if len(out):
        view = out.view(np.uint8)
        memcpy(&view[0], levels, len(out) * sizeof(mb_level))
    return out


cdef class MarketData:
    """A reader of the public market-data ring: trades, level changes, best bid and ask, of all markets.

    It starts at the present. Nobody waits for a reader: one that falls a whole ring behind gets Lapped, stands at the
    present again, and takes the state from its books. One thread.
    """

    cdef Ring _ring
    cdef uint64_t _position
    cdef object _engine_dead

    def __init__(self, Ring ring not None, engine_dead=None):
        self._ring = ring
        self._position = mb_load_acquire(&ring.ring.producer.value)
        self._engine_dead = engine_dead

    @property
    def position(self):
        """How many records the ring had before the next one read here."""
        return self._position

    @property
    def pending(self):
        """Records that are there and not read yet."""
        return mb_load_acquire(&self._ring.ring.producer.value) - self._position

    def read(self, maximum=65536, timeout=0.0):
        """The next records, at most `maximum`, as an array of dtype MARKET_DATA (empty if none came in time).

        timeout   seconds to wait for the first one; 0: take what is there; None: wait as long as it takes

        Raises Lapped, and EngineDown once the engine died and all is read.
        """
        cdef uint64_t most = whole(maximum, "maximum", 0xFFFFFFFFFFFFFFFF)
        cdef uint64_t ready = self._look(timeout)
        cdef uint64_t count = min(ready, most)
        cdef uint64_t i
        cdef int found = 1
        out = np.empty(count, MARKET_DATA)
        if count == 0:
            return out
        cdef uint8_t[::1] view = out.view(np.uint8)
        with nogil:
            for i in range(count):
                found = mb_lossy_read(self._ring.ring, self._position + i, <mb_market_data*>&view[i * MB_RECORD_BYTES])
                if found <= 0:
                    break
        if found <= 0:
            lost = self._position + i
            self._position = mb_load_acquire(&self._ring.ring.producer.value)
            raise Lapped(f"market data overtook this reader: lost_from={lost}, goes_on_at={self._position}")
        self._position += count
        return out

    cdef uint64_t _look(self, timeout, over=()) except? 0:
        """How many records there are, after waiting for one for `timeout`, or until there is something in `over`."""
        cdef uint64_t ready = self.pending
        cdef uint64_t _looks
        if timeout is not None and timeout != 0.0:
            seconds(timeout)
        if ready or timeout == 0:
            return ready
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 20e-6
        while True:
            with nogil:
                for _looks in range(<uint64_t>LOOKS):
                    if mb_load_acquire(&self._ring.ring.producer.value) != self._position:
                        break
                    mb_pause()
            ready = self.pending
            PyErr_CheckSignals()
            if ready or over or (deadline is not None and time.monotonic() >= deadline):
                return ready
            if self._engine_dead is not None and self._engine_dead():
                raise EngineDown("the exchange's process has died")
            # A read-only reader cannot announce itself, so it looks again now and then.
            time.sleep(pause)
            pause = min(pause * 2, 1e-3)

    def __iter__(self):
        """Records one by one, waiting for each."""
        while True:
            yield from self.read(timeout=None)

    async def read_async(self, maximum=65536, timeout=None):
        """read() for asyncio: waits in a thread while others run."""
        whole(maximum, "maximum", 0xFFFFFFFFFFFFFFFF)
        seconds(timeout)
        if self.pending == 0:
            import asyncio  # slow to load, and most bots do without

            over = []
            try:
                await asyncio.to_thread(self._wait, timeout, over)
            finally:
                # If this was cancelled, the thread must not go on using the ring.
                over.append(True)
        return self.read(maximum, 0.0)

    def _wait(self, timeout, over):
        self._look(timeout, over)
