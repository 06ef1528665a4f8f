"""Workers of the gateway die, the engine dies, the exchange stops: clients hardly notice."""

import http.client
import os
import signal
import socket
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from matchbox.gateway.keys import Key, Keys
from tests.gateway.client import Client
from tests.gateway.conftest import GATEWAY, start
from tests.integration.conftest import DEADLINE_S, ExchangeProcess, collect, wait_for

MORE = "orders_per_ten_seconds = 100000\nweight_per_minute = 1000000"
ORDER = {"symbol": "BTCUSD", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1"}
Make = Callable[..., ExchangeProcess]


def make_one(make_exchange: Make, *, workers: int = 2, more: str = MORE, **options: Any) -> Any:
    """An exchange with a gateway, its address, and a key of alice."""
    text = GATEWAY.format(workers=workers, more=more)
    exchange = make_exchange(archive=True, more=text, **options)
    address = start(exchange)
    keys = Keys(Path(exchange.data))
    key = keys.create(1)
    keys.close()
    return exchange, address, key


def workers(exchange: ExchangeProcess) -> list[int]:
    return [int(pid) for pid in exchange.status["gateway"]["workers"]]


def gone(pid: int) -> bool:
    """Has it ended? Nobody may be there who buries it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Trader(threading.Thread):
    """Enters orders one after the other, again from a new connection where one was lost."""

    def __init__(self, address: str, key: Key) -> None:
        super().__init__()
        self._address, self._key = address, key
        self.over = threading.Event()
        self.entered: list[str] = []
        self.lost: list[str] = []
        self.problems: list[Any] = []

    def run(self) -> None:
        client, number = Client(self._address, self._key), 0
        while not self.over.is_set():
            number += 1
            name = f"{self.name}-{number}"
            try:
                placed = client.signed("POST", "order", **ORDER, price="1", newClientOrderId=name)
            except (OSError, http.client.HTTPException):  # it has ended, perhaps within an answer
                self.lost.append(name)
                client.close()
                client = Client(self._address, self._key)
                self.over.wait(0.02)
                continue
            if placed.status == 200:
                self.entered.append(name)
            elif placed.status >= 500:
                self.lost.append(name)
            else:
                self.problems.append(placed)
        client.close()


def check_all_there(address: str, trader: Trader, key: Key) -> None:
    """Every order that was answered is there; of one whose answer was lost it can be learnt."""
    client = Client(address, key)
    found = {order["clientOrderId"] for order in client.good("GET", "openOrders")}
    assert set(trader.entered) <= found
    for name in trader.lost:
        known = client.signed("GET", "order", symbol="BTCUSD", origClientOrderId=name)
        assert known.status == (200 if name in found else 400), known
    assert found <= {*trader.entered, *trader.lost}
    client.close()


def test_a_worker_that_is_killed_is_followed_by_another_and_no_answered_order_is_lost(
    make_exchange: Make,
) -> None:
    exchange, address, key = make_one(make_exchange)
    traders = [Trader(address, key) for _ in range(3)]
    for trader in traders:
        trader.start()
    try:
        for _ in range(2):
            before = workers(exchange)
            entered = sum(len(trader.entered) for trader in traders)
            os.kill(before[0], signal.SIGKILL)
            wait_for(
                lambda before=before: len(workers(exchange)) == 2 and workers(exchange) != before,
                "another worker is there",
            )
            wait_for(
                lambda entered=entered: sum(len(t.entered) for t in traders) > entered + 20,
                "orders go on",
            )
    finally:
        for trader in traders:
            trader.over.set()
        for trader in traders:
            trader.join(DEADLINE_S)
    for trader in traders:
        assert not trader.problems
    client = Client(address, key)
    found = {order["clientOrderId"] for order in client.good("GET", "openOrders")}
    assert {name for trader in traders for name in trader.entered} <= found
    client.close()
    assert "of the gateway ended: signal SIGKILL" in exchange.text()
    exchange.down()


def test_a_takeover_breaks_no_connection(make_exchange: Make) -> None:
    exchange, address, key = make_one(make_exchange, standby=True, workers=1)
    wait_for(lambda: exchange.followed, "a standby follows")
    trader = Trader(address, key)
    trader.start()
    try:
        wait_for(lambda: len(trader.entered) > 10, "orders are entered")
        os.kill(exchange.host_of("sequencer"), signal.SIGKILL)
        wait_for(lambda: "has taken over" in exchange.text(), "the standby has taken over")
        entered = len(trader.entered)
        wait_for(lambda: len(trader.entered) > entered + 10, "orders go on")
    finally:
        trader.over.set()
        trader.join(DEADLINE_S)
    assert not trader.problems and not trader.lost
    check_all_there(address, trader, key)
    client = Client(address, key)
    assert client.good("GET", "account")["balances"]
    assert client.get("depth", symbol="BTCUSD").body["bids"]
    client.close()
    exchange.down()


def test_a_stop_in_order_answers_what_was_asked_and_leaves_nothing(make_exchange: Make) -> None:
    exchange, address, key = make_one(make_exchange)
    pids = workers(exchange)
    trader = Trader(address, key)
    trader.start()
    try:
        wait_for(lambda: len(trader.entered) > 5, "orders are entered")
        last = exchange.down()["sequence"]
    finally:
        trader.over.set()
        trader.join(DEADLINE_S)
    assert all(gone(pid) for pid in pids)
    assert not trader.problems
    # Each order that was answered is in the log.
    assert last >= len(trader.entered)
    assert "gateway" not in exchange.status
    assert start(exchange) != ""
    again = str(exchange.status["gateway"]["listen"])
    check_all_there(again, trader, key)
    client = Client(again, key)
    # Every order that was taken was answered.
    assert len(client.good("GET", "openOrders")) == len(trader.entered)
    client.close()
    exchange.down()


def test_workers_of_a_dead_supervisor_are_followed_by_those_of_the_next(
    make_exchange: Make,
) -> None:
    exchange, address, key = make_one(make_exchange, workers=1)
    old = workers(exchange)
    text = exchange.config.read_text()
    exchange.config.write_text(text.replace("127.0.0.1:0", address))
    client = Client(address, key)
    placed = client.good("POST", "order", **ORDER, price="1")
    os.kill(exchange.status["pid"], signal.SIGKILL)
    assert exchange.process is not None
    exchange.process.wait(DEADLINE_S)
    client.good("POST", "order", **ORDER, price="2")  # the exchange runs on, and so do they
    client.close()
    assert start(exchange) == address
    assert "adopted it" in exchange.text()
    assert all(gone(pid) for pid in old)
    client = Client(address, key)
    orders = client.good("GET", "openOrders")
    assert len(orders) == 2 and placed["orderId"] in {order["orderId"] for order in orders}
    client.good("POST", "order", **ORDER, price="3")
    client.close()
    exchange.down()


def test_tls_is_spoken_where_there_is_a_certificate(make_exchange: Make, tmp_path: Path) -> None:
    certificate, private = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    out = ["-keyout", str(private), "-out", str(certificate)]
    command = ["openssl", "req", "-x509", *kind, *subject, *out]
    subprocess.run(command, check=True, capture_output=True)
    more = f'{MORE}\ntls_certificate = "{certificate}"\ntls_key = "{private}"'
    exchange = make_exchange(archive=True, more=GATEWAY.format(workers=1, more=more)).up()
    address = wait_for(lambda: exchange.status.get("gateway", {}).get("listen"), "it listens")
    trusting = ssl.create_default_context(cafile=str(certificate))
    with urllib.request.urlopen(
        f"https://{address}/api/v3/ping", context=trusting, timeout=DEADLINE_S
    ) as answer:
        assert answer.read() == b"{}"
    exchange.down()


def test_a_port_that_is_taken_is_said_and_nothing_is_left_running(make_exchange: Make) -> None:
    first, address, _ = make_one(make_exchange, workers=1)
    more = GATEWAY.format(workers=1, more=MORE).replace("127.0.0.1:0", address)
    second = make_exchange(archive=True, more=more)
    second.begin()
    assert second.process is not None
    assert second.process.wait(DEADLINE_S) == 1
    assert f"cannot listen: gateway.listen={address}" in second.text()
    assert not second.segments()
    first.down()


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ('[gateway]\nlisten = "127.0.0.1:70000"', "has no such port"),
        ('[gateway]\nlisten = "8080"', "ADDRESS:PORT"),
        ('[gateway]\nlisten = "127.0.0.1:0"\ntls_key = "x"', "a certificate or a key alone"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(
    make_exchange: Make, more: str, problem: str
) -> None:
    exchange = make_exchange(archive=True, more=more)
    exchange.begin()
    assert exchange.process is not None
    assert exchange.process.wait(DEADLINE_S) == 1
    assert problem in exchange.text()


def test_an_exchange_that_is_adopted_goes_on_also_if_its_port_is_taken(
    make_exchange: Make,
) -> None:
    exchange, address, _ = make_one(make_exchange, workers=1)
    text = exchange.config.read_text()
    exchange.config.write_text(text.replace("127.0.0.1:0", address))
    os.kill(exchange.status["pid"], signal.SIGKILL)
    assert exchange.process is not None
    exchange.process.wait(DEADLINE_S)
    for pid in workers(exchange):
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda pid=pid: gone(pid), "the worker has ended")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        host, _, port = address.rpartition(":")

        def bound() -> bool:
            try:
                taken.bind((host, int(port)))
            except OSError:  # it is closed some time after the worker's end
                return False
            return True

        wait_for(bound, "the port is free")
        taken.listen()
        exchange.up()
        wait_for(lambda: "goes on without a gateway" in exchange.text(), "it is said")
        with exchange.connect() as alice:
            collect(alice, alice.buy("BTC/USD", "1", "1"))
        exchange.down()
