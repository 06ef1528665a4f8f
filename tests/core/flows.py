"""Commands for tests: single ones by keyword, and random streams that keep a book busy."""

import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.shm.records import (
    COMMAND,
    LIST_RECORD,
    NEW_ORDER,
    RULES_RECORD,
    TERMS_RECORD,
    Flag,
    Kind,
    ListType,
    OrderType,
    Rule,
    Side,
    TimeInForce,
)

VIEWS = {
    Kind.NEW_ORDER: NEW_ORDER,
    Kind.ORDER_TERMS: TERMS_RECORD,
    Kind.ORDER_LIST: LIST_RECORD,
    Kind.SET_MARKET: RULES_RECORD,
}


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


def waiting(
    order_type: str, side: str, quantity: int, price: int | None, trigger: int, **others: Any
) -> dict[str, Any]:
    """A new order with a trigger, such as "stop_loss"; no price = a market order then."""
    kind = order_type.upper() + ("" if price is None else "_LIMIT")
    row = new(side, quantity, price, "IOC" if price is None else "GTC")
    return row | {"order_type": OrderType[kind], "trigger_ticks": trigger} | others


def terms(display: int = 0, expire_ns: int = 0, **others: Any) -> dict[str, Any]:
    """What goes right before an order that has any of it."""
    return {"kind": Kind.ORDER_TERMS, "display_lots": display, "expire_ns": expire_ns} | others


def order_list(list_type: str, display: tuple[int, ...] = (), **others: Any) -> dict[str, Any]:
    """What goes right before the legs of a list; display: of each leg."""
    shown = (*display, 0, 0, 0)[:3]
    row = {"kind": Kind.ORDER_LIST, "list_type": ListType[list_type.upper()]}
    return row | {"display_lots": shown} | others


def rules(**changes: Any) -> dict[str, Any]:
    """SET_MARKET: each rule by its field's name, and bands=(down, up)."""
    names = {
        "state": Rule.STATE,
        "amount": Rule.NOTIONAL,
        "reference_ticks": Rule.REFERENCE,
        "protection_bips": Rule.PROTECTION,
        "account_orders": Rule.ORDERS,
    }
    row: dict[str, Any] = {"kind": Kind.SET_MARKET, "rules": 0}
    if "bands" in changes:
        row["band_down_bips"], row["band_up_bips"] = changes.pop("bands")
        row["rules"] |= Rule.BANDS
    for name in changes.keys() & names.keys():
        row["rules"] |= names[name]
    return row | changes


def commands(*records: dict[str, Any]) -> NDArray[Any]:
    """The records as an array of COMMAND, for market 1 unless they say otherwise."""
    array = np.zeros(len(records), COMMAND)
    array["market"] = 1
    names = COMMAND.fields or {}
    for i, record in enumerate(records):
        other = array[i : i + 1].view(VIEWS.get(record.get("kind"), COMMAND))
        for name, value in record.items():
            if name in names:
                array[i][name] = value
            else:
                other[0][name] = value
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

    def take_rich(self, count: int, first_sequence: int = 1) -> NDArray[Any]:
        """As take(), with all that orders can have, and changes of rules; `count` records."""
        rows: list[dict[str, Any]] = []
        while len(rows) < count:
            rows += self._rich(first_sequence + len(rows))
        for i, row in enumerate(rows):
            row["sequence"] = first_sequence + i
        return commands(*rows[:count])

    def _rich(self, sequence: int) -> list[dict[str, Any]]:
        """One command, perhaps with the terms before it."""
        r = self.random
        row = self._command(sequence)
        before: list[dict[str, Any]] = []
        if r.random() < 0.02:
            return [self._rules() | {"market": row["market"]}]
        if row["kind"] == Kind.NEW_ORDER and "order_id" not in row:
            before = self._enrich(row)
            # What can be gone at once is no target for cancels and amends, mostly.
            stays = row["time_in_force"] in (1, 4) or row["order_type"] > OrderType.MARKET
            if self.recent[-1][1] == sequence:
                market, _ = self.recent.pop()
                if stays or r.random() < 0.1:
                    self.recent.append((market, sequence + len(before)))
            del self.recent[:-130]
            if r.random() < 0.15 and row["side"] in tuple(Side):
                return self._together(row, before, sequence)
        elif row["kind"] == Kind.AMEND_ORDER:
            row["hold"] = r.choice((-1, -1, 0, 50, 1000, 10_000))
        elif row["kind"] == Kind.CANCEL_ORDER:
            row["cancel_reason"] = r.choice((0, 600, 602, 65_537))
        return [*before, row]

    def _together(
        self, row: dict[str, Any], before: list[dict[str, Any]], sequence: int
    ) -> list[dict[str, Any]]:
        """The new order in the place of another, or with another that it cancels; mostly."""
        r = self.random
        market, target = r.choice(self.recent) if self.recent else (row["market"], 1)
        if r.random() < 0.4:
            flags = Flag.REPLACE | r.choice((0, 0, Flag.ALLOW_FAILURE))
            row["flags"] = row.get("flags", 0) | Flag.LEG
            row["market"] = market if r.random() < 0.95 else row["market"]
            lack = r.choice((0, 0, 0, 7, 70, 50 * self.middle))
            for each in before:
                each["market"] = row["market"]
            return [cancel(target, flags=flags, quantity_lots=lack, market=market), *before, row]
        lists = order_list(
            r.choice(("oco",) * 30 + ("oto", "otoco")),
            (r.choice((0, 0, 0, 1, 5)), r.choice((0, 0, 0, 1, 5))),
            market=row["market"],
            expire_ns=r.choice((0, 5000)),
        )
        lists["list_type"] = lists["list_type"] if r.random() < 0.97 else r.randrange(256)
        same = {name: row[name] for name in ("market", "account", "quantity_lots")}
        same |= {"quantity_lots": r.choice((1, 5, 20, 60)), "timestamp_ns": 1000}
        above = (row["side"] == Side.SELL) == (r.random() < 0.95)
        away = 1 + int(r.expovariate(1) * self.width / 4)
        profit = max(1, min(self.middle + (away if above else -away), 2**40 - 1))
        loss = max(1, min(self.middle - (away if above else -away) // 2, 2**40 - 1))
        side = Side(row["side"]).name
        if r.random() < 0.6:
            first = new(side, 1, profit, r.choice(("GTC", "GTC", "GTD")), flags=Flag.POST_ONLY)
        else:
            price = r.choice((None, self._price(row["side"])))
            first = waiting("take_profit", side, 1, price, profit)
            if r.random() < 0.3:
                first |= {
                    "trailing_bips": r.choice((10, 50)),
                    "trigger_ticks": r.choice((0, profit)),
                }
        price = r.choice((None, self._price(row["side"])))
        second = waiting("stop_loss", side, 1, price, loss)
        if r.random() < 0.3:
            second |= {"trailing_bips": r.choice((1, 10, 50)), "trigger_ticks": r.choice((0, loss))}
        legs = [first, second if r.random() < 0.97 else dict(first)]
        for place, leg in enumerate(legs):
            leg |= same | {"self_trade": row["self_trade"], "flags": leg.get("flags", 0) | Flag.LEG}
            self.recent.append((row["market"], sequence + 1 + place))
        if r.random() < 0.02:
            legs[1]["quantity_lots"] += 1
        return [lists, *legs] if r.random() < 0.98 else [lists, legs[0]]

    def _rules(self) -> dict[str, Any]:
        r = self.random
        return r.choice(
            [
                rules(reference_ticks=self._price(r.choice((Side.BUY, Side.SELL)))),
                rules(bands=(r.choice((0, 50, 200, 1000)), r.choice((0, 50, 200, 1000)))),
                rules(bands=(0, 0)),
                rules(amount=r.choice((0, 0, self.middle // 2, 2 * self.middle))),
                rules(amount=0),
                rules(state=r.randrange(6)),
                rules(protection_bips=r.randrange(2), account_orders=3),
                rules(reference_ticks=0),
            ]
        )

    def _enrich(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Give a new order what it can have besides; returns the terms that go before it."""
        r = self.random
        row["self_trade"] = r.choice((0, 0, 1, 2, 3, 4))
        row["maker_fee_ppm"] = r.choice((0, 0, 100, -200, 30_000, -30_000, 1))
        row["taker_fee_ppm"] = r.choice((0, 0, 100, 500, 30_000, 1))
        row["account"] = r.randrange(1, 4)
        if r.random() < 0.25:
            self._wait(row)
        if row["order_type"] == OrderType.MARKET:
            self._market(row)
        before = terms()
        if r.random() < 0.3:
            part = max(1, row["quantity_lots"] // r.choice((2, 3, 7)))
            before["display_lots"] = part if part < row["quantity_lots"] else 0
            if r.random() < 0.05:
                before["display_lots"] = r.choice((-1, 1, row["quantity_lots"]))
        if row["time_in_force"] == TimeInForce.GTC and r.random() < 0.15:
            row["time_in_force"] = TimeInForce.GTD
            row["timestamp_ns"] = 1000
            before["expire_ns"] = r.choice((1000, 1001, 5000, 5000, 5000))
        if not before["display_lots"] and not before["expire_ns"] and r.random() < 0.95:
            return []
        if r.random() < 0.02:
            before["reserved_text"] = b"x"
        return [before | {"market": row["market"], "account": row["account"]}]

    def _wait(self, row: dict[str, Any]) -> None:
        r = self.random
        stop, limit = r.random() < 0.7, row["order_type"] == OrderType.LIMIT
        row["order_type"] = (OrderType.STOP_LOSS if stop else OrderType.TAKE_PROFIT) + limit
        if not limit:
            row["time_in_force"] = TimeInForce.IOC
            row["price_ticks"] = r.choice((0, self._price(row["side"])))
            row["hold"] = r.choice((0, r.randrange(1, 60) * self.middle))
        row["flags"] = 0
        # On the side where it waits, mostly, and near enough to be reached now and then.
        up = (row["side"] == Side.BUY) == stop
        away = int(r.expovariate(1) * self.width / 6)
        row["trigger_ticks"] = max(1, min(self.middle + (away if up else -away), 2**40 - 1))
        if r.random() < 0.4:
            row["trailing_bips"] = r.choice((1, 10, 10, 50, 50, 200, 2000))
            row["trigger_ticks"] *= r.random() < 0.4

    def _market(self, row: dict[str, Any]) -> None:
        r = self.random
        row["price_ticks"] = r.choice((0, self._price(row["side"])))
        row["hold"] = r.choice((0, -1, r.randrange(1, 60) * self.middle, r.randrange(1, 60)))
        if r.random() < 0.5:
            row["time_in_force"], row["flags"] = TimeInForce.IOC, Flag.QUOTE_AMOUNT
            row["quantity_lots"] = r.randrange(1, 60 * self.middle)

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
