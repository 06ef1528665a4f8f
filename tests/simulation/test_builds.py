"""The debug build: checks what must hold after every round; its state is the release build's.

It is made in build/debug, by MATCHBOX_DEBUG=1: little optimised, so that a compiler's freedom would
show in a hash. The first time takes a minute of compiling; then only what has changed is compiled.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from matchbox.core.plan import Plan
from matchbox.shm.records import Kind
from tests.core.exchange import Exchange, plan
from tests.core.flows import Flow
from tests.planted.bugs import read
from tests.planted.tree import debug_build
from tests.simulation.commands import Random
from tests.simulation.test_exchange import LIFE, play
from tests.simulation.world import World
from tests.tools.log_hashes import hashes, save

pytestmark = pytest.mark.timeout(1800)
EVERY = 10_000
# The events of a whole part of the log fit, so that matchers are as far as the log.
ROOMY = {"log_slots": 1 << 16, "event_slots": 1 << 17}


@pytest.fixture(scope="module")
def debug() -> Path:
    return debug_build()


def python(tree: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python in that tree, with its modules."""
    paths = os.pathsep.join([str(tree / "build" / "tree"), str(tree)])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, **environment},
    )


def same_hashes(debug: Path, folder: Path, layout: Plan, log: NDArray[Any], every: int) -> int:
    """Both builds give the same hashes; how many lines of them."""
    save(folder, layout, log)
    lines = [
        " ".join([str(sequence), *(f"{value:016x}" for value in values)])
        for sequence, *values in hashes(layout, log, every)
    ]
    done = python(debug, "-m", "tests.tools.log_hashes", str(folder), "--every", str(every))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == lines
    assert len(set(lines)) == len(lines) == -(-len(log) // every)
    return len(lines)


def orders(count: int, seed: int) -> Exchange:
    """An exchange of four markets on two matchers, after so many commands of one bot."""
    exchange = Exchange(plan(4, 2, **ROOMY))
    bot = exchange.attach()
    flow = Flow(seed, middle=10_000, width=40, markets=(1, 2, 3, 4))
    commands = flow.take(count, first_sequence=exchange.sequencer.position + 1)
    commands["account"] = 0
    commands = commands[(commands["kind"] < Kind.SUBSCRIBE) | (commands["kind"] >= 64)]
    for first in range(0, len(commands), 200):
        bot.submit(np.ascontiguousarray(commands[first : first + 200]))
        exchange.settle()
        bot.reports()
    return exchange


def test_both_builds_hash_a_log_of_orders_alike(debug: Path, tmp_path: Path, seed: int) -> None:
    exchange = orders(50_000, seed % 2**32)
    log = exchange.log
    assert len(log) >= 50_000
    assert same_hashes(debug, tmp_path, exchange.plan, log, EVERY) >= 5


def test_both_builds_hash_a_log_of_everything_alike(debug: Path, tmp_path: Path, seed: int) -> None:
    world = World()
    play(world, Random(seed), LIFE)
    layout = replace(world.exchange.plan, **ROOMY)
    assert same_hashes(debug, tmp_path, layout, world.exchange.log, 500) >= 10


def simulation(tree: Path, seed: int) -> subprocess.CompletedProcess[str]:
    """One life of the simulation in that tree."""
    return python(
        tree,
        *("-m", "pytest", "-q", "-m", "soak", "--timeout", "0", "-p", "no:cacheprovider", "-s"),
        "tests/simulation/test_exchange.py",
        MATCHBOX_SOAK_COUNT="1",
        MATCHBOX_TEST_SEED=str(seed),
    )


def test_the_debug_build_plays_the_simulation(debug: Path, seed: int) -> None:
    """With what must hold checked after every round."""
    done = simulation(debug, seed)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_the_debug_build_ends_where_something_does_not_hold(debug: Path, seed: int) -> None:
    """With a bug in it that leaves held what no order needs any more."""
    (bug,) = [bug for bug in read() if bug.name == "hold-not-trimmed"]
    done = simulation(debug_build(bug), seed)
    # Of pytest; the signal's number is below 0.
    assert done.returncode < 0, done.stdout[-3000:]
    found = re.search(
        r"matchbox: broken invariant: sequencer \(core/invariants.pxd\): invariant=3, of=\d+, "
        r"log_sequence=\d+",
        done.stderr,
    )
    assert found, done.stderr[-3000:]


@pytest.mark.soak("commands")
def test_both_builds_hash_a_long_log_alike(
    debug: Path, tmp_path: Path, seed: int, soak_count: Callable[[int], int]
) -> None:
    exchange = orders(soak_count(1_000_000), seed % 2**32)
    same_hashes(debug, tmp_path, exchange.plan, exchange.log, EVERY)
