"""Exchanges are broken under load, in every way that there is; their clients miss nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from matchbox.persistence import points
from matchbox.tools import commands_drill
from matchbox.tools.drill import faults
from matchbox.tools.drill.instance import Instance
from tests.drills.conftest import RATE, Drill, check

KILLS = 32  # of each random drill


@pytest.mark.parametrize("topology", ["compact", "wide"])
def test_processes_killed_at_random_under_load_lose_nothing(
    drill: Drill, seed: int, topology: str
) -> None:
    found = drill("random", kills=KILLS, topology=topology, seed=seed)
    check(found)
    assert found.kills >= KILLS


@pytest.mark.parametrize("part", ["journal", "snapshot", "takeover", "recovery", "archive"])
def test_a_process_killed_at_a_named_point_loses_nothing(
    drill: Drill, seed: int, part: str
) -> None:
    names = [name for name in points.POINTS if name.startswith(part)]
    found = drill(*names, seed=seed)
    check(found)
    assert [line.what for line in found.lines if "die at" in line.what] == [
        f"die at {name}" for name in names if part != "recovery"
    ]
    assert found.kills >= len(names)


def test_a_stopped_engine_that_is_let_go_after_the_takeover_is_dead(
    drill: Drill, seed: int
) -> None:
    found = drill("hang", "promote", "hang", seed=seed)
    check(found)
    assert len(found.takeovers) == 3
    assert not any("still lived" in line.note for line in found.lines)


def test_a_standby_that_is_far_behind_catches_up_and_takes_over(drill: Drill, seed: int) -> None:
    found = drill("standby-lag", rate=4 * RATE, seed=seed)
    check(found)
    assert len(found.takeovers) == 1


def test_a_disk_that_is_slow_or_full_loses_nothing(drill: Drill, seed: int) -> None:
    check(drill("slow-disk", "disk-full", "slow-disk", assurance="durable", seed=seed))


def test_a_hostile_bot_harms_nobody(drill: Drill, seed: int) -> None:
    found = drill("hostile-bot", "failover", seed=seed)
    check(found)


@pytest.mark.parametrize("how", ["poison", "poison-sequencer", "poison-publisher", "poison-hang"])
def test_an_order_that_kills_the_engine_is_refused_and_harms_nobody(
    drill: Drill, seed: int, how: str
) -> None:
    found = drill(how, "failover", seed=seed)
    check(found)
    assert len(found.takeovers) == 2


@pytest.mark.parametrize("assurance", ["matched", "durable"])
def test_lost_memory_loses_nothing_that_was_told_as_durable(
    drill: Drill, seed: int, assurance: str
) -> None:
    """And no number of what is lost is given out again."""
    check(drill("powercut", "failover", "powercut", assurance=assurance, seed=seed))


def test_an_exchange_that_runs_is_drilled_from_the_command_line(
    exchange: Callable[..., Instance], tmp_path: Path
) -> None:
    made = exchange(2)
    assert made.up()
    command = [sys.executable, "-m", "matchbox.tools.cli", "drill", "failover", "kill"]
    options = ["--account", "c1", "--account", "c2", "--market", "DRILL/CASH", "--rate", f"{RATE}"]
    done = subprocess.run(
        [*command, "--on", str(made.data), *options, "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr + done.stdout
    receipt = json.loads(done.stdout)
    assert receipt["good"] and receipt["totals"]["takeovers"] == 1
    assert receipt["totals"]["kills"] == 2 and receipt["totals"]["acknowledged"] > 0
    assert made.status["state"] == "running"
    made.down()


def test_every_fault_has_its_name_on_the_command_line() -> None:
    names = set(commands_drill.NAMES) - {"random"}
    assert names | set(points.POINTS) == set(faults.FAULTS)
    assert set(commands_drill._POINTS) == set(points.POINTS)


# ---- long


@pytest.mark.soak("kills")
def test_any_number_of_kills_loses_nothing(
    drill: Drill,
    seed: int,
    soak_count: Callable[[int], int],
    soak_seconds: Callable[[float], float],
) -> None:
    """One exchange after another, of any topology, at any rate up to 50,000 commands/s."""
    random = np.random.default_rng(seed)
    wanted, totals = soak_count(1000), dict[str, int]()
    took: list[float] = []
    while totals.get("kills", 0) < wanted:
        found = drill(
            "random",
            kills=min(50, wanted - totals.get("kills", 0)),
            topology=str(random.choice(["compact", "wide"])),
            assurance=str(random.choice(["matched", "replicated", "durable"])),
            sessions=int(random.integers(1, 5)),
            rate=float(random.choice([5_000, 20_000, 50_000])),
            seed=int(random.integers(1 << 31)),
        )
        check(found)
        took += found.takeovers.tolist()
        for name, value in found.totals().items():
            if isinstance(value, int):
                totals[name] = totals.get(name, 0) + value
        print(f"So far: {json.dumps(totals)}", flush=True)
    p50, most = np.percentile(took, [50, 100])
    print(f"First report of the next engine after p50 {p50:.1f} ms, max {most:.1f} ms.")
    assert totals["missing"] == totals["duplicates"] == totals["gaps"] == 0


@pytest.mark.soak("takeovers")
def test_any_number_of_takeovers_at_50_000_orders_a_second(
    drill: Drill, seed: int, soak_count: Callable[[int], int]
) -> None:
    """How long they take is printed, and in docs/benchmarks.md; nothing is lost whatever it is."""
    wanted, took = soak_count(100), list[float]()
    while len(took) < wanted:
        count = min(20, wanted - len(took))
        found = drill("failover", count=count, rate=50_000.0, seed=seed + len(took))
        check(found)
        took += found.takeovers.tolist()
        rows = np.percentile(took, [50, 90, 99, 100]).round(1).tolist()
        print(f"{len(took)} takeovers: p50/p90/p99/max {rows} ms", flush=True)
