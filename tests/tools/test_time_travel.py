"""`matchbox at`: past states, against what a live exchange said then, and against the auditor."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchbox.core import snapshot
from matchbox.persistence import snapshots
from matchbox.persistence.journal import Reader
from matchbox.persistence.journaler import whole_count
from matchbox.shm.connect import look
from matchbox.shm.errors import BadArgument
from matchbox.tools import moments, operate, orderview, past
from matchbox.tools.operate import Accounts
from matchbox.tools.past import Past, rewind
from matchbox.tools.reconcile import compare
from tests.integration.conftest import ExchangeProcess, make_exchange, wait_for
from tests.integration.test_up_down import trade
from tests.tools.played import Played
from tests.tools.running import command

# Used by its name, as an argument.
__all__ = ["make_exchange"]

Make = Callable[..., ExchangeProcess]
SECOND = 10**9


# ---- a log of everything that can happen


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    seed = int(os.environ.get("MATCHBOX_TEST_SEED", "1"))
    print(f"seed {seed}")
    return Played(tmp_path_factory.mktemp("past"), seed)


def balances_of(found: Past) -> dict[tuple[int, int], tuple[int, int]]:
    sequencer = found.replica.sequencer
    return {
        (int(row["number"]), asset): (free, held)
        for row in found.accounts()
        for asset, free, held in sequencer.balances(int(row["number"]))
    }


def test_balances_of_any_record_are_those_that_the_auditor_comes_to(played: Played) -> None:
    random = np.random.default_rng(5)
    some = [1, 40, played.middle, played.middle + 1, len(played.log)]
    for sequence in [*some, *random.integers(1, len(played.log), 12).tolist()]:
        found = rewind(played.journal, str(sequence))
        # Those that belong together are never parted.
        there = found.moment.sequence
        assert sequence <= there < sequence + 5
        assert whole_count(played.log, there) == there
        assert found.began == (played.middle if there >= played.middle else 0)
        assert compare(played.auditor(there), balances_of(found)) == []
        assert found.replica.position == there


def test_the_hash_of_a_record_is_the_one_that_its_snapshot_has(played: Played) -> None:
    path = snapshots.file_path(played.folder / "snapshots", played.middle)
    at_it = rewind(played.journal, str(played.middle))
    assert at_it.recorded == played.image.state_hash
    # Loaded or replayed from the first record on: the same.
    hidden = path.rename(path.with_suffix(".hidden"))
    try:
        again = rewind(played.journal, str(played.middle))
    finally:
        hidden.rename(path)
    assert (at_it.began, again.began) == (played.middle, 0)
    assert (again.recorded, again.state()) == (at_it.recorded, at_it.state())


def test_a_time_means_the_last_record_stamped_at_or_before_it(played: Played) -> None:
    stamps = played.log["timestamp_ns"]
    with Reader(played.journal) as reader:
        for place in np.random.default_rng(6).integers(0, len(stamps), 40).tolist():
            for moment_ns in (int(stamps[place]), int(stamps[place]) + 1):
                expected = int((stamps <= moment_ns).sum())
                found = moments.find(reader, f"{moment_ns}ns")
                assert found.sequence == moments.at(reader, expected).sequence
                assert found.timestamp_ns == int(stamps[found.sequence - 1])
        last = len(played.log)
        assert moments.find(reader, "last").sequence == last
        assert moments.find(reader, "2200-01-01").sequence == last
        after_s = int(stamps[last // 3]) // SECOND + 1
        same = [
            f"{after_s}s",
            f"{after_s}.000s",
            f"{after_s * 1000}ms",
            f"{after_s * 10**6}us",
            f"{after_s * SECOND}",
        ]
        assert len({moments.find(reader, text).sequence for text in same}) == 1
        for text, said in (
            ("0", f"sequence=0, first=1, last={last}"),
            (str(last + 1), f"first=1, last={last}"),
            ("1990-01-01T00:00:00Z", "its first record, 1, is of"),
            ("yesterday", "not a moment: 'yesterday', allowed: a sequence number"),
        ):
            with pytest.raises(BadArgument, match=said):
                moments.find(reader, text)


def test_bare_numbers_are_times_by_their_size(tmp_path: Path, played: Played) -> None:
    now_s = 1_800_000_000
    for text in (str(now_s), str(now_s * 10**3), str(now_s * SECOND)):
        assert moments._time_ns(text) == now_s * SECOND
    with Reader(tmp_path) as empty, pytest.raises(BadArgument, match="the journal is empty"):
        moments.find(empty, "1")


# ---- a live exchange


def said_now(exchange: ExchangeProcess) -> dict[str, Any]:
    """What a quiet exchange answers to everything that can be asked of the past."""
    connection = look(exchange.data)
    accounts = Accounts(connection.accounts())
    numbers = {accounts.number(name) for name in ("alice", "bob")}
    wait_for(
        lambda: len({connection.balance_units(number)[1] for number in numbers}) == 1,
        "all is settled",
    )
    found: dict[str, Any] = {"sequence": connection.balance_units(min(numbers))[1]}
    found["balances"] = [
        {"account": accounts.name(n), "asset": asset, "free": f"{free:f}", "held": f"{held:f}"}
        for n in sorted(numbers)
        for asset, (free, held) in connection.balances(n).items()
    ]
    found["orders"] = orderview.order_rows(connection, "", "")
    found["markets"] = operate.market_rows(connection)
    found["book"] = orderview.book_values(
        connection.book("BTC/USD").top(), connection.market("BTC/USD"), 20
    )
    connection.close()
    return json.loads(json.dumps(found))


def said_of_the_past(exchange: ExchangeProcess, moment: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for what, *more in (("balances",), ("orders",), ("markets",), ("book", "BTC/USD", "-n", "20")):
        said = command("at", moment, what, *more, "--data", exchange.data, "--json")
        answer = json.loads(said)
        found |= {"sequence": answer["sequence"], what: answer[what]}
    found["balances"] = [row for row in found["balances"] if row["account"] != "exchange"]
    return found


def test_the_past_is_what_the_exchange_said_then(make_exchange: Make) -> None:
    exchange = make_exchange().up()
    trade(exchange, seed=1, count=600)
    first = said_now(exchange)
    assert first["book"]["bids"] and first["orders"] and first["balances"]
    command("snapshot", "take", exchange.data)
    trade(exchange, seed=2, count=600)
    second = said_now(exchange)
    trade(exchange, seed=3, count=600)
    assert second != said_now(exchange) != first
    # While it runs; by the sequence, and by a time after it in which nothing happened.
    assert said_of_the_past(exchange, first["sequence"]) == first
    with Reader(exchange.data / "journal") as reader:
        stamp_ns = moments.at(reader, second["sequence"]).timestamp_ns
    assert said_of_the_past(exchange, f"{stamp_ns}ns") == second
    # Stopped: the same, and the last state is the one that it stopped with.
    stopped = exchange.down()
    assert said_of_the_past(exchange, second["sequence"]) == second
    answer = json.loads(command("at", "last", "hash", "--data", exchange.data, "--json"))
    assert (answer["sequence"], answer["hash"]["state"]) == (stopped["sequence"], stopped["hash"])
    assert answer["hash"]["replayed_from"] == first["sequence"] + 1
    one_account = json.loads(
        command("at", first["sequence"], "orders", "bob", "--data", exchange.data, "--json")
    )
    assert one_account["orders"] == []
    # As text, and what cannot be asked.
    said = command("at", first["sequence"], "book", "BTC/USD", "-n", "3", "--data", exchange.data)
    assert said.startswith(f"After record {first['sequence']:,}, ")
    assert first["book"]["asks"][0][0] in said and "spread" in said
    assert "alice" in command("at", "last", "balances", "--data", exchange.data)
    for arguments, wrong in (
        (("1", "everything"), "what=everything, allowed=book, balances, orders, markets, hash"),
        (("1", "book"), "which market"),
        (("1", "hash", "alice"), "not understood: alice"),
        (("1", "book", "BTC/USD"), "no such market then: market=BTC/USD"),
        (("9999999", "hash"), f"sequence=9999999, first=1, last={stopped['sequence']}"),
        (("last", "balances", "carol"), "no such account: account=carol"),
        (("last", "markets", "--market", "BTC/USD"), "--market goes with"),
    ):
        assert wrong in command("at", *arguments, "--data", exchange.data, status=1)


def test_an_instance_need_not_be_named_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, played: Played
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(BadArgument, match="say which exchange: --data; in .* there are: none"):
        past.find_place("")
    (tmp_path / "matchbox").mkdir()
    (tmp_path / "matchbox" / "one").symlink_to(played.folder)
    assert past.find_place("").resolve() == played.journal
    (tmp_path / "matchbox" / "two").symlink_to(played.folder)
    with pytest.raises(BadArgument, match="there are: one, two"):
        past.find_place("")
    assert past.find_place("two").resolve() == played.journal


def test_a_damaged_snapshot_is_passed_over(
    played: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    (folder / "snapshots").mkdir(parents=True)
    (folder / "journal").symlink_to(played.journal)
    (folder / "exchange.toml").write_bytes((played.folder / "exchange.toml").read_bytes())
    whole = snapshots.file_path(played.folder / "snapshots", played.middle)
    content = bytearray(whole.read_bytes())
    content[len(content) // 2] ^= 1
    snapshots.file_path(folder / "snapshots", played.middle).write_bytes(content)
    found = rewind(folder / "journal", str(played.middle + 40))
    assert found.began == 0
    assert "A snapshot is passed over" in capsys.readouterr().err
    expected = rewind(played.journal, str(played.middle + 40))
    assert snapshot.combined_hash(found.state()) == snapshot.combined_hash(expected.state())
