"""Orders that wait for a trigger: when they are reached, in which order, and what then."""

from typing import Any

import numpy as np
import pytest

from matchbox.core.instrument import market_record
from matchbox.core.matcher import Matcher
from matchbox.shm.reasons import Reason
from matchbox.shm.records import EVENT, EventFlag, OrderType, SelfTrade, TimeInForce
from tests.core.flows import amend, cancel, commands, new, rules, terms, waiting
from tests.core.market import Exchange, last
from tests.reference.book import FIELDS, ReferenceMatcher


@pytest.fixture
def exchange() -> Exchange:
    """The last price is 100; nothing rests near it. The next order is number 3."""
    exchange = Exchange()
    exchange.trade_at(100)
    return exchange


def stop(side: str, quantity: int, trigger: int, price: int | None = None, **others: Any) -> Any:
    return waiting("stop_loss", side, quantity, price, trigger, **others)


def profit(side: str, quantity: int, trigger: int, price: int | None = None, **others: Any) -> Any:
    return waiting("take_profit", side, quantity, price, trigger, **others)


# ---- waiting


def test_an_order_with_a_trigger_is_accepted_and_waits_unseen(exchange: Exchange) -> None:
    assert exchange.send(stop("buy", 5, 110, 112, account=3)) == [
        {
            "sequence": 3,
            "order_id": 3,
            "price_ticks": 112,
            "quantity_lots": 5,
            "leaves_lots": 5,
            "market": 1,
            "account": 3,
            "kind": 1,
            "side": 1,
            "flags": EventFlag.WAITING | EventFlag.LAST,
        }
    ]
    assert exchange.depth() == ([], [])
    (row,) = exchange.matcher.waiting(1)
    assert (row["order_id"], row["trigger_ticks"], row["price_ticks"]) == (3, 110, 112)
    assert (row["order_type"], row["account"]) == (OrderType.STOP_LOSS_LIMIT, 3)


@pytest.mark.parametrize(
    ("order", "waits"),
    [
        (stop("buy", 1, 101), True),
        (stop("buy", 1, 100), False),
        (stop("sell", 1, 99), True),
        (stop("sell", 1, 100), False),
        (profit("buy", 1, 99), True),
        (profit("buy", 1, 100), False),
        (profit("sell", 1, 101), True),
        (profit("sell", 1, 100), False),
    ],
)
def test_a_trigger_that_is_reached_already_is_refused(
    exchange: Exchange, order: dict[str, Any], waits: bool
) -> None:
    (event,) = exchange.send(order)
    assert event.get("reason", 0) == (0 if waits else Reason.WOULD_TRIGGER)
    assert exchange.waiting() == ([3] if waits else [])


def test_without_a_last_price_nothing_is_reached() -> None:
    exchange = Exchange()
    exchange.send(stop("buy", 1, 1), stop("sell", 1, 1000))
    assert exchange.waiting() == [1, 2]


def test_a_reference_price_counts_as_the_last_price_but_triggers_nothing() -> None:
    exchange = Exchange()
    exchange.send(stop("buy", 1, 110))
    assert exchange.send(rules(reference_ticks=120)) == []
    assert exchange.matcher.last_price(1) == 120
    assert exchange.waiting() == [1]
    (refused,) = exchange.send(stop("buy", 1, 115))
    assert refused["reason"] == Reason.WOULD_TRIGGER


def test_a_waiting_order_can_be_canceled_but_not_amended(exchange: Exchange) -> None:
    exchange.send(stop("sell", 5, 90, 88, account=4))
    (refused,) = exchange.send(amend(3, 80))
    assert refused["reason"] == Reason.CANNOT_AMEND
    assert exchange.send(cancel(3, cancel_reason=Reason.GTD_EXPIRED)) == [
        {
            "sequence": 5,
            "order_id": 3,
            "price_ticks": 88,
            "quantity_lots": 5,
            "market": 1,
            "account": 4,
            "reason": Reason.GTD_EXPIRED,
            "kind": 5,
            "side": 2,
            "flags": EventFlag.LAST,
        }
    ]
    assert exchange.waiting() == []
    assert exchange.kinds(cancel(3)) == ["REJECTED"]


def test_waiting_orders_count_as_open_ones() -> None:
    exchange = Exchange(max_orders=2)
    exchange.send(stop("buy", 1, 110), new("buy", 1, 90))
    for order in (stop("buy", 1, 110), new("buy", 1, 90)):
        (refused,) = exchange.send(order)
        assert refused["reason"] == Reason.TOO_MANY_ORDERS


# ---- triggering


def test_a_fill_at_the_trigger_price_makes_it_a_taker(exchange: Exchange) -> None:
    exchange.send(new("sell", 5, 112), stop("buy", 7, 110, 115, account=3))
    events = exchange.trade_at(110)
    assert events[2:] == [
        {
            "sequence": 6,
            "order_id": 4,
            "price_ticks": 115,
            "quantity_lots": 7,
            "leaves_lots": 7,
            "index": 2,
            "market": 1,
            "account": 3,
            "kind": 8,
            "side": 1,
        },
        events[3],
        events[4],
    ]
    assert [e["kind"] for e in events] == [1, 3, 8, 3, 4]
    assert last(events) == [False] * 4 + [True]
    assert (events[4]["price_ticks"], events[4]["leaves_lots"]) == (115, 2)
    assert exchange.matcher.last_price(1) == 112


def test_a_fill_short_of_the_trigger_does_not(exchange: Exchange) -> None:
    exchange.send(stop("buy", 7, 110))
    assert len(exchange.trade_at(109)) == 2
    assert exchange.waiting() == [3]


def test_a_triggered_market_order_trades_up_to_its_bound_within_its_budget(
    exchange: Exchange,
) -> None:
    exchange.send(new("sell", 5, 112), new("sell", 5, 113), new("sell", 5, 130))
    order = stop("buy", 20, 110, price_ticks=120, hold=5 * 112 + 3 * 113)
    assert exchange.story(order, new("sell", 1, 110), new("buy", 1, 110))[4:] == [
        ("TRIGGERED", 6, 20),
        ("TRADE", 6, 5, 112, 3),
        ("TRADE", 6, 3, 113, 4),
        ("EXPIRED", 6, 12, "BUDGET_SPENT"),
    ]
    order = stop("buy", 20, 122, price_ticks=129)
    assert exchange.story(order, new("sell", 9, 122), new("buy", 20, 125, "IOC"))[-3:-1] == [
        ("EXPIRED", 11, 9, "NO_LIQUIDITY"),
        ("TRIGGERED", 9, 20),
    ]


def test_a_triggered_limit_order_that_meets_nothing_rests_behind_what_stands_there(
    exchange: Exchange,
) -> None:
    exchange.send(stop("sell", 5, 95, 96), new("sell", 1, 96))
    assert exchange.story(new("buy", 1, 95), new("sell", 1, 95))[-2:] == [
        ("TRIGGERED", 3, 5),
        ("RESTED", 3, 5),
    ]
    assert exchange.queue(96) == [4, 3]


@pytest.mark.parametrize(
    ("tif", "end"),
    [
        ("IOC", [("TRADE", 3, 5, 112, 4), ("EXPIRED", 3, 2, "NO_LIQUIDITY")]),
        ("FOK", [("EXPIRED", 3, 7, "NOT_FILLABLE")]),
    ],
)
def test_its_time_in_force_holds_when_it_is_triggered(
    exchange: Exchange, tif: str, end: list[Any]
) -> None:
    exchange.send(stop("buy", 7, 110, 115, time_in_force=TimeInForce[tif]), new("sell", 5, 112))
    exchange.send(new("sell", 1, 110))
    assert exchange.story(new("buy", 1, 110))[2:] == [("TRIGGERED", 3, 7), *end]


def test_a_triggered_iceberg_shows_a_slice_and_mode_and_fees_stay(exchange: Exchange) -> None:
    exchange.send(
        terms(2),
        stop(
            "buy", 9, 110, 115, account=5, self_trade=SelfTrade.EXPIRE_MAKER, taker_fee_ppm=30_000
        ),
        new("sell", 1, 111, account=5),
        new("sell", 100, 112, account=6),
    )
    exchange.send(cancel(6), new("sell", 2, 112, account=6))
    events = exchange.trade_at(110)
    assert [e["kind"] for e in events] == [1, 3, 8, 6, 3, 4]
    assert events[4]["fee"] == 1
    assert (events[5]["leaves_lots"], events[5]["level_lots"]) == (7, 2)


# ---- the order of triggering


def triggered(events: list[dict[str, Any]]) -> list[int]:
    return [e["order_id"] for e in events if e["kind"] == 8]


def test_rises_go_first_lowest_trigger_first_then_falls_highest_first_older_first(
    exchange: Exchange,
) -> None:
    # A reference in between lets both kinds wait at prices that one fill then reaches.
    exchange.send(
        profit("buy", 1, 99),  # 3: falls
        stop("sell", 1, 98),  # 4: falls
        profit("buy", 1, 99),  # 5: falls
        rules(reference_ticks=50),
        stop("buy", 1, 95),  # 7: rises
        profit("sell", 1, 60),  # 8: rises
        stop("buy", 1, 60),  # 9: rises
        stop("buy", 1, 97),  # 10: rises, not reached
    )
    assert triggered(exchange.trade_at(96)) == [8, 9, 7, 3, 5, 4]
    assert exchange.waiting() == [10]


def test_trailing_orders_go_last_older_first_whatever_their_distance(exchange: Exchange) -> None:
    exchange.send(
        stop("sell", 1, 0, trailing_bips=200),  # 3
        stop("sell", 1, 0, trailing_bips=100),  # 4
        stop("sell", 1, 97),  # 5
        stop("sell", 1, 0, trailing_bips=300),  # 6
        stop("sell", 1, 0, trailing_bips=100),  # 7
        stop("sell", 1, 98),  # 8
    )
    assert triggered(exchange.trade_at(97)) == [8, 5, 3, 4, 6, 7]


def test_the_taker_is_matched_to_its_end_before_anything_triggered(exchange: Exchange) -> None:
    exchange.send(new("sell", 1, 101), new("sell", 1, 103), stop("buy", 1, 101, 105))
    assert exchange.story(new("buy", 3, 104)) == [
        ("ACCEPTED", 6, 3),
        ("TRADE", 6, 1, 101, 3),
        ("TRADE", 6, 1, 103, 4),
        ("RESTED", 6, 3),
        ("TRIGGERED", 5, 1),
        ("RESTED", 5, 1),
    ]


def test_what_a_triggered_order_triggers_goes_behind_what_is_queued(exchange: Exchange) -> None:
    exchange.send(
        new("sell", 1, 101),
        new("sell", 1, 102),
        new("sell", 1, 103),
        stop("buy", 1, 102),  # 6: triggered by 7's fill
        stop("buy", 1, 101),  # 7
        stop("buy", 1, 101),  # 8
    )
    events = exchange.send(new("buy", 1, 101))
    assert triggered(events) == [7, 8, 6]
    assert [e["index"] for e in events[1:]] == list(range(1, len(events)))
    assert {e["sequence"] for e in events} == {9}
    assert last(events) == [False] * (len(events) - 1) + [True]


def test_fills_of_one_taker_queue_one_after_the_other(exchange: Exchange) -> None:
    exchange.send(new("sell", 1, 102), new("sell", 1, 104))
    exchange.send(
        stop("buy", 1, 103, 90),  # 5: reached by the second fill
        profit("buy", 1, 80, 80),  # 6
        stop("buy", 1, 102, 90),  # 7: by the first
        stop("buy", 1, 101, 90),  # 8: by the first
    )
    assert triggered(exchange.send(new("buy", 2, 104))) == [8, 7, 5]


# ---- trailing


def trail(side: str, bips: int, trigger: int = 0, price: int | None = 1, **others: Any) -> Any:
    return stop(side, 1, trigger, price, trailing_bips=bips, **others)


def best(exchange: Exchange) -> list[int]:
    return [int(b) for b in exchange.matcher.waiting(1)["best_ticks"]]


def test_a_trailing_sell_follows_the_price_up_and_triggers_on_the_way_down() -> None:
    exchange = Exchange()
    exchange.trade_at(10_000)
    exchange.send(trail("sell", 100))
    for price, kept in ((10_100, 10_100), (10_050, 10_100), (11_001, 11_001), (10_891, 11_001)):
        assert not triggered(exchange.trade_at(price))
        assert best(exchange) == [kept]
    # floor(11,001 * 99 / 100) = 10,890
    assert triggered(exchange.trade_at(10_890)) == [3]


def test_a_trailing_buy_follows_it_down_and_triggers_on_the_way_up() -> None:
    exchange = Exchange()
    exchange.trade_at(10_000)
    exchange.send(trail("buy", 100))
    for price, kept in ((9_900, 9_900), (9_950, 9_900), (9_001, 9_001), (9_091, 9_001)):
        assert not triggered(exchange.trade_at(price))
        assert best(exchange) == [kept]
    # ceil(9,001 * 101 / 100) = 9,092
    assert triggered(exchange.trade_at(9_092)) == [3]


def test_without_a_last_price_it_begins_with_the_first_trade() -> None:
    exchange = Exchange()
    exchange.send(trail("sell", 1000), rules(reference_ticks=5000), trail("sell", 1000))
    assert best(exchange) == [0, 5000]
    exchange.trade_at(1000)
    # The later one began at 5,000 and was triggered at 4,500.
    assert (exchange.waiting(), best(exchange)) == ([1], [1000])


def test_with_a_trigger_it_waits_for_that_and_does_not_queue_when_it_begins() -> None:
    exchange = Exchange()
    exchange.trade_at(1000)
    exchange.send(trail("sell", 100, trigger=900))
    exchange.trade_at(950)
    (row,) = exchange.matcher.waiting(1)
    assert (row["trails"], row["best_ticks"]) == (False, 0)
    assert not triggered(exchange.trade_at(890))
    assert best(exchange) == [890]
    assert triggered(exchange.trade_at(881)) == [3]


def test_a_trigger_that_is_reached_already_begins_at_once() -> None:
    exchange = Exchange()
    exchange.trade_at(1000)
    assert exchange.kinds(trail("sell", 100, trigger=1000)) == ["ACCEPTED"]
    assert best(exchange) == [1000]


def test_orders_that_meet_at_one_best_price_go_on_as_one_group_and_can_be_canceled() -> None:
    exchange = Exchange()
    exchange.trade_at(1000)
    exchange.send(trail("sell", 500))  # 3
    exchange.trade_at(990)
    exchange.send(trail("sell", 500))  # 6
    exchange.trade_at(980)
    exchange.send(trail("sell", 500))  # 9
    exchange.trade_at(985)
    assert best(exchange) == [1000, 990, 985]
    exchange.trade_at(1010)
    assert best(exchange) == [1010] * 3
    exchange.send(cancel(3), trail("sell", 500), cancel(9))
    assert triggered(exchange.trade_at(959)) == [6, 15]


def test_a_trailing_order_whose_distance_leads_below_all_prices_never_triggers() -> None:
    exchange = Exchange()
    exchange.trade_at(1)
    exchange.send(trail("sell", 2000))
    assert len(exchange.trade_at(1)) == 2
    assert exchange.waiting() == [3]


# ---- a lot of them


def cascade(seed: int, count: int) -> list[dict[str, Any]]:
    """`count` orders that one fill at 5,000 reaches, and a book for them to run through."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = [rules(reference_ticks=4000)]
    rows += [new("sell", 3, 5000 + int(p)) for p in rng.integers(1, 300, 200)]
    rows += [new("buy", 3, 4900 - int(p)) for p in rng.integers(1, 300, 200)]
    for place in range(count):
        if place == count // 2:
            rows.append(rules(reference_ticks=6000))
        shape = int(rng.integers(4))
        trigger = (
            int(rng.integers(4001, 5000)) if place < count // 2 else int(rng.integers(5001, 5900))
        )
        side = "buy" if (place < count // 2) == (shape % 2 == 0) else "sell"
        kind = "stop_loss" if shape % 2 == 0 else "take_profit"
        price = None if shape < 2 else int(rng.integers(4950, 5050))
        row = waiting(kind, side, int(rng.integers(1, 4)), price, trigger)
        if rng.random() < 0.4:
            row["trailing_bips"] = int(rng.integers(1, 30)) * 50
            row["trigger_ticks"] *= int(rng.random() < 0.3)
        rows.append(row)
    return [*rows, new("sell", 1, 5000), new("buy", 1, 5000)]


def test_a_cascade_longer_than_one_step_goes_on_and_agrees_with_the_reference(seed: int) -> None:
    batch = commands(*cascade(seed, 3000))
    definitions = [market_record(1, max_orders=8000)]
    whole = Matcher(definitions, max_specials=8000)
    slow = ReferenceMatcher(definitions)
    events = whole.process(batch)
    expected = [event for command in batch for event in slow.process(command)]
    assert [tuple(int(v) for v in row) for row in events[list(FIELDS)].tolist()] == expected
    assert whole.state_hash() == slow.state_hash()
    whole.validate()
    assert (events["kind"] == 8).sum() > 1500
    cut = Matcher(definitions, max_specials=8000)
    out, parts, done = np.empty(3, EVENT), bytearray(), 0
    while done < len(batch):
        parts += cut.process(batch[done:], out).tobytes()
        done += cut.consumed
    assert bytes(parts) == events.tobytes()


def test_any_sequence_of_trailing_orders_cancels_and_prices_agrees(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    price = 10_000
    ids: list[int] = []
    for _ in range(1500):
        draw = rng.random()
        if draw < 0.45:
            side = str(rng.choice(["buy", "sell"]))
            rows.append(trail(side, int(rng.choice([5, 50, 100, 500])), price=None))
            ids.append(len(rows))
        elif draw < 0.6 and ids:
            rows.append(cancel(ids.pop(int(rng.integers(len(ids))))))
        elif draw < 0.62:
            rows.append(rules(reference_ticks=int(price + rng.integers(-300, 300))))
        else:
            price += int(rng.normal() * 25)
            rows += [new("sell", 1, price), new("buy", 1, price)]
    definitions = [market_record(1, max_orders=2000)]
    fast = Matcher(definitions, max_specials=2000)
    slow = ReferenceMatcher(definitions, max_specials=2000)
    for start in range(0, len(rows), 50):
        batch = commands(*rows[start : start + 50])
        expected = [event for command in batch for event in slow.process(command)]
        events = fast.process(batch)
        assert [tuple(int(v) for v in row) for row in events[list(FIELDS)].tolist()] == expected
        fast.validate()
        assert fast.state_hash() == slow.state_hash()


def test_the_order_of_ids_and_not_of_memory_is_what_the_state_hash_sees() -> None:
    straight, detour = Exchange(), Exchange()
    sent = [trail("sell", 50, sequence=100), stop("buy", 1, 9, sequence=101)]
    straight.send(*sent)
    detour.send(
        stop("buy", 1, 9), trail("buy", 7), trail("sell", 50), cancel(3), cancel(1), cancel(2)
    )
    detour.send(*sent)
    assert straight.matcher.state_hash() == detour.matcher.state_hash()
    detour.send(cancel(100))
    assert straight.matcher.state_hash() != detour.matcher.state_hash()
