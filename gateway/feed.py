"""The public market data of all markets, from shared memory to those who listen.

One reader of the market-data ring a worker, and only while somebody listens. The ring is read-only
and has no bell: it is looked at every LOOK_S while there are streams that tell at once, else when
the next batch is due. What was read and is not on the disk yet waits here: clients are told nothing
that a power cut could take back. (Where the gateway's assurance is less than durable, it does not
wait.)

A reader that was lapped goes on at the present; see diffs.py for books. Trades that it missed show
by their numbers.
"""

import asyncio
import contextlib
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.gateway.errors import DISCONNECTED, ApiError, of
from matchbox.gateway.market_streams import MarketStreams, rows_by_market
from matchbox.gateway.markets import Markets
from matchbox.gateway.sockets import Socket
from matchbox.gateway.streams import Channel, Kind, Stream
from matchbox.gateway.symbols import Symbol
from matchbox.shm.depth import MarketData
from matchbox.shm.errors import EngineDown, Lapped, MarketRemoved
from matchbox.shm.records import MARKET_DATA
from matchbox.shm.ring import Ring

LOOK_S, TICK_S, TICKS_OF_SLOW = 0.005, 0.1, 10
# Read at once, and kept for the disk, at most; the ring has the rest.
_AT_ONCE, _KEPT = 16_384, 1 << 17
EVERYTHING = (1 << 63) - 1


class Feed:
    """Reads the market data and publishes it. On one event loop."""

    def __init__(
        self,
        ring: Ring,
        markets: Markets,
        durable: Callable[[], int],
        say: Callable[[str], None],
    ) -> None:
        """`durable`: up to which log record clients may be told."""
        self._ring, self._markets, self._durable, self._say = ring, markets, durable, say
        self._by_market: dict[int, MarketStreams] = {}
        self._by_name: dict[str, MarketStreams] = {}
        self._best_of_all = Channel(Stream("!bookTicker", Kind.BEST))
        self._reader: MarketData | None = None
        self._left: NDArray[Any] = np.empty(0, MARKET_DATA)
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when it looks again
        self._ticks, self._next_tick = 0, 0.0
        self._waiting: list[MarketStreams] = []  # for the disk
        self._unknown = False  # a market has come
        self._opening: asyncio.Task[None] | None = None

    # -- listeners

    async def join(self, stream: Stream, socket: Socket) -> None:
        """Have a socket told of a stream. Raises ApiError if there is no such market."""
        if not stream.symbol:
            self._best_of_all.add(socket)
            self._start()
            await self._open_all()
            return
        streams = await self._of(await self._markets.symbol(stream.symbol))
        self._start()
        try:
            streams.add(stream).add(socket)
        except MarketRemoved:
            raise self._markets.removed(streams.symbol) from None
        except (EngineDown, Lapped):
            raise of(DISCONNECTED) from None
        self._by_name[stream.name] = streams

    def leave(self, name: str, socket: Socket) -> None:
        """No more of that for it."""
        if name == self._best_of_all.stream.name:
            self._best_of_all.remove(socket)
            return
        streams = self._by_name.get(name)
        channel = streams.channels.get(name) if streams is not None else None
        if streams is None or channel is None:
            return
        channel.remove(socket)
        if not len(channel):
            streams.drop(channel)
            del self._by_name[name]
            number = streams.symbol.number
            if (
                not streams.channels
                and not len(self._best_of_all)
                and self._by_market.get(number) is streams
            ):
                del self._by_market[number]

    async def _of(self, symbol: Symbol) -> MarketStreams:
        known = self._by_market.get(symbol.number)
        if known is None or known.removed:
            book = await self._markets.book(symbol)
            # Another may have come first meanwhile.
            known = self._by_market.get(symbol.number)
            if known is None or known.removed:
                known = MarketStreams(symbol, book, self._best_of_all)
                self._by_market[symbol.number] = known
        return known

    async def _open_all(self) -> None:
        """Be ready for records of any market."""
        self._unknown = False
        symbols = await self._markets.symbols(fresh=True)
        for symbol in list(symbols.by_number.values()):
            with contextlib.suppress(ApiError):  # it has just been removed
                await self._of(symbol)

    # -- reading

    @property
    def wanted(self) -> bool:
        """Does anybody listen?"""
        return bool(self._by_name) or len(self._best_of_all) > 0

    def _start(self) -> None:
        """Begin to read, before a book is looked at: so no change is missed in between."""
        if self._reader is None:
            self._reader = MarketData(self._ring)
        now = asyncio.get_running_loop().time()
        if self._timer is None:
            self._next_tick = now + TICK_S
        elif self._due > now + LOOK_S:
            self._timer.cancel()
        else:
            return
        self._look_in(LOOK_S)

    def _look_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + seconds
        self._timer = loop.call_later(seconds, self._look)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """Take what there is, tick if it is time to, and come again."""
        loop = asyncio.get_running_loop()
        more = False
        try:
            more = self._take()
            now = loop.time()
            if now >= self._next_tick:
                self._ticks += 1
                self._next_tick = max(self._next_tick + TICK_S, now + LOOK_S)
                self._tick(self._ticks % TICKS_OF_SLOW == 0)
            elif self._waiting:
                durable, waiting = self._durable(), self._waiting
                self._waiting = [streams for streams in waiting if streams.waits(durable)]
        except Exception:
            self._say(f"market data: {traceback.format_exc()}")
        if not self.wanted:
            self._timer, self._reader = None, None
            self._left = np.empty(0, MARKET_DATA)
            self._by_market.clear()
            return
        at_once = bool(self._waiting) or len(self._left) > 0 or len(self._best_of_all) > 0
        at_once = at_once or any(each.at_once for each in self._by_market.values())
        pause = LOOK_S if at_once else max(LOOK_S, self._next_tick - loop.time())
        self._look_in(0.0 if more else pause)

    def _take(self) -> bool:
        """True: there is more."""
        reader = self._reader
        assert reader is not None
        rows = self._left
        try:
            if len(self._left) < _KEPT and reader.pending:
                found = reader.read(_AT_ONCE)
                rows = np.concatenate([rows, found]) if len(rows) else found
        except Lapped:
            self._each(lambda streams: streams.lapped())
        durable = self._durable()
        count = len(rows)
        if count and rows["sequence"][-1] > durable:
            count = int(np.searchsorted(rows["sequence"], durable, "right"))
        self._left = rows[count:]
        told = set()
        if count:
            for number, of_market in rows_by_market(rows[:count]):
                streams = self._by_market.get(number)
                if streams is not None:
                    told.add(number)
                    streams.take(of_market)
                else:
                    self._unknown = True
        for number, streams in self._by_market.items():
            if number not in told:
                streams.quiet()
        return reader.pending > 0 and len(self._left) < _KEPT

    def _tick(self, slow: bool) -> None:
        durable = self._durable()
        self._waiting.clear()

        def tick(streams: MarketStreams) -> None:
            if streams.tick(slow, durable):
                self._waiting.append(streams)

        self._each(tick)
        if slow and self._unknown and len(self._best_of_all):
            self._opening = asyncio.get_running_loop().create_task(self._open_all())

    def _each(self, do: Callable[[MarketStreams], None]) -> None:
        for number, streams in list(self._by_market.items()):
            try:
                do(streams)
            except MarketRemoved:
                self._forget(number, streams)
            except (EngineDown, Lapped, ApiError):
                continue  # there is another tick

    def _forget(self, number: int, streams: MarketStreams) -> None:
        """Its market is no more, and nothing comes of it: another may get its name."""
        del self._by_market[number]
        for name in streams.channels:
            self._by_name.pop(name, None)
