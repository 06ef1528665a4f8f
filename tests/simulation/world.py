"""A whole exchange and the auditor beside it: what the one does, the other must have foretold.

World runs tests/core/exchange.py's agents one poll at a time, in whatever order it is told to, and
after each step compares, as far as both have come:

    decisions and stamps    of every log record
    events                  of every ring, byte for byte
    reports                 of every session

and, whenever the exchange has come to rest, the books, the balances and the open orders; then what
must hold at any time (tools/audit/invariants.py).
"""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.core.instrument import market_record
from matchbox.core.plan import PUBLISHER_READS
from matchbox.persistence.cuts import CUT, KINDS
from matchbox.persistence.journaler import count_before
from matchbox.shm.errors import BadArgument, Detached
from matchbox.shm.records import (
    COMMAND,
    EVENT,
    FEE_ACCOUNT,
    LOG_RECORD,
    MARKET_RECORD,
    MONEY_RECORD,
    NAMED_RECORD,
    Assurance,
    Belongs,
    Capability,
    EventKind,
    Kind,
    ListType,
    Side,
)
from matchbox.shm.ring import Ring
from matchbox.shm.session import Session
from matchbox.tools.audit import invariants
from matchbox.tools.audit.definitions import Limits
from matchbox.tools.audit.exchange import Auditor, Step
from matchbox.tools.audit.records import Event, Report, events, kind_name, reports
from matchbox.tools.audit.reports import Reporter
from matchbox.tools.audit.together import replaces
from tests.core.exchange import Connection, Exchange, plan
from tests.core.standby import Standby

BTC, ETH, USD, NEW = 1, 2, 3, 4
ASSETS = {BTC: ("BTC", 8), ETH: ("ETH", 3), USD: ("USD", 2)}
ACCOUNTS = 5
PARENT, CHILD = 1, 4  # the child is a sub-account of the parent
MAX_ORDERS = 11
# A few orders' worth of each asset.
WEALTH = {BTC: 40 * 10**6, ETH: 3_000, USD: 6_000, NEW: 4_000}
MATCHERS = 2
# What makes the three markets unlike each other; the middle is where their prices are.
MARKETS: dict[int, dict[str, Any]] = {
    1: {
        "symbol": "BTC/USD",
        "base_asset": BTC,
        "quote_asset": USD,
        "lot_units": 10**6,
        "notional_units": 1,
        "max_price_ticks": 150,
        "max_quantity_lots": 60,
    },
    2: {
        "symbol": "ETH/USD",
        "base_asset": ETH,
        "quote_asset": USD,
        "lot_units": 60,
        "tick_mantissa": 5,
        "tick_scale": 1,
        "notional_units": 3,
        "price_step_ticks": 5,
        "quantity_step_lots": 3,
        "min_quantity_lots": 6,
        "max_quantity_lots": 90,
        "max_price_ticks": 700,
    },
    3: {
        "symbol": "ETH/BTC",
        "base_asset": ETH,
        "quote_asset": BTC,
        "lot_units": 1,
        "tick_mantissa": 7,
        "tick_scale": 5,
        "notional_units": 7,
        "min_quantity_lots": 2,
    },
}
FIRST_MARKETS = tuple(MARKETS)
MIDDLE = {1: 100, 2: 500, 3: 30, 4: 20}
# What comes and goes: an asset of this or that scale, and markets by the same number.
LATER_SCALES = (0, 2)
LATER: tuple[dict[str, Any], ...] = (
    {"base_asset": NEW, "tick_scale": 2, "lot_units": 1, "notional_units": 1},  # scale 0
    {"base_asset": NEW, "tick_scale": 2, "lot_units": 100, "notional_units": 1},  # scale 2
    {"base_asset": ETH, "tick_scale": 1, "lot_units": 200, "notional_units": 2},
)
MARKETS[4] = {"symbol": "NEW/USD", "quote_asset": USD, "max_price_ticks": 90, **LATER[0]}
# name: account, capabilities, cancel on detach
TRADE, NAME, OPERATE = Capability.TRADE, Capability.NAME_ACCOUNTS, Capability.OPERATE
SESSIONS: dict[str, tuple[int, int, bool]] = {
    "parent": (PARENT, TRADE, False),
    "child": (CHILD, TRADE, True),
    "two": (2, TRADE, False),
    "gateway": (0, TRADE | NAME, False),
    "watcher": (3, TRADE | NAME, True),
    "reader": (5, 0, False),
}
ASSURANCES = {
    "child": Assurance.DURABLE,
    "two": Assurance.REPLICATED,
    "gateway": Assurance.DURABLE,
    "watcher": Assurance.REPLICATED,
    "reader": Assurance.MATCHED,
}
START_NS = 20_000 * 86_400 * 10**9


class World:
    """One exchange, its auditor, and everybody's sessions. Small rings are full now and then."""

    mortal = True  # can its exchange die, so that a standby goes on?

    def __init__(self, *, event_slots: int = 1024) -> None:
        self.exchange = Exchange(
            plan(
                markets=len(FIRST_MARKETS),
                matchers=MATCHERS,
                max_orders=MAX_ORDERS,
                log_slots=max(64, event_slots),
                event_slots=event_slots,
                order_capacity=MAX_ORDERS * len(MARKETS),
            ),
            define=False,
        )
        self.now = START_NS
        self.advance(0)
        limits = self.exchange.plan
        self.auditor = Auditor(
            Limits(
                assets=limits.max_assets,
                accounts=limits.max_accounts,
                markets=limits.max_markets,
                slots=limits.max_sessions,
            )
        )
        self.reporter = Reporter()
        self.sessions: dict[str, Session] = {}
        self.slots: dict[str, int] = {}
        self.records = 0  # log records compared
        self.seen: Counter[str] = Counter()  # what they were, see kind_of()
        self.failed = False  # a comparison has not come to its end
        self.references = 0
        self.recent: list[int] = []  # order ids, some of them gone
        self.standby: Standby | None = None
        self._rings = rings_of(self.exchange)
        self._read = dict.fromkeys(self._rings, 0)
        self._found: dict[str, list[Event]] = defaultdict(list)
        self._expected: dict[str, list[Event]] = defaultdict(list)
        self._told: dict[int, list[Report]] = defaultdict(list)
        self._log_taken = 0
        self.exchange.start(1)
        assert self.exchange.operator is not None
        self.sessions["operator"] = self.exchange.operator
        self.submit("operator", definitions())
        self.settle()
        for name in SESSIONS:
            self.attach(name)

    # ---- acting

    def advance(self, by_ns: int) -> None:
        """Let time pass."""
        self.now += by_ns
        self.exchange.sequencer.clock_ns = self.now

    def submit(self, name: str, commands: NDArray[Any]) -> None:
        """Send commands, all next to each other; nothing happens if the session has ended.

        Markets get their memory before, unless one of that number is there or hardly gone, or
        another definition may be on its way, which has it.
        """
        if name in self.sessions:
            for record in commands[commands["kind"] == Kind.ADD_MARKET].view(MARKET_RECORD):
                if self._all_taken(name):
                    with contextlib.suppress(BadArgument):
                        self.exchange.give_memory(record)
            try:
                self.sessions[name].submit(commands)
            except Detached:
                del self.sessions[name]

    def _all_taken(self, name: str) -> bool:
        """Has all that this session sent been sequenced?"""
        session = self.sessions[name]
        state = self.exchange.sequencer.sessions()[session.number - 1]
        return bool(state["position"] == session.sent)

    def poll(self, agent: int) -> int:
        """Let one agent do something."""
        polls = self._polls()
        return self._polled(polls[agent % len(polls)])

    def disk(self, journaled: int, replicated: int) -> None:
        """So many more records become durable, and so many are replicated; where a standby follows,
        that says what is.
        """
        self.exchange.journal(durable=journaled)
        if self.standby is None:
            self.exchange.replicate(replicated)

    @property
    def agents(self) -> int:
        return len(self._polls())

    def _polls(self) -> list[Callable[[], int]]:
        """Of all that are agents here, the journaler among them."""
        standby = self.standby.polls() if self.standby else []
        return [*self.exchange.polls(), partial(self.exchange.journal, 0), *standby]

    # ---- a standby

    def stand_by(self) -> None:
        """Let another engine follow this one, from the journal first."""
        self.standby = Standby(self.exchange)

    def take_over(self, pick: Callable[[int], int] | None = None) -> None:
        """The exchange dies, here and now, and its standby goes on.

        `pick` chooses one of so many records: of it the exchange died, and it is cut out; or, if
        there is no such record, the next command of a session is refused unseen.
        """
        assert self.standby is not None
        standby, self.standby = self.standby, None
        standby.kill()
        self._rings = rings_of(standby)
        if pick is not None:
            self._poison(standby, pick)
        idle = 0
        while not standby.drained:
            idle = 0 if sum(self._polled(poll) for poll in standby.polls()) else idle + 1
            assert idle < 10, f"the standby stands still: {standby.follower.stage}"
        standby.succeed()
        self.exchange = standby
        self.advance(0)
        self.seen["TAKEOVER"] += 1
        self.seen["LAPPED"] += standby.laps

    def _poison(self, standby: Standby, pick: Callable[[int], int]) -> None:
        suspects = self._nobody_was_told()
        if not len(suspects):
            waiting = [s for name, s in self.sessions.items() if not self._all_taken(name)]
            if waiting:
                session = waiting[pick(len(waiting))]
                state = self.exchange.sequencer.sessions()[session.number - 1]
                standby.sequencer.refuse(session.number, state["position"] + 1)
                self.seen["REFUSED UNSEEN"] += 1
            return
        sequence = int(suspects["sequence"][pick(len(suspects))])
        standby.follower.cut_out(sequence)
        for part in self.exchange._log:
            part["reserved"][part["sequence"] == sequence] = CUT
        # What was said of it and what goes together with it, and after it, was said by nobody.
        log = np.concatenate(self.exchange._log)
        head = sequence - count_before(log[:sequence])
        for part, found in self._found.items():
            kept = [event for event in found if event.sequence < head]
            self._read[part] -= len(found) - len(kept)
            self._found[part] = kept
        self.seen["CUT OUT"] += 1

    def _nobody_was_told(self) -> NDArray[Any]:
        """Records of which the dying exchange has told nobody anything, and that may be cut out:
        by the rules of tools/poison.py.
        """
        exchange = self.exchange
        exchange.journal(0)
        log = np.concatenate([np.empty(0, LOG_RECORD), *exchange._log])
        ring = Ring.attach(exchange.segment("log"))
        told = max(self.records, ring.consumed[MATCHERS])
        for part, events_ring in rings_of(exchange).items():
            read = events_ring.consumed[0 if part == "ledger" else PUBLISHER_READS]
            if read:
                told = max(told, int(events_ring.peek(read - 1, 1, EVENT)["sequence"][0]))
        if not len(log):
            return log
        last = log[-1]
        settled = int(last["sequence"] - last["settled_lag"]) + bool(last["settled_index"])
        first = max(told, settled) + 1
        chosen = (log["sequence"] >= first) & (log["reject"] == 0) & np.isin(log["kind"], KINDS)
        return log[
            [i for i in np.flatnonzero(chosen) if i + 1 - count_before(log[: i + 1]) >= first]
        ]

    def _polled(self, poll: Callable[[], int]) -> int:
        done = poll()
        self._read_events()
        return done

    def round(self) -> int:
        """Let every agent do something."""
        return sum(self.poll(agent) for agent in range(self.agents))

    def settle(self) -> None:
        """Go on until nothing happens any more, and compare everything."""
        quiet = 0
        for _ in range(10_000):
            quiet = 0 if self.round() + self.exchange.journal() else quiet + 1
            if quiet > 2:
                break
        else:
            raise AssertionError("the exchange does not come to rest")
        self.compare()
        self.compare_state()

    def attach(self, name: str) -> None:
        """Attach a session that is not, to a slot and memory of its own."""
        self.settle()
        if self.attached(name):
            return
        if name in self.slots:
            self.exchange.close_session(self.slots[name])
        slot = self.slots.setdefault(name, len(self.slots) + 1)
        commands, ring = self.exchange.rings()
        self.exchange.open_session(slot, commands, ring)
        account, capabilities, cancel = SESSIONS[name]
        row = named(Kind.ATTACH_SESSION, name, account=account, slot=slot)
        row["capabilities"], row["cancel_on_detach"], row["user"] = capabilities, cancel, 1000
        row["assurance"] = ASSURANCES.get(name, 0)
        self.submit("operator", row.view(COMMAND))
        self.settle()
        found = self.auditor.definitions.session_named(name.encode())
        assert found is not None and found.attached, f"{name} is not attached"
        self.sessions[name] = Session(
            Connection(self.exchange),
            commands,
            ring,
            number=found.number,
            name=name,
            account=account,
        )

    def attached(self, name: str) -> bool:
        """Is the session attached, as far as the log says?"""
        found = self.auditor.definitions.session_named(name.encode())
        return found is not None and found.attached

    def reference(self) -> bytes:
        """One that was not used before."""
        self.references += 1
        return f"r{self.references}".encode()

    def shares(self) -> str:
        """How much there was of lists and replacements, and how much of it was accepted."""
        found = []
        for name in ("OCO", "OTO", "OTOCO", "RELEASED", "REPLACE", "REPLACES"):
            refused = self.seen[f"{name}: refused"]
            by_book = self.seen[f"{name}: refused by the book"]
            found.append(f"{name} {self.seen[name]} of {self.seen[name] + refused + by_book}")
        return f"{self.records:,} records; accepted: {', '.join(found)}"

    # ---- comparing

    def compare_replay(self) -> None:
        """The log played again, by the engine alone, gives the same state."""
        again = Exchange(self.exchange.plan, define=False)
        log = self.exchange.log
        again.replay(log)
        assert again.log.tobytes() == log.tobytes()
        assert again.state_hash() == self.exchange.state_hash()

    def _read_events(self) -> None:
        for part, ring in self._rings.items():
            # A standby that has to drain the log is behind what was read.
            count = ring.produced - self._read[part]
            if count > 0:
                self._found[part] += events(ring.peek(self._read[part], count, EVENT))
                self._read[part] += count

    def compare(self) -> None:
        """All that is there so far."""
        self.failed = True
        self.exchange.journal()
        parts = self.exchange._log
        steps: list[Step] = []
        for records in parts[self._log_taken :]:
            self.records += len(records)
            steps += self.auditor.apply(records)
        for step in (*steps, *self.auditor.end()):
            self.reporter.step(step)
            self.seen[kind_of(step)] += 1
            self._expected["ledger"] += step.ledger
            if step.book:
                matcher = self.exchange.matcher_of(step.record.market)
                self._expected[f"events-{matcher}"] += step.book
            if step.record.kind == Kind.NEW_ORDER:
                self.recent = [*self.recent[-30:], step.record.sequence]
        self._log_taken = len(parts)
        assert not self.auditor.differences, "\n".join(map(str, self.auditor.differences))
        for part, found in self._found.items():
            same(f"event of {part}", self._expected[part], found)
        self._compare_reports()
        self.failed = False

    def _compare_reports(self) -> None:
        for name in list(self.sessions):
            session = self.sessions[name]
            try:
                found = reports(session.reports())
            except Detached:
                del self.sessions[name]
                continue
            self._told[session.number] += self.reporter.take(session.number)
            reached = self.exchange.reached(ASSURANCES.get(name, Assurance.MATCHED))
            early = [report for report in found if report.sequence > reached]
            assert not early, f"told to {name} too early: reached={reached}, {early[0]}"
            same(f"report of {name}", self._told[session.number], found)
            if found and found[-1].kind == EventKind.DETACHED:
                del self.sessions[name]

    def compare_state(self) -> None:
        """When all is at rest: nothing is outstanding, and the state is the same."""
        self.failed = True
        for part, expected in self._expected.items():
            assert not expected, f"missing from {part}: {expected[:3]}"
        for name, session in self.sessions.items():
            assert not self._told[session.number], f"{name}: {self._told[session.number][:3]}"
        self.auditor.settle_all()
        broken = invariants.broken(self.auditor)
        assert not broken, "\n".join(broken)
        for market in self.auditor.books:
            depth = self.exchange.book(market).depth()
            for side, levels in ((Side.BUY, depth.bids), (Side.SELL, depth.asks)):
                book = self.auditor.books[market].depth(side)
                found = [(int(level[0]), int(level[1])) for level in levels.tolist()]
                assert found == book, f"market {market}, {side.name}: {found}, expected {book}"
            self._compare_queues(market)
        self._compare_definitions()
        self._compare_balances()
        self.failed = False

    def _compare_definitions(self) -> None:
        """The assets and markets that there are, and their rules."""
        auditor, engine = self.auditor, self.exchange.sequencer
        assert engine.assets() == [
            (number, asset.scale, auditor.ledger.total(number))
            for number, asset in sorted(auditor.definitions.assets.items())
        ]
        for found, (number, market) in zip(
            engine.markets(), sorted(auditor.definitions.markets.items()), strict=True
        ):
            expected = {
                "market": number,
                "state": market.state,
                "min_notional": market.min_notional,
                "last_price_ticks": market.last or 0,
                "band_up_bips": auditor.books[number].band_up,
                "band_down_bips": auditor.books[number].band_down,
                "protection_bips": market.protection,
                "account_orders": market.account_orders,
                "live_orders": auditor.ledger.counts[number, 0],
                "max_orders": market.max_orders,
                "own_fees": number in auditor.fees.markets,
            }
            assert found == expected
        matchers = [self.exchange.agents[f"matcher-{k}"] for k in range(MATCHERS)]
        carried = sorted(number for matcher in matchers for number in matcher.markets)
        assert carried == sorted(auditor.definitions.markets)

    def _compare_queues(self, market: int) -> None:
        """Who is before whom: no event says so until the next fill."""
        book = self.auditor.books[market]
        queues = [
            order.order_id
            for side in (Side.BUY, Side.SELL)
            for price in book.prices(side)
            for order in book.levels[side][price]
        ]
        found = engine_queues(self.exchange, market)
        assert found == queues, f"market {market}, queues: {found}, expected {queues}"

    def _compare_balances(self) -> None:
        self.exchange.sequencer.check()
        for account in (*self.auditor.definitions.accounts, FEE_ACCOUNT):
            for asset in self.auditor.definitions.assets:
                balance = self.auditor.ledger.balance(account, asset)
                found = engine_balance(self.exchange, account, asset)
                expected = balance.free, balance.held
                assert found == expected, (
                    f"account {account}, asset {asset}: {found}, expected {expected}"
                )
            open_orders = engine_orders(self.exchange, account)
            expected_orders = {o.order_id for o in self.auditor.ledger.live(account)}
            assert open_orders == expected_orders, f"account {account}: open orders"


def kind_of(step: Step) -> str:
    """What a record was, and what became of it, in a few words."""
    r = step.record
    name = kind_name(r.kind)
    if r.kind == Kind.ORDER_LIST and r.list_type in tuple(ListType):
        name = ListType(r.list_type).name
    elif replaces(r):
        name = "REPLACE"
    elif r.kind == Kind.NEW_ORDER and r.has_terms & ~Belongs.HAS_TERMS:
        belongs = Belongs(r.has_terms & ~Belongs.HAS_TERMS)
        name = "RELEASED" if r.session == 0 else str(belongs.name)
    if r.reject:
        return f"{name}: refused"
    return (
        f"{name}: refused by the book"
        if any(e.kind == EventKind.REJECTED for e in step.book)
        else name
    )


# ---- what the engine is asked, in one place


def engine_balance(exchange: Exchange, account: int, asset: int) -> tuple[int, int]:
    free, held = exchange.sequencer.balance(account, asset)
    return int(free), int(held)


def engine_orders(exchange: Exchange, account: int) -> set[int]:
    return set(exchange.sequencer.open_orders(account)["order_id"].tolist())


def engine_queues(exchange: Exchange, market: int) -> list[int]:
    matcher = exchange.agents[f"matcher-{exchange.matcher_of(market)}"]
    return list(matcher.orders(market)["order_id"].tolist())


# ---- helpers


def rings_of(exchange: Exchange) -> dict[str, Ring]:
    """Of events, by part."""
    parts = ("ledger", *(f"events-{k}" for k in range(MATCHERS)))
    return {part: Ring.attach(exchange.segment(part)) for part in parts}


def same(what: str, expected: list[Any], found: list[Any]) -> None:
    """Take what was found off the front of what is expected, if it is that."""
    count = len(found)
    if expected[:count] != found:
        for i, one in enumerate(found):
            other = expected[i] if i < len(expected) else None
            if one != other:
                raise AssertionError(difference(what, other, one))
    del expected[:count]
    found.clear()


def difference(what: str, expected: Any, found: Any) -> str:
    if expected is None:
        return f"{what}: not expected: {found}"
    fields = [
        f"{name}: expected {getattr(expected, name)}, found {getattr(found, name)}"
        for name in found._fields
        if getattr(expected, name) != getattr(found, name)
    ]
    return f"{what}: {'; '.join(fields)}\nexpected {expected}\nfound    {found}"


def named(kind: int, name: str, **values: Any) -> NDArray[Any]:
    row = np.zeros(1, NAMED_RECORD)
    row["kind"], row["name"] = kind, name.encode()
    for field, value in values.items():
        row[field] = value
    return row


def definitions() -> NDArray[Any]:
    """Assets, accounts and markets, and something to begin with, as commands."""
    rows = [
        named(Kind.ADD_ASSET, name, id=number, scale=scale)
        for number, (name, scale) in ASSETS.items()
    ]
    rows += [
        named(
            Kind.ADD_ACCOUNT,
            f"account-{number}",
            account=number,
            parent=PARENT if number == CHILD else 0,
        )
        for number in range(1, ACCOUNTS + 1)
    ]
    markets = [
        np.asarray([market_record(number, max_orders=MAX_ORDERS, **MARKETS[number])])
        for number in FIRST_MARKETS
    ]
    money = [np.zeros(1, MONEY_RECORD) for _ in range(ACCOUNTS * len(ASSETS))]
    for i, row in enumerate(money):
        account, asset = i % ACCOUNTS + 1, i // ACCOUNTS + 1
        row["kind"], row["account"], row["asset"] = Kind.DEPOSIT, account, asset
        row["amount"], row["reference"] = 4 * WEALTH[asset], f"first-{i}".encode()
    return np.concatenate([row.view(COMMAND) for row in (*rows, *markets, *money)])
