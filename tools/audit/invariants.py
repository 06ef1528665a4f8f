"""What must hold whatever the log says: money and quantities are conserved, no book is crossed."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from matchbox.shm.records import EventKind, Side
from matchbox.tools.audit.books import Book
from matchbox.tools.audit.records import Event

if TYPE_CHECKING:
    from matchbox.tools.audit.exchange import Auditor


@dataclass
class Tally:
    """What became of an order's quantity."""

    original: int
    by_quote: bool = False
    open: int = 0
    filled: int = 0
    ended: int = 0
    prevented: int = 0

    def sound(self) -> bool:
        # Of an order by quote amount, quantity is an amount, and what is filled is lots.
        counted = self.filled + self.open + self.ended + self.prevented
        return self.by_quote or counted == self.original


@dataclass
class Tallies:
    """Every order's quantity, followed from event to event: any source of events will do."""

    orders: dict[int, Tally] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def count(self, events: list[Event]) -> None:
        for event in events:
            for order_id in self._count(event):
                tally = self.orders[order_id]
                if not tally.sound() and len(self.wrong) < 100:
                    self.wrong.append(
                        f"order {order_id} at ({event.sequence}, {event.index}): {tally}"
                    )
                if tally.open == 0:
                    del self.orders[order_id]

    def _count(self, event: Event) -> tuple[int, ...]:
        """The orders concerned, after their tallies have moved."""
        kind = event.kind
        if kind == EventKind.ACCEPTED:
            self.orders[event.order_id] = Tally(event.quantity_lots, open=event.leaves_lots)
        if event.order_id not in self.orders or kind == EventKind.REJECTED:
            return ()
        tally = self.orders[event.order_id]
        if kind in (EventKind.TRADE, EventKind.PREVENTED):
            maker = self.orders[event.maker_order_id]
            if tally.open - event.leaves_lots != event.quantity_lots:
                tally.by_quote = True
            tally.open, tally.filled = event.leaves_lots, event.cumulative_lots
            maker.open, maker.filled = event.maker_leaves_lots, event.maker_cumulative_lots
            if kind == EventKind.PREVENTED:
                tally.prevented += event.quantity_lots
                maker.prevented += event.quantity_lots
            return event.order_id, event.maker_order_id
        if kind == EventKind.AMENDED:
            tally.original = event.quantity_lots + tally.prevented
        if kind in (EventKind.CANCELED, EventKind.EXPIRED):
            tally.ended += event.quantity_lots
        tally.open, tally.filled = event.leaves_lots, event.cumulative_lots
        return (event.order_id,)


def broken(a: "Auditor") -> list[str]:
    """What does not hold of the auditor's state, as texts."""
    found = [*_money(a), *_holds(a), *_pairs(a), *a.tallies.wrong]
    for book in a.books.values():
        found += book_broken(book)
    return found


def _money(a: "Auditor") -> list[str]:
    """Deposits - withdrawals = free + held, of each asset; nothing is negative."""
    found = []
    sums: dict[int, int] = {}
    for (account, asset), balance in a.ledger.balances.items():
        sums[asset] = sums.get(asset, 0) + balance.free + balance.held
        if balance.free < 0 or balance.held < 0:
            found.append(f"account {account}, asset {asset}: {balance}")
    for asset in a.definitions.assets:
        total, there = a.ledger.total(asset), sums.get(asset, 0)
        if total != there:
            found.append(f"asset {asset}: {total} came in, and {there} is there")
    return found


def held_for(a: "Auditor") -> tuple[dict[tuple[int, int], int], dict[tuple[int, int], int]]:
    """What is held of (account, asset), for orders and for withdrawals."""
    orders: dict[tuple[int, int], int] = {}
    withdrawals: dict[tuple[int, int], int] = {}
    for order in a.ledger.orders.values():
        key = order.account, order.asset
        orders[key] = orders.get(key, 0) + order.hold
    for waiting in a.ledger.withdrawals.values():
        key = waiting.account, waiting.asset
        withdrawals[key] = withdrawals.get(key, 0) + waiting.amount
    return orders, withdrawals


def _holds(a: "Auditor") -> list[str]:
    """What is held is held for something, and is what that needs."""
    found = []
    orders, withdrawals = held_for(a)
    for key, balance in a.ledger.balances.items():
        wanted = orders.get(key, 0) + withdrawals.get(key, 0)
        if balance.held != wanted:
            found.append(f"account, asset {key}: held {balance.held}, for {wanted}")
    for order in a.ledger.orders.values():
        if order.budget:  # what is left of it is what it needs
            continue
        needs = order.needs()
        if order.hold > needs or (order.hold < needs and not order.doomed):
            found.append(f"order {order.order_id}: holds {order.hold}, and needs {needs}")
    return found


def _pairs(a: "Auditor") -> list[str]:
    """Two orders of a pair hold together the larger of what they would hold each."""
    found = []
    for first in a.ledger.orders.values():
        second = first.pair
        if second is None or first.second or first.doomed or second.doomed:
            continue
        extra = sum(amend.extra for o in (first, second) for amend in o.amends.values())
        each = [order.value(order.price, order.leaves) for order in (first, second)]
        if first.hold + second.hold != max(each) + extra:
            found.append(
                f"pair {first.order_id}, {second.order_id}: holds {first.hold} + {second.hold}, "
                f"and needs the larger of {each}, and {extra}"
            )
    return found


def book_broken(book: Book) -> list[str]:
    """Not crossed; each queue in the order of arrival, each order with something shown."""
    found = []
    bids, asks = book.prices(Side.BUY), book.prices(Side.SELL)
    if bids and asks and bids[0] >= asks[0]:
        found.append(f"market {book.market.number} is crossed: bid {bids[0]}, ask {asks[0]}")
    for side, levels in book.levels.items():
        if sorted(levels) != book.ticks[side]:
            found.append(f"market {book.market.number}: {book.ticks[side]} for {sorted(levels)}")
        for price, queue in levels.items():
            arrivals = [order.arrival for order in queue]
            if arrivals != sorted(arrivals) or not queue:
                found.append(f"market {book.market.number}, price {price}: {queue}")
            found += [
                f"order {o.order_id} shows {o.shown} of {o.leaves}"
                for o in queue
                if not 0 < o.shown <= o.leaves or (o.display and o.shown > o.display)
            ]
    return found
