"""Statistics of windows of time over REST: of the last 24 hours, of any window, of a trading day.

A window begins with a second (`ticker/24hr`), a minute (`ticker`) or a day (`ticker/tradingDay`),
which its `openTime` says, and ends now: so it may be longer than was asked for, by less than that.
Who asks often is told the same for CACHED_S.
"""

import time
from typing import Any

from matchbox.gateway.decimals import rounded, show
from matchbox.gateway.endpoints import Call, Endpoint
from matchbox.gateway.errors import one_of, too_many_symbols
from matchbox.gateway.klines import now_ms
from matchbox.gateway.market_history import MarketHistory
from matchbox.gateway.markets import Markets
from matchbox.gateway.parameters import (
    SYMBOL,
    TIME_ZONE,
    Choice,
    Form,
    Names,
    Parameter,
    Word,
)
from matchbox.gateway.symbols import Symbol
from matchbox.persistence.candles import wide

CACHED_S = 0.1
MOST_SYMBOLS = 100
_DAY_MS, _HOUR_MS, _MINUTE_MS = 86_400_000, 3_600_000, 60_000
_WINDOWS = {
    **{f"{n}m": n * _MINUTE_MS for n in range(1, 60)},
    **{f"{n}h": n * _HOUR_MS for n in range(1, 24)},
    **{f"{n}d": n * _DAY_MS for n in range(1, 8)},
}
_CHOSEN = (Parameter("symbol", SYMBOL), Parameter("symbols", Names(SYMBOL)))
_TYPE = Parameter("type", Word("FULL", "MINI"))
_24HR = Form(*_CHOSEN, _TYPE)
_DAY = Form(*_CHOSEN, Parameter("timeZone", TIME_ZONE, about="whose day; 0 unless given"), _TYPE)
_WINDOW = Form(*_CHOSEN, Parameter("windowSize", Choice(*_WINDOWS), about="1d unless given"), _TYPE)
_MINI = (
    "symbol",
    "lastPrice",
    "openPrice",
    "highPrice",
    "lowPrice",
    "volume",
    "quoteVolume",
    "openTime",
    "closeTime",
    "firstId",
    "lastId",
    "count",
)


class Tickers:
    """What the endpoints do. On one event loop."""

    def __init__(self, markets: Markets, history: MarketHistory) -> None:
        self._markets, self._history = markets, history
        self._known: dict[tuple[int, int], tuple[float, dict[str, Any]]] = {}

    def endpoints(self) -> list[Endpoint]:
        """All of them."""
        return [
            Endpoint(
                "GET",
                "/api/v3/ticker/24hr",
                self.last_day,
                _24HR,
                weight=lambda values: _weight_24hr(values["symbol"], values["symbols"]),
                about="Statistics of the last 24 hours.",
            ),
            Endpoint(
                "GET",
                "/api/v3/ticker/tradingDay",
                self.trading_day,
                _DAY,
                weight=_weight_each,
                about="Statistics of the day so far.",
            ),
            Endpoint(
                "GET",
                "/api/v3/ticker",
                self.window,
                _WINDOW,
                weight=_weight_each,
                about="Statistics of a window of time that ends now.",
            ),
        ]

    # -- endpoints

    async def last_day(self, call: Call) -> Any:
        values = call.values
        book = values["type"] != "MINI"
        symbols = await self._markets.chosen(values["symbol"], values["symbols"])
        return self._shaped(call, [await self.of_last_day(symbol, book=book) for symbol in symbols])

    async def of_last_day(self, symbol: Symbol, *, book: bool) -> dict[str, Any]:
        """Of the last 24 hours; `book`: with the best prices of now. Raises ApiError."""
        row = self._statistics(symbol, _DAY_MS, 1000)
        return row | await self._book(symbol) if book else row

    async def trading_day(self, call: Call) -> Any:
        shift_ms, now = call.values["timeZone"] or 0, now_ms()
        open_ms = (now + shift_ms) // _DAY_MS * _DAY_MS - shift_ms
        rows = []
        for symbol in await self._selected(call):
            row = self._since(symbol, open_ms, now)
            rows.append(_plain(row) | {"closeTime": open_ms + _DAY_MS - 1})
        return self._shaped(call, rows)

    async def window(self, call: Call) -> Any:
        length_ms = _WINDOWS[call.values["windowSize"] or "1d"]
        symbols = await self._selected(call)
        rows = [_plain(self._statistics(symbol, length_ms, _MINUTE_MS)) for symbol in symbols]
        return self._shaped(call, rows)

    async def _selected(self, call: Call) -> list[Symbol]:
        """Those of which one has to be named. Raises ApiError."""
        values = call.values
        if values["symbol"] is None and values["symbols"] is None:
            raise one_of("symbol", "symbols")
        if values["symbols"] and len(values["symbols"]) > MOST_SYMBOLS:
            raise too_many_symbols(MOST_SYMBOLS)
        return await self._markets.chosen(values["symbol"], values["symbols"])

    @staticmethod
    def _shaped(call: Call, rows: list[dict[str, Any]]) -> Any:
        if call.values["type"] == "MINI":
            rows = [{name: row[name] for name in _MINI} for row in rows]
        return rows[0] if call.values["symbol"] is not None else rows

    # -- numbers

    def _statistics(self, symbol: Symbol, length_ms: int, step_ms: int) -> dict[str, Any]:
        """Of a window that begins with a whole step, and is at least so long."""
        at, key = time.monotonic(), (symbol.number, length_ms + step_ms)
        made, known = self._known.get(key, (0.0, {}))
        if not known or at - made >= CACHED_S:
            now = now_ms()
            known = self._since(symbol, (now - length_ms) // step_ms * step_ms, now)
            if len(self._known) > 10_000:
                self._known.clear()
            self._known[key] = at, known
        return known

    def _since(self, symbol: Symbol, open_ms: int, now: int) -> dict[str, Any]:
        """Of all trades since a time."""
        found = self._history.window(symbol.market, open_ms, now)
        last = self._history.last_trades(symbol.market, 1)
        last_ticks = int(last["price_ticks"][0]) if len(last) else 0
        last_lots = int(last["quantity_lots"][0]) if len(last) else 0
        before = self._history.close_before(symbol.market, open_ms)
        row = {"symbol": symbol.name} | _change(symbol, found)
        row |= {
            "prevClosePrice": symbol.price(before),
            "lastPrice": symbol.price(
                int(found["close_ticks"]) if found is not None else last_ticks
            ),
            "lastQty": symbol.quantity(last_lots),
        }
        return row | _range(symbol, found) | {"openTime": open_ms, "closeTime": now} | _ids(found)

    async def _book(self, symbol: Symbol) -> dict[str, str]:
        bid, bid_lots, ask, ask_lots = await self._markets.best(symbol)
        return {
            "bidPrice": symbol.price(bid),
            "bidQty": symbol.quantity(bid_lots),
            "askPrice": symbol.price(ask),
            "askQty": symbol.quantity(ask_lots),
        }


def _change(symbol: Symbol, found: Any) -> dict[str, str]:
    if found is None:
        nothing = symbol.price(0)
        return {
            "priceChange": nothing,
            "priceChangePercent": show(0, 3, 3),
            "weightedAvgPrice": nothing,
        }
    first, last = int(found["open_ticks"]), int(found["close_ticks"])
    return {
        "priceChange": symbol.price(last - first),
        "priceChangePercent": show(rounded((last - first) * 100_000, first), 3, 3),
        "weightedAvgPrice": symbol.average_price(wide(found["value"]), wide(found["volume"])),
    }


def _range(symbol: Symbol, found: Any) -> dict[str, str]:
    def price(name: str) -> str:
        return symbol.price(0 if found is None else int(found[name]))

    return {
        "openPrice": price("open_ticks"),
        "highPrice": price("high_ticks"),
        "lowPrice": price("low_ticks"),
        "volume": symbol.quantity(0 if found is None else wide(found["volume"])),
        "quoteVolume": symbol.notional(0 if found is None else wide(found["value"])),
    }


def _ids(found: Any) -> dict[str, int]:
    if found is None:
        return {"firstId": -1, "lastId": -1, "count": 0}
    return {
        "firstId": int(found["first_trade_id"]),
        "lastId": int(found["last_trade_id"]),
        "count": int(found["trades"]),
    }


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Without what only the last 24 hours have."""
    return {name: row[name] for name in row if name not in ("prevClosePrice", "lastQty")}


def _weight_24hr(symbol: str | None, symbols: list[str] | None) -> int:
    if symbol is not None:
        return 2
    count = MOST_SYMBOLS + 1 if symbols is None else len(symbols)
    return next(weight for most, weight in ((20, 2), (100, 40), (1 << 30, 80)) if count <= most)


def _weight_each(values: dict[str, Any]) -> int:
    count = 1 if values["symbols"] is None else len(values["symbols"])
    return min(4 * count, 200)
