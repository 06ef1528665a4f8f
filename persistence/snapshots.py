"""Snapshots on the disk: one file each, named by the sequence of its last log record.

    write     a core.snapshot.Image into a folder, whole or not at all
    read      a file, every byte verified
    newest    the newest good one that belongs to a journal; what is damaged is passed over

The folder `base` in that of the snapshots has one more, where the journal's beginning was pruned:
that from which what is left of the journal can be replayed. It is one of them wherever they are
read, and none of those of which only the newest are kept.

Layout of a file (version 1, little-endian):

      0  magic          "MBSNAP01"
      8  version        of this layout, uint32
     12  header_bytes   uint32
     16  reserved       0
     32  checksum       SHA-256 of bytes 0 to 31 and of the header
     64  header         JSON, see below
      .  parts          each at a multiple of 64, as the header says

The header has `layout` (core.snapshot.LAYOUT: the meaning of the parts) and `records` (the layout
of log records), `build`, `sequence`, `epoch`, `time_ns`, `state_hash`, `chain` (hash of the
journal's batch that ends with the sequence, where that is known), `sessions` (does it know how many
reports each session has got? a standby's does), `rings` (positions), and of each
of the `parts` name, row_bytes, rows, offset and SHA-256. The part `definitions` has all accepted
definitions and removals of the log, LOG_RECORD: the names, which the engine itself does not know.

The last log record is in the snapshot: a journal that has another one there is another journal.
"""

import contextlib
import hashlib
import json
import mmap
import os
import re
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.core.snapshot import LAYOUT, Image, check_rows
from matchbox.persistence import files, points
from matchbox.persistence.batch import LAYOUT_VERSION
from matchbox.persistence.journal import Reader
from matchbox.shm.errors import JournalError, SnapshotError
from matchbox.shm.records import LOG_RECORD

VERSION = 1
_MAGIC = b"MBSNAP01"
_START = struct.Struct("<8sII16x")
_HEADER_OFFSET = 64
_ALIGNMENT = 64
_NAME = re.compile(r"(\d+)\.snap")
_DEFINITIONS = "definitions"
BASE = "base"

Say = Callable[[str], object]


@dataclass(frozen=True)
class Snapshot:
    """A verified snapshot."""

    path: Path
    image: Image
    definitions: NDArray[Any]  # LOG_RECORD
    epoch: int
    time_ns: int
    chain: str
    build: str
    sessions: bool

    @property
    def sequence(self) -> int:
        return self.image.sequence


def file_path(folder: Path, sequence: int) -> Path:
    """Where the snapshot of a record is, or is to be; if only the base is of this record, that."""
    path = folder / f"{sequence}.snap"
    of_base = folder / BASE / path.name
    return of_base if of_base.exists() and not path.exists() else path


def sequences(folder: Path) -> list[int]:
    """Of the snapshots in a folder, and of its base, newest first; none if it does not exist."""
    return sorted({*_kept(folder), *_kept(folder / BASE)}, reverse=True)


def base(folder: Path) -> int:
    """The record of the base; 0: there is none, for the journal begins with the first record."""
    return max(_kept(folder / BASE), default=0)


def _kept(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    names = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted((int(name[1]) for name in names if name), reverse=True)


# ---- writing


def write(
    folder: Path,
    image: Image,
    *,
    definitions: NDArray[Any],
    epoch: int = 0,
    chain: bytes = b"",
    build: str = "",
    keep: int = 0,
    sessions: bool = False,
) -> Path:
    """Write a snapshot; afterwards all but the `keep` newest are removed (0: none is).

    When this returns it is on the disk. Blocks; the engine need not wait for it, since an image is
    a copy. Raises SnapshotError if it cannot be written; nothing of it is there then.
    """
    parts = {_DEFINITIONS: definitions.view(f"V{LOG_RECORD.itemsize}"), **image.parts}
    path = folder / f"{image.sequence}.snap"
    draft = path.with_suffix(".new")
    head = {
        "layout": LAYOUT,
        "records": LAYOUT_VERSION,
        "build": build,
        "sequence": image.sequence,
        "epoch": epoch,
        "time_ns": time.time_ns(),
        "state_hash": f"{image.state_hash:016x}",
        "chain": chain.hex(),
        "sessions": sessions,
        "rings": image.rings,
    }
    try:
        files.make_directory(folder)
        with draft.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            _write(file, head, parts)
            file.flush()
            os.fsync(file.fileno())
        points.passing("snapshot.written")
        draft.rename(path)
        files.flush(folder)
        if keep:
            remove_older(folder, keep)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise SnapshotError(f"cannot write the snapshot {path}: {error}") from error
    return path


def _write(file: Any, head: dict[str, Any], parts: dict[str, NDArray[Any]]) -> None:
    sums = _digests([part.view(np.uint8) for part in parts.values()])
    # Offsets count from the end of the header, whose length they are part of.
    rows: list[tuple[str, int, int, int, str]] = []
    at = 0
    for (name, part), digest in zip(parts.items(), sums, strict=True):
        rows.append((name, part.itemsize, len(part), at, digest))
        at = _aligned(at + part.nbytes)
    text = json.dumps({**head, "parts": rows}).encode()
    start = _START.pack(_MAGIC, VERSION, len(text))
    file.write(start + hashlib.sha256(start + text).digest() + text)
    begin = _aligned(_HEADER_OFFSET + len(text))
    for part, row in zip(parts.values(), rows, strict=True):
        file.seek(begin + row[3])
        file.write(part.view(np.uint8).data)
    file.truncate(begin + at)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def _digests(parts: list[NDArray[np.uint8]]) -> list[str]:
    """On as many processors as there are: hashing is most of the time that a file takes."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda part: hashlib.sha256(part.data).hexdigest(), parts))


def remove_older(folder: Path, keep: int) -> None:
    """Remove all but the `keep` newest snapshots, and drafts of writers that died. OSError."""
    found = _kept(folder)
    for sequence in found[keep:]:
        (folder / f"{sequence}.snap").unlink(missing_ok=True)
    for draft in folder.glob("*.new"):
        if draft.stem.isdigit() and found and int(draft.stem) < found[0]:
            draft.unlink(missing_ok=True)


# ---- reading


def read(path: Path, *, verified: bool = False) -> Snapshot:
    """A snapshot, verified, unless another process has just done so. Raises SnapshotError that says
    what is wrong with it.
    """
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    except (OSError, ValueError) as error:
        raise SnapshotError(f"cannot read the snapshot {path}: {error}") from error
    raw = np.frombuffer(content, np.uint8)
    head, begin = _header(path, raw)
    parts = _parts(path, raw, begin, head["parts"], verified)
    definitions = parts.pop(_DEFINITIONS, None)
    if definitions is None or definitions.itemsize != LOG_RECORD.itemsize:
        raise SnapshotError(f"{path} is damaged: it has no definitions")
    try:
        check_rows(parts)
    except SnapshotError as error:
        raise SnapshotError(f"{path}: {error}") from None
    image = Image(int(head["sequence"]), int(head["state_hash"], 16), head["rings"], parts)
    if str(image.sequence) != path.stem or int(image.last_record["sequence"]) != image.sequence:
        raise SnapshotError(
            f"{path} has another name than it had: sequence={image.sequence}, "
            f"last_record={int(image.last_record['sequence'])}"
        )
    return Snapshot(
        path,
        image,
        definitions.view(LOG_RECORD),
        int(head["epoch"]),
        int(head["time_ns"]),
        head["chain"],
        head["build"],
        bool(head["sessions"]),
    )


def header(path: Path) -> dict[str, Any]:
    """The header of a snapshot, which says nothing of its parts' bytes. Raises SnapshotError."""
    try:
        with path.open("rb") as file:
            raw = np.frombuffer(file.read(_HEADER_OFFSET), np.uint8)
            if len(raw) == _HEADER_OFFSET:
                length = _START.unpack(raw[: _START.size].tobytes())[2]
                raw = np.concatenate([raw, np.frombuffer(file.read(length), np.uint8)])
    except OSError as error:
        raise SnapshotError(f"cannot read the snapshot {path}: {error}") from error
    return _header(path, raw)[0]


def _header(path: Path, raw: NDArray[np.uint8]) -> tuple[dict[str, Any], int]:
    """The header, and where parts begin."""
    if len(raw) < _HEADER_OFFSET:
        raise SnapshotError(f"{path} is cut off: bytes={len(raw)}")
    start = raw[: _START.size].tobytes()
    magic, version, length = _START.unpack(start)
    if magic != _MAGIC:
        raise SnapshotError(f"{path} is no snapshot: magic={magic!r}")
    if version != VERSION:
        raise SnapshotError(f"{path} is of another version: version={version}, supported={VERSION}")
    text = raw[_HEADER_OFFSET : _HEADER_OFFSET + length].tobytes()
    expected = raw[_START.size : _HEADER_OFFSET].tobytes()
    if hashlib.sha256(start + text).digest() != expected:
        raise SnapshotError(f"{path} is damaged: the checksum of its header does not match")
    head: dict[str, Any] = json.loads(text)
    if (head["layout"], head["records"]) != (LAYOUT, LAYOUT_VERSION):
        raise SnapshotError(
            f"{path} is of another layout: layout={head['layout']}, records={head['records']}, "
            f"supported={LAYOUT}, {LAYOUT_VERSION}, build={head['build']}"
        )
    return head, _aligned(_HEADER_OFFSET + length)


def _parts(
    path: Path, raw: NDArray[np.uint8], begin: int, rows: list[list[Any]], verified: bool
) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for name, row_bytes, count, offset, _ in rows:
        part = raw[begin + offset : begin + offset + row_bytes * count]
        if len(part) != row_bytes * count:
            raise SnapshotError(f"{path} is cut off: part={name}, bytes={len(raw)}")
        found[name] = part
    digests = [] if verified else _digests(list(found.values()))
    for row, digest in zip(rows, digests, strict=not verified):
        if digest != row[4]:
            raise SnapshotError(f"{path} is damaged: the checksum of part {row[0]} does not match")
    return {row[0]: found[row[0]].view(f"V{row[1]}") for row in rows}


# ---- choosing


def newest(
    folder: Path,
    *,
    at_most: int | None = None,
    journal: Path | None = None,
    sessions: bool = False,
    say: Say = lambda text: None,
) -> Snapshot | None:
    """The newest good snapshot of a record up to `at_most`, and of this `journal`, that knows of
    `sessions`; None if there is none. `say` is told why others were passed over.
    """
    for snapshot in good(folder, at_most=at_most, say=say):
        if sessions and not snapshot.sessions:
            continue
        if journal is None:
            return snapshot
        problem = _other_journal(snapshot, journal)
        if not problem:
            return snapshot
        say(f"{snapshot.path} is passed over: {problem}")
    return None


def good(folder: Path, *, at_most: int | None = None, say: Say) -> Iterator[Snapshot]:
    """The snapshots that can be read, newest first."""
    for sequence in sequences(folder):
        if at_most is not None and sequence > at_most:
            continue
        try:
            yield read(file_path(folder, sequence))
        except SnapshotError as error:
            say(f"A snapshot is passed over: {error}")


def _other_journal(snapshot: Snapshot, directory: Path) -> str:
    """Why it does not go on from this snapshot; empty if it does."""
    sequence = snapshot.sequence
    with Reader(directory) as reader:
        last = reader.last()[0]
        if last < sequence:
            return f"the journal ends before it, with record {last:,}"
        try:
            batch = next(iter(reader.batches(sequence)))
        except JournalError as error:
            return str(error)
        record = batch.records[sequence - batch.first_sequence]
        if record.tobytes() != snapshot.image.last_record.tobytes():
            return f"the journal has another record {sequence:,}"
        ends = batch.last_sequence == sequence and snapshot.chain
        if ends and batch.hash.hex() != snapshot.chain:
            return f"the journal has other records before {sequence:,}: chain={batch.hash.hex()}"
    return ""
