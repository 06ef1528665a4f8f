"""Captures that are made by themselves, when an invariant has failed: DATA/captures.

    begin    have one made, by a process of its own that nobody waits for
    make     that process: makes it, and removes the oldest

A capture must not make things worse: the process runs with the lowest priority, one at a time, and
gives up where the disk is nearly full. What becomes of it is a line in captures/log.txt.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from matchbox.persistence import snapshots
from matchbox.persistence.journal import Reader
from matchbox.shm.errors import CaptureError, MatchboxError
from matchbox.shm.records import LOG_RECORD
from matchbox.tools.config import Config
from matchbox.tools.folder import private

if TYPE_CHECKING:  # a supervisor has no use for it
    from matchbox.tools.capture import Written

SNAPSHOTS = "snapshots"
FOLDER = "captures"
KEPT = 5
# What stays free on the disk, beside what the capture may take.
_RESERVE_BYTES = 1 << 30
Say = Callable[[str], object]


def begin(data: Path, reason: str, say: Say, *, moment: str = "last") -> None:
    """Have a capture made of what led to a moment, because of `reason`. Never raises, never waits.

    For supervisors: whatever goes wrong is said, and nothing else.
    """
    command = [sys.executable, "-m", "matchbox.tools.cli", "capture", moment]
    command += ["--data", str(data), "--alarm", reason]
    try:
        folder = prepare(data)
        log = private(folder / "log.txt", os.O_APPEND)
        try:
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
        finally:
            os.close(log)
        say(f"A capture of what led to it is written into {folder}: see `matchbox reproduce`.")
    except (OSError, ValueError, MatchboxError) as error:
        say(f"No capture is written: {error}")


def prepare(data: Path) -> Path:
    """The folder for captures."""
    folder = data / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def make(
    journal: Path,
    moment: str,
    reason: str,
    *,
    config: Config,
    count: int = 0,
    progress: Callable[[int], object] = lambda last: None,
) -> "Written":
    """Make one in the folder of this exchange, and remove all but the newest. Raises CaptureError,
    BadArgument, OSError.
    """
    from matchbox.tools import capture

    folder = prepare(journal.parent)
    lock = private(folder / "lock")
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CaptureError("another capture is being written just now") from None
        _check_room(journal, folder)
        remove_older(folder, KEPT - 1)
        path = folder / f"alarm-{time.time_ns()}.zip"
        return capture.write(
            journal, moment, path, config=config, count=count, reason=reason, progress=progress
        )
    finally:
        os.close(lock)


def remove_older(folder: Path, keep: int) -> None:
    """All but the newest, and drafts of those that died."""
    for draft in folder.glob("alarm-*.new"):
        draft.unlink(missing_ok=True)
    # The time in their names has as many digits for a few hundred years.
    for path in sorted(folder.glob("alarm-*.zip"), reverse=True)[keep:]:
        path.unlink(missing_ok=True)


def _check_room(journal: Path, folder: Path) -> None:
    """Raises CaptureError if the disk may become full. The journal needs it more."""
    with Reader(journal) as reader:
        last, first = reader.last_sequence(), reader.first_sequence()
    needed = 0
    for sequence in snapshots.sequences(journal.parent / SNAPSHOTS)[:1]:
        first = max(first, sequence)
        with contextlib.suppress(OSError):
            path = snapshots.file_path(journal.parent / SNAPSHOTS, sequence)
            needed += path.stat().st_size
    needed += max(0, last - first) * LOG_RECORD.itemsize
    free = shutil.disk_usage(folder).free
    if free < needed + _RESERVE_BYTES:
        raise CaptureError(
            f"the disk has too little room: free={free}, needed={needed + _RESERVE_BYTES}"
        )
