"""Where memory or disk are short, the exchange says so, loses nothing, and can be started again."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import matchbox
from tests.integration.conftest import DEADLINE_S, ExchangeProcess
from tests.integration.test_up_down import journal, orders

DISK = Path(__file__).resolve().parents[1] / "persistence" / "harness" / "disk.c"

Make = Callable[..., ExchangeProcess]
# In a mount namespace of its own: /dev/shm of one size, and what was left there, in the end.
SMALL_SHM = (
    'mount -t tmpfs -o size={size} tmpfs /dev/shm && "$@"; status=$?; ls /dev/shm; exit $status'
)


def fail(exchange: ExchangeProcess, *before: str) -> str:
    """Begin it; its only lines of output."""
    exchange.begin(before=before)
    assert exchange.process
    assert exchange.process.wait(DEADLINE_S) == 1
    return exchange.text()


@pytest.mark.skipif(not shutil.which("prlimit"), reason="no prlimit")
@pytest.mark.parametrize("gigabytes", [4, 40])
def test_a_start_without_room_for_the_journals_map_says_what_is_needed(
    make_exchange: Make, gigabytes: int
) -> None:
    exchange = make_exchange()
    said = fail(exchange, "prlimit", f"--as={gigabytes << 30}")
    assert f"needed=64 GiB, allowed={gigabytes} GiB (ulimit -v)" in said
    assert said.count("\n") == 1
    assert exchange.segments() == []
    assert [path.name for path in (exchange.data / "journal").iterdir()] == ["writer.lock"]
    exchange.up()
    exchange.down()


@pytest.mark.parametrize("size", ["100k", "8m"])
def test_a_start_with_a_full_dev_shm_leaves_nothing_there(make_exchange: Make, size: str) -> None:
    probe = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("no mount namespace")
    exchange = make_exchange()
    said = fail(exchange, "unshare", "-rm", "sh", "-c", SMALL_SHM.format(size=size), "sh")
    assert "/dev/shm" in said
    assert "Traceback" not in said
    # Neither segments, nor more than the one line.
    assert said.count("\n") == 1
    exchange.up()
    exchange.down()


@pytest.mark.parametrize(
    ("kind", "why"),
    [("enospc-ever", "No space left on device"), ("eio-ever", "Input/output error")],
)
def test_a_disk_that_fails_for_good_stops_the_exchange_and_loses_nothing(
    make_exchange: Make, compile_c: Any, tmp_path: Path, kind: str, why: str
) -> None:
    """The disk of tests/persistence, which fails each process from its 30th write on."""
    library = compile_c(DISK, "-shared", "-fPIC", "-pthread")
    exchange = make_exchange()
    variables = {
        "LD_PRELOAD": library,
        "DISK_ROOT": exchange.data / "journal",
        "DISK_RECORD": tmp_path / "record",
        "DISK_FAULT": f"write:30:{kind}",
    }
    exchange.up(before=("env", *(f"{name}={value}" for name, value in variables.items())))
    told = 0
    with exchange.connect() as session, pytest.raises(matchbox.EngineDown):
        for seed in range(1000):
            session.submit(orders(20, seed))
            reports = session.reports(timeout=0.02)
            told = max([told, *(int(report["sequence"]) for report in reports)])
    assert exchange.process
    assert exchange.process.wait(DEADLINE_S) == 1
    said = exchange.text()
    assert "The journal cannot go on: " in said
    assert why in said
    assert "Traceback" not in said
    exchange.up()
    exchange.down()
    records = journal(exchange)
    assert told > 0
    assert len(records) > told
    assert (np.diff(records["sequence"].astype(np.int64)) == 1).all()
