"""Amounts as clients write them, and as the engine has them: strings outside, integers inside.

    parse("0.0015", 8)   150000            a number of 10^-8
    show(150000, 8)      "0.00150000"

Both are exact; a float is nowhere. A Grid has a step that is not a power of ten, or a whole number
of such: a market's tick and lot.
"""

import re
from dataclasses import dataclass
from decimal import Decimal

from matchbox.gateway.errors import ApiError, filter_failure, illegal, of, too_precise

LEGAL = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
# The engine's integers have 64 bits, with a sign.
MAX_INT64 = (1 << 63) - 1
# Clients take a level out of a book where its quantity is this many zeros.
PLACES = 8
_LEGAL = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,20}))?", re.ASCII)


def parse(text: str, digits: int, name: str) -> int:
    """`text` in units of 10^-digits. Raises ApiError: -1100 for what is no plain number, such as
    `1e-5` or `-1`, and -1111 if it is finer than a unit.
    """
    found = _LEGAL.fullmatch(text)
    if found is None:
        raise illegal(name, LEGAL)
    whole, fraction = found[1], (found[2] or "").rstrip("0")
    if len(fraction) > digits:
        raise too_precise(name)
    return int(whole + fraction.ljust(digits, "0"))


def show(units: int, digits: int, places: int = PLACES) -> str:
    """`units` of 10^-digits as a plain decimal, with `places` places or more."""
    if digits < places:
        units, digits = units * 10 ** (places - digits), places
    sign, text = ("-" if units < 0 else ""), str(abs(units)).rjust(digits + 1, "0")
    return f"{sign}{text[:-digits]}.{text[-digits:]}" if digits else f"{sign}{text}"


def rounded(numerator: int, denominator: int) -> int:
    """The nearest integer to a fraction; a half goes away from zero. By 0 it is 0."""
    if not denominator:
        return 0
    whole, rest = divmod(abs(numerator), denominator)
    whole += 2 * rest >= denominator
    return -whole if numerator < 0 else whole


@dataclass(frozen=True)
class Grid:
    """Numbers that are whole multiples of a unit: prices in ticks, quantities in lots.

    digits     a unit is `mantissa` of 10^-digits
    precision  the most decimal places that the dialect allows; finer is -1111
    step       a unit in 10^-precision
    filter     what is named where a number is off the grid or out of range
    """

    digits: int
    mantissa: int
    precision: int
    step: int
    filter: str

    @classmethod
    def of(cls, unit: Decimal, precision: int, filter_name: str) -> "Grid":
        """The grid of a unit such as 0.01."""
        digits = max(0, -int(unit.normalize().as_tuple().exponent))
        precision = max(precision, digits)
        step = int(unit.scaleb(precision))
        return cls(digits, int(unit.scaleb(digits)), precision, step, filter_name)

    def parse(self, text: str, name: str) -> int:
        """`text` in units. Raises ApiError: -1100, -1111, or -1013 if it is off the grid."""
        value = parse(text, self.precision, name)
        units, rest = divmod(value, self.step)
        if rest or units > MAX_INT64:
            raise self.failure
        return units

    @property
    def failure(self) -> ApiError:
        return of(filter_failure(self.filter))

    def show(self, units: int) -> str:
        return show(units * self.mantissa, self.digits)
