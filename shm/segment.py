"""Segments: named shared memory of the exchange itself, and sealed memory of a session.

The exchange's own are POSIX shared memory, `/matchbox-<instance>-<epoch>-<part>`, created
exclusively, mode 0600, backed whole before use: a machine without the memory refuses here, not with
a SIGBUS on the order path. Who maps a segment for writing has all of its pages mapped at once: the
first turn around a ring costs no page faults.

A session has two memfds, sealed against shrinking, growing and further seals, so that no peer can
pull the memory away under a reader.
"""

import contextlib
import fcntl
import mmap
import os
import re
from dataclasses import dataclass
from pathlib import Path

import posix_ipc

from matchbox.shm.errors import SegmentError

FOLDER = Path("/dev/shm")
_NAME = re.compile(
    r"matchbox-(?P<instance>[a-z][a-z0-9-]*)-(?P<epoch>\d+)-(?P<part>[a-z][a-z0-9-]*)"
)
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


@dataclass(frozen=True)
class SegmentName:
    """The parts of a segment's name."""

    instance: str
    epoch: int
    part: str

    def __str__(self) -> str:
        return f"/matchbox-{self.instance}-{self.epoch}-{self.part}"


def check_room(sizes: dict[str, int], *, private: int = 0) -> None:
    """Raises SegmentError unless there is memory for segments of these sizes, by part, together,
    and for so many bytes that processes map for themselves.
    """
    needed = sum(sizes.values())
    disk = os.statvfs(FOLDER)
    room = {
        f"free in {FOLDER}": disk.f_bavail * disk.f_frsize,
        "memory available": _available_bytes() - private,
    }
    if needed > min(room.values()):
        largest = sorted(sizes.items(), key=lambda part: -part[1])[:3]
        raise SegmentError(
            f"not enough memory for rings and tables: needed={_mib(needed)}, "
            + ", ".join(f"{what}={_mib(size)}" for what, size in room.items())
            + "; the largest: "
            + ", ".join(f"{part}={_mib(size)}" for part, size in largest)
        )


def _available_bytes() -> int:
    """Memory that can be had without swapping, as the kernel estimates it."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 1 << 62


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def create(name: SegmentName, size: int) -> mmap.mmap:
    """New zeroed shared memory of `size` bytes.

    Raises SegmentError if it exists or there is not enough memory.
    """
    try:
        segment = posix_ipc.SharedMemory(str(name), posix_ipc.O_CREX, mode=0o600)
    except posix_ipc.ExistentialError:
        raise SegmentError(f"segment exists already: name={name}") from None
    try:
        return _back(segment.fd, size)
    except OSError as error:
        posix_ipc.unlink_shared_memory(str(name))
        raise SegmentError(
            f"no memory for a segment: name={name}, bytes={size}: {error.strerror}"
        ) from None
    finally:
        segment.close_fd()


def attach(name: SegmentName, *, writable: bool = True) -> mmap.mmap:
    """The memory of an existing segment. Raises SegmentError if there is none."""
    try:
        segment = posix_ipc.SharedMemory(str(name), 0, read_only=not writable)
    except (posix_ipc.ExistentialError, posix_ipc.PermissionsError) as error:
        raise SegmentError(f"no segment to attach: name={name}: {error}") from None
    try:
        return map_fd(segment.fd, writable=writable)
    finally:
        segment.close_fd()


def map_fd(fd: int, *, writable: bool = True) -> mmap.mmap:
    """The whole of a descriptor's memory; the descriptor may be closed afterwards."""
    size = os.fstat(fd).st_size
    if size == 0:
        raise SegmentError("segment is empty: bytes=0")
    if writable:
        return _map_all(fd, size)
    return mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ)


def unlink(name: SegmentName) -> None:
    """Remove the name; memory that is mapped stays until its last user unmaps it."""
    try:
        posix_ipc.unlink_shared_memory(str(name))
    except posix_ipc.ExistentialError:
        return


def names(instance: str) -> list[SegmentName]:
    """The segments of an instance, of all epochs."""
    found = []
    for path in FOLDER.glob(f"matchbox-{instance}-*"):
        match = _NAME.fullmatch(path.name)
        if match and match["instance"] == instance:
            found.append(SegmentName(instance, int(match["epoch"]), match["part"]))
    return sorted(found, key=lambda name: (name.epoch, name.part))


def own() -> list[SegmentName]:
    """The segments of all instances that run, or have run, as this user."""
    found = []
    for path in FOLDER.glob("matchbox-*"):
        match = _NAME.fullmatch(path.name)
        with contextlib.suppress(FileNotFoundError):
            if match and path.stat().st_uid == os.getuid():
                found.append(SegmentName(match["instance"], int(match["epoch"]), match["part"]))
    return found


def open_fd(name: SegmentName, *, writable: bool) -> int:
    """A descriptor of a segment, to hand to another process."""
    return os.open(FOLDER / str(name)[1:], (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)


def memfd(name: str, size: int) -> tuple[int, mmap.mmap]:
    """Sealed anonymous memory of fixed size: its descriptor and our mapping of it."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        # Another user's process that gets a read-only descriptor cannot open it again for writing.
        os.fchmod(fd, 0o600)
        memory = _back(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError as error:
        os.close(fd)
        raise SegmentError(f"no memory for a session: bytes={size}: {error.strerror}") from None
    return fd, memory


def read_only(fd: int) -> int:
    """Another descriptor of the same memory through which nobody can write."""
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)


def _back(fd: int, size: int) -> mmap.mmap:
    os.ftruncate(fd, size)
    os.posix_fallocate(fd, 0, size)
    return _map_all(fd, size)


def _map_all(fd: int, size: int) -> mmap.mmap:
    flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
    return mmap.mmap(fd, size, flags, mmap.PROT_READ | mmap.PROT_WRITE)
