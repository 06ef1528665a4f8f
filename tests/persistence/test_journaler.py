"""The journaler between a log ring and a journal."""

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from matchbox.persistence.journal import Reader, Writer
from matchbox.persistence.journaler import Journaler, drain_log_ring
from matchbox.shm.errors import JournalError, SegmentError
from matchbox.shm.records import LOG_RECORD, NEW_ORDER, Belongs, Flag, Kind
from matchbox.shm.ring import Producer, Ring, ring_bytes
from matchbox.shm.ring import Reader as RingReader

MakeLog = Callable[..., NDArray[Any]]
CAPACITY = 1024
SESSIONS_THAT_HOLD = 2568  # offset in a log ring, as drawn in ring.h


@pytest.fixture
def ring(memory: Callable[[int], Any]) -> Ring:
    return Ring.create(memory(ring_bytes(CAPACITY)), capacity=CAPACITY, readers=1)


def journaled(directory: Path) -> bytes:
    with Reader(directory) as reader:
        return b"".join(batch.records.tobytes() for batch in reader.batches())


def test_it_journals_what_the_ring_holds_and_then_gives_the_slots_back(
    tmp_path: Path, ring: Ring, make_log: MakeLog
) -> None:
    producer = Producer(ring)
    with Writer(tmp_path) as writer:
        journaler = Journaler(writer, ring, 0)
        assert journaler.step() == 0
        done = 0
        for count in (1, 700, 1024, 1000, 3):
            assert producer.publish(make_log(done + 1, count))
            assert journaler.ready == count
            done += count
            assert journaler.step() == count
            assert journaler.durable == done
            assert ring.consumed == [done]
    assert journaled(tmp_path) == make_log(1, done).tobytes()


def test_a_step_takes_at_most_one_batch(tmp_path: Path, ring: Ring, make_log: MakeLog) -> None:
    Producer(ring).publish(make_log(1, 1000))
    with Writer(tmp_path, batch_records=300) as writer:
        journaler = Journaler(writer, ring, 0)
        assert [journaler.step() for _ in range(5)] == [300, 300, 300, 100, 0]


def test_records_that_go_together_are_in_one_batch(
    tmp_path: Path, ring: Ring, make_log: MakeLog
) -> None:
    """A batch ends before what is published by one store rather than in the middle of it."""
    log = make_log(1, 60)
    log["kind"], log["flags"] = Kind.SUBSCRIBE, 0
    orders = log.view(NEW_ORDER)
    orders["has_terms"] = 0

    def order(place: int, belongs: int) -> None:
        log["kind"][place], orders["has_terms"][place] = Kind.NEW_ORDER, belongs

    log["kind"][9] = Kind.ORDER_TERMS
    order(10, Belongs.HAS_TERMS)
    log["kind"][17], log["flags"][17] = Kind.CANCEL_ORDER, Flag.REPLACE
    log["kind"][18] = Kind.ORDER_TERMS
    order(19, Belongs.REPLACES | Belongs.HAS_TERMS)
    log["kind"][25] = Kind.ORDER_LIST
    for place, belongs in (
        (26, Belongs.IN_LIST),
        (27, Belongs.IS_PENDING),
        (28, Belongs.IS_PENDING),
    ):
        order(place, belongs)
    # Terms and a cancel that stand alone part nothing.
    log["kind"][34] = Kind.ORDER_TERMS
    log["kind"][44], log["flags"][44] = Kind.CANCEL_ORDER, Flag.REPLACE
    Producer(ring).publish(log)
    with Writer(tmp_path, batch_records=10) as writer:
        journaler = Journaler(writer, ring, 0)
        assert [journaler.step() for _ in range(8)] == [9, 8, 8, 10, 10, 10, 5, 0]
    assert journaled(tmp_path) == log.tobytes()
    with Writer(tmp_path / "drained", batch_records=10) as writer:
        assert drain_log_ring(ring, writer) == 60
    assert journaled(tmp_path / "drained") == log.tobytes()


def test_lingering_loses_nothing(tmp_path: Path, ring: Ring, make_log: MakeLog) -> None:
    producer = Producer(ring)
    with Writer(tmp_path) as writer:
        journaler = Journaler(writer, ring, 0, linger_ns=2_000_000)
        for sequence in range(1, 21):
            producer.publish(make_log(sequence, 1))
            assert journaler.step() == 1
    assert journaled(tmp_path) == make_log(1, 20).tobytes()


def test_commits_are_apart_unless_reports_wait_for_them(
    tmp_path: Path, ring: Ring, make_log: MakeLog
) -> None:
    producer = Producer(ring)
    with Writer(tmp_path) as writer:

        def second_step(linger_s: float) -> float:
            """Seconds from a commit to the end of the next one."""
            journaler = Journaler(writer, ring, 0, linger_ns=int(linger_s * 1e9))
            for _ in range(2):
                began = time.monotonic()
                producer.publish(make_log(writer.last_sequence + 1, 1))
                assert journaler.step() == 1
            return time.monotonic() - began

        assert second_step(0.2) > 0.1
        struct.pack_into("<Q", ring.buffer, SESSIONS_THAT_HOLD, 1)
        assert second_step(60) < 30


def test_records_that_are_published_again_after_a_restart_are_passed_over(
    tmp_path: Path, ring: Ring, make_log: MakeLog
) -> None:
    with Writer(tmp_path) as writer:
        writer.append(make_log(1, 500))
    producer = Producer(ring)
    with Writer(tmp_path) as writer:
        journaler = Journaler(writer, ring, 0)
        producer.publish(make_log(1, 200))
        assert journaler.step() == 200
        assert journaler.durable == 500
        producer.publish(make_log(201, 400))
        assert [journaler.step(), journaler.step()] == [300, 100]
    assert journaled(tmp_path) == make_log(1, 600).tobytes()


def test_a_log_that_differs_from_the_journal_is_not_followed(
    tmp_path: Path, ring: Ring, make_log: MakeLog
) -> None:
    with Writer(tmp_path) as writer:
        writer.append(make_log(1, 50))
        Producer(ring).publish(make_log(1, 60, seed=3))
        with pytest.raises(JournalError, match="different records: sequence=50"):
            Journaler(writer, ring, 0).step()
    assert ring.consumed == [0]


def test_a_log_ring_with_other_sequences_is_not_followed(
    tmp_path: Path, ring: Ring, make_log: MakeLog
) -> None:
    producer = Producer(ring)
    producer.publish(make_log(2, 60))
    with Writer(tmp_path) as writer, pytest.raises(JournalError, match="sequence=1, found=2"):
        Journaler(writer, ring, 0).step()
    with Writer(tmp_path) as writer:
        writer.append(make_log(1, 50))
        with pytest.raises(JournalError, match="not at its place"):
            Journaler(writer, ring, 0).step()


class FailOnce:
    """A writer whose next commit fails, as a full or broken disk makes it."""

    def __init__(self, writer: Writer, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        real, self.left = writer._commit, times

        def commit(*arguments: Any) -> None:
            if self.left:
                self.left -= 1
                writer._failed = "planted"
                raise JournalError("planted", 1)
            real(*arguments)

        monkeypatch.setattr(writer, "_commit", commit)


def test_a_failed_commit_goes_on_in_a_new_file(
    tmp_path: Path, ring: Ring, make_log: MakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    Producer(ring).publish(make_log(1, 100))
    with Writer(tmp_path) as writer:
        FailOnce(writer, monkeypatch, 1)
        assert Journaler(writer, ring, 0).step() == 100
    assert journaled(tmp_path) == make_log(1, 100).tobytes()
    assert len(list(tmp_path.glob("*.mdb"))) == 2


def test_nothing_is_released_when_no_file_can_be_written(
    tmp_path: Path, ring: Ring, make_log: MakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    Producer(ring).publish(make_log(1, 100))
    with Writer(tmp_path) as writer:
        FailOnce(writer, monkeypatch, 2)
        with pytest.raises(JournalError, match="planted"):
            Journaler(writer, ring, 0).step()
    assert ring.consumed == [0]


def test_what_a_dead_instance_left_in_its_ring_is_appended(
    tmp_path: Path, ring: Ring, make_log: MakeLog
) -> None:
    producer = Producer(ring)
    with Writer(tmp_path, batch_records=300) as writer:
        journaler = Journaler(writer, ring, 0)
        producer.publish(make_log(1, 800))
        journaler.step()
        producer.publish(make_log(801, 500))
        assert drain_log_ring(ring, writer) == 1000
        assert drain_log_ring(ring, writer) == 0
    assert journaled(tmp_path) == make_log(1, 1300).tobytes()


def test_a_ring_that_died_while_it_was_filled_again_adds_nothing(
    tmp_path: Path, ring: Ring, make_log: MakeLog
) -> None:
    with Writer(tmp_path) as writer:
        writer.append(make_log(1, 500))
        Producer(ring).publish(make_log(1, 200))
        assert drain_log_ring(ring, writer) == 0


def test_a_ring_of_another_log_is_not_drained(
    tmp_path: Path, ring: Ring, make_log: MakeLog
) -> None:
    with Writer(tmp_path) as writer:
        writer.append(make_log(1, 100))
        Producer(ring).publish(make_log(1, 200, seed=3))
        with pytest.raises(JournalError, match="different records"):
            drain_log_ring(ring, writer)


def test_a_ring_that_has_lost_records_is_not_drained(
    tmp_path: Path, memory: Callable[[int], Any], make_log: MakeLog
) -> None:
    ring = Ring.create(memory(ring_bytes(64)), capacity=64, readers=0, first_position=100)
    with Writer(tmp_path) as writer, pytest.raises(JournalError, match="no longer holds"):
        drain_log_ring(ring, writer)


def test_views_of_a_ring_are_in_place_and_wrap(ring: Ring, make_log: MakeLog) -> None:
    producer, reader = Producer(ring), RingReader(ring)
    producer.publish(make_log(1, 1000))
    reader.advance(1000)
    assert reader.views(10, LOG_RECORD) == []
    with pytest.raises(SegmentError, match="not published yet"):
        reader.advance(1)
    reader.release()
    producer.publish(make_log(1001, 100))
    parts = reader.views(90, LOG_RECORD)
    assert [len(part) for part in parts] == [24, 66]
    assert np.concatenate(parts).tobytes() == make_log(1001, 90).tobytes()
    with pytest.raises(SegmentError, match="dtype does not fit"):
        reader.views(1, np.dtype("u8"))
