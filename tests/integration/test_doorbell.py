"""Sessions that wait for their reports on a descriptor, as an event loop does."""

import os
import select
import signal
from collections.abc import Callable, Iterator

import pytest

import matchbox
from matchbox import Capability, EventKind
from tests.integration.conftest import DEADLINE_S, ExchangeProcess, wait_for

TRUSTED = Capability.TRADE | Capability.NAME_ACCOUNTS


def trusted(exchange: ExchangeProcess, **options: object) -> matchbox.Session:
    """A session that names accounts, as a gateway's."""
    return matchbox.connect(
        exchange.data, name="door.1", capabilities=int(TRUSTED), doorbell=True, **options
    )  # type: ignore[arg-type]


def rings(session: matchbox.Session, seconds: float = DEADLINE_S) -> bool:
    """Does the doorbell ring in time?"""
    ready, _, _ = select.select([session.doorbell], [], [], seconds)
    if ready:
        os.eventfd_read(session.doorbell)
    return bool(ready)


def heard(session: matchbox.Session, count: int) -> list[EventKind]:
    """So many reports, waited for by the doorbell alone."""
    found: list[EventKind] = []
    while len(found) < count:
        found += [EventKind(int(r["kind"])) for r in session.reports(timeout=0)]
        if len(found) < count and session.arm():
            assert rings(session), found
    return found


@pytest.fixture
def session(exchange_process: ExchangeProcess) -> Iterator[matchbox.Session]:
    with trusted(exchange_process) as session:
        yield session


def test_it_rings_once_for_what_comes_after_it_was_armed(session: matchbox.Session) -> None:
    assert session.arm()
    assert not rings(session, 0)
    session.buy("BTC/USD", "1", "100", account=1)
    assert rings(session)
    assert not session.arm()  # there is something to read
    assert heard(session, 1) == [EventKind.ACCEPTED]
    session.buy("BTC/USD", "1", "100", account=1)  # not armed: nothing is written
    wait_for(lambda: session.pending, "a report")
    assert not rings(session, 0)


def test_a_trusted_session_trades_for_any_account_and_hears_when_it_is_durable(
    exchange_process: ExchangeProcess,
) -> None:
    with trusted(exchange_process, assurance="durable") as session:
        session.buy("BTC/USD", "1", "100", account=1)
        session.sell("BTC/USD", "1", "100", account=2)
        kinds = heard(session, 4)
        assert kinds == [EventKind.ACCEPTED] * 2 + [EventKind.TRADE] * 2
        wait_for(lambda: session.answered == 2 and session.held == 0, "all is published")


def test_it_goes_on_ringing_after_a_takeover(
    make_exchange: Callable[..., ExchangeProcess],
) -> None:
    exchange = make_exchange(standby=True).up()
    wait_for(lambda: exchange.followed, "a standby follows")
    with trusted(exchange, assurance="durable") as session:
        session.buy("BTC/USD", "1", "100", account=1)
        assert heard(session, 1) == [EventKind.ACCEPTED]
        assert session.arm()
        os.kill(exchange.host_of("sequencer"), signal.SIGKILL)
        session.sell("BTC/USD", "1", "100", account=2)
        assert heard(session, 3) == [EventKind.ACCEPTED, EventKind.TRADE, EventKind.TRADE]
        wait_for(lambda: "has taken over" in exchange.text(), "the takeover is said")
        session.buy("BTC/USD", "1", "100", account=1)
        assert heard(session, 1) == [EventKind.ACCEPTED]
    exchange.down()


def test_the_end_of_the_session_rings_too(session: matchbox.Session) -> None:
    assert session.arm()
    session.close()
    assert rings(session)
