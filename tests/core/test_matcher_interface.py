"""Matcher.process() as Python sees it: arrays, numbering, room, threads, memory."""

import threading
from typing import Any

import numpy as np
import pytest

from matchbox.core.instrument import market_record
from matchbox.core.matcher import LEVEL, ORDER, Matcher
from matchbox.shm.errors import BadArgument
from matchbox.shm.records import COMMAND, EVENT, EventKind
from tests.core.flows import cancel, commands, new


@pytest.fixture
def matcher() -> Matcher:
    return Matcher([market_record(1, max_orders=1000)])


def sweep(makers: int) -> Any:
    """`makers` orders of one lot at as many prices, then one order that takes them all."""
    asks = [new("sell", 1, 1000 + i) for i in range(makers)]
    return commands(*asks, new("buy", makers + 5, 1000 + makers))


def test_no_commands_give_no_events(matcher: Matcher) -> None:
    events = matcher.process(commands())
    assert (len(events), events.dtype) == (0, EVENT)
    assert matcher.process(commands(), np.empty(3, EVENT)).size == 0
    assert matcher.consumed == 0


def test_out_is_filled_in_place(matcher: Matcher) -> None:
    out = np.zeros(10, EVENT)
    events = matcher.process(commands(new("buy", 1, 5), new("sell", 1, 5)), out)
    assert np.shares_memory(events, out)
    assert events["kind"].tolist() == [EventKind.ACCEPTED, EventKind.ACCEPTED, EventKind.TRADE]
    assert matcher.consumed == 2
    assert (out[3:]["sequence"] == 0).all()


def test_an_out_without_room_takes_nothing(matcher: Matcher) -> None:
    before = matcher.state_hash()
    assert len(matcher.process(commands(new("buy", 1, 5)), np.empty(0, EVENT))) == 0
    assert (matcher.consumed, matcher.sequence) == (0, 0)
    assert matcher.state_hash() == before


def test_a_sweep_that_fills_the_room_goes_on_in_the_next_call(matcher: Matcher) -> None:
    batch = sweep(500)
    whole = Matcher([market_record(1, max_orders=1000)]).process(batch)
    first = matcher.process(batch, np.empty(700, EVENT)).copy()
    assert matcher.consumed == 500
    with pytest.raises(BadArgument, match="under way"):
        matcher.validate()
    rest = matcher.process(batch[500:], np.empty(700, EVENT))
    assert matcher.consumed == 1
    assert np.concatenate([first, rest]).tobytes() == whole.tobytes()
    matcher.validate()


def test_another_command_cannot_go_before_one_under_way(matcher: Matcher) -> None:
    batch = sweep(5)
    matcher.process(batch, np.empty(7, EVENT))
    other = commands(new("buy", 1, 1) | {"sequence": 77})
    with pytest.raises(BadArgument, match="another command is under way: sequence=77, under_way=6"):
        matcher.process(other, np.empty(7, EVENT))
    batch[5]["sequence"] = 6
    assert len(matcher.process(batch[5:])) == 5


def test_results_without_out_hold_every_event_of_a_large_sweep() -> None:
    matcher = Matcher([market_record(1, max_orders=5001)])
    events = matcher.process(sweep(5000))
    assert len(events) == 5000 + 1 + 5000 + 1
    assert matcher.consumed == 5001


def test_sequences_are_the_caller_s_or_one_more_than_the_last(matcher: Matcher) -> None:
    batch = commands(*[new("buy", 1, 5)] * 4)
    batch["sequence"] = [0, 10, 0, 2**63]
    assert matcher.process(batch)["order_id"].tolist() == [1, 10, 11, 2**63]
    assert matcher.sequence == 2**63


@pytest.mark.parametrize("sequences", [[5, 5], [5, 4], [2**64 - 1, 0]])
def test_a_sequence_not_above_the_last_raises_before_anything_happens(
    matcher: Matcher, sequences: list[int]
) -> None:
    batch = commands(*[new("buy", 1, 5)] * 2)
    batch["sequence"] = sequences
    before = matcher.state_hash()
    with pytest.raises(BadArgument, match="sequence not above the last: index=1"):
        matcher.process(batch)
    assert (matcher.state_hash(), matcher.sequence) == (before, 0)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros(3, EVENT),
        np.zeros(3, np.uint8),
        np.zeros((2, 2), COMMAND),
        np.zeros(6, COMMAND)[::2],
        np.zeros(129, np.uint8)[1:].view(COMMAND),
        [1, 2],
        None,
    ],
)
def test_commands_of_another_dtype_or_shape_raise(matcher: Matcher, bad: Any) -> None:
    with pytest.raises(BadArgument, match="commands must"):
        matcher.process(bad)


@pytest.mark.parametrize(
    "bad", [np.zeros(3, COMMAND), np.zeros((2, 2), EVENT), np.zeros(6, EVENT)[::2], [1]]
)
def test_out_of_another_dtype_or_shape_raises(matcher: Matcher, bad: Any) -> None:
    with pytest.raises(BadArgument, match="out must"):
        matcher.process(commands(new("buy", 1, 5)), bad)


def test_read_only_commands_are_fine_and_a_read_only_out_is_not(matcher: Matcher) -> None:
    batch, out = commands(new("buy", 1, 5)), np.empty(2, EVENT)
    batch.setflags(write=False)
    assert len(matcher.process(batch)) == 1
    out.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        matcher.process(batch, out)


def test_events_keep_their_layout_when_they_are_copied(matcher: Matcher) -> None:
    events = matcher.process(commands(*[new("buy", 1, 5)] * 3))
    for copy in (events.copy(), np.concatenate([events, events]), events[events["kind"] == 1]):
        assert copy.dtype == EVENT
        assert copy[:3].tobytes() == events.view(np.uint8).tobytes()


def test_markets_have_books_and_trade_numbers_of_their_own() -> None:
    matcher = Matcher([market_record(n, max_orders=10) for n in (3, 1, 2**32 - 1)])
    assert matcher.markets == [1, 3, 2**32 - 1]
    for market in matcher.markets:
        batch = commands(new("sell", 1, 5, market=market), new("buy", 1, 5, market=market))
        assert matcher.process(batch)[-1]["trade_id"] == 1
    batch = commands(new("sell", 1, 5, market=1), cancel(7, market=3), cancel(7, market=1))
    kinds = matcher.process(batch)["kind"].tolist()
    assert kinds == [EventKind.ACCEPTED, EventKind.REJECTED, EventKind.CANCELED]


def test_many_markets_are_found() -> None:
    numbers = range(1, 400, 3)
    matcher = Matcher([market_record(n, max_orders=2) for n in numbers])
    batch = commands(*[new("buy", 1, 5, market=n) for n in range(1, 400)])
    accepted = matcher.process(batch)["kind"] == EventKind.ACCEPTED
    assert (np.flatnonzero(accepted) + 1).tolist() == list(numbers)
    matcher.validate()


def test_a_market_number_is_taken_once(matcher: Matcher) -> None:
    with pytest.raises(BadArgument, match="market=1"):
        matcher.add_market(market_record(1))
    bad = market_record(2)
    bad["max_orders"] = 0
    with pytest.raises(BadArgument, match="not a market that can be run"):
        matcher.add_market(bad)


def test_looking_at_an_unknown_market_raises(matcher: Matcher) -> None:
    for look in (matcher.depth, matcher.orders, matcher.memory, matcher.state_hash):
        with pytest.raises(BadArgument, match="no such market: market=2"):
            look(2)


def test_depth_and_orders_are_arrays_best_first(matcher: Matcher) -> None:
    matcher.process(
        commands(new("buy", 1, 5, account=9), new("buy", 2, 6), new("buy", 3, 6), new("sell", 4, 7))
    )
    bids, asks = matcher.depth(1, levels=1)
    assert (bids.dtype, bids.tolist(), asks.tolist()) == (LEVEL, [(6, 5)], [(7, 4)])
    orders = matcher.orders(1)
    assert orders.dtype == ORDER
    assert orders["order_id"].tolist() == [2, 3, 1, 4]
    assert orders["account"].tolist() == [0, 0, 9, 0]
    assert orders["side"].tolist() == [1, 1, 1, 2]


def test_two_threads_cannot_use_one_matcher_at_once_but_two_matchers_run_side_by_side() -> None:
    from tests.core.flows import Flow

    batch = Flow(5, middle=1000, width=30).take(2000)
    batch["sequence"] = 0
    matchers = [Matcher([market_record(1, max_orders=1000)]) for _ in range(2)]
    threads = [
        threading.Thread(target=lambda m=m: [m.process(batch) for _ in range(20)]) for m in matchers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert matchers[0].state_hash() == matchers[1].state_hash()
    matchers[0].validate()


def add(prices: Any, side: str = "buy") -> Any:
    """An array of one new order of one lot for each price."""
    batch = commands(new(side, 1, 1)).repeat(len(prices))
    batch["price_ticks"] = prices
    return batch


def random_prices(count: int) -> Any:
    return np.random.default_rng(7).integers(1, 2**40, count)


def far_pairs(count: int) -> Any:
    """Pairs of adjacent prices, the pairs far apart: as many nodes as a price tree can need."""
    pairs = (
        np.unique(np.random.default_rng(7).integers(1, 2**39, count // 2 + count // 100))[
            : count // 2
        ]
        * 2
    )
    return np.stack([pairs, pairs + 1], axis=1).reshape(-1)


DISTRIBUTIONS = {
    "random over 2^40": random_prices,
    "far pairs": far_pairs,
    "one level": lambda count: np.full(count, 12345),
    "dense": lambda count: 1 + np.arange(count),
    "one order a block of 16": lambda count: 1 + 16 * np.arange(count),
}


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_a_million_resting_orders_take_at_most_192_bytes_each(distribution: str) -> None:
    count = 1_000_000
    matcher = Matcher([market_record(1, max_orders=count)])
    prices = DISTRIBUTIONS[distribution](count)
    out = np.empty(1 << 16, EVENT)
    batch = add(prices)
    done = 0
    while done < count:
        assert (matcher.process(batch[done:], out)["kind"] == EventKind.ACCEPTED).all()
        done += matcher.consumed
    assert matcher.memory(1) / count <= 192
    matcher.validate()
    best = matcher.depth(1, 1)[0]["price_ticks"][0]
    assert best == prices.max()


def test_consecutive_ids_that_meet_old_ones_after_a_wrap_stay_cheap_and_right() -> None:
    """Old orders stay, a million ids pass; each is found, none of the old ones is lost."""
    matcher = Matcher([market_record(1, max_orders=1024)])
    matcher.process(add(np.full(500, 10)))
    passing = commands(new("buy", 1, 5), cancel(0))
    batch = np.tile(passing, 2000)
    for _ in range(50):
        start = matcher.sequence
        batch[1::2]["order_id"] = start + 1 + 2 * np.arange(2000)
        kinds = matcher.process(batch)["kind"]
        assert (kinds[1::2] == EventKind.CANCELED).all()
    assert len(matcher.orders(1)) == 500
    matcher.validate()
