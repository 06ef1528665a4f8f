"""Lists of orders over REST: entered whole, followed to their end, canceled, found again."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.gateway.client import Client
from tests.integration.conftest import ExchangeProcess, collect, wait_for

SYMBOL = "BTCUSD"
MORE = "orders_per_ten_seconds = 100000\nweight_per_minute = 1000000"
LIMIT = {"symbol": SYMBOL, "type": "LIMIT", "timeInForce": "GTC"}
OCO = {
    "symbol": SYMBOL,
    "side": "SELL",
    "quantity": "2",
    "aboveType": "LIMIT_MAKER",
    "abovePrice": "120",
    "belowType": "STOP_LOSS_LIMIT",
    "belowStopPrice": "90",
    "belowPrice": "89",
    "belowTimeInForce": "GTC",
}
WORKING = {
    "symbol": SYMBOL,
    "workingType": "LIMIT",
    "workingSide": "BUY",
    "workingPrice": "95",
    "workingQuantity": "2",
    "workingTimeInForce": "GTC",
}
PENDING = {
    "pendingType": "LIMIT",
    "pendingSide": "SELL",
    "pendingPrice": "130",
    "pendingQuantity": "1",
    "pendingTimeInForce": "GTC",
}
PAIR = {
    "pendingSide": "SELL",
    "pendingQuantity": "2",
    "pendingAboveType": "TAKE_PROFIT",
    "pendingAboveStopPrice": "150",
    "pendingBelowType": "STOP_LOSS",
    "pendingBelowStopPrice": "80",
}


@pytest.fixture(autouse=True)
def last_price_100(client: Callable[..., Client]) -> Iterator[None]:
    """Each test begins at a last price of 100, and ends without orders."""
    alice, bob = client(1), client(2)
    bob.good("POST", "order", **LIMIT, side="SELL", price="100", quantity="1")
    alice.good("POST", "order", **LIMIT, side="BUY", price="100", quantity="1")
    yield
    for each in (alice, bob):
        if each.good("GET", "openOrders"):
            assert each.good("DELETE", "openOrders", symbol=SYMBOL)


def enter(client: Client, kind: str, **parameters: Any) -> Any:
    return client.good("POST", f"orderList/{kind}", **parameters)


def statuses(client: Client, made: dict[str, Any]) -> list[str]:
    """Of the orders of a list."""
    found = client.good("GET", "orderList", orderListId=made["orderListId"])
    return [
        client.good("GET", "order", symbol=SYMBOL, orderId=order["orderId"])["status"]
        for order in found["orders"]
    ]


# ---- one cancels the other


def test_a_pair_is_entered_and_seen(alice: Client) -> None:
    response = alice.signed(
        "POST",
        "orderList/oco",
        **OCO,
        listClientOrderId="pair",
        aboveClientOrderId="up",
        belowClientOrderId="down",
    )
    assert response.status == 200 and response.headers["x-mbx-order-count-1d"].isdecimal()
    made = response.body
    reports = made.pop("orderReports")
    assert made == {
        "orderListId": made["orderListId"],
        "contingencyType": "OCO",
        "listStatusType": "EXEC_STARTED",
        "listOrderStatus": "EXECUTING",
        "listClientOrderId": "pair",
        "transactionTime": reports[0]["transactTime"],
        "symbol": SYMBOL,
        "orders": [
            {"symbol": SYMBOL, "orderId": report["orderId"], "clientOrderId": name}
            for report, name in zip(reports, ("up", "down"), strict=True)
        ],
    }
    assert [(r["type"], r["price"], r["status"], r["side"]) for r in reports] == [
        ("LIMIT_MAKER", "120.00000000", "NEW", "SELL"),
        ("STOP_LOSS_LIMIT", "89.00000000", "NEW", "SELL"),
    ]
    assert reports[1]["stopPrice"] == "90.00000000"
    assert {report["orderListId"] for report in reports} == {made["orderListId"]}
    for name in ({"orderListId": made["orderListId"]}, {"origClientOrderId": "pair"}):
        assert alice.good("GET", "orderList", **name) == made
    assert alice.good("GET", "openOrderList") == [made]
    for order in alice.good("GET", "openOrders"):
        assert order["orderListId"] == made["orderListId"]
    # What is held for two is what is held for one.
    (btc,) = [row for row in alice.good("GET", "account")["balances"] if row["asset"] == "BTC"]
    assert btc["locked"] == "2.00000000"


def test_of_a_pair_a_fill_of_one_cancels_the_other(alice: Client, bob: Client) -> None:
    made = enter(alice, "oco", **OCO)
    bob.good("POST", "order", **LIMIT, side="BUY", price="120", quantity="2")
    assert statuses(alice, made) == ["FILLED", "CANCELED"]
    found = alice.good("GET", "orderList", orderListId=made["orderListId"])
    assert (found["listOrderStatus"], found["listStatusType"]) == ("ALL_DONE", "ALL_DONE")
    assert alice.good("GET", "openOrderList") == []
    (fill,) = alice.good("GET", "myTrades", symbol=SYMBOL, limit=1)
    assert fill["orderListId"] == made["orderListId"]


def test_a_pair_may_buy_and_take_its_profit_by_a_trigger(alice: Client) -> None:
    made = enter(
        alice,
        "oco",
        symbol=SYMBOL,
        side="BUY",
        quantity="1",
        aboveType="STOP_LOSS",
        aboveTrailingDelta="100",
        aboveStopPrice="110",
        belowType="TAKE_PROFIT_LIMIT",
        belowStopPrice="90",
        belowPrice="91",
        belowTimeInForce="GTC",
        belowIcebergQty="0.1",
        newOrderRespType="FULL",
    )
    reports = made["orderReports"]
    assert [report["type"] for report in reports] == ["TAKE_PROFIT_LIMIT", "STOP_LOSS"]
    assert [report["fills"] for report in reports] == [[], []]
    found = alice.good("GET", "openOrders")
    assert found[0]["icebergQty"] == "0.10000000"
    assert (found[1]["trailingDelta"], found[1]["stopPrice"]) == ("100", "110.00000000")


def test_a_list_is_canceled_whole_also_by_one_of_its_orders(alice: Client, bob: Client) -> None:
    made = enter(alice, "oco", **OCO, listClientOrderId="gone")
    name = {"symbol": SYMBOL, "listClientOrderId": "gone"}
    assert bob.signed("DELETE", "orderList", **name).body["code"] == -2013
    assert alice.signed("DELETE", "orderList", **name | {"symbol": "BTCUSD2"}).body["code"] == -2011
    done = alice.good("DELETE", "orderList", **name, newClientOrderId="the-end")
    assert (done["listOrderStatus"], done["orderListId"]) == ("ALL_DONE", made["orderListId"])
    assert [(r["status"], r["clientOrderId"]) for r in done["orderReports"]] == [
        ("CANCELED", "the-end"),
        ("CANCELED", "the-end"),
    ]
    assert alice.good("GET", "openOrders") == []
    again = alice.signed("DELETE", "orderList", **name)
    assert again.body == {"code": -2011, "msg": "Unknown order sent."}
    other = enter(alice, "oco", **OCO)
    alice.good("DELETE", "order", symbol=SYMBOL, orderId=other["orders"][1]["orderId"])
    assert statuses(alice, other) == ["CANCELED", "CANCELED"]


# ---- one triggers another


def test_a_pending_order_follows_when_the_working_one_is_filled(alice: Client, bob: Client) -> None:
    made = enter(alice, "oto", **WORKING, **PENDING, pendingClientOrderId="later")
    assert made["contingencyType"] == "OTO"
    assert [report["status"] for report in made["orderReports"]] == ["NEW", "PENDING_NEW"]
    pending = made["orders"][1]["orderId"]
    shown = {order["orderId"]: order for order in alice.good("GET", "openOrders")}
    assert (shown[pending]["status"], shown[pending]["isWorking"]) == ("PENDING_NEW", False)
    bob.good("POST", "order", **LIMIT, side="SELL", price="95", quantity="2")

    def placed() -> Any:
        return statuses(alice, made) == ["FILLED", "NEW"]

    wait_for(placed, "the pending order is placed")
    # It has another id now, and is found by each of its names.
    found = alice.good("GET", "order", symbol=SYMBOL, orderId=pending)
    assert found == alice.good("GET", "order", symbol=SYMBOL, origClientOrderId="later")
    assert found["orderId"] > pending and found["orderListId"] == made["orderListId"]
    ids = [order["orderId"] for order in alice.good("GET", "allOrders", symbol=SYMBOL)]
    assert found["orderId"] in ids and pending not in ids
    lists = alice.good("GET", "openOrderList")
    assert [order["orderId"] for order in lists[0]["orders"]] == [
        made["orders"][0]["orderId"],
        found["orderId"],
    ]
    bob.good("POST", "order", **LIMIT, side="BUY", price="130", quantity="1")
    assert alice.good("GET", "openOrderList") == []


def test_a_pending_pair_follows_and_is_canceled(alice: Client, bob: Client) -> None:
    made = enter(alice, "otoco", **WORKING, **PAIR)
    assert [report["status"] for report in made["orderReports"]] == [
        "NEW",
        "PENDING_NEW",
        "PENDING_NEW",
    ]
    assert [report["type"] for report in made["orderReports"][1:]] == ["TAKE_PROFIT", "STOP_LOSS"]
    bob.good("POST", "order", **LIMIT, side="SELL", price="95", quantity="2")
    wait_for(
        lambda: statuses(alice, made) == ["FILLED", "NEW", "NEW"], "the pending pair is placed"
    )
    done = alice.good("DELETE", "orderList", symbol=SYMBOL, orderListId=made["orderListId"])
    assert [report["status"] for report in done["orderReports"]] == [
        "FILLED",
        "CANCELED",
        "CANCELED",
    ]
    assert alice.good("GET", "openOrders") == []


def test_a_list_that_waits_is_canceled_with_what_is_pending(alice: Client) -> None:
    made = enter(alice, "otoco", **WORKING, **PAIR)
    done = alice.good("DELETE", "orderList", symbol=SYMBOL, orderListId=made["orderListId"])
    assert {report["status"] for report in done["orderReports"]} == {"CANCELED"}
    assert alice.good("GET", "openOrders") == []
    other = enter(alice, "oto", **WORKING, **PENDING)
    alice.good("DELETE", "order", symbol=SYMBOL, orderId=other["orders"][0]["orderId"])
    wait_for(lambda: statuses(alice, other) == ["CANCELED"] * 2, "the pending one is canceled")


def test_a_working_order_that_trades_at_once_says_so(alice: Client, bob: Client) -> None:
    bob.good("POST", "order", **LIMIT, side="SELL", price="95", quantity="2")
    made = enter(alice, "oto", **WORKING, **PENDING, newOrderRespType="FULL")
    working, pending = made["orderReports"]
    assert (working["status"], len(working["fills"])) == ("FILLED", 1)
    assert pending["status"] == "PENDING_NEW"
    wait_for(lambda: statuses(alice, made) == ["FILLED", "NEW"], "the pending order is placed")


# ---- what was


def test_lists_are_found_by_id_and_by_time(alice: Client, bob: Client) -> None:
    before = [made["orderListId"] for made in alice.good("GET", "allOrderList")]
    made = []
    for _ in range(3):
        made.append(enter(alice, "oco", **OCO))
        alice.good("DELETE", "orderList", symbol=SYMBOL, orderListId=made[-1]["orderListId"])
    ids = [each["orderListId"] for each in made]

    def asked(**more: Any) -> list[int]:
        return [each["orderListId"] for each in alice.good("GET", "allOrderList", **more)]

    assert asked() == before + ids
    assert asked(limit=2) == ids[1:]
    assert asked(fromId=ids[1]) == ids[1:]
    assert asked(fromId=ids[0] + 1, limit=1) == ids[1:2]
    times = [each["transactionTime"] for each in made]
    since = [number for number, at in zip(ids, times, strict=True) if at >= times[1]]
    assert asked(startTime=times[1]) == since
    assert asked(startTime=times[2] + 3_600_000) == []
    assert asked(endTime=times[2])[-3:] == ids
    assert asked(endTime=times[0] - 3_600_000) == []
    assert {each["listOrderStatus"] for each in alice.good("GET", "allOrderList")} == {"ALL_DONE"}
    assert ids[0] not in [each["orderListId"] for each in bob.good("GET", "allOrderList")]
    hidden = bob.signed("GET", "orderList", orderListId=ids[0])
    nothing = bob.signed("GET", "orderList", orderListId=10**12)
    assert hidden.body == nothing.body == {"code": -2013, "msg": "Order list does not exist."}


def test_lists_of_other_doors_are_seen(exchange: ExchangeProcess, alice: Client) -> None:
    with exchange.connect("alice") as session:
        profit, stop = {"price": "120"}, {"trigger": "80"}
        position = session.oco("BTC/USD", "sell", "1", profit=profit, stop=stop)
        collect(session, position + 2)
    # A bot is told before it is on the disk.
    (found,) = wait_for(lambda: alice.good("GET", "openOrderList"), "the list is there")
    assert found["listClientOrderId"] == "" and len(found["orders"]) == 2
    done = alice.good("DELETE", "orderList", symbol=SYMBOL, orderListId=found["orderListId"])
    assert done["listOrderStatus"] == "ALL_DONE"


# ---- what is none


@pytest.mark.parametrize(
    ("kind", "change", "code", "text"),
    [
        ("oco", {"aboveType": None}, -1102, "'aboveType'"),
        ("oco", {"abovePrice": None}, -1102, "'abovePrice'"),
        ("oco", {"quantity": None}, -1102, "'quantity'"),
        ("oco", {"belowStopPrice": None}, -1102, "'belowStopPrice' or 'belowTrailingDelta'"),
        ("oco", {"belowTimeInForce": None}, -1102, "'belowTimeInForce'"),
        ("oco", {"aboveStopPrice": "130"}, -1106, "'aboveStopPrice'"),
        ("oco", {"abovePrice": "1e3"}, -1100, "'abovePrice'"),
        ("oco", {"abovePrice": "120.001"}, -1013, "PRICE_FILTER"),
        ("oco", {"quantity": "0.00001"}, -1013, "LOT_SIZE"),
        ("oco", {"aboveType": "LIMIT"}, -1130, "'aboveType'"),
        ("oco", {"side": "BUY"}, -2010, "relationship"),
        ("oco", {"abovePrice": "85"}, -2010, "relationship"),
        ("oco", {"belowStopPrice": "110"}, -2010, "trigger immediately"),
        ("oto", {"workingPrice": "1000000", "workingQuantity": "10000"}, -2010, "insufficient"),
        ("oco", {"symbol": "XRPUSD"}, -1121, "Invalid symbol."),
        ("oto", {"workingType": "MARKET"}, -1130, "'workingType'"),
        ("oto", {"workingPrice": None}, -1102, "'workingPrice'"),
        ("oto", {"pendingPrice": None}, -1102, "'pendingPrice'"),
        ("oto", {"pendingSide": "HOLD"}, -1130, "'pendingSide'"),
        ("oto", {"pendingQuantity": "0"}, -1013, "LOT_SIZE"),
        ("otoco", {"pendingBelowType": "LIMIT_MAKER"}, -1102, "'pendingBelowPrice'"),
        ("otoco", {"pendingBelowStopPrice": "160"}, -2010, "relationship"),
    ],
)
def test_what_is_no_list_is_refused_with_its_reason(
    kind: str, change: dict[str, Any], code: int, text: str, alice: Client
) -> None:
    whole = {"oco": OCO, "oto": WORKING | PENDING, "otoco": WORKING | PAIR}[kind]
    response = alice.signed("POST", f"orderList/{kind}", **whole | change)
    assert (response.status, response.body["code"]) == (400, code), response
    assert text in response.body["msg"]
    assert alice.good("GET", "openOrders") == []


@pytest.mark.parametrize(
    ("method", "path", "parameters", "code"),
    [
        ("GET", "orderList", {}, -1102),
        ("DELETE", "orderList", {"symbol": SYMBOL}, -1102),
        ("DELETE", "orderList", {"orderListId": 1}, -1102),
        ("DELETE", "orderList", {"symbol": SYMBOL, "orderListId": 1}, -2013),
        ("GET", "allOrderList", {"fromId": 1, "startTime": 1}, -1128),
        ("GET", "allOrderList", {"startTime": 1, "endTime": 2 * 86_400_000}, -1127),
    ],
)
def test_what_cannot_be_asked_is_refused(
    method: str, path: str, parameters: dict[str, Any], code: int, alice: Client
) -> None:
    response = alice.signed(method, path, **parameters)
    assert (response.status, response.body["code"]) == (400, code), response
