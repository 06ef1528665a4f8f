"""What came of a drill, as text and as JSON."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.shm.records import EventKind
from matchbox.tools.drill.check import Findings, Turn, Written
from matchbox.tools.drill.faults import Strike

_PERCENTILES = (50, 90, 99, 100)


@dataclass
class Line:
    """One fault, as the clients saw it; times in milliseconds."""

    what: str
    pids: list[int]
    at_s: float  # after the drill began
    in_flight: int  # commands without an answer at that moment
    takeover_ms: float | None  # from then to the first report by the next engine
    silence_ms: float | None  # from the last report of the one before to the first of the next
    waiting_ms: list[float]  # percentiles of the answers to commands in flight or sent meanwhile
    note: str = ""


@dataclass
class Receipt:
    """Of a drill."""

    drill: str
    seconds: float
    rate: float  # commands per second, as they were sent
    kills: int
    lines: list[Line]
    findings: Findings
    seed: int
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return self.findings.good and len(set(self.hashes.values())) <= 1

    @property
    def takeovers(self) -> NDArray[np.float64]:
        return np.array([r.takeover_ms for r in self.lines if r.takeover_ms is not None])

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"good": self.good, "totals": self.totals()})

    def totals(self) -> dict[str, Any]:
        took = self.takeovers
        return {
            "kills": self.kills,
            "faults": len(self.lines),
            "commands": self.findings.commands,
            "acknowledged": self.findings.acknowledged,
            "missing": self.findings.missing,
            "duplicates": self.findings.duplicates,
            "gaps": self.findings.gaps,
            "unanswered": self.findings.unanswered,
            "takeovers": len(took),
            "takeover_p50_ms": round(float(np.median(took)), 1) if len(took) else None,
            "takeover_max_ms": round(float(took.max()), 1) if len(took) else None,
        }

    def text(self) -> str:
        found = self.findings
        rows = [
            f"Drill {self.drill}, seed {self.seed}: {self.seconds:.1f} s under "
            f"{self.rate:,.0f} commands/s, {len(self.lines)} faults, {self.kills} kills."
        ]
        rows += [_line(line) for line in self.lines]
        took = self.takeovers
        if len(took) > 1:
            rows.append(
                f"From death to the next engine's first report, {len(took)} times: p50 "
                f"{np.median(took):.1f} ms, max {took.max():.1f} ms."
            )
        rows += [
            f"Clients sent {found.commands:,} commands and were told {found.acknowledged:,} "
            f"reports; the journal has {found.records:,} records.",
            f"Acknowledged and missing: {found.missing}. Twice: {found.duplicates}. "
            f"Gaps: {found.gaps}. Unanswered: {found.unanswered}.",
        ]
        if self.hashes:
            same = "the same" if len(set(self.hashes.values())) == 1 else "NOT THE SAME"
            listed = ", ".join(f"{name} {value}" for name, value in self.hashes.items())
            rows.append(f"State hashes are {same}: {listed}.")
        rows += [f"WRONG: {problem}" for problem in found.problems]
        rows.append("Nothing was lost, nothing was done twice." if self.good else "FAILED.")
        return "\n".join(rows)


def _line(line: Line) -> str:
    parts = [f"  {line.at_s:7.2f} s  {line.what}"]
    if line.pids:
        parts.append(f"(pid {', '.join(map(str, line.pids))})")
    parts.append(f"{line.in_flight} in flight")
    if line.takeover_ms is not None:
        parts.append(f"next engine's first report after {line.takeover_ms:.1f} ms")
    if line.waiting_ms:
        told = "/".join(f"{value:.1f}" for value in line.waiting_ms)
        parts.append(f"answers p50/p90/p99/max {told} ms")
    if line.note:
        parts.append(line.note)
    return ", ".join(parts)


def lines(
    strikes: list[Strike], clients: list[Written], turns: list[Turn], began_ns: int
) -> list[Line]:
    """Each fault, as the clients saw it."""
    sights = [_Sight(client) for client in clients]
    found = []
    for number, strike in enumerate(strikes):
        # Turns of this fault: those after it, and before the next one.
        until = strikes[number + 1].real_ns if number + 1 < len(strikes) else 1 << 62
        turn = next(
            (t for t in turns if strike.turns and strike.real_ns <= t.timestamp_ns < until), None
        )
        first, last = None, None
        if turn is not None:
            heard = [s.first_after(turn.sequence, strike.at_ns) for s in sights]
            first = min((at for at in heard if at), default=None)
            before = [s.last_before(turn.sequence, first or 0) for s in sights]
            last = max((at for at in before if at), default=None)
        end = first or strike.at_ns
        waits = np.concatenate([np.empty(0), *(s.waits(strike.at_ns, end) for s in sights)])
        found.append(
            Line(
                strike.what,
                strike.pids,
                round((strike.at_ns - began_ns) / 1e9, 3),
                sum(s.in_flight(strike.at_ns) for s in sights),
                round((first - strike.at_ns) / 1e6, 3) if first else None,
                round((first - last) / 1e6, 3) if first and last else None,
                np.percentile(waits, _PERCENTILES).round(3).tolist() if len(waits) else [],
                strike.note,
            )
        )
    return found


class _Sight:
    """What one client saw when."""

    def __init__(self, client: Written) -> None:
        self._times = client.times()
        self._sequences = client.reports["sequence"]
        counts = client.sent[:, 1]
        self._sent = np.repeat(client.sent[:, 2], counts)
        firsts = np.repeat(client.sent[:, 0], counts)
        within = np.arange(len(firsts)) - np.repeat(np.cumsum(counts) - counts, counts)
        positions = firsts + within
        kinds = client.reports["kind"]
        answers = (kinds != EventKind.TRADE) & (kinds != EventKind.PREVENTED)
        answers &= client.reports["command_position"] > 0
        told = client.reports["command_position"][answers].astype(np.int64)
        known, first = np.unique(told, return_index=True)
        place = np.searchsorted(known, positions)
        place[place == len(known)] = 0
        there = len(known) > 0
        hit = known[place] == positions if there else np.zeros(len(positions), bool)
        heard = self._times[answers][first] if there else np.zeros(1, np.int64)
        self._answered = np.where(hit, heard[place] if there else 0, 1 << 62)

    def in_flight(self, at_ns: int) -> int:
        return int(((self._sent <= at_ns) & (self._answered > at_ns)).sum())

    def first_after(self, sequence: int, at_ns: int) -> int | None:
        # Where memory was lost, numbers above it may have been given out before.
        later = self._times[(self._sequences > sequence) & (self._times > at_ns)]
        return int(later[0]) if len(later) else None

    def last_before(self, sequence: int, first: int) -> int | None:
        before = self._times[(self._sequences < sequence) & (self._times < first)]
        return int(before[-1]) if len(before) else None

    def waits(self, at_ns: int, end_ns: int) -> NDArray[np.float64]:
        """Of those that were in flight then or sent until `end_ns`, and were answered, in ms."""
        chosen = (self._sent <= end_ns) & (self._answered > at_ns) & (self._answered < 1 << 62)
        waits: NDArray[np.float64] = (self._answered[chosen] - self._sent[chosen]) / 1e6
        return waits
