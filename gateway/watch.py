"""Being told when files of a folder change: a descriptor for an event loop (inotify)."""

import contextlib
import ctypes
import os
from pathlib import Path

_IN_MODIFY, _IN_CREATE, _IN_MOVED_TO = 0x2, 0x100, 0x80


class Watch:
    """`fd` is readable when something has changed since clear(). -1: this machine has no such
    thing, or there is no such folder; who watches has to look now and then in any case.
    """

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        if self.fd >= 0:
            mask = _IN_MODIFY | _IN_CREATE | _IN_MOVED_TO
            if libc.inotify_add_watch(self.fd, os.fsencode(folder), mask) < 0:
                self.close()

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self.fd, 1 << 16)) > 1 << 15:
                pass

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
