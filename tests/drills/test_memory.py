"""Memory that is full, or may not be had."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from matchbox.persistence.journal import Reader
from matchbox.tools.drill import check
from matchbox.tools.drill.drill import Clients, Wishes
from matchbox.tools.drill.instance import Instance, send, wait_for
from tests.drills.conftest import RATE

HARNESS = Path(__file__).parent / "harness"
# In a mount namespace, where /dev/shm is a small one of our own.
APART = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'


def test_a_full_shared_memory_stops_nothing_that_runs() -> None:
    allowed = subprocess.run(
        ["unshare", "-m", "sh", "-c", APART, "sh", "true"], capture_output=True, check=False
    )
    if allowed.returncode:
        pytest.skip(f"no mount namespace may be made here: {allowed.stderr.decode().strip()}")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", APART, "sh", sys.executable, HARNESS / "full_memory.py"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing was lost" in done.stdout


def test_a_memory_limit_below_what_is_needed_stops_the_start_and_says_so(
    exchange: Callable[..., Instance],
) -> None:
    made = exchange(2, log_slots=1 << 14)
    limit = 150 << 20
    done = subprocess.run(
        [sys.executable, "-m", "matchbox.tools.cli", "up", made.config_path],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
        check=False,
    )
    assert done.returncode == 1
    assert "process engine cannot start: MemoryError" in done.stdout + done.stderr
    assert made.up()  # nothing of that is left
    made.down()


def test_processes_that_get_no_more_memory_lose_nothing(
    exchange: Callable[..., Instance], tmp_path: Path, seed: int
) -> None:
    """What an engine needs for orders it has from the start on; what dies of the limit is
    replaced.
    """
    made = exchange(2)
    assert made.up()
    made.ready()
    clients = Clients(made, Wishes(("failover",), rate=RATE, seed=seed), tmp_path)

    def go_on() -> None:
        def last() -> int:
            with Reader(made.data / "journal") as reader:
                return reader.last_sequence()

        end = last() + 1000
        wait_for(lambda: last() > end, "orders are taken")

    try:
        clients.begin()
        go_on()
        for role in ("engine", "journal", "standby", "archiver"):
            resource.prlimit(made.pid(role), resource.RLIMIT_DATA, (1, 1))
        go_on()
        send(made.pid("engine"), signal.SIGKILL)
        go_on()
        made.ready()
        send(made.pid("engine"), signal.SIGKILL)
        go_on()
        written = clients.finish()
    finally:
        clients.kill()
    made.down()
    found = check.examine(made.config, made.data / "journal", written)
    assert found.good, found.problems
