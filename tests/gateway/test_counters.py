"""Counters that all workers share: exact across processes, and by span of time."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from matchbox.gateway.counters import Counters, owner_of
from matchbox.shm.errors import SegmentError

WORKERS, EACH = 4, 100_000


COUNT = """
import sys
from pathlib import Path
from matchbox.gateway.counters import Counters
counters = Counters(Path(sys.argv[1]))
for _ in range(int(sys.argv[3])):
    counters.add(7, int(sys.argv[2]))
"""


def test_what_processes_count_at_once_is_all_counted(tmp_path: Path) -> None:
    path, until = tmp_path / "counters", int(time.time()) + 1000
    command = [sys.executable, "-c", COUNT, str(path), str(until), str(EACH)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    workers = [subprocess.Popen(command, env=environment) for _ in range(WORKERS)]
    assert [worker.wait(60) for worker in workers] == [0] * WORKERS
    assert Counters(path).get(7, until) == WORKERS * EACH


def test_a_later_span_begins_at_nothing_and_a_clock_behind_counts_in_it(tmp_path: Path) -> None:
    counters, now = Counters(tmp_path / "counters"), int(time.time())
    assert counters.add(7, now + 10, 3) == 3
    assert counters.add(7, now + 20, 1) == 1
    assert counters.add(7, now + 10, 1) == 2
    assert (counters.get(7, now + 20), counters.get(7, now + 30)) == (2, 0)
    assert counters.get(8, now) == 0


def test_a_count_stands_still_at_its_highest(tmp_path: Path) -> None:
    counters, until = Counters(tmp_path / "counters"), int(time.time()) + 10
    assert counters.add(7, until, 0xFFFFFFFF) == 0xFFFFFFFF
    assert counters.add(7, until, 5) == 0xFFFFFFFF


def test_what_is_held_outlives_a_flood_of_others(tmp_path: Path) -> None:
    counters, now = Counters(tmp_path / "counters", slots=64), int(time.time())
    counters.hold(owner_of("ban", "192.0.2.1"), now + 500)
    counters.hold(owner_of("ban", "192.0.2.1"), now + 100)
    for number in range(10_000):
        counters.add(owner_of("weight", number), now + 60)
    assert counters.until(owner_of("ban", "192.0.2.1")) == now + 500
    assert counters.add(owner_of("weight", "new"), now + 60, 2) == 2


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    Counters(path, slots=64)
    Counters(path, slots=64)
    with pytest.raises(SegmentError, match="another size"):
        Counters(path, slots=128)
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(SegmentError, match="not a file of counters"):
        Counters(path, slots=64)
