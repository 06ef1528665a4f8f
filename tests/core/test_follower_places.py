"""What a standby compares where engines began with snapshots: places that both have filled."""

import mmap

import numpy as np
import pytest

from matchbox.core.follower import Follower
from matchbox.shm.records import EVENT
from matchbox.shm.ring import Producer, Ring, ring_bytes
from tests.core.exchange import Exchange, plan

SLOTS = 64


def ring(first: int) -> Ring:
    """An event ring that begins at a position."""
    return Ring.create(
        mmap.mmap(-1, ring_bytes(SLOTS)),
        capacity=SLOTS,
        shape="gated",
        readers=2,
        first_position=first,
    )


def events(first: int, end: int) -> np.ndarray:
    rows = np.zeros(end - first, EVENT)
    rows["sequence"] = np.arange(first + 1, end + 1)
    return rows


@pytest.mark.parametrize(("theirs", "ours"), [(10, 20), (20, 10), (12, 12), (0, 20), (20, 0)])
def test_places_before_a_snapshot_are_not_compared(theirs: int, ours: int) -> None:
    exchange = Exchange(plan(), define=False)
    log = Ring.attach(exchange.segment("log"))
    source = Ring.create(
        mmap.mmap(-1, ring_bytes(log.capacity)), capacity=log.capacity, shape="gated", readers=4
    )
    living, own = ring(theirs), ring(ours)
    Producer(living).publish(events(theirs, 22))
    follower = Follower(exchange.sequencer, log, source, [living], [own], gates=2, journaler=3)
    Producer(own).publish(events(ours, 24))
    Producer(living).publish(events(22, 30))
    for _ in range(3):
        follower.poll()
    assert follower.problem == ""
    assert follower.compared[0] == 24 - max(theirs, ours)
    wrong = events(24, 26)
    wrong["quantity_lots"] = 7
    Producer(own).publish(wrong)
    follower.poll()
    assert "sequence=25" in follower.problem
