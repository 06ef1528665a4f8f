"""The rows of orders in the views: what they were, and what some reports make of them.

Pure functions of arrays. A row begins with the ACCEPTED report of an order and its NEW_ORDER record
(with the ORDER_TERMS, ORDER_LIST or RELEASE record before it), and follows its reports from there.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.persistence.partition import ORDER, ORDER_KEY, OrderStatus, keys_of
from matchbox.shm.records import (
    LIST_RECORD,
    NEW_ORDER,
    TERMS_RECORD,
    Belongs,
    EventKind,
    Kind,
    OrderType,
    ReportFlag,
)

# A leg is so many records behind what it belongs to, at most.
CONTEXT = 4
_COPIED = (
    "account",
    "market",
    "session",
    "quantity_lots",
    "trigger_ticks",
    "side",
    "order_type",
    "time_in_force",
    "flags",
    "self_trade",
    "trailing_bips",
    "client_order_id",
)
_MARKET_TYPES = (OrderType.MARKET, OrderType.STOP_LOSS, OrderType.TAKE_PROFIT)


@dataclass(frozen=True)
class Groups:
    """Reports of orders, sorted by order; one order's in their order."""

    reports: NDArray[Any]
    order_ids: NDArray[np.uint64]
    starts: NDArray[np.int64]
    created: NDArray[np.bool_]  # its first report says that it is new
    before: NDArray[np.uint64]  # the id that it had while it was pending, 0: none

    @property
    def wanted(self) -> NDArray[Any]:
        """Keys (ORDER_KEY) of the rows that must be known: of those that are not new, and of what
        was pending before.
        """
        ids = np.concatenate([self.order_ids[~self.created], self.before[self.before > 0]])
        return keys_of(ORDER_KEY, order_id=np.unique(ids))


def group(reports: NDArray[Any]) -> Groups:
    """The reports (REPORT) that change orders, of any."""
    refused = reports["kind"] == EventKind.REJECTED
    released = (reports["flags"] & ReportFlag.RELEASED) != 0
    chosen = reports[
        (reports["kind"] <= EventKind.PREVENTED)
        & (reports["order_id"] != 0)
        & (~refused | released)
    ]
    chosen = chosen[np.argsort(chosen["order_id"], kind="stable")]
    order_ids, starts = np.unique(chosen["order_id"], return_index=True)
    first = chosen[starts]
    released = (first["flags"] & ReportFlag.RELEASED) != 0
    created = (first["kind"] == EventKind.ACCEPTED) | released
    before = np.where(released, first["command_position"], 0)
    return Groups(chosen, order_ids, starts, created, before)


def follow(groups: Groups, known: dict[bytes, Any], records: NDArray[Any]) -> NDArray[Any]:
    """The rows (ORDER) of all orders of `groups` as they are now, and of what they were while they
    were pending.

    known      rows of groups.wanted, by key; what is not there began before the views
    records    LOG_RECORDs without a gap, which have those that created new ones, and what
               these belong to
    """
    rows = np.zeros(len(groups.order_ids), ORDER)
    _begin(rows, groups, records)
    for index in np.flatnonzero(~groups.created).tolist():
        row = known.get(_key(groups.order_ids[index]))
        if row is not None:
            rows[index] = row
    _apply(rows, groups)
    released = []
    for index in np.flatnonzero(groups.before).tolist():
        place = int(np.searchsorted(groups.order_ids, groups.before[index]))
        if place < len(rows) and groups.order_ids[place] == groups.before[index]:
            ended = rows[place]
        elif _key(groups.before[index]) in known:
            ended = known[_key(groups.before[index])]
            released.append(ended)
        else:
            continue
        _become(rows[index], ended, groups.reports[groups.starts[index]]["timestamp_ns"])
    # A row of an array is a view of it: what was written into `ended` is there.
    return np.concatenate([rows, np.array(released, ORDER)]) if released else rows


def _key(order_id: Any) -> bytes:
    return int(order_id).to_bytes(8, "big")


def _begin(rows: NDArray[Any], groups: Groups, records: NDArray[Any]) -> None:
    """What the records say of the new ones, and the reports of those whose record is not there."""
    first = groups.reports[groups.starts]
    rows["order_id"], rows["created_ns"] = groups.order_ids, first["timestamp_ns"]
    for name in ("account", "market", "side", "client_order_id", "price_ticks"):
        rows[name] = first[name]
    rows["quantity_lots"] = first["leaves_lots"] + first["cumulative_lots"]
    if not groups.created.any():
        return
    new = np.flatnonzero(groups.created)
    at = (groups.order_ids[new] - records["sequence"][0]).astype(np.int64)
    orders = records[at].view(NEW_ORDER)
    for name in _COPIED:
        rows[name][new] = orders[name]
    rows["price_ticks"][new] = np.where(
        np.isin(orders["order_type"], _MARKET_TYPES), 0, orders["price_ticks"]
    )
    rows["other_id"] = groups.before
    at_once = (orders["order_type"] < OrderType.STOP_LOSS) & (
        orders["has_terms"] & Belongs.IS_PENDING == 0
    )
    rows["working_ns"][new] = np.where(at_once, orders["timestamp_ns"], 0)
    for index in np.flatnonzero(orders["has_terms"] & ~np.uint8(Belongs.REPLACES)).tolist():
        _belong(rows, int(new[index]), records, int(at[index]))


def _belong(rows: NDArray[Any], index: int, records: NDArray[Any], at: int) -> None:
    """What the record before it says of an order, or the list that it is a leg of."""
    for leg in range(CONTEXT):
        record = records[at - leg - 1 : at - leg]
        kind = int(record["kind"][0]) if len(record) else 0
        if kind == Kind.ORDER_TERMS:
            terms = record.view(TERMS_RECORD)
            rows["display_lots"][index] = terms["display_lots"][0]
            rows["expire_ns"][index] = terms["expire_ns"][0]
            return
        if kind in (Kind.ORDER_LIST, Kind.RELEASE):
            of = record.view(LIST_RECORD)
            rows["display_lots"][index] = of["display_lots"][0][leg]
            rows["expire_ns"][index] = of["expire_ns"][0]
            rows["list_id"][index] = of["list_id"][0]
            rows["list_type"][index] = of["list_type"][0]
            rows["client_list_id"][index] = of["client_list_id"][0]
            return


def _become(row: Any, ended: Any, timestamp_ns: Any) -> None:
    """The pending order of the row `ended` has become the one of `row`."""
    for name in ("created_ns", "session", "list_type", "client_list_id"):
        row[name] = ended[name]
    ended["status"], ended["other_id"], ended["leaves_lots"] = (
        OrderStatus.RELEASED,
        row["order_id"],
        0,
    )
    ended["updated_ns"], ended["sequence"] = timestamp_ns, row["order_id"]


def _apply(rows: NDArray[Any], groups: Groups) -> None:
    """What the reports make of the rows."""
    if not len(rows):
        return
    reports, starts = groups.reports, groups.starts
    ends = np.append(starts[1:], len(reports)) - 1
    last = reports[ends]
    kinds = reports["kind"]
    traded, prevented = kinds == EventKind.TRADE, kinds == EventKind.PREVENTED
    lots = reports["quantity_lots"]
    rows["notional"] += np.add.reduceat(np.where(traded, reports["price_ticks"] * lots, 0), starts)
    rows["prevented_lots"] += np.add.reduceat(np.where(prevented, lots, 0), starts)
    for kind, fields in (
        (EventKind.AMENDED, ("price_ticks", "quantity_lots")),
        (EventKind.TRIGGERED, ("working_ns",)),
    ):
        at = _last_of(kinds == kind, starts)
        there = at >= 0
        for name in fields:
            source = "timestamp_ns" if name == "working_ns" else name
            rows[name][there] = reports[source][at[there]]
    rows["sequence"], rows["updated_ns"] = last["sequence"], last["timestamp_ns"]
    rows["leaves_lots"], rows["cumulative_lots"] = last["leaves_lots"], last["cumulative_lots"]
    rows["status"], rows["reason"] = _status(last), last["reason"]


def _last_of(chosen: NDArray[np.bool_], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the last chosen report of each order, -1 where there is none."""
    found: NDArray[np.int64] = np.maximum.reduceat(
        np.where(chosen, np.arange(len(chosen)), -1), starts
    )
    return found


def _status(last: NDArray[Any]) -> NDArray[np.uint8]:
    """By an order's last report."""
    kind, done = last["kind"], last["leaves_lots"] == 0
    pending = (last["flags"] & ReportFlag.WAS_PENDING) != 0
    lives = np.where(
        last["cumulative_lots"] > 0, OrderStatus.PARTIALLY_FILLED, OrderStatus.NEW
    ).astype(np.uint8)
    found: NDArray[np.uint8] = np.select(
        [
            kind == EventKind.CANCELED,
            kind == EventKind.EXPIRED,
            kind == EventKind.REJECTED,
            (kind == EventKind.TRADE) & done,
            (kind == EventKind.PREVENTED) & done,
            (kind == EventKind.ACCEPTED) & pending,
        ],
        [
            np.uint8(OrderStatus.CANCELED),
            np.uint8(OrderStatus.EXPIRED),
            np.uint8(OrderStatus.REJECTED),
            np.uint8(OrderStatus.FILLED),
            np.uint8(OrderStatus.EXPIRED),
            np.uint8(OrderStatus.PENDING),
        ],
        lives,
    ).astype(np.uint8)
    return found
