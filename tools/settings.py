"""The keys of the configuration file: type, default and allowed values of each, in one table.

config.py reads a file by it, and docs/configuration.md is checked against it.
"""

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

# Sections: "" is what stands before the first table; "asset", ... are arrays of tables ([[asset]]).
ARRAYS = ("asset", "account", "deposit", "market", "process")
IDLE = ("park", "yield", "spin")
TOPOLOGIES = ("compact", "wide")
SIZE_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
MAX_ORDERS = (1 << 26) - 2  # PRICE_INDEX_MAX_LEVELS: the book has a node a level at worst


class Wrong(ValueError):
    """A value is not allowed. The text says why; the caller adds what is allowed."""


@dataclass(frozen=True)
class Kind:
    """A type of value; `allowed` is the text of documentation and errors."""

    name: str
    allowed: str

    def read(self, value: Any) -> Any:
        """The value as the program uses it. Raises Wrong."""
        raise NotImplementedError


@dataclass(frozen=True)
class Whole(Kind):
    """An integer in a range; a power of two if `power`."""

    low: int
    high: int
    power: bool = False

    def read(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Wrong(f"is not a whole number: {_show(value)}")
        if not self.low <= value <= self.high:
            raise Wrong(f"is out of range: {value}")
        if self.power and value & (value - 1):
            raise Wrong(f"is not a power of two: {value}")
        return value


@dataclass(frozen=True)
class Text(Kind):
    """A string that matches a pattern."""

    pattern: str

    def read(self, value: Any) -> str:
        if not isinstance(value, str):
            raise Wrong(f"is not a string: {_show(value)}")
        if not re.fullmatch(self.pattern, value):
            raise Wrong(f"is not allowed: {_show(value)}")
        return value


@dataclass(frozen=True)
class Truth(Kind):
    def read(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise Wrong(f"is neither true nor false: {_show(value)}")
        return value


@dataclass(frozen=True)
class Exact(Kind):
    """A positive decimal number, in a string so that it is exact."""

    def read(self, value: Any) -> Decimal:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            raise Wrong(f'must be written as a string, to be exact: "{_show(value)}"')
        if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,30}(\.[0-9]{1,30})?", value):
            raise Wrong(f"is not a decimal number: {_show(value)}")
        number = Decimal(value)
        if number == 0:
            raise Wrong("is zero")
        return number


@dataclass(frozen=True)
class Size(Kind):
    """A number of bytes, or a string with a unit."""

    low: int
    high: int

    def read(self, value: Any) -> int:
        if isinstance(value, str):
            match = re.fullmatch(r"([0-9]{1,12}) ?(KiB|MiB|GiB)", value)
            if not match:
                raise Wrong(f"is no size: {_show(value)}")
            value = int(match[1]) * SIZE_UNITS[match[2]]
        if isinstance(value, bool) or not isinstance(value, int):
            raise Wrong(f"is no size: {_show(value)}")
        if not self.low <= value <= self.high:
            raise Wrong(f"is out of range: {value} bytes")
        return value


@dataclass(frozen=True)
class Many(Kind):
    """A list of values of one kind, each at most once."""

    element: Kind
    least: int = 0

    def read(self, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Wrong(f"is not a list: {_show(value)}")
        found = tuple(map(self.element.read, value))
        if len(found) < self.least:
            raise Wrong("is empty")
        if len(set(found)) < len(found):
            raise Wrong(f"names something twice: {_show(value)}")
        return found


@dataclass(frozen=True)
class Key:
    """One key.

    `default` is in the file's own terms; with `default_text` it is None: config.py works it out.
    """

    kind: Kind
    default: Any = None
    default_text: str = ""

    @property
    def required(self) -> bool:
        return self.default is None and not self.default_text

    def documentation(self) -> tuple[str, str, str]:
        """Type, default and allowed values, as the document has them."""
        if self.required:
            default = "required"
        elif self.default_text:
            default = self.default_text
        else:
            default = f"`{_show(self.default)}`"
        return self.kind.name, default, self.kind.allowed


def _show(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # On one line, whatever is in it.
        return f'"{value}"' if value.isprintable() else json.dumps(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(_show, value)) + "]"
    return str(value)


def _whole(low: int, high: int) -> Whole:
    return Whole("integer", f"{low} to {high}", low, high)


def _slots(low: int, high: int) -> Whole:
    return Whole("integer", f"a power of two, {low} to {high}", low, high, True)


def _choice(*names: str) -> Text:
    return Text("string", ", ".join(f'"{n}"' for n in names), "|".join(map(re.escape, names)))


def _text(allowed: str, pattern: str) -> Text:
    return Text("string", allowed, pattern)


_NAME = _text("1 to 36 printable ASCII characters, no spaces", r"[!-~]{1,36}")
_USER = _text("names of users of this machine", r"[^\s:]{1,64}")
_USERS = Many("list of strings", _USER.allowed, _USER)
_ASSET = _text("name of an asset", _NAME.pattern)
_EXACT = Exact("string", 'a decimal number above 0, such as "0.01"')
_AGENT = _text(
    '"sequencer", "matcher-0" ..., "publisher", "journaler"; each in one process',
    r"sequencer|publisher|journaler|matcher-(0|[1-9][0-9]{0,2})",
)
_IDLE = _choice(*IDLE)
_FILE = _text('a file, as PEM; relative to this one; "": none', r"[^\0]{0,900}")

SECTIONS: dict[str, dict[str, Key]] = {
    "": {
        "instance": Key(
            _text("1 to 32 of a-z, 0-9 and -, beginning with a letter", r"[a-z][a-z0-9-]{0,31}")
        ),
        "data": Key(
            _text("a folder; relative to this file; ~ is the home folder", r"[^\0]{1,900}"),
            default_text="`~/.local/state/matchbox/INSTANCE`",
        ),
        "topology": Key(_choice(*TOPOLOGIES), "compact"),
        "matchers": Key(_whole(1, 13), 1),
        "idle": Key(_IDLE, "park"),
        "pin": Key(Truth("boolean", "true, false"), False),
        "operators": Key(_USERS, []),
    },
    "asset": {
        "name": Key(_text("1 to 36 of A-Z, a-z, 0-9, ., _ and -", r"[A-Za-z0-9._-]{1,36}")),
        "scale": Key(_whole(0, 18)),
        "id": Key(_whole(1, 65535), default_text="its place in the file, from 1"),
    },
    "account": {
        "number": Key(_whole(1, 2**32 - 1)),
        "name": Key(_NAME),
        "users": Key(_USERS, []),
        "parent": Key(_whole(0, 2**32 - 1), 0),
    },
    "deposit": {
        "account": Key(_text("name of an account", _NAME.pattern)),
        "asset": Key(_ASSET),
        "amount": Key(_EXACT),
    },
    "market": {
        "id": Key(_whole(1, 2**32 - 1)),
        "symbol": Key(_text("1 to 23 printable ASCII characters, no spaces", r"[!-~]{1,23}")),
        "base": Key(_ASSET),
        "quote": Key(_ASSET),
        "tick_size": Key(_EXACT),
        "lot_size": Key(_EXACT),
        "price_step": Key(_whole(1, 2**32 - 1), 1),
        "quantity_step": Key(_whole(1, 2**32 - 1), 1),
        "max_price": Key(_EXACT, default_text="2^40 - 1 ticks"),
        "min_quantity": Key(_EXACT, default_text="`quantity_step` lots"),
        "max_quantity": Key(_EXACT, default_text="2^62 lots divided by `max_orders`"),
        "max_orders": Key(_whole(1, MAX_ORDERS), 65536),
        "max_specials": Key(
            _whole(1, MAX_ORDERS), default_text="a 16th of `max_orders`, 64 at least"
        ),
        "matcher": Key(
            _whole(0, 63), default_text="the one with the fewest, in the order of the file"
        ),
    },
    "limits": {
        "max_sessions": Key(_whole(1, 1024), 64),
        "max_accounts": Key(_whole(1, 1 << 24), 65536),
        "max_assets": Key(_whole(1, 65535), 1024),
        "max_markets": Key(_whole(1, 65535), 1024),
        "max_balances": Key(_whole(1, 1 << 31), default_text="4 times `max_accounts`, and 1024"),
        "max_references": Key(_whole(1, 1 << 27), 65536),
        "max_orders": Key(
            _whole(1, 1 << 30), default_text="as many as all markets can have, and 65536"
        ),
    },
    "rings": {
        "log": Key(_slots(1024, 1 << 26), 1 << 18),
        "events": Key(_slots(1024, 1 << 26), 1 << 18),
        "market_data": Key(_slots(1024, 1 << 26), 1 << 17),
        "commands": Key(_slots(16, 1 << 22), 1 << 15),
        "reports": Key(_slots(64, 1 << 24), 1 << 16),
    },
    "journal": {
        "batch_records": Key(_whole(1, 1 << 20), 32768),
        "linger_ms": Key(_whole(0, 1000), 20),
        "file_size": Key(
            Size(
                "integer or string",
                'bytes, or "64MiB", "4GiB"; 16MiB to 63GiB',
                16 << 20,
                63 << 30,
            ),
            "4GiB",
        ),
    },
    "archive": {
        "enabled": Key(Truth("boolean", "true, false"), True),
        "keep_days": Key(_whole(0, 36_500), 0),
    },
    "gateway": {
        "listen": Key(
            _text(
                '"ADDRESS:PORT", such as "127.0.0.1:8080" or "[::1]:8080"; "": no gateway',
                r"|(\[[0-9a-fA-F:.]+\]|[^:\s\[\]]{1,255}):[0-9]{1,5}",
            ),
            "",
        ),
        "workers": Key(_whole(1, 64), 1),
        "assurance": Key(_choice("matched", "replicated", "durable"), "durable"),
        "tls_certificate": Key(_FILE, ""),
        "tls_key": Key(_FILE, ""),
        "weight_per_minute": Key(_whole(1, 2**31), 6000),
        "orders_per_ten_seconds": Key(_whole(1, 2**31), 100),
        "orders_per_day": Key(_whole(1, 2**31), 200_000),
        "ping_s": Key(_whole(1, 3600), 20),
    },
    "snapshots": {
        "keep": Key(_whole(1, 1000), 3),
        "interval_s": Key(_whole(0, 1_000_000), 300),
    },
    "standby": {
        "enabled": Key(Truth("boolean", "true, false"), True),
        "hang_ms": Key(_whole(0, 60_000), 250),
    },
    "process": {
        "name": Key(_text("1 to 31 of a-z, 0-9 and -", r"[a-z0-9-]{1,31}")),
        "agents": Key(Many("list of strings", _AGENT.allowed, _AGENT, 1)),
        "core": Key(_whole(0, 4095), default_text="any core"),
        "idle": Key(_IDLE, default_text="the `idle` of the first table"),
    },
}
