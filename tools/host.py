"""A host process: runs the agents that the plan places in it, and does what the supervisor asks.

    main thread      answers the supervisor (tools/channel.py); reaches the agents by Loop.call()
                     alone
    engine threads   one Loop for each of the plan's threads, pinned as it says
    journal thread   the journaler, which may block on the disk

Started by the supervisor as `python -m matchbox.tools.host FD FD`; ends when asked, or when the
supervisor is gone before the exchange runs; later it goes on, and the next `matchbox up` takes the
line up again. An agent that fails ends the whole process at once: a wrong fill is worse than
an outage.
"""

import mmap
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.core import snapshot
from matchbox.core.agent import Agent
from matchbox.core.loop import Loop, show_faults
from matchbox.core.matcher import MatcherAgent
from matchbox.core.plan import (
    OPERATOR_SLOT,
    Plan,
    PlanMarket,
    place,
    prepare,
    take,
)
from matchbox.core.publisher import Publisher
from matchbox.core.sequencer import OPEN_ORDER, Sequencer
from matchbox.persistence import points, snapshots
from matchbox.persistence.journal import Reader
from matchbox.shm import segment
from matchbox.shm.board import Board
from matchbox.shm.errors import BadArgument, MatchboxError
from matchbox.shm.records import LOG_RECORD
from matchbox.shm.ring import Ring
from matchbox.tools.channel import Channel, accept, close_all, listen
from matchbox.tools.threads import EngineThread, JournalThread

# How long a replay may go on without one record published.
_REPLAY_PATIENCE_S = 30.0
_CALL_TIMEOUT_S = 60.0
# Of one agent; a million orders take less than a second.
_LOAD_PATIENCE_S = 600.0
# In one call: others are woken, and asked, between two.
_REPLAY_RECORDS = 1 << 14


@dataclass
class Memory:
    """Of a session: commands and reports, and its doorbell if it has one; the log when it was made
    known; what goes with it.
    """

    fds: list[int]
    after: int
    about: dict[str, Any]

    @property
    def doorbell(self) -> int:
        return self.fds[2] if len(self.fds) > 2 else -1


class Host:
    """All of one process."""

    _board: Board

    def __init__(self, plan: Plan, process: int, settings: dict[str, Any]) -> None:
        self._prepare(plan)
        self._board = board = Board.attach(self._segment("board"))
        for number, thread in enumerate(plan.threads):
            if thread.process != process:
                continue
            board.processes[number]["pid"] = os.getpid()
            if "journaler" in thread.agents:
                log = Ring.attach(self._segment("log"))
                self.journals.append(JournalThread(plan, number, board, log, settings))
            else:
                self.engines.append(EngineThread(plan, number, board, self._segment))

    def _prepare(self, plan: Plan) -> None:
        self._plan = plan
        self.life = -1
        self._markets = {market.number: market for market in plan.markets}
        self._open: dict[str, mmap.mmap] = {}
        self._memories: dict[int, Memory] = {}  # by slot
        self._journal: Iterator[Any] | None = None
        self._first = 0  # the record before the replay's first
        self._unplayed: NDArray[Any] = np.empty(0, LOG_RECORD)
        self.engines: list[EngineThread] = []
        self.journals: list[JournalThread] = []

    def _segment(self, part: str) -> mmap.mmap:
        """The memory of a part, mapped once."""
        if part not in self._open:
            self._open[part] = segment.attach(self._plan.name(part))
        return self._open[part]

    def start(self) -> None:
        for thread in self._threads():
            thread.start()

    def _threads(self) -> list[EngineThread | JournalThread]:
        return [*self.engines, *self.journals]

    def answer(self, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Do what is asked. Raises MatchboxError where that cannot be done."""
        do = request.pop("do")
        if do == "open_session":
            return self.open_session(int(request["slot"]), fds, request.get("about", {}))
        actions: dict[str, Callable[..., dict[str, Any]]] = {
            "close_session": self.close_session,
            "who": self.who,
            "sessions": self.sessions,
            "memories": self.memories,
            "memory": self.memory,
            "place_market": self.place_market,
            "take_market": self.take_market,
            "positions": self.positions,
            "load_snapshot": self.load_snapshot,
            "recover": self.recover,
            "begin": self.begin,
            "finish": self.finish,
            "state": self.state,
            "balances": self.balances,
            "orders": self.orders,
            "listing": self.listing,
        }
        if do not in actions:
            raise BadArgument(f"a host does not know how to: {do}")
        return actions[do](**request)

    def open_session(self, slot: int, fds: list[int], about: dict[str, Any]) -> dict[str, Any]:
        """Map a session's memory (commands, reports); make it known to the agents that use it.

        The answer says how far the log was: the session's attachment comes after that. `about` is
        kept for whoever asks for the memory again.
        """
        commands, reports = (Ring.attach(segment.map_fd(fd)) for fd in fds[:2])
        memory = Memory([os.dup(fd) for fd in fds], 0, about)
        try:
            for loop, agent in self._session_agents():
                know = partial(agent.open_session, slot, commands, reports)
                if isinstance(agent, Publisher):
                    know = partial(know, doorbell=memory.doorbell)
                loop.call(know, _CALL_TIMEOUT_S)
                memory.after = max(memory.after, agent.position)
        except BaseException:
            close_all(memory.fds)
            raise
        self._memories[slot] = memory
        return {"after": memory.after}

    def close_session(self, slot: int) -> dict[str, Any]:
        """Forget it. An error while a session is attached to the slot."""
        for loop, agent in self._session_agents():
            loop.call(partial(agent.close_session, slot), _CALL_TIMEOUT_S)
        close_all(self._memories.pop(slot).fds)
        return {}

    @property
    def running(self) -> bool:
        """Does the exchange run, so that it is to go on without a supervisor?"""
        board = self.journals[0].board if self.journals else self._board
        return board.state == "running"

    def who(self) -> dict[str, Any]:
        """What this process is, for a supervisor that did not start it; and what tells bots the
        exchange's end.
        """
        agents = [name for engine in self.engines for name in engine.agents]
        return {
            "plan": self._plan.to_json(),
            "agents": [*agents, *("journaler" for _ in self.journals)],
            "markets": [vars(market) for market in self._markets.values()],
            "fds": [self.life],
        }

    def sessions(self) -> dict[str, Any]:
        """What the log says of every session."""
        loop, sequencer = self._sequencer()
        return {"sessions": loop.call(sequencer.sessions, _CALL_TIMEOUT_S)}

    def memories(self) -> dict[str, Any]:
        """The slots whose memory is open, and what is known of each."""
        found = {s: {"after": m.after, "about": m.about} for s, m in self._memories.items()}
        return {"memories": found}

    def memory(self, slot: int) -> dict[str, Any]:
        """The descriptors of a slot's memory."""
        return {"fds": self._memories[slot].fds}

    def place_market(self, market: dict[str, Any]) -> dict[str, Any]:
        """Map what our agents need for one more market, here, where no agent waits for it; then
        make it known to them. An error leaves what was done to take_market().
        """
        wanted = PlanMarket(**market)
        found = [(loop, agent) for loop, agent in self._agents()]
        memory = [prepare(agent, wanted, self._segment) for _, agent in found]
        # The sequencer last: from then on the market's record would be taken.
        for (loop, agent), given in sorted(
            zip(found, memory, strict=True), key=lambda entry: isinstance(entry[0][1], Sequencer)
        ):
            loop.call(partial(place, agent, wanted, given), _CALL_TIMEOUT_S)
        self._markets[wanted.number] = wanted
        return {}

    def take_market(self, number: int) -> dict[str, Any]:
        """Give back the memory of a market that all of our agents are done with; it is unmapped
        here. An error if it is open.
        """
        for loop, agent in self._agents():
            loop.call(partial(take, agent, number), _CALL_TIMEOUT_S)
        self._open.pop(f"depth-{number}", None)
        self._markets.pop(number, None)
        return {}

    def positions(self) -> dict[str, Any]:
        """The log record up to which each of our agents is done."""
        found = {}
        for loop, agent in self._agents():
            found[agent.name] = loop.call(partial(getattr, agent, "position"), _CALL_TIMEOUT_S)
        return {"positions": found}

    def _agents(self) -> list[tuple[Loop, Any]]:
        return [(engine.loop, agent) for engine in self.engines for agent in engine.agents.values()]

    def _session_agents(self) -> list[tuple[Loop, Sequencer | Publisher]]:
        return [
            (engine.loop, agent)
            for engine in self.engines
            for agent in engine.agents.values()
            if isinstance(agent, Sequencer | Publisher)
        ]

    def _sequencer(self) -> tuple[Loop, Sequencer]:
        for loop, agent in self._session_agents():
            if isinstance(agent, Sequencer):
                return loop, agent
        raise BadArgument("this host runs no sequencer")

    def load_snapshot(self, path: str) -> dict[str, Any]:
        """Fill our agents, which are new and on rings that are where the snapshot's were."""
        if self.engines:
            image = snapshots.read(Path(path), verified=True).image
            for loop, agent in self._agents():
                loop.call(partial(snapshot.load, image, {agent.name: agent}), _LOAD_PATIENCE_S)
        return {}

    def recover(self, directory: str) -> dict[str, Any]:
        """Republish the journal through the live rings, and settle all of it.

        Where it adds a market that has no memory, the answer has that record (`wanted`, in hex);
        once the market is placed, the next call goes on.
        """
        loop, sequencer = self._sequencer()
        began = time.monotonic()
        if self._journal is None:
            self._journal = _records(Path(directory), sequencer.position + 1)
            self._first = sequencer.position
        while True:
            self._unplayed = self._replay(loop, sequencer, self._unplayed)
            points.passing("recovery.replayed")
            if len(self._unplayed):
                return {"wanted": self._unplayed[:1].tobytes().hex()}
            following = next(self._journal, None)
            if following is None:
                break
            self._unplayed = following
        last = sequencer.position
        moved = time.monotonic()
        while sequencer.settled < last:
            if loop.call(sequencer.settle, _CALL_TIMEOUT_S):
                moved = time.monotonic()
            elif time.monotonic() - moved > _REPLAY_PATIENCE_S:
                raise MatchboxError(
                    f"replay does not settle: settled={sequencer.settled}, log={last}"
                )
            else:
                time.sleep(0.0005)
        seconds = time.monotonic() - began
        return {"records": last - self._first, "sequence": last, "seconds": seconds}

    def _replay(self, loop: Loop, sequencer: Sequencer, records: NDArray[Any]) -> NDArray[Any]:
        """Those that are left, the first of which adds a market without memory."""
        moved = time.monotonic()
        # A record can be replayed when the events are there that were settled before it. Who is on
        # the sequencer's thread makes them within the same call: one costs as much as 100 records.
        engine = next(engine for engine in self.engines if engine.loop is loop)
        others = [agent for agent in engine.agents.values() if agent is not sequencer]
        while len(records):
            done = loop.call(partial(replay_some, sequencer, others, records), _CALL_TIMEOUT_S)
            records = records[done:]
            if sequencer.wanted_market:
                break
            if done:
                moved = time.monotonic()
                continue
            if time.monotonic() - moved > _REPLAY_PATIENCE_S:
                raise MatchboxError(f"replay stands still: sequence={sequencer.position}")
            time.sleep(0.0002)
        return records

    def begin(self) -> dict[str, Any]:
        """Begin the epoch: from now on commands are taken. The operator is attached."""
        loop, sequencer = self._sequencer()

        def start() -> int:
            sequencer.start(self._plan.epoch)
            return sequencer.attach_operator(OPERATOR_SLOT, user=os.getuid() + 1)

        return {"session": loop.call(start, _CALL_TIMEOUT_S)}

    def finish(self) -> dict[str, Any]:
        """End the epoch: no more commands are taken. The answer has the last sequence."""
        loop, sequencer = self._sequencer()

        def stop() -> int:
            sequencer.stop(self._plan.epoch)
            return sequencer.position

        deadline = time.monotonic() + _REPLAY_PATIENCE_S
        while True:
            try:
                return {"sequence": loop.call(stop, _CALL_TIMEOUT_S)}
            except BadArgument:  # the log is full: its readers will make room
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.001)

    def balances(self, account: int) -> dict[str, Any]:
        """What the ledger has of an account: [asset, free, held], settled up to a sequence; its
        state, and [market, maker rate, taker rate], market 0: of those without own rates.
        """
        loop, sequencer = self._sequencer()

        def ask() -> dict[str, Any]:
            return {
                "balances": sequencer.balances(account),
                "settled": sequencer.settled,
                "account": sequencer.account(account),
                "fees": sequencer.fees(account),
            }

        return loop.call(ask, _CALL_TIMEOUT_S)

    def orders(self, account: int, market: int) -> dict[str, Any]:
        """The live orders of an account and a market (0: of all), oldest first."""
        loop, sequencer = self._sequencer()
        found = loop.call(partial(sequencer.open_orders, account, market), _CALL_TIMEOUT_S)
        rows = [dict(zip(OPEN_ORDER.names or (), row, strict=True)) for row in found.tolist()]
        for row in rows:
            row["client_order_id"] = row["client_order_id"].decode()
        return {"orders": rows}

    def listing(self) -> dict[str, Any]:
        """What holds of each market, and [asset, scale, supply] of each asset."""
        loop, sequencer = self._sequencer()

        def ask() -> dict[str, Any]:
            return {"markets": sequencer.markets(), "assets": sequencer.assets()}

        return loop.call(ask, _CALL_TIMEOUT_S)

    def state(self) -> dict[str, Any]:
        """Position of every agent, and state hashes where there are any."""
        found: dict[str, Any] = {}
        for engine in self.engines:
            for name, agent in engine.agents.items():
                found[name] = engine.loop.call(partial(look, agent), _CALL_TIMEOUT_S)
        for journal in self.journals:
            found["journaler"] = {"position": journal.journaler.durable, "epoch": journal.epoch}
        return {"agents": found}

    def stop(self) -> None:
        for thread in self._threads():
            thread.stop()


def replay_some(sequencer: Sequencer, others: list[Agent], records: NDArray[Any]) -> int:
    """Replay records, and let the other agents follow, as far as they all get by themselves, or for
    a few thousand; how many were replayed.
    """
    done = 0
    while done < min(len(records), _REPLAY_RECORDS):
        replayed = sequencer.replay(records[done:])
        done += replayed
        if sequencer.wanted_market or not replayed + sum(agent.poll() for agent in others):
            break
    return done


def _records(directory: Path, first: int) -> Iterator[NDArray[Any]]:
    """The journal from a record on."""
    with Reader(directory) as reader:
        yield from reader.records(first, _REPLAY_RECORDS)


def look(agent: Agent) -> dict[str, Any]:
    """What an agent says of itself, between two of its rounds."""
    if isinstance(agent, Sequencer):
        return {
            "position": agent.position,
            "settled": agent.settled,
            "hash": agent.state_hash(),
            "counters": agent.counters,
        }
    if isinstance(agent, MatcherAgent):
        return {
            "position": agent.position,
            "hash": agent.state_hash(),
            "markets": {str(number): agent.state_hash(number) for number in agent.markets},
            "counters": {"refused_markets": agent.refused_markets},
        }
    assert isinstance(agent, Publisher)
    return {"position": agent.position, "counters": agent.counters}


def serve(channel: Channel, host: "Host", listener: socket.socket) -> None:
    """Answer what is asked until told to exit. An exchange that runs goes on when its supervisor
    dies, and waits for another one.
    """
    while True:
        request, fds = channel.receive()
        if request is None and host.running:
            channel.close()
            channel = accept(listener)
            continue
        if request is None or request["do"] == "exit":
            break
        try:
            answer = {"ok": True, **host.answer(request, fds)}
        except Exception as error:
            answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        close_all(fds)
        channel.send(answer, answer.pop("fds", ()))
    host.stop()
    if request is not None:
        channel.send({"ok": True})


def main() -> None:
    """Serve the supervisor on the socket whose descriptor is the first argument.

    The second one is open as long as this process lives, which is all that it is for.
    """
    from matchbox.tools.standby import Standby

    show_faults()
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    first, _ = channel.receive()
    if first is None:
        return  # who started us is gone, and nobody knows of us
    try:
        plan = Plan.from_json(first["plan"])
        host: Host
        if "follow" in first:
            host = Standby(plan, first["journal"], **first["follow"])
        else:
            host = Host(plan, first["process"], first["journal"])
        host.life = int(sys.argv[2])
        host.start()
        listener = listen()
        channel.send({"ok": True, "pid": os.getpid()})
    except Exception as error:
        channel.send({"ok": False, "error": f"{type(error).__name__}: {error}"})
        os._exit(1)
    serve(channel, host, listener)


if __name__ == "__main__":
    main()
