"""What to do about a journal whose end cannot be read.

    cut_torn_tail(directory)   make it end with its last whole batch; what was cut

With flushes that flush, and a disk that keeps what it has, there is nothing to cut: a commit is
there or not. A disk that lies, a copy that ended early, or a sector that has died can leave a last
file whose end is not whole. LMDB's tree is of no use then; but a batch lies in one piece in the
file, with a checksum, and says what it follows. So the file is searched for whole batches, and what
of them forms a chain on from the file before is written to a new file in its place. The old one is
kept as `NNNNNN.damaged`.

If there are whole batches behind the gap, the damage is not at the end: nothing is cut.
"""

import contextlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import lmdb
import numpy as np

from matchbox.persistence import files
from matchbox.persistence.batch import HEADER, MAGIC, MAX_RECORDS, NO_HASH, Batch, read_batch
from matchbox.persistence.journal import Reader
from matchbox.shm.errors import JournalError
from matchbox.shm.records import LOG_RECORD

_MAGIC = MAGIC.to_bytes(8, "little")


@dataclass(frozen=True)
class Cut:
    """What was cut. `last`: the journal ends there now. `begun`: headers of batches that were not
    whole, as (first, last sequence) if they can be believed."""

    why: str
    last: int
    kept: Path
    begun: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        torn = ", ".join(f"{first} to {last}" for first, last in self.begun)
        records = f"records {torn}" if torn else f"what may have come after record {self.last}"
        return (
            f"The end of the journal was not whole: {self.why}. It was cut after its last whole "
            f"batch: last={self.last}. Lost, unless the log ring still has them: {records}. "
            f"The file as it was: {self.kept}"
        )


@dataclass(frozen=True)
class Found:
    """A whole batch somewhere in a file."""

    at: int
    size: int
    first: int
    last: int
    previous: bytes
    hash: bytes


def cut_torn_tail(directory: Path, *, known: int = 0) -> Cut | None:
    """Make a journal that nobody writes end with its last whole batch. None if there was no need.

    known: the last sequence that the journal is known to have had, if it is.

    Raises JournalError, and changes nothing, if the damage is before the end: if a whole batch lies
    behind it, or if records up to `known` would go. Its `sequence` is the first that is not there.
    """
    found = _damaged_end(directory)
    if found is None:
        return None
    number, why = found
    path = files.file_path(directory, number)
    with Reader(directory, before_file=number) as reader:
        before = reader.last_batch()
        whole, begun = _search(path)
        chain = _chain(whole, reader, before)
    last = chain[-1].last if chain else before.last_sequence if before else 0
    behind = min((found.first for found in whole if found.first > last), default=0)
    if behind:
        raise JournalError(
            f"{why}; records {last + 1} to {behind - 1} are gone, and what follows them is there: "
            "this is damage, not a torn end, and nothing was changed",
            last + 1,
        )
    if last < known or not (chain or before):
        raise JournalError(
            f"{why}; the last whole batch ends with record {last}, but the journal had "
            f"{known or 'some'}: nothing was changed",
            last + 1,
        )
    kept = _replace(directory, number, chain)
    return Cut(why, last, kept, tuple(pair for pair in begun if pair[0] > last))


def _damaged_end(directory: Path) -> tuple[int, str] | None:
    """The file whose end cannot be read, and why."""
    for number in reversed(files.numbers(directory)):
        path = files.file_path(directory, number)
        try:
            environment = files.acquire(directory, number)
            try:
                with environment.read() as cursor:
                    if not cursor.last():
                        continue
                    read_batch(cursor.value(), files.unpack_key(cursor.key()))
            finally:
                files.release(environment)
        except (JournalError, lmdb.Error) as error:
            text = str(error)
            return number, text if str(path) in text else f"{path}: {text}"
        return None
    return None


def _search(path: Path) -> tuple[list[Found], list[tuple[int, int]]]:
    """The whole batches of a file, wherever they lie; and (first, last) of what is only begun."""
    whole: dict[tuple[int, bytes], Found] = {}
    begun = set()
    for at, value, size in _candidates(path):
        header = np.frombuffer(value, HEADER, 1)[0]
        first, last = int(header["first_sequence"]), int(header["first_sequence"] + header["count"])
        try:
            if len(value) < size:
                raise JournalError("cut off")
            batch = read_batch(memoryview(value), first)
        except JournalError:
            begun.add((first, last - 1))
        else:
            found = Found(at, size, first, batch.last_sequence, batch.previous, batch.hash)
            whole[first, batch.hash] = found
    begun -= {(found.first, found.last) for found in whole.values()}
    return list(whole.values()), sorted(begun)


def _candidates(path: Path) -> Iterator[tuple[int, bytes, int]]:
    """Where a batch may lie: its place, its bytes (fewer at the end of the file), its size."""
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
        at = content.find(_MAGIC)
        while at >= 0:
            head = content[at : at + HEADER.itemsize]
            if len(head) == HEADER.itemsize:
                count = int(np.frombuffer(head, HEADER, 1)[0]["count"])
                if 1 <= count <= MAX_RECORDS:
                    size = HEADER.itemsize + count * LOG_RECORD.itemsize
                    yield at, content[at : at + size], size
            at = content.find(_MAGIC, at + 1)


def _chain(whole: list[Found], earlier: Reader, before: Batch | None) -> list[Found]:
    """The batches that go on where the files before this one can be followed to."""
    places = {(found.first, found.previous): found for found in whole}
    for start in sorted(whole, key=lambda found: found.first):
        if _follows(start, earlier, before):
            chain = [start]
            while (found := places.get((chain[-1].last + 1, chain[-1].hash))) is not None:
                chain.append(found)
            return chain
    return []


def _follows(found: Found, earlier: Reader, before: Batch | None) -> bool:
    last, end = (before.last_sequence, before.hash) if before else (0, NO_HASH)
    if found.first == last + 1:
        return found.previous == end
    # The file begins before the one before it ends, as after a failed commit.
    with contextlib.suppress(JournalError):
        for batch in earlier.batches(found.first):
            return batch.first_sequence == found.first and batch.previous == found.previous
    return False


def _replace(directory: Path, number: int, chain: list[Found]) -> Path:
    """A new file with these batches in place of a damaged one; where that is kept."""
    path = files.file_path(directory, number)
    names = (path.with_suffix(f".damaged{n}") for n in ("", *range(2, 1 << 20)))
    kept = next(name for name in names if not name.exists())
    try:
        if not chain:
            path.rename(kept)
            files.flush(directory)
            return kept
        kept.hardlink_to(path)
        with path.open("rb") as file:
            files.create(directory, number, _values(file, chain))
    except (OSError, lmdb.Error) as error:
        raise JournalError(f"cannot write in {directory}: {error}", chain[0].first) from error
    return kept


def _values(file: IO[bytes], chain: list[Found]) -> Iterator[tuple[int, bytes]]:
    for found in chain:
        file.seek(found.at)
        yield found.first, file.read(found.size)
