"""What clients say of a list of orders, and the list that it is, ready for the desk.

Each order of a list has its parameters under a prefix: `abovePrice`, `workingSide`,
`pendingBelowStopPrice`. What a prefix's order needs and may have is as for any new order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from matchbox.gateway import orders
from matchbox.gateway.errors import BAD_LIST, of
from matchbox.gateway.parameters import AMOUNT, CLIENT_ID, SYMBOL, Choice, Form, Parameter, Whole
from matchbox.gateway.symbols import (
    MAX_TRAILING_BIPS,
    ORDER_TYPES,
    SELF_TRADE_MODES,
    Symbol,
)
from matchbox.shm.records import ListType
from matchbox.shm.session import Session

_SIDES = Choice("BUY", "SELL")
_PROFIT = ("LIMIT_MAKER", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT")
_LOSS = ("STOP_LOSS", "STOP_LOSS_LIMIT")
# Said of a pair once, or by its place in the pair.
_OF_PAIR = ("account", "order_type", "post_only", "quantity_lots")
_SHARED = ("newOrderRespType", "selfTradePreventionMode")
_HEAD = (
    Parameter("symbol", SYMBOL, required=True),
    Parameter("listClientOrderId", CLIENT_ID, about="a name of the list"),
)
_TAIL = (
    Parameter("newOrderRespType", Choice("ACK", "RESULT", "FULL")),
    Parameter("selfTradePreventionMode", Choice(*SELF_TRADE_MODES), about="of each order"),
)


def _called(prefix: str, name: str) -> str:
    """A new order's parameter as it is called with a prefix."""
    name = "clientOrderId" if name == "newClientOrderId" else name
    return prefix + name[0].upper() + name[1:] if prefix else name


def _parameters(prefix: str, *types: str) -> tuple[Parameter, ...]:
    """Those of one order."""

    def called(name: str) -> str:
        return _called(prefix, name)

    return (
        Parameter(called("type"), Choice(*types), required=True),
        Parameter(called("newClientOrderId"), CLIENT_ID),
        Parameter(called("price"), AMOUNT),
        Parameter(called("stopPrice"), AMOUNT),
        Parameter(called("trailingDelta"), Whole(1, MAX_TRAILING_BIPS), about="1/10,000"),
        Parameter(called("icebergQty"), AMOUNT),
        Parameter(called("timeInForce"), Choice("GTC", "IOC", "FOK")),
    )


def _sized(prefix: str) -> tuple[Parameter, ...]:
    return (
        Parameter(_called(prefix, "side"), _SIDES, required=True),
        Parameter(_called(prefix, "quantity"), AMOUNT, required=True),
    )


OCO = Form(
    *_HEAD,
    *_sized(""),
    *_parameters("above", *_PROFIT, *_LOSS),
    *_parameters("below", *_PROFIT, *_LOSS),
    *_TAIL,
)
OTO = Form(
    *_HEAD,
    *_sized("working"),
    *_parameters("working", "LIMIT", "LIMIT_MAKER"),
    *_sized("pending"),
    *_parameters("pending", *ORDER_TYPES),
    *_TAIL,
)
OTOCO = Form(
    *_HEAD,
    *_sized("working"),
    *_parameters("working", "LIMIT", "LIMIT_MAKER"),
    *_sized("pending"),
    *_parameters("pendingAbove", *_PROFIT, *_LOSS),
    *_parameters("pendingBelow", *_PROFIT, *_LOSS),
    *_TAIL,
)


@dataclass(frozen=True)
class List:
    """A list of orders, `legs` in the engine's order; `send` enters it for an account, under a
    name, and gives its position.
    """

    type: ListType
    legs: list[orders.Wanted]
    send: Callable[[Session, int, str], int]


def of_oco(values: dict[str, Any], symbol: Symbol, account: int) -> List:
    """Raises ApiError."""
    profit, stop = _pair(values, symbol, account, "above", "below", "")

    def send(session: Session, account: int, name: str) -> int:
        return session.oco(
            symbol.market,
            profit.side.lower(),
            quantity_lots=profit.quantity_lots,
            profit=_in_pair(profit),
            stop=_in_pair(stop),
            client_list_id=name,
            account=account,
        )

    return List(ListType.OCO, [profit, stop], send)


def of_oto(values: dict[str, Any], symbol: Symbol, account: int) -> List:
    """Raises ApiError."""
    working = _leg(values, symbol, account, "working", "working")
    pending = _leg(values, symbol, account, "pending", "pending")

    def send(session: Session, account: int, name: str) -> int:
        return session.oto(
            symbol.market,
            working=_alone(working),
            pending=_alone(pending),
            client_list_id=name,
            account=account,
        )

    return List(ListType.OTO, [working, pending], send)


def of_otoco(values: dict[str, Any], symbol: Symbol, account: int) -> List:
    """Raises ApiError."""
    working = _leg(values, symbol, account, "working", "working")
    profit, stop = _pair(values, symbol, account, "pendingAbove", "pendingBelow", "pending")

    def send(session: Session, account: int, name: str) -> int:
        return session.otoco(
            symbol.market,
            working=_alone(working),
            profit=_in_pair(profit),
            stop=_in_pair(stop),
            side=profit.side.lower(),
            quantity_lots=profit.quantity_lots,
            client_list_id=name,
            account=account,
        )

    return List(ListType.OTOCO, [working, profit, stop], send)


def _pair(
    values: dict[str, Any], symbol: Symbol, account: int, above: str, below: str, sized: str
) -> tuple[orders.Wanted, orders.Wanted]:
    """The one that takes a profit, and the one that limits a loss."""
    first = _leg(values, symbol, account, above, sized)
    second = _leg(values, symbol, account, below, sized)
    if values[_called(sized, "side")] == "BUY":
        first, second = second, first
    if first.type not in _PROFIT or second.type not in _LOSS:
        raise of(BAD_LIST)
    return first, second


def _leg(
    values: dict[str, Any], symbol: Symbol, account: int, prefix: str, sized: str
) -> orders.Wanted:
    """An order of the parameters with a prefix; side and quantity may have another."""

    def called(name: str) -> str:
        return _called(sized if name in ("side", "quantity") else prefix, name)

    mine: dict[str, Any] = {}
    for parameter in orders.NEW_ORDER:
        name = parameter.name
        mine[name] = values.get(name if name in ("symbol", *_SHARED) else called(name))
    return orders.wanted(mine, symbol, account, called)


def _alone(wanted: orders.Wanted) -> dict[str, Any]:
    """A leg as Session.oto() takes it."""
    options = wanted.options()
    del options["account"]
    return options | {"side": wanted.side.lower()}


def _in_pair(wanted: orders.Wanted) -> dict[str, Any]:
    """A leg as Session.oco() takes it."""
    return {name: value for name, value in wanted.options().items() if name not in _OF_PAIR}
