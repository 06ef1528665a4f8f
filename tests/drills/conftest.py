"""Drills on exchanges that are made for them, and gone afterwards."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from matchbox.tools.drill import instance as instances
from matchbox.tools.drill.drill import Wishes, run
from matchbox.tools.drill.instance import Instance
from matchbox.tools.drill.receipt import Receipt

RATE = 5_000.0  # commands per second; others want the cores, too

Drill = Callable[..., Receipt]


@pytest.fixture
def exchange() -> Iterator[Callable[..., Instance]]:
    """exchange(sessions=2, topology=...): one that was not started."""
    with ExitStack() as stack:
        yield lambda sessions=2, **options: stack.enter_context(
            instances.throw_away(sessions, **options)
        )


@pytest.fixture
def drill(exchange: Callable[..., Instance], tmp_path: Path) -> Drill:
    """drill("hang", "kill", count=, kills=, rate=, ...): do them; the receipt."""

    def do(*faults: str, topology: str = "compact", **wishes: Any) -> Receipt:
        wished = Wishes(faults, **{"count": len(faults), "rate": RATE} | wishes)
        slots = 1 << 14 if "standby-lag" in faults else 1 << 18
        made = exchange(wished.sessions, topology=topology, log_slots=slots)
        folder = tmp_path / made.config.instance
        folder.mkdir()
        found = run(made, wished, folder)
        print(found.text())
        return found

    return do


def check(found: Receipt) -> None:
    """Nothing is lost, twice, or left out, and there was something to lose."""
    assert found.good, found.text()
    assert found.findings.acknowledged > 0
    assert found.hashes
