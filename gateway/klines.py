"""Candles over REST: klines of all intervals, and the average price of the last minutes.

Candles follow each other without gaps from a market's first trade on: where nothing was traded one
has the price before it, and no volume.
"""

import time
from typing import Any

from matchbox.gateway.endpoints import Call, Endpoint
from matchbox.gateway.market_history import MarketHistory
from matchbox.gateway.markets import Markets
from matchbox.gateway.parameters import (
    SYMBOL,
    TIME,
    TIME_ZONE,
    Choice,
    Form,
    Limit,
    Parameter,
)
from matchbox.gateway.symbols import Symbol
from matchbox.persistence.candles import INTERVALS, wide

AVERAGE_MINUTES = 5
_SYMBOL = Parameter("symbol", SYMBOL, required=True)
_KLINES = Form(
    _SYMBOL,
    Parameter("interval", Choice(*INTERVALS), required=True),
    Parameter("startTime", TIME),
    Parameter("endTime", TIME),
    Parameter("timeZone", TIME_ZONE, about="whose days, weeks and months; 0 unless given"),
    Parameter("limit", Limit(500, 1000)),
)


class Klines:
    """What the endpoints do. On one event loop."""

    def __init__(self, markets: Markets, history: MarketHistory) -> None:
        self._markets, self._history = markets, history

    def endpoints(self) -> list[Endpoint]:
        """All of them."""
        about = "Candles of an interval, without gaps, oldest first."
        return [
            *(
                Endpoint("GET", f"/api/v3/{name}", self.klines, _KLINES, weight=2, about=about)
                for name in ("klines", "uiKlines")
            ),
            Endpoint(
                "GET",
                "/api/v3/avgPrice",
                self.average_price,
                Form(_SYMBOL),
                weight=2,
                about="The average price of the last five minutes, or the last price.",
            ),
        ]

    async def klines(self, call: Call) -> list[list[Any]]:
        values = call.values
        symbol = await self._markets.symbol(values["symbol"])
        interval, shift_ms = INTERVALS[values["interval"]], values["timeZone"] or 0
        rows = self._history.candles(
            symbol.market,
            interval,
            values["limit"] or 500,
            now_ms(),
            start_ms=values["startTime"],
            end_ms=values["endTime"],
            shift_ms=shift_ms,
        )
        return [
            kline(symbol, row, interval.after(int(row["open_ms"]) + shift_ms) - shift_ms)
            for row in rows
        ]

    async def average_price(self, call: Call) -> dict[str, Any]:
        symbol = await self._markets.symbol(call.values["symbol"])
        now = now_ms()
        last = self._history.last_trades(symbol.market, 1)
        found = self._history.window(symbol.market, now - AVERAGE_MINUTES * 60_000, now)
        if found is None:
            price = symbol.price(int(last["price_ticks"][0]) if len(last) else 0)
        else:
            price = symbol.average_price(wide(found["value"]), wide(found["volume"]))
        closed = int(last["timestamp_ns"][0]) // 1_000_000 if len(last) else now
        return {"mins": AVERAGE_MINUTES, "price": price, "closeTime": closed}


def kline(symbol: Symbol, row: Any, end_ms: int) -> list[Any]:
    """A candle (CANDLE) as clients have it; `end_ms`: when the next begins."""
    return [
        int(row["open_ms"]),
        *(symbol.price(int(row[f"{name}_ticks"])) for name in ("open", "high", "low", "close")),
        symbol.quantity(wide(row["volume"])),
        end_ms - 1,
        symbol.notional(wide(row["value"])),
        int(row["trades"]),
        symbol.quantity(wide(row["taker_volume"])),
        symbol.notional(wide(row["taker_value"])),
        "0",
    ]


def now_ms() -> int:
    return time.time_ns() // 1_000_000
