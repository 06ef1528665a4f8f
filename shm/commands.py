"""Commands that move money or set rules, made of what people say; Session sends them.

Each function gives one record, checked as far as it can be without the exchange's state. `known` is
the session's connection: it knows assets and markets. All raise BadArgument.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from matchbox.shm.errors import BadArgument
from matchbox.shm.market import Asset, Market, Number, in_range
from matchbox.shm.records import (
    COMMAND,
    FEE_TIERS,
    MAX_PRICE_TICKS,
    MONEY_RECORD,
    RULES_RECORD,
    TIER_BY_VOLUME,
    AccountState,
    Kind,
    MarketState,
    Rule,
    Side,
)

MAX_COUNTDOWN_MS = 2**31 - 1
MAX_FEE_PPM = 30_000
_MONEY_NOTE, _RULES_NOTE = 24, 36  # bytes
_ACCOUNT_STATES = {"active": 1, "cancel_only": 2, "frozen": 3}
_MARKET_STATES = {"open": 1, "post_only": 2, "cancel_only": 3, "halted": 4}
Record = NDArray[Any]


class Known(Protocol):
    """What is asked of a connection."""

    def asset(self, asset: Asset | str | int) -> Asset: ...
    def market(self, market: Market | str | int) -> Market: ...


# ---- orders of an account


def mass_cancel(
    known: Known, market: Market | str | int | None, side: str | None, account: int
) -> Record:
    record = np.zeros(1, COMMAND)
    record["kind"] = Kind.MASS_CANCEL
    record["account"] = _number(account, "account")
    if market is not None:
        record["market"] = known.market(market).number
    if side is not None:
        record["side"] = _choice(side, "side", {"buy": Side.BUY, "sell": Side.SELL})
    return record


def countdown(milliseconds: int, account: int) -> Record:
    record = np.zeros(1, COMMAND)
    record["kind"] = Kind.COUNTDOWN
    record["account"] = _number(account, "account")
    record["quantity_lots"] = _number(milliseconds, "milliseconds", MAX_COUNTDOWN_MS)
    return record


# ---- money


def money(
    kind: Kind,
    known: Known,
    account: int,
    asset: Asset | str | int,
    amount: Number | None,
    amount_units: int | None,
    reference: str,
    note: str = "",
) -> Record:
    """DEPOSIT, REQUEST_WITHDRAWAL."""
    record = _money(kind, account, reference, note)
    _set_amount(record, known, asset, amount, amount_units)
    return record


def transfer(
    known: Known,
    account: int,
    to: int,
    asset: Asset | str | int,
    amount: Number | None,
    amount_units: int | None,
    reference: str,
    note: str = "",
) -> Record:
    record = _money(Kind.TRANSFER, account, reference, note, optional=True)
    record["counter_account"] = _number(to, "to", least=1)
    if account == to:
        raise BadArgument(f"a transfer is between two accounts: account={account}, to={to}")
    _set_amount(record, known, asset, amount, amount_units)
    return record


def withdrawal(kind: Kind, account: int, reference: str, note: str = "") -> Record:
    """SETTLE_WITHDRAWAL, CANCEL_WITHDRAWAL: of the request with this reference."""
    return _money(kind, account, reference, note)


def _money(kind: Kind, account: int, reference: str, note: str, optional: bool = False) -> Record:
    record = np.zeros(1, MONEY_RECORD)
    record["kind"] = kind
    record["account"] = _number(account, "account")
    record["reference"] = check_text(reference, "reference", optional=optional)
    record["note"] = _note(note, _MONEY_NOTE)
    return record


def _set_amount(
    record: Record, known: Known, asset: Any, amount: Number | None, units: int | None
) -> None:
    found = known.asset(asset)
    record["asset"] = found.number
    if (amount is None) == (units is None):
        raise BadArgument("give amount or amount_units, one of them")
    if amount is not None:
        record["amount"] = found.units(amount)
    else:
        record["amount"] = in_range(_integer(units, "amount_units"), "amount_units", units)


def check_text(text: str, what: str, *, optional: bool = False) -> bytes:
    """A reference or client order id as it stands in a record. Raises BadArgument."""
    if not isinstance(text, str):
        raise BadArgument(f"{what} must be a str: {text!r}")
    good = all("!" <= character <= "~" for character in text)
    if not good or not (0 if optional else 1) <= len(text) <= 36:
        raise BadArgument(
            f"{what} must be 1 to 36 printable ASCII characters without blanks: {text!r}"
        )
    return text.encode()


# ---- rules


def set_account(
    account: int, state: str | None, tier: int | str | None, cancel_orders: bool, note: str
) -> Record:
    record = _rules(Kind.SET_ACCOUNT, note)
    record["account"] = _number(account, "account", least=1)
    rules = Rule.CANCEL if cancel_orders else Rule(0)
    if state is not None:
        record["state"] = AccountState(_choice(state, "state", _ACCOUNT_STATES))
        rules |= Rule.STATE
    if tier is not None:
        by_volume = tier == "by_volume"
        record["tier"] = TIER_BY_VOLUME if by_volume else _tier(tier, " or 'by_volume'")
        rules |= Rule.TIER
    return _with_rules(record, rules, "state, tier or cancel_orders")


def set_market(
    market: Market,
    *,
    state: str | None,
    min_notional: Number | None,
    min_notional_units: int | None,
    reference_price: Number | None,
    reference_ticks: int | None,
    band_up_bips: int | None,
    band_down_bips: int | None,
    protection_bips: int | None,
    account_orders: int | None,
    cancel_orders: bool,
    note: str,
) -> Record:
    record = _rules(Kind.SET_MARKET, note)
    record["market"] = market.number
    rules = Rule.CANCEL if cancel_orders else Rule(0)
    if state is not None:
        record["state"] = MarketState(_choice(state, "state", _MARKET_STATES))
        rules |= Rule.STATE
    if min_notional is not None or min_notional_units is not None:
        record["amount"] = _min_notional(market, min_notional, min_notional_units)
        rules |= Rule.NOTIONAL
    if reference_price is not None or reference_ticks is not None:
        record["reference_ticks"] = _reference_ticks(market, reference_price, reference_ticks)
        rules |= Rule.REFERENCE
    if band_up_bips is not None or band_down_bips is not None:
        if band_up_bips is None or band_down_bips is None:
            raise BadArgument("bands are set together: give band_up_bips and band_down_bips")
        record["band_up_bips"] = _number(band_up_bips, "band_up_bips", 0xFFFF)
        record["band_down_bips"] = _number(band_down_bips, "band_down_bips", 9_999)
        rules |= Rule.BANDS
    if protection_bips is not None:
        record["protection_bips"] = _number(protection_bips, "protection_bips", 10_000, least=1)
        rules |= Rule.PROTECTION
    if account_orders is not None:
        record["account_orders"] = _number(account_orders, "account_orders")
        rules |= Rule.ORDERS
    return _with_rules(record, rules, "at least one rule, or cancel_orders")


def set_fees(
    market: Market | None, tier: int, maker_fee_ppm: int, taker_fee_ppm: int, note: str
) -> Record:
    record = _rules(Kind.SET_FEES, note)
    record["market"] = market.number if market else 0
    record["tier"] = _tier(tier)
    maker = _integer(maker_fee_ppm, "maker_fee_ppm")
    if not -MAX_FEE_PPM <= maker <= MAX_FEE_PPM:
        raise BadArgument(
            f"maker_fee_ppm is out of range: maker_fee_ppm={maker}, "
            f"allowed={-MAX_FEE_PPM}..{MAX_FEE_PPM}"
        )
    record["maker_fee_ppm"] = maker
    record["taker_fee_ppm"] = _number(taker_fee_ppm, "taker_fee_ppm", MAX_FEE_PPM)
    return record


def set_tier(tier: int, volume: int, asset: Asset, note: str) -> Record:
    record = _rules(Kind.SET_TIER, note)
    record["tier"] = _tier(tier)
    record["amount"] = _number(volume, "volume", 2**63 - 1)
    record["asset"] = asset.number
    return record


def _rules(kind: Kind, note: str) -> Record:
    record = np.zeros(1, RULES_RECORD)
    record["kind"] = kind
    record["note"] = _note(note, _RULES_NOTE)
    return record


def _with_rules(record: Record, rules: Rule, what: str) -> Record:
    if not rules:
        raise BadArgument(f"nothing to set: give {what}")
    record["rules"] = rules
    return record


def _min_notional(market: Market, amount: Number | None, units: int | None) -> int:
    if amount is not None and units is not None:
        raise BadArgument("give min_notional or min_notional_units, not both")
    if amount is None:
        return in_range(_integer(units, "min_notional_units"), "min_notional_units", units, least=0)
    return market.quote_units(amount, least=0)


def _reference_ticks(market: Market, price: Number | None, ticks: int | None) -> int:
    if price is not None and ticks is not None:
        raise BadArgument("give reference_price or reference_ticks, not both")
    ticks = ticks if price is None else market.ticks(price)
    return _number(ticks, "reference_ticks", MAX_PRICE_TICKS, least=1)


def _tier(tier: Any, also: str = "") -> int:
    if isinstance(tier, bool) or not isinstance(tier, int) or not 0 <= tier < FEE_TIERS:
        raise BadArgument(f"tier must be 0 to {FEE_TIERS - 1}{also}: tier={tier!r}")
    return tier


# ---- values


def _note(note: str, size: int) -> bytes:
    if not isinstance(note, str):
        raise BadArgument(f"note must be a str: note={note!r}")
    if len(note) > size or not all(" " <= character <= "~" for character in note):
        raise BadArgument(f"note must be up to {size} printable ASCII characters: note={note!r}")
    return note.encode()


def _choice(value: Any, name: str, choices: dict[str, Any]) -> Any:
    try:
        return choices[value]
    except (KeyError, TypeError):
        raise BadArgument(f"{name} must be one of {', '.join(choices)}: {name}={value!r}") from None


def _integer(value: Any, name: str) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise BadArgument(f"{name} must be an integer: {name}={value!r}")
    return int(value)


def _number(value: Any, name: str, maximum: int = 0xFFFFFFFF, *, least: int = 0) -> int:
    number = _integer(value, name)
    if not least <= number <= maximum:
        raise BadArgument(f"{name} is out of range: {name}={number}, allowed={least}..{maximum}")
    return number
