"""Rings for Python callers: making, attaching, inspecting, and whole-array reads and writes.

The layout and its rules are in ring.h; engine and SDK use its inline functions directly.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import numpy as np

from matchbox.shm.errors import SegmentError

_CHECKS = {
    1: "is smaller than a ring header",
    2: "is not ready (its maker is still writing it, or died doing so)",
    3: "does not hold a ring",
    4: "was made by another layout version",
    5: "holds records of another size",
    6: "has an impossible capacity for its size",
}
_SHAPES = {MB_RING_SESSION: "session", MB_RING_GATED: "gated", MB_RING_LOSSY: "lossy"}


def ring_bytes(capacity, record_size=MB_RECORD_BYTES):
    """Bytes of a segment for `capacity` slots."""
    return MB_RING_SLOTS_OFFSET + capacity * record_size


cdef class Ring:
    """A ring in `buffer` (an mmap, or any contiguous buffer that outlives it).

    Use Ring.create() on zeroed memory, Ring.attach() on a ring that somebody made.
    Read-only buffers can be attached; only reading and inspecting is possible then.
    """

    @staticmethod
    def create(buffer, *, uint64_t capacity, uint32_t record_size=128, shape="gated", uint32_t readers=1,
               name="", uint64_t epoch=0, uint64_t first_position=0):
        """Make a ring of `capacity` slots (a power of two) in `buffer`, with `readers` gating readers.

        `first_position` is where producer and readers start. Raises SegmentError for sizes that do not fit.
        """
        cdef Ring self = _wrap(buffer, True)
        cdef uint32_t i
        if capacity == 0 or capacity & (capacity - 1):
            raise SegmentError(f"ring capacity must be a power of two: capacity={capacity}")
        if record_size == 0 or record_size % 8:
            raise SegmentError(f"record size must be a multiple of 8: record_size={record_size}")
        if readers > MB_RING_READERS:
            raise SegmentError(f"too many readers: readers={readers}, maximum={MB_RING_READERS}")
        # By division: the product of the two can pass 64 bits.
        if capacity > <uint64_t>(self._bytes - MB_RING_SLOTS_OFFSET) // record_size:
            raise SegmentError(
                f"buffer too small: bytes={self._bytes}, needed={ring_bytes(int(capacity), record_size)}"
            )
        shapes = {text: number for number, text in _SHAPES.items()}
        memset(self.ring, 0, sizeof(mb_ring))
        mb_ring_format(self.ring, capacity, record_size, shapes[shape], readers)
        self.ring.header.epoch = epoch
        self.ring.producer.value = first_position
        for i in range(<uint32_t>MB_RING_READERS):
            self.ring.readers[i].value = first_position
        text = name.encode()[:39]
        memcpy(self.ring.header.name, <const char*>text, len(text))
        mb_ring_open(self.ring)
        self._capacity, self._record_size = capacity, record_size
        return self

    @staticmethod
    def attach(buffer, *, uint32_t record_size=128):
        """The ring in `buffer`. Raises SegmentError if it holds none that this build can use."""
        cdef Ring self = _wrap(buffer, False)
        cdef int failed
        if record_size == 0:
            raise SegmentError("record size must be a multiple of 8: record_size=0")
        # The copy is what was checked: whoever can write the segment can change its header at any time.
        self._capacity = mb_load_relaxed(&self.ring.header.capacity)
        self._record_size = record_size
        failed = mb_ring_check(self.ring, self._bytes, record_size)
        if failed == 0 and self._capacity != mb_load_relaxed(&self.ring.header.capacity):
            failed = 6
        if failed:
            raise SegmentError(f"segment {_CHECKS[failed]}: bytes={self._bytes}, record_size={record_size}")
        return self

    @property
    def capacity(self):
        return self._capacity

    @property
    def record_size(self):
        return self._record_size

    @property
    def name(self):
        return bytes(self.ring.header.name[:40]).rstrip(b"\0").decode(errors="replace")

    @property
    def shape(self):
        return _SHAPES.get(self.ring.header.shape, "unknown")

    @property
    def epoch(self):
        return self.ring.header.epoch

    @property
    def closed(self):
        """Has the owner closed it?"""
        return mb_load_acquire32(&self.ring.header.state) == MB_RING_CLOSED

    def close(self, uint64_t successor=0):
        """Say that no more records will come (the owner only), or that they come in the ring of epoch `successor`."""
        _must_be_writable(self)
        self.ring.header.successor = successor
        mb_store_release32(&self.ring.header.state, MB_RING_CLOSED)

    @property
    def successor(self):
        """Of a ring that is closed: the epoch of the ring that goes on at its end, 0: none."""
        return self.ring.header.successor if self.closed else 0

    @property
    def produced(self):
        """Records published so far."""
        return mb_load_acquire(&self.ring.producer.value)

    @property
    def consumed(self):
        """Position of each gating reader."""
        cdef uint32_t i
        return [mb_load_acquire(&self.ring.readers[i].value) for i in range(_readers(self))]

    @property
    def replicated(self):
        """Of the log: how far a standby has applied it."""
        return mb_load_acquire(&self.ring.readers[MB_RING_REPLICATED].value)

    def set_reader(self, uint32_t index, uint64_t position):
        """Say for a gating reader that does not run how far it is."""
        _must_be_writable(self)
        if index >= _readers(self):
            raise SegmentError(f"no such reader: index={index}, readers={_readers(self)}")
        mb_store_release(&self.ring.readers[index].value, position)

    @property
    def held(self):
        """Reports that are filled and wait for the assurance of their records; of the log ring, how many sessions have
        such reports.
        """
        return mb_load_acquire(&self.ring.answered.held)

    @property
    def assurance(self):
        """Of a report ring: what its reports wait for (enum Assurance); 0 until the session is attached."""
        return mb_load_acquire32(&self.ring.answered.assurance)

    def peek(self, uint64_t first, uint64_t count, dtype):
        """Copies of `count` records from position `first`, as they are in memory now (no claim, no check)."""
        cdef uint64_t i, size = self._record_size
        out = np.empty(count, dtype)
        if out.itemsize != size:
            raise SegmentError(f"dtype does not fit: itemsize={out.itemsize}, record_size={size}")
        cdef uint8_t[::1] view = out.view(np.uint8).reshape(-1) if count else np.empty(0, np.uint8)
        cdef uint8_t* slots = <uint8_t*>self.ring + MB_RING_SLOTS_OFFSET
        for i in range(count):
            memcpy(&view[i * size], slots + ((first + i) & (self._capacity - 1)) * size, size)
        return out


cdef Ring _wrap(buffer, bint writable):
    """A Ring over `buffer`, header not looked at."""
    cdef Py_buffer view
    cdef Ring self = Ring.__new__(Ring)
    self.writable = True
    try:
        PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    except BufferError:
        if writable:
            raise
        self.writable = False
        PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    # The pointer outlives the view: `buffer` is kept, and an mmap cannot be resized by us.
    self.ring = <mb_ring*>view.buf
    self._bytes = view.len
    self.buffer = buffer
    PyBuffer_Release(&view)
    if self._bytes < MB_RING_SLOTS_OFFSET:
        raise SegmentError(f"segment {_CHECKS[1]}: bytes={self._bytes}, minimum={MB_RING_SLOTS_OFFSET}")
    if <size_t>self.ring % 8:
        raise SegmentError(f"buffer is not aligned to 8 bytes: address={<size_t>self.ring:#x}")
    return self


cdef uint32_t _readers(Ring ring):
    """How many gating readers the header names, and never more than there is room for."""
    return min(ring.ring.header.readers, <uint32_t>MB_RING_READERS)


cdef int _must_be_writable(Ring ring) except -1:
    if not ring.writable:
        raise SegmentError(f"the ring's memory is read-only: name={ring.name}")
    return 0


cdef class Producer:
    """Publish whole arrays."""

    def __init__(self, Ring ring not None):
        _must_be_writable(ring)
        self.ring = ring
        mb_producer_attach(&self.c_producer, ring.ring)
        self.c_producer.mask, self.c_producer.record_size = ring._capacity - 1, ring._record_size

    @property
    def position(self):
        return self.c_producer.position

    def free(self):
        """Records that can be published now."""
        return mb_producer_free(&self.c_producer, self.ring._capacity)

    def publish(self, records):
        """Publish all of `records` (one-dimensional, of the ring's record size) at once, or none: returns whether."""
        records = np.ascontiguousarray(records)
        if records.itemsize != self.ring._record_size:
            raise SegmentError(
                f"dtype does not fit: itemsize={records.itemsize}, record_size={self.ring._record_size}"
            )
        cdef uint64_t i, count = len(records), size = records.itemsize
        if mb_producer_free(&self.c_producer, count) < count:
            return False
        if count == 0:
            return True
        cdef const uint8_t[::1] view = records.view(np.uint8).reshape(-1)
        with nogil:
            for i in range(count):
                memcpy(mb_producer_slot(&self.c_producer, i), &view[i * size], size)
            mb_publish(&self.c_producer, count)
        return True


cdef class Reader:
    """Read whole arrays as gating reader `index`."""

    def __init__(self, Ring ring not None, uint32_t index=0):
        if index >= _readers(ring):
            raise SegmentError(f"no such reader: index={index}, readers={_readers(ring)}")
        self.ring = ring
        mb_reader_attach(&self.c_reader, ring.ring, index)
        self.c_reader.mask, self.c_reader.record_size = ring._capacity - 1, ring._record_size

    @property
    def position(self):
        return self.c_reader.position

    def ready(self):
        """Records that can be read now."""
        return _ready(self, self.ring._capacity)

    def read(self, uint64_t maximum, dtype, *, bint release=True):
        """Copies of up to `maximum` next records; their slots are given back unless `release` is false."""
        cdef uint64_t i, count, size = self.ring._record_size
        if release:
            _must_be_writable(self.ring)
        count = min(maximum, _ready(self, maximum))
        out = np.empty(count, dtype)
        if out.itemsize != size:
            raise SegmentError(f"dtype does not fit: itemsize={out.itemsize}, record_size={size}")
        if count == 0:
            return out
        cdef uint8_t[::1] view = out.view(np.uint8).reshape(-1)
        with nogil:
            for i in range(count):
                memcpy(&view[i * size], mb_reader_slot(&self.c_reader, i), size)
            mb_reader_advance(&self.c_reader, count)
        if release:
            mb_release(&self.c_reader)
        return out

    def views(self, uint64_t maximum, dtype):
        """Up to `maximum` next records in place, uncopied: a list of at most two arrays (before and after the wrap).

        They stay as they are until advance() and release() give the slots back.
        """
        cdef uint64_t size = self.ring._record_size, capacity = self.ring._capacity
        cdef uint64_t first = self.c_reader.position & (capacity - 1)
        cdef uint64_t count = min(maximum, _ready(self, maximum)), before = min(count, capacity - first)
        if np.dtype(dtype).itemsize != size:
            raise SegmentError(f"dtype does not fit: itemsize={np.dtype(dtype).itemsize}, record_size={size}")
        parts = [(first, before), (0, count - before)]
        return [
            np.frombuffer(self.ring.buffer, dtype, length, MB_RING_SLOTS_OFFSET + slot * size)
            for slot, length in parts if length
        ]

    def advance(self, uint64_t count):
        """Read on by `count` records that views() has shown; release() gives them back."""
        if count > _ready(self, count):
            raise SegmentError(f"not published yet: count={count}, ready={_ready(self, count)}")
        mb_reader_advance(&self.c_reader, count)

    def release(self):
        """Give back everything read so far."""
        _must_be_writable(self.ring)
        mb_release(&self.c_reader)


cdef uint64_t _ready(Reader reader, uint64_t wanted) except? 0:
    cdef uint64_t ready = mb_reader_ready(&reader.c_reader, wanted)
    if ready > reader.ring._capacity:
        raise SegmentError(
            f"the producer's position is impossible: produced={reader.c_reader.limit}, "
            f"position={reader.c_reader.position}, capacity={reader.ring._capacity}"
        )
    return ready
