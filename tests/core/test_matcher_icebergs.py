"""Icebergs: what shows, what is hidden, and where the next slice goes."""

from typing import Any

import pytest

from matchbox.shm.reasons import Reason
from matchbox.shm.records import EventFlag, Flag
from tests.core.flows import amend, cancel, new, terms
from tests.core.market import Exchange


@pytest.fixture
def exchange() -> Exchange:
    """Order 2 sells 10 at 100 and shows 3; order 3, of 4, stands behind it."""
    exchange = Exchange()
    exchange.send(terms(3), new("sell", 10, 100), new("sell", 4, 100))
    return exchange


def hidden(exchange: Exchange) -> list[tuple[int, int, int]]:
    """(order id, open, hidden) of what rests."""
    orders = exchange.matcher.orders(1)
    return [(int(o["order_id"]), int(o["leaves_lots"]), int(o["hidden_lots"])) for o in orders]


def test_depth_is_what_shows(exchange: Exchange) -> None:
    assert exchange.depth()[1] == [(100, 7)]
    assert exchange.depth(hidden=True)[1] == [(100, 14)]
    assert hidden(exchange) == [(2, 10, 7), (3, 4, 0)]


def test_it_is_accepted_with_all_that_is_open(exchange: Exchange) -> None:
    (accepted,) = exchange.send(terms(5), new("buy", 9, 90))
    assert (accepted["quantity_lots"], accepted["leaves_lots"], accepted["level_lots"]) == (9, 9, 5)
    assert accepted["flags"] == EventFlag.RESTING | EventFlag.LAST


def test_a_filled_slice_is_followed_by_the_next_at_the_end_of_the_queue(exchange: Exchange) -> None:
    trade = exchange.send(new("buy", 3, 100))[1]
    assert (trade["maker_leaves_lots"], trade["maker_cumulative_lots"]) == (7, 3)
    assert trade["level_lots"] == 7
    assert exchange.queue(100) == [3, 2]
    assert hidden(exchange) == [(3, 4, 0), (2, 7, 4)]


def test_a_slice_that_is_filled_in_part_keeps_its_place(exchange: Exchange) -> None:
    exchange.send(new("buy", 2, 100))
    assert exchange.queue(100) == [2, 3]
    assert hidden(exchange) == [(2, 8, 7), (3, 4, 0)]


def test_hidden_quantity_is_there_to_be_matched(exchange: Exchange) -> None:
    assert exchange.story(new("buy", 20, 100)) == [
        ("ACCEPTED", 4, 20),
        ("TRADE", 4, 3, 100, 2),
        ("TRADE", 4, 4, 100, 3),
        ("TRADE", 4, 3, 100, 2),
        ("TRADE", 4, 3, 100, 2),
        ("TRADE", 4, 1, 100, 2),
        ("RESTED", 4, 20),
    ]
    assert exchange.depth() == ([(100, 6)], [])


def test_fill_or_kill_counts_what_is_hidden(exchange: Exchange) -> None:
    assert exchange.kinds(new("buy", 15, 100, "FOK")) == ["REJECTED"]
    assert exchange.kinds(new("buy", 14, 100, "FOK")) == ["ACCEPTED", *["TRADE"] * 5]


def test_what_is_left_of_an_iceberg_that_took_shows_a_slice() -> None:
    exchange = Exchange()
    exchange.send(new("sell", 4, 100))
    events = exchange.send(terms(3), new("buy", 10, 100))
    assert (events[-1]["leaves_lots"], events[-1]["level_lots"]) == (6, 3)
    exchange.send(cancel(3))
    exchange.send(new("sell", 8, 100))
    events = exchange.send(terms(3), new("buy", 10, 100))
    assert (events[-1]["leaves_lots"], events[-1]["level_lots"]) == (2, 2)


def test_a_cancel_takes_it_all(exchange: Exchange) -> None:
    (canceled,) = exchange.send(cancel(2))
    assert (canceled["quantity_lots"], canceled["level_lots"]) == (10, 4)
    assert exchange.depth(hidden=True)[1] == [(100, 4)]


def test_an_amend_that_keeps_the_place_takes_hidden_quantity_first(exchange: Exchange) -> None:
    (amended,) = exchange.send(amend(2, quantity=4))
    assert (amended["leaves_lots"], amended["level_lots"]) == (4, 7)
    assert amended["previous_level_lots"] == 4
    assert hidden(exchange) == [(2, 4, 1), (3, 4, 0)]
    (amended,) = exchange.send(amend(2, quantity=2))
    assert (amended["leaves_lots"], amended["level_lots"]) == (2, 6)
    assert hidden(exchange) == [(2, 2, 0), (3, 4, 0)]


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (amend(2, quantity=12), 10),
        (amend(2, 100, flags=Flag.REQUEUE), 8),
        (amend(2, quantity=4, flags=Flag.REQUEUE), 2),
    ],
)
def test_an_amend_that_loses_the_place_shows_a_new_slice(
    exchange: Exchange, change: dict[str, Any], left: int
) -> None:
    exchange.send(new("buy", 2, 100))
    (amended,) = exchange.send(change)
    assert exchange.queue(100) == [3, 2]
    assert (amended["leaves_lots"], amended["previous_level_lots"]) == (left, 4)
    assert amended["level_lots"] == 4 + min(left, 3)


def test_the_matcher_refuses_more_special_orders_than_it_has_room_for() -> None:
    from matchbox.core.instrument import market_record
    from matchbox.core.matcher import Matcher
    from tests.core.flows import commands, waiting

    matcher = Matcher([market_record(1, max_orders=10)], max_specials=2)
    sent = [terms(1), new("buy", 2, 5), waiting("stop_loss", "buy", 1, 9, 9), new("buy", 1, 5)]
    assert not matcher.process(commands(*sent))["reason"].any()
    more = commands(terms(1), new("buy", 2, 5), waiting("stop_loss", "buy", 1, 9, 9))
    assert matcher.process(more)["reason"].tolist() == [Reason.TOO_MANY_ORDERS] * 2
    matcher.process(commands(cancel(2)))
    assert matcher.process(more[:2])["reason"].tolist() == [0]
