"""A start where memory is short says so, leaves nothing behind, and can be repeated."""

import shutil
import subprocess
from collections.abc import Callable

import pytest

from tests.integration.conftest import DEADLINE_S, ExchangeProcess

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
