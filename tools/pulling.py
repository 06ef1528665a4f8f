"""`matchbox pull`: a stream on standard output."""

import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any

from matchbox.shm.connect import pull
from matchbox.shm.streams import Pull
from matchbox.tools import recordview, streamview
from matchbox.tools.recordview import Names, Values
from matchbox.tools.run import find_data

_BATCH = 1000
_PATIENCE_S = 1.0


def show(
    exchange: str,
    stream: str,
    *,
    account: str,
    market: str,
    after: str,
    consumer: str,
    count: int,
    follow: bool,
    as_json: bool,
) -> None:
    """Print rows; what a consumer was given is committed once it is out. Raises MatchboxError."""
    with (
        pull(
            find_data(exchange),
            stream,
            account=account,
            market=market,
            after=after or None,
            consumer=consumer,
        ) as source,
        contextlib.suppress(KeyboardInterrupt),
    ):
        _print(source, count, follow, as_json)


def _print(source: Pull, count: int, follow: bool, as_json: bool) -> None:
    names = Names()
    names.learn(source.definitions())
    shape = _shape(source.stream)
    left = count
    while True:
        rows = source.read(min(left, _BATCH) if count else _BATCH, _PATIENCE_S if follow else 0.0)
        if source.stream != "log" and not set(rows["market"].tolist()) <= names.markets.keys():
            names.learn(source.definitions())  # of a market that was added meanwhile, or an asset
        for row in rows:
            values = shape(row, names)
            print(json.dumps(values) if as_json else streamview.text(values))
        sys.stdout.flush()
        if source.consumer and len(rows):
            source.commit()
        left -= len(rows)
        if (count and left <= 0) or (not follow and not len(rows)):
            return


def _shape(stream: str) -> Callable[[Any, Names], Values]:
    if stream == "log":
        return recordview.fields
    return streamview.trade if stream == "trades" else streamview.report
