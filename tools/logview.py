"""`matchbox log`: records of a journal, readable.

    View      which records: a filter over whole batches
    Names     what assets, accounts and markets are called, learnt from the log itself
    fields()  a record as a dict, for --json; line() as text

The journal is read as it stands on the disk, also while another process writes it.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.persistence import files
from matchbox.persistence.journal import Reader
from matchbox.shm.errors import BadArgument
from matchbox.shm.market import Market
from matchbox.shm.reasons import Reason, describe
from matchbox.shm.records import (
    MARKET_RECORD,
    NAMED_RECORD,
    Capability,
    Flag,
    Kind,
    OrderType,
    Side,
    TimeInForce,
)
from matchbox.tools.config import default_data, load

END = (1 << 64) - 1
ORDERS = (Kind.NEW_ORDER, Kind.CANCEL_ORDER, Kind.AMEND_ORDER)
SUBSCRIPTIONS = (Kind.SUBSCRIBE, Kind.UNSUBSCRIBE)
DEFINITIONS = (Kind.ADD_ASSET, Kind.ADD_ACCOUNT, Kind.ADD_MARKET)
# Records that name a market, an account, or a session that they are about, where these fields say.
WITH_MARKET = (*ORDERS, Kind.ADD_MARKET)
WITH_ACCOUNT = (*ORDERS, *SUBSCRIPTIONS, Kind.ADD_ACCOUNT, Kind.ATTACH_SESSION)
ABOUT_SESSION = (Kind.ATTACH_SESSION, Kind.DETACH_SESSION)
_FOLLOW_S = 0.1
_TIME = re.compile(r"(?P<whole>.+?)(\.(?P<fraction>\d{1,9}))?(?P<zone>Z|[+-]\d\d:\d\d)?")


@dataclass(frozen=True)
class View:
    """Which records are shown; what is empty does not filter. Ranges include both ends."""

    first: int = 1
    last: int = END
    since_ns: int = 0
    until_ns: int = END
    kinds: tuple[int, ...] = ()
    markets: tuple[int, ...] = ()
    accounts: tuple[int, ...] = ()
    sessions: tuple[int, ...] = ()
    refused: bool = False

    def select(self, records: NDArray[Any]) -> NDArray[Any]:
        """Those of LOG_RECORDs that are shown."""
        kind = records["kind"]
        keep = (records["sequence"] >= self.first) & (records["sequence"] <= self.last)
        keep &= (records["timestamp_ns"] >= self.since_ns) & (
            records["timestamp_ns"] <= self.until_ns
        )
        if self.kinds:
            keep &= np.isin(kind, self.kinds)
        if self.markets:
            keep &= np.isin(kind, WITH_MARKET) & np.isin(records["market"], self.markets)
        if self.accounts:
            keep &= np.isin(kind, WITH_ACCOUNT) & np.isin(records["account"], self.accounts)
        if self.sessions:
            about = np.isin(kind, ABOUT_SESSION)
            about &= np.isin(records.view(NAMED_RECORD)["id"], self.sessions)
            keep &= about | np.isin(records["session"], self.sessions)
        if self.refused:
            keep &= records["reject"] != 0
        return records[keep]

    def before(self, header: NDArray[Any]) -> bool:
        """Whether the whole batch lies before what is shown."""
        end = int(header["first_sequence"]) + int(header["count"])
        return end <= self.first or int(header["last_timestamp_ns"]) < self.since_ns

    def after(self, header: NDArray[Any]) -> bool:
        """Whether the batch, and so everything behind it, lies after what is shown."""
        return (
            int(header["first_sequence"]) > self.last
            or int(header["first_timestamp_ns"]) > self.until_ns
        )


@dataclass
class Names:
    """What the definitions that were seen call things."""

    assets: dict[int, tuple[str, int]] = field(default_factory=dict)
    accounts: dict[int, str] = field(default_factory=dict)
    markets: dict[int, Market] = field(default_factory=dict)

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
        self.markets[int(record["market"])] = Market.from_record(
            record, base_name, base_scale, quote_name, quote_scale
        )

    def market(self, text: str) -> int:
        """The number of the market called so, or with this number. Raises BadArgument."""
        for number, market in self.markets.items():
            if text in (market.symbol, str(number)):
                return number
        known = ", ".join(m.symbol for m in self.markets.values())
        raise BadArgument(f"no such market in this log: market={text}, known={known}")

    def account(self, text: str) -> int:
        """The number of the account called so, or with this number. Raises BadArgument."""
        for number, name in self.accounts.items():
            if text in (name, str(number)):
                return number
        raise BadArgument(f"no such account in this log: account={text}")


def find_journal(place: str) -> Path:
    """The journal at `place`: its folder; or an instance's data folder, name or configuration.

    Raises BadArgument if there is none.
    """
    path = Path(place).expanduser()
    if path.is_file():
        path = load(path).data
    tried = [path, path / "journal"]
    if "/" not in place:
        tried.append(default_data(place) / "journal")
    for folder in tried:
        if files.numbers(folder):
            return folder
    raise BadArgument(f"no journal there: looked in {', '.join(map(str, tried))}")


def read_names(reader: Reader) -> Names:
    """The names that the whole journal defines."""
    names = Names()
    for header in reader.headers():
        if header["definitions"]:
            names.learn(reader.batch(header).records)
    return names


def read(
    reader: Reader, view: View, names: Names, *, follow: Callable[[], bool] = lambda: False
) -> Iterator[NDArray[Any]]:
    """The records of the view, some at a time; `names` learns the definitions on the way.

    follow: called at the end of the journal; True to look again for more, which it may wait for.
    Raises JournalError about the first damaged batch; what was before it has been given.
    """
    position = 1
    while True:
        for header in reader.headers(position):
            if view.after(header):
                return
            position = int(header["first_sequence"]) + int(header["count"])
            skipped = view.before(header)
            if skipped and not header["definitions"]:
                continue
            records = reader.batch(header).records
            names.learn(records)
            if not skipped:
                chosen = view.select(records)
                if len(chosen):
                    yield chosen
        if position > view.last or not follow():
            return


def wait_for_more() -> bool:
    """A `follow` that goes on for ever."""
    time.sleep(_FOLLOW_S)
    return True


# ---- one record


def fields(record: Any, names: Names) -> dict[str, Any]:
    """A LOG_RECORD as plain values for JSON: integers as they are, and decimals as strings."""
    kind = int(record["kind"])
    out: dict[str, Any] = {
        "sequence": int(record["sequence"]),
        "time": format_time(int(record["timestamp_ns"])),
        "timestamp_ns": int(record["timestamp_ns"]),
        "kind": _name(Kind, kind),
        "session": int(record["session"]),
        "session_position": int(record["session_position"]),
        "reject": _name(Reason, int(record["reject"])) if record["reject"] else None,
    }
    if kind in ORDERS:
        out |= _order_fields(record, names)
    elif kind == Kind.ADD_MARKET:
        out |= _market_fields(record.view(MARKET_RECORD))
    else:
        out |= _named_fields(kind, record.view(NAMED_RECORD), names)
    return out


def _order_fields(record: Any, names: Names) -> dict[str, Any]:
    market = names.markets.get(int(record["market"]))
    ticks, lots = int(record["price_ticks"]), int(record["quantity_lots"])
    out: dict[str, Any] = {
        "order_id": int(record["order_id"]),
        "client_order_id": _text(record["client_order_id"]),
        "account": int(record["account"]),
        "account_name": names.accounts.get(int(record["account"])),
        "market": int(record["market"]),
        "symbol": market.symbol if market else None,
        "side": _name(Side, int(record["side"])) if record["side"] else None,
    }
    if record["kind"] == Kind.CANCEL_ORDER:
        return out
    if record["kind"] == Kind.NEW_ORDER:
        out["order_type"] = _name(OrderType, int(record["order_type"]))
        out["time_in_force"] = _name(TimeInForce, int(record["time_in_force"]))
    return out | {
        "flags": _flags(Flag, int(record["flags"])),
        "price": _decimal(ticks, market.tick_size) if market and ticks else None,
        "price_ticks": ticks,
        "quantity": _decimal(lots, market.lot_size) if market and lots else None,
        "quantity_lots": lots,
    }


def _decimal(count: int, unit: Decimal) -> str:
    """So many units, exactly, with as many digits as one unit needs."""
    return f"{count * unit.normalize():f}"


def _market_fields(record: Any) -> dict[str, Any]:
    out = {"market": int(record["market"]), "symbol": _text(record["symbol"])}
    names = "base_asset quote_asset lot_units notional_units tick_mantissa tick_scale"
    names += " price_step_ticks quantity_step_lots max_price_ticks min_quantity_lots"
    names += " max_quantity_lots max_orders"
    return out | {name: int(record[name]) for name in names.split()}


def _named_fields(kind: int, record: Any, names: Names) -> dict[str, Any]:
    account = int(record["account"])
    owner = {"account": account, "account_name": names.accounts.get(account)}
    name = {"name": _text(record["name"])}
    if kind == Kind.ADD_ASSET:
        return {"asset": int(record["id"]), **name, "scale": int(record["scale"])}
    if kind == Kind.ADD_ACCOUNT:
        return {"account": account, **name}
    if kind == Kind.ATTACH_SESSION:
        about = {"attached": int(record["id"]), **name, **owner}
        return about | {
            "capabilities": _flags(Capability, int(record["capabilities"])),
            "position": int(record["position"]),
        }
    if kind == Kind.DETACH_SESSION:
        reason = _name(Reason, int(record["reason"])) if record["reason"] else None
        about = {"detached": int(record["id"]), **name, "reason": reason}
        return about | {"position": int(record["position"])}
    if kind == Kind.START:
        return {"epoch": int(record["epoch"])}
    return owner if kind in SUBSCRIPTIONS else {}


def line(record: Any, names: Names) -> str:
    """A LOG_RECORD in one line of text."""
    values = fields(record, names)
    kind = int(record["kind"])
    parts = [f"{values['sequence']:>9}", values["time"], f"{values['kind']:<14}"]
    parts.append(f"session={values['session']}" if values["session"] else "engine   ")
    if kind in ORDERS:
        parts += _order_text(values)
    else:
        shown = {k: v for k, v in values.items() if k not in _COMMON and v not in (None, [])}
        shown.pop("account_name", None)
        parts += [f"{k}={','.join(v) if isinstance(v, list) else v}" for k, v in shown.items()]
    if record["reject"]:
        parts.append(f"REFUSED: {describe(int(record['reject']))}")
    return " ".join(parts)


_COMMON = frozenset(
    ("sequence", "time", "timestamp_ns", "kind", "session", "session_position", "reject")
)


def _order_text(values: dict[str, Any]) -> list[str]:
    account = values["account_name"] or values["account"]
    parts = [f"account={account}"]
    if values["market"]:
        parts.append(f"market={values['symbol'] or values['market']}")
    if values["order_id"]:
        parts.append(f"order={values['order_id']}")
    if values["side"]:
        parts.append(values["side"].lower())
    if values.get("quantity_lots"):
        parts.append(values["quantity"] or f"{values['quantity_lots']} lots")
    if values.get("price_ticks"):
        parts.append(f"at {values['price'] or str(values['price_ticks']) + ' ticks'}")
    if "order_type" in values:
        parts += [values["order_type"].lower(), values["time_in_force"]]
    parts += [flag.lower().replace("_", "-") for flag in values.get("flags", ())]
    if values["client_order_id"]:
        parts.append(f"client={values['client_order_id']}")
    return parts


def json_line(record: Any, names: Names) -> str:
    """A LOG_RECORD as one line of JSON."""
    return json.dumps(fields(record, names))


def _name(of: Any, number: int) -> str:
    """The name of a member of an enumeration; its number if it has none."""
    return of(number).name if number in of._value2member_map_ else str(number)


def _flags(of: Any, value: int) -> list[str]:
    known = [flag for flag in of if value & flag]
    unknown = value & ~sum(known)
    return [str(flag.name) for flag in known] + ([str(unknown)] if unknown else [])


def _text(value: bytes) -> str:
    # Bytes of a refused command may be anything; they must not reach a terminal as they are.
    return "".join(chr(b) if 0x20 < b < 0x7F else f"\\x{b:02x}" for b in bytes(value))


# ---- times


def format_time(timestamp_ns: int) -> str:
    """UTC, ISO 8601, with nanoseconds."""
    seconds, rest = divmod(timestamp_ns, 1_000_000_000)
    try:
        day = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{timestamp_ns}ns"
    return f"{day:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def parse_time(text: str) -> int:
    """Nanoseconds since 1970: of an ISO 8601 time (UTC unless it says), or of a number of them.

    Raises BadArgument.
    """
    if text.isdigit():
        return int(text)
    found = _TIME.fullmatch(text)
    try:
        when = datetime.fromisoformat(found["whole"] + (found["zone"] or "")) if found else None
    except ValueError:
        when = None
    if found is None or when is None:
        raise BadArgument(
            f"not a time: {text!r}, allowed=2026-11-24T09:30:00.5Z, or nanoseconds since 1970"
        )
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    elapsed = when - datetime(1970, 1, 1, tzinfo=UTC)
    seconds = elapsed.days * 86400 + elapsed.seconds
    return seconds * 1_000_000_000 + int((found["fraction"] or "").ljust(9, "0"))


def parse_kind(text: str) -> int:
    """The number of a kind of record, by name in any case. Raises BadArgument."""
    name = text.upper().replace("-", "_")
    if name in Kind.__members__:
        return int(Kind[name])
    allowed = ", ".join(kind.name.lower().replace("_", "-") for kind in Kind)
    raise BadArgument(f"no such kind of record: kind={text}, allowed={allowed}")


def last_records(reader: Reader, count: int) -> int:
    """The sequence from which on there are `count` records, of all kinds."""
    return max(1, reader.last()[0] - count + 1)
