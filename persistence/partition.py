"""One day of the views: an LMDB file of tables, named by its date (UTC), such as 2026-11-25.mdb.

What the log gave on that day, by its records' timestamps, which never fall: a day is a range of
sequences, and the days follow each other without gap. A day's file also has what was there when it
began: its open orders, balances and definitions, so that days can be dropped, oldest first, and
nothing that still matters goes with them. Candles of a day or more are carried on, too, all of
them, a few hundred a year: so the last day has them all.

Tables; keys are big-endian, so that their order is that of the bytes:

    reports      account, sequence, part                   REPORT, as the account's own
    fills        account, market, trade id, taker          sequence, part (POSITION) of its report
    trades       market, trade id                          TRADE
    candles      market, interval, first moment            CANDLE, see candles.py
    orders       order id                                  ORDER, as it is after the last record
    orders_of    account, market, order id                 nothing
    open         account, market, order id                 nothing: those that live
    lists        account, list id                          its market's number: lists of orders
    clients      account, client order id                  order id: the newest that has it
                 account, 0, client list id                list id: the newest that has it
    balances     account, asset                            BALANCE; one that is nothing has no row
    movements    account, sequence                         MONEY_RECORD, accepted ones
    definitions  sequence                                  ADD_, REMOVE_ records, not of accounts
    meta         `state`                                   JSON, see State

`part` is where a report stands among those of its log record: twice the number of its event, and
one more for the taker where one meets a maker, who is told first. (sequence, part) is a position of
the stream, and names a report of an account, or a trade of a market, for ever.

Views can be made again from the journal, hence they are written without flushes: a crash of a
process leaves them whole, one of the machine does not. So a file that is not sealed says in which
boot it was written, and is not believed in another.
"""

import json
import re
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from matchbox.shm.errors import ViewsError, ViewsNotBegun

LAYOUT = 2
DAY_NS = 86_400 * 1_000_000_000
TABLES = (
    "reports",
    "fills",
    "trades",
    "candles",
    "orders",
    "orders_of",
    "open",
    "lists",
    "clients",
    "balances",
    "movements",
    "definitions",
    "meta",
)
# Address space only: more than a day's file can get.
_MAP_BYTES = 1 << 38
_MAX_READERS = 512
_NAME = re.compile(r"(\d{4}-\d\d-\d\d)\.mdb")
_STATE = b"state"


class OrderStatus(IntEnum):
    """What became of an order; the first three live."""

    NEW = 1
    PARTIALLY_FILLED = 2
    PENDING = 3  # a leg of a list that waits for the working order
    FILLED = 4
    CANCELED = 5
    EXPIRED = 6
    REJECTED = 7  # when it was released; one that was refused at once is no order
    RELEASED = 8  # a pending order that has become another one: `other_id`


LIVING = (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED, OrderStatus.PENDING)

ORDER = np.dtype(
    [
        ("order_id", "<u8"),
        ("sequence", "<u8"),  # of the last log record that changed it
        ("created_ns", "<u8"),
        ("updated_ns", "<u8"),
        (
            "working_ns",
            "<u8",
        ),  # since when it is in the book or takes; 0: pending, or waits for a trigger
        ("price_ticks", "<i8"),  # limit; 0: a market order
        ("quantity_lots", "<i8"),  # with Flag.QUOTE_AMOUNT: units of the quote asset
        ("leaves_lots", "<i8"),
        ("cumulative_lots", "<i8"),
        ("notional", "<i8"),  # sum over its fills of ticks times lots
        ("prevented_lots", "<i8"),
        ("trigger_ticks", "<i8"),
        ("display_lots", "<i8"),
        ("expire_ns", "<u8"),
        ("list_id", "<u8"),
        (
            "other_id",
            "<u8",
        ),  # RELEASED: what it became; else the id that it had while it was pending
        ("account", "<u4"),
        ("market", "<u4"),
        ("session", "<u4"),
        ("trailing_bips", "<u2"),
        ("reason", "<u2"),  # of its end
        ("side", "u1"),
        ("order_type", "u1"),
        ("time_in_force", "u1"),
        ("flags", "u1"),
        ("self_trade", "u1"),
        ("status", "u1"),
        ("list_type", "u1"),
        ("reserved", "u1"),
        ("client_order_id", "S36"),
        ("client_list_id", "S36"),
    ]
)
BALANCE = np.dtype([("free", "<i8"), ("held", "<i8")])
POSITION = np.dtype([("sequence", ">u8"), ("part", ">u4")])
REPORT_KEY = np.dtype([("account", ">u4"), ("sequence", ">u8"), ("part", ">u4")])
FILL_KEY = np.dtype([("account", ">u4"), ("market", ">u4"), ("trade_id", ">u8"), ("taker", "u1")])
TRADE_KEY = np.dtype([("market", ">u4"), ("trade_id", ">u8")])
CANDLE_KEY = np.dtype([("market", ">u4"), ("interval", "u1"), ("open_ms", ">u8")])
ORDER_KEY = np.dtype([("order_id", ">u8")])
ORDER_OF_KEY = np.dtype([("account", ">u4"), ("market", ">u4"), ("order_id", ">u8")])
LIST_KEY = np.dtype([("account", ">u4"), ("list_id", ">u8")])
BALANCE_KEY = np.dtype([("account", ">u4"), ("asset", ">u2")])
MOVEMENT_KEY = np.dtype([("account", ">u4"), ("sequence", ">u8")])


@dataclass(frozen=True)
class State:
    """How far a day's file goes, and under which conditions it is to be believed."""

    first: int  # sequence of its first log record
    position: int  # of its last; all that it caused is in the tables
    record: str = ""  # SHA-256 of the log record `position`: of which journal it is
    settled: int = 0  # what the balances are settled to
    sealed: bool = False  # another day has followed; it is on the disk
    boot: str = ""  # of the machine, while it is not sealed
    layout: int = LAYOUT


def boot() -> str:
    """What tells this run of the machine from all others."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def day_of(timestamp_ns: int) -> str:
    return datetime.fromtimestamp(timestamp_ns // 1_000_000_000, UTC).date().isoformat()


def days(directory: Path) -> list[str]:
    """The days that there are files of, oldest first."""
    if not directory.is_dir():
        return []
    names = (_NAME.fullmatch(path.name) for path in directory.iterdir())
    return sorted(name[1] for name in names if name)


def path_of(directory: Path, day: str) -> Path:
    return directory / f"{day}.mdb"


def remove(directory: Path, day: str) -> None:
    """Who has it open can go on reading. Raises OSError."""
    path = path_of(directory, day)
    path.unlink(missing_ok=True)
    Path(f"{path}-lock").unlink(missing_ok=True)


def items(keys: NDArray[Any], values: NDArray[Any] | None = None) -> list[tuple[bytes, bytes]]:
    """Keys and values of a table, as LMDB takes them; without values, empty ones."""
    names = keys.view(f"V{keys.itemsize}").tolist()
    if values is None:
        return [(name, b"") for name in names]
    return list(zip(names, values.view(f"V{values.itemsize}").tolist(), strict=True))


def keys_of(dtype: np.dtype[Any], **fields: Any) -> NDArray[Any]:
    """An array of keys."""
    (count,) = {len(values) for values in fields.values()}
    keys = np.zeros(count, dtype)
    for name, values in fields.items():
        keys[name] = values
    return keys


class Partition:
    """An open file. Use open_day() and close()."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        self.path, self.writable, self.users = path, writable, 1
        self.inode = 0
        if not writable and path.exists() and path.stat().st_size == 0:
            raise ViewsNotBegun(f"{path} is not begun")
        try:
            self.env = lmdb.open(
                str(path), subdir=False, mode=0o600, map_size=_MAP_BYTES, max_dbs=len(TABLES),
                max_readers=_MAX_READERS, readonly=not writable, create=writable,
                sync=False, metasync=False,
            )  # fmt: skip
            self.inode = path.stat().st_ino
            self.tables = {
                name: self.env.open_db(name.encode(), create=writable) for name in TABLES
            }
            needed, size = page_bytes(self), path.stat().st_size
        except lmdb.NotFoundError as error:
            self.env.close()
            raise ViewsNotBegun(f"{path} is not begun") from error
        except (lmdb.Error, OSError) as error:
            if hasattr(self, "env"):
                self.env.close()
            raise ViewsError(f"cannot open {path}: {error}") from error
        if size < needed:  # LMDB would read what is not there, and die of it
            self.env.close()
            raise ViewsError(f"{path} is cut off: bytes={size}, needed={needed}")

    def begin(self, *, write: bool = False) -> "Tables":
        """A consistent look at all tables, or what changes them all at once."""
        return Tables(self, write)

    def state(self) -> State:
        """Raises ViewsError if it has none that this version knows."""
        with self.begin() as tables:
            return tables.state()

    def seal(self) -> None:
        """Nothing will be added: onto the disk with it. Raises ViewsError."""
        try:
            self.env.sync(True)
            with self.begin(write=True) as tables:
                tables.put_state(replace(tables.state(), sealed=True, boot=""))
            self.env.sync(True)
        except lmdb.Error as error:
            raise ViewsError(f"cannot write {self.path}: {error}") from error


class Tables:
    """A transaction. Arrays and bytes that it gives are copies."""

    def __init__(self, partition: Partition, write: bool) -> None:
        self.partition, self._write = partition, write

    def __enter__(self) -> "Tables":
        try:
            self.transaction = self.partition.env.begin(write=self._write)
        except lmdb.Error as error:
            raise ViewsError(f"cannot use {self.partition.path}: {error}") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: Any) -> None:
        try:
            if kind is None:
                self.transaction.commit()
            else:
                self.transaction.abort()
        except lmdb.Error as problem:
            raise ViewsError(f"cannot write {self.partition.path}: {problem}") from problem
        if isinstance(error, lmdb.Error | ValueError):  # rows of another length, too
            raise ViewsError(f"{self.partition.path} is damaged: {error}") from error

    def cursor(self, table: str) -> "lmdb.Cursor[bytes]":
        return self.transaction.cursor(self.partition.tables[table])

    def get(self, table: str, key: bytes) -> bytes | None:
        return self.transaction.get(key, db=self.partition.tables[table])

    def rows(self, table: str, keys: NDArray[Any], dtype: np.dtype[Any]) -> dict[bytes, Any]:
        """Those rows that there are, each a record of a writable array, by key."""
        names = keys.view(f"V{keys.itemsize}").tolist()
        with self.cursor(table) as cursor:
            found = cursor.getmulti(names)
        values = np.frombuffer(b"".join(value for _, value in found), dtype).copy()
        return dict(zip((key for key, _ in found), values, strict=True))

    def put(self, table: str, rows: Iterable[tuple[bytes, bytes]]) -> None:
        with self.cursor(table) as cursor:
            cursor.putmulti(rows)

    def delete(self, table: str, keys: Iterable[bytes]) -> None:
        database = self.partition.tables[table]
        for key in keys:
            self.transaction.delete(key, db=database)

    def state(self) -> State:
        value = self.get("meta", _STATE)
        if value is None:
            raise ViewsNotBegun(f"{self.partition.path} is not begun")
        try:
            found = json.loads(value)
        except ValueError:
            found = {}
        if found.get("layout") != LAYOUT:
            raise ViewsError(
                f"{self.partition.path} was written by another version: "
                f"layout={found.get('layout')}, supported={LAYOUT}"
            )
        return State(**found)

    def put_state(self, state: State) -> None:
        self.transaction.put(
            _STATE, json.dumps(asdict(state)).encode(), db=self.partition.tables["meta"]
        )


_open: dict[Path, Partition] = {}
_lock = threading.Lock()


def open_day(directory: Path, day: str, *, writable: bool = False) -> Partition:
    """The file of a day, shared within this process; give it back with close().

    Raises ViewsError if it cannot be opened.
    """
    path = path_of(directory, day).resolve()
    with _lock:
        known = _open.get(path)
        if known is not None and is_there(known):
            if writable and not known.writable:
                raise ViewsError(f"{path} is open for reading in this process")
            known.users += 1
            return known
        opened = _open[path] = Partition(path, writable=writable)
        return opened


def is_there(partition: Partition) -> bool:
    """Is it still this file that has the name?"""
    try:
        return partition.path.stat().st_ino == partition.inode
    except OSError:
        return False


def close(partition: Partition) -> None:
    """Give back what open_day() gave; the last one closes it."""
    with _lock:
        partition.users -= 1
        if partition.users == 0:
            if _open.get(partition.path) is partition:
                del _open[partition.path]
            partition.env.close()


def is_sound(partition: Partition) -> bool:
    """Can it be believed: was all of it written in this boot, or is it on the disk?"""
    state = partition.state()
    return state.sealed or state.boot == boot()


def page_bytes(partition: Partition) -> int:
    """What its file has in use."""
    info, stat = partition.env.info(), partition.env.stat()
    return int((info["last_pgno"] + 1) * stat["psize"])


def file_bytes(directory: Path, day: str) -> int:
    return path_of(directory, day).stat().st_blocks * 512
