"""The threads of a host process: engine threads, each with a loop of agents, and the journaler's.

Whatever is raised in one of them ends the whole process at once: a wrong fill is worse than an
outage.
"""

import os
import threading
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from matchbox.core.agent import Agent
from matchbox.core.loop import Bell, Loop
from matchbox.core.plan import Plan, PlanThread
from matchbox.persistence.journal import Writer
from matchbox.persistence.journaler import Journaler
from matchbox.shm import segment
from matchbox.shm.board import Board
from matchbox.shm.errors import JournalError
from matchbox.shm.ring import Ring
from matchbox.shm.saying import complain
from matchbox.tools import poison


class EngineThread:
    """A thread of engine agents."""

    def __init__(
        self,
        plan: Plan,
        number: int,
        board: Board,
        segments: Callable[[str], Any],
        *,
        resting: bool = False,
    ) -> None:
        """`resting`: of a standby: neither pinned nor spinning until wake_up()."""
        self._thread_plan: PlanThread = plan.threads[number]
        self._resting = resting
        names = self._thread_plan.agents
        self.agents: dict[str, Agent] = {name: plan.build(name, segments) for name in names}
        poison.arm(self.agents)
        self._board, self._number, self._peers = board, number, plan.peers(number)
        self._first: list[tuple[str, Agent]] = []
        self._loop: Loop | None = None
        self._thread = threading.Thread(target=guard, args=(self._run,), name=self.name)

    @property
    def name(self) -> str:
        return self._thread_plan.name

    @property
    def started(self) -> bool:
        return self._loop is not None

    @property
    def loop(self) -> Loop:
        assert self._loop is not None, "the thread has not started"
        return self._loop

    def poll_first(self, name: str, agent: Agent) -> None:
        """Another agent, before all others; before the start."""
        self._first.append((name, agent))

    def start(self) -> None:
        agents = [*self._first, *self.agents.items()]
        self._loop = Loop(
            [agent for _, agent in agents],
            self._board,
            self._number,
            [row_of(self._board, name) for name, _ in agents],
            peers=self._peers,
            idle="park" if self._resting else self._thread_plan.idle,
        )
        self._thread.start()

    def _run(self) -> None:
        if not self._resting:
            pin(self._thread_plan.core)
        self.loop.run()

    def wake_up(self) -> None:
        """Take the core and the idle strategy of the plan; called on the loop's thread."""
        pin(self._thread_plan.core)
        self.loop.set_idle(self._thread_plan.idle)

    def stop(self) -> None:
        self.loop.stop()
        self._thread.join()


class JournalThread:
    """The journaler's thread: steps while there is something to do, else sleeps on its bell.

    When an engine was succeeded by another, its log ring is closed and names the epoch of that one;
    once all of it is durable, the journaler goes on in the successor's.
    """

    def __init__(self, plan: Plan, number: int, board: Board, log: Ring, settings: dict[str, Any]):
        self._plan, self._number, self._log = plan, number, log
        self.core = plan.threads[number].core
        self.writer = Writer(
            settings["directory"],
            epoch=plan.epoch,
            batch_records=settings["batch_records"],
            file_bytes=settings["file_bytes"],
        )
        self.journaler = Journaler(
            self.writer, log, plan.journaler_reader, linger_ns=settings["linger_ns"]
        )
        self._listen(board)
        self._stopping = False
        self._thread = threading.Thread(
            target=guard, args=(self._run,), name=plan.threads[number].name
        )

    def _listen(self, board: Board) -> None:
        self.board = board
        board.processes[self._number]["pid"] = os.getpid()
        self._bell = Bell(board, self._number)
        self._peers = [Bell(board, peer) for peer in self._plan.peers(self._number)]
        self._row = board.agents[row_of(board, "journaler")]

    @property
    def epoch(self) -> int:
        """Of the engine whose log is followed."""
        return self._plan.epoch

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        pin(self.core)
        while not self._stopping:
            done = self.journaler.step()
            self._row["rounds"] += 1
            if done:
                self._row["work"] += done
                self._row["position"] = self.journaler.durable
                for peer in self._peers:
                    peer.ring()
                continue
            if self._log.successor and not self.journaler.ready:
                self._follow(self._log.successor)
                continue
            self._bell.announce()
            if self.journaler.ready or self._log.successor or self._stopping:
                self._bell.unannounce()
            else:
                self._row["parks"] += 1
                self._bell.sleep(1.0)

    def _follow(self, epoch: int) -> None:
        """Go on in the log of the engine of `epoch`, whose position is where this one ends."""
        self._plan = self._plan.successor(epoch)
        self._log = Ring.attach(segment.attach(self._plan.name("log")))
        self.writer.epoch = epoch
        self.journaler.follow(self._log, self._plan.journaler_reader)
        self._listen(Board.attach(segment.attach(self._plan.name("board"))))

    def stop(self) -> None:
        self._stopping = True
        self._bell.ring()
        self._thread.join()
        self.writer.close()


def guard(run: Callable[[], None]) -> None:
    """Run a thread's work; whatever it raises ends the process."""
    try:
        run()
        return
    except JournalError as error:
        # The disk is full, or has failed: there is no place in the code to show for it.
        complain(f"The journal cannot go on: {error}")
    except BaseException:
        complain(traceback.format_exc())
    os._exit(70)


def pin(core: int | None) -> None:
    """Keep the calling thread on one core."""
    if core is not None:
        os.sched_setaffinity(0, {core})


def row_of(board: Board, agent: str) -> int:
    """The board's row of an agent."""
    return int(np.flatnonzero(board.live_agents()["name"] == agent.encode())[0])
