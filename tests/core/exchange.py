"""A whole exchange on one thread: the real agents on plain memory, polled by the test.

The order of polling is the test's (a seed makes it random), the clock stands still, so that what
comes out is a function of what went in.
"""

import mmap
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.core import snapshot
from matchbox.core.instrument import market_record
from matchbox.core.plan import OPERATOR_SLOT, Plan, PlanMarket, PlanThread, place, prepare, take
from matchbox.shm.depth import Book, MarketData, depth_bytes, format_depth
from matchbox.shm.errors import BadArgument
from matchbox.shm.market import Asset, Market
from matchbox.shm.records import (
    COMMAND,
    LOG_RECORD,
    MARKET_RECORD,
    MONEY_RECORD,
    NAMED_RECORD,
    REPORT,
    Assurance,
    Kind,
    special_orders,
)
from matchbox.shm.ring import Reader, Ring, ring_bytes
from matchbox.shm.session import Session

LOG_READER = 0
# Positions of readers in a ring, and the one that the standby writes (ring.h).
READERS_OFFSET, REPLICATED_READER = 256, 15


def plan(
    markets: int = 1,
    matchers: int = 1,
    *,
    log_slots: int = 4096,
    event_slots: int = 4096,
    market_data_slots: int = 4096,
    max_orders: int = 4096,
    max_sessions: int = 8,
    order_capacity: int = 0,
) -> Plan:
    """A plan with `markets` markets spread over `matchers`; its last thread is the journaler's."""
    agents = ("sequencer", *(f"matcher-{k}" for k in range(matchers)), "publisher")
    return Plan(
        instance="test",
        epoch=1,
        matchers=matchers,
        log_slots=log_slots,
        event_slots=event_slots,
        market_data_slots=market_data_slots,
        command_slots=256,
        report_slots=4096,
        max_sessions=max_sessions,
        max_accounts=64,
        max_assets=16,
        max_markets=64,
        markets=tuple(
            PlanMarket(i + 1, i % matchers, max_orders, max_orders) for i in range(markets)
        ),
        threads=(
            PlanThread("engine", 0, agents, None, "park"),
            PlanThread("journal", 1, ("journaler",), None, "park"),
        ),
        order_capacity=order_capacity,
    )


def definitions(plan: Plan) -> NDArray[Any]:
    """Two assets, accounts 1 to 9, and the plan's markets."""
    named = np.zeros(2 + 9, NAMED_RECORD)
    for i, (name, scale) in enumerate((("BTC", 8), ("USD", 8))):
        named[i]["kind"], named[i]["name"], named[i]["scale"] = Kind.ADD_ASSET, name.encode(), scale
        named[i]["id"] = i + 1
    for i in range(9):
        row = named[2 + i]
        row["kind"], row["name"], row["account"] = (
            Kind.ADD_ACCOUNT,
            f"account-{i + 1}".encode(),
            i + 1,
        )
    markets = np.stack([_market(market) for market in plan.markets])
    return np.concatenate([named.view(COMMAND), markets.view(COMMAND)])


def deposits(amount: int = 2**58) -> NDArray[Any]:
    """So much of both assets for each of accounts 1 to 9."""
    records = np.zeros(18, MONEY_RECORD)
    for i, record in enumerate(records):
        record["kind"], record["amount"] = Kind.DEPOSIT, amount
        record["account"], record["asset"] = i // 2 + 1, i % 2 + 1
        record["reference"] = f"first-{i}".encode()
    return records.view(COMMAND)


def removal(log: NDArray[Any], number: int) -> int:
    """The record that removed a market last; 0: none did."""
    records = log[(log["kind"] == Kind.REMOVE_MARKET) & (log["reject"] == 0)].view(NAMED_RECORD)
    return int(records["sequence"][records["id"] == number].max(initial=0))


def _market(market: PlanMarket) -> Any:
    """As many special orders as orders."""
    record = market_record(
        market.number,
        symbol=f"M{market.number}/USD",
        max_orders=market.max_orders,
        lot_units=10**8,
        notional_units=10**8,
    )
    record["specials"] = (market.max_specials - 1).bit_length() + 1
    return record


class Connection:
    """What a Session asks of its connection, for memory of our own."""

    def __init__(self, exchange: "Exchange") -> None:
        self._exchange = exchange

    @property
    def exchange(self) -> "Exchange":
        """The one that runs: another may have gone on where ours died."""
        while self._exchange.successor is not None:
            self._exchange = self._exchange.successor
        return self._exchange

    @property
    def markets(self) -> dict[str, Market]:
        records = [_market(market) for market in self.exchange.plan.markets]
        made = [Market.from_record(record, "BTC", 8, "USD", 8) for record in records]
        return {market.symbol: market for market in made}

    def market(self, market: Market | str | int) -> Market:
        if isinstance(market, Market):
            return market
        return next(m for m in self.markets.values() if market in (m.symbol, m.number))

    @property
    def assets(self) -> dict[str, Asset]:
        return {"BTC": Asset(1, "BTC", 8), "USD": Asset(2, "USD", 8)}

    def asset(self, asset: Asset | str | int) -> Asset:
        if isinstance(asset, Asset):
            return asset
        return next(a for a in self.assets.values() if asset in (a.name, a.number))

    def book(self, market: Market | str | int) -> Book:
        return self.exchange.book(self.market(market).number)

    def market_data(self) -> MarketData:
        return MarketData(Ring.attach(self.exchange.segment("market-data")))

    def close(self) -> None:
        pass


class Exchange:
    """The agents of `plan`, the operator's session, and bots' sessions."""

    def __init__(
        self,
        plan: Plan,
        *,
        seed: int | None = None,
        define: bool = True,
        image: snapshot.Image | None = None,
    ) -> None:
        """`image`: begin with this snapshot, whose markets are those of the plan."""
        self.plan = plan
        self._segments: dict[str, mmap.mmap] = {
            part: mmap.mmap(-1, size) for part, size in plan.segments().items()
        }
        plan.format_rings(self.segment)
        if image is not None:
            snapshot.resume(image, plan, self.segment)
        for market in plan.markets:
            format_depth(
                self.segment(f"depth-{market.number}"),
                _market(market),
                ("BTC", 8),
                ("USD", 8),
                levels=market.max_orders,
            )
        self.agents = {name: plan.build(name, self.segment) for name in plan.threads[0].agents}
        self.sequencer = self.agents["sequencer"]
        self.publisher = self.agents["publisher"]
        self.sequencer.clock_ns = 1_000_000_000
        log = Ring.attach(self.segment("log"))
        # What reads the log, and what says how far it is durable, which may come later.
        self._journal, self._disk = (
            Reader(log, plan.journaler_reader) if plan.has_journaler else None for _ in range(2)
        )
        self._replicated = 0
        self._log: list[NDArray[Any]] = []
        self._random = random.Random(seed) if seed is not None else None
        self._slots: dict[str, int] = {}
        self.session_rings: dict[str, tuple[Ring, Ring]] = {}
        # What a successor has to know: each slot's rings, each market's memory, and where the log
        # was when they were made known.
        self.opened: dict[int, tuple[Ring, Ring, int]] = {}
        self.given = {market.number: (market, 0) for market in plan.markets}
        self.successor: Exchange | None = None
        self.operator: Session | None = None
        if define:
            self.start(1)
            self.run_operator(definitions(plan))
            self.run_operator(deposits())

    def segment(self, part: str) -> mmap.mmap:
        return self._segments[part]

    def start(self, epoch: int) -> None:
        """Begin an epoch and attach the operator."""
        self.settle()
        commands, reports = (
            Ring.attach(self.segment(f"operator-{part}")) for part in ("commands", "reports")
        )
        self.open_session(OPERATOR_SLOT, commands, reports)
        self.sequencer.start(epoch)
        number = self.sequencer.attach_operator(OPERATOR_SLOT)
        self.settle()
        self.operator = Session(
            Connection(self), commands, reports, number=number, name="operator", account=0
        )

    # -- markets that come and go

    def matcher_of(self, market: int) -> int:
        """Which matcher carries a market, as in plan()."""
        return (market - 1) % self.plan.matchers

    def give_memory(self, record: Any, removed: int | None = None) -> None:
        """Set memory aside for the market that an ADD_MARKET record is to add; not for one that is
        there. Raises BadArgument where it cannot be. `removed`: as of take_memory().
        """
        number, most = int(record["market"]), int(record["max_orders"])
        self.take_memory(number, removed)
        self._segments[f"depth-{number}"] = mmap.mmap(-1, depth_bytes(most))
        format_depth(
            self.segment(f"depth-{number}"), record, ("BTC", 8), ("USD", 8), levels=most, epoch=1
        )
        specials = special_orders(int(record["specials"]), most)
        market = PlanMarket(number, self.matcher_of(number), most, specials)
        memory = [prepare(agent, market, self.segment) for agent in self.agents.values()]
        for agent, given in zip(self.agents.values(), memory, strict=True):
            place(agent, market, given)
        self.given[number] = market, self.sequencer.position

    def take_memory(self, number: int, removed: int | None = None) -> None:
        """Give back the memory of a market that was removed by this log record, if not by the last
        one. Raises BadArgument if an agent is not as far, or the market is there.
        """
        end = self.sequencer.position if removed is None else removed
        behind = [name for name, agent in self.agents.items() if agent.position < end]
        if behind:
            raise BadArgument(f"not past the removal: {behind}")
        for agent in self.agents.values():
            take(agent, number)
        self.given.pop(number, None)

    def replay_some(self, log: NDArray[Any]) -> None:
        """Play what goes on where the log is, all of it, but for settling at its end."""
        done = idle = 0
        while done < len(log):
            count = self.sequencer.replay(log[done:])
            self.settle()
            done += count
            idle = 0 if count else idle + 1
            assert idle < 10, f"the replay does not go on after {done:,} of {len(log):,} records"
            if self.sequencer.wanted_market:
                record = log[done : done + 1].view(MARKET_RECORD)[0]
                self.give_memory(record, removal(log[:done], int(record["market"])))

    def replay(self, log: NDArray[Any]) -> None:
        """Play a log from its first record on, all of it."""
        self.replay_some(log)
        # While it replays it settles when told to, and matchers wait for room until then.
        while self.sequencer.settle():
            self.settle()

    # -- running

    def round(self) -> int:
        """Poll every agent once; returns how much they did."""
        polls = self.polls()
        if self._random is not None:
            self._random.shuffle(polls)
        return sum(poll() for poll in polls) + self.journal()

    def polls(self) -> list[Callable[[], int]]:
        """Of all agents."""
        return [agent.poll for agent in self.agents.values()]

    def journal(self, durable: int | None = None) -> int:
        """Take what is in the log, as the journaler does. durable: so many more records become so;
        None: all. Returns how many became durable.
        """
        if self._journal is None or self._disk is None:
            return 0
        records = self._journal.read(1 << 20, LOG_RECORD, release=False)
        if len(records):
            self._log.append(records)
        waiting = self._journal.position - self._disk.position
        durable = waiting if durable is None else min(durable, waiting)
        self._disk.advance(durable)
        self._disk.release()
        return durable

    def replicate(self, count: int) -> None:
        """Let the standby apply so many more records, of those that there are."""
        self._replicated = min(self._replicated + count, self.sequencer.position)
        place = READERS_OFFSET + 128 * REPLICATED_READER
        struct.pack_into("<Q", self.segment("log"), place, self._replicated)

    def reached(self, assurance: int) -> int:
        """Sequence of the last record that has an assurance."""
        durable = int(self._disk.position) if self._disk is not None else 0
        if assurance == Assurance.DURABLE:
            return durable
        if assurance == Assurance.REPLICATED:
            self._replicated = max(self._replicated, Ring.attach(self.segment("log")).replicated)
            return max(durable, self._replicated)
        return int(self.sequencer.position)

    def settle(self, until: Callable[[], bool] | None = None, rounds: int = 1_000_000) -> None:
        """Poll until nothing happens any more (a few times in a row), or `until` holds."""
        quiet = 0
        for _ in range(rounds):
            if until is not None and until():
                return
            quiet = 0 if self.round() else quiet + 1
            if quiet > 3 and until is None:
                return
        raise AssertionError("the exchange does not come to rest")

    @property
    def log(self) -> NDArray[Any]:
        """Everything sequenced so far."""
        self.journal()
        return np.concatenate(self._log) if self._log else np.empty(0, LOG_RECORD)

    def events(self) -> dict[str, bytes]:
        """The bytes of every event ring as far as it was written (rings that never wrapped)."""
        parts = ["ledger", *(f"events-{k}" for k in range(self.plan.matchers))]
        rings = {part: Ring.attach(self.segment(part)) for part in parts}
        return {
            part: ring.peek(0, ring.produced, LOG_RECORD).tobytes() for part, ring in rings.items()
        }

    def state_hash(self) -> tuple[int, ...]:
        """Of the sequencer and of every matcher's books."""
        while self.sequencer.settle():
            pass
        matchers = [self.agents[f"matcher-{k}"] for k in range(self.plan.matchers)]
        return (self.sequencer.state_hash(), *(matcher.state_hash() for matcher in matchers))

    def book_hash(self) -> tuple[int, ...]:
        """Of the books alone."""
        return self.state_hash()[1:]

    # -- sessions

    def open_session(self, slot: int, commands: Ring, reports: Ring) -> None:
        """Make a session's memory known."""
        for agent in (self.sequencer, self.publisher):
            agent.open_session(slot, commands, reports)
        self.opened[slot] = commands, reports, self.sequencer.position

    def close_session(self, slot: int) -> None:
        """Forget it, when the session is detached."""
        for agent in (self.sequencer, self.publisher):
            agent.close_session(slot)
        self.opened.pop(slot, None)

    def run_operator(self, commands: NDArray[Any]) -> NDArray[Any]:
        """Let the operator send records and wait for all the answers."""
        assert self.operator is not None
        self.operator.submit(np.ascontiguousarray(commands))
        found: list[NDArray[Any]] = []
        while True:
            self.settle()
            reports = self.operator.reports()
            if not len(reports):
                return np.concatenate(found) if found else np.empty(0, REPORT)
            found.append(reports)

    def attach(
        self,
        name: str = "bot",
        account: int = 1,
        *,
        capabilities: int = 1,
        cancel_on_detach: bool = False,
        assurance: int = 0,
        command_slots: int | None = None,
        report_slots: int | None = None,
    ) -> Session:
        """Attach a session to the first free slot."""
        commands, reports = self.rings(command_slots, report_slots)
        slot = next(s for s in range(1, self.plan.max_sessions) if s not in self._slots.values())
        self._slots[name] = slot
        self.session_rings[name] = commands, reports
        self.open_session(slot, commands, reports)
        record = np.zeros(1, NAMED_RECORD)
        record["kind"], record["name"], record["slot"] = Kind.ATTACH_SESSION, name.encode(), slot
        record["account"], record["capabilities"] = account, capabilities
        record["cancel_on_detach"], record["assurance"] = cancel_on_detach, assurance
        answer = self.run_operator(record.view(COMMAND))
        answer = answer[answer["kind"] != 32][-1]
        assert answer["reason"] == 0, answer
        return Session(
            Connection(self),
            commands,
            reports,
            number=int(answer["order_id"]),
            name=name,
            account=account,
        )

    def detach(self, session: Session, reason: int = 504) -> None:
        """Let the operator detach a session."""
        record = np.zeros(1, NAMED_RECORD)
        record["kind"], record["id"], record["reason"] = Kind.DETACH_SESSION, session.number, reason
        self.run_operator(record.view(COMMAND))

    def free(self, name: str) -> None:
        """Forget a detached session's memory."""
        self.close_session(self._slots.pop(name))

    def rings(
        self, command_slots: int | None = None, report_slots: int | None = None
    ) -> tuple[Ring, Ring]:
        """A session's two rings, empty."""
        made = []
        for slots, readers in (
            (command_slots or self.plan.command_slots, 1),
            (report_slots or self.plan.report_slots, 0),
        ):
            buffer = mmap.mmap(-1, ring_bytes(slots))
            made.append(Ring.create(buffer, capacity=slots, shape="session", readers=readers))
        return made[0], made[1]

    # -- looking

    def book(self, market: int = 1) -> Book:
        return Book(
            self.segment(f"depth-{market}"),
            Ring.attach(self.segment("market-data")),
            next((m for m in Connection(self).markets.values() if m.number == market), None),
        )

    def market_data(self) -> MarketData:
        return MarketData(Ring.attach(self.segment("market-data")))
