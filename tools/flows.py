"""Recorded order flows: reading and writing the files, and turning them into commands.

A flow is NAME.ops.csv.gz, and NAME.fills.csv.gz with the fills that must come out of it, if they
are known. Both are gzip CSV with a header line and integers only: prices in ticks, quantities in
lots.

    seq,ts_ns,op,order_id,side,price,qty,flag      seq = number of the row, from 0; side B or S

      S  an order that stands already when the flow begins; rows of one price are in queue order
      A  a new limit order, good till cancelled
      M  a new limit order, immediate or cancel
      X  cancel what is left of the order
      R  lower what is left of the order to qty; it keeps its place
      P  the order gets a new price and a new open quantity; it loses its place, and may match

    seq,maker_id,price,qty,kind                    seq = the row that causes the fill

Flags (1: not from a message; 2: a further slice of an iceberg, which uses the id of the slice
before again; 3: rebuilt) only say where a row is from. So an order id may be used again once its
order is gone, and `commands()` gives each order a client order id of its own, ID.N for the Nth use.
Fills of kind 0 are what a venue did by rules of its own, and must not come out; those of kinds 1
and 2 must, in the order of the file.
"""

import gzip
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.shm.errors import BadArgument
from matchbox.shm.records import COMMAND, Flag, Kind, OrderType, Side, TimeInForce

OPS_SUFFIX, FILLS_SUFFIX = ".ops.csv.gz", ".fills.csv.gz"
OPS = np.dtype(
    [
        ("seq", "<i8"),
        ("ts_ns", "<i8"),
        ("op", "S1"),
        ("order_id", "<i8"),
        ("side", "S1"),
        ("price", "<i8"),
        ("qty", "<i8"),
        ("flag", "<i8"),
    ]
)
FILLS = np.dtype(
    [("seq", "<i8"), ("maker_id", "<i8"), ("price", "<i8"), ("qty", "<i8"), ("kind", "<i8")]
)
CREATES = (b"S", b"A", b"M")
DEMO = Path(__file__).parent / "data" / "demo"
# A market holds at least so many orders, however small the flow.
MIN_ORDERS = 1024
MAX_MARKET_LOTS = 1 << 62  # MBMAX_MARKET_LOTS


@dataclass(frozen=True)
class Flow:
    """`ops` are OPS; `fills` are the FILLS that must come out, None if they are not known.

    For row i, `opener[i]` is the row that created the order it is about (i itself for S, A and M).
    """

    name: str
    ops: NDArray[Any]
    fills: NDArray[Any] | None
    opener: NDArray[np.int64]

    @property
    def max_price_ticks(self) -> int:
        return int(self.ops["price"].max())

    @property
    def max_orders(self) -> int:
        """As many as can rest at once: those created and not cancelled, at worst."""
        rests = np.isin(self.ops["op"], (b"S", b"A")).astype(np.int64)
        resting = np.cumsum(rests - (self.ops["op"] == b"X"))
        return max(MIN_ORDERS, int(resting.max()) + 1)

    @property
    def max_quantity_lots(self) -> int:
        """As much as a market with so many orders can allow in one."""
        return MAX_MARKET_LOTS // self.max_orders


def load(path: Path | str) -> Flow:
    """The flow at `path`: its ops file, or what that is called before ".ops.csv.gz".

    Raises BadArgument, with file and line, for a file that is missing or not of the format.
    """
    prefix = str(path).removesuffix(OPS_SUFFIX)
    ops_path, fills_path = Path(prefix + OPS_SUFFIX), Path(prefix + FILLS_SUFFIX)
    ops = _read(ops_path, OPS)
    _check_ops(ops_path, ops)
    fills = None
    if fills_path.exists():
        fills = _read(fills_path, FILLS)
        if len(fills) and (fills["seq"].min() < 0 or fills["seq"].max() >= len(ops)):
            raise BadArgument(f"{fills_path}: a fill of no row of the flow: rows={len(ops)}")
        fills = fills[fills["kind"] != 0]
    return Flow(Path(prefix).name, ops, fills, _openers(ops_path, ops))


def make(name: str, ops: NDArray[Any], fills: NDArray[Any] | None = None) -> Flow:
    """A flow out of arrays. Raises BadArgument if it is not one."""
    _check_ops(Path(name), ops)
    return Flow(name, ops, fills, _openers(Path(name), ops))


def write(path: Path, rows: NDArray[Any]) -> None:
    """Write OPS or FILLS to a file; the same rows give the same bytes."""
    names = rows.dtype.names or ()
    lines = [",".join(names)]
    for row in rows.tolist():
        lines.append(",".join(v.decode() if isinstance(v, bytes) else str(v) for v in row))
    data = gzip.compress("\n".join([*lines, ""]).encode(), 9, mtime=0)
    path.write_bytes(data)


def _read(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    header = ",".join(dtype.names or ())
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            first = file.readline().rstrip("\n")
            if first != header:
                raise BadArgument(f"{path}:1: not the header of such a file: {first[:80]!r}")
            with warnings.catch_warnings(action="ignore"):  # about a file without rows
                return np.loadtxt(file, dtype, delimiter=",", comments=None, ndmin=1)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise BadArgument(f"{path}: cannot be read: {error}") from None
    except BadArgument:
        raise
    except ValueError as error:
        raise BadArgument(f"{path}: not of the format {header}: {error}") from None


def _check_ops(path: Path, ops: NDArray[Any]) -> None:
    """Raises BadArgument naming the first row that is not valid."""
    if len(ops) == 0:
        raise BadArgument(f"{path}: the flow has no rows")
    resting = np.isin(ops["op"], (b"X", b"R"))
    checks = (
        ("seq is not the number of the row", ops["seq"] == np.arange(len(ops))),
        ("op is none of S, A, M, X, R, P", np.isin(ops["op"], (*CREATES, b"X", b"R", b"P"))),
        ("side is neither B nor S", np.isin(ops["side"], (b"B", b"S"))),
        ("price is not above 0", (ops["price"] > 0) | resting),
        ("qty is not above 0", (ops["qty"] > 0) | (ops["op"] == b"X")),
    )
    for problem, good in checks:
        if not good.all():
            row = int((~good).argmax())
            # Line 1 is the header.
            raise BadArgument(f"{path}:{row + 2}: {problem}: {describe(ops[row])}")


def _openers(path: Path, ops: NDArray[Any]) -> NDArray[np.int64]:
    """For each row, the last row up to it that creates an order with its id."""
    by_order = np.argsort(ops["order_id"], kind="stable")
    creates = np.isin(ops["op"][by_order], CREATES)
    # Position in `by_order` of the last creating row; rows of one id stand together, in order.
    last = np.maximum.accumulate(np.where(creates, np.arange(len(ops)), -1))
    opener = np.full(len(ops), -1, np.int64)
    opener[by_order] = np.where(last >= 0, by_order[last], -1)
    wrong = (opener < 0) | (ops["order_id"][opener] != ops["order_id"])
    if wrong.any():
        row = int(wrong.argmax())
        raise BadArgument(f"{path}:{row + 2}: no order with this id: {describe(ops[row])}")
    return opener


def describe(row: Any) -> str:
    """A row of OPS or FILLS as name=value, in one line."""
    values = zip(row.dtype.names, row.tolist(), strict=True)
    return " ".join(f"{n}={v.decode() if isinstance(v, bytes) else v}" for n, v in values)


def commands(flow: Flow, market: int = 1) -> NDArray[Any]:
    """The flow as COMMANDs, one a row. Orders are named by client order id (`order_id` is 0).

    S and A: limit, GTC. M: limit, IOC. X: cancel. R: amend with TO_OPEN. P: amend with TO_OPEN and
    REQUEUE.
    """
    ops = flow.ops
    out = np.zeros(len(ops), COMMAND)
    op = ops["op"]
    new, cancel, lower, replace = (np.isin(op, kinds) for kinds in ((*CREATES,), b"X", b"R", b"P"))
    out["kind"] = np.select((new, cancel), (Kind.NEW_ORDER, Kind.CANCEL_ORDER), Kind.AMEND_ORDER)
    out["market"] = market
    out["price_ticks"] = np.where(new | replace, ops["price"], 0)
    out["quantity_lots"] = np.where(cancel, 0, ops["qty"])
    side = np.where(ops["side"] == b"B", Side.BUY, Side.SELL)
    out["side"] = np.where(new, side, 0)
    tif = np.where(op == b"M", TimeInForce.IOC, TimeInForce.GTC)
    out["time_in_force"] = np.where(new, tif, 0)
    out["order_type"] = np.where(new, OrderType.LIMIT, 0)
    out["flags"] = np.select((lower, replace), (Flag.TO_OPEN, Flag.TO_OPEN | Flag.REQUEUE), 0)
    out["client_order_id"] = client_order_ids(flow)
    return out


def client_order_ids(flow: Flow) -> NDArray[np.bytes_]:
    """For each row, ID.N: the flow's id of its order, and which use of the id it is, from 1."""
    ids = flow.ops["order_id"]
    by_order = np.argsort(ids, kind="stable")
    creates = np.isin(flow.ops["op"][by_order], CREATES)
    counted = np.cumsum(creates)
    begins = np.concatenate(([True], ids[by_order][1:] != ids[by_order][:-1]))
    before = np.maximum.accumulate(np.where(begins, counted - creates, 0))
    uses = np.empty(len(ids), np.int64)
    uses[by_order] = counted - before
    pairs: Iterable[tuple[int, int]] = zip(ids.tolist(), uses.tolist(), strict=True)
    return np.array([b"%d.%d" % pair for pair in pairs], "S36")
