"""A real exchange is verified, backed up while it trades, damaged, and restored."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from matchbox.persistence.journal import Reader
from matchbox.tools import verify
from tests.integration.conftest import TOPOLOGIES, ExchangeProcess
from tests.integration.test_up_down import journal, trade

Make = Callable[..., ExchangeProcess]


def command(*arguments: Any, status: int = 0) -> str:
    """What a command of `matchbox` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "matchbox.tools.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == status, (arguments, done.stdout, done.stderr)
    return done.stdout + done.stderr


def damage(path: Path, needle: bytes) -> None:
    """A byte of it, wherever it is: pages that LMDB has given up have copies."""
    changed = bytearray(needle)
    changed[60] ^= 1
    content = path.read_bytes()
    assert needle in content
    path.write_bytes(content.replace(needle, changed))


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_replay_comes_to_the_state_that_the_exchange_stopped_with(
    make_exchange: Make, topology: str
) -> None:
    exchange = make_exchange(topology).up()
    trade(exchange)
    found = json.loads(command("verify", exchange.data, "--json"))
    assert (found["differences"], found["compared"]) == ([], [])
    stopped = exchange.down()
    found = json.loads(command("verify", exchange.data, "--json"))
    assert found["differences"] == []
    assert found["compared"] == ["at its stop"]
    assert (found["sequence"], found["state"]) == (stopped["sequence"], stopped["hash"])
    # A state that is not the one it stopped with is a difference.
    path = exchange.data / "instance.json"
    path.write_text(path.read_text().replace(stopped["hash"], "0" * 16))
    said = command("verify", exchange.data, status=1)
    assert f"the hash at its stop was {'0' * 16}, it is {stopped['hash']} now" in said


def test_a_backup_while_it_trades_goes_on_where_it_was(make_exchange: Make, tmp_path: Path) -> None:
    exchange, target = make_exchange().up(), tmp_path / "backup"
    trade(exchange, seed=1)
    first = command("backup", exchange.data, target)
    had = verify._note(target)["sequence"]
    assert had > 2000
    assert f"records up to {had:,}, {had:,} of them new" in first
    trade(exchange, seed=2)
    stopped = exchange.down()
    new = stopped["sequence"] - had
    assert f"{new:,} of them new" in command("backup", exchange.data, target)
    assert ", 0 of them new" in command("backup", exchange.data, target)
    with Reader(exchange.data / "journal") as ours, Reader(target / "journal") as theirs:
        assert ours.last() == theirs.last()
    found = json.loads(command("verify", target, "--json"))
    assert (found["state"], found["compared"]) == (stopped["hash"], ["at the backup"])
    # Not into the journal of another exchange, nor over anything else.
    other = make_exchange().up()
    other.down()
    assert "not a backup of this journal" in command("backup", other.data, target, status=1)
    assert "that is no backup" in command("backup", exchange.data, other.data, status=1)


def test_a_restored_exchange_trades_on(make_exchange: Make, tmp_path: Path) -> None:
    exchange, target = make_exchange().up(), tmp_path / "backup"
    trade(exchange)
    stopped = exchange.down()
    command("backup", exchange.data, target)
    shutil.rmtree(exchange.data)
    said = command("restore", target, exchange.data)
    assert f"has the records up to {stopped['sequence']:,}" in said
    exchange.up()
    assert f"state hash {stopped['hash']}." in exchange.text().rsplit("Replayed", 1)[1]
    trade(exchange, seed=3)
    exchange.down()
    assert "no empty folder" in command("restore", target, exchange.data, status=1)
    # Up to any record, also in the middle of a batch.
    whole = journal(exchange)
    for until in (1, 20, 777, stopped["sequence"]):
        data = tmp_path / f"until-{until}"
        command("restore", target, data, "--until", until)
        with Reader(data / "journal") as reader:
            read = b"".join(batch.records.tobytes() for batch in reader.batches())
        assert read == whole[:until].tobytes()
        command("verify", data)
    said = command("restore", target, tmp_path / "more", "--until", 10**6, status=1)
    assert "the journal ends before that" in said


def test_a_start_with_a_torn_end_cuts_it_and_says_so(make_exchange: Make) -> None:
    exchange = make_exchange().up()
    trade(exchange)
    # Gone without a word, and nothing in memory either: what a power cut leaves, of a lying disk.
    exchange.end()
    last = journal(exchange)[-1].tobytes()
    path = sorted((exchange.data / "journal").glob("*.mdb"))[-1]
    damage(path, last)
    exchange.up()
    said = exchange.text()
    assert "The end of the journal was not whole" in said
    assert "It was cut after its last whole batch" in said
    assert str(path.with_suffix(".damaged")) in said
    exchange.down()
    command("verify", exchange.data)


def test_a_start_with_damage_stops_and_says_what_can_be_done(
    make_exchange: Make, tmp_path: Path
) -> None:
    exchange = make_exchange().up()
    trade(exchange)
    exchange.down()
    records = journal(exchange)
    with Reader(exchange.data / "journal") as reader:
        batch = next(reader.batches(1000))
    first = batch.first_sequence
    damage(exchange.data / "journal" / "000001.mdb", records[999].tobytes())
    exchange.begin()
    assert exchange.process is not None
    assert exchange.process.wait() == 1
    said = exchange.text()
    assert f"batch {first} is damaged" in said
    assert f"The journal is whole up to record {first - 1:,}; nothing was started" in said
    assert f"`matchbox restore {exchange.data} NEW --until {first - 1}`" in said
    assert f"batch {first} is damaged" in command("verify", exchange.data, status=1)
    # A backup of it fails, and has what is whole; a restore without what follows does work.
    target, new = tmp_path / "backup", tmp_path / "new"
    assert f"batch {first} is damaged" in command("backup", exchange.data, target, status=1)
    command("restore", exchange.data, new, "--until", first - 1)
    for folder in (target, new):
        with Reader(folder / "journal") as reader:
            assert reader.last()[0] == first - 1
    command("verify", new)
