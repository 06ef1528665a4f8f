"""`matchbox verify`, `backup`, `restore`: is a journal whole, and what becomes of it elsewhere.

    verify    read all of a journal again, and replay it
    back_up   a copy of a data folder's journal, and what is needed to verify it
    restore   a data folder from a copy

A backup is a folder like a data folder: `journal`, the configuration as `exchange.toml`, and
`backup.json`, which says how far it goes and with which hash it ends.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matchbox.core.snapshot import combined_hash
from matchbox.persistence import backup, files, snapshots
from matchbox.persistence.batch import Batch
from matchbox.persistence.journal import Reader
from matchbox.shm.errors import BadArgument, JournalError, MatchboxError, SnapshotError
from matchbox.tools import folder
from matchbox.tools.catalog import Catalog
from matchbox.tools.config import Config, load
from matchbox.tools.logview import find_journal
from matchbox.tools.replica import Replica

CONFIG, NOTE = "exchange.toml", "backup.json"
FOLDER = "snapshots"
Progress = Callable[[int], object]


@dataclass
class Outcome:
    """What was found. `agents`: the state hash of each; `state`: of all, as `up` and `down` say."""

    journal: str
    files: int
    batches: int = 0
    began: int = 0  # the snapshot that was replayed from, where the beginning was pruned
    records: int = 0
    chain: str = ""  # hash of the last batch
    agents: dict[str, int] = field(default_factory=dict)
    state: int = 0
    compared: list[str] = field(default_factory=list)
    snapshots: list[int] = field(default_factory=list)  # those that have the state of the replay
    views: int = 0  # up to which record they were compared
    differences: list[str] = field(default_factory=list)
    wrong_at: int = 0  # the first record whose state is wrong, or that cannot be trusted; 0: none

    def differ(self, sequence: int, text: str) -> None:
        self.differences.append(text)
        self.wrong_at = self.wrong_at or sequence


def verify(
    place: str,
    *,
    config: Path | None = None,
    views: bool = False,
    progress: Progress = lambda n: None,
) -> Outcome:
    """Read a journal again, from its first byte on, and replay it in this process.

    `views`: compare them with what the journal gives, too.

    Raises BadArgument if there is none, or no configuration for it; what is wrong with it is in the
    outcome.
    """
    # They need find_config() of here.
    from matchbox.tools.snapshots import begin, known

    journal = find_journal(place)
    data = journal.parent
    settings = find_config(data, config)
    outcome = Outcome(str(journal), len(files.numbers(journal)))
    try:
        _check_structure(journal)
        start = _start(journal)
        outcome.began = start.sequence if start else 0
        catalog = Catalog()
        catalog.learn(known(journal, start))
        replica = begin(settings, catalog, start)
        _read(journal, replica, outcome, progress)
    except JournalError as error:
        outcome.differ(
            error.sequence, f"{error} (whole up to record {max(error.sequence - 1, 0):,})"
        )
        return outcome
    _compare(outcome, "at its stop", _stopped(data), f"{outcome.state:016x}")
    if views:
        from matchbox.tools import verify_views

        outcome.views, wrong = verify_views.differences(settings, data, progress)
        outcome.differences += [f"the views: {text}" for text in wrong]
    return outcome


def capture(outcome: Outcome, config: Path | None = None) -> str:
    """Have what led to the first wrong record in a file; what became of that."""
    from matchbox.tools import alarms

    journal = Path(outcome.journal)
    try:
        settings = find_config(journal.parent, config)
        reason = outcome.differences[0]
        written = alarms.make(journal, str(outcome.wrong_at), reason, config=settings)
    except (MatchboxError, OSError) as error:
        return f"No capture was written: {error}"
    return f"A capture was written: {written}"


def _start(journal: Path) -> snapshots.Snapshot | None:
    """The oldest snapshot that leads into a journal whose beginning was pruned. Raises JournalError
    if there is none.
    """
    with Reader(journal) as reader:
        oldest = reader.first_sequence()
    if oldest == 1:
        return None
    folder = journal.parent / FOLDER
    for sequence in reversed(snapshots.sequences(folder)):
        found = snapshots.newest(folder, at_most=sequence, journal=journal)
        if found is not None and found.sequence == sequence:
            return found
    raise JournalError(
        f"the journal begins with record {oldest:,}, and no snapshot leads there", oldest
    )


def _check_structure(journal: Path) -> None:
    """The pages of files that nobody writes. Raises JournalError."""
    if is_written(journal):
        return
    for number in files.numbers(journal):
        path = files.file_path(journal, number)
        problem = files.structure_problem(path)
        if problem:
            with Reader(journal, before_file=number) as reader:
                last = reader.last()[0]
            raise JournalError(f"{path} is damaged: {problem}", last + 1)


def is_written(journal: Path) -> bool:
    """Does a process write this journal?"""
    try:
        lock = os.open(journal / "writer.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _read(journal: Path, replica: Replica, outcome: Outcome, progress: Progress) -> None:
    note = _note(journal.parent)
    with Reader(journal) as reader:
        for batch in reader.batches(reader.first_sequence()):
            _replay(journal.parent / FOLDER, replica, batch, outcome)
            outcome.batches += 1
            outcome.records, outcome.chain = batch.last_sequence, batch.hash.hex()
            if batch.last_sequence == note.get("sequence"):
                _compare(outcome, "at the backup", note.get("hash"), outcome.chain)
            progress(batch.last_sequence)
    replica.finish()
    if outcome.records < int(note.get("sequence", 0)):
        outcome.differences.append(
            f"the backup ended with record {note['sequence']:,}, this journal with "
            f"{outcome.records:,}"
        )
    state = replica.state()
    outcome.agents = {name: agent["hash"] for name, agent in state.items()}
    outcome.state = combined_hash(state)
    stopped = folder.read_status(journal.parent)
    if stopped.get("state") == "stopped" and int(stopped["sequence"]) != outcome.records:
        outcome.differ(
            outcome.records,
            f"the exchange stopped at record {stopped['sequence']:,}, its journal ends with "
            f"{outcome.records:,}",
        )


def _replay(folder: Path, replica: Replica, batch: Batch, outcome: Outcome) -> None:
    """A batch; where there is a snapshot of one of its records, compare the states."""
    # What is before the snapshot that it begins with can be read, but not be replayed.
    records = batch.records[max(0, replica.position + 1 - batch.first_sequence) :]
    for sequence in reversed(snapshots.sequences(folder)):
        if not len(records) or not records[0]["sequence"] <= sequence <= batch.last_sequence:
            continue
        count = sequence + 1 - int(records[0]["sequence"])
        replica.replay(records[:count])
        records = records[count:]
        # An event ring may be too short for what is not settled yet: then there is no state to see.
        if replica.catch_up():
            _compare_snapshot(snapshots.file_path(folder, sequence), replica, outcome)
    replica.replay(records)


def _compare_snapshot(path: Path, replica: Replica, outcome: Outcome) -> None:
    try:
        expected = snapshots.header(path)["state_hash"]
    except SnapshotError as error:
        outcome.differences.append(str(error))
        return
    found = f"{combined_hash(replica.state()):016x}"
    if found == expected:
        outcome.snapshots.append(replica.position)
    else:
        outcome.differ(
            replica.position, f"the state hash in {path} is {expected}, it is {found} now"
        )


def _compare(outcome: Outcome, when: str, expected: str | None, found: str) -> None:
    if expected is None:
        return
    if expected == found:
        outcome.compared.append(when)
    else:
        outcome.differ(outcome.records, f"the hash {when} was {expected}, it is {found} now")


def _stopped(data: Path) -> str | None:
    """The state hash that the exchange had when it stopped in order."""
    status = folder.read_status(data)
    return str(status["hash"]) if status.get("state") == "stopped" else None


def _note(data: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((data / NOTE).read_text())
    except (OSError, ValueError):
        return {}
    return found


def find_config(data: Path, given: Path | None = None) -> Config:
    """The configuration of an exchange: as given, where it last ran from, or what a copy came with.

    Raises BadArgument if there is none.
    """
    last = folder.read_status(data).get("config")
    places = [given] if given else [*([Path(last)] if last else []), data / CONFIG]
    for place in places:
        if place.is_file():
            return load(place)
    raise BadArgument(
        f"no configuration found: looked for {', '.join(map(str, places))}; allowed: --config FILE"
    )


# ---- copies


def back_up(place: str, target: Path, *, progress: Progress = lambda n: None) -> backup.Copied:
    """Bring the backup in `target` up to date, or make it. Raises MatchboxError, OSError."""
    journal = find_journal(place)
    known = {"journal", FOLDER, "captures", CONFIG, NOTE}
    others = [p.name for p in target.iterdir() if p.name not in known] if target.is_dir() else []
    if others:
        raise BadArgument(f"that is no backup: target={target}, has={', '.join(sorted(others))}")
    copied = backup.backup(journal, target / "journal", progress=progress)
    _keep_base(journal.parent, target)
    _keep_config(journal.parent, target)
    backup.write_note(
        target / NOTE,
        {
            "source": str(journal.parent.resolve()),
            "sequence": copied.last,
            "hash": copied.hash.hex(),
            "time_ns": time.time_ns(),
        },
    )
    return copied


def restore(
    source: str, data: Path, *, until: int = 0, progress: Progress = lambda n: None
) -> backup.Copied:
    """Make a data folder of a backup, or of what is whole of another one. Raises MatchboxError."""
    journal = find_journal(source)
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise BadArgument(f"that is no empty folder: data={data}")
    base = snapshots.base(journal.parent / FOLDER)
    if 0 < until < base and _first(journal) > 1:
        raise BadArgument(
            f"the beginning of the journal was pruned: until={until}, allowed: {base} or later"
        )
    folder.prepare(data)
    copied = backup.restore(journal, data / "journal", until=until, progress=progress)
    _keep_base(journal.parent, data)
    _keep_config(journal.parent, data)
    return copied


def _first(journal: Path) -> int:
    with Reader(journal) as reader:
        return reader.first_sequence()


def _keep_base(data: Path, target: Path) -> None:
    """Of a journal whose beginning was pruned, the snapshot from which the rest can be replayed.

    Raises SnapshotError, OSError.
    """
    if _first(target / "journal") == 1 or snapshots.base(target / FOLDER):
        return
    base = snapshots.base(data / FOLDER)
    if not base:
        raise SnapshotError(f"the journal of {data} begins later, and has no base to begin with")
    there = target / FOLDER / snapshots.BASE
    files.make_directory(there)
    path, draft = there / f"{base}.snap", there / f"{base}.new"
    shutil.copyfile(snapshots.file_path(data / FOLDER, base), draft)
    draft.chmod(0o600)
    files.flush(draft)
    draft.rename(path)
    files.flush(there)
    snapshots.read(path)


def _keep_config(data: Path, target: Path) -> None:
    """A copy of the configuration, if there is one: no journal can be verified without."""
    try:
        text = find_config(data).path.read_bytes()
    except MatchboxError:
        return
    (target / CONFIG).write_bytes(text)
    files.flush(target / CONFIG)
    files.flush(target)


# ---- showing


def lines(outcome: Outcome) -> list[str]:
    count = f"{outcome.files:,} file{'s' if outcome.files != 1 else ''}"
    found = [
        f"{outcome.journal}: {count}, {outcome.batches:,} batches, {outcome.records:,} records; "
        f"chain {outcome.chain[:16]}"
    ]
    found += [f"{name:12}{state_hash:016x}" for name, state_hash in outcome.agents.items()]
    if outcome.differences:
        return [*found, *outcome.differences]
    if outcome.began:
        found.append(f"The journal was pruned: replayed from the snapshot of {outcome.began:,} on.")
    if outcome.snapshots:
        numbers = ", ".join(f"{sequence:,}" for sequence in outcome.snapshots)
        found.append(f"Snapshots with the state that the journal leads to: {numbers}.")
    if outcome.views:
        found.append(f"The views up to record {outcome.views:,} are what the journal gives.")
    same = f", the same as {' and '.join(outcome.compared)}" if outcome.compared else ""
    return [*found, f"State hash {outcome.state:016x} at sequence {outcome.records:,}{same}."]


def as_dict(outcome: Outcome) -> dict[str, Any]:
    return {
        "journal": outcome.journal,
        "files": outcome.files,
        "batches": outcome.batches,
        "began": outcome.began,
        "sequence": outcome.records,
        "chain": outcome.chain,
        "agents": {name: f"{h:016x}" for name, h in outcome.agents.items()},
        "state": f"{outcome.state:016x}",
        "compared": outcome.compared,
        "snapshots": outcome.snapshots,
        "views": outcome.views,
        "differences": outcome.differences,
    }
