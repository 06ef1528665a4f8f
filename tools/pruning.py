"""`matchbox journal prune`: the journal's beginning goes, and what is left can still be replayed.

    holds     up to which record each of those who need the journal lets go of it
    prune     make the base, then remove or move files

The *base* is a snapshot of the last record of the first batch that stays (snapshots/base). Every
state from there on can be computed: by the archiver, whose views may have to be made again from the
last day on that is complete, by `verify`, `at`, `backup`, and by a start whose other snapshots are
all damaged. It is on the disk, read back and loaded before any file is removed.
"""

import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import matchbox
from matchbox.core.snapshot import combined_hash
from matchbox.persistence import points, snapshots
from matchbox.persistence import prune as pruned
from matchbox.persistence.journal import Reader
from matchbox.persistence.partition import DAY_NS
from matchbox.persistence.prune import Old
from matchbox.persistence.snapshots import BASE, Snapshot
from matchbox.persistence.views import Views
from matchbox.shm.errors import BadArgument, JournalError, SnapshotError, ViewsError
from matchbox.tools import moments
from matchbox.tools.archiving import VIEWS
from matchbox.tools.catalog import Catalog
from matchbox.tools.config import Config
from matchbox.tools.logview import find_journal
from matchbox.tools.snapshots import FOLDER, begin, following, known
from matchbox.tools.verify import find_config, is_written

# Of the ends of batches: how many are tried, for a snapshot that fits the rings.
_TRIES = 64
Progress = Callable[[int], object]


@dataclass(frozen=True)
class Hold:
    """Who needs the journal after record `last`; 0: all of it."""

    last: int
    who: str

    def __str__(self) -> str:
        return f"{self.who}: up to record {self.last:,}" if self.last else f"{self.who}: nothing"


@dataclass
class Pruned:
    """What was removed, or would be; what holds the rest, the first of them the tightest."""

    journal: Path
    old: list[Old]
    base: int
    holds: list[Hold]
    moved: Path | None = None
    done: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(each.size for each in self.old)


def prune(
    place: str,
    *,
    before: str = "",
    keep_days: int | None = None,
    move_to: Path | None = None,
    dry_run: bool = False,
    config: Path | None = None,
    progress: Progress = lambda last: None,
) -> Pruned:
    """Remove what nobody needs. Raises BadArgument, MatchboxError, OSError; nothing is removed
    then, or only the oldest files.
    """
    journal = find_journal(place)
    if journal.name != "journal":
        raise BadArgument(f"not the journal of a data folder: {journal}")
    settings = find_config(journal.parent, config)
    if move_to is not None and _same_or_inside(move_to, journal):
        raise BadArgument(f"a place elsewhere is needed: move-to={move_to}, journal={journal}")
    lock = os.open(journal, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError(f"the journal is being pruned just now: {journal}") from None
        held = holds(journal, settings, before, keep_days)
        old, ends = pruned.cut_before(journal, held[0].last)
        found = Pruned(journal, old, ends[0] if ends else 0, held, move_to)
        if not old or dry_run:
            return found
        found.base = make_base(journal, settings, ends, progress)
        points.passing("prune.based")
        if move_to is not None:
            pruned.copy(old, move_to)
            points.passing("prune.copied")
        pruned.remove(old)
        found.done = True
        return found
    finally:
        os.close(lock)


def _same_or_inside(target: Path, journal: Path) -> bool:
    there, here = target.resolve(), journal.resolve()
    return there == here or here in there.parents


# ---- who needs it


def holds(journal: Path, config: Config, before: str, keep_days: int | None) -> list[Hold]:
    """All who hold something, those who let go of least first. Raises BadArgument."""
    found = [_snapshots(journal, config)]
    if config.archive.enabled:
        found.append(_views(journal.parent / VIEWS))
    with Reader(journal) as reader:
        if before:
            found.append(Hold(moments.find_before(reader, before), f"--before {before}"))
        if keep_days is not None:
            midnight_ns = max(time.time_ns() // DAY_NS - keep_days, 0) * DAY_NS
            last = moments.find_before(reader, f"{midnight_ns}ns")
            found.append(Hold(last, f"--keep-days {keep_days}"))
    return sorted(found, key=lambda hold: hold.last)


def _snapshots(journal: Path, config: Config) -> Hold:
    """The oldest that can be used. A standby of an exchange that runs needs one of a standby."""
    folder = journal.parent / FOLDER
    base = snapshots.base(folder)
    good = []
    for sequence in snapshots.sequences(folder):
        found = snapshots.newest(folder, at_most=sequence, journal=journal)
        if found is not None and found.sequence == sequence != base:
            good.append(found)
    if not good:
        return Hold(0, "no snapshot can be used (allowed: `matchbox snapshot take`)")
    needed = config.standby.enabled and is_written(journal)
    if needed and not any(found.sessions for found in good):
        return Hold(
            0, "no snapshot is a standby's (allowed: `matchbox snapshot take` while it runs)"
        )
    return Hold(good[-1].sequence, "the oldest snapshot")


def _views(folder: Path) -> Hold:
    """After a loss of memory the views are made again from the last day on that is complete."""
    try:
        with Views(folder) as views:
            sealed = [day.state.position for day in views.days() if day.state.sealed]
    except ViewsError as error:
        return Hold(0, f"the views cannot be read ({error})")
    if not sealed:
        return Hold(0, "the views have no complete day yet")
    return Hold(sealed[-1], "the last complete day of the views")


# ---- the base


def make_base(journal: Path, config: Config, ends: list[int], progress: Progress) -> int:
    """Have the snapshot from which the rest can be replayed; its record. Raises MatchboxError."""
    folder = journal.parent / FOLDER
    for sequence in ends[:_TRIES]:
        start = snapshots.newest(folder, at_most=sequence, journal=journal)
        if start is None and _begins_later(journal):
            raise JournalError(f"no snapshot leads to record {sequence:,}", sequence)
        path = _write_base(journal, config, start, sequence, progress)
        if path is not None:
            _check_base(journal, config, path)
            return sequence
    raise SnapshotError(
        f"no snapshot of the records {ends[0]:,} to {ends[:_TRIES][-1]:,} fits the event rings; "
        "allowed: a larger `rings.events`"
    )


def _begins_later(journal: Path) -> bool:
    with Reader(journal) as reader:
        return reader.first_sequence() > 1


def _write_base(
    journal: Path, config: Config, start: Snapshot | None, sequence: int, progress: Progress
) -> Path | None:
    """None if the events of the record do not fit before more of them is settled."""
    definitions = known(journal, start, sequence)
    catalog = Catalog()
    catalog.learn(definitions)
    replica = begin(config, catalog, start, publisher=True)
    for batch, records in following(journal, start, sequence):
        replica.replay(records)
        progress(batch.last_sequence)
    image = replica.save()
    if image is None:
        return None
    with Reader(journal) as reader:
        batch = next(reader.batches(sequence))
    return snapshots.write(
        journal.parent / FOLDER / BASE,
        image,
        definitions=definitions,
        epoch=batch.epoch,
        chain=batch.hash if batch.last_sequence == sequence else b"",
        build=matchbox.__version__,
        keep=1,
    )


def _check_base(journal: Path, config: Config, path: Path) -> None:
    """Raises SnapshotError unless it can be read, and an engine that loads it has its state."""
    read = snapshots.read(path)
    catalog = Catalog()
    catalog.learn(read.definitions)
    state = combined_hash(begin(config, catalog, read).state())
    if state != read.image.state_hash:
        raise SnapshotError(
            f"{path} has not the state that was saved: hash={state:016x}, "
            f"saved={read.image.state_hash:016x}"
        )


# ---- showing


def lines(found: Pruned) -> list[str]:
    out = []
    for each in found.old:
        records = f"records {each.first:,} to {each.last:,}" if each.first else "no records"
        out.append(f"{each.path.name}: {records}, {each.size:,} bytes")
    count = f"{len(found.old):,} file{'s' if len(found.old) != 1 else ''}, {found.size:,} bytes"
    if not found.old:
        out.append("Nothing to remove: no file has only records that nobody needs.")
    elif not found.done:
        out.append(
            f"Would be removed: {count}; the journal would begin after record {found.base:,}."
        )
    else:
        what = f"Moved to {found.moved}" if found.moved else "Removed"
        out.append(f"{what}: {count}. Every state from record {found.base:,} on is still there.")
    return [*out, "May go, by whom:", *(f"  {hold}" for hold in found.holds)]


def as_dict(found: Pruned) -> dict[str, object]:
    return {
        "journal": str(found.journal),
        "removed": found.done,
        "files": [
            {"path": str(e.path), "first": e.first, "last": e.last, "bytes": e.size}
            for e in found.old
        ],
        "bytes": found.size,
        "base": found.base,
        "moved_to": str(found.moved) if found.moved else None,
        "holds": [{"who": hold.who, "last": hold.last} for hold in found.holds],
    }
