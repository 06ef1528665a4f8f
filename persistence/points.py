"""Named moments at which a drill has a process die, as by SIGKILL.

    MATCHBOX_DIE_AT=NAME:COUNT:FILE

The process that passes NAME for the COUNT-th time, and can remove FILE, kills itself: one of all
that inherit the variable, once. Nobody sets it but drills; unset, passing() is a comparison.

    journal.written     a batch is about to be committed
    journal.flushed     it is on the disk, and nobody knows yet
    snapshot.written    a snapshot's file is complete, and has not got its name
    takeover.fenced     the old engine is dead, its log not read to the end
    takeover.drained    its log is replayed, nothing of it adopted
    takeover.adopted    the successor's sessions are adopted, TAKE_OVER is not logged
    recovery.replayed   some of the journal is replayed, at a start
    archive.replayed    some of the journal is replayed, and not in the views
"""

import os
import signal
from pathlib import Path

POINTS = (
    "journal.written",
    "journal.flushed",
    "snapshot.written",
    "takeover.fenced",
    "takeover.drained",
    "takeover.adopted",
    "recovery.replayed",
    "archive.replayed",
)
VARIABLE = "MATCHBOX_DIE_AT"

_wanted, _, _rest = os.environ.get(VARIABLE, "").partition(":")
_passed = 0


def passing(name: str) -> None:
    """The process is at this point."""
    if name == _wanted:
        _pass()


def _pass() -> None:
    global _passed
    _passed += 1
    count, _, token = _rest.partition(":")
    if _passed >= int(count):
        try:
            Path(token).unlink()
        except OSError:
            return  # another one has died
        os.kill(os.getpid(), signal.SIGKILL)
