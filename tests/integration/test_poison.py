"""An order kills the engine, and there is no standby: the next start leaves it out."""

import json
from collections.abc import Callable
from decimal import Decimal

import pytest

from matchbox.persistence import cuts
from matchbox.shm.connect import look
from matchbox.shm.reasons import describe
from matchbox.shm.records import Side
from matchbox.tools import poison
from tests.integration.conftest import ExchangeProcess, collect, wait_for
from tests.integration.test_backup import command

LOTS = 500_000  # one of these is 0.0001 BTC


def poisoned(exchange: ExchangeProcess, number: int = 11) -> None:
    """An order, then the one that kills by a signal; the exchange stops."""
    with exchange.connect() as alice:
        collect(alice, alice.buy("BTC/USD", "1", "100"))
        alice.sell("BTC/USD", quantity(LOTS + number), "200")
        process = exchange.process
        assert process is not None
        wait_for(lambda: process.poll() is not None, "it stops")
    assert process.returncode == 1


def quantity(lots: int) -> Decimal:
    return Decimal(lots) * Decimal("0.0001")


def sides(exchange: ExchangeProcess) -> list[str]:
    """Of all open orders."""
    connection = look(exchange.data)
    try:
        return [Side(int(order["side"])).name for order in connection.orders(0, 0)]
    finally:
        connection.close()


@pytest.mark.parametrize("agent", ["matcher-0", "publisher"])
def test_the_next_start_cuts_it_out(
    make_exchange: Callable[..., ExchangeProcess], monkeypatch: pytest.MonkeyPatch, agent: str
) -> None:
    monkeypatch.setenv(poison.VARIABLE, f"{agent}:{LOTS}")
    exchange = make_exchange(archive=True).up()
    poisoned(exchange)
    assert f"is cut out: {agent} had it in hand, and died of SIGSEGV." in exchange.text()
    decided = cuts.read(exchange.data / "journal")
    assert [cut.agent for cut in decided] == [agent]
    exchange.up()  # where it would kill again
    with exchange.connect() as alice:
        # The order before is there; of this one nothing is, and nothing is held for it.
        assert sides(exchange) == ["BUY"]
        assert alice.balances()["BTC"][1] == 0
        collect(alice, alice.buy("BTC/USD", "1", "100"))
    exchange.down()
    shown = [json.loads(line) for line in command("log", exchange.data, "--json").splitlines()]
    assert [r["sequence"] for r in shown if r.get("cut")] == [decided[0].sequence]
    command("verify", exchange.data, "--views")
    command("reconcile", exchange.data)
    restored = exchange.data.parent / "restored"
    command("restore", exchange.data, restored)
    assert cuts.read(restored / "journal") == decided


def test_a_command_that_kills_the_sequencer_is_not_in_the_log(
    make_exchange: Callable[..., ExchangeProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was acknowledged to nobody, and its session is over: nothing is to be done."""
    monkeypatch.setenv(poison.VARIABLE, f"sequencer:{LOTS}")
    exchange = make_exchange().up()
    poisoned(exchange, 8)
    assert cuts.read(exchange.data / "journal") == []
    exchange.up()
    assert sides(exchange) == ["BUY"]
    exchange.down()


def test_the_standby_does_not_come_to_it_before_the_engine(
    make_exchange: Callable[..., ExchangeProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(poison.VARIABLE, f"matcher-0:{LOTS},sequencer:{LOTS + 100}")
    exchange = make_exchange(standby=True).up()
    with exchange.connect() as alice, exchange.connect("bob") as bob:
        for deaths, lots in enumerate((LOTS + 11, LOTS + 107, LOTS + 6), 1):
            wait_for(lambda: exchange.followed, "a standby follows")
            answer = collect(alice, alice.sell("BTC/USD", quantity(lots), "200"))[-1]
            assert describe(int(answer["reason"])).startswith("POISONED"), answer
            collect(bob, bob.buy("BTC/USD", "1", "100"))
            wait_for(lambda n=deaths + 1: exchange.status["epoch"] == n, "it is known")
        assert sides(exchange) == ["BUY"] * 3
    exchange.down()
    assert len(cuts.read(exchange.data / "journal")) == 2
