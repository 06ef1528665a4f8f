"""The journaler: follows the log ring and makes it durable.

It is a gating reader of the log ring: a slot is given back when its record is on the disk, so its
position in the ring is the `durable` cursor. It is the only agent that may block, on the disk; run
it on a thread of its own.
"""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.persistence import cuts, points
from matchbox.persistence.journal import Writer
from matchbox.shm.errors import JournalError
from matchbox.shm.records import LOG_RECORD, NEW_ORDER, Flag, Kind
from matchbox.shm.ring import Reader, Ring

GROUP_RECORDS = 4  # that go together, at most
# Commits begin no further apart while reports wait for them. A commit costs some 0.6 ms of a core.
HURRY_NS = 2_000_000


class Journaler:
    """Journals a log ring. One thread."""

    name = "journaler"

    def __init__(
        self, journal_writer: Writer, log_ring: Ring, reader_index: int, *, linger_ns: int = 0
    ) -> None:
        """Follow `log_ring` as its gating reader `reader_index`.

        `linger_ns`: commits begin at least so far apart, unless a full batch waits, or a report
        for a commit (HURRY_NS then). A commit costs the same processor time for one record as for
        thousands; after a pause longer than that there is no wait.
        """
        self.writer = journal_writer
        self._reader = Reader(log_ring, reader_index)
        self._linger_ns = linger_ns
        self._committed_ns = 0

    def follow(self, log_ring: Ring, reader_index: int) -> None:
        """Go on in another engine's log ring, which may begin before the journal's end."""
        self._reader = Reader(log_ring, reader_index)

    @property
    def durable(self) -> int:
        """Sequence of the last record of the journal: it and everything before are on the disk."""
        return self.writer.last_sequence

    @property
    def ready(self) -> int:
        """Records that wait in the ring."""
        return self._reader.ready()

    def step(self) -> int:
        """Commit what is in the ring, at most one batch; returns how many records were taken.

        Blocks on the disk, and up to linger_ns; returns 0 at once if the ring is empty. Records
        that the journal has already (the log is published again after a restart) are compared and
        passed over. A failed commit is tried once more, in a new file; if that fails too,
        JournalError, and nothing more is released.
        """
        ready = self._reader.ready()
        if ready == 0:
            return 0
        position = self._reader.position
        if position < self.writer.last_sequence:
            count = min(ready, self.writer.last_sequence - position)
            self._check_known(self._reader.views(count, LOG_RECORD))
        else:
            if ready < self.writer.batch_records:
                self._linger()
            count = self._journal()
        self._reader.advance(count)
        self._reader.release()
        return count

    def _journal(self) -> int:
        parts = whole(
            self._reader.views(self.writer.batch_records + 1, LOG_RECORD),
            self.writer.batch_records,
        )
        self._committed_ns = time.monotonic_ns()
        points.passing("journal.written")
        try:
            self.writer.append(*parts)
        except JournalError:
            if not self.writer.failed:
                raise
            self.writer.roll()
            self.writer.append(*parts)
        points.passing("journal.flushed")
        return sum(map(len, parts))

    def _linger(self) -> None:
        until = self._committed_ns + self._linger_ns
        look = self._committed_ns + HURRY_NS
        while (now := time.monotonic_ns()) < until:
            if now >= look:
                if self._reader.ring.held:
                    return
                look = now + HURRY_NS
            time.sleep((min(look, until) - now) / 1e9)

    def _check_known(self, parts: list[NDArray[Any]]) -> None:
        """Compares what is cheap: the first sequence, and the journal's last record."""
        first, last = parts[0][0], parts[-1][-1]
        expected = self._reader.position + 1
        if int(first["sequence"]) != expected:
            raise JournalError(
                f"the log ring is not at its place: sequence={int(first['sequence'])}, "
                f"expected={expected}",
                expected,
            )
        if int(last["sequence"]) == self.writer.last_sequence:
            check_same(last, self.writer)


def whole(parts: list[NDArray[Any]], most: int) -> list[NDArray[Any]]:
    """The first `most` records of `parts`, or fewer: not to part what is published at once.

    What goes together (an order and its terms, a list and its legs) is in one batch, so that it is
    in the journal together or not at all. `parts` may hold one record more than `most`, which says
    whether the cut is one; if there is none more, the ring ends there, and that is no cut.
    """
    total = sum(map(len, parts))
    if total <= most:
        return parts
    tail = np.concatenate([part[-GROUP_RECORDS - 1 :] for part in parts])[-GROUP_RECORDS - 1 :]
    keep = most
    for record, before in zip(tail[:0:-1], tail[-2::-1], strict=False):
        if not continues(record, before):
            break
        keep -= 1
    if keep <= 0:
        keep = most
    kept: list[NDArray[Any]] = []
    for part in parts:
        if keep > 0:
            kept.append(part[:keep])
        keep -= len(part)
    return kept


def whole_count(records: NDArray[Any], most: int) -> int:
    """How many of some records of a log, `most` at most, can be taken without parting any."""
    count = min(most, len(records))
    while 0 < count < len(records) and continues(records[count], records[count - 1]):
        count -= 1
    return count


def count_before(records: NDArray[Any]) -> int:
    """How many of some records of a log right before the last one belong together with it."""
    count = 0
    while count + 1 < len(records) and continues(records[-1 - count], records[-2 - count]):
        count += 1
    return count


def continues(record: Any, before: Any) -> bool:
    """Does it belong to the record before it?"""
    if record["kind"] == Kind.NEW_ORDER:
        return bool(record.view(NEW_ORDER)["has_terms"])
    replaces = before["kind"] == Kind.CANCEL_ORDER and before["flags"] & Flag.REPLACE
    return bool(record["kind"] == Kind.ORDER_TERMS and replaces)


def check_same(record: NDArray[Any], writer: Writer) -> None:
    """Raises JournalError unless `record` is the last one of the journal, byte for byte; but one
    that is cut out is marked in the log.
    """
    logged = record.copy()
    if logged["reserved"] == cuts.CUT and logged["kind"] in cuts.KINDS:
        logged["reserved"] = 0
    if logged.tobytes() != writer.last_record:
        raise JournalError(
            f"the log and the journal hold different records: sequence={writer.last_sequence}, "
            f"log={logged.tobytes().hex()}, journal={writer.last_record.hex()}",
            writer.last_sequence,
        )


def drain_log_ring(ring: Ring, writer: Writer) -> int:
    """Append what a dead instance's log ring holds beyond the journal; returns how many records.

    Raises JournalError if records in between are gone, or the two do not hold the same log.
    """
    produced, start = ring.produced, writer.last_sequence
    oldest = max(0, produced - ring.capacity)
    if produced <= start and not oldest < start <= produced:
        return 0
    if oldest > start:
        raise JournalError(
            "the log ring no longer holds what the journal lacks: "
            f"journal={start}, oldest={oldest + 1}",
            start + 1,
        )
    if oldest < start:
        check_same(ring.peek(start - 1, 1, LOG_RECORD)[0], writer)
    while writer.last_sequence < produced:
        count = min(produced - writer.last_sequence, writer.batch_records + 1)
        records = ring.peek(writer.last_sequence, count, LOG_RECORD)
        writer.append(*whole([records], writer.batch_records))
    return produced - start
