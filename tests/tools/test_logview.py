"""`matchbox log`: filters, names, text, JSON, following, and errors."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchbox.persistence.journal import Reader, Writer
from matchbox.shm.errors import BadArgument, JournalError
from matchbox.shm.reasons import Reason
from matchbox.shm.records import (
    LOG_RECORD,
    MARKET_RECORD,
    NAMED_RECORD,
    Flag,
    Kind,
    OrderType,
    Side,
    TimeInForce,
)
from matchbox.tools import cli, config, logview
from matchbox.tools.logview import Names, View

START_NS = 1_790_000_000_000_000_000  # 2026-09-21T14:13:20Z
SECOND = 1_000_000_000


def order(kind: int, **values: Any) -> Any:
    record = np.zeros(1, LOG_RECORD)
    record["kind"] = kind
    for name, value in values.items():
        record[name] = value
    return record


def named(kind: int, **values: Any) -> Any:
    record = np.zeros(1, NAMED_RECORD)
    record["kind"] = kind
    for name, value in values.items():
        record[name] = value
    return record.view(LOG_RECORD)


def new(**values: Any) -> Any:
    limit = {"order_type": OrderType.LIMIT, "time_in_force": TimeInForce.GTC}
    return order(Kind.NEW_ORDER, **(limit | values))


def stamp(*records: Any) -> Any:
    """A log: sequences from 1, a record a second."""
    log = np.concatenate(records)
    log["sequence"] = np.arange(1, len(log) + 1)
    log["timestamp_ns"] = START_NS + SECOND * np.arange(len(log), dtype=np.uint64)
    ids = log["kind"] == Kind.NEW_ORDER
    log["order_id"][ids] = log["sequence"][ids]
    return log


@pytest.fixture
def log() -> Any:
    """Definitions of the demo exchange, then what alice (session 2) and bob (session 3) did."""
    return stamp(
        named(Kind.START, epoch=4),
        config.load(config.DEMO).definitions(),
        named(Kind.ATTACH_SESSION, id=2, account=1, name=b"alice-bot", capabilities=1, session=1),
        new(session=2, account=1, market=1, side=Side.BUY, price_ticks=10001, quantity_lots=150000,
            client_order_id=b"a-1"),
        new(session=3, account=2, market=2, side=Side.SELL, price_ticks=250, quantity_lots=3,
            time_in_force=TimeInForce.IOC),
        order(Kind.AMEND_ORDER, session=2, account=1, market=1, side=Side.BUY, order_id=11,
              quantity_lots=100000, flags=Flag.TO_OPEN),
        order(Kind.CANCEL_ORDER, session=3, account=2, market=1, order_id=11,
              reject=Reason["UNKNOWN_ORDER"]),
        order(Kind.CANCEL_ORDER, session=2, account=1, market=1, side=Side.BUY, order_id=11),
        named(Kind.DETACH_SESSION, id=2, name=b"alice-bot", reason=Reason["DISCONNECTED"]),
        named(Kind.STOP),
    )  # fmt: skip


@pytest.fixture
def journal(tmp_path: Path, log: Any) -> Path:
    """The log as a journal of batches of three records."""
    with Writer(tmp_path / "journal") as writer:
        for first in range(0, len(log), 3):
            writer.append(log[first : first + 3])
    return tmp_path / "journal"


def shown(journal: Path, view: View, **options: Any) -> list[int]:
    """Sequences of what the view shows."""
    with Reader(journal) as reader:
        parts = list(logview.read(reader, view, Names(), **options))
    return [int(sequence) for part in parts for sequence in part["sequence"]]


def first_of(log: Any, kind: Kind) -> int:
    return int(log["sequence"][log["kind"] == kind][0])


# ---- filters


def test_everything_is_shown_without_a_filter(journal: Path, log: Any) -> None:
    assert shown(journal, View()) == log["sequence"].tolist()


def test_a_range_of_sequences_is_shown_with_both_ends(journal: Path) -> None:
    assert shown(journal, View(first=4, last=8)) == [4, 5, 6, 7, 8]
    assert shown(journal, View(first=900)) == []


def test_a_range_of_times_is_shown_with_both_ends(journal: Path) -> None:
    since, until = START_NS + 4 * SECOND, START_NS + 6 * SECOND
    assert shown(journal, View(since_ns=since, until_ns=until)) == [5, 6, 7]
    assert shown(journal, View(since_ns=since + 1, until_ns=until - 1)) == [6]


def test_kinds_are_shown(journal: Path, log: Any) -> None:
    start = first_of(log, Kind.NEW_ORDER)
    assert shown(journal, View(kinds=(Kind.NEW_ORDER, Kind.STOP))) == [start, start + 1, len(log)]


def test_records_of_a_market_are_shown_and_no_others_with_the_same_bytes(
    journal: Path, log: Any
) -> None:
    start = first_of(log, Kind.NEW_ORDER)
    added = first_of(log, Kind.ADD_MARKET)
    expected = [added, start, start + 2, start + 3, start + 4]
    assert shown(journal, View(markets=(1,))) == expected


def test_records_of_an_account_are_shown_and_no_others_with_the_same_bytes(
    journal: Path, log: Any
) -> None:
    start = first_of(log, Kind.NEW_ORDER)
    added = first_of(log, Kind.ADD_ACCOUNT) + 1
    assert shown(journal, View(accounts=(2,))) == [added, start + 1, start + 3]


def test_records_from_and_about_a_session_are_shown(journal: Path, log: Any) -> None:
    attach, detach = first_of(log, Kind.ATTACH_SESSION), first_of(log, Kind.DETACH_SESSION)
    start = first_of(log, Kind.NEW_ORDER)
    assert shown(journal, View(sessions=(2,))) == [attach, start, start + 2, start + 4, detach]


def test_refused_records_are_shown(journal: Path, log: Any) -> None:
    assert shown(journal, View(refused=True)) == [first_of(log, Kind.NEW_ORDER) + 3]


def test_filters_of_several_sorts_must_all_hold(journal: Path, log: Any) -> None:
    start = first_of(log, Kind.NEW_ORDER)
    assert shown(journal, View(kinds=(Kind.NEW_ORDER,), accounts=(2,))) == [start + 1]


# ---- text


def lines_of(journal: Path, view: View) -> list[str]:
    names = Names()
    with Reader(journal) as reader:
        parts = list(logview.read(reader, view, names))
    return [logview.line(record, names) for part in parts for record in part]


def test_a_line_shows_decimals_by_definitions_that_are_not_shown(journal: Path, log: Any) -> None:
    start = first_of(log, Kind.NEW_ORDER)
    lines = lines_of(journal, View(first=start))
    assert lines[0].split() == [
        str(start), f"2026-09-21T14:13:{19 + start}.000000000Z", "NEW_ORDER", "session=2",
        "account=alice", "market=BTC/USDT", f"order={start}", "buy", "1.50000", "at", "100.01",
        "limit", "GTC", "client=a-1",
    ]  # fmt: skip
    assert "market=ETH/USDT" in lines[1] and "sell 0.0003 at 2.50 limit IOC" in lines[1]
    assert "order=11 buy 1.00000 to-open" in lines[2]
    assert "REFUSED: UNKNOWN_ORDER (" in lines[3]
    assert "DETACH_SESSION engine    detached=2 name=alice-bot reason=DISCONNECTED" in lines[5]


def test_definitions_and_marks_are_readable(journal: Path, log: Any) -> None:
    text = "\n".join(lines_of(journal, View()))
    for part in (
        "START          engine    epoch=4",
        "ADD_ASSET      engine    asset=1 name=USDT scale=8",
        "ADD_ACCOUNT    engine    account=1 name=alice",
        "ADD_MARKET     engine    market=1 symbol=BTC/USDT base_asset=2 quote_asset=1",
        "ATTACH_SESSION session=1 attached=2 name=alice-bot account=1 capabilities=TRADE",
    ):
        assert part in text


def test_what_is_not_defined_is_shown_in_numbers() -> None:
    record = stamp(new(account=9, market=7, side=Side.BUY, price_ticks=5, quantity_lots=6))[0]
    text = logview.line(record, Names())
    assert "account=9 market=7 order=1 buy 6 lots at 5 ticks limit GTC" in text


def test_a_definition_that_was_refused_defines_nothing() -> None:
    names = Names()
    names.learn(stamp(named(Kind.ADD_ASSET, id=1, name=b"X", scale=3, reject=105)))
    assert not names.assets


def test_any_bytes_make_one_printable_line() -> None:
    draw = np.random.default_rng(5)
    records = draw.integers(0, 256, (500, 128), dtype=np.uint8).view(LOG_RECORD).reshape(-1)
    records["kind"] = draw.choice([int(kind) for kind in Kind], 500)
    names = Names()
    for record in records:
        text = logview.line(record, names)
        assert text.isprintable() and text.isascii(), text
        json.loads(logview.json_line(record, names))


# ---- JSON


def test_json_has_integers_and_decimals(journal: Path, log: Any) -> None:
    start = first_of(log, Kind.NEW_ORDER)
    names = Names()
    with Reader(journal) as reader:
        (part,) = logview.read(reader, View(first=start, last=start), names)
    assert json.loads(logview.json_line(part[0], names)) == {
        "sequence": start,
        "time": f"2026-09-21T14:13:{19 + start}.000000000Z",
        "timestamp_ns": START_NS + (start - 1) * SECOND,
        "kind": "NEW_ORDER",
        "session": 2,
        "session_position": 0,
        "reject": None,
        "order_id": start,
        "client_order_id": "a-1",
        "account": 1,
        "account_name": "alice",
        "market": 1,
        "symbol": "BTC/USDT",
        "side": "BUY",
        "order_type": "LIMIT",
        "time_in_force": "GTC",
        "flags": [],
        "price": "100.01",
        "price_ticks": 10001,
        "quantity": "1.50000",
        "quantity_lots": 150000,
    }


def test_every_field_of_a_market_is_in_its_json() -> None:
    record = config.load(config.DEMO).definitions()[-1]
    shown_fields = logview.fields(record, Names())
    stamped = {"settled_lag", "settled_index", "reserved"}
    assert set(MARKET_RECORD.names or ()) - stamped <= set(shown_fields)


# ---- times and kinds


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1790000000000000001", 1790000000000000001),
        ("2026-09-21T14:13:20Z", START_NS),
        ("2026-09-21T14:13:20", START_NS),
        ("2026-09-21 14:13:20.5", START_NS + SECOND // 2),
        ("2026-09-21T14:13:20.000000007Z", START_NS + 7),
        ("2026-09-21T16:13:20+02:00", START_NS),
        ("2026-09-21", START_NS - 51200 * SECOND),
    ],
)
def test_a_time_is_read(text: str, nanoseconds: int) -> None:
    assert logview.parse_time(text) == nanoseconds


def test_a_time_that_is_shown_can_be_given_back() -> None:
    assert logview.parse_time(logview.format_time(START_NS + 123)) == START_NS + 123


def test_what_is_no_time_or_kind_is_refused_with_what_is_allowed() -> None:
    for text in ("yesterday", "2026-13-01", "", "12:00"):
        with pytest.raises(BadArgument, match="not a time.*allowed="):
            logview.parse_time(text)
    assert logview.parse_kind("new-order") == Kind.NEW_ORDER
    with pytest.raises(BadArgument, match="kind=order, allowed=new-order, "):
        logview.parse_kind("order")


# ---- while it is written


def test_following_shows_what_another_process_appends(tmp_path: Path, log: Any) -> None:
    folder = tmp_path / "journal"
    np.save(tmp_path / "log.npy", log.view(np.uint8))
    program = (
        "import sys, numpy as np\n"
        "from matchbox.persistence.journal import Writer\n"
        "from matchbox.shm.records import LOG_RECORD\n"
        "log = np.load(sys.argv[1]).view(LOG_RECORD)\n"
        "with Writer(sys.argv[2]) as writer:\n"
        "    print('open', flush=True)\n"
        "    for record in log:\n"
        "        sys.stdin.readline()\n"
        "        writer.append(record.reshape(1))\n"
        "        print('done', flush=True)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "log.npy"), str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as writer:
        assert writer.stdin and writer.stdout
        assert writer.stdout.readline() == "open\n"
        seen: list[int] = []

        def append_one() -> bool:
            """Stands for waiting: one more record is on the disk when it returns."""
            if len(seen) == len(log):
                return False
            assert writer.stdin and writer.stdout
            writer.stdin.write("\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == "done\n"
            return True

        with Reader(folder) as reader:
            for part in logview.read(reader, View(), Names(), follow=append_one):
                seen += part["sequence"].tolist()
        assert writer.wait(60) == 0
    assert seen == log["sequence"].tolist()


# ---- errors


def test_a_damaged_batch_is_an_error_after_what_was_before_it(journal: Path, log: Any) -> None:
    path = next(journal.glob("*.mdb"))
    good = log[7:8].tobytes()
    bad = good[:60] + bytes([good[60] ^ 1]) + good[61:]
    # Pages that LMDB has left behind hold the record as well.
    path.write_bytes(path.read_bytes().replace(good, bad))
    seen: list[int] = []
    with Reader(journal) as reader, pytest.raises(JournalError, match="checksum"):
        for part in logview.read(reader, View(), Names()):
            seen += part["sequence"].tolist()
    assert seen == [1, 2, 3, 4, 5, 6]


def test_a_journal_is_found_by_folder_data_folder_configuration_and_name(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert logview.find_journal(str(journal)) == journal
    assert logview.find_journal(str(journal.parent)) == journal
    config = journal.parent / "exchange.toml"
    config.write_text(f'instance = "demo"\ndata = "{journal.parent}"\n')
    assert logview.find_journal(str(config)) == journal
    state = journal.parent / "state"
    (state / "matchbox" / "demo").mkdir(parents=True)
    (state / "matchbox" / "demo" / "journal").symlink_to(journal)
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    assert logview.find_journal("demo") == state / "matchbox" / "demo" / "journal"
    with pytest.raises(BadArgument, match="no journal there: looked in .*other"):
        logview.find_journal("other")


# ---- the command line


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """command(*arguments): exit status, output and errors of `matchbox log ARGUMENTS`."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["matchbox", "log", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    yield run


Command = Callable[..., tuple[int, str, str]]


def test_the_command_filters_by_names(command: Command, journal: Path, log: Any) -> None:
    start = first_of(log, Kind.NEW_ORDER)
    options = ("--market", "BTC/USDT", "--account", "alice", "--kind", "new-order")
    status, out, _ = command(str(journal), *options)
    assert status == 0 and [line.split()[0] for line in out.splitlines()] == [str(start)]
    status, out, _ = command(str(journal), "--tail", "2", "--json")
    assert [json.loads(line)["kind"] for line in out.splitlines()] == ["DETACH_SESSION", "STOP"]


def test_the_command_says_what_is_wrong(command: Command, journal: Path, tmp_path: Path) -> None:
    for arguments, text in (
        ((str(tmp_path / "nowhere"),), "no journal there"),
        ((str(journal), "--market", "XRP"), "market=XRP, known=BTC/USDT, ETH/USDT"),
        ((str(journal), "--account", "eve"), "account=eve"),
        ((str(journal), "--since", "noon"), "not a time"),
        ((str(journal), "--kind", "x"), "kind=x"),
        ((str(journal), "--tail", "3", "--from", "2"), "--tail and --from"),
    ):
        status, out, err = command(*arguments)
        assert (status, out) == (1, "") and text in err


def test_the_command_follows_until_it_is_told_to_stop(
    command: Command, journal: Path, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = threading.Semaphore(3)

    def wait() -> bool:
        if not waits.acquire(blocking=False):
            raise KeyboardInterrupt
        return True

    monkeypatch.setattr(logview, "wait_for_more", wait)
    status, out, _ = command(str(journal), "--follow")
    assert status == 130 and len(out.splitlines()) == len(log)
