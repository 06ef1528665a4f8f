"""The wall clock is set, an hour on or an hour back, under load: sequenced time never goes back,
what is due is done, and nothing is lost, also by a takeover or a start meanwhile.
"""

import mmap
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from matchbox.persistence.journal import Reader
from matchbox.shm.connect import connect
from matchbox.shm.records import EventKind
from matchbox.tools.drill import check
from matchbox.tools.drill.drill import Clients, Wishes
from matchbox.tools.drill.instance import Instance, send, wait_for
from tests.conftest import Compile
from tests.drills.conftest import RATE

HOUR_NS = 3_600 * 10**9


class Clock:
    """That of the exchange."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 8)

    def step(self, by_ns: int) -> None:
        (now,) = struct.unpack("<q", self._memory)
        self._memory[:] = struct.pack("<q", now + by_ns)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
def stepped(
    exchange: Callable[..., Instance], compile_c: Compile, clock: Clock, tmp_path: Path
) -> Instance:
    """An exchange whose clock it is."""
    source = Path(__file__).parent / "harness" / "clock.c"
    library = compile_c(source, "-shared", "-fPIC", "-ldl")
    made = exchange(2)
    made.environment = {"LD_PRELOAD": str(library), "MATCHBOX_TEST_CLOCK": str(tmp_path / "clock")}
    return made


def last(exchange: Instance) -> int:
    with Reader(exchange.data / "journal") as reader:
        return reader.last_sequence()


def test_a_clock_that_is_set_loses_nothing_and_time_never_goes_back(
    stepped: Instance, clock: Clock, tmp_path: Path, seed: int
) -> None:
    assert stepped.up()
    stepped.ready()
    clients = Clients(stepped, Wishes(("failover",), rate=RATE, seed=seed), tmp_path)

    def go_on() -> None:
        end = last(stepped) + 500
        wait_for(lambda: last(stepped) > end, "orders are taken")

    try:
        clients.begin()
        go_on()
        for step in (HOUR_NS, -HOUR_NS, -HOUR_NS, HOUR_NS):
            clock.step(step)
            go_on()
            send(stepped.pid("engine"), signal.SIGKILL)
            go_on()
            stepped.ready()
        written = clients.finish()
    finally:
        clients.kill()
    stepped.down()
    clock.step(-HOUR_NS)
    assert stepped.up()  # at an earlier time than the log ends with
    stepped.down()
    found = check.examine(stepped.config, stepped.data / "journal", written)
    assert found.good, found.problems
    assert len([turn for turn in found.turns if turn.kind == "TAKE_OVER"]) == 4
    with Reader(stepped.data / "journal") as reader:
        times = np.concatenate([batch.records["timestamp_ns"] for batch in reader.batches()])
    assert (np.diff(times.astype(np.int64)) >= 0).all()
    assert times[-1] - times[0] >= HOUR_NS


def test_what_is_due_by_the_new_time_is_done(stepped: Instance, clock: Clock) -> None:
    """An order good till a date expires when the clock passes that, not when an hour has passed;
    set back, it waits: time stands still until the clock has caught up.
    """
    assert stepped.up()
    with connect(stepped.data, account="c1") as session:
        due = time.time_ns() + HOUR_NS // 2
        session.buy(stepped.config.markets[0].symbol, 5, 100, expire=due)
        kinds = []

        def told(kind: EventKind) -> bool:
            kinds.extend(int(report["kind"]) for report in session.reports(timeout=0.05))
            return kind in kinds

        wait_for(lambda: told(EventKind.ACCEPTED), "it is accepted")
        clock.step(HOUR_NS)
        wait_for(lambda: told(EventKind.CANCELED), "it has expired")
        clock.step(-HOUR_NS)
        due = time.time_ns() + HOUR_NS // 2
        session.buy(stepped.config.markets[0].symbol, 5, 100, expire=due)
        kinds.clear()
        # Sequenced time has passed that already.
        wait_for(lambda: told(EventKind.REJECTED), "it is refused")
    stepped.down()
