"""Adding and removing assets, accounts and markets of a running exchange, for the command line.

The record is made and checked as a table of the configuration would be, with the assets that there
are; the exchange itself sets the memory aside and logs it (tools/listing.py).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.shm.connect import Connection, look
from matchbox.shm.errors import BadArgument
from matchbox.shm.records import MARKET_RECORD, NAMED_RECORD, Kind
from matchbox.tools.config import Asset, market_record
from matchbox.tools.operate import Accounts, print_json
from matchbox.tools.run import find_data
from matchbox.tools.settings import SECTIONS, Wrong

# What the command line calls a key.
_OPTIONS = {"tick_size": "--tick", "lot_size": "--lot", "symbol": "SYMBOL", "name": "NAME"}
_REMOVALS = {"market": Kind.REMOVE_MARKET, "asset": Kind.REMOVE_ASSET}


def add_market(exchange: str, values: dict[str, Any], *, as_json: bool) -> None:
    """`values` by the keys of a [[market]] table; None: left out."""
    connection = look(find_data(exchange))
    assets = [Asset(a.number, a.name, a.scale) for a in connection.assets.values()]
    given = {key: value for key, value in values.items() if value is not None}
    options = {key: _option(key) for key in SECTIONS["market"]}
    record = market_record({"id": 1} | given, assets, options)
    if values["id"] is None:
        record["market"] = 0  # the exchange chooses one
    what = f"Market {values['symbol']} is added and can be traded."
    _send(connection, record, what, as_json, matcher=values["matcher"])


def add_asset(exchange: str, name: str, scale: int, number: int | None, *, as_json: bool) -> None:
    record = _named(Kind.ADD_ASSET, _value("asset", "name", name))
    record["scale"] = _value("asset", "scale", scale)
    record["id"] = 0 if number is None else _value("asset", "id", number)
    _send(look(find_data(exchange)), record, f"Asset {name} is added.", as_json)


def add_account(
    exchange: str, name: str, number: int | None, parent: str, *, as_json: bool
) -> None:
    connection = look(find_data(exchange))
    record = _named(Kind.ADD_ACCOUNT, _value("account", "name", name))
    record["account"] = 0 if number is None else _value("account", "number", number)
    if parent:
        record["parent"] = Accounts(connection.accounts()).number(parent)
    _send(connection, record, f"Account {name} is added.", as_json)


def remove(what: str, exchange: str, name: str, *, as_json: bool) -> None:
    """A market or an asset, by its name."""
    size = MARKET_RECORD["symbol"].itemsize if what == "market" else 36
    if not 0 < len(name.encode()) <= size:
        raise BadArgument(f"no {what} can be called so: {name!r}")
    record = _named(_REMOVALS[what], name)
    _send(look(find_data(exchange)), record, f"{what.capitalize()} {name} is removed.", as_json)


def _named(kind: Kind, name: str) -> NDArray[Any]:
    record = np.zeros(1, NAMED_RECORD)
    record["kind"], record["name"] = kind, name.encode()
    return record


def _value(section: str, key: str, value: Any) -> Any:
    """The value, if a configuration could have it. Raises BadArgument."""
    kind = SECTIONS[section][key].kind
    try:
        return kind.read(value)
    except Wrong as error:
        option = "--id" if key == "number" else _option(key)
        raise BadArgument(f"{option} {error}; allowed: {kind.allowed}") from None


def _option(key: str) -> str:
    return _OPTIONS.get(key, f"--{key.replace('_', '-')}")


def _send(
    connection: Connection,
    record: NDArray[Any],
    done: str,
    as_json: bool,
    matcher: int | None = None,
) -> None:
    number, sequence = connection.define(record, matcher)
    if as_json:
        print_json({"number": number, "sequence": sequence})
    else:
        print(f"{done} Number {number}, log record {sequence:,}.")
