"""Fees: what each side of a fill pays, in what it receives."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.flows import amend, new
from tests.core.market import Exchange

UNITS = {"notional_units": 3, "lot_units": 7}


def fees(
    maker_ppm: int,
    taker_ppm: int,
    side: str = "buy",
    lots: int = 100,
    price: int = 50,
    **units: int,
) -> tuple[int, int]:
    """(the taker's, the maker's) of one fill where the taker is on `side`."""
    exchange = Exchange(**(UNITS | units))
    other = "sell" if side == "buy" else "buy"
    exchange.send(new(other, lots, price, maker_fee_ppm=maker_ppm, taker_fee_ppm=29_999))
    trade = exchange.send(new(side, lots, price, maker_fee_ppm=-29_999, taker_fee_ppm=taker_ppm))[1]
    return trade.get("fee", 0), trade.get("maker_fee", 0)


def test_each_side_pays_in_what_it_receives_rounded_up() -> None:
    # The buyer receives 700 units of base, the seller 15,000 of quote.
    assert fees(100, 1000, "buy") == (1, 2)  # 0.7 of base, 1.5 of quote
    assert fees(100, 1000, "sell") == (15, 1)  # 15 of quote, 0.07 of base
    assert fees(10_000, 30_000, "buy") == (21, 150)


def test_without_rates_there_are_no_fees() -> None:
    assert fees(0, 0) == (0, 0)


def test_a_fee_is_never_more_than_what_is_received() -> None:
    assert fees(1, 1, "buy", lots=1, price=1, notional_units=1, lot_units=1) == (1, 1)


def test_a_rebate_is_in_what_the_taker_receives_rounded_down_out_of_its_fee() -> None:
    assert fees(-5000, 10_000, "buy") == (7, -3)  # 3.5 of base
    assert fees(-5000, 10_000, "sell") == (150, -75)
    assert fees(-1, 10_000, "buy") == (7, 0)


def test_a_rebate_is_at_most_the_taker_s_fee() -> None:
    assert fees(-30_000, 1000, "sell") == (15, -15)
    assert fees(-30_000, 0, "sell") == (0, 0)


def test_large_amounts_are_exact() -> None:
    lots, price = 2**40, 2**20
    units = {"notional_units": 3, "lot_units": 2**21, "max_orders": 2}
    exact = lots * 2**21 * 30_000
    assert fees(30_000, 30_000, "buy", lots, price, **units, max_quantity_lots=2**41) == (
        -(-exact // 1_000_000),
        -(-lots * price * 3 * 30_000 // 1_000_000),
    )


@given(
    maker=st.integers(-30_000, 30_000),
    taker=st.integers(0, 30_000),
    side=st.sampled_from(("buy", "sell")),
    lots=st.integers(1, 10**9),
    price=st.integers(1, 10**6),
)
@settings(max_examples=200, deadline=None)
def test_what_is_paid_is_less_than_one_unit_above_the_rate(
    maker: int, taker: int, side: str, lots: int, price: int
) -> None:
    fee, maker_fee = fees(maker, taker, side, lots, price, max_quantity_lots=10**10)
    taken, given_ = (lots * 7, lots * price * 3)[:: 1 if side == "buy" else -1]
    assert 0 <= fee * 10**6 - taken * taker < 10**6
    if maker >= 0:
        assert 0 <= maker_fee * 10**6 - given_ * maker < 10**6
    else:
        assert 0 <= -maker_fee <= fee
        assert -maker_fee * 10**6 <= taken * -maker


def test_an_amended_order_that_takes_pays_its_own_taker_rate() -> None:
    exchange = Exchange(**UNITS)
    exchange.send(new("buy", 100, 40, taker_fee_ppm=20_000, maker_fee_ppm=5))
    exchange.send(new("sell", 100, 50))
    trade = exchange.send(amend(1, 50))[1]
    assert (trade["fee"], trade.get("maker_fee", 0)) == (14, 0)


@pytest.mark.parametrize("rate", [-1, -(2**15)])
def test_a_taker_rate_below_zero_which_no_sequencer_writes_is_none(rate: int) -> None:
    sent: dict[str, Any] = {"taker_fee_ppm": rate}
    exchange = Exchange(**UNITS)
    exchange.send(new("sell", 5, 50))
    assert "fee" not in exchange.send(new("buy", 5, 50) | sent)[1]
