"""Copies of a journal, batch by batch: the same bytes, the same chain of hashes.

    backup(source, target)           add what `target` lacks of the journal in `source`, also while
                                     that is written
    restore(source, target, until)   a new journal with the records up to `until`

What a copy is said to have, has been read back from it and ends with the hash that the source has
there.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from matchbox.persistence import cuts, files
from matchbox.persistence.batch import NO_HASH, Batch
from matchbox.persistence.journal import FILE_BYTES, Reader, Writer
from matchbox.persistence.journaler import GROUP_RECORDS, continues
from matchbox.shm.errors import BadArgument, JournalError

# Batches that are copied at once: with a commit each, many small ones would take very long.
_COMMIT_BYTES = 16 << 20
_NO_END = 1 << 64
Progress = Callable[[int], object]


@dataclass(frozen=True)
class Copied:
    """Records `first` to `last` (none if first is last + 1), and the hash of the last batch."""

    first: int
    last: int
    hash: bytes


def backup(
    source: Path,
    target: Path,
    *,
    file_bytes: int = FILE_BYTES,
    progress: Progress = lambda last: None,
) -> Copied:
    """Bring the journal in `target` up to the end of the one in `source`.

    It is what is on the disk: of a journal that is being written, the last batch is flushed first.
    Broken off anywhere, it goes on when it is called again. Raises JournalError if the source is
    damaged (what is before that is copied), if the target is a backup of another journal, or if it
    cannot be written.
    """
    _keep_apart(source, target)
    with Writer(target, file_bytes=file_bytes) as writer, Reader(source) as reader:
        _begin(reader, writer)
        first = writer.last_sequence + 1
        _check_same(reader, writer)
        end = reader.last()[0]
        if decided := cuts.read(source):
            cuts.write(target, decided)
        for number in files.numbers(source)[-2:]:
            _flush(files.file_path(source, number))
        _copy(reader.batches(first), writer, end, progress)
        copied = Copied(first, writer.last_sequence, writer.last_hash)
    _read_back(target, copied)
    return copied


def _copy(batches: Iterator[Batch], writer: Writer, end: int, progress: Progress) -> Batch | None:
    """Copy up to `end`; the batch that goes on behind it, if one does."""
    kept: list[Batch] = []
    try:
        for batch in batches:
            if batch.last_sequence > end:
                return batch
            kept.append(batch)
            if sum(len(b.value) for b in kept) >= _COMMIT_BYTES:
                progress(writer.append_batches(kept))
                kept = []
    finally:
        # Also what is before damage.
        progress(writer.append_batches(kept))
    return None


def _flush(path: Path) -> None:
    """What a Reader sees may not be on the disk yet; see journal.py."""
    try:
        files.flush(path)
    except OSError as error:
        raise JournalError(f"cannot flush {path}: {error}") from error


def _begin(reader: Reader, writer: Writer) -> None:
    """Have a new copy begin where the journal does, if what was before was pruned."""
    first = reader.first_sequence()
    if first > 1 and not writer.last_sequence:
        writer.begin_after(first - 1, next(reader.batches(first)).previous)


def _check_same(reader: Reader, writer: Writer) -> None:
    """Raises JournalError unless what the writer has is the beginning of what the reader has, or
    ends where that begins.
    """
    last = writer.last_sequence
    if not last:
        return
    first = reader.first_sequence()
    if last < first - 1:
        raise JournalError(
            f"records {last + 1} to {first - 1} have been pruned since the last backup: allowed: "
            "to put them back, or an empty folder",
            last + 1,
        )
    if last == first - 1 and next(reader.batches(first)).previous == writer.last_hash:
        return
    there = next(reader.batches(last), None)
    if there is None or (there.last_sequence, there.hash) != (last, writer.last_hash):
        raise JournalError(
            f"not a backup of this journal: the batch that ends with record {last} is another one, "
            f"or not there: hash={writer.last_hash.hex()}, "
            f"journal={there.hash.hex() if there else 'none'}; allowed: an empty folder",
            last,
        )


def restore(
    source: Path,
    target: Path,
    *,
    until: int = 0,
    file_bytes: int = FILE_BYTES,
    progress: Progress = lambda last: None,
) -> Copied:
    """Make a new journal in `target` with the records of `source` up to `until` (0: all).

    Of records that go together (an order and its terms, a list) all are kept or none. The batch
    that `until` is in is cut there, so its hash is another one. Raises BadArgument if there is a
    journal, or fewer records; JournalError if the source is damaged before `until`, or the target
    cannot be written. What was begun has to be removed then.
    """
    _keep_apart(source, target)
    if files.numbers(target):
        raise BadArgument(f"there is a journal already: {target}")
    with Reader(source) as reader, Writer(target, file_bytes=file_bytes) as writer:
        if decided := cuts.read(source):
            cuts.write(target, decided)
        _begin(reader, writer)
        first = writer.last_sequence + 1
        torn = _copy(_up_to(reader, until or _NO_END), writer, until or _NO_END, progress)
        if torn is not None:
            _append_part(writer, torn, until)
        copied = Copied(first, writer.last_sequence, writer.last_hash)
    if copied.last <= until - GROUP_RECORDS:
        raise BadArgument(f"the journal ends before that: last={copied.last}, until={until}")
    _read_back(target, copied)
    return copied


def _up_to(reader: Reader, until: int) -> Iterator[Batch]:
    """The batches up to the one that has `until`; what is behind it may be damaged."""
    for batch in reader.batches(reader.first_sequence()):
        yield batch
        if batch.last_sequence >= until:
            return


def _append_part(writer: Writer, batch: Batch, until: int) -> None:
    count = until + 1 - batch.first_sequence
    while count > 0 and continues(batch.records[count], batch.records[count - 1]):
        count -= 1
    if count > 0:
        writer.epoch = batch.epoch
        writer.append(batch.logged[:count])


def _read_back(target: Path, copied: Copied) -> None:
    """Raises JournalError unless the copy can be read and ends as it should."""
    last, end = 0, NO_HASH
    with Reader(target) as reader:
        for batch in reader.batches(min(copied.first, max(copied.last, 1))):
            last, end = batch.last_sequence, batch.hash
    if (last, end) != (copied.last, copied.hash):
        raise JournalError(
            f"the copy in {target} is not what was written: last={last}, expected={copied.last}, "
            f"hash={end.hex()}, expected={copied.hash.hex()}",
            last + 1,
        )


def _keep_apart(source: Path, target: Path) -> None:
    here, there = source.resolve(), target.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise BadArgument(f"a copy must be elsewhere: source={source}, target={target}")


def write_note(path: Path, note: dict[str, object]) -> None:
    """A JSON file, whole or not at all, and on the disk. Raises OSError."""
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(note, indent=1) + "\n")
    files.flush(draft)
    draft.replace(path)
    files.flush(path.parent)
