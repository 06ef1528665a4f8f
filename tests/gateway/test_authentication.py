"""Every wrong way to ask is refused, none of it does anything, and nothing is given away."""

import hashlib
import hmac
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from matchbox.gateway.keys import Key, Keys, Permission
from tests.gateway.client import Client
from tests.integration.conftest import DEADLINE_S, ExchangeProcess

MORE = "orders_per_ten_seconds = 100000\nweight_per_minute = 1000000"
BAD_KEY = {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}
BAD_SIGNATURE = {"code": -1022, "msg": "Signature for this request is not valid."}
ORDER = {
    "symbol": "BTCUSD",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "1",
    "price": "10",
}
Wrong = Callable[[Client, Client, Any], Any]


def signed(client: Client, **changes: Any) -> str:
    return client.sign(ORDER | changes)


def post(client: Client, text: str, key: str | None = None) -> Any:
    """POST order with exactly this query string."""
    headers = {} if key == "" else {"X-MBX-APIKEY": key or client.key.id}  # type: ignore[union-attr]
    return client.send("POST", f"/api/v3/order?{text}", headers=headers)


def now(offset_ms: int = 0) -> int:
    return time.time_ns() // 1_000_000 + offset_ms


def cut(text: str, name: str) -> str:
    return "&".join(part for part in text.split("&") if not part.startswith(f"{name}="))


WRONG: dict[str, tuple[Wrong, int, int]] = {
    "no key": (lambda a, b, k: post(a, signed(a), ""), 401, -2014),
    "a short key": (lambda a, b, k: post(a, signed(a), "abc"), 401, -2014),
    "an unknown key": (lambda a, b, k: post(a, signed(a), "x" * 64), 401, -2015),
    "the key of another": (lambda a, b, k: post(a, signed(a), b.key.id), 400, -1022),
    "no signature": (lambda a, b, k: post(a, cut(signed(a), "signature")), 400, -1102),
    "an empty signature": (
        lambda a, b, k: post(a, cut(signed(a), "signature") + "&signature="),
        400,
        -1102,
    ),
    "a signature of something else": (
        lambda a, b, k: post(a, signed(a).replace("quantity=1", "quantity=2")),
        400,
        -1022,
    ),
    "something added": (lambda a, b, k: post(a, signed(a) + "&icebergQty=1"), 400, -1022),
    "another order of parameters": (
        lambda a, b, k: post(a, "&".join(reversed(signed(a).split("&")))),
        400,
        -1022,
    ),
    "no time": (lambda a, b, k: post(a, signed(a, timestamp=None)), 400, -1102),
    "a time that is none": (lambda a, b, k: post(a, signed(a, timestamp="now")), 400, -1100),
    "too late": (lambda a, b, k: post(a, signed(a, timestamp=now(-6000))), 400, -1021),
    "too late for its window": (
        lambda a, b, k: post(a, signed(a, timestamp=now(-200), recvWindow=100)),
        400,
        -1021,
    ),
    "too early": (lambda a, b, k: post(a, signed(a, timestamp=now(3000))), 400, -1021),
    "too long a window": (lambda a, b, k: post(a, signed(a, recvWindow=60001)), 400, -1131),
    "a disabled key": (
        lambda a, b, k: (k.disable(a.key.id), post(a, signed(a)))[1],
        401,
        -2015,
    ),
    "a deleted key": (lambda a, b, k: (k.delete(a.key.id), post(a, signed(a)))[1], 401, -2015),
}


@pytest.fixture
def keys(exchange: ExchangeProcess, make_key: Callable[..., Key]) -> Any:
    """The keys of the exchange, as another process has them."""
    return make_key.__self__  # type: ignore[attr-defined]


@pytest.fixture
def watcher(client: Callable[..., Client]) -> Client:
    """Who looks at alice's orders."""
    return client(1)


@pytest.mark.parametrize("what", WRONG)
def test_a_request_that_is_wrong_is_refused_and_does_nothing(
    what: str, alice: Client, bob: Client, watcher: Client, keys: Keys
) -> None:
    ask, status, code = WRONG[what]
    response = ask(alice, bob, keys)
    assert (response.status, response.body["code"]) == (status, code), response
    assert watcher.good("GET", "openOrders") == []
    assert bob.good("GET", "openOrders") == []


@pytest.mark.parametrize(
    "options",
    [
        {"permissions": (Permission.READ,)},
        {"permissions": (Permission.WITHDRAW,)},
        {"addresses": ("192.0.2.0/24",)},
        {"expires_ms": 1},
    ],
)
def test_a_key_that_may_not_is_told_no_more_than_one_that_is_unknown(
    client: Callable[..., Client], options: dict[str, Any], watcher: Client
) -> None:
    response = client(1, **options).signed("POST", "order", **ORDER)
    assert (response.status, response.body) == (401, BAD_KEY)
    assert watcher.good("GET", "openOrders") == []


def test_a_key_does_what_it_may(client: Callable[..., Client]) -> None:
    reading = client(1, permissions=(Permission.READ,))
    assert reading.good("GET", "account")["canTrade"] is False
    near = client(1, addresses=("127.0.0.0/8",), expires_ms=now(60_000))
    assert near.good("GET", "openOrders") == []


def test_an_order_is_taken_once_by_whichever_worker(
    address: str, client: Callable[..., Client]
) -> None:
    alice = client(1)
    text = signed(alice, newClientOrderId="once", recvWindow=60000)
    assert post(alice, text).status == 200
    alice.good("DELETE", "order", symbol="BTCUSD", origClientOrderId="once")
    for _ in range(8):  # new connections, so both workers are asked
        other = Client(address, alice.key)
        again = post(other, text)
        assert (again.status, again.body["code"]) == (400, -1022), again
        other.close()
    assert alice.good("GET", "openOrders") == []


def test_what_only_asks_may_be_asked_again(alice: Client) -> None:
    assert alice.key is not None
    target = f"/api/v3/openOrders?{alice.sign({})}"
    for _ in range(2):
        assert alice.send("GET", target, headers={"X-MBX-APIKEY": alice.key.id}).status == 200


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("where", ["query", "body", "both", "json header"])
def test_parameters_are_signed_wherever_they_stand(alice: Client, method: str, where: str) -> None:
    assert alice.key is not None
    named = f"{method}-{where}".replace(" ", "-")
    if method == "DELETE":
        alice.good("POST", "order", **ORDER, newClientOrderId=named)
        text = alice.sign({"symbol": "BTCUSD", "origClientOrderId": named})
    else:
        text = alice.sign(ORDER | {"newClientOrderId": named})
    headers = {"X-MBX-APIKEY": alice.key.id}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    if where == "body":
        response = alice.send(method, "/api/v3/order", text.encode(), headers | form)
    elif where == "both":
        # What was signed is the query string and right behind it the body.
        first, rest = {"symbol": "BTCUSD"}, dict(p.split("=") for p in text.split("&"))
        rest.pop("symbol"), rest.pop("signature")
        query, body = urlencode(first), urlencode(rest)
        digest = hmac.new(alice.key.secret.encode(), (query + body).encode(), hashlib.sha256)
        body += f"&signature={digest.hexdigest()}"
        response = alice.send(method, f"/api/v3/order?{query}", body.encode(), headers | form)
    else:
        json = {"Content-Type": "application/json"} if where == "json header" else {}
        response = alice.send(method, f"/api/v3/order?{text}", headers=headers | json)
    assert response.status == 200, response
    if method == "POST":
        alice.good("DELETE", "order", symbol="BTCUSD", origClientOrderId=named)


def test_bytes_that_are_no_request_end_one_connection_and_nothing_else(address: str) -> None:
    host, _, port = address.rpartition(":")
    for junk in (b"\0" * 1000, b"GET / HTTP/9.9\r\n\r\n", b"POST /api/v3/order HTTP/1.1\r\n" * 50):
        with socket.create_connection((host, int(port)), DEADLINE_S) as line:
            line.sendall(junk)
            line.shutdown(socket.SHUT_WR)
            while line.recv(4096):
                pass
    client = Client(address)
    assert client.send("GET", "/api/v3/time?%ff=%fe&&=&=a").status in (400, 429)
    client.close()


def test_no_secret_stands_in_what_the_exchange_says(
    exchange: ExchangeProcess, alice: Client
) -> None:
    assert alice.key is not None
    alice.signed("POST", "order", **ORDER, recvWindow="x")
    assert alice.key.secret not in exchange.text()
    assert alice.key.id not in Path(exchange.output).read_text()
