"""`matchbox snapshot`: make a snapshot from a journal, beside a running exchange or not; list them.

    begin    a replica that goes on from a snapshot, or from nothing
    take     replay the journal from the newest good snapshot on, in this process, and save the end
    listed   what there is

A snapshot of record N is settled as far as record N says: the next record of the journal, which may
be written meanwhile, says how far the engine must be settled for it, and that is not further back.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import matchbox
from matchbox.core.snapshot import Image
from matchbox.persistence import snapshots
from matchbox.persistence.batch import Batch
from matchbox.persistence.journal import Reader
from matchbox.persistence.snapshots import Snapshot
from matchbox.shm.connect import look
from matchbox.shm.errors import SnapshotError
from matchbox.shm.records import LOG_RECORD
from matchbox.tools import folder
from matchbox.tools.catalog import Catalog, defining
from matchbox.tools.config import Config
from matchbox.tools.logview import find_journal
from matchbox.tools.planning import make_plan
from matchbox.tools.replica import Replica
from matchbox.tools.verify import find_config

FOLDER = "snapshots"
_STANDBY_PATIENCE_S = 120.0
Say = Callable[[str], object]
Progress = Callable[[int], object]


@dataclass(frozen=True)
class Taken:
    """A snapshot that was made, from the one of record `since` on (0: from nothing)."""

    path: Path
    image: Image
    since: int
    seconds: float

    def __str__(self) -> str:
        size = self.path.stat().st_size
        replayed = self.image.sequence - self.since
        return (
            f"{self.path}: sequence {self.image.sequence:,}, state hash "
            f"{self.image.state_hash:016x}, {size:,} bytes; {replayed:,} records replayed from "
            f"{self.since + 1:,} on, {self.seconds:.2f} s."
        )


def begin(
    config: Config,
    catalog: Catalog,
    start: Snapshot | None,
    *,
    publisher: bool = False,
    reports: bool = False,
    events: bool = False,
) -> Replica:
    """A replica that has loaded `start`, or is new, for the records that follow in its journal, all
    of whose definitions are in `catalog` (see known()). Raises MatchboxError.
    """
    image = start.image if start else None
    plan = make_plan(config, start.epoch if start else 1, catalog, image)
    matchers = {market.id: market.matcher for market in config.markets}
    return Replica(
        plan, catalog, matchers, image=image, publisher=publisher, reports=reports, events=events
    )


def following(
    journal: Path, start: Snapshot | None, last: int = 0
) -> Iterator[tuple[Batch, NDArray[Any]]]:
    """The batches of a journal that go on after a snapshot, and the records of each that do, up to
    record `last` if it is given.
    """
    first = start.sequence + 1 if start else 1
    if 0 < last < first:
        return
    with Reader(journal) as reader:
        for batch in reader.batches(first):
            end = last + 1 - batch.first_sequence if last else len(batch.records)
            records = batch.records[max(0, first - batch.first_sequence) : end]
            if len(records):
                yield batch, records
            if 0 < last <= batch.last_sequence:
                return


def known(journal: Path, start: Snapshot | None, last: int = 0) -> NDArray[Any]:
    """All definitions (LOG_RECORD): those of a snapshot, and of what follows it in the journal, up
    to record `last` if it is given.
    """
    found = [start.definitions if start else np.empty(0, LOG_RECORD)]
    found += [defining(records) for _, records in following(journal, start, last)]
    return np.concatenate(found)


def take(
    place: str,
    *,
    config: Path | None = None,
    keep: int | None = None,
    say: Say = print,
    progress: Progress = lambda n: None,
) -> Taken:
    """Make a snapshot of the last record of a journal. Raises MatchboxError.

    `keep`: how many of the newest are kept; None: as the configuration says.
    """
    began = time.monotonic()
    journal = find_journal(place)
    data = journal.parent
    settings = find_config(data, config)
    target = data / FOLDER
    start = snapshots.newest(target, journal=journal, say=say)
    definitions = known(journal, start)
    catalog = Catalog()
    catalog.learn(definitions)
    replica = begin(settings, catalog, start, publisher=True)
    last: Batch | None = None
    for batch, records in following(journal, start):
        # Some may have been written since the definitions were read.
        definitions = np.concatenate([definitions, _later(records, definitions)])
        replica.replay(records)
        last = batch
        progress(batch.last_sequence)
    if replica.position == 0:
        raise SnapshotError(f"the journal is empty: journal={journal}")
    image = replica.save()
    if image is None:
        raise SnapshotError(
            f"the events of record {replica.position:,} do not fit their ring before more of them "
            "is settled; allowed: a larger `rings.events`, or to try again after the next records"
        )
    path = snapshots.write(
        target,
        image,
        definitions=definitions,
        epoch=last.epoch if last else start.epoch if start else 0,
        chain=last.hash if last else bytes.fromhex(start.chain) if start else b"",
        build=matchbox.__version__,
        keep=settings.snapshots.keep if keep is None else keep,
    )
    return Taken(path, image, start.sequence if start else 0, time.monotonic() - began)


def by_standby(place: str) -> Path | None:
    """Have the standby of a running exchange take one; None if there is no such standby. Raises
    MatchboxError.
    """
    data = find_journal(place).parent
    status = folder.read_status(data)
    if not status.get("standby") or int(status["pid"]) not in folder.living(status):
        return None
    connection = look(data, _STANDBY_PATIENCE_S)
    try:
        lowest = connection.take_snapshot()
    finally:
        connection.close()
    deadline = time.monotonic() + _STANDBY_PATIENCE_S
    while time.monotonic() < deadline:
        taken = snapshots.sequences(data / FOLDER)
        if taken and taken[0] >= lowest:
            return snapshots.file_path(data / FOLDER, taken[0])
        time.sleep(0.01)
    raise SnapshotError(
        f"the standby has taken no snapshot in {_STANDBY_PATIENCE_S:.0f} s; what it says is where "
        "`matchbox up` says its things"
    )


def _later(records: NDArray[Any], definitions: NDArray[Any]) -> NDArray[Any]:
    """The definitions among records that are not known yet."""
    last = int(definitions[-1]["sequence"]) if len(definitions) else 0
    found = defining(records)
    return found[found["sequence"] > last]


def listed(place: str) -> list[dict[str, Any]]:
    """The snapshots of a data folder, newest first: sequence, time, bytes, state hash, problem."""
    target = find_journal(place).parent / FOLDER
    rows = []
    for sequence in snapshots.sequences(target):
        path = snapshots.file_path(target, sequence)
        row: dict[str, Any] = {"sequence": sequence, "path": str(path)}
        try:
            found = snapshots.read(path)
            row |= {
                "time": datetime.fromtimestamp(found.time_ns / 1e9, UTC).isoformat(),
                "bytes": path.stat().st_size,
                "state_hash": f"{found.image.state_hash:016x}",
                "orders": len(found.image.parts["sequencer.orders"]),
                "problem": "",
            }
        except SnapshotError as error:
            row |= {"time": "", "bytes": 0, "state_hash": "", "orders": 0, "problem": str(error)}
        rows.append(row)
    return rows


def line(row: dict[str, Any]) -> str:
    if row["problem"]:
        return f"{row['sequence']:>14,}  cannot be used: {row['problem']}"
    return (
        f"{row['sequence']:>14,}  {row['time'][:19]}Z  {row['bytes']:>14,} bytes  "
        f"{row['orders']:>10,} orders  state {row['state_hash']}"
    )
