"""python-binance and the official SDK trade here when nothing but their base URLs is changed.

Each is left out where it is not installed; ccxt has a file of its own.
"""

from collections.abc import Callable
from typing import Any

import pytest

from matchbox.gateway.keys import Key

ORDER = {"symbol": "BTCUSD", "side": "BUY", "type": "LIMIT", "quantity": "1", "price": "100"}


def test_python_binance_places_queries_and_cancels(
    address: str, make_key: Callable[..., Key]
) -> None:
    module: Any = pytest.importorskip("binance.client")

    class Client(module.Client):  # type: ignore[misc]
        API_URL = f"http://{address}/api"
        MARGIN_API_URL = f"http://{address}/sapi"
        FUTURES_URL = f"http://{address}/fapi"

    key = make_key(1)
    client = Client(key.id, key.secret)
    placed = client.create_order(**ORDER, timeInForce="GTC")
    named = {"symbol": "BTCUSD", "orderId": placed["orderId"]}
    assert client.get_order(**named)["status"] == "NEW"
    assert [o["orderId"] for o in client.get_open_orders(symbol="BTCUSD")] == [placed["orderId"]]
    assert client.get_orderbook_ticker(symbol="BTCUSD")["bidPrice"] == "100.00000000"
    assert client.get_asset_balance("USD")["locked"] == "100.00000000"
    assert client.get_symbol_info("BTCUSD")["status"] == "TRADING"
    assert client.cancel_order(**named)["status"] == "CANCELED"
    client.create_test_order(**ORDER, timeInForce="GTC")
    exceptions: Any = pytest.importorskip("binance.exceptions")
    with pytest.raises(exceptions.BinanceAPIException, match="Unknown order sent") as error:
        client.cancel_order(**named)
    assert (error.value.code, error.value.status_code) == (-2011, 400)
    client.close_connection()


def test_the_official_sdk_places_queries_and_cancels(
    address: str, make_key: Callable[..., Key]
) -> None:
    module: Any = pytest.importorskip("binance_sdk_spot.spot")
    models: Any = pytest.importorskip("binance_sdk_spot.rest_api.models")
    key = make_key(1)
    settings = module.ConfigurationRestAPI(
        api_key=key.id, api_secret=key.secret, base_path=f"http://{address}"
    )
    api = module.Spot(config_rest_api=settings).rest_api
    placed = api.new_order(
        symbol="BTCUSD",
        side=models.NewOrderSideEnum["BUY"].value,
        type=models.NewOrderTypeEnum["LIMIT"].value,
        time_in_force=models.NewOrderTimeInForceEnum["GTC"].value,
        quantity=1.0,
        price=100.0,
    ).data()
    assert (placed.status, placed.price) == ("NEW", "100.00000000")
    (found,) = api.get_open_orders(symbol="BTCUSD").data()
    assert found.order_id == placed.order_id
    assert api.depth(symbol="BTCUSD").data().bids == [["100.00000000", "1.00000000"]]
    assert api.exchange_info().data().symbols[0].symbol == "BTCUSD"
    assert api.get_account().data().can_trade is True
    ended = api.delete_order(symbol="BTCUSD", order_id=placed.order_id).data()
    assert ended.status == "CANCELED"
