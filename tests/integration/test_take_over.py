"""What a killed run left in shared memory goes into the journal of its own data folder."""

import os
import shutil
import signal
from collections.abc import Callable

import pytest

import matchbox
from matchbox.shm import segment
from tests.integration.conftest import ExchangeProcess, collect, wait_for
from tests.integration.test_up_down import journal, orders

Make = Callable[..., ExchangeProcess]


def kill_all(exchange: ExchangeProcess, seed: int = 4) -> set[bytes]:
    """Trade, kill all of its processes at once; the client order ids of what was reported.

    The journaler is stopped before, so that only the shared memory has it.
    """
    session = exchange.connect()
    os.kill(exchange.host_of("journaler"), signal.SIGSTOP)
    session.submit(orders(1500, seed))
    reports = collect(session, session.sent)
    assert exchange.process is not None
    for pid in [exchange.process.pid, *exchange.hosts]:
        os.kill(pid, signal.SIGKILL)
    exchange.process.wait()
    return {bytes(report["client_order_id"]) for report in reports} - {b""}


def lacks(exchange: ExchangeProcess, reported: set[bytes]) -> set[bytes]:
    """What was reported and is not in the journal."""
    return reported - {bytes(r["client_order_id"]) for r in journal(exchange)}


def has_orders(exchange: ExchangeProcess) -> bool:
    return bool((journal(exchange)["kind"] == matchbox.Kind.NEW_ORDER).any())


def named_like(other: ExchangeProcess, exchange: ExchangeProcess) -> ExchangeProcess:
    """`other`, with the instance name of `exchange`."""
    text = other.config.read_text()
    other.config.write_text(text.replace(other.instance, exchange.instance))
    other.instance = exchange.instance
    return other


def test_a_run_of_the_same_name_with_another_folder_is_saved_into_that_folder(
    make_exchange: Make,
) -> None:
    one = make_exchange().up()
    other = named_like(make_exchange(), one)
    reported = kill_all(one)
    assert lacks(one, reported) == reported
    other.up()
    assert "A run of this name with another data folder did not stop in order" in other.text()
    assert lacks(one, reported) == set()
    other.down()
    assert not has_orders(other)
    one.up().down()
    assert lacks(one, reported) == set()


def test_a_folder_whose_instance_was_renamed_gets_what_the_old_name_left(
    make_exchange: Make, unique_name: Callable[[], str]
) -> None:
    exchange = make_exchange().up()
    reported = kill_all(exchange)
    left = exchange.segments()
    old, exchange.instance = exchange.instance, unique_name()
    text = exchange.config.read_text()
    exchange.config.write_text(text.replace(f'"{old}"', f'"{exchange.instance}"'))
    exchange.up()
    assert "Saved" in exchange.text()
    assert lacks(exchange, reported) == set()
    assert left
    assert segment.names(old) == []
    exchange.down()
    sequences = journal(exchange)["sequence"].tolist()
    assert sequences == list(range(1, len(sequences) + 1))


def test_a_moved_folder_gets_what_it_left_and_a_copy_does_not(make_exchange: Make) -> None:
    exchange = make_exchange().up()
    reported = kill_all(exchange)
    copy = exchange.data.with_name("copy")
    shutil.copytree(exchange.data, copy, ignore=shutil.ignore_patterns("control.sock"))
    original, exchange.data = exchange.data, copy
    exchange.up("--data", str(copy)).down()
    assert lacks(exchange, reported) == reported
    exchange.data = original
    assert lacks(exchange, reported) == set()
    exchange.up()
    reported |= kill_all(exchange, seed=5)
    shutil.rmtree(copy)
    exchange.data = original.rename(copy)
    exchange.up("--data", str(copy)).down()
    assert lacks(exchange, reported) == set()


def test_a_run_whose_folder_is_gone_is_removed_with_a_word(make_exchange: Make) -> None:
    one = make_exchange().up()
    other = named_like(make_exchange(), one)
    kill_all(one)
    shutil.rmtree(one.data)
    one.data.mkdir()  # another folder, though in the same place
    other.up()
    assert "whose data folder is gone" in other.text()
    assert {name.epoch for name in other.segments()} == {other.status["epoch"]}
    other.down()
    assert not has_orders(other)


def test_what_cannot_be_saved_for_another_folder_keeps_the_name_from_starting(
    make_exchange: Make,
) -> None:
    one = make_exchange().up()
    other = named_like(make_exchange(), one)
    reported = kill_all(one)
    for path in (one.data / "journal").glob("*.mdb"):
        path.rename(path.with_suffix(".kept"))
        path.write_bytes(b"no journal")
    with pytest.raises(AssertionError, match="cannot be saved in its data folder"):
        other.up()
    assert one.segments()
    for path in (one.data / "journal").glob("*.kept"):
        path.rename(path.with_suffix(".mdb"))
    one.up().down()
    assert lacks(one, reported) == set()
    other.up().down()


def test_another_instance_is_left_alone(make_exchange: Make) -> None:
    running, killed, other = make_exchange().up(), make_exchange().up(), make_exchange()
    reported = kill_all(killed)
    other.up().down()
    assert killed.segments()
    assert running.segments()
    killed.up().down()
    assert lacks(killed, reported) == set()
    wait_for(lambda: running.connect(), "it still serves").close()
    running.down()
