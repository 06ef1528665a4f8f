"""A market's trades over REST: the newest, from a number on, by time, and aggregated.

An aggregate is what one order took at one price at once; its number is that of its first trade, so
numbers of aggregates grow, with gaps, and anybody who sees the trades comes to the same ones.
"""

from typing import Any

from matchbox.gateway.endpoints import Call, Endpoint
from matchbox.gateway.errors import BAD_COMBINATION, of
from matchbox.gateway.market_history import Aggregate, MarketHistory
from matchbox.gateway.markets import Markets
from matchbox.gateway.parameters import LAST_MS, SYMBOL, TIME, Form, Limit, Parameter, Whole
from matchbox.gateway.symbols import Symbol
from matchbox.shm.records import Side

_SYMBOL = Parameter("symbol", SYMBOL, required=True)
_LIMIT = Parameter("limit", Limit(500, 1000))
_FROM = Parameter("fromId", Whole(), about="from this number on")
_LAST = Form(_SYMBOL, _LIMIT)
_HISTORICAL = Form(_SYMBOL, _LIMIT, _FROM)
_AGGREGATES = Form(_SYMBOL, _FROM, Parameter("startTime", TIME), Parameter("endTime", TIME), _LIMIT)


class PublicTrades:
    """What the endpoints do. On one event loop."""

    def __init__(self, markets: Markets, history: MarketHistory) -> None:
        self._markets, self._history = markets, history

    def endpoints(self) -> list[Endpoint]:
        """All of them."""
        return [
            Endpoint(
                "GET",
                "/api/v3/trades",
                self.trades,
                _LAST,
                weight=25,
                about="The newest trades, oldest first.",
            ),
            Endpoint(
                "GET",
                "/api/v3/historicalTrades",
                self.historical,
                _HISTORICAL,
                weight=25,
                about="Trades from a number on.",
            ),
            Endpoint(
                "GET",
                "/api/v3/aggTrades",
                self.aggregates,
                _AGGREGATES,
                weight=4,
                about="Trades of one order at one price, put together.",
            ),
        ]

    async def trades(self, call: Call) -> list[dict[str, Any]]:
        symbol = await self._markets.symbol(call.values["symbol"])
        rows = self._history.last_trades(symbol.market, call.values["limit"] or 500)
        return [_trade(symbol, row) for row in rows]

    async def historical(self, call: Call) -> list[dict[str, Any]]:
        if call.values["fromId"] is None:
            return await self.trades(call)
        symbol = await self._markets.symbol(call.values["symbol"])
        rows = self._history.trades_from(
            symbol.market, call.values["fromId"], call.values["limit"] or 500
        )
        return [_trade(symbol, row) for row in rows]

    async def aggregates(self, call: Call) -> list[dict[str, Any]]:
        values = call.values
        symbol = await self._markets.symbol(values["symbol"])
        number, start, end = (values[name] for name in ("fromId", "startTime", "endTime"))
        limit = values["limit"] or 500
        if number is not None and (start is not None or end is not None):
            raise of(BAD_COMBINATION)
        last_ms = LAST_MS if end is None else end
        if number is None and start is None:
            found = self._history.last_aggregates(symbol.market, limit, last_ms)
        else:
            found = self._history.aggregates(
                symbol.market, limit, number=number or 0, start_ms=start or 0, end_ms=last_ms
            )
        return [_aggregate(symbol, each) for each in found]


def _trade(symbol: Symbol, row: Any) -> dict[str, Any]:
    """One trade (TRADE)."""
    ticks, lots = int(row["price_ticks"]), int(row["quantity_lots"])
    return {
        "id": int(row["trade_id"]),
        "price": symbol.price(ticks),
        "qty": symbol.quantity(lots),
        "quoteQty": symbol.notional(ticks * lots),
        "time": int(row["timestamp_ns"]) // 1_000_000,
        "isBuyerMaker": int(row["side"]) == Side.SELL,
        "isBestMatch": True,
    }


def _aggregate(symbol: Symbol, each: Aggregate) -> dict[str, Any]:
    return {
        "a": each.number,
        "p": symbol.price(each.price_ticks),
        "q": symbol.quantity(each.quantity_lots),
        "f": each.number,
        "l": each.last_trade_id,
        "T": each.time_ms,
        "m": each.buyer_is_maker,
        "M": True,
    }
