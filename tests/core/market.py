"""One market in a Matcher, for the tests of its rules: commands and events as dicts."""

from typing import Any

from matchbox.core.instrument import market_record
from matchbox.core.matcher import Matcher
from matchbox.shm.reasons import Reason
from matchbox.shm.records import EventKind
from tests.core.flows import commands, new

Event = dict[str, Any]


def readable(event: Any) -> Event:
    """The fields that are not zero; of the two names of shared bytes the one that fits."""
    names = {name: name for name in event.dtype.names if name != "reserved"}
    if event["kind"] == EventKind.AMENDED:
        names["maker_leaves_lots"] = "previous_level_lots"
        names["maker_cumulative_lots"] = "previous_price_ticks"
    return {shown: int(event[name]) for name, shown in names.items() if event[name] != 0}


class Exchange:
    """One market; send() gives the events of commands as dicts, without what is zero."""

    def __init__(self, *, check_holds: bool = False, **market: Any) -> None:
        definition = market_record(1, **({"max_orders": 100} | market))
        self.matcher = Matcher([definition], check_holds=check_holds)

    def send(self, *sent: dict[str, Any]) -> list[Event]:
        events = self.matcher.process(commands(*sent))
        self.matcher.validate()
        return [readable(event) for event in events]

    def kinds(self, *sent: dict[str, Any]) -> list[str]:
        return [EventKind(event["kind"]).name for event in self.send(*sent)]

    def story(self, *sent: dict[str, Any]) -> list[tuple[Any, ...]]:
        """What happened to whom: (kind, order id, quantity), of a fill also price and maker."""
        return [told(event) for event in self.send(*sent)]

    def queue(self, price: int) -> list[int]:
        orders = self.matcher.orders(1)
        return [int(order["order_id"]) for order in orders if order["price_ticks"] == price]

    def depth(self, *, hidden: bool = False) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        bids, asks = self.matcher.depth(1, hidden=hidden)
        return bids.tolist(), asks.tolist()

    def waiting(self) -> list[int]:
        return [int(order_id) for order_id in self.matcher.waiting(1)["order_id"]]

    def trade_at(self, price: int) -> list[Event]:
        """Two orders of others that meet at this price; all events of the second."""
        self.send(new("sell", 1, price, account=98))
        return self.send(new("buy", 1, price, account=99))


def told(event: Event) -> tuple[Any, ...]:
    kind = EventKind(event["kind"]).name
    what = (kind, event.get("order_id", 0), event.get("quantity_lots", 0))
    if kind in ("TRADE", "PREVENTED"):
        return (*what, event["price_ticks"], event["maker_order_id"])
    return (*what, Reason(event["reason"]).name) if "reason" in event else what


def resting(*levels: tuple[str, int, int], **market: Any) -> Exchange:
    """An exchange where orders 1, 2, ... rest: (side, quantity, price)."""
    exchange = Exchange(**market)
    for side, quantity, price in levels:
        assert exchange.kinds(new(side, quantity, price)) == ["ACCEPTED"]
    return exchange


def last(events: Any) -> list[bool]:
    """Which events have the flag LAST."""
    return [bool(event.get("flags", 0) & 1) for event in events]
