"""Klines and tickers as streams: what the endpoints say of candles and of the last 24 hours, told
every second to those who listen: candles if they have changed, of all markets' tickers those that
have.

    <symbol>@kline_<interval>
    <symbol>@ticker, <symbol>@miniTicker, !ticker@arr, !miniTicker@arr

All of it is read from the views, by the same code as for the endpoints, once they have what was
durable when the second was over: so the last word on a candle (`x`: true) is the last one.
"""

import asyncio
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from matchbox.gateway.errors import ApiError
from matchbox.gateway.history import History
from matchbox.gateway.klines import now_ms
from matchbox.gateway.market_history import MarketHistory
from matchbox.gateway.markets import Markets
from matchbox.gateway.sockets import Socket
from matchbox.gateway.streams import Channel, Kind, Stream
from matchbox.gateway.symbols import Symbol
from matchbox.gateway.tickers import Tickers
from matchbox.persistence.candles import INTERVALS, wide
from matchbox.shm.errors import ViewsError

EVERY_S = 1.0
# After the second: what was matched within it is durable by then.
LATE_S = 0.1
# Candles that have ended since the last look, told one by one: more only where looks were missed.
_MOST_ENDED = 10
_encode = msgspec.json.Encoder().encode
_TICKER = {
    "p": "priceChange",
    "P": "priceChangePercent",
    "w": "weightedAvgPrice",
    "x": "prevClosePrice",
    "c": "lastPrice",
    "Q": "lastQty",
    "b": "bidPrice",
    "B": "bidQty",
    "a": "askPrice",
    "A": "askQty",
    "o": "openPrice",
    "h": "highPrice",
    "l": "lowPrice",
    "v": "volume",
    "q": "quoteVolume",
    "O": "openTime",
    "C": "closeTime",
    "F": "firstId",
    "L": "lastId",
    "n": "count",
}
_MINI = {
    "c": "lastPrice",
    "o": "openPrice",
    "h": "highPrice",
    "l": "lowPrice",
    "v": "volume",
    "q": "quoteVolume",
}


class _Klines:
    """A channel of klines, and what it was told."""

    def __init__(self, symbol: Symbol, channel: Channel) -> None:
        self.symbol, self.channel = symbol, channel
        self.interval = INTERVALS[channel.stream.interval]
        self.open_ms = 0  # of the candle that was told last
        self.trades = -1  # ... and how many it had


class Summaries:
    """Tells klines and tickers. On one event loop."""

    def __init__(
        self,
        markets: Markets,
        history: History,
        traded: MarketHistory,
        tickers: Tickers,
        say: Callable[[str], None],
    ) -> None:
        self._markets, self._history, self._traded = markets, history, traded
        self._tickers, self._say = tickers, say
        self._klines: dict[str, _Klines] = {}
        self._of_tickers: dict[str, Channel] = {}
        self._told: dict[tuple[str, int], Any] = {}  # by stream and market
        self._task: asyncio.Task[None] | None = None

    # -- listeners

    async def join(self, stream: Stream, socket: Socket) -> None:
        """Have a socket told of a stream. Raises ApiError if there is no such market."""
        symbol = await self._markets.symbol(stream.symbol) if stream.symbol else None
        if stream.kind is Kind.KLINE:
            assert symbol is not None
            klines = self._klines.get(stream.name)
            if klines is None or klines.symbol.market != symbol.market:
                klines = self._klines[stream.name] = _Klines(symbol, Channel(stream))
            klines.trades = -1  # who is new is told at once
            klines.channel.add(socket)
        else:
            channel = self._of_tickers.setdefault(stream.name, Channel(stream))
            channel.add(socket)
            self._told = {key: told for key, told in self._told.items() if key[0] != stream.name}
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def leave(self, name: str, socket: Socket) -> None:
        """No more of that for it."""
        klines, channel = self._klines.get(name), self._of_tickers.get(name)
        if klines is not None:
            klines.channel.remove(socket)
            if not len(klines.channel):
                del self._klines[name]
        elif channel is not None:
            channel.remove(socket)
            if not len(channel):
                del self._of_tickers[name]

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    # -- telling

    async def _run(self) -> None:
        """Once a second, until nobody listens."""
        try:
            while self._klines or self._of_tickers:
                now = now_ms()
                await asyncio.sleep(EVERY_S - now % 1000 / 1000 + LATE_S)
                at_ms = now_ms() - int(1000 * LATE_S)
                try:
                    await self._history.caught_up()
                    await self._tell(at_ms)
                except (ApiError, ViewsError):  # the archiver is late, or makes them anew
                    continue
                except Exception:
                    self._say(f"klines and tickers: {traceback.format_exc()}")
        finally:
            self._task = None

    async def _tell(self, at_ms: int) -> None:
        for klines in list(self._klines.values()):
            self._tell_klines(klines, at_ms)
        for name, channel in list(self._of_tickers.items()):
            stream = channel.stream
            mini = stream.kind is Kind.MINI
            if stream.symbol:
                symbols = [await self._markets.symbol(stream.symbol)]
            else:
                symbols = await self._markets.chosen(None, None)
            said = [await self._ticker(name, symbol, mini) for symbol in symbols]
            if stream.symbol:
                channel.publish(_encode(said[0][0]))
                continue
            changed = [event for event, is_new in said if is_new]
            if changed:
                channel.publish(_encode(changed))

    def _tell_klines(self, klines: _Klines, at_ms: int) -> None:
        """The candles that have ended since the last time, and the one of now if it has changed."""
        symbol, interval = klines.symbol, klines.interval
        count = 1
        if klines.open_ms:
            open_ms = klines.open_ms
            while count <= _MOST_ENDED and interval.after(open_ms) <= at_ms:
                open_ms, count = interval.after(open_ms), count + 1
        rows = self._traded.candles(symbol.market, interval, count, at_ms)
        for row in rows:
            open_ms, trades = int(row["open_ms"]), int(row["trades"])
            if open_ms < klines.open_ms:
                continue
            end_ms = interval.after(open_ms)
            ended = end_ms <= at_ms
            if (open_ms, trades) != (klines.open_ms, klines.trades) or ended:
                klines.channel.publish(_encode(_kline(symbol, interval.name, row, end_ms, ended)))
            # One that has ended is told so once.
            klines.open_ms = end_ms if ended else open_ms
            klines.trades = -1 if ended else trades

    async def _ticker(self, name: str, symbol: Symbol, mini: bool) -> tuple[dict[str, Any], bool]:
        """What is said of a market, and whether it differs from what was said last."""
        row = await self._tickers.of_last_day(symbol, book=not mini)
        names = _MINI if mini else _TICKER
        said = {short: row[long] for short, long in names.items()}
        # That the window has moved on is no change.
        same = {short: value for short, value in said.items() if short not in "OC"}
        key = name, symbol.number
        is_new = self._told.get(key) != same
        if len(self._told) > 10_000:
            self._told.clear()
        self._told[key] = same
        kind = "24hrMiniTicker" if mini else "24hrTicker"
        return {"e": kind, "E": now_ms(), "s": symbol.name, **said}, is_new


def _kline(symbol: Symbol, interval: str, row: Any, end_ms: int, ended: bool) -> dict[str, Any]:
    """A candle (CANDLE) as a message."""

    def price(name: str) -> str:
        return symbol.price(int(row[f"{name}_ticks"]))

    traded = int(row["trades"]) > 0
    return {
        "e": "kline",
        "E": now_ms(),
        "s": symbol.name,
        "k": {
            "t": int(row["open_ms"]),
            "T": end_ms - 1,
            "s": symbol.name,
            "i": interval,
            "f": int(row["first_trade_id"]) if traded else -1,
            "L": int(row["last_trade_id"]) if traded else -1,
            "o": price("open"),
            "c": price("close"),
            "h": price("high"),
            "l": price("low"),
            "v": symbol.quantity(wide(row["volume"])),
            "n": int(row["trades"]),
            "x": ended,
            "q": symbol.notional(wide(row["value"])),
            "V": symbol.quantity(wide(row["taker_volume"])),
            "Q": symbol.notional(wide(row["taker_value"])),
            "B": "0",
        },
    }
