"""The exchange against the auditor: random commands of every kind, decided before those before are
settled, and every decision, event, report, book and balance compared.

The auditor (tools/audit) is the trading rules in plain Python; world.py does the comparing. A test
that fails prints a seed and, from Hypothesis, the shortest list of commands that it has found.
"""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import seed as with_seed
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from numpy.typing import NDArray

from tests.simulation import commands
from tests.simulation.commands import Choice, Drawn, Random
from tests.simulation.world import MATCHERS, SESSIONS, World

EXAMPLES, RULES = 60, 50  # of Hypothesis: some 250 commands each
WORLDS, COMMANDS = 4, 3_000  # of long runs: how many, and how long each
POISONED = 70  # percent of the takeovers
LIFE = 5_000  # commands of a soak test's exchange
# What the long runs must have seen at least together, for them to prove something.
LEAST = {
    "OCO": 40,
    "OTO": 40,
    "OTOCO": 40,
    "RELEASED": 15,
    "REPLACE": 100,
    "REPLACES": 90,
    "TAKEOVER": 10,
    "CUT OUT": 1,
}


def act(
    c: Choice, world: World, count: int, say: Callable[[str], object] = lambda text: None
) -> int:
    """Send `count` batches of 1 to 8 commands, with some polls between; how many commands."""
    sent = 0
    for _ in range(count):
        for _ in range(c.integer(1, 8)):
            name, records = commands.command(c, world)
            say(f"{name}: {commands.describe(records)}")
            world.submit(name, records)
            sent += len(records)
        between(c, world)
        world.compare()
    return sent


def between(c: Choice, world: World) -> None:
    """0 to 3 rounds: of all agents, or of some of them in any order; disk, standby as they like."""
    for _ in range(c.integer(0, 3)):
        if commands.chance(c, 50):
            world.round()
        else:
            for _ in range(c.integer(1, world.agents)):
                world.poll(c.integer(0, world.agents - 1))
        if commands.chance(c, 60):
            world.disk(c.integer(0, 40), c.integer(0, 40))
    if commands.chance(c, 10):
        world.advance(commands.passing(c, world))
    if commands.chance(c, 4):
        succeed(c, world)


def succeed(c: Choice, world: World) -> None:
    """The standby takes over; where there is none, one begins to follow."""
    if not world.mortal:
        return
    if world.standby is None:
        world.stand_by()
        return
    # Sequencer and matchers may be ahead of the publisher.
    for _ in range(c.integer(0, 6)):
        world.poll(c.integer(0, MATCHERS))
    poisoned = commands.chance(c, POISONED)
    world.take_over((lambda count: c.integer(0, count - 1)) if poisoned else None)


def play(world: World, choice: Choice, steps: int) -> int:
    """At least so many commands, with everything that happens between them."""
    done = 0
    while done < steps:
        done += act(choice, world, 4)
        if commands.chance(choice, 30):
            world.settle()
        for name in SESSIONS:
            if not world.attached(name):
                world.attach(name)
    world.settle()
    return done


class ExchangeMachine(RuleBasedStateMachine):
    """Rules of single commands, which shrink well, and random stretches, which find more."""

    commands_sent = 0

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @rule(data=st.data())
    def one_command(self, data: st.DataObject) -> None:
        self.send(*commands.command(Drawn(data), self.world))

    @rule(data=st.data())
    def trade(self, data: st.DataObject) -> None:
        """An order, as most commands are."""
        drawn = Drawn(data)
        name = commands.pick(drawn, commands.TRADERS)
        self.send(name, commands.new_order(drawn, self.world, name))

    @rule(data=st.data())
    def several_at_once(self, data: st.DataObject) -> None:
        """Records that stand together: a list, or a cancel and what comes in its place."""
        drawn = Drawn(data)
        name = commands.pick(drawn, commands.TRADERS)
        maker = commands.pick(drawn, (commands.order_list, commands.replace))
        self.send(name, maker(drawn, self.world, name))

    def send(self, name: str, records: NDArray[Any]) -> None:
        note(f"{name}: {commands.describe(records)}")
        self.world.submit(name, records)
        type(self).commands_sent += len(records)

    @rule(agents=st.lists(st.integers(0, 9), max_size=6))
    def some_polls(self, agents: list[int]) -> None:
        for agent in agents:
            self.world.poll(agent)
        self.world.compare()

    @rule(journaled=st.integers(0, 60), replicated=st.integers(0, 60))
    def disk_and_standby(self, journaled: int, replicated: int) -> None:
        self.world.disk(journaled, replicated)

    @rule(stretch=st.integers(0, 2**32 - 1), batches=st.integers(1, 12))
    def random_stretch(self, stretch: int, batches: int) -> None:
        type(self).commands_sent += act(Random(stretch), self.world, batches, note)

    @rule(data=st.data())
    def time_passes(self, data: st.DataObject) -> None:
        self.world.advance(commands.passing(Drawn(data), self.world))

    @rule(name=st.sampled_from(tuple(SESSIONS)))
    def attach_again(self, name: str) -> None:
        if not self.world.attached(name):
            self.world.attach(name)

    @rule(data=st.data())
    def stand_by_or_take_over(self, data: st.DataObject) -> None:
        succeed(Drawn(data), self.world)

    @rule()
    def all_settles(self) -> None:
        self.world.settle()

    def teardown(self) -> None:
        if not self.world.failed:
            self.world.settle()


def run_machine(number: int, examples: int) -> None:
    run_state_machine_as_test(
        with_seed(number)(ExchangeMachine),
        settings=settings(
            max_examples=examples,
            stateful_step_count=RULES,
            deadline=None,
            database=None,
            derandomize=False,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize("event_slots", (1024, 16))
def test_long_runs_do_what_the_rules_say(seed: int, event_slots: int) -> None:
    """Long lives, full books; with small event rings, records are settled in their middle.

    At the end the log is played again.
    """
    seen: Counter[str] = Counter()
    for number in range(WORLDS):
        world = World(event_slots=event_slots)
        assert play(world, Random(seed * 1000 + number), COMMANDS) >= COMMANDS
        print(world.shares())
        seen += world.seen
        world.compare_replay()
    assert not {name for name, least in LEAST.items() if seen[name] < least}


@pytest.mark.timeout(900)
def test_the_exchange_does_what_the_rules_say(seed: int) -> None:
    """Hypothesis looks for it, and makes short what it finds."""
    ExchangeMachine.commands_sent = 0
    run_machine(seed, EXAMPLES)
    print(f"{ExchangeMachine.commands_sent:,} commands")


@pytest.mark.soak("commands")
def test_the_exchange_does_what_the_rules_say_for_long(
    seed: int, soak_count: Callable[[int], int], soak_seconds: Callable[[float], float]
) -> None:
    """One life after the other, each with a seed of its own, which alone repeats it."""
    count, until = soak_count(1_000_000), time.monotonic() + soak_seconds(float("inf"))
    done = lives = 0
    while done < count and time.monotonic() < until:
        again = f"MATCHBOX_TEST_SEED={seed + lives} MATCHBOX_SOAK_COUNT=1"
        print(f"{done:,} commands; next life: {again}", flush=True)
        done += live(seed + lives)
        lives += 1
    print(f"{done:,} commands in {lives:,} lives, from MATCHBOX_TEST_SEED={seed}", flush=True)
    assert done >= count or time.monotonic() >= until


def live(seed: int) -> int:
    """A life of an exchange, from nothing to its log played again; how many commands."""
    world = World(event_slots=16 if seed % 2 else 1024)
    done = play(world, Random(seed), LIFE)
    world.compare_replay()
    return done
