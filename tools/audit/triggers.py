"""Orders that wait until the last price reaches their trigger, unseen.

A plain one waits for a rise or a fall to its trigger price. A trailing one waits likewise for where
it begins, or begins at once; from then on its trigger follows the best price so far.
"""

from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from matchbox.shm.records import OrderType, Side
from matchbox.tools.audit.records import above, below


class Waiter(Protocol):
    """What a trigger needs to know of an order."""

    order_id: int
    side: int
    order_type: int
    trigger: int
    trailing: int
    best: int | None


W = TypeVar("W", bound=Waiter)


def has_trigger(order_type: int) -> bool:
    return order_type >= OrderType.STOP_LOSS


def becomes_market(order_type: int) -> bool:
    """Does it become a market order?"""
    return order_type in (OrderType.STOP_LOSS, OrderType.TAKE_PROFIT)


def waits_for_rise(side: int, order_type: int) -> bool:
    """A stop loss waits for the price to go against the order, a take profit for it to go along."""
    stop = order_type in (OrderType.STOP_LOSS, OrderType.STOP_LOSS_LIMIT)
    return stop == (side == Side.BUY)


def reached(order: Waiter, price: int) -> bool:
    """Has the last price reached the order's trigger price?"""
    if waits_for_rise(order.side, order.order_type):
        return price >= order.trigger
    return price <= order.trigger


def begin(order: Waiter, price: int | None) -> None:
    """Let a trailing order begin, if that is the price to begin with."""
    if price is not None and (order.trigger == 0 or reached(order, price)):
        order.best = price


def follow(order: Waiter, price: int) -> bool:
    """Move the best price of a trailing order that has begun; whether the order triggers."""
    assert order.best is not None
    if order.side == Side.BUY:
        order.best = min(order.best, price)
        return price >= above(order.best, order.trailing)
    order.best = max(order.best, price)
    return price <= below(order.best, order.trailing)


@dataclass
class Waiting(Generic[W]):
    """The orders of a market that wait."""

    orders: dict[int, W] = field(default_factory=dict)

    def add(self, order: W, last: int | None) -> None:
        if order.trailing:
            begin(order, last)
        self.orders[order.order_id] = order

    def after_fill(self, price: int) -> list[W]:
        """The orders that a fill at this price triggers, in the order of triggering."""
        waiting = list(self.orders.values())
        plain = [o for o in waiting if not o.trailing and reached(o, price)]
        rise = [o for o in plain if waits_for_rise(o.side, o.order_type)]
        fall = [o for o in plain if not waits_for_rise(o.side, o.order_type)]
        rise.sort(key=lambda o: (o.trigger, o.order_id))
        fall.sort(key=lambda o: (-o.trigger, o.order_id))
        trailing = sorted((o for o in waiting if o.trailing), key=lambda o: o.order_id)
        begun = [o for o in trailing if o.best is not None]
        for order in trailing:
            if order.best is None:
                begin(order, price)
        found = rise + fall + [o for o in begun if follow(o, price)]
        for order in found:
            del self.orders[order.order_id]
        return found
