"""A drill from start to receipt.

load      clients in processes of their own, at a rate, through all that follows
strike    one fault after the other, each once the exchange is whole again
stop      the clients end, then a throw-away exchange stops in order
check     what the clients wrote down, against the journal
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from matchbox.persistence import points
from matchbox.persistence.journal import Reader
from matchbox.shm.errors import MatchboxError
from matchbox.tools import poison
from matchbox.tools.drill import check, faults, receipt
from matchbox.tools.drill.check import Written
from matchbox.tools.drill.faults import FAULTS, POISON, Scene, Strike
from matchbox.tools.drill.instance import MARKET, Instance, wait_for
from matchbox.tools.drill.load import Order
from matchbox.tools.drill.receipt import Receipt

_CLIENT_PATIENCE_S = 120.0
_SETTLE_S = 0.3
Say = Callable[[str], object]


@dataclass(frozen=True)
class Wishes:
    """How a drill is to be."""

    faults: tuple[str, ...]  # in turn; "random": any
    count: int = 1
    kills: int = 0  # more faults, until so many processes were killed
    rate: float = 20_000.0
    sessions: int = 2
    assurance: str = "matched"
    seed: int = 1
    accounts: tuple[str, ...] = ()  # of an exchange that runs
    market: str = MARKET

    @property
    def names(self) -> tuple[str, ...]:
        return self.accounts or tuple(f"c{n}" for n in range(1, self.sessions + 1))


class Clients:
    """The processes of the load."""

    def __init__(self, instance: Instance, wishes: Wishes, folder: Path) -> None:
        self._files = {name: folder / f"{name}.npz" for name in wishes.names}
        self._processes: list[subprocess.Popen[str]] = []
        for number, name in enumerate(wishes.names):
            order = Order(
                str(instance.data),
                name,
                wishes.market,
                wishes.rate / len(wishes.names),
                wishes.assurance,
                wishes.seed * 1000 + number,
                str(self._files[name]),
            )
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "matchbox.tools.drill.load", order.to_json()],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                )
            )

    def begin(self) -> None:
        """Wait until all of them trade."""
        for process in self._processes:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                raise MatchboxError("a client of the drill has not begun")

    def finish(self) -> list[Written]:
        """Let them end, and read what they wrote down."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            if process.wait(_CLIENT_PATIENCE_S):
                raise MatchboxError("a client of the drill has failed")
        return [Written.read(name, file) for name, file in self._files.items()]

    def kill(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


def run(instance: Instance, wishes: Wishes, folder: Path, say: Say = lambda text: None) -> Receipt:
    """Do a drill; a throw-away exchange is started for it.

    Raises MatchboxError if it cannot be done; what was lost is in the receipt.
    """
    scene = Scene(instance, np.random.default_rng(wishes.seed), folder)
    instance.environment = {
        points.VARIABLE: str(folder),
        poison.VARIABLE: ",".join(
            f"{'matcher-0' if agent == 'matcher' else agent}:{lots}"
            for agent, lots in POISON.items()
        ),
    }
    if instance.ours and not instance.up():
        raise MatchboxError(f"the exchange does not start: {instance.said[-2000:]}")
    instance.ready()
    began_ns = time.monotonic_ns()
    with _clients(instance, wishes, folder) as clients:
        try:
            strikes = list(_strike(scene, wishes, say))
            instance.ready()
        except MatchboxError as error:
            said = "\n".join(instance.said.splitlines()[-40:])
            raise MatchboxError(f"{error}. The exchange has said:\n{said}") from error
        time.sleep(_SETTLE_S)  # some more traffic, after the last fault
        ended_ns = time.monotonic_ns()
        written = clients.finish()
    alarm = instance.alarm()
    hashes = _end(instance, written)
    lost = any(strike.memory_lost for strike in strikes)
    found = check.examine(instance.config, instance.data / "journal", written, durable_only=lost)
    if alarm:
        found.blame(f"alarm: {alarm}")
    if instance.ours:
        hashes["replay of the journal"] = found.state
    for strike in strikes:
        if strike.note.startswith("wrong: "):
            found.blame(strike.note)
    expected = sum(strike.turns for strike in strikes)
    turns = [turn for turn in found.turns if turn.sequence > 1]
    if instance.ours and len(turns) < expected:
        found.blame(f"{expected} faults needed another engine, there were {len(turns)}")
    seconds = (ended_ns - began_ns) / 1e9
    return Receipt(
        ", ".join(wishes.faults),
        round(seconds, 1),
        round(found.commands / seconds),
        sum(strike.kills for strike in strikes),
        receipt.lines(strikes, written, found.turns, began_ns),
        found,
        wishes.seed,
        hashes,
    )


@contextmanager
def _clients(instance: Instance, wishes: Wishes, folder: Path) -> Iterator[Clients]:
    clients = Clients(instance, wishes, folder)
    try:
        clients.begin()
        yield clients
    finally:
        clients.kill()


def _strike(scene: Scene, wishes: Wishes, say: Say) -> Iterator[Strike]:
    time.sleep(_SETTLE_S)
    kills = 0
    for number in count():
        if number >= wishes.count and kills >= wishes.kills:
            return
        scene.instance.ready()
        name = wishes.faults[number % len(wishes.faults)]
        fault = (
            faults.pick(scene.random, ours=scene.instance.ours)
            if name == "random"
            else FAULTS[name]
        )
        done = fault(scene)
        kills += done.kills
        say(f"{number + 1}: {done.what}")
        yield done
        if done.turns:
            scene.wait(0.2)


def _end(instance: Instance, written: list[Written]) -> dict[str, str]:
    """Stop a throw-away exchange; of another one, wait until what was told is on the disk."""
    if instance.ours:
        instance.down()
        return {"the exchange at its stop": str(instance.status["hash"])}
    last = max((int(w.reports["sequence"].max(initial=0)) for w in written), default=0)
    with Reader(instance.data / "journal") as reader:
        wait_for(lambda: reader.last_sequence() >= last, f"record {last} is on the disk")
    return {}


def as_line(found: Receipt) -> str:
    """Totals, in one line of JSON."""
    totals: dict[str, Any] = {"drill": found.drill, **found.totals(), "good": found.good}
    return json.dumps(totals)
