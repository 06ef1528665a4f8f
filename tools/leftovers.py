"""What dead runs left: shared memory, of which data folder it is, and processes.

The board of a run names its data folder, by path and identity. It is laid out before the first
process starts, and is the first segment to go: a run without one has nothing that is not in its
journal.
"""

import os
import selectors
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from matchbox.shm import segment
from matchbox.shm.board import Board
from matchbox.shm.errors import MatchboxError, SegmentError
from matchbox.shm.segment import SegmentName
from matchbox.tools import folder
from matchbox.tools.folder import identity, read_status

_EXIT_PATIENCE_S = 10.0
_OURS = (b"matchbox.tools.host", b"matchbox.tools.archiver", b"matchbox.gateway.worker")


@dataclass(frozen=True)
class Run:
    """The segments of one epoch of an instance; `folder` and `identity` are empty without a board.

    As long as nobody holds the lock of the folder, the run is dead.
    """

    instance: str
    epoch: int
    segments: tuple[SegmentName, ...]
    folder: str = ""
    identity: str = ""

    @property
    def home(self) -> Path | None:
        """Its data folder, if that is still where it was."""
        path = Path(self.folder)
        return path if self.identity and identity(path) == self.identity else None

    def belongs_to(self, data: Path) -> bool:
        """Is this its data folder? Also one that was moved; not a copy beside the original."""
        home = self.home
        if home is not None:
            return home.samefile(data)
        return bool(self.identity) and identity(data) == self.identity

    @property
    def log(self) -> SegmentName | None:
        return next((name for name in self.segments if name.part == "log"), None)

    def remove(self) -> None:
        """The board first: see above."""
        for name in sorted(self.segments, key=lambda name: name.part != "board"):
            segment.unlink(name)


def runs(instance: str) -> Iterator[Run]:
    """All that this user's runs have in shared memory, dead or not, in the order of epochs.

    Boards of another version are passed over, and are a MatchboxError where they have the name
    `instance`.
    """
    for (epoch, name), parts in groupby(
        sorted(segment.own(), key=lambda n: (n.epoch, n.instance, n.part)),
        key=lambda n: (n.epoch, n.instance),
    ):
        try:
            yield _look(name, epoch, tuple(parts))
        except SegmentError as error:
            if name == instance:
                raise MatchboxError(
                    f"another version of Matchbox has left shared memory: {error}; allowed: that "
                    f"version's `matchbox up`, or to remove /dev/shm/matchbox-{name}-{epoch}-*"
                ) from None


def _look(instance: str, epoch: int, names: tuple[SegmentName, ...]) -> Run:
    name = next((name for name in names if name.part == "board"), None)
    try:
        memory = segment.attach(name, writable=False) if name else b""
    except SegmentError:
        memory = b""  # it is going just now, or was not laid out
    if not memory[:8].strip(b"\0"):
        return Run(instance, epoch, names)
    board = Board.attach(memory)
    return Run(instance, epoch, names, board.folder, board.identity)


def kill_hosts(data: Path) -> None:
    """End the host processes of the last run in a data folder that outlived their supervisor."""
    status = read_status(data)
    for pid in folder.living(status):
        if pid in status["processes"]:
            kill_host(pid)
    kill_archiver(data)
    kill_gateway(data)


def kill_gateway(data: Path) -> None:
    """End the workers of the last run's gateway."""
    for pid in read_status(data).get("gateway", {}).get("workers", []):
        kill_host(int(pid))


def kill_archiver(data: Path) -> None:
    """End the archiver of the last run in a data folder."""
    pid = int(read_status(data).get("archiver", 0))
    if pid:
        kill_host(pid)


def kill_host(pid: int) -> None:
    """End a host process that outlived its supervisor, and wait for its end."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # The number may be another program's by now.
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if not any(name in command for name in _OURS):
            return
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        selector = selectors.DefaultSelector()
        selector.register(pidfd, selectors.EVENT_READ)
        selector.select(_EXIT_PATIENCE_S)
    except (OSError, ProcessLookupError):
        return
    finally:
        os.close(pidfd)
