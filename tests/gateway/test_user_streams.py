"""User streams: all that happens to an account, by whomever, once and in order."""

import contextlib
import hashlib
import hmac
import os
import signal
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from matchbox.gateway.keys import Key, Keys
from matchbox.shm.records import EventKind
from tests.gateway.client import Client
from tests.gateway.conftest import GATEWAY, start
from tests.gateway.listener import Listener
from tests.integration.conftest import ExchangeProcess, collect, wait_for
from tests.integration.test_operators import command

MORE = "orders_per_ten_seconds = 1000000\nweight_per_minute = 10000000"
LIMIT = {"symbol": "BTCUSD", "type": "LIMIT", "timeInForce": "GTC"}
FIELDS = set("esScSofqpPFgCxXrilzLnNTtIwmMOZYQVE")
EXECUTIONS = {
    EventKind.ACCEPTED: "NEW",
    EventKind.TRADE: "TRADE",
    EventKind.CANCELED: "CANCELED",
    EventKind.EXPIRED: "EXPIRED",
}
Make = Callable[..., ExchangeProcess]


def signed(key: Key, **parameters: Any) -> dict[str, Any]:
    """Parameters of the WebSocket API with key, time and signature."""
    given = {"apiKey": key.id, "timestamp": time.time_ns() // 1_000_000, **parameters}
    payload = "&".join(f"{name}={given[name]}" for name in sorted(given))
    digest = hmac.new(key.secret.encode(), payload.encode(), hashlib.sha256).hexdigest()
    return {**given, "signature": digest}


def subscribe(listener: Listener, key: Key) -> int:
    answer = listener.ask("userDataStream.subscribe.signature", signed(key))
    assert answer["status"] == 200, answer
    return int(answer["result"]["subscriptionId"])


class Account:
    """A client of an account, and what its user stream tells."""

    def __init__(self, address: str, key: Key) -> None:
        self.client = Client(address, key)
        self.key = key
        self.listener = Listener(address, "/ws-api/v3")
        self.number = subscribe(self.listener, key)

    def next(self, kind: str = "executionReport") -> Any:
        """The next event of a kind."""
        found = self.listener.find(
            lambda m: m.get("subscriptionId") == self.number and m["event"]["e"] == kind, kind
        )
        return found["event"]

    def close(self) -> None:
        self.listener.close()
        self.client.close()


@pytest.fixture
def account(address: str, make_key: Callable[..., Key]) -> Iterator[Callable[[int], Account]]:
    """account(number): one that listens; what it has open is canceled in the end."""
    made: list[Account] = []

    def make(number: int) -> Account:
        made.append(Account(address, make_key(number)))
        return made[-1]

    yield make
    for each in made:
        each.client.signed("DELETE", "openOrders", symbol="BTCUSD")
        each.close()


def test_an_order_is_told_from_its_beginning_to_its_end(account: Any) -> None:
    alice, bob = account(1), account(2)
    placed = alice.client.good(
        "POST", "order", **LIMIT, side="BUY", price="100", quantity="3", newClientOrderId="mine-1"
    )
    new = alice.next()
    assert set(new) >= FIELDS and "ps" not in new
    expected = {
        "s": "BTCUSD",
        "c": "mine-1",
        "S": "BUY",
        "o": "LIMIT",
        "f": "GTC",
        "q": "3.00000000",
        "p": "100.00000000",
        "g": -1,
        "C": "",
        "x": "NEW",
        "X": "NEW",
        "r": "NONE",
        "i": placed["orderId"],
        "l": "0.00000000",
        "z": "0.00000000",
        "n": "0",
        "N": None,
        "T": placed["transactTime"],
        "O": placed["transactTime"],
        "W": placed["workingTime"],
        "t": -1,
        "w": True,
        "m": False,
        "V": "NONE",
    }
    assert {name: new[name] for name in expected} == expected
    position = alice.next("outboundAccountPosition")
    held = {row["a"]: (row["f"], row["l"]) for row in position["B"]}
    assert set(held) == {"BTC", "USD"} and held["USD"][1] == "300.00000000"

    sold = bob.client.good("POST", "order", **LIMIT, side="SELL", price="100", quantity="1")
    maker, (taken, taker) = alice.next(), (bob.next(), bob.next())
    assert (taken["x"], taker["x"], maker["x"]) == ("NEW", "TRADE", "TRADE")
    assert (maker["X"], taker["X"]) == ("PARTIALLY_FILLED", "FILLED")
    for event, makes in ((maker, True), (taker, False)):
        assert (event["l"], event["L"], event["t"]) == (
            "1.00000000",
            "100.00000000",
            sold["fills"][0]["tradeId"],
        )
        assert (event["z"], event["Z"], event["Y"]) == (
            "1.00000000",
            "100.00000000",
            "100.00000000",
        )
        assert event["m"] is makes and event["w"] is makes
    assert (taker["N"], maker["N"]) == ("USD", "BTC")
    assert taker["n"] == sold["fills"][0]["commission"]

    alice.client.good(
        "DELETE", "order", symbol="BTCUSD", orderId=placed["orderId"], newClientOrderId="mine-2"
    )
    ended = alice.next()
    assert (ended["x"], ended["X"], ended["C"]) == ("CANCELED", "CANCELED", "mine-1")
    assert ended["c"] in ("mine-1", "mine-2")  # of a cancel that another worker has sent
    assert (ended["q"], ended["z"], ended["Z"]) == ("3.00000000", "1.00000000", "100.00000000")
    assert ended["w"] is False


def test_what_was_open_before_goes_on_and_what_was_over_is_not_told(
    account: Any, client: Any
) -> None:
    before: Client = client(1)
    over = before.good("POST", "order", **LIMIT, side="BUY", price="10", quantity="1")
    before.good("DELETE", "order", symbol="BTCUSD", orderId=over["orderId"])
    market = {"symbol": "BTCUSD", "type": "MARKET"}
    open_ = before.good("POST", "order", **LIMIT, side="BUY", price="100", quantity="5")
    client(2).good("POST", "order", **market, side="SELL", quantity="2")
    alice = account(1)
    client(2).good("POST", "order", **market, side="SELL", quantity="1")
    event = alice.next()
    assert (event["i"], event["x"], event["z"], event["Z"]) == (
        open_["orderId"],
        "TRADE",
        "3.00000000",
        "300.00000000",
    )


def test_stops_market_orders_and_expiries_are_told(account: Any) -> None:
    alice, bob = account(1), account(2)
    stop = {"symbol": "BTCUSD", "type": "STOP_LOSS_LIMIT", "timeInForce": "GTC"}
    bob.client.good("POST", "order", **LIMIT, side="SELL", price="100", quantity="1")
    alice.client.good("POST", "order", symbol="BTCUSD", type="MARKET", side="BUY", quantity="2")
    assert [(e["x"], e["X"]) for e in (alice.next(), alice.next(), alice.next())] == [
        ("NEW", "NEW"),
        ("TRADE", "PARTIALLY_FILLED"),
        ("EXPIRED", "EXPIRED"),
    ]
    placed = alice.client.good(
        "POST", "order", **stop, side="BUY", price="120", stopPrice="110", quantity="1"
    )
    waits = alice.next()
    assert (waits["i"], waits["o"], waits["P"]) == (
        placed["orderId"],
        "STOP_LOSS_LIMIT",
        "110.00000000",
    )
    assert waits["w"] is False and "W" not in waits
    bob.client.good("POST", "order", **LIMIT, side="SELL", price="110", quantity="1")
    alice.client.good("POST", "order", **LIMIT, side="BUY", price="110", quantity="1")
    told = [alice.next() for _ in range(3)]
    assert [e["x"] for e in told] == ["NEW", "TRADE", "NEW"]
    assert told[2]["i"] == placed["orderId"] and told[2]["w"] is True and told[2]["W"]


def test_orders_of_bots_and_money_are_told(account: Any, exchange: ExchangeProcess) -> None:
    alice = account(1)
    with exchange.connect("alice") as bot:
        collect(bot, bot.buy("BTC/USD", "2", "30", client_order_id="of-a-bot"))
        assert alice.next()["c"] == "of-a-bot"
        collect(bot, bot.amend(client_order_id="of-a-bot", market="BTC/USD", quantity="1"))
        amended = alice.next()
        assert (amended["x"], amended["X"], amended["q"]) == ("REPLACED", "NEW", "1.00000000")
        bot.mass_cancel()
        assert alice.next()["x"] == "CANCELED"
        profit, stop = {"price": "900"}, {"trigger": "10"}
        collect(bot, bot.oco("BTC/USD", "sell", "1", profit=profit, stop=stop) + 2)
        orders = [alice.next(), alice.next()]
        begun = alice.next("listStatus")
        assert (begun["c"], begun["l"], begun["L"]) == ("OCO", "EXEC_STARTED", "EXECUTING")
        assert {o["i"] for o in begun["O"]} == {event["i"] for event in orders}
        assert {event["g"] for event in orders} == {begun["g"]}
        bot.mass_cancel()
        done = alice.next("listStatus")
        assert (done["g"], done["l"], done["L"]) == (begun["g"], "ALL_DONE", "ALL_DONE")
    paid = command(exchange, "deposit", "EXCHANGE", "alice", "USD", "12.5", "--reference", "d-1")
    assert paid.returncode == 0, paid.stderr
    money = alice.next("balanceUpdate")
    assert (money["a"], money["d"]) == ("USD", "12.50000000")
    position = alice.next("outboundAccountPosition")
    found = {row["asset"]: row for row in alice.client.good("GET", "account")["balances"]}
    assert [(row["a"], row["f"]) for row in position["B"]] == [("USD", found["USD"]["free"])]


def test_a_listen_key_opens_the_stream_and_ends_it(address: str, client: Any) -> None:
    alice, other = client(1), client(2)

    def ask(who: Client, method: str, **parameters: Any) -> Any:
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        path = f"/api/v3/userDataStream?{query}"
        return who.send(method, path, headers={"X-MBX-APIKEY": who.key.id if who.key else ""})

    name = ask(alice, "POST").body["listenKey"]
    assert ask(alice, "POST").body == {"listenKey": name}
    assert ask(alice, "PUT", listenKey=name).body == {}
    assert ask(other, "PUT", listenKey=name).body["code"] == -1125
    assert ask(other, "DELETE", listenKey=name).body["code"] == -1125
    plain, named = Listener(address, f"/ws/{name}"), Listener(address, f"/stream?streams={name}")
    for listener in (plain, named):
        assert listener.ask("LIST_SUBSCRIPTIONS")["result"] == [name]
    order = alice.good("POST", "order", **LIMIT, side="BUY", price="5", quantity="1")
    told = plain.receive()
    assert (told["e"], told["i"]) == ("executionReport", order["orderId"])
    wrapped = named.receive()
    assert wrapped["stream"] == name and wrapped["data"]["i"] == order["orderId"]
    assert ask(alice, "DELETE", listenKey=name).body == {}
    assert ask(alice, "PUT", listenKey=name).body["code"] == -1125
    ended = plain.find(lambda m: m["e"] == "listenKeyExpired", "its end")
    assert ended["listenKey"] == name
    assert plain.ask("LIST_SUBSCRIPTIONS")["result"] == []
    for listener in (plain, named):
        listener.close()
    refused = Listener(address, "/ws")
    assert refused.ask("SUBSCRIBE", [name])["error"]["code"] == -1125
    refused.close()
    alice.signed("DELETE", "openOrders", symbol="BTCUSD")


def test_a_key_that_is_disabled_listens_no_more(
    exchange: ExchangeProcess, account: Callable[[int], Account]
) -> None:
    alice = account(1)
    done = command(exchange, "key", "disable", "EXCHANGE", alice.key.id)
    assert done.returncode == 0, done.stderr
    assert alice.next("eventStreamTerminated")
    assert alice.listener.ask("session.subscriptions")["result"] == []


def test_a_stream_that_is_given_up_tells_nothing(account: Any, client: Any) -> None:
    alice = account(1)
    again = subscribe(alice.listener, alice.key)
    listed = alice.listener.ask("session.subscriptions")["result"]
    assert [row["subscriptionId"] for row in listed] == [alice.number, again]
    given = {"subscriptionId": alice.number}
    assert alice.listener.ask("userDataStream.unsubscribe", given)["result"] == {}
    assert alice.listener.ask("userDataStream.unsubscribe", given)["error"]["code"] == -2036
    client(1).good("POST", "order", **LIMIT, side="BUY", price="5", quantity="1")
    told = alice.listener.find(lambda m: "event" in m, "an event")
    assert told["subscriptionId"] == again


def test_no_report_is_missing_or_told_twice_while_engine_and_workers_die(
    make_exchange: Make,
) -> None:
    more = GATEWAY.format(workers=2, more=MORE)
    exchange = make_exchange(archive=True, more=more, standby=True)
    address = start(exchange)
    wait_for(lambda: exchange.followed, "a standby follows")
    keys = Keys(Path(exchange.data))
    key = keys.create(1)
    keys.close()
    listeners = []
    for pid in exchange.status["gateway"]["workers"]:  # two on each, as the other one sleeps
        os.kill(pid, signal.SIGSTOP)
        for _ in range(2):
            listeners.append(Listener(address, "/ws-api/v3"))
            subscribe(listeners[-1], key)
        os.kill(pid, signal.SIGCONT)
    with exchange.connect("alice") as alice, exchange.connect("bob") as bob:
        for number in range(400):
            alice.buy("BTC/USD", "2", "100", client_order_id=f"n-{number}", timeout=30)
            bob.sell("BTC/USD", "1", "100", timeout=30)
            if number == 100:
                os.kill(exchange.status["gateway"]["workers"][0], signal.SIGKILL)
            if number == 200:
                os.kill(exchange.host_of("sequencer"), signal.SIGKILL)
                wait_for(lambda: "has taken over" in exchange.text(), "a takeover")
            if number % 20 == 0:
                alice.mass_cancel()
                bob.mass_cancel()
                time.sleep(0.01)
        collect(alice, alice.buy("BTC/USD", "1", "1", client_order_id="the-last"))
        expected = []
        with alice.pull() as pull:
            names: set[bytes] = set()
            while b"the-last" not in names:
                rows = pull.read(timeout=1.0)
                names |= set(rows["client_order_id"].tolist())
                expected += [told(row) for row in rows if is_told(row)]
    whole = 0
    for listener in listeners:
        found = []
        with contextlib.suppress(ConnectionClosed):  # of the worker that was killed
            for message in listener.messages():
                event = message.get("event", {})
                if event.get("e") == "executionReport":
                    lots = int(Decimal(event["z"]) * 10_000)
                    found.append((event["i"], event["x"], lots, event["t"]))
                    if event["c"] == "the-last":
                        whole += 1
                        break
        assert found == expected[: len(found)]
        listener.close()
    assert whole == 2
    exchange.down()


def is_told(report: Any) -> bool:
    return bool(report["order_id"]) and report["kind"] in EXECUTIONS


def told(report: Any) -> tuple[int, str, int, int]:
    """Of a report, what its event says of the order, what happened, how much is filled, by which
    trade.
    """
    trade = int(report["trade_id"]) if report["kind"] == EventKind.TRADE else -1
    order, lots = int(report["order_id"]), int(report["cumulative_lots"])
    return order, EXECUTIONS[EventKind(int(report["kind"]))], lots, trade
