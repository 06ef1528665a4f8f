"""Sessions whose reports wait for the disk or the standby, while the journal is stopped."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import matchbox
from matchbox.persistence.journal import Reader
from matchbox.shm import segment
from matchbox.shm.errors import BadArgument, Detached, EngineDown
from matchbox.shm.reasons import Reason
from tests.integration.conftest import ExchangeProcess, collect, wait_for
from tests.integration.test_up_down import journal

Make = Callable[..., ExchangeProcess]
MANY = 200


@contextlib.contextmanager
def no_disk(exchange: ExchangeProcess) -> Iterator[None]:
    """Nothing becomes durable meanwhile."""
    pid = exchange.host_of("journaler")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def enter(session: matchbox.Session, count: int = MANY) -> list[int]:
    """Send so many orders that rest, each with an id of its own; their positions."""
    return [
        session.buy("BTC/USD", "0.01", f"{1 + n}", client_order_id=f"{session.name}-{session.sent}")
        for n in range(count)
    ]


def answers(reports: list[Any]) -> list[int]:
    """Positions of the commands that these answer."""
    trade = matchbox.EventKind.TRADE
    return [int(r["command_position"]) for r in reports if r["kind"] != trade]


def journaled(exchange: ExchangeProcess) -> int:
    """Sequence of the last record that the journal has."""
    with Reader(exchange.data / "journal") as reader:
        return reader.last()[0]


def read_until(exchange: ExchangeProcess, session: matchbox.Session, position: int) -> list[Any]:
    """Reports up to the answer to a command, none of which comes before its record is journaled."""
    found: list[Any] = []
    while not any(answer >= position for answer in answers(found)):
        more = session.reports(timeout=30)
        assert len(more), f"no answer to {position} after {answers(found[-1:])}"
        assert more["sequence"].max() <= journaled(exchange)
        found.extend(more)
    return found


def test_durable_reports_wait_for_the_disk_and_matched_ones_do_not(
    exchange_process: ExchangeProcess,
) -> None:
    with (
        exchange_process.connect("alice") as quick,
        exchange_process.connect("bob", assurance="durable") as certain,
    ):
        with no_disk(exchange_process):
            before = journaled(exchange_process)
            positions = enter(certain)
            # The sequencer takes them before what comes after their being taken.
            told = collect(quick, enter(quick)[-1])
            assert all(r["assurance"] == matchbox.Assurance.MATCHED for r in told)
            asked = collect(quick, quick.cancel(2**60))
            assert int(asked[-1]["sequence"]) > before + 2 * MANY
            assert certain.pending == 0
        reports = read_until(exchange_process, certain, positions[-1])
        assert answers(reports) == positions
        assert all(r["assurance"] == matchbox.Assurance.DURABLE for r in reports)


def test_durable_reports_come_while_the_exchange_trades(exchange_process: ExchangeProcess) -> None:
    with (
        exchange_process.connect("alice") as maker,
        exchange_process.connect("bob", assurance="durable") as certain,
    ):
        for _ in range(5):
            enter(maker)
            position = 0
            for _ in range(MANY):
                position = certain.sell("BTC/USD", "0.01", "1")
            reports = read_until(exchange_process, certain, position)
            # The fills of the last one may come with the next read.
            sequences = [int(r["sequence"]) for r in reports]
            assert sequences == sorted(sequences)


def test_replicated_reports_wait_for_the_standby_alone(make_exchange: Make) -> None:
    exchange = make_exchange(standby=True).up()
    wait_for(lambda: exchange.followed, "a standby follows")
    with exchange.connect("alice", assurance="replicated") as safe, no_disk(exchange):
        positions = enter(safe)
        reports = collect(safe, positions[-1])
        assert answers(reports) == positions
        assert all(r["assurance"] == matchbox.Assurance.REPLICATED for r in reports)
        assert int(reports[-1]["sequence"]) > journaled(exchange)
    exchange.down()


def test_without_a_standby_replicated_is_durable(exchange_process: ExchangeProcess) -> None:
    with exchange_process.connect("alice", assurance="replicated") as safe:
        with no_disk(exchange_process):
            positions = enter(safe)
            with exchange_process.connect("bob") as quick:
                collect(quick, quick.cancel(2**60))
            assert safe.pending == 0
        assert answers(read_until(exchange_process, safe, positions[-1])) == positions


def test_a_stop_tells_durable_sessions_everything(exchange_process: ExchangeProcess) -> None:
    session = exchange_process.connect("alice", assurance="durable")
    watcher = exchange_process.connect("bob")
    with no_disk(exchange_process):
        positions = enter(session)
        collect(watcher, watcher.cancel(2**60))
        assert exchange_process.process is not None
        exchange_process.process.send_signal(signal.SIGTERM)
        wait_for(lambda: exchange_process.status["state"] == "stopping", "it stops")
        ended = list(watcher.reports(timeout=30))
        assert [r["kind"] for r in ended] == [matchbox.EventKind.DETACHED]
        assert session.pending == 0
    reports = read_until(exchange_process, session, positions[-1])
    while reports[-1]["kind"] != matchbox.EventKind.DETACHED:
        reports.extend(session.reports(timeout=30))
    assert answers(reports[:-1]) == positions
    assert reports[-1]["reason"] == Reason.ENGINE_STOPPED
    assert exchange_process.process.wait(60) == 0
    last = exchange_process.status["sequence"]
    assert int(reports[-1]["sequence"]) == last == journaled(exchange_process)


def test_what_was_told_as_durable_is_there_after_the_loss_of_all_memory(
    exchange_process: ExchangeProcess,
) -> None:
    exchange = exchange_process
    quick, certain = exchange.connect("alice"), exchange.connect("bob", assurance="durable")
    told: list[Any] = collect(certain, enter(certain)[-1])
    with no_disk(exchange):
        enter(certain)
        lost = collect(quick, enter(quick)[-1])
        assert exchange.process is not None
        for pid in [exchange.process.pid, *exchange.hosts]:
            os.kill(pid, signal.SIGKILL)
        exchange.process.wait()
    with contextlib.suppress(Detached, EngineDown):
        told.extend(certain.reports())
    # As after a crash of the machine.
    for name in exchange.segments():
        if name.part == "log":
            segment.unlink(name)
    exchange.up()
    records = journal(exchange)
    by_sequence = {int(r["sequence"]): bytes(r["client_order_id"]) for r in records}
    for report in told:
        assert by_sequence[int(report["sequence"])] == bytes(report["client_order_id"])
    ids = set(by_sequence.values())
    assert len(told) == MANY
    assert not any(bytes(report["client_order_id"]) in ids for report in lost)
    exchange.down()


def test_a_successor_tells_what_was_held_when_it_is_durable_and_once(make_exchange: Make) -> None:
    exchange = make_exchange(standby=True).up()
    wait_for(lambda: exchange.followed, "a standby follows")
    quick = exchange.connect("alice")
    certain = exchange.connect("bob", assurance="durable")
    ending = exchange.connect("bob", assurance="durable")
    reports: list[Any] = collect(certain, enter(certain, 20)[-1])
    with no_disk(exchange):
        positions = enter(certain, 20)
        last = enter(ending, 5)
        ending.submit(logout())
        collect(quick, quick.cancel(2**60))
        os.kill(exchange.host_of("sequencer"), signal.SIGKILL)
        positions += enter(certain, 20)
        collect(quick, quick.cancel(2**60))
        assert certain.pending == ending.pending == 0
    reports += read_until(exchange, certain, positions[-1])
    assert answers(reports) == list(range(1, 61))
    final = read_until(exchange, ending, last[-1])
    while final[-1]["kind"] != matchbox.EventKind.DETACHED:
        final.extend(ending.reports(timeout=30))
    assert answers(final[:-1]) == last
    assert final[-1]["reason"] == Reason.LOGGED_OUT
    exchange.down()


def logout() -> Any:
    import numpy as np

    record = np.zeros(1, matchbox.COMMAND)
    record["kind"] = matchbox.Kind.LOGOUT
    return record


@pytest.mark.parametrize("assurance", ["certain", "DURABLE", "", None, 3])
def test_what_reports_wait_for_is_one_of_three(
    exchange_process: ExchangeProcess, assurance: Any
) -> None:
    with pytest.raises(BadArgument, match="one of matched, replicated, durable: assurance="):
        exchange_process.connect("alice", assurance=assurance)
