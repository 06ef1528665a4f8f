"""Market orders: bound, budget, amounts of the quote asset. `hold` is the stamped budget."""

from typing import Any

from matchbox.shm.reasons import Reason
from matchbox.shm.records import EventKind, Flag
from tests.core.flows import new
from tests.core.market import Exchange, resting

ASKS = (("sell", 10, 100), ("sell", 10, 110), ("sell", 10, 120))
BIDS = (("buy", 10, 100), ("buy", 10, 90), ("buy", 10, 80))


def market(side: str, quantity: int, *, bound: int = 0, hold: int = 0, **others: Any) -> Any:
    return new(side, quantity, None, "IOC", price_ticks=bound, hold=hold) | others


def by_amount(side: str, amount: int, **others: Any) -> Any:
    return market(side, amount, flags=Flag.QUOTE_AMOUNT, **others)


def test_a_market_order_trades_up_to_its_bound() -> None:
    assert resting(*ASKS).story(market("buy", 25, bound=110)) == [
        ("ACCEPTED", 4, 25),
        ("TRADE", 4, 10, 100, 1),
        ("TRADE", 4, 10, 110, 2),
        ("EXPIRED", 4, 5, "NO_LIQUIDITY"),
    ]
    assert resting(*BIDS).story(market("sell", 25, bound=81))[-1] == (
        "EXPIRED",
        4,
        5,
        "NO_LIQUIDITY",
    )


def test_its_events_name_the_bound() -> None:
    events = resting(*ASKS).send(market("buy", 25, bound=115))
    assert [events[0]["price_ticks"], events[-1]["price_ticks"]] == [115, 115]


def test_a_buy_spends_no_more_than_its_budget() -> None:
    # 10 at 100 cost 1000; what is left pays for 4 at 110.
    assert resting(*ASKS).story(market("buy", 25, hold=1000 + 4 * 110 + 109)) == [
        ("ACCEPTED", 4, 25),
        ("TRADE", 4, 10, 100, 1),
        ("TRADE", 4, 4, 110, 2),
        ("EXPIRED", 4, 11, "BUDGET_SPENT"),
    ]


def test_a_budget_that_is_spent_with_no_more_to_take_is_no_liquidity() -> None:
    exchange = resting(("sell", 10, 100))
    assert exchange.story(market("buy", 25, hold=1000))[-1] == ("EXPIRED", 2, 15, "NO_LIQUIDITY")


def test_a_sell_by_quantity_has_no_budget() -> None:
    assert resting(*BIDS).kinds(market("sell", 25, hold=1)) == ["ACCEPTED", *["TRADE"] * 3]


def test_a_buy_by_amount_spends_it() -> None:
    exchange = resting(*ASKS, notional_units=3)
    events = exchange.send(by_amount("buy", 3 * (1000 + 220), hold=3 * 1220))
    assert [e["quantity_lots"] for e in events] == [3660, 10, 2]
    # What is left is an amount, what is filled is lots.
    assert [e.get("leaves_lots", 0) for e in events] == [3660, 660, 0]
    assert [e.get("cumulative_lots", 0) for e in events] == [0, 10, 12]
    assert [e.get("flags", 0) for e in events] == [0, 0, 1]


def test_an_amount_that_buys_no_lot_more_expires() -> None:
    assert resting(*ASKS).story(by_amount("buy", 1000 + 219)) == [
        ("ACCEPTED", 4, 1219),
        ("TRADE", 4, 10, 100, 1),
        ("TRADE", 4, 1, 110, 2),
        ("EXPIRED", 4, 109, "BUDGET_SPENT"),
    ]


def test_a_sell_by_amount_gets_it_and_no_more() -> None:
    assert resting(*BIDS).story(by_amount("sell", 1000 + 185)) == [
        ("ACCEPTED", 4, 1185),
        ("TRADE", 4, 10, 100, 1),
        ("TRADE", 4, 2, 90, 2),
        ("EXPIRED", 4, 5, "BUDGET_SPENT"),
    ]


def test_a_sell_by_amount_sells_no_more_lots_than_are_held() -> None:
    # 84 units of base are 12 lots.
    exchange = resting(*BIDS, lot_units=7)
    assert exchange.story(by_amount("sell", 100_000, hold=84 + 6)) == [
        ("ACCEPTED", 4, 100_000),
        ("TRADE", 4, 10, 100, 1),
        ("TRADE", 4, 2, 90, 2),
        ("EXPIRED", 4, 100_000 - 1180, "BUDGET_SPENT"),
    ]


def test_an_amount_has_no_minimum_quantity_and_no_step() -> None:
    exchange = Exchange(min_quantity_lots=4, quantity_step_lots=2)
    exchange.send(new("sell", 10, 100))
    assert exchange.story(by_amount("buy", 350)) == [
        ("ACCEPTED", 2, 350),
        ("TRADE", 2, 3, 100, 1),
        ("EXPIRED", 2, 50, "BUDGET_SPENT"),
    ]


def test_fill_or_kill_counts_within_bound_and_budget() -> None:
    def refused(**others: Any) -> bool:
        exchange = resting(*ASKS)
        before = exchange.matcher.state_hash()
        events = exchange.send(market("buy", 15, **others) | {"time_in_force": 3})
        if events[0]["kind"] != EventKind.REJECTED:
            assert sum(e["quantity_lots"] for e in events[1:]) == 15
            return False
        assert events[0]["reason"] == Reason.NOT_FILLABLE
        assert exchange.matcher.state_hash() == before
        return True

    assert not refused(bound=110, hold=1550)
    assert refused(bound=109, hold=1550)
    assert refused(bound=110, hold=1549)
    assert not refused()
