"""What killed an engine: found on its board after its death, and kept from killing the next one.

Each agent shows on the board what it has in hand (core/agent.pxd), and the signal that it died of,
if that was its own fault (core/loop.pyx). A record is suspect

- if its agent died of SIGSEGV, SIGBUS, SIGILL, SIGFPE or SIGABRT with it in hand, or went round
  with it without end;
- if it was in hand at this death and at the one before, whatever they were.

A mere kill is no reason: the record was only there. What is done about a suspect:

    a command that is not in the log     the next sequencer refuses it unseen (Refusal)
    an order, cancel or amend of which   it is cut out of the journal (persistence/cuts.py), decided
    nobody was told anything             before anything behind it is replayed
    anything else                        Poisoned: no engine can go on without doing as if something
                                         had not happened that somebody was told

Of a record nobody was told anything if the publisher has not passed it, and no later record was
decided with any of it settled. Events of a record are published at once or in parts, but what
matchers and ledger did in the dead engine's memory is gone with it; only these two count.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matchbox.core.plan import PUBLISHER_READS
from matchbox.persistence import cuts
from matchbox.persistence.cuts import Cut
from matchbox.persistence.journaler import GROUP_RECORDS, count_before
from matchbox.shm import segment
from matchbox.shm.board import Board
from matchbox.shm.errors import MatchboxError, SegmentError
from matchbox.shm.records import EVENT, LOG_RECORD, MARKET_DATA, Kind
from matchbox.shm.ring import Ring
from matchbox.shm.segment import SegmentName
from matchbox.tools.folder import write_file

FILE = "in-hand.json"
VARIABLE = "MATCHBOX_POISON"
SEQUENCING, SETTLING, MATCHING, PUBLISHING = 1, 2, 3, 4  # enum mb_task
Rings = Callable[[str], Ring]
_DOES = {SEQUENCING: "sequenced", SETTLING: "settled", MATCHING: "matched", PUBLISHING: "published"}


def arm(agents: Mapping[str, Any]) -> None:
    """For drills, which alone set MATCHBOX_POISON=AGENT:LOTS,...: an order of so many lots, plus
    the number of a signal, kills that agent by it, in every engine; plus 0: it never ends.
    """
    for part in filter(None, os.environ.get(VARIABLE, "").split(",")):
        name, _, lots = part.partition(":")
        if name in agents:
            agents[name].poison(int(lots))


class Poisoned(MatchboxError):
    """A record kills every engine that comes to it, and cannot be cut out."""


@dataclass(frozen=True)
class Suspect:
    """What an agent had in hand, and why that is suspect."""

    agent: str
    task: int
    session: int
    number: int
    why: str


@dataclass(frozen=True)
class Refusal:
    """A command that is to be refused unseen."""

    session: int
    position: int
    suspect: Suspect

    def __str__(self) -> str:
        return (
            f"command {self.position:,} of session {self.session} is refused: {self.suspect.agent} "
            f"had it in hand, and {self.suspect.why}"
        )


@dataclass
class Verdict:
    """What is to be done before anything is replayed."""

    cuts: list[Cut] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.cuts or self.refusals)


def suspects(board: Board, hung: str = "") -> list[Suspect]:
    """Of a dead engine; `hung`: the thread that went round with something without end."""
    names = [row["name"].tobytes().rstrip(b"\0").decode() for row in board.live_processes()]
    found = []
    for row in board.live_agents():
        if not row["in_hand"] or not row["task"]:
            continue
        why = ""
        if row["fault"]:
            why = f"died of {signal.Signals(int(row['fault'])).name}"
        elif hung and names[int(row["process"])] == hung:
            why = "did not come to an end with it"
        elif _hand(row) == _hand_before(row):
            why = "died with it twice"
        if why:
            name = row["name"].tobytes().rstrip(b"\0").decode()
            found.append(Suspect(name, *_hand(row), why))
    return found


def judge(board: Board, rings: Rings, hung: str = "") -> Verdict:
    """What to do about what a dead engine had in hand; nothing is done yet. `rings` gives its
    rings by part. Raises Poisoned.
    """
    found = Verdict()
    for suspect in suspects(board, hung):
        if suspect.task == SEQUENCING:
            found.refusals.append(Refusal(suspect.session, suspect.number, suspect))
            continue
        problem = _told(suspect, board, rings)
        if problem:
            raise Poisoned(
                f"record {suspect.number:,} cannot be {_DOES[suspect.task]}: {suspect.agent} "
                f"{suspect.why}. It is not cut out, for {problem}"
            )
        found.cuts.append(
            Cut(suspect.number, suspect.agent, suspect.why, board.epoch, time.time_ns())
        )
    return found


def last_told(board: Board, rings: Rings) -> int:
    """The last record of which this engine, or one before it, may have told anybody anything: that
    all was told of, or some (its events are read), or that the public was.
    """
    names = board.live_agents()["name"].tolist()
    matchers = sum(name.startswith(b"matcher-") for name in names)
    # Of the log's readers the publisher comes behind the matchers.
    told = [board.told, rings("log").consumed[matchers]]
    for events in [rings(f"events-{k}") for k in range(matchers)]:
        if read := events.consumed[PUBLISHER_READS]:
            told.append(int(events.peek(read - 1, 1, EVENT)["sequence"][0]))
    public = rings("market-data")
    if public.produced:
        told.append(int(public.peek(public.produced - 1, 1, MARKET_DATA)["sequence"][0]))
    return int(max(told))


def _told(suspect: Suspect, board: Board, rings: Rings) -> str:
    """Why the record cannot be cut out; empty if it can."""
    told, log = last_told(board, rings), rings("log")
    if suspect.number <= told:
        return f"somebody may know what came of it: up to record {told:,} something was told"
    if not log.produced - log.capacity < suspect.number <= log.produced:
        return "the log has it no more"
    record, last = (
        log.peek(sequence - 1, 1, LOG_RECORD)[0] for sequence in (suspect.number, log.produced)
    )
    # What goes together is done together: of the first of a pair, too, nothing may have been told.
    head = suspect.number - records_before(log, suspect.number)
    if head <= told:
        return f"somebody may know of record {head:,}, which goes together with it"
    if record["kind"] not in cuts.KINDS:
        kind = int(record["kind"])
        name = Kind(kind).name if kind in tuple(Kind) else f"kind {kind}"
        return f"a {name} is done by several agents, or by none"
    settled = int(last["sequence"]) - int(last["settled_lag"])
    if settled >= head or (settled == head - 1 and last["settled_index"]):
        return "records behind it were decided with what came of it"
    return ""


def records_before(log: Ring, sequence: int) -> int:
    """How many records before this one go together with it."""
    first = max(1, log.produced - log.capacity + 1, sequence - GROUP_RECORDS)
    rows = log.peek(first - 1, sequence - first + 1, LOG_RECORD)
    return count_before(rows)


# ---- from one engine to the next


def remember(before: Board, now: Board, told: int) -> None:
    """The next engine's board says what was in hand when this one died."""
    hands = {bytes(row["name"]): _hand(row) for row in before.live_agents()}
    for row in now.live_agents():
        _remember(row, hands.get(bytes(row["name"]), (0, 0, 0)))
    now.told = told


def keep(board: Board, told: int, data: Path) -> None:
    """The same for the next start. It matters only after another death: no flush."""
    hands = {
        row["name"].tobytes().rstrip(b"\0").decode(): list(_hand(row))
        for row in board.live_agents()
        if row["in_hand"]
    }
    write_file(data / FILE, json.dumps({"told": told, "hands": hands}))


def recall(board: Board, journaled: int, data: Path) -> None:
    """At a start: what the engine before had in hand. What is not known of it counts as told."""
    board.told = journaled
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept: dict[str, Any] = json.loads((data / FILE).read_text())
        for row in board.live_agents():
            name = row["name"].tobytes().rstrip(b"\0").decode()
            task, session, number = (int(value) for value in kept["hands"].get(name, (0, 0, 0)))
            _remember(row, (task, session, number))
        board.told = int(kept["told"])


def forget(data: Path) -> None:
    """The exchange has stopped in order."""
    with contextlib.suppress(OSError):
        (data / FILE).unlink()


def _hand(row: Any) -> tuple[int, int, int]:
    return int(row["task"]), int(row["session"]), int(row["in_hand"])


def _hand_before(row: Any) -> tuple[int, int, int]:
    return int(row["task_before"]), int(row["session_before"]), int(row["in_hand_before"])


def _remember(row: Any, hand: tuple[int, int, int]) -> None:
    row["task_before"], row["session_before"], row["in_hand_before"] = hand


# ---- of an engine that nothing succeeds


def bury(instance: str, epoch: int, data: Path) -> Verdict:
    """An engine is dead whose memory is still there: decide, and keep what the next start must
    know. Raises Poisoned, after that; JournalError if the decision cannot be kept.
    """

    def attach(part: str) -> Any:
        # What outlives an engine has the name of the first one that had it.
        known = [n.epoch for n in segment.names(instance) if n.part == part and n.epoch <= epoch]
        return segment.attach(SegmentName(instance, max(known, default=epoch), part))

    try:
        board = Board.attach(attach("board"))
        if b"follower" in board.live_agents()["name"].tolist() and board.state != "running":
            return Verdict()  # a standby, whose engine is another one
        told = last_told(board, lambda part: Ring.attach(attach(part)))
    except SegmentError:
        return Verdict()  # it died before it had them
    keep(board, told, data)
    verdict = judge(board, lambda part: Ring.attach(attach(part)))
    for cut in verdict.cuts:
        cuts.add(data / "journal", cut)
    return verdict
