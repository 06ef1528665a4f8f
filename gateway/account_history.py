"""What an account did, over REST: its orders, ended ones too, and its fills.

Both come from the views (history.py), and have what any worker has told before. Times are those of
the orders' and trades' log records, in milliseconds; a question with two of them spans a day at
most, as at the venue.
"""

from typing import Any

import numpy as np

from matchbox.gateway import orders
from matchbox.gateway.endpoints import Call, Endpoint, Security
from matchbox.gateway.errors import BAD_COMBINATION, WINDOW_TOO_LONG, of
from matchbox.gateway.history import History
from matchbox.gateway.markets import Markets
from matchbox.gateway.parameters import SYMBOL, TIME, Form, Limit, Parameter, Whole
from matchbox.gateway.symbols import Symbol
from matchbox.shm.records import ReportFlag, Side

LONGEST_MS = 86_400_000
_SYMBOL = Parameter("symbol", SYMBOL, required=True)
_TIMES = (Parameter("startTime", TIME), Parameter("endTime", TIME))
_LIMIT = Parameter("limit", Limit(500, 1000))
_ORDERS = Form(_SYMBOL, Parameter("orderId", Whole(), about="from this id on"), *_TIMES, _LIMIT)
_TRADES = Form(
    _SYMBOL,
    Parameter("orderId", Whole(1), about="only fills of this order"),
    *_TIMES,
    Parameter("fromId", Whole(), about="from this trade on"),
    _LIMIT,
)


class AccountHistory:
    """What the endpoints do. On one event loop."""

    def __init__(self, markets: Markets, history: History) -> None:
        self._markets, self._history = markets, history

    def endpoints(self) -> list[Endpoint]:
        """All of them."""
        signed = Security.SIGNED
        return [
            Endpoint(
                "GET",
                "/api/v3/allOrders",
                self.all_orders,
                _ORDERS,
                signed,
                weight=20,
                about="Orders of a symbol, open and ended, by id.",
            ),
            Endpoint(
                "GET",
                "/api/v3/myTrades",
                self.my_trades,
                _TRADES,
                signed,
                weight=lambda values: 5 if values["orderId"] else 20,
                about="Fills of the account's orders in a symbol, by trade.",
            ),
        ]

    async def all_orders(self, call: Call) -> list[dict[str, Any]]:
        values = call.values
        symbol = await self._markets.symbol(values["symbol"])
        check_times(values)
        rows = await self._history.orders(
            call.account,
            symbol.market,
            values["limit"] or 500,
            order_id=values["orderId"],
            start_ms=values["startTime"],
            end_ms=values["endTime"],
        )
        return [orders.queried(orders.of_row(symbol, row)) for row in rows]

    async def my_trades(self, call: Call) -> list[dict[str, Any]]:
        values = call.values
        symbol = await self._markets.symbol(values["symbol"])
        check_times(values)
        timed = values["startTime"] is not None or values["endTime"] is not None
        limit = values["limit"] or 500
        if timed and (values["fromId"] is not None or values["orderId"] is not None):
            raise of(BAD_COMBINATION)
        if values["orderId"] is not None:
            fills = await self._history.fills_of_order(
                call.account, symbol.number, values["orderId"], limit, values["fromId"]
            )
        else:
            fills = await self._history.fills(
                call.account,
                symbol.market,
                limit,
                trade_id=values["fromId"],
                start_ms=values["startTime"],
                end_ms=values["endTime"],
            )
        lists = self._history.lists_of(np.array([fill["order_id"] for fill in fills], np.uint64))
        return [_fill(symbol, fill, lists.get(int(fill["order_id"]), -1)) for fill in fills]


def check_times(values: dict[str, Any]) -> None:
    """Raises ApiError."""
    start, end = values["startTime"], values["endTime"]
    if start is None or end is None:
        return
    if start > end:
        raise of(BAD_COMBINATION)
    if end - start > LONGEST_MS:
        raise of(WINDOW_TOO_LONG)


def _fill(symbol: Symbol, fill: Any, list_id: int) -> dict[str, Any]:
    """One fill (REPORT), as myTrades shows it."""
    buys = int(fill["side"]) == Side.BUY
    ticks, lots, fee = (int(fill[name]) for name in ("price_ticks", "quantity_lots", "fee"))
    # A fee is of what was received; a rebate comes in what was given.
    in_base = buys == (fee >= 0)
    return {
        "symbol": symbol.name,
        "id": int(fill["trade_id"]),
        "orderId": int(fill["order_id"]),
        "orderListId": list_id,
        "price": symbol.price(ticks),
        "qty": symbol.quantity(lots),
        "quoteQty": symbol.notional(ticks * lots),
        "commission": symbol.base_amount(fee) if in_base else symbol.quote_amount(fee),
        "commissionAsset": symbol.market.base if in_base else symbol.market.quote,
        "time": int(fill["timestamp_ns"]) // 1_000_000,
        "isBuyer": buys,
        "isMaker": bool(int(fill["flags"]) & ReportFlag.AS_MAKER),
        "isBestMatch": True,
    }
