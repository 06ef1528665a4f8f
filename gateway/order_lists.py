"""Lists of orders over REST: one cancels the other, one triggers another, one triggers a pair.

A list is entered whole or not at all; what its orders do to each other is the engine's
(docs/trading-rules.md). Clients describe a pair by what is above the market and what below; of a
sale the one above takes a profit and the one below limits a loss, of a purchase the other way.

What becomes of lists comes from the views. One of whose orders one lives is executing.
"""

import asyncio
from typing import Any

from matchbox.gateway import orders
from matchbox.gateway.account_history import check_times
from matchbox.gateway.desk import Answer, Desk
from matchbox.gateway.endpoints import Call, Endpoint, Security
from matchbox.gateway.errors import (
    BAD_COMBINATION,
    BAD_LIST,
    UNKNOWN_ORDER,
    of,
    one_of,
    refused,
)
from matchbox.gateway.history import History
from matchbox.gateway.keys import Permission
from matchbox.gateway.limits import Limits
from matchbox.gateway.list_forms import OCO, OTO, OTOCO, List, of_oco, of_oto, of_otoco
from matchbox.gateway.markets import Markets
from matchbox.gateway.parameters import (
    CLIENT_ID,
    SYMBOL,
    TIME,
    Form,
    Limit,
    Parameter,
    Whole,
)
from matchbox.gateway.spot import answered
from matchbox.gateway.symbols import Symbol
from matchbox.persistence.partition import LIVING
from matchbox.shm.reasons import Reason
from matchbox.shm.records import EventKind, ListType

_NAMED = Form(Parameter("orderListId", Whole(1)), Parameter("origClientOrderId", CLIENT_ID))
_CANCELED = Form(
    Parameter("symbol", SYMBOL, required=True),
    Parameter("orderListId", Whole(1)),
    Parameter("listClientOrderId", CLIENT_ID),
    Parameter("newClientOrderId", CLIENT_ID, about="of the cancel"),
)
_ALL = Form(
    Parameter("fromId", Whole(), about="from this list on"),
    Parameter("startTime", TIME),
    Parameter("endTime", TIME),
    Parameter("limit", Limit(500, 1000)),
)
# A pending order that is released while its list is canceled is canceled at the next try.
_TRIES = 10


class OrderLists:
    """What the endpoints do. On one event loop."""

    def __init__(self, desk: Desk, markets: Markets, history: History, limits: Limits) -> None:
        self._desk, self._markets, self._history = desk, markets, history
        self._limits = limits

    def endpoints(self) -> list[Endpoint]:
        """All of them."""
        return [*self._entering(), *self._asking()]

    def _entering(self) -> list[Endpoint]:
        signed, trade = Security.SIGNED, Permission.TRADE
        return [
            Endpoint(
                "POST",
                "/api/v3/orderList/oco",
                self.oco,
                OCO,
                signed,
                trade,
                changes=True,
                about="Two orders, one of which cancels the other.",
            ),
            Endpoint(
                "POST",
                "/api/v3/orderList/oto",
                self.oto,
                OTO,
                signed,
                trade,
                changes=True,
                about="An order, and another that follows once it is filled.",
            ),
            Endpoint(
                "POST",
                "/api/v3/orderList/otoco",
                self.otoco,
                OTOCO,
                signed,
                trade,
                changes=True,
                about="An order, and a pair that follows once it is filled.",
            ),
            Endpoint(
                "DELETE",
                "/api/v3/orderList",
                self.cancel,
                _CANCELED,
                signed,
                trade,
                changes=True,
                about="Cancel all orders of a list.",
            ),
        ]

    def _asking(self) -> list[Endpoint]:
        signed = Security.SIGNED
        return [
            Endpoint(
                "GET",
                "/api/v3/orderList",
                self.order_list,
                _NAMED,
                signed,
                weight=4,
                about="A list as it is, or was.",
            ),
            Endpoint(
                "GET",
                "/api/v3/allOrderList",
                self.all_lists,
                _ALL,
                signed,
                weight=20,
                about="Lists of the account, by id.",
            ),
            Endpoint(
                "GET",
                "/api/v3/openOrderList",
                self.open_lists,
                Form(),
                signed,
                weight=6,
                about="Lists of which an order lives.",
            ),
        ]

    # -- entering

    async def oco(self, call: Call) -> dict[str, Any]:
        return await self._enter(call, of_oco(*await self._asked(call)))

    async def oto(self, call: Call) -> dict[str, Any]:
        return await self._enter(call, of_oto(*await self._asked(call)))

    async def otoco(self, call: Call) -> dict[str, Any]:
        return await self._enter(call, of_otoco(*await self._asked(call)))

    async def _asked(self, call: Call) -> tuple[dict[str, Any], Symbol, int]:
        return call.values, await self._markets.symbol(call.values["symbol"]), call.account

    async def _enter(self, call: Call, wanted: List) -> dict[str, Any]:
        name = call.values["listClientOrderId"] or orders.new_id()
        for _ in wanted.legs:
            call.headers |= self._limits.order(call.account)
        head, *legs = await answered(
            self._desk.order_list(
                lambda session: wanted.send(session, call.account, name), len(wanted.legs)
            )
        )
        for answer in (head, *legs):
            _check(answer)
        list_id = head.first.sequence
        made = [
            orders.of_answer(leg, answer, list_id)
            for leg, answer in zip(wanted.legs, legs, strict=True)
        ]
        shape = call.values["newOrderRespType"] or "RESULT"
        reports = [
            orders.answered(order, answer, shape) for order, answer in zip(made, legs, strict=True)
        ]
        at_ms = head.first.timestamp_ns // 1_000_000
        return _shown(wanted.type, name, at_ms, made) | {"orderReports": reports}

    # -- canceling

    async def cancel(self, call: Call) -> dict[str, Any]:
        values = call.values
        symbol = await self._markets.symbol(values["symbol"])
        list_id, name = values["orderListId"], values["listClientOrderId"]
        if list_id is None and name is None:
            raise one_of("orderListId", "listClientOrderId")
        rows = await self._history.order_list(call.account, list_id, name)
        if int(rows[0]["market"]) != symbol.number:
            raise of(UNKNOWN_ORDER)
        list_id, canceled = int(rows[0]["list_id"]), False
        for _ in range(_TRIES):
            living = [int(row["order_id"]) for row in rows if row["status"] in LIVING]
            if not living:
                break
            answers = await asyncio.gather(
                *(
                    answered(self._desk.cancel(call.account, symbol.number, order_id, ""))
                    for order_id in living
                )
            )
            canceled |= any(answer.first.kind != EventKind.REJECTED for answer in answers)
            rows = await self._history.order_list(call.account, list_id, None)
        if not canceled:
            raise of(UNKNOWN_ORDER)
        cancel_id = values["newClientOrderId"] or orders.new_id()
        made = [orders.of_row(symbol, row) for row in rows]
        reports = [orders.canceled(order, cancel_id) for order in made]
        return _of_rows(symbol, rows) | {"orderReports": reports}

    # -- asking

    async def order_list(self, call: Call) -> dict[str, Any]:
        list_id, name = call.values["orderListId"], call.values["origClientOrderId"]
        if list_id is None and name is None:
            raise one_of("orderListId", "origClientOrderId")
        (found,) = await self._all([await self._history.order_list(call.account, list_id, name)])
        return found

    async def all_lists(self, call: Call) -> list[dict[str, Any]]:
        values = call.values
        timed = values["startTime"] is not None or values["endTime"] is not None
        if timed and values["fromId"] is not None:
            raise of(BAD_COMBINATION)
        check_times(values)
        found = await self._history.order_lists(
            call.account,
            values["limit"] or 500,
            list_id=values["fromId"],
            start_ms=values["startTime"],
            end_ms=values["endTime"],
        )
        return await self._all(found)

    async def open_lists(self, call: Call) -> list[dict[str, Any]]:
        return await self._all(await self._history.open_lists(call.account))

    async def _all(self, lists: list[list[Any]]) -> list[dict[str, Any]]:
        """As clients see them; those of markets that are no more are left out."""
        if any(self._markets.by_number(int(rows[0]["market"])) is None for rows in lists if rows):
            await self._markets.symbols(fresh=True)
        found = ((self._markets.by_number(int(rows[0]["market"])), rows) for rows in lists if rows)
        return [_of_rows(symbol, rows) for symbol, rows in found if symbol]


def _check(answer: Answer) -> None:
    """Raises ApiError if a list was refused."""
    first = answer.first
    if first.kind == EventKind.REJECTED:
        if first.reason == Reason.BAD_LEGS:
            raise of(BAD_LIST)
        raise refused(first.reason)


def _of_rows(symbol: Symbol, rows: list[Any]) -> dict[str, Any]:
    """Of the rows (ORDER) of its orders."""
    lives = any(row["status"] in LIVING for row in rows)
    at_ms = max(int(row["updated_ns"]) for row in rows) // 1_000_000
    made = [orders.of_row(symbol, row) for row in rows]
    name = rows[0]["client_list_id"].decode()
    return _shown(ListType(int(rows[0]["list_type"])), name, at_ms, made, lives=lives)


def _shown(
    kind: ListType, name: str, at_ms: int, made: list[orders.Order], *, lives: bool = True
) -> dict[str, Any]:
    return {
        "orderListId": made[0].list_id,
        "contingencyType": "OCO" if kind == ListType.OCO else "OTO",
        "listStatusType": "EXEC_STARTED" if lives else "ALL_DONE",
        "listOrderStatus": "EXECUTING" if lives else "ALL_DONE",
        "listClientOrderId": name,
        "transactionTime": at_ms,
        "symbol": made[0].symbol.name,
        "orders": [
            {
                "symbol": order.symbol.name,
                "orderId": order.order_id,
                "clientOrderId": order.client_order_id,
            }
            for order in made
        ],
    }
