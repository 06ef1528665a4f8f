"""The fast matcher and the reference agree on every byte of every event, and on the state."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from matchbox.core.instrument import market_record
from matchbox.core.matcher import Matcher
from matchbox.shm.records import EVENT
from tests.core.flows import Flow
from tests.reference.book import FIELDS, ReferenceMatcher

SHAPES = {
    "narrow": {"middle": 1000, "width": 20},
    "dense": {"middle": 32768, "width": 600},
    "wide": {"middle": 1 << 39, "width": 1 << 38},
    "at the bottom": {"middle": 3, "width": 12},
    "at the top": {"middle": 2**40 - 3, "width": 12},
}


def as_tuples(events: NDArray[Any]) -> list[tuple[int, ...]]:
    return [tuple(int(value) for value in row) for row in events[list(FIELDS)].tolist()]


def markets(*numbers: int, **others: Any) -> list[np.void]:
    given: dict[str, Any] = {"max_orders": 120, "max_quantity_lots": 100_000} | others
    return [market_record(number, **given) for number in numbers]


@pytest.mark.parametrize("shape", SHAPES)
def test_random_streams_give_the_reference_s_events_and_state(shape: str, seed: int) -> None:
    flow = Flow(seed, **SHAPES[shape])
    definitions = markets(1)
    fast, slow = Matcher(definitions), ReferenceMatcher(definitions)
    for block in range(12):
        batch = flow.take(250, first_sequence=block * 250 + 1)
        expected = [event for command in batch for event in slow.process(command)]
        assert as_tuples(fast.process(batch)) == expected
        assert fast.state_hash() == slow.state_hash()
        fast.validate()


def compare(fast: Matcher, slow: ReferenceMatcher, batch: NDArray[Any]) -> None:
    """Both process the batch; the first event that differs is named."""
    expected = [event for command in batch for event in slow.process(command)]
    found = as_tuples(fast.process(batch))
    for place, (one, other) in enumerate(zip(found, expected, strict=False)):
        named = {n: (a, b) for n, a, b in zip(FIELDS, one, other, strict=True) if a != b}
        assert not named, (place, dict(zip(FIELDS, other, strict=True)), named)
    assert len(found) == len(expected)
    fast.validate()
    assert fast.state_hash() == slow.state_hash()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("check_holds", [False, True])
def test_streams_of_everything_give_the_reference_s_events_and_state(
    shape: str, check_holds: bool, seed: int
) -> None:
    flow = Flow(seed, **SHAPES[shape], noise=0.01)
    definitions = markets(
        1, notional_units=1 if shape in ("wide", "at the top") else 3, lot_units=7
    )
    fast = Matcher(definitions, max_specials=60, check_holds=check_holds)
    slow = ReferenceMatcher(definitions, max_specials=60, check_holds=check_holds)
    for block in range(40):
        compare(fast, slow, flow.take_rich(100, first_sequence=block * 100 + 1))


def test_streams_of_everything_in_markets_with_steps_agree(seed: int) -> None:
    flow = Flow(seed, middle=2000, width=300, markets=(1, 2), noise=0.01)
    definitions = [
        *markets(1, price_step_ticks=5, quantity_step_lots=2, min_quantity_lots=4),
        *markets(2, max_price_ticks=2100, notional_units=1000, max_orders=30),
    ]
    fast = Matcher(definitions, max_specials=30)
    slow = ReferenceMatcher(definitions, max_specials=30)
    for block in range(40):
        compare(fast, slow, flow.take_rich(100, first_sequence=block * 100 + 1))


@pytest.mark.parametrize("room", [1, 2, 5])
def test_events_of_everything_are_the_same_bytes_however_small_the_room_is(
    room: int, seed: int
) -> None:
    batch = Flow(seed, middle=1000, width=30).take_rich(3000)
    whole, cut = Matcher(markets(1)), Matcher(markets(1))
    expected = whole.process(batch)
    out = np.empty(room, EVENT)
    events = bytearray()
    done = 0
    while done < len(batch):
        part = cut.process(batch[done:], out)
        events += part.tobytes()
        done += cut.consumed
    assert bytes(events) == expected.tobytes()
    assert cut.state_hash() == whole.state_hash()
    cut.validate()


def test_each_record_with_events_has_one_last_event_and_it_is_the_last(seed: int) -> None:
    events = Matcher(markets(1)).process(Flow(seed, middle=1000, width=30).take_rich(5000))
    last = (events["flags"] & 1) != 0
    ends = np.append(events["sequence"][1:] != events["sequence"][:-1], True)
    assert (last == ends).all()


def test_steps_minimums_and_several_markets_agree_too(seed: int) -> None:
    flow = Flow(seed, middle=500, width=60, markets=(1, 7, 4_000_000_000))
    definitions = [
        *markets(
            1, price_step_ticks=5, quantity_step_lots=2, min_quantity_lots=4, max_quantity_lots=50
        ),
        *markets(7, max_orders=10),
        *markets(4_000_000_000, max_price_ticks=510, notional_units=2**45),
    ]
    fast, slow = Matcher(definitions), ReferenceMatcher(definitions)
    batch = flow.take(4000)
    expected = [event for command in batch for event in slow.process(command)]
    assert as_tuples(fast.process(batch)) == expected
    assert fast.state_hash() == slow.state_hash()
    for number in (1, 7, 4_000_000_000):
        assert fast.state_hash(number) == slow.state_hash(number)
    fast.validate()


@pytest.mark.parametrize("room", [1, 2, 7])
def test_events_are_the_same_bytes_however_small_the_room_is(room: int, seed: int) -> None:
    batch = Flow(seed, middle=1000, width=30).take(3000)
    whole = Matcher(markets(1))
    expected = whole.process(batch)
    cut = Matcher(markets(1))
    out = np.empty(room, EVENT)
    events = bytearray()
    done = 0
    while done < len(batch):
        part = cut.process(batch[done:], out)
        assert len(part) <= room
        events += part.tobytes()
        done += cut.consumed
    assert bytes(events) == expected.tobytes()
    assert cut.state_hash() == whole.state_hash()


def test_the_same_commands_give_the_same_bytes(seed: int) -> None:
    batch = Flow(seed, middle=1 << 20, width=1 << 12).take(5000)
    first, second = Matcher(markets(1)), Matcher(markets(1))
    assert first.process(batch).tobytes() == second.process(batch).tobytes()
    assert first.state_hash() == second.state_hash()


def test_unnumbered_commands_are_numbered_on_and_any_split_of_a_batch_is_the_same(
    seed: int,
) -> None:
    batch = Flow(seed, middle=1000, width=30).take(2000)
    numbered, unnumbered = Matcher(markets(1)), Matcher(markets(1))
    expected = numbered.process(batch)
    batch["sequence"] = 0
    parts = [unnumbered.process(part) for part in np.array_split(batch, 13)]
    assert np.concatenate(parts).tobytes() == expected.tobytes()


def test_quantity_is_neither_made_nor_lost(seed: int) -> None:
    """Filled + open + taken off = what was asked for, for every order that was never amended."""
    batch = Flow(seed, middle=1000, width=30).take(4000)
    matcher = Matcher(markets(1))
    events = matcher.process(batch)
    amended = set(events[events["kind"] == 7]["order_id"].tolist())
    asked: dict[int, int] = {}
    found: dict[int, int] = {}
    for event in events:
        order_id, kind, quantity = (
            int(event["order_id"]),
            int(event["kind"]),
            int(event["quantity_lots"]),
        )
        if kind == 1:
            asked[order_id] = quantity
        if kind in (3, 5, 6):
            found[order_id] = found.get(order_id, 0) + quantity
        if kind == 3:
            maker = int(event["maker_order_id"])
            found[maker] = found.get(maker, 0) + quantity
    for order in matcher.orders(1):
        order_id = int(order["order_id"])
        found[order_id] = found.get(order_id, 0) + int(order["leaves_lots"])
    for order_id in asked.keys() - amended:
        assert asked[order_id] == found[order_id]
