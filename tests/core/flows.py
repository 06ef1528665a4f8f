"""Commands for tests: single ones by keyword, and random streams that keep a book busy."""

import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.shm.records import COMMAND, Flag, Kind, OrderType, Side, TimeInForce


def new(
    side: str, quantity: int, price: int | None, time_in_force: str = "GTC", **others: Any
) -> dict[str, Any]:
    """A new order; no price = a market order."""
    return {
        "kind": Kind.NEW_ORDER,
        "side": Side[side.upper()],
        "quantity_lots": quantity,
        "price_ticks": price or 0,
        "order_type": OrderType.MARKET if price is None else OrderType.LIMIT,
        "time_in_force": TimeInForce[time_in_force],
    } | others


def cancel(order_id: int, **others: Any) -> dict[str, Any]:
    return {"kind": Kind.CANCEL_ORDER, "order_id": order_id} | others


def amend(order_id: int, price: int = 0, quantity: int = 0, **others: Any) -> dict[str, Any]:
    return {
        "kind": Kind.AMEND_ORDER,
        "order_id": order_id,
        "price_ticks": price,
        "quantity_lots": quantity,
    } | others


def commands(*records: dict[str, Any]) -> NDArray[Any]:
    """The records as an array of COMMAND, for market 1 unless they say otherwise."""
    array = np.zeros(len(records), COMMAND)
    array["market"] = 1
    for i, record in enumerate(records):
        for name, value in record.items():
            array[i][name] = value
    return array


class Flow:
    """Random commands, most of them sensible, around a price that both sides quote.

    `width` is how far prices spread: narrow books have long queues, wide ones lonely levels.
    """

    def __init__(
        self,
        seed: int,
        *,
        middle: int,
        width: int,
        markets: tuple[int, ...] = (1,),
        noise: float = 0.03,
    ):
        self.random = random.Random(seed)
        self.middle, self.width, self.markets, self.noise = middle, width, markets, noise
        self.recent: list[tuple[int, int]] = []  # (market, order id), perhaps gone by now

    def take(self, count: int, first_sequence: int = 1) -> NDArray[Any]:
        """The next `count` commands, numbered from `first_sequence`."""
        rows = [self._command(first_sequence + i) for i in range(count)]
        return commands(*rows)

    def _command(self, sequence: int) -> dict[str, Any]:
        r = self.random
        kind = r.random()
        market, target = r.choice(self.recent) if self.recent else (self.markets[0], 1)
        if kind < 0.5 or not self.recent:
            market = r.choice(self.markets)
            row = self._new()
            self.recent.append((market, sequence))
            if len(self.recent) > 300:
                self.recent.pop(r.randrange(250))
        elif kind < 0.7:
            row = cancel(target)
        else:
            row = amend(
                target, *self._change(), flags=r.choice((0, 0, Flag.TO_OPEN, Flag.REQUEUE, 6))
            )
        row |= {"market": market, "sequence": sequence, "account": r.randrange(1, 6)}
        if r.random() < self.noise:
            row |= self._fault()
        return row

    def _price(self, side: int) -> int:
        r = self.random
        away = int(r.expovariate(1) * self.width / 4) - self.width // 10
        price = self.middle - away if side == Side.BUY else self.middle + away
        return max(1, min(price, 2**40 - 1))

    def _new(self) -> dict[str, Any]:
        r = self.random
        side = r.choice((Side.BUY, Side.SELL))
        quantity = r.choice((1, 2, 3, 10, r.randrange(1, 60)))
        shape = r.random()
        if shape < 0.7:
            flags = Flag.POST_ONLY if r.random() < 0.2 else 0
            return new(side.name, quantity, self._price(side), flags=flags)
        time_in_force = r.choice(("IOC", "FOK"))
        price = None if shape < 0.8 else self._price(side)
        return new(side.name, quantity, price, time_in_force)

    def _change(self) -> tuple[int, int]:
        r = self.random
        price = self._price(r.choice((Side.BUY, Side.SELL))) if r.random() < 0.6 else 0
        return price, r.randrange(1, 60) if r.random() < 0.7 else 0

    def _fault(self) -> dict[str, Any]:
        r = self.random
        return r.choice(
            [
                {"market": 99},
                {"kind": r.randrange(256)},
                {"side": r.randrange(256)},
                {"order_type": r.randrange(256)},
                {"time_in_force": r.randrange(256)},
                {"flags": r.randrange(256)},
                {"price_ticks": r.randrange(-(2**63), 2**63)},
                {"quantity_lots": r.randrange(-(2**63), 2**63)},
                {"trigger_ticks": 1},
                {"reserved": 1},
                {"client_order_id": bytes(r.randrange(256) for _ in range(r.randrange(1, 37)))},
                {"order_id": r.getrandbits(64)},
            ]
        )
