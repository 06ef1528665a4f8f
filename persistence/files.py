"""The files of a journal: LMDB environments of one file each, numbered from 000001.mdb.

A file is never resized while it is open: it is mapped with room for the largest file there can be,
and the writer goes on in a new file in time. Where files overlap, which happens after a failed
commit, the newer file is right from its first sequence on.

LMDB must not be opened twice in one process, nor be used across a fork. So everyone in a process
shares one environment a file; whoever needs to write must come first.
"""

import contextlib
import os
import re
import resource
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from matchbox.shm.errors import JournalError

# Address space only, nothing is allocated: more than any file may have (see MAX_FILE_BYTES).
MAP_BYTES = 1 << 36
MAX_FILE_BYTES = MAP_BYTES - (1 << 30)
# Of a meta page: its last page and the number of its transaction; and where the page size stands.
_META = struct.Struct("<136xQQ")
_META_PAGE_BYTES = 40
_NAME = re.compile(r"(\d{6,})\.mdb")
_KEY = struct.Struct(">Q")


def pack_key(sequence: int) -> bytes:
    return _KEY.pack(sequence)


def unpack_key(key: bytes | memoryview) -> int:
    """The sequence of a key. Raises JournalError if it is no key of ours."""
    if len(key) != _KEY.size:
        raise JournalError(f"a key of the journal is damaged: bytes={len(key)}")
    return int(_KEY.unpack(key)[0])


def numbers(directory: Path) -> list[int]:
    """Numbers of the journal files in `directory`, ascending; none if it does not exist."""
    if not directory.is_dir():
        return []
    names = (_NAME.fullmatch(path.name) for path in directory.iterdir())
    return sorted(int(match[1]) for match in names if match)


def file_path(directory: Path, number: int) -> Path:
    return directory / f"{number:06d}.mdb"


def flush(path: Path) -> None:
    """A file, or the names in a folder, to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(directory: Path) -> None:
    """Make the folder of a journal and those above it, if there are none; they are on the disk.

    Flushed whether made now or not: who made them may have died before he could. Raises OSError;
    what was made is gone then, since a name whose flush has failed may not be on the disk whatever
    is flushed later.
    """
    directory = directory.absolute()
    missing = [f for f in (directory, *directory.parents) if not f.exists()]
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        device = directory.stat().st_dev
        for folder in (directory, *directory.parents):
            place = folder.stat()
            ours = place.st_uid == os.geteuid() and os.access(folder, os.R_OK)
            if not ours or place.st_dev != device:
                break
            flush(folder)
    except OSError:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def create(directory: Path, number: int, batches: Iterable[tuple[int, bytes]] = ()) -> None:
    """Make a file with these keys and values, in place of one that may be there.

    Whole or not at all: it gets its name when it is on the disk. Raises OSError, lmdb.Error;
    nothing of it is there then.
    """
    path = file_path(directory, number)
    new = not path.exists()
    draft = path.with_suffix(".new")
    _remove(draft)
    try:
        with _map(draft) as env:
            for key, value in batches:
                with env.begin(write=True) as transaction:
                    transaction.put(pack_key(key), value, append=True)
        Path(f"{draft}-lock").unlink(missing_ok=True)
        flush(draft)
        draft.rename(path)
        flush(directory)
    except (lmdb.Error, OSError):
        with contextlib.suppress(OSError):
            _remove(draft)
            if new:
                path.unlink(missing_ok=True)
        raise


def _map(path: Path, **options: bool) -> lmdb.Environment:
    """Open a file. Raises lmdb.Error."""
    try:
        return lmdb.open(
            str(path), subdir=False, mode=0o600,
            map_size=MAP_BYTES, metasync=True, sync=True, writemap=False, **options,
        )  # fmt: skip
    except lmdb.MemoryError as error:
        raise lmdb.MemoryError(
            f"{error}; address space for a file: needed={MAP_BYTES >> 30} GiB, "
            f"allowed={_address_space()} (ulimit -v)"
        ) from None


def _address_space() -> str:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return "unlimited" if limit == resource.RLIM_INFINITY else f"{limit / 2**30:.3g} GiB"


def _remove(draft: Path) -> None:
    for left in (draft, Path(f"{draft}-lock")):
        left.unlink(missing_ok=True)


def structure_problem(path: Path) -> str:
    """What is wrong with the LMDB pages of a file that nobody writes; empty if nothing is.

    Also empty if this version of the lmdb package cannot tell.
    """
    if problem := _metas_problem(path):
        return problem
    try:
        from lmdb import verify
    except ImportError:
        return ""
    try:
        problems = verify.verify(str(path), subdir=False)  # type: ignore[no-untyped-call]
    except (verify.VerifyError, OSError, ValueError, struct.error) as error:
        return str(error)
    return str(problems[0]) if problems else ""


def _metas_problem(path: Path) -> str:
    """What is wrong with the numbers of the two meta pages; empty if nothing is.

    LMDB believes the one with the higher number, and takes an old state for the newest where the
    other's number is damaged. But commits write them in turn: their numbers follow each other, and
    the newer knows of as many pages, or more.
    """
    try:
        with path.open("rb") as file:
            first = file.read(_META.size)
            (page_bytes,) = struct.unpack_from("<I", first, _META_PAGE_BYTES)
            file.seek(page_bytes)
            found = sorted(_META.unpack(text)[::-1] for text in (first, file.read(_META.size)))
    except (OSError, struct.error) as error:
        return f"the meta pages cannot be read: {error}"
    (older, older_pages), (newer, newer_pages) = found
    if newer - older != (1 if newer else 0) or older_pages > newer_pages:
        return (
            f"the meta pages do not follow each other: transactions {older} and {newer}, "
            f"pages {older_pages + 1} and {newer_pages + 1}"
        )
    return ""


class Environment:
    """One open file. `first` is its first key, None while it has none."""

    def __init__(self, path: Path, writable: bool) -> None:
        self.path, self.writable, self.users = path, writable, 1
        self._first: int | None = None
        if path.stat().st_size < 2 * os.sysconf("SC_PAGESIZE"):
            raise JournalError(f"{path} is cut off: bytes={path.stat().st_size}")
        self.env = _map(path, create=False, readonly=not writable)
        self.page_bytes = self.env.stat()["psize"]

    @contextmanager
    def read(self) -> Iterator["lmdb.Cursor[memoryview]"]:
        """A cursor over the committed batches; what it gives is valid inside the `with` only.

        Raises JournalError if the file is shorter than what LMDB would read (it would be a SIGBUS).
        """
        with self.env.begin(buffers=True) as transaction:
            needed = self.used_bytes()
            try:
                size = self.path.stat().st_size
            except FileNotFoundError:
                size = needed  # it was pruned: nobody can cut what has no name
            if size < needed:
                raise JournalError(f"{self.path} is cut off: bytes={size}, needed={needed}")
            yield transaction.cursor()

    def used_bytes(self) -> int:
        """Bytes of the file that are in use."""
        return int((self.env.info()["last_pgno"] + 1) * self.page_bytes)

    @property
    def first(self) -> int | None:
        if self._first is None:
            with self.read() as cursor:
                if cursor.first():
                    self._first = unpack_key(cursor.key())
        return self._first


_open: dict[Path, Environment] = {}
_lock = threading.Lock()


def acquire(directory: Path, number: int, *, writable: bool = False) -> Environment:
    """The environment of a file, shared within this process; give it back with release().

    Raises JournalError if it cannot be opened, or is wanted for writing and open for reading
    already.
    """
    path = file_path(directory, number).resolve()
    with _lock:
        known = _open.get(path)
        if known is None:
            try:
                known = _open[path] = Environment(path, writable)
            except (lmdb.Error, OSError) as error:
                raise JournalError(f"cannot open {path}: {error}") from error
            return known
        if writable:
            raise JournalError(f"{path} is open in this process; open the writer before any reader")
        known.users += 1
        return known


def release(environment: Environment) -> None:
    """Give back what acquire() gave; the last one closes it."""
    with _lock:
        environment.users -= 1
        if environment.users == 0:
            del _open[environment.path]
            environment.env.close()
