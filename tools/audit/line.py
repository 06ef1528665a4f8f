"""What the exchange does itself: what is due, and what stands in line."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from matchbox.shm.reasons import Reason
from matchbox.tools.audit.money import LiveOrder

MS = 1_000_000


class Task(NamedTuple):
    """Cancel an order; or, without a reason, release the pending orders of a list."""

    number: int
    reason: int = 0


@dataclass
class Line:
    """Orders that are to be canceled, each with the reason, and lists that are to be released.

    An order stands here once, for the reason that came first, also while its cancel is under way.
    """

    waiting: deque[Task] = field(default_factory=deque)
    seen: set[int] = field(default_factory=set)  # orders that stand, or stood, here

    def add(self, orders: Iterable[LiveOrder], reason: int) -> None:
        for order in orders:
            if order.order_id not in self.seen:
                self.seen.add(order.order_id)
                self.waiting.append(Task(order.order_id, int(reason)))

    def release(self, list_id: int) -> None:
        self.waiting.append(Task(list_id))

    def next(self) -> Task:
        return self.waiting.popleft()

    def pass_over(self, has_sense: Callable[[Task], bool]) -> None:
        """Forget those at the front that have ended meanwhile."""
        while self.waiting and not has_sense(self.waiting[0]):
            self.waiting.popleft()


@dataclass
class Timers:
    """Countdowns of (session, account), and orders that are good till a time; in nanoseconds."""

    countdowns: dict[tuple[int, int], int] = field(default_factory=dict)
    expiries: dict[int, int] = field(default_factory=dict)
    _first: int | None = None  # what first() says, while nothing has changed
    _known: bool = True

    def arm(self, session: int, account: int, now: int, timeout_ms: int) -> None:
        """Set or, with 0, remove a countdown."""
        self._known = False
        self.countdowns.pop((session, account), None)
        if timeout_ms:
            self.countdowns[session, account] = now + timeout_ms * MS

    def expire(self, order_id: int, at: int) -> None:
        """An order is good till then."""
        self._known = False
        self.expiries[order_id] = at

    def ended(self, order_id: int) -> None:
        """An order has ended, which may have had a time."""
        if order_id in self.expiries:
            self._known = False
            del self.expiries[order_id]

    def first(self) -> int | None:
        """When something is due next."""
        if not self._known:
            times = [*self.countdowns.values(), *self.expiries.values()]
            self._first, self._known = min(times, default=None), True
        return self._first

    def run_out(self, now: int) -> list[tuple[int, int]]:
        """Remove what is due; (reason, account or order id) in the order in which it acts."""
        self._known = False
        found = [
            (due, 0, account, (session, account))
            for (session, account), due in self.countdowns.items()
            if due <= now
        ]
        for _, _, _, key in found:
            del self.countdowns[key]
        orders = [(due, 1, order_id) for order_id, due in self.expiries.items() if due <= now]
        for _, _, order_id in orders:
            del self.expiries[order_id]
        reasons = Reason.COUNTDOWN_ENDED, Reason.GTD_EXPIRED
        due = sorted([(when, kind, number) for when, kind, number, _ in found] + orders)
        return [(reasons[kind], number) for _, kind, number in due]
