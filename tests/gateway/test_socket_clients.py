"""The official SDK and python-binance listen and trade by WebSocket with only base URLs changed.

Each is left out where it is not installed; ccxt.pro has a file of its own.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from matchbox.gateway.keys import Key
from tests.integration.conftest import DEADLINE_S

ORDER = {"symbol": "BTCUSD", "side": "BUY", "type": "LIMIT", "quantity": "1", "price": "100"}


def test_the_official_sdk_listens_and_trades_by_websocket(
    address: str, make_key: Callable[..., Key]
) -> None:
    module: Any = pytest.importorskip("binance_sdk_spot.spot")
    models: Any = pytest.importorskip("binance_sdk_spot.websocket_api.models")
    key = make_key(1)
    asking = module.ConfigurationWebSocketAPI(
        api_key=key.id, api_secret=key.secret, stream_url=f"ws://{address}/ws-api/v3"
    )
    listening = module.ConfigurationWebSocketStreams(stream_url=f"ws://{address}")
    client = module.Spot(config_ws_api=asking, config_ws_streams=listening)

    async def work() -> None:
        api = await client.websocket_api.create_connection()
        streams = await client.websocket_streams.create_connection()
        events: list[Any] = []
        best: list[Any] = []
        stream = await streams.book_ticker(symbol="btcusd")
        stream.on("message", best.append)
        subscribed = await api.user_data_stream_subscribe_signature()
        subscribed.stream.on("message", events.append)

        async def place(price: float) -> Any:
            placed = await api.order_place(
                symbol="BTCUSD",
                side=models.OrderPlaceSideEnum["BUY"].value,
                type=models.OrderPlaceTypeEnum["LIMIT"].value,
                time_in_force=models.OrderPlaceTimeInForceEnum["GTC"].value,
                quantity=1.0,
                price=price,
            )
            return placed.data().result

        order = await place(70.0)
        assert order.status == "NEW"
        price = 70.0
        while not (events and best):  # it does not wait until it listens
            price += 1
            await place(price)
            await asyncio.sleep(0.1)
        assert float(best[0].b) >= 70
        account = await api.account_status()
        assert account.data().result.can_trade is True
        depth = await api.depth(symbol="BTCUSD", limit=5)
        assert depth.data().result.bids[0] == [f"{price:.8f}", "1.00000000"]
        ended = await api.order_cancel(symbol="BTCUSD", order_id=order.order_id)
        assert ended.data().result.status == "CANCELED"
        await api.open_orders_cancel_all(symbol="BTCUSD")
        await api.close_connection(close_session=True)
        await streams.close_connection(close_session=True)

    asyncio.run(asyncio.wait_for(work(), DEADLINE_S))


def test_python_binance_listens_and_trades_by_websocket(
    address: str, make_key: Callable[..., Key], monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = pytest.importorskip("binance.async_client")
    streams: Any = pytest.importorskip("binance.ws.streams")
    reading: Any = pytest.importorskip("binance.ws.reconnecting_websocket")
    monkeypatch.setattr(reading.ReconnectingWebsocket, "TIMEOUT", 0.5)  # it waits so long to end

    class Client(module.AsyncClient):  # type: ignore[misc]
        API_URL = f"http://{address}/api"
        MARGIN_API_URL = f"http://{address}/sapi"
        FUTURES_URL = f"http://{address}/fapi"
        WS_API_URL = f"ws://{address}/ws-api/v3"

    class Manager(streams.BinanceSocketManager):  # type: ignore[misc]
        STREAM_URL = f"ws://{address}/"

    async def work() -> None:
        key = make_key(1)
        client = await Client.create(key.id, key.secret)
        manager = Manager(client)
        async with manager.user_socket() as user, manager.depth_socket("BTCUSD") as depth:
            placed = await client.ws_create_order(**ORDER, timeInForce="GTC")
            told = await user.recv()
            assert (told["e"], told["i"]) == ("executionReport", placed["orderId"])
            changed = asyncio.ensure_future(depth.recv())
            while not changed.done():  # it does not wait until it listens
                other = await client.ws_create_order(**{**ORDER, "price": "90"}, timeInForce="GTC")
                await client.ws_cancel_order(symbol="BTCUSD", orderId=other["orderId"])
                await asyncio.sleep(0.1)
            assert changed.result()["e"] == "depthUpdate"
            named = {"symbol": "BTCUSD", "orderId": placed["orderId"]}
            assert (await client.ws_get_order(**named))["status"] == "NEW"
            assert (await client.ws_cancel_order(**named))["status"] == "CANCELED"
        await client.close_connection()

    asyncio.run(asyncio.wait_for(work(), DEADLINE_S))
