"""The control socket: whatever is asked for, and however often, the exchange goes on."""

import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

import matchbox
from matchbox.shm.control import LAYOUT_VERSION, MAGIC, REQUEST, ControlClient, RequestKind
from matchbox.tools.channel import close_all
from tests.integration.conftest import ExchangeProcess, collect, wait_for

Make = Callable[..., ExchangeProcess]


def still_trades(exchange: ExchangeProcess) -> bool:
    with exchange.connect() as session:
        return bool(collect(session, session.buy("BTC/USD", "0.0001", "1")))


@pytest.mark.parametrize("bits", [8, 256, 1 << 31, 0xFFFFFFFF])
def test_capabilities_that_there_are_not_are_refused(
    exchange_process: ExchangeProcess, bits: int
) -> None:
    line = ControlClient(exchange_process.data / "control.sock")
    with pytest.raises(matchbox.SessionError, match="capabilities not open to you"):
        line.ask(RequestKind.ATTACH, account="alice", capabilities=bits)
    line.close()
    assert still_trades(exchange_process)


def test_no_request_ends_the_exchange(exchange_process: ExchangeProcess, seed: int) -> None:
    """Random ones, most of them with the right magic and kinds and names that there are."""
    chance = random.Random(seed)
    for _ in range(300):
        request = np.frombuffer(chance.randbytes(REQUEST.itemsize), REQUEST).copy()
        request["magic"], request["layout_version"] = MAGIC, LAYOUT_VERSION
        request["kind"] = chance.choice([*RequestKind, chance.getrandbits(32)])
        request["account"] = chance.choice([b"", b"alice", chance.randbytes(36)])
        request["capabilities"] = chance.choice([0, 1, 4, 1 << chance.randrange(32)])
        request["name"] = chance.choice([b"", b"x" * 36, chance.randbytes(36)])
        request["symbol"] = chance.choice([b"BTC/USD", chance.randbytes(24)])
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
            line.settimeout(30)
            line.connect(str(exchange_process.data / "control.sock"))
            line.send(request.tobytes()[: chance.choice([REQUEST.itemsize, 7])])
            _, fds, _, _ = socket.recv_fds(line, 1 << 18, 16)
            close_all(fds)
            if fds and request["kind"] == RequestKind.ATTACH:
                line.send(_close(request, line))
    assert exchange_process.process is not None
    assert exchange_process.process.poll() is None


def _close(request: np.ndarray, line: socket.socket) -> bytes:
    """A request to close the session that `request` may have made."""
    closing = request.copy()
    closing["kind"] = RequestKind.CLOSE
    return closing.tobytes()


def test_more_connections_than_descriptors_are_refused_and_bots_still_attach(
    make_exchange: Make,
) -> None:
    exchange = make_exchange().up(before=("sh", "-c", 'ulimit -n 300; exec "$0" "$@"'))
    path = str(exchange.data / "control.sock")
    lines = []
    try:
        for _ in range(400):
            lines.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            lines[-1].connect(path)
        with pytest.raises(matchbox.SessionError, match="too many connections: allowed="):
            exchange.connect()
        # Those that stay silent make room in the end.
        session = wait_for(lambda: _attached(exchange), "a bot can attach")
        collect(session, session.buy("BTC/USD", "0.0001", "1"))
        session.close()
    finally:
        for line in lines:
            line.close()
    wait_for(lambda: _attached(exchange), "there is room again").close()
    exchange.down()


def _attached(exchange: ExchangeProcess) -> matchbox.Session | None:
    try:
        return exchange.connect()
    except matchbox.SessionError:
        return None


PLANTED = """
import sys
from matchbox.shm.errors import RingFull
from matchbox.tools import cli, sessions

def fails(self, *arguments):
    raise {error}("planted")

sessions.{place} = fails
sys.argv = ["matchbox", "up", sys.argv[1]]
cli.main()
"""


def planted(exchange: ExchangeProcess, place: str, error: str) -> None:
    """Start it with a function of tools/sessions.py that only fails."""
    program = PLANTED.format(place=place, error=error)
    with exchange.output.open("ab") as output:
        exchange.process = subprocess.Popen(
            [sys.executable, "-c", program, str(exchange.config)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    wait_for(lambda: exchange.status.get("state") in ("running", "failed"), "it has started")


def test_an_error_that_nobody_expected_ends_the_exchange_and_leaves_nothing(
    make_exchange: Make,
) -> None:
    exchange = make_exchange()
    planted(exchange, "Doorkeeper.sweep", "ValueError")
    assert exchange.process is not None
    assert exchange.process.wait(60) == 1
    assert "The exchange has failed: ValueError: planted. Stopping." in exchange.text()
    assert exchange.status["state"] == "failed"
    assert exchange.segments() == []
    exchange.up().down()


@pytest.mark.parametrize("error", ["RingFull", "ValueError"])
def test_an_attachment_that_fails_ends_its_line_and_nothing_else(
    make_exchange: Make, error: str
) -> None:
    exchange = make_exchange()
    planted(exchange, "Operator.one", error)
    for _ in range(3):
        with pytest.raises(matchbox.EngineDown, match="hung up"):
            exchange.connect()
    assert "planted" in exchange.text()
    assert exchange.down()["state"] == "stopped"
