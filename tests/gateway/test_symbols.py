"""Markets in the words of clients: names, filters, conversions."""

from decimal import Decimal
from typing import Any

import pytest

from matchbox.gateway.errors import ApiError
from matchbox.gateway.symbols import Rules, Symbol, Symbols, name_of
from matchbox.shm.market import Asset, Market
from matchbox.shm.records import MarketState


def market(number: int = 1, symbol: str = "BTC/USDT", **changes: Any) -> Market:
    values: dict[str, Any] = {
        "number": number,
        "symbol": symbol,
        "base": "BTC",
        "quote": "USDT",
        "base_scale": 8,
        "quote_scale": 8,
        "tick_size": Decimal("0.01"),
        "lot_size": Decimal("0.00001"),
        "price_step_ticks": 5,
        "quantity_step_lots": 2,
        "max_price_ticks": 1_000_000_000,
        "min_quantity_lots": 10,
        "max_quantity_lots": 900_000_000,
        "notional_units": 10,
        "base_asset": 1,
        "quote_asset": 2,
    }
    return Market(**values | changes)


ASSETS = (Asset(1, "BTC", 8), Asset(2, "USDT", 8))


def test_clients_call_a_market_by_the_letters_of_its_symbol() -> None:
    assert name_of("BTC/USDT") == name_of("btc-usdt") == "BTCUSDT"
    symbols = Symbols([market(2, "BTC-USDT"), market(1), market(7, "ETH/USDT")], ASSETS, {})
    assert symbols["BTCUSDT"].number == 1  # of two with one name, the older one
    assert symbols.by_number[2].name == "BTCUSDT"
    assert [each.number for each in symbols.chosen(None, None)] == [1, 7]
    assert [each.number for each in symbols.chosen(None, ["ETHUSDT"])] == [7]
    with pytest.raises(ApiError) as error:
        symbols["XRPUSDT"]
    assert error.value.body == {"code": -1121, "msg": "Invalid symbol."}


def test_filters_are_what_the_engine_refuses_by() -> None:
    rules = Rules(min_notional=500_000_000, band_up_bips=500, band_down_bips=0, account_orders=200)
    info = Symbol(market(), rules).info()
    filters = {each.pop("filterType"): each for each in info["filters"]}
    assert filters["PRICE_FILTER"] == {
        "minPrice": "0.05000000",
        "maxPrice": "10000000.00000000",
        "tickSize": "0.05000000",
    }
    assert filters["LOT_SIZE"] == filters["MARKET_LOT_SIZE"]
    assert filters["LOT_SIZE"] == {
        "minQty": "0.00010000",
        "maxQty": "9000.00000000",
        "stepSize": "0.00002000",
    }
    assert filters["NOTIONAL"]["minNotional"] == "5.00000000"
    assert filters["PERCENT_PRICE_BY_SIDE"]["bidMultiplierUp"] == "1.0500"
    assert filters["MAX_NUM_ORDERS"]["maxNumOrders"] == 200
    assert info["permissionSets"] == [["SPOT"]]
    assert "contractType" not in info


def test_a_state_that_takes_no_orders_is_not_trading() -> None:
    states = {state: Symbol(market(), Rules(state=state)).info()["status"] for state in MarketState}
    assert states == {
        MarketState.OPEN: "TRADING",
        MarketState.POST_ONLY: "TRADING",
        MarketState.CANCEL_ONLY: "BREAK",
        MarketState.HALTED: "HALT",
    }


def test_prices_and_quantities_become_ticks_and_lots_exactly() -> None:
    symbol = Symbol(market(), Rules())
    assert symbol.ticks("60000.05") == 6_000_005
    assert symbol.lots("0.1") == 10_000
    assert symbol.quote_units("10.5") == 1_050_000_000
    assert symbol.price(6_000_005) == "60000.05000000"
    assert symbol.quantity(10_000) == "0.10000000"
    assert symbol.notional(6_000_005 * 10_000) == "6000.00500000"


@pytest.mark.parametrize(
    ("what", "text", "code", "filter_name"),
    [
        ("ticks", "0", -1013, "PRICE_FILTER"),
        ("ticks", "0.01", -1013, "PRICE_FILTER"),
        ("ticks", "0.051", -1013, "PRICE_FILTER"),
        ("ticks", "10000000.05", -1013, "PRICE_FILTER"),
        ("ticks", "0.000000001", -1111, ""),
        ("lots", "0.00009", -1013, "LOT_SIZE"),
        ("lots", "0.00011", -1013, "LOT_SIZE"),
        ("lots", "9000.00002", -1013, "LOT_SIZE"),
        ("lots", "1.000000001", -1111, ""),
        ("quote_units", "0", -1013, "NOTIONAL"),
        ("quote_units", "99999999999999999999", -1013, "NOTIONAL"),
    ],
)
def test_what_does_not_fit_names_its_filter(
    what: str, text: str, code: int, filter_name: str
) -> None:
    with pytest.raises(ApiError) as error:
        getattr(Symbol(market(), Rules()), what)(text)
    assert error.value.code == code
    assert error.value.message.endswith(filter_name)
