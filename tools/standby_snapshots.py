"""The snapshots that a standby begins with and takes.

It is the only one who can take them without a pause of the engine: it stops following for a moment,
copies its own state, and goes on; the rest, hashing and writing, is done by a thread beside.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import matchbox
from matchbox.core.snapshot import Image
from matchbox.persistence import snapshots
from matchbox.persistence.journal import Reader
from matchbox.shm.errors import MatchboxError, SnapshotError
from matchbox.shm.records import LOG_RECORD, Kind
from matchbox.shm.saying import complain
from matchbox.tools.catalog import defining

_DURABLE_PATIENCE_S = 60.0


class StandbySnapshots:
    """Of one standby."""

    def __init__(self, data: Path, journal: Path, *, interval_s: float, keep: int) -> None:
        """`interval_s`: between two of them, 0: only when asked for; `keep`: of the newest."""
        self._folder, self._journal = data / "snapshots", journal
        self._interval_s, self._keep = interval_s, keep
        self._taken_s = time.monotonic()
        self._writer: threading.Thread | None = None
        self.start = self._choose()
        self._definitions = self.start.definitions if self.start else np.empty(0, LOG_RECORD)
        self._known = self.start.sequence if self.start else 0  # definitions, up to this record
        self._last = self._known  # sequence of the last snapshot

    def _choose(self) -> snapshots.Snapshot | None:
        """What to begin with; None: the first record. Raises SnapshotError."""
        found = snapshots.newest(self._folder, journal=self._journal, sessions=True)
        with Reader(self._journal) as reader:
            oldest = reader.first_sequence()
        if found is not None or oldest == 1:
            return found
        # One that does not know of sessions will do if none of then can be left.
        for sequence in snapshots.sequences(self._folder):
            found = snapshots.newest(self._folder, at_most=sequence, journal=self._journal)
            if found is not None and self._starts_after(found.sequence):
                return found
        raise SnapshotError(
            f"the journal begins with record {oldest:,}, and no snapshot of a standby leads there; "
            "a start of the exchange helps"
        )

    def _starts_after(self, sequence: int) -> bool:
        """Was the exchange started after this record? That ends all sessions."""
        with Reader(self._journal) as reader:
            for batch in reader.batches(sequence):
                later = batch.records[batch.records["sequence"] > sequence]
                if (later["kind"] == Kind.START).any():
                    return True
        return False

    def due(self, position: int) -> bool:
        """Is it time for another one?"""
        late = self._interval_s and time.monotonic() - self._taken_s >= self._interval_s
        return bool(late) and position > self._last and not self.busy

    @property
    def busy(self) -> bool:
        """Is one being written?"""
        return self._writer is not None and self._writer.is_alive()

    def put_off(self, why: str) -> None:
        """It could not be taken now."""
        self._taken_s = time.monotonic()
        complain(f"No snapshot: {why or 'the engine has died'}")

    def write(self, image: Image, epoch: int, durable: Callable[[], int]) -> None:
        """Write it in a thread of its own, once its record is durable."""
        self._taken_s, self._last = time.monotonic(), image.sequence

        def write() -> None:
            os.nice(10)  # of this thread alone
            try:
                self._write(image, epoch, durable)
            except (MatchboxError, OSError) as error:
                self.put_off(str(error))

        self._writer = threading.Thread(target=write, name="snapshot", daemon=True)
        self._writer.start()

    def _write(self, image: Image, epoch: int, durable: Callable[[], int]) -> Path:
        deadline = time.monotonic() + _DURABLE_PATIENCE_S
        while durable() < image.sequence:
            if time.monotonic() > deadline:
                raise SnapshotError(f"record {image.sequence:,} does not become durable")
            time.sleep(0.005)
        chain = self._learn(image.sequence)
        return snapshots.write(
            self._folder,
            image,
            definitions=self._definitions,
            epoch=epoch,
            chain=chain,
            build=matchbox.__version__,
            keep=self._keep,
            sessions=True,
        )

    def _learn(self, sequence: int) -> bytes:
        """The definitions up to a record; the chain's hash if a batch ends there."""
        found: list[NDArray[Any]] = [self._definitions]
        chain = b""
        with Reader(self._journal) as reader:
            for batch in reader.batches(self._known + 1):
                if batch.first_sequence > sequence:
                    break
                records = defining(batch.records)
                wanted = (records["sequence"] > self._known) & (records["sequence"] <= sequence)
                found.append(records[wanted])
                if batch.last_sequence == sequence:
                    chain = batch.hash
        self._definitions, self._known = np.concatenate(found), sequence
        return chain
