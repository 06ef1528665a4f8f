"""Counters that all processes of a machine share: how often something happened in this span of time.

A file, mapped by all of them (little-endian, no pointers):

        0  header     magic, layout, how many slots; 64 bytes
       64  slots      16 bytes each: whose counter it is (a hash, 0 = free), and its cell: in the upper half the
                      second (since 1970) in which the span that it counts is over, in the lower the count

A counter is found by its hash, in a few slots from where that points. A cell is one word, changed by compare and
swap: a count that begins a new span and one more of the same span cannot mix, and a process that dies within
leaves nothing half done. There is no lock.

A slot whose span is over is taken for another counter. Where all slots of a place are in use, the one that has
counted least is: a flood of addresses makes counts lower for some, and none of them wrong for ever.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.time cimport time

import hashlib
import mmap
import os

from matchbox.shm.errors import SegmentError

cdef extern from *:
    """
    #include <stdint.h>
    static inline uint64_t count_load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
    static inline int count_swap(uint64_t *word, uint64_t *expected, uint64_t wanted) {
        return __atomic_compare_exchange_n(word, expected, wanted, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    }
    """
    uint64_t count_load(const uint64_t* word) noexcept nogil
    int count_swap(uint64_t* word, uint64_t* expected, uint64_t wanted) noexcept nogil

cdef enum:
    HEADER_BYTES = 64
    SLOT_BYTES = 16
    PROBES = 16

ctypedef struct counter_slot:
    uint64_t owner
    uint64_t cell

MAGIC = b"MBCOUNT1"
DEFAULT_SLOTS = 1 << 16


def owner_of(*subject):
    """The number by which a counter is known, of what it is about."""
    text = "\0".join(map(str, subject)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") or 1


cdef class Counters:
    """The counters in a file, which is made if it is not there."""

    cdef object _memory
    cdef unsigned char[::1] _view
    cdef counter_slot* _slots
    cdef uint64_t _mask

    def __init__(self, path, uint64_t slots=DEFAULT_SLOTS):
        if slots < PROBES or slots & (slots - 1):
            raise SegmentError(f"counters: the slots are a power of two, {PROBES} or more: slots={slots}")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # All make the same file, so it does not matter who is first.
            size = HEADER_BYTES + slots * SLOT_BYTES
            there = os.fstat(fd).st_size
            if there not in (0, size):
                raise SegmentError(f"not a file of counters, or of another size: path={path}, bytes={there}")
            os.posix_fallocate(fd, 0, size)
            self._memory = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        head = MAGIC + slots.to_bytes(8, "little")
        if self._memory[:16] not in (head, bytes(16)):
            raise SegmentError(f"not a file of counters: path={path}")
        self._memory[:16] = head
        self._view = self._memory
        self._slots = <counter_slot*>&self._view[HEADER_BYTES]
        self._mask = slots - 1

    def add(self, uint64_t owner, uint32_t until, uint32_t amount=1):
        """Count `amount` more in the span that is over in the second `until`; how much that is now."""
        cdef counter_slot* slot = self._find(owner, True)
        cdef uint64_t cell = count_load(&slot.cell), count
        while True:
            # Of a span that another process has begun already, by its clock: it counts there.
            count = cell & 0xFFFFFFFF if (cell >> 32) >= until else 0
            count = min(count + amount, <uint64_t>0xFFFFFFFF)
            if count_swap(&slot.cell, &cell, (max(cell >> 32, <uint64_t>until) << 32) | count):
                return count

    def get(self, uint64_t owner, uint32_t until):
        """The count of the span that is over in the second `until`."""
        cdef counter_slot* slot = self._find(owner, False)
        cdef uint64_t cell
        if slot == NULL:
            return 0
        cell = count_load(&slot.cell)
        return cell & 0xFFFFFFFF if (cell >> 32) >= until else 0

    def hold(self, uint64_t owner, uint32_t until):
        """Have until() say at least this. What is held is not given up for what is counted."""
        cdef counter_slot* slot = self._find(owner, True)
        cdef uint64_t cell = count_load(&slot.cell)
        while (cell >> 32) < until:
            if count_swap(&slot.cell, &cell, (<uint64_t>until << 32) | 0xFFFFFFFF):
                return

    def until(self, uint64_t owner):
        """The second until which it is held, or its span lasts; 0 if there is none."""
        cdef counter_slot* slot = self._find(owner, False)
        return 0 if slot == NULL else count_load(&slot.cell) >> 32

    cdef counter_slot* _find(self, uint64_t owner, bint make) noexcept:
        """The slot of a counter; NULL if there is none and none is to be made."""
        cdef uint64_t now = <uint64_t>time(NULL), least = 0xFFFFFFFFFFFFFFFF
        cdef uint64_t i, found, cell, worth
        cdef counter_slot* slot
        cdef counter_slot* poorest = NULL
        for i in range(PROBES):
            slot = &self._slots[(owner + i) & self._mask]
            found = count_load(&slot.owner)
            if found == owner:
                return slot
            if found == 0:
                if not make:
                    return NULL
                if count_swap(&slot.owner, &found, owner) or found == owner:
                    return slot
            cell = count_load(&slot.cell)
            worth = 0 if (cell >> 32) < now else 1 + (cell & 0xFFFFFFFF)
            if worth < least:
                least, poorest = worth, slot
        if not make:
            return NULL
        found = count_load(&poorest.owner)
        cell = count_load(&poorest.cell)
        if count_swap(&poorest.owner, &found, owner):
            count_swap(&poorest.cell, &cell, 0)
        return poorest
