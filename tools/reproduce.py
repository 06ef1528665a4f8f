"""`matchbox reproduce`: replay a capture here, and compare with what it came to where it was made.

    open      a capture, every byte of it checked
    replay    its records, from its snapshot on; where the state first is another one

The log is read twice: for its checksum and definitions, then for the replay.
"""

import hashlib
import json
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import matchbox
from matchbox.core.snapshot import LAYOUT, combined_hash
from matchbox.persistence import snapshots
from matchbox.persistence.batch import LAYOUT_VERSION
from matchbox.persistence.journaler import whole_count
from matchbox.persistence.snapshots import Snapshot
from matchbox.shm.errors import CaptureError, MatchboxError
from matchbox.shm.records import LOG_RECORD
from matchbox.tools.capture import (
    CONFIG,
    FORMAT,
    HASHES,
    LOG,
    MANIFEST,
    SNAPSHOT,
    Claim,
    Hashes,
    Manifest,
    hashed,
    replica_for,
    revision,
)
from matchbox.tools.catalog import Catalog, defining
from matchbox.tools.config import parse

_PIECE = 8192  # records that are read at once
# Of what is no part of the log or of a snapshot.
_LARGEST_TEXT = 16 << 20
# What zipfile and json raise where a file is damaged.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    NotImplementedError,
)
Progress = Callable[[int], object]


@dataclass
class Reproduced:
    """What became of a capture here. `same_up_to`: the last record after which the hash is the same
    one, with `hashes` compared; `differences`: in the order of the log.
    """

    manifest: Manifest
    here: str  # build
    end: str = ""
    hashes: int = 0
    same_up_to: int = 0
    told: bool = True  # the capture has hashes
    failed: str = ""  # as it did where the capture was made
    differences: list[str] = field(default_factory=list)


class Opened:
    """A capture that is whole. Raises CaptureError that says what is wrong with it."""

    def __init__(self, path: Path, scratch: Path) -> None:
        """`scratch`: a folder for the snapshot."""
        self.path = path
        try:
            self._file = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise CaptureError(f"there is no such file: {path}") from None
        except _DAMAGED as error:
            raise CaptureError(f"{path} is no capture, or is damaged: {error}") from None
        try:
            self._check(scratch)
        except MatchboxError as error:
            raise CaptureError(f"{path}: {error}") from None
        except _DAMAGED as error:
            raise CaptureError(f"{path} is damaged: {error or type(error).__name__}") from None

    def _check(self, scratch: Path) -> None:
        names = self._file.namelist()
        if MANIFEST not in names:
            raise CaptureError(f"it is no capture: it has no {MANIFEST}")
        self.manifest = _manifest(self._text(MANIFEST))
        parts = self.manifest.parts
        if len(names) != len(set(names)) or {*names} - {HASHES} != {MANIFEST, *parts}:
            raise CaptureError(f"it is damaged: it has {', '.join(names)}")
        if not {CONFIG, LOG} <= {*parts} <= {CONFIG, LOG, SNAPSHOT}:
            raise CaptureError(f"it is damaged: its parts are {', '.join(parts)}")
        self.config = parse(self._text(CONFIG), Path(CONFIG))
        self.hashes = _hashes(self._text(HASHES)) if HASHES in names else None
        self.start = self._snapshot(scratch) if SNAPSHOT in parts else None
        for name in (CONFIG, LOG):
            self._check_digest(name)
        self.definitions = self._definitions()

    def close(self) -> None:
        self._file.close()

    def _text(self, name: str) -> str:
        if self._file.getinfo(name).file_size > _LARGEST_TEXT:
            raise CaptureError(f"it is damaged: {name} is too long")
        return self._file.read(name).decode()

    def _chunks(self, name: str, size: int) -> Iterator[bytes]:
        with self._file.open(name) as part:
            while data := part.read(size):
                yield data

    def _check_digest(self, name: str) -> None:
        digest = hashlib.sha256()
        for data in self._chunks(name, 1 << 20):
            digest.update(data)
        if digest.hexdigest() != self.manifest.parts[name]:
            raise CaptureError(f"it is damaged: the checksum of {name} does not match")

    def _snapshot(self, scratch: Path) -> Snapshot:
        path = snapshots.file_path(scratch, self.manifest.first - 1)
        with path.open("wb") as out:
            for data in self._chunks(SNAPSHOT, 1 << 20):
                out.write(data)
        # It has checksums of its own.
        return snapshots.read(path)

    def pieces(self) -> Iterator[NDArray[Any]]:
        """The records; those that belong together are not parted. Raises CaptureError."""
        rest = np.empty(0, LOG_RECORD)
        expected = self.manifest.first
        for data in self._chunks(LOG, _PIECE * LOG_RECORD.itemsize):
            if len(data) % LOG_RECORD.itemsize:
                raise CaptureError("it is damaged: half a record in its log")
            records = np.frombuffer(data, LOG_RECORD)
            end = expected + len(records)
            if not np.array_equal(records["sequence"], np.arange(expected, end)):
                raise CaptureError(f"it is damaged: its log does not go on at record {expected:,}")
            expected = end
            records = np.concatenate([rest, records])
            # One may follow that belongs to the last.
            count = whole_count(records, len(records) - 1)
            if count:
                yield records[:count]
            rest = records[count:]
        if len(rest):
            yield rest
        if expected != self.manifest.last + 1:
            raise CaptureError(
                f"it is damaged: its log ends with record {expected - 1:,}, "
                f"expected={self.manifest.last:,}"
            )

    def _definitions(self) -> NDArray[Any]:
        found = [self.start.definitions if self.start else np.empty(0, LOG_RECORD)]
        return np.concatenate([*found, *map(defining, self.pieces())])


def _manifest(text: str) -> Manifest:
    values = json.loads(text)
    if not isinstance(values, dict) or "format" not in values:
        raise CaptureError(f"it is no capture: {MANIFEST} says no format")
    for name, supported in (("format", FORMAT), ("records", LAYOUT_VERSION), ("layout", LAYOUT)):
        if values.get(name) != supported:
            raise CaptureError(
                f"it is of another layout: {name}={values.get(name)}, supported={supported}, "
                f"made by version {values.get('version')}"
            )
    values["claims"] = [Claim(**claim) for claim in values["claims"]]
    known = {each.name for each in fields(Manifest)}
    return Manifest(**{name: value for name, value in values.items() if name in known})


def _hashes(text: str) -> Hashes:
    found = Hashes(**json.loads(text))
    found.on_the_way = [[int(sequence), str(state)] for sequence, state in found.on_the_way]
    return found


# ---- replaying


def reproduce(path: Path, *, progress: Progress = lambda last: None) -> Reproduced:
    """Replay a capture. Raises CaptureError if it is not whole, or of another layout; MatchboxError
    if this engine cannot begin with it.
    """
    with tempfile.TemporaryDirectory(prefix="matchbox-reproduce-") as scratch:
        opened = Opened(path, Path(scratch))
        try:
            return _replay(opened, progress)
        finally:
            opened.close()


def _replay(opened: Opened, progress: Progress) -> Reproduced:
    manifest, there = opened.manifest, opened.hashes
    commit = revision()
    here = f"{matchbox.__version__} ({commit[:12]})" if commit else matchbox.__version__
    found = Reproduced(manifest, here, told=there is not None)
    catalog = Catalog()
    catalog.learn(opened.definitions)
    replica = replica_for(opened.config, catalog, opened.start, manifest)
    if opened.start is not None:
        loaded, saved = combined_hash(replica.state()), opened.start.image.state_hash
        if loaded != saved:
            found.differences.append(
                f"the snapshot of record {opened.start.sequence:,} has the state hash "
                f"{loaded:016x} when it is loaded, {saved:016x} was saved"
            )
    told = {claim.sequence for claim in manifest.claims if not claim.settled}
    wanted = told | {sequence for sequence, _ in (there.on_the_way if there else [])}
    mine = hashed(replica, opened.pieces(), wanted, progress)
    found.end = mine.end
    if there is not None:
        _compare(found, mine, there)
    elif mine.failed:
        found.differences.append(f"the replay stops at record {mine.failed[0]:,}: {mine.failed[1]}")
    _compare_claims(found, mine)
    return found


def _compare(found: Reproduced, mine: Hashes, there: Hashes) -> None:
    """With what it came to there, as far as the first difference."""
    states = dict(map(tuple, mine.on_the_way))
    before = found.manifest.first - 1
    for sequence, expected in there.on_the_way:
        if sequence not in states:
            break  # the replay has stopped before
        if states[sequence] != expected:
            found.differences.append(
                f"the state first differs in records {before + 1:,} to {sequence:,}: the hash "
                f"after {sequence:,} was {expected}, it is {states[sequence]} here"
            )
            return
        found.hashes += 1
        before = found.same_up_to = sequence
    if mine.failed != there.failed:
        for who, failed in (("there", there.failed), ("here", mine.failed)):
            if failed:
                found.differences.append(
                    f"only {who} the replay stops, at record {failed[0]:,}: {failed[1]}"
                )
    elif mine.failed:
        found.failed = f"the replay stops at record {mine.failed[0]:,}: {mine.failed[1]}"
    elif mine.end != there.end:
        found.differences.append(
            f"the state at the end, all settled, was {there.end}, it is {mine.end} here"
        )
    else:
        found.same_up_to = found.manifest.last


def _compare_claims(found: Reproduced, mine: Hashes) -> None:
    """With what others have told: then it is not the replay that is wrong."""
    states = dict(map(tuple, mine.on_the_way))
    for claim in found.manifest.claims:
        state = mine.end if claim.settled else states.get(claim.sequence)
        if state and state != claim.hash:
            found.differences.append(
                f"{claim.by} has the state hash {claim.hash} after record {claim.sequence:,}, the "
                f"replay comes to {state}"
            )


# ---- showing


def lines(found: Reproduced) -> list[str]:
    m = found.manifest
    begin = f"the snapshot of {m.first - 1:,} and " if m.first > 1 else ""
    out = [
        f"A capture of {m.instance}, by version {m.build}: {begin}records {m.first:,} to {m.last:,}"
        + (f"; made because {m.reason}" if m.reason else "")
    ]
    if m.damaged:
        out.append(f"The journal could not be read further: {m.damaged}")
    if not found.told:
        out.append("It has no hashes: the replay has ended the process that made it.")
    if found.failed:
        out.append(f"As it did there, {found.failed}")
    out += [f"DIFFERENT, with version {found.here}: {text}." for text in found.differences]
    if not found.differences:
        same = f"the same at {found.hashes:,} records and at the end" if found.told else "replayed"
        end = f"; state hash {found.end}" if found.end else ""
        out.append(f"{same.capitalize()}, with version {found.here}{end}.")
    return out


def as_dict(found: Reproduced) -> dict[str, Any]:
    m = found.manifest
    return {
        "first": m.first,
        "last": m.last,
        "reason": m.reason,
        "build": m.build,
        "here": found.here,
        "hashes": found.hashes,
        "same_up_to": found.same_up_to,
        "state": found.end,
        "failed": found.failed,
        "differences": found.differences,
    }
