"""What is done about what a dead engine had in hand."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchbox.shm.board import BOARD_BYTES, Board
from matchbox.shm.records import EVENT, LOG_RECORD, MARKET_DATA, NEW_ORDER, Belongs, Kind
from matchbox.shm.ring import Producer, Ring, ring_bytes
from matchbox.tools import poison
from matchbox.tools.poison import MATCHING, PUBLISHING, SEQUENCING, SETTLING, Poisoned, Verdict

AGENTS = ("sequencer", "matcher-0", "matcher-1", "publisher")
PUBLISHER = 2  # among the readers of the log
LOGGED, TOLD, SETTLED = 20, 12, 10


class Dead:
    """A dead engine of two matchers: 20 records in the log, of which 12 were told."""

    def __init__(self) -> None:
        self.board = Board.create(mmap.mmap(-1, BOARD_BYTES), 3, 1)
        self.board.add_process("engine", None, "park")
        for name in AGENTS:
            self.board.add_agent(name, 0)
        self.rings = {
            "log": self._ring(64, 4),
            "events-0": self._ring(64, 2),
            "events-1": self._ring(64, 2),
            "market-data": self._ring(64, 0),
        }
        rows = np.zeros(LOGGED, LOG_RECORD)
        rows["sequence"] = np.arange(1, LOGGED + 1)
        rows["kind"] = Kind.NEW_ORDER
        rows["settled_lag"] = rows["sequence"] - np.minimum(rows["sequence"] - 1, SETTLED)
        Producer(self.rings["log"]).publish(rows)
        self.rings["log"].set_reader(PUBLISHER, TOLD)

    def _ring(self, slots: int, readers: int) -> Ring:
        return Ring.create(
            mmap.mmap(-1, ring_bytes(slots)), capacity=slots, shape="gated", readers=readers
        )

    def row(self, agent: str) -> Any:
        return self.board.live_agents()[AGENTS.index(agent)]

    def hold(self, agent: str, task: int, number: int, *, session: int = 0, fault: int = 0) -> None:
        row = self.row(agent)
        row["task"], row["session"], row["in_hand"], row["fault"] = task, session, number, fault

    def say(self, part: str, sequence: int, *, read: bool) -> None:
        event = np.zeros(1, MARKET_DATA if part == "market-data" else EVENT)
        event["sequence"] = sequence
        Producer(self.rings[part]).publish(event)
        if read:
            self.rings[part].set_reader(1, 1)

    def judge(self, hung: str = "") -> Verdict:
        return poison.judge(self.board, self.rings.__getitem__, hung)


@pytest.fixture
def dead() -> Dead:
    return Dead()


def test_a_mere_kill_is_no_reason(dead: Dead) -> None:
    dead.hold("matcher-0", MATCHING, 13)
    dead.hold("sequencer", SEQUENCING, 7, session=2)
    assert not dead.judge()


@pytest.mark.parametrize("signal", [11, 7, 4, 8, 6])
def test_a_record_in_hand_at_a_fault_is_cut_out(dead: Dead, signal: int) -> None:
    dead.hold("matcher-0", MATCHING, 13, fault=signal)
    dead.hold("matcher-1", MATCHING, 14)  # of another thread: no fault of its
    verdict = dead.judge()
    assert [(cut.sequence, cut.agent, cut.epoch) for cut in verdict.cuts] == [(13, "matcher-0", 3)]
    assert not verdict.refusals


def test_an_agent_that_had_nothing_in_hand_is_no_reason(dead: Dead) -> None:
    dead.hold("matcher-0", MATCHING, 0, fault=11)
    assert not dead.judge()


def test_a_record_that_a_thread_did_not_end_is_cut_out(dead: Dead) -> None:
    dead.hold("publisher", PUBLISHING, 13)
    assert not dead.judge("another thread")
    assert [cut.sequence for cut in dead.judge("engine").cuts] == [13]


def test_a_record_in_hand_at_two_deaths_is_cut_out(dead: Dead, tmp_path: Path) -> None:
    dead.hold("matcher-1", MATCHING, 14)
    next_board, last_board = Dead().board, Dead().board
    poison.remember(dead.board, next_board, TOLD)
    poison.keep(dead.board, TOLD, tmp_path)
    poison.recall(last_board, LOGGED, tmp_path)
    for board in (next_board, last_board):
        assert board.told == TOLD
        after = Dead()
        after.board = board
        after.hold("matcher-1", MATCHING, 13)
        assert not after.judge()  # another one
        after.hold("matcher-1", MATCHING, 14)
        assert [cut.sequence for cut in after.judge().cuts] == [14]


def test_a_start_that_knows_nothing_takes_all_for_told(dead: Dead, tmp_path: Path) -> None:
    poison.recall(dead.board, LOGGED, tmp_path)
    dead.hold("matcher-0", MATCHING, LOGGED, fault=11)
    with pytest.raises(Poisoned, match="something was told"):
        dead.judge()
    (tmp_path / poison.FILE).write_text("{")
    poison.recall(dead.board, LOGGED, tmp_path)
    assert dead.board.told == LOGGED


def test_a_command_that_is_not_in_the_log_is_refused(dead: Dead) -> None:
    dead.hold("sequencer", SEQUENCING, 7, session=2, fault=8)
    verdict = dead.judge()
    assert [(r.session, r.position) for r in verdict.refusals] == [(2, 7)]
    assert not verdict.cuts


@pytest.mark.parametrize("told", ["all of it", "an event", "the public"])
def test_what_was_told_is_not_cut_out(dead: Dead, told: str) -> None:
    dead.hold("matcher-0", MATCHING, 13, fault=11)
    dead.say("events-0", 13, read=False)
    assert dead.judge().cuts  # said, and nobody was told
    if told == "all of it":
        dead.rings["log"].set_reader(PUBLISHER, 13)
    elif told == "an event":
        dead.rings["events-0"].set_reader(1, 1)
    else:
        dead.say("market-data", 13, read=False)
    with pytest.raises(Poisoned, match=r"record 13 .* matcher-0 died of SIGSEGV"):
        dead.judge()


def test_what_later_records_were_decided_with_is_not_cut_out(dead: Dead) -> None:
    dead.hold("sequencer", SETTLING, 13, fault=11)
    assert dead.judge().cuts
    more = np.zeros(1, LOG_RECORD)
    more["sequence"], more["kind"] = LOGGED + 1, Kind.NEW_ORDER
    more["settled_lag"], more["settled_index"] = LOGGED + 1 - 12, 1
    Producer(dead.rings["log"]).publish(more)
    with pytest.raises(Poisoned, match="records behind it were decided"):
        dead.judge()


def test_what_goes_together_with_something_told_is_not_cut_out(dead: Dead) -> None:
    """A list of which all up to its first leg was told: how that ended depends on the second."""
    rows = np.zeros(3, LOG_RECORD)
    rows["sequence"] = np.arange(LOGGED + 1, LOGGED + 4)
    rows["kind"] = [Kind.ORDER_LIST, Kind.NEW_ORDER, Kind.NEW_ORDER]
    rows["settled_lag"] = rows["sequence"] - SETTLED
    rows[1:].view(NEW_ORDER)["has_terms"] = Belongs.IN_LIST
    Producer(dead.rings["log"]).publish(rows)
    dead.hold("matcher-0", MATCHING, LOGGED + 3, fault=11)
    dead.rings["log"].set_reader(PUBLISHER, LOGGED)
    assert [cut.sequence for cut in dead.judge().cuts] == [LOGGED + 3]
    dead.rings["log"].set_reader(PUBLISHER, LOGGED + 2)
    with pytest.raises(Poisoned, match="goes together with it"):
        dead.judge()


def test_what_several_agents_do_is_not_cut_out(dead: Dead) -> None:
    rows = np.zeros(1, LOG_RECORD)
    rows["sequence"], rows["kind"] = LOGGED + 1, Kind.MASS_CANCEL
    rows["settled_lag"] = LOGGED + 1 - SETTLED
    Producer(dead.rings["log"]).publish(rows)
    dead.hold("publisher", PUBLISHING, LOGGED + 1, fault=6)
    with pytest.raises(Poisoned, match="MASS_CANCEL"):
        dead.judge()


def test_what_the_log_does_not_have_is_not_cut_out(dead: Dead) -> None:
    dead.hold("matcher-0", MATCHING, LOGGED + 5, fault=11)
    with pytest.raises(Poisoned, match="the log has it no more"):
        dead.judge()
