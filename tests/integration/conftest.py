"""Real exchanges for tests: `matchbox up` as a process, stopped and cleaned up in any case."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import matchbox
from matchbox.shm import segment
from matchbox.shm.errors import SegmentError
from matchbox.tools.folder import read_status
from matchbox.tools.leftovers import kill_host

DEADLINE_S = 60.0

# Small rings and tables, so that an exchange is up quickly and its limits are met.
CONFIG = """
instance = "{instance}"
data = "{data}"
{top}

[rings]
log = 16384
events = 16384
market_data = 16384
commands = 4096
reports = 16384

[limits]
max_sessions = 16
max_accounts = 64

[journal]
file_size = "64MiB"
linger_ms = 2

[[asset]]
name = "USD"
scale = 8

[[asset]]
name = "BTC"
scale = 8

[[account]]
number = 1
name = "alice"

[[account]]
number = 2
name = "bob"

[[market]]
id = 1
symbol = "BTC/USD"
base = "BTC"
quote = "USD"
tick_size = "0.01"
lot_size = "0.0001"
max_orders = 8192

[[market]]
id = 2
symbol = "BTC/USD.2"
base = "BTC"
quote = "USD"
tick_size = "0.01"
lot_size = "0.0001"
max_orders = 8192
{rest}
"""

DEPOSITS = "".join(
    f'[[deposit]]\naccount = "{account}"\nasset = "{asset}"\namount = "4000000000"\n'
    for account in ("alice", "bob")
    for asset in ("USD", "BTC")
)

MIXED = """
[[process]]
name = "front"
agents = ["sequencer", "publisher"]

[[process]]
name = "books"
agents = ["matcher-1", "matcher-0", "journaler"]
"""

TOPOLOGIES = {
    "compact": ('topology = "compact"', ""),
    "wide": ('topology = "wide"\nmatchers = 2', ""),
    "by hand": ("matchers = 2", MIXED),
}


def wait_for(condition: Callable[[], Any], what: str, seconds: float = DEADLINE_S) -> Any:
    """What `condition` gives once that is true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError(f"did not happen in {seconds} s: {what}")


class ExchangeProcess:
    """An instance with a configuration and a data folder of its own."""

    def __init__(
        self,
        folder: Path,
        instance: str,
        topology: str = "compact",
        *,
        funded: bool = True,
        standby: bool = False,
        archive: bool = False,
        more: str = "",
    ) -> None:
        self.instance, self.data = instance, folder / "data"
        self.config = folder / "exchange.toml"
        self.output = folder / "output.txt"
        top, rest = TOPOLOGIES[topology]
        text = CONFIG.format(instance=instance, data=self.data, top=top, rest=rest)
        text += DEPOSITS if funded else ""
        text += "" if standby else "\n[standby]\nenabled = false\n"
        text += "" if archive else "\n[archive]\nenabled = false\n"
        text += more
        self.config.write_text(text)
        self.process: subprocess.Popen[bytes] | None = None

    def begin(self, *options: str, before: tuple[str, ...] = ()) -> None:
        """Start it, with more options of `matchbox up`, and by a command `before` that runs it."""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    *before,
                    sys.executable,
                    "-m",
                    "matchbox.tools.cli",
                    "up",
                    str(self.config),
                    *options,
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )

    def up(self, *options: str, before: tuple[str, ...] = ()) -> "ExchangeProcess":
        """Start it and wait until it serves."""
        self.begin(*options, before=before)
        wait_for(self._serves, "the exchange serves")
        return self

    def _serves(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.text()
        status = self.status
        return status.get("pid") == self.process.pid and status["state"] == "running"

    def down(self) -> dict[str, Any]:
        """Stop it in order; what instance.json says then."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(DEADLINE_S) == 0, self.text()
        return self.status

    @property
    def status(self) -> dict[str, Any]:
        return read_status(self.data)

    @property
    def hosts(self) -> list[int]:
        """Process numbers of the hosts."""
        return [int(pid) for pid in self.status["processes"]]

    def host_of(self, agent: str) -> int:
        """The process that runs an agent."""
        from matchbox.shm.board import Board

        name = segment.SegmentName(self.instance, self.status["epoch"], "board")
        board = Board.attach(segment.attach(name, writable=False))
        row = next(a for a in board.live_agents() if a["name"] == agent.encode())
        return int(board.processes[int(row["process"])]["pid"])

    @property
    def followed(self) -> bool:
        """Has the engine a standby that has caught up?"""
        from matchbox.shm.board import Board

        epoch = self.status.get("standby")
        if not epoch or psutil.pid_exists(self.host_of("sequencer")) is False:
            return False
        try:
            name = segment.SegmentName(self.instance, epoch, "board")
            return Board.attach(segment.attach(name, writable=False)).state == "following"
        except SegmentError:
            return False

    def segments(self) -> list[segment.SegmentName]:
        return segment.names(self.instance)

    def text(self) -> str:
        """All that it has said."""
        return self.output.read_text()

    def connect(self, account: str = "alice", **options: Any) -> matchbox.Session:
        return matchbox.connect(self.data, account=account, **options)

    def end(self) -> None:
        """Leave nothing behind; say what it said if that is of interest."""
        print(self.text() if self.output.exists() else "")
        if self.process is not None and self.process.poll() is None:
            children = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            self.process.wait()
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            psutil.wait_procs(children, DEADLINE_S)
        workers = self.status.get("gateway", {}).get("workers", [])
        others = (self.status.get("archiver", 0), *workers)
        for pid in (*self.status.get("processes", []), *others):
            if pid:
                kill_host(int(pid))
        for name in self.segments():
            segment.unlink(name)


@pytest.fixture
def make_exchange(
    tmp_path: Path, unique_name: Callable[[], str]
) -> Iterator[Callable[..., ExchangeProcess]]:
    """make_exchange(topology="compact", funded=True, standby=False, archive=False, more=""): one
    that is not running yet.

    funded: alice and bob have 4,000,000,000 of each asset. more: the end of its configuration.
    """
    made: list[ExchangeProcess] = []

    def make(
        topology: str = "compact",
        *,
        funded: bool = True,
        standby: bool = False,
        archive: bool = False,
        more: str = "",
    ) -> ExchangeProcess:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(
            ExchangeProcess(
                folder,
                unique_name(),
                topology,
                funded=funded,
                standby=standby,
                archive=archive,
                more=more,
            )
        )
        return made[-1]

    yield make
    for exchange in made:
        exchange.end()


@pytest.fixture
def exchange_process(make_exchange: Callable[..., ExchangeProcess]) -> ExchangeProcess:
    """A running exchange in topology compact."""
    return make_exchange().up()


def collect(session: matchbox.Session, position: int) -> list[Any]:
    """All reports up to the answer to the command at `position`."""
    found: list[Any] = []

    def answered() -> bool:
        found.extend(session.reports(timeout=0.1))
        return any(
            r["kind"] != matchbox.EventKind.TRADE and r["command_position"] >= position
            for r in found
        )

    wait_for(answered, f"command {position} is answered")
    return found
