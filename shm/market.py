"""A market as its clients see it: decimals outside, ticks and lots inside, converted exactly."""

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from matchbox.shm.errors import BadArgument
from matchbox.shm.records import MAX_ASSET_UNITS

Number = str | int | Decimal


@dataclass(frozen=True)
class Asset:
    """Something that is owned: one whole = 10^scale units."""

    number: int
    name: str
    scale: int

    def units(self, amount: Number, *, least: int = 1) -> int:
        """`amount` in units. Raises BadArgument unless it is a whole number, `least` or more."""
        units = _whole(amount, Decimal(1).scaleb(-self.scale), "amount", "smallest unit", self.name)
        return in_range(units, "amount", amount, least=least)

    def amount(self, units: int) -> Decimal:
        """The amount of so many units, with as many digits as the asset has."""
        return int(units) * Decimal(1).scaleb(-self.scale)


def in_range(units: int, what: str, said: Any, *, least: int = 1) -> int:
    """`units`, if there can be so many. Raises BadArgument."""
    if not least <= units <= MAX_ASSET_UNITS:
        above = "above 0" if least else "0"
        raise BadArgument(f"{what} must be {above} to {MAX_ASSET_UNITS} units: {what}={said}")
    return units


@dataclass(frozen=True)
class Market:
    """Ticks, lots and limits of a market. `tick_size` and `lot_size` are exact Decimals."""

    number: int
    symbol: str
    base: str
    quote: str
    base_scale: int
    quote_scale: int
    tick_size: Decimal
    lot_size: Decimal
    price_step_ticks: int
    quantity_step_lots: int
    max_price_ticks: int
    min_quantity_lots: int
    max_quantity_lots: int
    notional_units: int
    base_asset: int  # numbers of the assets
    quote_asset: int

    @classmethod
    def from_record(
        cls, record: Any, base: str, base_scale: int, quote: str, quote_scale: int
    ) -> "Market":
        """From an ADD_MARKET record and the names and scales of its two assets."""
        return cls(
            number=int(record["market"]),
            symbol=record["symbol"].decode(),
            base=base,
            quote=quote,
            base_scale=base_scale,
            quote_scale=quote_scale,
            tick_size=Decimal(int(record["tick_mantissa"])).scaleb(-int(record["tick_scale"])),
            lot_size=Decimal(int(record["lot_units"])).scaleb(-base_scale),
            price_step_ticks=int(record["price_step_ticks"]),
            quantity_step_lots=int(record["quantity_step_lots"]),
            max_price_ticks=int(record["max_price_ticks"]),
            min_quantity_lots=int(record["min_quantity_lots"]),
            max_quantity_lots=int(record["max_quantity_lots"]),
            notional_units=int(record["notional_units"]),
            base_asset=int(record["base_asset"]),
            quote_asset=int(record["quote_asset"]),
        )

    def ticks(self, price: Number) -> int:
        """`price` in ticks. Raises BadArgument unless it is a whole number of them."""
        return _whole(price, self.tick_size, "price", "tick_size", self.symbol)

    def lots(self, quantity: Number) -> int:
        """`quantity` in lots. Raises BadArgument unless it is a whole number of them."""
        return _whole(quantity, self.lot_size, "quantity", "lot_size", self.symbol)

    def quote_units(self, amount: Number, *, least: int = 1) -> int:
        """An amount of the quote asset in its units; as Asset.units()."""
        return Asset(self.quote_asset, self.quote, self.quote_scale).units(amount, least=least)

    def price(self, ticks: int) -> Decimal:
        """The price of so many ticks."""
        return int(ticks) * self.tick_size

    def quantity(self, lots: int) -> Decimal:
        """The quantity of so many lots."""
        return int(lots) * self.lot_size


def _whole(value: Number, unit: Decimal, what: str, unit_name: str, symbol: str) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise BadArgument(
            f"{what} must be a str, an int or a Decimal, never a float: {what}={value!r}"
        )
    try:
        number = Decimal(value)
        exact = Fraction(number) / Fraction(unit)
    except (InvalidOperation, ValueError, OverflowError):
        raise BadArgument(f"{what} is not a number: {what}={value!r}") from None
    if exact.denominator != 1:
        raise BadArgument(
            f"{what} is not a multiple of the {unit_name} of {symbol}: "
            f"{what}={value}, {unit_name}={unit}"
        )
    if not -(2**63) <= exact.numerator < 2**63:
        raise BadArgument(f"{what} is out of range: {what}={value}")
    return exact.numerator
