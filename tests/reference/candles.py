"""Candles in plain Python, one trade after the other, by the calendar; to compare with."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from matchbox.persistence.candles import wide

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECONDS = {
    "1s": 1, "1m": 60, "3m": 180, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "2h": 7200,
    "4h": 14400, "6h": 21600, "8h": 28800, "12h": 43200, "1d": 86400,
}  # fmt: skip
NAMES = (*SECONDS, "3d", "1w", "1M")


@dataclass
class Candle:
    """All integers: ticks, lots, ticks times lots, milliseconds."""

    open_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int = 0
    value: int = 0
    taker_volume: int = 0
    taker_value: int = 0
    trades: int = 0
    first_id: int = 0
    last_id: int = 0


def open_of(moment: datetime, name: str) -> datetime:
    """The first moment of the candle that a moment is in."""
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if name in SECONDS:
        length = timedelta(seconds=SECONDS[name])
        return midnight + (moment - midnight) // length * length
    if name == "3d":
        return midnight - timedelta(days=(midnight - EPOCH).days % 3)
    if name == "1w":
        return midnight - timedelta(days=midnight.weekday())
    return midnight.replace(day=1)


def milliseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)


def candles(trades: Any, name: str) -> list[Candle]:
    """Of rows (TRADE) of one market, in their order."""
    found: list[Candle] = []
    for trade in trades:
        ms = int(trade["timestamp_ns"]) // 1_000_000
        open_ms = milliseconds(open_of(EPOCH + timedelta(milliseconds=ms), name))
        price, lots = int(trade["price_ticks"]), int(trade["quantity_lots"])
        number = int(trade["trade_id"])
        if not found or found[-1].open_ms != open_ms:
            found.append(Candle(open_ms, price, price, price, price, first_id=number))
        candle = found[-1]
        candle.high, candle.low = max(candle.high, price), min(candle.low, price)
        candle.close, candle.last_id = price, number
        candle.trades += 1
        candle.volume += lots
        candle.value += lots * price
        if trade["side"] == 1:
            candle.taker_volume += lots
            candle.taker_value += lots * price
    return found


def as_reference(row: Any) -> Candle:
    """A row (CANDLE) as it would be here."""
    prices = (row[f"{name}_ticks"] for name in ("open", "high", "low", "close"))
    sums = (row[name] for name in ("volume", "value", "taker_volume", "taker_value"))
    counts = (row[name] for name in ("trades", "first_trade_id", "last_trade_id"))
    return Candle(int(row["open_ms"]), *map(int, prices), *map(wide, sums), *map(int, counts))
