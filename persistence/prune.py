"""The oldest files of a journal, removed or moved elsewhere: whole files, from the first one on.

Whoever reads a journal meanwhile may have a file open that is removed: it goes on reading what it
has mapped, and then finds that the journal begins later (journal.py). The newest file always stays.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from matchbox.persistence import cuts, files, points
from matchbox.persistence.journal import Reader
from matchbox.shm.errors import JournalError


@dataclass(frozen=True)
class Old:
    """A file that can go: its records, as far as they count (a newer file may repeat some)."""

    path: Path
    first: int
    last: int
    size: int


def cut_before(directory: Path, limit: int) -> tuple[list[Old], list[int]]:
    """The files of which nothing is needed but what is before record `limit`, and the ends of
    batches, from the first one that stays on up to the limit, from which what stays can be read.

    None if nothing can go: the first batch of the first file that stays must end by the limit.
    """
    with Reader(directory) as reader:
        spans = reader.spans()
        for place in range(len(spans) - 1, 0, -1):
            begin = spans[place][1]
            if begin > limit:
                continue
            ends = list(_ends(reader, begin, limit))
            if ends:
                return _files_before(directory, spans, place), ends
    return [], []


def _ends(reader: Reader, begin: int, limit: int) -> Iterator[int]:
    for header in reader.headers(begin):
        last = int(header["first_sequence"]) + int(header["count"]) - 1
        if last > limit:
            return
        yield last


def _files_before(directory: Path, spans: list[tuple[int, int, int]], place: int) -> list[Old]:
    """With those in which no record counts."""
    known = {number: (begin, end) for number, begin, end in spans}
    found = []
    for number in files.numbers(directory):
        if number >= spans[place][0]:
            break
        begin, end = known.get(number, (0, 0))
        path = files.file_path(directory, number)
        found.append(Old(path, begin, end - 1, path.stat().st_size))
    return found


def remove(old: list[Old]) -> None:
    """Remove files, the oldest first, so that what is left has no gap at any time. OSError."""
    for each in old:
        each.path.unlink(missing_ok=True)
        Path(f"{each.path}-lock").unlink(missing_ok=True)
        points.passing("prune.removed")
    for folder in {each.path.parent for each in old}:
        files.flush(folder)


def copy(old: list[Old], target: Path) -> None:
    """Copy files into a folder, which is a journal of its own then; read back, byte for byte.

    What is there already, and the same, stays. Raises JournalError, OSError: nothing may be removed
    then.
    """
    files.make_directory(target)
    for each in old:
        there = target / each.path.name
        if not there.exists():
            _copy(each.path, there)
        elif _digest(there) != _digest(each.path):
            raise JournalError(f"there is another file of this name: {there}")
        problem = files.structure_problem(there)
        if problem:
            raise JournalError(f"{there} is damaged: {problem}", each.first)
    for each in old:
        if decided := cuts.read(each.path.parent):
            cuts.write(target, decided)
            break
    _read_back(old, target)
    files.flush(target)


def _copy(source: Path, target: Path) -> None:
    draft = target.with_suffix(".new")
    try:
        with source.open("rb") as read, draft.open("wb") as written:
            os.fchmod(written.fileno(), 0o600)
            shutil.copyfileobj(read, written, 1 << 20)
            written.flush()
            os.fsync(written.fileno())
        if _digest(draft) != _digest(source):
            raise JournalError(f"{draft} is not what was written")
        draft.rename(target)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _read_back(old: list[Old], target: Path) -> None:
    """Every batch of what was copied. Raises JournalError."""
    wanted = [each for each in old if each.first]
    if not wanted:
        return
    last = 0
    with Reader(target) as reader:
        for batch in reader.batches(wanted[0].first):
            last = batch.last_sequence
    if last < wanted[-1].last:
        raise JournalError(
            f"the copy in {target} ends too early: last={last}, expected={wanted[-1].last}",
            last + 1,
        )
