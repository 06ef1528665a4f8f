"""`matchbox archive`: what views there are, days as files for others, and an end to old ones."""

import csv
import gzip
import json
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from matchbox.persistence import archive, files, partition
from matchbox.persistence.consumers import Consumers
from matchbox.persistence.partition import BALANCE, BALANCE_KEY, MOVEMENT_KEY, ORDER
from matchbox.persistence.views import Views
from matchbox.shm.errors import BadArgument
from matchbox.shm.records import FEE_ACCOUNT, MONEY_RECORD, REPORT
from matchbox.shm.streams import TRADE
from matchbox.tools import streamview
from matchbox.tools.archiving import VIEWS
from matchbox.tools.logview import find_journal
from matchbox.tools.recordview import Names, Values

TABLES = ("reports", "trades", "orders", "balances", "movements")


def find_views(place: str) -> Path:
    """The views of an exchange. Raises BadArgument if there are none."""
    views = find_journal(place).parent / VIEWS
    if not partition.days(views):
        raise BadArgument(f"no views there: looked in {views}")
    return views


def listed(place: str) -> list[dict[str, Any]]:
    """The days, oldest first."""
    with Views(find_views(place)) as views:
        return [
            {
                "day": day.day,
                "first": day.state.first,
                "last": day.state.position,
                "sealed": day.state.sealed,
                "bytes": day.bytes,
            }
            for day in views.days()
        ]


def consumers(place: str) -> list[dict[str, Any]]:
    """Those that have committed a position."""
    path = find_journal(place).parent / "consumers.mdb"
    if not path.exists():
        return []
    known = Consumers(path)
    try:
        return known.all()
    finally:
        known.close()


def line(row: dict[str, Any]) -> str:
    state = "sealed" if row["sealed"] else "open"
    return (
        f"{row['day']}  {row['first']:>14,} to {row['last']:>14,}  {row['bytes']:>15,} bytes  "
        f"{state}"
    )


def consumer_line(row: dict[str, Any]) -> str:
    return f"{row['consumer']:<36}  {row['stream']:<8} {row['of']:<24} {row['position']}"


# ---- export


def export(place: str, day: str, target: Path, tables: tuple[str, ...]) -> list[tuple[Path, int]]:
    """Write tables of a day as CSV, compressed, into a folder; files and their rows.

    Each is whole or not there. Raises BadArgument, ViewsError, OSError.
    """
    folder = find_views(place)
    there = partition.days(folder)
    if day not in there:
        raise BadArgument(f"no views of that day: day={day}, there are: {', '.join(there)}")
    unknown = [table for table in tables if table not in TABLES]
    if unknown:
        raise BadArgument(f"no such table: {unknown[0]}; allowed: {', '.join(TABLES)}")
    target.mkdir(parents=True, exist_ok=True)
    written = []
    with Views(folder) as views:
        names = Names()
        names.learn(views.definitions())
        for table in tables or TABLES:
            path = target / f"{table}-{day}.csv.gz"
            written.append((path, _write(path, _ROWS[table](views, day, names))))
    return written


def _write(path: Path, rows: Iterator[Values]) -> int:
    draft = path.with_suffix(".new")
    count = 0
    try:
        with gzip.open(draft, "wt", newline="") as file:
            writer = None
            for row in rows:
                if writer is None:
                    writer = csv.DictWriter(file, list(row), restval="", extrasaction="ignore")
                    writer.writeheader()
                writer.writerow(row)
                count += 1
        files.flush(draft)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return count


# What only some reports have; every row of a file has the same columns.
_REPORT = (
    *("position", "time", "kind", "account", "market", "side", "order_id", "client_order_id"),
    *("price", "quantity", "leaves", "cumulative", "trade_id", "role", "fee", "fee_asset"),
    *("asset", "free", "held", "amount", "flags", "reason"),
)


def _reports(views: Views, day: str, names: Names) -> Iterator[Values]:
    for _, value in views.rows(day, "reports"):
        values = streamview.report(np.frombuffer(value, REPORT)[0], names)
        values["flags"] = "/".join(values["flags"])
        yield {name: values.get(name, "") for name in _REPORT}


def _trades(views: Views, day: str, names: Names) -> Iterator[Values]:
    for _, value in views.rows(day, "trades"):
        yield streamview.trade(np.frombuffer(value, TRADE)[0], names)


def _orders(views: Views, day: str, names: Names) -> Iterator[Values]:
    for _, value in views.rows(day, "orders"):
        values = streamview.order(np.frombuffer(value, ORDER)[0], names)
        values.setdefault("filled_value", "")
        yield values


def _balances(views: Views, day: str, names: Names) -> Iterator[Values]:
    for key, value in views.rows(day, "balances"):
        whose, amounts = np.frombuffer(key, BALANCE_KEY)[0], np.frombuffer(value, BALANCE)[0]
        asset, account = int(whose["asset"]), int(whose["account"])
        yield {
            "account": "exchange" if account == FEE_ACCOUNT else account,
            "asset": names.assets.get(asset, (str(asset), 0))[0],
            "free": names.amount(asset, int(amounts["free"])),
            "held": names.amount(asset, int(amounts["held"])),
        }


def _movements(views: Views, day: str, names: Names) -> Iterator[Values]:
    for key, value in views.rows(day, "movements"):
        values = streamview.movement(np.frombuffer(value, MONEY_RECORD)[0], names)
        yield {"of": int(np.frombuffer(key, MOVEMENT_KEY)[0]["account"]), **values}


_ROWS: dict[str, Callable[[Views, str, Names], Iterator[Values]]] = {
    "reports": _reports,
    "trades": _trades,
    "orders": _orders,
    "balances": _balances,
    "movements": _movements,
}


# ---- retention


def drop(folder: Path, before: str) -> list[str]:
    """Remove the days before a day, oldest first; those that are not sealed stay, and the last.

    Returns those that are gone. What began in them and goes on, open orders and balances, is in the
    days that stay. Raises BadArgument, ViewsError, OSError.
    """
    _parse(before)
    gone: list[str] = []
    with Views(folder) as views:
        for day in views.days()[:-1]:
            if day.day >= before or not day.state.sealed:
                break
            # First said, then done: who looks in between finds that it is forgotten.
            archive.mark_dropped(folder, day.state.position)
            partition.remove(folder, day.day)
            gone.append(day.day)
    return gone


def drop_old(folder: Path, keep_days: int) -> list[str]:
    """Drop what is older than so many days before the newest; 0: nothing."""
    days = partition.days(folder)
    if not keep_days or not days:
        return []
    before = (_parse(days[-1]) - timedelta(days=keep_days)).isoformat()
    return drop(folder, before) if days[0] < before else []


def _parse(day: str) -> date:
    try:
        return date.fromisoformat(day)
    except ValueError:
        raise BadArgument(f"not a day: {day!r}; allowed: such as 2026-11-25") from None


def json_line(row: dict[str, Any]) -> str:
    return json.dumps(row)
