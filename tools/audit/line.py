"""What the exchange cancels itself: what is due, and what stands in line."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from matchbox.shm.reasons import Reason
from matchbox.tools.audit.money import LiveOrder

MS = 1_000_000


@dataclass
class Line:
    """Orders that are to be canceled, in their order, each with the reason.

    An order stands here once, for the reason that came first, also while its cancel is under way.
    """

    waiting: deque[tuple[int, int]] = field(default_factory=deque)
    seen: set[int] = field(default_factory=set)  # orders that stand, or stood, here

    def add(self, orders: Iterable[LiveOrder], reason: int) -> None:
        for order in orders:
            if order.order_id not in self.seen:
                self.seen.add(order.order_id)
                self.waiting.append((order.order_id, int(reason)))

    def next(self) -> tuple[int, int]:
        """Take the first: order and reason."""
        return self.waiting.popleft()

    def pass_over(self, live: Callable[[int], bool]) -> None:
        """Forget those at the front that have ended."""
        while self.waiting and not live(self.waiting[0][0]):
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
