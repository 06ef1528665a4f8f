"""A matcher that is easy to believe: the trading rules in plain Python, to compare with.

Orders stand in one list for each side and price; everything else is looked for when it is needed.
Events are tuples of the fields of FIELDS, in the record's order, so that a comparison covers every
byte of an event.
"""

from dataclasses import dataclass, field
from typing import Any

from matchbox.shm.reasons import Reason
from matchbox.shm.records import (
    EVENT,
    EventFlag,
    EventKind,
    Flag,
    Kind,
    OrderType,
    Side,
    TimeInForce,
)

FIELDS = tuple(name for name in EVENT.names or () if name != "reserved")
MAX_INT64 = 2**63 - 1
Event = tuple[int, ...]


@dataclass
class Order:
    order_id: int
    account: int
    side: int
    price: int
    leaves: int
    cumulative: int = 0


@dataclass
class Market:
    """One market: its definition (a MARKET_RECORD) and its orders, each level's oldest first."""

    definition: Any
    levels: dict[tuple[int, int], list[Order]] = field(default_factory=dict)
    trades: int = 0

    def prices(self, side: int) -> list[int]:
        """Prices of a side, best first."""
        found = [price for (s, price), queue in self.levels.items() if s == side and queue]
        return sorted(found, reverse=side == Side.BUY)

    def level(self, side: int, price: int) -> int:
        return sum(order.leaves for order in self.levels.get((side, price), ()))

    def orders(self) -> list[Order]:
        """All orders in book order: bids from the best on, then asks."""
        return [
            order
            for side in (Side.BUY, Side.SELL)
            for price in self.prices(side)
            for order in self.levels[side, price]
        ]

    def find(self, order_id: int) -> Order | None:
        return next(
            (o for queue in self.levels.values() for o in queue if o.order_id == order_id), None
        )

    def matches(self, side: int, price: int | None) -> list[int]:
        """Prices of the other side that an order limited to `price` trades at, best first."""
        other = self.prices(opposite(side))
        if price is None:
            return other
        return [p for p in other if (p <= price if side == Side.BUY else p >= price)]

    def add(self, order: Order) -> None:
        self.levels.setdefault((order.side, order.price), []).append(order)

    def remove(self, order: Order) -> None:
        queue = self.levels[order.side, order.price]
        queue.remove(order)
        if not queue:
            del self.levels[order.side, order.price]

    def state_hash(self) -> int:
        state = mix(0, self.trades)
        for side in (Side.BUY, Side.SELL):
            for order in self.orders():
                if order.side == side:
                    for word in (
                        order.order_id,
                        order.price,
                        order.leaves,
                        order.cumulative,
                        order.account,
                    ):
                        state = mix(state, word)
            state = mix(state, 2**64 - 1)
        return state


def opposite(side: int) -> int:
    return Side.SELL if side == Side.BUY else Side.BUY


def mix(state: int, word: int) -> int:
    state = (state ^ word) * 0x9E3779B97F4A7C15 % 2**64
    return state ^ state >> 32


class ReferenceMatcher:
    """Commands (COMMAND records) in, events out; the semantics of matchbox.core.matcher.Matcher."""

    def __init__(self, markets: Any) -> None:
        self.markets = {int(record["market"]): Market(record) for record in markets}
        self.sequence = 0

    def process(self, command: Any) -> list[Event]:
        """All events of one command."""
        self.sequence = int(command["sequence"]) or self.sequence + 1
        self.command = command
        self.events: list[dict[str, int]] = []
        reason = self._refusal() or self._execute()
        if reason:
            own_id = command["kind"] == Kind.NEW_ORDER
            self.events = []
            self._event(
                EventKind.REJECTED,
                order_id=self.sequence if own_id else command["order_id"],
                account=command["account"],
                side=command["side"],
                price_ticks=command["price_ticks"],
                quantity_lots=command["quantity_lots"],
                reason=reason,
            )
        self.events[-1]["flags"] |= EventFlag.LAST
        return [tuple(int(event[name]) for name in FIELDS) for event in self.events]

    def state_hash(self, market: int | None = None) -> int:
        if market is not None:
            return self.markets[market].state_hash()
        state = 0
        for number in sorted(self.markets):
            state = mix(mix(state, number), self.markets[number].state_hash())
        return state

    # ---- refusals that need no state, in the order in which they are found

    def _refusal(self) -> int:
        c = self.command
        if c["kind"] not in (Kind.NEW_ORDER, Kind.CANCEL_ORDER, Kind.AMEND_ORDER):
            return Reason.UNKNOWN_KIND
        if int(c["market"]) not in self.markets:
            return Reason.UNKNOWN_MARKET
        self.market = self.markets[int(c["market"])]
        checks = {
            Kind.NEW_ORDER: self._refusal_of_new,
            Kind.AMEND_ORDER: self._refusal_of_amend,
            Kind.CANCEL_ORDER: self._refusal_of_cancel,
        }
        return checks[Kind(int(c["kind"]))]() or self._refusal_of_rest()

    def _refusal_of_new(self) -> int:
        c = self.command
        if c["side"] not in (Side.BUY, Side.SELL):
            return Reason.BAD_SIDE
        if c["order_type"] not in (OrderType.LIMIT, OrderType.MARKET):
            return Reason.BAD_ORDER_TYPE
        limit = c["order_type"] == OrderType.LIMIT
        if c["time_in_force"] not in tuple(TimeInForce):
            return Reason.BAD_TIME_IN_FORCE
        if not limit and c["time_in_force"] == TimeInForce.GTC:
            return Reason.BAD_TIME_IN_FORCE
        may_post = limit and c["time_in_force"] == TimeInForce.GTC
        if c["flags"] not in ((0, Flag.POST_ONLY) if may_post else (0,)):
            return Reason.BAD_FLAGS
        if not limit and c["price_ticks"] != 0:
            return Reason.BAD_PRICE
        return (
            (self._refusal_of_price() if limit else 0)
            or self._refusal_of_quantity(int(self.market.definition["min_quantity_lots"]))
            or self._refusal_of_notional(int(c["price_ticks"]), int(c["quantity_lots"]))
        )

    def _refusal_of_change(self) -> int:
        c = self.command
        if c["side"] not in (0, Side.BUY, Side.SELL):
            return Reason.BAD_SIDE
        if c["order_type"] != 0:
            return Reason.BAD_ORDER_TYPE
        return Reason.BAD_TIME_IN_FORCE if c["time_in_force"] != 0 else 0

    def _refusal_of_cancel(self) -> int:
        c = self.command
        reason = self._refusal_of_change()
        if reason:
            return reason
        if c["flags"] != 0:
            return Reason.BAD_FLAGS
        if c["price_ticks"] != 0:
            return Reason.BAD_PRICE
        return Reason.BAD_QUANTITY if c["quantity_lots"] != 0 else 0

    def _refusal_of_amend(self) -> int:
        c = self.command
        reason = self._refusal_of_change()
        if reason:
            return reason
        if int(c["flags"]) & ~int(Flag.TO_OPEN | Flag.REQUEUE):
            return Reason.BAD_FLAGS
        if c["price_ticks"] == 0 and c["quantity_lots"] == 0:
            return Reason.NOTHING_TO_AMEND
        minimum = int(self.market.definition["min_quantity_lots"])
        if int(c["flags"]) & Flag.TO_OPEN:
            minimum = 1
        return (
            (self._refusal_of_price() if c["price_ticks"] else 0)
            or (self._refusal_of_quantity(minimum) if c["quantity_lots"] else 0)
            or self._refusal_of_notional(int(c["price_ticks"]), int(c["quantity_lots"]))
        )

    def _refusal_of_price(self) -> int:
        d, price = self.market.definition, int(self.command["price_ticks"])
        if not 1 <= price <= d["max_price_ticks"]:
            return Reason.BAD_PRICE
        return Reason.PRICE_OFF_TICK if price % int(d["price_step_ticks"]) else 0

    def _refusal_of_quantity(self, minimum: int) -> int:
        d, quantity = self.market.definition, int(self.command["quantity_lots"])
        if not minimum <= quantity <= d["max_quantity_lots"]:
            return Reason.BAD_QUANTITY
        return Reason.QUANTITY_OFF_LOT if quantity % int(d["quantity_step_lots"]) else 0

    def _refusal_of_notional(self, price: int, quantity: int) -> int:
        notional = price * quantity * int(self.market.definition["notional_units"])
        return Reason.NOTIONAL_OVERFLOW if notional > MAX_INT64 else 0

    def _refusal_of_rest(self) -> int:
        c = self.command
        if c["trigger_ticks"] != 0 or c["reserved"] != 0:
            return Reason.BAD_FIELD
        text = bytes(c["client_order_id"])  # NumPy has cut trailing zeroes
        printable = all(0x21 <= byte <= 0x7E for byte in text)
        return 0 if printable else Reason.BAD_CLIENT_ORDER_ID

    # ---- what commands do

    def _execute(self) -> int:
        kind = self.command["kind"]
        if kind == Kind.NEW_ORDER:
            return self._new()
        return self._cancel() if kind == Kind.CANCEL_ORDER else self._amend()

    def _new(self) -> int:
        c, market = self.command, self.market
        price = int(c["price_ticks"]) if c["order_type"] == OrderType.LIMIT else None
        side, quantity = int(c["side"]), int(c["quantity_lots"])
        order = Order(self.sequence, int(c["account"]), side, price or 0, quantity)
        matches = market.matches(side, price)
        if c["time_in_force"] == TimeInForce.GTC:
            if len(market.orders()) == market.definition["max_orders"]:
                return Reason.TOO_MANY_ORDERS
            if not matches:
                market.add(order)
                self._order_event(EventKind.ACCEPTED, order, quantity, flags=EventFlag.RESTING)
                return 0
            if c["flags"] & Flag.POST_ONLY:
                return Reason.WOULD_TAKE
        if c["time_in_force"] == TimeInForce.FOK:
            available = sum(market.level(opposite(side), p) for p in matches)
            if available < quantity:
                return Reason.NOT_FILLABLE
        self._order_event(EventKind.ACCEPTED, order, quantity, level=0)
        self._take(order, price)
        if order.leaves and c["time_in_force"] == TimeInForce.GTC:
            self._rest(order)
        elif order.leaves:
            left, order.leaves = order.leaves, 0
            self._order_event(EventKind.EXPIRED, order, left, level=0, reason=Reason.NO_LIQUIDITY)
        return 0

    def _cancel(self) -> int:
        order = self.market.find(int(self.command["order_id"]))
        if order is None:
            return Reason.UNKNOWN_ORDER
        self.market.remove(order)
        left, order.leaves = order.leaves, 0
        self._order_event(EventKind.CANCELED, order, left)
        return 0

    def _amend(self) -> int:
        c, market = self.command, self.market
        order = market.find(int(c["order_id"]))
        if order is None:
            return Reason.UNKNOWN_ORDER
        price = int(c["price_ticks"]) or order.price
        leaves = order.leaves
        if c["quantity_lots"]:
            filled = 0 if c["flags"] & Flag.TO_OPEN else order.cumulative
            leaves = int(c["quantity_lots"]) - filled
        total = order.cumulative + leaves
        d = market.definition
        if leaves <= 0:
            return Reason.BELOW_FILLED
        if c["quantity_lots"] and not d["min_quantity_lots"] <= total <= d["max_quantity_lots"]:
            return Reason.BAD_QUANTITY
        if self._refusal_of_notional(price, total):
            return Reason.NOTIONAL_OVERFLOW
        before = {"maker_cumulative_lots": order.price}  # in the bytes of previous_price_ticks
        if price == order.price and leaves <= order.leaves and not c["flags"] & Flag.REQUEUE:
            order.leaves = leaves
            # In the bytes of previous_level_lots.
            before["maker_leaves_lots"] = market.level(order.side, order.price) - leaves
            self._order_event(EventKind.AMENDED, order, total, flags=EventFlag.RESTING, **before)
            return 0
        market.remove(order)
        before["maker_leaves_lots"] = market.level(order.side, order.price)
        order.price, order.leaves = price, leaves
        if not market.matches(order.side, price):
            market.add(order)
            self._order_event(EventKind.AMENDED, order, total, flags=EventFlag.RESTING, **before)
            return 0
        self._order_event(EventKind.AMENDED, order, total, level=0, **before)
        self._take(order, price)
        if order.leaves:
            self._rest(order)
        return 0

    def _take(self, taker: Order, price: int | None) -> None:
        market = self.market
        while taker.leaves and (matches := market.matches(taker.side, price)):
            maker = market.levels[opposite(taker.side), matches[0]][0]
            lots = min(taker.leaves, maker.leaves)
            taker.leaves -= lots
            taker.cumulative += lots
            maker.leaves -= lots
            maker.cumulative += lots
            market.trades += 1
            if maker.leaves == 0:
                market.remove(maker)
            self._order_event(
                EventKind.TRADE,
                taker,
                lots,
                level=market.level(maker.side, maker.price),
                price_ticks=maker.price,
                maker_order_id=maker.order_id,
                trade_id=market.trades,
                maker_leaves_lots=maker.leaves,
                maker_cumulative_lots=maker.cumulative,
                maker_account=maker.account,
            )

    def _rest(self, order: Order) -> None:
        self.market.add(order)
        self._order_event(EventKind.RESTED, order, order.cumulative + order.leaves)

    # ---- events

    def _order_event(
        self, kind: int, order: Order, quantity: int, level: int | None = None, **others: int
    ) -> None:
        values = {
            "order_id": order.order_id,
            "price_ticks": order.price,
            "quantity_lots": quantity,
            "leaves_lots": order.leaves,
            "cumulative_lots": order.cumulative,
            "level_lots": self.market.level(order.side, order.price) if level is None else level,
            "account": order.account,
            "side": order.side,
        }
        self._event(kind, **(values | others))

    def _event(self, kind: int, **values: int) -> None:
        event = dict.fromkeys(FIELDS, 0)
        event |= {
            "sequence": self.sequence,
            "market": self.command["market"],
            "index": len(self.events),
            "kind": kind,
        }
        self.events.append(event | values)
