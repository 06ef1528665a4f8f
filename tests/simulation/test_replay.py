"""A replay decides again, and stops where the journal says something else."""

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from numpy.typing import NDArray

from matchbox.persistence.journaler import count_before
from matchbox.shm.errors import JournalError
from matchbox.shm.records import COMMAND, MONEY_RECORD, NEW_ORDER, Kind, OrderType
from tests.core.exchange import Exchange
from tests.simulation.commands import Random
from tests.simulation.test_exchange import play
from tests.simulation.world import World

COMMANDS = 3_000
STAMPS = "hold, price bound, fee rates or numbers differ"
TURN = "the exchange itself would log another record here"


class Lie(NamedTuple):
    """What is changed in a record of the log, and what the replay says of it."""

    kind: Kind
    of: Callable[[Any], bool]  # which records of the kind
    change: Callable[[Any], None]
    said: str


def of_client(record: Any) -> bool:
    return bool(record["session"] and not record["reject"])


def of_engine(record: Any) -> bool:
    return not record["session"]


def add(view: Any, field: str, by: int) -> Callable[[Any], None]:
    def change(record: Any) -> None:
        record.view(view)[field] += by

    return change


def with_bound(record: Any) -> bool:
    order = record.view(NEW_ORDER)
    return (
        of_client(record) and order["order_type"] == OrderType.MARKET and order["price_ticks"] > 1
    )


def set_back(record: Any) -> None:
    record["timestamp_ns"] = 1


def refuse(record: Any) -> None:
    record["reject"] = 0 if record["reject"] else 301


LIES = {
    "hold of an order": Lie(Kind.NEW_ORDER, of_client, add(NEW_ORDER, "hold", 1), STAMPS),
    "maker's rate": Lie(Kind.NEW_ORDER, of_client, add(NEW_ORDER, "maker_fee_ppm", 1), STAMPS),
    "taker's rate": Lie(Kind.NEW_ORDER, of_client, add(NEW_ORDER, "taker_fee_ppm", 1), STAMPS),
    "bound": Lie(Kind.NEW_ORDER, with_bound, add(NEW_ORDER, "price_ticks", -1), STAMPS),
    "hold of an amend": Lie(Kind.AMEND_ORDER, of_client, add(COMMAND, "hold", 1), STAMPS),
    "reason of a cancel": Lie(Kind.CANCEL_ORDER, of_client, add(COMMAND, "hold", 1), STAMPS),
    "amount of a withdrawal": Lie(
        Kind.SETTLE_WITHDRAWAL, of_client, add(MONEY_RECORD, "amount", -1), STAMPS
    ),
    "decision": Lie(Kind.NEW_ORDER, of_client, refuse, "journal: "),
    "refusal": Lie(Kind.NEW_ORDER, lambda r: bool(r["reject"]), refuse, "journal: "),
    "order canceled": Lie(Kind.CANCEL_ORDER, of_engine, add(COMMAND, "order_id", 1), TURN),
    "sender of a cancel": Lie(Kind.CANCEL_ORDER, of_engine, add(COMMAND, "session", 1), TURN),
    "time of a tick": Lie(Kind.TICK, of_engine, set_back, TURN),
}


def replay(world: World, log: NDArray[Any]) -> None:
    """Raises JournalError."""
    Exchange(world.exchange.plan, define=False).replay_some(log)


def test_a_replay_stops_at_a_record_that_was_changed(seed: int) -> None:
    world, chance = World(), random.Random(seed)
    play(world, Random(seed), COMMANDS)
    for what, lie in LIES.items():
        log = world.exchange.log.copy()
        places = [i for i, r in enumerate(log) if r["kind"] == lie.kind and lie.of(r)]
        # What goes together is decided together, and may differ at its first record.
        places = [i for i in places if not count_before(log[: i + 1])]
        place = chance.choice(places)
        lie.change(log[place : place + 1])
        print(f"{what}: sequence {place + 1}")
        with pytest.raises(JournalError, match=f"at sequence {place + 1}: .*{lie.said}"):
            replay(world, log)
