"""The archive: what writes the views, day by day (partition.py), as the log goes on.

    Unit        what came of some adjacent log records, ready to be written
    Archive     the one writer of a folder of views

Units come in the order of the log, without gap, each within one day. One is written in one
transaction, with the position that it reaches: so the tables of a day always agree with each other
and with its State, whoever is killed when. Writing a unit again gives the same rows.

What a dead run left is believed as far as it can be: from the oldest day on that is there, as long
as days follow each other without gap, are sealed (but the last) and of this journal. What comes
after the first that is not so is removed, and is made again from the journal.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from matchbox.persistence import candles, files, order_rows, partition
from matchbox.persistence.candles import CANDLE, INTERVALS
from matchbox.persistence.order_rows import CONTEXT
from matchbox.persistence.partition import (
    CANDLE_KEY,
    FILL_KEY,
    LIST_KEY,
    LIVING,
    MOVEMENT_KEY,
    ORDER,
    ORDER_KEY,
    ORDER_OF_KEY,
    POSITION,
    REPORT_KEY,
    TRADE_KEY,
    Partition,
    State,
    Tables,
    items,
    keys_of,
)
from matchbox.shm.errors import ViewsError
from matchbox.shm.records import LOG_RECORD, MONEY_RECORD, EventKind, Kind
from matchbox.shm.streams import TRADE, part_of

MONEY_KINDS = (
    Kind.DEPOSIT,
    Kind.TRANSFER,
    Kind.REQUEST_WITHDRAWAL,
    Kind.CANCEL_WITHDRAWAL,
    Kind.SETTLE_WITHDRAWAL,
)
_DEFINITIONS = (Kind.ADD_ASSET, Kind.ADD_MARKET, Kind.REMOVE_MARKET, Kind.REMOVE_ASSET)
_KEPT = "kept.json"
_CARRIED_AT_ONCE = 4096


Balances = tuple[NDArray[Any], NDArray[Any]]  # keys (BALANCE_KEY) and values (BALANCE)


@dataclass(frozen=True)
class Inherited:
    """What views that begin in the middle of a log have from the start.

    definitions    LOG_RECORD, those of assets and markets
    orders         ORDER, of the open ones
    """

    definitions: NDArray[Any]
    orders: NDArray[Any]
    balances: Balances


@dataclass(frozen=True)
class Unit:
    """What came of `records`.

    records    LOG_RECORD, all of one day
    reports    REPORT, every one that they caused, in their order
    balances   those that may have changed
    settled    what these are settled to
    """

    records: NDArray[Any]
    reports: NDArray[Any]
    balances: Balances
    settled: int


def record_hash(record: NDArray[Any]) -> str:
    """Of one log record."""
    return hashlib.sha256(record.tobytes()).hexdigest()


class Archive:
    """The one writer of the views in a folder. One thread."""

    def __init__(
        self,
        directory: Path,
        record_at: Callable[[int], NDArray[Any] | None],
        *,
        say: Callable[[str], None] = print,
    ) -> None:
        """Open the views in `directory`, or make the folder.

        `record_at` gives the log record of a sequence, None if the journal has none. What of the
        views cannot be believed is removed, which is said. Raises ViewsError if another process
        writes there.
        """
        self.directory, self._say = directory, say
        self._lock = _lock(directory)
        self._today: Partition | None = None
        self._context: NDArray[Any] = np.empty(0, LOG_RECORD)
        try:
            self._believe(record_at)
        except BaseException:
            self.close()
            raise

    def _believe(self, record_at: Callable[[int], NDArray[Any] | None]) -> None:
        """Open the last day of those that can be believed; remove the others."""
        there = partition.days(self.directory)
        self.position, problem, good = dropped(self.directory), "", 0
        self._state: State | None = None
        for number, day in enumerate(there):
            last = number == len(there) - 1
            problem, state = self._problem(day, last=last, record_at=record_at)
            if state is not None:
                self._state, self.position, good = state, state.position, good + 1
            if problem:
                break
        if good:
            self._today = partition.open_day(self.directory, there[good - 1], writable=True)
        for day in there[good:]:
            partition.remove(self.directory, day)
        if len(there) > good:
            self._say(
                f"The views from {there[good]} on are made again out of the journal, from record "
                f"{self.position + 1:,} on: {problem}."
            )
        record = record_at(self.position) if self.position else None
        self._context = np.empty(0, LOG_RECORD) if record is None else record

    def _problem(
        self, day: str, *, last: bool, record_at: Callable[[int], NDArray[Any] | None]
    ) -> tuple[str, State | None]:
        """Why a day cannot be believed, and its state if it can."""
        try:
            opened = partition.open_day(self.directory, day, writable=True)
        except ViewsError as error:
            return str(error), None
        try:
            state = opened.state()
            sound = partition.is_sound(opened)
        except ViewsError as error:
            return str(error), None
        finally:
            partition.close(opened)
        if state.first != self.position + 1:
            return f"{day} begins with record {state.first:,}", None
        if not sound:
            return f"{day} was not on the disk when the machine stopped", None
        record = record_at(state.position)
        if record is not None and record_hash(record) != state.record:
            return f"{day} is of another journal", None
        if record is None and last:
            return f"the journal has no record {state.position:,}", None
        return "" if last or state.sealed else f"{day} is not complete", state

    def close(self) -> None:
        """What was written stays, also if the machine stops after this."""
        if self._today is not None:
            with contextlib.suppress(lmdb.Error, ViewsError):
                self._today.env.sync(True)
            partition.close(self._today)
            self._today = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def empty(self) -> bool:
        return self._today is None

    # -- writing

    def begin(self, position: int, day: str, inherited: Inherited) -> None:
        """Begin empty views after a log record, with what is there then. Raises ViewsError."""
        if self._today is not None:
            raise ViewsError(f"the views are not empty: position={self.position}")
        mark_dropped(self.directory, position)
        self.position = position
        self._open(day)
        assert self._today is not None
        with self._today.begin(write=True) as tables:
            _put_orders(tables, inherited.orders, np.ones(len(inherited.orders), bool))
            _put_balances(tables, inherited.balances)
            _put_definitions(tables, inherited.definitions)
            tables.put_state(self._new_state())

    def add(self, unit: Unit) -> None:
        """Write what came of the next records. Raises ViewsError; nothing of it is written then."""
        first = int(unit.records["sequence"][0])
        if first != self.position + 1:
            raise ViewsError(f"record {first} does not follow {self.position}")
        day = partition.day_of(int(unit.records["timestamp_ns"][0]))
        if self._today is None or self._today.path.stem != day:
            self._turn(day)
        assert self._today is not None and self._state is not None
        with self._today.begin(write=True) as tables:
            self._write(tables, unit)
            self._state = replace(
                self._state,
                position=int(unit.records["sequence"][-1]),
                record=record_hash(unit.records[-1:]),
                settled=unit.settled,
            )
            tables.put_state(self._state)
        self.position = self._state.position
        self._context = np.concatenate([self._context, unit.records])[-CONTEXT:]

    def _new_state(self) -> State:
        self._state = State(self.position + 1, self.position, boot=partition.boot())
        return self._state

    def _open(self, day: str) -> None:
        self._today = partition.open_day(self.directory, day, writable=True)
        files.flush(self.directory)

    def _turn(self, day: str) -> None:
        """Another day: seal the one before, and give it what goes on."""
        before = self._today
        if before is not None:
            before.seal()
        # What another run began of it, and did not come to write a unit of.
        partition.remove(self.directory, day)
        self._open(day)
        assert self._today is not None
        with self._today.begin(write=True) as tables:
            if before is not None:
                with before.begin() as old:
                    _carry(old, tables)
            tables.put_state(self._new_state())
        if before is not None:
            partition.close(before)

    def _write(self, tables: Tables, unit: Unit) -> None:
        reports = unit.reports[unit.reports["account"] != 0]
        parts = part_of(reports)
        keys = keys_of(
            REPORT_KEY, account=reports["account"], sequence=reports["sequence"], part=parts
        )
        # Neighbours in the table are written one after the other.
        order = np.argsort(reports["account"], kind="stable")
        tables.put("reports", items(keys[order], reports[order]))
        fills = reports["kind"] == EventKind.TRADE
        trades = _put_fills(tables, reports[fills], parts[fills])
        _put_candles(tables, trades, unit.records)
        self._put_order_rows(tables, unit)
        _put_balances(tables, unit.balances)
        _put_records(tables, unit.records)

    def _put_order_rows(self, tables: Tables, unit: Unit) -> None:
        groups = order_rows.group(unit.reports)
        known = tables.rows("orders", groups.wanted, ORDER)
        records = np.concatenate([self._context, unit.records])
        rows = order_rows.follow(groups, known, records)
        created = np.zeros(len(rows), bool)
        created[: len(groups.created)] = groups.created
        _put_orders(tables, rows, created)


def _put_fills(tables: Tables, fills: NDArray[Any], parts: NDArray[Any]) -> NDArray[Any]:
    """Of each trade two reports, the maker's and the taker's, one after the other; the trades."""
    taker = parts & 1
    keys = keys_of(
        FILL_KEY,
        account=fills["account"],
        market=fills["market"],
        trade_id=fills["trade_id"],
        taker=taker,
    )
    positions = keys_of(POSITION, sequence=fills["sequence"], part=parts)
    tables.put("fills", items(keys, positions))
    takers, makers = fills[taker == 1], fills[taker == 0]
    trades = np.zeros(len(takers), TRADE)
    for name in (
        "sequence",
        "timestamp_ns",
        "trade_id",
        "price_ticks",
        "quantity_lots",
        "order_id",
        "fee",
        "market",
        "account",
        "side",
    ):
        trades[name] = takers[name]
    trades["part"] = parts[taker == 1]
    for name, source in (
        ("maker_order_id", "order_id"),
        ("maker_fee", "fee"),
        ("maker_account", "account"),
    ):
        trades[name] = makers[source]
    keys = keys_of(TRADE_KEY, market=trades["market"], trade_id=trades["trade_id"])
    tables.put("trades", items(keys, trades))
    return trades


def _put_candles(tables: Tables, trades: NDArray[Any], records: NDArray[Any]) -> None:
    """Add trades to their candles; those of a market that had a new one's number go."""
    added = records[(records["kind"] == Kind.ADD_MARKET) & (records["reject"] == 0)]
    for market in added:
        before = trades["sequence"] < market["sequence"]
        _add_to_candles(tables, trades[before])
        trades = trades[~before]
        _remove_candles(tables, int(market["market"]))
    _add_to_candles(tables, trades)


def _add_to_candles(tables: Tables, trades: NDArray[Any]) -> None:
    if not len(trades):
        return
    series, fresh = candles.of_trades(trades)
    known = tables.rows("candles", _candle_keys(series, fresh), CANDLE)
    if known:
        there = np.frombuffer(b"".join(known), CANDLE_KEY)
        markets = there["market"].astype(np.uint64)
        series = np.concatenate([markets << np.uint64(8) | there["interval"], series])
        fresh = np.concatenate([np.array(list(known.values()), CANDLE), fresh])
        # What is known goes before what is added to it.
        order = np.lexsort((fresh["open_ms"], series))
        series, fresh = candles.fold(series[order], fresh[order], fresh["open_ms"][order])
    tables.put("candles", items(_candle_keys(series, fresh), fresh))


def _candle_keys(series: NDArray[np.uint64], rows: NDArray[Any]) -> NDArray[Any]:
    return keys_of(
        CANDLE_KEY, market=series >> np.uint64(8), interval=series & 0xFF, open_ms=rows["open_ms"]
    )


def _remove_candles(tables: Tables, market: int) -> None:
    prefix = market.to_bytes(4, "big")
    with tables.cursor("candles") as cursor:
        there = cursor.set_range(prefix)
        while there and cursor.key().startswith(prefix):
            there = cursor.delete()


def _put_orders(
    tables: Tables, rows: NDArray[Any], created: NDArray[np.bool_], *, carried: bool = False
) -> None:
    """Rows of orders, and what finds them; `carried`: of the day before."""
    tables.put("orders", items(keys_of(ORDER_KEY, order_id=rows["order_id"]), rows))
    keys = keys_of(
        ORDER_OF_KEY, account=rows["account"], market=rows["market"], order_id=rows["order_id"]
    )
    lives = np.isin(rows["status"], LIVING)
    tables.put("orders_of", items(keys[created]))
    tables.put("open", items(keys[created & lives]))
    tables.delete("open", (key for key, _ in items(keys[~created & ~lives])))
    new = rows[created & (rows["client_order_id"] != b"")]
    accounts = new["account"].astype(">u4").view("V4").tolist()
    ids = keys_of(ORDER_KEY, order_id=new["order_id"]).view("V8").tolist()
    names = new["client_order_id"].tolist()
    tables.put("clients", [(a + c, i) for a, c, i in zip(accounts, names, ids, strict=True)])
    _put_lists(tables, rows[created & (rows["list_id"] != 0)], carried=carried)


def _put_lists(tables: Tables, legs: NDArray[Any], *, carried: bool) -> None:
    """The lists of some orders, and what finds them."""
    if not len(legs):
        return
    legs = legs[np.argsort(legs["list_id"], kind="stable")]
    keys = keys_of(LIST_KEY, account=legs["account"], list_id=legs["list_id"])
    tables.put("lists", items(keys, legs["market"].astype(">u4")))
    # One that was pending is new again when it is placed; another list may have its name by then.
    named = (legs["client_list_id"] != b"") & (carried | (legs["other_id"] == 0))
    names = [b"\0" + name for name in legs["client_list_id"][named].tolist()]
    found = zip(keys[named].tolist(), names, strict=True)
    tables.put(
        "clients",
        [(a.to_bytes(4, "big") + name, number.to_bytes(8, "big")) for (a, number), name in found],
    )


def _put_balances(tables: Tables, balances: Balances) -> None:
    keys, values = balances
    nothing = (values["free"] == 0) & (values["held"] == 0)
    tables.put("balances", items(keys[~nothing], values[~nothing]))
    tables.delete("balances", (key for key, _ in items(keys[nothing])))


def _put_definitions(tables: Tables, records: NDArray[Any]) -> None:
    keys = keys_of(ORDER_KEY, order_id=records["sequence"])
    tables.put("definitions", items(keys, records))


def _put_records(tables: Tables, records: NDArray[Any]) -> None:
    """What is kept of log records themselves: movements of money, and definitions."""
    good = records[records["reject"] == 0]
    money = good[np.isin(good["kind"], MONEY_KINDS)].view(MONEY_RECORD)
    if len(money):
        accounts = [(money, money["account"])]
        transfers = money[money["kind"] == Kind.TRANSFER]
        accounts.append((transfers, transfers["counter_account"]))
        for rows, of in accounts:
            keys = keys_of(MOVEMENT_KEY, account=of, sequence=rows["sequence"])
            tables.put("movements", items(keys, rows))
    _put_definitions(tables, good[np.isin(good["kind"], _DEFINITIONS)])


def _carry(old: Tables, new: Tables) -> None:
    """What goes on the next day: open orders, balances, definitions, long candles."""
    for table in ("balances", "definitions"):
        with old.cursor(table) as cursor:
            new.put(table, cursor)
    with old.cursor("open") as cursor:
        for keys in _chunks(cursor):
            ids = np.frombuffer(b"".join(keys), ORDER_OF_KEY)["order_id"]
            rows = old.rows("orders", keys_of(ORDER_KEY, order_id=ids), ORDER)
            orders = np.array(list(rows.values()), ORDER)
            _put_orders(new, orders, np.ones(len(orders), bool), carried=True)
    with old.cursor("candles") as cursor:
        new.put("candles", _long_candles(cursor))


def _long_candles(cursor: "lmdb.Cursor[bytes]") -> Iterator[tuple[bytes, bytes]]:
    """Those of a day or more: a market's last ones."""
    first = INTERVALS["1d"].number
    there = cursor.first()
    while there:
        market = cursor.key()[:4]
        there = cursor.set_range(market + bytes([first]))
        while there and cursor.key()[:4] == market:
            yield cursor.item()
            there = cursor.next()


def _chunks(cursor: "lmdb.Cursor[bytes]") -> Iterator[list[bytes]]:
    keys: list[bytes] = []
    for key in cursor.iternext(values=False):
        keys.append(bytes(key))
        if len(keys) == _CARRIED_AT_ONCE:
            yield keys
            keys = []
    if keys:
        yield keys


# ---- what the folder says


def _lock(directory: Path) -> int:
    try:
        files.make_directory(directory)
        lock = os.open(directory / "writer.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ViewsError(f"cannot write in {directory}: {error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ViewsError(f"another process writes the views in {directory}") from None
    return lock


def dropped(directory: Path) -> int:
    """Sequence of the last record whose day was dropped, or from which on the views began; 0 if all
    are there.
    """
    try:
        return int(json.loads((directory / _KEPT).read_text())["dropped"])
    except (OSError, ValueError, KeyError):
        return 0


def mark_dropped(directory: Path, sequence: int) -> None:
    """On the disk before the days are gone. Raises OSError."""
    draft = directory / f"{_KEPT}.new"
    draft.write_text(json.dumps({"dropped": sequence}) + "\n")
    draft.chmod(0o600)
    files.flush(draft)
    draft.replace(directory / _KEPT)
    files.flush(directory)
