"""A snapshot of an exchange at any moment, loaded into another engine, goes on as if nothing was.

The worlds of test_exchange.py are stopped now and then: what is sequenced is matched and published,
but settled only in part. From each of these snapshots an engine with other limits, rings, seeds
and sometimes another number of matchers replays the rest of the log, and must say what the world
said: every event and report and all market data, byte for byte and at the same positions; and have
the same state hashes as a replay of the whole log on the way, and in what both do afterwards.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from matchbox.core import snapshot
from matchbox.core.plan import Plan
from matchbox.core.snapshot_rings import resume_ring
from matchbox.persistence.journaler import continues
from matchbox.shm.records import COMMAND, NEW_ORDER, Kind, OrderType, Side, TimeInForce
from matchbox.shm.ring import Ring
from tests.core.exchange import Exchange
from tests.simulation import commands
from tests.simulation.commands import Choice, Random
from tests.simulation.test_exchange import act
from tests.simulation.world import MATCHERS, MIDDLE, SESSIONS, World

WORLDS, MOST_WORLDS, BATCHES, EVERY = 3, 15, 150, 300
TAKEN = 8  # percent of the batches after which a snapshot is taken
RINGS = ("log", "ledger", "market-data", *(f"events-{k}" for k in range(MATCHERS)))


class Tape:
    """Everything that was written to a ring while it was looked at."""

    def __init__(self, ring: Ring) -> None:
        self.ring, self.first = ring, ring.produced
        self._parts: list[bytes] = []
        self._read = self.first

    def take(self) -> None:
        produced = self.ring.produced
        assert produced - self._read <= self.ring.capacity
        self._parts.append(self.ring.peek(self._read, produced - self._read, COMMAND).tobytes())
        self._read = produced

    def since(self, position: int) -> bytes:
        """From a position on, which is not before the first."""
        return b"".join(self._parts)[(position - self.first) * COMMAND.itemsize :]


@dataclass
class Taken:
    """A snapshot, and by slot the reports of the sessions that were attached, from where on."""

    image: snapshot.Image
    reports: dict[int, tuple[Tape, int]]

    @property
    def rows(self) -> Counter[str]:
        """How many of what there are, events that were not settled among them."""
        kinds: Counter[str] = Counter()
        for part, rows in self.image.parts.items():
            agent, what = part.split(".")
            kinds[f"{agent.split('-')[0]}.{what.split('-')[0]}"] += len(rows)
        return kinds


class Watched(World):
    """A world that keeps what was written to its rings."""

    mortal = False

    def __init__(self, event_slots: int) -> None:
        self.tapes: dict[str, Tape] = {}
        self.told: dict[int, Tape] = {}  # by slot, of whoever has it now
        super().__init__(event_slots=event_slots)

    def poll(self, agent: int) -> int:
        if not self.tapes:
            self.tapes = {part: Tape(Ring.attach(self.exchange.segment(part))) for part in RINGS}
            self.told[0] = Tape(Ring.attach(self.exchange.segment("operator-reports")))
        done = super().poll(agent)
        for tape in (*self.tapes.values(), *self.told.values()):
            tape.take()
        return done

    def attach(self, name: str) -> None:
        make = self.exchange.rings

        def kept(*slots: int | None) -> tuple[Ring, Ring]:
            made = make(*slots)
            self.told[self.slots[name]] = Tape(made[1])
            return made

        self.exchange.rings = kept  # type: ignore[method-assign]
        super().attach(name)
        self.exchange.rings = make  # type: ignore[method-assign]

    def come_to_rest(self) -> bool:
        """Let matchers and publisher finish, while the ledger stays where it is; could they?"""
        while sum(self.poll(agent) for agent in range(1, self.agents)):
            pass
        exchange = self.exchange
        return not snapshot.not_at_rest(exchange.plan, exchange.agents, exchange.segment)

    def take(self) -> Taken:
        exchange = self.exchange
        image = snapshot.save(exchange.plan, exchange.agents, exchange.segment)
        attached = {slot: tape for slot, tape in self.told.items() if not tape.ring.closed}
        return Taken(image, {slot: (tape, tape.ring.produced) for slot, tape in attached.items()})


class Follower(Exchange):
    """An engine from a snapshot, or from the first record, that keeps what is written."""

    def __init__(self, plan: Plan, taken: Taken | None = None) -> None:
        self.tapes: list[Tape] = []
        super().__init__(plan, define=False, image=taken.image if taken else None)
        self.told: dict[int, Tape] = {}
        if taken is not None:
            for slot, (_, position) in taken.reports.items():
                self.told[slot] = self._session(slot, position)
            snapshot.load(taken.image, self.agents)
        self.rings_told = {part: Tape(Ring.attach(self.segment(part))) for part in self._parts()}
        self.tapes = [*self.told.values(), *self.rings_told.values()]

    def _parts(self) -> list[str]:
        return [*RINGS[:3], *(f"events-{k}" for k in range(self.plan.matchers))]

    def _session(self, slot: int, position: int) -> Tape:
        """Memory like that of a session which has read all of its reports."""
        commands_ring, reports = self.rings(16, 1 << 16)
        resume_ring(reports, position, {})
        resume_ring(commands_ring, 0, {1: position})
        self.publisher.open_session(slot, commands_ring, reports)
        return Tape(reports)

    def round(self) -> int:
        done = 0
        for agent in self.agents.values():
            done += agent.poll()
            for tape in self.tapes:
                tape.take()
        return done + self.journal()

    @property
    def hash(self) -> int:
        return snapshot.combined_hash(snapshot.states(self.agents))

    def check(self) -> None:
        """Does all hold that must hold?"""
        self.sequencer.check()
        for k in range(self.plan.matchers):
            self.agents[f"matcher-{k}"].validate()


def play(choice: Choice, event_slots: int) -> tuple[Watched, list[Taken]]:
    """A life of a world, and snapshots of it."""
    world, taken = Watched(event_slots), []
    for _ in range(BATCHES):
        act(choice, world, 4)
        if commands.chance(choice, TAKEN) and world.come_to_rest():
            taken.append(world.take())
        if commands.chance(choice, 20):
            world.settle()
        for name in SESSIONS:
            if not world.attached(name):
                world.attach(name)
    world.settle()
    taken.append(world.take())
    return world, taken


def points(log: NDArray[Any]) -> list[int]:
    """Where states are compared: not between records that go together."""
    ends = [
        end
        for end in range(EVERY, len(log))
        if end % EVERY == 0 and not continues(log[end], log[end - 1])
    ]
    return [*ends, len(log)]


def other_plan(choice: Choice, world: World, image: snapshot.Image) -> Plan:
    """A plan with what the image needs or more, and its markets with other matchers maybe."""
    matchers = commands.pick(choice, (MATCHERS, MATCHERS, 1, 3))
    plan = world.exchange.plan
    names = ("sequencer", *(f"matcher-{k}" for k in range(matchers)), "publisher")
    return replace(
        plan,
        matchers=matchers,
        threads=(replace(plan.threads[0], agents=names), *plan.threads[1:]),
        log_slots=commands.pick(choice, (1 << 10, 1 << 13)),
        event_slots=commands.pick(choice, (1 << 11, 1 << 13)),
        max_accounts=plan.max_accounts + choice.integer(0, 100),
        max_assets=plan.max_assets + choice.integer(0, 20),
        max_markets=plan.max_markets + choice.integer(0, 50),
        max_balances=4 * (plan.max_accounts + 16) + choice.integer(0, 1000),
        order_capacity=plan.max_orders + choice.integer(0, 500),
        max_references=plan.max_references + choice.integer(0, 500),
        markets=tuple(
            replace(market, matcher=(market.number - 1) % matchers) for market in image.markets
        ),
        seed=choice.integer(0, 2**32),
    )


def follow(follower: Follower, log: NDArray[Any], after: int) -> dict[int, int]:
    """Replay what comes after a record, and settle it; state hashes on the way."""
    found = {}
    for end in points(log):
        if end > after:
            follower.replay_some(log[after:end])
            found[end] = follower.hash
            after = end
    while follower.sequencer.settle():
        follower.settle()
    found[0] = follower.hash
    return found


def compare_outputs(follower: Follower, world: Watched, taken: Taken) -> None:
    image = taken.image
    for part, tape in follower.rings_told.items():
        if not part.startswith("events-") or follower.plan.matchers == MATCHERS:
            assert tape.since(image.rings[part]) == world.tapes[part].since(image.rings[part]), part
    for slot, (tape, position) in taken.reports.items():
        # In the world, another session can have had the slot later, with memory of its own.
        expected = tape.since(position)
        assert follower.told[slot].since(position)[: len(expected)] == expected, f"slot {slot}"


def compare_depth(follower: Follower, world: World) -> None:
    for market in follower.sequencer.markets():
        number = market["market"]
        mine, its = (exchange.book(number) for exchange in (follower, world.exchange))
        assert mine.update == its.update
        assert str(mine.depth()) == str(its.depth())
        assert str(mine.top()) == str(its.top())


def go_on(follower: Follower, seed: int) -> list[Any]:
    """A new epoch with an order now and then; what came of it."""
    choice, first = Random(seed), len(follower.log)
    follower.sequencer.clock_ns = 2 * 10**18
    follower.sequencer.start(2)
    follower.settle()
    for slot in follower.told:
        follower.publisher.close_session(slot)
    follower.start(3)
    bots = [follower.attach(f"bot-{account}", account) for account in (1, 2, 3)]
    reports = b""
    for number in range(120):
        bot = commands.pick(choice, bots)
        bot.submit(order(choice).view(COMMAND))
        if number % 4 == 0:
            follower.settle()
            reports += b"".join(bot.reports().tobytes() for bot in bots)
    follower.settle()
    log = follower.log[first:].copy()
    follower.check()
    return [log.tobytes(), reports, follower.hash]


def order(choice: Choice) -> NDArray[Any]:
    row = np.zeros(1, NEW_ORDER)
    market = choice.integer(1, 4)
    row["kind"], row["market"] = Kind.NEW_ORDER, market
    row["side"] = commands.pick(choice, (Side.BUY, Side.SELL))
    row["order_type"], row["time_in_force"] = OrderType.LIMIT, TimeInForce.GTC
    middle, step = MIDDLE[market], 5 if market == 2 else 1
    row["price_ticks"] = middle + step * choice.integer(-2, 2)
    row["quantity_lots"] = 6 * choice.integer(1, 4)
    return row


@pytest.mark.timeout(900)
@pytest.mark.parametrize("event_slots", (1024, 32))
def test_an_engine_goes_on_from_a_snapshot_as_from_the_whole_log(
    seed: int, event_slots: int
) -> None:
    seen: Counter[str] = Counter()
    wanted: set[str] = set()
    # More worlds, until there was some of everything: or this proves nothing of it.
    for number in range(MOST_WORLDS):
        if number >= WORLDS and set(seen) == wanted:
            break
        choice = Random(seed * 1000 + number)
        world, snapshots = play(choice, event_slots)
        log = world.exchange.log
        roomy = replace(world.exchange.plan, log_slots=1 << 13, event_slots=1 << 13)
        whole = Follower(roomy)
        expected = follow(whole, log, 0)
        assert expected[0] == snapshot.combined_hash(snapshot.states(world.exchange.agents))
        after = go_on(whole, seed)
        for taken in snapshots:
            image = taken.image
            print(f"world {number}, {image.sequence:,} of {len(log):,}: {dict(taken.rows)}")
            seen += taken.rows
            wanted |= set(taken.rows)
            follower = Follower(other_plan(choice, world, image), taken)
            assert follower.hash == image.state_hash
            follower.check()
            found = follow(follower, log, image.sequence)
            assert found == {end: expected[end] for end in found}
            compare_outputs(follower, world, taken)
            compare_depth(follower, world)
            follower.check()
            assert go_on(follower, seed) == after
    assert set(seen) == wanted, wanted - set(seen)
