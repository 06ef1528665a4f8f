"""`matchbox journal prune`: what goes, what holds the rest, and that all works afterwards."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import matchbox
from matchbox.persistence import files, partition, points, snapshots
from matchbox.persistence.journal import Reader, Writer
from matchbox.persistence.journaler import whole_count
from matchbox.shm.errors import BadArgument, Forgotten, JournalError, SessionError
from matchbox.shm.records import LOG_RECORD, Kind
from matchbox.tools import pruning
from matchbox.tools.archiving import VIEWS
from matchbox.tools.config import load
from matchbox.tools.past import rewind
from matchbox.tools.reconcile import compare
from matchbox.tools.snapshots import take
from tests.integration.conftest import ExchangeProcess, collect, make_exchange, wait_for
from tests.integration.test_up_down import trade
from tests.simulation.archive import configure, write_journal
from tests.simulation.commands import Random
from tests.simulation.test_exchange import play
from tests.simulation.test_views import archive, tables
from tests.simulation.world import World
from tests.tools.played import Played
from tests.tools.running import command
from tests.tools.test_time_travel import balances_of

# Used by its name, as an argument.
__all__ = ["make_exchange"]

Make = Callable[..., ExchangeProcess]
DAY_NS = 86_400 * 10**9


class Days(Played):
    """Some days of a log in several journal files, with views, and a snapshot of the end."""

    def __init__(self, folder: Path, seed: int) -> None:
        world = World()
        for number in range(4):
            play(world, Random(seed * 100 + number), 300)
            world.advance(DAY_NS)
        play(world, Random(seed), 40)
        self.folder, self.journal, self.world = folder, folder / "journal", world
        self.log = world.exchange.log
        configure(folder, world)
        path = folder / "exchange.toml"
        path.write_text(path.read_text() + "[standby]\nenabled = false\n")
        self.config = load(path)
        parts = [whole_count(self.log, len(self.log) * part // 8) for part in range(1, 9)]
        for end in parts:
            write_journal(folder, self.log[:end], seed)
            if end != parts[-1]:
                roll(self.journal)
        self.image = take(str(folder)).image
        assert archive(self) == []


def roll(journal: Path) -> None:
    """What is appended next goes into a new file."""
    with Writer(journal) as writer:
        writer.roll()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Days:
    seed = int(os.environ.get("MATCHBOX_TEST_SEED", "1"))
    print(f"seed {seed}")
    return Days(tmp_path_factory.mktemp("days"), seed)


@pytest.fixture
def days(made: Days, tmp_path: Path) -> Days:
    """A copy that may be pruned."""
    copy = object.__new__(Days)
    copy.__dict__.update(made.__dict__)
    copy.folder = tmp_path / "data"
    shutil.copytree(made.folder, copy.folder)
    copy.journal = copy.folder / "journal"
    path = copy.folder / "exchange.toml"
    path.write_text(path.read_text().replace(str(made.folder), str(copy.folder)))
    copy.config = load(path)
    return copy


def sealed(data: Path) -> list[int]:
    """The last record of each day that is complete."""
    found = []
    for day in partition.days(data / VIEWS):
        opened = partition.open_day(data / VIEWS, day)
        state = opened.state()
        partition.close(opened)
        found += [state.position] if state.sealed else []
    return found


def records_in(journal: Path) -> np.ndarray[Any, Any]:
    with Reader(journal) as reader:
        return np.concatenate([b.records for b in reader.batches(reader.first_sequence())])


def prune(data: Path, *options: Any, status: int = 0) -> Any:
    said = command("journal", "prune", data, "--json", *options, status=status)
    return json.loads(said) if status == 0 else said


def test_what_nobody_needs_goes_and_the_rest_stays_whole(days: Days) -> None:
    limit = sealed(days.folder)[-1]
    before = files.numbers(days.journal)
    planned = prune(days.folder, "--dry-run")
    assert files.numbers(days.journal) == before and not planned["removed"]
    assert snapshots.base(days.folder / "snapshots") == 0
    found = prune(days.folder)
    assert found["removed"] and found["files"] == planned["files"]
    assert found["holds"][0] == {"who": "the last complete day of the views", "last": limit}
    assert {hold["who"]: hold["last"] for hold in found["holds"]}["the oldest snapshot"] == len(
        days.log
    )
    # Whole files, and as many of them as can go.
    left = files.numbers(days.journal)
    assert left[0] > 1 and left == before[-len(left) :]
    records = records_in(days.journal)
    first = int(records["sequence"][0])
    assert records.tobytes() == days.log[first - 1 :].tobytes()
    assert first <= found["base"] <= limit
    with Reader(days.journal) as reader:
        header = next(reader.headers(reader.spans()[1][1]))
    assert int(header["first_sequence"] + header["count"]) - 1 > limit
    # A second time there is nothing to do.
    assert prune(days.folder)["files"] == []
    said = command("journal", "prune", days.folder)
    assert "Nothing to remove" in said and f"views: up to record {limit:,}" in said


def test_after_it_everything_can_still_be_asked_from_the_base_on(days: Days) -> None:
    base = prune(days.folder)["base"]
    last = len(days.log)
    # Every state.
    random = np.random.default_rng(4)
    for sequence in [base, base + 1, last, *random.integers(base, last, 6).tolist()]:
        found = rewind(days.journal, str(sequence))
        auditor = days.auditor(found.moment.sequence)
        assert compare(auditor, balances_of(found)) == []
    before = whole_count(days.log, base - 1)
    said = command("at", before, "hash", "--data", days.folder, status=1)
    # Of a record that the journal has, what leads to it is named; of another one, what it has.
    first = base if before >= first_in(days) else first_in(days)
    assert f"sequence={before}, first={first}, last={last}" in said
    said = command("at", 1, "hash", "--data", days.folder, status=1)
    assert f"sequence=1, first={first_in(days)}, last={last}" in said
    # Read, and replayed.
    said = command("log", days.folder, "--tail", "400")
    assert "account=account-" in said and "market=BTC/USD" in said
    assert command("log", days.folder, "--account", "account-1", "--kind", "deposit")
    rows = command("replay-log", days.folder, "--json").splitlines()
    assert json.loads(rows[0])["record"]["sequence"] == base + 1
    found = json.loads(command("verify", days.folder, "--views", "--json"))
    assert (found["began"], found["sequence"]) == (base, last)
    assert found["differences"] == []
    assert set(found["snapshots"]) == {last}
    assert f"The journal was pruned: replayed from the snapshot of {base:,}" in command(
        "verify", days.folder
    )
    path = days.folder.parent / "capture.zip"
    command("capture", base + 5, "--data", days.folder, "--out", path)
    assert f"the snapshot of {base:,}" in command("reproduce", path)
    assert "the journal begins at" in command("reconcile", days.folder, status=1)
    listed = command("snapshot", "list", days.folder, "--json").splitlines()
    assert [json.loads(row)["sequence"] for row in listed] == [last, base]


def first_in(days: Days) -> int:
    with Reader(days.journal) as reader:
        return reader.first_sequence()


def test_the_base_alone_leads_to_every_state(days: Days) -> None:
    base = prune(days.folder)["base"]
    expected = rewind(days.journal, "last")
    for sequence in snapshots.sequences(days.folder / "snapshots"):
        if sequence != base:
            snapshots.file_path(days.folder / "snapshots", sequence).unlink()
    found = rewind(days.journal, "last")
    assert (found.began, found.state()) == (base, expected.state())
    # New snapshots do not push it out.
    for _ in range(2):
        take(str(days.folder), keep=1)
    assert snapshots.base(days.folder / "snapshots") == base
    # Without any there is nothing to begin with, and that is said.
    shutil.rmtree(days.folder / "snapshots")
    for said in (
        command("at", "last", "hash", "--data", days.folder, status=1),
        command("verify", days.folder, status=1),
    ):
        assert "the journal begins with record" in said and "no snapshot leads there" in said


@pytest.mark.parametrize("lost", [1, 2])
def test_views_that_were_lost_with_the_memory_are_made_again(days: Days, lost: int) -> None:
    there = partition.days(days.folder / VIEWS)
    before = tables(days.folder)
    limit = sealed(days.folder)[-lost]
    # With two days lost, one that was complete is among them: then only what is before it may go.
    base = prune(days.folder, "--before", limit + 1)["base"]
    assert 0 < base <= limit
    for day in there[-lost:]:
        partition.remove(days.folder / VIEWS, day)
    archive(days)
    assert tables(days.folder) == before


def test_a_backup_of_what_is_left_can_be_verified_and_restored(days: Days, tmp_path: Path) -> None:
    old = tmp_path / "old"
    command("backup", days.folder, old)
    base = prune(days.folder)["base"]
    # One that has the beginning goes on; a new one begins where the journal does.
    command("backup", days.folder, old)
    assert not (old / "snapshots").exists()
    new = tmp_path / "new"
    for _ in range(2):
        command("backup", days.folder, new)
    assert records_in(new / "journal").tobytes() == records_in(days.journal).tobytes()
    state = json.loads(command("verify", days.folder, "--json"))["state"]
    for copy, began in ((old, 0), (new, base)):
        found = json.loads(command("verify", copy, "--json"))
        assert (found["state"], found["began"], found["differences"]) == (state, began, [])
    # Restored, whole and up to a record.
    data = tmp_path / "restored"
    command("restore", new, data)
    found = json.loads(command("verify", data, "--json"))
    assert (found["state"], found["began"]) == (state, base)
    part = tmp_path / "part"
    command("restore", new, part, "--until", base + 20)
    assert json.loads(command("verify", part, "--json"))["differences"] == []
    said = command("restore", new, tmp_path / "none", "--until", base - 1, status=1)
    assert f"was pruned: until={base - 1}, allowed: {base} or later" in said
    # A backup that ended before what was pruned cannot go on.
    with Writer(tmp_path / "early" / "journal") as writer:
        writer.append(days.log[:1])
    shutil.copy(days.folder / "exchange.toml", tmp_path / "early")
    said = command("backup", days.folder, tmp_path / "early", status=1)
    assert "have been pruned since the last backup" in said


def test_moved_files_are_a_journal_elsewhere(days: Days, tmp_path: Path) -> None:
    target = tmp_path / "archive" / "old"
    for inside in (days.journal, days.journal / "old"):
        said = prune(days.folder, "--move-to", inside, status=1)
        assert "a place elsewhere is needed" in said
    target.mkdir(parents=True)
    (target / "000001.mdb").write_bytes(b"another one")
    said = prune(days.folder, "--move-to", target, status=1)
    assert "there is another file of this name" in said
    assert files.numbers(days.journal)[0] == 1
    (target / "000001.mdb").unlink()
    found = prune(days.folder, "--move-to", target)
    assert found["moved_to"] == str(target)
    moved, left = records_in(target), records_in(days.journal)
    assert np.concatenate([moved, left]).tobytes() == days.log.tobytes()
    assert "ADD_ASSET" in command("log", target, "--to", 9)


@pytest.mark.parametrize("point", ["prune.based", "prune.copied", "prune.removed"])
def test_killed_anywhere_it_can_be_called_again(days: Days, tmp_path: Path, point: str) -> None:
    target = tmp_path / "moved"
    arguments = ["journal", "prune", str(days.folder), "--move-to", str(target)]
    (tmp_path / point).write_text("1")
    done = subprocess.run(
        [sys.executable, "-m", "matchbox.tools.cli", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), points.VARIABLE: str(tmp_path)},
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / point).exists()
    state = json.loads(command("verify", days.folder, "--json"))
    assert (state["differences"], state["sequence"]) == ([], len(days.log))
    command(*arguments)
    again = json.loads(command("verify", days.folder, "--json"))
    assert (again["differences"], again["state"]) == ([], state["state"])
    assert again["began"] == snapshots.base(days.folder / "snapshots") > 0
    moved, left = records_in(target), records_in(days.journal)
    assert np.concatenate([moved, left]).tobytes() == days.log.tobytes()


def test_a_limit_keeps_what_it_says(days: Days) -> None:
    limit = sealed(days.folder)[-1]
    for before in (1, 2):
        assert prune(days.folder, "--before", before)["files"] == []
    stamps = days.log["timestamp_ns"]
    half = len(stamps) // 2
    moment = int(stamps[half]) + 1
    expected = int((stamps < moment).sum())
    found = prune(days.folder, "--before", f"{moment}ns", "--dry-run")
    tightest = found["holds"][0]
    assert tightest["last"] == min(expected, limit)
    if expected < limit:
        assert tightest["who"] == f"--before {moment}ns"
    assert all(each["last"] <= expected for each in found["files"])
    # The log is some years old: all of it is before yesterday.
    found = prune(days.folder, "--keep-days", 1, "--dry-run")
    assert {h["who"]: h["last"] for h in found["holds"]}["--keep-days 1"] == len(days.log)
    far = prune(days.folder, "--keep-days", 100_000, "--dry-run")
    assert far["files"] == [] and far["holds"][0] == {"who": "--keep-days 100000", "last": 0}
    with pytest.raises(BadArgument, match="not a moment"):
        pruning.prune(str(days.folder), before="yesterday")


def test_what_holds_everything_is_said(days: Days, tmp_path: Path) -> None:
    snapshot = next((days.folder / "snapshots").glob("*.snap"))
    content = bytearray(snapshot.read_bytes())
    content[len(content) // 2] ^= 1
    snapshot.write_bytes(content)
    said = command("journal", "prune", days.folder)
    assert "Nothing to remove" in said and "no snapshot can be used (allowed: `matchbox" in said
    take(str(days.folder))
    shutil.rmtree(days.folder / VIEWS)
    assert "the views have no complete day yet: nothing" in command("journal", "prune", days.folder)
    # Without an archiver nobody reads views; but a standby needs a snapshot of its own kind.
    path = days.folder / "exchange.toml"
    alone = path.read_text() + "[archive]\nenabled = false\n"
    path.write_text(alone.replace("[standby]\nenabled = false", "[standby]\nenabled = true"))
    with Writer(days.journal):
        assert "no snapshot is a standby's" in command("journal", "prune", days.folder)
    path.write_text(alone)
    assert prune(days.folder)["removed"]
    other = days.journal.rename(tmp_path / "log")
    assert "no journal there" in prune(days.folder, status=1)
    shutil.copy(path, tmp_path / "exchange.toml")
    assert "not the journal of a data folder" in prune(other, status=1)


def test_a_reader_that_has_files_open_goes_on(days: Days) -> None:
    with Reader(days.journal) as old, Reader(days.journal) as other:
        batches = old.batches(1)
        first = next(batches)
        assert first.first_sequence == 1 and other.last_sequence() == len(days.log)
        prune(days.folder)
        # In the file that it is reading; and then the journal begins later.
        assert next(batches).first_sequence == first.last_sequence + 1
        begins = other.first_sequence()
        assert begins > 1
        assert next(other.batches(begins)).first_sequence == begins
        assert next(other.batches(len(days.log))).last_sequence == len(days.log)
        with pytest.raises(JournalError, match=f"the journal begins at {begins}") as error:
            next(other.batches(1))
        assert error.value.sequence == 1
        assert old.first_sequence() == begins
    # Nobody keeps what was removed.
    fds = [fd for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    names = [str(fd.readlink()) for fd in fds if os.path.lexists(fd)]
    assert not [name for name in names if str(days.journal) in name and "(deleted)" in name]


# ---- a live exchange


def test_a_running_exchange_is_pruned_and_nobody_notices(make_exchange: Make) -> None:
    exchange = make_exchange(standby=True).up()
    trade(exchange, count=400, seed=1)
    with exchange.connect(assurance="durable") as alice:
        collect(alice, alice.buy("BTC/USD", "1", "1"))
    # Another journaler goes on in a new file, with a copy of the last batch.
    os.kill(exchange.host_of("journaler"), signal.SIGKILL)
    wait_for(lambda: len(files.numbers(exchange.data / "journal")) == 2, "a new file is begun")
    wait_for(lambda: exchange.followed, "a standby follows")
    with exchange.connect() as alice:
        collect(alice, alice.buy("BTC/USD", "1", "1", client_order_id="before"))
        command("snapshot", "take", exchange.data)
        # The standby's is of now: what is before goes, while it trades.
        found = prune(exchange.data)
        assert found["removed"] and len(found["files"]) >= 1 and found["base"] > 1
        collect(alice, alice.buy("BTC/USD", "1", "2", client_order_id="after"))
        # Another standby begins with what is left, and takes over.
        before = exchange.status["standby"]
        os.kill(exchange.host_of("standby"), signal.SIGKILL)
        wait_for(lambda: exchange.status["standby"] not in (0, before), "its end is seen")
        wait_for(lambda: exchange.followed, "another standby follows")
        os.kill(exchange.host_of("sequencer"), signal.SIGKILL)
        collect(alice, alice.buy("BTC/USD", "1", "3", client_order_id="later"))
        # The supervisor dies; another one adopts what runs.
        assert exchange.process is not None
        exchange.process.kill()
        exchange.process.wait()
        exchange.up()
        wait_for(lambda: "adopted it" in exchange.text(), "it is adopted")
        collect(alice, alice.buy("BTC/USD", "1", "4", client_order_id="last"))
    stopped = exchange.down()
    found = json.loads(command("verify", exchange.data, "--json"))
    assert (found["differences"], found["compared"]) == ([], ["at its stop"])
    assert (found["state"], found["sequence"]) == (stopped["hash"], stopped["sequence"])
    orders = json.loads(
        command("at", "last", "orders", "alice", "--data", exchange.data, "--json")
    )["orders"]
    names = {order["client_order_id"] for order in orders}
    assert {"before", "after", "later", "last"} <= names
    # It comes up again; also with the base alone, and with views that begin there.
    shutil.rmtree(exchange.data / "views", ignore_errors=True)
    for path in (exchange.data / "snapshots").glob("*.snap"):
        path.unlink()
    text = exchange.config.read_text()
    exchange.config.write_text(text.replace("[archive]\nenabled = false", "[archive]"))
    exchange.up()
    base = snapshots.base(exchange.data / "snapshots")
    assert f"Loaded the snapshot of sequence {base:,}" in exchange.text()
    with exchange.connect() as alice:
        collect(alice, alice.buy("BTC/USD", "1", "5"))

    def oldest() -> tuple[int, int] | None:
        try:
            matchbox.pull(exchange.data, "log", after=1).read(1)
        except Forgotten as error:
            return error.oldest
        except SessionError:
            return None  # the views are not that far
        return None

    position = wait_for(oldest, "the oldest position is named")
    with Reader(exchange.data / "journal") as reader:
        assert position[0] == reader.first_sequence() - 1
    later = matchbox.pull(exchange.data, "log", after=position)
    (row,) = wait_for(lambda: list(later.read(1, timeout=0.1)), "what is left can be pulled")
    assert int(row["sequence"]) == position[0] + 1
    # From the base, which knows of no session, a standby begins too: none of then is left.
    wait_for(lambda: exchange.followed, "a standby follows")
    assert "ALARM" not in exchange.text()
    exchange.down()


def test_a_start_without_what_leads_into_the_journal_says_what_can_be_done(
    make_exchange: Make,
) -> None:
    exchange = make_exchange().up()
    trade(exchange, count=40)
    exchange.down()
    # As after an end that was not in order: a new file, with a copy of the last batch.
    (exchange.data / "journal" / "writer.lock").write_text("open\n")
    with Writer(exchange.data / "journal"):
        pass
    command("snapshot", "take", exchange.data)
    assert prune(exchange.data)["removed"]
    shutil.rmtree(exchange.data / "snapshots")
    exchange.begin()
    assert exchange.process is not None and exchange.process.wait(60) == 1
    assert "and no snapshot leads there; nothing was started or changed" in exchange.text()
    assert len(records_in(exchange.data / "journal").view(LOG_RECORD)) > 0
    assert Kind.STOP in records_in(exchange.data / "journal")["kind"]
