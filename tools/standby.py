"""The standby: an engine in one process that follows the living one, and takes its place.

    catch up      replay the journal until the living log ring has all that comes next
    follow        its loop's Follower replays the ring, right behind the living agents
    take over     when the living engine's processes have died, hang, or it is asked to:

        1. kill what is left of them, by pidfd, and wait for their ends: no two primaries can be
        2. replay the rest of the log ring, settle all
        3. go on in what bots have mapped (core/succession.pxd)
        4. log TAKE_OVER, and close the dead engine's log ring, which tells the journaler

    Needs nobody else: neither bots nor the supervisor, which may be dead itself.

Threads: the loops of the engine's agents; `tend`, which does all of the above; the main thread,
which answers the supervisor. Memory of our own: log and events of our epoch in shared memory, since
a successor and the journaler need them; market data, depth and reports, which are nobody's
business before the takeover, privately.
"""

import contextlib
import fcntl
import mmap
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.core import snapshot
from matchbox.core.follower import Follower
from matchbox.core.loop import Bell, Loop
from matchbox.core.plan import (
    OPERATOR_SLOT,
    Plan,
    PlanMarket,
    outlives_engine,
    place,
    prepare,
    take,
)
from matchbox.core.publisher import Publisher
from matchbox.core.sequencer import Sequencer
from matchbox.persistence import cuts, points
from matchbox.persistence.journal import Reader
from matchbox.persistence.journaler import whole_count
from matchbox.shm import segment
from matchbox.shm.board import Board
from matchbox.shm.depth import depth_bytes, format_depth
from matchbox.shm.errors import BadArgument, EngineDown, MatchboxError, SegmentError
from matchbox.shm.records import MARKET_RECORD, special_orders
from matchbox.shm.ring import Ring, ring_bytes
from matchbox.tools import poison
from matchbox.tools.catalog import placements
from matchbox.tools.channel import close_all
from matchbox.tools.host import Host, Memory, replay_some
from matchbox.tools.standby_snapshots import StandbySnapshots
from matchbox.tools.threads import EngineThread, guard
from matchbox.tools.watch import Watch

_TICK_MS = 40
_PATIENCE_S = 60.0
_CALL_TIMEOUT_S = 60.0


class Standby(Host):
    """A second engine."""

    def __init__(
        self,
        plan: Plan,
        settings: dict[str, Any],
        *,
        epoch: int,
        folder: str,
        identity: str,
        supervisor: int,
        hang_ms: int,
        matchers: dict[str, int],
        snapshot_interval_s: float,
        snapshots_kept: int,
    ) -> None:
        """Follow the engine of `plan` as epoch `epoch`; `matchers`: which one carries a market."""
        self._journal_folder = Path(settings["directory"])
        self._snapshots = StandbySnapshots(
            Path(folder),
            self._journal_folder,
            interval_s=snapshot_interval_s,
            keep=snapshots_kept,
        )
        self._image = self._snapshots.start.image if self._snapshots.start else None
        self._matchers = {int(number): matcher for number, matcher in matchers.items()}
        self._prepare(self._with_markets(plan.successor(epoch)))
        self._living = plan
        self._private: dict[str, mmap.mmap] = {}
        self._make_memory(folder, identity, supervisor)
        self.engines = [
            EngineThread(self._plan, number, self._board, self._segment, resting=True)
            for number, thread in enumerate(self._plan.threads)
            if thread.process == 0
        ]
        self._source = Ring.attach(segment.attach(plan.name("log")))
        self._living_board = Board.attach(segment.attach(plan.name("board")))
        self._watch = Watch(self._living_board, plan, hang_ms)
        agents = {name: agent for engine in self.engines for name, agent in engine.agents.items()}
        self._sequencer_agent = agents["sequencer"]
        self._publisher_agent = agents["publisher"]
        assert isinstance(self._sequencer_agent, Sequencer)
        assert isinstance(self._publisher_agent, Publisher)
        self._publisher_agent.shadow = True
        events = ["ledger", *(f"events-{k}" for k in range(plan.matchers))]
        self._follower = Follower(
            self._sequencer_agent,
            Ring.attach(self._segment("log")),
            self._source,
            [Ring.attach(self._living_segment(part)) for part in events],
            [Ring.attach(self._segment(part)) for part in events],
            gates=plan.publisher_reader + 1,
            journaler=plan.journaler_reader,
        )
        first = next(engine for engine in self.engines if "sequencer" in engine.agents)
        first.poll_first("follower", self._follower)
        self._lead = first
        self._followed: set[int] = set()  # slots that have a private report ring
        self._follow_slot(OPERATOR_SLOT, Ring.attach(self._living_segment("operator-reports")))
        self._snapshot_wanted = False
        self._asked = ""  # why a takeover is wanted
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._watch.also(self._bell)
        self._promoted: dict[str, Any] = {}
        self._claimed = -1
        self._fenced = False  # the living engine is dead
        self._poison: list[str] = []  # what was decided about what killed the engine
        self._over = threading.Event()  # promoted
        self._stopping = False
        self._tender = threading.Thread(target=guard, args=(self._tend,), name="tend")

    def _with_markets(self, plan: Plan) -> Plan:
        """The plan with the markets of the snapshot that we begin with."""
        if self._image is None:
            return plan
        numbers = [market.number for market in self._image.markets]
        chosen = placements(plan.matchers, numbers, self._matchers, {})
        markets = (replace(m, matcher=chosen[m.number]) for m in self._image.markets)
        return replace(plan, markets=tuple(markets))

    def _make_memory(self, folder: str, identity: str, supervisor: int) -> None:
        plan = self._plan
        sizes = plan.segments()
        ours = {part: size for part, size in sizes.items() if not outlives_engine(part)}
        segment.check_room(ours)
        # The board first: it says whose these are.
        for part in sorted(ours, key=lambda part: part != "board"):
            self._open[part] = segment.create(plan.name(part), ours[part])
            if part == "board":
                self._board = Board.create(
                    self._open["board"], plan.epoch, supervisor, folder=folder, identity=identity
                )
        plan.format_engine_rings(self._open.__getitem__)
        self._private["market-data"] = mmap.mmap(-1, sizes["market-data"])
        plan.format_market_data(self._private.__getitem__)
        if self._image is not None:
            snapshot.resume(self._image, plan, self._segment)
        for market in plan.markets:
            self._format_depth(market)
        for thread in plan.threads:
            number = self._board.add_process(thread.name, thread.core, thread.idle)
            if thread.process == 0:
                self._board.processes[number]["pid"] = os.getpid()
            for agent in thread.agents:
                self._board.add_agent(agent, number)
        self._board.add_agent("follower", plan.thread_of("sequencer"))

    def _segment(self, part: str) -> mmap.mmap:
        if part in self._private:
            return self._private[part]
        return super()._segment(part)

    def _living_segment(self, part: str) -> mmap.mmap:
        return segment.attach(self._living.name(part))

    def start(self) -> None:
        super().start()
        thread = self._living.standby_thread
        if thread is not None:
            bell = Bell(self._living_board, thread)
            self._living_board.processes[thread]["pid"] = os.getpid()
            publisher = Bell(self._living_board, self._living.thread_of("publisher"))
            self._lead.loop.call(partial(self._lead.loop.listen, bell, publisher))

    def stop(self) -> None:
        self._stopping = True
        os.eventfd_write(self._bell, 1)
        if self._tender.ident is not None:
            self._tender.join()
        super().stop()
        if not self._promoted:
            for part in [part for part in self._open if not outlives_engine(part)]:
                segment.unlink(self._plan.name(part))

    @property
    def running(self) -> bool:
        return (self._board if self._promoted else self._living_board).state == "running"

    def who(self) -> dict[str, Any]:
        agents = {} if self._promoted else {"agents": ["standby"]}
        return super().who() | agents | {"promoted": self._promoted}

    # -- what the supervisor asks

    def answer(self, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        do = request["do"]
        if do == "promoted":
            return self._when_promoted(float(request["patience"]))
        if do == "promote":
            if self._follower.problem:
                raise MatchboxError(f"the standby must not take over: {self._follower.problem}")
            self._asked = str(request["why"])
            os.eventfd_write(self._bell, 1)
            return self._when_promoted(float(request["patience"]))
        if do == "standby":
            return self.status()
        if do == "who":
            return self.who()
        if self._promoted:
            return super().answer(request, fds)
        if do == "open_session":
            return self._remember(int(request["slot"]), fds, request)
        if do == "follow":
            self._begin()
            return {}
        if do == "snapshot":
            self._snapshot_wanted = True
            os.eventfd_write(self._bell, 1)
            return {"position": self._follower.position}
        if do == "market":
            self._matchers[int(request["number"])] = int(request["matcher"])
            return {}
        if do == "close_session":
            close_all(self._memories.pop(int(request["slot"])).fds)
            return {}
        if do == "state":
            return {"agents": {}}
        raise BadArgument(f"a standby does not know how to: {do}")

    def status(self) -> dict[str, Any]:
        """What it does, how far it is, and what is wrong."""
        return {
            "stage": self._follower.stage,
            "position": self._follower.position,
            "lag": 0 if self._promoted else self._follower.lag,
            "replicated": self._source.replicated,
            "problem": self._follower.problem,
            "compared": self._follower.compared,
        }

    def _when_promoted(self, patience_s: float) -> dict[str, Any]:
        if not self._over.wait(patience_s):
            raise MatchboxError(f"the standby has not taken over in {patience_s} s")
        return self._promoted

    def _begin(self) -> None:
        """All sessions are known: load the snapshot, if there is one, and follow."""
        if self._image is not None:
            for loop, agent in self._agents():
                loop.call(partial(snapshot.load, self._image, {agent.name: agent}), _CALL_TIMEOUT_S)
            self._image = None
        self._tender.start()

    # A session must be known before its attachment is replayed: sessions first, then "follow".

    def _remember(self, slot: int, fds: list[int], request: dict[str, Any]) -> dict[str, Any]:
        """Keep a session's memory, and follow its reports from its attachment on."""
        self._follow_slot(slot, map_ring(fds[1]))
        memory = Memory([os.dup(fd) for fd in fds], int(request["after"]), request["about"])
        self._memories[slot] = memory
        return {}

    def _follow_slot(self, slot: int, like: Ring) -> None:
        """A private report ring for whoever is attached in this slot; for good."""
        if slot in self._followed:
            return
        self._followed.add(slot)
        publisher = self._publisher_agent
        assert isinstance(publisher, Publisher)
        rings = [
            Ring.create(
                mmap.mmap(-1, ring_bytes(like.capacity)),
                capacity=like.capacity,
                shape="session",
                readers=readers,
            )
            for readers in (1, 0)
        ]
        open_session = partial(publisher.open_session, slot, rings[0], rings[1])
        engine = next((e for e in self.engines if publisher in e.agents.values()), None)
        assert engine is not None
        if not engine.started:
            open_session()
        else:
            engine.loop.call(open_session, _CALL_TIMEOUT_S)

    # -- following

    def _tend(self) -> None:
        while not self._stopping:
            busy = self._follower.stage not in ("following", "differing")
            why = self._watch.look(0 if busy else _TICK_MS) or self._asked
            if why and self._follower.problem and not self._watch.died:
                why = ""  # not from an engine that lives and is right
            if why:
                try:
                    self._take_over(why)
                except MatchboxError as error:
                    # Whoever waits for us learns it from our end.
                    raise EngineDown(f"the standby cannot take over: {error}") from error
                return
            if self._snapshot_wanted or self._snapshots.due(self._follower.position):
                self._take_snapshot()
            if self._follower.stage in ("waiting", "lapped"):
                self._board.state = "starting"
                self._catch_up()
                self._follow()
            elif self._follower.stage == "wanting":
                self._make_room(self._follower.record)
                self._follow()

    # -- snapshots

    def _take_snapshot(self) -> None:
        """Stop following until all of our agents are at rest, copy their state, go on."""
        if self._snapshots.busy or self._follower.stage != "following":
            return
        self._snapshot_wanted = False
        self._set_stage("waiting")
        agents = {agent.name: agent for _, agent in self._agents()}
        deadline = time.monotonic() + _PATIENCE_S
        while problem := snapshot.not_at_rest(self._plan, agents, self._segment):
            if time.monotonic() > deadline or self._stopping or self._watch.look(0):
                break
            time.sleep(0.0005)
        image = None if problem else self._copy(agents)
        self._set_stage("following")
        if image is None:
            self._snapshots.put_off(problem)
        else:
            reader = self._plan.journaler_reader
            self._snapshots.write(image, self._plan.epoch, lambda: self._source.consumed[reader])

    def _copy(self, agents: dict[str, Any]) -> snapshot.Image:
        """Nothing is polled that has anything to do; what is on the loop's own thread waits."""
        save = partial(snapshot.save, self._plan, agents, self._segment)
        return self._lead.loop.call(save, _CALL_TIMEOUT_S)

    # -- following, in steps

    def _follow(self) -> None:
        self._set_stage("following")
        self._board.state = "following"

    def _set_stage(self, stage: str) -> None:
        def change() -> None:
            # That they differ is never forgotten.
            if self._follower.stage != "differing":
                self._follower.stage = stage

        self._lead.loop.call(change, _CALL_TIMEOUT_S)

    def _catch_up(self) -> None:
        """Replay the journal until the living ring has all that comes next."""
        with Reader(self._journal_folder) as reader:
            while not self._follower.reachable and not self._stopping:
                before = self._follower.position
                for records in reader.records(before + 1):
                    if not self._replay_passed(records) or self._follower.reachable:
                        break
                if self._follower.position == before:
                    time.sleep(0.001)

    def _replay_passed(self, records: NDArray[Any]) -> bool:
        """Replay records as far as the living engine is past them, which comes first, whatever a
        record does to one. Is there more to do, and may we go on?
        """
        if not self._fenced:
            most = max(0, self._follower.passed - self._follower.position)
            count = whole_count(records, most)
            self._replay_all(records[:count])
            if count < len(records):
                return False
        else:
            self._replay_all(records)
        return not (self._stopping or self._asked)

    def _replay_all(self, records: NDArray[Any]) -> None:
        sequencer = self._sequencer_agent
        assert isinstance(sequencer, Sequencer)
        loop = self._lead.loop
        others = [a for a in self._lead.agents.values() if a is not sequencer]
        moved = time.monotonic()
        while len(records) and not self._stopping:
            done = loop.call(partial(replay_some, sequencer, others, records), _CALL_TIMEOUT_S)
            records = records[done:]
            if sequencer.wanted_market and len(records):
                self._make_room(records[:1])
            elif done:
                moved = time.monotonic()
            elif time.monotonic() - moved > _PATIENCE_S:
                raise EngineDown(f"the replay stands still: sequence={sequencer.position}")
            else:
                time.sleep(0.0002)

    def _make_room(self, record: NDArray[Any]) -> None:
        """Set memory aside for the market that the next record adds."""
        market = record.view(MARKET_RECORD)[0]
        number = int(market["market"])
        self._forget(number)
        there = {known.number: known.matcher for known in self._markets.values()}
        wanted = self._matchers
        most = int(market["max_orders"])
        chosen = PlanMarket(
            number,
            placements(self._plan.matchers, [number], wanted, there)[number],
            most,
            special_orders(int(market["specials"]), most),
        )
        self._format_depth(chosen)
        found = [(loop, agent) for loop, agent in self._agents()]
        given = [prepare(agent, chosen, self._segment) for _, agent in found]
        for (loop, agent), part in zip(found, given, strict=True):
            if not isinstance(agent, Sequencer):
                loop.call(partial(place, agent, chosen, part), _CALL_TIMEOUT_S)
        for loop, agent in found:
            if isinstance(agent, Sequencer):
                try:
                    loop.call(partial(place, agent, chosen, None), _CALL_TIMEOUT_S)
                except BadArgument:
                    # Markets that were removed still have their room.
                    for known in list(self._markets):
                        with contextlib.suppress(BadArgument):
                            self._forget(known)
                    loop.call(partial(place, agent, chosen, None), _CALL_TIMEOUT_S)
        self._markets[number] = chosen

    def _format_depth(self, market: PlanMarket) -> None:
        """A depth table that nobody will read before all of it is written anew."""
        memory = mmap.mmap(-1, depth_bytes(market.max_orders))
        record = np.zeros((), MARKET_RECORD)
        record["market"] = market.number
        format_depth(memory, record, ("", 0), ("", 0), levels=market.max_orders)
        self._private[f"depth-{market.number}"] = memory

    def _forget(self, number: int) -> None:
        """Give back the memory of a market that was removed. Raises BadArgument if it was not."""
        if number not in self._markets:
            return
        deadline = time.monotonic() + _PATIENCE_S
        for loop, agent in self._agents():
            while True:
                try:
                    loop.call(partial(take, agent, number), _CALL_TIMEOUT_S)
                    break
                except BadArgument:
                    if isinstance(agent, Sequencer) or time.monotonic() > deadline:
                        raise
                    time.sleep(0.0005)  # it is not past the removal yet
        del self._markets[number]
        del self._private[f"depth-{number}"]

    def _agents(self) -> list[tuple[Loop, Any]]:
        """The sequencer first: it says whether a market is gone."""
        return sorted(super()._agents(), key=lambda entry: not isinstance(entry[1], Sequencer))

    # -- taking over

    def _living_depths(self, sequencer: Sequencer) -> dict[int, mmap.mmap]:
        """The tables of our markets, which those have mapped who read books. One that was removed
        is forgotten, if its table is gone, or is another's by now.
        """
        there = {int(market["market"]) for market in sequencer.markets()}
        found: dict[int, mmap.mmap] = {}
        for number, market in list(self._markets.items()):
            try:
                memory = self._living_segment(f"depth-{number}")
            except SegmentError:
                if number in there:
                    raise
                self._forget(number)
                continue
            if number not in there and len(memory) != depth_bytes(market.max_orders):
                self._forget(number)
            else:
                found[number] = memory
        return found

    def _take_over(self, why: str) -> None:
        began = time.monotonic()
        self._claim()
        self._watch.kill()
        self._fenced = True
        fenced = time.monotonic()
        points.passing("takeover.fenced")
        self._cut_out()
        end = self._drain()
        drained = time.monotonic()
        points.passing("takeover.drained")
        durable = self._source.consumed[self._plan.journaler_reader]
        Ring.attach(self._segment("log")).set_reader(self._plan.journaler_reader, min(durable, end))
        self._adopt()
        points.passing("takeover.adopted")
        self._set_stage("done")
        self._source.close(self._plan.epoch)
        for number, thread in enumerate(self._living.threads):
            if "journaler" in thread.agents:
                Bell(self._living_board, number).ring()
        sequencer = self._sequencer_agent
        assert isinstance(sequencer, Sequencer)
        self._call_until_room(partial(sequencer.take_over, self._plan.epoch))
        for engine in self.engines:
            engine.loop.call(engine.wake_up, _CALL_TIMEOUT_S)
        self._lead.loop.call(partial(self._lead.loop.listen, None), _CALL_TIMEOUT_S)
        self._board.state = "running"
        ended = time.monotonic()
        self._promoted = {
            "plan": self._plan.to_json(),
            "markets": [vars(market) for market in self._markets.values()],
            "pid": os.getpid(),
            "why": why,
            "poison": self._poison,
            "sequence": end,
            "ms": {
                "fence": round(1e3 * (fenced - began), 3),
                "drain": round(1e3 * (drained - fenced), 3),
                "adopt": round(1e3 * (ended - drained), 3),
            },
        }
        self._over.set()

    def _claim(self) -> None:
        """There is one successor, whoever else has followed. Raises EngineDown."""
        try:
            # Held as long as we live; what it was of is gone once another one has taken over.
            self._claimed = segment.open_fd(self._living.name("board"), writable=False)
            fcntl.flock(self._claimed, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise EngineDown("another standby has taken over") from None

    def _cut_out(self) -> None:
        """What killed the engine is not to kill us. Raises Poisoned, JournalError."""
        board = self._living_board

        def rings(part: str) -> Ring:
            return Ring.attach(self._living_segment(part))

        verdict = poison.judge(board, rings, self._watch.hung)
        poison.remember(board, self._board, poison.last_told(board, rings))
        for cut in verdict.cuts:
            cuts.add(self._journal_folder, cut)
            self._lead.loop.call(partial(self._follower.cut_out, cut.sequence), _CALL_TIMEOUT_S)
        sequencer = self._sequencer_agent
        assert isinstance(sequencer, Sequencer)
        for refusal in verdict.refusals:
            refuse = partial(sequencer.refuse, refusal.session, refusal.position)
            self._lead.loop.call(refuse, _CALL_TIMEOUT_S)
        self._poison = [str(decided) for decided in (*verdict.cuts, *verdict.refusals)]

    def _call_until_room(self, do: Callable[[], None]) -> None:
        """Call on the sequencer's thread until the log has room for what that writes."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self._lead.loop.call(do, _CALL_TIMEOUT_S)
                return
            except BadArgument:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.0005)

    def _drain(self) -> int:
        """Replay what the dead engine has left, settle all; returns the last sequence."""
        sequencer = self._sequencer_agent
        assert isinstance(sequencer, Sequencer)
        end = self._source.produced
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            stage = self._follower.stage
            if stage == "differing":
                raise EngineDown(self._follower.problem)
            if stage == "wanting":
                self._make_room(self._follower.record)
            elif stage in ("waiting", "lapped"):
                self._asked = ""
                self._catch_up()
            if stage != "draining":
                self._set_stage("draining")
            if sequencer.position == end:
                self._lead.loop.call(sequencer.settle, _CALL_TIMEOUT_S)
                behind = [agent for _, agent in self._agents() if agent.position < end]
                if sequencer.settled == end and not behind:
                    return int(end)
            if time.monotonic() > deadline:
                raise EngineDown(
                    f"the log is not replayed to its end: sequence={sequencer.position}, end={end}"
                )
            time.sleep(0.0001)

    def _adopt(self) -> None:
        """Go on in what bots have mapped. Nothing runs meanwhile: all is done up to the end."""
        publisher, sequencer = self._publisher_agent, self._sequencer_agent
        assert isinstance(publisher, Publisher) and isinstance(sequencer, Sequencer)
        depths = self._living_depths(sequencer)
        market_data = Ring.attach(self._living_segment("market-data"))
        rings = {
            slot: (map_ring(memory.fds[0]), map_ring(memory.fds[1]))
            for slot, memory in self._memories.items()
        }
        rings[OPERATOR_SLOT] = (
            Ring.attach(self._living_segment("operator-commands")),
            Ring.attach(self._living_segment("operator-reports")),
        )
        attached: dict[int, int] = {}

        def publish() -> None:
            for number, memory in depths.items():
                publisher.adopt_depth(number, memory)
            publisher.adopt_market_data(market_data)
            for slot, pair in rings.items():
                known = self._memories.get(slot)
                after, bell = (known.after, known.doorbell) if known else (0, -1)
                attached[slot] = publisher.adopt_session(slot, *pair, after, bell)
            publisher.shadow = False
            publisher.show_depths()
            for slot in self._followed - set(rings):
                with contextlib.suppress(BadArgument):  # a session without memory: it is detached
                    publisher.close_session(slot)

        def sequence() -> None:
            for slot, pair in rings.items():
                sequencer.adopt_session(slot, *pair, attached[slot])

        for loop, agent in self._agents():
            if agent is publisher:
                loop.call(publish, _CALL_TIMEOUT_S)
        self._lead.loop.call(sequence, _CALL_TIMEOUT_S)
        self._open |= {f"depth-{number}": memory for number, memory in depths.items()}
        for part in list(self._private):
            del self._private[part]


def map_ring(fd: int) -> Ring:
    """The ring in a descriptor's memory."""
    return Ring.attach(segment.map_fd(fd))
