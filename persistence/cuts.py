"""Records that are cut out: processing them killed the engine, and nobody had been told of them.

DATA/journal/cuts, one JSON object a line:

    sequence    of an order, a cancel or an amend, which no matcher is to see
    agent       who had it in hand
    why         what that died of
    epoch       of its engine
    time_ns     of the decision

The journal itself keeps the record as it was logged, and its chain of hashes. Who reads it finds
the record marked (its `reserved` is CUT) and so refuses it as POISONED, at every replay the same.
A decision is on the disk before anything behind the record is replayed, so that nothing which was
told afterwards depends on a decision that is lost. The file is replaced as a whole.
"""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from matchbox.persistence import files
from matchbox.persistence.batch import Batch
from matchbox.shm.errors import JournalError
from matchbox.shm.records import Kind

NAME = "cuts"
CUT = 0xC7  # MB_CUT of records.h
# Everything else moves more than one agent's state: it cannot be left out by one of them.
KINDS = (Kind.NEW_ORDER, Kind.CANCEL_ORDER, Kind.AMEND_ORDER)


@dataclass(frozen=True)
class Cut:
    """One decision."""

    sequence: int
    agent: str
    why: str
    epoch: int
    time_ns: int

    def __str__(self) -> str:
        return f"record {self.sequence:,} is cut out: {self.agent} had it in hand, and {self.why}"


def read(directory: Path) -> list[Cut]:
    """All decisions, by sequence. Raises JournalError if they cannot be read."""
    path = directory / NAME
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error}") from error
    try:
        found = [Cut(**json.loads(line)) for line in text.splitlines()]
    except (ValueError, TypeError) as error:
        raise JournalError(f"{path} is not a list of cuts: {error}") from error
    return sorted(found, key=lambda cut: cut.sequence)


def add(directory: Path, cut: Cut) -> None:
    """Decide; it is on the disk afterwards. Raises JournalError if it cannot be, or if the record
    is cut out already, which was no help then.
    """
    known = read(directory)
    if cut.sequence in [other.sequence for other in known]:
        raise JournalError(
            f"record {cut.sequence:,} is cut out already, and {cut.agent} {cut.why} all the same",
            cut.sequence,
        )
    write(directory, [*known, cut])


def write(directory: Path, cuts: list[Cut]) -> None:
    """All decisions of a journal. Raises JournalError."""
    path, draft = directory / NAME, directory / f"{NAME}.new"
    lines = [json.dumps(asdict(cut)) + "\n" for cut in cuts]
    try:
        with draft.open("w") as file:
            os.fchmod(file.fileno(), 0o600)
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        files.flush(directory)
    except OSError as error:
        raise JournalError(f"cannot write {path}: {error}") from error


class Marks:
    """The decisions of a journal, for who reads it; looked at again when they have changed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._state: tuple[int, int] | None = None
        self._sequences = np.empty(0, np.uint64)

    def refresh(self) -> None:
        """Raises JournalError."""
        try:
            found = (self._directory / NAME).stat()
            state = (found.st_ino, found.st_mtime_ns)
        except OSError:
            state = None
        if state != self._state:
            cuts = read(self._directory)
            self._sequences = np.array([cut.sequence for cut in cuts], np.uint64)
            self._state = state

    def mark(self, batch: Batch) -> Batch:
        """The batch with those records marked that are cut out; `value` is as it was written."""
        if not len(self._sequences):
            return batch
        first = np.uint64(batch.first_sequence)
        chosen = (self._sequences >= first) & (self._sequences <= np.uint64(batch.last_sequence))
        if not chosen.any():
            return batch
        records = batch.records.copy()
        records["reserved"][(self._sequences[chosen] - first).astype(np.int64)] = CUT
        return replace(batch, records=records)
