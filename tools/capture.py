"""Captures: one file that has all that is needed to replay a part of a log somewhere else.

    write     the snapshot before a moment, and the records from there on, into a file
    hashed    records replayed, and the state hashes on the way

A capture is a zip file:

    capture.json    what it is, see Manifest; the SHA-256 of the other parts
    exchange.toml   the sizes that the engine had; no names, no paths, no keys
    snapshot        the snapshot to begin with, as it was on the disk; absent: from nothing
    log             the records that follow, LOG_RECORD after LOG_RECORD
    hashes.json     state hashes on the way; absent: the replay has ended the process that wrote it

The file is whole before the replay for its hashes begins: a log on which the engine dies is what a
capture is wanted for most. Accounts, orders and balances of the exchange are in it.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

import matchbox
from matchbox.core.snapshot import LAYOUT, combined_hash
from matchbox.persistence import files, snapshots
from matchbox.persistence.batch import LAYOUT_VERSION
from matchbox.persistence.journal import Reader
from matchbox.persistence.journaler import whole_count
from matchbox.persistence.snapshots import Snapshot
from matchbox.shm.errors import BadArgument, CaptureError, JournalError, SnapshotError
from matchbox.tools import folder, moments
from matchbox.tools.catalog import Catalog
from matchbox.tools.config import Config
from matchbox.tools.past import start_of
from matchbox.tools.planning import make_plan
from matchbox.tools.replica import Replica
from matchbox.tools.snapshots import FOLDER, following, known

FORMAT = 1
MANIFEST, CONFIG, SNAPSHOT, LOG, HASHES = (
    "capture.json",
    "exchange.toml",
    "snapshot",
    "log",
    "hashes.json",
)
# State hashes on the way: so many, but not nearer to each other than so many records.
_HASHES, _LEAST_APART = 64, 256
Progress = Callable[[int], object]


@dataclass(frozen=True)
class Claim:
    """A state hash that somebody else has told of a record: a snapshot, the exchange at its stop.

    `settled`: of all that it caused, and not only as far settled as the record says.
    """

    sequence: int
    hash: str
    by: str
    settled: bool


@dataclass
class Manifest:
    """capture.json. Records `first` to `last`; `matchers`: which one carries each market."""

    first: int
    last: int
    instance: str
    reason: str
    created_ns: int
    version: str
    revision: str | None  # of the git checkout
    matchers: dict[str, int]
    claims: list[Claim]
    damaged: str = ""  # why the journal could not be read any further
    format: int = FORMAT
    records: int = LAYOUT_VERSION
    layout: int = LAYOUT
    parts: dict[str, str] = field(default_factory=dict)  # SHA-256

    @property
    def build(self) -> str:
        return f"{self.version} ({self.revision[:12]})" if self.revision else self.version


@dataclass
class Hashes:
    """hashes.json: [sequence, state hash] on the way, and of the end, all settled. `failed`: at
    which record the replay could not go on, and why.
    """

    on_the_way: list[list[Any]] = field(default_factory=list)
    end: str = ""
    failed: list[Any] = field(default_factory=list)


# ---- replaying


def replica_for(
    config: Config, catalog: Catalog, start: Snapshot | None, manifest: Manifest
) -> Replica:
    """One whose markets are carried by the matchers that carried them."""
    image = start.image if start else None
    plan = make_plan(config, 1, catalog, image)
    matchers = {int(number): matcher for number, matcher in manifest.matchers.items()}
    placed = (replace(m, matcher=matchers.get(m.number, m.matcher)) for m in plan.markets)
    return Replica(replace(plan, markets=tuple(placed)), catalog, matchers, image=image)


def hashed(
    replica: Replica, pieces: Iterable[NDArray[Any]], wanted: Iterable[int], progress: Progress
) -> Hashes:
    """Replay records; the state hashes after those that are wanted, and at the end."""
    found = Hashes()
    coming = sorted(set(wanted), reverse=True)
    try:
        for piece in pieces:
            records = piece
            while len(records):
                last = int(records["sequence"][-1])
                stop = min(coming[-1], last) if coming else last
                count = stop + 1 - int(records["sequence"][0])
                replica.replay(records[:count])
                records = records[count:]
                if not coming or stop != coming[-1]:
                    continue
                coming.pop()
                # An event ring may be too short for what is not settled yet.
                if replica.catch_up():
                    found.on_the_way.append([stop, _hash(replica)])
            progress(replica.position)
        replica.finish()
        found.end = _hash(replica)
    except (JournalError, AssertionError) as error:
        found.failed = [replica.position + 1, str(error)]
    return found


def _hash(replica: Replica) -> str:
    return f"{combined_hash(replica.state()):016x}"


# ---- writing


@dataclass(frozen=True)
class Written:
    """A capture that was made."""

    path: Path
    manifest: Manifest
    hashes: Hashes
    start: int

    def __str__(self) -> str:
        m = self.manifest
        begin = f"the snapshot of {self.start:,} and " if self.start else ""
        text = f"{self.path}: {begin}records {m.first:,} to {m.last:,}, "
        text += f"{self.path.stat().st_size:,} bytes"
        if m.damaged:
            text += f"; the journal cannot be read further: {m.damaged}"
        if self.hashes.failed:
            return f"{text}; the replay stops at record {self.hashes.failed[0]:,}: " + str(
                self.hashes.failed[1]
            )
        return f"{text}; state hash {self.hashes.end}."


def write(
    journal: Path,
    moment: str,
    out: Path | None,
    *,
    config: Config,
    count: int = 0,
    reason: str = "",
    progress: Progress = lambda last: None,
) -> Written:
    """Write a capture of what led to a moment, and of `count` records after it, into `out` (None:
    capture-SEQUENCE.zip here). Raises BadArgument, CaptureError.
    """
    with Reader(journal) as reader:
        at, end, damaged = _bounds(reader, moment, count)
    start = _start(journal, at)
    first = start.sequence + 1 if start else 1
    path = out or Path(f"capture-{at}.zip")
    if path.exists():
        raise BadArgument(f"there is such a file: {path}; allowed: --out, a new one")
    manifest = Manifest(
        first=first,
        last=end,
        instance=config.instance,
        reason=reason,
        created_ns=time.time_ns(),
        version=matchbox.__version__,
        revision=revision(),
        matchers={str(market.id): market.matcher for market in config.markets},
        claims=[],
        damaged=damaged,
    )
    draft = path.with_name(f"{path.name}.new")
    try:
        points = _write_inputs(draft, journal, start, config, manifest, progress)
        draft.rename(path)
        files.flush(path.absolute().parent)
        hashes = _replayed(journal, start, config, manifest, points, progress)
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
            file.writestr(HASHES, json.dumps(asdict(hashes)))
        files.flush(path)
    except OSError as error:
        raise CaptureError(f"cannot write the capture {path}: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
    return Written(path, manifest, hashes, first - 1)


def _bounds(reader: Reader, text: str, count: int) -> tuple[int, int, str]:
    """The record of the moment, the last of the capture, and why it is not a later one."""
    at = moments.find_readable(reader, text)
    last, damaged = at, ""
    wanted = min(at + count, reader.last_sequence())
    try:
        for batch in reader.batches(at):
            last = min(batch.last_sequence, wanted)
            if batch.last_sequence >= wanted:
                break
        if last >= wanted:
            last = moments.at(reader, last).sequence
    except JournalError as error:
        damaged = str(error)
    return at, last, damaged


def _start(journal: Path, at: int) -> Snapshot | None:
    """The snapshot before a record, so that there is something to replay; if the oldest one is of
    this record, that one.
    """
    if at == 1:
        return None
    try:
        return start_of(journal, at - 1)
    except BadArgument:
        return start_of(journal, at)


def _write_inputs(
    path: Path,
    journal: Path,
    start: Snapshot | None,
    config: Config,
    manifest: Manifest,
    progress: Progress,
) -> list[int]:
    """All but the hashes. What cannot be read of the journal is left out, and said. Returns the
    records after which there is to be a hash: never in the middle of those that belong together.
    """
    each = max(_LEAST_APART, (manifest.last + 1 - manifest.first) // _HASHES)
    points: list[int] = []
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with (
        os.fdopen(descriptor, "w+b") as raw,
        zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
    ):
        engine = engine_settings(config)
        file.writestr(CONFIG, engine)
        manifest.parts[CONFIG] = hashlib.sha256(engine.encode()).hexdigest()
        if start is not None:
            with start.path.open("rb") as source:
                manifest.parts[SNAPSHOT] = _copy(source, file, SNAPSHOT)
        digest, done = hashlib.sha256(), manifest.first - 1
        with file.open(LOG, "w", force_zip64=True) as out:
            try:
                for _, records in following(journal, start, manifest.last):
                    data = records.tobytes()
                    out.write(data)
                    digest.update(data)
                    counts = {whole_count(records, n) for n in range(each, len(records), each)}
                    points += [done + count for count in counts if count]
                    done = int(records["sequence"][-1])
                    points.append(done)
                    progress(done)
            except JournalError as error:
                manifest.damaged = str(error)
        manifest.last = done
        if done < manifest.first:
            raise CaptureError(
                f"nothing to capture: record {manifest.first} is the first that would be replayed"
                + (f": {manifest.damaged}" if manifest.damaged else "")
            )
        manifest.parts[LOG] = digest.hexdigest()
        manifest.claims = _claims(journal, manifest.first, manifest.last)
        file.writestr(MANIFEST, json.dumps(asdict(manifest), indent=1))
        file.close()
        raw.flush()
        os.fsync(raw.fileno())
    return _thinned(points, each)


def _thinned(points: list[int], each: int) -> list[int]:
    """Without those that are too near to the one before; the last one stays."""
    found: list[int] = []
    points = sorted(points)
    for point in points:
        if not found or point - found[-1] >= each or point == points[-1]:
            found.append(point)
    return found


def _copy(source: Any, file: zipfile.ZipFile, name: str) -> str:
    digest = hashlib.sha256()
    with file.open(name, "w", force_zip64=True) as out:
        while data := source.read(1 << 20):
            out.write(data)
            digest.update(data)
    return digest.hexdigest()


def _claims(journal: Path, first: int, last: int) -> list[Claim]:
    found = []
    target = journal.parent / FOLDER
    for sequence in snapshots.sequences(target):
        if first <= sequence <= last:
            with contextlib.suppress(SnapshotError):
                state = snapshots.header(snapshots.file_path(target, sequence))["state_hash"]
                found.append(Claim(sequence, state, f"the snapshot of record {sequence:,}", False))
    stopped = folder.read_status(journal.parent)
    if stopped.get("state") == "stopped" and int(stopped["sequence"]) == last:
        found.append(Claim(last, str(stopped["hash"]), "the exchange at its stop", True))
    return sorted(found, key=lambda claim: claim.sequence)


def _replayed(
    journal: Path,
    start: Snapshot | None,
    config: Config,
    manifest: Manifest,
    points: list[int],
    progress: Progress,
) -> Hashes:
    catalog = Catalog()
    catalog.learn(known(journal, start, manifest.last))
    replica = replica_for(config, catalog, start, manifest)
    pieces = (records for _, records in following(journal, start, manifest.last))
    told = (claim.sequence for claim in manifest.claims if not claim.settled)
    return hashed(replica, pieces, [*points, *told], progress)


def engine_settings(config: Config) -> str:
    """A configuration with the sizes of the engine and nothing else."""
    lines = ['instance = "capture"', f"matchers = {config.matchers}"]
    for table, of in (("limits", config.limits), ("rings", config.rings)):
        # What is 0 was left out, and is so here.
        sizes = [f"{name} = {value}" for name, value in asdict(of).items() if value]
        lines += [f"[{table}]", *sizes]
    for table in ("standby", "archive"):
        lines += [f"[{table}]", "enabled = false"]
    return "\n".join(lines) + "\n"


def revision() -> str | None:
    """Of the git checkout that this code is in, if it is in one."""
    home = Path(__file__).resolve().parents[1]
    git = shutil.which("git")
    if git is None or not (home / ".git").exists():
        return None
    try:
        done = subprocess.run(
            [git, "-C", str(home), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10.0,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
