"""The supervisor's side of the archiver: started, buried, ended.

The exchange does not wait for it, at a start or ever; only a stop in order does, so that the views
are complete. One that dies is followed by another, after some time if it dies often. A day's views
that kill their reader (a damaged page is a fault signal inside LMDB) are removed: the next archiver
makes them again out of the journal.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from matchbox.persistence import partition
from matchbox.tools.archiving import VIEWS
from matchbox.tools.config import Config

_STOP_PATIENCE_S = 60.0
# Another one is started so long after a death, twice as long after the next, up to the longest.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _LIVED_S = 0.1, 60.0, 60.0
_FAULTS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)


class ArchiverKeeper:
    """Keeps the one archiver of an exchange, or none."""

    def __init__(
        self,
        config: Config,
        data: Path,
        selector: selectors.BaseSelector,
        say: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called when what instance.json says of it is no longer so."""
        self._config, self._data, self._selector, self._say = config, data, selector, say
        self._changed = changed
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._started = 0.0
        self._pause = _FIRST_PAUSE_S
        self._again_at: float | None = None
        self._life = -1

    @property
    def pid(self) -> int:
        """Of its process; 0 without one."""
        return self._process.pid if self._process is not None else 0

    def start(self, life: int) -> None:
        """Start one, if there is to be one. `life`: a descriptor that hangs up at the exchange's
        end.
        """
        if not self._config.archive.enabled:
            return
        self._life, self._again_at = life, None
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "matchbox.tools.archiver",
                str(self._config.path.resolve()),
                str(self._data),
                str(life),
            ],
            pass_fds=[life],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._started = time.monotonic()
        self._pidfd = os.pidfd_open(self._process.pid)
        self._selector.register(self._pidfd, selectors.EVENT_READ, lambda: None)
        self._changed()

    def tend(self) -> None:
        """Now and then: put another one in the place of one that has died."""
        if self._process is not None and self._process.poll() is not None:
            self._bury()
        if self._again_at is not None and time.monotonic() >= self._again_at:
            self.start(self._life)

    @property
    def due_s(self) -> float | None:
        """In so many seconds tend() has something to do; None: not that it is known."""
        return None if self._again_at is None else max(0.0, self._again_at - time.monotonic())

    def _bury(self) -> None:
        assert self._process is not None
        status = self._process.returncode
        lived = time.monotonic() - self._started
        self._forget()
        self._pause = _FIRST_PAUSE_S if lived > _LIVED_S else self._pause
        self._again_at = time.monotonic() + self._pause
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        self._say(
            f"The archiver ended: {how}. Trading goes on; another one is started in "
            f"{self._pause:g} s."
        )
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_S)
        if -status in _FAULTS:
            self._give_up_newest()
        self._changed()

    def _give_up_newest(self) -> None:
        views = self._data / VIEWS
        for day in partition.days(views)[-1:]:
            with contextlib.suppress(OSError):
                partition.remove(views, day)
                self._say(f"The views of {day} are removed, and made again out of the journal.")

    def _forget(self) -> None:
        self._selector.unregister(self._pidfd)
        os.close(self._pidfd)
        self._process, self._pidfd = None, -1

    def wait(self) -> None:
        """The exchange has ended: let it finish, for some time."""
        if self._process is None:
            return
        try:
            self._process.wait(_STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._say("The views are not complete; they will be at the next start.")
            self.kill()
            return
        self._forget()

    def kill(self) -> None:
        """End it at once; the views are whole all the same."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._forget()
