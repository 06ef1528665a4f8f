"""The engine dies, and its standby goes on."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

import matchbox
from tests.integration.conftest import ExchangeProcess, collect, wait_for


@pytest.mark.parametrize("topology", ["compact", "wide", "by hand"])
def test_a_session_goes_on_when_the_engine_is_killed(
    topology: str, make_exchange: Callable[..., ExchangeProcess]
) -> None:
    exchange = make_exchange(topology, standby=True).up()
    wait_for(lambda: exchange.followed, "a standby follows")
    with exchange.connect() as alice, exchange.connect("bob") as bob:
        resting = alice.buy("BTC/USD", "1", "100")
        collect(alice, resting)
        os.kill(exchange.host_of("sequencer"), signal.SIGKILL)
        sold = bob.sell("BTC/USD", "1", "100")
        reports: list[Any] = collect(bob, sold)
        assert [matchbox.EventKind(int(r["kind"])).name for r in reports][:1] == ["ACCEPTED"]
        filled = alice.reports(timeout=10)
        assert [matchbox.EventKind(int(r["kind"])).name for r in filled] == ["TRADE"]
        print(exchange.text())
    exchange.down()
