"""The WebSocket API: what REST does, with the same checks, on one connection."""

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.exceptions import ConnectionClosed

from matchbox.gateway.keys import Key, KeyKind, Permission
from matchbox.gateway.ws_api import METHODS
from tests.gateway.client import Client
from tests.gateway.listener import Listener
from tests.gateway.test_user_streams import signed
from tests.integration.conftest import ExchangeProcess
from tests.integration.test_operators import command

MORE = "orders_per_ten_seconds = 100000\nweight_per_minute = 1000000"
LIMIT = {"symbol": "BTCUSD", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
ORDER = {**LIMIT, "price": "50", "quantity": "1"}


@pytest.fixture
def api(address: str) -> Iterator[Listener]:
    with Listener(address, "/ws-api/v3") as listener:
        yield listener


@pytest.fixture
def key(make_key: Callable[..., Key]) -> Key:
    return make_key(1)


@pytest.fixture(autouse=True)
def empty_book(alice: Client, bob: Client) -> Iterator[None]:
    yield
    for each in (alice, bob):
        each.signed("DELETE", "openOrders", symbol="BTCUSD")


@pytest.fixture
def pair(make_key: Callable[..., Key]) -> tuple[Key, Ed25519PrivateKey]:
    """An Ed25519 key, and what its owner signs with."""
    private = Ed25519PrivateKey.generate()
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return make_key(1, kind=KeyKind.ED25519, public_key=pem.decode()), private


def logon(listener: Listener, key: Key, private: Ed25519PrivateKey, **more: Any) -> Any:
    given = {"apiKey": key.id, "timestamp": now_ms(), **more}
    payload = "&".join(f"{name}={given[name]}" for name in sorted(given))
    signature = base64.b64encode(private.sign(payload.encode())).decode()
    return listener.ask("session.logon", {**given, "signature": signature})


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def good(answer: Any) -> Any:
    assert answer["status"] == 200, answer
    return answer["result"]


def test_public_questions_are_answered_as_over_rest(api: Listener, alice: Client) -> None:
    alice.good("POST", "order", **ORDER)
    assert good(api.ask("ping")) == {}
    assert abs(good(api.ask("time"))["serverTime"] - now_ms()) < 60_000
    for method, path, given in (
        ("depth", "depth", {"symbol": "BTCUSD", "limit": 5}),
        ("ticker.book", "ticker/bookTicker", {"symbol": "BTCUSD"}),
        ("ticker.price", "ticker/price", {}),
    ):
        assert good(api.ask(method, given)) == alice.get(path, **given).body
    info = good(api.ask("exchangeInfo", {"symbols": ["BTCUSD"]}))
    assert [symbol["symbol"] for symbol in info["symbols"]] == ["BTCUSD"]


@pytest.mark.parametrize("number", [7, "an-id", None])
def test_an_id_comes_back_as_it_was(api: Listener, number: Any) -> None:
    api.say({"id": number, "method": "ping"})
    answer = api.receive()
    assert answer["id"] == number and type(answer["id"]) is type(number)


def test_orders_are_placed_queried_and_canceled(api: Listener, key: Key, alice: Client) -> None:
    placed = api.ask("order.place", signed(key, **ORDER, newClientOrderId="mine"))
    order = good(placed)
    assert (order["status"], order["clientOrderId"], order["fills"]) == ("NEW", "mine", [])
    names = [(row["rateLimitType"], row["interval"]) for row in placed["rateLimits"]]
    assert names == [("REQUEST_WEIGHT", "MINUTE"), ("ORDERS", "SECOND"), ("ORDERS", "DAY")]
    assert all(row["count"] > 0 and row["limit"] >= row["count"] for row in placed["rateLimits"])
    named = {"symbol": "BTCUSD", "orderId": order["orderId"]}
    assert good(api.ask("order.status", signed(key, **named))) == alice.good(
        "GET", "order", **named
    )
    listed = good(api.ask("openOrders.status", signed(key, symbol="BTCUSD")))
    assert listed == alice.good("GET", "openOrders", symbol="BTCUSD")
    ended = good(api.ask("order.cancel", signed(key, **named)))
    assert (ended["status"], ended["origClientOrderId"]) == ("CANCELED", "mine")
    assert good(api.ask("order.test", signed(key, **ORDER))) == {}
    for price in ("40", "41"):
        good(api.ask("order.place", signed(key, **{**ORDER, "price": price})))
    assert len(good(api.ask("openOrders.cancelAll", signed(key, symbol="BTCUSD")))) == 2
    account = good(api.ask("account.status", signed(key)))
    assert account["balances"] == alice.good("GET", "account")["balances"]


def test_numbers_and_truths_may_stand_as_json_has_them(api: Listener, key: Key) -> None:
    given = signed(key, **{**ORDER, "price": 50.5, "quantity": 2})
    order = good(api.ask("order.place", given))
    assert (order["price"], order["origQty"]) == ("50.50000000", "2.00000000")
    omitted = good(api.ask("account.status", signed(key, omitZeroBalances="true")))
    assert omitted["balances"]
    spelled = signed(key, omitZeroBalances=True)  # signed as Python writes it
    assert good(api.ask("account.status", spelled)) and spelled["omitZeroBalances"] is True
    tiny = api.ask("order.place", signed(key, **{**ORDER, "price": 1e-05}))
    assert tiny["error"]["code"] == -1100


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"quantity": None}, -1102),
        ({"side": "HOLD"}, -1117),
        ({"symbol": "NOTHING"}, -1121),
        ({"price": "50.001"}, -1013),
        ({"price": "1000000", "quantity": "10000"}, -2010),
        ({"price": {"is": 1}}, -1100),
    ],
)
def test_errors_are_those_of_rest(api: Listener, key: Key, given: Any, code: int) -> None:
    wanted = {name: value for name, value in {**ORDER, **given}.items() if value is not None}
    answer = api.ask("order.place", signed(key, **wanted))
    assert answer["status"] == 400 and answer["error"]["code"] == code
    assert answer["rateLimits"]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("{", -1135),
        ("[1]", -1135),
        ('"ping"', -1135),
        ('{"id":1,"method":"order.steal"}', -1020),
        ('{"id":1,"method":5}', -1100),
        ('{"id":1.5,"method":"ping"}', -1100),
        ('{"id":true,"method":"ping"}', -1100),
        ('{"id":1,"method":"ping","params":[1]}', -1100),
        ('{"id":1,"method":"depth","params":{}}', -1102),
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_goes_on(
    api: Listener, said: str, code: int
) -> None:
    api.say(said)
    answer = api.receive()
    assert answer["status"] == 400 and answer["error"]["code"] == code
    assert answer["id"] in (1, None)
    assert good(api.ask("ping")) == {}


def test_the_limits_are_left_out_if_a_client_says_so(api: Listener, address: str) -> None:
    assert "rateLimits" in api.ask("ping")
    assert "rateLimits" not in api.ask("ping", {"returnRateLimits": False})
    with Listener(address, "/ws-api/v3?returnRateLimits=false") as quiet:
        assert "rateLimits" not in quiet.ask("ping")
        assert "rateLimits" in quiet.ask("ping", {"returnRateLimits": True})


def test_who_has_logged_on_signs_no_more(api: Listener, pair: Any, make_key: Any) -> None:
    assert good(api.ask("session.status"))["apiKey"] is None
    unsigned = {**ORDER, "timestamp": now_ms()}
    assert api.ask("order.place", unsigned)["error"]["code"] == -2014
    state = good(logon(api, *pair))
    assert state["apiKey"] == pair[0].id and state["authorizedSince"] >= state["connectedSince"]
    order = good(api.ask("order.place", {**ORDER, "timestamp": now_ms()}))
    assert order["status"] == "NEW"
    assert api.ask("order.place", ORDER)["error"]["code"] == -1102  # without a time
    old = {**ORDER, "timestamp": now_ms() - 60_000}
    assert api.ask("order.place", old)["error"]["code"] == -1021
    # Who names a key has to sign with it.
    other = make_key(2)
    stolen = {**ORDER, "timestamp": now_ms(), "apiKey": other.id}
    assert api.ask("order.place", stolen)["error"]["code"] == -1102
    wrong = {**ORDER, "timestamp": now_ms(), "signature": "00"}
    assert api.ask("order.place", wrong)["error"]["code"] == -1022
    good(api.ask("order.cancel", {"symbol": "BTCUSD", "orderId": order["orderId"]} | stamp()))
    number = good(api.ask("userDataStream.subscribe"))["subscriptionId"]
    assert good(api.ask("session.status"))["userDataStream"] is True
    assert good(api.ask("session.logout"))["apiKey"] is None
    ended = api.find(lambda m: "event" in m, "the end of the stream")
    assert (ended["subscriptionId"], ended["event"]["e"]) == (number, "eventStreamTerminated")
    assert api.ask("order.place", {**ORDER, "timestamp": now_ms()})["error"]["code"] == -2014
    assert api.ask("userDataStream.subscribe")["error"]["code"] == -2014


def stamp() -> dict[str, Any]:
    return {"timestamp": now_ms()}


def test_only_keys_with_a_public_half_log_on(api: Listener, key: Key, pair: Any) -> None:
    assert api.ask("session.logon", signed(key))["error"]["code"] == -4056
    assert logon(api, pair[0], Ed25519PrivateKey.generate())["error"]["code"] == -1022
    assert good(api.ask("session.status"))["apiKey"] is None


def test_a_key_that_is_disabled_has_no_session_any_more(
    api: Listener, pair: Any, exchange: ExchangeProcess
) -> None:
    good(logon(api, *pair))
    done = command(exchange, "key", "disable", "EXCHANGE", pair[0].id)
    assert done.returncode == 0, done.stderr
    assert api.ask("order.place", {**ORDER, **stamp()})["error"]["code"] == -2015


def wrong_ways(key: Key, weak: Key, other: Key) -> dict[str, tuple[dict[str, Any], int]]:
    """Requests that must not be accepted, and what they are told."""
    right, named = signed(key, **ORDER), signed(key, **ORDER, newClientOrderId="a")
    return {
        "without a key": ({n: v for n, v in right.items() if n != "apiKey"}, -2014),
        "an empty key": ({**right, "apiKey": ""}, -2014),
        "a key of no form": ({**right, "apiKey": "short"}, -2014),
        "a key that is not there": ({**right, "apiKey": "x" * 64}, -2015),
        "a key of another": ({**right, "apiKey": other.id}, -1022),
        "without a signature": ({n: v for n, v in right.items() if n != "signature"}, -1102),
        "an empty signature": ({**right, "signature": ""}, -1102),
        "a signature of no form": ({**right, "signature": "zz"}, -1022),
        "another price": ({**right, "price": "51"}, -1022),
        "another parameter": ({**right, "icebergQty": "1"}, -1022),
        "one parameter less": ({n: v for n, v in right.items() if n != "timeInForce"}, -1022),
        "without a time": (signed(key, **ORDER, timestamp=""), -1102),
        "a time long ago": (signed(key, **ORDER, timestamp=now_ms() - 60_000), -1021),
        "a time to come": (signed(key, **ORDER, timestamp=now_ms() + 60_000), -1021),
        "a window too long": (signed(key, **ORDER, recvWindow=60_001), -1131),
        "a key that may read only": (signed(weak, **ORDER), -2015),
        "parameters that run into each other": (
            {**{n: v for n, v in named.items() if n != "price"}, "newClientOrderId": "a&price=50"},
            -1022,
        ),
    }


WRONG = [
    "without a key", "an empty key", "a key of no form", "a key that is not there",
    "a key of another", "without a signature", "an empty signature", "a signature of no form",
    "another price", "another parameter", "one parameter less", "without a time",
    "a time long ago", "a time to come", "a window too long", "a key that may read only",
    "parameters that run into each other",
]  # fmt: skip


@pytest.mark.parametrize("way", WRONG)
@pytest.mark.parametrize("method", ["order.place", "userDataStream.subscribe.signature"])
def test_every_wrong_way_to_ask_is_refused_and_does_nothing(
    api: Listener, alice: Client, key: Key, make_key: Any, way: str, method: str
) -> None:
    weak = make_key(1, permissions=(Permission.READ,))
    ways = wrong_ways(key, weak, make_key(2))
    assert set(ways) == set(WRONG)
    given, code = ways[way]
    if method != "order.place" and way == "a key that may read only":
        return  # that is enough here
    answer = api.ask(method, given)
    assert answer["status"] in (400, 401) and answer["error"]["code"] == code, answer
    assert alice.good("GET", "openOrders", symbol="BTCUSD") == []
    assert good(api.ask("session.subscriptions")) == []


def test_a_request_is_accepted_once_by_whichever_door(
    api: Listener, address: str, key: Key, alice: Client
) -> None:
    request = signed(key, **ORDER, newClientOrderId="once")
    good(api.ask("order.place", request))
    alice.good("DELETE", "openOrders", symbol="BTCUSD")
    assert api.ask("order.place", request)["error"]["code"] == -1022
    with Listener(address, "/ws-api/v3") as other:
        assert other.ask("order.place", request)["error"]["code"] == -1022
    names = sorted(name for name in request if name != "signature")
    query = "&".join(f"{name}={request[name]}" for name in names)
    path = f"/api/v3/order?{query}&signature={request['signature']}"
    answer = alice.send("POST", path, headers={"X-MBX-APIKEY": key.id})
    assert answer.body["code"] == -1022


def test_orders_of_others_look_as_if_they_were_not_there(
    api: Listener, key: Key, bob: Client
) -> None:
    order = bob.good("POST", "order", **ORDER, newClientOrderId="bobs")
    for given in ({"orderId": order["orderId"]}, {"origClientOrderId": "bobs"}):
        asked = api.ask("order.status", signed(key, symbol="BTCUSD", **given))
        assert asked["error"]["code"] == -2013
        ended = api.ask("order.cancel", signed(key, symbol="BTCUSD", **given))
        assert ended["error"]["code"] == -2011


def test_many_requests_are_answered_each(api: Listener, key: Key) -> None:
    for number in range(200):
        given = signed(key, **{**ORDER, "price": str(1 + number)})
        api.say({"id": number, "method": "order.place", "params": given})
    answers = [api.receive() for _ in range(200)]
    assert sorted(answer["id"] for answer in answers) == list(range(200))
    ids = {answer["id"]: good(answer)["orderId"] for answer in answers}
    assert [ids[number] for number in range(200)] == sorted(ids.values())  # begun in their order


def test_every_method_is_described() -> None:
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    for method, endpoint in METHODS.items():
        verb, _, path = endpoint.partition(" ")
        assert f"| `{method}` | {verb} `{path}` |" in text


def test_a_message_that_is_too_long_ends_the_connection(api: Listener) -> None:
    with pytest.raises(ConnectionClosed) as closed:
        api.say("x" * (1 << 18))
        api.receive()
    assert closed.value.rcvd is None or closed.value.rcvd.code == 1009


def test_an_order_is_replaced_and_what_fails_in_part_says_so(api: Listener, key: Key) -> None:
    placed = good(api.ask("order.place", signed(key, **ORDER)))
    given = {**ORDER, "price": "51", "cancelReplaceMode": "STOP_ON_FAILURE"}
    replaced = signed(key, **given, cancelOrderId=placed["orderId"])
    found = good(api.ask("order.cancelReplace", replaced))
    assert (found["cancelResult"], found["newOrderResult"]) == ("SUCCESS", "SUCCESS")
    again = signed(key, **given, cancelOrderId=placed["orderId"], newClientOrderId="again")
    failed = api.ask("order.cancelReplace", again)
    assert failed["status"] == 400 and failed["error"]["code"] == -2022
    assert failed["error"]["data"]["cancelResult"] == "FAILURE"


def test_lists_of_orders_are_entered_and_told(api: Listener, key: Key) -> None:
    number = good(api.ask("userDataStream.subscribe.signature", signed(key)))["subscriptionId"]
    given = {
        "symbol": "BTCUSD",
        "side": "SELL",
        "quantity": "1",
        "aboveType": "LIMIT_MAKER",
        "abovePrice": "900",
        "belowType": "STOP_LOSS",
        "belowStopPrice": "10",
    }
    listed = good(api.ask("orderList.place.oco", signed(key, **given)))
    told = api.find(lambda m: m.get("event", {}).get("e") == "listStatus", "the list")
    assert told["subscriptionId"] == number
    assert told["event"]["g"] == listed["orderListId"]
    assert {o["i"] for o in told["event"]["O"]} == {o["orderId"] for o in listed["orders"]}
    good(
        api.ask("orderList.cancel", signed(key, symbol="BTCUSD", orderListId=listed["orderListId"]))
    )
    done = api.find(lambda m: m.get("event", {}).get("L") == "ALL_DONE", "its end")
    assert done["event"]["g"] == listed["orderListId"]
