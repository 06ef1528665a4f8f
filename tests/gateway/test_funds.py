"""Deposits, withdrawals, commissions, counters of orders and what a key may do, over REST."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from matchbox.gateway.destinations import Destination, Destinations
from matchbox.gateway.keys import Permission
from tests.gateway.client import Client, Response
from tests.integration.conftest import ExchangeProcess, collect, wait_for
from tests.integration.test_operators import command, good

MORE = "orders_per_ten_seconds = 100000\nweight_per_minute = 1000000"
READ, TRADE, WITHDRAW = Permission.READ, Permission.TRADE, Permission.WITHDRAW
WANTED = {"coin": "USD", "amount": "12.5", "address": "DE-1", "addressTag": "memo"}


def ask(client: Client, method: str, path: str, **parameters: Any) -> Response:
    """Signed, anywhere."""
    assert client.key is not None
    target = f"{path}?{client.sign(parameters)}"
    return client.send(method, target, headers={"X-MBX-APIKEY": client.key.id})


def capital(client: Client, path: str, **parameters: Any) -> Any:
    response = ask(client, "GET", f"/sapi/v1/capital/{path}", **parameters)
    assert response.status == 200, response
    return response.body


def apply(client: Client, **parameters: Any) -> Response:
    return ask(client, "POST", "/sapi/v1/capital/withdraw/apply", **parameters)


@pytest.fixture
def alice(client: Callable[..., Client]) -> Client:
    """She may withdraw."""
    return client(1, permissions=(READ, TRADE, WITHDRAW))


def usd(client: Client) -> tuple[Decimal, Decimal]:
    (row,) = [row for row in client.good("GET", "account")["balances"] if row["asset"] == "USD"]
    return Decimal(row["free"]), Decimal(row["locked"])


def test_deposits_are_told_newest_first(exchange: ExchangeProcess, alice: Client) -> None:
    before = len(capital(alice, "deposit/hisrec"))
    with exchange.connect("", operator=True) as operator:
        for number in range(3):
            reference = f"wire-{number}"
            collect(operator, operator.deposit(1, "USD", f"{number + 1}.25", reference))
        collect(operator, operator.deposit(2, "USD", "9", "somebody-elses"))
        collect(operator, operator.deposit(1, "BTC", "0.5", "coins"))

    def there() -> Any:
        # An operator is told before it is on the disk.
        found = capital(alice, "deposit/hisrec")
        return found if len(found) == before + 4 else None

    found = wait_for(there, "all deposits are there")
    assert [(row["coin"], row["amount"], row["txId"]) for row in found[:4]] == [
        ("BTC", "0.50000000", "coins"),
        ("USD", "3.25000000", "wire-2"),
        ("USD", "2.25000000", "wire-1"),
        ("USD", "1.25000000", "wire-0"),
    ]
    assert {row["status"] for row in found} == {1}
    assert capital(alice, "deposit/hisrec", coin="USD", limit=1, offset=1) == found[2:3]
    assert capital(alice, "deposit/hisrec", status="0") == []
    at = found[1]["insertTime"]
    assert found[0] in capital(alice, "deposit/hisrec", startTime=at)
    assert capital(alice, "deposit/hisrec", startTime=at + 3_600_000) == []
    assert capital(alice, "deposit/hisrec", endTime=at - 3_600_000) == []


def test_a_withdrawal_holds_its_amount_until_it_is_settled_or_canceled(
    exchange: ExchangeProcess, alice: Client
) -> None:
    free, held = usd(alice)
    sent, canceled = (
        apply(alice, **WANTED, withdrawOrderId=name).body["id"] for name in ("one", "two")
    )
    assert usd(alice) == (free - 25, held + 25)
    waiting = capital(alice, "withdraw/history")
    assert [(row["id"], row["status"], row["withdrawOrderId"]) for row in waiting[:2]] == [
        (canceled, 4, "two"),
        (sent, 4, "one"),
    ]
    assert waiting[0]["address"] == "DE-1" and waiting[0]["addressTag"] == "memo"
    assert (waiting[0]["amount"], waiting[0]["network"]) == ("12.50000000", "USD")
    listed = command(exchange, "withdraw", "list", "EXCHANGE", "--json").stdout.splitlines()
    first, second = (json.loads(line) for line in listed[-2:])
    assert (first["reference"], second["reference"]) == (sent, canceled)
    assert (first["account"], first["amount"], first["asset"]) == (1, "12.50000000", "USD")
    assert (first["address"], first["tag"]) == ("DE-1", "memo")
    assert f"{sent:<36} DE-1 memo" in command(exchange, "withdraw", "list", "EXCHANGE").stdout
    settle = ("withdraw", "settle", "EXCHANGE", "alice", "--reference", sent, "--note", "tx-77")
    good(exchange, *settle)
    good(exchange, "withdraw", "cancel", "EXCHANGE", "alice", "--reference", canceled)
    wait_for(
        lambda: capital(alice, "withdraw/history")[0]["status"] == 1, "both have come to their end"
    )
    ended = capital(alice, "withdraw/history")
    assert sent not in command(exchange, "withdraw", "list", "EXCHANGE").stdout
    assert usd(alice) == (free - Decimal("12.5"), held)
    assert [(row["status"], row["txId"]) for row in ended[:2]] == [(1, ""), (6, "tx-77")]
    assert all(row["completeTime"] for row in ended[:2])
    assert capital(alice, "withdraw/history", status="6") == ended[1:2]
    assert capital(alice, "withdraw/history", withdrawOrderId="two") == ended[:1]
    assert capital(alice, "withdraw/history", coin="BTC") == []


def test_the_same_withdrawal_is_not_taken_twice(client: Callable[..., Client]) -> None:
    alice, bob = (client(n, permissions=(READ, WITHDRAW)) for n in (1, 2))
    first = apply(alice, **WANTED, withdrawOrderId="once")
    assert first.status == 200
    again = apply(alice, **{**WANTED, "address": "elsewhere"}, withdrawOrderId="once")
    assert again.body == {"code": -2010, "msg": "Duplicate withdrawal sent."}
    (found,) = capital(alice, "withdraw/history", withdrawOrderId="once")
    assert found["address"] == "DE-1"
    # What it is called is the account's own affair.
    his = apply(bob, **WANTED, withdrawOrderId="once")
    assert his.status == 200 and his.body["id"] != first.body["id"]
    unnamed = {apply(alice, **WANTED).body["id"] for _ in range(2)}
    assert len(unnamed) == 2


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"coin": None}, -1102),
        ({"coin": "XRP"}, -1130),
        ({"address": None}, -1102),
        ({"address": "two words"}, -1100),
        ({"amount": "0"}, -1130),
        ({"amount": "1e3"}, -1100),
        ({"amount": "0.000000001"}, -1111),
        ({"amount": "99999999999"}, -1130),
        ({"amount": "9000000000"}, -2010),
        ({"network": "ETH"}, -1130),
    ],
)
def test_what_is_no_withdrawal_is_refused(change: dict[str, Any], code: int, alice: Client) -> None:
    before = usd(alice)
    response = apply(alice, **WANTED | change)
    assert (response.status, response.body["code"]) == (400, code), response
    assert usd(alice) == before


def test_a_withdrawal_needs_a_key_for_it(client: Callable[..., Client]) -> None:
    response = apply(client(1), **WANTED)
    assert (response.status, response.body["code"]) == (401, -2015)


def test_destinations_are_kept_by_what_they_say(tmp_path: Any) -> None:
    kept = Destinations(tmp_path)
    one, other = Destination("A", "tag"), Destination("B")
    digest = kept.put(1, one)
    assert kept.put(1, one) == digest != kept.put(1, other)
    kept.close()
    again = Destinations(tmp_path, writable=False)
    assert again.get(1, digest) == one
    assert again.get(2, digest) is None
    again.close()


def test_commissions_counters_and_permissions_are_told(
    exchange: ExchangeProcess, alice: Client
) -> None:
    with exchange.connect("", operator=True) as operator:
        collect(operator, operator.set_fees(0, maker_fee_ppm=150, taker_fee_ppm=400))
        body = alice.good("GET", "account/commission", symbol="BTCUSD")
        collect(operator, operator.set_fees(0, maker_fee_ppm=0, taker_fee_ppm=0))
    assert body["standardCommission"] == {
        "maker": "0.00015000",
        "taker": "0.00040000",
        "buyer": "0.00000000",
        "seller": "0.00000000",
    }
    assert body["discount"]["enabledForAccount"] is False
    ten, day = alice.good("GET", "rateLimit/order")
    assert (ten["interval"], ten["intervalNum"], ten["limit"]) == ("SECOND", 10, 100_000)
    order = {"symbol": "BTCUSD", "side": "BUY", "type": "LIMIT", "timeInForce": "IOC"}
    alice.good("POST", "order", **order, price="1", quantity="1")
    after = alice.good("GET", "rateLimit/order")
    assert after[1] == day | {"count": day["count"] + 1}
    found = ask(alice, "GET", "/sapi/v1/account/apiRestrictions").body
    assert (found["enableWithdrawals"], found["enableSpotAndMarginTrading"]) == (True, True)
    assert (found["ipRestrict"], found["enableFutures"]) == (False, False)
