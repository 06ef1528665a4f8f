"""Rows of the streams and the views as people and programs read them: with names and decimals."""

from typing import Any

from matchbox.persistence.partition import OrderStatus
from matchbox.shm.reasons import describe
from matchbox.shm.records import (
    Assurance,
    EventKind,
    Kind,
    OrderType,
    ReportFlag,
    SelfTrade,
    Side,
    TimeInForce,
)
from matchbox.shm.streams import Position
from matchbox.tools.recordview import Names, Values, decimal_text, format_time

_PRICES = ("price", "trigger")
_QUANTITIES = ("quantity", "leaves", "cumulative", "prevented", "display")


def report(row: Any, names: Names) -> Values:
    """A REPORT."""
    kind = int(row["kind"])
    values = _head(row)
    values["kind"] = _word(EventKind, kind)
    values["account"] = int(row["account"])
    if kind == EventKind.BALANCE or (not row["order_id"] and kind == EventKind.REJECTED):
        values |= _balance(row, names)
    else:
        values |= _of_market(row, names)
        values["order_id"] = int(row["order_id"])
    if kind == EventKind.TRADE:
        values["trade_id"] = int(row["trade_id"])
        values["role"] = "maker" if row["flags"] & ReportFlag.AS_MAKER else "taker"
        values |= _fee(row, names)
    values["client_order_id"] = _text(row["client_order_id"])
    values["flags"] = [
        _word(ReportFlag, flag)
        for flag in (ReportFlag.WAS_PENDING, ReportFlag.RELEASED)
        if row["flags"] & flag
    ]
    values["reason"] = describe(int(row["reason"])) if row["reason"] else None
    values["assurance"] = _word(Assurance, int(row["assurance"]))
    return values


def trade(row: Any, names: Names) -> Values:
    """A TRADE; what is hidden of it is left out."""
    values = _head(row) | {"trade_id": int(row["trade_id"])} | _of_market(row, names)
    for name in ("order_id", "maker_order_id", "account", "maker_account"):
        if row[name]:
            values[name] = int(row[name])
    return values


def order(row: Any, names: Names) -> Values:
    """An ORDER."""
    values: Values = {"order_id": int(row["order_id"]), "account": int(row["account"])}
    values |= _of_market(row, names)
    market = names.markets.get(int(row["market"]))
    if market is not None:
        notional = int(row["notional"]) * market.notional_units
        values["filled_value"] = names.amount(market.quote_asset, notional)
    values |= {
        "type": _word(OrderType, int(row["order_type"])),
        "time_in_force": _word(TimeInForce, int(row["time_in_force"])),
        "self_trade": _word(SelfTrade, int(row["self_trade"])),
        "status": _word(OrderStatus, int(row["status"])),
        "reason": describe(int(row["reason"])) if row["reason"] else None,
        "client_order_id": _text(row["client_order_id"]),
        "list_id": int(row["list_id"]) or None,
        "created": format_time(int(row["created_ns"])),
        "updated": format_time(int(row["updated_ns"])),
    }
    return values


def movement(row: Any, names: Names) -> Values:
    """A MONEY_RECORD."""
    asset = int(row["asset"])
    return {
        "sequence": int(row["sequence"]),
        "time": format_time(int(row["timestamp_ns"])),
        "kind": _word(Kind, int(row["kind"])),
        "account": int(row["account"]),
        "counter_account": int(row["counter_account"]) or None,
        "asset": names.assets.get(asset, (str(asset), 0))[0],
        "amount": names.amount(asset, int(row["amount"])),
        "amount_units": int(row["amount"]),
        "reference": _text(row["reference"]),
    }


def text(values: Values) -> str:
    """In one line."""
    return " ".join(
        f"{name}={'/'.join(value) if isinstance(value, list) else value}"
        for name, value in values.items()
        if value not in (None, "", [])
    )


def _head(row: Any) -> Values:
    return {
        "position": str(Position.of(row)),
        "time": format_time(int(row["timestamp_ns"])),
    }


def _of_market(row: Any, names: Names) -> Values:
    """Market, side, and all prices and quantities, in decimals where the market is known."""
    market = names.markets.get(int(row["market"]))
    there = row.dtype.names
    values: Values = {
        "market": market.symbol if market else int(row["market"]),
        "side": _word(Side, int(row["side"])),
    }
    for fields, unit, ending in (
        (_PRICES, market.tick_size if market else None, "_ticks"),
        (_QUANTITIES, market.lot_size if market else None, "_lots"),
    ):
        for name in fields:
            if name + ending in there and unit is not None:
                values[name] = decimal_text(int(row[name + ending]), unit)
            elif name + ending in there:
                values[name + ending] = int(row[name + ending])
    return values


def _fee(row: Any, names: Names) -> Values:
    """Of a fill: a buyer's in base, a seller's in quote; a rebate is in the other one."""
    market = names.markets.get(int(row["market"]))
    if market is None:
        return {"fee_units": int(row["fee"])}
    gets_base = (row["side"] == Side.BUY) != (row["fee"] < 0)
    asset = market.base_asset if gets_base else market.quote_asset
    return {"fee": names.amount(asset, int(row["fee"])), "fee_asset": names.assets[asset][0]}


def _balance(row: Any, names: Names) -> Values:
    asset = int(row["market"])
    values: Values = {"asset": names.assets.get(asset, (str(asset), 0))[0]}
    for name, field in (
        ("free", "quantity_lots"),
        ("held", "leaves_lots"),
        ("amount", "cumulative_lots"),
    ):
        units = int(row[field])
        values[name] = names.amount(asset, units) if asset in names.assets else units
    return values


def _word(of: Any, value: int) -> str:
    known = of._value2member_map_
    return known[value].name.lower() if value in known else str(value)


def _text(value: bytes) -> str:
    return "".join(chr(b) if 0x20 <= b < 0x7F else f"\\x{b:02x}" for b in bytes(value))
