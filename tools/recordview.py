"""Log records for people: what `matchbox log` and `matchbox ring` show of them.

    Names       what assets, accounts and markets are called, learnt from the log itself
    fields()    a record as a dict, for --json
    line()      as text

Numbers are integers as in the record, under the name of their unit (price_ticks, amount_units), and
beside them decimals as strings (price, amount) where the definitions are known.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.persistence.cuts import CUT
from matchbox.shm.errors import BadArgument
from matchbox.shm.market import Market
from matchbox.shm.reasons import Reason, describe
from matchbox.shm.records import (
    FEE_ACCOUNT,
    LIST_RECORD,
    MARKET_RECORD,
    MONEY_RECORD,
    NAMED_RECORD,
    NEW_ORDER,
    RULES_RECORD,
    TERMS_RECORD,
    TIER_BY_VOLUME,
    AccountState,
    Assurance,
    Belongs,
    Capability,
    Flag,
    Kind,
    ListType,
    MarketState,
    OrderType,
    Rule,
    SelfTrade,
    Side,
    TimeInForce,
)

ORDERS = (Kind.NEW_ORDER, Kind.CANCEL_ORDER, Kind.AMEND_ORDER)
LISTS = (Kind.ORDER_LIST, Kind.RELEASE)
SUBSCRIPTIONS = (Kind.SUBSCRIBE, Kind.UNSUBSCRIBE)
DEFINITIONS = (Kind.ADD_ASSET, Kind.ADD_ACCOUNT, Kind.ADD_MARKET)
REMOVALS = (Kind.REMOVE_MARKET, Kind.REMOVE_ASSET)
MONEY = (
    Kind.DEPOSIT,
    Kind.REQUEST_WITHDRAWAL,
    Kind.SETTLE_WITHDRAWAL,
    Kind.CANCEL_WITHDRAWAL,
    Kind.TRANSFER,
)
RULES = (Kind.SET_ACCOUNT, Kind.SET_MARKET, Kind.SET_FEES, Kind.SET_TIER)
Values = dict[str, Any]


@dataclass
class Names:
    """What the definitions that were seen call things; of one number, the last."""

    assets: dict[int, tuple[str, int]] = field(default_factory=dict)
    accounts: dict[int, str] = field(default_factory=dict)
    markets: dict[int, Market] = field(default_factory=dict)
    former: dict[str, int] = field(default_factory=dict)  # symbols whose number is another's now

    def learn(self, records: NDArray[Any]) -> None:
        """From the definitions among LOG_RECORDs; those that were refused define nothing."""
        chosen = np.isin(records["kind"], DEFINITIONS) & (records["reject"] == 0)
        for record in records[chosen]:
            named = record.view(NAMED_RECORD)
            if record["kind"] == Kind.ADD_ASSET:
                self.assets[int(named["id"])] = (_text(named["name"]), int(named["scale"]))
            elif record["kind"] == Kind.ADD_ACCOUNT:
                self.accounts[int(named["account"])] = _text(named["name"])
            else:
                self._learn_market(record.view(MARKET_RECORD))

    def _learn_market(self, record: Any) -> None:
        base, quote = (int(record[name]) for name in ("base_asset", "quote_asset"))
        base_name, base_scale = self.assets.get(base, (str(base), 0))
        quote_name, quote_scale = self.assets.get(quote, (str(quote), 0))
        number = int(record["market"])
        if number in self.markets:
            self.former[self.markets[number].symbol] = number
        self.markets[number] = Market.from_record(
            record, base_name, base_scale, quote_name, quote_scale
        )

    def market(self, text: str) -> int:
        """The number of the market called so, or with this number. Raises BadArgument."""
        for number, market in self.markets.items():
            if text in (market.symbol, str(number)):
                return number
        if text in self.former:
            return self.former[text]
        known = ", ".join(m.symbol for m in self.markets.values())
        raise BadArgument(f"no such market in this log: market={text}, known={known}")

    def account(self, text: str) -> int:
        """The number of the account called so, or with this number. Raises BadArgument."""
        for number, name in self.accounts.items():
            if text in (name, str(number)):
                return number
        if text == str(FEE_ACCOUNT):
            return FEE_ACCOUNT
        raise BadArgument(f"no such account in this log: account={text}")

    def amount(self, asset: int, units: int) -> str | None:
        """So many units as a decimal; None if the asset is not known."""
        if asset not in self.assets:
            return None
        return decimal_text(units, Decimal(1).scaleb(-self.assets[asset][1]))


# ---- values


def fields(record: Any, names: Names) -> Values:
    """A LOG_RECORD as plain values for JSON: integers as they are, and decimals as strings."""
    kind = int(record["kind"])
    out: Values = {
        "sequence": int(record["sequence"]),
        "time": format_time(int(record["timestamp_ns"])),
        "timestamp_ns": int(record["timestamp_ns"]),
        "kind": _name(Kind, kind),
        "session": int(record["session"]),
        "session_position": int(record["session_position"]),
        "reject": _name(Reason, int(record["reject"])) if record["reject"] else None,
    }
    if kind in ORDERS:
        cut = {"cut": True} if is_cut(record) else {}
        return out | _order_fields(record, names) | cut
    if kind in MONEY:
        return out | _money_fields(kind, record.view(MONEY_RECORD), names)
    if kind in RULES:
        return out | _rules_fields(kind, record.view(RULES_RECORD), names)
    if kind == Kind.ORDER_TERMS:
        return out | _terms_fields(record.view(TERMS_RECORD), names)
    if kind in LISTS:
        return out | _list_fields(record.view(LIST_RECORD), names)
    if kind == Kind.MASS_CANCEL:
        return out | _account(record, names) | _market(record, names) | _side(record)
    if kind == Kind.COUNTDOWN:
        return out | _account(record, names) | {"milliseconds": int(record["quantity_lots"])}
    if kind == Kind.ADD_MARKET:
        return out | _market_fields(record.view(MARKET_RECORD))
    if kind == Kind.LOST:
        return out | {"first": int(record["order_id"]), "count": int(record["quantity_lots"])}
    if kind in REMOVALS:
        return out | _removal_fields(kind, record.view(NAMED_RECORD), names)
    return out | _named_fields(kind, record.view(NAMED_RECORD), names)


def is_cut(record: Any) -> bool:
    """Of an order, cancel or amend: is no matcher to see it?"""
    return bool(record["reserved"] == CUT and not record["reject"])


def _account(record: Any, names: Names, of: str = "account") -> Values:
    number = int(record[of])
    return {of: number, f"{of}_name": names.accounts.get(number)}


def _market(record: Any, names: Names) -> Values:
    market = names.markets.get(int(record["market"]))
    return {"market": int(record["market"]), "symbol": market.symbol if market else None}


def _side(record: Any) -> Values:
    return {"side": _name(Side, int(record["side"])) if record["side"] else None}


def _operator(record: Any) -> Values:
    """The user of the operator's session, where an operator sent the record and it is known."""
    number = int(record["operator_id"])
    note = _text(record["note"], blanks=True)
    return {"note": note, "operator": number - 1 if number else None}


def _order_fields(record: Any, names: Names) -> Values:
    kind = record["kind"]
    market = names.markets.get(int(record["market"]))
    out: Values = {
        # A new order's id is its sequence; 0 in a command that is not sequenced yet.
        "order_id": int(record["sequence" if kind == Kind.NEW_ORDER else "order_id"]),
        "client_order_id": _text(record["client_order_id"]),
        **_account(record, names),
        **_market(record, names),
        **_side(record),
    }
    if kind == Kind.CANCEL_ORDER:
        reason = int(record["cancel_reason"])
        return out | {
            "reason": _name(Reason, reason) if reason else None,
            "flags": _flags(Flag, int(record["flags"])),
            **_held(record, market, "lack", int(record["quantity_lots"])),
        }
    if kind == Kind.NEW_ORDER:
        out["order_type"] = _name(OrderType, int(record["order_type"]))
        out["time_in_force"] = _name(TimeInForce, int(record["time_in_force"]))
    by_amount = kind == Kind.NEW_ORDER and bool(record["flags"] & Flag.QUOTE_AMOUNT)
    out |= {"flags": _flags(Flag, int(record["flags"]))}
    out |= _of_ticks(record, "price", market)
    if by_amount:
        units = int(record["quantity_lots"])
        amount = _units(units, market.quote_scale) if market else None
        out |= {"quote_amount": amount, "quote_units": units}
    else:
        out |= _of_lots(record, "quantity", market)
    if kind == Kind.NEW_ORDER:
        out |= _new_order_fields(record.view(NEW_ORDER), market)
    return out | _hold(record, market)


def _new_order_fields(record: Any, market: Market | None) -> Values:
    return {
        **_of_ticks(record, "trigger", market),
        "trailing_bips": int(record["trailing_bips"]),
        "self_trade": _name(SelfTrade, int(record["self_trade"])),
        "belongs": _flags(Belongs, int(record["has_terms"])),
        "maker_fee_ppm": int(record["maker_fee_ppm"]),
        "taker_fee_ppm": int(record["taker_fee_ppm"]),
    }


def _hold(record: Any, market: Market | None) -> Values:
    return _held(record, market, "hold", int(record["hold"]))


def _held(record: Any, market: Market | None, what: str, units: int) -> Values:
    """An amount of what an order pays with: quote for a buy, base for a sell."""
    asset, amount = None, None
    if market and units:
        buys = record["side"] == Side.BUY
        asset = market.quote if buys else market.base
        amount = _units(units, market.quote_scale if buys else market.base_scale)
    return {what: amount, f"{what}_asset": asset, f"{what}_units": units}


def _terms_fields(record: Any, names: Names) -> Values:
    market = names.markets.get(int(record["market"]))
    expires = int(record["expire_ns"])
    return {
        **_account(record, names),
        **_market(record, names),
        **_of_lots(record, "display", market),
        "expires": format_time(expires) if expires else None,
        "expire_ns": expires,
    }


def _list_fields(record: Any, names: Names) -> Values:
    """Display quantities are by leg; of a RELEASE, of the orders that it places."""
    market = names.markets.get(int(record["market"]))
    expires, lots = int(record["expire_ns"]), [int(lots) for lots in record["display_lots"]]
    kind = int(record["list_type"])
    shown = [decimal_text(each, market.lot_size) for each in lots] if market else None
    return {
        "list": int(record["list_id"]),
        "list_type": _name(ListType, kind) if kind else None,
        "legs": int(record["legs"]),
        **_account(record, names),
        **_market(record, names),
        "display": shown if any(lots) else None,
        "display_lots": lots if any(lots) else None,
        "expires": format_time(expires) if expires else None,
        "expire_ns": expires,
        "client_list_id": _text(record["client_list_id"]),
    }


def _money_fields(kind: int, record: Any, names: Names) -> Values:
    asset, units = int(record["asset"]), int(record["amount"])
    out = _account(record, names)
    if kind == Kind.TRANSFER:
        out |= _account(record, names, "counter_account")
    return out | {
        "asset": asset,
        "asset_name": names.assets.get(asset, (None, 0))[0],
        "amount": names.amount(asset, units),
        "amount_units": units,
        "reference": _text(record["reference"]),
        **_operator(record),
    }


def _rules_fields(kind: int, record: Any, names: Names) -> Values:
    if kind == Kind.SET_ACCOUNT:
        out = _account(record, names) | _changes(record, _ACCOUNT_RULES, names)
    elif kind == Kind.SET_MARKET:
        out = _market(record, names) | _changes(record, _MARKET_RULES, names)
    elif kind == Kind.SET_FEES:
        rates = {name: int(record[name]) for name in ("maker_fee_ppm", "taker_fee_ppm")}
        out = _market(record, names) | {"tier": _tier(record)} | rates
    else:
        asset = int(record["asset"])
        name = names.assets.get(asset, (None, 0))[0]
        out = {"tier": _tier(record), "asset": asset, "asset_name": name}
        out |= {"volume": int(record["amount"])}
    return out | _operator(record)


def _changes(record: Any, rules: "dict[Rule, Change]", names: Names) -> Values:
    """What a SET_ACCOUNT or SET_MARKET record changes; the rest of its fields says nothing."""
    changed = int(record["rules"])
    out: Values = {"changes": _flags(Rule, changed)}
    for rule, read in rules.items():
        if changed & rule:
            out |= read(record, names)
    return out


Change = Callable[[Any, Names], Values]


def _tier(record: Any) -> int | str:
    tier = int(record["tier"])
    return "by-volume" if tier == TIER_BY_VOLUME else tier


def _min_notional(record: Any, names: Names) -> Values:
    units = int(record["amount"])
    market = names.markets.get(int(record["market"]))
    amount = _units(units, market.quote_scale) if market else None
    return {"min_notional": amount, "min_notional_units": units}


def _reference_price(record: Any, names: Names) -> Values:
    ticks = int(record["reference_ticks"])
    market = names.markets.get(int(record["market"]))
    price = decimal_text(ticks, market.tick_size) if market else None
    return {"reference_price": price, "reference_ticks": ticks}


def _numbers(*fields: str) -> Change:
    return lambda record, names: {name: int(record[name]) for name in fields}


_ACCOUNT_RULES: dict[Rule, Change] = {
    Rule.STATE: lambda record, names: {"state": _name(AccountState, int(record["state"]))},
    Rule.TIER: lambda record, names: {"tier": _tier(record)},
}
_MARKET_RULES: dict[Rule, Change] = {
    Rule.STATE: lambda record, names: {"state": _name(MarketState, int(record["state"]))},
    Rule.NOTIONAL: _min_notional,
    Rule.REFERENCE: _reference_price,
    Rule.BANDS: _numbers("band_up_bips", "band_down_bips"),
    Rule.PROTECTION: _numbers("protection_bips"),
    Rule.ORDERS: _numbers("account_orders"),
}


def _market_fields(record: Any) -> Values:
    out = {"market": int(record["market"]), "symbol": _text(record["symbol"])}
    names = "base_asset quote_asset lot_units notional_units tick_mantissa tick_scale"
    names += " price_step_ticks quantity_step_lots max_price_ticks min_quantity_lots"
    names += " max_quantity_lots max_orders specials"
    return out | {name: int(record[name]) for name in names.split()}


def _removal_fields(kind: int, record: Any, names: Names) -> Values:
    """What is removed, as the record calls it, else as it was defined."""
    number, name = int(record["id"]), _text(record["name"])
    if kind == Kind.REMOVE_ASSET:
        return {"asset": number, "asset_name": name or names.assets.get(number, (None, 0))[0]}
    market = names.markets.get(number)
    return {"market": number, "symbol": name or (market.symbol if market else None)}


def _named_fields(kind: int, record: Any, names: Names) -> Values:
    name = {"name": _text(record["name"])}
    if kind == Kind.ADD_ASSET:
        return {"asset": int(record["id"]), **name, "scale": int(record["scale"])}
    if kind == Kind.ADD_ACCOUNT:
        parent = int(record["parent"])
        return {"account": int(record["account"]), **name, "parent": parent or None}
    if kind == Kind.ATTACH_SESSION:
        user = int(record["user"])
        return {
            "attached": int(record["id"]),
            **name,
            **_account(record, names),
            "capabilities": _flags(Capability, int(record["capabilities"])),
            "position": int(record["position"]),
            "user": user - 1 if user else None,
            "cancel_on_detach": bool(record["cancel_on_detach"]),
            "assurance": _name(Assurance, int(record["assurance"]) or Assurance.MATCHED),
        }
    if kind == Kind.DETACH_SESSION:
        reason = _name(Reason, int(record["reason"])) if record["reason"] else None
        about = {"detached": int(record["id"]), **name, "reason": reason}
        return about | {"position": int(record["position"])}
    if kind in (Kind.START, Kind.TAKE_OVER):
        return {"epoch": int(record["epoch"])}
    return _account(record, names) if kind in SUBSCRIPTIONS else {}


def _of_ticks(record: Any, what: str, market: Market | None) -> Values:
    ticks = int(record[f"{what}_ticks"])
    price = decimal_text(ticks, market.tick_size) if market and ticks else None
    return {what: price, f"{what}_ticks": ticks}


def _of_lots(record: Any, what: str, market: Market | None) -> Values:
    lots = int(record[f"{what}_lots"])
    quantity = decimal_text(lots, market.lot_size) if market and lots else None
    return {what: quantity, f"{what}_lots": lots}


def _units(units: int, scale: int) -> str:
    return decimal_text(units, Decimal(1).scaleb(-scale))


def decimal_text(count: int, unit: Decimal) -> str:
    """So many units, exactly, with as many digits as one unit needs."""
    return f"{count * unit.normalize():f}"


# ---- text


def line(record: Any, names: Names) -> str:
    """A LOG_RECORD in one line of text."""
    values = fields(record, names)
    kind = int(record["kind"])
    parts = [f"{values['sequence']:>9}", values["time"], f"{values['kind']:<14}"]
    parts.append(f"session={values['session']}" if values["session"] else "engine   ")
    if kind in ORDERS:
        parts += _order_text(values)
    elif kind in MONEY:
        parts += _money_text(values)
    else:
        parts += _plain_text(values)
    if record["reject"]:
        parts.append(f"REFUSED: {describe(int(record['reject']))}")
    if kind in ORDERS and is_cut(record):
        parts.append(f"CUT OUT: {describe(Reason.POISONED)}")
    return " ".join(parts)


def json_line(record: Any, names: Names) -> str:
    """A LOG_RECORD as one line of JSON."""
    return json.dumps(fields(record, names))


_COMMON = frozenset(
    ("sequence", "time", "timestamp_ns", "kind", "session", "session_position", "reject")
)
# In text a name or a decimal stands for the number, where it is known: under its own name or the
# number's.
_BETTER = {
    "account": ("account_name", "account"),
    "market": ("symbol", "market"),
    "asset": ("asset_name", "asset"),
    "display_lots": ("display", "display"),
    "expire_ns": ("expires", "expires"),
    "min_notional_units": ("min_notional", "min_notional"),
    "reference_ticks": ("reference_price", "reference_price"),
}
_HIDDEN = _COMMON | {better for better, _ in _BETTER.values()}
_NOTHING_IF_0 = ("account", "market", "display_lots", "expire_ns", "list", "legs")
_WORDS = ("side", "changes", "state", "list_type")


def _plain_text(values: Values) -> list[str]:
    """`name=value` of everything that says something."""
    if values["kind"] == Kind.ADD_MARKET.name:
        return [f"{name}={value}" for name, value in values.items() if name not in _COMMON]
    parts = []
    for name, value in values.items():
        if name in _HIDDEN or value is None or value is False or value in ("", []):
            continue
        if value == 0 and name in _NOTHING_IF_0:
            continue
        better, label = _BETTER.get(name, ("", ""))
        if values.get(better) is not None:
            name, value = label, values[better]
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        if name == "note":
            text = f'"{text}"'
        parts.append(f"{name}={text.lower() if name in _WORDS else text}")
    return parts


def _order_text(values: Values) -> list[str]:
    account = values["account_name"] or values["account"]
    parts = [f"account={account}"]
    if values["market"]:
        parts.append(f"market={values['symbol'] or values['market']}")
    if values["order_id"]:
        parts.append(f"order={values['order_id']}")
    if values["side"]:
        parts.append(values["side"].lower())
    parts += _quantity_text(values)
    if "order_type" in values:
        parts += [values["order_type"].lower().replace("_", "-"), values["time_in_force"]]
        parts += _condition_text(values)
    parts += [flag.lower().replace("_", "-") for flag in values.get("flags", ())]
    for name in ("hold", "lack"):
        if values.get(f"{name}_units"):
            held = f"{values[f'{name}_units']} units"
            if values[name]:
                held = f"{values[name]} {values[f'{name}_asset']}"
            parts.append(f"{name}={held}")
    for name in ("maker_fee_ppm", "taker_fee_ppm"):
        if values.get(name):
            parts.append(f"{name.removesuffix('_fee_ppm')}={values[name]}ppm")
    if values.get("reason"):
        parts.append(f"reason={values['reason']}")
    if values["client_order_id"]:
        parts.append(f"client={values['client_order_id']}")
    return parts


def _quantity_text(values: Values) -> list[str]:
    parts = []
    if values.get("quantity_lots"):
        parts.append(values["quantity"] or f"{values['quantity_lots']} lots")
    if values.get("quote_units"):
        parts.append(f"for {values['quote_amount'] or str(values['quote_units']) + ' units'}")
    if values.get("price_ticks"):
        # Of what has no price of its own, it is the bound.
        bound = values.get("order_type") in _UNPRICED
        price = values["price"] or f"{values['price_ticks']} ticks"
        parts.append(f"{'bound' if bound else 'at'} {price}")
    return parts


_UNPRICED = ("MARKET", "STOP_LOSS", "TAKE_PROFIT")


_BELONGS = {
    "HAS_TERMS": "with-terms",
    "IN_LIST": "in-list",
    "IS_PENDING": "pending",
    "REPLACES": "replaces",
}


def _condition_text(values: Values) -> list[str]:
    parts = []
    if values["trigger_ticks"]:
        parts.append(f"trigger {values['trigger'] or str(values['trigger_ticks']) + ' ticks'}")
    if values["trailing_bips"]:
        parts.append(f"trailing {values['trailing_bips']} bips")
    if values["self_trade"] != "TRADE_WITH_SELF":
        parts.append(f"self-trade={values['self_trade'].lower().replace('_', '-')}")
    return parts + [_BELONGS[name] for name in values["belongs"] if name in _BELONGS]


def _money_text(values: Values) -> list[str]:
    parts = [f"account={values['account_name'] or values['account']}"]
    if "counter_account" in values:
        parts.append(f"to={values['counter_account_name'] or values['counter_account']}")
    if values["asset"] or values["amount_units"]:
        amount = f"{values['amount_units']} units of asset {values['asset']}"
        if values["amount"] is not None:
            amount = f"{values['amount']} {values['asset_name']}"
        parts.append(amount)
    if values["reference"]:
        parts.append(f"reference={values['reference']}")
    if values["note"]:
        parts.append(f'note="{values["note"]}"')
    if values["operator"] is not None:
        parts.append(f"operator={values['operator']}")
    return parts


def _name(of: Any, number: int) -> str:
    """The name of a member of an enumeration; its number if it has none."""
    return of(number).name if number in of._value2member_map_ else str(number)


def _flags(of: Any, value: int) -> list[str]:
    known = [flag for flag in of if value & flag]
    unknown = value & ~sum(known)
    return [str(flag.name) for flag in known] + ([str(unknown)] if unknown else [])


def _text(value: bytes, *, blanks: bool = False) -> str:
    # Bytes of a refused command may be anything; they must not reach a terminal as they are.
    low = 0x20 if blanks else 0x21
    return "".join(chr(b) if low <= b < 0x7F else f"\\x{b:02x}" for b in bytes(value))


def format_time(timestamp_ns: int) -> str:
    """UTC, ISO 8601, with nanoseconds."""
    seconds, rest = divmod(timestamp_ns, 1_000_000_000)
    try:
        day = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{timestamp_ns}ns"
    return f"{day:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
