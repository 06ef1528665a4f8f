"""A log written by hand: each record with the stamps that a sequencer would give it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.core.instrument import market_record
from matchbox.shm.reasons import Reason
from matchbox.shm.records import (
    COMMAND,
    LIST_RECORD,
    LOG_RECORD,
    MONEY_RECORD,
    NAMED_RECORD,
    NEW_ORDER,
    RULES_RECORD,
    TERMS_RECORD,
    Belongs,
    EventKind,
    Flag,
    Kind,
    ListType,
    OrderType,
    Side,
    TimeInForce,
)
from matchbox.tools.audit import together
from matchbox.tools.audit.exchange import Auditor, Step

BTC, USD = 1, 2
OPERATOR, TRUSTED, OWN = 1, 2, 3
DAY = 86_400 * 10**9
Row = tuple[str, int, int, int, int]


class Log:
    """Sessions: 1 operates, 2 names its accounts, 3 trades for account 1 and its child 3.

    Market 1 trades BTC for USD; one lot at one tick is worth one unit, fees are 0 unless set.
    Every record says that all before it was settled, unless `lag` says otherwise.
    """

    def __init__(self, *, lot_units: int = 1, money: int = 10_000) -> None:
        self.auditor = Auditor()
        self.now = 20_000 * DAY
        self.sequence = 0
        self.positions = dict.fromkeys((0, OPERATOR, TRUSTED, OWN), 0)
        self.records: list[NDArray[Any]] = []
        self.steps: list[Step] = []
        self.named(Kind.START, session=0, epoch=1)
        self.attach("operator", capabilities=7)
        scale = len(str(lot_units)) - 1
        self.named(Kind.ADD_ASSET, "BTC", id=BTC, scale=scale)
        self.named(Kind.ADD_ASSET, "USD", id=USD, scale=0)
        for account in (1, 2, 3):
            parent = 1 if account == 3 else 0
            self.named(Kind.ADD_ACCOUNT, f"account-{account}", account=account, parent=parent)
        market = market_record(
            1, symbol="BTC/USD", max_orders=20, max_price_ticks=10_000, lot_units=lot_units
        )
        self.put(np.asarray([market]).view(LOG_RECORD), OPERATOR)
        self.attach("trusted", session=OPERATOR, capabilities=3, id=TRUSTED)
        self.attach("own", session=OPERATOR, capabilities=1, id=OWN, account=1)
        for account in (1, 2) if money else ():
            self.deposit(account, BTC, money * lot_units)
            self.deposit(account, USD, money)

    # ---- records

    def put(self, row: NDArray[Any], session: int, lag: int = 0, index: int = 0) -> Step:
        """The next record of the log, and what came of it, if no other belongs to it."""
        row = np.ascontiguousarray(row).view(LOG_RECORD)
        self.sequence += 1
        if session:
            self.positions[session] += 1
        row["sequence"], row["timestamp_ns"] = self.sequence, self.now
        row["session"], row["session_position"] = session, self.positions[session]
        # Those that may belong together have the same place.
        row["settled_lag"] = lag or self.sequence - self.auditor.sequence
        row["settled_index"] = index
        self.records.append(row)
        self.steps += self.auditor.apply(row)
        return self.steps[-1]

    def command(self, kind: int, *, session: int = TRUSTED, **values: Any) -> Step:
        return self._row(COMMAND, kind, session, values)

    def named(self, kind: int, name: str = "", *, session: int = OPERATOR, **values: Any) -> Step:
        return self._row(NAMED_RECORD, kind, session, {"name": name.encode(), **values})

    def attach(self, name: str, *, session: int = 0, id: int = OPERATOR, **values: Any) -> Step:
        return self.named(Kind.ATTACH_SESSION, name, session=session, id=id, **values)

    def rules(self, kind: int, **values: Any) -> Step:
        return self._row(RULES_RECORD, kind, OPERATOR, values)

    def money(self, kind: int, *, session: int = TRUSTED, **values: Any) -> Step:
        return self._row(MONEY_RECORD, kind, session, values)

    def deposit(self, account: int, asset: int, amount: int, reference: str = "") -> Step:
        return self.money(
            Kind.DEPOSIT,
            session=OPERATOR,
            account=account,
            asset=asset,
            amount=amount,
            reference=(reference or f"d{self.sequence}").encode(),
        )

    def terms(self, **values: Any) -> Step:
        defaults = {"account": 1, "market": 1}
        return self._row(TERMS_RECORD, Kind.ORDER_TERMS, TRUSTED, defaults | values)

    def order(self, account: int, side: str, quantity: int, price: int, **values: Any) -> Step:
        """A limit order, GTC, unless `values` say otherwise."""
        chosen = Side[side.upper()]
        defaults = {
            "account": account,
            "market": 1,
            "side": chosen,
            "order_type": OrderType.LIMIT,
            "time_in_force": TimeInForce.GTC,
            "quantity_lots": quantity,
            "price_ticks": price,
            "hold": quantity * price if chosen == Side.BUY else quantity,
        }
        session = values.pop("session", TRUSTED)
        return self._row(NEW_ORDER, Kind.NEW_ORDER, session, defaults | values)

    def market(self, account: int, side: str, quantity: int, bound: int, **values: Any) -> Step:
        """A market order, with the bound that the sequencer stamps."""
        defaults = {"order_type": OrderType.MARKET, "time_in_force": TimeInForce.IOC}
        return self.order(account, side, quantity, bound, **(defaults | values))

    def order_list(
        self, list_type: int, legs: Sequence[dict[str, Any]], **values: Any
    ) -> list[Step]:
        """A list, its legs as the arguments of order(); the steps of the legs."""
        belongs = together.belongs_in(list_type, len(legs))
        defaults = {"account": 1, "market": 1, "list_type": list_type, "legs": len(legs)}
        if not values.get("reject"):
            defaults["list_id"] = self.sequence + 1
        self._row(LIST_RECORD, Kind.ORDER_LIST, TRUSTED, defaults | values)
        return self._legs(legs, belongs, reject=values.get("reject", 0))

    def release(self, list_id: int, legs: Sequence[dict[str, Any]], **values: Any) -> list[Step]:
        """What the exchange writes when a working order was filled."""
        defaults = {
            "account": 1,
            "market": 1,
            "list_id": list_id,
            "list_type": ListType.OCO if len(legs) == 2 else 0,
            "legs": len(legs),
        }
        self._row(LIST_RECORD, Kind.RELEASE, 0, defaults | values)
        return self._legs(legs, [Belongs.IN_LIST] * len(legs), session=0)

    def _legs(
        self, legs: Sequence[dict[str, Any]], belongs: Sequence[int], **values: Any
    ) -> list[Step]:
        for leg, its in zip(legs, belongs, strict=True):
            defaults = {"account": 1, "has_terms": its, **values}
            if its == Belongs.IS_PENDING:
                defaults["hold"] = 0
            self.order(**(defaults | leg | {"flags": leg.get("flags", 0) | Flag.LEG}))
        return self.steps[-len(legs) :]

    def replace(self, account: int, order_id: int, lacking: int = 0, **values: Any) -> Step:
        """A cancel that the order after it comes in the place of."""
        defaults = {"flags": Flag.REPLACE, "quantity_lots": lacking}
        return self.cancel(account, order_id, **(defaults | values))

    def replacement(
        self, account: int, side: str, quantity: int, price: int, **values: Any
    ) -> Step:
        defaults = {"flags": Flag.LEG, "has_terms": Belongs.REPLACES}
        return self.order(account, side, quantity, price, **(defaults | values))

    def amend(self, account: int, order_id: int, price: int, quantity: int, **values: Any) -> Step:
        order = self.auditor.ledger.orders[order_id]
        defaults = {
            "account": account,
            "order_id": order_id,
            "market": 1,
            "side": order.side,
            "price_ticks": price,
            "quantity_lots": quantity,
        }
        return self.command(Kind.AMEND_ORDER, **(defaults | values))

    def cancel(self, account: int, order_id: int, **values: Any) -> Step:
        order = self.auditor.ledger.orders[order_id]
        defaults = {
            "account": account,
            "order_id": order_id,
            "market": 1,
            "side": order.side,
            "hold": Reason.ON_REQUEST,
        }
        return self.command(Kind.CANCEL_ORDER, **(defaults | values))

    def _row(self, dtype: Any, kind: int, session: int, values: dict[str, Any]) -> Step:
        row = np.zeros(1, dtype)
        row["kind"] = kind
        lag, index = values.pop("lag", 0), values.pop("index", 0)
        for name, value in values.items():
            row[name] = value
        return self.put(row, session, lag, index)

    # ---- what came of it

    @property
    def differences(self) -> list[str]:
        self.steps += self.auditor.end()
        return [str(difference) for difference in self.auditor.differences]

    def balance(self, account: int, asset: int) -> tuple[int, int]:
        balance = self.auditor.ledger.balance(account, asset)
        return balance.free, balance.held

    def settled_balance(self, account: int, asset: int) -> tuple[int, int]:
        self.auditor.settle_all()
        return self.balance(account, asset)


def told(step: Step) -> list[Row]:
    """(kind, order id, price, quantity, leaves) of each event of the book."""
    return [
        (
            EventKind(event.kind).name,
            event.order_id,
            event.price_ticks,
            event.quantity_lots,
            event.leaves_lots,
        )
        for event in step.book
    ]


def kinds(step: Step) -> list[str]:
    return [row[0] for row in told(step)]


def fills(step: Step) -> list[tuple[int, int, int, int]]:
    """(taker, maker, price, quantity) of each fill."""
    return [
        (event.order_id, event.maker_order_id, event.price_ticks, event.quantity_lots)
        for event in step.book
        if event.kind == EventKind.TRADE
    ]
