"""A real exchange goes on from its snapshots, whatever became of them."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from matchbox.persistence import snapshots
from matchbox.tools import snapshots as tool
from matchbox.tools.verify import verify
from tests.integration.conftest import TOPOLOGIES, ExchangeProcess, wait_for
from tests.integration.test_markets import fill, good, list_eth, rules
from tests.integration.test_up_down import trade

Make = Callable[..., ExchangeProcess]


def command(*arguments: str) -> tuple[int, str]:
    """Exit status and output of a `matchbox snapshot` command."""
    done = subprocess.run(
        [sys.executable, "-m", "matchbox.tools.cli", "snapshot", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return done.returncode, done.stdout + done.stderr


def take(exchange: ExchangeProcess) -> tool.Taken:
    return tool.take(str(exchange.data), say=print)


def started_from(exchange: ExchangeProcess, sequence: int, *, replays: bool = True) -> str:
    """Start it; it must go on from this snapshot (0: from none), and replay what follows. What it
    said.
    """
    before = len(exchange.text())
    exchange.up()
    text = exchange.text()[before:]
    loaded = re.findall(r"Loaded the snapshot of sequence ([0-9,]+) in", text)
    assert loaded == ([f"{sequence:,}"] if sequence else []), text
    assert (f" {sequence + 1:,} up to sequence" in text) == replays, text
    return text


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_it_goes_on_from_a_snapshot_after_a_kill(make_exchange: Make, topology: str) -> None:
    exchange = make_exchange(topology).up()
    trade(exchange, seed=1)
    # Beside the running exchange, of what is on the disk.
    taken = take(exchange)
    trade(exchange, seed=2)
    with exchange.connect() as session:
        before = [session.book(market).depth() for market in (1, 2)]
    for pid in [*exchange.hosts, exchange.status["pid"]]:
        os.kill(pid, signal.SIGKILL)
    assert exchange.process is not None
    exchange.process.wait()
    started_from(exchange, taken.image.sequence)
    with exchange.connect() as session:
        assert str([session.book(market).depth() for market in (1, 2)]) == str(before)
    trade(exchange, seed=3)
    stopped = exchange.down()
    # The same state without any snapshot.
    for sequence in snapshots.sequences(exchange.data / "snapshots"):
        snapshots.file_path(exchange.data / "snapshots", sequence).unlink()
    text = started_from(exchange, 0)
    assert f"state hash {stopped['hash']}." in text
    exchange.down()


def test_a_snapshot_goes_on_from_the_one_before(make_exchange: Make) -> None:
    exchange = make_exchange().up()
    trade(exchange, seed=1)
    first = take(exchange)
    assert first.since == 0
    trade(exchange, seed=2)
    stopped = exchange.down()
    second = take(exchange)
    outcome = verify(str(exchange.data))
    assert outcome.snapshots == [first.image.sequence, second.image.sequence]
    assert not outcome.differences
    assert (second.since, second.image.sequence) == (first.image.sequence, stopped["sequence"])
    # With nothing after it, it is the same one once more.
    again = take(exchange)
    assert (again.since, again.image.sequence) == (stopped["sequence"],) * 2
    assert again.image.state_hash == second.image.state_hash
    status, text = command("list", str(exchange.data))
    assert status == 0
    assert [f"{n:,}" for n in (stopped["sequence"], first.image.sequence)] == [
        line.split()[0] for line in text.splitlines()
    ]
    for _ in range(3):
        exchange.up()
        exchange.down()
        status, text = command("take", str(exchange.data), "--keep", "2")
        assert status == 0, text
    assert len(snapshots.sequences(exchange.data / "snapshots")) == 2


def test_a_damaged_snapshot_is_passed_over(make_exchange: Make) -> None:
    exchange = make_exchange().up()
    trade(exchange, seed=1)
    first = take(exchange)
    trade(exchange, seed=2)
    second = take(exchange)
    stopped = exchange.down()
    damage(second.path)
    assert command("list", str(exchange.data))[0] == 1
    text = started_from(exchange, first.image.sequence)
    assert f"A snapshot is passed over: {second.path} is damaged" in text
    assert f"state hash {stopped['hash']}." in text
    exchange.down()
    damage(first.path)
    path = first.path.rename(first.path.with_name("7.snap"))
    assert "the state hash in" in verify(str(exchange.data)).differences[0]
    path.rename(first.path)
    text = started_from(exchange, 0)
    assert text.count("A snapshot is passed over") == 2
    exchange.down()


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-200, os.SEEK_END)
        byte = file.read(1)
        file.seek(-200, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))


def test_a_snapshot_of_another_journal_is_passed_over(make_exchange: Make) -> None:
    other = make_exchange().up()
    trade(other, seed=9)
    other.down()
    taken = take(other)
    exchange = make_exchange().up()
    trade(exchange, seed=1)
    trade(exchange, seed=2)
    exchange.down()
    folder = exchange.data / "snapshots"
    folder.mkdir()
    (folder / taken.path.name).write_bytes(taken.path.read_bytes())
    text = started_from(exchange, 0)
    assert f"the journal has another record {taken.image.sequence:,}" in text
    exchange.down()


def test_markets_that_come_and_go_are_in_it(make_exchange: Make) -> None:
    exchange = make_exchange("wide").up()
    seller, buyer = exchange.connect("alice"), exchange.connect("bob")
    number = list_eth(exchange, "--max-orders", "1000")
    assert fill(seller, buyer) == [1]
    taken = take(exchange)
    good(exchange, "market", "set", "EXCHANGE", "ETH/USD", "--cancel-orders")
    wait_for(lambda: rules(exchange)["ETH/USD"]["orders"] == 0, "its orders are canceled")
    good(exchange, "market", "remove", "EXCHANGE", "ETH/USD")
    other = ("--base", "ETH", "--quote", "USD", "--tick", "0.5", "--lot", "0.01")
    sizes = ("--max-orders", "500", "--max-specials", "70", "--id", str(number))
    good(exchange, "market", "add", "EXCHANGE", "ETH/USD", *other, *sizes)
    assert fill(seller, buyer) == [2]
    stopped = exchange.down()
    text = started_from(exchange, taken.image.sequence)
    assert f"state hash {stopped['hash']}." in text
    assert rules(exchange)["ETH/USD"]["tick_size"] == "0.5"
    stopped = exchange.down()
    taken = take(exchange)
    started_from(exchange, taken.image.sequence, replays=False)
    assert rules(exchange)["ETH/USD"]["tick_size"] == "0.5"
    with exchange.connect("alice") as again:
        assert again.book("ETH/USD").best() == (0, 0, 4000, 50)
    exchange.down()
