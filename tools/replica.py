"""An engine without an exchange: the sequencer and the matchers of a plan, for replaying a log.

It runs in this process, on memory of its own; nobody is told anything. Its state hashes are those
that the exchange has, or had, at the same sequence. It begins with nothing, or with a snapshot; one
that is to make snapshots has a publisher, too, which has no session to tell anything.
"""

import mmap
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.core import snapshot
from matchbox.core.agent import Agent
from matchbox.core.matcher import MatcherAgent
from matchbox.core.plan import PUBLISHER_READS, Plan, PlanMarket, place, prepare, take
from matchbox.core.sequencer import Sequencer
from matchbox.shm.depth import Book, depth_bytes, format_depth
from matchbox.shm.errors import JournalError
from matchbox.shm.market import Market
from matchbox.shm.records import EVENT, LOG_RECORD, MARKET_RECORD, REPORT
from matchbox.shm.ring import Reader, Ring
from matchbox.tools.catalog import Catalog, placements

_LOG_SLOTS = 1 << 14
_EVENT_SLOTS = 1 << 15


class Replica:
    """Replays a log."""

    def __init__(
        self,
        plan: Plan,
        catalog: Catalog,
        matchers: dict[int, int],
        *,
        image: snapshot.Image | None = None,
        publisher: bool = False,
        reports: bool = False,
        events: bool = False,
    ) -> None:
        """`plan`: of the exchange. `catalog`: what the journal defines.

        `matchers`: the matcher of a market, where it is said. `image`: begin with this snapshot,
        whose markets the plan has. `publisher`: be able to save(). `reports`: it keeps all reports,
        see take_reports(). `events`: or, without a publisher, all events, see take_events().
        """
        self._catalog, self._wanted = catalog, matchers
        self._placed = {market.number: market for market in plan.markets}
        # Of every number so far: it stays with its matcher, which goes on counting its trades.
        self._matcher_of = {market.number: market.matcher for market in plan.markets}
        # As long as the exchange's at least: what was settled late is settled as late here.
        least = 1 << (image.unsettled if image is not None else 0).bit_length()
        self.plan = replace(
            plan,
            log_slots=max(_LOG_SLOTS, plan.log_slots, least),
            event_slots=max(_EVENT_SLOTS, plan.event_slots, least),
            market_data_slots=1024,
        )
        sizes = self.plan.segments()
        names = [part for part in sizes if not part.startswith(("depth-", "board"))]
        self._segments = {part: mmap.mmap(-1, sizes[part]) for part in names}
        self.plan.format_rings(self._segments.__getitem__)
        if image is not None:
            snapshot.resume(image, self.plan, self._segments.__getitem__)
        if publisher:
            for market in self.plan.markets:
                self._format_depth(market)
        self._matchers: list[Any] = [
            self.plan.build(f"matcher-{k}", self._segments.__getitem__)
            for k in range(self.plan.matchers)
        ]
        sequencer = self.plan.build("sequencer", self._segments.__getitem__)
        assert isinstance(sequencer, Sequencer)
        self._sequencer = sequencer
        self._publisher: list[Any] = (
            [self.plan.build("publisher", self._segments.__getitem__)] if publisher else []
        )
        self._kept: list[NDArray[Any]] | None = [] if reports else None
        if reports:
            self._publisher[0].keep_reports()
        assert not (publisher and events), "it is the publisher that reads the events"
        self._events: list[NDArray[Any]] | None = [] if events else None
        self._readers = [] if publisher else self._idle_publisher()
        if self.plan.has_journaler:
            self._readers.append((self._reader("log", self.plan.journaler_reader), LOG_RECORD))
        if image is not None:
            snapshot.load(image, self._agents)

    @property
    def _agents(self) -> dict[str, Agent]:
        agents = [self._sequencer, *self._matchers, *self._publisher]
        return {agent.name: agent for agent in agents}

    def _idle_publisher(self) -> list[tuple[Reader, Any]]:
        """In place of the publisher (and of the journaler): who reads and says nothing."""
        return [
            (self._reader("log", self.plan.publisher_reader), LOG_RECORD),
            (self._reader("ledger", 0), EVENT),
            *(
                (self._reader(f"events-{k}", PUBLISHER_READS), EVENT)
                for k in range(self.plan.matchers)
            ),
        ]

    def _reader(self, part: str, index: int) -> Reader:
        return Reader(Ring.attach(self._segments[part]), index)

    @property
    def position(self) -> int:
        """Sequence of the last record."""
        return self._sequencer.position

    def replay(self, records: NDArray[Any]) -> None:
        """The next records of the log. Raises JournalError where the engine decides otherwise."""
        while len(records):
            done = self._sequencer.replay(records)
            records = records[done:]
            if self._work() or done:
                continue
            if self._sequencer.wanted_market:
                self._make_room(records[:1].view(MARKET_RECORD)[0])
            else:
                raise JournalError(
                    f"the engine cannot go on: sequence={self.position + 1}", self.position + 1
                )

    def finish(self) -> None:
        """Settle all of it."""
        while self._sequencer.settle() + self._work():
            pass
        if self._sequencer.settled < self.position:
            raise JournalError(
                f"the engine does not settle: settled={self._sequencer.settled}, "
                f"log={self.position}",
                self._sequencer.settled + 1,
            )

    def catch_up(self) -> bool:
        """Let everybody do what there is to do, but settle; are all as far as the log then?"""
        while self._work():
            pass
        done = (*self._matchers, *self._publisher)
        return all(agent.position == self.position for agent in done)

    def _make_room(self, record: Any) -> None:
        """Set memory aside for the market that the next record adds."""
        listed = self._catalog.listed(record)
        agents = [*self._agents.values()]
        if self._placed.pop(listed.number, None):
            for agent in agents:
                take(agent, listed.number)
        there = {number: market.matcher for number, market in self._placed.items()}
        wanted = self._wanted | self._matcher_of
        chosen = placements(self.plan.matchers, [listed.number], wanted, there)
        market = PlanMarket(
            listed.number, chosen[listed.number], listed.max_orders, listed.max_specials
        )
        if self._publisher:
            self._format_depth(market)
        memory = [prepare(agent, market, self._segments.__getitem__) for agent in agents]
        # The sequencer last, as everywhere: from then on the record would be taken.
        for agent, given in reversed(list(zip(agents, memory, strict=True))):
            place(agent, market, given)
        self._placed[market.number] = market
        self._matcher_of[market.number] = market.matcher

    def _format_depth(self, market: PlanMarket) -> None:
        """A depth table whose names and sizes nobody will read."""
        memory = mmap.mmap(-1, depth_bytes(market.max_orders))
        record = np.zeros((), MARKET_RECORD)
        record["market"] = market.number
        format_depth(memory, record, ("", 0), ("", 0), levels=market.max_orders)
        self._segments[f"depth-{market.number}"] = memory

    def _work(self) -> int:
        """Everybody but the sequencer does what there is to do; how much that was."""
        done = sum(int(agent.poll()) for agent in (*self._matchers, *self._publisher))
        for reader, dtype in self._readers:
            found = reader.read(1 << 20, np.dtype(dtype))
            done += len(found)
            if self._events is not None and dtype is EVENT and len(found):
                self._events.append(found)
        if self._kept is not None:
            reports = self._publisher[0].kept_reports()
            if len(reports):
                self._kept.append(reports)
        return done

    @property
    def published(self) -> int:
        """Sequence of the last record all of whose reports take_reports() has given, or will. For a
        replica with a publisher.
        """
        return int(self._publisher[0].position)

    @property
    def matched(self) -> int:
        """Sequence of the last record all of whose events take_events() has given, or will."""
        return min([self.position, *(int(agent.position) for agent in self._matchers)])

    def take_events(self) -> NDArray[Any]:
        """The EVENTs since the last call, in the order of the stream."""
        assert self._events is not None, "not a replica that keeps events"
        found, self._events = self._events, []
        if not found:
            return np.empty(0, EVENT)
        events = np.concatenate(found)
        # Each ring is in order, and no record is answered in two of them.
        return events[np.argsort(events["sequence"], kind="stable")]

    def take_reports(self) -> NDArray[Any]:
        """The REPORTs since the last call, as each account's own, in the order of the stream."""
        assert self._kept is not None, "not a replica that keeps reports"
        found, self._kept = self._kept, []
        return np.concatenate(found) if found else np.empty(0, REPORT)

    @property
    def sequencer(self) -> Sequencer:
        return self._sequencer

    def book(self, market: Market) -> Book:
        """The depth of a market that there is. For a replica with a publisher."""
        market_data = Ring.attach(self._segments["market-data"])
        return Book(self._segments[f"depth-{market.number}"], market_data, market)

    def save(self) -> snapshot.Image | None:
        """A snapshot of the last record; None if its events do not all fit their rings before more
        is settled, which only the next records can say. For a replica with a publisher.
        """
        self.catch_up()
        segments = self._segments.__getitem__
        if snapshot.not_at_rest(self.plan, self._agents, segments):
            return None
        return snapshot.save(self.plan, self._agents, segments)

    def state(self) -> dict[str, dict[str, Any]]:
        """Position and state hash of each agent, as a running exchange tells them."""
        found: dict[str, dict[str, Any]] = {}
        for agent in (self._sequencer, *self._matchers):
            assert isinstance(agent, Sequencer | MatcherAgent)
            found[agent.name] = {"position": agent.position, "hash": agent.state_hash()}
            if isinstance(agent, MatcherAgent):
                markets = {str(number): agent.state_hash(number) for number in agent.markets}
                found[agent.name]["markets"] = markets
        return found
