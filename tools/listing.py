"""Adding and removing assets, accounts and markets while the exchange runs.

A market is added in this order, so that trading on others does not wait and nothing is half done:

    1. a depth table is made in shared memory, by the supervisor
    2. the hosts map what matcher and publisher need, on threads that do not trade
    3. matcher, publisher, sequencer are told of it between two of their rounds
    4. its ADD_MARKET record is sent

What fails undoes what was done before it, and is the answer. A market is removed the other way
round: its REMOVE_MARKET record, then, once matcher and publisher are past that, its memory. A
market that somebody else's record has removed is found by its depth table, which the publisher has
closed.

A number stays with its matcher for the whole run: that goes on counting its trades.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from matchbox.core.plan import Plan, PlanMarket
from matchbox.shm import segment
from matchbox.shm.depth import Book, depth_bytes, format_depth
from matchbox.shm.errors import EngineDown, MatchboxError
from matchbox.shm.reasons import Reason
from matchbox.shm.records import LOG_RECORD, Kind
from matchbox.tools.catalog import (
    ADDITIONS,
    DEFINITIONS,
    Catalog,
    Listed,
    identity,
    name_of,
    placements,
    view_of,
)
from matchbox.tools.channel import Channel
from matchbox.tools.process import StandbyLine
from matchbox.tools.sessions import Operator, Refused

_PATIENCE_S = 60.0
# Of an open order, in a matcher's book and in the publisher's index of levels; of a special one.
_ORDER_BYTES, _SPECIAL_BYTES = 320, 120


class Process(Protocol):
    """A host process: what it runs, and the line to it."""

    agents: list[str]
    channel: Channel


@dataclass
class Listing:
    """The markets that have memory, and how others get it. Called by the supervisor alone."""

    plan: Plan
    catalog: Catalog
    segments: dict[str, Any]
    say: Callable[[str], None]
    hosts: list[Process] = field(default_factory=list)
    operator: Operator | None = None
    placed: dict[int, PlanMarket] = field(default_factory=dict)
    matchers: dict[int, int] = field(default_factory=dict)  # of every number of this run
    standby: StandbyLine | None = None

    def __post_init__(self) -> None:
        for market in self.plan.markets:
            self.placed[market.number] = market
            self.matchers[market.number] = market.matcher

    def go_on(self, plan: Plan, hosts: Sequence[Process], markets: list[PlanMarket]) -> None:
        """Another engine has taken over, which has memory for these markets."""
        self.plan, self.hosts, self.standby = plan, list(hosts), None
        self.placed = {market.number: market for market in markets}
        self.matchers = {market.number: market.matcher for market in markets}

    # ---- records

    def define(self, record: Any, matcher: int | None = None) -> tuple[int, Any]:
        """Do what an ADD_ or REMOVE_ record (LOG_RECORD) says; the number it is of (that of the
        record, or one that is free where that is 0) and the engine's answer.

        Raises Refused, with nothing done.
        """
        assert self.operator is not None
        if int(record["kind"]) not in DEFINITIONS:
            raise Refused(Reason.UNKNOWN_KIND, f"no definition: kind={int(record['kind'])}")
        self.sweep()
        if int(record["kind"]) in ADDITIONS:
            return self._add(self._numbered(record), matcher)
        return self._remove(record)

    def _numbered(self, record: Any) -> Any:
        """The record with a number. Raises Refused if number or name is taken."""
        kind, number = identity(record)
        if number == 0:
            number = self.catalog.next_number(kind, self._limit(kind))
            field = {Kind.ADD_ACCOUNT: "account", Kind.ADD_MARKET: "market"}.get(kind, "id")
            view = np.array([view_of(record)])
            view[field] = number
            record = view.view(LOG_RECORD)[0]
        taken = self.catalog.named(kind, name_of(record))
        if taken or (kind, number) in self.catalog.definitions:
            what = f"name={name_of(record)}, number={taken}" if taken else f"number={number}"
            raise Refused(Reason.ALREADY_EXISTS, f"it is there already: {what}")
        return record

    def _limit(self, kind: Kind) -> int:
        plan = self.plan
        return {
            Kind.ADD_ASSET: plan.max_assets,
            Kind.ADD_ACCOUNT: plan.max_accounts,
            Kind.ADD_MARKET: plan.max_markets,
        }[kind]

    def _add(self, record: Any, matcher: int | None) -> tuple[int, Any]:
        assert self.operator is not None
        kind, number = identity(record)
        if kind == Kind.ADD_MARKET:
            self._check_market(record)
            try:
                self.place(view_of(record), matcher)
            except EngineDown:
                raise
            except MatchboxError as error:
                if isinstance(error, Refused):
                    raise
                raise Refused(Reason.TOO_MANY_OBJECTS, str(error)) from None
        try:
            answer = self.operator.one(np.array([record]))
        except Refused:
            if kind == Kind.ADD_MARKET:
                self._undo(number)
            raise
        self.catalog.learn(np.array([record]))
        return number, answer

    def _check_market(self, record: Any) -> None:
        view = view_of(record)
        for side in ("base_asset", "quote_asset"):
            if int(view[side]) not in self.catalog.assets:
                raise Refused(Reason.UNKNOWN_ASSET, f"no such asset: {side}={int(view[side])}")

    def _remove(self, record: Any) -> tuple[int, Any]:
        """By number, by name, or by both, which must fit."""
        assert self.operator is not None
        kind, number = identity(record)
        called = self.catalog.named(kind, name_of(record)) if name_of(record) else number
        number = number or called
        if called != number or (kind, number) not in self.catalog.definitions:
            unknown = Reason.UNKNOWN_MARKET if kind == Kind.ADD_MARKET else Reason.UNKNOWN_ASSET
            raise Refused(unknown, f"there is none: name={name_of(record)}, number={number}")
        view = np.array([view_of(record)])
        view["id"] = number
        answer = self.operator.one(view)
        view["sequence"] = answer["sequence"]
        self.catalog.learn(view.view(LOG_RECORD))
        if kind == Kind.ADD_MARKET:
            self.release(number, int(answer["sequence"]))
        return number, answer

    # ---- memory

    def place(self, record: Any, matcher: int | None = None) -> None:
        """Set memory aside for the market that a MARKET_RECORD is to add; a matcher that is wanted
        counts where the number has none yet. Raises MatchboxError, with nothing done.
        """
        listed = self.catalog.listed(record)
        if listed.number in self.placed:
            self._undo(listed.number)  # nobody knows whether its record was taken: it was not
        market = PlanMarket(
            listed.number,
            self._choose(listed.number, matcher),
            listed.max_orders,
            listed.max_specials,
        )
        self._check_orders(market)
        part = f"depth-{market.number}"
        size = depth_bytes(market.max_orders)
        segment.check_room(
            {part: size},
            private=_ORDER_BYTES * market.max_orders + _SPECIAL_BYTES * market.max_specials,
        )
        self.segments[part] = segment.create(self.plan.name(part), size)
        try:
            self._format(listed)
            if self.standby is not None:
                self.standby.tell("market", number=market.number, matcher=market.matcher)
            # The sequencer last: from then on the record would be taken.
            for host in self._engines():
                host.channel.ask("place_market", market=asdict(market))
        except EngineDown:
            raise
        except MatchboxError:
            self._undo(market.number)
            raise
        self.placed[market.number] = market
        self.matchers[market.number] = market.matcher

    def _check_orders(self, market: PlanMarket) -> None:
        """Is there room for its orders in the tables of all open ones, which do not grow?"""
        free = self.plan.max_orders - sum(other.max_orders for other in self.placed.values())
        if market.max_orders > free:
            raise MatchboxError(
                f"no room for so many open orders: max_orders={market.max_orders}, free={free}; "
                "a higher limits.max_orders counts from the next start on"
            )

    def _format(self, listed: Listed) -> None:
        format_depth(
            self.segments[f"depth-{listed.number}"],
            listed.record,
            (listed.base.name, listed.base.scale),
            (listed.quote.name, listed.quote.scale),
            levels=listed.max_orders,
            epoch=self.plan.epoch,
        )

    def format_first(self, first: Catalog) -> None:
        """Lay out the depth tables of the plan's own markets, `first` as those were that the engine
        begins with.
        """
        for market in self.plan.markets:
            known = first if market.number in first.markets else self.catalog
            self._format(known.markets[market.number])

    def _choose(self, number: int, wanted: int | None) -> int:
        known = self.matchers.get(number)
        if wanted is not None and not 0 <= wanted < self.plan.matchers:
            raise Refused(
                Reason.BAD_DEFINITION,
                f"no such matcher: matcher={wanted}, matchers={self.plan.matchers}",
            )
        if known is not None:
            if wanted not in (None, known):
                raise Refused(
                    Reason.BAD_DEFINITION,
                    f"number {number} stays with matcher {known} until the next start: "
                    f"matcher={wanted}",
                )
            return known
        there = {n: m for n, m in self.matchers.items() if n in self.placed}
        chosen = {} if wanted is None else {number: wanted}
        return placements(self.plan.matchers, [number], chosen, there)[number]

    def release(self, number: int, passed: int) -> None:
        """Give back the memory of a market whose removal is log record `passed`, or that was not
        added. Raises MatchboxError if an agent does not get as far.
        """
        deadline = time.monotonic() + _PATIENCE_S
        while behind := self._behind(passed):
            if time.monotonic() > deadline:
                raise MatchboxError(
                    f"agents do not pass the removal of market {number}: sequence={passed}, "
                    f"behind={behind}"
                )
            time.sleep(0.001)
        self._undo(number)

    def _behind(self, sequence: int) -> dict[str, int]:
        """The agents that are not done with a log record, and how far they are."""
        return {
            agent: position
            for host in self._engines()
            for agent, position in host.channel.ask("positions")["positions"].items()
            if position < sequence
        }

    def _engines(self) -> list[Process]:
        """The processes with agents of the engine, the sequencer's last."""
        engines = [host for host in self.hosts if host.agents != ["journaler"]]
        return sorted(engines, key=lambda host: "sequencer" in host.agents)

    def _undo(self, number: int) -> None:
        part = f"depth-{number}"
        # The sequencer first, so that it takes nothing that others have no memory for.
        for host in reversed(self._engines()):
            host.channel.ask("take_market", number=number)
        segment.unlink(self.plan.name(part))
        self.segments.pop(part, None)
        self.placed.pop(number, None)

    def closed(self) -> list[int]:
        """The markets that have memory and were removed, as far as the publisher is."""
        return [n for n in [*self.placed] if Book(self.segments[f"depth-{n}"], None).removed]

    def sweep(self) -> None:
        """Give back the memory of markets that the records of others have removed."""
        for number in self.closed():
            positions = self._engines()[-1].channel.ask("positions")["positions"]
            sequence = int(positions["sequencer"])
            gone = np.zeros(1, LOG_RECORD)
            gone["kind"], gone["market"], gone["sequence"] = Kind.REMOVE_MARKET, number, sequence
            if number in self.catalog.markets:
                self.catalog.learn(gone)
            self.release(number, sequence)

    # ---- the journal is replayed

    def place_again(self, record: Any) -> None:
        """A market that the journal's next record (MARKET_RECORD) adds; one that had its number
        gives its memory back, and so do others that all agents are done with.

        That and no more is waited for: the sequencer settles no further than it had, so there may
        be no room for more events. Raises MatchboxError.
        """
        number, before = int(record["market"]), int(record["sequence"])
        if number in self.placed:
            self.release(number, max(s for s in self.catalog.removals[number] if s < before))
        for other in self.closed():
            if not self._behind(max(s for s in self.catalog.removals[other] if s < before)):
                self._undo(other)
        self.place(record)

    def end_replay(self) -> None:
        """Give back what the journal has removed; all agents are done with it."""
        for number in self.closed():
            self._undo(number)
