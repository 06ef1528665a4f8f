"""`matchbox ring`: a ring as it is in memory, live or left behind by a dead exchange.

Nothing is written and nobody is asked, so it is safe at any time. What the records are is told by
the ring's place: a segment's part (log, events-0, ...) or a session's memory (commands, reports).
"""

import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np

from matchbox.shm import segment
from matchbox.shm.errors import BadArgument
from matchbox.shm.reasons import Reason
from matchbox.shm.records import (
    COMMAND,
    EVENT,
    MARKET_DATA,
    REPORT,
    EventFlag,
    EventKind,
    MarketDataKind,
    ReportFlag,
    Side,
)
from matchbox.shm.ring import Ring
from matchbox.tools import recordview

_COUNT = 10  # records, if only the first is given
_KINDS = {
    "log": COMMAND,
    "commands": COMMAND,
    "events": EVENT,
    "ledger": EVENT,
    "reports": REPORT,
    "market-data": MARKET_DATA,
}
# Fields that are shown by name.
_ENUMERATIONS: dict[str, dict[str, Any]] = {
    "events": {"kind": EventKind, "side": Side, "reason": Reason, "flags": EventFlag},
    "reports": {"kind": EventKind, "side": Side, "reason": Reason, "flags": ReportFlag},
    "market-data": {"kind": MarketDataKind, "side": Side},
}
# What fields are called in records of a kind (0: of any other), where they share their place with
# what others have there.
_BALANCE = {
    "market": "asset",
    "quantity_lots": "free",
    "leaves_lots": "held",
    "cumulative_lots": "change",
    "client_order_id": "reference",
    "trade_id": "command_position",
}
_MEANT: dict[tuple[str, int], dict[str, str]] = {
    ("events", EventKind.BALANCE): _BALANCE,
    ("events", EventKind.AMENDED): {
        "maker_leaves_lots": "previous_level_lots",
        "maker_cumulative_lots": "previous_price_ticks",
    },
    ("reports", EventKind.BALANCE): _BALANCE,
    ("reports", EventKind.TRADE): {},
    ("reports", 0): {"trade_id": "command_position"},
}


def run(where: str, first: int | None, count: int, *, as_json: bool) -> int:
    """Show a ring's header and positions, and `count` records from `first` (else the last ones)."""
    if count < 0 or (first is not None and first < 0):
        raise BadArgument(f"not below zero: from={first}, count={count}")
    ring, kind = open_ring(where)
    produced = ring.produced
    oldest = max(0, produced - ring.capacity)
    if first is None:
        first = max(oldest, produced - count)
    elif count == 0:
        count = _COUNT
    if count and not oldest <= first <= produced:
        raise BadArgument(
            f"not in the ring any more, or not yet: from={first}, allowed={oldest}..{produced}"
        )
    count = min(count, produced - first)
    head = header(ring, kind)
    print(json.dumps(head) if as_json else _text(head))
    if count:
        _show(ring, kind, first, count, as_json)
    return 0


def open_ring(where: str) -> tuple[Ring, str]:
    """The ring at `where` and what it holds ("" = not known).

    where: a segment's name, with or without its slash, or the path of a file.
    Raises BadArgument if there is no such file, SegmentError if it is no ring.
    """
    plain = where.removeprefix("/")
    path = segment.FOLDER / plain if "/" not in plain else Path(where).expanduser()
    if not path.exists() and "/" not in plain:
        path = Path(where)
    try:
        # A pipe or a device must not keep us waiting.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BadArgument(f"no ring to look at: ring={where}: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BadArgument(f"not a file with a ring: ring={where}")
        name = str(Path(f"/proc/self/fd/{fd}").readlink())
        memory = segment.map_fd(fd, writable=False)
    finally:
        os.close(fd)
    # The size of a record is checked against the header's own: any will do to look.
    size = int(np.frombuffer(memory, "<u4", 1, 12)[0]) if len(memory) >= 16 else 0
    return Ring.attach(memory, record_size=size), _kind(name)


def _kind(path: str) -> str:
    """What a ring holds, by the name of its memory."""
    name = Path(path.removesuffix(" (deleted)")).name.removeprefix("memfd:")
    for kind in _KINDS:
        if name.endswith(f"-{kind}") or f"-{kind}-" in name:
            return kind
    return ""


def header(ring: Ring, kind: str) -> dict[str, Any]:
    """Header and positions as plain values."""
    consumed = ring.consumed
    produced = ring.produced
    return {
        "name": ring.name,
        "holds": kind or "unknown",
        "shape": ring.shape,
        "state": "closed" if ring.closed else "open",
        "epoch": ring.epoch,
        "capacity": ring.capacity,
        "record_size": ring.record_size,
        "produced": produced,
        "readers": [
            {"reader": number, "position": position, "depth": produced - position}
            for number, position in enumerate(consumed)
        ],
    }


def _text(head: dict[str, Any]) -> str:
    lines = [f"{name:<12} {value}" for name, value in head.items() if name != "readers"]
    for reader in head["readers"]:
        lines.append(
            f"reader {reader['reader']:<5} position={reader['position']} depth={reader['depth']}"
        )
    return "\n".join(lines)


def _show(ring: Ring, kind: str, first: int, count: int, as_json: bool) -> None:
    dtype = _KINDS.get(kind, np.dtype((np.void, ring.record_size)))
    if dtype.itemsize != ring.record_size:
        dtype = np.dtype((np.void, ring.record_size))
    records = ring.peek(first, count, dtype)
    # The producer may have gone round meanwhile: what it can have written over is left out.
    lapped = max(0, min(count, ring.produced - ring.capacity - first))
    names = recordview.Names()
    if dtype is COMMAND:
        names.learn(records[lapped:])
    if lapped:
        print(json.dumps({"lapped": lapped}) if as_json else f"{lapped} were written over")
    for position, record in enumerate(records[lapped:], first + lapped):
        if dtype is COMMAND:
            values = recordview.fields(record, names)
            text = recordview.line(record, names)
        else:
            values = fields(record, kind)
            text = " ".join(f"{name}={value}" for name, value in values.items())
        print(
            json.dumps({"ring_position": position, **values})
            if as_json
            else f"{position:>9}  {text}"
        )


def fields(record: Any, kind: str) -> dict[str, Any]:
    """An EVENT, REPORT or MARKET_DATA record: its fields that are not zero; else all bytes."""
    if record.dtype.names is None:
        return {"bytes": bytes(record).hex()}
    kind = "events" if kind == "ledger" else kind
    enumerations = _ENUMERATIONS.get(kind, {})
    meant = _MEANT.get((kind, int(record["kind"])), _MEANT.get((kind, 0), {}))
    out: dict[str, Any] = {}
    for name in record.dtype.names:
        value = record[name]
        if name.startswith("reserved") or not _is_set(value):
            continue
        if name in enumerations:
            out[name] = _named(enumerations[name], int(value))
        elif isinstance(value, bytes):
            out[meant.get(name, name)] = value.decode("ascii", "backslashreplace")
        else:
            out[meant.get(name, name)] = int(value)
    return out


def _is_set(value: Any) -> bool:
    return bool(value) if isinstance(value, bytes) else bool(np.any(value))


def _named(of: Any, value: int) -> str:
    if of in (EventFlag, ReportFlag):
        return "|".join(str(flag.name) for flag in of if value & flag) or str(value)
    return of(value).name if value in of._value2member_map_ else str(value)
