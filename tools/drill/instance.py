"""The exchange of a drill: a throw-away one, or one that runs; and its processes."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matchbox.shm import segment
from matchbox.shm.board import Board
from matchbox.shm.connect import look
from matchbox.shm.errors import MatchboxError, SegmentError
from matchbox.shm.records import MAX_ASSET_UNITS
from matchbox.tools import leftovers
from matchbox.tools.config import Config, load
from matchbox.tools.folder import living, read_status
from matchbox.tools.run import wait_until_serving
from matchbox.tools.verify import find_config

PATIENCE_S = 60.0
ROLES = ("engine", "journal", "standby", "archiver", "supervisor")
MARKET = "DRILL/CASH"
# What views lack is written, too.
_STOP_PATIENCE_S = 300.0
_POLL_S = 0.005
_CONFIG = """
instance = "{instance}"
data = "{data}"
topology = "{topology}"

[[asset]]
name = "CASH"
scale = 0

[[asset]]
name = "DRILL"
scale = 0

{accounts}
[[market]]
id = 1
symbol = "{market}"
base = "DRILL"
quote = "CASH"
tick_size = "1"
lot_size = "1"
max_price = "2000000"
max_quantity = "1000000"
max_orders = 262144

[limits]
max_sessions = 16
max_accounts = 64
max_orders = 262144

[rings]
log = {log}

[snapshots]
interval_s = {snapshots}
"""
_ACCOUNT = """
[[account]]
number = {number}
name = "{name}"

[[deposit]]
account = "{name}"
asset = "CASH"
amount = "{amount}"

[[deposit]]
account = "{name}"
asset = "DRILL"
amount = "{amount}"
"""


def wait_for(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_S) -> Any:
    """What `condition` gives once that is true. Raises MatchboxError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise MatchboxError(f"did not happen in {seconds:.0f} s: {what}")
        time.sleep(_POLL_S)
    return found


class Instance:
    """An exchange that is broken and mended."""

    def __init__(self, config: Path, data: Path, output: Path | None = None) -> None:
        """`output`: what a throw-away one says goes there; None: somebody else's exchange."""
        self.config_path, self.data, self.output = config, data, output
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}

    @property
    def config(self) -> Config:
        return load(self.config_path)

    @property
    def ours(self) -> bool:
        return self.output is not None

    # -- its life

    def up(self) -> bool:
        """Start it, or adopt what runs of it; does it serve? Waits for that."""
        if not self.ours:
            raise MatchboxError("that is not ours to start")
        assert self.output is not None
        with self.output.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "matchbox.tools.cli", "up", str(self.config_path)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **self.environment},
            )
        return wait_until_serving(self.process, self.data)

    def down(self) -> None:
        """Stop it in order. Raises MatchboxError if that fails."""
        assert self.process is not None
        self.process.terminate()
        if self.process.wait(_STOP_PATIENCE_S):
            raise MatchboxError(f"it did not stop in order: {self.said[-2000:]}")

    def end(self) -> None:
        """Leave nothing of it behind."""
        if not self.ours:
            return
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        leftovers.kill_hosts(self.data)
        for name in segment.names(self.config.instance):
            segment.unlink(name)

    @property
    def said(self) -> str:
        return self.output.read_text(errors="replace") if self.output else ""

    # -- its processes

    @property
    def status(self) -> dict[str, Any]:
        return read_status(self.data)

    def pid(self, role: str) -> int:
        """The process of a role; 0 if there is none just now."""
        status = self.status
        alive = living(status)
        if role == "supervisor":
            return int(status["pid"]) if int(status.get("pid", 0)) in alive else 0
        if role == "archiver":
            return int(status.get("archiver", 0))
        engines = [int(pid) for pid in status.get("engines", [])]
        if role == "engine":
            return next((pid for pid in engines if pid in alive), 0)
        agents = self._agents()
        if role == "journal":
            pid = agents.get("journaler", 0)
            return pid if pid in alive else 0
        board = self._board(int(status.get("standby") or 0))
        pids = [] if board is None else board.live_processes()["pid"].tolist()
        return next((pid for pid in pids if pid in alive and pid not in engines), 0)

    def _agents(self) -> dict[str, int]:
        """Process of each agent, by the board."""
        board = self._board(int(self.status.get("epoch", 0)))
        if board is None:
            return {}
        return {
            row["name"].decode(): int(board.processes[int(row["process"])]["pid"])
            for row in board.live_agents()
        }

    def _board(self, epoch: int) -> Board | None:
        name = segment.SegmentName(self.status.get("instance", "-"), epoch, "board")
        try:
            return Board.attach(segment.attach(name, writable=False))
        except SegmentError:
            return None

    @property
    def epoch(self) -> int:
        return int(self.status.get("epoch", 0))

    @property
    def followed(self) -> bool:
        """Has a living engine a standby that has caught up?"""
        epoch = int(self.status.get("standby") or 0)
        if not self.pid("engine") or not self.pid("standby"):
            return False
        board = self._board(epoch)
        return board is not None and board.state == "following"

    def ready(self) -> None:
        """Wait until all of it is there again: it can be broken once more."""
        standby = self.config.standby.enabled
        archive = self.config.archive.enabled
        wait_for(
            lambda: (
                self.pid("supervisor")
                and self.pid("engine")
                and self.pid("journal")
                and (self.followed or not standby)
                and (self.pid("archiver") or not archive)
            ),
            "everything runs again",
        )

    @property
    def standby_lag(self) -> int:
        """Records; -1 while there is no standby."""
        from matchbox.tools.status import look as see

        about = see(self.data).instance["standby"]
        return int(about["lag"]) if about else -1

    def alarm(self) -> str:
        return str(self.status.get("alarm", ""))

    def operator(self) -> Any:
        """A connection. Raises SessionError."""
        return look(self.data, PATIENCE_S)


@contextmanager
def throw_away(
    sessions: int, *, topology: str = "compact", snapshots: int = 5, log_slots: int = 1 << 18
) -> Iterator[Instance]:
    """An exchange with so many funded accounts, c1, c2, ..., and one more; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="matchbox-drill-"))
    amount = MAX_ASSET_UNITS // (4 * sessions + 4)
    accounts = "".join(
        _ACCOUNT.format(number=n, name=f"c{n}", amount=amount) for n in range(1, sessions + 2)
    )
    config = folder / "drill.toml"
    config.write_text(
        _CONFIG.format(
            instance=f"drill-{os.getpid()}-{time.monotonic_ns() % 1_000_000}",
            data=folder / "data",
            topology=topology,
            accounts=accounts,
            market=MARKET,
            snapshots=snapshots,
            log=log_slots,
        )
    )
    made = Instance(config, folder / "data", folder / "output.txt")
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)


def running(place: str) -> Instance:
    """An exchange that runs. Raises BadArgument, MatchboxError."""
    from matchbox.tools.run import find_data

    data = find_data(place)
    if read_status(data).get("state") != "running":
        raise MatchboxError(f"no exchange runs there: data={data}")
    return Instance(find_config(data).path, data)


def send(pid: int, number: signal.Signals) -> bool:
    """A signal; False if the process has died."""
    if not pid:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False
