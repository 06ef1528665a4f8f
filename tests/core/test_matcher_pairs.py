"""One cancels the other: pairs of orders in the matcher."""

from typing import Any

import numpy as np
import pytest

from matchbox.core.instrument import market_record
from matchbox.core.matcher import Matcher
from matchbox.shm.reasons import Reason
from matchbox.shm.records import EVENT, Flag
from tests.core.flows import amend, cancel, commands, new, order_list, rules, terms, waiting
from tests.core.market import Exchange, last, told

LEG, POST = Flag.LEG, Flag.LEG | Flag.POST_ONLY


def pair(
    profit: int = 110, loss: int = 90, side: str = "sell", quantity: int = 10, **others: Any
) -> list[dict[str, Any]]:
    """A list, a limit order and a stop order; `others` are fields of both."""
    return [
        order_list("oco"),
        new(side, quantity, profit, flags=POST, **others),
        waiting("stop_loss", side, quantity, None, loss, flags=LEG, **others),
    ]


def paired(**others: Any) -> Exchange:
    """An exchange with a pair (orders 2 and 3), to sell, and a last price of 100."""
    exchange = Exchange()
    exchange.send(rules(reference_ticks=100))
    exchange.send(*pair(**others))
    return exchange


def test_both_are_accepted_and_each_says_so_under_its_own_number() -> None:
    exchange = Exchange()
    events = exchange.send(*pair())
    assert [(e["sequence"], e["order_id"], e["kind"]) for e in events] == [(2, 2, 1), (3, 3, 1)]
    assert last(events) == [True, True]
    assert all("index" not in event for event in events)
    assert exchange.depth() == ([], [(110, 10)])
    assert exchange.waiting() == [3]


def test_a_fill_of_one_cancels_the_other_at_once() -> None:
    exchange = paired()
    events = exchange.send(new("buy", 4, 120), cancel(4))
    assert [e["kind"] for e in events] == [1, 3, 5, 2]
    assert events[2]["order_id"] == 4 and events[2]["reason"] == 607
    assert events[2]["quantity_lots"] == 10
    assert last(events) == [False, False, True, True]
    assert exchange.waiting() == []
    assert exchange.depth() == ([], [(110, 6)])


def test_what_is_left_is_an_order_like_any_other() -> None:
    exchange = paired()
    exchange.send(new("buy", 4, 120))
    assert exchange.story(amend(3, price=111)) == [("AMENDED", 3, 10)]
    assert exchange.story(cancel(3)) == [("CANCELED", 3, 6, "ON_REQUEST")]


def test_a_trigger_cancels_the_other_before_it_is_matched() -> None:
    exchange = paired()
    exchange.send(new("buy", 5, 90, account=7), new("buy", 50, 80, account=7))
    assert exchange.story(new("sell", 5, 90)) == [
        ("ACCEPTED", 7, 5),
        ("TRADE", 7, 5, 90, 5),
        ("TRIGGERED", 4, 10),
        ("CANCELED", 3, 10, "LIST_ENDED"),
        ("TRADE", 4, 10, 80, 6),
    ]
    assert exchange.depth() == ([(80, 40)], [])


def test_the_cancel_comes_before_what_the_fill_triggers() -> None:
    exchange = paired()
    exchange.send(waiting("stop_loss", "buy", 1, None, 110, account=7))
    assert exchange.story(new("buy", 1, 110)) == [
        ("ACCEPTED", 6, 1),
        ("TRADE", 6, 1, 110, 3),
        ("CANCELED", 4, 10, "LIST_ENDED"),
        ("TRIGGERED", 5, 1),
        ("TRADE", 5, 1, 110, 3),
    ]


@pytest.mark.parametrize(("ends", "other"), [(3, 4), (4, 3)])
def test_a_cancel_of_one_is_the_end_of_both(ends: int, other: int) -> None:
    exchange = paired()
    events = exchange.send(cancel(ends))
    assert [(e["order_id"], e["reason"]) for e in events] == [(ends, 600), (other, 607)]
    assert [e.get("flags", 0) & 2 for e in events] == ([2, 0] if ends == 3 else [0, 2])
    assert last(events) == [False, True]
    assert exchange.depth() == ([], []) and exchange.waiting() == []


def test_neither_can_be_amended() -> None:
    exchange = paired()
    assert exchange.story(amend(3, price=111), amend(4, quantity=5)) == [
        ("REJECTED", 3, 0, "CANNOT_AMEND"),
        ("REJECTED", 4, 5, "CANNOT_AMEND"),
    ]


def test_self_trade_prevention_of_one_cancels_the_other() -> None:
    for mode, kinds in (
        (4, ["ACCEPTED", "PREVENTED", "CANCELED"]),
        (2, ["ACCEPTED", "EXPIRED", "CANCELED", "RESTED"]),
        (3, ["ACCEPTED", "EXPIRED", "CANCELED", "EXPIRED"]),
    ):
        exchange = paired(account=5)
        assert exchange.kinds(new("buy", 4, 110, account=5, self_trade=mode)) == kinds
        assert exchange.waiting() == []


@pytest.mark.parametrize("trailing", [0, 500])
def test_one_that_stands_in_the_queue_is_passed_over(trailing: int) -> None:
    exchange = Exchange()
    exchange.send(rules(reference_ticks=100))
    loss = {"trigger_ticks": 0, "trailing_bips": trailing} if trailing else {}
    exchange.send(
        order_list("oco"),
        waiting("take_profit", "sell", 10, None, 110, flags=LEG),
        waiting("stop_loss", "sell", 10, None, 90, flags=LEG) | loss,
        waiting("take_profit", "sell", 1, None, 105),
        new("sell", 1, 110, account=7),
        new("buy", 1, 85, account=7),
        new("buy", 10, 70, account=7),
    )
    # The fill at 110 queues 5 and 3; that of 5 at 85 queues 4, too, before it is the turn of 3.
    events = exchange.send(new("buy", 1, 110))
    assert [told(event) for event in events] == [
        ("ACCEPTED", 9, 1),
        ("TRADE", 9, 1, 110, 6),
        ("TRIGGERED", 5, 1),
        ("TRADE", 5, 1, 85, 7),
        ("TRIGGERED", 3, 10),
        ("CANCELED", 4, 10, "LIST_ENDED"),
        ("TRADE", 3, 10, 70, 8),
    ]
    assert last(events) == [False] * 6 + [True]
    assert exchange.waiting() == []


def test_two_that_one_sweep_triggers_end_with_the_first() -> None:
    exchange = Exchange()
    exchange.send(rules(reference_ticks=109))
    exchange.send(
        order_list("oco"),
        waiting("take_profit", "sell", 10, None, 110, flags=LEG),
        waiting("stop_loss", "sell", 10, None, 90, flags=LEG),
        new("sell", 1, 110, account=7),
        new("buy", 1, 80, account=7),
        waiting("stop_loss", "sell", 1, None, 108, account=7),
    )
    assert exchange.story(new("buy", 1, 110)) == [
        ("ACCEPTED", 8, 1),
        ("TRADE", 8, 1, 110, 5),
        ("TRIGGERED", 3, 10),
        ("CANCELED", 4, 10, "LIST_ENDED"),
        ("TRADE", 3, 1, 80, 6),
        ("EXPIRED", 3, 9, "NO_LIQUIDITY"),
        ("TRIGGERED", 7, 1),
        ("EXPIRED", 7, 1, "NO_LIQUIDITY"),
    ]
    assert exchange.waiting() == []


def test_icebergs_can_be_legs() -> None:
    exchange = Exchange()
    exchange.send(
        order_list("oco", (3, 2)),
        new("sell", 10, 110, flags=POST),
        waiting("stop_loss", "sell", 10, 80, 90, flags=LEG),
    )
    assert exchange.depth() == ([], [(110, 3)])
    exchange.send(new("buy", 1, 90), new("sell", 1, 90))
    assert exchange.depth() == ([], [(80, 2)])
    assert exchange.depth(hidden=True) == ([], [(80, 10)])


REFUSED: dict[str, tuple[list[dict[str, Any]], str]] = {
    "it would take": (pair(profit=100), "WOULD_TAKE"),
    "it would trigger": (pair(loss=101), "WOULD_TRIGGER"),
    "the band": (pair(profit=121), "PRICE_BAND"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_refuses_one_refuses_both(case: str) -> None:
    rows, reason = REFUSED[case]
    exchange = Exchange()
    exchange.send(rules(reference_ticks=100, bands=(2000, 2000)), new("buy", 1, 100))
    before = exchange.matcher.state_hash()
    events = exchange.send(*rows)
    assert [e["kind"] for e in events] == [2, 2]
    assert exchange.matcher.state_hash() == before
    assert {Reason(e["reason"]).name for e in events} == {reason}


STOP = waiting("stop_loss", "sell", 10, None, 90, flags=LEG)
PROFIT = waiting("take_profit", "sell", 10, None, 110, flags=LEG)
LIMIT = new("sell", 10, 110, flags=POST)
NO_PAIRS: dict[str, list[dict[str, Any]]] = {
    "not post-only": [LIMIT | {"flags": LEG}, STOP],
    "two of a kind": [STOP, STOP],
    "the stop first": [STOP, LIMIT],
    "a market order": [new("sell", 10, None, "IOC", flags=LEG), STOP],
    "two sides": [LIMIT, STOP | {"side": 1}],
    "two quantities": [LIMIT, STOP | {"quantity_lots": 9}],
    "the wrong way round": [LIMIT, STOP | {"trigger_ticks": 110}],
    "the wrong way round, triggers": [PROFIT, STOP | {"trigger_ticks": 111}],
    "the wrong way round, buys": [LIMIT | {"side": 1, "price_ticks": 95}, STOP | {"side": 1}],
    "only one": [LIMIT],
    "something between": [LIMIT, terms(display=1), STOP],
    "another market": [LIMIT, STOP | {"market": 2}],
}


@pytest.mark.parametrize("case", NO_PAIRS)
def test_what_is_no_pair_is_refused(case: str) -> None:
    exchange = Exchange()
    before = exchange.matcher.state_hash()
    story = exchange.story(order_list("oco"), *NO_PAIRS[case], cancel(77))
    assert {line[-1] for line in story[:-1]} == {"BAD_LEGS"}
    assert len(story) - 1 == sum(row["kind"] == 1 for row in NO_PAIRS[case])
    assert exchange.matcher.state_hash() == before


@pytest.mark.parametrize("kind", ["oto", "otoco"])
def test_lists_with_pending_orders_need_a_ledger(kind: str) -> None:
    exchange = Exchange()
    rows = [new("buy", 10, 80, flags=LEG), LIMIT, STOP][: 2 if kind == "oto" else 3]
    assert {line[-1] for line in exchange.story(order_list(kind), *rows)} == {"BAD_LEGS"}


def test_there_must_be_room_for_both() -> None:
    exchange = Exchange(max_orders=3)
    exchange.send(new("buy", 1, 10), new("buy", 1, 10))
    assert {line[-1] for line in exchange.story(*pair())} == {"TOO_MANY_ORDERS"}
    matcher = Matcher([market_record(1, max_orders=100)], max_specials=1)
    assert set(matcher.process(commands(*pair()))["reason"].tolist()) == {302}
    assert matcher.process(commands(STOP | {"flags": 0}))["kind"].tolist() == [1]


@pytest.mark.parametrize("rows", [pair(), [*pair()[:2], cancel(9)], pair(profit=89)])
def test_one_place_for_events_is_enough(rows: list[dict[str, Any]]) -> None:
    batch = commands(new("buy", 1, 80), *rows, new("buy", 3, 120), new("buy", 1, 70))
    expected = Matcher([market_record(1, max_orders=100)]).process(batch)
    matcher, out, found, done = (
        Matcher([market_record(1, max_orders=100)]),
        np.empty(1, EVENT),
        [],
        0,
    )
    while done < len(batch):
        found.append(matcher.process(batch[done:], out).copy())
        done += matcher.consumed
    assert np.concatenate(found).tobytes() == expected.tobytes()
