"""Orders are replaced in one step and made smaller, over REST; what failed is told half by half."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.gateway.client import Client
from tests.integration.conftest import ExchangeProcess, collect

SYMBOL = "BTCUSD"
MORE = "orders_per_ten_seconds = 100000\nweight_per_minute = 1000000"
ORDER = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
STOP = {"cancelReplaceMode": "STOP_ON_FAILURE"}
ALLOW = {"cancelReplaceMode": "ALLOW_FAILURE"}
AMEND = "order/amend/keepPriority"


def limit(price: str, quantity: str = "1", side: str = "BUY", **more: Any) -> dict[str, Any]:
    return ORDER | {"side": side, "price": price, "quantity": quantity} | more


@pytest.fixture(autouse=True)
def empty_book(client: Callable[..., Client]) -> Iterator[None]:
    """Each test begins and ends without orders."""
    yield
    for account in (1, 2):
        each = client(account)
        if each.good("GET", "openOrders"):
            assert each.good("DELETE", "openOrders", symbol=SYMBOL)


def open_ids(client: Client) -> list[int]:
    return [order["orderId"] for order in client.good("GET", "openOrders", symbol=SYMBOL)]


def replace(client: Client, **parameters: Any) -> Any:
    return client.signed("POST", "order/cancelReplace", **parameters)


# ---- cancel and replace


@pytest.mark.parametrize("mode", [STOP, ALLOW])
@pytest.mark.parametrize("named", ["id", "client id", "both"])
def test_an_order_is_replaced_by_another(mode: dict[str, str], named: str, alice: Client) -> None:
    old = alice.good("POST", "order", **limit("90", "2", newClientOrderId="old"))
    name: dict[str, Any] = {}
    if named != "client id":
        name["cancelOrderId"] = old["orderId"]
    if named != "id":
        name["cancelOrigClientOrderId"] = "old"
    order = limit("91", "3", newClientOrderId="old", cancelNewClientOrderId="the-cancel")
    response = replace(alice, **order, **mode, **name)
    assert response.status == 200
    assert response.headers["x-mbx-order-count-10s"].isdecimal()
    body = response.body
    assert (body["cancelResult"], body["newOrderResult"]) == ("SUCCESS", "SUCCESS")
    canceled, new = body["cancelResponse"], body["newOrderResponse"]
    assert (canceled["orderId"], canceled["status"]) == (old["orderId"], "CANCELED")
    assert (canceled["origClientOrderId"], canceled["clientOrderId"]) == ("old", "the-cancel")
    assert (new["status"], new["origQty"], new["fills"]) == ("NEW", "3.00000000", [])
    assert open_ids(alice) == [new["orderId"]]
    found = alice.good("GET", "order", symbol=SYMBOL, origClientOrderId="old")
    assert found["orderId"] == new["orderId"]
    was = alice.good("GET", "order", symbol=SYMBOL, orderId=old["orderId"])
    assert was["status"] == "CANCELED"


def test_the_new_order_may_trade_at_once_and_may_be_an_iceberg(alice: Client, bob: Client) -> None:
    bob.good("POST", "order", **limit("100", "1", "SELL"))
    old = alice.good("POST", "order", **limit("90", "2"))
    order = limit("100", "5", icebergQty="0.5")
    body = replace(alice, **order, **STOP, cancelOrderId=old["orderId"]).body
    new = body["newOrderResponse"]
    assert (new["status"], new["executedQty"]) == ("PARTIALLY_FILLED", "1.00000000")
    assert len(new["fills"]) == 1 and new["icebergQty"] == "0.50000000"
    ack = limit("95", "4", newOrderRespType="ACK")
    body = replace(alice, **ack, **STOP, cancelOrderId=new["orderId"]).body
    canceled = body["cancelResponse"]
    assert (canceled["executedQty"], canceled["status"]) == ("1.00000000", "CANCELED")
    assert "status" not in body["newOrderResponse"]
    ended = limit("99", "1", timeInForce="FOK")
    newest = body["newOrderResponse"]["orderId"]
    body = replace(alice, **ended, **STOP, cancelOrderId=newest).body
    assert body["newOrderResponse"]["status"] == "EXPIRED"
    assert open_ids(alice) == []


def test_without_an_order_to_cancel_the_new_one_is_entered_only_if_it_may_be(
    alice: Client,
) -> None:
    stopped = replace(alice, **limit("90"), **STOP, cancelOrderId=1)
    unknown = {"code": -2011, "msg": "Unknown order sent."}
    assert (stopped.status, stopped.body) == (
        400,
        {
            "code": -2022,
            "msg": "Order cancel-replace failed.",
            "data": {
                "cancelResult": "FAILURE",
                "newOrderResult": "NOT_ATTEMPTED",
                "cancelResponse": unknown,
                "newOrderResponse": None,
            },
        },
    )
    assert open_ids(alice) == []
    went_on = replace(alice, **limit("90"), **ALLOW, cancelOrigClientOrderId="nobody")
    assert (went_on.status, went_on.body["code"]) == (409, -2021)
    assert went_on.body["msg"] == "Order cancel-replace partially failed."
    data = went_on.body["data"]
    assert (data["cancelResult"], data["newOrderResult"]) == ("FAILURE", "SUCCESS")
    assert data["cancelResponse"] == unknown
    assert open_ids(alice) == [data["newOrderResponse"]["orderId"]]


def test_a_new_order_that_is_refused_leaves_nothing_or_the_old_one(
    alice: Client, bob: Client
) -> None:
    bob.good("POST", "order", **limit("100", "1", "SELL"))
    old = alice.good("POST", "order", **limit("90", "2"))
    # What could never be an order: the old one stays.
    for wrong, code in (
        (limit("100.001"), -1013),
        (limit("90", side="HOLD"), -1117),
        (limit("90", icebergQty="0.0001", quantity="2000"), -1013),
    ):
        response = replace(alice, **wrong, **STOP, cancelOrderId=old["orderId"])
        assert (response.status, response.body["code"]) == (400, code)
        assert open_ids(alice) == [old["orderId"]]
    # What cannot be one now: the old one is gone.
    maker = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT_MAKER", "price": "100"}
    response = replace(alice, **maker, quantity="1", **STOP, cancelOrderId=old["orderId"])
    assert (response.status, response.body["code"]) == (409, -2021)
    data = response.body["data"]
    assert (data["cancelResult"], data["newOrderResult"]) == ("SUCCESS", "FAILURE")
    assert data["cancelResponse"]["orderId"] == old["orderId"]
    assert data["newOrderResponse"]["msg"] == "Order would immediately match and take."
    assert open_ids(alice) == []
    both = replace(alice, **maker, quantity="1", **ALLOW, cancelOrderId=old["orderId"])
    assert (both.status, both.body["code"]) == (400, -2022)
    assert both.body["data"]["newOrderResult"] == "FAILURE"


def test_the_money_of_the_old_order_pays_for_the_new_one(
    exchange: ExchangeProcess, alice: Client
) -> None:
    free = next(
        row["free"] for row in alice.good("GET", "account")["balances"] if row["asset"] == "USD"
    )
    whole = int(float(free)) // 100
    old = alice.good("POST", "order", **limit("100", str(whole)))
    assert alice.signed("POST", "order", **limit("99", str(whole))).body["code"] == -2010
    body = replace(alice, **limit("99", str(whole)), **STOP, cancelOrderId=old["orderId"]).body
    assert body["newOrderResult"] == "SUCCESS"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({**STOP}, -1102),
        ({"cancelOrderId": 1}, -1102),
        ({**STOP, "cancelOrderId": 0}, -1130),
        ({"cancelReplaceMode": "PERHAPS", "cancelOrderId": 1}, -1130),
        ({**STOP, "cancelOrderId": 1, "cancelRestrictions": "ONLY_NEW"}, -1106),
    ],
)
def test_what_is_no_replacement_is_refused(more: dict[str, Any], code: int, alice: Client) -> None:
    response = replace(alice, **limit("90"), **more)
    assert (response.status, response.body["code"]) == (400, code), response
    assert open_ids(alice) == []


def test_somebody_elses_order_is_not_replaced(alice: Client, bob: Client) -> None:
    hers = alice.good("POST", "order", **limit("90", newClientOrderId="hers"))
    for name in ({"cancelOrderId": hers["orderId"]}, {"cancelOrigClientOrderId": "hers"}):
        response = replace(bob, **limit("80"), **STOP, **name)
        assert response.body["data"]["cancelResponse"]["code"] == -2011
    assert open_ids(alice) == [hers["orderId"]]
    assert open_ids(bob) == []


# ---- amend


def test_an_order_is_made_smaller_and_keeps_its_place(alice: Client, bob: Client) -> None:
    first = alice.good("POST", "order", **limit("100", "3", newClientOrderId="first"))
    second = alice.good("POST", "order", **limit("100", "1"))
    bob.good("POST", "order", **limit("100", "0.5", "SELL"))
    body = alice.good("PUT", AMEND, symbol=SYMBOL, orderId=first["orderId"], newQty="2")
    amended = body["amendedOrder"]
    assert isinstance(body["executionId"], int) and isinstance(body["transactTime"], int)
    assert (amended["orderId"], amended["origClientOrderId"]) == (first["orderId"], "first")
    assert (amended["qty"], amended["executedQty"]) == ("2.00000000", "0.50000000")
    assert (amended["cumulativeQuoteQty"], amended["preventedQty"]) == ("50.00000000", "0.00000000")
    assert (amended["status"], amended["price"]) == ("PARTIALLY_FILLED", "100.00000000")
    found = alice.good("GET", "order", symbol=SYMBOL, orderId=first["orderId"])
    assert (found["origQty"], found["clientOrderId"]) == ("2.00000000", "first")
    again = alice.good("PUT", AMEND, symbol=SYMBOL, origClientOrderId="first", newQty="1.5")
    assert again["amendedOrder"]["qty"] == "1.50000000"
    bob.good("POST", "order", **limit("100", "1", "SELL"))
    assert open_ids(alice) == [second["orderId"]]


def test_an_order_is_not_made_larger_or_changed_where_it_cannot_be(
    alice: Client, bob: Client
) -> None:
    mine = alice.good("POST", "order", **limit("100", "3", newClientOrderId="mine"))
    name = {"symbol": SYMBOL, "orderId": mine["orderId"]}
    for quantity in ("3", "4"):
        response = alice.signed("PUT", AMEND, **name, newQty=quantity)
        assert (response.status, response.body["code"]) == (400, -2038)
    bob.good("POST", "order", **limit("100", "1", "SELL"))
    below = alice.signed("PUT", AMEND, **name, newQty="1")
    assert (below.status, below.body["code"]) == (400, -2038)
    assert alice.signed("PUT", AMEND, **name, newQty="0").body["code"] == -1013
    assert alice.signed("PUT", AMEND, **name).body["code"] == -1102
    renamed = alice.signed("PUT", AMEND, **name, newQty="2", newClientOrderId="another")
    assert renamed.body["code"] == -1106
    alice.good("PUT", AMEND, **name, newQty="2", newClientOrderId="mine")
    assert bob.signed("PUT", AMEND, **name, newQty="1.5").body["code"] == -2013
    alice.good("DELETE", "order", **name)
    assert alice.signed("PUT", AMEND, **name, newQty="1.5").body["code"] == -2011


def test_a_replaced_order_of_another_door_is_shown_as_it_was(
    exchange: ExchangeProcess, alice: Client, bob: Client
) -> None:
    with exchange.connect("alice") as session:
        collect(session, session.buy("BTC/USD", "3", "90", client_order_id="bot"))
    bob.good("POST", "order", **limit("90", "1", "SELL"))
    body = replace(alice, **limit("91"), **STOP, cancelOrigClientOrderId="bot").body
    canceled = body["cancelResponse"]
    assert (canceled["origQty"], canceled["executedQty"]) == ("3.00000000", "1.00000000")
    assert canceled["cummulativeQuoteQty"] == "90.00000000"
