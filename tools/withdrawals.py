"""`matchbox withdraw list`: what is to be sent out, and where clients of the gateway want it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np

from matchbox.gateway.destinations import Destinations
from matchbox.persistence.views import Views
from matchbox.shm.errors import MatchboxError
from matchbox.shm.records import MONEY_RECORD, Kind
from matchbox.tools.archive_admin import find_views
from matchbox.tools.recordview import Names

_ENDS = (Kind.SETTLE_WITHDRAWAL, Kind.CANCEL_WITHDRAWAL)


def show(place: str, *, as_json: bool) -> None:
    """Print the requests that wait, oldest first. Raises MatchboxError."""
    for row in waiting(place):
        if as_json:
            print(json.dumps(row))
        else:
            print(
                f"{row['time']}  account {row['account']:<6} {row['amount']:>20} "
                f"{row['asset']:<6} {row['reference']:<36} {row['address']} {row['tag']}".rstrip()
            )


def waiting(place: str) -> list[dict[str, Any]]:
    """The requests that are neither settled nor canceled, oldest first."""
    folder = find_views(place)
    open_: dict[bytes, Any] = {}
    with Views(folder) as views:
        names = Names()
        names.learn(views.definitions())
        for row in _movements(views):
            if row["kind"] == Kind.REQUEST_WITHDRAWAL:
                open_[row["reference"]] = row
            elif row["kind"] in _ENDS:
                open_.pop(row["reference"], None)
    destinations = _destinations(folder.parent)
    try:
        return [_row(row, names, destinations) for row in open_.values()]
    finally:
        if destinations is not None:
            destinations.close()


def _movements(views: Views) -> Iterator[Any]:
    """Of all accounts, by sequence."""
    for day in views.days():
        found = [value for _, value in views.rows(day.day, "movements")]
        rows = np.frombuffer(b"".join(found), MONEY_RECORD)
        yield from rows[np.argsort(rows["sequence"], kind="stable")]


def _destinations(data: Any) -> Destinations | None:
    try:
        return Destinations(data, writable=False)
    except MatchboxError:
        return None  # there was no gateway yet


def _row(row: Any, names: Names, destinations: Destinations | None) -> dict[str, Any]:
    account, asset = int(row["account"]), int(row["asset"])
    found = None
    if destinations is not None:
        found = destinations.get(account, row["note"].decode())
    moment = datetime.fromtimestamp(int(row["timestamp_ns"]) // 1_000_000_000, UTC)
    return {
        "time": moment.strftime("%Y-%m-%d %H:%M:%S"),
        "account": account,
        "asset": names.assets.get(asset, (str(asset), 0))[0],
        "amount": names.amount(asset, int(row["amount"])),
        "reference": row["reference"].decode(),
        "address": found.address if found else "",
        "tag": found.tag if found else "",
    }
