"""Spot over REST: the endpoints of /api/v3, and what each does.

General and market data come from memory, orders go through the desk, and what became of them comes
from the views; see docs/api.md.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable
from typing import Any, TypeVar

from matchbox.gateway import orders
from matchbox.gateway.decimals import show
from matchbox.gateway.desk import Desk, NotSent, Report, StateUnknown
from matchbox.gateway.endpoints import Call, Endpoint, Security
from matchbox.gateway.errors import (
    OVERLOADED,
    STATE_UNKNOWN,
    UNKNOWN_ORDER,
    ApiError,
    of,
    one_of,
    refused,
)
from matchbox.gateway.history import History
from matchbox.gateway.keys import Permission
from matchbox.gateway.limits import Limits
from matchbox.gateway.lookups import Lookups
from matchbox.gateway.markets import Markets
from matchbox.gateway.parameters import SYMBOL, Form, Limit, Names, Parameter, Text, Truth
from matchbox.gateway.symbols import Symbol
from matchbox.shm.reasons import Reason
from matchbox.shm.records import AccountState, EventKind

_SYMBOL = Parameter("symbol", SYMBOL, required=True)
_CHOSEN = (Parameter("symbol", SYMBOL), Parameter("symbols", Names(SYMBOL)))
_SELECTED = Form(*_CHOSEN)
_DEPTH = Form(_SYMBOL, Parameter("limit", Limit(100, 5000)))
_INFO = Form(*_CHOSEN, Parameter("permissions", Text(r"^[A-Z_\[\]\",]{1,200}$")))
_ACCOUNT = Form(Parameter("omitZeroBalances", Truth()))
_OPEN = Form(Parameter("symbol", SYMBOL))
_ORDER = Form(*orders.NEW_ORDER)
# What a worker remembers of orders that it has entered, until the views have them for sure.
_RECENT_ORDERS = 4096
T = TypeVar("T")


class Spot:
    """What the endpoints of spot do. On one event loop."""

    def __init__(
        self, desk: Desk, markets: Markets, history: History, lookups: Lookups, limits: Limits
    ) -> None:
        self._desk, self._markets, self._history = desk, markets, history
        self._lookups, self._limits = lookups, limits
        self._recent: OrderedDict[int, orders.Order] = OrderedDict()
        # Client ids of the cancels that were sent here, by the order's id: user streams tell them.
        self.cancel_ids: OrderedDict[int, str] = OrderedDict()

    def endpoints(self) -> list[Endpoint]:
        """All of them."""
        return [*self._public(), *self._private()]

    def _public(self) -> list[Endpoint]:
        api = "/api/v3"
        return [
            Endpoint("GET", f"{api}/ping", self.ping, about="Is anybody there?"),
            Endpoint("GET", f"{api}/time", self.time, about="The time of the exchange's host."),
            Endpoint(
                "GET",
                f"{api}/exchangeInfo",
                self.exchange_info,
                _INFO,
                weight=20,
                about="Symbols with their filters, and the limits.",
            ),
            Endpoint(
                "GET",
                f"{api}/depth",
                self.depth,
                _DEPTH,
                weight=lambda values: _depth_weight(values["limit"] or 100),
                about="A book, best levels first.",
            ),
            Endpoint(
                "GET",
                f"{api}/ticker/bookTicker",
                self.book_ticker,
                _SELECTED,
                weight=lambda values: 2 if values["symbol"] else 4,
                about="Best bid and ask.",
            ),
            Endpoint(
                "GET",
                f"{api}/ticker/price",
                self.price_ticker,
                _SELECTED,
                weight=lambda values: 2 if values["symbol"] else 4,
                about="The price of the last trade.",
            ),
        ]

    def _private(self) -> list[Endpoint]:
        api, signed = "/api/v3", Security.SIGNED
        trade = Permission.TRADE
        return [
            Endpoint(
                "POST",
                f"{api}/order",
                self.place,
                _ORDER,
                signed,
                trade,
                changes=True,
                about="A new order.",
            ),
            Endpoint(
                "POST",
                f"{api}/order/test",
                self.test,
                _ORDER,
                signed,
                trade,
                about="Is this an order? It is not sent.",
            ),
            Endpoint(
                "GET",
                f"{api}/order",
                self.order,
                orders.NAMED_ORDER,
                signed,
                weight=4,
                about="An order as it is, or was.",
            ),
            Endpoint(
                "DELETE",
                f"{api}/order",
                self.cancel,
                orders.NAMED_ORDER,
                signed,
                trade,
                changes=True,
                about="Cancel an order.",
            ),
            Endpoint(
                "GET",
                f"{api}/openOrders",
                self.open_orders,
                _OPEN,
                signed,
                weight=lambda values: 6 if values["symbol"] else 80,
                about="Open orders, of one symbol or of all.",
            ),
            Endpoint(
                "DELETE",
                f"{api}/openOrders",
                self.cancel_all,
                Form(_SYMBOL),
                signed,
                trade,
                changes=True,
                about="Cancel all orders of a symbol.",
            ),
            Endpoint(
                "GET",
                f"{api}/account",
                self.account,
                _ACCOUNT,
                signed,
                weight=20,
                about="Balances, and what the account may do.",
            ),
        ]

    # -- general

    async def ping(self, call: Call) -> dict[str, Any]:
        return {}

    async def time(self, call: Call) -> dict[str, Any]:
        return {"serverTime": _now_ms()}

    async def exchange_info(self, call: Call) -> dict[str, Any]:
        await self._markets.symbols(fresh=True)
        found = await self._markets.chosen(call.values["symbol"], call.values["symbols"])
        wanted = call.values["permissions"]
        if wanted is not None and "SPOT" not in wanted:
            found = []
        return {
            "timezone": "UTC",
            "serverTime": _now_ms(),
            "rateLimits": self._limits.allowed.rate_limits(),
            "exchangeFilters": [],
            "symbols": [symbol.info() for symbol in found],
        }

    # -- market data

    async def depth(self, call: Call) -> dict[str, Any]:
        symbol = await self._markets.symbol(call.values["symbol"])
        update, *sides = await self._markets.depth(symbol, call.values["limit"] or 100)
        bids, asks = (
            [[symbol.price(ticks), symbol.quantity(lots)] for ticks, lots in side] for side in sides
        )
        return {"lastUpdateId": update, "bids": bids, "asks": asks}

    async def book_ticker(self, call: Call) -> Any:
        async def ticker(symbol: Symbol) -> dict[str, Any]:
            bid, bid_lots, ask, ask_lots = await self._markets.best(symbol)
            return {
                "symbol": symbol.name,
                "bidPrice": symbol.price(bid),
                "bidQty": symbol.quantity(bid_lots),
                "askPrice": symbol.price(ask),
                "askQty": symbol.quantity(ask_lots),
            }

        found = await self._markets.chosen(call.values["symbol"], call.values["symbols"])
        rows = [await ticker(symbol) for symbol in found]
        return rows[0] if call.values["symbol"] else rows

    async def price_ticker(self, call: Call) -> Any:
        found = await self._markets.chosen(call.values["symbol"], call.values["symbols"])
        rows = [
            {
                "symbol": symbol.name,
                "price": symbol.price(await self._markets.last_price(symbol)),
            }
            for symbol in found
        ]
        return rows[0] if call.values["symbol"] else rows

    # -- orders

    async def place(self, call: Call) -> dict[str, Any]:
        symbol = await self._markets.symbol(call.values["symbol"])
        wanted = orders.wanted(call.values, symbol, call.account)
        call.headers |= self._limits.order(call.account)
        answer = await answered(
            self._desk.order(symbol.market, wanted.side.lower(), **wanted.options())
        )
        first = answer.first
        # Binance takes a fill-or-kill order that cannot be filled, and lets it expire.
        if first.kind == EventKind.REJECTED and first.reason != Reason.NOT_FILLABLE:
            raise refused(first.reason)
        order = orders.of_answer(wanted, answer)
        self.remember(order)
        return orders.answered(order, answer, wanted.answer)

    def remember(self, order: orders.Order) -> None:
        """One that may be canceled soon."""
        if order.leaves_lots:
            self._recent[order.order_id] = order
            if len(self._recent) > _RECENT_ORDERS:
                self._recent.popitem(last=False)

    async def test(self, call: Call) -> dict[str, Any]:
        symbol = await self._markets.symbol(call.values["symbol"])
        orders.wanted(call.values, symbol, call.account)
        return {}

    async def order(self, call: Call) -> dict[str, Any]:
        symbol, order_id, client_id = await self.named(call)
        row = await self._history.order(call.account, symbol.number, order_id, client_id)
        return orders.queried(orders.of_row(symbol, row))

    async def cancel(self, call: Call) -> dict[str, Any]:
        symbol, order_id, client_id = await self.named(call)
        cancel_id = call.values["newClientOrderId"] or orders.new_id()
        return await self._cancel(call.account, symbol, order_id or 0, client_id or "", cancel_id)

    async def _cancel(
        self, account: int, symbol: Symbol, order_id: int, client_id: str, cancel_id: str
    ) -> dict[str, Any]:
        sending = self._desk.cancel(account, symbol.number, order_id, client_id)
        report = (await answered(sending)).first
        if report.kind == EventKind.REJECTED:
            raise refused(report.reason)
        return await self.canceled(account, symbol, report, cancel_id)

    async def canceled(
        self, account: int, symbol: Symbol, report: Report, cancel_id: str
    ) -> dict[str, Any]:
        """The order that `report` says to be canceled, by such a cancel. Raises ApiError."""
        self.cancel_ids[report.order_id] = cancel_id
        if len(self.cancel_ids) > _RECENT_ORDERS:
            self.cancel_ids.popitem(last=False)
        # As it was right before, if that is known here: it saves waiting for the views.
        known = self._recent.pop(report.order_id, None)
        row = self._history.order_by_now(report.order_id) if known is None else None
        if row is not None:
            known = orders.of_row(symbol, row)
        order = orders.after_cancel(known, report) if known is not None else None
        if order is None:
            row = await self._history.order(account, symbol.number, report.order_id, None)
            order = orders.of_row(symbol, row)
        return orders.canceled(order, cancel_id)

    async def named(self, call: Call) -> tuple[Symbol, int | None, str | None]:
        """Which order a request means. Raises ApiError."""
        symbol = await self._markets.symbol(call.values["symbol"])
        order_id, client_id = call.values["orderId"], call.values["origClientOrderId"]
        if order_id is None and client_id is None:
            raise one_of("origClientOrderId", "orderId")
        return symbol, order_id, client_id

    async def open_orders(self, call: Call) -> list[dict[str, Any]]:
        name = call.values["symbol"]
        market = (await self._markets.symbol(name)).number if name is not None else 0
        rows = await self._history.open_orders(call.account, market)
        if any(self._markets.by_number(int(row["market"])) is None for row in rows):
            await self._markets.symbols(fresh=True)
        found = ((self._markets.by_number(int(row["market"])), row) for row in rows)
        return [orders.queried(orders.of_row(symbol, row)) for symbol, row in found if symbol]

    async def cancel_all(self, call: Call) -> list[dict[str, Any]]:
        symbol = await self._markets.symbol(call.values["symbol"])
        rows = await self._history.open_orders(call.account, symbol.number)
        cancels = (
            self._cancel(call.account, symbol, int(row["order_id"]), "", orders.new_id())
            for row in rows
        )
        found = await asyncio.gather(*cancels, return_exceptions=True)
        for each in found:
            # One that was filled meanwhile is none that is open.
            if isinstance(each, BaseException) and not (
                isinstance(each, ApiError) and each.code == UNKNOWN_ORDER.code
            ):
                raise each
        done = [each for each in found if isinstance(each, dict)]
        if not done:
            raise of(UNKNOWN_ORDER)
        return done

    # -- the account

    async def account(self, call: Call) -> dict[str, Any]:
        assert call.key is not None
        holdings = await self._lookups.holdings(call.account)
        maker, taker = holdings.of_market(0)
        symbols = await self._markets.symbols(fresh=True)
        balances = [
            {
                "asset": asset.name,
                "free": f"{asset.amount(free):f}",
                "locked": f"{asset.amount(locked):f}",
            }
            for number, asset in symbols.assets.items()
            for free, locked in [holdings.of_asset(number)]
            if free or locked or not call.values["omitZeroBalances"]
        ]
        return {
            # In 1/10,000, rounded up.
            "makerCommission": -(-maker // 100),
            "takerCommission": -(-taker // 100),
            "buyerCommission": 0,
            "sellerCommission": 0,
            "commissionRates": {
                "maker": show(maker, 6),
                "taker": show(taker, 6),
                "buyer": show(0, 6),
                "seller": show(0, 6),
            },
            "canTrade": call.key.may(Permission.TRADE) and holdings.state == AccountState.ACTIVE,
            "canWithdraw": call.key.may(Permission.WITHDRAW)
            and holdings.state != AccountState.FROZEN,
            "canDeposit": True,
            "brokered": False,
            "requireSelfTradePrevention": False,
            "preventSor": False,
            "updateTime": _now_ms(),
            "accountType": "SPOT",
            "balances": balances,
            "permissions": ["SPOT"],
            "uid": call.account,
        }


async def answered(sending: Awaitable[T]) -> T:
    """What the exchange says. Raises ApiError if it does not."""
    try:
        return await sending
    except NotSent:
        raise of(OVERLOADED) from None
    except StateUnknown:
        raise of(STATE_UNKNOWN) from None


def _depth_weight(limit: int) -> int:
    steps = ((100, 5), (500, 25), (1000, 50), (5000, 250))
    return next(weight for most, weight in steps if limit <= most)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
