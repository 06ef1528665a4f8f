"""The parameters of a request: what an endpoint takes, declared; read from query string and body.

    ORDER = Form(
        Parameter("symbol", TEXT, required=True),
        Parameter("side", Choice("BUY", "SELL"), required=True),
        Parameter("quantity", AMOUNT),
    )
    values = ORDER.read(b"symbol=BTCUSDT&side=BUY", b"quantity=0.1")
    values["quantity"]    # "0.1"; what was not sent is None

Parameters stand in the query string, in a form body, or in both; of a name in both, the query
string's counts. A body is never anything but a form, whatever its header says. Names that an
endpoint does not know are ignored, as clients send some to all of them.

A faulty request is refused for its first fault: how the text is made (-1100, -1101), then the
parameters in the order of the form (-1102 missing, -1105 empty, and what is wrong with the value).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote_plus

from matchbox.gateway.decimals import LEGAL
from matchbox.gateway.errors import (
    ApiError,
    duplicate,
    empty,
    illegal,
    invalid,
    missing,
    no_choice,
    too_many,
)

# More are no client's.
MAX_PARAMETERS = 100
# In nanoseconds it has 64 bits.
LAST_MS = 10**13
_NAME = "^[a-zA-Z0-9_]{1,64}$"
_ZONE = r"([+-]?)([0-9]{1,2})(?::([0-9]{2}))?"
_NAMES = re.compile(r"[a-zA-Z0-9_]{1,64}")


class Kind(Protocol):
    """What a parameter's value is."""

    @property
    def schema(self) -> dict[str, Any]:
        """As OpenAPI has it."""

    def read(self, name: str, text: str) -> Any:
        """The value of `text`. Raises ApiError."""


@dataclass(frozen=True)
class Text:
    """Characters that match a pattern as a whole."""

    pattern: str

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": self.pattern}

    def read(self, name: str, text: str) -> str:
        if re.match(self.pattern, text) is None or text.endswith("\n"):
            raise illegal(name, self.pattern)
        return text


@dataclass(frozen=True)
class Whole:
    """An integer in a range."""

    low: int = 0
    high: int = (1 << 63) - 1

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "format": "int64", "minimum": self.low, "maximum": self.high}

    def read(self, name: str, text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) <= 20):
            raise illegal(name, "^[0-9]{1,20}$")
        value = int(text)
        if not self.low <= value <= self.high:
            raise invalid(name)
        return value


@dataclass(frozen=True)
class Limit:
    """How many are wanted; more than there can be is as many as there can be."""

    default: int
    high: int

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": 1, "maximum": self.high, "default": self.default}

    def read(self, name: str, text: str) -> int:
        return min(Whole(1).read(name, text), self.high)


@dataclass(frozen=True)
class Moment:
    """Milliseconds since 1970 (UTC); later than LAST_MS is as late."""

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "format": "int64", "minimum": 0}

    def read(self, name: str, text: str) -> int:
        return min(Whole().read(name, text), LAST_MS)


@dataclass(frozen=True)
class TimeZone:
    """Hours, or hours and minutes, ahead of UTC; the value is in milliseconds."""

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": _ZONE, "default": "0"}

    def read(self, name: str, text: str) -> int:
        found = re.fullmatch(_ZONE, text, re.ASCII)
        if found is None:
            raise illegal(name, _ZONE)
        minutes = 60 * int(found[2]) + int(found[3] or 0)
        minutes = -minutes if found[1] == "-" else minutes
        if not -12 * 60 <= minutes <= 14 * 60 or int(found[3] or 0) > 59:
            raise invalid(name)
        return minutes * 60_000


class Choice:
    """One of some words."""

    def __init__(self, *words: str) -> None:
        self.words = words
        self.schema = {"type": "string", "enum": list(words)}

    def read(self, name: str, text: str) -> str:
        if text not in self.words:
            raise self.refusal(name)
        return text

    def refusal(self, name: str) -> ApiError:
        return no_choice(name)


class Word(Choice):
    """One of some words, of a parameter whose name means something else for orders."""

    def refusal(self, name: str) -> ApiError:
        return invalid(name)


@dataclass(frozen=True)
class Truth:
    """True or false, in any case."""

    schema: dict[str, Any] = field(default_factory=lambda: {"type": "boolean"})

    def read(self, name: str, text: str) -> bool:
        word = text.lower()
        if word not in ("true", "false"):
            raise illegal(name, "true|false")
        return word == "true"


@dataclass(frozen=True)
class Names:
    """A list of names, as JSON has it: ["BTCUSDT","ETHUSDT"]."""

    each: Text

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "description": "a list of strings, as JSON has it"}

    def read(self, name: str, text: str) -> list[str]:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise illegal(name, '["NAME","NAME"]') from None
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise illegal(name, '["NAME","NAME"]')
        for each in found:
            self.each.read(name, each)
        if len(set(found)) != len(found):
            raise duplicate(name)
        return found


SYMBOL = Text(r"^[A-Z0-9-_.]{1,24}$")
# Converted where the market is known.
AMOUNT = Text(LEGAL)
CLIENT_ID = Text(r"^[.A-Z:/a-z0-9_-]{1,36}$")
TIME = Moment()
TIME_ZONE = TimeZone()


@dataclass(frozen=True)
class Parameter:
    """One of an endpoint's; `about` is for its documentation."""

    name: str
    kind: Kind
    required: bool = False
    about: str = ""


class Form:
    """All that an endpoint takes, in the order in which it is looked at."""

    def __init__(self, *parameters: Parameter) -> None:
        self.parameters = parameters

    def read(self, query: bytes, body: bytes = b"") -> dict[str, Any]:
        """The values by name, None for what was not sent. Raises ApiError."""
        return self.of(fields(query, body))

    def of(self, sent: Mapping[str, str]) -> dict[str, Any]:
        """The values of what fields() has found."""
        values: dict[str, Any] = {}
        for parameter in self.parameters:
            name = parameter.name
            text = sent.get(name)
            if text is None:
                if parameter.required:
                    raise missing(name)
                values[name] = None
            elif not text:
                raise missing(name) if parameter.required else empty(name)
            else:
                values[name] = parameter.kind.read(name, text)
        return values


def fields(query: bytes, body: bytes = b"") -> dict[str, str]:
    """The text of each parameter by its name. Raises ApiError."""
    found = _pairs(body) if body else {}
    if query:
        found |= _pairs(query)
    if len(found) > MAX_PARAMETERS:
        raise too_many(MAX_PARAMETERS, len(found))
    return found


def _pairs(text: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    if text.count(b"&") >= MAX_PARAMETERS:
        raise too_many(MAX_PARAMETERS, text.count(b"&") + 1)
    for part in text.split(b"&"):
        if not part:
            continue
        raw, _, value = part.partition(b"=")
        name = _unquote(raw, "name")
        if _NAMES.fullmatch(name) is None:
            raise illegal("name", _NAME)
        if name in found:
            raise duplicate(name)
        found[name] = _unquote(value, name)
    return found


def _unquote(raw: bytes, name: str) -> str:
    try:
        text = raw.decode("ascii")
        if "%" in text or "+" in text:
            text = unquote_plus(text, errors="strict")
    except UnicodeDecodeError:
        raise illegal(name, "percent-encoded UTF-8") from None
    return text
