"""The publisher alone: hand-made log records and events in, reports and depth out."""

import mmap
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from matchbox.core.depth import DepthTable
from matchbox.core.instrument import market_record
from matchbox.core.publisher import Publisher
from matchbox.shm.depth import Book, MarketData, format_depth
from matchbox.shm.reasons import Reason
from matchbox.shm.records import (
    COMMAND,
    EVENT,
    MONEY_RECORD,
    NAMED_RECORD,
    NEW_ORDER,
    RULES_RECORD,
    TERMS_RECORD,
    EventFlag,
    EventKind,
    Kind,
    MarketDataKind,
    ReportFlag,
    Side,
)
from matchbox.shm.ring import Producer, Ring, ring_bytes
from matchbox.shm.session import Session

LEDGER, MATCHER = 0, 1
ALICE, BOB, OPERATOR = 1, 2, 3  # sessions; alice's and bob's accounts have the same numbers
LAST, RESTING, WAITING = EventFlag.LAST, EventFlag.RESTING, EventFlag.WAITING
_DTYPES: dict[int, np.dtype[Any]] = {
    Kind.NEW_ORDER: NEW_ORDER,
    Kind.ORDER_TERMS: TERMS_RECORD,
    **dict.fromkeys((Kind.DEPOSIT, Kind.TRANSFER, Kind.SETTLE_WITHDRAWAL), MONEY_RECORD),
    **dict.fromkeys((Kind.REQUEST_WITHDRAWAL, Kind.CANCEL_WITHDRAWAL), MONEY_RECORD),
    **dict.fromkeys((Kind.SET_ACCOUNT, Kind.SET_MARKET, Kind.SET_FEES), RULES_RECORD),
    **dict.fromkeys((Kind.ATTACH_SESSION, Kind.DETACH_SESSION, Kind.ADD_ACCOUNT), NAMED_RECORD),
}


def ring(capacity: int = 256, **options: Any) -> Ring:
    return Ring.create(mmap.mmap(-1, ring_bytes(capacity)), capacity=capacity, **options)


class Stage:
    """A publisher between rings that the test fills: markets 1 and 2, of a matcher each."""

    assurances: ClassVar[dict[int, int]] = {}  # of sessions; left out: 0, none was asked for

    def __init__(self, report_slots: int = 256) -> None:
        log, self.market_data = ring(), ring(shape="lossy", readers=0)
        sources = [ring() for _ in range(3)]
        self.publisher = Publisher(
            log,
            sources,
            self.market_data,
            journal_reader=1,
            slots=8,
            max_sessions=8,
            max_markets=4,
            max_orders=64,
        )
        self.depths = [self._depth(market) for market in (1, 2)]
        self._log = Producer(log)
        self._sources = [Producer(source) for source in sources]
        self._positions = dict.fromkeys(range(9), 0)
        self.sequence = 0
        self.sessions = {number: self._attach(number, report_slots) for number in range(1, 4)}

    def _depth(self, market: int) -> mmap.mmap:
        from matchbox.shm.depth import depth_bytes

        buffer = mmap.mmap(-1, depth_bytes(64))
        definition = market_record(market, max_orders=64)
        format_depth(buffer, definition, ("BTC", 8), ("USD", 8), levels=64)
        self.publisher.place_market(market, market - 1, DepthTable(buffer))
        return buffer

    def _attach(self, number: int, report_slots: int) -> Session:
        commands, reports = ring(shape="session"), ring(report_slots, shape="session", readers=0)
        self.publisher.open_session(number, commands, reports)
        named = {"id": number, "slot": number, "name": b"bot"}
        named["assurance"] = self.assurances.get(number, 0)
        self.log(Kind.ATTACH_SESSION, account=number if number < OPERATOR else 0, **named)
        session = Session(None, commands, reports, number=number, name="", account=0)
        self.run()
        if not named["assurance"]:
            assert session.reports()["kind"].tolist() == [EventKind.ATTACHED]
        return session

    def log(self, kind: int, *, session: int = 0, reject: int = 0, **fields: Any) -> int:
        """Sequence of a new log record."""
        self.sequence += 1
        record = np.zeros(1, _DTYPES.get(kind, COMMAND))
        record["kind"], record["sequence"], record["timestamp_ns"] = kind, self.sequence, 7
        record["session"], record["reject"] = session, reject
        if session:
            self._positions[session] += 1
            record["session_position"] = self._positions[session]
        for name, value in fields.items():
            record[name] = value
        assert self._log.publish(record.view(COMMAND))
        return self.sequence

    def say(self, source: int, *events: dict[str, Any]) -> None:
        """Events of the last log record; the last of them gets LAST."""
        made = np.zeros(len(events), EVENT)
        for index, (event, values) in enumerate(zip(made, events, strict=True)):
            event["sequence"], event["index"] = self.sequence, index
            event["market"] = source
            for name, value in values.items():
                event[name] = value
        made["flags"][-1] |= LAST
        assert self._sources[source].publish(made)

    def run(self) -> None:
        while self.publisher.poll():
            pass
        assert self.publisher.position == self.sequence

    def reports(self, number: int) -> NDArray[Any]:
        self.run()
        return self.sessions[number].reports()

    def levels(self, market: int = 1) -> tuple[list[Any], list[Any]]:
        top = Book(self.depths[market - 1], self.market_data).top()
        return top.bids.tolist(), top.asks.tolist()

    # -- what the tests begin with

    def rest(self, session: int, side: Side, price: int, lots: int, level: int = 0) -> int:
        """A limit order that rests; `level` is the whole of its level."""
        order = self.log(
            Kind.NEW_ORDER, session=session, account=session, market=1, side=side,
            price_ticks=price, quantity_lots=lots, client_order_id=b"id-%d" % (self.sequence + 1),
        )  # fmt: skip
        values = {"order_id": order, "account": session, "side": side, "price_ticks": price}
        values |= {"quantity_lots": lots, "leaves_lots": lots, "level_lots": level or lots}
        self.say(MATCHER, {"kind": EventKind.ACCEPTED, "flags": RESTING, **values})
        for number in self.sessions:
            self.reports(number)
        return order

    def enter(self, session: int, side: Side, price: int, lots: int, **fields: Any) -> int:
        """A new order without its events."""
        return self.log(
            Kind.NEW_ORDER, session=session, account=session, market=1, side=side,
            price_ticks=price, quantity_lots=lots, **fields,
        )  # fmt: skip

    def subscribe(self, session: int, account: int) -> None:
        self.log(Kind.SUBSCRIBE, session=session, account=account)
        assert self.reports(session)["kind"].tolist() == [EventKind.DONE]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def event(kind: EventKind, order: int, side: Side, **values: Any) -> dict[str, Any]:
    return {"kind": kind, "order_id": order, "side": side, **values}


def told(reports: NDArray[Any]) -> list[tuple[str, int, int, int]]:
    """(kind, order, leaves, command position or trade id)"""
    return [
        (EventKind(r["kind"]).name, int(r["order_id"]), int(r["leaves_lots"]), int(r["trade_id"]))
        for r in reports
    ]


# ---- orders


def test_a_new_order_is_known_by_its_sequence_whatever_terms_stand_in_its_record(
    stage: Stage,
) -> None:
    terms = {"maker_fee_ppm": -5, "taker_fee_ppm": 1000, "self_trade": 4, "has_terms": 1}
    order = stage.enter(ALICE, Side.BUY, 100, 5, client_order_id=b"mine", **terms)
    accepted = {"price_ticks": 100, "quantity_lots": 5, "leaves_lots": 5, "level_lots": 5}
    stage.say(MATCHER, event(EventKind.ACCEPTED, order, Side.BUY, flags=RESTING, **accepted))
    (report,) = stage.reports(ALICE)
    assert (report["order_id"], report["client_order_id"]) == (order, b"mine")
    assert stage.levels() == ([(100, 5)], [])


def test_each_side_of_a_trade_is_told_its_own_fee(stage: Stage) -> None:
    maker = stage.rest(ALICE, Side.SELL, 100, 5)
    taker = stage.enter(BOB, Side.BUY, 101, 7)
    trade = {"maker_order_id": maker, "trade_id": 9, "price_ticks": 100, "quantity_lots": 5}
    trade |= {"leaves_lots": 2, "cumulative_lots": 5, "maker_cumulative_lots": 5}
    trade |= {"fee": 30, "maker_fee": -10}
    rested = {"price_ticks": 101, "leaves_lots": 2, "level_lots": 2}
    stage.say(
        MATCHER,
        event(EventKind.ACCEPTED, taker, Side.BUY, price_ticks=101, leaves_lots=7),
        event(EventKind.TRADE, taker, Side.BUY, **trade),
        event(EventKind.RESTED, taker, Side.BUY, **rested),
    )
    accepted, bought = stage.reports(BOB)
    (sold,) = stage.reports(ALICE)
    assert (accepted["fee"], bought["fee"], sold["fee"]) == (0, 30, -10)
    assert (sold["leaves_lots"], sold["cumulative_lots"]) == (0, 5)
    assert (bought["leaves_lots"], bought["trade_id"], sold["trade_id"]) == (2, 9, 9)
    assert (int(bought["flags"]), int(sold["flags"])) == (0, ReportFlag.AS_MAKER)
    assert stage.levels() == ([(101, 2)], [])
    assert stage.publisher.counters["live_orders"] == 1


def test_an_order_that_waits_is_not_in_the_depth_until_it_is_triggered_and_rests(
    stage: Stage,
) -> None:
    stop = stage.enter(ALICE, Side.BUY, 105, 4, trigger_ticks=104)
    waits = {"price_ticks": 105, "quantity_lots": 4, "leaves_lots": 4, "flags": WAITING}
    stage.say(MATCHER, event(EventKind.ACCEPTED, stop, Side.BUY, **waits))
    assert told(stage.reports(ALICE)) == [("ACCEPTED", stop, 4, 1)]
    assert stage.levels() == ([], [])
    maker = stage.rest(BOB, Side.SELL, 104, 1)
    taker = stage.enter(BOB, Side.BUY, 104, 1)
    trade = {"maker_order_id": maker, "trade_id": 1, "price_ticks": 104, "quantity_lots": 1}
    stage.say(
        MATCHER,
        event(EventKind.ACCEPTED, taker, Side.BUY, leaves_lots=1, price_ticks=104),
        event(EventKind.TRADE, taker, Side.BUY, **trade),
        event(EventKind.TRIGGERED, stop, Side.BUY, price_ticks=105, leaves_lots=4),
        event(EventKind.RESTED, stop, Side.BUY, price_ticks=105, leaves_lots=4, level_lots=4),
    )
    # It is not the answer to anything of alice's; bob, whose command caused it, is not told.
    assert told(stage.reports(ALICE)) == [("TRIGGERED", stop, 4, 0)]
    assert [kind for kind, *_ in told(stage.reports(BOB))] == ["ACCEPTED", "TRADE", "TRADE"]
    assert stage.levels() == ([(105, 4)], [])


def test_a_triggered_order_is_taker_in_another_orders_record(stage: Stage) -> None:
    makers = [stage.rest(BOB, Side.SELL, price, 1) for price in (104, 105)]
    stop = stage.enter(ALICE, Side.BUY, 0, 1, trigger_ticks=104)
    waits = {"quantity_lots": 1, "leaves_lots": 1, "flags": WAITING}
    stage.say(MATCHER, event(EventKind.ACCEPTED, stop, Side.BUY, **waits))
    stage.reports(ALICE)
    taker = stage.enter(BOB, Side.BUY, 104, 1)
    fills = [
        {"maker_order_id": maker, "trade_id": n + 1, "price_ticks": 104 + n, "quantity_lots": 1}
        for n, maker in enumerate(makers)
    ]
    stage.say(
        MATCHER,
        event(EventKind.ACCEPTED, taker, Side.BUY, leaves_lots=1),
        event(EventKind.TRADE, taker, Side.BUY, **fills[0]),
        event(EventKind.TRIGGERED, stop, Side.BUY, leaves_lots=1),
        event(EventKind.TRADE, stop, Side.BUY, **fills[1]),
    )
    assert told(stage.reports(ALICE)) == [("TRIGGERED", stop, 1, 0), ("TRADE", stop, 0, 2)]
    assert told(stage.reports(BOB))[-1] == ("TRADE", makers[1], 0, 2)
    assert stage.levels() == ([], [])
    assert stage.publisher.counters["live_orders"] == 0


# ---- the end of orders


@pytest.mark.parametrize(("flags", "left"), [(RESTING, [(100, 3)]), (0, [(100, 8)])])
def test_a_cancel_changes_the_level_only_of_an_order_that_stood_there(
    stage: Stage, flags: int, left: list[Any]
) -> None:
    stage.rest(BOB, Side.BUY, 100, 3)
    order = stage.rest(ALICE, Side.BUY, 100, 5, level=8)
    stage.log(Kind.CANCEL_ORDER, session=ALICE, account=1, market=1, order_id=order)
    canceled = {"price_ticks": 100, "quantity_lots": 5, "level_lots": 3, "flags": flags}
    reason = {"reason": Reason.ON_REQUEST}
    stage.say(MATCHER, event(EventKind.CANCELED, order, Side.BUY, **canceled, **reason))
    (report,) = stage.reports(ALICE)
    assert told([report]) == [("CANCELED", order, 0, 2)]
    assert Reason(report["reason"]) == Reason.ON_REQUEST
    assert stage.levels() == (left, [])


def test_a_maker_that_self_trade_prevention_expires_leaves_its_level(stage: Stage) -> None:
    maker = stage.rest(ALICE, Side.SELL, 100, 5)
    taker = stage.enter(ALICE, Side.BUY, 100, 7)
    expired = {"price_ticks": 100, "quantity_lots": 5, "reason": Reason.SELF_TRADE}
    stage.say(
        MATCHER,
        event(EventKind.ACCEPTED, taker, Side.BUY, price_ticks=100, leaves_lots=7),
        event(EventKind.EXPIRED, maker, Side.SELL, flags=RESTING, **expired),
        event(EventKind.EXPIRED, taker, Side.BUY, price_ticks=100, quantity_lots=7,
              reason=Reason.SELF_TRADE),
    )  # fmt: skip
    reports = stage.reports(ALICE)
    # The taker's carry the position of its command; the maker's answers none.
    assert told(reports) == [
        ("ACCEPTED", taker, 7, 2),
        ("EXPIRED", maker, 0, 0),
        ("EXPIRED", taker, 0, 2),
    ]
    assert reports["side"].tolist() == [Side.BUY, Side.SELL, Side.BUY]
    assert stage.levels() == ([], [])
    assert stage.publisher.counters["live_orders"] == 0


def test_what_is_prevented_is_told_to_both_orders_and_is_no_trade(stage: Stage) -> None:
    data = MarketData(stage.market_data)
    stage.subscribe(OPERATOR, 1)
    maker = stage.rest(ALICE, Side.SELL, 100, 5)
    taker = stage.enter(ALICE, Side.BUY, 100, 3)
    data.read()
    prevented = {"maker_order_id": maker, "price_ticks": 100, "quantity_lots": 3}
    prevented |= {"maker_leaves_lots": 2, "level_lots": 2}
    stage.say(
        MATCHER,
        event(EventKind.ACCEPTED, taker, Side.BUY, price_ticks=100, leaves_lots=3),
        event(EventKind.PREVENTED, taker, Side.BUY, **prevented),
    )
    expected = [("PREVENTED", maker, 2, 0), ("PREVENTED", taker, 0, 0)]
    for session, as_subscriber in ((ALICE, 0), (OPERATOR, ReportFlag.SUBSCRIBED)):
        reports = stage.reports(session)[1:]
        assert told(reports) == expected
        flags = [ReportFlag.AS_MAKER | as_subscriber, as_subscriber]
        assert reports["flags"].tolist() == flags
    kinds = [MarketDataKind(r["kind"]).name for r in data.read()]
    assert kinds == ["LEVEL", "BEST"]
    assert stage.levels() == ([], [(100, 2)])
    assert stage.publisher.counters["live_orders"] == 1


def test_a_cancel_by_the_engine_is_told_to_the_orders_session_and_answers_nothing(
    stage: Stage,
) -> None:
    order = stage.rest(ALICE, Side.BUY, 100, 5)
    stage.subscribe(BOB, 1)
    stage.log(Kind.TICK)
    stage.log(Kind.CANCEL_ORDER, account=1, market=1, order_id=order, cancel_reason=602)
    canceled = {"price_ticks": 100, "quantity_lots": 5, "flags": RESTING, "reason": 602}
    stage.say(MATCHER, event(EventKind.CANCELED, order, Side.BUY, **canceled))
    for session in (ALICE, BOB):
        (report,) = stage.reports(session)
        assert told([report]) == [("CANCELED", order, 0, 0)]
        assert Reason(report["reason"]) == Reason.GTD_EXPIRED
    assert stage.levels() == ([], [])


def test_a_cancel_by_the_engine_that_is_refused_is_told_to_nobody(stage: Stage) -> None:
    stage.subscribe(BOB, 1)
    stage.log(Kind.CANCEL_ORDER, account=1, market=1, order_id=77)
    stage.say(MATCHER, event(EventKind.REJECTED, 77, Side.BUY, reason=Reason.UNKNOWN_ORDER))
    for session in stage.sessions:
        assert not len(stage.reports(session))


def test_a_cancel_by_another_session_is_told_to_both(stage: Stage) -> None:
    order = stage.rest(ALICE, Side.BUY, 100, 5)
    stage.log(Kind.CANCEL_ORDER, session=OPERATOR, account=1, market=1, order_id=order)
    canceled = {"price_ticks": 100, "quantity_lots": 5, "flags": RESTING}
    stage.say(MATCHER, event(EventKind.CANCELED, order, Side.BUY, **canceled))
    assert told(stage.reports(ALICE)) == [("CANCELED", order, 0, 0)]
    (report,) = stage.reports(OPERATOR)
    assert told([report]) == [("CANCELED", order, 0, 1)]
    assert report["flags"] == ReportFlag.SUBSCRIBED


# ---- refusals


@pytest.mark.parametrize("by", [LEDGER, MATCHER])
def test_a_refused_order_is_named_by_its_sequence(stage: Stage, by: int) -> None:
    reject = Reason.INSUFFICIENT_BALANCE if by == LEDGER else 0
    reason = reject or Reason.WOULD_TAKE
    order = stage.enter(ALICE, Side.BUY, 100, 5, reject=reject, taker_fee_ppm=9)
    stage.say(by, event(EventKind.REJECTED, order, Side.BUY, reason=reason))
    (report,) = stage.reports(ALICE)
    assert told([report]) == [("REJECTED", order, 0, 1)]
    assert (report["reason"], report["price_ticks"], report["account"]) == (reason, 100, 1)
    assert stage.publisher.counters["live_orders"] == 0


def test_terms_and_their_order_are_each_answered(stage: Stage) -> None:
    stage.log(Kind.ORDER_TERMS, session=ALICE, account=1, market=1, display_lots=2)
    order = stage.enter(ALICE, Side.BUY, 100, 5, has_terms=1)
    accepted = {"price_ticks": 100, "leaves_lots": 5, "flags": RESTING, "level_lots": 2}
    stage.say(MATCHER, event(EventKind.ACCEPTED, order, Side.BUY, **accepted))
    reports = stage.reports(ALICE)
    assert told(reports) == [("DONE", 0, 0, 1), ("ACCEPTED", order, 5, 2)]
    assert reports["market"].tolist() == [1, 1]
    assert stage.levels() == ([(100, 2)], [])


def test_terms_and_their_order_are_each_refused(stage: Stage) -> None:
    reject = Reason.BAD_DISPLAY
    stage.log(Kind.ORDER_TERMS, session=ALICE, account=1, market=1, reject=reject)
    stage.say(LEDGER, {"kind": EventKind.REJECTED, "reason": reject})
    order = stage.enter(ALICE, Side.BUY, 100, 5, has_terms=1, reject=reject)
    stage.say(LEDGER, event(EventKind.REJECTED, order, Side.BUY, reason=reject))
    reports = stage.reports(ALICE)
    assert told(reports) == [("REJECTED", 0, 0, 1), ("REJECTED", order, 0, 2)]
    assert reports["reason"].tolist() == [reject, reject]


# ---- money


def balance(account: int, free: int, held: int, change: int) -> dict[str, Any]:
    return {
        "kind": EventKind.BALANCE, "account": account, "market": 2,
        "quantity_lots": free, "leaves_lots": held, "cumulative_lots": change,
    }  # fmt: skip


def balances(reports: NDArray[Any]) -> list[tuple[int, ...]]:
    """(account, asset, free, held, change, command position)"""
    assert set(reports["kind"].tolist()) <= {EventKind.BALANCE}
    names = "account market quantity_lots leaves_lots cumulative_lots command_position"
    return [tuple(int(r[name]) for name in names.split()) for r in reports]


@pytest.mark.parametrize(
    "kind",
    [Kind.DEPOSIT, Kind.REQUEST_WITHDRAWAL, Kind.SETTLE_WITHDRAWAL, Kind.CANCEL_WITHDRAWAL],
)
def test_a_balance_goes_to_the_sender_and_to_the_accounts_subscribers(
    stage: Stage, kind: Kind
) -> None:
    stage.subscribe(BOB, 1)
    stage.log(kind, session=OPERATOR, account=1, asset=2, amount=50, reference=b"wire-1")
    stage.say(LEDGER, balance(1, 120, 30, 50))
    sent, seen = stage.reports(OPERATOR), stage.reports(BOB)
    assert balances(sent) == [(1, 2, 120, 30, 50, 1)]
    assert balances(seen) == [(1, 2, 120, 30, 50, 0)]
    assert (sent["client_order_id"][0], seen["client_order_id"][0]) == (b"wire-1", b"wire-1")
    assert (sent["flags"][0], seen["flags"][0]) == (0, ReportFlag.SUBSCRIBED)
    assert not len(stage.reports(ALICE))


def test_a_transfer_is_told_to_each_sides_subscribers_and_twice_to_its_sender(
    stage: Stage,
) -> None:
    stage.subscribe(ALICE, 1)
    stage.subscribe(BOB, 2)
    stage.log(Kind.TRANSFER, session=ALICE, account=1, counter_account=2, asset=2, amount=10)
    stage.say(LEDGER, balance(1, 90, 0, -10), balance(2, 10, 0, 10))
    reports = stage.reports(ALICE)
    assert balances(reports) == [(1, 2, 90, 0, -10, 2), (2, 2, 10, 0, 10, 2)]
    assert reports["index"].tolist() == [0, 1]
    assert balances(stage.reports(BOB)) == [(2, 2, 10, 0, 10, 0)]


def test_money_that_is_refused_is_told_to_its_sender_with_the_reference(stage: Stage) -> None:
    stage.subscribe(BOB, 1)
    reject = Reason.DUPLICATE_REFERENCE
    money = {"account": 1, "asset": 2, "amount": 50, "reference": b"wire-1"}
    stage.log(Kind.DEPOSIT, session=OPERATOR, reject=reject, **money)
    stage.say(LEDGER, {"kind": EventKind.REJECTED, "reason": reject})
    (report,) = stage.reports(OPERATOR)
    assert (report["kind"], report["reason"]) == (EventKind.REJECTED, reject)
    assert (report["account"], report["market"]) == (1, 2)
    assert (report["client_order_id"], report["command_position"]) == (b"wire-1", 1)
    assert not len(stage.reports(BOB))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Kind.SET_ACCOUNT, {"account": 1, "state": 3}),
        (Kind.SET_MARKET, {"market": 2, "state": 4}),
        (Kind.SET_FEES, {"market": 2, "taker_fee_ppm": 100}),
        (Kind.SET_TIER, {}),
        (Kind.MASS_CANCEL, {"account": 1, "market": 2}),
        (Kind.COUNTDOWN, {"account": 1, "quantity_lots": 500}),
        (Kind.ADD_ACCOUNT, {"account": 5, "name": b"eve"}),
    ],
)
def test_records_without_events_are_answered_with_done(
    stage: Stage, kind: Kind, fields: dict[str, Any]
) -> None:
    stage.log(kind, session=OPERATOR, **fields)
    (report,) = stage.reports(OPERATOR)
    assert told([report]) == [("DONE", 0, 0, 1)]
    assert report["account"] == fields.get("account", 0)
    assert report["market"] == fields.get("market", 0)


def test_a_tick_is_told_to_nobody(stage: Stage) -> None:
    stage.log(Kind.TICK)
    for session in stage.sessions:
        assert not len(stage.reports(session))


# ---- both kinds of source in one stream


def test_events_are_taken_from_the_source_of_each_record_in_the_order_of_the_log(
    stage: Stage,
) -> None:
    stage.log(Kind.DEPOSIT, session=ALICE, account=1, asset=2, amount=1, reference=b"a")
    deposit = stage.sequence
    order = stage.enter(ALICE, Side.BUY, 100, 5)
    accepted = {"price_ticks": 100, "leaves_lots": 5, "flags": RESTING, "level_lots": 5}
    stage.say(MATCHER, event(EventKind.ACCEPTED, order, Side.BUY, **accepted))
    # The matcher is faster than the ledger: nothing is out before the deposit's event is.
    assert stage.publisher.poll() == 0
    assert stage.publisher.position == deposit - 1
    made = np.zeros(1, EVENT)
    for name, value in (balance(1, 1, 0, 1) | {"sequence": deposit, "flags": LAST}).items():
        made[name] = value
    stage._sources[LEDGER].publish(made)
    assert [kind for kind, *_ in told(stage.reports(ALICE))] == ["BALANCE", "ACCEPTED"]


def test_events_of_one_record_that_come_in_parts_are_told_once(stage: Stage) -> None:
    maker = stage.rest(ALICE, Side.SELL, 100, 9)
    taker = stage.enter(BOB, Side.BUY, 100, 9)
    parts = [event(EventKind.ACCEPTED, taker, Side.BUY, leaves_lots=9)]
    for n in range(3):
        left = {"leaves_lots": 6 - 3 * n, "maker_leaves_lots": 6 - 3 * n, "level_lots": 6 - 3 * n}
        fill = {"maker_order_id": maker, "trade_id": n + 1, "price_ticks": 100} | left
        parts.append(event(EventKind.TRADE, taker, Side.BUY, quantity_lots=3, **fill))
    for index, values in enumerate(parts):
        made = np.zeros(1, EVENT)
        made["sequence"], made["index"], made["market"] = stage.sequence, index, 1
        made["flags"] = LAST if index == 3 else 0
        for name, value in values.items():
            made[name] = value
        stage._sources[MATCHER].publish(made)
        assert stage.publisher.poll() > 0
    assert [leaves for _, _, leaves, _ in told(stage.reports(BOB))] == [9, 6, 3, 0]
    assert stage.levels() == ([], [])
