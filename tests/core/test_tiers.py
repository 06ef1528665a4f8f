"""Fee tiers by the volume of 30 days, day by day."""

from typing import Any

import numpy as np
import pytest

from matchbox.shm.records import NEW_ORDER, RULES_RECORD, TIER_BY_VOLUME, Kind, Rule, Side
from tests.core.exchange import Exchange, plan
from tests.core.test_markets import do, order, replayed

USD = 2
DAY_NS = 24 * 3600 * 10**9


def rules(kind: Kind, **values: Any) -> Any:
    row = np.zeros(1, RULES_RECORD)
    row["kind"] = kind
    for name, value in values.items():
        row[name] = value
    return row


@pytest.fixture
def exchange() -> Exchange:
    """Account 1 goes by volume; from 500 USD on it pays 7 less than the 1,000 of all others."""
    made = Exchange(plan(max_orders=64))
    made.sequencer.clock_ns = 100 * DAY_NS
    assert (
        do(
            made,
            rules(Kind.SET_FEES, tier=0, taker_fee_ppm=1_000),
            rules(Kind.SET_FEES, tier=1, taker_fee_ppm=993),
            rules(Kind.SET_TIER, tier=1, amount=500, asset=USD),
            rules(Kind.SET_ACCOUNT, account=1, rules=Rule.TIER, tier=TIER_BY_VOLUME),
        )
        == [0] * 4
    )
    return made


def trade(exchange: Exchange, value: int) -> int:
    """Account 1 takes `value` USD from account 2; the fee that it pays, in millionths."""
    assert do(exchange, order(2, Side.SELL, value, 1, 1), order(1, Side.BUY, value, 1, 1)) == [0, 0]
    return int(exchange.log.view(NEW_ORDER)[-1]["taker_fee_ppm"])


def test_volume_counts_from_the_next_day_for_thirty_days(exchange: Exchange) -> None:
    assert trade(exchange, 500) == 1_000
    assert trade(exchange, 1) == 1_000  # today does not count
    for day, fee in ((101, 993), (129, 993), (130, 993), (131, 1_000), (132, 1_000)):
        exchange.sequencer.clock_ns = day * DAY_NS
        assert trade(exchange, 1) == fee, f"on day {day}"
    replayed(exchange)


@pytest.mark.parametrize("last", [129, 130])
def test_volume_is_kept_as_days_without_trades_pass(exchange: Exchange, last: int) -> None:
    assert trade(exchange, 500) == 1_000
    exchange.sequencer.clock_ns = last * DAY_NS
    assert trade(exchange, 1) == 993
    exchange.sequencer.clock_ns = 131 * DAY_NS
    assert trade(exchange, 1) == 1_000
    replayed(exchange)


def test_a_look_at_the_rates_says_what_the_next_order_pays_and_changes_nothing(
    exchange: Exchange,
) -> None:
    trade(exchange, 500)
    sequencer = exchange.sequencer
    before = sequencer.state_hash()
    assert sequencer.fees(1) == [(0, 0, 1_000)]
    assert sequencer.fees(99_999_999) == []
    # By the time of the last record: a day passes with the next one.
    sequencer.clock_ns = 101 * DAY_NS
    assert sequencer.state_hash() == before
    assert trade(exchange, 1) == 993
    assert sequencer.fees(1) == [(0, 0, 993)]
    replayed(exchange)
