"""`matchbox replay-log`: a part of a log once more, with what it caused, up to a condition.

    Range     which records, and the snapshot to begin with
    walk()    records and the events that each caused, in the order of the stream
    run()     print them, stop where the condition is true, and show what that concerns

The records before the part are replayed silently. Nothing but files is read, as by `matchbox at`.
"""

import json
import shlex
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from matchbox.persistence.journal import Reader
from matchbox.persistence.journaler import whole_count
from matchbox.persistence.snapshots import Snapshot
from matchbox.shm.errors import BadArgument
from matchbox.shm.records import LOG_RECORD, EventKind, Kind
from matchbox.tools import eventview, moments, operate, orderview, recordview
from matchbox.tools.catalog import ADDITIONS, Catalog
from matchbox.tools.conditions import Condition, Values, word
from matchbox.tools.logview import find_journal
from matchbox.tools.operate import Accounts
from matchbox.tools.past import oldest_state, rewind, start_of
from matchbox.tools.recordview import Names
from matchbox.tools.replica import Replica
from matchbox.tools.snapshots import begin, following, known
from matchbox.tools.verify import find_config

# Records that are replayed at once. Their events are kept, so no more than fit the memory easily.
_PIECE = 2048
_LEVELS = 5  # of the book at a break


@dataclass(frozen=True)
class Range:
    """The records of a log from `first` to `last`, both included."""

    journal: Path
    config: Path | None
    first: int
    last: int
    start: Snapshot | None


def choose(place: str, since: str, until: str, config: Path | None) -> Range:
    """What is meant. A time is that of the first record stamped then or later, or of the last one
    stamped then or before. Raises BadArgument.
    """
    journal = find_journal(place)
    with Reader(journal) as reader:
        last = moments.find(reader, until or "last").sequence
        first = moments.find_first(reader, since) if since else oldest_state(journal) + 1
    if first > last:
        raise BadArgument(f"nothing lies between: from={first}, until={last}")
    return Range(journal, config, first, last, start_of(journal, first - 1) if first > 1 else None)


def replica_of(part: Range) -> Replica:
    catalog = Catalog()
    catalog.learn(known(part.journal, part.start, part.last))
    config = find_config(part.journal.parent, part.config)
    return begin(config, catalog, part.start, events=True)


def walk(part: Range, names: Names) -> Iterator[tuple[Any, NDArray[Any]]]:
    """Each record (LOG_RECORD), and the EVENTs that it caused; `names` has learnt what is defined
    up to there. Raises JournalError where the engine decides otherwise.
    """
    if part.start is not None:
        names.learn(part.start.definitions)
    replica = replica_of(part)
    waiting: deque[NDArray[Any]] = deque()  # records whose events are not all there
    events = replica.take_events()
    for _, records in following(part.journal, part.start, part.last):
        for piece in _pieces(records):
            replica.replay(piece)
            replica.catch_up()
            waiting.append(piece)
            events = np.concatenate([events, replica.take_events()])
            done = replica.matched
            yield from _taken(part, names, waiting, events, done)
            events = events[events["sequence"] > done]
    replica.finish()
    events = np.concatenate([events, replica.take_events()])
    yield from _taken(part, names, waiting, events, part.last)


def _pieces(records: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Some at a time; those that belong together are not parted."""
    while len(records):
        count = whole_count(records, _PIECE) or len(records)
        yield records[:count]
        records = records[count:]


def _taken(
    part: Range, names: Names, waiting: deque[NDArray[Any]], events: NDArray[Any], done: int
) -> Iterator[tuple[Any, NDArray[Any]]]:
    """Those of the waiting records that are of the part and done, taken off."""
    while waiting and waiting[0]["sequence"][0] <= done:
        piece = waiting.popleft()
        count = int((piece["sequence"] <= done).sum())
        if count < len(piece):
            waiting.appendleft(piece[count:])
        sequences = piece["sequence"][:count]
        begins = np.searchsorted(events["sequence"], sequences, "left")
        ends = np.searchsorted(events["sequence"], sequences, "right")
        for record, first, end in zip(piece[:count], begins, ends, strict=True):
            if record["kind"] in ADDITIONS:
                names.learn(np.array([record], LOG_RECORD))
            if record["sequence"] >= part.first:
                yield record, events[first:end]


# ---- conditions


@dataclass
class Broken:
    """Where a condition was true: of a record, or of one of its events."""

    record: Values
    values: Values
    event: int | None = None  # its place among those of the record


class Watch:
    """A condition, and what it must be told of each record."""

    def __init__(self, condition: Condition) -> None:
        self._condition = condition
        named = condition.kinds
        self._kinds: tuple[set[int], list[int]] | None = None
        if named is not None:
            self._kinds = (
                {int(kind) for kind in Kind if word(kind.name) in named},
                [int(kind) for kind in EventKind if word(kind.name) in named],
            )
        # Orders by id, for events that say no client order id: only if the condition looks at it.
        self._clients: dict[int, str] | None = {} if "client_order_id" in condition.names else None

    def look(self, record: Any, events: NDArray[Any], names: Names) -> Broken | None:
        """Is it true of the record, or of one of its events?"""
        if not self._may_hold(record, events):
            return None
        of_record = eventview.of_record(record, names)
        self._learn(record, of_record)
        if self._condition.holds(of_record):
            return Broken(of_record, of_record)
        for place, event in enumerate(events):
            values = eventview.of_event(event, of_record, names)
            if self._clients is not None and values["client_order_id"] is None:
                values["client_order_id"] = self._clients.get(int(event["order_id"]))
            if self._condition.holds(values):
                return Broken(of_record, values, place)
        return None

    def _may_hold(self, record: Any, events: NDArray[Any]) -> bool:
        """Without looking at more than kinds; never said of what it must learn."""
        if self._kinds is None or self._clients is not None:
            return True
        of_record, of_events = self._kinds
        return int(record["kind"]) in of_record or bool(np.isin(events["kind"], of_events).any())

    def _learn(self, record: Any, values: Values) -> None:
        if self._clients is not None and record["kind"] == Kind.NEW_ORDER:
            self._clients[int(record["sequence"])] = values["client_order_id"]


# ---- the command


def run(
    place: str,
    *,
    since: str,
    until: str,
    expression: str,
    quiet: bool,
    config: Path | None,
    as_json: bool,
) -> bool:
    """Print a part of a log and what came of it; did the condition break it off?"""
    watch = Watch(Condition(expression)) if expression else None
    part = choose(place, since, until, config)
    names = Names()
    shown = 0
    for record, events in walk(part, names):
        found = watch.look(record, events, names) if watch else None
        shown += 1
        if not quiet or found:
            count = len(events) if found is None or found.event is None else found.event + 1
            _print(record, events[:count], names, as_json)
        if found:
            _explain(part, place, found, expression, until, as_json)
            return True
    if not as_json:
        never = f"; never true: {expression}" if expression else ""
        print(f"{shown:,} records, {part.first:,} to {part.last:,}{never}.")
    return False


def _print(record: Any, events: NDArray[Any], names: Names, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"record": recordview.fields(record, names)}))
        for event in events:
            print(json.dumps({"event": eventview.fields(event, names)}))
        return
    print(recordview.line(record, names))
    for event in events:
        print(eventview.line(event, names))


def _explain(
    part: Range, place: str, found: Broken, expression: str, until: str, as_json: bool
) -> None:
    """What is concerned, as it was after the record and all that it caused; how to go on."""
    sequence = int(found.record["sequence"])
    past = rewind(part.journal, str(sequence), config=part.config, books=True)
    after = past.moment.sequence
    concerned = {
        name: {
            int(values[of])
            for values in (found.record, found.values)
            for of in (name, f"maker_{name}")
            if values.get(of)
        }
        for name in ("account_number", "market_number", "order_id")
    }
    accounts = Accounts(past.accounts())
    there = {int(row["number"]) for row in accounts.rows}
    balances = [
        {"account": accounts.name(n), "asset": asset, "free": f"{free:f}", "held": f"{held:f}"}
        for n in sorted(concerned["account_number"] & there)
        for asset, (free, held) in past.balances(n).items()
    ]
    orders = [
        orderview.describe(order, past, accounts)
        for order in past.orders(0, 0)
        if int(order["order_id"]) in concerned["order_id"]
    ]
    markets = [m for m in past.markets.values() if m.number in concerned["market_number"]]
    what = "the record" if found.event is None else f"its event {found.event}"
    if as_json:
        books = [orderview.book_values(past.depth(m), m, _LEVELS) for m in markets]
        about = {"sequence": sequence, "event": found.event, "after": after, "books": books}
        about |= {"balances": balances, "orders": orders, "go_on_from": sequence + 1}
        print(json.dumps({"break": about}))
        return
    print(f"\nStopped at record {sequence:,}: of {what} it is true that {expression}")
    print(f"After record {after:,}:")
    for market in markets:
        Console().print(orderview.draw(past.depth(market), market, _LEVELS))
    columns = ("account", "asset", "free", "held")
    if balances:
        operate.show_table(columns, [[row[c] for c in columns] for row in balances], left=2)
    if orders:
        orderview.print_orders(orders)
    again = f"matchbox replay-log {_quoted(place)} --from {sequence + 1}"
    again += f" --until {_quoted(until)}" if until else ""
    print(f"Go on with: {again} --break {_quoted(expression)}")


def _quoted(text: str) -> str:
    """For a shell, in double quotes where that is easier to read."""
    plain = "'" in text and not any(each in text for each in '"$`\\!')
    return f'"{text}"' if plain else shlex.quote(text)
