"""Every trading rule, one by one, as the events say it."""

from typing import Any

import pytest

from matchbox.shm.reasons import Reason
from matchbox.shm.records import EventFlag, EventKind, Flag
from tests.core.flows import amend, cancel, new
from tests.core.market import Exchange, resting


@pytest.fixture
def exchange() -> Exchange:
    return Exchange()


# ---- new orders


def test_an_order_that_does_not_cross_rests(exchange: Exchange) -> None:
    assert exchange.send(new("buy", 7, 100, account=3)) == [
        {
            "sequence": 1,
            "order_id": 1,
            "price_ticks": 100,
            "quantity_lots": 7,
            "leaves_lots": 7,
            "level_lots": 7,
            "market": 1,
            "account": 3,
            "kind": EventKind.ACCEPTED,
            "side": 1,
            "flags": EventFlag.RESTING | EventFlag.LAST,
        }
    ]


def test_the_level_s_total_counts_everybody_at_the_price() -> None:
    exchange = resting(("buy", 7, 100), ("buy", 5, 99))
    assert exchange.send(new("buy", 4, 100))[0]["level_lots"] == 11
    assert exchange.depth() == ([(100, 11), (99, 5)], [])


def test_a_fill_is_at_the_maker_s_price_and_names_both_sides() -> None:
    exchange = resting(("sell", 10, 100))
    accepted, trade = exchange.send(new("buy", 4, 105, account=9))
    assert "level_lots" not in accepted
    assert accepted["leaves_lots"] == 4
    assert "flags" not in accepted
    assert trade == {
        "sequence": 2,
        "order_id": 2,
        "maker_order_id": 1,
        "trade_id": 1,
        "price_ticks": 100,
        "quantity_lots": 4,
        "cumulative_lots": 4,
        "maker_leaves_lots": 6,
        "maker_cumulative_lots": 4,
        "level_lots": 6,
        "index": 1,
        "market": 1,
        "account": 9,
        "kind": EventKind.TRADE,
        "side": 1,
        "flags": EventFlag.LAST,
    }


def test_better_prices_trade_first_then_older_orders() -> None:
    exchange = resting(("sell", 1, 102), ("sell", 1, 101), ("sell", 1, 100), ("sell", 1, 101))
    events = exchange.send(new("buy", 4, 102))
    assert [e["maker_order_id"] for e in events[1:]] == [3, 2, 4, 1]
    exchange = resting(("buy", 1, 98), ("buy", 1, 99), ("buy", 1, 99))
    events = exchange.send(new("sell", 3, 98))
    assert [e["maker_order_id"] for e in events[1:]] == [2, 3, 1]


def test_what_is_left_of_a_limit_order_rests_at_its_own_price() -> None:
    exchange = resting(("sell", 3, 100))
    events = exchange.send(new("buy", 10, 101))
    assert [EventKind(e["kind"]).name for e in events] == ["ACCEPTED", "TRADE", "RESTED"]
    rested = events[-1]
    assert (rested["price_ticks"], rested["leaves_lots"], rested["cumulative_lots"]) == (101, 7, 3)
    assert (rested["quantity_lots"], rested["level_lots"]) == (10, 7)
    assert rested["flags"] == EventFlag.LAST
    assert [e.get("index", 0) for e in events] == [0, 1, 2]
    assert exchange.depth() == ([(101, 7)], [])


def test_trades_are_numbered_in_their_market_from_one() -> None:
    exchange = resting(("sell", 1, 100), ("sell", 1, 100))
    events = exchange.send(new("buy", 2, 100))
    assert [e["trade_id"] for e in events[1:]] == [1, 2]


def test_an_ioc_order_never_rests() -> None:
    exchange = resting(("sell", 3, 100))
    accepted, trade, expired = exchange.send(new("buy", 10, 100, "IOC"))
    assert expired["kind"] == EventKind.EXPIRED
    assert (expired["quantity_lots"], expired["cumulative_lots"]) == (7, 3)
    assert (expired["price_ticks"], expired["reason"]) == (100, Reason.NO_LIQUIDITY)
    assert "leaves_lots" not in expired
    assert exchange.depth() == ([], [])


def test_an_ioc_order_that_matches_nothing_expires_whole() -> None:
    exchange = resting(("sell", 3, 100))
    assert exchange.kinds(new("buy", 10, 99, "IOC")) == ["ACCEPTED", "EXPIRED"]


def test_an_ioc_order_that_is_filled_whole_does_not_expire() -> None:
    exchange = resting(("sell", 3, 100))
    assert exchange.kinds(new("buy", 3, 100, "IOC")) == ["ACCEPTED", "TRADE"]


@pytest.mark.parametrize("price", [101, None])
def test_a_fok_order_is_filled_whole_or_refused(price: int | None) -> None:
    exchange = resting(("sell", 3, 100), ("sell", 3, 101), ("sell", 3, 102))
    limit = 6 if price else 9
    before = exchange.matcher.state_hash()
    (rejected,) = exchange.send(new("buy", limit + 1, price, "FOK"))
    assert (rejected["kind"], rejected["reason"]) == (EventKind.REJECTED, Reason.NOT_FILLABLE)
    assert exchange.matcher.state_hash() == before
    events = exchange.send(new("buy", limit, price, "FOK"))
    assert sum(e["quantity_lots"] for e in events[1:]) == limit
    assert events[-1]["kind"] == EventKind.TRADE


def test_a_fok_order_on_an_empty_book_is_refused(exchange: Exchange) -> None:
    assert exchange.kinds(new("sell", 1, None, "FOK")) == ["REJECTED"]


def test_a_market_order_takes_any_price_and_the_rest_expires() -> None:
    exchange = resting(("sell", 1, 1), ("sell", 1, 2**40 - 1))
    events = exchange.send(new("buy", 3, None, "IOC"))
    assert [e.get("price_ticks", 0) for e in events] == [0, 1, 2**40 - 1, 0]
    assert events[-1]["kind"] == EventKind.EXPIRED
    exchange = resting(("buy", 1, 1), ("buy", 1, 2**40 - 1))
    events = exchange.send(new("sell", 2, None, "IOC"))
    assert [e.get("price_ticks", 0) for e in events] == [0, 2**40 - 1, 1]


def test_a_post_only_order_rests_or_is_refused() -> None:
    exchange = resting(("sell", 3, 100))
    (rejected,) = exchange.send(new("buy", 1, 100, flags=Flag.POST_ONLY))
    assert rejected["reason"] == Reason.WOULD_TAKE
    assert exchange.kinds(new("buy", 1, 99, flags=Flag.POST_ONLY)) == ["ACCEPTED"]
    assert exchange.depth() == ([(99, 1)], [(100, 3)])


def test_a_full_book_refuses_orders_that_could_rest_and_takes_others() -> None:
    exchange = Exchange(max_orders=2)
    exchange.send(new("sell", 5, 100))
    exchange.send(new("sell", 5, 101))
    (rejected,) = exchange.send(new("buy", 1, 100))
    assert rejected["reason"] == Reason.TOO_MANY_ORDERS
    assert exchange.kinds(new("buy", 5, 100, "IOC")) == ["ACCEPTED", "TRADE"]
    assert exchange.kinds(new("buy", 1, 99)) == ["ACCEPTED"]


# ---- cancels


def test_a_cancel_says_what_was_open_and_what_is_left_at_the_level() -> None:
    exchange = resting(("sell", 10, 100), ("sell", 2, 100))
    exchange.send(new("buy", 4, 100))
    assert exchange.send(cancel(1, account=8)) == [
        {
            "sequence": 4,
            "order_id": 1,
            "price_ticks": 100,
            "quantity_lots": 6,
            "cumulative_lots": 4,
            "level_lots": 2,
            "market": 1,
            "reason": Reason.ON_REQUEST,
            "kind": EventKind.CANCELED,
            "side": 2,
            "flags": EventFlag.RESTING | EventFlag.LAST,
        }
    ]


@pytest.mark.parametrize("change", [cancel(1), amend(1, 99), cancel(0), amend(2**64 - 1, 99)])
def test_an_order_that_is_gone_or_never_was_is_unknown(change: dict[str, Any]) -> None:
    exchange = resting(("sell", 3, 100))
    exchange.send(new("buy", 3, 100))
    (rejected,) = exchange.send(change)
    assert rejected["reason"] == Reason.UNKNOWN_ORDER
    assert rejected.get("order_id", 0) == change["order_id"]


# ---- amends


def test_a_smaller_quantity_keeps_the_place() -> None:
    exchange = resting(("buy", 10, 100), ("buy", 5, 100))
    assert exchange.send(amend(1, quantity=4)) == [
        {
            "sequence": 3,
            "order_id": 1,
            "price_ticks": 100,
            "quantity_lots": 4,
            "leaves_lots": 4,
            "level_lots": 9,
            "previous_price_ticks": 100,
            "previous_level_lots": 5,
            "market": 1,
            "kind": EventKind.AMENDED,
            "side": 1,
            "flags": EventFlag.RESTING | EventFlag.LAST,
        }
    ]
    assert exchange.queue(100) == [1, 2]


def test_an_amend_that_changes_nothing_is_accepted_and_keeps_the_place() -> None:
    exchange = resting(("buy", 10, 100), ("buy", 5, 100))
    assert exchange.kinds(amend(1, 100, 10)) == ["AMENDED"]
    assert exchange.queue(100) == [1, 2]


@pytest.mark.parametrize(
    "change",
    [
        amend(1, quantity=11),
        amend(1, quantity=10, flags=Flag.REQUEUE),
        amend(1, 100, flags=Flag.REQUEUE),
    ],
)
def test_a_larger_quantity_or_the_flag_gives_up_the_place(change: dict[str, Any]) -> None:
    exchange = resting(("buy", 10, 100), ("buy", 5, 100))
    (amended,) = exchange.send(change)
    assert exchange.queue(100) == [2, 1]
    assert amended["previous_level_lots"] == 5
    assert amended["level_lots"] == 5 + amended["leaves_lots"]
    assert amended["flags"] == EventFlag.RESTING | EventFlag.LAST


def test_another_price_gives_up_the_place() -> None:
    exchange = resting(("buy", 10, 100), ("buy", 5, 100), ("buy", 1, 99))
    (amended,) = exchange.send(amend(1, 99))
    assert exchange.queue(99) == [3, 1]
    assert (amended["previous_price_ticks"], amended["previous_level_lots"]) == (100, 5)
    assert (amended["price_ticks"], amended["level_lots"]) == (99, 11)
    assert (amended["quantity_lots"], amended["leaves_lots"]) == (10, 10)


def test_an_amended_order_alone_at_its_level_leaves_nothing_behind() -> None:
    exchange = resting(("buy", 10, 100))
    (amended,) = exchange.send(amend(1, 101))
    assert "previous_level_lots" not in amended
    assert exchange.depth() == ([(101, 10)], [])


def test_an_amended_price_that_crosses_takes_and_the_rest_rests() -> None:
    exchange = resting(("buy", 10, 99), ("sell", 4, 100))
    events = exchange.send(amend(1, 100))
    assert [EventKind(e["kind"]).name for e in events] == ["AMENDED", "TRADE", "RESTED"]
    assert events[0]["previous_price_ticks"] == 99
    assert "level_lots" not in events[0]
    assert "flags" not in events[0]
    assert (events[1]["order_id"], events[1]["maker_order_id"]) == (1, 2)
    assert (events[2]["leaves_lots"], events[2]["level_lots"], events[2]["quantity_lots"]) == (
        6,
        6,
        10,
    )
    assert exchange.kinds(cancel(1)) == ["CANCELED"]


def test_an_amended_order_that_is_filled_whole_is_gone() -> None:
    exchange = resting(("buy", 3, 99), ("sell", 4, 100))
    assert exchange.kinds(amend(1, 100)) == ["AMENDED", "TRADE"]
    assert exchange.kinds(cancel(1)) == ["REJECTED"]
    assert exchange.depth() == ([], [(100, 1)])


def test_the_quantity_of_an_amend_is_the_order_s_total() -> None:
    exchange = resting(("buy", 10, 100))
    exchange.send(new("sell", 4, 100))
    (amended,) = exchange.send(amend(1, quantity=9))
    assert (amended["quantity_lots"], amended["leaves_lots"], amended["cumulative_lots"]) == (
        9,
        5,
        4,
    )


def test_with_the_flag_it_is_what_remains_open() -> None:
    exchange = resting(("buy", 10, 100))
    exchange.send(new("sell", 4, 100))
    (amended,) = exchange.send(amend(1, quantity=5, flags=Flag.TO_OPEN))
    assert (amended["quantity_lots"], amended["leaves_lots"], amended["cumulative_lots"]) == (
        9,
        5,
        4,
    )


@pytest.mark.parametrize("quantity", [4, 3])
def test_a_total_that_is_filled_already_is_refused(quantity: int) -> None:
    exchange = resting(("buy", 10, 100))
    exchange.send(new("sell", 4, 100))
    before = exchange.matcher.state_hash()
    (rejected,) = exchange.send(amend(1, quantity=quantity))
    assert rejected["reason"] == Reason.BELOW_FILLED
    assert exchange.matcher.state_hash() == before


def test_an_amended_total_stays_within_the_market_s_limits() -> None:
    exchange = Exchange(min_quantity_lots=3, max_quantity_lots=20)
    exchange.send(new("buy", 20, 100))
    (rejected,) = exchange.send(amend(1, quantity=2, flags=Flag.TO_OPEN))
    assert rejected["reason"] == Reason.BAD_QUANTITY
    exchange.send(new("sell", 4, 100))
    (rejected,) = exchange.send(amend(1, quantity=17, flags=Flag.TO_OPEN))
    assert rejected["reason"] == Reason.BAD_QUANTITY
    assert exchange.kinds(amend(1, quantity=16, flags=Flag.TO_OPEN)) == ["AMENDED"]
    assert exchange.kinds(amend(1, quantity=1, flags=Flag.TO_OPEN)) == ["AMENDED"]


def test_an_amended_notional_stays_within_64_bits() -> None:
    exchange = Exchange(notional_units=2**40)
    exchange.send(new("buy", 2**13, 2**9))
    (rejected,) = exchange.send(amend(1, 2**10))
    assert rejected["reason"] == Reason.NOTIONAL_OVERFLOW
    assert exchange.kinds(amend(1, 2**10 - 1)) == ["AMENDED"]


def test_an_amended_order_keeps_its_id_account_and_fills() -> None:
    exchange = resting(("buy", 5, 99))
    exchange.send(new("sell", 2, 99))
    exchange.send(amend(1, 98, 9, account=5))
    (order,) = exchange.matcher.orders(1)
    assert order.tolist() == (1, 98, 7, 2, 0, 1, 0)


# ---- state


def test_levels_far_apart_and_levels_side_by_side_are_found_in_order(exchange: Exchange) -> None:
    prices = [1, 2, 15, 16, 17, 255, 256, 4095, 4096, 2**20, 2**30, 2**39, 2**40 - 2]
    for price in prices:
        exchange.send(new("buy", 1, price))
    exchange.send(new("sell", 1, 2**40 - 1))
    bids, asks = exchange.matcher.depth(1, levels=100)
    assert bids["price_ticks"].tolist() == prices[::-1]
    assert asks["price_ticks"].tolist() == [2**40 - 1]
    events = exchange.send(new("sell", 13, 1))
    assert [e["price_ticks"] for e in events[1:]] == prices[::-1]


def test_the_state_hash_sees_quantity_queue_order_account_and_trades() -> None:
    def state(*sent: dict[str, Any]) -> int:
        exchange = Exchange()
        for command in sent:
            exchange.send(command)
        return exchange.matcher.state_hash()

    first, second = new("buy", 2, 100), new("buy", 2, 100)
    requeued = (first, second, amend(1, 100, flags=Flag.REQUEUE))
    different = [
        state(),
        state(first),
        state(first, second),
        state(*requeued),
        state(first | {"account": 2}, second),
        state(first, amend(1, 101)),
        state(first, new("sell", 1, 100)),
        state(new("buy", 1, 100)),
        state(first, new("sell", 2, 100)),
    ]
    assert len(set(different)) == len(different)


def test_the_state_hash_does_not_see_where_things_lie_in_memory() -> None:
    straight, detour = Exchange(), Exchange()
    for price in (100, 101, 102):
        straight.send(new("buy", 1, price, sequence=price))
    for sequence, price in ((1, 50), (2, 51), (3, 52)):
        detour.send(new("buy", 1, price, sequence=sequence))
    for order_id in (2, 1, 3):
        detour.send(cancel(order_id))
    for price in (100, 101, 102):
        detour.send(new("buy", 1, price, sequence=price))
    assert straight.matcher.state_hash() == detour.matcher.state_hash()
