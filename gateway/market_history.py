"""What was traded in a market, read from the views' tables where the archiver writes them.

The tables are mapped into each worker's memory, so nobody is asked, and nobody waits: what is found
is some 20 ms behind the last trade, and is on the disk. Prices in ticks, quantities in lots, values
in ticks times lots, times in milliseconds.

    trades      a market's, by number
    aggregates  trades of one taker at one price in a row: one order's, by one log record
    candles     of an interval, without gaps: where there was no trade it repeats the last price
    window      one candle of all trades since some second
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from matchbox.gateway.history import NO_END, first_trade_id
from matchbox.persistence import candles
from matchbox.persistence.candles import CANDLE, INTERVALS, Interval
from matchbox.persistence.views import Views
from matchbox.shm.market import Market
from matchbox.shm.records import Side
from matchbox.shm.streams import TRADE

_MS = 1_000_000
# How long it is believed that a market's number means no other market.
_FRESH_S = 1.0
_LEAST_AT_ONCE, _MOST_AT_ONCE = 50, 1000
# Made of shorter candles, no more than so many.
_MOST_SOURCES = 20_000
_MONTH_MS = 31 * 86_400_000
# From short to long: what a window is put together of.
_STEPS = tuple(INTERVALS[name] for name in ("1s", "1m", "1h", "1d"))
_SHIFTED = tuple(INTERVALS[name] for name in ("1h", "30m", "15m", "5m", "1m"))


class Aggregate(NamedTuple):
    """Trades of one taker's order at one price, that one log record caused. `number`: that of its
    first trade.
    """

    number: int
    price_ticks: int
    quantity_lots: int
    last_trade_id: int
    time_ms: int
    buyer_is_maker: bool


class MarketHistory:
    """Questions about trades. On one event loop."""

    def __init__(self, directory: Path) -> None:
        self._views = Views(directory)
        self._firsts: dict[int, tuple[float, Market, int]] = {}

    def close(self) -> None:
        self._views.close()

    def _first(self, market: Market) -> int:
        """The number of a market's first trade: those before are another's, of the same number."""
        known = self._firsts.get(market.number)
        if known is None or time.monotonic() - known[0] >= _FRESH_S or known[1] != market:
            found = first_trade_id(self._views, market)
            if found == NO_END:
                return found
            known = self._firsts[market.number] = time.monotonic(), market, found
        return known[2]

    # -- trades

    def last_trades(self, market: Market, limit: int) -> NDArray[Any]:
        """The newest (TRADE), oldest first."""
        rows = self._views.last_trades(market.number, limit)
        return rows[rows["trade_id"] >= self._first(market)]

    def trades_from(self, market: Market, trade_id: int, limit: int) -> NDArray[Any]:
        """From a number on."""
        return self._views.trades_from(market.number, max(trade_id, self._first(market)), limit)

    # -- aggregates

    def aggregates(
        self,
        market: Market,
        limit: int,
        *,
        number: int = 0,
        start_ms: int = 0,
        end_ms: int = NO_END,
    ) -> list[Aggregate]:
        """From a number and a time on, up to an end."""
        first = max(number, self._first(market))
        if start_ms:
            found = self._views.first_trade_at(market.number, start_ms * _MS)
            first = max(first, NO_END if found is None else found)
        out: list[Aggregate] = []
        for rows in self._whole(market, self._start(market, first), _at_once(limit)):
            out += [each for each in _aggregated(rows) if each.number >= first]
            if len(out) >= limit or (out and out[-1].time_ms > end_ms):
                break
        return [each for each in out if each.time_ms <= end_ms][:limit]

    def last_aggregates(self, market: Market, limit: int, end_ms: int = NO_END) -> list[Aggregate]:
        """The newest, or the last before the end of a millisecond, oldest first."""
        before, began, size = NO_END, self._first(market), _at_once(limit)
        if end_ms != NO_END:
            before = self._views.first_trade_at(market.number, (end_ms + 1) * _MS) or NO_END
        rows = np.empty(0, TRADE)
        while True:
            more = self._views.last_trades(market.number, size, before=before)
            more = more[more["trade_id"] >= began]
            rows = np.concatenate([more, rows])
            out = _aggregated(rows)
            # The first of them may have begun before.
            if len(more) < size or len(out) > limit:
                return out[-limit:]
            before = int(more["trade_id"][0])

    def _start(self, market: Market, trade_id: int) -> int:
        """The number of a trade that begins an aggregate, not after a trade and near to it."""
        if trade_id == NO_END:
            return trade_id
        step = 1
        while trade_id > step:
            rows = self._views.trades_from(market.number, trade_id - step, step + 1)
            starts = rows["trade_id"][1:][_changes(rows)]
            starts = starts[starts <= trade_id]
            if len(starts):
                return int(starts[-1])
            step *= 8
        return 1

    def _whole(self, market: Market, trade_id: int, size: int) -> Iterator[NDArray[Any]]:
        """Trades from a number on, in pieces that end with an aggregate."""
        rest = np.empty(0, TRADE)
        while True:
            rows = self._views.trades_from(market.number, trade_id, size)
            joined = np.concatenate([rest, rows])
            if len(rows) < size:
                yield joined
                return
            starts = np.flatnonzero(_changes(joined)) + 1
            cut = int(starts[-1]) if len(starts) else 0
            if cut:
                yield joined[:cut]
            rest, trade_id = joined[cut:], int(rows["trade_id"][-1]) + 1

    # -- candles

    def candles(
        self,
        market: Market,
        interval: Interval,
        limit: int,
        now_ms: int,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        shift_ms: int = 0,
    ) -> NDArray[Any]:
        """Candles (CANDLE) one after the other, up to `limit`: from the first that begins at a time
        or later, or else the last ones; none begins after `end_ms` or now, or before the market's
        first trade. `shift_ms`: by how much the clock is ahead of UTC by which they begin.
        """
        series = _Series(self._views, market.number, interval, shift_ms, self._first(market))
        limit = min(limit, series.most)
        end = series.open_of(now_ms if end_ms is None else min(now_ms, end_ms))
        if start_ms is None:
            first = series.after(end, 1 - limit)
        else:
            first = series.open_of(start_ms)
            first = series.after(first, 1) if first < start_ms else first
        before = series.last_before(first)
        if before is None:
            head = series.first_from(first, end)
            if head is None:
                return np.empty(0, CANDLE)
            first = head
        last = min(end, series.after(first, limit - 1))
        if last < first:
            return np.empty(0, CANDLE)
        return _without_gaps(series.between(first, last), series.rows(first, last), before)

    def window(self, market: Market, start_ms: int, now_ms: int) -> Any:
        """One candle (CANDLE) of all trades from the second on in which a time is; None if there
        was none.
        """
        at, parts = start_ms // 1000 * 1000, []
        for step, longer in zip(_STEPS, (*_STEPS[1:], None), strict=True):
            end = now_ms + 1
            if longer is not None:
                above = longer.open_of(at)
                end = at if above == at else longer.after(above)
            if end > at:
                parts.append(self._views.candles(market.number, step, at, end, limit=86_400))
                at = end
        rows = np.concatenate(parts)
        return candles.joined(rows[rows["first_trade_id"] >= self._first(market)])

    def close_before(self, market: Market, time_ms: int) -> int:
        """The price of the last trade before the second in which a time is; 0 if there is none."""
        series = _Series(self._views, market.number, INTERVALS["1s"], 0, self._first(market))
        found = series.last_before(time_ms // 1000 * 1000)
        return 0 if found is None else int(found["close_ticks"])


class _Series:
    """The candles of a market and an interval, also by a clock that is ahead of UTC. `most`: how
    many can be asked for at once.
    """

    def __init__(
        self, views: Views, market: int, interval: Interval, shift_ms: int, first_trade: int
    ) -> None:
        self._views, self._market, self._interval = views, market, interval
        self._first_trade = first_trade
        # A shift by whole candles is none.
        self._shift = 0 if interval.ms and shift_ms % interval.ms == 0 else shift_ms
        self._source, self.most = interval, _MOST_SOURCES
        if self._shift:
            self._source = next(each for each in _SHIFTED if shift_ms % each.ms == 0)
            self.most //= (interval.ms or _MONTH_MS) // self._source.ms

    def open_of(self, time_ms: int) -> int:
        return self._interval.open_of(time_ms + self._shift) - self._shift

    def after(self, open_ms: int, count: int) -> int:
        return self._interval.after(open_ms + self._shift, count) - self._shift

    def between(self, first_ms: int, last_ms: int) -> NDArray[np.int64]:
        opens = self._interval.between(first_ms + self._shift, last_ms + self._shift)
        return opens - self._shift

    def rows(self, first_ms: int, last_ms: int) -> NDArray[Any]:
        """Those that begin at one time to another."""
        end = self.after(last_ms, 1)
        found = self._views.candles(self._market, self._source, first_ms, end, _MOST_SOURCES)
        found = self._mine(found)
        if not self._shift:
            return found
        opens = self._interval.opens(found["open_ms"] + self._shift) - self._shift
        return candles.fold(np.zeros(len(found), np.uint64), found, opens)[1]

    def first_from(self, first_ms: int, last_ms: int) -> int | None:
        """When the first begins that there is between two of these times."""
        end = self.after(last_ms, 1)
        found = self._mine(self._views.candles(self._market, self._source, first_ms, end, 1))
        return self.open_of(int(found[0]["open_ms"])) if len(found) else None

    def last_before(self, open_ms: int) -> Any:
        """The last candle before a time that one of these begins; None if there is none."""
        found = self._mine(self._views.last_candles(self._market, self._source, open_ms, 1))
        return found[0] if len(found) else None

    def _mine(self, rows: NDArray[Any]) -> NDArray[Any]:
        return rows[rows["first_trade_id"] >= self._first_trade]


def _without_gaps(opens: NDArray[np.int64], rows: NDArray[Any], before: Any) -> NDArray[Any]:
    """A candle for each of `opens`: where no row is, one without trades, at the price before."""
    out = np.zeros(len(opens), CANDLE)
    places = np.searchsorted(opens, rows["open_ms"])
    out[places] = rows
    newest = np.full(len(opens), -1)
    newest[places] = places
    newest = np.maximum.accumulate(newest)
    close = out["close_ticks"][newest]
    if before is not None:
        close = np.where(newest >= 0, close, before["close_ticks"])
    empty = out["trades"] == 0
    for name in ("open_ticks", "high_ticks", "low_ticks", "close_ticks"):
        out[name][empty] = close[empty]
    out["open_ms"] = opens
    return out


def _at_once(limit: int) -> int:
    """How many trades to read for so many aggregates."""
    return min(max(2 * limit, _LEAST_AT_ONCE), _MOST_AT_ONCE)


def _changes(trades: NDArray[Any]) -> NDArray[np.bool_]:
    """Which trades, but the first, begin an aggregate."""
    found = np.zeros(max(len(trades) - 1, 0), bool)
    for name in ("sequence", "order_id", "price_ticks"):
        found |= trades[name][1:] != trades[name][:-1]
    return found


def _aggregated(trades: NDArray[Any]) -> list[Aggregate]:
    if not len(trades):
        return []
    starts = np.concatenate([[0], np.flatnonzero(_changes(trades)) + 1])
    ends = np.append(starts[1:], len(trades)) - 1
    first, last = trades[starts], trades[ends]
    return [
        Aggregate(*row)
        for row in zip(
            first["trade_id"].tolist(),
            first["price_ticks"].tolist(),
            np.add.reduceat(trades["quantity_lots"], starts).tolist(),
            last["trade_id"].tolist(),
            (first["timestamp_ns"] // _MS).tolist(),
            (first["side"] == Side.SELL).tolist(),
            strict=True,
        )
    ]
