"""Makes the flow that Matchbox ships, tools/data/demo: `python -m tests.reference.demo_flow`.

An invented market around 10,000 ticks: 120 orders that stand at the start, then 9,880 rows in about
a minute. Of these 40 % are new orders (some cross), 8 % immediate-or-cancel, the rest cancels,
reductions and replacements of a random live order; now and then an order that was just filled shows
another slice under the same id, as icebergs do. The prices that traders aim at walk at random.

The fills are those of the plain-Python book beside this file, which shares no code with the engine.
The same SEED gives the same flow with every version of Python (only random.random() is used).
"""

import math
import random
from pathlib import Path
from typing import Any

import numpy as np

from matchbox.core.instrument import market_record
from matchbox.shm.records import COMMAND, EventKind, Flag, Kind, OrderType, Side, TimeInForce
from matchbox.tools.flows import DEMO, FILLS, FILLS_SUFFIX, OPS, OPS_SUFFIX, write
from tests.reference.book import FIELDS, ReferenceMatcher

SEED = 20261124
ROWS, STANDING = 10_000, 120
START_NS = 1_790_000_000_000_000_000
MEAN_GAP_NS = 6_000_000
MIDDLE = 10_000.0
FIRST_ID = 7_000_001


class Maker:
    """Draws rows, and plays each on the reference book at once to know what is live."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed).random
        self.matcher = ReferenceMatcher([market_record(1, max_orders=ROWS)])
        self.rows: list[tuple[Any, ...]] = []
        self.fills: list[tuple[int, ...]] = []
        self.ids: dict[int, int] = {}  # engine's order id -> the flow's
        self.now_ns, self.middle, self.next_id = START_NS, MIDDLE, FIRST_ID

    def make(self) -> None:
        for number in range(STANDING):
            side = Side.BUY if number % 2 else Side.SELL
            away = 1 + number // 6
            price = int(MIDDLE) + (away if side == Side.SELL else -away)
            self.open("S", side, price, self.quantity())
        while len(self.rows) < ROWS:
            self.now_ns += 1 + int(-math.log(1.0 - self.random()) * MEAN_GAP_NS)
            self.middle += self.random() - 0.5
            self.step()

    def step(self) -> None:
        draw = self.random()
        live = self.live()
        if draw < 0.48 or not live:
            self.enter("M" if draw < 0.08 else "A")
            return
        order = live[int(self.random() * len(live))]
        if draw < 0.70:
            self.change("X", order, order.price, order.leaves)
        elif draw < 0.76 and order.leaves > 1:
            self.change("R", order, order.price, 1 + int(self.random() * (order.leaves - 1)))
        else:
            price = order.price if self.random() < 0.2 else self.price(order.side, 0.05)
            self.change("P", order, price, self.quantity())

    def live(self) -> list[Any]:
        return self.matcher.markets[1].orders()

    def quantity(self) -> int:
        return 1 + int(10 ** (2.5 * self.random()))

    def price(self, side: int, crossing: float) -> int:
        """Near the middle: beyond it with probability `crossing`, else up to some 40 ticks away."""
        away = -math.log(1.0 - self.random()) * 8.0
        if self.random() < crossing:
            away = -away / 2
        return round(self.middle - away if side == Side.BUY else self.middle + away)

    def enter(self, op: str) -> None:
        """A new order; then perhaps a further slice of an order that it filled."""
        side = Side.BUY if self.random() < 0.5 else Side.SELL
        price = self.price(side, 1.0 if op == "M" else 0.1)
        filled = self.open(op, side, price, self.quantity())
        if filled and self.random() < 0.2 and len(self.rows) < ROWS:
            flow_id, at = filled[-1]
            self.open(
                "A", Side.SELL if side == Side.BUY else Side.BUY, at, self.quantity(), flow_id
            )

    def open(
        self, op: str, side: int, price: int, quantity: int, flow_id: int = 0
    ) -> list[tuple[int, int]]:
        """Returns the flow's id and the price of each order that was filled completely."""
        flag = 2 if flow_id else 0
        if not flow_id:
            flow_id, self.next_id = self.next_id, self.next_id + 1
        self.ids[len(self.rows) + 1] = flow_id
        return self.play(
            (op, flow_id, side, price, quantity, flag),
            kind=Kind.NEW_ORDER,
            side=side,
            price_ticks=price,
            quantity_lots=quantity,
            order_type=OrderType.LIMIT,
            time_in_force=TimeInForce.IOC if op == "M" else TimeInForce.GTC,
        )

    def change(self, op: str, order: Any, price: int, quantity: int) -> None:
        fields: dict[str, int] = {"kind": Kind.CANCEL_ORDER}
        if op != "X":
            fields = {"kind": Kind.AMEND_ORDER, "quantity_lots": quantity, "flags": Flag.TO_OPEN}
        if op == "P":
            fields |= {"price_ticks": price, "flags": Flag.TO_OPEN | Flag.REQUEUE}
        row = (op, self.ids[order.order_id], order.side, price, quantity, 0)
        self.play(row, order_id=order.order_id, **fields)

    def play(self, row: tuple[Any, ...], **fields: int) -> list[tuple[int, int]]:
        command = np.zeros(1, COMMAND)[0]
        command["market"] = 1
        for name, value in fields.items():
            command[name] = value
        op, flow_id, side, price, quantity, flag = row
        seq = len(self.rows)
        self.rows.append(
            (seq, self.now_ns, op, flow_id, "B" if side == Side.BUY else "S", price, quantity, flag)
        )
        filled = []
        for values in self.matcher.process(command):
            event = dict(zip(FIELDS, values, strict=True))
            assert event["kind"] != EventKind.REJECTED, (row, event)
            if event["kind"] == EventKind.TRADE:
                maker = self.ids[event["maker_order_id"]]
                self.fills.append((seq, maker, event["price_ticks"], event["quantity_lots"], 1))
                if event["maker_leaves_lots"] == 0:
                    filled.append((maker, event["price_ticks"]))
        return filled


def make(seed: int = SEED) -> tuple[Any, Any]:
    """The rows (OPS) and the fills (FILLS)."""
    maker = Maker(seed)
    maker.make()
    return np.array(maker.rows, OPS), np.array(maker.fills, FILLS)


def main() -> None:
    ops, fills = make()
    DEMO.parent.mkdir(exist_ok=True)
    for suffix, rows in ((OPS_SUFFIX, ops), (FILLS_SUFFIX, fills)):
        path = Path(f"{DEMO}{suffix}")
        write(path, rows)
        print(f"{path}: {len(rows)} rows")


if __name__ == "__main__":
    main()
