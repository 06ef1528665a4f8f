"""SIGINT and SIGTERM as wishes to stop, from the first moment of a start to the end of the process.

While an exchange starts, either raises KeyboardInterrupt, so that the start is undone. After
defer() they are noted in `asked` and make `fileno()` readable, so that a select() ends, and the
exchange stops in order when it comes to that. There is no moment at which the default, death on
the spot, applies.
"""

import contextlib
import os
import signal
from types import FrameType
from typing import Any

_ASKING = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Context manager of the main thread; the handlers before it come back at its end."""

    def __init__(self) -> None:
        self.asked = False
        self._deferred = False

    def __enter__(self) -> "StopSignals":
        self._reading, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup = signal.set_wakeup_fd(self._writing)
        self._before = {number: signal.signal(number, self._note) for number in _ASKING}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._reading)
        os.close(self._writing)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if not self._deferred:
            raise KeyboardInterrupt

    def defer(self) -> None:
        """From now on, only note what is asked."""
        self._deferred = True

    def fileno(self) -> int:
        return self._reading

    def drain(self) -> None:
        """Take what made fileno() readable."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._reading, 64)
