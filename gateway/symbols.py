"""Markets as clients name and see them: BTCUSDT for BTC/USDT, with filters and decimals.

    Rules      what an operator can change of a market while it runs
    Symbol     one market: its name, conversions of prices and quantities, its exchangeInfo
    Symbols    all of them at one moment, by name and by the market's number

The engine is the judge of every filter. What is checked here is what cannot be said to it: numbers
that are no multiple of a tick or lot.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from matchbox.gateway.decimals import PLACES, Grid, parse, rounded, show
from matchbox.gateway.errors import UNKNOWN_SYMBOL, filter_failure, of
from matchbox.shm.market import Asset, Market
from matchbox.shm.records import MAX_ASSET_UNITS, MarketState

ORDER_TYPES = (
    "LIMIT",
    "LIMIT_MAKER",
    "MARKET",
    "STOP_LOSS",
    "STOP_LOSS_LIMIT",
    "TAKE_PROFIT",
    "TAKE_PROFIT_LIMIT",
)
SELF_TRADE_MODES = ("NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT")
MAX_TRAILING_BIPS = 2000
ICEBERG_PARTS = 100
_STATUS = {
    MarketState.OPEN: "TRADING",
    MarketState.POST_ONLY: "TRADING",
    MarketState.CANCEL_ONLY: "BREAK",
    MarketState.HALTED: "HALT",
}


@dataclass(frozen=True)
class Rules:
    """Of a market, as they are now; 0: there is no such limit."""

    state: int = MarketState.OPEN
    min_notional: int = 0
    band_up_bips: int = 0
    band_down_bips: int = 0
    account_orders: int = 0
    max_orders: int = 0

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Rules":
        """From a row of Connection.listing()."""
        return cls(*(int(row[name]) for name in cls.__dataclass_fields__))


class Symbol:
    """One market in the words of clients."""

    def __init__(self, market: Market, rules: Rules) -> None:
        self.market, self.rules = market, rules
        self.number, self.name = market.number, name_of(market.symbol)
        self.prices = Grid.of(market.tick_size, market.quote_scale, "PRICE_FILTER")
        self.quantities = Grid.of(market.lot_size, market.base_scale, "LOT_SIZE")

    # -- what clients say

    def ticks(self, text: str, name: str = "price") -> int:
        """A price in ticks. Raises ApiError."""
        market = self.market
        ticks = self.prices.parse(text, name)
        if not 0 < ticks <= market.max_price_ticks or ticks % market.price_step_ticks:
            raise self.prices.failure
        return ticks

    def lots(self, text: str, name: str = "quantity") -> int:
        """A quantity in lots. Raises ApiError."""
        market = self.market
        lots = self.quantities.parse(text, name)
        if (
            not market.min_quantity_lots <= lots <= market.max_quantity_lots
            or lots % market.quantity_step_lots
        ):
            raise self.quantities.failure
        return lots

    def display_lots(self, text: str, name: str = "icebergQty") -> int:
        """The visible part of an order. Raises ApiError."""
        lots = self.quantities.parse(text, name)
        if lots % self.market.quantity_step_lots:
            raise self.quantities.failure
        return lots

    def quote_units(self, text: str, name: str = "quoteOrderQty") -> int:
        """An amount of the quote asset in its units. Raises ApiError."""
        units = parse(text, self.market.quote_scale, name)
        if not 0 < units <= MAX_ASSET_UNITS:
            raise of(filter_failure("NOTIONAL"))
        return units

    # -- what they are told

    def price(self, ticks: int) -> str:
        return self.prices.show(ticks)

    def quantity(self, lots: int) -> str:
        return self.quantities.show(lots)

    def base_amount(self, units: int) -> str:
        return show(units, self.market.base_scale)

    def quote_amount(self, units: int) -> str:
        return show(units, self.market.quote_scale)

    def notional(self, ticks_times_lots: int) -> str:
        """The value of fills."""
        return self.quote_amount(ticks_times_lots * self.market.notional_units)

    def average_price(self, value: int, lots: int) -> str:
        """What was paid for a lot, on average: `value` is ticks times lots."""
        digits, mantissa = self.prices.digits, self.prices.mantissa
        places = max(digits, PLACES)
        return show(rounded(value * mantissa * 10 ** (places - digits), lots), places)

    def info(self) -> dict[str, Any]:
        """Its part of exchangeInfo."""
        market = self.market
        return {
            "symbol": self.name,
            "status": _STATUS.get(MarketState(self.rules.state), "HALT"),
            "baseAsset": market.base,
            "baseAssetPrecision": market.base_scale,
            "quoteAsset": market.quote,
            "quotePrecision": market.quote_scale,
            "quoteAssetPrecision": market.quote_scale,
            "baseCommissionPrecision": market.base_scale,
            "quoteCommissionPrecision": market.quote_scale,
            "orderTypes": list(ORDER_TYPES),
            "icebergAllowed": True,
            "ocoAllowed": True,
            "otoAllowed": True,
            "quoteOrderQtyMarketAllowed": True,
            "allowTrailingStop": True,
            "cancelReplaceAllowed": True,
            "amendAllowed": True,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "filters": self._filters(),
            "permissions": ["SPOT"],
            "permissionSets": [["SPOT"]],
            "defaultSelfTradePreventionMode": "NONE",
            "allowedSelfTradePreventionModes": list(SELF_TRADE_MODES),
        }

    def _filters(self) -> list[dict[str, Any]]:
        market, rules = self.market, self.rules
        lots = {
            "minQty": self.quantity(market.min_quantity_lots),
            "maxQty": self.quantity(market.max_quantity_lots),
            "stepSize": self.quantity(market.quantity_step_lots),
        }
        found: list[dict[str, Any]] = [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": self.price(market.price_step_ticks),
                "maxPrice": self.price(market.max_price_ticks),
                "tickSize": self.price(market.price_step_ticks),
            },
            {"filterType": "LOT_SIZE", **lots},
            {"filterType": "MARKET_LOT_SIZE", **lots},
            {"filterType": "ICEBERG_PARTS", "limit": ICEBERG_PARTS},
            {
                "filterType": "NOTIONAL",
                "minNotional": self.quote_amount(rules.min_notional),
                "applyMinToMarket": False,
                "maxNotional": self.quote_amount(MAX_ASSET_UNITS),
                "applyMaxToMarket": False,
                "avgPriceMins": 0,
            },
            {
                "filterType": "TRAILING_DELTA",
                **dict.fromkeys(("minTrailingAboveDelta", "minTrailingBelowDelta"), 1),
                **dict.fromkeys(
                    ("maxTrailingAboveDelta", "maxTrailingBelowDelta"), MAX_TRAILING_BIPS
                ),
            },
            {
                "filterType": "MAX_NUM_ORDERS",
                "maxNumOrders": rules.account_orders or rules.max_orders,
            },
        ]
        if rules.band_up_bips or rules.band_down_bips:
            found.append(self._band())
        return found

    def _band(self) -> dict[str, Any]:
        """A side of the band that is not set reaches further than any price."""
        up, down = self.rules.band_up_bips, self.rules.band_down_bips
        above = show(10_000 + up, 4, 4) if up else "1000000"
        below = show(10_000 - down, 4, 4) if down else "0"
        return {
            "filterType": "PERCENT_PRICE_BY_SIDE",
            "bidMultiplierUp": above,
            "bidMultiplierDown": below,
            "askMultiplierUp": above,
            "askMultiplierDown": below,
            "avgPriceMins": 0,
        }


class Symbols:
    """The markets and assets of one moment."""

    def __init__(
        self,
        markets: Iterable[Market],
        assets: Iterable[Asset],
        rules: Mapping[int, Mapping[str, Any]],
    ) -> None:
        self.by_number: dict[int, Symbol] = {}
        self.by_name: dict[str, Symbol] = {}
        self.assets = {asset.number: asset for asset in assets}
        for market in sorted(markets, key=lambda each: each.number):
            row = rules.get(market.number)
            symbol = Symbol(market, Rules() if row is None else Rules.of(row))
            self.by_number[market.number] = symbol
            # Of two that clients would call the same, they get the older one.
            self.by_name.setdefault(symbol.name, symbol)

    def __getitem__(self, name: str) -> Symbol:
        """The market of this name. Raises ApiError."""
        symbol = self.by_name.get(name)
        if symbol is None:
            raise of(UNKNOWN_SYMBOL)
        return symbol

    def chosen(self, symbol: str | None, symbols: list[str] | None) -> list[Symbol]:
        """The one, the ones, or all."""
        if symbol is not None:
            return [self[symbol]]
        if symbols is not None:
            return [self[name] for name in symbols]
        return list(self.by_name.values())


def name_of(symbol: str) -> str:
    """What clients call a market: BTCUSDT for BTC/USDT."""
    return re.sub(r"[^A-Z0-9]", "", symbol.upper())
