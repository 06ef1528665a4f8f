"""Moments of a journal: `SEQUENCE|TIME` on the command line, and the log record that is meant.

A moment is the state after one log record and those that belong to it:

    812004                       a sequence number
    last                         the last record of the journal
    2026-11-24T09:30:00.5Z       the last record stamped at or before this time, UTC unless it says
    1790000000123456789          the same, since 1970: seconds, milliseconds or nanoseconds by its
    1790000000.5s 1790000000123ms  size; with a unit it is a time whatever its size

A bare number that the journal has as a sequence is one.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from matchbox.persistence.journal import Reader
from matchbox.persistence.journaler import continues
from matchbox.shm.errors import BadArgument, JournalError
from matchbox.tools.logview import parse_time
from matchbox.tools.recordview import format_time

_LAST = "last"
_UNITS_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_WITH_UNIT = re.compile(r"(\d+(?:\.\d+)?)(s|ms|us|ns)")
# A bare number from here on may be a time, in 2001 or later: seconds, milliseconds, nanoseconds.
_BARE = ((10**17, 1), (10**11, 10**6), (10**9, 10**9))
ALLOWED = "a sequence number, `last`, 2026-11-24T09:30:00.5Z, or 1790000000s, ...ms, ...ns"


@dataclass(frozen=True)
class Moment:
    """A log record, the last of those that belong together."""

    sequence: int
    timestamp_ns: int
    record: bytes

    def __str__(self) -> str:
        return f"record {self.sequence:,}, {format_time(self.timestamp_ns)}"


def find(reader: Reader, text: str) -> Moment:
    """The moment that is meant. Raises BadArgument that names the first and the last there is."""
    first, last = reader.first_sequence(), reader.last_sequence()
    if last == 0:
        raise BadArgument(f"the journal is empty: journal={reader.directory}")
    if text == _LAST:
        return at(reader, last)
    if text.isdigit() and not _is_time(int(text), last):
        return at(reader, _checked(int(text), first, last))
    time_ns = _time_ns(text)
    sequence = _last_before(reader, time_ns, first, last)
    if sequence < first:
        began = at(reader, first)
        raise BadArgument(
            f"the journal has nothing of that time: time={format_time(time_ns)}; its first record, "
            f"{first}, is of {format_time(began.timestamp_ns)}, its last one is {last}"
        )
    return at(reader, sequence)


def find_first(reader: Reader, text: str) -> int:
    """The record that a part of the log begins with: of a time, the first one stamped no earlier.

    Raises BadArgument.
    """
    first, last = reader.first_sequence(), reader.last_sequence()
    if text == _LAST or (text.isdigit() and not _is_time(int(text), last)):
        return last if text == _LAST else _checked(int(text), first, last)
    time_ns = _time_ns(text)
    found = _last_before(reader, time_ns - 1, first, last) + 1
    if found > last:
        raise BadArgument(
            f"the journal has nothing of that time or later: time={format_time(time_ns)}, "
            f"last={last}"
        )
    return found


def find_before(reader: Reader, text: str) -> int:
    """The last record before a moment; 0, or what is before the first one: there is none."""
    first, last = reader.first_sequence(), reader.last_sequence()
    if text == _LAST or (text.isdigit() and not _is_time(int(text), last)):
        return (last if text == _LAST else int(text)) - 1
    return _last_before(reader, _time_ns(text) - 1, first, last)


def find_readable(reader: Reader, text: str) -> int:
    """As find(), of a journal that may be damaged there: then it is the record as it is named."""
    try:
        return find(reader, text).sequence
    except JournalError:
        if text == _LAST:
            return reader.last_sequence()
        if text.isdigit():
            return int(text)
        raise


def _checked(sequence: int, first: int, last: int) -> int:
    if not first <= sequence <= last:
        raise BadArgument(
            f"the journal has no such record: sequence={sequence}, first={first}, last={last}"
        )
    return sequence


def at(reader: Reader, sequence: int) -> Moment:
    """The moment of a record that the journal has."""
    batch = next(reader.batches(sequence))
    records, place = batch.records, sequence - batch.first_sequence
    while place + 1 < len(records) and continues(records[place + 1], records[place]):
        place += 1
    record: Any = records[place]
    return Moment(int(record["sequence"]), int(record["timestamp_ns"]), record.tobytes())


def _is_time(number: int, last: int) -> bool:
    return number > last and number >= _BARE[-1][0]


def _time_ns(text: str) -> int:
    """Since 1970. Raises BadArgument."""
    with_unit = _WITH_UNIT.fullmatch(text)
    if with_unit:
        return int(Decimal(with_unit[1]) * _UNITS_NS[with_unit[2]])
    if text.isdigit():
        number = int(text)
        return number * next(unit for least, unit in _BARE if number >= least)
    try:
        return parse_time(text)
    except BadArgument:
        raise BadArgument(f"not a moment: {text!r}, allowed: {ALLOWED}") from None


def _last_before(reader: Reader, time_ns: int, first: int, last: int) -> int:
    """The last record from `first` to `last` stamped at or before a time; first - 1: none is.

    Stamps never go back, so batches are halved until the one is left where it lies.
    """
    while first <= last:
        header = next(reader.headers((first + last) // 2))
        begin = int(header["first_sequence"])
        if int(header["first_timestamp_ns"]) > time_ns:
            last = begin - 1
        elif int(header["last_timestamp_ns"]) <= time_ns:
            first = begin + int(header["count"])
        else:
            stamps = reader.batch(header).records["timestamp_ns"]
            return begin - 1 + int((stamps <= time_ns).sum())
    return last
