"""python-binance and the official SDK trade here when nothing but their base URLs is changed.

Each is left out where it is not installed; ccxt has a file of its own.
"""

from collections.abc import Callable
from typing import Any

import pytest

from matchbox.gateway.keys import Key
from tests.integration.conftest import wait_for

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
    assert client.get_all_orders(symbol="BTCUSD")[-1]["status"] == "CANCELED"
    assert client.get_my_trades(symbol="BTCUSD") == []
    assert client.get_recent_trades(symbol="BTCUSD") == []
    assert client.get_klines(symbol="BTCUSD", interval="1m") == []
    assert client.get_ticker(symbol="BTCUSD")["count"] == 0
    assert client.get_avg_price(symbol="BTCUSD")["mins"] == 5
    assert len(client.get_deposit_history()) == 2
    assert client.get_withdraw_history() == []
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
    replaced(api, models)
    listed(api, models)
    assert [each.status for each in api.all_orders(symbol="BTCUSD").data()[-6:]] == ["CANCELED"] * 6
    other = make_key(2)
    settings = module.ConfigurationRestAPI(
        api_key=other.id, api_secret=other.secret, base_path=f"http://{address}"
    )
    history_is_read(api, module.Spot(config_rest_api=settings).rest_api, models)


def replaced(api: Any, models: Any) -> None:
    """An order is entered, replaced, made smaller and canceled."""
    order = {"symbol": "BTCUSD", "side": "BUY", "type": "LIMIT", "time_in_force": "GTC"}
    old = api.new_order(**order, quantity=1.0, price=90.0).data()
    mode = models.OrderCancelReplaceCancelReplaceModeEnum["STOP_ON_FAILURE"].value
    both = api.order_cancel_replace(
        **order, quantity=2.0, price=91.0, cancel_replace_mode=mode, cancel_order_id=old.order_id
    ).data()
    assert (both.cancel_result, both.new_order_result) == ("SUCCESS", "SUCCESS")
    assert both.cancel_response.order_id == old.order_id
    new_id = both.new_order_response.order_id
    smaller = api.order_amend_keep_priority(symbol="BTCUSD", order_id=new_id, new_qty=1.5).data()
    assert smaller.amended_order.qty == "1.50000000"
    assert api.delete_order(symbol="BTCUSD", order_id=new_id).data().status == "CANCELED"


def listed(api: Any, models: Any) -> None:
    """A pair is entered, found and canceled, and one that is triggered."""
    stop = models.OrderListOcoBelowTypeEnum["STOP_LOSS"].value
    made = api.order_list_otoco(
        symbol="BTCUSD",
        working_type="LIMIT",
        working_side="BUY",
        working_price=50.0,
        working_quantity=1.0,
        working_time_in_force="GTC",
        pending_side="SELL",
        pending_quantity=1.0,
        pending_above_type="LIMIT_MAKER",
        pending_above_price=120.0,
        pending_below_type=stop,
        pending_below_stop_price=40.0,
    ).data()
    assert (made.contingency_type, len(made.orders)) == ("OTO", 3)
    assert [each.status for each in made.order_reports] == ["NEW", "PENDING_NEW", "PENDING_NEW"]
    found = api.get_order_list(order_list_id=made.order_list_id).data()
    assert found.list_order_status == "EXECUTING"
    assert len(api.open_order_list().data()) == 1
    ended = api.delete_order_list(symbol="BTCUSD", order_list_id=made.order_list_id).data()
    assert [each.status for each in ended.order_reports] == ["CANCELED"] * 3
    assert [each.order_list_id for each in api.all_order_list().data()] == [made.order_list_id]


def history_is_read(api: Any, other: Any, models: Any) -> None:
    """What was traded has the venue's models."""
    order = {"symbol": "BTCUSD", "type": "LIMIT", "time_in_force": "GTC", "price": 70.0}
    api.new_order(**order, side="BUY", quantity=2.0)
    sold = other.new_order(**order, side="SELL", quantity=2.0).data()
    (mine,) = api.my_trades(symbol="BTCUSD").data()
    assert (mine.id, mine.is_maker, mine.quote_qty) == (
        sold.fills[0].trade_id,
        True,
        "140.00000000",
    )
    wait_for(lambda: api.get_trades(symbol="BTCUSD").data(), "everybody sees it")
    assert api.get_trades(symbol="BTCUSD").data()[0].price == "70.00000000"
    assert api.agg_trades(symbol="BTCUSD").data()[0].m is True
    interval = models.KlinesIntervalEnum["INTERVAL_1m"].value
    assert api.klines(symbol="BTCUSD", interval=interval).data()[0][5] == "2.00000000"
    assert api.avg_price(symbol="BTCUSD").data().price == "70.00000000"
    assert api.ticker24hr(symbol="BTCUSD").data().actual_instance.count == 1
    assert api.ticker(symbol="BTCUSD").data().actual_instance.count == 1
    assert api.ticker_trading_day(symbol="BTCUSD").data().actual_instance.symbol == "BTCUSD"
    assert api.account_commission(symbol="BTCUSD").data().symbol == "BTCUSD"
    assert api.rate_limit_order().data()[0].rate_limit_type == "ORDERS"
