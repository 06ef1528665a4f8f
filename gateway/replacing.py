"""Changing an order over REST: cancel one and enter another in its place, or make one smaller.

The engine does both halves of a replacement in one step, so nothing comes between them. What failed
is told as the venue does it: by -2021 if one half succeeded, by -2022 if none did, with the answer
to each half. A new order that could never be one is refused by its own code, and the old one stays.
"""

from typing import Any

from matchbox.gateway import orders
from matchbox.gateway.desk import Answer, Desk
from matchbox.gateway.endpoints import Call, Endpoint, Security
from matchbox.gateway.errors import (
    NOT_REPLACED,
    NOT_SMALLER,
    PARTLY_REPLACED,
    ApiError,
    not_required,
    of,
    one_of,
    refused,
)
from matchbox.gateway.history import History
from matchbox.gateway.keys import Permission
from matchbox.gateway.limits import Limits
from matchbox.gateway.markets import Markets
from matchbox.gateway.parameters import AMOUNT, CLIENT_ID, SYMBOL, Choice, Form, Parameter, Whole
from matchbox.gateway.spot import Spot, answered
from matchbox.gateway.symbols import Symbol
from matchbox.shm.reasons import Reason
from matchbox.shm.records import EventKind

_REPLACE = Form(
    *orders.NEW_ORDER,
    Parameter(
        "cancelReplaceMode",
        Choice("STOP_ON_FAILURE", "ALLOW_FAILURE"),
        required=True,
        about="whether the new order is entered if there is nothing to cancel",
    ),
    Parameter("cancelOrderId", Whole(1)),
    Parameter("cancelOrigClientOrderId", CLIENT_ID),
    Parameter("cancelNewClientOrderId", CLIENT_ID, about="of the cancel"),
    Parameter("cancelRestrictions", Choice("ONLY_NEW", "ONLY_PARTIALLY_FILLED")),
)
_AMEND = Form(
    Parameter("symbol", SYMBOL, required=True),
    Parameter("orderId", Whole(1)),
    Parameter("origClientOrderId", CLIENT_ID),
    Parameter("newClientOrderId", CLIENT_ID, about="none but the order's own"),
    Parameter("newQty", AMOUNT, required=True, about="less than the order has"),
)
# A new order is refused for these before the old one is looked at.
_ALONE = range(100, 300)


class Replacing:
    """What the endpoints do. On one event loop."""

    def __init__(
        self, desk: Desk, markets: Markets, history: History, limits: Limits, spot: Spot
    ) -> None:
        self._desk, self._markets, self._history = desk, markets, history
        self._limits, self._spot = limits, spot

    def endpoints(self) -> list[Endpoint]:
        """All of them."""
        signed, trade = Security.SIGNED, Permission.TRADE
        return [
            Endpoint(
                "POST",
                "/api/v3/order/cancelReplace",
                self.replace,
                _REPLACE,
                signed,
                trade,
                changes=True,
                about="Cancel an order and enter another in its place, in one step.",
            ),
            Endpoint(
                "PUT",
                "/api/v3/order/amend/keepPriority",
                self.amend,
                _AMEND,
                signed,
                trade,
                weight=4,
                changes=True,
                about="Make an order smaller; it keeps its place in the queue.",
            ),
        ]

    # -- cancel and replace

    async def replace(self, call: Call) -> dict[str, Any]:
        values = call.values
        symbol = await self._markets.symbol(values["symbol"])
        order_id, client_id = values["cancelOrderId"], values["cancelOrigClientOrderId"]
        if order_id is None and client_id is None:
            raise one_of("cancelOrderId", "cancelOrigClientOrderId")
        if values["cancelRestrictions"] is not None:
            raise not_required("cancelRestrictions")  # nobody could see to it
        wanted = orders.wanted(values, symbol, call.account)
        call.headers |= self._limits.order(call.account)
        sending = self._desk.replace(
            symbol.market,
            wanted.side.lower(),
            order_id=order_id or 0,
            client_order_id=client_id or "",
            allow_failure=values["cancelReplaceMode"] == "ALLOW_FAILURE",
            options=wanted.options(),
        )
        ended, entered = await answered(sending)
        if _is_no_order(ended, entered):
            raise refused(entered.first.reason)
        cancel_id = values["cancelNewClientOrderId"] or orders.new_id()
        data = await self._halves(call.account, symbol, wanted, ended, entered, cancel_id)
        results = data["cancelResult"], data["newOrderResult"]
        if results == ("SUCCESS", "SUCCESS"):
            return data
        answer = of(PARTLY_REPLACED if "SUCCESS" in results else NOT_REPLACED)
        raise ApiError(answer.code, answer.message, answer.status, data=data)

    async def _halves(
        self,
        account: int,
        symbol: Symbol,
        wanted: orders.Wanted,
        ended: Answer,
        entered: Answer,
        cancel_id: str,
    ) -> dict[str, Any]:
        """What became of both halves."""
        first = entered.first
        if ended.first.kind == EventKind.REJECTED:
            cancel_result, canceled = "FAILURE", refused(ended.first.reason).body
        else:
            cancel_result = "SUCCESS"
            canceled = await self._spot.canceled(account, symbol, ended.first, cancel_id)
        new_result, shown = "SUCCESS", None
        if first.kind == EventKind.REJECTED and first.reason == Reason.CANCEL_FAILED:
            new_result = "NOT_ATTEMPTED"
        elif first.kind == EventKind.REJECTED and first.reason != Reason.NOT_FILLABLE:
            new_result, shown = "FAILURE", refused(first.reason).body
        else:
            order = orders.of_answer(wanted, entered)
            self._spot.remember(order)
            shown = orders.answered(order, entered, wanted.answer)
        return {
            "cancelResult": cancel_result,
            "newOrderResult": new_result,
            "cancelResponse": canceled,
            "newOrderResponse": shown,
        }

    # -- amend

    async def amend(self, call: Call) -> dict[str, Any]:
        values = call.values
        symbol, order_id, client_id = await self._spot.named(call)
        lots = symbol.lots(values["newQty"], "newQty")
        row = await self._history.order(call.account, symbol.number, order_id, client_id)
        order = orders.of_row(symbol, row)
        if values["newClientOrderId"] not in (None, order.client_order_id):
            raise not_required("newClientOrderId")  # an order has one name for life
        # One that has ended is refused by the engine: there is no such order.
        if order.leaves_lots and lots >= order.quantity_lots:
            raise of(NOT_SMALLER)
        sending = self._desk.amend(call.account, symbol.market, order.order_id, "", lots)
        report = (await answered(sending)).first
        if report.kind == EventKind.REJECTED:
            raise refused(report.reason)
        amended = orders.after_amend(order, report)
        self._spot.remember(amended)
        return orders.amended(amended, report.sequence)


def _is_no_order(ended: Answer, entered: Answer) -> bool:
    """Was all of it refused since the new order is none?"""
    return (
        ended.first.kind == entered.first.kind == EventKind.REJECTED
        and ended.first.reason == entered.first.reason
        and entered.first.reason in _ALONE
    )
