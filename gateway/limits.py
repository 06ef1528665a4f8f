"""How much a client may ask for: weight by address, orders by account; in all workers together.

    REQUEST_WEIGHT   of an address, in a minute; each endpoint has a weight
    ORDERS           of an account, in ten seconds and in a day

What is over a limit is answered with 429 and not done. An address that goes on asking is banned
for two minutes, four the next time on that day, and so on up to three days: 418, before anything
else of its requests is looked at. Both say in Retry-After when to come back.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from matchbox.gateway.counters import Counters, owner_of
from matchbox.gateway.errors import ApiError

MINUTE_S, TEN_S, DAY_S = 60, 10, 86_400
FIRST_BAN_S, LONGEST_BAN_S = 120, 3 * DAY_S
_MAX_ORDERS = "Too many new orders; current limit is {limit} orders per {span}."
_MAX_WEIGHT = (
    "Too much request weight used; current limit is {limit} request weight per 1 MINUTE. Please "
    "use WebSocket Streams for live updates to avoid polling the API."
)
_BANNED = "Way too much request weight used; IP banned until {until_ms}."


@dataclass(frozen=True)
class Allowed:
    """The limits; `strikes`: so many requests over the limit in a minute are a ban."""

    weight_per_minute: int = 6000
    orders_per_ten_seconds: int = 100
    orders_per_day: int = 200_000
    strikes: int = 100

    def rate_limits(self) -> list[dict[str, Any]]:
        """As exchangeInfo has them."""
        rows = (
            ("REQUEST_WEIGHT", "MINUTE", 1, self.weight_per_minute),
            ("ORDERS", "SECOND", 10, self.orders_per_ten_seconds),
            ("ORDERS", "DAY", 1, self.orders_per_day),
        )
        names = ("rateLimitType", "interval", "intervalNum", "limit")
        return [dict(zip(names, row, strict=True)) for row in rows]


class Limits:
    """Counts what is asked for, and refuses what is too much."""

    def __init__(
        self,
        counters: Counters,
        allowed: Allowed,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._counters, self.allowed, self._clock = counters, allowed, clock
        self._owners: dict[tuple[str, object], int] = {}

    def request(self, address: str, weight: int) -> int:
        """One request of an address: the weight that it has used in this minute. Raises ApiError
        (429, 418).
        """
        now = self._clock()
        until = self._counters.until(self._owner("ban", address))
        if until > now:
            raise self._banned(until, now)
        end = _end(now, MINUTE_S)
        used = self._counters.add(self._owner("weight", address), end, weight)
        if used > self.allowed.weight_per_minute:
            self._strike(address, now, end)
            limit = self.allowed.weight_per_minute
            raise _too_much(-1003, _MAX_WEIGHT.format(limit=limit), end - now) from None
        return used

    def _strike(self, address: str, now: float, end: int) -> None:
        """Over the limit. Raises ApiError if that was once too often."""
        strikes = self._counters.add(self._owner("strike", address), end)
        if strikes <= self.allowed.strikes:
            return
        before = self._counters.add(self._owner("bans", address), _end(now, DAY_S)) - 1
        until = int(now) + min(FIRST_BAN_S << min(before, 12), LONGEST_BAN_S)
        self._counters.hold(self._owner("ban", address), until)
        raise self._banned(until, now)

    @staticmethod
    def _banned(until: int, now: float) -> ApiError:
        return _too_much(-1003, _BANNED.format(until_ms=until * 1000), until - now, 418)

    def order(self, account: int) -> dict[str, str]:
        """One new order of an account: the headers that say how many. Raises ApiError (429)."""
        now = self._clock()
        counters = [
            (self._owner(f"orders-{span}", account), _end(now, span)) for span in (TEN_S, DAY_S)
        ]
        limits = (
            (self.allowed.orders_per_ten_seconds, "10 SECONDS"),
            (self.allowed.orders_per_day, "1 DAY"),
        )
        for (owner, end), (limit, words) in zip(counters, limits, strict=True):
            if self._counters.get(owner, end) >= limit:
                text = _MAX_ORDERS.format(limit=limit, span=words)
                raise _too_much(-1015, text, end - now)
        return _order_headers(*(self._counters.add(owner, end) for owner, end in counters))

    def orders_used(self, account: int) -> tuple[int, int]:
        """How many orders it has entered in these ten seconds, and today."""
        now = self._clock()
        found = [
            self._counters.get(self._owner(f"orders-{span}", account), _end(now, span))
            for span in (TEN_S, DAY_S)
        ]
        return found[0], found[1]

    def _owner(self, what: str, subject: object) -> int:
        key = (what, subject)
        owner = self._owners.get(key)
        if owner is None:
            if len(self._owners) >= 1 << 16:
                self._owners.clear()
            owner = self._owners[key] = owner_of(what, subject)
        return owner


def weight_headers(used: int) -> dict[str, str]:
    return {"X-MBX-USED-WEIGHT": str(used), "X-MBX-USED-WEIGHT-1M": str(used)}


def _order_headers(ten_seconds: int, day: int) -> dict[str, str]:
    return {"X-MBX-ORDER-COUNT-10S": str(ten_seconds), "X-MBX-ORDER-COUNT-1D": str(day)}


def _end(now: float, span: int) -> int:
    """The second in which a span is over."""
    return (int(now) // span + 1) * span


def _too_much(code: int, text: str, seconds: float, status: int = 429) -> ApiError:
    return ApiError(code, text, status, headers={"Retry-After": str(max(1, int(seconds + 0.999)))})
