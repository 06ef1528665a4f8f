"""Candles: what trades amount to in each interval of time, made by arrays, exactly.

    INTERVALS     by name, 1s to 1M
    CANDLE        one candle, 128 bytes; prices in ticks, quantities in lots, values in ticks times
                  lots; times in milliseconds, UTC
    of_trades()   candles of some trades, of all intervals
    fold()        neighbours that belong to one candle, put together

A sum may be more than 64 bits hold, so it has two words, each an int64: high * 2^32 + low, where
low is below 2^32. All sums of one trade fit into 63 bits, which the engine sees to.

A series is all candles of an interval in a market. Candles of a series follow each other by their
first moment; where there was no trade there is none. Days, and what is shorter, begin with the day;
three days count from 1970-01-01, weeks begin on Monday, months by the calendar.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.shm.records import Side

CANDLE = np.dtype(
    [
        ("open_ms", "<i8"),  # its first moment
        ("open_ticks", "<i8"),
        ("high_ticks", "<i8"),
        ("low_ticks", "<i8"),
        ("close_ticks", "<i8"),
        ("volume", "<i8", (2,)),
        ("value", "<i8", (2,)),
        ("taker_volume", "<i8", (2,)),  # of what takers bought
        ("taker_value", "<i8", (2,)),
        ("trades", "<i8"),
        ("first_trade_id", "<u8"),
        ("last_trade_id", "<u8"),
    ]
)
assert CANDLE.itemsize == 128
_SUMS = ("volume", "value", "taker_volume", "taker_value")
_LOW = 0xFFFFFFFF
# Of so few trades all intervals are made at once, of more each of a shorter one's candles.
_FEW = 500
_DAY_MS = 86_400_000
Candles = NDArray[Any]


@dataclass(frozen=True)
class Interval:
    """How long candles are, and where they begin; the number stands in keys, for ever.

    `ms` 0: a month. `source`: what its candles can be made of.
    """

    name: str
    number: int
    ms: int
    offset_ms: int = 0
    source: str = ""

    def opens(self, times_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """The first moments of the candles that some times are in."""
        if self.ms:
            return (times_ms - self.offset_ms) // self.ms * self.ms + self.offset_ms
        months = times_ms.astype("datetime64[ms]").astype("datetime64[M]")
        return months.astype("datetime64[ms]").astype(np.int64)

    def open_of(self, time_ms: int) -> int:
        return int(self.opens(np.array([time_ms], np.int64))[0])

    def after(self, open_ms: int, count: int = 1) -> int:
        """The first moment of the candle that is `count` after the one that begins at `open_ms`, or
        before it.
        """
        if self.ms:
            return open_ms + count * self.ms
        month = np.datetime64(open_ms, "ms").astype("datetime64[M]") + count
        return int(month.astype("datetime64[ms]").astype(np.int64))

    def between(self, first_ms: int, last_ms: int) -> NDArray[np.int64]:
        """The first moments of all candles from that of one time to that of another."""
        first, last = self.open_of(first_ms), self.open_of(last_ms)
        if self.ms:
            return np.arange(first, last + 1, self.ms, dtype=np.int64)
        months = (np.datetime64(moment, "ms").astype("datetime64[M]") for moment in (first, last))
        start, end = months
        return np.arange(start, end + 1).astype("datetime64[ms]").astype(np.int64)

    @property
    def is_long(self) -> bool:
        """A day or more: kept for ever."""
        return self.number >= INTERVALS["1d"].number


_MINUTE, _HOUR = 60_000, 3_600_000
INTERVALS = {
    each.name: each
    for each in (
        Interval("1s", 1, 1000),
        Interval("1m", 2, _MINUTE, source="1s"),
        Interval("3m", 3, 3 * _MINUTE, source="1m"),
        Interval("5m", 4, 5 * _MINUTE, source="1m"),
        Interval("15m", 5, 15 * _MINUTE, source="5m"),
        Interval("30m", 6, 30 * _MINUTE, source="15m"),
        Interval("1h", 7, _HOUR, source="30m"),
        Interval("2h", 8, 2 * _HOUR, source="1h"),
        Interval("4h", 9, 4 * _HOUR, source="2h"),
        Interval("6h", 10, 6 * _HOUR, source="2h"),
        Interval("8h", 11, 8 * _HOUR, source="4h"),
        Interval("12h", 12, 12 * _HOUR, source="4h"),
        Interval("1d", 13, _DAY_MS, source="12h"),
        Interval("3d", 14, 3 * _DAY_MS, source="1d"),
        # 1970 began on a Thursday.
        Interval("1w", 15, 7 * _DAY_MS, 4 * _DAY_MS, source="1d"),
        Interval("1M", 16, 0, source="1d"),
    )
}


def wide(sum_: Any) -> int:
    """The number that a sum of two words is."""
    return (int(sum_[0]) << 32) + int(sum_[1])


def of_trades(trades: NDArray[Any]) -> tuple[NDArray[np.uint64], Candles]:
    """Series and candles of some trades (TRADE), each market's in their order; see series_of()."""
    if not len(trades):
        return np.empty(0, np.uint64), np.empty(0, CANDLE)
    trades = trades[np.argsort(trades["market"], kind="stable")]
    markets, singles = trades["market"].astype(np.uint64), _single(trades)
    if len(trades) <= _FEW:
        intervals = INTERVALS.values()
        return fold(
            np.concatenate([series_of(markets, interval) for interval in intervals]),
            np.tile(singles, len(intervals)),
            np.concatenate([interval.opens(singles["open_ms"]) for interval in intervals]),
        )
    made: dict[str, tuple[NDArray[np.uint64], Candles]] = {"": (markets, singles)}
    for name, interval in INTERVALS.items():
        markets, candles = made[interval.source]
        made[name] = fold(markets, candles, interval.opens(candles["open_ms"]))
    del made[""]
    series = [series_of(markets, INTERVALS[name]) for name, (markets, _) in made.items()]
    return np.concatenate(series), np.concatenate([candles for _, candles in made.values()])


def series_of(markets: NDArray[np.uint64], interval: Interval) -> NDArray[np.uint64]:
    """A number for each pair of market and interval."""
    return markets << np.uint64(8) | np.uint64(interval.number)


def fold(
    series: NDArray[np.uint64], candles: Candles, opens: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], Candles]:
    """Put neighbours of one series together that belong to the candle beginning at the same
    moment, of `opens`; the earlier one first.
    """
    if not len(candles):
        return series, candles
    changes = (np.diff(series) != 0) | (np.diff(opens) != 0)
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    ends = np.append(starts[1:], len(candles)) - 1
    out = candles[starts]
    out["open_ms"] = opens[starts]
    out["high_ticks"] = np.maximum.reduceat(candles["high_ticks"], starts)
    out["low_ticks"] = np.minimum.reduceat(candles["low_ticks"], starts)
    out["close_ticks"] = candles["close_ticks"][ends]
    out["last_trade_id"] = candles["last_trade_id"][ends]
    out["trades"] = np.add.reduceat(candles["trades"], starts)
    for name in _SUMS:
        sums = np.add.reduceat(candles[name], starts, axis=0)
        sums[:, 0] += sums[:, 1] >> 32
        sums[:, 1] &= _LOW
        out[name] = sums
    return series[starts], out


def joined(candles: Candles) -> Any:
    """One candle of all of a series in a row, from the first on; None if there are none."""
    if not len(candles):
        return None
    same = np.zeros(len(candles), np.uint64)
    opens = np.full(len(candles), candles["open_ms"][0])
    return fold(same, candles, opens)[1][0]


def _single(trades: NDArray[Any]) -> Candles:
    """A candle of each trade."""
    out = np.zeros(len(trades), CANDLE)
    out["open_ms"] = (trades["timestamp_ns"] // 1_000_000).astype(np.int64)
    for name in ("open_ticks", "high_ticks", "low_ticks", "close_ticks"):
        out[name] = trades["price_ticks"]
    lots, value = trades["quantity_lots"], trades["quantity_lots"] * trades["price_ticks"]
    bought = trades["side"] == Side.BUY
    for name, numbers in (
        ("volume", lots),
        ("value", value),
        ("taker_volume", np.where(bought, lots, 0)),
        ("taker_value", np.where(bought, value, 0)),
    ):
        out[name][:, 0], out[name][:, 1] = numbers >> 32, numbers & _LOW
    out["trades"] = 1
    out["first_trade_id"] = out["last_trade_id"] = trades["trade_id"]
    return out


def single(trade: Any) -> Any:
    """The candle of one trade, that begins with it."""
    return _single(np.array([trade]))[0]
