"""Records that are cut out, and commands that are refused unseen: everybody takes them alike.

A log is written with the auditor's own rules, in which now and then an accepted order, cancel or
amend is marked as cut out, alone or as part of what stands together, and a command is refused as
POISONED. The auditor's events and reports must be the matchers' and the publisher's. Takeovers that
cut out records of a living log are among those of test_exchange.py.
"""

from typing import Any

import pytest
from numpy.typing import NDArray

from matchbox.persistence.cuts import CUT, KINDS
from matchbox.shm.reasons import Reason
from matchbox.shm.records import LIST_RECORD, Flag, Kind
from matchbox.tools.audit.decide import Decision
from tests.simulation import commands
from tests.simulation.commands import Random
from tests.simulation.test_auditor import Scribe
from tests.simulation.test_followers import Followers, WritingScribe, follow

WORLDS, COMMANDS = 4, 600
CUT_OUT, REFUSED = 6, 3  # percent


class CuttingScribe(Scribe):
    """Marks and refuses."""

    def __init__(self, choice: Random) -> None:
        self._began = False
        Scribe.__init__(self, choice)
        self._began = True

    def _stamp(self, rows: NDArray[Any], belongs: Any, decisions: list[Decision]) -> None:
        if self._began and int(rows["session"][0]) > 1 and commands.chance(self.choice, REFUSED):
            decisions[:] = [Decision(Reason.POISONED) for _ in decisions]
            belongs = [0] * len(rows)
        super()._stamp(rows, belongs, decisions)

    def _write(self, rows: NDArray[Any], *place: Any, **more: Any) -> None:
        if rows["reject"][0] == Reason.POISONED and rows["kind"][0] == Kind.ORDER_LIST:
            rows[:1].view(LIST_RECORD)["legs"] = 0
        for row in rows:
            with_matcher = row["kind"] in KINDS and not row["flags"] & Flag.OF_PENDING
            chosen = self._began and with_matcher and not row["reject"]
            if chosen and commands.chance(self.choice, CUT_OUT):
                row["reserved"] = CUT
        super()._write(rows, *place, **more)


class CuttingFollowed(CuttingScribe, WritingScribe):
    """The followers get what is written."""

    def __init__(self, choice: Random, followers: Followers) -> None:
        self.followers = followers
        CuttingScribe.__init__(self, choice)


@pytest.mark.parametrize("event_slots", [1024, 16])
def test_matchers_and_publisher_take_them_as_the_auditor_does(seed: int, event_slots: int) -> None:
    for number in range(WORLDS):
        follow(Random(seed * 100 + number), COMMANDS, Followers(event_slots), CuttingFollowed)
