"""Playing a recorded flow through an exchange, and comparing the fills that come out.

    flow ── commands() ──> Target.send()      in process, or a live exchange
    Target.outcome() ── compare() ──> None, or the first Difference

A Target is told the flow's commands in order and says in the end which fills came out, each as the
row that caused it and the maker's id in the flow, and which rows were refused.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from matchbox.core.instrument import market_record
from matchbox.core.matcher import Matcher
from matchbox.shm.reasons import describe as describe_reason
from matchbox.shm.records import EventKind, Kind, ReportFlag
from matchbox.tools.flows import FILLS, Flow, commands, describe

# Commands of one send() when the flow is played as fast as possible.
BATCH = 4096
# How often a paced flow looks at the clock while nothing is due, so that a progress bar moves.
_PATIENCE_S = 0.1
_NEIGHBOURS = 3
REFUSALS = np.dtype([("seq", "<i8"), ("reason", "<u2")])
_COMPARED = ("seq", "maker_id", "price", "qty")

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Outcome:
    """What came out: FILLS in the order of matching (kind 0), and REFUSALS, both by row."""

    fills: NDArray[Any]
    refusals: NDArray[Any]


class Target(Protocol):
    """Where a flow is played."""

    def send(self, batch: NDArray[Any]) -> None:
        """Take the next COMMANDs of the flow. May block until there is room."""

    def outcome(self) -> Outcome:
        """Wait until all that was sent is done, and say what came of it."""


class InProcess:
    """A matcher in this process: no rings, no other processes."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self.matcher = Matcher(
            [
                market_record(
                    1,
                    max_orders=flow.max_orders,
                    max_price_ticks=flow.max_price_ticks,
                    max_quantity_lots=flow.max_quantity_lots,
                )
            ]
        )
        self._sent = 0
        self._fills: list[NDArray[Any]] = []
        self._refusals: list[NDArray[Any]] = []

    def send(self, batch: NDArray[Any]) -> None:
        rows = slice(self._sent, self._sent + len(batch))
        # Without a sequencer nobody knows client order ids. An order's id is the sequence of the
        # command that created it, and sequences count from 1.
        known = batch.copy()
        opener = self._flow.opener[rows].astype(np.uint64)
        known["order_id"] = np.where(batch["kind"] == Kind.NEW_ORDER, 0, opener + np.uint64(1))
        events = self.matcher.process(known)
        self._sent += len(batch)
        trades = events[events["kind"] == EventKind.TRADE]
        openers = trades["maker_order_id"].astype(np.int64) - 1
        self._fills.append(_fills(self._flow, trades, openers, _rows(trades)))
        refused = events[events["kind"] == EventKind.REJECTED]
        self._refusals.append(_refusals(_rows(refused), refused["reason"]))

    def outcome(self) -> Outcome:
        self.matcher.validate()
        return Outcome(np.concatenate(self._fills), np.concatenate(self._refusals))


def _rows(events: NDArray[Any]) -> NDArray[np.int64]:
    return events["sequence"].astype(np.int64) - 1


def _fills(
    flow: Flow, trades: NDArray[Any], openers: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[Any]:
    """FILLS of trades whose makers were created by the rows `openers`, caused by `rows`."""
    out = np.zeros(len(trades), FILLS)
    out["seq"] = rows
    out["maker_id"] = flow.ops["order_id"][openers]
    out["price"], out["qty"] = trades["price_ticks"], trades["quantity_lots"]
    return out


def _refusals(rows: NDArray[np.int64], reasons: NDArray[Any]) -> NDArray[Any]:
    out = np.zeros(len(rows), REFUSALS)
    out["seq"], out["reason"] = rows, reasons
    return out


def outcome_of_reports(flow: Flow, reports: NDArray[Any], first_position: int) -> Outcome:
    """The outcome out of all REPORTS of the one session that sent the flow, in their order.

    first_position: the session's position of the command of row 0 (its `command_position`). Makers
    are known by the order ids that the session was told when their rows were accepted.
    """
    about_trade = reports["kind"] == EventKind.TRADE
    end_position = first_position + len(flow.ops)
    mine = (reports["command_position"] >= first_position) & (
        reports["command_position"] < end_position
    )
    answers = reports[~about_trade & mine]
    answers = answers[answers["kind"] <= EventKind.AMENDED]
    row_of_answer = answers["command_position"].astype(np.int64) - first_position
    # One sequence a row, rising with it.
    sequences, first = np.unique(answers["sequence"], return_index=True)
    row_of_sequence = row_of_answer[first]
    made = answers["kind"] == EventKind.ACCEPTED
    order_ids, first = np.unique(answers["order_id"][made], return_index=True)
    row_of_order = row_of_answer[made][first]

    makers = reports[about_trade & ((reports["flags"] & ReportFlag.AS_MAKER) != 0)]
    makers = makers[np.lexsort((makers["index"], makers["sequence"]))]
    fills = _fills(
        flow,
        makers,
        row_of_order[np.searchsorted(order_ids, makers["order_id"])],
        row_of_sequence[np.searchsorted(sequences, makers["sequence"])],
    )
    refused = answers["kind"] == EventKind.REJECTED
    return Outcome(fills, _refusals(row_of_answer[refused], answers["reason"][refused]))


def play(
    flow: Flow,
    target: Target,
    *,
    market: int = 1,
    speed: float | None = None,
    progress: Progress = lambda rows: None,
) -> Outcome:
    """Send the whole flow; the outcome.

    speed: that many times real time by the flow's timestamps; None: as fast as possible.
    progress: called now and then with the number of rows sent.
    """
    batch = commands(flow, market)
    if speed is None:
        for first in range(0, len(batch), BATCH):
            target.send(batch[first : first + BATCH])
            progress(min(first + BATCH, len(batch)))
        return target.outcome()
    due_ns = np.maximum.accumulate(flow.ops["ts_ns"] - flow.ops["ts_ns"][0]) / speed
    began, sent = time.monotonic_ns(), 0
    while sent < len(batch):
        now = time.monotonic_ns() - began
        upto = int(np.searchsorted(due_ns, now, side="right"))
        for first in range(sent, upto, BATCH):
            target.send(batch[first : min(first + BATCH, upto)])
        sent = max(sent, upto)
        progress(sent)
        if sent < len(batch):
            time.sleep(min(_PATIENCE_S, max(0.0, (due_ns[sent] - now) / 1e9)))
    return target.outcome()


@dataclass(frozen=True)
class Difference:
    """Where expected and actual fills part: the row, and the whole story as text."""

    row: int
    text: str


def compare(flow: Flow, outcome: Outcome) -> Difference | None:
    """The first row that did not do what the flow says, or None.

    A row that was refused is a difference; other fills are one if the flow says which to expect.
    """
    rows = []
    if len(outcome.refusals):
        rows.append(int(outcome.refusals["seq"].min()))
    if flow.fills is not None:
        unequal = _first_unequal(flow.fills, outcome.fills)
        if unequal is not None:
            rows.append(unequal)
    if not rows:
        return None
    return Difference(min(rows), _story(flow, outcome, min(rows)))


def _first_unequal(expected: NDArray[Any], got: NDArray[Any]) -> int | None:
    """The row of the first fill that is not the same in both."""
    common = min(len(expected), len(got))
    equal = np.ones(common, bool)
    for name in _COMPARED:
        equal &= expected[name][:common] == got[name][:common]
    at = int((~equal).argmax()) if not equal.all() else common
    rows = [int(fills["seq"][at]) for fills in (expected, got) if at < len(fills)]
    return min(rows) if rows else None


def _story(flow: Flow, outcome: Outcome, row: int) -> str:
    lines = [f"{flow.name}: first difference at row {row} (line {row + 2} of the file)", "", "rows"]
    for other in range(max(0, row - _NEIGHBOURS), min(len(flow.ops), row + _NEIGHBOURS + 1)):
        lines.append(f"{'>' if other == row else ' '} {describe(flow.ops[other])}")
    for reason in outcome.refusals["reason"][outcome.refusals["seq"] == row].tolist():
        lines += ["", f"refused: {describe_reason(reason)}"]
    if flow.fills is not None:
        lines += ["", *_listed("expected", flow.fills, row)]
    lines += ["", *_listed("got", outcome.fills, row)]
    return "\n".join(lines)


def _listed(title: str, fills: NDArray[Any], row: int) -> list[str]:
    """The fills of a row, and one fill on each side of them."""
    first, end = (int(np.searchsorted(fills["seq"], row, side)) for side in ("left", "right"))
    lines = [f"{title}: {end - first} fills of row {row}, of {len(fills)} in all"]
    for at in range(max(0, first - 1), min(len(fills), end + 1)):
        text = " ".join(f"{name}={int(fills[name][at])}" for name in _COMPARED)
        lines.append(f"{'>' if first <= at < end else ' '} {text}")
    return lines
