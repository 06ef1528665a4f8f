"""Are the views what the journal gives? `matchbox verify --views`.

rebuild    all of them once more, out of the journal, in a folder of their own
compare    every table of every day that is kept, byte by byte
balance    what the kept views say by themselves: fills add up to orders, trades have no gap,
           and everybody's balances are what was paid in less what was paid out
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

import numpy as np

from matchbox.persistence.partition import ORDER, TABLES
from matchbox.persistence.views import Views
from matchbox.shm.errors import ViewsError
from matchbox.shm.records import MONEY_RECORD, Flag, Kind
from matchbox.shm.streams import TRADE
from matchbox.tools.archiving import VIEWS, Archiving
from matchbox.tools.config import Config

Progress = Callable[[int], object]
# What movements do to all that there is of an asset.
_SIGNS = {int(Kind.DEPOSIT): 1, int(Kind.SETTLE_WITHDRAWAL): -1}
_DRAFT = "views.verify"
# Of orders that are older than a journal whose beginning was pruned, less is known.
_WITHOUT_OLDER = ("reports", "fills", "trades", "balances", "movements")
# Differences that are told of one table.
_MOST = 3


def differences(
    config: Config, data: Path, progress: Progress = lambda n: None
) -> tuple[int, list[str]]:
    """Up to which record the views go, and what is wrong with them. Raises MatchboxError."""
    with Views(data / VIEWS) as kept:
        position = kept.position
        if not position:
            return 0, ["there are no views"]
        try:
            days = kept.days()
        except ViewsError as error:
            return 0, [str(error)]
        found = _contradictions(kept)
        with _rebuilt(config, data, position, progress) as again:
            there = {day.day: day.state for day in again.days()}
            began = again.oldest
            for day in days:
                if day.state.first < began:
                    continue  # what the journal had of its beginning was pruned
                if day.day not in there:
                    found.append(f"{day.day}: the journal has nothing of that day")
                    continue
                if (day.state.first, day.state.position) != (
                    there[day.day].first,
                    there[day.day].position,
                ):
                    found.append(
                        f"{day.day}: records {day.state.first:,} to {day.state.position:,}; "
                        f"the journal has {there[day.day].first:,} to "
                        f"{there[day.day].position:,}"
                    )
                for table in TABLES if began == 1 else _WITHOUT_OLDER:
                    if table != "meta":
                        found += _compare(kept, again, day.day, table)
    return position, found


@contextmanager
def _rebuilt(config: Config, data: Path, position: int, progress: Progress) -> Iterator[Views]:
    draft = data / _DRAFT
    shutil.rmtree(draft, ignore_errors=True)
    try:
        archiving = Archiving(config, data, lambda text: None, views=draft, last=position)
        try:
            while archiving.work():
                progress(archiving.position)
        finally:
            archiving.close()
        with Views(draft) as again:
            yield again
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _compare(kept: Views, again: Views, day: str, table: str) -> list[str]:
    found: list[str] = []
    pairs = zip_longest(kept.rows(day, table), again.rows(day, table))
    for number, (mine, other) in enumerate(pairs):
        if mine != other:
            found.append(
                f"{day}, {table}, row {number:,}: it has {_shown(mine)}, the journal gives "
                f"{_shown(other)}"
            )
        if len(found) == _MOST:
            break
    return found


def _shown(row: tuple[bytes, bytes] | None) -> str:
    return "nothing" if row is None else f"{row[0].hex()} = {row[1][:32].hex()}"


def _contradictions(views: Views) -> list[str]:
    """What cannot be, whatever the journal says."""
    found: list[str] = []
    days = views.days()
    for before, after in zip(days, days[1:], strict=False):
        if after.state.first != before.state.position + 1 or not before.state.sealed:
            found.append(f"{before.day} and {after.day} do not follow each other")
    trades: dict[int, int] = {}
    filled: dict[int, int] = {}
    for day in days:
        for _, value in views.rows(day.day, "trades"):
            trade = np.frombuffer(value, TRADE)[0]
            market, number = int(trade["market"]), int(trade["trade_id"])
            if trades.setdefault(market, number - 1) != number - 1:
                found.append(f"market {market}: trade {number} follows {trades[market]}")
            trades[market] = number
            for name in ("order_id", "maker_order_id"):
                order = int(trade[name])
                filled[order] = filled.get(order, 0) + int(trade["quantity_lots"])
    found += _wrong_orders(views, [day.day for day in days], filled)
    if views.oldest == 1:
        found += _wrong_balances(views, [day.day for day in days])
    return found


def _wrong_orders(views: Views, days: list[str], filled: dict[int, int]) -> list[str]:
    """Orders whose quantities do not add up, as the last day that has them says."""
    seen: set[int] = set()
    found: list[str] = []
    for day in reversed(days):
        for _, value in views.rows(day, "orders"):
            row = np.frombuffer(value, ORDER)[0]
            order = int(row["order_id"])
            if order in seen:
                continue
            seen.add(order)
            known = filled.get(order, 0)
            # A fill before the oldest day is in the order, and not among the trades.
            whole = views.oldest <= order
            if (known != row["cumulative_lots"]) if whole else (known > row["cumulative_lots"]):
                found.append(
                    f"order {order}: cumulative {int(row['cumulative_lots']):,}, fills {known:,}"
                )
            total = row["cumulative_lots"] + row["leaves_lots"]
            if not row["flags"] & Flag.QUOTE_AMOUNT and total > row["quantity_lots"]:
                found.append(f"order {order}: more than its quantity: {int(total):,}")
    return found[:_MOST]


def _wrong_balances(views: Views, days: list[str]) -> list[str]:
    paid: dict[int, int] = {}
    for day in days:
        seen: set[int] = set()
        for _, value in views.rows(day, "movements"):
            money = np.frombuffer(value, MONEY_RECORD)[0]
            sign = _SIGNS.get(int(money["kind"]), 0)
            if sign and int(money["sequence"]) not in seen:
                seen.add(int(money["sequence"]))
                asset = int(money["asset"])
                paid[asset] = paid.get(asset, 0) + sign * int(money["amount"])
    keys, values = views.all_balances(days[-1])
    there: dict[int, int] = {}
    for key, value in zip(keys, values, strict=True):
        asset = int(key["asset"])
        there[asset] = there.get(asset, 0) + int(value["free"]) + int(value["held"])
        if value["free"] < 0 or value["held"] < 0:
            return [f"account {int(key['account'])}, asset {asset}: below 0"]
    return [
        f"asset {asset}: paid in {paid.get(asset, 0):,}, there {there.get(asset, 0):,}"
        for asset in sorted(paid.keys() | there.keys())
        if paid.get(asset, 0) != there.get(asset, 0)
    ]
