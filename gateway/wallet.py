"""The wallet's side of REST: what clients ask before they trade, under /sapi/v1 and its like.

Coins, commissions, what a key may do, and the state of the system; margin and contracts, of which
there are none: a client that loads every kind of market by default finds those that there are.
"""

from typing import Any

from matchbox.gateway.decimals import show
from matchbox.gateway.endpoints import Call, Endpoint, Security
from matchbox.gateway.keys import Permission
from matchbox.gateway.limits import Limits
from matchbox.gateway.lookups import Lookups
from matchbox.gateway.markets import Markets
from matchbox.gateway.parameters import SYMBOL, Form, Parameter
from matchbox.shm.market import Asset


class Wallet:
    """What these endpoints do. On one event loop."""

    def __init__(self, markets: Markets, lookups: Lookups, limits: Limits) -> None:
        self._markets, self._lookups, self._limits = markets, lookups, limits

    def endpoints(self) -> list[Endpoint]:
        """All of them."""
        signed = Security.SIGNED
        return [
            Endpoint("GET", "/sapi/v1/system/status", self.status, about="Does it run?"),
            Endpoint(
                "GET",
                "/sapi/v1/capital/config/getall",
                self.coins,
                security=signed,
                weight=10,
                about="Every asset, and what the account has of it.",
            ),
            Endpoint(
                "GET",
                "/sapi/v1/asset/tradeFee",
                self.trade_fee,
                Form(Parameter("symbol", SYMBOL)),
                signed,
                about="What the account's orders cost now, of one symbol or of all.",
            ),
            Endpoint(
                "GET",
                "/sapi/v1/margin/allPairs",
                self.nothing,
                security=Security.KEY,
                about="Margin pairs: none.",
            ),
            Endpoint(
                "GET",
                "/sapi/v1/margin/isolated/allPairs",
                self.nothing,
                security=signed,
                about="Isolated margin pairs: none.",
            ),
            Endpoint(
                "GET",
                "/sapi/v1/account/apiRestrictions",
                self.restrictions,
                security=signed,
                about="What the key may do.",
            ),
            Endpoint(
                "GET",
                "/api/v3/account/commission",
                self.commission,
                Form(Parameter("symbol", SYMBOL, required=True)),
                signed,
                weight=20,
                about="What the account's orders of a symbol cost now, in parts.",
            ),
            Endpoint(
                "GET",
                "/api/v3/rateLimit/order",
                self.order_counts,
                security=signed,
                weight=40,
                about="How many orders the account has entered, and may.",
            ),
            *(
                Endpoint("GET", path, self.no_contracts, about="Contracts: none.")
                for path in ("/fapi/v1/exchangeInfo", "/dapi/v1/exchangeInfo")
            ),
        ]

    async def status(self, call: Call) -> dict[str, Any]:
        return {"status": 0, "msg": "normal"}

    async def nothing(self, call: Call) -> list[Any]:
        return []

    async def no_contracts(self, call: Call) -> dict[str, Any]:
        return {"timezone": "UTC", "rateLimits": [], "exchangeFilters": [], "symbols": []}

    async def coins(self, call: Call) -> list[dict[str, Any]]:
        holdings = await self._lookups.holdings(call.account)
        symbols = await self._markets.symbols(fresh=True)
        return [_coin(asset, *holdings.of_asset(n)) for n, asset in symbols.assets.items()]

    async def trade_fee(self, call: Call) -> list[dict[str, Any]]:
        holdings = await self._lookups.holdings(call.account)
        found = await self._markets.chosen(call.values["symbol"], None)
        rates = [(symbol, *holdings.of_market(symbol.number)) for symbol in found]
        return [
            {
                "symbol": symbol.name,
                "makerCommission": show(maker, 6),
                "takerCommission": show(taker, 6),
            }
            for symbol, maker, taker in rates
        ]

    async def restrictions(self, call: Call) -> dict[str, Any]:
        assert call.key is not None
        trades, withdraws = (call.key.may(each) for each in (Permission.TRADE, Permission.WITHDRAW))
        return {
            "ipRestrict": bool(call.key.addresses),
            "createTime": call.key.created_ms,
            "enableReading": call.key.may(Permission.READ),
            "enableSpotAndMarginTrading": trades,
            "enableWithdrawals": withdraws,
            **dict.fromkeys(
                (
                    "enableMargin",
                    "enableFutures",
                    "enableInternalTransfer",
                    "enableVanillaOptions",
                    "enablePortfolioMarginTrading",
                    "enableFixApiTrade",
                    "enableFixReadOnly",
                    "permitsUniversalTransfer",
                ),
                False,
            ),
        }

    async def commission(self, call: Call) -> dict[str, Any]:
        symbol = await self._markets.symbol(call.values["symbol"])
        holdings = await self._lookups.holdings(call.account)
        nothing = _rates(0, 0)
        return {
            "symbol": symbol.name,
            "standardCommission": _rates(*holdings.of_market(symbol.number)),
            "specialCommission": nothing,
            "taxCommission": nothing,
            "discount": {
                "enabledForAccount": False,
                "enabledForSymbol": False,
                "discountAsset": "",
                "discount": show(0, 6),
            },
        }

    async def order_counts(self, call: Call) -> list[dict[str, Any]]:
        used = self._limits.orders_used(call.account)
        rows = [
            row for row in self._limits.allowed.rate_limits() if row["rateLimitType"] == "ORDERS"
        ]
        return [row | {"count": count} for row, count in zip(rows, used, strict=True)]


def _rates(maker: int, taker: int) -> dict[str, str]:
    """In ppm; the same for who buys and who sells."""
    return {
        "maker": show(maker, 6),
        "taker": show(taker, 6),
        "buyer": show(0, 6),
        "seller": show(0, 6),
    }


def _coin(asset: Asset, free: int, locked: int) -> dict[str, Any]:
    unit = show(1, asset.scale)
    nothing = show(0, asset.scale)
    return {
        "coin": asset.name,
        "name": asset.name,
        "depositAllEnable": True,
        "withdrawAllEnable": True,
        "isLegalMoney": False,
        "trading": True,
        "free": show(free, asset.scale),
        "locked": show(locked, asset.scale),
        "freeze": nothing,
        "withdrawing": nothing,
        "ipoing": nothing,
        "ipoable": nothing,
        "storage": nothing,
        "networkList": [
            {
                "network": asset.name,
                "coin": asset.name,
                "name": asset.name,
                "isDefault": True,
                "depositEnable": True,
                "withdrawEnable": True,
                "withdrawFee": nothing,
                "withdrawMin": unit,
                "withdrawMax": show((1 << 62) - 1, asset.scale),
                "withdrawIntegerMultiple": unit,
            }
        ],
    }
