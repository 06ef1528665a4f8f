"""ccxt's WebSocket side listens here when nothing but its base URLs is changed."""

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from matchbox.gateway.keys import Key
from tests.gateway.client import Client
from tests.integration.conftest import DEADLINE_S, ExchangeProcess
from tests.integration.test_operators import command

ccxt: Any = pytest.importorskip("ccxt.pro")
MORE = "orders_per_ten_seconds = 100000\nweight_per_minute = 1000000"
MARKET = "BTC/USD"
LIMIT = {"symbol": "BTCUSD", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1"}


@pytest.fixture(scope="module")
def one_market(exchange: ExchangeProcess) -> ExchangeProcess:
    """ccxt has one market of a pair of assets."""
    done: subprocess.CompletedProcess[str] = command(
        exchange, "market", "remove", "EXCHANGE", "BTC/USD.2"
    )
    assert done.returncode == 0, done.stderr
    return exchange


@pytest.fixture(autouse=True)
def empty_book(one_market: ExchangeProcess, alice: Client, bob: Client) -> Iterator[None]:
    yield
    for each in (alice, bob):
        each.signed("DELETE", "openOrders", symbol="BTCUSD")


@pytest.fixture
def run(one_market: ExchangeProcess, address: str, make_key: Callable[..., Key]) -> Any:
    """run(work): await work(ccxt) with a client of account 1 that is closed afterwards."""

    async def whole(work: Callable[[Any], Awaitable[None]]) -> None:
        key = make_key(1)
        found = ccxt.binance({"apiKey": key.id, "secret": key.secret})
        api = found.urls["api"]
        for name, url in api.items():
            if isinstance(url, str):
                path = url.split("/", 3)[3] if url.count("/") > 2 else ""
                api[name] = f"http://{address}/{path}"
        api["ws"]["spot"] = f"ws://{address}/stream/ws"
        api["ws"]["ws-api"]["spot"] = f"ws://{address}/ws-api/v3"
        try:
            await asyncio.wait_for(work(found), DEADLINE_S)
        finally:
            await found.close()

    return lambda work: asyncio.run(whole(work))


def test_trades_and_best_prices_are_watched(run: Any, alice: Client, bob: Client) -> None:
    async def work(exchange: Any) -> None:
        await exchange.load_markets()
        watched = asyncio.gather(exchange.watch_trades(MARKET), exchange.watch_bids_asks([MARKET]))
        while not watched.done():  # until they listen
            bob.good("POST", "order", **LIMIT, side="SELL", price="110")
            alice.good("POST", "order", **LIMIT, side="BUY", price="110")
            alice.good("POST", "order", **LIMIT, side="BUY", price="100")
            alice.good("DELETE", "openOrders", symbol="BTCUSD")
            await asyncio.sleep(0.05)
        trades, tickers = await watched
        assert [(t["price"], t["amount"], t["side"]) for t in trades][-1] == (110, 1, "buy")
        assert MARKET in tickers

    run(work)


def test_an_order_book_is_watched(run: Any, alice: Client) -> None:
    async def work(exchange: Any) -> None:
        for price in (90, 91, 92):
            alice.good("POST", "order", **LIMIT, side="BUY", price=str(price))
        book = await exchange.watch_order_book(MARKET)
        wanted = [92, 91, 90]
        while [price for price, _ in book["bids"]] != wanted:
            if wanted[0] == 92:
                wanted = [95, *wanted]
                alice.good("POST", "order", **LIMIT, side="BUY", price="95")
            book = await exchange.watch_order_book(MARKET)
        alice.good("DELETE", "openOrders", symbol="BTCUSD")
        while book["bids"]:
            book = await exchange.watch_order_book(MARKET)

    run(work)


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_orders_fills_and_balances_are_watched(run: Any, bob: Client) -> None:
    async def keep(watch: Callable[[], Awaitable[Any]], found: list[Any]) -> None:
        while True:
            found.append(await watch())

    async def work(exchange: Any) -> None:
        await exchange.load_markets()
        orders: list[Any] = []
        trades: list[Any] = []
        balances: list[Any] = []
        tasks = [
            asyncio.ensure_future(keep(lambda: exchange.watch_orders(MARKET), orders)),
            asyncio.ensure_future(keep(lambda: exchange.watch_my_trades(MARKET), trades)),
            asyncio.ensure_future(keep(exchange.watch_balance, balances)),
        ]
        await exchange.ensure_user_data_stream_ws_subscribe_signature("spot")

        def state() -> Any:
            found = [each for each in orders[-1] if each["id"] == order["id"]] if orders else []
            return [found[-1][name] for name in ("status", "filled", "cost")] if found else None

        order = await exchange.create_order(MARKET, "limit", "buy", 2, 100)
        await until(lambda: state() == ["open", 0, 0])
        await until(lambda: balances and balances[-1]["used"]["USD"] == 200)
        bob.good("POST", "order", **LIMIT, side="SELL", price="100")
        await until(lambda: state() == ["open", 1, 100])
        await until(lambda: trades)
        mine = trades[-1][-1]
        assert (mine["amount"], mine["price"], mine["takerOrMaker"]) == (1, 100, "maker")
        await exchange.cancel_order(order["id"], MARKET)
        await until(lambda: state() == ["canceled", 1, 100])
        await until(lambda: balances[-1]["used"]["USD"] == 0)
        for task in tasks:
            task.cancel()

    run(work)


def test_orders_are_placed_over_the_websocket_api(run: Any) -> None:
    async def work(exchange: Any) -> None:
        await exchange.load_markets()
        order = await exchange.create_order_ws(MARKET, "limit", "buy", 2, 90.5)
        assert (order["status"], order["price"]) == ("open", 90.5)
        found = await exchange.fetch_order_ws(order["id"], MARKET)
        assert (found["amount"], found["filled"]) == (2, 0)
        listed = await exchange.fetch_open_orders_ws(MARKET)
        assert [each["id"] for each in listed] == [order["id"]]
        ended = await exchange.cancel_order_ws(order["id"], MARKET)
        assert ended["status"] == "canceled"
        with pytest.raises(ccxt.OrderNotFound):
            await exchange.cancel_order_ws(order["id"], MARKET)
        with pytest.raises(ccxt.InsufficientFunds):
            await exchange.create_order_ws(MARKET, "limit", "buy", 10_000, 1_000_000)

    run(work)


def test_candles_and_tickers_are_watched(run: Any, alice: Client, bob: Client) -> None:
    async def work(exchange: Any) -> None:
        await exchange.load_markets()
        candles = [[0.0] * 6]
        while candles[-1][5] < 1:  # once more where a minute begins meanwhile
            bob.good("POST", "order", **LIMIT, side="SELL", price="108")
            alice.good("POST", "order", **LIMIT, side="BUY", price="108")
            candles = await exchange.watch_ohlcv(MARKET, "1m")
        assert candles[-1][4] == 108
        ticker = await exchange.watch_ticker(MARKET)
        assert (ticker["last"], ticker["symbol"]) == (108, MARKET)
        assert set(await exchange.watch_tickers([MARKET])) == {MARKET}
        listed = await exchange.fetch_ohlcv_ws(MARKET, "1m", None, 1)
        assert listed[0][4] == 108

    run(work)


def test_an_order_is_edited_over_the_websocket_api(run: Any) -> None:
    async def work(exchange: Any) -> None:
        await exchange.load_markets()
        order = await exchange.create_order_ws(MARKET, "limit", "buy", 2, 90.5)
        edited = await exchange.edit_order_ws(order["id"], MARKET, "limit", "buy", 1, 91)
        assert (edited["price"], edited["amount"]) == (91, 1) and edited["id"] != order["id"]
        trades = await exchange.fetch_my_trades_ws(MARKET)
        assert all(trade["symbol"] == MARKET for trade in trades)

    run(work)
