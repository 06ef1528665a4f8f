"""Pulling from a running exchange: what was told, from any position on, whoever has died."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import matchbox
from matchbox.persistence import partition
from matchbox.shm import streams
from matchbox.shm.records import COMMAND, EventKind, Kind, OrderType, Side, TimeInForce
from matchbox.shm.streams import LAST_PART, Position
from matchbox.tools.archive_admin import drop
from matchbox.tools.cli import make_app
from matchbox.tools.config import load
from matchbox.tools.verify_views import differences
from tests.integration.conftest import DEADLINE_S, ExchangeProcess, collect, wait_for

DAY_NS = 86_400 * 10**9


@pytest.fixture(scope="module", autouse=True)
def no_archiver_stays() -> Iterator[None]:
    """After the last test."""
    yield
    wait_for(
        lambda: (
            not [
                p
                for p in psutil.process_iter(["cmdline"])
                if "matchbox.tools.archiver" in (p.info["cmdline"] or [])
                and any("pytest" in word for word in p.info["cmdline"])
            ]
        ),
        "all archivers have ended",
    )


@pytest.fixture
def exchange(make_exchange: Callable[..., ExchangeProcess]) -> ExchangeProcess:
    return make_exchange(archive=True).up()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExchangeProcess]:
    """One for several tests, each of which leaves no order on the book."""
    name = f"t{os.getpid()}pull"
    made = ExchangeProcess(tmp_path_factory.mktemp("pull"), name, archive=True).up()
    yield made
    made.down()
    made.end()


def read_all(pull: matchbox.Pull, until: int) -> np.ndarray[Any, Any]:
    """Everything up to a log record, once it is there."""
    parts = []

    def more() -> bool:
        rows = pull.read(100, timeout=0.1)
        parts.append(rows)
        return not len(rows) and pull.last.sequence >= until

    wait_for(more, f"record {until} can be pulled")
    return np.concatenate(parts)


def trade(alice: matchbox.Session, bob: matchbox.Session, count: int) -> list[Any]:
    """So many trades; what alice was told."""
    told = []
    for number in range(count):
        alice.buy("BTC/USD", "1", "100", client_order_id=f"o{number}")
        position = bob.sell("BTC/USD", "1", "100")
        collect(bob, position)
        while len(rows := alice.reports(timeout=0.02 if number < count - 1 else 1.0)):
            told += list(rows)
    return told


def test_what_a_session_was_told_can_be_pulled_later(exchange: ExchangeProcess) -> None:
    with exchange.connect() as alice, exchange.connect("bob") as bob:
        told = trade(alice, bob, 5)
        last = int(told[-1]["sequence"])
        pull = alice.pull()
        assert pull.position == (0, 0)
        rows = read_all(pull, last)
        orders = rows[rows["kind"] < EventKind.BALANCE]
        assert [_plain(r) for r in orders] == [_plain(r) for r in told]
        assert set(orders["assurance"].tolist()) == {matchbox.Assurance.DURABLE}
        deposits = rows[rows["kind"] == EventKind.BALANCE]
        assert len(deposits) == 2  # made before the session was
        # From any position: text, tuple, sequence.
        middle = Position.of(orders[6])
        for after in (middle, str(middle), tuple(middle)):
            assert [_plain(r) for r in read_all(alice.pull(after=after), last)] == [
                _plain(r) for r in orders[7:]
            ]
        assert not len(alice.pull(after=last).read())
        assert not len(alice.pull(after=f"{last}").read())
    # No session is needed, and one that is closed goes on pulling.
    assert len(read_all(matchbox.pull(exchange.data, account="bob"), last)) > 5
    assert pull.read().size == 0
    exchange.down()


def _plain(report: Any) -> tuple[Any, ...]:
    return tuple(report[name].item() for name in report.dtype.names if name != "assurance")


def test_trades_are_public_and_say_nothing_of_accounts(running: ExchangeProcess) -> None:
    with running.connect() as alice, running.connect("bob") as bob:
        told = trade(alice, bob, 4)
        rows = read_all(bob.pull("trades", market="BTC/USD"), int(told[-1]["sequence"]))
    assert rows["trade_id"].tolist() == list(range(1, len(rows) + 1))
    assert rows["price_ticks"][-4:].tolist() == [10_000] * 4
    # We are the exchange's own user, who may see all; others are given the same without.
    assert (rows["account"] == 2).all()
    assert (rows["order_id"] > 0).all()


def test_operators_pull_the_log(running: ExchangeProcess) -> None:
    with running.connect() as alice:
        position = alice.buy("BTC/USD", "1", "100")
        last = int(collect(alice, position)[-1]["sequence"])
        alice.mass_cancel()
        log = read_all(alice.pull("log"), last)
        assert log["sequence"].tolist() == list(range(1, int(log["sequence"][-1]) + 1))
        assert log[last - 1]["kind"] == Kind.NEW_ORDER
        rest = read_all(alice.pull("log", after=last - 1), last)
        assert rest["sequence"][0] == last


def test_a_consumer_goes_on_where_it_has_committed(exchange: ExchangeProcess) -> None:
    with exchange.connect() as alice, exchange.connect("bob") as bob:
        last = int(trade(alice, bob, 6)[-1]["sequence"])
        read_all(alice.pull(), last)
        with alice.pull(consumer="risk") as pull:
            first = pull.read(5)
            pull.commit()
            pull.read(3)  # not committed
        with alice.pull(consumer="risk") as pull:
            assert pull.position == Position.of(first[-1])
            rest = read_all(pull, last)
            pull.commit(first[2]["sequence"].item())
        whole = read_all(alice.pull(), last)
        assert np.concatenate([first, rest]).tobytes() == whole.tobytes()
        with pytest.raises(matchbox.SessionError, match="no such position was given out yet"):
            alice.pull(consumer="risk").commit(10**9)
        # Others, of another name or account, have their own.
        assert alice.pull(consumer="other").position == (0, 0)
        assert bob.pull(consumer="risk").position == (0, 0)
        kept = alice.pull(consumer="risk").position
    exchange.down()
    exchange.up()
    assert kept == (int(first[2]["sequence"]), LAST_PART)
    assert matchbox.pull(exchange.data, account="alice", consumer="risk").position == kept
    exchange.down()


def test_pull_waits_for_what_comes(running: ExchangeProcess) -> None:
    with running.connect() as alice:
        last = collect(alice, alice.buy("BTC/USD", "1", "100"))[-1]
        pull = alice.pull()
        read_all(pull, int(last["sequence"]))
        assert not len(pull.read(timeout=0.1))
        position = alice.buy("BTC/USD", "1", "100")
        report = pull.read(timeout=DEADLINE_S)[0]
        assert report["command_position"] == position
        collect(alice, alice.mass_cancel())


def test_wrong_pulls_say_what_is_allowed(running: ExchangeProcess) -> None:
    with running.connect() as alice:
        for wrong, text in (
            ({"stream": "fills"}, "allowed: reports, trades, log"),
            ({"stream": "trades"}, "trades are of a market"),
            ({"after": "12-"}, 'text as "123-4"'),
            ({"after": -1}, "sequence is out of range"),
            ({"after": 1.5}, "sequence must be an integer"),
            ({"consumer": "a b"}, "printable ASCII"),
        ):
            with pytest.raises(matchbox.BadArgument, match=text):
                alice.pull(**wrong)
        for wrong, text in (
            ({"stream": "trades", "market": "XXX"}, "no such market: 'XXX'; there are: BTC/USD"),
            ({"after": 10**15}, "no such position was given out yet"),
        ):
            with pytest.raises(matchbox.SessionError, match=text):
                alice.pull(**wrong)
        with pytest.raises(matchbox.SessionError, match="no account of this name is open to you"):
            matchbox.pull(running.data, account="mallory")
        # Who speaks something else is cut off, and nobody else notices.
        for noise in (b"\xff" * 64, streams._FRAME.pack(3, 0) + b"[1]", b"\0" * 8):
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as line:
                line.connect(str(running.data / streams.SOCKET))
                line.sendall(noise)
                line.settimeout(DEADLINE_S)
                with contextlib.suppress(ConnectionResetError):
                    assert line.recv(64) == b""
        for asked in (
            {"do": "pull", "stream": "log", "limit": -1},
            {"do": "x", "stream": "log"},
            {},
        ):
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as line:
                line.connect(str(running.data / streams.SOCKET))
                streams.send(line, asked)
                answer = streams.receive(line)
                assert answer is not None and not answer[0]["ok"]
                assert "allowed" in answer[0]["error"]
        assert alice.pull().read(1).size == 1


BOT = """
import os, pwd, sys
import matchbox, numpy, json, socket
user = pwd.getpwnam("nobody")
os.setgroups([]), os.setgid(user.pw_gid), os.setuid(user.pw_uid)
data = sys.argv[1]
for stream, more in (("reports", {"account": "alice"}), ("reports", {"account": "bob"}),
                     ("trades", {"market": "BTC/USD"}), ("log", {})):
    try:
        rows = matchbox.pull(data, stream, **more).read()
        secret = ("account", "order_id", "fee") if stream == "trades" else ("sequence",)
        hidden = not any(rows[name].any() for name in secret)
        print(stream, len(rows) > 0, hidden)
    except matchbox.MatchboxError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_pulls_what_its_account_may_see(
    make_exchange: Callable[..., ExchangeProcess],
) -> None:
    with tempfile.TemporaryDirectory(prefix="mb-pull-") as name:
        Path(name).chmod(0o755)
        exchange = make_exchange(archive=True)
        text = exchange.config.read_text()
        exchange.data = Path(name) / "data"
        text = text.replace('name = "alice"', 'name = "alice"\nusers = ["nobody"]', 1)
        lines = [line for line in text.splitlines() if not line.startswith("data =")]
        exchange.config.write_text(f'data = "{exchange.data}"\n' + "\n".join(lines))
        exchange.up()
        with exchange.connect() as alice, exchange.connect("bob") as bob:
            last = int(trade(alice, bob, 1)[-1]["sequence"])
            read_all(alice.pull(), last)
        done = subprocess.run(
            [sys.executable, "-c", BOT, str(exchange.data)],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert done.stdout.splitlines() == [
            "reports True False",
            "SessionError no account of this name is open to you: account='bob', user=nobody",
            "trades True True",
            "SessionError the log is for operators: user=nobody",
        ], done.stderr
        exchange.down()


class Flow:
    """Alice's orders, and all that she was told of them."""

    def __init__(self, exchange: ExchangeProcess) -> None:
        self.session = exchange.connect(assurance="durable")
        self.told: list[Any] = []
        self.random = np.random.default_rng(3)

    def send(self, count: int) -> None:
        orders = np.zeros(count, matchbox.NEW_ORDER)
        orders["kind"], orders["market"], orders["order_type"] = Kind.NEW_ORDER, 1, OrderType.LIMIT
        orders["side"] = self.random.choice([Side.BUY, Side.SELL], count)
        orders["price_ticks"] = self.random.integers(9_990, 10_010, count)
        orders["quantity_lots"] = self.random.integers(1, 50, count)
        orders["time_in_force"] = self.random.choice([TimeInForce.GTC, TimeInForce.IOC], count)
        self.last = self.session.submit(orders.view(COMMAND), timeout=DEADLINE_S) + count - 1

    def receive(self) -> None:
        """Until the last command is answered, and what else there is."""

        def answered() -> bool:
            self.told += list(self.session.reports(timeout=0.1))
            return any(
                r["command_position"] == self.last
                for r in self.told[-4000:]
                if r["kind"] != EventKind.TRADE
            )

        wait_for(answered, "the last order is answered")
        while len(rows := self.session.reports(timeout=0.3)):
            self.told += list(rows)

    def same_as(self, exchange: ExchangeProcess) -> None:
        """She can pull exactly that: all of it, in order, once."""
        last = int(self.told[-1]["sequence"])
        rows = read_all(matchbox.pull(exchange.data, account="alice"), last)
        orders = rows[rows["kind"] < EventKind.BALANCE]
        assert [_plain(r) for r in orders] == [_plain(r) for r in self.told]


def test_an_archiver_that_is_killed_under_load_is_replaced_and_misses_nothing(
    exchange: ExchangeProcess,
) -> None:
    flow = Flow(exchange)
    consumer = flow.session.pull()
    read = []
    for _ in range(3):
        flow.send(2000)
        killed = wait_for(lambda: exchange.status.get("archiver"), "there is an archiver")
        os.kill(killed, signal.SIGKILL)
        others = (0, killed)
        wait_for(lambda no=others: exchange.status["archiver"] not in no, "there is another one")
        flow.send(500)
        flow.receive()
        read.append(consumer.read(1000, timeout=DEADLINE_S))  # it finds the new one by itself
    read.append(read_all(consumer, int(flow.told[-1]["sequence"])))
    rows = np.concatenate(read)
    orders = rows[rows["kind"] < EventKind.BALANCE]
    assert [_plain(r) for r in orders] == [_plain(r) for r in flow.told]
    flow.session.close()
    exchange.down()
    assert "The archiver ended: signal SIGKILL" in exchange.text()
    assert differences(load(exchange.config), exchange.data)[1] == []


def test_pulls_go_on_after_a_takeover_and_without_a_supervisor(
    make_exchange: Callable[..., ExchangeProcess],
) -> None:
    exchange = make_exchange(standby=True, archive=True).up()
    wait_for(lambda: exchange.followed, "a standby follows")
    flow = Flow(exchange)
    flow.send(2000)
    os.kill(exchange.host_of("sequencer"), signal.SIGKILL)
    flow.send(2000)
    flow.receive()
    flow.same_as(exchange)
    assert exchange.process is not None
    exchange.process.kill()
    exchange.process.wait()
    flow.send(500)
    flow.receive()
    flow.same_as(exchange)
    before = exchange.status["archiver"]
    exchange.up()
    assert not psutil.pid_exists(before) or exchange.status["archiver"] != before
    flow.send(500)
    flow.receive()
    flow.same_as(exchange)
    flow.session.close()
    exchange.down()
    assert differences(load(exchange.config), exchange.data)[1] == []


def test_views_that_are_lost_are_made_again_at_the_next_start(exchange: ExchangeProcess) -> None:
    flow = Flow(exchange)
    flow.send(1000)
    flow.receive()
    flow.session.close()
    exchange.down()
    for day in partition.days(exchange.data / "views"):
        partition.remove(exchange.data / "views", day)
    exchange.up()
    flow.same_as(exchange)
    exchange.down()


def test_what_retention_has_dropped_is_an_error_that_names_the_oldest(
    make_exchange: Callable[..., ExchangeProcess],
) -> None:
    exchange = make_exchange(archive=True).up()
    with exchange.connect() as alice:
        last = int(collect(alice, alice.buy("BTC/USD", "1", "100"))[-1]["sequence"])
        read_all(alice.pull(), last)
    exchange.down()
    views = exchange.data / "views"
    # As if what there is had been yesterday.
    today = partition.days(views)[-1]
    partition.remove(views, "2001-01-01")
    opened = partition.open_day(views, today, writable=True)
    opened.seal()
    partition.close(opened)
    partition.path_of(views, today).rename(partition.path_of(views, "2001-01-01"))
    exchange.up()
    with exchange.connect() as alice:
        again = int(collect(alice, alice.buy("BTC/USD", "1", "100"))[-1]["sequence"])
        assert len(read_all(alice.pull(), again)) == 4
        (gone,) = drop(views, today)
        assert gone == "2001-01-01"
        with pytest.raises(matchbox.Forgotten) as forgotten:
            alice.pull(after=1)
        oldest = forgotten.value.oldest
        assert oldest[0] >= last
        rows = read_all(alice.pull(after=oldest), again)
        assert rows["sequence"].tolist() == [again]
        assert alice.pull().position == oldest  # who says nothing begins there
    exchange.down()


def test_the_command_line_pulls_lists_and_exports(
    exchange: ExchangeProcess, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(*words: str) -> list[str]:
        capsys.readouterr()
        make_app()([str(word) for word in words], standalone_mode=False)
        return capsys.readouterr().out.splitlines()

    data = str(exchange.data)
    with exchange.connect() as alice, exchange.connect("bob") as bob:
        last = int(trade(alice, bob, 3)[-1]["sequence"])
        read_all(alice.pull(), last)
    rows = [json.loads(line) for line in run("pull", data, "--account", "alice", "--json")]
    fills = [row for row in rows if row["kind"] == "trade"]
    assert [(f["price"], f["quantity"], f["role"]) for f in fills] == 3 * [
        ("100.00", "1.0000", "maker")
    ]
    first = run("pull", data, "--account", "alice", "--consumer", "c", "-n", "4")
    rest = run("pull", data, "--account", "alice", "--consumer", "c")
    assert len(first) == 4
    assert len(first + rest) == len(rows)
    (listed,) = run("archive", "list", data, "--consumers")
    assert listed.split()[:3] == ["c", "reports", "alice"]
    assert len(run("pull", data, "--stream", "trades", "--market", "BTC/USD")) == 3
    assert len(run("pull", data, "--stream", "log", "--after", "3", "-n", "2")) == 2
    (day,) = [json.loads(line) for line in run("archive", "list", data, "--json")]
    written = run("archive", "export", data, day["day"], "--to", str(tmp_path / "out"))
    assert len(written) == 5
    assert "3 rows" in next(line for line in written if "trades-" in line)
    status = json.loads(run("status", data, "--json")[0])["archive"]
    assert status["lag"] == 0
    exchange.down()
