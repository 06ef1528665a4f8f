"""Replay on real exchanges: processes, rings and a journal, by the command line.

Recorded sets are used where they are: in $MATCHBOX_DATA, or in ../shared/data beside the checkout.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
TOPOLOGIES = ("compact", "wide")
# Whatever is installed, this checkout is tested.
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
RECORDED = {"es-20231225": 6072, "bitstamp-btcusd-20150501": 574}


def matchbox(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`matchbox ARGUMENTS` as a process of its own."""
    command = [sys.executable, "-m", "matchbox.tools.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=ENVIRONMENT)


def shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("matchbox-replay-*")}


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_the_shipped_flow_gives_its_fills_on_an_exchange_of_its_own(topology: str) -> None:
    before = shared_memory()
    result = matchbox("replay", "demo", "--topology", topology)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "All 2,512 fills are as expected." in result.stdout
    assert shared_memory() <= before


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_flow_gives_the_fills_of_the_venue_on_an_exchange(
    name: str, topology: str
) -> None:
    folder = Path(os.environ.get("MATCHBOX_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / f"{name}.ops.csv.gz").exists():
        pytest.skip(f"{name} is not in {folder}; set MATCHBOX_DATA to the folder of recorded sets")
    result = matchbox("replay", str(folder / name), "--topology", topology)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"All {RECORDED[name]:,} fills are as expected." in result.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_replay_that_is_stopped_stops_its_exchange(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "matchbox.tools.cli", "replay", "demo", "--speed", "0.001"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    )
    try:
        own = f"matchbox-replay-{process.pid}-"
        for _ in wait_until("its exchange has come up"):
            if any(name.startswith(own) for name in shared_memory()):
                break
        hosts = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(number)
        assert process.wait(60) == 130
        assert not any(name.startswith(own) for name in shared_memory())
        assert hosts
        assert not any(psutil.pid_exists(pid) for pid in hosts)
    finally:
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_start_in_the_background_that_is_stopped_leaves_nothing(
    number: signal.Signals, tmp_path: Path, unique_name: Callable[[], str]
) -> None:
    text = (ROOT / "tools" / "demo.toml").read_text()
    config, name = tmp_path / "demo.toml", unique_name()
    config.write_text(text.replace('instance = "demo"', f'instance = "{name}"'))
    command = [sys.executable, "-m", "matchbox.tools.cli", "up", str(config), "--detach"]
    process = subprocess.Popen(
        [*command, "--data", str(tmp_path / "data")],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    try:
        for _ in wait_until("the start has begun"):
            if (tmp_path / "data" / "lock").exists():
                break
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said) == (1, f"Exchange {name} was stopped before it served.\n")
        assert started
        assert not any(child.is_running() for child in started)
        assert not list(Path("/dev/shm").glob(f"matchbox-{name}-*"))
    finally:
        process.kill()


def wait_until(what: str, seconds: float = 60.0) -> Iterator[None]:
    """Turns of a loop that ends when something happens; fails if it does not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.005)
    raise AssertionError(f"did not happen in {seconds} s: {what}")


@pytest.fixture
def demo(tmp_path: Path, unique_name: Callable[[], str]) -> Iterator[Path]:
    """The data folder of the demo exchange, which runs under another name."""
    text = (ROOT / "tools" / "demo.toml").read_text()
    config = tmp_path / "demo.toml"
    config.write_text(text.replace('instance = "demo"', f'instance = "{unique_name()}"'))
    data = tmp_path / "data"
    started = matchbox("up", str(config), "--data", str(data), "--detach")
    assert started.returncode == 0, started.stdout + started.stderr
    try:
        yield data
    finally:
        stopped = matchbox("down", str(data))
        assert stopped.returncode == 0, stopped.stdout + stopped.stderr


def test_a_running_exchange_can_be_used_again_and_again(demo: Path) -> None:
    options = ("--attach", str(demo), "--account", "maker", "--market", "BTC/USDT")
    for _ in range(2):
        result = matchbox("replay", "demo", *options)
        assert result.returncode == 0, result.stdout + result.stderr
        assert "All 2,512 fills are as expected." in result.stdout
        assert "Cancelled 87 orders" in result.stdout


def test_a_market_must_be_named_where_there_are_several(demo: Path) -> None:
    result = matchbox("replay", "demo", "--attach", str(demo), "--account", "maker")
    assert result.returncode == 1 and "allowed=BTC/USDT, ETH/USDT" in result.stderr


def test_the_log_of_a_running_exchange_can_be_printed(demo: Path) -> None:
    matchbox("replay", "demo", "--attach", str(demo), "--account", "bob", "--market", "ETH/USDT")
    result = matchbox("log", str(demo), "--account", "bob", "--kind", "new-order", "--to", "200")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) > 100 and all("account=bob market=ETH/USDT" in line for line in lines)
