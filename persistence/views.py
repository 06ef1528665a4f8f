"""Reading the views: any process, while they are written, without a lock.

Every answer is made of one consistent look at each day that it needs. Positions are (sequence,
part), see partition.py; a position means everything up to and including it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from matchbox.persistence import archive, partition
from matchbox.persistence.candles import CANDLE, Interval
from matchbox.persistence.partition import (
    BALANCE,
    BALANCE_KEY,
    CANDLE_KEY,
    FILL_KEY,
    LIST_KEY,
    MOVEMENT_KEY,
    ORDER,
    ORDER_KEY,
    ORDER_OF_KEY,
    POSITION,
    REPORT_KEY,
    TRADE_KEY,
    OrderStatus,
    Partition,
    State,
    Tables,
)
from matchbox.shm.errors import Forgotten, ViewsError, ViewsNotBegun
from matchbox.shm.records import LOG_RECORD, MONEY_RECORD, REPORT
from matchbox.shm.streams import LAST_PART, TRADE, part_of

Position = tuple[int, int]
LIMIT = 1000
MOST_LEGS = 3
# The end of the year 9999: no calendar goes on.
_LAST_MS = 253_402_300_799_999


@dataclass(frozen=True)
class Day:
    """What is known of a day's file."""

    day: str
    state: State
    bytes: int


class Views:
    """The views in a folder. One thread at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._open: dict[str, Partition] = {}
        self._firsts: dict[str, int] = {}

    def close(self) -> None:
        while self._open:
            partition.close(self._open.popitem()[1])

    def __enter__(self) -> "Views":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what there is

    def days(self) -> list[Day]:
        """All days, oldest first. Raises ViewsError."""
        found = []
        for day in self._days():
            with self._look(day) as tables:
                found.append(Day(day, tables.state(), partition.file_bytes(self.directory, day)))
        return found

    @property
    def position(self) -> int:
        """Sequence of the last log record all of whose consequences are there; 0: no views."""
        days = self._days()
        if not days:
            return 0
        with self._look(days[-1]) as tables:
            return tables.state().position

    @property
    def oldest(self) -> int:
        """Sequence of the first log record whose consequences are kept."""
        return archive.dropped(self.directory) + 1

    def check(self, after: Position) -> None:
        """Raises Forgotten if something after this position is not kept any more."""
        oldest = self.oldest
        if after[0] + 1 < oldest:
            raise Forgotten(
                f"that is older than what is kept: after={after[0]}-{after[1]}, "
                f"oldest={oldest - 1}-{LAST_PART}; allowed: from the oldest on",
                (oldest - 1, LAST_PART),
            )

    # -- streams

    def reports(
        self, account: int, after: Position = (0, 0), limit: int = LIMIT
    ) -> tuple[NDArray[Any], Position]:
        """The reports (REPORT) of an account after a position, up to `limit` of them, in order; and
        the position up to which these are all. Raises Forgotten.
        """
        self.check(after)
        first = _key(REPORT_KEY, (account, *_next(after)))
        found: list[bytes] = []
        reached = after
        for day in self._days_from(after[0]):
            with self._look(day) as tables:
                end = tables.state().position
                rows = _range(tables, "reports", first, _account(account), limit - len(found))
                found += [value for _, value in rows]
            if len(found) >= limit:
                break
            reached = max(reached, (end, LAST_PART))
        reports = np.frombuffer(b"".join(found), REPORT).copy()
        if len(found) >= limit:
            reached = int(reports["sequence"][-1]), int(part_of(reports[-1]))
        return reports, reached

    def reports_of(
        self, after: Mapping[int, Position], limit: int = LIMIT
    ) -> tuple[dict[int, NDArray[Any]], Position]:
        """reports() of several accounts, each after a position of its own, in one look at the
        newest day; only those that have some are in the answer. The position is that up to which
        it is all of an account that has fewer than `limit`. Raises Forgotten.
        """
        days = self._days()
        if not days:
            return {}, (0, LAST_PART)
        found: dict[int, NDArray[Any]] = {}
        with self._look(days[-1]) as tables:
            state = tables.state()
            with tables.cursor("reports") as cursor:
                for account, position in after.items():
                    if position[0] + 1 < state.first:
                        continue
                    prefix = _account(account)
                    rows: list[bytes] = []
                    there = cursor.set_range(_key(REPORT_KEY, (account, *_next(position))))
                    while there and len(rows) < limit and cursor.key().startswith(prefix):
                        rows.append(cursor.value())
                        there = cursor.next()
                    if rows:
                        found[account] = np.frombuffer(b"".join(rows), REPORT).copy()
        for account, position in after.items():
            if position[0] + 1 < state.first:  # the day has changed since
                rows_of, _ = self.reports(account, position, limit)
                rows_of = rows_of[rows_of["sequence"] <= state.position]
                if len(rows_of):
                    found[account] = rows_of
        return found, (state.position, LAST_PART)

    def trades(
        self, market: int, after: Position = (0, 0), limit: int = LIMIT
    ) -> tuple[NDArray[Any], Position]:
        """The trades (TRADE) of a market after a position, as reports() gives reports."""
        self.check(after)
        found: list[bytes] = []
        reached = after
        for day in self._days_from(after[0]):
            with self._look(day) as tables:
                end = tables.state().position
                place = self._first_trade(tables, market, lambda t: _place(t) > after)
                if place is not None:
                    start = _key(TRADE_KEY, (market, place))
                    rows = _range(tables, "trades", start, _account(market), limit - len(found))
                    found += [value for _, value in rows]
            if len(found) >= limit:
                break
            reached = max(reached, (end, LAST_PART))
        trades = np.frombuffer(b"".join(found), TRADE).copy()
        if len(found) >= limit:
            reached = _place(trades[-1])
        return trades, reached

    @staticmethod
    def _first_trade(tables: Tables, market: int, late: Callable[[Any], bool]) -> int | None:
        """Number of the first trade of a market, that day, that is `late`; later ones are, too."""
        with tables.cursor("trades") as cursor:
            bounds = _bounds(cursor, market)
            if bounds is None:
                return None
            low, high = bounds[0], bounds[1] + 1
        while low < high:
            middle = (low + high) // 2
            value = tables.get("trades", _key(TRADE_KEY, (market, middle)))
            if value is None:
                raise ViewsError(f"trade {middle} of market {market} is missing")
            if late(np.frombuffer(value, TRADE)[0]):
                high = middle
            else:
                low = middle + 1
        return low if low <= bounds[1] else None

    # -- trades by number and time

    def trades_from(self, market: int, trade_id: int, limit: int = LIMIT) -> NDArray[Any]:
        """The trades (TRADE) of a market from a number on."""
        start = _key(TRADE_KEY, (market, trade_id))
        found = self._collect("trades", start, _account(market), limit)
        return np.frombuffer(b"".join(value for _, value in found), TRADE).copy()

    def last_trades(
        self, market: int, limit: int = LIMIT, *, before: int | None = None
    ) -> NDArray[Any]:
        """The newest trades of a market, oldest first; only those with numbers below `before`."""
        end = None if before is None else _key(TRADE_KEY, (market, before))
        found = self._collect_back("trades", _account(market), limit, end)
        return np.frombuffer(b"".join(value for _, value in found), TRADE).copy()

    def first_trade_at(self, market: int, timestamp_ns: int) -> int | None:
        """Number of the first trade of a market at that time or later; None if there is none."""
        for day in self._days_since(timestamp_ns):
            with self._look(day) as tables:
                found = self._first_trade(
                    tables, market, lambda t: bool(t["timestamp_ns"] >= timestamp_ns)
                )
            if found is not None:
                return found
        return None

    def first_trade_after(self, market: int, sequence: int) -> int | None:
        """Number of the first trade of a market that a later log record caused."""
        for day in self._days_from(sequence):
            with self._look(day) as tables:
                found = self._first_trade(tables, market, lambda t: int(t["sequence"]) > sequence)
            if found is not None:
                return found
        return None

    # -- candles

    def candles(
        self, market: int, interval: Interval, first_ms: int, end_ms: int, limit: int = LIMIT
    ) -> NDArray[Any]:
        """The candles (CANDLE) of a market that begin from one time on and before another, up to
        `limit`, oldest first; where there was no trade there is none.
        """
        days = self._days_of(interval)
        if not interval.is_long:
            days = [day for day in days if _day(first_ms) <= day <= _day(end_ms)]
        start, end = (
            _key(CANDLE_KEY, (market, interval.number, max(at, 0))) for at in (first_ms, end_ms)
        )
        found: list[bytes] = []
        for day in days:
            if len(found) >= limit:
                break
            with self._look(day) as tables, tables.cursor("candles") as cursor:
                if cursor.set_range(start):
                    there = takewhile(lambda item: item[0] < end, cursor)
                    found += [value for _, value in islice(there, limit - len(found))]
        return np.frombuffer(b"".join(found), CANDLE).copy()

    def last_candles(
        self, market: int, interval: Interval, end_ms: int, limit: int = LIMIT
    ) -> NDArray[Any]:
        """The last candles of a market that begin before a time, oldest first."""
        end = _key(CANDLE_KEY, (market, interval.number, max(end_ms, 0)))
        found: list[bytes] = []
        for day in reversed(self._days_of(interval)):
            if len(found) >= limit:
                break
            if interval.is_long or day <= _day(end_ms):
                with self._look(day) as tables:
                    rows = _back(tables, "candles", end[:5], limit - len(found), end)
                found = [value for _, value in rows] + found
        return np.frombuffer(b"".join(found), CANDLE).copy()

    def _days_of(self, interval: Interval) -> list[str]:
        """The days to look for candles of: the last one has all the long ones."""
        days = self._days()
        return days[-1:] if interval.is_long else days

    def fills(
        self,
        account: int,
        market: int,
        trade_id: int = 0,
        limit: int = LIMIT,
        *,
        as_taker: bool = False,
    ) -> NDArray[Any]:
        """The fills of an account in a market, from a trade's number on: TRADE reports; `as_taker`:
        from the taker's fill of that trade on.
        """
        return self._fills_of(
            account,
            self._collect(
                "fills",
                _key(FILL_KEY, (account, market, trade_id, int(as_taker))),
                _key(ORDER_OF_KEY, (account, market, 0))[:8],
                limit,
            ),
        )

    def last_fills(
        self, account: int, market: int, limit: int = LIMIT, *, before: int | None = None
    ) -> NDArray[Any]:
        """The newest fills of an account in a market, oldest first; only those of trades with
        numbers below `before`.
        """
        prefix = _key(ORDER_OF_KEY, (account, market, 0))[:8]
        end = None if before is None else _key(FILL_KEY, (account, market, before, 0))
        return self._fills_of(account, self._collect_back("fills", prefix, limit, end))

    def _fills_of(self, account: int, found: list[tuple[bytes, bytes]]) -> NDArray[Any]:
        places = np.frombuffer(b"".join(value for _, value in found), POSITION)
        out = []
        for place in places:
            key = _key(REPORT_KEY, (account, *place.tolist()))
            out.append(self._find("reports", key, int(place["sequence"])))
        return np.frombuffer(b"".join(value for value in out if value), REPORT).copy()

    # -- orders

    def order(self, order_id: int) -> Any:
        """The newest row (ORDER) of an order, None if there is none."""
        value = self._newest("orders", _key(ORDER_KEY, (order_id,)))
        return None if value is None else np.frombuffer(value, ORDER)[0]

    def order_of_client(self, account: int, client_order_id: str | bytes) -> Any:
        """The newest order (ORDER) of an account with this client order id, or None."""
        name = client_order_id.encode() if isinstance(client_order_id, str) else client_order_id
        value = self._newest("clients", _account(account) + name)
        return None if value is None else self.order(int.from_bytes(value, "big"))

    def orders(
        self, account: int, market: int, order_id: int = 0, limit: int = LIMIT
    ) -> NDArray[Any]:
        """The orders (ORDER) of an account in a market, from an id on, by id."""
        prefix = _key(ORDER_OF_KEY, (account, market, 0))[:8]
        start = _key(ORDER_OF_KEY, (account, market, order_id))
        found: set[bytes] = set()
        for day in self._days():
            with self._look(day) as tables:
                found |= {key for key, _ in _range(tables, "orders_of", start, prefix, limit)}
        return self._orders_by(sorted(found)[:limit])

    def orders_with(self, order_ids: NDArray[np.uint64]) -> dict[int, Any]:
        """The rows (ORDER) of some orders, by id; those that are there."""
        names = partition.keys_of(ORDER_KEY, order_id=np.unique(order_ids)).view("V8").tolist()
        found = self._rows_of(names)
        return {int.from_bytes(name, "big"): row for name, row in found.items()}

    def first_order_at(self, timestamp_ns: int) -> int | None:
        """An id that every order since that time has or exceeds, and no order before it; None if
        there is no order since. What was pending counts by when it got the id that it has.
        """
        for day in self._days_since(timestamp_ns):
            with self._look(day) as tables, tables.cursor("orders") as cursor:
                state = tables.state()
                low, high = state.first, state.position + 1
                while low < high:
                    middle = (low + high) // 2
                    found = _order_made(tables, cursor, middle)
                    if found is None or found[1] >= timestamp_ns:
                        high = middle
                    else:
                        low = found[0] + 1
                if _order_made(tables, cursor, low) is not None:
                    return low
        return None

    def last_orders(
        self, account: int, market: int, limit: int = LIMIT, *, before: int | None = None
    ) -> NDArray[Any]:
        """The newest orders of an account in a market, by id; only those below `before`."""
        prefix = _key(ORDER_OF_KEY, (account, market, 0))[:8]
        end = None if before is None else _key(ORDER_OF_KEY, (account, market, before))
        found: set[bytes] = set()
        for day in reversed(self._days()):
            with self._look(day) as tables:
                found |= {key for key, _ in _back(tables, "orders_of", prefix, limit, end)}
                first = _key(ORDER_OF_KEY, (account, market, tables.state().first))
            # A day has those that it began with, too: others, newer than these, may have ended.
            if len(found) >= limit and sorted(found)[-limit] >= first:
                break
        return self._orders_by(sorted(found)[-limit:])

    def open_orders(self, account: int, market: int = 0) -> NDArray[Any]:
        """The open orders (ORDER) of an account, in one market or in all, by market and id."""
        prefix = _account(account) + (_account(market) if market else b"")
        days = self._days()
        if not days:
            return np.empty(0, ORDER)
        with self._look(days[-1]) as tables:
            keys = [key for key, _ in _range(tables, "open", prefix, prefix, 1 << 31)]
            ids = np.frombuffer(b"".join(keys), ORDER_OF_KEY)["order_id"]
            wanted = partition.keys_of(ORDER_KEY, order_id=ids)
            rows = tables.rows("orders", wanted, ORDER)
        return np.array([rows[key] for key in wanted.view("V8").tolist()], ORDER)

    def open_orders_at(self, account: int) -> tuple[int, NDArray[Any]]:
        """The open orders of an account, and the position at which these are all."""
        while True:
            before = self.position
            rows = self.open_orders(account)
            if self.position == before:
                return before, rows

    def orders_by_id(self, order_ids: Sequence[int]) -> dict[int, Any]:
        """The newest rows (ORDER) of those orders that there are."""
        found: dict[int, Any] = {}
        for day in reversed(self._days()):
            missing = [each for each in order_ids if each not in found]
            if not missing:
                break
            with self._look(day) as tables:
                keys = partition.keys_of(ORDER_KEY, order_id=missing)
                rows = tables.rows("orders", keys, ORDER)
            found |= {int(row["order_id"]): row for row in rows.values()}
        return found

    def _orders_by(self, keys: list[bytes]) -> NDArray[Any]:
        """Rows of keys of `orders_of`; each is as the newest day that has it says."""
        wanted = [key[8:] for key in keys]
        found = self._rows_of(wanted)
        return np.array([found[key] for key in wanted], ORDER)

    def _rows_of(self, wanted: list[bytes]) -> dict[bytes, Any]:
        """Rows of keys of `orders`."""
        found: dict[bytes, Any] = {}
        for day in reversed(self._days()):
            missing = [key for key in wanted if key not in found]
            if not missing:
                break
            with self._look(day) as tables:
                found |= tables.rows("orders", np.frombuffer(b"".join(missing), ORDER_KEY), ORDER)
        return found

    # -- lists of orders

    def list_of_client(self, account: int, client_list_id: str) -> int | None:
        """The newest list of an account with this name."""
        key = _account(account) + b"\0" + client_list_id.encode()
        found = []
        # An older one may have been carried on from the day of a newer one.
        for day in self._days():
            with self._look(day) as tables:
                found.append(int.from_bytes(tables.get("clients", key) or b"", "big"))
        return max(found, default=0) or None

    def legs(self, list_id: int) -> list[Any]:
        """The rows (ORDER) of a list's orders, in its order; of one that was pending, as it is
        since.
        """
        ids = np.arange(list_id + 1, list_id + 1 + MOST_LEGS, dtype=np.uint64)
        rows = self.orders_with(ids)
        found = [rows[number] for number in sorted(rows) if rows[number]["list_id"] == list_id]
        released = [row["other_id"] for row in found if row["status"] == OrderStatus.RELEASED]
        later = self.orders_with(np.array(released, np.uint64))
        return [
            later[int(row["other_id"])] if row["status"] == OrderStatus.RELEASED else row
            for row in found
        ]

    def lists(self, account: int, list_id: int = 0, limit: int = LIMIT) -> list[tuple[int, int]]:
        """Ids and markets of the lists of an account, from an id on."""
        start = _key(LIST_KEY, (account, list_id))
        found: dict[bytes, bytes] = {}
        for day in self._days():
            with self._look(day) as tables:
                found |= dict(_range(tables, "lists", start, _account(account), limit))
        return [_list(item) for item in sorted(found.items())[:limit]]

    def last_lists(
        self, account: int, limit: int = LIMIT, *, before: int | None = None
    ) -> list[tuple[int, int]]:
        """Ids and markets of the newest lists of an account, by id; only those below `before`."""
        end = None if before is None else _key(LIST_KEY, (account, before))
        found: dict[bytes, bytes] = {}
        for day in reversed(self._days()):
            with self._look(day) as tables:
                found |= dict(_back(tables, "lists", _account(account), limit, end))
                first = _key(LIST_KEY, (account, tables.state().first))
            # As in last_orders().
            if len(found) >= limit and sorted(found)[-limit] >= first:
                break
        return [_list(item) for item in sorted(found.items())[-limit:]]

    # -- money

    def balances(self, account: int) -> dict[int, tuple[int, int]]:
        """Free and held of each asset, in units, as far settled as State.settled says."""
        days = self._days()
        if not days:
            return {}
        with self._look(days[-1]) as tables:
            rows = _range(tables, "balances", _account(account), _account(account), 1 << 31)
        keys = np.frombuffer(b"".join(key for key, _ in rows), BALANCE_KEY)
        values = np.frombuffer(b"".join(value for _, value in rows), BALANCE)
        return {
            int(key["asset"]): (int(value["free"]), int(value["held"]))
            for key, value in zip(keys, values, strict=True)
        }

    def all_balances(self, day: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Keys (BALANCE_KEY) and values (BALANCE) of everybody's, at the end of a day, or now."""
        with self._look(day) as tables, tables.cursor("balances") as cursor:
            rows = list(cursor)
        return (
            np.frombuffer(b"".join(key for key, _ in rows), BALANCE_KEY),
            np.frombuffer(b"".join(value for _, value in rows), BALANCE),
        )

    def movements(self, account: int, after: int = 0, limit: int = LIMIT) -> NDArray[Any]:
        """What was paid in and out of an account, and moved (MONEY_RECORD), after a sequence."""
        start = _key(MOVEMENT_KEY, (account, after + 1))
        found = self._collect("movements", start, _account(account), limit)
        return np.frombuffer(b"".join(value for _, value in found), MONEY_RECORD).copy()

    def last_movements(
        self, account: int, limit: int = LIMIT, *, before: int | None = None
    ) -> NDArray[Any]:
        """The newest of these, oldest first; only those with sequences below `before`."""
        end = None if before is None else _key(MOVEMENT_KEY, (account, before))
        found = self._collect_back("movements", _account(account), limit, end)
        return np.frombuffer(b"".join(value for _, value in found), MONEY_RECORD).copy()

    def definitions(self) -> NDArray[Any]:
        """Those of assets and markets (LOG_RECORD), and their removals, all that there were."""
        days = self._days()
        if not days:
            return np.empty(0, LOG_RECORD)
        with self._look(days[-1]) as tables, tables.cursor("definitions") as cursor:
            return np.frombuffer(b"".join(value for _, value in cursor), LOG_RECORD).copy()

    def rows(self, day: str, table: str) -> Iterator[tuple[bytes, bytes]]:
        """All of a table of a day."""
        with self._look(day) as tables, tables.cursor(table) as cursor:
            yield from cursor

    # -- days

    def _days(self) -> list[str]:
        there = partition.days(self.directory)
        for day in [day for day in self._open if day not in there]:
            partition.close(self._open.pop(day))
            self._firsts.pop(day, None)
        if there and there[-1] not in self._firsts:
            try:
                with self._look(there[-1]) as tables:
                    self._firsts[there[-1]] = tables.state().first
            except ViewsNotBegun:
                return there[:-1]
        return there

    def _days_from(self, sequence: int) -> list[str]:
        """The days that have something after a record, oldest first."""
        days = self._days()
        for number in range(len(days) - 1, -1, -1):
            day = days[number]
            if day not in self._firsts:
                with self._look(day) as tables:
                    self._firsts[day] = tables.state().first
            if self._firsts[day] <= sequence:
                return days[number:]
        return days

    def _days_since(self, timestamp_ns: int) -> list[str]:
        """The days that may have something at that time or later, oldest first."""
        first = _day(timestamp_ns // 1_000_000)
        return [day for day in self._days() if day >= first]

    @contextmanager
    def _look(self, day: str) -> Iterator[Tables]:
        """A look at a day's tables. Raises ViewsError."""
        opened = self._open.get(day)
        if opened is not None and not partition.is_there(opened):
            partition.close(self._open.pop(day))
            self._firsts.pop(day, None)
            opened = None
        if opened is None:
            opened = self._open[day] = partition.open_day(self.directory, day)
        with opened.begin() as tables:
            yield tables

    def _collect(
        self, table: str, start: bytes, prefix: bytes, limit: int
    ) -> list[tuple[bytes, bytes]]:
        """Rows from a key on, of tables whose days follow each other."""
        found: list[tuple[bytes, bytes]] = []
        for day in self._days():
            with self._look(day) as tables:
                found += _range(tables, table, start, prefix, limit - len(found))
            if len(found) >= limit:
                break
        return found

    def _collect_back(
        self, table: str, prefix: bytes, limit: int, end: bytes | None = None
    ) -> list[tuple[bytes, bytes]]:
        """The last rows, or the last before a key, in their order."""
        found: list[tuple[bytes, bytes]] = []
        for day in reversed(self._days()):
            with self._look(day) as tables:
                found = _back(tables, table, prefix, limit - len(found), end) + found
            if len(found) >= limit:
                break
        return found

    def _newest(self, table: str, key: bytes) -> bytes | None:
        for day in reversed(self._days()):
            with self._look(day) as tables:
                value = tables.get(table, key)
            if value is not None:
                return value
        return None

    def _find(self, table: str, key: bytes, sequence: int) -> bytes | None:
        """A row that the log record `sequence` has caused."""
        for day in self._days_from(sequence)[:1]:
            with self._look(day) as tables:
                return tables.get(table, key)
        return None


def _account(number: int) -> bytes:
    """The first part of many keys; a market's number, too."""
    return number.to_bytes(4, "big")


def _list(item: tuple[bytes, bytes]) -> tuple[int, int]:
    """Id and market."""
    return int.from_bytes(item[0][4:], "big"), int.from_bytes(item[1], "big")


def _day(time_ms: int) -> str:
    return partition.day_of(min(max(time_ms, 0), _LAST_MS) * 1_000_000)


def _key(dtype: np.dtype[Any], fields: tuple[int, ...]) -> bytes:
    return np.array(fields, dtype).tobytes()


def _next(position: Position) -> Position:
    return (position[0] + 1, 0) if position[1] == LAST_PART else (position[0], position[1] + 1)


def _place(trade: Any) -> Position:
    return int(trade["sequence"]), int(trade["part"])


def _range(
    tables: Tables, table: str, start: bytes, prefix: bytes, limit: int
) -> list[tuple[bytes, bytes]]:
    """Up to `limit` rows from `start` on whose keys begin with `prefix`."""
    found: list[tuple[bytes, bytes]] = []
    with tables.cursor(table) as cursor:
        if not cursor.set_range(start):
            return found
        for key, value in cursor:
            if not key.startswith(prefix) or len(found) >= limit:
                break
            found.append((key, value))
    return found


def _back(
    tables: Tables, table: str, prefix: bytes, limit: int, end: bytes | None = None
) -> list[tuple[bytes, bytes]]:
    """The last `limit` rows whose keys begin with `prefix`, or those before `end`, in order."""
    found: list[tuple[bytes, bytes]] = []
    with tables.cursor(table) as cursor:
        after = (int.from_bytes(prefix, "big") + 1).to_bytes(len(prefix) + 1, "big")[1:]
        if end is not None:
            after = end
        there = cursor.set_range(after) if any(after) else False
        there = cursor.prev() if there else cursor.last()
        while there and len(found) < limit and cursor.key().startswith(prefix):
            found.append(cursor.item())
            there = cursor.prev()
    return found[::-1]


def _order_made(
    tables: Tables, cursor: "lmdb.Cursor[bytes]", order_id: int
) -> tuple[int, int] | None:
    """Id and time of the first order from an id on, under a cursor of `orders`."""
    there = cursor.set_range(order_id.to_bytes(8, "big"))
    while there:
        row = np.frombuffer(cursor.value(), ORDER)[0]
        if not row["other_id"] or row["status"] == OrderStatus.RELEASED:
            return int(row["order_id"]), int(row["created_ns"])
        # One that was pending: it has the time at which it was sent, and that of its id is the end
        # of what it was before.
        before = tables.get("orders", int(row["other_id"]).to_bytes(8, "big"))
        if before is not None:
            return int(row["order_id"]), int(np.frombuffer(before, ORDER)[0]["updated_ns"])
        there = cursor.next()
    return None


def _bounds(cursor: Any, market: int) -> tuple[int, int] | None:
    """The first and the last number of a market's trades under a cursor."""
    prefix = _account(market)
    if not cursor.set_range(prefix) or not cursor.key().startswith(prefix):
        return None
    first = int.from_bytes(cursor.key()[4:], "big")
    there = cursor.set_range(_account(market + 1)) if market < LAST_PART else False
    there = cursor.prev() if there else cursor.last()
    return first, int.from_bytes(cursor.key()[4:], "big")
