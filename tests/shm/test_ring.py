"""One ring in one process: what it promises, and what it refuses."""

import ctypes
import mmap
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray

from matchbox.shm.errors import SegmentError
from matchbox.shm.records import COMMAND, MARKET_DATA
from matchbox.shm.ring import Producer, Reader, Ring, ring_bytes

HARNESS = Path(__file__).parent / "harness"
PRODUCER, READERS = 128, 256  # offsets of the positions, as drawn in ring.h
TOP = 2**64
Memory = Callable[[int], mmap.mmap]


def orders(first: int, count: int) -> NDArray[Any]:
    """`count` records that say which they are: order ids from `first`."""
    records = np.zeros(count, COMMAND)
    records["order_id"] = np.arange(first, first + count, dtype=np.uint64)
    records["client_order_id"] = [f"order-{first + i}".encode() for i in range(count)]
    return records


def new_ring(memory: Memory, capacity: int = 8, **options: Any) -> Ring:
    return Ring.create(memory(ring_bytes(capacity)), capacity=capacity, **options)


def put(buffer: mmap.mmap, offset: int, value: int) -> None:
    """Overwrite a 64-bit word of a segment, as a hostile or broken peer could."""
    buffer[offset : offset + 8] = value.to_bytes(8, "little")


# What goes in comes out.


def test_records_come_out_as_they_went_in_and_in_order(memory: Memory) -> None:
    ring = new_ring(memory)
    sent = orders(1, 5)
    assert Producer(ring).publish(sent)
    assert Reader(ring).read(8, COMMAND).tobytes() == sent.tobytes()


def test_order_is_kept_while_positions_go_round_the_slots_many_times(memory: Memory) -> None:
    ring = new_ring(memory, capacity=8)
    producer, reader = Producer(ring), Reader(ring)
    for round_number in range(100):
        sent = orders(5 * round_number, 5)
        assert producer.publish(sent)
        assert reader.read(8, COMMAND).tobytes() == sent.tobytes()
    assert ring.produced == 500
    assert ring.consumed == [500]


def test_an_empty_ring_gives_an_empty_array_at_once(memory: Memory) -> None:
    reader = Reader(new_ring(memory))
    assert reader.ready() == 0
    assert len(reader.read(8, COMMAND)) == 0


def test_a_full_ring_takes_nothing_until_something_is_released(memory: Memory) -> None:
    ring = new_ring(memory, capacity=4)
    producer, reader = Producer(ring), Reader(ring)
    assert producer.publish(orders(0, 4))
    assert producer.free() == 0
    assert not producer.publish(orders(4, 1))
    reader.read(1, COMMAND)
    assert producer.free() == 1
    assert producer.publish(orders(4, 1))
    assert reader.read(8, COMMAND)["order_id"].tolist() == [1, 2, 3, 4]


def test_a_batch_that_does_not_fit_whole_is_not_sent_in_part(memory: Memory) -> None:
    ring = new_ring(memory, capacity=4)
    producer = Producer(ring)
    assert producer.publish(orders(0, 3))
    assert not producer.publish(orders(3, 2))
    assert ring.produced == 3
    assert not producer.publish(orders(0, 5))  # More than the ring will ever hold.


def test_an_empty_batch_is_sent_at_once_even_when_the_ring_is_full(memory: Memory) -> None:
    ring = new_ring(memory, capacity=2)
    producer = Producer(ring)
    producer.publish(orders(0, 2))
    assert producer.publish(orders(0, 0))
    assert ring.produced == 2


def test_a_ring_of_one_slot_works(memory: Memory) -> None:
    ring = new_ring(memory, capacity=1)
    producer, reader = Producer(ring), Reader(ring)
    for number in range(5):
        assert producer.publish(orders(number, 1))
        assert not producer.publish(orders(number, 1))
        assert reader.read(1, COMMAND)["order_id"].tolist() == [number]


def test_reading_without_releasing_keeps_the_slots(memory: Memory) -> None:
    ring = new_ring(memory, capacity=4)
    producer, reader = Producer(ring), Reader(ring)
    producer.publish(orders(0, 4))
    assert len(reader.read(4, COMMAND, release=False)) == 4
    assert producer.free() == 0
    assert ring.consumed == [0]
    reader.release()
    assert producer.free() == 4


def test_a_strided_array_is_sent_as_its_records(memory: Memory) -> None:
    ring = new_ring(memory)
    assert Producer(ring).publish(orders(0, 10)[::2])
    assert Reader(ring).read(8, COMMAND)["order_id"].tolist() == [0, 2, 4, 6, 8]


# Several gating readers.


def test_every_gating_reader_sees_every_record(memory: Memory) -> None:
    ring = new_ring(memory, readers=3)
    Producer(ring).publish(orders(0, 6))
    for index in range(3):
        assert Reader(ring, index).read(8, COMMAND)["order_id"].tolist() == list(range(6))


def test_the_slowest_gating_reader_holds_the_producer_back(memory: Memory) -> None:
    ring = new_ring(memory, capacity=4, readers=3)
    producer = Producer(ring)
    readers = [Reader(ring, index) for index in range(3)]
    producer.publish(orders(0, 4))
    for reader, count in zip(readers, (4, 1, 3), strict=True):
        reader.read(count, COMMAND)
    assert producer.free() == 1
    readers[1].read(3, COMMAND)
    assert producer.free() == 3
    assert ring.consumed == [4, 4, 3]


def test_all_sixteen_readers_gate(memory: Memory) -> None:
    ring = new_ring(memory, capacity=2, readers=16)
    producer = Producer(ring)
    producer.publish(orders(0, 2))
    for index in range(16):
        assert producer.free() == 0
        Reader(ring, index).read(2, COMMAND)
    assert producer.free() == 2


def test_a_reader_that_the_ring_does_not_have_is_refused(memory: Memory) -> None:
    with pytest.raises(SegmentError, match=r"index=2, readers=2"):
        Reader(new_ring(memory, readers=2), 2)


# Going on after a restart.


def test_a_successor_goes_on_where_the_last_producer_stopped(memory: Memory) -> None:
    ring = new_ring(memory, capacity=4)
    Producer(ring).publish(orders(0, 3))
    successor = Producer(ring)
    assert (successor.position, successor.free()) == (3, 1)
    assert successor.publish(orders(3, 1))
    assert Reader(ring).read(8, COMMAND)["order_id"].tolist() == [0, 1, 2, 3]


def test_a_successor_of_a_reader_gets_again_what_was_not_released(memory: Memory) -> None:
    ring = new_ring(memory)
    Producer(ring).publish(orders(0, 5))
    first = Reader(ring)
    first.read(2, COMMAND)
    first.read(2, COMMAND, release=False)
    assert Reader(ring).read(8, COMMAND)["order_id"].tolist() == [2, 3, 4]


# Positions are free-running.


@pytest.mark.parametrize("start", [1, 2**32 - 3, 2**63 - 3, TOP - 1, TOP - 3, TOP - 8])
def test_positions_run_past_any_power_of_two(start: int, memory: Memory) -> None:
    ring = new_ring(memory, capacity=8, readers=2, first_position=start)
    producer, readers = Producer(ring), [Reader(ring, index) for index in range(2)]
    for round_number in range(10):
        sent = orders(round_number * 8, 8)
        assert producer.publish(sent[:5])
        assert readers[0].read(2, COMMAND).tobytes() == sent[:2].tobytes()
        assert producer.free() == 3  # The other reader has released nothing.
        assert readers[1].read(8, COMMAND).tobytes() == sent[:5].tobytes()
        assert producer.free() == 5
        assert producer.publish(sent[5:])
        assert readers[0].read(8, COMMAND).tobytes() == sent[2:].tobytes()
        assert readers[1].read(8, COMMAND).tobytes() == sent[5:].tobytes()
    assert ring.produced == (start + 80) % TOP


# What cannot be attached or made.


def attach_after(memory: Memory, change: Callable[[mmap.mmap], None]) -> None:
    buffer = memory(ring_bytes(8))
    Ring.create(buffer, capacity=8)
    change(buffer)
    Ring.attach(buffer)


def write(offset: int, value: bytes) -> Callable[[mmap.mmap], None]:
    def change(buffer: mmap.mmap) -> None:
        buffer[offset : offset + len(value)] = value

    return change


def test_a_ring_can_be_attached_with_what_its_maker_said(memory: Memory) -> None:
    buffer = memory(ring_bytes(16))
    Ring.create(buffer, capacity=16, shape="session", name="bot-7", epoch=9, readers=1)
    ring = Ring.attach(buffer)
    assert (ring.capacity, ring.record_size, ring.shape) == (16, 128, "session")
    assert (ring.name, ring.epoch, ring.closed, ring.writable) == ("bot-7", 9, False, True)
    ring.close()
    assert Ring.attach(buffer).closed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (write(100, bytes(4)), "is not ready"),
        (write(0, b"SOMEFILE"), "does not hold a ring"),
        (write(8, (4).to_bytes(4, "little")), "another layout version"),
        (write(12, (64).to_bytes(4, "little")), "records of another size"),
        (write(16, bytes(8)), "impossible capacity"),
        (write(16, (9).to_bytes(8, "little")), "impossible capacity"),
        (write(16, (16).to_bytes(8, "little")), "impossible capacity"),
        (write(16, (2**57).to_bytes(8, "little")), "impossible capacity"),
        (write(16, (2**63).to_bytes(8, "little")), "impossible capacity"),
        (write(48, (17).to_bytes(4, "little")), "impossible capacity"),
    ],
)
def test_attach_refuses_a_segment_it_cannot_use_and_says_why(
    change: Callable[[mmap.mmap], None], words: str, memory: Memory
) -> None:
    with pytest.raises(SegmentError, match=words):
        attach_after(memory, change)


def test_attach_refuses_memory_that_nobody_has_formatted(memory: Memory) -> None:
    with pytest.raises(SegmentError, match="not ready"):
        Ring.attach(memory(ring_bytes(8)))


@pytest.mark.parametrize("size", [0, 1, 128, 4095])
def test_attach_refuses_less_than_a_header(size: int) -> None:
    with pytest.raises(SegmentError, match=f"smaller than a ring header: bytes={size}"):
        Ring.attach(np.zeros(size, np.uint8))


def test_attach_refuses_memory_that_is_not_aligned() -> None:
    with pytest.raises(SegmentError, match="aligned"):
        Ring.attach(np.zeros(8192, np.uint8)[1:])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"capacity": 0}, "power of two"),
        ({"capacity": 6}, "power of two"),
        ({"capacity": 16}, "buffer too small"),
        ({"capacity": 2**57}, "buffer too small"),
        ({"capacity": 2**63}, "buffer too small"),
        ({"capacity": 8, "readers": 17}, "too many readers"),
        ({"capacity": 8, "record_size": 0}, "record size"),
        ({"capacity": 8, "record_size": 20}, "record size"),
    ],
)
def test_a_ring_of_impossible_size_is_not_made(
    options: dict[str, int], words: str, memory: Memory
) -> None:
    with pytest.raises(SegmentError, match=words):
        Ring.create(memory(ring_bytes(8)), **options)  # type: ignore[arg-type]


def test_records_of_another_size_are_neither_sent_nor_read(memory: Memory) -> None:
    ring = new_ring(memory)
    with pytest.raises(SegmentError, match="itemsize=8, record_size=128"):
        Producer(ring).publish(np.zeros(1, np.uint64))
    with pytest.raises(SegmentError, match="itemsize=8, record_size=128"):
        Reader(ring).read(1, np.dtype(np.uint64))
    with pytest.raises(SegmentError, match="itemsize=8, record_size=128"):
        ring.peek(0, 1, np.dtype(np.uint64))


def test_read_only_memory_can_be_inspected_and_read_but_never_written(memory: Memory) -> None:
    buffer = memory(ring_bytes(8))
    Producer(Ring.create(buffer, capacity=8)).publish(orders(0, 3))
    ring = Ring.attach(memoryview(buffer).toreadonly())
    assert not ring.writable
    assert ring.produced == 3
    assert ring.peek(1, 1, COMMAND)["order_id"].tolist() == [1]
    reader = Reader(ring)
    assert reader.read(2, COMMAND, release=False)["order_id"].tolist() == [0, 1]
    for forbidden in (ring.close, reader.release, lambda: Producer(ring)):
        with pytest.raises(SegmentError, match="read-only"):
            forbidden()
    with pytest.raises(SegmentError, match="read-only"):
        reader.read(1, COMMAND)
    assert reader.position == 2


# A peer that writes nonsense into the words that it may write.


@pytest.mark.parametrize("moved_by", [-1, -8, -9, -1000, -(2**62), 1, 9, 2**62, 2**63])
def test_a_reader_position_that_lies_never_gives_more_room_than_the_ring_has(
    moved_by: int, memory: Memory
) -> None:
    buffer = memory(ring_bytes(8))
    ring = Ring.create(buffer, capacity=8, first_position=2**40)
    producer = Producer(ring)
    producer.publish(orders(0, 8))
    Reader(ring).read(8, COMMAND)
    put(buffer, READERS, (2**40 + 8 + moved_by) % TOP)
    assert 0 <= producer.free() <= 8
    assert 0 <= Producer(ring).free() <= 8
    if -8 < moved_by < 0:
        assert producer.free() == 8 + moved_by


@pytest.mark.parametrize("moved_by", [-1, -5, -(2**40), 9, 2**32, 2**62, 2**63])
def test_a_producer_position_that_lies_is_an_error_and_nothing_is_read(
    moved_by: int, memory: Memory
) -> None:
    buffer = memory(ring_bytes(8))
    ring = Ring.create(buffer, capacity=8, first_position=2**50)
    reader = Reader(ring)
    put(buffer, PRODUCER, (2**50 + moved_by) % TOP)
    with pytest.raises(SegmentError, match="position is impossible"):
        reader.read(4, COMMAND)
    assert reader.position == 2**50


def test_a_header_that_changes_after_the_check_moves_nobody_out_of_the_segment(
    memory: Memory,
) -> None:
    buffer = memory(ring_bytes(8))
    Ring.create(buffer, capacity=8)
    ring = Ring.attach(buffer)
    write(16, (2**40).to_bytes(8, "little"))(buffer)
    write(12, (2**31).to_bytes(4, "little"))(buffer)
    write(48, (2**31).to_bytes(4, "little"))(buffer)
    assert (ring.capacity, ring.record_size, len(ring.consumed)) == (8, 128, 16)
    producer, reader = Producer(ring), Reader(ring)
    for _ in range(3):
        assert producer.publish(orders(0, 8)) or producer.free() < 8
        assert len(reader.read(8, COMMAND)) <= 8
    assert len(ring.peek(2**39, 8, COMMAND)) == 8


# Lossy rings, through the inline functions themselves.


class Lossy:
    """A lossy ring of `capacity` slots and its producer, driven through ctypes."""

    def __init__(self, library: ctypes.CDLL, memory: Memory, capacity: int, first: int = 0) -> None:
        self.buffer = memory(ring_bytes(capacity))
        self.ring = Ring.create(
            self.buffer, capacity=capacity, shape="lossy", readers=0, first_position=first
        )
        self.library = library
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))
        self.producer = (ctypes.c_uint64 * (library.producer_bytes() // 8))()
        self.attach()

    def attach(self) -> None:
        self.library.lossy_attach(self.producer, ctypes.c_void_p(self.address))

    def publish(self, number: int) -> None:
        record = np.zeros(1, MARKET_DATA)
        record["sequence"], record["market"] = number, number % 1000
        record["reserved_words"] = number
        self.library.lossy_publish(self.producer, record.ctypes)

    def read(self, position: int) -> tuple[int, Any]:
        out = np.zeros(1, MARKET_DATA)
        status = self.library.lossy_read(
            ctypes.c_void_p(self.address), ctypes.c_uint64(position % TOP), out.ctypes
        )
        return status, out[0]


@pytest.fixture(scope="module")
def library(compile_c: Callable[..., Path]) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(compile_c(HARNESS / "inline.c", "-shared", "-fPIC", "-O3")))
    loaded.producer_free.restype = ctypes.c_uint64
    loaded.producer_bytes.restype = ctypes.c_uint64
    return loaded


@pytest.mark.parametrize("first", [0, 5, 2**32 - 2, 2**63 - 2])
def test_a_lossy_ring_keeps_the_last_records_and_says_which_are_gone(
    first: int, library: ctypes.CDLL, memory: Memory
) -> None:
    lossy = Lossy(library, memory, 4, first)
    for number in range(10):
        lossy.publish(number)
    for number in range(13):
        status, record = lossy.read(first + number)
        assert status == (-1 if number < 6 else 1 if number < 10 else 0), number
        if status == 1:
            assert record["position"] == first + number + 1
            assert record["sequence"] == number
            assert record["reserved_words"].tolist() == [number] * 6


def test_a_lossy_ring_never_holds_its_producer_back(library: ctypes.CDLL, memory: Memory) -> None:
    lossy = Lossy(library, memory, 4)
    for number in range(100):
        assert library.producer_free(lossy.producer, ctypes.c_uint64(4)) == 4
        lossy.publish(number)


def test_a_slot_that_is_being_written_is_not_read(library: ctypes.CDLL, memory: Memory) -> None:
    lossy = Lossy(library, memory, 4)
    for number in range(6):
        lossy.publish(number)
    slot = 4096 + 2 * 128
    assert lossy.read(2)[0] == 1
    put(lossy.buffer, slot, 0)  # The producer stops after its first store of record 6.
    assert lossy.read(2)[0] == -1
    assert lossy.read(6)[0] == 0


@pytest.mark.parametrize("written", [3, 4, 11])
def test_what_a_reader_may_have_taken_is_published_whoever_died(
    written: int, library: ctypes.CDLL, memory: Memory
) -> None:
    """The producer dies between its last two stores, with the number in the slot already."""
    lossy = Lossy(library, memory, 4)
    for number in range(written):
        lossy.publish(number)
    put(lossy.buffer, 128, written - 1)
    assert lossy.ring.produced == written - 1
    assert lossy.read(written - 1)[0] == 1
    lossy.attach()
    assert lossy.ring.produced == written
    lossy.publish(100)
    assert lossy.read(written - 1)[1]["sequence"] == written - 1
    assert lossy.read(written)[1]["sequence"] == 100


# Any history at all: the ring against a list.


class RingAgainstDeque(RuleBasedStateMachine):
    """A gated ring with some readers does what a deque a reader does."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    @initialize(
        capacity=st.sampled_from([1, 2, 4, 16]),
        readers=st.integers(1, 3),
        start=st.sampled_from([0, 7, 2**63 - 4, TOP - 5]),
    )
    def make(self, capacity: int, readers: int, start: int) -> None:
        self.capacity = capacity
        self.buffer = mmap.mmap(-1, ring_bytes(capacity))
        self.ring = Ring.create(
            self.buffer, capacity=capacity, readers=readers, first_position=start
        )
        self.producer = Producer(self.ring)
        self.readers = [Reader(self.ring, index) for index in range(readers)]
        self.expected: list[deque[int]] = [deque() for _ in range(readers)]
        self.unreleased: list[deque[int]] = [deque() for _ in range(readers)]

    def held(self) -> int:
        """Slots that the slowest reader holds."""
        pairs = zip(self.expected, self.unreleased, strict=True)
        return max(len(waiting) + len(read) for waiting, read in pairs)

    @rule(count=st.integers(0, 20))
    def publish(self, count: int) -> None:
        fits = count == 0 or count <= self.capacity - self.held()
        assert self.producer.publish(orders(self.number, count)) == fits
        if fits:
            for queue in self.expected:
                queue.extend(range(self.number, self.number + count))
            self.number += count

    @rule(which=st.integers(0, 2), maximum=st.integers(0, 20), release=st.booleans())
    def read(self, which: int, maximum: int, release: bool) -> None:
        index = which % len(self.readers)
        queue, read = self.expected[index], self.unreleased[index]
        records = self.readers[index].read(maximum, COMMAND, release=release)
        # A reader may look at the producer late, but never when it has nothing at all.
        assert len(records) <= min(maximum, len(queue))
        assert len(records) > 0 or maximum == 0 or not queue
        read.extend(queue.popleft() for _ in range(len(records)))
        assert records["order_id"].tolist() == list(read)[len(read) - len(records) :]
        if release and len(records):
            read.clear()

    @rule(which=st.integers(0, 2))
    def release(self, which: int) -> None:
        index = which % len(self.readers)
        self.readers[index].release()
        self.unreleased[index].clear()

    @rule(which=st.integers(0, 2))
    def restart_reader(self, which: int) -> None:
        index = which % len(self.readers)
        self.readers[index] = Reader(self.ring, index)
        self.expected[index].extendleft(reversed(self.unreleased[index]))
        self.unreleased[index].clear()

    @rule()
    def restart_producer(self) -> None:
        self.producer = Producer(self.ring)

    @precondition(lambda self: hasattr(self, "ring"))
    @invariant()
    def counts_agree(self) -> None:
        assert self.producer.free() == self.capacity - self.held()
        for index, reader in enumerate(self.readers):
            assert reader.ready() == len(self.expected[index])
            behind = (self.ring.produced - self.ring.consumed[index]) % TOP
            assert behind == len(self.expected[index]) + len(self.unreleased[index])


TestRingAgainstDeque = RingAgainstDeque.TestCase
TestRingAgainstDeque.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
