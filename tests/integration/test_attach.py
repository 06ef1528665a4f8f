"""How sessions attach: what the log says of their user, their wishes, and their capabilities."""

import os
from typing import Any

import matchbox
from matchbox.shm.connect import look
from matchbox.shm.records import LOG_RECORD, NAMED_RECORD, Kind
from matchbox.shm.ring import Ring
from matchbox.shm.segment import attach
from tests.integration.conftest import ExchangeProcess, collect


def attachments(exchange: ExchangeProcess) -> list[Any]:
    """The ATTACH_SESSION records in the log ring."""
    name = next(n for n in exchange.segments() if n.part == "log")
    ring = Ring.attach(attach(name, writable=False))
    records = ring.peek(0, ring.produced, LOG_RECORD)
    return list(records[records["kind"] == Kind.ATTACH_SESSION].view(NAMED_RECORD))


def test_the_log_knows_the_user_and_whether_its_end_cancels(
    exchange_process: ExchangeProcess,
) -> None:
    with (
        exchange_process.connect("alice"),
        exchange_process.connect("bob", cancel_on_detach=True),
    ):
        first, second = attachments(exchange_process)[-2:]
    assert [int(record["user"]) for record in (first, second)] == [os.getuid() + 1] * 2
    assert [int(record["cancel_on_detach"]) for record in (first, second)] == [0, 1]


def test_an_operator_gets_all_that_is_open_to_it(exchange_process: ExchangeProcess) -> None:
    with exchange_process.connect("", operator=True) as session:
        assert int(attachments(exchange_process)[-1]["capabilities"]) == 7
        # It names accounts, as trusted sessions do.
        position = session.buy("BTC/USD", "0.0001", "10", account=99)
        (report,) = collect(session, position)
        assert report["reason"] == matchbox.Reason.UNKNOWN_ACCOUNT


def test_an_exchange_can_be_looked_at_without_a_session(
    exchange_process: ExchangeProcess,
) -> None:
    before = len(attachments(exchange_process))
    connection = look(exchange_process.data)
    assert {name: (a.number, a.scale) for name, a in connection.assets.items()} == {
        "USD": (1, 8),
        "BTC": (2, 8),
    }
    assert [account["name"] for account in connection.accounts()] == ["alice", "bob"]
    assert connection.book("BTC/USD").best() == (0, 0, 0, 0)
    assert connection.market("BTC/USD").quote_asset == 1
    assert len(attachments(exchange_process)) == before
    connection.close()
