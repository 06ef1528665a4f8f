"""Matchers and publisher behind a log that the auditor has decided: the engine, less its sequencer.

The log and the ledger's events are written into the rings as the sequencer would; what the matchers
say must be the auditor's events, and what the publisher tells its reports.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.shm.errors import Detached
from matchbox.shm.records import EVENT, LOG_RECORD, MARKET_RECORD, Kind, Side
from matchbox.shm.ring import Producer, Reader, Ring
from matchbox.shm.session import Session
from matchbox.tools.audit.exchange import Step
from matchbox.tools.audit.records import Event, Report, events, reports
from matchbox.tools.audit.reports import Reporter
from tests.core.exchange import Connection, Exchange, plan
from tests.simulation import commands
from tests.simulation.commands import Random
from tests.simulation.test_auditor import Scribe
from tests.simulation.world import FIRST_MARKETS, MATCHERS, MAX_ORDERS, same


class Followers:
    """The agents that follow the log. The test writes that, and, without matchers, their events."""

    def __init__(self, event_slots: int, matchers: bool = True) -> None:
        self.exchange = Exchange(
            plan(
                markets=len(FIRST_MARKETS),
                matchers=MATCHERS,
                max_orders=MAX_ORDERS,
                log_slots=1024,
                event_slots=event_slots,
                order_capacity=8 * MAX_ORDERS,
            ),
            define=False,
        )
        self.log, self.ledger = (
            Producer(Ring.attach(self.exchange.segment(part))) for part in ("log", "ledger")
        )
        self.rings = [Ring.attach(self.exchange.segment(f"events-{k}")) for k in range(MATCHERS)]
        self.writers = [] if matchers else [Producer(ring) for ring in self.rings]
        self.agents = [
            agent
            for name, agent in self.exchange.agents.items()
            if name == "publisher" or (matchers and name != "sequencer")
        ]
        # Nobody else reads the log then, and it must not fill up.
        self.idle = [] if matchers else [Reader(self.log.ring, k) for k in range(MATCHERS)]
        self.read = [0] * MATCHERS
        # The sequencer's place in the events, whom the matchers wait for.
        self.gates = [Gate(ring) for ring in self.rings]
        self.expected: list[list[Event]] = [[] for _ in range(MATCHERS)]
        self.found: list[list[Event]] = [[] for _ in range(MATCHERS)]
        self.reporter = Reporter()
        self.sessions: dict[int, Session] = {}
        self.told: dict[int, list[Report]] = {}

    def step(self, record: NDArray[Any], step: Step) -> None:
        """A record that the auditor has decided."""
        if step.ledger and self.ledger.free() < len(step.ledger):
            self.run()
        if step.record.kind == Kind.ATTACH_SESSION and not step.record.reject:
            self._open(step.record)
        if step.record.kind == Kind.ADD_MARKET and not step.record.reject:
            self.run()
            self.exchange.give_memory(record.view(MARKET_RECORD)[0])
        self.reporter.step(step)
        if step.book:
            matcher = self._matcher(step.record.market)
            self.expected[matcher] += step.book
            if self.writers:
                assert self.writers[matcher].publish(as_array(step.book))
        if self.ledger.free() < len(step.ledger):
            self._come_to_rest()
        if step.ledger:
            assert self.ledger.publish(as_array(step.ledger))
        assert self.log.publish(record)

    def _matcher(self, market: int) -> int:
        return self.exchange.matcher_of(market)

    def _open(self, r: Any) -> None:
        slot, publisher = int(r.slot), self.exchange.publisher
        if r.id in self.told:
            publisher.close_session(slot)
        commands_ring, ring = self.exchange.rings()
        publisher.open_session(slot, commands_ring, ring)
        self.told[r.id] = []
        self.sessions[r.id] = Session(
            Connection(self.exchange), commands_ring, ring, number=r.id, name="", account=0
        )

    def run(self) -> None:
        """Until nothing happens any more; compare everything."""
        self._come_to_rest()
        for k in range(MATCHERS):
            same(f"event of matcher {k}", self.expected[k], self.found[k])
            assert not self.expected[k], f"missing: {self.expected[k][:3]}"
        for number, session in self.sessions.items():
            try:
                found = reports(session.reports())
            except Detached:
                continue
            self.told[number] += self.reporter.take(number)
            same(f"report of session {number}", self.told[number], found)
            assert not self.told[number], f"missing: {self.told[number][:3]}"

    def _come_to_rest(self) -> None:
        quiet = 0
        while quiet < 3:
            done = self.exchange.journal()
            for agent in self.agents:
                done += agent.poll()
                self._collect()
            for reader in self.idle:
                reader.read(1 << 20, LOG_RECORD)
            quiet = 0 if done else quiet + 1

    def _collect(self) -> None:
        for k, ring in enumerate(self.rings):
            count = ring.produced - self.read[k]
            if count:
                self.found[k] += events(ring.peek(self.read[k], count, EVENT))
                self.read[k] += count
                self.gates[k].pass_over()

    def compare_books(self, scribe: Scribe) -> None:
        for market, book in scribe.auditor.books.items():
            depth = self.exchange.book(market).depth()
            for side, levels in ((Side.BUY, depth.bids), (Side.SELL, depth.asks)):
                found = [(int(level[0]), int(level[1])) for level in levels.tolist()]
                assert found == book.depth(side), f"market {market}, {side.name}"


class Gate:
    """The sequencer's reader of an event ring, which reads nothing and holds nobody up."""

    def __init__(self, ring: Ring) -> None:
        self.reader = Reader(ring, 0)

    def pass_over(self) -> None:
        self.reader.read(1 << 20, EVENT)


def as_array(found: list[Event]) -> NDArray[Any]:
    array = np.zeros(len(found), EVENT)
    for i, event in enumerate(found):
        for name, value in event._asdict().items():
            array[i][name] = value
    return array


class WritingScribe(Scribe):
    """A scribe whose records the followers get."""

    def __init__(self, choice: Random, followers: Followers) -> None:
        self.followers = followers
        super().__init__(choice)

    def _after(self, row: NDArray[Any], step: Step) -> None:
        self.followers.step(row, step)

    def attach(self, name: str) -> None:
        self.followers.run()
        super().attach(name)
        self.followers.run()


def follow(
    choice: Random,
    count: int,
    followers: Followers,
    kind: type[WritingScribe] = WritingScribe,
) -> None:
    scribe = kind(choice, followers)
    for number in range(count):
        name, rows = commands.command(choice, scribe)
        scribe.submit(name, rows)
        if commands.chance(choice, 5):
            scribe.now += commands.passing(choice, scribe)
        if number % 8 == 0:
            followers.run()
            for session in scribe.numbers:
                if not scribe.attached(session):
                    scribe.attach(session)
        if number % 50 == 0:
            followers.run()
            followers.compare_books(scribe)
    followers.run()
    followers.compare_books(scribe)


def test_the_publisher_follows_the_rules(seed: int) -> None:
    for number in range(4):
        follow(Random(seed * 100 + number), 500, Followers(1024, matchers=False))


def test_matchers_and_publisher_follow_the_rules(seed: int) -> None:
    for number in range(4):
        follow(Random(seed * 100 + number), 500, Followers(1024 if number % 2 else 16))
