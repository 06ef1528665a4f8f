"""Watching a living engine: has one of its processes died, or does it hang?

Death is seen by pidfd. A thread of the engine shows on the board that it goes round, at least every
tenth of a second, also when it has nothing to do. One that does not may be starved of its core,
which is no reason to kill it: it hangs if meanwhile it has had the processor for long enough, or is
stopped, or sleeps where it should not.
"""

import contextlib
import os
import select
import signal
import time
from pathlib import Path

from matchbox.core.plan import Plan
from matchbox.shm.board import Board
from matchbox.shm.errors import EngineDown

_EXIT_PATIENCE_S = 30.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Watch:
    """Of the engine that a board shows. Its processes must be running."""

    def __init__(self, board: Board, plan: Plan, hang_ms: int) -> None:
        self._hang_s = hang_ms / 1e3
        self._processes: dict[int, int] = {}  # pidfds by pid
        self._threads: list[_Thread] = []
        for number, thread in enumerate(plan.threads):
            if {"journaler", "standby"} & set(thread.agents):
                continue
            pid = int(board.processes[number]["pid"])
            if pid not in self._processes:
                self._processes[pid] = os.pidfd_open(pid)
            row = next(r for r in board.live_agents() if int(r["process"]) == number)
            self._threads.append(_Thread(thread.name, pid, row))
        self.died = False
        self.hung = ""  # the thread that goes round with something without end
        self._bell = -1
        self._poller = select.poll()
        for pidfd in self._processes.values():
            self._poller.register(pidfd, select.POLLIN)

    def also(self, bell: int) -> None:
        """look() returns when this eventfd was rung, too."""
        self._bell = bell
        self._poller.register(bell, select.POLLIN)

    def look(self, patience_ms: int) -> str:
        """Why the engine cannot go on, as soon as it cannot; empty if it can for so long."""
        dead = {fd for fd, _ in self._poller.poll(patience_ms)}
        if self._bell in dead:
            os.eventfd_read(self._bell)  # rung once, seen once
        for pid, pidfd in self._processes.items():
            if pidfd in dead:
                self.died = True
                return f"process {pid} has died"
        if self._hang_s:
            for thread in self._threads:
                why = thread.hangs(self._hang_s)
                if why:
                    self.hung = thread.name if thread.running else ""
                    return why
        return ""

    def kill(self) -> None:
        """End what is left of its processes, and wait for that. Raises EngineDown."""
        for pidfd in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        deadline = time.monotonic() + _EXIT_PATIENCE_S
        for pid, pidfd in self._processes.items():
            left = select.poll()
            left.register(pidfd, select.POLLIN)
            if not left.poll(max(0.0, 1e3 * (deadline - time.monotonic()))):
                raise EngineDown(f"process {pid} does not end")


class _Thread:
    """A thread of the engine, by the counters of its first agent."""

    def __init__(self, name: str, pid: int, row: object) -> None:
        self.name, self._pid, self._row = name, pid, row
        self._rounds = -1
        self._since = time.monotonic()
        self._cpu = 0.0
        self.running = False  # when it was found to hang
        self._looked = self._since

    def hangs(self, hang_s: float) -> str:
        now = time.monotonic()
        rounds = int(self._row["rounds"])  # type: ignore[index]
        # We may have been starved ourselves: time in which we did not look proves nothing.
        late = now - self._looked > hang_s / 2
        self._looked = now
        if rounds != self._rounds or late or self._row["serving"]:  # type: ignore[index]
            self._rounds, self._since = rounds, now
            self._cpu = _processor_seconds(self._pid)
            return ""
        silent = now - self._since
        if silent < 0.6 * hang_s:
            return ""
        state = _state(self._pid)
        if state in ("T", "t"):
            return f"{self.name} is stopped"
        if silent < hang_s:
            return ""
        if state in ("S", "D"):
            return f"{self.name} has slept for {silent:.3f} s"
        spent = _processor_seconds(self._pid) - self._cpu
        if spent >= hang_s / 2:
            self.running = True
            return (
                f"{self.name} has not gone round in {silent:.3f} s, {spent:.2f} s of them running"
            )
        return ""


def _fields(stat: Path) -> list[str]:
    """Of a stat file, behind the name, which may hold anything; none if it is gone."""
    try:
        return stat.read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _state(pid: int) -> str:
    """Of a process, by its threads: stopped if one is, else running if one would, else asleep."""
    tasks = Path(f"/proc/{pid}/task").glob("*/stat")
    states = {fields[0] for fields in map(_fields, tasks) if fields}
    for state in ("T", "t", "R", "D"):
        if state in states:
            return state
    return "S"


def _processor_seconds(pid: int) -> float:
    fields = _fields(Path(f"/proc/{pid}/stat"))
    return (int(fields[11]) + int(fields[12])) / _TICKS if fields else 0.0
