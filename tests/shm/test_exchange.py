"""Rings between processes: nothing is lost, torn or repeated, whoever is killed and whenever.

The processes are harness/exchange.c; what they keep in shared memory is described there.
"""

import mmap
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from matchbox.shm.ring import Ring, ring_bytes

SOURCE = Path(__file__).parent / "harness" / "exchange.c"
READERS = 16
ENTRY = np.dtype([(name, "<u8") for name in ("position", "count", "checksum", "incarnation")])
SIDE = np.dtype(
    [
        ("entries", ENTRY, (2,)),
        *[(name, "<u8") for name in ("starts", "parks", "lost", "laps")],
        ("pad", "V32"),
        ("bell", "V128"),
    ]
)
CONTROL = np.dtype(
    [
        *[(name, "<u8") for name in ("stop", "end", "ended")],
        ("pad", "V104"),
        ("sides", SIDE, (1 + READERS,)),
    ]
)
NEVER = 0
STEPS = {
    "half_filled": 1,
    "filled": 2,
    "half_saved": 3,
    "saved": 4,
    "moved": 5,
    "half_woken": 6,
    "announced": 7,
}
# Nothing waits that long: a wait that does, with work to do, is a lost wake-up.
LONG_MS = 20_000
# Where processes are killed a wake-up can die with its waker (park.h), so the timeout is short.
SHORT_MS = 2


class Exchange:
    """A segment with one ring, and the processes on it."""

    def __init__(
        self, program: Path, *, capacity: int, readers: int = 1, lossy: bool = False, first: int = 0
    ) -> None:
        self.program, self.count = program, readers
        self.fd = os.memfd_create("matchbox-exchange")
        size = ring_bytes(capacity) + CONTROL.itemsize
        os.ftruncate(self.fd, size)
        self.memory = mmap.mmap(self.fd, size)
        self.ring = Ring.create(
            memoryview(self.memory)[: ring_bytes(capacity)],
            capacity=capacity,
            shape="lossy" if lossy else "gated",
            readers=1 if lossy else readers,
            first_position=first,
        )
        self.control = np.frombuffer(self.memory, CONTROL, 1, ring_bytes(capacity))[0]
        # Both entries exist, and only the first is the one of the position.
        self.control["sides"]["entries"]["position"][:, 0] = first
        self.control["sides"]["entries"]["position"][:, 1] = (first - 1) % 2**64
        self.incarnations = 0
        self.running: dict[int, subprocess.Popen[str]] = {}

    def start(
        self,
        role: str,
        side: int,
        *,
        count: int = 0,
        batch: int = 1,
        timeout_ms: int = LONG_MS,
        step: int = NEVER,
        after: int = 0,
    ) -> subprocess.Popen[str]:
        """Start `side` (0 = the producer, 1.. = the readers) in a process."""
        self.incarnations += 1
        numbers = (max(side - 1, 0), self.incarnations, count, batch, timeout_ms, step, after)
        self.running[side] = subprocess.Popen(
            [self.program, str(self.fd), role, *map(str, numbers)],
            pass_fds=[self.fd],
            stderr=subprocess.PIPE,
            text=True,
        )
        return self.running[side]

    def side(self, number: int) -> Any:
        return self.control["sides"][number]

    def committed(self, number: int) -> NDArray[Any]:
        """What a side has done up to its position in the ring."""
        position = self.ring.produced if number == 0 else self.position(number)
        entries: NDArray[Any] = self.side(number)["entries"]
        return entries[entries["position"] == np.uint64(position)]

    def position(self, number: int) -> int:
        offset = 256 + 128 * (number - 1)
        return int.from_bytes(self.memory[offset : offset + 8], "little")

    def wait(self, deadline_s: float = 240) -> None:
        """Wait until every process has ended by itself, and well."""
        end = time.monotonic() + deadline_s
        for side, process in self.running.items():
            _, errors = process.communicate(timeout=max(end - time.monotonic(), 0.1))
            assert process.returncode == 0, f"side {side}: status {process.returncode}: {errors}"

    def verify(self, count: int | None = None) -> int:
        """Every side has done the same records; how many."""
        sides = [self.committed(number) for number in range(1 + self.count)]
        assert [len(side) for side in sides] == [1] * (1 + self.count)
        done = {tuple(side[0].item()) for side in sides}
        assert len(done) == 1, done
        total = int(sides[0]["count"][0])
        assert count is None or total == count
        return total

    def close(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()
            assert process.stderr
            process.stderr.close()
        os.close(self.fd)


Open = Callable[..., Exchange]


@pytest.fixture
def exchange(compile_c: Callable[..., Path]) -> Iterator[Open]:
    """exchange(capacity=...): an Exchange that is cleaned up."""
    with ExitStack() as stack:

        def open_one(**options: Any) -> Exchange:
            program = compile_c(SOURCE, "-std=gnu11", "-O2", "-march=native")
            one = Exchange(program, **options)
            stack.callback(one.close)
            return one

        yield open_one


@contextmanager
def reported(what: str) -> Iterator[dict[str, Any]]:
    """Print how long it took, and what the body adds."""
    facts: dict[str, Any] = {}
    start = time.monotonic()
    yield facts
    facts["seconds"] = round(time.monotonic() - start, 1)
    print(what, facts)


def run_through(one: Exchange, count: int, batch: int) -> None:
    """Exchange `count` records without any accident, and check that nobody overslept."""
    with reported("exchange") as facts:
        for number in range(one.count):
            one.start("read", 1 + number, batch=batch)
        one.start("produce", 0, count=count, batch=batch)
        one.wait(3600)
        one.verify(count)
        sides = one.control["sides"][: 1 + one.count]
        facts.update(count=count, batch=batch, parks=sides["parks"].tolist())
        assert sides["lost"].sum() == 0, "a wake-up was lost"
        assert sides["starts"].tolist() == [1] * (1 + one.count)


def wait_for(condition: Callable[[], bool], what: str, deadline_s: float = 60) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        time.sleep(0)


def kill_and_restart(
    one: Exchange, roles: list[str], kills: int, draw: random.Random, *, batch: int
) -> None:
    """Kill random sides at random moments, `kills` times; each is started again. Then finish."""
    options = {"batch": batch, "timeout_ms": SHORT_MS}
    for side, role in enumerate(roles):
        one.start(role, side, **options)
    with reported("kills") as facts:
        for _ in range(kills):
            victim = draw.randrange(len(roles))
            process = one.running[victim]
            # Kills fall everywhere: while it starts, and from the first microsecond to the third
            # millisecond of its work. Only a side that runs is interesting, so most wait for that.
            if draw.random() < 0.9:
                before = int(one.side(victim)["starts"])
                seen = one.__dict__.setdefault("seen", {})
                known = seen.get(victim, 0)
                wait_for(
                    lambda s=victim, n=known: int(one.side(s)["starts"]) > n,  # type: ignore[misc]
                    "a side attaches",
                )
                seen[victim] = max(before, int(one.side(victim)["starts"]))
            time.sleep(10 ** draw.uniform(-6, -2.5))
            process.kill()
            _, errors = process.communicate()
            assert process.returncode == -9, f"side {victim}: {process.returncode}: {errors}"
            seen = one.__dict__.setdefault("seen", {})
            seen[victim] = int(one.side(victim)["starts"])
            one.start(roles[victim], victim, **options)
        one.control["stop"] = 1
        one.wait()
        facts.update(kills=kills, starts=one.control["sides"]["starts"][: len(roles)].tolist())


@pytest.mark.parametrize("batch", [1, 50])
@pytest.mark.parametrize("capacity", [4, 1024])
def test_two_processes_exchange_records_without_loss(
    capacity: int, batch: int, exchange: Open
) -> None:
    run_through(exchange(capacity=capacity), 20_000 if capacity == 4 else 1_000_000, batch)


def test_positions_go_past_2_to_the_64_between_processes(exchange: Open) -> None:
    run_through(exchange(capacity=64, first=2**64 - 10_000), 20_000, 20)


def test_four_gating_readers_get_the_same_records(exchange: Open) -> None:
    run_through(exchange(capacity=256, readers=4), 100_000, 50)


@pytest.mark.parametrize(("capacity", "readers", "batch"), [(8, 1, 1), (64, 1, 40), (64, 3, 20)])
def test_either_side_can_be_killed_at_any_moment(
    capacity: int, readers: int, batch: int, exchange: Open, seed: int
) -> None:
    one = exchange(capacity=capacity, readers=readers)
    kill_and_restart(one, ["produce", *["read"] * readers], 100, random.Random(seed), batch=batch)
    assert one.verify() > 0


@pytest.mark.parametrize("victim", ["producer", "reader"])
@pytest.mark.parametrize("step", STEPS)
def test_either_side_can_die_at_each_step(step: str, victim: str, exchange: Open) -> None:
    if (step, victim) == ("half_filled", "reader"):
        pytest.skip("a reader fills nothing")
    one = exchange(capacity=8)
    options: dict[str, Any] = {"batch": 6, "timeout_ms": SHORT_MS}
    side, role = (0, "produce") if victim == "producer" else (1, "read")
    other = (1, "read") if victim == "producer" else (0, "produce")
    one.start(other[1], other[0], count=0, **options)
    for after in (1, 2, 5, 20):
        process = one.start(role, side, step=STEPS[step], after=after, **options)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == -9, f"{process.returncode}: {errors}"
    one.start(role, side, **options)
    wait_for(lambda: one.ring.produced > 1000, "both go on")
    one.control["stop"] = 1
    one.wait()
    assert one.verify() > 1000


def test_a_reader_that_keeps_up_with_a_lossy_ring_is_never_told_of_a_lap(exchange: Open) -> None:
    one = exchange(capacity=64, lossy=True)
    one.start("gather", 1)
    one.start("scatter", 0, count=1_000_000)
    one.wait()
    assert int(one.committed(1)["count"][0]) == 1_000_000


def test_a_reader_of_a_lossy_ring_sees_no_torn_record_however_often_it_is_lapped(
    exchange: Open,
) -> None:
    one = exchange(capacity=4, lossy=True)
    one.start("glimpse", 1)
    one.start("storm", 0, count=2_000_000)
    one.wait()
    seen = int(one.side(1)["entries"]["count"].max())
    print(f"read {seen} of 2000000, lapped {one.side(1)['laps']} times")


def test_a_lossy_producer_can_be_killed_at_any_moment(exchange: Open, seed: int) -> None:
    one = exchange(capacity=16, lossy=True)
    kill_and_restart(one, ["scatter", "gather"], 60, random.Random(seed), batch=1)
    assert one.committed(1)["position"].tolist() == [one.ring.produced]


@pytest.mark.soak("records")
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("batch", [1, 64])
def test_two_processes_exchange_a_hundred_million_records(
    batch: int, exchange: Open, soak_count: Callable[[int], int]
) -> None:
    run_through(exchange(capacity=4096), soak_count(100_000_000), batch)


@pytest.mark.soak("kills")
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("capacity", "readers", "batch"), [(8, 1, 1), (64, 1, 40), (1024, 1, 200), (64, 3, 20)]
)
def test_either_side_can_be_killed_thousands_of_times(
    capacity: int,
    readers: int,
    batch: int,
    exchange: Open,
    seed: int,
    soak_count: Callable[[int], int],
) -> None:
    one = exchange(capacity=capacity, readers=readers)
    kills = min(soak_count(5000), 100_000)
    kill_and_restart(one, ["produce", *["read"] * readers], kills, random.Random(seed), batch=batch)
    print(f"{one.verify()} records")
