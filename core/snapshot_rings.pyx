"""Rings that go on where a snapshot's were: their positions, and the slots that are still to be read."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from matchbox.shm.ring cimport MB_RING_READERS, MB_RING_SLOTS_OFFSET, Ring, mb_store_release

import numpy as np

from matchbox.shm.errors import SnapshotError


def resume_ring(Ring ring not None, uint64_t produced, dict readers not None, records=None, *, str limit=""):
    """Set the positions of a new ring that nobody has attached to, and put `records` into the slots before `produced`.

    readers    positions of gating readers that are behind it, by their number; the others are at `produced`
    limit      the setting that says how long the ring is, for the error

    Raises SnapshotError if the ring is shorter than what is still to be read, or than `records`.
    """
    cdef uint32_t i
    cdef uint64_t count, first, at
    cdef const uint8_t[::1] view
    slowest = min(readers.values(), default=produced)
    records = np.empty(0, "V128") if records is None else np.ascontiguousarray(records)
    needed = max(produced - slowest, len(records))
    if needed > ring._capacity:
        raise SnapshotError(f"{limit} is too low for the snapshot: limit={ring._capacity}, needed={needed}")
    if records.itemsize != ring._record_size or <uint64_t>len(records) > produced:
        raise SnapshotError(f"the snapshot is damaged: ring={ring.name}, records={len(records)}, produced={produced}")
    count = len(records)
    if count:
        view = records.view(np.uint8).reshape(-1)
        first = produced - count
        for i in range(count):
            at = (first + i) & (ring._capacity - 1)
            memcpy(<uint8_t*>ring.ring + MB_RING_SLOTS_OFFSET + at * ring._record_size,
                   &view[i * ring._record_size], ring._record_size)
    for i in range(<uint32_t>MB_RING_READERS):
        mb_store_release(&ring.ring.readers[i].value, readers.get(i, produced))
    mb_store_release(&ring.ring.producer.value, produced)
