"""Named moments at which a drill has a process die, as by SIGKILL.

    MATCHBOX_DIE_AT=FOLDER

The process that passes a point, and finds a file of the point's name in FOLDER, counts; at the
number that is in the file it removes it, and if it could, kills itself: one process dies, once.
Nobody sets the variable but drills; unset, passing() is a comparison.

    journal.written     a batch is about to be committed
    journal.flushed     it is on the disk, and nobody knows yet
    snapshot.written    a snapshot's file is complete, and has not got its name
    takeover.fenced     the old engine is dead, its log not read to the end
    takeover.drained    its log is replayed, nothing of it adopted
    takeover.adopted    the successor's sessions are adopted, TAKE_OVER is not logged
    recovery.replayed   some of the journal is replayed, at a start
    archive.replayed    some of the journal is replayed, and not in the views

Of a command, which drills do not run:

    prune.based         the snapshot that a pruned journal begins with is made
    prune.copied        what goes is copied to where it is moved
    prune.removed       one of the files is removed
"""

import os
import signal
from collections import Counter
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

_folder = os.environ.get(VARIABLE)
_passed: Counter[str] = Counter()


def passing(name: str) -> None:
    """The process is at this point."""
    if _folder is not None:
        _pass(Path(_folder, name))


def _pass(armed: Path) -> None:
    try:
        wanted = int(armed.read_text())
        _passed[armed.name] += 1
        if _passed[armed.name] < wanted:
            return
        armed.unlink()
    except OSError:
        return  # nobody is to die here, or another one has
    os.kill(os.getpid(), signal.SIGKILL)


def arm(folder: Path, name: str, count: int) -> Path:
    """Have the process die that passes this point for the count-th time from now on; the file that
    is gone once one has. Raises KeyError for a name that is none.
    """
    if name not in POINTS:
        raise KeyError(name)
    draft = folder / f"{name}.new"
    draft.write_text(str(count))
    return draft.rename(folder / name)
