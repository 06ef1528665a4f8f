"""The rules by themselves: a log that the auditor decides, under random commands, with no engine.

Whatever is settled late, in whatever pieces, nothing that must hold may break: no balance below 0,
all that is held needed, each asset and each order's quantity conserved, no book crossed.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.shm.reasons import Reason
from matchbox.shm.records import LOG_RECORD, Kind
from matchbox.tools.audit import decide, invariants
from matchbox.tools.audit.exchange import Auditor, Step
from matchbox.tools.audit.records import MONEY, RULES, Record, read, view_of
from tests.simulation import commands
from tests.simulation.commands import Choice, Random
from tests.simulation.world import SESSIONS, START_NS, definitions, named


class Scribe:
    """Writes a log as a sequencer would, deciding each command with the auditor's own rules."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.auditor = Auditor()
        self.now = START_NS
        self.recent: list[int] = []
        self.references = 0
        self.reasons: set[int] = set()
        self.numbers = {"operator": 1}
        row = named(Kind.ATTACH_SESSION, "operator", id=1, capabilities=7)
        self._write(row.view(LOG_RECORD), 0, 0)
        self.submit("operator", definitions())
        for name in SESSIONS:
            self.attach(name)

    def reference(self) -> bytes:
        self.references += 1
        return f"r{self.references}".encode()

    def attached(self, name: str) -> bool:
        return self.auditor.definitions.sessions[self.numbers[name]].attached

    def attach(self, name: str) -> None:
        account, capabilities, cancel = SESSIONS[name]
        slot = list(SESSIONS).index(name) + 1
        row = named(Kind.ATTACH_SESSION, name, account=account, slot=slot)
        row["capabilities"], row["cancel_on_detach"] = capabilities, cancel
        self.submit("operator", row)
        found = self.auditor.definitions.session_named(name.encode())
        assert found is not None
        self.numbers[name] = found.number

    def submit(self, name: str, rows: NDArray[Any]) -> None:
        rows = rows.view(LOG_RECORD).copy()
        number = self.numbers[name]
        i = 0
        while i < len(rows) and self.attached(name):
            pair = rows["kind"][i : i + 2].tolist() == [Kind.ORDER_TERMS, Kind.NEW_ORDER]
            self._command(rows[i : i + 1 + pair], number)
            i += 1 + pair

    def _command(self, rows: NDArray[Any], number: int) -> None:
        """What comes first, then one command, or terms and their order."""
        auditor, session = self.auditor, self.auditor.definitions.sessions[number]
        due = auditor.timers.first()
        if due is not None and due <= self.now:
            self._write(named(Kind.TICK, "").view(LOG_RECORD), 0, 0)
        lag, index = self._settle()
        while True:
            auditor.line.pass_over(auditor.ledger.orders.__contains__)
            if not auditor.line.waiting:
                break
            self._write(self._cancel(), 0, 0, lag, index)
            lag, index = self._settle()
        rows["account"] = self._account(rows[-1], session.account)
        if rows["kind"][0] == Kind.ORDER_TERMS and len(rows) == 1:
            (record,) = read(rows)
            rows["reject"] = decide.check_trader(auditor, record, session) or Reason.BAD_LEGS
            self._write(rows, number, session.position + 1, lag, index)
            return
        rows["sequence"] = auditor.sequence + len(rows)
        rows["timestamp_ns"], rows["session"] = self.now, number
        known = list(Kind)
        rows["kind"] = [kind if kind in known else Kind.INVALID for kind in rows["kind"].tolist()]
        *terms, record = read(rows)
        if terms:
            view_of(rows[-1:])["has_terms"] = 1
        decision = decide.decide(auditor, record, session, terms[0] if terms else None)
        self._stamp(rows[-1:], record, decision)
        rows["reject"] = decision.reject
        for i in range(len(rows)):
            self._write(rows[i : i + 1], number, session.position + 1, lag + i, index)
        if decision.order:
            self.recent = [*self.recent[-30:], auditor.sequence]

    def _account(self, row: Any, own: int) -> int:
        stands_for_own = (*range(1, 6), *range(7, 12))
        return own if row["account"] == 0 and row["kind"] in stands_for_own else row["account"]

    def _stamp(self, row: NDArray[Any], record: Record, decision: decide.Decision) -> None:
        session = self.auditor.definitions.sessions[record.session]
        view = view_of(row)
        if decision.reject == 0:
            for field, value in decision.stamps.items():
                view[field] = value
        if record.kind in (*MONEY, *RULES):
            view["operator_id"] = session.user if session.capabilities & 4 else 0

    def _cancel(self) -> NDArray[Any]:
        order_id, reason = self.auditor.line.waiting[0]
        order = self.auditor.ledger.orders[order_id]
        row = np.zeros(1, LOG_RECORD)
        row["kind"], row["order_id"], row["hold"] = Kind.CANCEL_ORDER, order_id, reason
        row["account"], row["market"], row["side"] = order.account, order.market.number, order.side
        return row

    def _settle(self) -> tuple[int, int]:
        """Settle some more, to any place: the lag and index that the next record has then."""
        auditor = self.auditor
        settled = self.choice.integer(auditor.settled, auditor.sequence)
        index = auditor.settled_index if settled == auditor.settled else 0
        if settled < auditor.sequence:
            events = len(auditor._unsettled[settled + 1][1])
            index = self.choice.integer(index, max(index, events - 1))
        auditor._settle_to(settled, index)
        return auditor.sequence + 1 - settled, index

    def _write(
        self, row: NDArray[Any], session: int, position: int, lag: int = 0, index: int = 0
    ) -> None:
        auditor = self.auditor
        row["sequence"] = auditor.sequence + 1
        row["settled_lag"] = lag or auditor.sequence + 1 - auditor.settled
        row["settled_index"] = index if lag else auditor.settled_index
        row["timestamp_ns"] = self.now
        row["session"], row["session_position"] = session, position
        (step,) = auditor.apply(row)
        self.reasons |= {event.reason for event in (*step.book, *step.ledger)}
        texts = "\n".join(map(str, auditor.differences))
        assert not auditor.differences, texts
        self._after(row, step)

    def _after(self, row: NDArray[Any], step: Step) -> None:
        """A record has been written."""


def run(choice: Choice, count: int) -> Scribe:
    scribe = Scribe(choice)
    for number in range(count):
        name, rows = commands.command(choice, scribe)
        scribe.submit(name, rows)
        if commands.chance(choice, 5):
            scribe.now += commands.weighted(choice, {1: 5, 10**7: 4, 86_400 * 10**9: 1})
        for session in SESSIONS:
            if not scribe.attached(session):
                scribe.attach(session)
        if number % 10 == 0:
            broken = invariants.broken(scribe.auditor)
            assert not broken, broken
    scribe.auditor.settle_all()
    broken = invariants.broken(scribe.auditor)
    assert not broken, broken
    return scribe


def test_random_commands_reach_every_reject_code() -> None:
    """Of commands and orders, that is: those that the log can show."""
    found: set[int] = set()
    for number in range(28):
        scribe = run(Random(number), 1000)
        found |= scribe.reasons
    # What the exchange is set up for is not in a log.
    unknown = {Reason.TOO_MANY_OBJECTS, Reason.NOT_PREPARED}
    missing = {r for r in Reason if r < 500 and r not in found} - unknown
    assert not missing


def test_nothing_that_must_hold_breaks(seed: int) -> None:
    for number in range(4):
        run(Random(seed * 100 + number), 800)
