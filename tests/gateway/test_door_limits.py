"""Who asks too much is told when to come back, by whichever worker; who goes on is banned."""

from collections.abc import Callable

from tests.gateway.client import Client

MORE = "orders_per_ten_seconds = 5\nweight_per_minute = 3000"
ORDER = {
    "symbol": "BTCUSD",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "1",
    "price": "10",
}


def test_too_many_orders_and_too_much_weight_say_when_to_come_back(
    address: str, client: Callable[..., Client]
) -> None:
    clients = [client(2) for _ in range(4)]  # connections of both workers
    # Two spans of ten seconds at most.
    answers = [clients[n % 4].signed("POST", "order", **ORDER) for n in range(12)]
    late = [answer for answer in answers if answer.status == 429]
    assert late and late[0].body["code"] == -1015
    assert 1 <= int(late[0].headers["retry-after"]) <= 10
    placed = sum(answer.status == 200 for answer in answers)
    assert placed + len(late) == 12 and placed <= 10
    assert len(clients[0].good("GET", "openOrders", symbol="BTCUSD")) == placed
    for number in range(400):
        answer = clients[number % 4].get("exchangeInfo")
        if answer.status != 200:
            break
    assert (answer.status, answer.body["code"]) == (429, -1003)
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    for number in range(600):
        answer = clients[number % 4].get("exchangeInfo", symbol="BTCUSD")
        if answer.status == 418:
            break
    assert (answer.status, answer.body["code"]) == (418, -1003)
    assert 60 < int(answer.headers["retry-after"]) <= 120
    fresh = Client(address)
    assert fresh.get("ping").status == 418
    fresh.close()
