"""The plan of an instance: what its processes must agree on before any of them runs.

Its markets are those that there are at the start; others come and go while it runs, by prepare()
and place(), and take().

Segments by part, and who reads what:

    log              the sequencer writes; readers: matcher k is k, the publisher, the journaler
    ledger           events of the sequencer (refusals, balances); reader: the publisher
    events-K         events of matcher k; readers: the sequencer is 0, the publisher is 1
    market-data      lossy; the publisher writes
    depth-MARKET     one a market; the publisher writes
    board            bells, processes, agents
    operator-commands, operator-reports   the rings of the supervisor's own session

What bots and the supervisor have mapped (market data, depth, the operator's rings) outlives an
engine: a standby that takes over goes on in it. It belongs to the epoch in which the exchange was
started (`world`); all else is of one engine, and named by its epoch.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from matchbox.core.agent import Agent
from matchbox.core.depth import DepthTable
from matchbox.core.markets import PreparedMarket
from matchbox.core.matcher import MatcherAgent
from matchbox.core.publisher import Publisher
from matchbox.core.sequencer import Sequencer
from matchbox.shm.board import BOARD_BYTES
from matchbox.shm.depth import depth_bytes
from matchbox.shm.records import special_orders
from matchbox.shm.ring import Ring, ring_bytes
from matchbox.shm.segment import SegmentName

# The supervisor's own session. Its memory is made known after the replay: what is replayed is for
# nobody's ears.
OPERATOR_SLOT = 0
SEQUENCER_READS = 0
PUBLISHER_READS = 1
OPERATOR_COMMANDS = 4096
OPERATOR_REPORTS = 16384

# Who has to be woken after an agent did something: those that read what it writes, or wait for what
# it gives back.
WAKES = {
    "sequencer": ("matcher", "publisher", "journaler"),
    "matcher": ("sequencer", "publisher", "standby"),
    "publisher": ("sequencer", "matcher", "standby"),
    "journaler": ("sequencer", "publisher"),
}

Segments = Callable[[str], Any]
Memory = PreparedMarket | DepthTable | None
Shape = Literal["session", "gated", "lossy"]


@dataclass(frozen=True)
class PlanMarket:
    """A market, the matcher (from 0) that carries it, and how many orders can be open in it.

    max_specials: how many of those can be icebergs or wait for a trigger; 0: as many as there are
    if its record does not say. Both must be as in the market's ADD_MARKET record.
    """

    number: int
    matcher: int
    max_orders: int
    max_specials: int = 0


@dataclass(frozen=True)
class PlanThread:
    """A thread that runs agents: its bell on the board, its process, and what it does when idle.

    `process` is the number of the process; the journaler has a thread of its own in whichever
    process it is. A thread of the agent "standby" stands for the follower of another engine: it has
    a bell here, and runs elsewhere.
    """

    name: str
    process: int
    agents: tuple[str, ...]
    core: int | None
    idle: str


@dataclass(frozen=True)
class Plan:
    """One instance in one epoch."""

    instance: str
    epoch: int
    matchers: int
    log_slots: int
    event_slots: int
    market_data_slots: int
    command_slots: int
    report_slots: int
    max_sessions: int
    max_accounts: int
    max_assets: int
    max_markets: int
    markets: tuple[PlanMarket, ...]
    threads: tuple[PlanThread, ...]
    seed: int = 0
    max_balances: int = 0
    max_references: int = 65536
    # Open orders of all markets together, those that are added later included; at least what
    # `markets` need.
    order_capacity: int = 0
    world: int = 0  # 0: `epoch`

    @property
    def max_orders(self) -> int:
        """Open orders of all markets together."""
        return max(self.order_capacity, sum(market.max_orders for market in self.markets))

    @property
    def publisher_reader(self) -> int:
        """The publisher's number among the log's readers."""
        return self.matchers

    @property
    def journaler_reader(self) -> int:
        """The journaler's number among the log's readers."""
        return self.matchers + 1

    @property
    def has_journaler(self) -> bool:
        """Is there one? Backtests and tests go without."""
        return any("journaler" in thread.agents for thread in self.threads)

    def to_json(self) -> str:
        """For another process; from_json() gives the same plan."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        fields = json.loads(text)
        fields["markets"] = tuple(PlanMarket(**market) for market in fields["markets"])
        fields["threads"] = tuple(
            PlanThread(**{**thread, "agents": tuple(thread["agents"])})
            for thread in fields["threads"]
        )
        return cls(**fields)

    def name(self, part: str) -> SegmentName:
        """The name of a segment."""
        epoch = (self.world or self.epoch) if outlives_engine(part) else self.epoch
        return SegmentName(self.instance, epoch, part)

    @property
    def standby_thread(self) -> int | None:
        """The number of the thread that stands for a standby, if one is to follow."""
        threads = enumerate(self.threads)
        return next((n for n, thread in threads if thread.agents == ("standby",)), None)

    @property
    def engine_agents(self) -> list[str]:
        """The agents of the engine."""
        others = {"journaler", "standby"}
        return [a for thread in self.threads for a in thread.agents if a not in others]

    def successor(self, epoch: int) -> "Plan":
        """The plan of an engine that takes the place of this one: all of it in one process (0).

        It finds its markets in the log.
        """
        threads = tuple(
            replace(thread, process=0)
            if not {"journaler", "standby"} & set(thread.agents)
            else replace(thread, process=1 if "journaler" in thread.agents else -1)
            for thread in self.threads
        )
        return replace(
            self,
            epoch=epoch,
            world=self.world or self.epoch,
            markets=(),
            threads=threads,
            order_capacity=self.max_orders,
        )

    def thread_of(self, agent: str) -> int:
        """The number of the thread (and bell) that runs an agent."""
        for number, thread in enumerate(self.threads):
            if agent in thread.agents:
                return number
        raise KeyError(agent)

    def peers(self, number: int) -> list[int]:
        """The threads to wake after thread `number` did something."""
        woken = {kind for agent in self.threads[number].agents for kind in WAKES[_kind(agent)]}
        return [
            other
            for other, thread in enumerate(self.threads)
            if other != number and woken & {_kind(agent) for agent in thread.agents}
        ]

    # -- segments

    def segments(self) -> dict[str, int]:
        """Every segment of the instance by part, with its bytes."""
        sizes = {
            "board": BOARD_BYTES,
            "log": ring_bytes(self.log_slots),
            "ledger": ring_bytes(self.event_slots),
            "market-data": ring_bytes(self.market_data_slots),
            "operator-commands": ring_bytes(OPERATOR_COMMANDS),
            "operator-reports": ring_bytes(OPERATOR_REPORTS),
        }
        sizes |= {f"events-{k}": ring_bytes(self.event_slots) for k in range(self.matchers)}
        sizes |= {f"depth-{m.number}": depth_bytes(m.max_orders) for m in self.markets}
        return sizes

    def format_rings(self, segments: Segments) -> None:
        """Make the rings in zeroed segments.

        Depth tables and the board are laid out by who knows their contents.
        """
        self.format_engine_rings(segments)
        self.format_market_data(segments)
        self._format(segments, "operator-commands", OPERATOR_COMMANDS, "session", 1)
        self._format(segments, "operator-reports", OPERATOR_REPORTS, "session", 0)

    def format_market_data(self, segments: Segments) -> None:
        """Make the market-data ring."""
        self._format(segments, "market-data", self.market_data_slots, "lossy", 0)

    def format_engine_rings(self, segments: Segments) -> None:
        """Make the rings of one engine: log and events."""
        self._format(
            segments, "log", self.log_slots, "gated", self.matchers + 1 + self.has_journaler
        )
        self._format(segments, "ledger", self.event_slots, "gated", 1)
        for k in range(self.matchers):
            self._format(segments, f"events-{k}", self.event_slots, "gated", 2)

    def _format(
        self, segments: Segments, part: str, slots: int, shape: Shape, readers: int
    ) -> None:
        Ring.create(
            segments(part),
            capacity=slots,
            shape=shape,
            readers=readers,
            name=part,
            epoch=self.epoch,
        )

    # -- agents

    def build(self, agent: str, segments: Segments) -> Agent:
        """The agent of this name, on the instance's segments.

        Not the journaler, which is no engine agent.
        """
        if agent == "sequencer":
            return self._sequencer(segments)
        if agent == "publisher":
            return self._publisher(segments)
        return self._matcher(int(agent.removeprefix("matcher-")), segments)

    def _sequencer(self, segments: Segments) -> Sequencer:
        sequencer = Sequencer(
            Ring.attach(segments("log")),
            Ring.attach(segments("ledger")),
            [Ring.attach(segments(f"events-{k}")) for k in range(self.matchers)],
            reader_index=SEQUENCER_READS,
            slots=self.max_sessions,
            max_accounts=self.max_accounts,
            max_assets=self.max_assets,
            max_markets=self.max_markets,
            max_orders=self.max_orders,
            max_balances=self.max_balances,
            max_references=self.max_references,
            seed=self.seed,
            journaled=self.has_journaler,
        )
        for market in self.markets:
            place(sequencer, market, None)
        return sequencer

    def _publisher(self, segments: Segments) -> Publisher:
        publisher = Publisher(
            Ring.attach(segments("log")),
            [
                Ring.attach(segments("ledger")),
                *(Ring.attach(segments(f"events-{k}")) for k in range(self.matchers)),
            ],
            Ring.attach(segments("market-data")),
            log_reader=self.publisher_reader,
            journal_reader=self.journaler_reader if self.has_journaler else None,
            source_reader=PUBLISHER_READS,
            slots=self.max_sessions,
            max_markets=self.max_markets,
            max_orders=self.max_orders,
            seed=self.seed,
        )
        for market in self.markets:
            depth = DepthTable(segments(f"depth-{market.number}"))
            publisher.place_market(market.number, market.matcher, depth)
        return publisher

    def _matcher(self, k: int, segments: Segments) -> MatcherAgent:
        matcher = MatcherAgent(
            Ring.attach(segments("log")),
            k,
            Ring.attach(segments(f"events-{k}")),
            name=f"matcher-{k}",
        )
        for market in self.markets:
            if market.matcher == k:
                matcher.prepare_market(
                    market.number, market.max_orders, market.max_specials or None
                )
        return matcher


def outlives_engine(part: str) -> bool:
    """Is it a segment that a successor goes on in?"""
    return part.startswith(("depth-", "operator-")) or part == "market-data"


def prepare(agent: Agent, market: PlanMarket, segments: Segments) -> Memory:
    """The memory that an agent needs for one more market: mapped here, by any thread, which may
    take a while. Raises BadArgument, MemoryError, SegmentError.
    """
    if isinstance(agent, Publisher):
        return DepthTable(segments(f"depth-{market.number}"))
    if isinstance(agent, MatcherAgent) and agent.name == f"matcher-{market.matcher}":
        return PreparedMarket(market.number, market.max_orders, market.max_specials or None)
    return None


def place(agent: Agent, market: PlanMarket, memory: Memory) -> None:
    """Make a market known to an agent, between two of its rounds. Raises BadArgument."""
    if isinstance(agent, Sequencer):
        specials = market.max_specials or special_orders(0, market.max_orders)
        agent.place_market(market.number, market.matcher, market.max_orders, specials)
    elif isinstance(memory, DepthTable):
        assert isinstance(agent, Publisher)
        agent.place_market(market.number, market.matcher, memory)
    elif memory is not None:
        assert isinstance(agent, MatcherAgent)
        agent.place_market(memory)


def take(agent: Agent, number: int) -> Memory:
    """Make an agent forget a market that was removed, or not added, between two of its rounds.

    The memory is given back when the answer is let go of. Raises BadArgument while the agent is not
    past the removal.
    """
    if isinstance(agent, Sequencer):
        agent.take_market(number)
        return None
    assert isinstance(agent, Publisher | MatcherAgent)
    return agent.take_market(number)


def _kind(agent: str) -> str:
    return "matcher" if agent.startswith("matcher-") else agent
