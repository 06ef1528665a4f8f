"""The rules by themselves: a log that the auditor decides, under random commands, with no engine.

Whatever is settled late, in whatever pieces, nothing that must hold may break: no balance below 0,
all that is held needed, each asset and each order's quantity conserved, no book crossed.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.shm.reasons import Reason
from matchbox.shm.records import (
    COMMAND,
    LIST_RECORD,
    LOG_RECORD,
    NEW_ORDER,
    Belongs,
    Flag,
    Kind,
    ListType,
)
from matchbox.tools.audit import decide, invariants, together
from matchbox.tools.audit.exchange import Auditor, Step
from matchbox.tools.audit.line import Task
from matchbox.tools.audit.records import MONEY, RULES, read, view_of
from tests.simulation import commands
from tests.simulation.commands import Choice, Random
from tests.simulation.world import ASSURANCES, SESSIONS, START_NS, definitions, named


class Scribe:
    """Writes a log as a sequencer would, deciding each command with the auditor's own rules."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.auditor = Auditor()
        self.now = START_NS
        self.recent: list[int] = []
        self.references = 0
        self.reasons: set[int] = set()
        self.released: Counter[bool] = Counter()  # by whether they were refused
        self.numbers = {"operator": 1}
        row = named(Kind.ATTACH_SESSION, "operator", id=1, capabilities=7)
        self._write(row.view(LOG_RECORD))
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
        row["assurance"] = ASSURANCES.get(name, 0)
        self.submit("operator", row)
        found = self.auditor.definitions.session_named(name.encode())
        assert found is not None
        self.numbers[name] = found.number

    def submit(self, name: str, rows: NDArray[Any]) -> None:
        rows = rows.view(LOG_RECORD).copy()
        number = self.numbers[name]
        while len(rows) and self.attached(name):
            length = together_in_ring(rows)
            self._command(rows[:length], number)
            rows = rows[length:]

    def _command(self, rows: NDArray[Any], number: int) -> None:
        """What comes first, then one command, or those that stand together."""
        auditor, session = self.auditor, self.auditor.definitions.sessions[number]
        due = auditor.timers.first()
        if due is not None and due <= self.now:
            self._write(named(Kind.TICK, "").view(LOG_RECORD))
        place = self._settle()
        while True:
            auditor.line.pass_over(auditor._has_sense)
            if not auditor.line.waiting:
                break
            self._write(self._task(auditor.line.waiting[0], place), place=place)
            place = self._settle()
        self._number(rows, number, session.position + 1, place)
        for i in range(len(rows)):
            rows["account"][i] = self._account(rows[i], session.account)
        known = list(Kind)
        rows["kind"] = [kind if kind in known else Kind.INVALID for kind in rows["kind"].tolist()]
        group = list(read(rows))
        for r in group:
            # What a stamp would take the place of is as it was sent, as in a refused record.
            r.reject = {
                Kind.CANCEL_ORDER: Reason.BAD_QUANTITY,
                Kind.NEW_ORDER: Reason.BAD_PRICE,
            }.get(r.kind, 0)
        decisions = together.decide_group(auditor, group, session)
        self._stamp(rows, together.belongs(group), decisions)
        if rows["kind"][0] == Kind.ORDER_LIST:
            head = rows[:1].view(LIST_RECORD)
            head["legs"] = len(rows) - 1
            head["list_id"] = rows["sequence"][0] if len(rows) > 1 and not rows["reject"][0] else 0
        self._write(rows, number, session.position + 1, place)
        made = [decision.order.order_id for decision in decisions if decision.order]
        self.recent = [*self.recent[-30:], *made]

    def _account(self, row: Any, own: int) -> int:
        stands_for_own = (*range(1, 6), *range(7, 12), Kind.ORDER_LIST)
        return own if row["account"] == 0 and row["kind"] in stands_for_own else row["account"]

    def _stamp(
        self, rows: NDArray[Any], belongs: Sequence[int], decisions: list[decide.Decision]
    ) -> None:
        for i, decision in enumerate(decisions):
            view = view_of(rows[i : i + 1])
            if view["kind"][0] == Kind.NEW_ORDER:
                view["has_terms"] = belongs[i]
            if decision.reject == 0:
                for field, value in decision.stamps.items():
                    view[field] = value
            view["reject"] = decision.reject
            if view["kind"][0] in (*MONEY, *RULES):
                session = self.auditor.definitions.sessions[int(view["session"][0])]
                view["operator_id"] = session.user if session.capabilities & 4 else 0

    def _task(self, task: Task, place: tuple[int, int]) -> NDArray[Any]:
        """What the exchange does itself."""
        if not task.reason:
            return self._release(task.number, place)
        order = self.auditor.ledger.orders[task.number]
        row = np.zeros(1, LOG_RECORD)
        row["kind"], row["order_id"], row["hold"] = Kind.CANCEL_ORDER, task.number, task.reason
        row["account"], row["market"], row["side"] = order.account, order.market.number, order.side
        row["flags"] = Flag.OF_PENDING if order.pending else 0
        return row

    def _release(self, list_id: int, place: tuple[int, int]) -> NDArray[Any]:
        pending = list(self.auditor.ledger.lists[list_id])
        sent = [order.pending for order in pending if order.pending]
        head = np.zeros(1, LIST_RECORD)
        head["kind"], head["list_id"], head["legs"] = Kind.RELEASE, list_id, len(sent)
        head["account"], head["market"] = sent[0].record.account, sent[0].record.market
        head["list_type"] = ListType.OCO if len(sent) == 2 else 0
        head["expire_ns"] = max(leg.terms.expire_ns for leg in sent)
        legs = np.zeros(len(sent), NEW_ORDER)
        for i, leg in enumerate(sent):
            head["display_lots"][0, i] = leg.terms.display
            for name in legs.dtype.names or ():
                legs[name][i] = getattr(leg.record, name)
        rows = np.concatenate([head.view(LOG_RECORD), legs.view(LOG_RECORD)])
        self._number(rows, 0, 0, place)
        first, *others = read(rows)
        decisions = together.release(self.auditor, first, others, pending)
        self._stamp(rows[1:], [Belongs.IN_LIST] * len(others), decisions)
        self.released[bool(decisions[0].reject)] += 1
        return rows

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

    def _number(
        self, rows: NDArray[Any], session: int, position: int, place: tuple[int, int] | None
    ) -> None:
        """What every record has. `place`: the lag and the index of the first of them."""
        auditor = self.auditor
        lag, index = place or (auditor.sequence + 1 - auditor.settled, auditor.settled_index)
        each = np.arange(len(rows))
        rows["sequence"] = auditor.sequence + 1 + each
        rows["settled_lag"], rows["settled_index"] = lag + each, index
        rows["timestamp_ns"], rows["session"] = self.now, session
        rows["session_position"] = position + each if session else 0

    def _write(
        self,
        rows: NDArray[Any],
        session: int = 0,
        position: int = 0,
        place: tuple[int, int] | None = None,
    ) -> None:
        auditor = self.auditor
        self._number(rows, session, position, place)
        steps = [*auditor.apply(rows), *auditor.end()]
        for step in steps:
            self.reasons |= {event.reason for event in (*step.book, *step.ledger)}
        texts = "\n".join(map(str, auditor.differences))
        assert not auditor.differences, texts
        for i, step in enumerate(steps):
            self._after(rows[i : i + 1], step)

    def _after(self, row: NDArray[Any], step: Step) -> None:
        """A record has been written."""


def together_in_ring(rows: NDArray[Any]) -> int:
    """How many of the first of these commands stand together."""
    kinds = rows["kind"][:4].tolist()
    head = kinds[0]
    commands_of = rows.view(COMMAND)
    if head == Kind.ORDER_LIST:
        wanted = together.LEGS.get(int(rows[:1].view(LIST_RECORD)["list_type"][0]), 0)
    elif head == Kind.CANCEL_ORDER and commands_of["flags"][0] & Flag.REPLACE:
        wanted = 1 + (kinds[1:2] == [Kind.ORDER_TERMS])
        if kinds[wanted : wanted + 1] != [Kind.NEW_ORDER]:
            return 1
        return 1 + wanted if commands_of["flags"][wanted] & Flag.LEG else 1
    elif head == Kind.ORDER_TERMS:
        return 2 if kinds[1:2] == [Kind.NEW_ORDER] else 1
    else:
        return 1
    legs = commands_of[1 : 1 + wanted]
    good = len(legs) == wanted and (legs["kind"] == Kind.NEW_ORDER).all()
    return 1 + wanted if good and (legs["flags"] & Flag.LEG).all() else 1


def run(choice: Choice, count: int) -> Scribe:
    scribe = Scribe(choice)
    for number in range(count):
        name, rows = commands.command(choice, scribe)
        scribe.submit(name, rows)
        if commands.chance(choice, 5):
            scribe.now += commands.passing(choice, scribe)
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
    unknown = {Reason.TOO_MANY_OBJECTS, Reason.NOT_PREPARED, Reason.NOT_JOURNALED}
    unknown |= {Reason.NO_STANDBY}  # of the control socket
    unknown |= {Reason.POISONED}  # of what kills an engine, see test_cuts.py
    missing = {r for r in Reason if r < 500 and r not in found} - unknown
    assert not missing


def test_nothing_that_must_hold_breaks(seed: int) -> None:
    for number in range(4):
        run(Random(seed * 100 + number), 800)
