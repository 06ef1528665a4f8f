"""Orders in the words of clients: what they ask for, and what they are told.

Wanted      a new order as its parameters describe it, checked, ready for the desk
Order       an order as it is: made of a row of the views, or of a new order and its answer
result()    ... and the shapes in which Binance shows one
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from matchbox.gateway.desk import Answer, Report
from matchbox.gateway.errors import missing, not_required, one_of
from matchbox.gateway.parameters import (
    AMOUNT,
    CLIENT_ID,
    SYMBOL,
    Choice,
    Form,
    Parameter,
    Whole,
)
from matchbox.gateway.symbols import (
    MAX_TRAILING_BIPS,
    ORDER_TYPES,
    SELF_TRADE_MODES,
    Symbol,
)
from matchbox.persistence.partition import OrderStatus
from matchbox.shm.reasons import Reason
from matchbox.shm.records import EventKind, Flag, OrderType, ReportFlag, Side, TimeInForce

NEW_ORDER = (
    Parameter("symbol", SYMBOL, required=True),
    Parameter("side", Choice("BUY", "SELL"), required=True),
    Parameter("type", Choice(*ORDER_TYPES), required=True),
    Parameter("timeInForce", Choice("GTC", "IOC", "FOK")),
    Parameter("quantity", AMOUNT),
    Parameter("quoteOrderQty", AMOUNT, about="of a market order, instead of its quantity"),
    Parameter("price", AMOUNT),
    Parameter("newClientOrderId", CLIENT_ID),
    Parameter("stopPrice", AMOUNT),
    Parameter("trailingDelta", Whole(1, MAX_TRAILING_BIPS), about="1/10,000"),
    Parameter("icebergQty", AMOUNT, about="how much is shown at a time"),
    Parameter("newOrderRespType", Choice("ACK", "RESULT", "FULL")),
    Parameter("selfTradePreventionMode", Choice(*SELF_TRADE_MODES)),
)
NAMED_ORDER = Form(
    Parameter("symbol", SYMBOL, required=True),
    Parameter("orderId", Whole(1)),
    Parameter("origClientOrderId", CLIENT_ID),
    Parameter("newClientOrderId", CLIENT_ID, about="of the cancel"),
)
_PRICED = ("LIMIT", "LIMIT_MAKER", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT")
_TIMED = ("LIMIT", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT")
_TRIGGERED = ("STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT")
_SDK_MODES = dict(
    zip(
        SELF_TRADE_MODES,
        ("none", "expire_taker", "expire_maker", "expire_both", "decrement"),
        strict=True,
    )
)


def new_id() -> str:
    """A client order id for who gave none."""
    return "m" + secrets.token_hex(11)[:21]


@dataclass(frozen=True)
class Wanted:
    """A new order. Zero where its type has no such thing."""

    symbol: Symbol
    account: int
    client_order_id: str
    side: str  # BUY, SELL
    type: str
    time_in_force: str  # GTC where there is none
    quantity_lots: int
    quote_units: int
    price_ticks: int
    trigger_ticks: int
    trailing_bips: int
    display_lots: int
    self_trade: str
    answer: str  # ACK, RESULT, FULL

    def options(self) -> dict[str, Any]:
        """As Session.order() takes it."""
        found: dict[str, Any] = {
            "account": self.account,
            "client_order_id": self.client_order_id,
            "order_type": "limit" if self.type == "LIMIT_MAKER" else self.type.lower(),
            "self_trade": _SDK_MODES[self.self_trade],
        }
        if self.quote_units:
            found["quote_units"] = self.quote_units
        else:
            found["quantity_lots"] = self.quantity_lots
        if self.price_ticks:
            found["price_ticks"] = self.price_ticks
            found["time_in_force"] = self.time_in_force
            found["post_only"] = self.type == "LIMIT_MAKER"
        if self.trigger_ticks:
            found["trigger_ticks"] = self.trigger_ticks
        if self.trailing_bips:
            found["trailing_bips"] = self.trailing_bips
        if self.display_lots:
            found["display_lots"] = self.display_lots
        return found


def wanted(
    values: dict[str, Any], symbol: Symbol, account: int, called: Callable[[str], str] = str
) -> Wanted:
    """A new order of the parameters NEW_ORDER; `called`: by which names they were sent. Raises
    ApiError.
    """
    kind = values["type"]
    _check_presence(values, kind, called)
    # Others than these are told at once only that they were taken.
    shape = "FULL" if kind in ("LIMIT", "MARKET") else "ACK"
    quantity, quote = values["quantity"], values["quoteOrderQty"]
    price, stop, shown = values["price"], values["stopPrice"], values["icebergQty"]
    return Wanted(
        symbol=symbol,
        account=account,
        client_order_id=values["newClientOrderId"] or new_id(),
        side=values["side"],
        type=kind,
        time_in_force=values["timeInForce"] or "GTC",
        quantity_lots=0 if quantity is None else symbol.lots(quantity, called("quantity")),
        quote_units=0 if quote is None else symbol.quote_units(quote),
        price_ticks=0 if price is None else symbol.ticks(price, called("price")),
        trigger_ticks=0 if stop is None else symbol.ticks(stop, called("stopPrice")),
        trailing_bips=values["trailingDelta"] or 0,
        display_lots=0 if shown is None else symbol.display_lots(shown, called("icebergQty")),
        self_trade=values["selfTradePreventionMode"] or "NONE",
        answer=values["newOrderRespType"] or shape,
    )


def _check_presence(values: dict[str, Any], kind: str, called: Callable[[str], str]) -> None:
    """What a type needs, and what it has no use for. Raises ApiError."""

    def need(name: str, wanted: bool) -> None:
        if wanted and values[name] is None:
            raise missing(called(name))
        if not wanted and values[name] is not None:
            raise not_required(called(name))

    need("timeInForce", kind in _TIMED)
    if kind == "MARKET":
        if values["quantity"] is None and values["quoteOrderQty"] is None:
            raise one_of("quantity", "quoteOrderQty")
        if values["quantity"] is not None and values["quoteOrderQty"] is not None:
            raise not_required("quoteOrderQty")
    else:
        need("quantity", True)
        need("quoteOrderQty", False)
    need("price", kind in _PRICED)
    if kind in _TRIGGERED:
        if values["stopPrice"] is None and values["trailingDelta"] is None:
            raise one_of(called("stopPrice"), called("trailingDelta"))
    else:
        need("stopPrice", False)
        need("trailingDelta", False)
    if kind not in _PRICED:
        need("icebergQty", False)


@dataclass
class Order:
    """An order as it is. Times in milliseconds."""

    symbol: Symbol
    order_id: int
    client_order_id: str
    list_id: int
    side: str
    type: str
    time_in_force: str
    status: str
    price_ticks: int
    quantity_lots: int  # executed so far, of an order by quote amount
    quote_units: int
    executed_lots: int
    leaves_lots: int
    notional: int  # sum of ticks times lots of its fills
    prevented_lots: int
    trigger_ticks: int
    trailing_bips: int
    display_lots: int
    self_trade: str
    created_ms: int
    updated_ms: int
    working_ms: int  # 0: it waits


def of_row(symbol: Symbol, row: Any) -> Order:
    """Of a row (ORDER) of the views."""
    flags, kind = Flag(int(row["flags"])), OrderType(int(row["order_type"]))
    by_quote = bool(flags & Flag.QUOTE_AMOUNT)
    executed = int(row["cumulative_lots"])
    market = kind in (OrderType.MARKET, OrderType.STOP_LOSS, OrderType.TAKE_PROFIT)
    return Order(
        symbol=symbol,
        order_id=int(row["order_id"]),
        client_order_id=row["client_order_id"].decode(),
        list_id=int(row["list_id"]),
        side=Side(int(row["side"])).name,
        type="LIMIT_MAKER" if flags & Flag.POST_ONLY else kind.name,
        # Market orders have a time in force here that they have not in the dialect.
        time_in_force="GTC" if market else _time_in_force(int(row["time_in_force"])),
        status=_status_of_row(row, by_quote),
        price_ticks=int(row["price_ticks"]),
        quantity_lots=executed if by_quote else int(row["quantity_lots"]),
        quote_units=int(row["quantity_lots"]) if by_quote else 0,
        executed_lots=executed,
        leaves_lots=int(row["leaves_lots"]),
        notional=int(row["notional"]),
        prevented_lots=int(row["prevented_lots"]),
        trigger_ticks=int(row["trigger_ticks"]),
        trailing_bips=int(row["trailing_bips"]),
        display_lots=int(row["display_lots"]),
        self_trade=SELF_TRADE_MODES[int(row["self_trade"])],
        created_ms=_ms(row["created_ns"]),
        updated_ms=_ms(row["updated_ns"]),
        working_ms=_ms(row["working_ns"]),
    )


def after_cancel(order: Order, report: Report) -> Order | None:
    """The order after the cancel that `report` tells of; None if something has happened to it
    between that and what is known of it here.
    """
    same = (order.executed_lots, order.leaves_lots) == (
        report.cumulative_lots,
        report.quantity_lots,
    )
    if not same or (order.type in _PRICED and order.price_ticks != report.price_ticks):
        return None
    at = report.timestamp_ns // 1_000_000
    return replace(order, status="CANCELED", leaves_lots=0, updated_ms=at)


def after_amend(order: Order, report: Report) -> Order:
    """The order after the amend that `report` tells of."""
    return replace(
        order,
        quantity_lots=report.quantity_lots,
        executed_lots=report.cumulative_lots,
        leaves_lots=report.leaves_lots,
        updated_ms=report.timestamp_ns // 1_000_000,
    )


def of_answer(wanted: Wanted, answer: Answer, list_id: int = 0) -> Order:
    """Of a new order and what the exchange said of it at once."""
    first, last, fills = answer.first, answer.last, answer.fills
    executed = sum(fill.quantity_lots for fill in fills)
    by_quote = bool(wanted.quote_units)
    pending = first.kind == EventKind.ACCEPTED and first.flags & ReportFlag.WAS_PENDING
    at = first.timestamp_ns // 1_000_000
    return Order(
        symbol=wanted.symbol,
        order_id=first.order_id,
        client_order_id=wanted.client_order_id,
        list_id=list_id,
        side=wanted.side,
        type=wanted.type,
        time_in_force=wanted.time_in_force,
        status="PENDING_NEW" if pending else _status_of_reports(last, executed, by_quote),
        price_ticks=wanted.price_ticks,
        quantity_lots=executed if by_quote else wanted.quantity_lots,
        quote_units=wanted.quote_units,
        executed_lots=executed,
        leaves_lots=last.leaves_lots,
        notional=sum(fill.price_ticks * fill.quantity_lots for fill in fills),
        prevented_lots=sum(
            report.quantity_lots for report in answer.more if report.kind == EventKind.PREVENTED
        ),
        trigger_ticks=wanted.trigger_ticks,
        trailing_bips=wanted.trailing_bips,
        display_lots=wanted.display_lots,
        self_trade=wanted.self_trade,
        created_ms=at,
        updated_ms=at,
        working_ms=0 if pending or wanted.type in _TRIGGERED else at,
    )


def _time_in_force(value: int) -> str:
    # One that ends at a date of its own is GTC to who cannot say so.
    return TimeInForce(value).name if value != TimeInForce.GTD else "GTC"


def _ms(nanoseconds: Any) -> int:
    return int(nanoseconds) // 1_000_000


_STATUSES = {
    OrderStatus.NEW: "NEW",
    OrderStatus.PARTIALLY_FILLED: "PARTIALLY_FILLED",
    OrderStatus.PENDING: "PENDING_NEW",
    OrderStatus.FILLED: "FILLED",
    OrderStatus.CANCELED: "CANCELED",
    OrderStatus.EXPIRED: "EXPIRED",
    OrderStatus.REJECTED: "REJECTED",
    OrderStatus.RELEASED: "CANCELED",
}


def _status_of_row(row: Any, by_quote: bool) -> str:
    status = OrderStatus(int(row["status"]))
    if status == OrderStatus.EXPIRED:
        return _expired(int(row["reason"]), int(row["cumulative_lots"]), by_quote)
    return _STATUSES[status]


def waits_for_price(order: Order) -> bool:
    """Does, or did, it wait for a trigger?"""
    return order.type in _TRIGGERED


def status_after(report: Report, order: Order) -> str:
    """The status of an order that has what `report`, its last one, says."""
    return _status_of_reports(report, order.executed_lots, bool(order.quote_units))


def _status_of_reports(last: Report, executed: int, by_quote: bool) -> str:
    if last.kind == EventKind.REJECTED:
        return "EXPIRED"  # fill-or-kill, and not fillable
    if last.kind == EventKind.EXPIRED:
        return _expired(last.reason, executed, by_quote)
    if last.kind == EventKind.CANCELED:
        return "CANCELED"
    if last.leaves_lots == 0:
        return "FILLED" if last.kind == EventKind.TRADE else "EXPIRED_IN_MATCH"
    return "PARTIALLY_FILLED" if executed else "NEW"


def _expired(reason: int, executed: int, by_quote: bool) -> str:
    if by_quote and executed and reason == Reason.BUDGET_SPENT:
        return "FILLED"  # the rest buys no lot: it has all that it asked for
    return "EXPIRED_IN_MATCH" if reason in (0, Reason.SELF_TRADE) else "EXPIRED"


# ---- as clients see them


def acknowledged(order: Order) -> dict[str, Any]:
    """ACK."""
    return {
        "symbol": order.symbol.name,
        "orderId": order.order_id,
        "orderListId": order.list_id or -1,
        "clientOrderId": order.client_order_id,
        "transactTime": order.created_ms,
    }


def result(order: Order) -> dict[str, Any]:
    """RESULT."""
    return acknowledged(order) | _state(order) | {"workingTime": order.working_ms or -1}


def full(order: Order, answer: Answer) -> dict[str, Any]:
    """FULL."""
    symbol, market = order.symbol, order.symbol.market
    buys = order.side == "BUY"
    asset = market.base if buys else market.quote
    show_fee = symbol.base_amount if buys else symbol.quote_amount
    fills = [
        {
            "price": symbol.price(fill.price_ticks),
            "qty": symbol.quantity(fill.quantity_lots),
            "commission": show_fee(fill.fee),
            "commissionAsset": asset,
            "tradeId": fill.trade_id,
        }
        for fill in answer.fills
    ]
    return result(order) | {"fills": fills}


def queried(order: Order) -> dict[str, Any]:
    """GET order, openOrders."""
    return {
        "symbol": order.symbol.name,
        "orderId": order.order_id,
        "orderListId": order.list_id or -1,
        "clientOrderId": order.client_order_id,
        "stopPrice": order.symbol.price(order.trigger_ticks),
        "icebergQty": order.symbol.quantity(order.display_lots),
        **_state(order),
        "time": order.created_ms,
        "updateTime": order.updated_ms,
        "isWorking": order.working_ms > 0,
        "workingTime": order.working_ms or -1,
    }


def canceled(order: Order, cancel_id: str) -> dict[str, Any]:
    """DELETE order."""
    return {
        "symbol": order.symbol.name,
        "origClientOrderId": order.client_order_id,
        "orderId": order.order_id,
        "orderListId": order.list_id or -1,
        "clientOrderId": cancel_id,
        "transactTime": order.updated_ms,
        **_state(order),
    }


def amended(order: Order, sequence: int) -> dict[str, Any]:
    """PUT order/amend/keepPriority."""
    state = _state(order)
    for new, old in (("qty", "origQty"), ("cumulativeQuoteQty", "cummulativeQuoteQty")):
        state[new] = state.pop(old)
    state["quoteOrderQty"] = state.pop("origQuoteOrderQty")
    return {
        "transactTime": order.updated_ms,
        "executionId": sequence,
        "amendedOrder": {
            "symbol": order.symbol.name,
            "orderId": order.order_id,
            "orderListId": order.list_id or -1,
            "origClientOrderId": order.client_order_id,
            "clientOrderId": order.client_order_id,
            **state,
            "preventedQty": order.symbol.quantity(order.prevented_lots),
            "workingTime": order.working_ms or -1,
        },
    }


def answered(order: Order, answer: Answer, shape: str) -> dict[str, Any]:
    """POST order: ACK, RESULT or FULL."""
    if shape == "ACK":
        return acknowledged(order)
    return result(order) if shape == "RESULT" else full(order, answer)


def _state(order: Order) -> dict[str, Any]:
    symbol = order.symbol
    found = {
        "price": symbol.price(order.price_ticks),
        "origQty": symbol.quantity(order.quantity_lots),
        "executedQty": symbol.quantity(order.executed_lots),
        "origQuoteOrderQty": symbol.quote_amount(order.quote_units),
        "cummulativeQuoteQty": symbol.notional(order.notional),
        "status": order.status,
        "timeInForce": order.time_in_force,
        "type": order.type,
        "side": order.side,
        "selfTradePreventionMode": order.self_trade,
    }
    if order.trigger_ticks:
        found["stopPrice"] = symbol.price(order.trigger_ticks)
    if order.trailing_bips:
        found["trailingDelta"] = str(order.trailing_bips)
    if order.display_lots:
        found["icebergQty"] = symbol.quantity(order.display_lots)
    return found
