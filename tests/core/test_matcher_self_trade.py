"""Self-trade prevention: the taker's mode decides when two orders of one account meet."""

import pytest

from matchbox.shm.reasons import Reason
from matchbox.shm.records import EventFlag, SelfTrade
from tests.core.flows import amend, new, terms
from tests.core.market import Exchange, last

MINE, THEIRS = 7, 8
NONE, TAKER, MAKER, BOTH, DECREMENT = SelfTrade


def asks(*makers: tuple[int, int, int]) -> Exchange:
    """Orders 1, 2, ... to sell: (quantity, price, account)."""
    exchange = Exchange()
    for quantity, price, account in makers:
        exchange.send(new("sell", quantity, price, account=account))
    return exchange


@pytest.fixture
def exchange() -> Exchange:
    """Theirs, mine, theirs, at one price."""
    return asks((5, 100, THEIRS), (5, 100, MINE), (5, 100, THEIRS))


def buy(quantity: int, mode: int, price: int | None = 100, tif: str = "GTC") -> dict[str, int]:
    return new("buy", quantity, price, tif, account=MINE, self_trade=mode)


def test_without_a_mode_orders_of_one_account_match(exchange: Exchange) -> None:
    assert exchange.kinds(buy(12, NONE)) == ["ACCEPTED", "TRADE", "TRADE", "TRADE"]


def test_the_maker_s_mode_does_not_matter() -> None:
    exchange = Exchange()
    exchange.send(new("sell", 5, 100, account=MINE, self_trade=TAKER))
    assert exchange.kinds(buy(5, NONE)) == ["ACCEPTED", "TRADE"]


def test_expire_taker_ends_it_where_it_would_meet_its_own(exchange: Exchange) -> None:
    assert exchange.story(buy(12, TAKER)) == [
        ("ACCEPTED", 4, 12),
        ("TRADE", 4, 5, 100, 1),
        ("EXPIRED", 4, 7, "SELF_TRADE"),
    ]
    assert exchange.queue(100) == [2, 3]


def test_expire_maker_takes_its_own_away_and_goes_on(exchange: Exchange) -> None:
    events = exchange.send(buy(12, MAKER))
    assert [e["order_id"] for e in events] == [4, 4, 2, 4, 4]
    assert events[2] == {
        "sequence": 4,
        "order_id": 2,
        "price_ticks": 100,
        "quantity_lots": 5,
        "level_lots": 5,
        "index": 2,
        "market": 1,
        "account": MINE,
        "reason": Reason.SELF_TRADE,
        "kind": 6,
        "side": 2,
        "flags": EventFlag.RESTING,
    }
    assert (events[4]["leaves_lots"], last(events)) == (2, [False] * 4 + [True])


def test_expire_both_ends_the_maker_first(exchange: Exchange) -> None:
    assert exchange.story(buy(12, BOTH)) == [
        ("ACCEPTED", 4, 12),
        ("TRADE", 4, 5, 100, 1),
        ("EXPIRED", 2, 5, "SELF_TRADE"),
        ("EXPIRED", 4, 7, "SELF_TRADE"),
    ]
    assert exchange.queue(100) == [3]


def test_decrement_takes_off_both_what_a_fill_would_have_been(exchange: Exchange) -> None:
    events = exchange.send(buy(12, DECREMENT))
    assert events[2] == {
        "sequence": 4,
        "order_id": 4,
        "maker_order_id": 2,
        "price_ticks": 100,
        "quantity_lots": 5,
        "leaves_lots": 2,
        "cumulative_lots": 5,
        "level_lots": 5,
        "index": 2,
        "market": 1,
        "account": MINE,
        "maker_account": MINE,
        "kind": 9,
        "side": 1,
    }
    assert exchange.story(new("buy", 1, 100))[1] == ("TRADE", 5, 1, 100, 3)


def test_decrement_leaves_a_maker_where_it_stands() -> None:
    exchange = asks((9, 100, MINE), (5, 100, THEIRS))
    events = exchange.send(buy(4, DECREMENT))
    assert (events[1]["maker_leaves_lots"], last(events)) == (5, [False, True])
    assert exchange.queue(100) == [1, 2]
    assert exchange.depth()[1] == [(100, 10)]


def test_nothing_prevented_is_a_trade() -> None:
    exchange = asks((9, 100, MINE), (5, 100, THEIRS))
    exchange.send(buy(4, DECREMENT))
    assert exchange.matcher.last_price(1) is None
    assert exchange.send(new("buy", 5, 100))[1]["trade_id"] == 1


def test_what_is_prevented_comes_off_the_total_that_an_amend_names() -> None:
    exchange = asks((9, 100, MINE))
    exchange.send(buy(4, DECREMENT), new("buy", 2, 100, account=THEIRS))
    (amended,) = exchange.send(amend(1, quantity=3))
    assert (amended["leaves_lots"], amended["cumulative_lots"]) == (1, 2)


def test_an_iceberg_that_is_prevented_shows_its_next_slice_at_the_end() -> None:
    exchange = Exchange()
    exchange.send(terms(2), new("sell", 5, 100, account=MINE), new("sell", 5, 100))
    events = exchange.send(buy(2, DECREMENT))
    assert (events[1]["maker_leaves_lots"], events[1]["level_lots"]) == (3, 7)
    assert exchange.queue(100) == [3, 2]


def test_expire_maker_takes_hidden_quantity_too() -> None:
    exchange = Exchange()
    exchange.send(terms(2), new("sell", 5, 100, account=MINE))
    assert exchange.story(buy(3, MAKER))[1] == ("EXPIRED", 2, 5, "SELF_TRADE")
    assert exchange.depth() == ([(100, 3)], [])


def test_the_mode_stays_with_an_amended_order() -> None:
    exchange = asks((5, 100, MINE))
    exchange.send(buy(5, TAKER, 90))
    assert exchange.kinds(amend(2, 100)) == ["AMENDED", "EXPIRED"]
    assert exchange.depth() == ([], [(100, 5)])


@pytest.mark.parametrize(
    ("mode", "quantity", "kinds"),
    [
        (NONE, 15, ["ACCEPTED", "TRADE", "TRADE", "TRADE"]),
        (MAKER, 10, ["ACCEPTED", "TRADE", "EXPIRED", "TRADE"]),
        (MAKER, 11, ["REJECTED"]),
        (TAKER, 5, ["ACCEPTED", "TRADE"]),
        (TAKER, 6, ["REJECTED"]),
        (BOTH, 6, ["REJECTED"]),
        (DECREMENT, 6, ["REJECTED"]),
    ],
)
def test_fill_or_kill_asks_before_whose_orders_it_will_meet(
    exchange: Exchange, mode: int, quantity: int, kinds: list[str]
) -> None:
    assert exchange.kinds(buy(quantity, mode, 100, "FOK")) == kinds


def test_fill_or_kill_knows_that_a_slice_comes_before_what_an_iceberg_hides() -> None:
    exchange = Exchange()
    exchange.send(terms(2), new("sell", 10, 100), new("sell", 5, 100, account=MINE))
    assert exchange.kinds(buy(3, TAKER, 100, "FOK")) == ["REJECTED"]
    assert exchange.kinds(buy(2, TAKER, 100, "FOK")) == ["ACCEPTED", "TRADE"]
    assert exchange.kinds(buy(8, MAKER, 100, "FOK"))[:2] == ["ACCEPTED", "EXPIRED"]


def test_post_only_does_not_ask_whose_orders_it_would_meet() -> None:
    exchange = asks((5, 100, MINE))
    (rejected,) = exchange.send(buy(5, MAKER) | {"flags": 1})
    assert rejected["reason"] == Reason.WOULD_TAKE
