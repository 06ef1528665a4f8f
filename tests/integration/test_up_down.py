"""A real exchange in processes: it comes up, trades, stops in order, dies, and comes back."""

import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable

import numpy as np
import psutil
import pytest

import matchbox
from matchbox.persistence.journal import Reader
from matchbox.shm.records import LOG_RECORD
from tests.integration.conftest import TOPOLOGIES, ExchangeProcess, collect, wait_for

Make = Callable[..., ExchangeProcess]


def orders(count: int, seed: int, market: int = 1) -> np.ndarray:
    """New orders around one price, some of which match, each with a client order id of its own."""
    random_numbers = np.random.default_rng(seed)
    batch = np.zeros(count, matchbox.COMMAND)
    batch["kind"] = matchbox.Kind.NEW_ORDER
    batch["market"], batch["order_type"] = market, matchbox.OrderType.LIMIT
    batch["time_in_force"] = matchbox.TimeInForce.GTC
    batch["side"] = random_numbers.integers(1, 3, count)
    batch["price_ticks"] = random_numbers.integers(9_000, 11_000, count)
    batch["quantity_lots"] = random_numbers.integers(1, 50, count)
    batch["client_order_id"] = [f"{seed}-{market}-{i}".encode() for i in range(count)]
    return batch


def trade(exchange: ExchangeProcess, count: int = 2000, seed: int = 1) -> list[np.void]:
    """Send orders to both markets and return all reports of them."""
    with exchange.connect() as session:
        session.submit(orders(count // 2, seed, 1))
        session.submit(orders(count // 2, seed, 2))
        return collect(session, session.sent)


def journal(exchange: ExchangeProcess) -> np.ndarray:
    with Reader(exchange.data / "journal") as reader:
        parts = [batch.records for batch in reader.batches()]
    return np.concatenate(parts) if parts else np.empty(0, LOG_RECORD)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_it_trades_and_leaves_nothing_in_shared_memory(make_exchange: Make, topology: str) -> None:
    exchange = make_exchange(topology).up()
    reports = trade(exchange)
    kinds = {int(report["kind"]) for report in reports}
    assert {matchbox.EventKind.ACCEPTED, matchbox.EventKind.TRADE} <= kinds
    assert exchange.segments()
    status = exchange.down()
    assert status["state"] == "stopped"
    assert exchange.segments() == []
    assert not (exchange.data / "control.sock").exists()
    records = journal(exchange)
    assert records["sequence"].tolist() == list(range(1, status["sequence"] + 1))


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_it_comes_back_to_the_same_state_and_goes_on(make_exchange: Make, topology: str) -> None:
    exchange = make_exchange(topology).up()
    trade(exchange, seed=1)
    stopped = exchange.down()
    exchange.up()
    assert f"state hash {stopped['hash']}." in exchange.text().rsplit("Replayed the journal", 1)[1]
    with exchange.connect() as session:
        depth = session.book(1).depth()
    trade(exchange, seed=2)
    again = exchange.down()
    assert again["sequence"] > stopped["sequence"]
    assert again["hash"] != stopped["hash"]
    assert len(depth.bids)


def test_the_state_does_not_depend_on_the_topology(make_exchange: Make) -> None:
    found = []
    for topology in ("compact", "wide"):
        exchange = make_exchange(topology).up()
        reports = trade(exchange)
        found.append(
            sorted((int(r["sequence"]), int(r["index"]), int(r["flags"])) for r in reports)
        )
        exchange.down()
    assert found[0] == found[1]


@pytest.mark.parametrize("agent", ["sequencer", "matcher-0", "publisher"])
def test_a_killed_process_stops_the_exchange_and_nothing_sequenced_is_lost(
    make_exchange: Make, agent: str
) -> None:
    exchange = make_exchange("wide").up()
    session = exchange.connect()
    session.submit(orders(1000, 7))
    reports = collect(session, session.sent)
    session.submit(orders(1000, 8))
    os.kill(exchange.host_of(agent), signal.SIGKILL)
    assert exchange.process is not None
    assert exchange.process.wait(60) == 1
    assert "Stopping" in exchange.text()
    assert exchange.segments() == []
    with pytest.raises(matchbox.EngineDown):
        wait_for(lambda: session.reports(timeout=0.1) is None, "the bot learns of the death")
    exchange.up()
    known = {r["client_order_id"] for r in journal(exchange)}
    assert all(report["client_order_id"] in known for report in reports)
    trade(exchange, seed=9)
    exchange.down()


def test_what_a_supervisor_cannot_adopt_the_next_start_cleans_up(make_exchange: Make) -> None:
    exchange = make_exchange().up()
    reports = trade(exchange, seed=3)
    assert exchange.process is not None
    hosts = exchange.hosts
    exchange.process.kill()
    exchange.process.wait()
    os.kill(exchange.host_of("sequencer"), signal.SIGKILL)
    assert exchange.segments()
    exchange.up()
    assert not set(hosts) & set(exchange.hosts)
    assert {name.epoch for name in exchange.segments()} == {2}
    known = {r["client_order_id"] for r in journal(exchange)}
    assert all(report["client_order_id"] in known for report in reports)
    exchange.down()


def test_all_processes_killed_at_once_lose_nothing_that_was_reported(make_exchange: Make) -> None:
    exchange = make_exchange().up()
    session = exchange.connect()
    session.submit(orders(1500, 4))
    reports = collect(session, session.sent)
    assert exchange.process is not None
    for pid in [exchange.process.pid, *exchange.hosts]:
        os.kill(pid, signal.SIGKILL)
    exchange.process.wait()
    exchange.up()
    assert "Saved" in exchange.text()
    known = {r["client_order_id"] for r in journal(exchange)}
    assert all(report["client_order_id"] in known for report in reports)
    exchange.down()


def test_a_second_exchange_is_refused_in_the_same_folder(make_exchange: Make) -> None:
    exchange = make_exchange().up()
    result = subprocess.run(
        [sys.executable, "-m", "matchbox.tools.cli", "up", str(exchange.config)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.returncode == 1
    assert "an exchange runs in this data folder" in result.stderr
    trade(exchange)
    exchange.down()


def test_a_market_that_changed_in_the_configuration_is_refused(make_exchange: Make) -> None:
    exchange = make_exchange().up()
    exchange.down()
    text = exchange.config.read_text()
    exchange.config.write_text(text.replace('tick_size = "0.01"', 'tick_size = "0.05"', 1))
    with pytest.raises(AssertionError, match="market 1 is defined otherwise in the journal"):
        exchange.up()
    assert exchange.segments() == []
    exchange.config.write_text(text)
    exchange.up().down()


BOT = """
import matchbox, sys
session = matchbox.connect(sys.argv[1], account="bob", name="doomed")
session.sell("BTC/USD", "1", "500")
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_bot_that_dies_is_detached_and_what_it_had_sent_is_taken(
    exchange_process: ExchangeProcess,
) -> None:
    exchange = exchange_process
    bot = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BOT), str(exchange.data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert bot.stdout is not None
    assert bot.stdout.readline() == b"ready\n"
    bot.kill()
    bot.wait()
    with exchange.connect() as session:
        wait_for(lambda: session.book("BTC/USD").best()[3] == 10_000, "its order rests")

        def again() -> matchbox.Session | None:
            try:
                return exchange.connect("bob", name="doomed")
            except matchbox.SessionError:
                return None

        with wait_for(again, "its name is free") as second:
            assert second.sent == 1
    exchange.down()
    detached = [r for r in journal(exchange) if r["kind"] == 36]
    assert len(detached) >= 1


def test_more_sessions_than_slots_are_refused_and_slots_are_used_again(
    exchange_process: ExchangeProcess,
) -> None:
    sessions = [exchange_process.connect() for _ in range(16)]
    with pytest.raises(matchbox.SessionError, match="all session slots are taken"):
        exchange_process.connect()
    for session in sessions:
        session.close()
    for _ in range(3):
        wait_for(lambda: _connected(exchange_process), "a slot is free again")
    exchange_process.down()


def _connected(exchange: ExchangeProcess) -> bool:
    try:
        exchange.connect().close()
    except matchbox.SessionError:
        return False
    return True


def test_a_stop_ends_sessions_with_a_reason(exchange_process: ExchangeProcess) -> None:
    session = exchange_process.connect()
    exchange_process.down()
    (last,) = session.reports(timeout=1)
    assert last["kind"] == matchbox.EventKind.DETACHED
    assert matchbox.Reason(last["reason"]) == matchbox.Reason.ENGINE_STOPPED
    with pytest.raises(matchbox.SessionError):
        session.buy(1, quantity_lots=1, price_ticks=1)


@pytest.mark.parametrize("state", ["starting", "running"])
def test_a_stop_asked_for_during_the_start_is_done_in_order(
    make_exchange: Make, state: str
) -> None:
    """Also in the moment between saying that it runs and the first look at what was asked."""
    exchange = make_exchange()
    for _ in range(3):
        exchange.begin()
        hosts: list[int] = []
        while exchange.status.get("pid") != exchange.process.pid or (
            exchange.status["state"] != state
        ):
            assert exchange.process.poll() is None, exchange.text()
        hosts = exchange.hosts
        exchange.process.send_signal(signal.SIGTERM)
        status = exchange.process.wait(60)
        # A start that was nearly done may have become a stop in order.
        allowed = {"running": {0: "stopped"}, "starting": {0: "stopped", 1: "failed"}}[state]
        assert exchange.status["state"] == allowed.get(status), (status, exchange.text())
        assert exchange.segments() == []
        assert not any(psutil.pid_exists(pid) for pid in hosts)
    exchange.up().down()


def test_random_kills_under_load_lose_nothing_that_was_reported(
    make_exchange: Make, seed: int
) -> None:
    chance = random.Random(seed)
    exchange = make_exchange("wide")
    reported: set[bytes] = set()
    for round_number in range(4):
        exchange.up()
        session = exchange.connect()
        victim = chance.choice([exchange.process.pid, *exchange.hosts])
        for n in range(chance.randrange(1, 6)):
            session.submit(orders(300, 100 * round_number + n + 1000), timeout=5)
            reported |= {bytes(r["client_order_id"]) for r in session.reports(timeout=0.01)}
        survived = victim in (exchange.process.pid, exchange.host_of("journaler"))
        os.kill(victim, signal.SIGKILL)
        if survived:
            reported |= {bytes(r["client_order_id"]) for r in session.reports(timeout=0.1)}
        if victim != exchange.process.pid and survived:
            wait_for(lambda dead=victim: dead not in exchange.hosts, "the journaler is replaced")
            exchange.down()
        exchange.process.wait(60)
        while not survived:
            try:
                more = session.reports()
            except matchbox.SessionError:
                break
            reported |= {bytes(r["client_order_id"]) for r in more}
    exchange.up().down()
    known = {bytes(r["client_order_id"]) for r in journal(exchange)}
    assert reported - {b"", b"alice.1"} <= known


def test_bots_that_come_and_go_at_once_leave_the_exchange_as_it_is(
    exchange_process: ExchangeProcess,
) -> None:
    """A logout, a hung up line and the end of a process arrive in any order, or together."""
    program = (
        "import matchbox, sys\n"
        "for _ in range(5):\n"
        "    session = matchbox.connect(sys.argv[1], account='alice')\n"
        "    session.buy('BTC/USD', '0.0001', '1')\n"
        "    session.close()\n"
    )
    command = [sys.executable, "-c", program, str(exchange_process.data)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(4):
        bots = [subprocess.Popen(command, env=environment) for _ in range(3)]
        assert [bot.wait(60) for bot in bots] == [0, 0, 0]
    with exchange_process.connect() as session:
        collect(session, session.buy("BTC/USD", "0.0001", "1"))
        assert int(exchange_process.connect("bob").book("BTC/USD").best()[1]) == 61
