"""ccxt's WebSocket side listens here when nothing but its base URLs is changed."""

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
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
