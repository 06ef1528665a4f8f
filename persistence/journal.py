"""The journal: every log record, on disk, in batches that form a chain of hashes.

A journal is a directory of LMDB files (files.py); its keys are first sequences of batches,
big-endian, appended; its values are batches (batch.py). Commits are LMDB's default ones, data and
meta flushed: a batch that append() has returned for survives a crash of the machine. One Writer at
a time, any number of Readers in any process, while it writes.

What can be read is not always on the disk: a Reader may see a batch while it is being flushed, and
a writer that was killed, or whose flush failed, leaves a batch that is in memory only. So

- a failed commit ends its file. Nothing more is written to it, for the kernel may have marked its
  pages as written; a new file goes on after the last batch that is certain;
- writer.lock says `closed` only if the last Writer was closed with nothing failed. If it says
  otherwise, the next one begins a new file with a copy of the last batch that it finds, or of all
  that were committed together (`open since SEQUENCE`): of the old file only what lies before is
  relied on, and that was flushed before the last commit was begun.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import lmdb
import numpy as np
from numpy.typing import NDArray

from matchbox.persistence import files
from matchbox.persistence.batch import (
    NO_HASH,
    Assembler,
    Batch,
    read_batch,
    read_header,
)
from matchbox.persistence.cuts import Marks
from matchbox.persistence.files import Environment
from matchbox.shm.errors import BadArgument, JournalError
from matchbox.shm.records import LOG_RECORD

BATCH_RECORDS = 32768
FILE_BYTES = 4 << 30
# A file is given up for a new one when what a commit adds (the batch, tree and free pages) might
# not fit.
_COMMIT_SLACK = 1 << 20
# How much of what was written last stays in the page cache. The rest is dropped: the kernel then
# fills the same few pages again and again instead of fresh ones, and a long run does not push
# everything else out of memory.
_CACHED_BYTES = 32 << 20
_NO_END = 1 << 64
# Files that a Reader keeps open; a process has few descriptors.
_OPEN_FILES = 16
Values = list[tuple[int, NDArray[np.uint8]]]  # by first sequence
T = TypeVar("T")


class _Context:
    """`with` closes it."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Writer(_Context):
    """The one writer of a journal. One thread; blocks on the disk."""

    def __init__(
        self,
        directory: Path | str,
        *,
        epoch: int = 0,
        batch_records: int = BATCH_RECORDS,
        file_bytes: int = FILE_BYTES,
    ) -> None:
        """Open the journal in `directory`, or make one there.

        Raises JournalError if it is damaged at its end, has a writer, or is open for reading in
        this process.
        """
        self.directory = Path(directory)
        self.epoch, self.file_bytes = epoch, file_bytes
        self._assembler = Assembler(batch_records)
        smallest = 2 * (self.batch_bytes + _COMMIT_SLACK)
        if not smallest <= file_bytes <= files.MAX_FILE_BYTES:
            raise BadArgument(
                f"journal file size: bytes={file_bytes}, "
                f"allowed={smallest} to {files.MAX_FILE_BYTES}"
            )
        self._environment: Environment | None = None
        self._descriptor = -1
        self._failed = ""
        self._lock = self._take_lock()
        try:
            self._open_newest()
        except BaseException:
            self.close()
            raise

    def _take_lock(self) -> int:
        lock = -1
        try:
            files.make_directory(self.directory)
            path = self.directory / "writer.lock"
            lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if lock >= 0:
                os.close(lock)
            if isinstance(error, BlockingIOError):
                error_text = f"another process writes the journal in {self.directory}"
                raise JournalError(error_text) from None
            raise JournalError(f"cannot write in {self.directory}: {error}") from error
        return lock

    def _open_newest(self) -> None:
        existing = files.numbers(self.directory)
        self._number = existing[-1] if existing else 1
        try:
            said = os.pread(self._lock, 64, 0).decode(errors="replace").split()
            if not existing:
                files.create(self.directory, 1)
                self._say("open")
        except (lmdb.Error, OSError) as error:
            raise JournalError(f"cannot write in {self.directory}: {error}") from error
        self._open(self._number)
        self._sequence, self._hash, self._record = 0, NO_HASH, b""
        with Reader(self.directory) as reader:
            batch = reader.last_batch()
        if batch is not None:
            self._keep_end(batch)
        if existing and said != ["closed"]:
            self._repeat(batch, int(said[2]) if len(said) == 3 else 0)
        self._say("open")

    def _repeat(self, last: Batch | None, since: int) -> None:
        """Begin a new file with a copy of what may be in memory only."""
        doubtful = [last] if last else []
        if last and 0 < since < last.first_sequence:
            with Reader(self.directory) as reader:
                doubtful = list(reader.batches(since))
        environment = self.roll()
        if doubtful:
            self._commit(environment, [(batch.first_sequence, batch.value) for batch in doubtful])

    def _say(self, what: str) -> None:
        """In writer.lock. Not flushed: when memory is lost, all that is found is on the disk."""
        try:
            os.pwrite(self._lock, f"{what:<31}\n".encode(), 0)
        except OSError as error:
            raise JournalError(f"cannot write in {self.directory}: {error}") from error

    def _keep_end(self, batch: Batch) -> None:
        self._sequence, self._hash = batch.last_sequence, batch.hash
        self._record = batch.value[-LOG_RECORD.itemsize :].tobytes()

    def _open(self, number: int) -> None:
        self._environment = files.acquire(self.directory, number, writable=True)
        self._number = number
        self._descriptor = os.open(self._environment.path, os.O_RDONLY | os.O_CLOEXEC)
        self._dropped = self._environment.used_bytes()

    def _close_file(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._environment is not None:
            files.release(self._environment)
            self._environment = None

    @property
    def batch_records(self) -> int:
        """Most records of one batch."""
        return self._assembler.maximum

    @property
    def batch_bytes(self) -> int:
        return (self.batch_records + 1) * LOG_RECORD.itemsize

    @property
    def failed(self) -> str:
        """Why nothing more can be appended until roll(); empty while all is well."""
        return self._failed

    @property
    def last_sequence(self) -> int:
        """Sequence of the last record that is durable; 0 in a new journal."""
        return self._sequence

    @property
    def last_hash(self) -> bytes:
        """Hash of the last durable batch; zeros in a new journal."""
        return self._hash

    @property
    def last_record(self) -> bytes:
        """The last durable record; empty in a new journal."""
        return self._record

    def append(self, *parts: NDArray[Any]) -> int:
        """Commit the records of `parts` as one batch; returns the last sequence: it is durable.

        The records go on right after last_sequence (JournalError otherwise, and nothing is written)
        and are at most batch_records. If the commit itself fails, JournalError too; what the disk
        then holds is uncertain, so nothing more is written to this file: see roll().
        """
        first = self._sequence + 1
        value = self._assembler.assemble(parts, first, self._hash, self.epoch)
        self._store([(first, value)])
        self._sequence += sum(map(len, parts))
        self._hash, self._record = self._assembler.hash, value[-LOG_RECORD.itemsize :].tobytes()
        return self._sequence

    def append_batches(self, batches: Sequence[Batch]) -> int:
        """Commit batches of another journal as they are, all at once; it is the same up to here.

        Returns the last sequence: it is durable. Raises JournalError, with nothing written, if they
        do not follow; otherwise as append().
        """
        last, hash_before = self._sequence, self._hash
        for batch in batches:
            if (batch.first_sequence, batch.previous) != (last + 1, hash_before):
                raise JournalError(
                    f"batch {batch.first_sequence} does not follow {last}: "
                    f"previous={batch.previous.hex()}, expected={hash_before.hex()}",
                    last + 1,
                )
            last, hash_before = batch.last_sequence, batch.hash
        if batches:
            self._say(f"open since {batches[0].first_sequence}")
            self._store([(batch.first_sequence, batch.value) for batch in batches])
            self._keep_end(batches[-1])
            self._say("open")
        return self._sequence

    def begin_after(self, sequence: int, hash_before: bytes) -> None:
        """Of a new journal: its first record is to follow this one, which others have, and the
        batch that ends with it has this hash. Raises JournalError if it is not new.
        """
        if self._sequence:
            raise JournalError(
                f"the journal in {self.directory} has begun: last={self._sequence}", sequence + 1
            )
        self._sequence, self._hash = sequence, hash_before

    def _store(self, values: Values) -> None:
        """Commit values, in a new file if this one might not have the room."""
        if self._failed:
            raise JournalError(f"the journal has failed: {self._failed}", self._sequence + 1)
        environment = self._environment
        assert environment is not None, "the writer is closed"
        size = sum(len(value) for _, value in values)
        if environment.used_bytes() + size + _COMMIT_SLACK > self.file_bytes:
            environment = self.roll()
        self._commit(environment, values)
        self._drop_cache(environment)

    def _commit(self, environment: Environment, values: Values) -> None:
        first = values[0][0]
        try:
            with environment.env.begin(write=True) as transaction:
                for key, value in values:
                    if not transaction.put(files.pack_key(key), value.data, append=True):
                        raise lmdb.KeyExistsError(f"batch {key} is not after the file's last")
        except BaseException as error:
            self._failed = f"{environment.path}: {error}"
            if not isinstance(error, (lmdb.Error, OSError)):
                raise
            raise JournalError(f"cannot write batch {first} to {self._failed}", first) from error

    def _drop_cache(self, environment: Environment) -> None:
        end = environment.used_bytes() - _CACHED_BYTES
        if end - self._dropped >= _CACHED_BYTES // 4:
            os.posix_fadvise(
                self._descriptor, self._dropped, end - self._dropped, os.POSIX_FADV_DONTNEED
            )
            self._dropped = end

    def roll(self) -> Environment:
        """Go on in a new file, right after last_sequence; after a failure, too. Blocks on the disk.

        Raises JournalError if there cannot be one; the writer has failed then.
        """
        self._close_file()
        try:
            files.create(self.directory, self._number + 1)
            self._open(self._number + 1)
        except (lmdb.Error, OSError, JournalError) as error:
            self._failed = f"no new file after {self._number:06d}: {error}"
            raise JournalError(self._failed, self._sequence + 1) from error
        self._failed = ""
        assert self._environment is not None
        return self._environment

    def close(self) -> None:
        """Close the file; everything appended is durable already."""
        sound = self._environment is not None and not self._failed
        self._close_file()
        if self._lock >= 0:
            if sound:
                with contextlib.suppress(JournalError):
                    self._say("closed")
            os.close(self._lock)
            self._lock = -1


class Reader(_Context):
    """Reads a journal, also while it is written, by this or another process. One thread."""

    def __init__(self, directory: Path | str, *, before_file: int | None = None) -> None:
        """Of the journal in `directory`. A directory without files, or none, is an empty journal.

        `before_file` leaves out the files from that number on.
        """
        self.directory = Path(directory)
        self._before_file = before_file
        self._environments: dict[int, Environment] = {}
        self._firsts: dict[int, int] = {}
        self._marks = Marks(self.directory)

    def close(self) -> None:
        while self._environments:
            files.release(self._environments.popitem()[1])

    def last(self) -> tuple[int, bytes]:
        """Last sequence and hash of its batch, verified; 0 and zeros for an empty journal."""
        batch = self.last_batch()
        return (batch.last_sequence, batch.hash) if batch else (0, NO_HASH)

    def last_batch(self) -> Batch | None:
        """The last batch, verified; None for an empty journal."""
        for number in reversed(self._numbers()):
            with self._cursor(number, 0) as cursor:
                if cursor.last():
                    return read_batch(cursor.value(), files.unpack_key(cursor.key()))
        return None

    def last_sequence(self) -> int:
        """Of the last batch, as its header says; 0 for an empty journal."""
        for number in reversed(self._numbers()):
            with self._cursor(number, 0) as cursor:
                if cursor.last():
                    key = files.unpack_key(cursor.key())
                    return key + int(read_header(cursor.value(), key)["count"]) - 1
        return 0

    def first_sequence(self) -> int:
        """Where the journal begins; 1 if it is empty."""
        spans = self.spans()
        return spans[0][1] if spans else 1

    def batches(self, first: int = 1) -> Iterator[Batch]:
        """The batches from the one that holds `first` on, up to the end as it is when this begins.

        Each is verified: header, checksum, sequences, and that it follows the one before. Records
        that are cut out are marked (cuts.py). Raises JournalError whose `sequence` is the first
        that cannot be trusted. Iterate again from the last sequence + 1 for what was written
        meanwhile.
        """
        previous: bytes | None = None
        self._marks.refresh()
        for number, key in self._walk(first):
            batch = self._get(number, key, read_batch)
            if previous is None:
                previous = self._hash_before(key, batch)
            if batch.previous != previous:
                raise JournalError(
                    f"batch {key} does not follow the one before: previous={batch.previous.hex()}, "
                    f"expected={previous.hex()}",
                    key,
                )
            previous = batch.hash
            yield self._marks.mark(batch)

    def records(self, first: int = 1, count: int = 1 << 14) -> Iterator[NDArray[Any]]:
        """The records from `first` on, as batches() gives them; of so many batches at once that
        they are `count`, if there are: a replay of many small ones costs what one of few costs.
        """
        kept: list[NDArray[Any]] = []
        for batch in self.batches(first):
            kept.append(batch.records[max(0, first - batch.first_sequence) :])
            if sum(map(len, kept)) >= count:
                yield np.concatenate(kept)
                kept = []
        if kept:
            yield np.concatenate(kept)

    def headers(self, first: int = 1) -> Iterator[NDArray[Any]]:
        """The headers (batch.HEADER) of the same batches; no record or hash is looked at."""
        for number, key in self._walk(first):
            yield self._get(number, key, read_header)

    def batch(self, header: NDArray[Any]) -> Batch:
        """The batch that headers() gave `header` of, verified but for its place in the chain."""
        self._marks.refresh()
        return self._marks.mark(self._find(int(header["first_sequence"]), read_batch))

    def _find(self, key: int, make: Callable[[memoryview, int], T]) -> T:
        for number, begin, end in reversed(self.spans()):
            if begin <= key < end:
                return self._get(number, key, make)
        raise JournalError(f"no batch {key} in {self.directory}", key)

    def _walk(self, first: int) -> Iterator[tuple[int, int]]:
        """File and key of each batch from the one that holds `first` on."""
        spans = self.spans()
        position = max(first, 1)
        if spans and position < spans[0][1]:
            raise JournalError(
                f"the journal begins at {spans[0][1]}, what was before is not there: "
                f"wanted={position}",
                position,
            )
        started = False
        for number, begin, end in spans:
            if end <= position:
                continue
            if not started:
                key = self._floor(number, position)
                after = key + int(self._get(number, key, read_header)["count"])
                started, position = True, key if position < after else after
            while position < end:
                found = self._ceiling(number, position)
                if found is None or found >= end:
                    if end != _NO_END:
                        self._raise_missing(number, position, end)
                    return
                if found != position:
                    self._raise_missing(number, position, found)
                yield number, found
                position += int(self._get(number, found, read_header)["count"])
            if position != end:
                raise JournalError(
                    f"{self._path(number)} does not end where the next file begins: "
                    f"end={position}, next={end}",
                    begin,
                )

    def _raise_missing(self, number: int, first: int, end: int) -> None:
        raise JournalError(
            f"records {first} to {end - 1} are missing in {self._path(number)}", first
        )

    def spans(self) -> list[tuple[int, int, int]]:
        """(file, first sequence, end) of each file with records; what it has below `end` counts."""
        while True:
            numbers = self._numbers()
            try:
                firsts = [(n, self._first(n)) for n in numbers]
                break
            except JournalError:
                # The oldest ones may be pruned just now.
                if self._numbers() == numbers:
                    raise
        spans: list[tuple[int, int, int]] = []
        end = _NO_END
        for number, first in reversed(firsts):
            if first is not None and first < end:
                spans.append((number, first, end))
                end = first
        return spans[::-1]

    def _hash_before(self, key: int, batch: Batch) -> bytes:
        """Hash of the batch right before `batch`, whose key this is, as its header has it; zeros
        before the first. What was pruned can only be as the batch says.
        """
        if 1 < key == self.first_sequence():
            return batch.previous
        for number, begin, end in reversed(self.spans()):
            if begin < key <= end:
                before = self._get(number, self._floor(number, key - 1), read_header)
                return before["hash"].tobytes()
        return NO_HASH

    def _floor(self, number: int, sequence: int) -> int:
        """The last key of the file that is not after `sequence`; the file has one."""
        with self._cursor(number, sequence) as cursor:
            if not cursor.set_range(files.pack_key(sequence)):
                cursor.last()
            elif files.unpack_key(cursor.key()) != sequence:
                cursor.prev()
            return files.unpack_key(cursor.key())

    def _ceiling(self, number: int, sequence: int) -> int | None:
        """The first key of the file from `sequence` on."""
        with self._cursor(number, sequence) as cursor:
            if cursor.set_range(files.pack_key(sequence)):
                return files.unpack_key(cursor.key())
            return None

    def _get(self, number: int, key: int, make: Callable[[memoryview, int], T]) -> T:
        """What `make` makes of the value under `key`."""
        with self._cursor(number, key) as cursor:
            if not cursor.set_key(files.pack_key(key)):
                raise JournalError(f"batch {key} is missing in {self._path(number)}", key)
            return make(cursor.value(), key)

    @contextlib.contextmanager
    def _cursor(self, number: int, sequence: int) -> Iterator["lmdb.Cursor[memoryview]"]:
        """A cursor in a file; an error of LMDB becomes a JournalError about `sequence`."""
        try:
            with self._environment(number).read() as cursor:
                yield cursor
        except (lmdb.Error, JournalError) as error:
            if isinstance(error, JournalError) and error.sequence:
                raise
            raise JournalError(f"{self._path(number)} is damaged: {error}", sequence) from error

    def _environment(self, number: int) -> Environment:
        if number not in self._environments:
            while len(self._environments) >= _OPEN_FILES:
                files.release(self._environments.pop(next(iter(self._environments))))
            self._environments[number] = files.acquire(self.directory, number)
        return self._environments[number]

    def _first(self, number: int) -> int | None:
        """First sequence of a file, None while it has none."""
        if number not in self._firsts:
            first = self._environment(number).first
            if first is None:
                return None
            self._firsts[number] = first
        return self._firsts[number]

    def _numbers(self) -> list[int]:
        before = self._before_file
        there = files.numbers(self.directory)
        # A file that was pruned takes room on the disk as long as somebody has it open.
        for gone in self._environments.keys() - there:
            files.release(self._environments.pop(gone))
            self._firsts.pop(gone, None)
        return [n for n in there if before is None or n < before]

    def _path(self, number: int) -> Path:
        return files.file_path(self.directory, number)


def check(directory: Path | str) -> int:
    """Check all of a journal that nobody writes; returns its last sequence.

    First the structure of each file, without LMDB (which trusts it and may crash on it), then every
    batch. Raises JournalError whose `sequence` is the first that cannot be trusted. Takes some
    seconds per gigabyte.
    """
    for number in files.numbers(Path(directory)):
        problem = files.structure_problem(files.file_path(Path(directory), number))
        if problem:
            with Reader(directory, before_file=number) as reader:
                last = reader.last()[0]
            path = files.file_path(Path(directory), number)
            raise JournalError(f"{path} is damaged: {problem}", last + 1)
    last = 0
    with Reader(directory) as reader:
        for batch in reader.batches():
            last = batch.last_sequence
    return last
