"""ccxt trades here when nothing but its base URLs is changed."""

import subprocess
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from matchbox.gateway.keys import Key, Permission
from tests.gateway.client import Client
from tests.integration.conftest import ExchangeProcess, wait_for
from tests.integration.test_operators import command

ccxt: Any = pytest.importorskip("ccxt")
MORE = "orders_per_ten_seconds = 100000\nweight_per_minute = 1000000"
MARKET = "BTC/USD"


@pytest.fixture(scope="module")
def one_market(exchange: ExchangeProcess) -> ExchangeProcess:
    """ccxt has one market of a pair of assets."""
    done: subprocess.CompletedProcess[str] = command(
        exchange, "market", "remove", "EXCHANGE", "BTC/USD.2"
    )
    assert done.returncode == 0, done.stderr
    return exchange


@pytest.fixture
def trader(
    one_market: ExchangeProcess, address: str, make_key: Callable[..., Key]
) -> Iterator[Callable[[int], Any]]:
    """trader(account): ccxt with a key of the account."""
    made = []

    def make(account: int) -> Any:
        key = make_key(account)
        found = ccxt.binance({"apiKey": key.id, "secret": key.secret})
        api = found.urls["api"]
        for name, url in api.items():
            if isinstance(url, str):
                path = url.split("/", 3)[3] if url.count("/") > 2 else ""
                api[name] = f"http://{address}/{path}"
        made.append(found)
        return found

    yield make
    for each in made:
        for order in each.fetch_open_orders(MARKET):
            each.cancel_order(order["id"], MARKET)


def test_markets_are_loaded_with_steps_and_limits(trader: Callable[[int], Any]) -> None:
    alice = trader(1)
    markets = alice.load_markets()
    assert list(markets) == [MARKET]
    market = markets[MARKET]
    assert (market["spot"], market["active"], market["id"]) == (True, True, "BTCUSD")
    assert market["precision"]["price"] == 0.01 and market["precision"]["amount"] == 0.0001
    assert set(alice.currencies) >= {"BTC", "USD"}


def test_two_accounts_place_query_cancel_and_trade(trader: Callable[[int], Any]) -> None:
    alice, bob = trader(1), trader(2)
    alice.load_markets()
    before = alice.fetch_balance()
    order = alice.create_order(MARKET, "limit", "buy", 2, 100.5)
    assert order["status"] == "open" and order["id"].isdecimal()
    found = alice.fetch_order(order["id"], MARKET)
    assert (found["price"], found["amount"], found["filled"]) == (100.5, 2, 0)
    assert [each["id"] for each in alice.fetch_open_orders(MARKET)] == [order["id"]]
    held = alice.fetch_balance()
    assert Decimal(str(held["used"]["USD"])) == Decimal("201")

    assert bob.fetch_order_book(MARKET)["bids"] == [[100.5, 2]]
    assert bob.fetch_bids_asks([MARKET])[MARKET]["bid"] == 100.5
    sold = bob.create_order(MARKET, "market", "sell", 0.5)
    assert (sold["status"], sold["filled"], sold["average"]) == ("closed", 0.5, 100.5)
    assert [trade["amount"] for trade in sold["trades"]] == [0.5]
    assert bob.fetch_last_prices([MARKET])[MARKET]["price"] == 100.5
    partly = alice.fetch_order(order["id"], MARKET)
    assert (partly["status"], partly["filled"], partly["cost"]) == ("open", 0.5, 50.25)

    ended = alice.cancel_order(order["id"], MARKET)
    assert ended["status"] == "canceled"
    after = alice.fetch_balance()
    assert after["used"]["USD"] == 0
    assert after["total"]["BTC"] - before["total"]["BTC"] == pytest.approx(0.5)
    assert before["total"]["USD"] - after["total"]["USD"] == pytest.approx(50.25)


def test_errors_are_those_that_ccxt_knows(trader: Callable[[int], Any]) -> None:
    alice, bob = trader(1), trader(2)
    with pytest.raises(ccxt.InsufficientFunds):
        alice.create_order(MARKET, "limit", "buy", 10_000, 1_000_000)
    with pytest.raises(ccxt.OrderNotFound):
        alice.cancel_order("1", MARKET)
    with pytest.raises(ccxt.OrderNotFound):
        alice.fetch_order("1", MARKET)
    bob.create_order(MARKET, "limit", "sell", 1, 200)
    with pytest.raises(ccxt.OrderImmediatelyFillable):
        alice.create_order(MARKET, "limit", "buy", 1, 200, {"postOnly": True})
    alice.secret, secret = "x" * 64, alice.secret
    with pytest.raises(ccxt.AuthenticationError):
        alice.fetch_balance()
    alice.secret = secret


def test_stops_and_cancel_all_work(trader: Callable[[int], Any], client: Any) -> None:
    alice, bob = trader(1), trader(2)
    bob.create_order(MARKET, "limit", "sell", 1, 105)
    alice.create_order(MARKET, "market", "buy", 1)  # the last price is 105
    stop = alice.create_order(MARKET, "limit", "sell", 1, 94, {"stopLossPrice": 95})
    plain = alice.create_order(MARKET, "limit", "buy", 1, 90)
    found = {order["id"]: order for order in alice.fetch_open_orders(MARKET)}
    assert set(found) == {stop["id"], plain["id"]}
    assert found[stop["id"]]["triggerPrice"] == 95
    assert alice.create_market_buy_order_with_cost(MARKET, 1)["status"] in ("closed", "expired")
    alice.cancel_all_orders(MARKET)
    assert alice.fetch_open_orders(MARKET) == []
    small: Client = client(1)
    assert small.good("GET", "openOrders") == []


def test_what_was_is_found_again(trader: Callable[[int], Any]) -> None:
    alice, bob = trader(1), trader(2)
    for each in (alice, bob):
        each.load_markets()
    since = alice.fetch_time()
    bought = alice.create_order(MARKET, "limit", "buy", 2, 100)
    sold = [bob.create_order(MARKET, "market", "sell", 0.5) for _ in range(2)]
    canceled = alice.create_order(MARKET, "limit", "buy", 1, 90)
    alice.cancel_order(canceled["id"], MARKET)
    found = {order["id"]: order for order in alice.fetch_orders(MARKET, since - 60_000)}
    assert found[bought["id"]]["filled"] == 1 and found[bought["id"]]["status"] == "open"
    assert found[canceled["id"]]["status"] == "canceled"
    closed = [order["id"] for order in bob.fetch_closed_orders(MARKET)]
    assert closed[-2:] == [order["id"] for order in sold]
    assert canceled["id"] in [order["id"] for order in alice.fetch_canceled_orders(MARKET)]
    mine = alice.fetch_my_trades(MARKET, since - 60_000)
    assert [(trade["amount"], trade["takerOrMaker"], trade["side"]) for trade in mine[-2:]] == [
        (0.5, "maker", "buy"),
        (0.5, "maker", "buy"),
    ]
    assert [each["id"] for each in alice.fetch_order_trades(bought["id"], MARKET)] == [
        each["id"] for each in mine[-2:]
    ]


def test_market_data_is_what_was_traded(trader: Callable[[int], Any]) -> None:
    alice, bob = trader(1), trader(2)
    alice.create_order(MARKET, "limit", "buy", 1, 101)
    sold = bob.create_order(MARKET, "limit", "sell", 1, 101)
    wait_for(
        lambda: alice.fetch_trades(MARKET)[-1]["id"] == sold["trades"][0]["id"], "it was traded"
    )
    trade = alice.fetch_trades(MARKET, limit=1)[0]
    assert (trade["price"], trade["amount"], trade["side"]) == (101, 1, "sell")
    assert alice.fetch_trades(MARKET, trade["timestamp"])[-1] == trade
    alice.options["fetchTradesMethod"] = "publicGetTrades"
    plain = alice.fetch_trades(MARKET, limit=1)[0]
    assert (plain["id"], plain["cost"]) == (trade["id"], 101)
    del alice.options["fetchTradesMethod"]
    for timeframe in alice.timeframes:
        *_, (opened, _open, high, low, close, volume) = alice.fetch_ohlcv(MARKET, timeframe)
        assert low <= close <= high and close == 101
        assert volume >= 0 and opened <= alice.milliseconds()
    hours = alice.fetch_ohlcv(MARKET, "1d", alice.parse8601("2020-01-01T00:00:00Z"), 10)
    assert hours[-1][4] == 101
    alice.options["defaultType"] = "spot"
    ticker = alice.fetch_ticker(MARKET)
    assert (ticker["last"], ticker["close"]) == (101, 101)
    assert ticker["baseVolume"] >= 1 and ticker["high"] >= 101
    assert alice.fetch_tickers()[MARKET]["last"] == 101
    assert alice.fetch_tickers([MARKET], {"method": "publicGetTicker"})[MARKET]["last"] == 101


def test_an_order_is_edited(trader: Callable[[int], Any]) -> None:
    alice = trader(1)
    alice.load_markets()
    order = alice.create_order(MARKET, "limit", "buy", 2, 90)
    edited = alice.edit_order(order["id"], MARKET, "limit", "buy", 3, 91)
    assert (edited["status"], edited["amount"], edited["price"]) == ("open", 3, 91)
    assert [each["id"] for each in alice.fetch_open_orders(MARKET)] == [edited["id"]]
    with pytest.raises(ccxt.ExchangeError):
        alice.edit_order(order["id"], MARKET, "limit", "buy", 3, 92)


def test_money_is_told_and_withdrawn(
    trader: Callable[[int], Any], address: str, make_key: Callable[..., Key]
) -> None:
    alice = trader(1)
    assert alice.fetch_deposits("BTC")[-1]["status"] == "ok"
    key = make_key(1, permissions=(Permission.READ, Permission.WITHDRAW))
    alice.apiKey, alice.secret = key.id, key.secret
    sent = alice.withdraw("BTC", 5, "DE-1")
    (found,) = alice.fetch_withdrawals("BTC")
    assert (found["id"], found["status"], found["amount"]) == (sent["id"], "pending", 5)
    assert found["address"] == "DE-1"
    assert alice.fetch_trading_fee(MARKET)["maker"] == 0
