"""Other users of the machine: what they may attach for, and that they can reach the exchange."""

import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import ExchangeProcess, wait_for

# Becomes another user once all is imported: that user may not be able to read our files.
BOT = """
import os, pwd, sys
import asyncio, matchbox, numpy, select
import matchbox.shm.connect, matchbox.shm.session
user = pwd.getpwnam(sys.argv[1])
os.setgroups([]), os.setgid(user.pw_gid), os.setuid(user.pw_uid)
try:
    session = matchbox.connect(sys.argv[2], account=sys.argv[3])
except matchbox.MatchboxError as error:
    sys.exit(f"{type(error).__name__}: {error}")
with session:
    session.buy("BTC/USD", "0.0001", "1")
    (report,) = session.reports(timeout=30)
    print(matchbox.EventKind(report["kind"]).name, session.book("BTC/USD").best()[0])
try:
    print(os.listdir(sys.argv[2]))
except PermissionError:
    print("nothing to see")
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Of this test, and reachable for all: pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="mb-users-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def bot(exchange: ExchangeProcess, user: str, account: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BOT, user, str(exchange.data), account],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_user_of_an_account_trades_for_it_and_for_no_other(
    open_folder: Path, unique_name: Callable[[], str]
) -> None:
    user = "nobody"
    try:
        pwd.getpwnam(user)
    except KeyError:
        pytest.skip(f"this machine has no user {user}")
    exchange = ExchangeProcess(open_folder, unique_name())
    text = exchange.config.read_text()
    allowed = 'name = "alice"\nusers = ["nobody"]'
    exchange.config.write_text(text.replace('name = "alice"', allowed))
    try:
        exchange.up()
        result = bot(exchange, user, "alice")
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout == "ACCEPTED 100\nnothing to see\n"
        result = bot(exchange, user, "bob")
        assert result.returncode == 1
        assert "no account of this name is open to you: account=bob, user=nobody" in result.stderr
        wait_for(lambda: not exchange.connect("bob").close(), "it still serves")
        exchange.down()
    finally:
        exchange.end()
