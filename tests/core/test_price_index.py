"""The price index against a sorted list: any prices, any order of operations."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from matchbox.core.price_index import BYTES_PER_LEVEL, PriceIndex
from matchbox.shm.errors import BadArgument

HIGHEST = 2**40 - 1
# Near each other, in one of a few far places, and anywhere: so all depths of the tree occur.
PRICES = st.one_of(
    st.integers(0, 40),
    st.builds(lambda place, near: (place << 33) + near, st.integers(0, 127), st.integers(0, 20)),
    st.integers(0, HIGHEST),
    st.builds(lambda bit: 1 << bit, st.integers(0, 39)),
)
CAPACITY = 40
# Bids and asks, and the sides of orders that wait: even ones begin with the highest price.
SIDES = range(6)


class IndexMachine(RuleBasedStateMachine):
    """Levels come and go; the index and a set say the same."""

    def __init__(self) -> None:
        super().__init__()
        self.index = PriceIndex(CAPACITY)
        self.levels: list[dict[int, int]] = [{} for _ in SIDES]

    def worst_last(self, side: int) -> list[int]:
        return sorted(self.levels[side], reverse=side % 2 == 0)

    @precondition(lambda self: len(self.index) < CAPACITY)
    @rule(side=st.sampled_from(SIDES), price=PRICES)
    def insert(self, side: int, price: int) -> None:
        number = self.index.insert(side, price)
        assert self.levels[side].setdefault(price, number) == number

    @precondition(lambda self: len(self.index) > 0)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        side = data.draw(st.sampled_from([s for s in SIDES if self.levels[s]]))
        price = data.draw(st.sampled_from(sorted(self.levels[side])))
        self.index.remove(side, price)
        del self.levels[side][price]

    @rule(side=st.sampled_from(SIDES), price=PRICES)
    def look(self, side: int, price: int) -> None:
        assert self.index.find(side, price) == self.levels[side].get(price, 0)
        worse = [p for p in self.worst_last(side) if (p < price if side % 2 == 0 else p > price)]
        assert self.index.after(side, price) == (worse[0] if worse else None)

    @invariant()
    def agree(self) -> None:
        self.index.validate()
        for side in SIDES:
            prices = self.worst_last(side)
            assert self.index.prices(side) == prices
            assert self.index.best(side) == (prices[0] if prices else None)


IndexMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
test_the_index_agrees_with_a_sorted_list = IndexMachine.TestCase


@given(prices=st.sets(PRICES, min_size=1, max_size=CAPACITY), side=st.sampled_from(SIDES))
@settings(max_examples=100, deadline=None)
def test_a_full_index_holds_any_set_of_prices(prices: set[int], side: int) -> None:
    index = PriceIndex(len(prices))
    for price in prices:
        index.insert(side, price)
    index.validate()
    assert index.prices(side) == sorted(prices, reverse=side % 2 == 0)
    for price in prices:
        index.remove(side, price)
    index.validate()
    assert len(index) == 0


def test_all_sides_share_the_levels() -> None:
    index = PriceIndex(3)
    for side, price in ((0, 5), (1, 5), (0, HIGHEST)):
        index.insert(side, price)
    assert (index.prices(0), index.prices(1)) == ([HIGHEST, 5], [5])
    with pytest.raises(BadArgument, match="no level left: capacity=3"):
        index.insert(1, 6)
    assert index.insert(1, 5) == index.find(1, 5)


def test_a_chain_as_deep_as_the_key_needs_no_more_nodes_than_levels() -> None:
    """Each price parts from the one before four bits later: the deepest tree there can be."""
    index = PriceIndex(11)
    price = 0
    for step in range(10):
        index.insert(1, price | 1 << 36 - 4 * step)
        price |= 2 << 36 - 4 * step
    index.validate()
    assert len(index) == 10


def test_memory_is_a_fixed_number_of_bytes_a_level() -> None:
    assert BYTES_PER_LEVEL == 112
    assert PriceIndex(1000).memory_bytes == 1001 * BYTES_PER_LEVEL


def test_long_random_runs_keep_every_invariant(seed: int) -> None:
    rng = random.Random(seed)
    for spread in (1 << 8, 1 << 20, 1 << 40):
        index, prices = PriceIndex(2000), (set[int](), set[int]())
        for step in range(15_000):
            side, price = rng.randrange(2), rng.randrange(spread)
            if price in prices[side]:
                index.remove(side, price)
                prices[side].discard(price)
            elif len(index) < 2000 and (step // 3000 % 2 == 0 or rng.random() < 0.4):
                index.insert(side, price)
                prices[side].add(price)
            elif prices[side]:
                price = index.best(side) or 0
                index.remove(side, price)
                prices[side].discard(price)
        index.validate()
        assert index.prices(0) == sorted(prices[0], reverse=True)
        assert index.prices(1) == sorted(prices[1])


@pytest.mark.parametrize(("side", "price"), [(6, 1), (-1, 1), (0, -1), (1, 2**40)])
def test_sides_and_prices_out_of_range_are_refused(side: int, price: int) -> None:
    with pytest.raises(BadArgument):
        PriceIndex(1).insert(side, price)


@pytest.mark.parametrize("capacity", [0, 2**26 - 1])
def test_capacities_out_of_range_are_refused(capacity: int) -> None:
    with pytest.raises(BadArgument):
        PriceIndex(capacity)
