"""`matchbox log`: records of a journal, readable.

    View      which records: a filter over whole batches
    read()    the records of a view; recordview.py makes text and JSON of each

The journal is read as it stands on the disk, also while another process writes it.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.persistence import files, snapshots
from matchbox.persistence.journal import Reader
from matchbox.shm.errors import BadArgument, SnapshotError
from matchbox.shm.records import MONEY_RECORD, NAMED_RECORD, Kind
from matchbox.tools.config import default_data, load
from matchbox.tools.recordview import LISTS, MONEY, ORDERS, REMOVALS, SUBSCRIPTIONS, Names

END = (1 << 64) - 1
# Records that name a market, an account, or a session that they are about, where these fields say.
WITH_MARKET = (
    *ORDERS,
    Kind.ORDER_TERMS,
    *LISTS,
    Kind.MASS_CANCEL,
    Kind.ADD_MARKET,
    Kind.REMOVE_MARKET,
    Kind.SET_MARKET,
    Kind.SET_FEES,
)
WITH_ACCOUNT = (
    *ORDERS,
    *SUBSCRIPTIONS,
    *MONEY,
    Kind.ORDER_TERMS,
    *LISTS,
    Kind.MASS_CANCEL,
    Kind.COUNTDOWN,
    Kind.ADD_ACCOUNT,
    Kind.ATTACH_SESSION,
    Kind.SET_ACCOUNT,
)
ABOUT_SESSION = (Kind.ATTACH_SESSION, Kind.DETACH_SESSION)
_FOLLOW_S = 0.1
_TIME = re.compile(r"(?P<whole>.+?)(\.(?P<fraction>\d{1,9}))?(?P<zone>Z|[+-]\d\d:\d\d)?")


@dataclass(frozen=True)
class View:
    """Which records are shown; what is empty does not filter. Ranges include both ends."""

    first: int = 1
    last: int = END
    since_ns: int = 0
    until_ns: int = END
    kinds: tuple[int, ...] = ()
    markets: tuple[int, ...] = ()
    accounts: tuple[int, ...] = ()
    sessions: tuple[int, ...] = ()
    refused: bool = False

    def select(self, records: NDArray[Any]) -> NDArray[Any]:
        """Those of LOG_RECORDs that are shown."""
        kind = records["kind"]
        keep = (records["sequence"] >= self.first) & (records["sequence"] <= self.last)
        keep &= (records["timestamp_ns"] >= self.since_ns) & (
            records["timestamp_ns"] <= self.until_ns
        )
        if self.kinds:
            keep &= np.isin(kind, self.kinds)
        if self.markets:
            keep &= np.isin(kind, WITH_MARKET) & np.isin(records["market"], self.markets)
        if self.accounts:
            of = np.isin(kind, WITH_ACCOUNT) & np.isin(records["account"], self.accounts)
            to = np.isin(records.view(MONEY_RECORD)["counter_account"], self.accounts)
            keep &= of | ((kind == Kind.TRANSFER) & to)
        if self.sessions:
            about = np.isin(kind, ABOUT_SESSION)
            about &= np.isin(records.view(NAMED_RECORD)["id"], self.sessions)
            keep &= about | np.isin(records["session"], self.sessions)
        if self.refused:
            keep &= records["reject"] != 0
        return records[keep]

    def before(self, header: NDArray[Any]) -> bool:
        """Whether the whole batch lies before what is shown."""
        end = int(header["first_sequence"]) + int(header["count"])
        return end <= self.first or int(header["last_timestamp_ns"]) < self.since_ns

    def after(self, header: NDArray[Any]) -> bool:
        """Whether the batch, and so everything behind it, lies after what is shown."""
        return (
            int(header["first_sequence"]) > self.last
            or int(header["first_timestamp_ns"]) > self.until_ns
        )


def find_journal(place: str) -> Path:
    """The journal at `place`: its folder; or an instance's data folder, name or configuration.

    Raises BadArgument if there is none.
    """
    path = Path(place).expanduser()
    if path.is_file():
        path = load(path).data
    tried = [path, path / "journal"]
    if "/" not in place:
        tried.append(default_data(place) / "journal")
    for folder in tried:
        if files.numbers(folder):
            return folder
    raise BadArgument(f"no journal there: looked in {', '.join(map(str, tried))}")


def read_names(reader: Reader) -> Names:
    """The names that the whole journal defines."""
    names = names_before(reader)
    for header in reader.headers(reader.first_sequence()):
        if header["definitions"]:
            names.learn(reader.batch(header).records)
    return names


def names_before(reader: Reader) -> Names:
    """The names that were defined before the journal begins, if its beginning was pruned."""
    names, first = Names(), reader.first_sequence()
    folder = reader.directory.parent / "snapshots"
    base = snapshots.base(folder)
    if first > 1 and base:
        with contextlib.suppress(SnapshotError):
            definitions = snapshots.read(snapshots.file_path(folder, base)).definitions
            names.learn(definitions[definitions["sequence"] < first])
    return names


def read(
    reader: Reader, view: View, names: Names, *, follow: Callable[[], bool] = lambda: False
) -> Iterator[NDArray[Any]]:
    """The records of the view, some at a time; `names` learns the definitions on the way.

    follow: called at the end of the journal; True to look again for more, which it may wait for.
    Raises JournalError about the first damaged batch; what was before it has been given.
    """
    position = reader.first_sequence()
    while True:
        for header in reader.headers(position):
            if view.after(header):
                return
            position = int(header["first_sequence"]) + int(header["count"])
            skipped = view.before(header)
            if skipped and not header["definitions"]:
                continue
            records = reader.batch(header).records
            for part in _by_definitions(records):
                names.learn(part)
                chosen = part[:0] if skipped else view.select(part)
                if len(chosen):
                    yield chosen
        if position > view.last or not follow():
            return


def _by_definitions(records: NDArray[Any]) -> list[NDArray[Any]]:
    """Records in parts in which a number has one meaning: it can be given again after a removal."""
    removals = np.isin(records["kind"], REMOVALS) & (records["reject"] == 0)
    return np.split(records, np.flatnonzero(removals) + 1)


def wait_for_more() -> bool:
    """A `follow` that goes on for ever."""
    time.sleep(_FOLLOW_S)
    return True


# ---- times


def parse_time(text: str) -> int:
    """Nanoseconds since 1970: of an ISO 8601 time (UTC unless it says), or of a number of them.

    Raises BadArgument.
    """
    if text.isdigit():
        return int(text)
    found = _TIME.fullmatch(text)
    try:
        when = datetime.fromisoformat(found["whole"] + (found["zone"] or "")) if found else None
    except ValueError:
        when = None
    if found is None or when is None:
        raise BadArgument(
            f"not a time: {text!r}, allowed=2026-11-24T09:30:00.5Z, or nanoseconds since 1970"
        )
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    elapsed = when - datetime(1970, 1, 1, tzinfo=UTC)
    seconds = elapsed.days * 86400 + elapsed.seconds
    return seconds * 1_000_000_000 + int((found["fraction"] or "").ljust(9, "0"))


def parse_kind(text: str) -> int:
    """The number of a kind of record, by name in any case. Raises BadArgument."""
    name = text.upper().replace("-", "_")
    if name in Kind.__members__:
        return int(Kind[name])
    allowed = ", ".join(kind.name.lower().replace("_", "-") for kind in Kind)
    raise BadArgument(f"no such kind of record: kind={text}, allowed={allowed}")


def last_records(reader: Reader, count: int) -> int:
    """The sequence from which on there are `count` records, of all kinds."""
    return max(1, reader.last()[0] - count + 1)
