"""Market streams: what they tell, how they are asked for, and what happens to who asks badly."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.gateway.client import Client
from tests.gateway.listener import Deaf, Listener
from tests.integration.conftest import ExchangeProcess, wait_for
from tests.integration.test_operators import command

MORE = "orders_per_ten_seconds = 100000\nweight_per_minute = 1000000\nping_s = 1"
LIMIT = {"symbol": "BTCUSD", "type": "LIMIT", "timeInForce": "GTC"}
Listen = Callable[..., Listener]


@pytest.fixture
def listen(address: str) -> Iterator[Listen]:
    """listen(path): a connection."""
    with contextlib.ExitStack() as stack:
        yield lambda path, **options: stack.enter_context(
            Listener(address, path, **options).ready()
        )


@pytest.fixture
def sell(bob: Client) -> Callable[..., Any]:
    def place(price: str, quantity: str = "1") -> Any:
        return bob.good("POST", "order", **LIMIT, side="SELL", price=price, quantity=quantity)

    return place


@pytest.fixture
def buy(alice: Client) -> Callable[..., Any]:
    def place(price: str, quantity: str = "1", **more: Any) -> Any:
        given = {**LIMIT, "side": "BUY", "price": price, "quantity": quantity, **more}
        return alice.good("POST", "order", **given)

    return place


@pytest.fixture(autouse=True)
def empty_book(alice: Client, bob: Client) -> Iterator[None]:
    yield
    for each in (alice, bob):
        each.signed("DELETE", "openOrders", symbol="BTCUSD")


def test_trades_are_told_one_by_one_and_together_by_order_and_price(
    listen: Listen, sell: Any, buy: Any
) -> None:
    trades, whole = listen("/ws/btcusd@trade"), listen("/ws/btcusd@aggTrade")
    for price, quantity in (("101", "1"), ("101", "2"), ("102", "4")):
        sell(price, quantity)
    order = buy("102", "5")
    told = [trades.receive() for _ in range(3)]
    assert [(t["e"], t["s"], t["p"], t["q"], t["m"], t["M"]) for t in told] == [
        ("trade", "BTCUSD", "101.00000000", "1.00000000", False, True),
        ("trade", "BTCUSD", "101.00000000", "2.00000000", False, True),
        ("trade", "BTCUSD", "102.00000000", "2.00000000", False, True),
    ]
    ids = [fill["tradeId"] for fill in order["fills"]]
    assert [t["t"] for t in told] == ids
    assert all(t["T"] == order["transactTime"] and t["E"] >= t["T"] for t in told)
    found = [whole.receive() for _ in range(2)]
    assert [(a["e"], a["p"], a["q"], a["f"], a["l"], a["m"]) for a in found] == [
        ("aggTrade", "101.00000000", "3.00000000", ids[0], ids[1], False),
        ("aggTrade", "102.00000000", "2.00000000", ids[2], ids[2], False),
    ]
    assert found[0]["a"] < found[1]["a"] and set(found[0]) == set("eEsapqflTmM")


def test_the_best_prices_are_told_of_one_market_and_of_all(
    listen: Listen, buy: Any, alice: Client
) -> None:
    one, every = listen("/ws/btcusd@bookTicker"), listen("/ws/!bookTicker")
    buy("90", "2")
    first = one.find(lambda m: m["b"] == "90.00000000", "the best bid")
    assert first == {
        "u": first["u"],
        "s": "BTCUSD",
        "b": "90.00000000",
        "B": "2.00000000",
        "a": "0.00000000",
        "A": "0.00000000",
    }
    assert every.find(lambda m: m["b"] == "90.00000000", "the best bid") == first
    alice.good(
        "POST", "order", **{**LIMIT, "symbol": "BTCUSD2"}, side="BUY", price="80", quantity=1
    )
    assert every.receive()["s"] == "BTCUSD2"
    buy("91")
    assert one.receive()["b"] == "91.00000000"
    alice.good("DELETE", "openOrders", symbol="BTCUSD2")


def test_levels_are_told_when_they_change_and_at_once_to_who_is_new(
    listen: Listen, buy: Any, alice: Client
) -> None:
    for price in range(80, 90):
        buy(str(price))
    for name, count in (("depth5@100ms", 5), ("depth10@100ms", 10), ("depth20", 10)):
        with listen(f"/ws/btcusd@{name}") as listener:
            snapshot = alice.get("depth", symbol="BTCUSD").body
            told = listener.receive()
            assert told["lastUpdateId"] == snapshot["lastUpdateId"]
            assert told["bids"] == snapshot["bids"][:count] and told["asks"] == []
            buy("89.5")
            changed = listener.receive()
            assert changed["bids"][0][0] == "89.50000000"
            assert changed["lastUpdateId"] > told["lastUpdateId"]
            alice.good("DELETE", "openOrders", symbol="BTCUSD")
            listener.find(lambda m: not m["bids"], "an empty book")
            for price in range(80, 90):
                buy(str(price))


def test_diffs_fit_the_snapshot_and_each_other(listen: Listen, buy: Any, alice: Client) -> None:
    fast, slow = listen("/ws/btcusd@depth@100ms"), listen("/ws/btcusd@depth")
    before = alice.get("depth", symbol="BTCUSD").body["lastUpdateId"]
    for number in range(20):
        buy(f"{50 + number}")
    alice.good("DELETE", "openOrders", symbol="BTCUSD")
    after = alice.get("depth", symbol="BTCUSD").body["lastUpdateId"]
    for listener in (fast, slow):
        last, levels = before, {}
        for message in listener.messages():
            assert set(message) == set("eEsUuba") and message["e"] == "depthUpdate"
            assert message["U"] == last + 1 and message["u"] >= message["U"]
            last = message["u"]
            levels |= dict(message["b"])
            if last >= after:
                break
        assert last == after and set(levels.values()) == {"0.00000000"}


def test_streams_are_chosen_while_connected(listen: Listen, buy: Any) -> None:
    listener = listen("/ws")
    assert listener.ask("LIST_SUBSCRIPTIONS") == {"result": [], "id": 1}
    wanted = ["btcusd@bookTicker", "btcusd@trade"]
    assert listener.ask("SUBSCRIBE", wanted, "a-1") == {"result": None, "id": "a-1"}
    assert listener.ask("SUBSCRIBE", wanted, None)["result"] is None
    assert listener.ask("LIST_SUBSCRIPTIONS", [])["result"] == wanted
    buy("70")
    assert listener.receive()["b"] == "70.00000000"


def test_messages_can_be_had_with_the_names_of_their_streams(listen: Listen, buy: Any) -> None:
    listener = listen("/ws/btcusd@bookTicker")
    assert listener.ask("GET_PROPERTY", ["combined"])["result"] is False
    assert listener.ask("SET_PROPERTY", ["combined", True])["result"] is None
    buy("71")
    wrapped = listener.receive()
    while "stream" not in wrapped or wrapped["data"]["b"] != "71.00000000":
        wrapped = listener.receive()  # of what was before, and was on its way
    assert wrapped["stream"] == "btcusd@bookTicker"


def test_what_is_no_more_listened_to_is_not_told(listen: Listen, buy: Any) -> None:
    listener = listen("/stream?streams=btcusd@bookTicker/btcusd@depth20@100ms")
    assert listener.receive()["stream"] == "btcusd@depth20@100ms"
    assert listener.ask("UNSUBSCRIBE", ["btcusd@depth20@100ms", "btcusd@trade"])["result"] is None
    for price in ("60", "61"):
        buy(price)
        told = listener.receive()
        assert told["stream"] == "btcusd@bookTicker" and told["data"]["b"] == f"{price}.00000000"
    assert listener.ask("LIST_SUBSCRIPTIONS")["result"] == ["btcusd@bookTicker"]


@pytest.mark.parametrize(
    ("said", "code", "text"),
    [
        ("{", 3, "Invalid JSON"),
        ("[]", 2, "must be a JSON object"),
        ('{"method":"SUBSCRIBE","params":["btcusd@trade"],"id":1.5}', 2, "id must be"),
        ('{"method":"SUBSCRIBE","params":["btcusd@trade"],"id":true}', 2, "id must be"),
        ('{"method":1,"id":1}', 2, "method must be a string"),
        ('{"method":"SUBSCRIBE","params":"btcusd@trade","id":1}', 2, "params must be an array"),
        ('{"method":"SUBSCRIBE","params":[1],"id":1}', 2, "names of streams"),
        ('{"method":"SUBSCRIBE","params":[],"id":1}', 2, "names of streams"),
        ('{"method":"SUBSCRIBE","params":["btcusd@nothing"],"id":1}', 2, "no such stream"),
        ('{"method":"SUBSCRIBE","params":["BTCUSD@trade"],"id":1}', 2, "no such stream"),
        ('{"method":"SUBSCRIBE","params":["btcusd@depth7"],"id":1}', 2, "no such stream"),
        ('{"method":"SUBSCRIBE","params":["nothing@trade"],"id":1}', 2, "no such stream"),
        ('{"method":"LISTEN","id":1}', 2, "unknown method"),
        ('{"method":"GET_PROPERTY","params":["colour"],"id":1}', 0, "Unknown property"),
        ('{"method":"SET_PROPERTY","params":["combined",1],"id":1}', 1, "expected Boolean"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(
    listen: Listen, said: str, code: int, text: str
) -> None:
    listener = listen("/ws")
    listener.say(said)
    answer = listener.receive()
    assert answer["error"]["code"] == code and text in answer["error"]["msg"], answer
    assert answer["id"] in (1, None)
    assert listener.ask("LIST_SUBSCRIPTIONS")["result"] == []


def test_a_subscription_of_several_is_made_whole_or_not_at_all(listen: Listen) -> None:
    listener = listen("/ws")
    assert "error" in listener.ask("SUBSCRIBE", ["btcusd@trade", "nothing@trade"])
    assert listener.ask("LIST_SUBSCRIPTIONS")["result"] == []


def test_a_connection_has_at_most_1024_streams(listen: Listen) -> None:
    listener = listen("/ws")
    many = [f"btcusd@trade{number}" for number in range(1024)]
    assert "allowed: 1024" in listener.ask("SUBSCRIBE", [*many, "btcusd@trade"])["error"]["msg"]


@pytest.mark.parametrize("path", ["/ws/btcusd@nothing", "/stream?streams=nothing@trade"])
def test_a_path_that_names_no_stream_ends_the_connection_with_a_reason(
    listen: Listen, path: str
) -> None:
    listener = listen(path)
    with pytest.raises(ConnectionClosed) as closed:
        listener.receive()
    assert closed.value.rcvd.code == 1008 and "no such stream" in closed.value.rcvd.reason


def test_who_says_more_than_five_things_in_a_second_is_cut_off(listen: Listen) -> None:
    listener = listen("/ws")
    with pytest.raises(ConnectionClosed) as closed:
        for number in range(100):
            listener.say({"method": "LIST_SUBSCRIPTIONS", "id": number})
            listener.receive()
    assert closed.value.rcvd.code == 1008
    assert closed.value.rcvd.reason == "Too many messages: more than 5 in a second."


def test_numbers_in_a_path_are_no_streams(listen: Listen) -> None:
    listener = listen("/stream/ws/7")
    assert listener.ask("SUBSCRIBE", ["btcusd@trade"])["result"] is None
    assert listener.ask("LIST_SUBSCRIPTIONS")["result"] == ["btcusd@trade"]


def test_who_answers_no_pings_is_cut_off_and_pings_of_clients_are_answered(
    address: str, listen: Listen
) -> None:
    listener, deaf = listen("/ws"), Deaf(address, "/ws")
    assert listener.socket.ping(b"hello").wait(30)
    count, code, _ = deaf.read()
    deaf.close()
    assert code == 1011 and count == 6 + 4  # a ping, and the close
    assert listener.ask("LIST_SUBSCRIPTIONS")["result"] == []


def test_a_market_that_is_removed_ends_and_one_that_is_added_can_be_listened_to(
    exchange: ExchangeProcess, listen: Listen, alice: Client
) -> None:
    added = command(
        exchange, "market", "add", "EXCHANGE", "BTC/USD.3", "--base", "BTC", "--quote", "USD",
        "--tick", "0.01", "--lot", "0.01", "--max-orders", "64",
    )  # fmt: skip
    assert added.returncode == 0, added.stderr
    given = {**LIMIT, "symbol": "BTCUSD3", "side": "BUY", "quantity": "1"}

    def listening() -> Listener | None:
        listener = listen("/ws/!bookTicker/btcusd3@depth@100ms")
        with contextlib.suppress(ConnectionClosed):
            listener.ask("LIST_SUBSCRIPTIONS")
            return listener
        return None

    listener: Listener = wait_for(listening, "a worker knows of it")
    alice.good("POST", "order", **given, price="1")
    alice.good("POST", "order", **given, price="2")
    found = listener.find(lambda m: m.get("s") == "BTCUSD3" and "U" not in m, "its best price")
    assert found["b"] in ("1.00000000", "2.00000000")
    alice.good("DELETE", "openOrders", symbol="BTCUSD3")
    removed = command(exchange, "market", "remove", "EXCHANGE", "BTC/USD.3")
    assert removed.returncode == 0, removed.stderr
    assert "no such stream" in listener.ask("SUBSCRIBE", ["btcusd3@depth"])["error"]["msg"]


@pytest.mark.parametrize("path", ["/ws", "/ws/btcusd@trade", "/stream", "/ws-api/v3"])
def test_who_asks_by_plain_http_is_told_that_it_is_a_websocket(alice: Client, path: str) -> None:
    answer = alice.send("GET", path)
    assert answer.status == 426 and answer.body["code"] == -1000
    half = {"Upgrade": "websocket", "Connection": "Upgrade"}
    assert alice.send("GET", path, headers=half).status in (400, 426)
