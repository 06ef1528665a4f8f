"""The whole exchange: log records in, in their order; events, and where the log breaks the rules.

For each record the auditor first settles as much of its own event stream as the record says the
sequencer had settled, then decides, compares what the record says with that, and lets the market's
book process it. An event moves balances and live orders when it is settled; the books move with the
record. If the log and the auditor disagree about a decision, the auditor goes on with the log's, so
that one difference does not hide the next.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from matchbox.shm.reasons import Reason, describe
from matchbox.shm.records import (
    Capability,
    EventFlag,
    EventKind,
    Kind,
    Rule,
)
from matchbox.tools.audit import decide
from matchbox.tools.audit.books import Book
from matchbox.tools.audit.decide import Decision
from matchbox.tools.audit.definitions import Definitions, Limits, Session
from matchbox.tools.audit.invariants import Tallies
from matchbox.tools.audit.line import Line, Timers
from matchbox.tools.audit.money import Amend, Ledger, LiveOrder
from matchbox.tools.audit.records import (
    MONEY,
    ORDERS,
    RULES,
    Event,
    Record,
    kind_name,
    read,
)
from matchbox.tools.audit.volume import Fees

# Why terms are refused without a look at their order.
ALONE = (
    Reason.NOT_PERMITTED,
    Reason.ACCOUNT_NOT_PERMITTED,
    Reason.UNKNOWN_ACCOUNT,
    Reason.BAD_LEGS,
)


@dataclass(frozen=True)
class Difference:
    """The log says something else than the rules."""

    sequence: int
    text: str

    def __str__(self) -> str:
        return f"record {self.sequence}: {self.text}"


@dataclass
class Step:
    """What came of one record: the events of its market's book, and those of the ledger."""

    record: Record
    book: list[Event] = field(default_factory=list)
    ledger: list[Event] = field(default_factory=list)


class Auditor:
    """Everything that the log says, by the rules alone."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.definitions = Definitions(limits or Limits())
        self.ledger = Ledger()
        self.fees = Fees()
        self.books: dict[int, Book] = {}
        self.trades: dict[int, int] = {}  # given out by markets that were removed, by number
        self.line = Line()
        self.timers = Timers()
        self.tallies = Tallies()
        self.differences: list[Difference] = []
        self.sequence = 0
        self.timestamp_ns = 0
        # The record all of whose events are settled, and how many of the next one are.
        self.settled = 0
        self.settled_index = 0
        self._unsettled: dict[int, tuple[Record, list[Event]]] = {}
        self._terms: Record | None = None  # those that the record before was

    # ---- records

    def apply(self, records: NDArray[Any]) -> list[Step]:
        """LOG_RECORDs that follow those before; what came of each."""
        return [self.apply_one(record) for record in read(records)]

    def apply_one(self, r: Record) -> Step:
        if r.sequence != self.sequence + 1:
            self._differ(r, f"comes after record {self.sequence}")
        if r.timestamp_ns < self.timestamp_ns:
            self._differ(r, f"its time is before {self.timestamp_ns}, that of the record before")
        self.sequence, self.timestamp_ns = r.sequence, r.timestamp_ns
        terms, self._terms = self._terms, None
        self._settle_for(r)
        self.line.pass_over(self.ledger.orders.__contains__)
        step = Step(r)
        if r.session == 0:
            self._check_legs(terms, r)
            self._engine(r, step)
        else:
            self._client(r, terms, step)
        self._unsettled[r.sequence] = r, step.book
        self.tallies.count(step.book)
        return step

    def settle_all(self) -> None:
        """Settle every event of every record."""
        self._settle_to(self.sequence, 0)

    def rates(self, account: int, market: int, timestamp_ns: int) -> tuple[int, int]:
        """Maker and taker rate of an account's orders now."""
        asset = self.definitions.assets.get(self.fees.tier_asset)
        chosen = self.definitions.accounts[account].tier
        tier = self.fees.tier(account, chosen, timestamp_ns, asset.scale if asset else 0)
        return self.fees.rates(market, tier)

    def _differ(self, r: Record, text: str) -> None:
        self.differences.append(Difference(r.sequence, f"{kind_name(r.kind)}: {text}"))

    def _expect(self, r: Record, **fields: int) -> None:
        """Compare what the record says with what it should."""
        for name, expected in fields.items():
            found = getattr(r, name)
            if found != expected:
                self._differ(r, f"{name}: expected {int(expected)}, found {found}")

    # ---- settling

    def _settle_for(self, r: Record) -> None:
        """As far as the record says."""
        settled, index = r.sequence - r.settled_lag, r.settled_index
        if r.settled_lag == 0 or (settled, index) < (self.settled, self.settled_index):
            self._differ(
                r,
                f"settled up to {settled}, {index}: expected {self.settled}, {self.settled_index} "
                f"or later, and before the record",
            )
            return
        there = len(self._unsettled[settled + 1][1]) if settled + 1 in self._unsettled else 0
        if index and index >= there:
            self._differ(r, f"settled_index: {index} of the {there} events of {settled + 1}")
            index = 0
        self._settle_to(settled, index)

    def _settle_to(self, settled: int, index: int) -> None:
        while self.settled < settled:
            record, events = self._unsettled.pop(self.settled + 1)
            for event in events[self.settled_index :]:
                self._settle(record, event)
            self.settled += 1
            self.settled_index = 0
        if index:
            record, events = self._unsettled[self.settled + 1]
            for event in events[self.settled_index : index]:
                self._settle(record, event)
            self.settled_index = index

    def _settle(self, r: Record, event: Event) -> None:
        ledger = self.ledger
        if event.kind == EventKind.TRADE:
            self._settle_trade(r, event)
        elif event.kind == EventKind.PREVENTED:
            ledger.prevented(event)
        elif event.kind in (EventKind.CANCELED, EventKind.EXPIRED):
            ledger.end(event.order_id)
        elif event.kind == EventKind.AMENDED:
            order = ledger.orders[event.order_id]
            order.price, order.leaves = event.price_ticks, event.leaves_lots
            del order.amends[event.sequence]
            ledger.trim(order)
        elif event.kind == EventKind.REJECTED:
            if r.kind == Kind.NEW_ORDER:
                ledger.end(event.order_id)
            elif r.kind == Kind.AMEND_ORDER and event.order_id in ledger.orders:
                order = ledger.orders[event.order_id]
                del order.amends[event.sequence]
                ledger.trim(order)
        for order_id in (event.order_id, event.maker_order_id):
            if order_id not in ledger.orders:
                self.timers.ended(order_id)

    def _settle_trade(self, r: Record, event: Event) -> None:
        market = self.definitions.markets[event.market]
        value = self.ledger.fill(event)
        for account in (event.account, event.maker_account):
            self.fees.count(account, market.quote, r.timestamp_ns, value)
        if event.sequence >= market.last_set:
            market.last, market.last_set = event.price_ticks, event.sequence

    # ---- records of clients

    def _client(self, r: Record, terms: Record | None, step: Step) -> None:
        session = self._session(r)
        due = self.timers.first()
        if due is not None and due <= r.timestamp_ns:
            self._differ(r, f"something was due at {due} and comes first")
        if self.line.waiting:
            self._differ(r, f"the cancel of order {self.line.waiting[0][0]} comes first")
        if r.named_account == 0 and session.account and self._names_account(r, session):
            self._differ(r, f"account: expected {session.account}, found 0")
        if r.kind == Kind.ORDER_TERMS:
            self._terms = r
            self._expect_terms(r, session)
            if r.reject:
                step.ledger.append(refusal(r))
            return
        self._check_legs(terms, r)
        together = r.kind == Kind.NEW_ORDER and (r.has_terms or r.reject == Reason.BAD_LEGS)
        legs = terms if together else None
        decision = decide.decide(self, r, session, legs)
        if decision.reject != r.reject:
            self._differ(
                r,
                f"reject: expected {describe(decision.reject)}, found {describe(r.reject)}",
            )
        if r.kind in (*MONEY, *RULES):
            self._expect(r, operator_id=session.user if may_operate(session) else 0)
        if r.reject:
            step.ledger.append(refusal(r))
            return
        if not decision.reject:
            self._expect(r, **decision.stamps)
        self._apply(r, session, legs, decision, step)

    def _session(self, r: Record) -> Session:
        session = self.definitions.sessions.get(r.session)
        if session is None or not session.attached:
            self._differ(r, f"session {r.session} is not attached")
            session = session or Session(r.session, b"")
        if r.session_position != session.position + 1:
            self._differ(
                r,
                f"session_position: expected {session.position + 1}, found {r.session_position}",
            )
        session.position = r.session_position
        return session

    def _names_account(self, r: Record, session: Session) -> bool:
        """Is it a record in which 0 stands for the session's account, which it is let to name?"""
        if r.kind in (Kind.SUBSCRIBE, Kind.UNSUBSCRIBE):
            return True
        names = (
            *ORDERS,
            Kind.ORDER_TERMS,
            Kind.MASS_CANCEL,
            Kind.COUNTDOWN,
            Kind.TRANSFER,
            Kind.REQUEST_WITHDRAWAL,
        )
        return r.kind in names and r.reject != Reason.NOT_PERMITTED

    def _expect_terms(self, r: Record, session: Session) -> None:
        """What can be said of terms before the next record is known."""
        reason = decide.check_trader(self, r, session)
        # With an order for another account behind them, it is the order's sender that counts.
        if reason and r.reject not in (reason, Reason.BAD_LEGS):
            self._differ(r, f"reject: expected {describe(reason)}, found {describe(r.reject)}")

    def _check_legs(self, terms: Record | None, r: Record) -> None:
        """Terms and the record after them: taken together or refused together."""
        follows = (
            terms is not None
            and r.kind == Kind.NEW_ORDER
            and r.session == terms.session
            and r.session_position == terms.session_position + 1
        )
        if terms is None or not follows:
            if r.kind == Kind.NEW_ORDER and r.has_terms:
                self._differ(r, "has_terms: expected 0, found 1")
            if terms is not None and not terms.reject:
                self._differ(terms, f"reject: expected {describe(Reason.BAD_LEGS)}, found 0")
            return
        if terms.reject in ALONE and not r.has_terms:
            return  # perhaps the order was not there yet when the terms were taken
        if (terms.account, terms.market) == (r.account, r.market):
            self._expect(r, has_terms=1)
        if terms.reject != r.reject:
            self._differ(
                terms, f"reject: {describe(terms.reject)}, its order: {describe(r.reject)}"
            )

    def _apply(
        self, r: Record, session: Session, terms: Record | None, decision: Decision, step: Step
    ) -> None:
        """What a record does that the log says was accepted."""
        if r.kind in ORDERS:
            self._apply_order(r, session, terms, decision)
            step.book = self.books[r.market].process(r, terms)
        elif r.kind in MONEY:
            step.ledger = self._apply_money(r)
        elif r.kind in RULES:
            self._apply_rules(r)
        elif r.kind == Kind.MASS_CANCEL:
            self.line.add(self.ledger.live(r.account, r.market, r.side), Reason.MASS_CANCELED)
        elif r.kind == Kind.COUNTDOWN:
            self.timers.arm(r.session, r.account, r.timestamp_ns, r.quantity_lots)
        elif r.kind == Kind.LOGOUT:
            self._detach(session)
        else:
            self._apply_definition(r)

    def _apply_order(
        self, r: Record, session: Session, terms: Record | None, decision: Decision
    ) -> None:
        if r.kind == Kind.NEW_ORDER:
            self.ledger.add(decision.order or self._as_logged(r, session))
            if terms is not None and terms.expire_ns:
                self.timers.expire(r.sequence, terms.expire_ns)
        elif r.kind == Kind.AMEND_ORDER and r.order_id in self.ledger.orders:
            to_open = bool(r.flags & 2)
            amend = decision.amend or Amend(r.price_ticks, r.quantity_lots, to_open, r.hold)
            self.ledger.add_amend(self.ledger.orders[r.order_id], r.sequence, amend)

    def _as_logged(self, r: Record, session: Session) -> LiveOrder:
        """The order of a record that should have been refused."""
        market = self.definitions.markets[r.market]
        return LiveOrder(
            order_id=r.sequence,
            account=r.account,
            market=market,
            session=session.number,
            side=r.side,
            market_order=r.order_type not in decide.LIMIT_TYPES,
            budget=decide.spends(r),
            by_quote=bool(r.flags & 8),
            price=r.price_ticks,
            leaves=r.quantity_lots,
            hold=r.hold,
            client_order_id=r.client_order_id,
        )

    def _apply_money(self, r: Record) -> list[Event]:
        """The BALANCE events."""
        ledger = self.ledger
        if r.kind == Kind.TRANSFER:
            ledger.transfer(r.account, r.counter_account, r.asset, r.amount, r.reference)
            changes = [(r.account, -r.amount), (r.counter_account, r.amount)]
        elif r.kind == Kind.DEPOSIT:
            ledger.deposit(r.account, r.asset, r.amount, r.reference)
            changes = [(r.account, r.amount)]
        elif r.kind == Kind.REQUEST_WITHDRAWAL:
            ledger.request(r.account, r.asset, r.amount, r.reference)
            changes = [(r.account, -r.amount)]
        elif r.kind == Kind.SETTLE_WITHDRAWAL:
            ledger.settle_withdrawal(r.reference)
            changes = [(r.account, -r.amount)]
        else:
            ledger.cancel_withdrawal(r.reference)
            changes = [(r.account, r.amount)]
        found = []
        for index, (account, change) in enumerate(changes):
            balance = ledger.balance(account, r.asset)
            event = Event(
                sequence=r.sequence,
                quantity_lots=balance.free,
                leaves_lots=balance.held,
                cumulative_lots=change,
                index=index,
                market=r.asset,
                account=account,
                kind=EventKind.BALANCE,
                flags=EventFlag.LAST if index == len(changes) - 1 else 0,
            )
            found.append(event)
        return found

    def _apply_rules(self, r: Record) -> None:
        if r.kind == Kind.SET_ACCOUNT:
            account = self.definitions.accounts[r.account]
            if r.rules & Rule.STATE:
                account.state = r.state
            if r.rules & Rule.TIER:
                account.tier = r.tier
            if r.rules & Rule.CANCEL:
                self.line.add(self.ledger.live(r.account), Reason.ACCOUNT_KILLED)
        elif r.kind == Kind.SET_MARKET:
            self._set_market(r)
        elif r.kind == Kind.SET_FEES:
            self.fees.set(r.market, r.tier, r.maker_fee_ppm, r.taker_fee_ppm)
        else:
            self.fees.set_tier(r.tier, r.amount, r.asset)

    def _set_market(self, r: Record) -> None:
        market = self.definitions.markets[r.market]
        self.books[r.market].set_rules(r)
        if r.rules & Rule.STATE:
            market.state = r.state
        if r.rules & Rule.NOTIONAL:
            market.min_notional = r.amount
        if r.rules & Rule.REFERENCE:
            market.last, market.last_set = r.reference_ticks, r.sequence
        if r.rules & Rule.PROTECTION:
            market.protection = r.protection_bips
        if r.rules & Rule.ORDERS:
            market.account_orders = r.account_orders
        if r.rules & Rule.CANCEL:
            self.line.add(self.ledger.live(market=r.market), Reason.MARKET_KILLED)

    def _apply_definition(self, r: Record) -> None:
        if r.kind == Kind.ADD_ASSET:
            self.definitions.add_asset(r)
        elif r.kind == Kind.ADD_ACCOUNT:
            self.definitions.add_account(r)
        elif r.kind == Kind.ADD_MARKET:
            self.books[r.market] = Book(self.definitions.add_market(r))
            self.books[r.market].trades = self.trades.get(r.market, 0)
        elif r.kind == Kind.REMOVE_MARKET:
            self.trades[r.id] = self.books.pop(r.id).trades
            del self.definitions.markets[r.id]
            self.fees.markets.pop(r.id, None)
        elif r.kind == Kind.REMOVE_ASSET:
            del self.definitions.assets[r.id]
            self.ledger.forget(r.id)
        elif r.kind == Kind.ATTACH_SESSION:
            self.definitions.attach(r)
        elif r.kind == Kind.DETACH_SESSION:
            self._detach(self.definitions.sessions[r.id])

    def _detach(self, session: Session) -> None:
        """The end of an attachment, however it came."""
        if session.attached and session.cancel_on_detach:
            mine = [order for order in self.ledger.live() if order.session == session.number]
            self.line.add(mine, Reason.SESSION_ENDED)
        session.attached = False

    # ---- records of the engine itself

    def _engine(self, r: Record, step: Step) -> None:
        if r.reject:
            self._differ(r, f"the engine's own record is refused: {describe(r.reject)}")
        elif r.kind == Kind.CANCEL_ORDER:
            self._engine_cancel(r)
            step.book = self.books[r.market].process(r)
        elif r.kind == Kind.TICK:
            self._tick(r)
        elif r.kind == Kind.START:
            for session in self.definitions.sessions.values():
                self._detach(session)
        elif r.kind == Kind.DETACH_SESSION:
            session = self.definitions.sessions[r.id]
            self._expect(r, position=session.position)
            if not session.attached:
                self._differ(r, f"session {r.id} is not attached")
            self._detach(session)
        elif r.kind == Kind.ATTACH_SESSION:
            decision = decide.decide(self, r, Session(0, b"", capabilities=7), None)
            self._expect(r, reject=decision.reject, **decision.stamps)
            self.definitions.attach(r)
        elif r.kind != Kind.STOP:
            self._differ(r, "the engine writes no such record")

    def _engine_cancel(self, r: Record) -> None:
        if not self.line.waiting:
            self._differ(r, f"order {r.order_id} is canceled, and none stands in line")
            return
        order_id, reason = self.line.next()
        order = self.ledger.orders[order_id]
        self._expect(
            r,
            order_id=order_id,
            hold=reason,
            account=order.account,
            market=order.market.number,
            side=order.side,
        )

    def _tick(self, r: Record) -> None:
        due = self.timers.run_out(r.timestamp_ns)
        if not due:
            self._differ(r, "nothing is due")
        for reason, number in due:
            if reason == Reason.COUNTDOWN_ENDED:
                self.line.add(self.ledger.live(number), reason)
            elif number in self.ledger.orders:
                self.line.add([self.ledger.orders[number]], reason)


def may_operate(session: Session) -> bool:
    return decide.may(session, Capability.OPERATE)


def refusal(r: Record) -> Event:
    """The ledger's REJECTED event."""
    event = Event(
        sequence=r.sequence, reason=r.reject, kind=EventKind.REJECTED, flags=EventFlag.LAST
    )
    if r.kind not in ORDERS:
        return event
    return event._replace(
        order_id=r.sequence if r.kind == Kind.NEW_ORDER else r.order_id,
        price_ticks=r.price_ticks,
        quantity_lots=r.quantity_lots,
        market=r.market,
        account=r.account,
        side=r.side,
    )


def differences_of(batches: Iterable[NDArray[Any]], limits: Limits | None = None) -> Auditor:
    """The auditor after all records of a log."""
    auditor = Auditor(limits)
    for records in batches:
        auditor.apply(records)
    return auditor
