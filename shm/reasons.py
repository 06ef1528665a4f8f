"""The reason codes of reasons.h by number and name, for people and for tests."""

import re
from enum import IntEnum
from pathlib import Path

_ENTRY = re.compile(r'X\((\d+), ([A-Z_]+), "([^"]*)"\)')
_LIST = [
    (int(code), name, text)
    for code, name, text in _ENTRY.findall((Path(__file__).parent / "reasons.h").read_text())
]

Reason = IntEnum("Reason", {name: code for code, name, _ in _LIST})  # type: ignore[misc]
TEXT = {code: text for code, _, text in _LIST}


def describe(code: int) -> str:
    """`code` as NAME (text), for messages; unknown codes as their number."""
    for number, name, text in _LIST:
        if number == code:
            return f"{name} ({text})"
    return str(code)
