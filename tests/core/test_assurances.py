"""When the publisher gives out a report: not before its record has what the session waits for."""

import struct
from typing import Any, ClassVar

import pytest
from numpy.typing import NDArray

from matchbox.shm.errors import Detached
from matchbox.shm.reasons import Reason
from matchbox.shm.records import Assurance, EventKind, Kind, Side
from tests.core.test_publisher import (
    ALICE,
    BOB,
    MATCHER,
    OPERATOR,
    RESTING,
    Stage,
    event,
    told,
)

DAVE = OPERATOR  # who waits for nothing
JOURNALER, STANDBY = 1, 15  # of the log ring's readers
READERS = 256  # where they are, as drawn in ring.h
MATCHED, REPLICATED, DURABLE = Assurance


class Waiting(Stage):
    """Alice's reports wait until they are durable, bob's until they are replicated."""

    assurances: ClassVar[dict[int, int]] = {ALICE: DURABLE, BOB: REPLICATED}

    def __init__(self, report_slots: int = 256) -> None:
        super().__init__(report_slots)
        self.journal()
        for number in (ALICE, BOB):
            assert told(self.reports(number)) == [("ATTACHED", 0, 0, 0)]

    def move(self, reader: int, position: int) -> None:
        """The cursor of the journaler or the standby."""
        struct.pack_into("<Q", self._log.ring.buffer, READERS + 128 * reader, position)

    def journal(self, position: int | None = None) -> None:
        """Everything is durable, or all up to a record."""
        self.move(JOURNALER, self.sequence if position is None else position)

    def run(self) -> None:
        while self.publisher.poll():
            pass

    def order(self, session: int) -> int:
        """An order that rests, at a price of its own."""
        order = self.enter(session, Side.BUY, 1 + self.sequence, 1)
        rests = {"price_ticks": 1 + order, "leaves_lots": 1, "level_lots": 1, "flags": RESTING}
        self.say(MATCHER, event(EventKind.ACCEPTED, order, Side.BUY, quantity_lots=1, **rests))
        return order

    def cross(self, maker: int, session: int) -> int:
        """An order that fills a maker."""
        taker = self.enter(session, Side.SELL, 1, 1)
        fill = {"maker_order_id": maker, "trade_id": taker, "price_ticks": 1, "quantity_lots": 1}
        self.say(
            MATCHER,
            event(EventKind.ACCEPTED, taker, Side.SELL, leaves_lots=1),
            event(EventKind.TRADE, taker, Side.SELL, **fill),
        )
        return taker


@pytest.fixture
def stage() -> Waiting:
    return Waiting()


def sequences(reports: NDArray[Any]) -> list[int]:
    found: list[int] = reports["sequence"].tolist()
    return found


def test_each_session_is_told_when_its_record_has_what_the_session_waits_for(
    stage: Waiting,
) -> None:
    orders = {session: stage.order(session) for session in (ALICE, BOB, DAVE)}
    assert sequences(stage.reports(DAVE)) == [orders[DAVE]]
    assert not len(stage.reports(ALICE)) and not len(stage.reports(BOB))
    stage.move(STANDBY, orders[BOB])
    assert sequences(stage.reports(BOB)) == [orders[BOB]]
    assert not len(stage.reports(ALICE))
    stage.journal(orders[ALICE])
    assert sequences(stage.reports(ALICE)) == [orders[ALICE]]


def test_a_report_says_which_assurance_released_it(stage: Waiting) -> None:
    for session in (ALICE, BOB, DAVE):
        stage.order(session)
    stage.journal()
    found = [int(stage.reports(session)["assurance"][0]) for session in (ALICE, BOB, DAVE)]
    assert found == [DURABLE, REPLICATED, MATCHED]


def test_what_is_durable_is_replicated_though_no_standby_says_so(stage: Waiting) -> None:
    order = stage.order(BOB)
    stage.order(BOB)
    stage.journal(order)
    assert sequences(stage.reports(BOB)) == [order]


def test_a_standby_makes_nothing_durable(stage: Waiting) -> None:
    stage.order(ALICE)
    stage.move(STANDBY, stage.sequence)
    assert not len(stage.reports(ALICE))


def test_reports_come_in_the_order_of_the_log_and_only_as_far_as_the_journal(
    stage: Waiting,
) -> None:
    orders = [stage.order(ALICE) for _ in range(20)]
    for reached in (orders[0] - 1, orders[6], orders[6], orders[7] - 1, orders[19]):
        stage.journal(reached)
        new = [order for order in orders if order <= reached]
        assert sequences(stage.reports(ALICE)) == new
        orders = orders[len(new) :]
    assert not orders


def test_a_record_that_is_durable_before_its_events_come_is_told_at_once(stage: Waiting) -> None:
    order = stage.enter(ALICE, Side.BUY, 100, 1)
    stage.journal()
    assert not len(stage.reports(ALICE))
    stage.say(MATCHER, event(EventKind.ACCEPTED, order, Side.BUY, leaves_lots=1))
    assert sequences(stage.reports(ALICE)) == [order]


def test_all_reports_of_a_record_wait_also_those_to_other_sessions(stage: Waiting) -> None:
    maker = stage.order(ALICE)
    stage.journal()
    assert sequences(stage.reports(ALICE)) == [maker]
    taker = stage.cross(maker, DAVE)
    assert [kind for kind, *_ in told(stage.reports(DAVE))] == ["ACCEPTED", "TRADE"]
    assert not len(stage.reports(ALICE))
    stage.journal()
    assert told(stage.reports(ALICE)) == [("TRADE", maker, 0, taker)]


def test_a_subscriber_waits_for_its_own_assurance_not_for_the_senders(stage: Waiting) -> None:
    stage.log(Kind.SUBSCRIBE, session=ALICE, account=DAVE)
    stage.log(Kind.SUBSCRIBE, session=DAVE, account=ALICE)
    stage.journal()
    assert len(stage.reports(ALICE)) == len(stage.reports(DAVE)) == 1
    daves, alices = stage.order(DAVE), stage.order(ALICE)
    assert sequences(stage.reports(DAVE)) == [daves, alices]
    assert not len(stage.reports(ALICE))
    stage.journal(daves)
    assert sequences(stage.reports(ALICE)) == [daves]


def test_the_last_report_waits_for_those_before_it_and_for_its_own_record(stage: Waiting) -> None:
    order = stage.order(ALICE)
    ended = stage.log(Kind.DETACH_SESSION, id=ALICE, reason=Reason.BY_OPERATOR)
    assert not len(stage.reports(ALICE))
    with pytest.raises(Exception, match="attached"):
        stage.publisher.close_session(ALICE)
    stage.journal(order)
    assert sequences(stage.reports(ALICE)) == [order]
    stage.journal(ended)
    (last,) = stage.reports(ALICE)
    assert (last["kind"], last["reason"]) == (EventKind.DETACHED, Reason.BY_OPERATOR)
    assert (last["assurance"], last["command_position"]) == (DURABLE, 1)
    with pytest.raises(Detached):
        stage.sessions[ALICE].reports()
    stage.publisher.close_session(ALICE)


@pytest.mark.parametrize("kind", [Kind.STOP, Kind.START])
def test_at_the_end_of_an_epoch_each_session_is_told_all(stage: Waiting, kind: Kind) -> None:
    order = stage.order(ALICE)
    stage.log(kind)
    assert not len(stage.reports(ALICE))
    assert told(stage.reports(DAVE))[-1][0] == "DETACHED"
    stage.journal()
    assert [kind for kind, *_ in told(stage.reports(ALICE))] == ["ACCEPTED", "DETACHED"]
    assert order and stage.publisher.position == stage.sequence


def test_the_position_of_the_publisher_says_what_is_out(stage: Waiting) -> None:
    order = stage.order(ALICE)
    stage.order(DAVE)
    stage.run()
    assert stage.publisher.position == order - 1
    stage.journal(order)
    stage.run()
    assert stage.publisher.position == stage.sequence


def test_what_is_held_takes_room_and_the_last_place_stays_free() -> None:
    stage = Waiting(report_slots=16)
    for _ in range(20):
        stage.order(ALICE)
    stage.run()
    ring = stage.sessions[ALICE]
    assert ring.pending == 0
    assert stage.publisher.counters["dropped"] == 5
    stage.log(Kind.DETACH_SESSION, id=ALICE, reason=Reason.SLOW_READER)
    stage.journal()
    found = stage.reports(ALICE)
    assert found["kind"].tolist() == [EventKind.ACCEPTED] * 15 + [EventKind.DETACHED]
    assert found["command_position"][-1] == 20


def test_a_session_attached_again_is_told_what_its_new_attachment_asks_for(
    stage: Waiting,
) -> None:
    stage.log(Kind.DETACH_SESSION, id=ALICE, reason=Reason.LOGGED_OUT)
    stage.journal()
    assert told(stage.reports(ALICE))[-1][0] == "DETACHED"
    stage.publisher.close_session(ALICE)
    stage.assurances = {}
    stage.sessions[ALICE] = stage._attach(ALICE, 256)
    order = stage.order(ALICE)
    assert sequences(stage.reports(ALICE)) == [order]
