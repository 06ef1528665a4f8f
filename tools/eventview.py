"""Events for people, and records and events for conditions: what `matchbox replay-log` shows.

fields()    an EVENT as a dict, for --json; integers and decimals as recordview.py has them
line()      as text, indented under its record
of_record() of_event()   the names of conditions.py
"""

from decimal import Decimal
from typing import Any

from matchbox.shm.reasons import Reason
from matchbox.shm.records import EventFlag, EventKind, Side
from matchbox.tools import recordview
from matchbox.tools.conditions import word
from matchbox.tools.recordview import Names, Values, decimal_text

_TWO_SIDED = (EventKind.TRADE, EventKind.PREVENTED)
# Of recordview's fields: their names in conditions, where they differ.
_RENAMED = {
    "account": "account_number",
    "maker_account": "maker_account_number",
    "market": "market_number",
    "account_name": "account",
    "maker_account_name": "maker_account",
    "symbol": "market",
    "asset_name": "asset",
}
_WORDS = ("kind", "side", "order_type", "time_in_force", "reason")
_DECIMALS = (
    "price",
    "quantity",
    "leaves",
    "cumulative",
    "trigger",
    "hold",
    "amount",
    "fee",
    "maker_fee",
)


def fields(event: Any, names: Names) -> Values:
    """An EVENT as plain values for JSON."""
    kind = int(event["kind"])
    out: Values = {
        "sequence": int(event["sequence"]),
        "index": int(event["index"]),
        "kind": _name(EventKind, kind),
        **_account(event, "account", names),
        "reason": _reason(event),
    }
    if _is_balance(event):
        return out | _balance_fields(event, names)
    market = names.markets.get(int(event["market"]))
    out |= {"market": int(event["market"]), "symbol": market.symbol if market else None}
    out |= {"order_id": int(event["order_id"])}
    out |= {"side": _name(Side, int(event["side"])) if event["side"] else None}
    ticks = int(event["price_ticks"])
    out |= {"price": decimal_text(ticks, market.tick_size) if market and ticks else None}
    out |= {"price_ticks": ticks}
    for what in ("quantity", "leaves", "cumulative"):
        lots = int(event[f"{what}_lots"])
        out[what] = decimal_text(lots, market.lot_size) if market else None
        out[f"{what}_lots"] = lots
    if kind in _TWO_SIDED:
        out |= {name: int(event[name]) for name in ("maker_order_id", "trade_id")}
        out |= _account(event, "maker_account", names)
    if kind == EventKind.TRADE:
        buys = event["side"] == Side.BUY
        out |= _fee(event, "fee", buys, names) | _fee(event, "maker_fee", not buys, names)
    flags = int(event["flags"]) & ~EventFlag.LAST
    return out | {"flags": [str(flag.name) for flag in EventFlag if flags & flag]}


def _is_balance(event: Any) -> bool:
    """Or the refusal of a command that made no order: of it no more is said than why."""
    kind = event["kind"]
    return bool(kind == EventKind.BALANCE or (kind == EventKind.REJECTED and not event["order_id"]))


def _balance_fields(event: Any, names: Names) -> Values:
    if event["kind"] != EventKind.BALANCE:
        return {}
    asset = int(event["market"])
    out: Values = {"asset": asset, "asset_name": names.assets.get(asset, (None, 0))[0]}
    for what, field in (
        ("free", "quantity_lots"),
        ("held", "leaves_lots"),
        ("amount", "cumulative_lots"),
    ):
        units = int(event[field])
        out |= {what: names.amount(asset, units), f"{what}_units": units}
    return out


def _account(event: Any, what: str, names: Names) -> Values:
    number = int(event[what])
    return {what: number, f"{what}_name": names.accounts.get(number)}


def _fee(event: Any, what: str, gets_base: bool, names: Names) -> Values:
    """Of what its side receives; a rebate is in the other one."""
    units = int(event[what])
    market = names.markets.get(int(event["market"]))
    if market is None:
        return {what: None, f"{what}_asset": None, f"{what}_units": units}
    asset = market.base_asset if gets_base != (units < 0) else market.quote_asset
    name = names.assets[asset][0] if asset in names.assets else None
    return {what: names.amount(asset, units), f"{what}_asset": name, f"{what}_units": units}


def line(event: Any, names: Names) -> str:
    """An EVENT in one line of text."""
    values = fields(event, names)
    parts = [f"{'':>9}   {values['kind'].lower():<10}"]
    if values["account"]:
        parts.append(f"account={values['account_name'] or values['account']}")
    parts += _balance_text(values) if _is_balance(event) else _order_text(values)
    if values["reason"]:
        parts.append(f"reason={values['reason']}")
    return " ".join(parts)


def _balance_text(values: Values) -> list[str]:
    if "free" not in values:
        return []
    asset = values["asset_name"] or f"units of asset {values['asset']}"
    amounts = {n: values[n] or values[f"{n}_units"] for n in ("amount", "free", "held")}
    return [f"{asset}", *(f"{name}={amount}" for name, amount in amounts.items())]


def _order_text(values: Values) -> list[str]:
    parts = [f"market={values['symbol'] or values['market']}", f"order={values['order_id']}"]
    if values.get("maker_order_id"):
        parts.append(f"maker={values['maker_order_id']}")
        parts.append(f"of={values['maker_account_name'] or values['maker_account']}")
    if values["side"]:
        parts.append(values["side"].lower())
    parts.append(values["quantity"] or f"{values['quantity_lots']} lots")
    if values["price_ticks"]:
        parts.append(f"at {values['price'] or str(values['price_ticks']) + ' ticks'}")
    if values["leaves_lots"]:
        parts.append(f"leaves={values['leaves'] or values['leaves_lots']}")
    if values.get("trade_id"):
        parts.append(f"trade={values['trade_id']}")
    for what in ("fee", "maker_fee"):
        if values.get(f"{what}_units"):
            amount = values[what] or f"{values[f'{what}_units']} units"
            parts.append(
                f"{what.replace('_', '-')}={amount} {values[f'{what}_asset'] or ''}".strip()
            )
    return parts + [flag.lower() for flag in values["flags"]]


# ---- for conditions


def of_record(record: Any, names: Names) -> Values:
    """A LOG_RECORD under the names of a condition."""
    values = recordview.fields(record, names)
    out = _renamed(values) | {"what": "record", "refused": bool(record["reject"])}
    if values["reject"]:
        out["reason"] = word(values["reject"])
    return out


def of_event(event: Any, record: Values, names: Names) -> Values:
    """An EVENT under the names of a condition; `record`: those of the record that caused it, which
    say whose session, when, and the client order id of the order.
    """
    out = _renamed(fields(event, names)) | {"what": "event"}
    for name in ("session", "timestamp_ns", "time"):
        out[name] = record.get(name)
    if out.get("order_id") == record.get("order_id"):
        out["client_order_id"] = record.get("client_order_id")
    out["refused"] = event["kind"] == EventKind.REJECTED
    return out


def _renamed(values: Values) -> Values:
    # What has a name of its own comes after the number that it stands for.
    out = {_RENAMED.get(name, name): value for name, value in values.items()}
    for name in ("account", "maker_account", "market", "asset"):
        number = values.get(name)
        if number and out.get(name) is None:
            out[name] = str(number)
    if "asset" in values and values.get("asset_name") is None:
        out["asset"] = str(values["asset"])
    for name in _WORDS:
        if isinstance(out.get(name), str):
            out[name] = word(out[name])
    for name in _DECIMALS:
        if out.get(name) is not None:
            out[name] = Decimal(str(out[name]))
    for name in ("order_id", "account_number", "market_number"):
        out[name] = out.get(name) or None
    out["client_order_id"] = out.get("client_order_id") or None
    return out


def _reason(event: Any) -> str | None:
    code = int(event["reason"])
    return _name(Reason, code) if code else None


def _name(of: Any, number: int) -> str:
    return of(number).name if number in of._value2member_map_ else str(number)
