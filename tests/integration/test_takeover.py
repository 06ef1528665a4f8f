"""The engine dies, and its standby goes on."""

import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import matchbox
from matchbox.shm import segment
from matchbox.shm.records import NEW_ORDER
from matchbox.shm.ring import Ring
from matchbox.tools.folder import process_start
from tests.integration.conftest import ExchangeProcess, collect, wait_for
from tests.integration.test_backup import command

SLOTS_OFFSET = 4096


@pytest.mark.parametrize("topology", ["compact", "wide", "by hand"])
def test_a_session_goes_on_when_the_engine_is_killed(
    topology: str, make_exchange: Callable[..., ExchangeProcess]
) -> None:
    exchange = make_exchange(topology, standby=True).up()
    wait_for(lambda: exchange.followed, "a standby follows")
    with exchange.connect() as alice, exchange.connect("bob") as bob:
        resting = alice.buy("BTC/USD", "1", "100")
        collect(alice, resting)
        os.kill(exchange.host_of("sequencer"), signal.SIGKILL)
        sold = bob.sell("BTC/USD", "1", "100")
        reports: list[Any] = collect(bob, sold)
        assert [matchbox.EventKind(int(r["kind"])).name for r in reports][:1] == ["ACCEPTED"]
        filled = alice.reports(timeout=10)
        assert [matchbox.EventKind(int(r["kind"])).name for r in filled] == ["TRADE"]
        print(exchange.text())
    exchange.down()


def test_the_supervisor_dies_and_another_one_goes_on(
    make_exchange: Callable[..., ExchangeProcess],
) -> None:
    exchange = make_exchange(standby=True).up()
    wait_for(lambda: exchange.followed, "a standby follows")
    with exchange.connect() as alice, exchange.connect("bob") as bob:
        resting = alice.buy("BTC/USD", "1", "100")
        collect(alice, resting)
        bob.market("BTC/USD")  # known from now on
        assert exchange.process is not None
        exchange.process.kill()
        exchange.process.wait()
        # Nobody looks after it, and trading goes on; also when the engine dies now.
        os.kill(exchange.host_of("sequencer"), signal.SIGKILL)
        collect(bob, bob.sell("BTC/USD", "1", "100"))
        assert [int(r["kind"]) for r in alice.reports(timeout=10)] == [matchbox.EventKind.TRADE]
        exchange.up()
        assert "adopted it, epoch 2, 2 sessions" in exchange.text()
        collect(alice, alice.buy("BTC/USD", "1", "100"))
        assert "BTC/USD" in alice.markets
        with exchange.connect("bob") as other:
            collect(other, other.sell("BTC/USD", "1", "100"))
        wait_for(lambda: exchange.followed, "a standby follows")
        os.kill(exchange.host_of("sequencer"), signal.SIGKILL)
        collect(alice, alice.buy("BTC/USD", "1", "100"))
    exchange.down()
    print(exchange.text())


def test_an_engine_that_hangs_is_killed_and_succeeded(
    make_exchange: Callable[..., ExchangeProcess],
) -> None:
    exchange = make_exchange(standby=True).up()
    wait_for(lambda: exchange.followed, "a standby follows")
    with exchange.connect() as alice:
        collect(alice, alice.buy("BTC/USD", "1", "100"))
        engine = exchange.host_of("sequencer")
        os.kill(engine, signal.SIGSTOP)
        collect(alice, alice.buy("BTC/USD", "1", "100"))
        with contextlib.suppress(ProcessLookupError):
            os.kill(engine, signal.SIGCONT)  # it is a corpse, if that
        assert process_start(engine) == 0
        wait_for(lambda: "engine is stopped" in exchange.text(), "it says why")
    exchange.down()


@pytest.mark.parametrize("agent", ["journaler", "standby"])
def test_a_process_beside_the_engine_is_replaced(
    agent: str, make_exchange: Callable[..., ExchangeProcess]
) -> None:
    exchange = make_exchange(standby=True).up()
    wait_for(lambda: exchange.followed, "a standby follows")
    with exchange.connect() as alice:
        for _ in range(2):
            collect(alice, alice.buy("BTC/USD", "1", "100"))
            victim = exchange.host_of(agent)
            os.kill(victim, signal.SIGKILL)
            collect(alice, alice.buy("BTC/USD", "1", "100"))
            wait_for(lambda gone=victim: gone not in exchange.hosts, "it is forgotten")
            wait_for(lambda: exchange.host_of(agent) in exchange.hosts, "another one is there")
            wait_for(lambda: exchange.followed, "a standby follows")
        os.kill(exchange.host_of("sequencer"), signal.SIGKILL)
        collect(alice, alice.buy("BTC/USD", "1", "100"))
    exchange.down()
    assert exchange.text().count("Another one is started") == 2


def test_one_standby_takes_over_whoever_else_would(
    make_exchange: Callable[..., ExchangeProcess],
) -> None:
    """Another one has claimed the engine's place: this one must not go on beside it."""
    exchange = make_exchange(standby=True).up()
    wait_for(lambda: exchange.followed, "a standby follows")
    name = segment.SegmentName(exchange.instance, exchange.status["epoch"], "board")
    with exchange.connect() as alice:
        collect(alice, alice.buy("BTC/USD", "1", "100"))
        claim = segment.open_fd(name, writable=False)
        try:
            fcntl.flock(claim, fcntl.LOCK_EX)
            os.kill(exchange.host_of("sequencer"), signal.SIGKILL)
            process = exchange.process
            assert process is not None
            wait_for(lambda: process.poll() is not None, "it stops")
        finally:
            os.close(claim)
    assert "another standby has taken over" in exchange.text()
    assert exchange.status["epoch"] == 1
    exchange.up()
    exchange.down()


def test_an_operator_switches_to_the_standby(
    make_exchange: Callable[..., ExchangeProcess],
) -> None:
    exchange = make_exchange(standby=True).up()
    wait_for(lambda: exchange.followed, "a standby follows")
    with exchange.connect() as alice:
        resting = alice.buy("BTC/USD", "1", "100")
        collect(alice, resting)
        assert "The standby has taken over at sequence" in command("promote", exchange.data)
        collect(alice, alice.buy("BTC/USD", "1", "100"))
        wait_for(lambda: exchange.followed, "a standby follows")
        shown = json.loads(command("status", exchange.data, "--json"))
        assert shown["epoch"] == 2
        assert (shown["standby"]["state"], shown["standby"]["lag"]) == ("following", 0)
        assert {agent["name"] for agent in shown["agents"]} >= {"sequencer", "journaler"}
        assert [m["bid"] for m in shown["markets"]] == ["100.00", None]
        os.kill(exchange.host_of("standby"), signal.SIGSTOP)
    exchange.down()


def test_without_a_standby_there_is_no_switch(
    make_exchange: Callable[..., ExchangeProcess],
) -> None:
    exchange = make_exchange().up()
    assert "no standby follows" in command("promote", exchange.data, status=1)
    with exchange.connect() as alice:
        os.kill(exchange.host_of("sequencer"), signal.SIGKILL)
        with pytest.raises(matchbox.EngineDown):
            alice.reports(timeout=None)


def test_a_standby_takes_snapshots_and_the_next_one_begins_with_them(
    make_exchange: Callable[..., ExchangeProcess],
) -> None:
    exchange = make_exchange("wide", standby=True).up()
    wait_for(lambda: exchange.followed, "a standby follows")
    with exchange.connect(assurance="durable") as alice, exchange.connect("bob") as bob:
        for price in range(100, 120):
            collect(alice, alice.buy("BTC/USD", "1", str(price)))
        assert "The standby has taken" in command("snapshot", "take", exchange.data)
        collect(bob, bob.sell("BTC/USD", "3", "100"))
        os.kill(exchange.host_of("standby"), signal.SIGKILL)
        wait_for(lambda: "Another one is started" in exchange.text(), "its end is seen")
        wait_for(lambda: exchange.followed, "another standby follows")
        os.kill(exchange.host_of("matcher-0"), signal.SIGKILL)
        collect(alice, alice.buy("BTC/USD", "1", "50"))
        collect(bob, bob.buy("BTC/USD", "1", "50"))
        assert len(bob.reports(timeout=0)) == 0  # nothing of before comes again
        listed = json.loads(command("snapshot", "list", exchange.data, "--json"))
        assert listed["orders"] == 20
        book = alice.book("BTC/USD").depth()
        assert [int(level["price_ticks"]) for level in book.bids][:2] == [11600, 11500]
        assert len(book.bids) == 18
    exchange.down()
    assert "the same as at its stop" in command("verify", exchange.data)
    exchange.up()
    assert "Loaded the snapshot of sequence" in exchange.text()
    exchange.down()


def states(pid: int) -> set[str]:
    """Of all threads of a process."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks}


def test_a_standby_that_differs_raises_an_alarm_and_takes_over_from_no_living_engine(
    make_exchange: Callable[..., ExchangeProcess],
) -> None:
    exchange = make_exchange(standby=True).up()
    wait_for(lambda: exchange.followed, "a standby follows")
    standby = exchange.host_of("standby")
    with exchange.connect() as alice:
        os.kill(standby, signal.SIGSTOP)
        # Not before each of its threads stands still.
        wait_for(lambda: states(standby) == {"T"}, "the standby stands still")
        collect(alice, alice.buy("BTC/USD", "1", "100"))
        # Memory goes wrong: the standby finds another price than the engine has worked with.
        name = segment.SegmentName(exchange.instance, exchange.status["epoch"], "log")
        memory = segment.attach(name)
        log = Ring.attach(memory)
        position = log.produced - 1
        record = log.peek(position, 1, NEW_ORDER)
        assert record["price_ticks"] == 10000
        at = SLOTS_OFFSET + position % log.capacity * 128
        record["price_ticks"] = 10001
        memory[at : at + 128] = record.tobytes()
        os.kill(standby, signal.SIGCONT)
        wait_for(lambda: "ALARM: replay differs" in exchange.text(), "an alarm")
        assert "replay differs" in json.loads(command("status", exchange.data, "--json"))["alarm"]
        # What led to it is in a file, to be looked at elsewhere.
        log = exchange.data / "captures" / "log.txt"
        wait_for(lambda: log.exists() and "records 1 to" in log.read_text(), "a capture")
        (captured,) = (exchange.data / "captures").glob("alarm-*.zip")
        assert "made because replay differs" in command("reproduce", captured)
        os.kill(exchange.host_of("sequencer"), signal.SIGSTOP)  # it hangs, and is left alone
        refused = command("promote", exchange.data, status=1)
        assert "must not take over" in refused
        os.kill(exchange.host_of("sequencer"), signal.SIGCONT)
        collect(alice, alice.buy("BTC/USD", "1", "100"))
    exchange.down()
