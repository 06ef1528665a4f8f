"""Starting and stopping an exchange from the command line."""

import os
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from matchbox.shm.connect import data_folder, look
from matchbox.shm.errors import BadArgument
from matchbox.shm.saying import complain, say
from matchbox.tools import folder
from matchbox.tools.config import Config, load
from matchbox.tools.folder import read_status
from matchbox.tools.signals import StopSignals
from matchbox.tools.supervisor import Supervisor

_START_PATIENCE_S = 600.0


def up(path: Path, data: Path | None, topology: str, detach: bool) -> int:
    """Start an exchange; returns the exit status."""
    config = load(path)
    if data is not None:
        config = replace(config, data=data.expanduser().resolve())
    if topology:
        config = config.with_topology(topology)
    if detach:
        return _up_detached(config, path, topology)
    with StopSignals() as signals:
        supervisor = Supervisor(config, signals, say=say)
        try:
            supervisor.start()
        except KeyboardInterrupt:
            complain(f"Exchange {config.instance} was stopped before it served.")
            return 1
        _greet(config, supervisor)
        return supervisor.run()


def _greet(config: Config, supervisor: Supervisor) -> None:
    """Say what runs and what can be done with it."""
    assert supervisor.plan is not None
    rows = [
        f"Exchange {config.instance} is running, epoch {supervisor.plan.epoch}, "
        f"data in {config.data}."
    ]
    for thread in supervisor.plan.threads:
        where = "any core" if thread.core is None else f"core {thread.core}"
        rows.append(f"  {thread.name:<12} {where}, {thread.idle:<5}  {', '.join(thread.agents)}")
    markets = ", ".join(market.symbol for market in supervisor.catalog.markets.values())
    rows.append(f"  markets      {markets or 'none'}")
    if config.markets and config.accounts:
        market, account = config.markets[0], config.accounts[0]
        price = 100 * market.price_step_ticks * market.tick_size
        quantity = max(market.min_quantity_lots, market.quantity_step_lots) * market.lot_size
        rows.append(
            "Next, in another terminal:\n"
            f"  matchbox status {config.data}\n"
            f"  python - <<'END'\n"
            "import matchbox\n"
            f'with matchbox.connect("{config.data}", account="{account.name}") as session:\n'
            f'    session.buy("{market.symbol}", "{quantity:f}", "{price:f}")\n'
            "    for report in session.reports(timeout=1):\n"
            '        print(matchbox.EventKind(report["kind"]).name, report["order_id"])\n'
            "END\n"
            "Ctrl-C here, or `matchbox down`, stops it."
        )
    say("\n".join(rows))


def _up_detached(config: Config, path: Path, topology: str) -> int:
    """Start the same command in the background and wait until it serves."""
    folder.prepare(config.data)
    log = config.data / "log.txt"
    options = ["--data", str(config.data), *(["--topology", topology] if topology else [])]
    before = log.stat().st_size if log.exists() else 0
    with StopSignals() as signals:
        process = start(path, log, *options)
        try:
            if wait_until_serving(process, config.data):
                print(
                    f"Exchange {config.instance} is running, pid {process.pid}; "
                    f"its output is in {log}."
                )
                return 0
        except KeyboardInterrupt:
            signals.defer()
            process.terminate()
            process.wait()
            print(f"Exchange {config.instance} was stopped before it served.", file=sys.stderr)
            return 1
    if process.poll() is not None:
        with log.open() as said:
            said.seek(before)
            print(said.read(), end="", file=sys.stderr)
        return process.returncode or 1
    process.terminate()
    print(f"The exchange did not start in {_START_PATIENCE_S:.0f} s: see {log}", file=sys.stderr)
    return 1


def start(config: Path, output: Path, *options: str) -> subprocess.Popen[bytes]:
    """`matchbox up CONFIG` in a session of its own; what it says is added to the file `output`.

    Another exchange may be writing to that: its folder is not locked yet.
    """
    with os.fdopen(folder.private(output, os.O_APPEND), "ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "matchbox.tools.cli", "up", str(config), *options],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_until_serving(process: subprocess.Popen[bytes], data: Path) -> bool:
    """Whether a started exchange serves; False if it ended, or took too long."""
    deadline = time.monotonic() + _START_PATIENCE_S
    while time.monotonic() < deadline:
        status = read_status(data)
        if status.get("pid") == process.pid and status["state"] == "running":
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.02)
    return False


def find_data(exchange: str) -> Path:
    """The data folder of an exchange: itself, by instance, or by its configuration file."""
    path = Path(exchange).expanduser()
    if path.is_file():
        return load(path).data
    return data_folder(exchange)


def promote(exchange: str) -> int:
    """Switch to the standby; returns the exit status."""
    connection = look(find_data(exchange), timeout=60.0)
    try:
        sequence, took = connection.promote()
    finally:
        connection.close()
    print(f"The standby has taken over at sequence {sequence:,}: {took}.")
    return 0


def down(exchange: str, timeout: float) -> int:
    """Stop an exchange in order and wait; returns the exit status."""
    data = find_data(exchange)
    status = read_status(data)
    if status.get("state") not in ("starting", "running", "stopping"):
        raise BadArgument(
            f"no exchange runs there: data={data}, state={status.get('state', 'none')}"
        )
    pid = int(status["pid"])
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        raise BadArgument(
            f"it has died without stopping; `matchbox up` recovers it: data={data}, pid={pid}"
        ) from None
    try:
        if pid not in folder.living(read_status(data)):
            raise BadArgument(
                f"it has died without stopping; `matchbox up` recovers it: data={data}"
            )
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        selector = selectors.DefaultSelector()
        selector.register(pidfd, selectors.EVENT_READ)
        if not selector.select(timeout):
            print(f"It has not ended in {timeout:.0f} s: pid={pid}", file=sys.stderr)
            return 1
    finally:
        os.close(pidfd)
    after = read_status(data)
    if after.get("state") != "stopped":
        print(f"It ended, but not in order: state={after.get('state')}", file=sys.stderr)
        return 1
    print(f"Stopped at sequence {after['sequence']:,}; state hash {after['hash']}.")
    return 0
