"""What an account did, asked over REST: orders that ended, fills; by id, by time, its own only."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.gateway.client import Client
from tests.integration.conftest import ExchangeProcess, collect, wait_for

SYMBOL = "BTCUSD"
MORE = "orders_per_ten_seconds = 100000\nweight_per_minute = 1000000"
ORDER = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
HOUR_MS = 3_600_000


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


def newest(client: Client, **more: Any) -> int:
    """The id of the account's newest order."""
    found = client.good("GET", "allOrders", symbol=SYMBOL, limit=1, **more)
    return int(found[0]["orderId"]) if found else 0


def test_all_orders_has_those_that_ended_as_order_shows_them(alice: Client, bob: Client) -> None:
    before = newest(alice)
    canceled = alice.good("POST", "order", **limit("90", newClientOrderId="first"))
    alice.good("DELETE", "order", symbol=SYMBOL, orderId=canceled["orderId"])
    filled = alice.good("POST", "order", **limit("100"))
    bob.good("POST", "order", **limit("100", "1", "SELL"))
    expired = alice.good("POST", "order", **limit("90", timeInForce="IOC"))
    lives = alice.good("POST", "order", **limit("91", "2"))
    made = [canceled, filled, expired, lives]
    found = alice.good("GET", "allOrders", symbol=SYMBOL, orderId=before + 1)
    assert [order["orderId"] for order in found] == [order["orderId"] for order in made]
    assert [order["status"] for order in found] == ["CANCELED", "FILLED", "EXPIRED", "NEW"]
    for order in found:
        for name in (
            {"orderId": order["orderId"]},
            {"origClientOrderId": order["clientOrderId"]},
        ):
            assert alice.good("GET", "order", symbol=SYMBOL, **name) == order
    assert alice.good("GET", "allOrders", symbol=SYMBOL, limit=2) == found[2:]
    assert alice.good("GET", "allOrders", symbol=SYMBOL, orderId=before + 1, limit=3) == found[:3]
    assert alice.good("GET", "allOrders", symbol=SYMBOL, orderId=lives["orderId"] + 1) == []
    assert alice.good("GET", "allOrders", symbol="BTCUSD2") == []
    others = bob.good("GET", "allOrders", symbol=SYMBOL, orderId=before + 1)
    assert [order["side"] for order in others] == ["SELL"]


def spaced(alice: Client, price: str) -> dict[str, Any]:
    """An order of a later millisecond than all before it."""
    found: dict[str, Any] = {}
    before = newest(alice)
    last = alice.good("GET", "order", symbol=SYMBOL, orderId=before)["time"] if before else 0

    def later() -> bool:
        found.update(alice.good("POST", "order", **limit(price)))
        alice.good("DELETE", "order", symbol=SYMBOL, orderId=found["orderId"])
        return bool(found["transactTime"] > last)

    wait_for(later, "time goes on")
    return found


def test_all_orders_can_be_asked_by_time(alice: Client) -> None:
    made = [spaced(alice, price) for price in ("80", "81", "82", "83")]
    times = [order["transactTime"] for order in made]
    ids = [order["orderId"] for order in made]

    def asked(**more: Any) -> list[int]:
        return [o["orderId"] for o in alice.good("GET", "allOrders", symbol=SYMBOL, **more)]

    assert asked(startTime=times[1]) == ids[1:]
    assert asked(startTime=times[1], limit=1) == ids[1:2]
    assert asked(startTime=times[1], endTime=times[2]) == ids[1:3]
    assert asked(startTime=times[1] + 1, endTime=times[2] - 1) == []
    assert asked(endTime=times[2], limit=2) == ids[1:3]
    assert asked(startTime=times[0], orderId=ids[2]) == ids[2:]
    assert asked(startTime=times[3] + HOUR_MS) == []
    assert asked(endTime=times[0] - HOUR_MS) == []


def test_fills_are_told_to_both_sides_with_role_fee_and_order(
    exchange: ExchangeProcess, alice: Client, bob: Client
) -> None:
    with exchange.connect("", operator=True) as operator:
        collect(operator, operator.set_fees(0, maker_fee_ppm=100, taker_fee_ppm=1000))
        bought = alice.good("POST", "order", **limit("100", "3"))
        sold = bob.good("POST", "order", **limit("99", "2", "SELL"))
        collect(operator, operator.set_fees(0, maker_fee_ppm=0, taker_fee_ppm=0))
    (fill,) = sold["fills"]
    (his,) = bob.good("GET", "myTrades", symbol=SYMBOL, orderId=sold["orderId"])
    assert his == {
        "symbol": SYMBOL,
        "id": fill["tradeId"],
        "orderId": sold["orderId"],
        "orderListId": -1,
        "price": "100.00000000",
        "qty": "2.00000000",
        "quoteQty": "200.00000000",
        "commission": "0.20000000",
        "commissionAsset": "USD",
        "time": sold["transactTime"],
        "isBuyer": False,
        "isMaker": False,
        "isBestMatch": True,
    }
    (hers,) = alice.good("GET", "myTrades", symbol=SYMBOL, orderId=bought["orderId"])
    assert hers == his | {
        "orderId": bought["orderId"],
        "commission": "0.00020000",
        "commissionAsset": "BTC",
        "isBuyer": True,
        "isMaker": True,
    }
    assert alice.good("GET", "myTrades", symbol=SYMBOL, limit=1) == [hers]
    assert alice.good("GET", "myTrades", symbol=SYMBOL, orderId=sold["orderId"]) == []
    assert alice.good("GET", "myTrades", symbol="BTCUSD2") == []


def test_fills_can_be_asked_by_number_by_time_and_by_order(alice: Client, bob: Client) -> None:
    first = alice.good("POST", "order", **limit("50", "10"))
    second = alice.good("POST", "order", **limit("49", "10"))
    sold = [bob.good("POST", "order", **limit("50", "1", "SELL")) for _ in range(3)]
    swept = bob.good("POST", "order", **limit("49", "9", "SELL"))
    ids = [order["fills"][0]["tradeId"] for order in sold]
    ids += [fill["tradeId"] for fill in swept["fills"]]

    def asked(**more: Any) -> list[int]:
        return [fill["id"] for fill in alice.good("GET", "myTrades", symbol=SYMBOL, **more)]

    assert asked(fromId=ids[0]) == ids
    assert asked(fromId=ids[1], limit=2) == ids[1:3]
    assert asked(limit=3) == ids[-3:]
    assert asked(orderId=first["orderId"]) == ids[:4]
    assert asked(orderId=second["orderId"]) == ids[4:]
    assert asked(orderId=first["orderId"], fromId=ids[2]) == ids[2:4]
    at = swept["transactTime"]
    of_time = [f["id"] for f in alice.good("GET", "myTrades", symbol=SYMBOL, fromId=ids[0])
               if f["time"] >= at]  # fmt: skip
    assert of_time[-2:] == ids[3:]
    assert asked(startTime=at) == of_time
    assert asked(startTime=at, endTime=at + HOUR_MS) == of_time
    assert asked(endTime=at)[-len(ids) :] == ids
    assert asked(startTime=at + HOUR_MS) == []


@pytest.mark.parametrize(
    ("path", "parameters", "code"),
    [
        ("allOrders", {"symbol": None}, -1102),
        ("allOrders", {"symbol": "XRPUSD"}, -1121),
        ("allOrders", {"startTime": 1, "endTime": 2 * 86_400_000}, -1127),
        ("allOrders", {"startTime": 2, "endTime": 1}, -1128),
        ("allOrders", {"startTime": "yesterday"}, -1100),
        ("allOrders", {"limit": 0}, -1130),
        ("myTrades", {"startTime": 1, "endTime": 2 * 86_400_000}, -1127),
        ("myTrades", {"startTime": 1, "fromId": 1}, -1128),
        ("myTrades", {"startTime": 1, "orderId": 1}, -1128),
        ("myTrades", {"fromId": "-1"}, -1100),
    ],
)
def test_what_cannot_be_asked_is_refused(
    alice: Client, path: str, parameters: dict[str, Any], code: int
) -> None:
    response = alice.signed("GET", path, **{"symbol": SYMBOL, **parameters})
    assert (response.status, response.body["code"]) == (400, code), response


def test_who_fills_finds_the_fill_whichever_worker_is_asked(
    client: Callable[..., Client],
) -> None:
    makers, takers = [client(1) for _ in range(4)], [client(2) for _ in range(4)]
    for number in range(8):
        bought = makers[number % 4].good("POST", "order", **limit("100"))
        sold = takers[number % 4].good("POST", "order", **limit("100", "1", "SELL"))
        maker, taker = makers[(number + 1) % 4], takers[(number + 1) % 4]
        trade = sold["fills"][0]["tradeId"]
        assert maker.good("GET", "myTrades", symbol=SYMBOL)[-1]["id"] == trade
        assert taker.good("GET", "myTrades", symbol=SYMBOL)[-1]["id"] == trade
        found = maker.good("GET", "allOrders", symbol=SYMBOL)[-1]
        assert (found["orderId"], found["status"]) == (bought["orderId"], "FILLED")


def test_a_trade_with_oneself_has_two_fills(alice: Client) -> None:
    alice.good("POST", "order", **limit("100"))
    sold = alice.good("POST", "order", **limit("100", "1", "SELL"))
    trade = sold["fills"][0]["tradeId"]
    found = alice.good("GET", "myTrades", symbol=SYMBOL, fromId=trade)
    assert [(each["id"], each["isMaker"], each["isBuyer"]) for each in found] == [
        (trade, True, True),
        (trade, False, False),
    ]
