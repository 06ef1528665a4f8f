"""The archiver's process: brings the views up to date with the journal, and serves pulls.

Started by the supervisor as `python -m matchbox.tools.archiver CONFIG DATA FD`. Ends by itself once
the exchange has (FD hangs up) and the rest of the journal is in the views, or at SIGTERM. It is
nice to everybody else: late, it catches up when there is time.

It wakes up when the journal's files change, and then goes through what there is, at most every
LINGER_S: a round costs the same for one record as for some hundreds.
"""

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from matchbox.shm import segment
from matchbox.shm.board import Board
from matchbox.shm.errors import JournalError, MatchboxError, SegmentError
from matchbox.shm.ring import Ring
from matchbox.shm.saying import complain, say
from matchbox.shm.segment import SegmentName
from matchbox.tools import archive_admin
from matchbox.tools.access import Access
from matchbox.tools.archiving import NO_END, VIEWS, Archiving
from matchbox.tools.config import load
from matchbox.tools.folder import read_status
from matchbox.tools.pull_server import Progress, PullServer

LINGER_S = 0.02
# A change that was not noticed is looked for so often.
_PATIENCE_S = 1.0
# The engine is behind the journal.
_HELD_S = 0.01
_NICE = 10
# The folder's files may be changing hands: another file follows, a dead writer's end is mended.
_TRIES, _TRY_S = 20, 0.05
T = TypeVar("T")
_IN_MODIFY, _IN_CREATE, _IN_MOVED_TO = 0x2, 0x100, 0x80


class Watch:
    """Wakes up when a folder's files change, the exchange ends, or somebody asks to stop."""

    def __init__(self, folder: Path, life: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._notify = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._notify >= 0:
            mask = _IN_MODIFY | _IN_CREATE | _IN_MOVED_TO
            libc.inotify_add_watch(self._notify, os.fsencode(folder), mask)
        self._life = life
        self.over = False  # the exchange has ended
        self.asked = False  # to stop
        self._reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing)
        signal.signal(signal.SIGTERM, self._stop)
        self._poller = select.poll()
        for fd in (self._notify, self._reading):
            if fd >= 0:
                self._poller.register(fd, select.POLLIN)
        self._poller.register(life, select.POLLHUP)

    def _stop(self, *_: object) -> None:
        self.asked = True

    def wait(self, seconds: float) -> None:
        for fd, _ in self._poller.poll(1e3 * seconds):
            if fd == self._life:
                self.over = True
            else:
                try:
                    os.read(fd, 1 << 16)
                except BlockingIOError:
                    continue


class Told:
    """Up to which record the living engine has told what came of it.

    The archive goes no further while one lives: a record that kills the engine may be cut out
    (persistence/cuts.py) as long as nobody was told of it, and who pulls is somebody.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._log: Ring | None = None
        self._instance, self._epoch, self._reader = "", 0, 0

    def __call__(self) -> int:
        """Raises SegmentError where there is no engine."""
        if self._log is None:
            status = read_status(self._data)
            self._attach(str(status.get("instance", "-")), int(status.get("epoch", 0)))
        while self._log is not None and self._log.successor:
            self._attach(self._instance, self._log.successor)
        assert self._log is not None
        return int(self._log.consumed[self._reader])

    def _attach(self, instance: str, epoch: int) -> None:
        """Of the log's readers, the publisher comes behind the matchers."""
        board, log = (
            segment.attach(SegmentName(instance, epoch, part), writable=False)
            for part in ("board", "log")
        )
        names = Board.attach(board).live_agents()["name"].tolist()
        self._reader = sum(name.startswith(b"matcher-") for name in names)
        self._log = Ring.attach(log)
        self._instance, self._epoch = instance, epoch


def run(config: Path, data: Path, life: int) -> int:
    """Until there is nothing more to come. The exit status."""
    os.nice(_NICE)
    settings = replace(load(config), data=data)
    watch = Watch(data / "journal", life)
    archiving = _patiently(lambda: Archiving(settings, data, say=say))
    progress = Progress()
    progress.tell(archiving.position)
    told = Told(data)
    server = PullServer(data, data / VIEWS, Access(settings, archiving.catalog), progress, say)
    try:
        while not watch.asked:
            try:
                archiving.most = NO_END if watch.over else told()
            except SegmentError:
                archiving.most = NO_END  # it is ending, or has ended
            done = _patiently(archiving.work)
            progress.tell(archiving.position)
            if done:
                watch.wait(0)
                continue
            if watch.over:
                break
            for day in archive_admin.drop_old(data / VIEWS, settings.archive.keep_days):
                say(f"The views of {day} are older than archive.keep_days, and were removed.")
            held = archiving.most < archiving.journaled
            watch.wait(_HELD_S if held else _PATIENCE_S)
            if not watch.over:
                time.sleep(LINGER_S)
    finally:
        server.close()
        archiving.close()
    return 0


def _patiently(work: Callable[[], T]) -> T:
    """Do it, again if the journal changes hands meanwhile."""
    for left in reversed(range(_TRIES)):
        try:
            return work()
        except JournalError:
            if not left:
                raise
            time.sleep(_TRY_S)
    raise AssertionError


def main(arguments: list[str]) -> int:
    config, data, life = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return run(Path(config), Path(data), int(life))
    except MatchboxError as error:
        complain(f"The archiver has failed: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
