"""Streams of klines and tickers: what the endpoints say, every second."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.gateway.client import Client
from tests.gateway.listener import Listener

MORE = "orders_per_ten_seconds = 100000\nweight_per_minute = 1000000"
LIMIT = {"symbol": "BTCUSD", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1"}


@pytest.fixture
def listen(address: str) -> Iterator[Callable[[str], Listener]]:
    with contextlib.ExitStack() as stack:
        yield lambda path: stack.enter_context(Listener(address, path).ready())


@pytest.fixture
def trade(alice: Client, bob: Client) -> Callable[[str], None]:
    """trade(price): one lot, which alice buys of bob's."""

    def make(price: str) -> None:
        bob.good("POST", "order", **LIMIT, side="SELL", price=price)
        alice.good("POST", "order", **LIMIT, side="BUY", price=price)

    return make


def test_each_candle_is_told_as_it_ends_and_is_that_of_the_endpoint(
    listen: Callable[[str], Listener], trade: Any, alice: Client
) -> None:
    trade("100")
    seconds = listen("/ws/btcusd@kline_1s")
    ended: list[Any] = []
    for message in seconds.messages():
        assert message["e"] == "kline" and message["s"] == message["k"]["s"] == "BTCUSD"
        assert set(message["k"]) == set("tTsifLoclhvnxqVQB")
        if message["k"]["x"]:
            ended.append(message["k"])
        if len(ended) in (1, 2):
            trade(f"{101 + len(ended)}")
        if len(ended) == 4:
            break
    starts = [candle["t"] for candle in ended]
    assert starts == [starts[0] + 1000 * number for number in range(4)]
    given = {"symbol": "BTCUSD", "interval": "1s", "startTime": starts[0], "limit": 4}
    expected = alice.get("klines", **given).body
    names = "tohlcvTqnVQ"
    assert [[candle[name] for name in names] for candle in ended] == [row[:11] for row in expected]
    assert sum(candle["n"] for candle in ended) > 0


def test_a_candle_that_lasts_is_told_when_it_changes(
    listen: Callable[[str], Listener], trade: Any
) -> None:
    trade("105")
    days = listen("/stream?streams=btcusd@kline_1d")
    first = days.receive()["data"]["k"]
    trade("106")
    then = days.find(lambda m: m["data"]["k"]["c"] == "106.00000000", "the new price")["data"]["k"]
    if then["t"] == first["t"]:  # not at midnight
        assert then["n"] == first["n"] + 1 and then["x"] is False
        assert then["L"] == first["L"] + 1


def test_tickers_are_those_of_the_endpoint(
    listen: Callable[[str], Listener], trade: Any, alice: Client
) -> None:
    trade("110")
    names = ("btcusd@ticker", "btcusd@miniTicker", "!ticker@arr", "!miniTicker@arr")
    full, mini, all_full, all_mini = (listen(f"/ws/{name}") for name in names)
    shown = full.receive()
    assert set(shown) == set("eEspPwxcQbBaAohlvqOCFLn") and shown["e"] == "24hrTicker"
    told = mini.receive()
    assert set(told) == set("eEscohlvq") and told["e"] == "24hrMiniTicker"
    found = alice.get("ticker/24hr", symbol="BTCUSD").body
    assert (shown["c"], shown["n"], shown["v"]) == (
        found["lastPrice"],
        found["count"],
        found["volume"],
    )
    assert [told[name] for name in "chlv"] == [shown[name] for name in "chlv"]
    assert {each["s"] for each in all_full.receive()} == {"BTCUSD", "BTCUSD2"}
    assert {each["s"] for each in all_mini.receive()} == {"BTCUSD", "BTCUSD2"}
    trade("111")
    changed = all_mini.receive()  # only what has changed
    assert [(each["s"], each["c"]) for each in changed] == [("BTCUSD", "111.00000000")]
    assert full.find(lambda m: m["c"] == "111.00000000", "the new price")["n"] == shown["n"] + 1


@pytest.mark.parametrize(
    "name", ["btcusd@kline_2m", "btcusd@kline_", "!kline@arr", "nothing@ticker"]
)
def test_what_there_is_not_is_refused(listen: Callable[[str], Listener], name: str) -> None:
    answer = listen("/ws").ask("SUBSCRIBE", [name])
    assert answer["error"]["code"] == 2 and "no such stream" in answer["error"]["msg"]


def test_an_aggregate_has_the_number_that_the_endpoint_gives(
    listen: Callable[[str], Listener], trade: Any, alice: Client
) -> None:
    listener = listen("/ws/btcusd@aggTrade")
    trade("100")
    told = listener.receive()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = alice.get("aggTrades", symbol="BTCUSD", limit=1).body
        if found and found[0]["a"] == told["a"]:
            break
    assert {name: told[name] for name in found[0]} == found[0]
