"""`matchbox status` and `matchbox ring` on real exchanges: running, stopped, killed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from matchbox.shm import segment
from matchbox.shm.errors import BadArgument, SegmentError
from matchbox.tools import ringview
from matchbox.tools.status import look
from tests.integration.conftest import ExchangeProcess, collect, make_exchange, wait_for

__all__ = ["make_exchange"]

Make = Callable[..., ExchangeProcess]


def matchbox_command(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "matchbox.tools.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"},
    )


def by_name(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row.get("name") or row["symbol"]: row for row in rows}


def trade(exchange: ExchangeProcess) -> Any:
    """A session that has bought and sold 3 lots from itself, and rests an order."""
    session = exchange.connect()
    session.sell("BTC/USD", "0.0003", "10.05", client_order_id="first")
    session.buy("BTC/USD", "0.0003", "10.05")
    collect(session, session.buy("BTC/USD", "0.0001", "9.99"))
    return session


@pytest.mark.parametrize("topology", ["compact", "wide", "by hand"])
def test_a_running_exchange_shows_its_agents_rings_sessions_and_markets(
    make_exchange: Make, topology: str
) -> None:
    exchange = make_exchange(topology).up()
    with trade(exchange):
        # The publisher counts what it has sent after sending it.
        wait_for(lambda: by_name(look(exchange.data).markets)["BTC/USD"]["trades"], "the trade")
        result = matchbox_command("status", exchange.data, "--json")
        assert result.returncode == 0, result.stderr
        seen = json.loads(result.stdout)
        assert (seen["state"], seen["epoch"]) == ("running", 1)
        agents = by_name(seen["agents"])
        matchers = {"matcher-0"} if topology == "compact" else {"matcher-0", "matcher-1"}
        assert set(agents) == {"sequencer", "publisher", "journaler", *matchers}
        assert agents["sequencer"]["work"] > 0
        rings = by_name(seen["rings"])
        log = rings["log"]
        assert set(log["readers"]) == {"publisher", "journaler", *matchers}
        assert log["produced"] >= 3
        assert agents["sequencer"]["position"] == agents["publisher"]["position"] == log["produced"]
        assert rings["events-0"]["produced"] >= 3
        assert rings["market-data"]["readers"] == {}
        (session,) = seen["sessions"]
        assert (session["commands"], session["commands_depth"]) == (3, 0)
        assert session["reports"] >= 4
        market = by_name(seen["markets"])["BTC/USD"]
        assert (market["trades"], market["bid"], market["ask"]) == (1, "9.99", None)
        pids = {row["pid"] for row in seen["processes"]}
        assert pids == {exchange.status["pid"], *exchange.hosts}
        assert all(row["alive"] and row["resident_bytes"] > 0 for row in seen["processes"])
        text = matchbox_command("status", exchange.data)
        assert text.returncode == 0
        for word in ("running", "sequencer", "journaler", "log", "BTC/USD", "9.99"):
            assert word in text.stdout
    exchange.down()


def test_an_exchange_that_stopped_says_where_and_gives_exit_status_one(make_exchange: Make) -> None:
    exchange = make_exchange().up()
    trade(exchange).close()
    after = exchange.down()
    result = matchbox_command("status", exchange.data)
    assert result.returncode == 1
    assert "stopped" in result.stdout
    assert f"{after['sequence']:,}" in result.stdout
    assert after["hash"] in result.stdout


def test_a_killed_exchange_is_dead_and_its_rings_can_still_be_read(make_exchange: Make) -> None:
    exchange = make_exchange().up()
    session = trade(exchange)
    assert exchange.process is not None
    family = [psutil.Process(pid) for pid in (exchange.process.pid, *exchange.hosts)]
    for process in family:
        process.kill()
    exchange.process.wait()
    psutil.wait_procs(family, 30)
    result = matchbox_command("status", exchange.config, "--json")
    assert result.returncode == 1, result.stderr
    seen = json.loads(result.stdout)
    assert seen["state"] == "dead"
    assert not any(row["alive"] for row in seen["processes"])
    assert by_name(seen["rings"])["log"]["produced"] >= 3
    assert "recovers" in matchbox_command("status", exchange.data).stdout
    name = str(next(n for n in exchange.segments() if n.part == "log"))
    lines = matchbox_command("ring", name, "-n", "3").stdout.splitlines()
    assert [line.split()[3] for line in lines[-3:]] == ["NEW_ORDER"] * 3
    assert "client=first" in lines[-3]
    session.close()


def test_watching_ends_when_the_exchange_does(make_exchange: Make) -> None:
    exchange = make_exchange().up()
    watching = subprocess.Popen(
        [sys.executable, "-m", "matchbox.tools.cli", "status", str(exchange.data)]
        + ["--watch", "--json", "--interval", "0.1"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert watching.stdout is not None
    first = json.loads(watching.stdout.readline())
    assert first["state"] == "running"
    exchange.down()
    rest, _ = watching.communicate(timeout=60)
    assert json.loads(rest.splitlines()[-1])["state"] == "stopped"
    assert watching.returncode == 1


def test_every_ring_of_a_running_exchange_can_be_read(make_exchange: Make) -> None:
    exchange = make_exchange().up()
    with trade(exchange):
        wait_for(lambda: by_name(look(exchange.data).markets)["BTC/USD"]["trades"], "the trade")
        seen = look(exchange.data)
        (session,) = seen.sessions
        places = [row["segment"] for row in seen.rings]
        places += [session["commands_fd"], session["reports_fd"]]
        found = {}
        for place in places:
            result = matchbox_command("ring", place, "--from", "0", "-n", "100", "--json")
            assert result.returncode == 0, result.stderr
            head, *records = map(json.loads, result.stdout.splitlines())
            assert head["produced"] == len(records), place
            assert [record["ring_position"] for record in records] == list(range(len(records)))
            found[head["holds"], head["name"]] = records
        commands = found["commands", session["name"]]
        assert [record["kind"] for record in commands] == ["NEW_ORDER"] * 3
        reports = found["reports", session["name"]]
        kinds = [record["kind"] for record in reports if record["kind"] != "ATTACHED"]
        assert kinds == ["ACCEPTED", "ACCEPTED", "TRADE", "TRADE", "ACCEPTED"]
        trades = [r for r in found["market-data", "market-data"] if r["kind"] == "TRADE"]
        assert [(r["price_ticks"], r["quantity_lots"]) for r in trades] == [(1005, 3)]
        events = found["events", "events-0"]
        assert [r["maker_order_id"] for r in events if r["kind"] == "TRADE"] != [0]
    exchange.down()


def test_what_is_no_ring_is_refused(tmp_path: Path, unique_name: Callable[[], str]) -> None:
    with pytest.raises(BadArgument, match="no ring to look at"):
        ringview.open_ring("/matchbox-nothing-1-log")
    with pytest.raises(BadArgument, match="not a file"):
        ringview.open_ring(f"{tmp_path}/")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadArgument, match="not a file"):
        ringview.open_ring(str(tmp_path / "pipe"))
    for content in (b"", b"x", bytes(64), bytes(8192), os.urandom(8192)):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(SegmentError):
            ringview.open_ring(str(tmp_path / "file"))
    name = segment.SegmentName(unique_name(), 1, "board")
    memory = segment.create(name, 8192)
    try:
        with pytest.raises(SegmentError):
            ringview.open_ring(str(name))
    finally:
        memory.close()
        segment.unlink(name)


def test_positions_outside_the_ring_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    from matchbox.shm.records import EVENT
    from matchbox.shm.ring import Producer, Ring, ring_bytes

    memory = bytearray(ring_bytes(8))
    ring = Ring.create(memory, capacity=8, shape="lossy", readers=0, name="events-0")
    producer = Producer(ring)
    for sequence in range(1, 12):
        event = np.zeros(1, EVENT)
        event["sequence"], event["kind"] = sequence, 77
        assert producer.publish(event)
    place = tmp_path / "matchbox-x-1-events-0"
    place.write_bytes(memory)
    for first in (0, 2, 12):
        with pytest.raises(BadArgument, match=r"allowed=3\.\.11"):
            ringview.run(str(place), first, 1, as_json=False)
    with pytest.raises(BadArgument, match="not below zero"):
        ringview.run(str(place), None, -1, as_json=False)
    assert ringview.run(str(place), 3, 100, as_json=False) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 8 + 8  # eight lines of header
    assert shown[-1].split()[:2] == ["10", "sequence=11"]
    assert "kind=77" in shown[-1]


@pytest.mark.parametrize(
    ("kind", "record", "expected"),
    [
        (
            "ledger",
            {"kind": 10, "account": 1, "market": 2, "quantity_lots": 9, "cumulative_lots": -1},
            {"free": 9, "change": -1, "asset": 2, "account": 1, "kind": "BALANCE"},
        ),
        (
            "events",
            {"kind": 7, "previous_level_lots": 3, "previous_price_ticks": 4},
            {"previous_level_lots": 3, "previous_price_ticks": 4, "kind": "AMENDED"},
        ),
        (
            "events",
            {"kind": 3, "maker_leaves_lots": 3, "fee": 5, "maker_fee": -2},
            {"maker_leaves_lots": 3, "fee": 5, "maker_fee": -2, "kind": "TRADE"},
        ),
        (
            "reports",
            {"kind": 10, "command_position": 8, "client_order_id": b"wire"},
            {"command_position": 8, "kind": "BALANCE", "reference": "wire"},
        ),
        ("reports", {"kind": 3, "trade_id": 8}, {"trade_id": 8, "kind": "TRADE"}),
        ("reports", {"kind": 1, "trade_id": 8}, {"command_position": 8, "kind": "ACCEPTED"}),
    ],
)
def test_fields_of_a_ring_are_called_what_they_mean(
    kind: str, record: dict[str, Any], expected: dict[str, Any]
) -> None:
    import numpy as np

    from matchbox.shm.records import EVENT, REPORT

    made = np.zeros(1, REPORT if kind == "reports" else EVENT)
    for name, value in record.items():
        made[name] = value
    assert ringview.fields(made[0], kind) == expected
