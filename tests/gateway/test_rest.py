"""Spot over REST on a real exchange: what clients ask, and what they are told."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from matchbox.shm.records import COMMAND, Kind, OrderType, Side, TimeInForce
from tests.gateway.client import Client
from tests.integration.conftest import DEADLINE_S, ExchangeProcess, collect

SYMBOL = "BTCUSD"
MORE = "orders_per_ten_seconds = 100000\nweight_per_minute = 1000000"
ORDER = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}


def limit(
    price: str | None, quantity: str | None = "1", side: str = "BUY", **more: Any
) -> dict[str, Any]:
    return ORDER | {"side": side, "price": price, "quantity": quantity} | more


@pytest.fixture(autouse=True)
def empty_book(client: Callable[..., Client]) -> Iterator[None]:
    """Each test begins and ends without orders."""
    yield
    for account in (1, 2):
        each = client(account)
        if each.good("GET", "openOrders"):
            assert each.good("DELETE", "openOrders", symbol=SYMBOL)


# ---- what anybody may ask


def test_general_questions_are_answered(address: str) -> None:
    client = Client(address)
    assert client.get("ping").body == {}
    assert abs(client.get("time").body["serverTime"]) > 1_700_000_000_000
    info = client.get("exchangeInfo").body
    assert [symbol["symbol"] for symbol in info["symbols"]] == ["BTCUSD", "BTCUSD2"]
    assert info["timezone"] == "UTC" and info["rateLimits"][0]["limit"] == 1_000_000
    one = client.get("exchangeInfo", symbol="BTCUSD2").body
    assert [symbol["symbol"] for symbol in one["symbols"]] == ["BTCUSD2"]
    response = client.get("ping")
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["x-mbx-used-weight-1m"]) > 20
    client.close()


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("depth", -1102),
        ("depth?symbol=XRPUSD", -1121),
        ("depth?symbol=BTCUSD&limit=0", -1130),
        ("ticker/price?symbol=XRPUSD", -1121),
        ("exchangeInfo?symbols=[%22XRPUSD%22]", -1121),
        ("order", -2014),
    ],
)
def test_what_is_wrong_is_said_in_json(address: str, path: str, code: int) -> None:
    client = Client(address)
    response = client.send("GET", f"/api/v3/{path}")
    assert response.body["code"] == code and response.body["msg"]
    assert response.status == (401 if code == -2014 else 400)
    assert response.headers["content-type"] == "application/json"
    client.close()


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nothing", 404), ("PUT", "/api/v3/ping", 405)]
)
def test_what_there_is_not_is_said_in_json(
    address: str, method: str, path: str, status: int
) -> None:
    client = Client(address)
    response = client.send(method, path)
    assert (response.status, response.body["code"]) == (status, -1000)
    client.close()


def test_books_and_prices_are_those_of_the_exchange(alice: Client, bob: Client) -> None:
    for price in ("99.5", "100"):
        alice.good("POST", "order", **limit(price, "0.5"))
    bob.good("POST", "order", **limit("101", "2", "SELL"))
    book = alice.get("depth", symbol=SYMBOL).body
    assert book["bids"] == [["100.00000000", "0.50000000"], ["99.50000000", "0.50000000"]]
    assert book["asks"] == [["101.00000000", "2.00000000"]]
    assert isinstance(book["lastUpdateId"], int) and "T" not in book
    for wanted in (1, 100):
        assert alice.get("depth", symbol=SYMBOL, limit=wanted).body["bids"][0] == book["bids"][0]
    assert len(alice.get("depth", symbol=SYMBOL, limit=1).body["bids"]) == 1
    best = alice.get("ticker/bookTicker", symbol=SYMBOL).body
    assert best == {
        "symbol": SYMBOL,
        "bidPrice": "100.00000000",
        "bidQty": "0.50000000",
        "askPrice": "101.00000000",
        "askQty": "2.00000000",
    }
    bob.good("POST", "order", **limit("100", "0.1", "SELL"))
    assert alice.get("ticker/price", symbol=SYMBOL).body["price"] == "100.00000000"
    names = [row["symbol"] for row in alice.get("ticker/price").body]
    assert names == ["BTCUSD", "BTCUSD2"]
    pair = alice.get("ticker/bookTicker", symbols='["BTCUSD2"]').body
    assert [row["symbol"] for row in pair] == ["BTCUSD2"]


# ---- orders


def test_an_order_is_placed_queried_and_canceled(alice: Client) -> None:
    placed = alice.signed("POST", "order", **limit("90", "2", newClientOrderId="mine-1"))
    assert placed.status == 200
    assert placed.headers["x-mbx-order-count-1d"].isdecimal()
    assert placed.headers["x-mbx-order-count-10s"].isdecimal()
    order = placed.body
    assert order["status"] == "NEW" and order["fills"] == []
    assert (order["clientOrderId"], order["orderListId"]) == ("mine-1", -1)
    for name in ({"orderId": order["orderId"]}, {"origClientOrderId": "mine-1"}):
        found = alice.good("GET", "order", symbol=SYMBOL, **name)
        assert found["orderId"] == order["orderId"]
        assert (found["price"], found["origQty"]) == ("90.00000000", "2.00000000")
        assert found["isWorking"] is True and "transactTime" not in found
    assert alice.good("GET", "openOrders", symbol=SYMBOL) == [found]
    assert alice.good("GET", "openOrders") == [found]
    assert alice.good("GET", "openOrders", symbol="BTCUSD2") == []
    done = alice.good("DELETE", "order", symbol=SYMBOL, orderId=order["orderId"])
    assert (done["status"], done["origClientOrderId"]) == ("CANCELED", "mine-1")
    assert done["clientOrderId"] != "mine-1"
    assert alice.good("GET", "openOrders") == []
    again = alice.signed("DELETE", "order", symbol=SYMBOL, orderId=order["orderId"])
    assert again.body == {"code": -2011, "msg": "Unknown order sent."}
    gone = alice.good("GET", "order", symbol=SYMBOL, orderId=order["orderId"])
    assert gone["status"] == "CANCELED"


def test_answers_have_the_shape_that_was_asked_for(alice: Client, bob: Client) -> None:
    ack = alice.good("POST", "order", **limit("100", newOrderRespType="ACK"))
    assert sorted(ack) == ["clientOrderId", "orderId", "orderListId", "symbol", "transactTime"]
    alice.good("POST", "order", **limit("99"))
    result = bob.good("POST", "order", **limit("99", "1.5", "SELL", newOrderRespType="RESULT"))
    assert "fills" not in result
    assert result["status"] == "FILLED"
    assert result["executedQty"] == "1.50000000"
    assert result["cummulativeQuoteQty"] == "149.50000000"
    full = bob.good("POST", "order", **limit("99", "2", "SELL"))
    assert full["status"] == "PARTIALLY_FILLED"
    (fill,) = full["fills"]
    assert (fill["price"], fill["qty"]) == ("99.00000000", "0.50000000")
    assert fill["commissionAsset"] == "USD" and isinstance(fill["tradeId"], int)


def test_market_orders_fill_and_what_is_left_expires(alice: Client, bob: Client) -> None:
    bob.good("POST", "order", **limit("100", "1", "SELL"))
    market = {"symbol": SYMBOL, "side": "BUY", "type": "MARKET"}
    bought = alice.good("POST", "order", **market, quantity="1.5")
    assert (bought["status"], bought["executedQty"]) == ("EXPIRED", "1.00000000")
    assert (bought["type"], bought["price"]) == ("MARKET", "0.00000000")
    bob.good("POST", "order", **limit("100", "1", "SELL"))
    spent = alice.good("POST", "order", **market, quoteOrderQty="50.005")
    assert spent["executedQty"] == spent["origQty"] == "0.50000000"
    assert (spent["status"], spent["origQuoteOrderQty"]) == ("FILLED", "50.00500000")
    row = alice.good("GET", "order", symbol=SYMBOL, orderId=spent["orderId"])
    assert {name: row[name] for name in ("status", "executedQty", "origQty", "timeInForce")} == {
        name: spent[name] for name in ("status", "executedQty", "origQty", "timeInForce")
    }


def test_every_order_type_is_taken(alice: Client, bob: Client) -> None:
    bob.good("POST", "order", **limit("100", "1", "SELL"))
    alice.good("POST", "order", **limit("100", "1"))  # the last price is 100
    base = {"symbol": SYMBOL, "side": "SELL", "quantity": "1"}
    resting = [
        {"type": "LIMIT", "price": "110", "timeInForce": "GTC", "icebergQty": "0.1"},
        {"type": "LIMIT_MAKER", "price": "110"},
        {"type": "STOP_LOSS", "stopPrice": "90"},
        {"type": "STOP_LOSS_LIMIT", "stopPrice": "90", "price": "89", "timeInForce": "GTC"},
        {"type": "TAKE_PROFIT", "stopPrice": "120"},
        {"type": "TAKE_PROFIT_LIMIT", "stopPrice": "120", "price": "119", "timeInForce": "GTC"},
        {"type": "STOP_LOSS", "trailingDelta": "100"},
    ]
    for order in resting:
        placed = bob.good("POST", "order", **base, **order, newOrderRespType="RESULT")
        assert (placed["type"], placed["status"]) == (order["type"], "NEW")
    found = bob.good("GET", "openOrders", symbol=SYMBOL)
    assert [order["type"] for order in found] == [order["type"] for order in resting]
    assert [order["isWorking"] for order in found] == [True, True] + [False] * 5
    assert (found[0]["icebergQty"], found[3]["stopPrice"]) == ("0.10000000", "90.00000000")
    for kind, status in (("IOC", "EXPIRED"), ("FOK", "EXPIRED")):
        ended = alice.good("POST", "order", **limit("90", timeInForce=kind))
        assert (ended["status"], ended["timeInForce"]) == (status, kind)
    assert len(bob.good("DELETE", "openOrders", symbol=SYMBOL)) == len(resting)
    nothing = bob.signed("DELETE", "openOrders", symbol=SYMBOL)
    assert nothing.body == {"code": -2011, "msg": "Unknown order sent."}


@pytest.mark.parametrize(
    ("order", "code", "text"),
    [
        (limit("100", "1", type="MARKET", timeInForce=None), -1106, "'price'"),
        (limit(None, None, type="MARKET", timeInForce=None), -1102, "quoteOrderQty"),
        (limit("100", timeInForce=None), -1102, "'timeInForce'"),
        (limit(None), -1102, "'price'"),
        (limit("100", stopPrice="90"), -1106, "'stopPrice'"),
        (limit(None, type="STOP_LOSS", timeInForce=None), -1102, "trailingDelta"),
        (limit("100.001"), -1013, "PRICE_FILTER"),
        (limit("0"), -1013, "PRICE_FILTER"),
        (limit("100", "0.00001"), -1013, "LOT_SIZE"),
        (limit("100", "0.000000001"), -1111, "'quantity'"),
        (limit("1e2"), -1100, "'price'"),
        (limit("100", "2000000000000"), -1013, "LOT_SIZE"),
        (limit("1000000", "10000"), -2010, "insufficient balance"),
        (limit("100", symbol="XRPUSD"), -1121, "Invalid symbol."),
        (limit("100", icebergQty="0.0001"), -1013, "ICEBERG_PARTS"),
        (limit("100", side="HOLD"), -1117, "side"),
    ],
)
def test_what_is_no_order_is_refused_with_its_reason(
    alice: Client, order: dict[str, Any], code: int, text: str
) -> None:
    response = alice.signed("POST", "order", **order)
    assert (response.status, response.body["code"]) == (400, code), response
    assert text in response.body["msg"]
    assert alice.good("GET", "openOrders") == []


def test_the_engine_refuses_with_the_words_that_clients_match(alice: Client, bob: Client) -> None:
    bob.good("POST", "order", **limit("100", "1", "SELL"))
    taker = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT_MAKER", "price": "100"}
    would_take = alice.signed("POST", "order", **taker, quantity="1")
    assert would_take.body["msg"] == "Order would immediately match and take."
    alice.good("POST", "order", **limit("90", newClientOrderId="twice"))
    twice = alice.signed("POST", "order", **limit("91", newClientOrderId="twice"))
    assert twice.body == {"code": -2010, "msg": "Duplicate order sent."}


def test_a_test_order_is_checked_and_not_sent(alice: Client) -> None:
    assert alice.good("POST", "order/test", **limit("100")) == {}
    assert alice.signed("POST", "order/test", **limit("100.001")).body["code"] == -1013
    assert alice.good("GET", "openOrders") == []


def test_somebody_elses_order_looks_like_none(alice: Client, bob: Client) -> None:
    placed = alice.good("POST", "order", **limit("90", newClientOrderId="secret"))
    for name in ({"orderId": placed["orderId"]}, {"origClientOrderId": "secret"}):
        found = bob.signed("GET", "order", symbol=SYMBOL, **name)
        assert found.body == {"code": -2013, "msg": "Order does not exist."}
        ended = bob.signed("DELETE", "order", symbol=SYMBOL, **name)
        assert ended.body == {"code": -2011, "msg": "Unknown order sent."}
    elsewhere = alice.signed("DELETE", "order", symbol="BTCUSD2", orderId=placed["orderId"])
    assert elsewhere.body["code"] == -2011
    assert alice.good("GET", "openOrders")[0]["status"] == "NEW"


def test_an_account_reads_its_own_writes_whichever_worker_it_asks(
    client: Callable[..., Client],
) -> None:
    clients = [client(1) for _ in range(6)]  # connections of both workers
    for number in range(12):
        placed = clients[number % 6].good("POST", "order", **limit("90"))
        other = clients[(number + 1) % 6]
        orders = other.good("GET", "openOrders", symbol=SYMBOL)
        assert [order["orderId"] for order in orders] == [placed["orderId"]]
        clients[(number + 2) % 6].good("DELETE", "order", symbol=SYMBOL, orderId=placed["orderId"])
        assert clients[(number + 3) % 6].good("GET", "openOrders") == []


# ---- the account


def amounts(client: Client) -> dict[str, tuple[str, str]]:
    body = client.good("GET", "account", omitZeroBalances="true")
    return {row["asset"]: (row["free"], row["locked"]) for row in body["balances"]}


def test_balances_say_what_is_free_and_what_is_locked(alice: Client) -> None:
    before = amounts(alice)
    alice.good("POST", "order", **limit("90", "0.5"))
    free, locked = amounts(alice)["USD"]
    assert locked == "45.00000000"
    assert float(free) == float(before["USD"][0]) - 45
    body = alice.good("GET", "account")
    assert body["canTrade"] is True and body["canWithdraw"] is False
    assert body["accountType"] == "SPOT" and body["uid"] == 1


def test_rates_and_states_are_those_of_the_ledger(exchange: ExchangeProcess, alice: Client) -> None:
    with exchange.connect("", operator=True) as operator:
        operator.set_fees(0, maker_fee_ppm=150, taker_fee_ppm=400)
        collect(
            operator,
            operator.set_fees(0, maker_fee_ppm=-50, taker_fee_ppm=300, market="BTC/USD.2"),
        )
        body = alice.good("GET", "account")
        assert body["commissionRates"]["maker"] == "0.00015000"
        assert (body["makerCommission"], body["takerCommission"]) == (2, 4)
        assert alice.key is not None
        fees = alice.send(
            "GET",
            f"/sapi/v1/asset/tradeFee?{alice.sign({})}",
            headers={"X-MBX-APIKEY": alice.key.id},
        ).body
        assert [(row["makerCommission"], row["takerCommission"]) for row in fees] == [
            ("0.00015000", "0.00040000"),
            ("-0.00005000", "0.00030000"),
        ]
        collect(operator, operator.set_account(1, state="cancel_only"))
        assert alice.good("GET", "account")["canTrade"] is False
        refused = alice.signed("POST", "order", **limit("90"))
        assert refused.body == {"code": -2010, "msg": "This action is disabled on this account."}
        collect(operator, operator.set_account(1, state="active"))
        collect(operator, operator.set_fees(0, maker_fee_ppm=0, taker_fee_ppm=0))
    assert alice.good("GET", "account")["canTrade"] is True


def test_a_cancel_says_what_was_filled_also_where_other_doors_have_changed_the_order(
    exchange: ExchangeProcess, alice: Client, bob: Client
) -> None:
    placed = alice.good("POST", "order", **limit("90", "3"))
    bob.good("POST", "order", **limit("90", "1", "SELL"))
    with exchange.connect("alice") as session:
        collect(session, session.amend(placed["orderId"], market="BTC/USD", quantity="2.5"))
    ended = alice.good("DELETE", "order", symbol=SYMBOL, orderId=placed["orderId"])
    assert (ended["origQty"], ended["executedQty"]) == ("2.50000000", "1.00000000")
    assert ended["cummulativeQuoteQty"] == "90.00000000"
    assert ended == ended | {
        name: value
        for name, value in alice.good(
            "GET", "order", symbol=SYMBOL, orderId=placed["orderId"]
        ).items()
        if name in ended and name != "clientOrderId"
    }


@pytest.mark.parametrize("rest", [0, 7])
def test_an_order_that_sweeps_thousands_is_answered_with_every_fill(
    exchange: ExchangeProcess, alice: Client, rest: int
) -> None:
    makers = 3000  # more than the publisher does at a time
    orders = np.zeros(makers, COMMAND)
    orders["kind"], orders["market"], orders["side"] = Kind.NEW_ORDER, 1, Side.SELL
    orders["order_type"], orders["time_in_force"] = OrderType.LIMIT, TimeInForce.GTC
    orders["price_ticks"], orders["quantity_lots"] = 10_000, 10_000
    with exchange.connect("bob") as bob:
        collect(bob, bob.submit(orders, timeout=DEADLINE_S) + makers - 1)
    swept = alice.good("POST", "order", **limit("100", str(makers + rest)))
    assert len(swept["fills"]) == makers
    assert len({fill["tradeId"] for fill in swept["fills"]}) == makers
    assert swept["executedQty"] == f"{makers}.00000000"
    assert swept["status"] == ("PARTIALLY_FILLED" if rest else "FILLED")
    found = alice.good("GET", "order", symbol=SYMBOL, orderId=swept["orderId"])
    assert found["cummulativeQuoteQty"] == swept["cummulativeQuoteQty"] == "300000.00000000"
