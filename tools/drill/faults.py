"""What is done to an exchange. Each fault waits until all of it runs, strikes, and says when.

A fault that the exchange outlives leaves it to mend itself. One that stops it (everything killed, a
full disk) starts it again, as its operator would, and so needs a throw-away exchange.
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from matchbox.persistence import points
from matchbox.shm import segment
from matchbox.shm.connect import connect
from matchbox.shm.errors import MatchboxError, SessionError
from matchbox.shm.reasons import Reason, describe
from matchbox.shm.session import Session
from matchbox.tools.drill.instance import PATIENCE_S, Instance, send, wait_for
from matchbox.tools.folder import living

# Orders of so many lots, and the number of a signal; no client of a drill sends as many.
POISON = {"matcher": 900_000, "sequencer": 900_100, "publisher": 900_200}
_PULSE_S = 0.2
_TRIES = 5


@dataclass
class Strike:
    """One fault that was done: what, to whom, and when (monotonic and real time, nanoseconds)."""

    what: str
    pids: list[int] = field(default_factory=list)
    kills: int = 0
    at_ns: int = 0
    real_ns: int = 0
    # Another engine is to answer after it, which is waited for.
    turns: bool = False
    memory_lost: bool = False
    note: str = ""

    def now(self) -> None:
        self.at_ns, self.real_ns = time.monotonic_ns(), time.time_ns()


@dataclass
class Scene:
    """Where a fault happens."""

    instance: Instance
    random: np.random.Generator
    folder: Path  # of the drill, for what it needs

    def wait(self, most_s: float) -> None:
        """A random part of so long: faults hit the exchange anywhere."""
        time.sleep(float(self.random.random()) * most_s)


Fault = Callable[[Scene], Strike]


def kill(*roles: str) -> Fault:
    """SIGKILL, to all of these at once."""

    def strike(scene: Scene) -> Strike:
        scene.wait(0.1)
        done = Strike(f"kill {' and '.join(roles)}", turns="engine" in roles)
        engine = scene.instance.pid("engine")
        pids = [pid for role in roles if (pid := scene.instance.pid(role))]
        done.now()
        _kill(done, pids)
        done.turns = done.turns and engine in done.pids
        if "supervisor" in roles and scene.instance.ours:
            _again(scene)
        return done

    return strike


def everything(scene: Scene) -> Strike:
    """Every process at once; the next start has only shared memory and the disk."""
    return _kill_all(scene, Strike("kill everything", turns=True))


def powercut(scene: Scene) -> Strike:
    """Every process, and all memory with them; of the disk, what the kernel has (a real power cut
    takes that, too: see docs/testing.md for how that is tested).
    """
    return _kill_all(scene, Strike("lose all memory", turns=True, memory_lost=True), forget=True)


def _kill_all(scene: Scene, done: Strike, *, forget: bool = False) -> Strike:
    scene.wait(0.1)
    status = scene.instance.status
    pids = [*living(status), int(status.get("archiver", 0))]
    done.now()
    _kill(done, pids)
    if forget:
        for name in segment.names(scene.instance.config.instance):
            segment.unlink(name)
    _again(scene)
    return done


def _kill(done: Strike, pids: list[int]) -> None:
    """SIGKILL to all of them; they are dead afterwards, so that nobody takes them for alive."""
    done.pids = [pid for pid in pids if send(pid, signal.SIGKILL)]
    done.kills = len(done.pids)
    for pid in done.pids:
        wait_for(lambda pid=pid: not _lives(pid), "they die")  # type: ignore[misc]


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _again(scene: Scene) -> None:
    """Start it, as often as it takes: it may be killed meanwhile."""
    if scene.instance.process is not None:
        scene.instance.process.wait()
    for _ in range(_TRIES):
        if scene.instance.up():
            return
    raise MatchboxError(f"it does not start again: {scene.instance.said[-2000:]}")


def twice(scene: Scene) -> Strike:
    """Everything, and the engine once more while it recovers."""
    armed = points.arm(scene.folder, "recovery.replayed", int(scene.random.integers(1, 3)))
    done = _kill_all(scene, Strike("kill everything, and again in the recovery", turns=True))
    done.kills += _disarm(armed)
    return done


def _disarm(armed: Path) -> bool:
    """Has a process died there? If not, none will."""
    try:
        armed.unlink()
    except FileNotFoundError:
        return True
    return False


# Who passes a point, but those of a takeover.
_DIES = {"journal": "journal", "snapshot": "standby", "archive": "archiver"}


def at_point(name: str) -> Fault:
    """Have the process die that passes this point next; see points.py."""

    def strike(scene: Scene) -> Strike:
        part, _, _ = name.partition(".")
        if part == "recovery":
            return twice(scene)
        done = Strike(f"die at {name}", turns=part == "takeover")
        victim = scene.instance.pid(_DIES.get(part, "engine"))
        armed = points.arm(scene.folder, name, 1)
        done.now()
        if part == "takeover":
            _kill(done, [scene.instance.pid("engine")])
        elif part == "snapshot":
            _ask_for_snapshot(scene)
        wait_for(lambda: not armed.exists(), f"a process dies at {name}")
        done.kills += 1
        if part == "takeover":
            _again(scene)
        else:
            wait_for(lambda: not _lives(victim), "it is dead")
        return done

    return strike


def poisoned(agent: str, number: int) -> Fault:
    """An order that kills whoever processes it, by a signal, or for 0 by never ending: it is
    refused, and nobody else is concerned.
    """

    def strike(scene: Scene) -> Strike:
        how = f"dies of {signal.Signals(number).name}" if number else "sees no end"
        done = Strike(f"poison: an order of which the {agent} {how}", turns=True)
        account = scene.instance.config.accounts[-1].name
        market = scene.instance.config.markets[0].symbol
        with connect(scene.instance.data, account=account) as session:
            done.pids = [scene.instance.pid("engine")]
            done.now()
            sent = session.buy(market, POISON[agent] + number, 1)
            done.kills += 1
            reason = _refusal(session, sent)
        if reason != Reason.POISONED:
            done.note = f"wrong: it was answered by {describe(reason) if reason else 'nothing'}"
        return done

    return strike


def _refusal(session: Session, position: int) -> int:
    """Why a command was refused; 0 if it was not, or is not answered."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for report in session.reports(timeout=0.1):
            if int(report["command_position"]) == position:
                return int(report["reason"])
    return 0


def _ask_for_snapshot(scene: Scene) -> None:
    connection = scene.instance.operator()
    try:
        connection.take_snapshot()
    except MatchboxError:
        pass  # whoever wrote it is dead
    finally:
        connection.close()


def failover(scene: Scene) -> Strike:
    """The engine dies."""
    return kill("engine")(scene)


def promote(scene: Scene) -> Strike:
    """A planned switch."""
    done = Strike("promote", turns=True)
    connection = scene.instance.operator()
    try:
        done.now()
        connection.promote()
    finally:
        connection.close()
    return done


def hang(scene: Scene) -> Strike:
    """The engine is stopped; once another one trades, it is let go: it must be dead by then."""
    scene.wait(0.1)
    instance = scene.instance
    done = Strike("stop the engine, let it go after the takeover", turns=True)
    old, epoch = instance.pid("engine"), instance.epoch
    done.now()
    send(old, signal.SIGSTOP)
    wait_for(lambda: instance.epoch > epoch, "another engine takes over")
    if send(old, signal.SIGCONT) and _lives(old):
        done.note = f"wrong: process {old} still lived"
    done.pids = [old]
    return done


def standby_lag(scene: Scene) -> Strike:
    """The standby is stopped until it is far behind; then it must catch up, and take over."""
    instance = scene.instance
    standby = instance.pid("standby")
    send(standby, signal.SIGSTOP)
    far = 2 * instance.config.rings.log
    deadline = time.monotonic() + 4.0  # the supervisor gives one up that is silent for longer
    while instance.standby_lag < far and time.monotonic() < deadline:
        time.sleep(0.05)
    lag = instance.standby_lag
    send(standby, signal.SIGCONT)
    # The supervisor may have given it up for dead: then another one follows.
    wait_for(lambda: instance.followed and 0 <= instance.standby_lag < 10_000, "it catches up")
    done = kill("engine")(scene)
    done.what = f"let the standby fall {lag:,} records behind, then kill the engine"
    return done


def slow_disk(scene: Scene) -> Strike:
    """The journaler stands still, again and again, as on a disk that stalls."""
    done = Strike("stall the disk")
    journal = scene.instance.pid("journal")
    done.pids = [journal]
    done.now()
    for _ in range(5):
        send(journal, signal.SIGSTOP)
        time.sleep(_PULSE_S)
        send(journal, signal.SIGCONT)
        time.sleep(_PULSE_S / 4)
    return done


def disk_full(scene: Scene) -> Strike:
    """No file of the journal's process may grow any more: it stops, and the exchange with it."""
    done = Strike("fill the disk", turns=True)
    instance = scene.instance
    journal = instance.pid("journal")
    done.pids = [journal]
    done.now()
    resource.prlimit(journal, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    supervisor = instance.process
    assert supervisor is not None
    wait_for(lambda: supervisor.poll() is not None, "it stops")
    _again(scene)  # there is room again
    return done


_HOSTILE = """
import os, sys, time
import numpy as np, matchbox
from matchbox.shm.records import COMMAND
random = np.random.default_rng(int(sys.argv[3]))
session = None
end = time.monotonic() + 30
while time.monotonic() < end:
    rows = np.frombuffer(random.bytes(64 * COMMAND.itemsize), COMMAND).copy()
    rows["kind"] = random.integers(0, 60, len(rows))
    rows["account"] = 0
    try:
        # One that is put out comes again.
        session = session or matchbox.connect(sys.argv[1], account=sys.argv[2])
        session.submit(rows)
    except matchbox.RingFull:
        os.sched_yield()
    except matchbox.MatchboxError:
        session = None
"""


def hostile_bot(scene: Scene) -> Strike:
    """A bot sends noise, never reads, and is killed; then another one."""
    done = Strike("a bot sends noise and reads nothing")
    account = scene.instance.config.accounts[-1].name
    done.now()
    for number in range(2):
        bot = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _HOSTILE,
                str(scene.instance.data),
                account,
                str(int(scene.random.integers(1 << 30)) + number),
            ],
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            bot.wait(1.5)
        bot.kill()
        bot.wait()
        done.pids.append(bot.pid)
        done.kills += 1
    # A new bot is let in as before.
    with contextlib.suppress(SessionError):
        connect(scene.instance.data, account=account).close()
    return done


FAULTS: dict[str, Fault] = {
    "failover": failover,
    "kill": kill("journal"),
    "powercut": powercut,
    "disk-full": disk_full,
    "slow-disk": slow_disk,
    "hostile-bot": hostile_bot,
    "standby-lag": standby_lag,
    "hang": hang,
    "promote": promote,
    "everything": everything,
    "twice": twice,
    "poison": poisoned("matcher", signal.SIGSEGV),
    "poison-sequencer": poisoned("sequencer", signal.SIGFPE),
    "poison-publisher": poisoned("publisher", signal.SIGABRT),
    "poison-hang": poisoned("matcher", 0),
    **{name: at_point(name) for name in points.POINTS},
}
# What a random drill picks from, and how often.
RANDOM: tuple[tuple[Fault, int], ...] = (
    (failover, 6),
    (kill("engine", "journal"), 3),
    (kill("engine", "archiver"), 2),
    (kill("journal"), 2),
    (kill("journal", "archiver"), 2),
    (kill("standby"), 1),
    (kill("standby", "journal"), 1),
    (kill("standby", "archiver"), 1),
    (hang, 1),
    (kill("engine", "journal", "archiver"), 3),
)
# With those that need a start.
RANDOM_OURS: tuple[tuple[Fault, int], ...] = (
    *RANDOM,
    (everything, 2),
    (kill("supervisor"), 1),
    (kill("supervisor", "engine"), 1),
    (twice, 1),
    *((at_point(name), 1) for name in points.POINTS),
    (poisoned("matcher", signal.SIGSEGV), 1),
    (poisoned("sequencer", signal.SIGSEGV), 1),
)


def pick(random: np.random.Generator, *, ours: bool) -> Fault:
    chosen = RANDOM_OURS if ours else RANDOM
    weights = np.array([weight for _, weight in chosen], float)
    return chosen[int(random.choice(len(chosen), p=weights / weights.sum()))][0]
