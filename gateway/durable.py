"""How far the log is on the disk, read where the journaler writes it: in the log ring."""

import contextlib

from matchbox.shm import segment
from matchbox.shm.errors import SegmentError
from matchbox.shm.ring import Ring


class Durable:
    """The durable position of an exchange, across takeovers."""

    def __init__(self, instance: str, epoch: int, journaler_reader: int) -> None:
        self._instance, self._reader = instance, journaler_reader
        self._ring = self._attach(epoch)
        self._highest = 0

    def _attach(self, epoch: int) -> Ring:
        name = segment.SegmentName(self._instance, epoch, "log")
        return Ring.attach(segment.attach(name, writable=False))

    @property
    def position(self) -> int:
        """Sequence of the last log record that is durable."""
        if self._ring.closed and self._ring.successor:
            with contextlib.suppress(SegmentError):  # the exchange may have ended meanwhile
                self._ring = self._attach(self._ring.successor)
        self._highest = max(self._highest, self._ring.consumed[self._reader])
        return self._highest
