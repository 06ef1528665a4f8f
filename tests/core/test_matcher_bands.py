"""Bands around the last price, and what an amended order may hold."""

from typing import Any

import pytest

from matchbox.shm.reasons import Reason
from tests.core.flows import amend, new, rules, waiting
from tests.core.market import Exchange


@pytest.fixture
def exchange() -> Exchange:
    """Prices may be 5 % below to 10 % above the last, which is 1,001: 950 to 1,102."""
    exchange = Exchange()
    exchange.send(rules(bands=(500, 1000), reference_ticks=1001))
    return exchange


@pytest.mark.parametrize(
    ("price", "good"), [(949, False), (950, True), (951, True), (1102, True), (1103, False)]
)
def test_a_price_outside_the_band_is_refused(exchange: Exchange, price: int, good: bool) -> None:
    orders = (
        new("buy", 1, price, "IOC"),
        new("sell", 1, price, "IOC"),
        waiting("stop_loss", "buy", 1, price, 2000),
    )
    for order in orders:
        assert exchange.send(order)[0].get("reason", 0) == (0 if good else Reason.PRICE_BAND)


def test_a_band_may_have_one_end() -> None:
    exchange = Exchange()
    exchange.send(rules(bands=(500, 0), reference_ticks=1000))
    assert exchange.send(new("sell", 1, 949, "IOC"))[0]["reason"] == Reason.PRICE_BAND
    assert exchange.kinds(new("sell", 1, 100_000, "IOC")) == ["ACCEPTED", "EXPIRED"]


def test_without_a_last_price_there_is_no_band() -> None:
    exchange = Exchange()
    exchange.send(rules(bands=(500, 500)))
    assert exchange.kinds(new("buy", 1, 7)) == ["ACCEPTED"]
    exchange.send(new("sell", 1, 7))
    assert exchange.send(new("buy", 1, 1000))[0]["reason"] == Reason.PRICE_BAND


def test_the_band_follows_the_last_price(exchange: Exchange) -> None:
    exchange.trade_at(960)
    assert exchange.send(new("buy", 1, 1057))[0]["reason"] == Reason.PRICE_BAND
    assert exchange.kinds(new("buy", 1, 1056)) == ["ACCEPTED"]


def test_a_taker_trades_at_no_price_beyond_the_band() -> None:
    exchange = Exchange()
    exchange.send(
        new("sell", 1, 1100), new("sell", 1, 1200), new("buy", 1, 960), new("buy", 1, 900)
    )
    exchange.send(rules(bands=(500, 1000), reference_ticks=1001))
    assert exchange.story(new("buy", 3, None, "IOC")) == [
        ("ACCEPTED", 6, 3),
        ("TRADE", 6, 1, 1100, 1),
        ("EXPIRED", 6, 2, "PRICE_BAND"),
    ]
    exchange.send(rules(reference_ticks=1001))
    assert exchange.story(new("sell", 3, None, "IOC"))[-1] == ("EXPIRED", 8, 2, "PRICE_BAND")


def test_beyond_the_bound_of_a_market_order_it_is_no_liquidity() -> None:
    exchange = Exchange()
    exchange.send(new("sell", 1, 1200), rules(bands=(500, 1000), reference_ticks=1001))
    order = new("buy", 3, None, "IOC", price_ticks=1150)
    assert exchange.story(order)[-1] == ("EXPIRED", 3, 3, "NO_LIQUIDITY")


def test_fill_or_kill_does_not_count_beyond_the_band() -> None:
    exchange = Exchange()
    exchange.send(new("sell", 1, 1100), new("sell", 1, 1103))
    exchange.send(rules(bands=(500, 1000), reference_ticks=1001))
    assert exchange.send(new("buy", 2, None, "FOK"))[0]["reason"] == Reason.NOT_FILLABLE
    assert exchange.kinds(new("buy", 1, None, "FOK")) == ["ACCEPTED", "TRADE"]


def test_within_one_record_the_band_is_that_of_the_price_before_it(exchange: Exchange) -> None:
    exchange.send(new("sell", 1, 1100), new("sell", 1, 1102))
    # The first fill moves the last price to 1,100, the band stays.
    assert exchange.kinds(new("buy", 2, 1102)) == ["ACCEPTED", "TRADE", "TRADE"]


@pytest.mark.parametrize("price", [1102, 960])
def test_what_is_left_of_a_triggered_order_priced_outside_the_band_expires(price: int) -> None:
    exchange = Exchange()
    exchange.send(rules(bands=(500, 1000), reference_ticks=1001))
    exchange.send(waiting("stop_loss", "buy", 3, price, 1050))
    if price == 1102:
        exchange.send(rules(bands=(500, 700)))  # up to 1,072
    else:
        exchange.send(rules(bands=(100, 1000)))  # down from 990
    exchange.send(new("sell", 1, 1050), new("sell", 1, 1060))
    story = exchange.story(new("buy", 1, 1050))
    assert story[-1] == ("EXPIRED", 2, 2 if price == 1102 else 3, "PRICE_BAND")
    assert ("TRADE", 2, 1, 1060, 5) in story or price == 960


def test_the_price_of_an_amend_is_checked_and_an_amend_without_one_is_not(
    exchange: Exchange,
) -> None:
    exchange.send(new("buy", 5, 950))
    assert exchange.send(amend(2, 949))[0]["reason"] == Reason.PRICE_BAND
    exchange.send(rules(reference_ticks=2000))
    assert exchange.kinds(amend(2, quantity=6)) == ["AMENDED"]
    assert exchange.send(amend(2, 950))[0]["reason"] == Reason.PRICE_BAND
    # Several faults: the first of them.
    assert exchange.send(amend(2, 949, quantity=2**60))[0]["reason"] == Reason.BAD_QUANTITY


# ---- holds


@pytest.mark.parametrize(
    ("side", "change", "extra", "good"),
    [
        ("buy", amend(1, 100, 12), 599, False),
        ("buy", amend(1, 100, 12), 600, True),
        ("buy", amend(1, 101), 29, False),
        ("buy", amend(1, 101), 30, True),
        ("buy", amend(1, 50, 20), 0, True),
        ("buy", amend(1, 100, 12), -1, True),
        ("buy", amend(1, 100, 12), -2, False),
        ("sell", amend(1, 100, 12), 13, False),
        ("sell", amend(1, 100, 12), 14, True),
        ("sell", amend(1, 500), 0, True),
    ],
)
def test_an_amend_that_its_hold_does_not_cover_is_refused(
    side: str, change: dict[str, Any], extra: int, good: bool
) -> None:
    exchange = Exchange(check_holds=True, notional_units=3, lot_units=7)
    exchange.send(new(side, 10, 100))
    (event,) = exchange.send(change | {"hold": extra})
    assert event.get("reason", 0) == (0 if good else Reason.HOLD_EXCEEDED)


def test_what_is_filled_in_between_is_held_no_more() -> None:
    exchange = Exchange(check_holds=True)
    exchange.send(new("buy", 10, 100), new("sell", 4, 100))
    # To a total of 12 the sequencer stamped 2 * 100 more, with 10 open; 6 are now, 8 are to be.
    assert exchange.kinds(amend(1, quantity=12, hold=200)) == ["AMENDED"]
    # To-open: 12 open are 4 more than the 8 that are.
    assert exchange.send(amend(1, quantity=12, flags=2, hold=200))[0]["reason"] == (
        Reason.HOLD_EXCEEDED
    )


def test_matcher_process_does_not_ask_unless_told_to() -> None:
    exchange = Exchange()
    exchange.send(new("buy", 10, 100))
    assert exchange.kinds(amend(1, 200, 20)) == ["AMENDED"]
