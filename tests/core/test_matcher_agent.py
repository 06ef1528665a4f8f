"""MatcherAgent between two rings: the events of Matcher, whatever room and rounds there are."""

import mmap
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from matchbox.core.instrument import market_record
from matchbox.core.matcher import Matcher, MatcherAgent
from matchbox.shm.errors import BadArgument, SegmentError
from matchbox.shm.reasons import Reason
from matchbox.shm.records import COMMAND, EVENT, EventKind, Kind
from matchbox.shm.ring import Producer, Reader, Ring, ring_bytes
from tests.core.flows import Flow, commands, new

MARKETS = (1, 5)


def ring(capacity: int, first_position: int = 0) -> Ring:
    buffer = mmap.mmap(-1, ring_bytes(capacity))
    return Ring.create(buffer, capacity=capacity, readers=1, first_position=first_position)


def definition(market: int, max_orders: int = 200) -> np.void:
    return market_record(market, max_orders=max_orders, max_quantity_lots=100_000)


class Rig:
    """A matcher agent with a log before it and an event ring after it."""

    def __init__(self, *, log: int = 1024, events: int = 4096, first_position: int = 0) -> None:
        self.log_ring, self.event_ring = ring(log, first_position), ring(events)
        self.log, self.events = Producer(self.log_ring), Reader(self.event_ring)
        self.sequence = first_position
        self.agent = MatcherAgent(self.log_ring, 0, self.event_ring)

    def append(self, records: NDArray[Any]) -> None:
        records = records.copy()
        records["sequence"] = self.sequence + 1 + np.arange(len(records))
        self.sequence += len(records)
        assert self.log.publish(records)

    def read(self) -> NDArray[Any]:
        return self.events.read(1 << 30, EVENT)

    def settle(self) -> NDArray[Any]:
        """Poll until nothing is left to do; all events."""
        found = [self.read()]
        while self.agent.poll():
            found.append(self.read())
        return np.concatenate(found)


def opened(market: int, **others: Any) -> NDArray[Any]:
    record = np.array([definition(market, **others)])
    return record.view(COMMAND)


@pytest.fixture
def rig() -> Rig:
    """Markets 1 and 5 prepared and open; the log stands after their records."""
    rig = Rig()
    for market in MARKETS:
        rig.agent.prepare_market(market, 200)
        rig.append(opened(market))
    assert len(rig.settle()) == 0
    return rig


def expected(batch: NDArray[Any]) -> tuple[bytes, int]:
    """The events of a Matcher for a batch that begins after the two definitions, and its hash."""
    matcher = Matcher([definition(market) for market in MARKETS], check_holds=True)
    batch = batch.copy()
    batch["sequence"] = 3 + np.arange(len(batch))
    return matcher.process(batch).tobytes(), matcher.state_hash()


def test_live_and_in_process_give_the_same_bytes_and_state(rig: Rig, seed: int) -> None:
    batch = Flow(seed, middle=1000, width=40, markets=MARKETS, noise=0).take(3000)
    events = []
    for part in np.array_split(batch, 17):
        rig.append(part)
        events.append(rig.settle())
    assert (np.concatenate(events).tobytes(), rig.agent.state_hash()) == expected(batch)
    assert rig.agent.position == 2 + len(batch)
    rig.agent.validate()


def test_it_follows_terms_rules_and_everything_that_orders_can_have(rig: Rig, seed: int) -> None:
    batch = Flow(seed, middle=1000, width=40, markets=(*MARKETS, 9), noise=0).take_rich(3000)
    mine = batch[np.isin(batch["market"], MARKETS)]
    valid = mine[~((mine["kind"] == Kind.SET_MARKET) & is_bad_rule(mine))]
    events = []
    for part in np.array_split(valid, 17):
        rig.append(part)
        events.append(rig.settle())
    assert (np.concatenate(events).tobytes(), rig.agent.state_hash()) == expected(valid)
    assert len(rig.agent.waiting(1)) > 0
    assert rig.agent.last_price(1)
    rig.agent.validate()


def is_bad_rule(records: NDArray[Any]) -> Any:
    """A sequencer refuses such records; rejecting them is what Matcher.process() does."""
    found = []
    for record in records:
        matcher = Matcher([definition(market) for market in MARKETS])
        found.append(len(matcher.process(np.array([record]))) != 0)
    return np.array(found)


def test_a_full_event_ring_stops_it_in_the_middle_of_a_sweep_and_it_goes_on_later() -> None:
    small = Rig(events=4)
    small.agent.prepare_market(1, 200)
    small.append(opened(1))
    batch = commands(
        *[new("sell", 1, 100 + i) for i in range(50)], new("buy", 60, 200), new("buy", 1, 99)
    )
    small.append(batch)
    events = []
    for _ in range(1000):
        while small.agent.poll():
            assert small.agent.position <= small.sequence
        assert small.agent.event_position <= len(events) + 4
        events += list(small.read())
    assert len(events) == 50 + 52 + 1
    assert small.agent.position == small.sequence
    matcher = Matcher([definition(1)])
    batch["sequence"] = 2 + np.arange(len(batch))
    assert np.array(events).tobytes() == matcher.process(batch).tobytes()


def test_the_record_under_way_is_not_given_back_to_the_log() -> None:
    rig = Rig(events=4)
    rig.agent.prepare_market(1, 200)
    rig.append(opened(1))
    rig.append(commands(*[new("sell", 1, 100)] * 3, new("buy", 3, 100)))
    rig.agent.poll()
    assert rig.agent.event_position == 2  # half a ring at once
    rig.agent.poll()
    assert (rig.agent.event_position, rig.agent.position, rig.log_ring.consumed) == (4, 4, [4])
    with pytest.raises(BadArgument, match="under way"):
        rig.agent.validate()


def test_a_poll_does_a_bounded_amount_of_work() -> None:
    rig = Rig(log=1 << 14, events=1 << 16)
    rig.agent.prepare_market(1, 10_000)
    rig.append(opened(1, max_orders=10_000))
    rig.append(commands(*[new("sell", 1, 100 + i) for i in range(10_000)]))
    rounds = 0
    while rig.agent.poll():
        rounds += 1
    assert rounds >= 10_000 // 256
    rig.read()
    rig.append(commands(new("buy", 10_000, 20_000, "FOK")))
    while work := rig.agent.poll():
        assert work <= 2048
    events = rig.read()
    assert len(events) == 10_001


def test_counting_for_a_fill_or_kill_takes_several_polls_and_changes_nothing() -> None:
    rig = Rig(log=1 << 13, events=1 << 14)
    rig.agent.prepare_market(1, 5000)
    rig.append(opened(1, max_orders=5000))
    rig.append(commands(*[new("sell", 1, 100 + i) for i in range(4000)]))
    rig.settle()
    before = rig.agent.state_hash()
    rig.append(commands(new("buy", 4001, 20_000, "FOK")))
    rig.agent.poll()
    assert rig.agent.position == rig.sequence - 1
    (event,) = rig.settle()
    assert event["reason"] == Reason.NOT_FILLABLE
    assert rig.agent.state_hash() == before


def test_it_skips_what_does_not_concern_it(rig: Rig) -> None:
    refused = commands(new("buy", 1, 5) | {"reject": 200})
    foreign = commands(new("buy", 1, 5, market=2))
    named = commands({"kind": Kind.ADD_ACCOUNT}, {"kind": Kind.START}, {"kind": Kind.LOGOUT})
    rig.append(np.concatenate([refused, foreign, named]))
    assert len(rig.settle()) == 0
    assert rig.agent.position == rig.sequence


def test_a_market_is_open_from_its_record_in_the_log_on() -> None:
    rig = Rig()
    rig.agent.prepare_market(1, 200)
    rig.append(commands(new("buy", 1, 5)))
    rig.append(opened(1))
    rig.append(commands(new("buy", 1, 5)))
    early, late = rig.settle()
    assert (early["kind"], early["reason"]) == (EventKind.REJECTED, Reason.UNKNOWN_MARKET)
    assert late["kind"] == EventKind.ACCEPTED
    assert rig.agent.markets == [1]


def test_a_refused_definition_opens_nothing_and_one_that_does_not_fit_is_counted() -> None:
    rig = Rig()
    rig.agent.prepare_market(1, 10)
    refused = opened(1, max_orders=10)
    refused["reject"] = 106
    rig.append(refused)
    rig.settle()
    assert (rig.agent.markets, rig.agent.refused_markets) == ([], 0)
    rig.append(opened(1, max_orders=11))
    rig.settle()
    assert (rig.agent.markets, rig.agent.refused_markets) == ([], 1)


def test_it_starts_where_the_reader_s_position_stands() -> None:
    rig = Rig(first_position=1000)
    rig.agent.prepare_market(1, 10)
    rig.append(opened(1, max_orders=10))
    rig.append(commands(new("buy", 1, 5)))
    (event,) = rig.settle()
    assert event["sequence"] == event["order_id"] == 1002


def test_markets_are_prepared_once_and_readers_exist(rig: Rig) -> None:
    with pytest.raises(BadArgument):
        rig.agent.prepare_market(1, 10)
    with pytest.raises((BadArgument, SegmentError)):
        MatcherAgent(rig.log_ring, 1, rig.event_ring)
