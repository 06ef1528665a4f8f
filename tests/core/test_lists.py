"""Order lists in the whole exchange: money, pending orders, releases, and what is refused."""

from typing import Any

import numpy as np
import pytest

from matchbox.shm.records import COMMAND, NEW_ORDER, RULES_RECORD, Flag, Kind, Rule
from matchbox.shm.session import Session
from tests.core.desk import ACCOUNT, UNIT, Desk, short
from tests.core.flows import amend, cancel, commands, new, order_list, terms, waiting

LEG, POST = Flag.LEG, Flag.LEG | Flag.POST_ONLY
LIMIT = new("sell", 10, 110, flags=POST)
STOP = waiting("stop_loss", "sell", 10, None, 90, flags=LEG)
BUY_LIMIT = new("buy", 10, 90, flags=POST)
BUY_STOP = waiting("stop_loss", "buy", 10, 120, 110, flags=LEG)
WORKING = new("buy", 10, 100, flags=LEG)
TEN, LESS = 10 * UNIT, 990 * UNIT
REPORT_FLAGS = {4: "PENDING", 8: "RELEASED"}


def flags(reports: list[Any]) -> list[str]:
    return ["|".join(n for f, n in REPORT_FLAGS.items() if r["flags"] & f) for r in reports]


def of(reports: list[Any]) -> list[tuple[Any, ...]]:
    return [short(report) for report in reports]


def operate(desk: Desk, **changes: Any) -> None:
    record = np.zeros(1, RULES_RECORD)
    for name, value in changes.items():
        record[name] = value
    desk.exchange.run_operator(record.view(COMMAND))


# ---- a pair


def test_a_pair_holds_the_larger_of_both() -> None:
    desk = Desk(amount=1000 * UNIT)
    told = desk.story(order_list("oco"), LIMIT, STOP)
    assert told == [("DONE",), ("ACCEPTED",), ("ACCEPTED",)]
    assert desk.money()[0] == (LESS, TEN)
    desk = Desk(amount=1200 * UNIT)
    assert desk.story(order_list("oco"), BUY_LIMIT, BUY_STOP) == told
    # 10 at 90 and 10 at 120.
    assert desk.exchange.sequencer.open_orders(ACCOUNT)["hold"].tolist() == [900 * UNIT, 300 * UNIT]
    assert desk.money()[1] == (0, 1200 * UNIT)
    desk.replay()


def test_one_unit_less_is_not_enough() -> None:
    desk = Desk(amount=1200 * UNIT - 1)
    told = desk.story(order_list("oco"), BUY_LIMIT, BUY_STOP)
    assert told == [("REJECTED", "INSUFFICIENT_BALANCE")] * 3
    assert desk.money()[1] == (1200 * UNIT - 1, 0)
    desk.replay()


def test_what_the_canceled_one_held_goes_to_the_other() -> None:
    desk = Desk(amount=1200 * UNIT)
    desk.trade_at(100)
    desk.send(order_list("oco"), BUY_LIMIT, BUY_STOP)
    desk.other.sell(1, quantity_lots=4, price_ticks=115)
    desk.exchange.settle()
    desk.trade_at(110)
    told = of(desk.told())
    assert told == [("TRIGGERED",), ("CANCELED", "LIST_ENDED"), ("TRADE",)]
    # 4 at 115 are paid; 6 at 120 are held.
    assert desk.money()[1] == ((1200 - 460 - 720) * UNIT, 720 * UNIT)
    desk.replay()


def test_a_fill_of_the_first_frees_what_only_the_second_needed() -> None:
    desk = Desk(amount=1200 * UNIT)
    desk.trade_at(100)
    desk.send(order_list("oco"), BUY_LIMIT, BUY_STOP)
    desk.other.sell(1, quantity_lots=4, price_ticks=90)
    assert of(desk.told()) == [("TRADE",), ("CANCELED", "LIST_ENDED")]
    assert desk.money()[1] == (300 * UNIT, 540 * UNIT)
    desk.replay()


@pytest.mark.parametrize("ends", [0, 1])
def test_a_cancel_of_one_frees_everything(ends: int) -> None:
    desk = Desk(amount=1200 * UNIT)
    desk.send(order_list("oco"), BUY_LIMIT, BUY_STOP)
    told = desk.story(cancel(desk.open()[ends]))
    assert told == [("CANCELED", "ON_REQUEST"), ("CANCELED", "LIST_ENDED")]
    assert desk.money()[1] == (1200 * UNIT, 0)
    assert desk.open() == []
    desk.replay()


def test_what_the_matcher_refuses_gives_both_holds_back() -> None:
    desk = Desk(amount=1200 * UNIT)
    desk.trade_at(100)
    told = desk.story(order_list("oco"), BUY_LIMIT, BUY_STOP | {"trigger_ticks": 95})
    assert told == [("DONE",)] + [("REJECTED", "WOULD_TRIGGER")] * 2
    assert desk.money()[1] == (1200 * UNIT, 0)
    desk.replay()


def test_an_amend_under_way_is_refused_and_its_hold_is_free_again() -> None:
    desk = Desk(amount=2000 * UNIT)
    desk.send(order_list("oco"), BUY_LIMIT, BUY_STOP)
    first, second = desk.open()
    told = desk.story(amend(second, price=130), amend(first, price=91), cancel(first))
    assert told == [("REJECTED", "CANNOT_AMEND")] * 2 + [
        ("CANCELED", "ON_REQUEST"),
        ("CANCELED", "LIST_ENDED"),
    ]
    assert desk.money()[1] == (2000 * UNIT, 0)
    desk.replay()


def test_a_good_till_date_ends_both() -> None:
    desk = Desk()
    row = order_list("oco", expire_ns=2_000_000_000)
    desk.send(row, LIMIT | {"time_in_force": 4}, STOP)
    desk.exchange.sequencer.clock_ns = 2_000_000_000
    assert of(desk.told()) == [("CANCELED", "GTD_EXPIRED"), ("CANCELED", "LIST_ENDED")]
    desk.replay()


# ---- pending orders


def begun(desk: Desk, *pending: dict[str, Any], working: dict[str, Any] = WORKING) -> list[int]:
    """A list whose working order rests; the order ids of it and of the pending ones."""
    kind = "oto" if len(pending) == 1 else "otoco"
    reports = desk.send(order_list(kind), working, *pending)
    assert of(reports) == [("DONE",)] + [("ACCEPTED",)] * (1 + len(pending))
    assert flags(reports) == ["", ""] + ["PENDING"] * len(pending)
    sequence = int(reports[0]["sequence"])
    assert [int(r["order_id"]) for r in reports[1:]] == [
        sequence + 1 + i for i in range(len(pending) + 1)
    ]
    assert [int(r["sequence"]) for r in reports] == [sequence + i for i in range(len(reports))]
    return desk.open()


def test_a_pending_order_holds_nothing_and_is_on_no_book() -> None:
    desk = Desk(amount=1000 * UNIT)
    begun(desk, new("sell", 10, 105, flags=LEG, client_order_id=b"out"))
    assert desk.money() == ((1000 * UNIT, 0), (0, 1000 * UNIT))
    assert desk.exchange.book().best() == (100, 10, 0, 0)
    # It counts, and has its client order id.
    assert desk.exchange.sequencer.counters["live_orders"] == 2
    told = desk.story(new("sell", 1, 200, client_order_id=b"out"))
    assert told == [("REJECTED", "DUPLICATE_CLIENT_ORDER_ID")]
    desk.replay()


def test_it_is_released_when_the_working_order_is_filled() -> None:
    desk = Desk(amount=1000 * UNIT)
    _, pending = begun(desk, new("sell", 10, 105, flags=LEG, client_order_id=b"out"))
    desk.other.sell(1, quantity_lots=10, price_ticks=100)
    reports = desk.told()
    assert of(reports) == [("TRADE",), ("ACCEPTED",)]
    assert flags(reports) == ["", "RELEASED"]
    assert int(reports[1]["command_position"]) == pending
    assert int(reports[1]["order_id"]) == int(reports[1]["sequence"]) == desk.open()[0] != pending
    assert bytes(reports[1]["client_order_id"]) == b"out"
    assert desk.money() == ((1000 * UNIT, TEN), (0, 0))
    assert desk.exchange.log["kind"][-2:].tolist() == [Kind.RELEASE, Kind.NEW_ORDER]
    assert desk.story(cancel(0, client_order_id=b"out")) == [("CANCELED", "ON_REQUEST")]
    desk.replay()


def test_a_pair_is_released_as_a_pair() -> None:
    desk = Desk(amount=1000 * UNIT)
    desk.trade_at(100)
    ids = begun(desk, LIMIT, STOP)
    desk.other.sell(1, quantity_lots=10, price_ticks=100)
    reports = desk.told()
    assert of(reports) == [("TRADE",), ("ACCEPTED",), ("ACCEPTED",)]
    assert [int(r["command_position"]) for r in reports[1:]] == ids[1:]
    assert desk.money()[0] == (1000 * UNIT, TEN)
    desk.other.buy(1, quantity_lots=10, price_ticks=110)
    assert of(desk.told()) == [("TRADE",), ("CANCELED", "LIST_ENDED")]
    assert desk.money() == ((1000 * UNIT, 0), (1100 * UNIT, 0))
    desk.replay()


def test_a_working_order_that_is_filled_in_part_and_canceled_releases_too() -> None:
    desk = Desk()
    working, _ = begun(desk, new("sell", 10, 105, flags=LEG))
    desk.other.sell(1, quantity_lots=1, price_ticks=100)
    assert of(desk.told()) == [("TRADE",)]
    assert desk.story(cancel(working)) == [("CANCELED", "ON_REQUEST"), ("ACCEPTED",)]
    desk.replay()


@pytest.mark.parametrize("count", [1, 2])
def test_without_a_fill_they_are_canceled(count: int) -> None:
    desk = Desk()
    ids = begun(desk, *[LIMIT, STOP][:count])
    reports = desk.send(cancel(ids[0]))
    assert of(reports) == [("CANCELED", "ON_REQUEST")] + [("CANCELED", "LIST_ENDED")] * count
    assert flags(reports) == [""] + ["PENDING"] * count
    assert [int(r["order_id"]) for r in reports] == ids
    assert desk.open() == []
    # Each by a record of its own.
    own = desk.exchange.log[-count:]
    assert (own["kind"] == Kind.CANCEL_ORDER).all() and (own["session"] == 0).all()
    assert (own["flags"] == Flag.OF_PENDING).all()
    desk.replay()


def test_a_working_order_that_the_matcher_refuses_ends_its_list() -> None:
    desk = Desk()
    desk.other.sell(1, quantity_lots=1, price_ticks=100)
    desk.exchange.settle()
    told = desk.story(order_list("oto"), WORKING | {"flags": POST}, LIMIT)
    assert told == [
        ("DONE",),
        ("REJECTED", "WOULD_TAKE"),
        ("ACCEPTED",),
        ("CANCELED", "LIST_ENDED"),
    ]
    desk.replay()


@pytest.mark.parametrize("ends", [1, 2])
def test_a_cancel_of_one_of_a_pending_pair_ends_the_other(ends: int) -> None:
    desk = Desk()
    ids = begun(desk, LIMIT, STOP)
    reports = desk.send(cancel(ids[ends]))
    assert of(reports) == [("CANCELED", "ON_REQUEST"), ("CANCELED", "LIST_ENDED")]
    assert flags(reports) == ["PENDING", "PENDING"]
    assert desk.open() == ids[:1]
    # Its working order stays, and has nothing to release.
    desk.other.sell(1, quantity_lots=10, price_ticks=100)
    assert of(desk.told()) == [("TRADE",)]
    desk.replay()


def test_pending_orders_cannot_be_amended() -> None:
    desk = Desk()
    ids = begun(desk, LIMIT)
    assert desk.story(amend(ids[1], price=120)) == [("REJECTED", "CANNOT_AMEND")]
    assert desk.story(amend(ids[0], price=99)) == [("AMENDED",)]
    desk.replay()


def test_a_mass_cancel_takes_pending_orders_along() -> None:
    desk = Desk()
    begun(desk, LIMIT, STOP)
    desk.bot.mass_cancel()
    told = of(desk.told())
    assert told == [("DONE",)] + [("CANCELED", "MASS_CANCELED")] * 3
    desk.replay()


def test_also_those_whose_release_stands_in_line() -> None:
    """The tick that the countdown causes comes before what stands in line."""
    desk = Desk()
    exchange = desk.exchange
    begun(desk, LIMIT, STOP)
    desk.bot.countdown(1000)
    desk.told()
    desk.other.sell(1, quantity_lots=10, price_ticks=100)
    exchange.sequencer.poll()
    exchange.agents["matcher-0"].poll()
    # The fill is settled, which puts the release in line, and nothing is logged yet.
    exchange.sequencer.settle()
    exchange.sequencer.clock_ns = 2_500_000_000
    told = of(desk.told())
    assert told[-2:] == [("CANCELED", "COUNTDOWN_ENDED")] * 2
    assert Kind.RELEASE not in exchange.log["kind"].tolist()
    assert desk.open() == []
    desk.replay()


def test_a_release_that_is_refused_is_told_and_gone() -> None:
    desk = Desk(amount=1000 * UNIT)
    _, pending = begun(desk, new("sell", 1011, 105, flags=LEG, client_order_id=b"out"))
    watcher = desk.exchange.attach("watcher", ACCOUNT)
    watcher.subscribe()
    desk.told(watcher)
    desk.other.sell(1, quantity_lots=10, price_ticks=100)
    for session in (desk.bot, watcher):
        reports = desk.told(session)
        assert of(reports) == [("TRADE",), ("REJECTED", "INSUFFICIENT_BALANCE")]
        assert flags(reports) == ["", "RELEASED"]
        assert int(reports[1]["command_position"]) == pending
        assert bytes(reports[1]["client_order_id"]) == b"out"
    assert desk.open() == []
    desk.replay()


def test_a_release_that_the_matcher_refuses_is_told_the_same_way() -> None:
    desk = Desk()
    _, pending = begun(desk, new("sell", 1, 100, flags=POST))
    # The bid is in the book before the release, which follows from the fill.
    desk.other.sell(1, quantity_lots=10, price_ticks=100)
    desk.other.buy(1, quantity_lots=1, price_ticks=100)
    reports = desk.told()
    assert of(reports) == [("TRADE",), ("REJECTED", "WOULD_TAKE")]
    assert flags(reports) == ["", "RELEASED"]
    assert int(reports[1]["command_position"]) == pending
    desk.replay()


def test_a_released_pair_is_refused_as_one() -> None:
    desk = Desk()
    desk.trade_at(100)
    begun(desk, LIMIT, STOP | {"trigger_ticks": 101})
    desk.other.sell(1, quantity_lots=10, price_ticks=100)
    told = of(desk.told())
    assert told == [("TRADE",), ("REJECTED", "WOULD_TRIGGER"), ("REJECTED", "WOULD_TRIGGER")]
    assert desk.money()[0][1] == 0
    desk.replay()


def test_the_expiry_of_a_pending_order_counts_from_its_release_on() -> None:
    desk = Desk()
    row = order_list("oto", expire_ns=2_000_000_000)
    pending = new("sell", 1, 105, "GTD", flags=LEG)
    assert desk.story(row, WORKING, pending) == [("DONE",), ("ACCEPTED",), ("ACCEPTED",)]
    desk.exchange.sequencer.clock_ns = 3_000_000_000
    assert desk.told() == []
    desk.other.sell(1, quantity_lots=10, price_ticks=100)
    assert of(desk.told()) == [("TRADE",), ("REJECTED", "BAD_EXPIRY")]
    desk.replay()


def test_a_kill_switch_takes_pending_orders_along() -> None:
    desk = Desk()
    begun(desk, LIMIT, STOP)
    operate(desk, kind=Kind.SET_MARKET, market=1, rules=Rule.CANCEL)
    assert of(desk.told()) == [("CANCELED", "MARKET_KILLED")] * 3
    desk.replay()


def test_a_session_that_ends_takes_its_pending_orders_along() -> None:
    desk = Desk()
    session = desk.exchange.attach("brief", ACCOUNT, cancel_on_detach=True)
    desk.bot.subscribe()
    desk.told()
    session.submit(commands(order_list("otoco"), WORKING, LIMIT, STOP))
    desk.told()
    desk.exchange.detach(session)
    assert of(desk.told()) == [("CANCELED", "SESSION_ENDED")] * 3
    desk.replay()


def test_a_pending_order_can_be_replaced() -> None:
    desk = Desk()
    ids = begun(desk, LIMIT)
    told = desk.story(cancel(ids[1], flags=Flag.REPLACE), new("sell", 3, 120, flags=LEG))
    assert told == [("CANCELED", "ON_REQUEST"), ("ACCEPTED",)]
    desk.replay()


def test_orders_in_lists_pay_for_no_replacement() -> None:
    desk = Desk(amount=1000 * UNIT)
    ids = begun(desk, LIMIT)
    told = desk.story(cancel(ids[0], flags=Flag.REPLACE), new("buy", 10, 100, flags=LEG))
    assert told[:2] == [("CANCELED", "ON_REQUEST"), ("REJECTED", "INSUFFICIENT_BALANCE")]
    # One whose pending orders are gone is an order like any other.
    desk = Desk(amount=1000 * UNIT)
    ids = begun(desk, LIMIT)
    desk.send(cancel(ids[1]))
    told = desk.story(cancel(ids[0], flags=Flag.REPLACE), new("buy", 10, 100, flags=LEG))
    assert told == [("CANCELED", "ON_REQUEST"), ("ACCEPTED",)]
    desk.replay()


def test_the_released_order_belongs_to_the_session_that_sent_the_list() -> None:
    desk = Desk()
    begun(desk, LIMIT)
    desk.other.sell(1, quantity_lots=10, price_ticks=100)
    desk.told()
    sessions = desk.exchange.sequencer.open_orders(ACCOUNT)["session"].tolist()
    assert sessions == [desk.bot.number]
    desk.exchange.detach(desk.bot)
    desk.replay()


# ---- what is refused

OCO, OTO, OTOCO = (order_list(kind) for kind in ("oco", "oto", "otoco"))
MARKET = new("sell", 10, None, "IOC", flags=LEG)
BAD: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "no legs": ([OCO], ["BAD_LEGS"]),
    "one leg": ([OCO, LIMIT], ["BAD_LEGS"] * 2),
    "one leg too many": ([OCO, LIMIT, STOP, STOP], ["", "", "", "BAD_LEGS"]),
    "two legs of three": ([OTOCO, WORKING, LIMIT], ["BAD_LEGS"] * 3),
    "no such type": ([OCO | {"list_type": 4}, LIMIT, STOP], ["BAD_LEGS"] * 3),
    "not a leg": ([OCO, LIMIT, STOP | {"flags": 0}], ["BAD_LEGS", "BAD_LEGS", ""]),
    "terms between": ([OCO, LIMIT, terms(), STOP], ["BAD_LEGS"] * 4),
    "another market": ([OCO, LIMIT, STOP | {"market": 2}], ["BAD_LEGS"] * 3),
    "another account": ([OCO, LIMIT, STOP | {"account": 8}], ["BAD_LEGS"] * 3),
    "a foreign account": (
        [row | {"account": 8} for row in (OCO, LIMIT, STOP)],
        ["ACCOUNT_NOT_PERMITTED"] * 3,
    ),
    "no such market": (
        [row | {"market": 99} for row in (OCO, LIMIT, STOP)],
        ["UNKNOWN_MARKET"] * 3,
    ),
    "a reserved byte": ([OCO | {"reserved": 1}, LIMIT, STOP], ["BAD_FIELD"] * 3),
    "reserved bytes": ([OCO | {"reserved_bytes": (0, 1)}, LIMIT, STOP], ["BAD_FIELD"] * 3),
    "display of no leg": ([order_list("oco", (0, 0, 1)), LIMIT, STOP], ["BAD_FIELD"] * 3),
    "its name": ([OCO | {"client_list_id": b"a b"}, LIMIT, STOP], ["BAD_CLIENT_ORDER_ID"] * 3),
    "a leg alone": ([OTO, WORKING, LIMIT | {"quantity_lots": 0}], ["BAD_QUANTITY"] * 3),
    "the first leg first": (
        [OTO, WORKING | {"price_ticks": 0}, LIMIT | {"quantity_lots": 0}],
        ["BAD_PRICE"] * 3,
    ),
    "the display of a leg": ([order_list("oto", (0, 10)), WORKING, LIMIT], ["BAD_DISPLAY"] * 3),
    "no expiry": ([OTO, WORKING, LIMIT | {"time_in_force": 4}], ["BAD_EXPIRY"] * 3),
    "expiry of nothing": ([OTO | {"expire_ns": 2 * 10**9}, WORKING, LIMIT], ["BAD_EXPIRY"] * 3),
    "a working market order": ([OTO, MARKET, LIMIT], ["BAD_LEGS"] * 3),
    "a working stop": ([OTO, STOP, LIMIT], ["BAD_LEGS"] * 3),
    "no pair": ([OCO, LIMIT, LIMIT], ["BAD_LEGS"] * 3),
    "no pending pair": ([OTOCO, WORKING, STOP, LIMIT], ["BAD_LEGS"] * 4),
    "one name twice": (
        [OTO, WORKING | {"client_order_id": b"a"}, LIMIT | {"client_order_id": b"a"}],
        ["DUPLICATE_CLIENT_ORDER_ID"] * 3,
    ),
    "a name in use": (
        [OTO, WORKING, LIMIT | {"client_order_id": b"used"}],
        ["DUPLICATE_CLIENT_ORDER_ID"] * 3,
    ),
    "money": ([OTO, WORKING | {"quantity_lots": 10**6}, LIMIT], ["INSUFFICIENT_BALANCE"] * 3),
    "no reference": (
        [
            OCO,
            BUY_LIMIT,
            waiting("stop_loss", "buy", 10, None, 0, flags=LEG, trailing_bips=10),
        ],
        ["NO_REFERENCE_PRICE"] * 3,
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_and_changes_nothing(case: str) -> None:
    rows, codes = BAD[case]
    desk = Desk()
    desk.send(new("buy", 1, 1, client_order_id=b"used"))
    money, orders = desk.money(), desk.open()
    reports = desk.send(*rows)
    assert ["".join(line[1:]) for line in of(reports)] == codes
    first = int(reports[0]["command_position"])
    assert [int(r["command_position"]) for r in reports] == list(range(first, first + len(rows)))
    if all(codes):
        assert (desk.money(), desk.open()) == (money, orders)
    desk.replay()


STATES: dict[str, tuple[dict[str, Any], str]] = {
    "frozen": ({"kind": Kind.SET_ACCOUNT, "account": ACCOUNT, "state": 3}, "ACCOUNT_FROZEN"),
    "cancel-only": (
        {"kind": Kind.SET_ACCOUNT, "account": ACCOUNT, "state": 2},
        "ACCOUNT_CANCEL_ONLY",
    ),
    "halted": ({"kind": Kind.SET_MARKET, "market": 1, "state": 4}, "MARKET_HALTED"),
    "post-only": ({"kind": Kind.SET_MARKET, "market": 1, "state": 2}, "MARKET_POST_ONLY"),
}


@pytest.mark.parametrize("case", STATES)
def test_states_refuse_lists(case: str) -> None:
    change, reason = STATES[case]
    desk = Desk()
    operate(desk, rules=Rule.STATE, **change)
    assert desk.story(order_list("oco"), LIMIT, STOP) == [("REJECTED", reason)] * 3
    # Who may is asked of what is placed at once.
    told = desk.story(order_list("oto"), WORKING | {"flags": POST}, STOP)
    if case == "post-only":
        assert told == [("DONE",), ("ACCEPTED",), ("ACCEPTED",)]
    else:
        assert told == [("REJECTED", reason)] * 3
    desk.replay()


def test_there_must_be_room_for_all_legs() -> None:
    desk = Desk(max_orders=4)
    desk.send(new("buy", 1, 1), new("buy", 1, 1))
    told = desk.story(order_list("otoco"), WORKING, LIMIT, STOP)
    assert told == [("REJECTED", "TOO_MANY_ORDERS")] * 4
    assert desk.story(order_list("oto"), WORKING, LIMIT) == [("DONE",)] + [("ACCEPTED",)] * 2
    assert desk.story(new("buy", 1, 1)) == [("REJECTED", "TOO_MANY_ORDERS")]
    desk.replay()


def test_an_account_s_limit_counts_all_legs() -> None:
    desk = Desk()
    operate(desk, kind=Kind.SET_MARKET, market=1, rules=Rule.ORDERS, account_orders=2)
    told = desk.story(order_list("otoco"), WORKING, LIMIT, STOP)
    assert told == [("REJECTED", "TOO_MANY_ACCOUNT_ORDERS")] * 4
    desk.replay()


def test_who_may_not_trade_is_refused_all_records() -> None:
    desk = Desk()
    session: Session = desk.exchange.attach("mute", ACCOUNT, capabilities=0)
    desk.told(session)
    session.submit(commands(order_list("oco"), LIMIT, STOP))
    session.submit(commands(cancel(5, flags=Flag.REPLACE), WORKING))
    assert of(desk.told(session)) == [("REJECTED", "NOT_PERMITTED")] * 5
    desk.replay()


def test_the_records_say_what_belongs_to_what() -> None:
    desk = Desk()
    begun(desk, LIMIT, STOP)
    rows = desk.exchange.log[-4:]
    assert rows.view(NEW_ORDER)["has_terms"][1:].tolist() == [2, 4, 4]
