"""Candles over REST: klines of all intervals, and the average price of the last minutes.

Candles follow each other without gaps from a market's first trade on: where nothing was traded one
has the price before it, and no volume.
"""

import time
from typing import Any

from numpy.typing import NDArray

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
        if not len(rows):
            return []
        end_ms = interval.after(int(rows["open_ms"][-1]) + shift_ms) - shift_ms
        return klines(symbol, rows, end_ms)

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


def klines(symbol: Symbol, rows: NDArray[Any], end_ms: int) -> list[list[Any]]:
    """Candles (CANDLE) one after the other as clients have them; `end_ms`: when the next begins."""
    price, quantity, notional = symbol.price, symbol.quantity, symbol.notional
    opens = rows["open_ms"].tolist()
    columns = (
        opens,
        *(map(price, rows[f"{n}_ticks"].tolist()) for n in ("open", "high", "low", "close")),
        map(quantity, map(wide, rows["volume"].tolist())),
        (moment - 1 for moment in (*opens[1:], end_ms)),
        map(notional, map(wide, rows["value"].tolist())),
        rows["trades"].tolist(),
        map(quantity, map(wide, rows["taker_volume"].tolist())),
        map(notional, map(wide, rows["taker_value"].tolist())),
    )
    return [[*row, "0"] for row in zip(*columns, strict=True)]


def now_ms() -> int:
    return time.time_ns() // 1_000_000
