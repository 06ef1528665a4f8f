"""What an account's reports become in the words of its user stream.

    executionReport            of each report of an order
    listStatus                 a list of orders begins, or all of them have ended
    balanceUpdate              money comes or goes, but by trading
    outboundAccountPosition    what an account has after that, of assets that may have changed

Reports tell what happens to an order, not what it is. So the open orders of an account are kept
here as the reports left them: those that were open when somebody began to listen, from the views,
and those that came since. What was refused at once is no order, and is told by the answer alone.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from matchbox.gateway import orders
from matchbox.gateway.decimals import show
from matchbox.gateway.desk import Report
from matchbox.gateway.lookups import Holdings
from matchbox.gateway.orders import Order
from matchbox.gateway.symbols import Symbol, Symbols
from matchbox.shm.market import Asset
from matchbox.shm.reasons import Reason
from matchbox.shm.records import EventKind, Kind, ListType, ReportFlag

Event = dict[str, Any]
_NOTHING = "0.00000000"
_ENDED = frozenset((EventKind.CANCELED, EventKind.EXPIRED, EventKind.REJECTED))
# What happened, where it is the same for all reports of a kind.
_EXECUTIONS = {
    EventKind.ACCEPTED: "NEW",
    EventKind.TRIGGERED: "NEW",
    EventKind.TRADE: "TRADE",
    EventKind.CANCELED: "CANCELED",
    EventKind.EXPIRED: "EXPIRED",
    EventKind.AMENDED: "REPLACED",
    EventKind.PREVENTED: "TRADE_PREVENTION",
    EventKind.REJECTED: "REJECTED",
}


@dataclass
class _List:
    """A list of orders: those that live, by id, and all that it has."""

    list_id: int
    kind: str
    client_list_id: str
    symbol: Symbol
    living: set[int] = field(default_factory=set)
    legs: dict[int, str] = field(default_factory=dict)  # client order ids by id
    begun: bool = False


class AccountEvents:
    """Makes the events of one account, report by report."""

    def __init__(self, symbols: Callable[[], Symbols]) -> None:
        """`symbols`: those of now."""
        self._symbols = symbols
        self._orders: dict[int, Order] = {}
        self._lists: dict[int, _List] = {}
        self._touched: dict[int, int] = {}  # lists, and when (ms)
        self._prevented: dict[int, int] = {}
        self.assets: set[str] = set()  # that may have changed

    def begin(self, rows: Iterable[Any]) -> None:
        """With the open orders (ORDER) of the account."""
        for row in rows:
            self._know(row)
        for each in self._lists.values():
            each.begun = True

    def unknown(self, reports: Iterable[Report]) -> list[int]:
        """Orders of which some of these are the first: the rows of these are needed."""
        return [
            report.order_id
            for report in reports
            if report.order_id and report.order_id not in self._orders
        ]

    def of(
        self,
        reports: Iterable[Report],
        rows: Mapping[int, Any],
        cancel_ids: Mapping[int, str],
        movements: Mapping[int, Any],
    ) -> list[Event]:
        """The events of reports in their order. `rows` (ORDER): of unknown() orders, as they are
        at any time since; `cancel_ids`: of cancels, by order; `movements` (MONEY_RECORD) by
        sequence.
        """
        found: list[Event] = []
        for report in reports:
            if report.kind == EventKind.BALANCE:
                found += self._on_balance(report, movements)
            elif report.order_id:
                found += self._on_order(report, rows, cancel_ids)
        return found + self._list_events()

    # -- orders

    def _know(self, row: Any) -> Order | None:
        symbol = self._symbols().by_number.get(int(row["market"]))
        if symbol is None:
            return None
        order = orders.of_row(symbol, row)
        self._orders[order.order_id] = order
        if order.list_id:
            kind = "OCO" if int(row["list_type"]) == ListType.OCO else "OTO"
            known = self._lists.setdefault(
                order.list_id,
                _List(order.list_id, kind, row["client_list_id"].decode(), symbol),
            )
            known.living.add(order.order_id)
            known.legs[order.order_id] = order.client_order_id
        return order

    def _on_order(
        self, report: Report, rows: Mapping[int, Any], cancel_ids: Mapping[int, str]
    ) -> list[Event]:
        order = self._orders.get(report.order_id)
        if order is None:
            row = rows.get(report.order_id)
            # Refused at once; or the end of an order that was never told of.
            if row is None or not _begins(report):
                return []
            order = self._know(row)
            if order is None:
                return []
            _as_it_began(order, report)
        if report.kind == EventKind.REJECTED and not report.flags & ReportFlag.RELEASED:
            return []  # a cancel or an amend of it was
        if report.flags & ReportFlag.RELEASED:
            self._forget(report.command_position, order)
        _follow(order, report)
        if report.kind == EventKind.PREVENTED:
            before = self._prevented.get(order.order_id, 0)
            self._prevented[order.order_id] = before + report.quantity_lots
        event = self._execution(order, report, cancel_ids)
        market = order.symbol.market
        self.assets |= {market.base, market.quote}
        if report.kind in _ENDED or report.leaves_lots == 0:
            self._forget(order.order_id, order)
        if order.list_id:
            self._touched[order.list_id] = order.updated_ms
        return [event]

    def _forget(self, order_id: int, order: Order) -> None:
        self._orders.pop(order_id, None)
        self._prevented.pop(order_id, None)
        known = self._lists.get(order.list_id)
        if known is not None:
            known.living.discard(order_id)
            if order_id != order.order_id:  # it was pending, and has become another one
                known.legs.pop(order_id, None)

    def _execution(self, order: Order, report: Report, cancel_ids: Mapping[int, str]) -> Event:
        symbol, kind = order.symbol, report.kind
        traded = kind == EventKind.TRADE
        lots = report.quantity_lots if traded else 0
        canceled = kind == EventKind.CANCELED
        mine = order.client_order_id
        works = order.working_ms > 0
        event: Event = {
            "e": "executionReport",
            "E": now_ms(),
            "s": symbol.name,
            "c": cancel_ids.get(order.order_id, mine) if canceled else mine,
            "S": order.side,
            "o": order.type,
            "f": order.time_in_force,
            "q": symbol.quantity(order.quantity_lots),
            "p": symbol.price(order.price_ticks),
            "P": symbol.price(order.trigger_ticks),
            "F": symbol.quantity(order.display_lots),
            "g": order.list_id or -1,
            "C": mine if canceled else "",
            "x": _EXECUTIONS[EventKind(kind)],
            "X": order.status,
            "r": Reason(report.reason).name if kind == EventKind.REJECTED else "NONE",
            "i": order.order_id,
            "l": symbol.quantity(lots),
            "z": symbol.quantity(order.executed_lots),
            "L": symbol.price(report.price_ticks) if traded else _NOTHING,
            "n": "0",
            "N": None,
            "T": order.updated_ms,
            "t": report.trade_id if traded else -1,
            "I": report.sequence,
            "w": works and order.leaves_lots > 0,
            "m": bool(traded and report.flags & ReportFlag.AS_MAKER),
            "M": traded,
            "O": order.created_ms,
            "Z": symbol.notional(order.notional),
            "Y": symbol.notional(report.price_ticks * lots),
            "Q": symbol.quote_amount(order.quote_units),
            "V": order.self_trade,
        }
        if traded:
            event["n"], event["N"] = _commission(order, report)
        if works:
            event["W"] = order.working_ms
        if order.trailing_bips:
            event["d"] = order.trailing_bips
        if kind == EventKind.PREVENTED:
            event["v"] = report.sequence
            event["A"] = symbol.quantity(self._prevented[order.order_id])
            event["B"] = symbol.quantity(report.quantity_lots)
        return event

    # -- lists

    def _list_events(self) -> list[Event]:
        """Of lists that have begun or ended with what was told."""
        found = []
        for list_id, at_ms in self._touched.items():
            known = self._lists.get(list_id)
            if known is None:
                continue
            if not known.begun:
                known.begun = True
                found.append(_list_status(known, "EXEC_STARTED", "EXECUTING", at_ms))
            if not known.living:
                del self._lists[list_id]
                found.append(_list_status(known, "ALL_DONE", "ALL_DONE", at_ms))
        self._touched.clear()
        return found

    # -- money

    def _on_balance(self, report: Report, movements: Mapping[int, Any]) -> list[Event]:
        asset = self._symbols().assets.get(report.market)
        if asset is None:
            return []
        self.assets.add(asset.name)
        movement = movements.get(report.sequence)
        # What is settled has left when it was requested.
        if movement is not None and int(movement["kind"]) == Kind.SETTLE_WITHDRAWAL:
            return []
        return [
            {
                "e": "balanceUpdate",
                "E": now_ms(),
                "a": asset.name,
                "d": show(report.cumulative_lots, asset.scale),
                "T": report.timestamp_ns // 1_000_000,
            }
        ]


def position(
    holdings: Holdings, changed: Collection[str], assets: Mapping[int, Asset], at_ms: int
) -> Event:
    """outboundAccountPosition, of assets by their names."""
    balances = [
        {"a": asset.name, "f": show(free, asset.scale), "l": show(held, asset.scale)}
        for number, asset in assets.items()
        if asset.name in changed
        for free, held in [holdings.of_asset(number)]
    ]
    return {"e": "outboundAccountPosition", "E": now_ms(), "u": at_ms, "B": balances}


def _begins(report: Report) -> bool:
    released = bool(report.flags & ReportFlag.RELEASED)
    return report.kind == EventKind.ACCEPTED or released


def _as_it_began(order: Order, report: Report) -> None:
    """An order of a row that may tell of later times, as its first report says."""
    at_ms = report.timestamp_ns // 1_000_000
    order.executed_lots = order.notional = 0
    order.leaves_lots = report.leaves_lots
    if not order.quote_units:
        order.quantity_lots = report.leaves_lots + report.cumulative_lots
    if order.price_ticks:
        order.price_ticks = report.price_ticks
    order.updated_ms = at_ms
    waits = bool(report.flags & ReportFlag.WAS_PENDING) or orders.waits_for_price(order)
    order.working_ms = 0 if waits else at_ms


def _follow(order: Order, report: Report) -> None:
    """What a report makes of its order."""
    kind = report.kind
    order.updated_ms = report.timestamp_ns // 1_000_000
    order.executed_lots, order.leaves_lots = report.cumulative_lots, report.leaves_lots
    if kind == EventKind.TRADE:
        order.notional += report.price_ticks * report.quantity_lots
    elif kind == EventKind.AMENDED:
        order.price_ticks, order.quantity_lots = report.price_ticks, report.quantity_lots
    elif kind == EventKind.TRIGGERED:
        order.working_ms = order.updated_ms
    if order.quote_units:
        order.quantity_lots = order.executed_lots
    pending = kind == EventKind.ACCEPTED and report.flags & ReportFlag.WAS_PENDING
    if pending:
        order.status = "PENDING_NEW"
    elif kind == EventKind.REJECTED:
        order.status = "REJECTED"
    else:
        order.status = orders.status_after(report, order)


def _commission(order: Order, report: Report) -> tuple[str, str]:
    """Amount and asset: what is received pays; a rebate comes in the other one."""
    symbol, buys = order.symbol, order.side == "BUY"
    base = buys != (report.fee < 0)
    amount = symbol.base_amount(report.fee) if base else symbol.quote_amount(report.fee)
    return amount, symbol.market.base if base else symbol.market.quote


def _list_status(known: _List, what: str, status: str, at_ms: int) -> Event:
    name = known.symbol.name
    return {
        "e": "listStatus",
        "E": now_ms(),
        "s": name,
        "g": known.list_id,
        "c": known.kind,
        "l": what,
        "L": status,
        "r": "NONE",
        "C": known.client_list_id,
        "T": at_ms,
        "O": [{"s": name, "i": each, "c": client} for each, client in known.legs.items()],
    }


def now_ms() -> int:
    return time.time_ns() // 1_000_000
