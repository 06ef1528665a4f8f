"""The whole exchange: log records in, in their order; events, and where the log breaks the rules.

For each record, or the few that stand together, the auditor first settles as much of its own event
stream as the record says the sequencer had settled, then decides, compares what the record says
with that, and lets the market's book process it. An event moves balances and live orders when it is
settled; the books move with the record. If the log and the auditor disagree about a decision, the
auditor goes on with the log's, so that one difference does not hide the next.
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
    Flag,
    Kind,
    ListType,
    Rule,
    TimeInForce,
)
from matchbox.tools.audit import decide, together
from matchbox.tools.audit.books import Book, Replaced
from matchbox.tools.audit.decide import Decision
from matchbox.tools.audit.definitions import Definitions, Limits, Session
from matchbox.tools.audit.invariants import Tallies
from matchbox.tools.audit.line import Line, Task, Timers
from matchbox.tools.audit.money import Amend, Ledger, LiveOrder
from matchbox.tools.audit.records import (
    LOST_NUMBERS,
    MONEY,
    ORDERS,
    RULES,
    Event,
    Record,
    Terms,
    kind_name,
    read,
)
from matchbox.tools.audit.volume import Fees

# What a released order has as it was sent.
AS_SENT = (
    "account",
    "market",
    "side",
    "order_type",
    "time_in_force",
    "flags",
    "self_trade",
    "trailing_bips",
    "quantity_lots",
    "trigger_ticks",
    "client_order_id",
    "reserved",
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
        self._coming: list[Record] = []  # those of which it cannot be said yet what belongs to them

    # ---- records

    def apply(self, records: NDArray[Any]) -> list[Step]:
        """LOG_RECORDs that follow those before; what came of each.

        A record that others may belong to waits for the next, or for end().
        """
        self._coming += read(records)
        return self._apply_coming(more=True)

    def end(self) -> list[Step]:
        """No other record comes, for now: what comes of those that wait for one."""
        return self._apply_coming(more=False)

    def _apply_coming(self, more: bool) -> list[Step]:
        steps: list[Step] = []
        while self._coming:
            group = together.first_group(self._coming, more)
            if not group:
                break
            del self._coming[: len(group)]
            steps += self._apply_group(group)
        return steps

    def _apply_group(self, group: list[Record]) -> list[Step]:
        for r in group:
            if r.sequence != self.sequence + 1:
                self._differ(r, f"comes after record {self.sequence}")
            if r.timestamp_ns < self.timestamp_ns:
                self._differ(
                    r, f"its time is before {self.timestamp_ns}, that of the record before"
                )
            self.sequence, self.timestamp_ns = r.sequence, r.timestamp_ns
        self._settle_for(group)
        self.line.pass_over(self._has_sense)
        steps = [Step(r) for r in group]
        for r, belongs in zip(group, together.belongs(group), strict=True):
            if r.kind == Kind.NEW_ORDER:
                self._expect(r, has_terms=belongs)
        if group[0].session == 0:
            self._engine(group, steps)
        else:
            self._client(group, steps)
        for step in steps:
            self._unsettled[step.record.sequence] = step.record, step.book
            self.tallies.count(step.book)
        return steps

    def settle_all(self) -> None:
        """Settle every event of every record."""
        self.end()
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

    def _settle_for(self, group: list[Record]) -> None:
        """As far as the records say."""
        r = group[0]
        settled, index = r.sequence - r.settled_lag, r.settled_index
        for other in group[1:]:
            self._expect(other, settled_lag=other.sequence - settled, settled_index=index)
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
        # Makers first.
        concerned = [
            self.ledger.orders[order_id]
            for order_id in (event.maker_order_id, event.order_id)
            if order_id in self.ledger.orders
        ]
        others = [order.pair for order in concerned if order.pair]
        self._settle_event(r, event)
        moved = event.kind not in (EventKind.ACCEPTED, EventKind.AMENDED, EventKind.REJECTED)
        for other in others:
            other.doomed = moved and event.reason != Reason.LIST_ENDED
        for order in concerned:
            if order.order_id not in self.ledger.orders:
                self.timers.ended(order.order_id)
                if order.list_id in self.ledger.lists and not order.pending:
                    self._working_ended(order)

    def _settle_event(self, r: Record, event: Event) -> None:
        ledger = self.ledger
        if event.kind == EventKind.TRADE:
            self._settle_trade(r, event)
        elif event.kind == EventKind.PREVENTED:
            ledger.prevented(event)
        elif event.kind in (EventKind.CANCELED, EventKind.EXPIRED):
            if together.replaces(r) and r.order_id == event.order_id:
                ledger.replace(ledger.orders[event.order_id], r.sequence)
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

    def _working_ended(self, order: LiveOrder) -> None:
        """The working order of a list: its pending orders are released, or canceled."""
        if order.cumulative:
            self.line.release(order.list_id)
        else:
            self.line.add(self.ledger.lists[order.list_id], Reason.LIST_ENDED)

    def _has_sense(self, task: Task) -> bool:
        """Is there something left to do?"""
        if task.reason:
            return task.number in self.ledger.orders
        # If one of two was canceled, the other is to be, too.
        pending = [order.order_id for order in self.ledger.lists.get(task.number, ())]
        return bool(pending) and self.line.seen.isdisjoint(pending)

    def _settle_trade(self, r: Record, event: Event) -> None:
        market = self.definitions.markets[event.market]
        value = self.ledger.fill(event)
        for account in (event.account, event.maker_account):
            self.fees.count(account, market.quote, r.timestamp_ns, value)
        if event.sequence >= market.last_set:
            market.last, market.last_set = event.price_ticks, event.sequence

    # ---- records of clients

    def _client(self, group: list[Record], steps: list[Step]) -> None:
        head = group[0]
        session = [self._session(r) for r in group][0]
        due = self.timers.first()
        if due is not None and due <= head.timestamp_ns:
            self._differ(head, f"something was due at {due} and comes first")
        if self.line.waiting:
            self._differ(head, f"{self._said(self.line.waiting[0])} comes first")
        if head.reject == Reason.POISONED:
            # It was not looked at: with what goes with it, or alone.
            decisions = [Decision(r.reject) for r in group]
        else:
            decisions = together.decide_group(self, group, session)
        for r, decision in zip(group, decisions, strict=True):
            self._compare(r, session, decision)
        if head.kind == Kind.ORDER_LIST:
            sequence = 0 if head.reject or len(group) == 1 else head.sequence
            self._expect(head, legs=len(group) - 1, list_id=sequence)
        self._apply(group, session, decisions, steps)

    def _said(self, task: Task) -> str:
        if task.reason:
            return f"the cancel of order {task.number}"
        return f"the release of list {task.number}"

    def _compare(self, r: Record, session: Session, decision: Decision) -> None:
        """What the record says, with what it should."""
        if r.named_account == 0 and session.account and self._names_account(r, session):
            self._differ(r, f"account: expected {session.account}, found 0")
        if decision.reject != r.reject:
            self._differ(
                r,
                f"reject: expected {describe(decision.reject)}, found {describe(r.reject)}",
            )
        if r.kind in (*MONEY, *RULES):
            self._expect(r, operator_id=session.user if may_operate(session) else 0)
        if not r.reject and not decision.reject:
            self._expect(r, **decision.stamps)

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
        if r.reject == Reason.POISONED:
            return False  # it was not looked at
        if r.kind in (Kind.SUBSCRIBE, Kind.UNSUBSCRIBE):
            return True
        names = (
            *ORDERS,
            Kind.ORDER_TERMS,
            Kind.ORDER_LIST,
            Kind.MASS_CANCEL,
            Kind.COUNTDOWN,
            Kind.TRANSFER,
            Kind.REQUEST_WITHDRAWAL,
        )
        return r.kind in names and r.reject != Reason.NOT_PERMITTED

    def _apply(
        self, group: list[Record], session: Session, decisions: list[Decision], steps: list[Step]
    ) -> None:
        """What the records do that the log says were accepted, and the refusals."""
        head = group[0]
        for step in steps:
            if step.record.reject:
                step.ledger.append(refusal(step.record))
        if head.kind == Kind.ORDER_LIST:
            if not any(r.reject for r in group):
                orders = [
                    decision.order or self._as_logged(r, session.number)
                    for r, decision in zip(group[1:], decisions[1:], strict=True)
                ]
                self._apply_list(head, orders, steps[1:])
            return
        terms: Record | None = None
        for step, decision in zip(steps, decisions, strict=True):
            r = step.record
            if r.kind == Kind.ORDER_TERMS:
                terms = r
            elif not r.reject and r.kind == Kind.NEW_ORDER:
                canceled = head if head.kind == Kind.CANCEL_ORDER and not head.reject else None
                order = decision.order or self._as_logged(r, session.number)
                self._apply_new(step, order, Terms.of(terms), canceled)
            elif not r.reject:
                self._apply_one(r, session, decision, step)

    def _apply_one(self, r: Record, session: Session, decision: Decision, step: Step) -> None:
        """What an accepted record does that brings no order."""
        if r.kind == Kind.CANCEL_ORDER:
            self._apply_cancel(r, step)
        elif r.kind == Kind.AMEND_ORDER:
            if r.order_id in self.ledger.orders:
                to_open = bool(r.flags & Flag.TO_OPEN)
                amend = decision.amend or Amend(r.price_ticks, r.quantity_lots, to_open, r.hold)
                self.ledger.add_amend(self.ledger.orders[r.order_id], r.sequence, amend)
            step.book = self.books[r.market].process(r)
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

    def _apply_new(
        self, step: Step, order: LiveOrder, terms: Terms, canceled: Record | None
    ) -> None:
        """A new order; `canceled`: the accepted cancel of the order in whose place it comes."""
        r, book = step.record, self.books[step.record.market]
        replaced = None
        if canceled is not None:
            order.replaces = canceled.sequence
            allow = bool(canceled.flags & Flag.ALLOW_FAILURE)
            replaced = Replaced(book.freed, canceled.quantity_lots, allow)
        self.ledger.add(order)
        self._keep_expiry(r, terms)
        step.book = book.process(r, terms, replaced)

    def _keep_expiry(self, r: Record, terms: Terms) -> None:
        if terms.expire_ns and r.time_in_force == TimeInForce.GTD:
            self.timers.expire(r.sequence, terms.expire_ns)

    def _apply_cancel(self, r: Record, step: Step) -> None:
        """A cancel by a client or by the exchange."""
        order = self.ledger.orders.get(r.order_id)
        if order is None or not order.pending:
            step.book = self.books[r.market].process(r)
            return
        others = [o for o in self.ledger.lists[order.list_id] if o is not order]
        self.ledger.end(order.order_id)
        self.line.add(others, Reason.LIST_ENDED)
        self.books[r.market].freed = 0
        step.ledger.append(of_pending(r.sequence, EventKind.CANCELED, order, r.hold))

    def _apply_list(self, head: Record, orders: list[LiveOrder], steps: list[Step]) -> None:
        """The legs of an ORDER_LIST or of a RELEASE."""
        legs = [step.record for step in steps]
        terms = together.terms_of(head, legs)
        placed = [order for order in orders if not order.pending]
        for r, its in zip(legs[: len(placed)], terms, strict=False):
            self._keep_expiry(r, its)
        book = self.books[head.market]
        if len(placed) == 2:
            self.ledger.add_pair(placed[0], placed[1])
            pair = book.process_pair(list(zip(legs, terms, strict=False))[:2])
            steps[0].book, steps[1].book = pair
        else:
            self.ledger.add(placed[0])
            steps[0].book = book.process(legs[0], terms[0])
        for order, step in list(zip(orders, steps, strict=True))[len(placed) :]:
            self.ledger.add_pending(order)
            step.ledger.append(of_pending(step.record.sequence, EventKind.ACCEPTED, order, 0))

    def _as_logged(self, r: Record, session: int) -> LiveOrder:
        """The order of a record that should have been refused."""
        market = self.definitions.markets[r.market]
        return decide.live_order(r, session, market, r.price_ticks, r.hold)

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

    def _engine(self, group: list[Record], steps: list[Step]) -> None:
        r = group[0]
        if r.reject:
            self._differ(r, f"the engine's own record is refused: {describe(r.reject)}")
        elif r.kind == Kind.CANCEL_ORDER:
            self._engine_cancel(r, steps[0])
        elif r.kind == Kind.RELEASE:
            self._release(group, steps)
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
        elif r.kind == Kind.LOST:
            if r.order_id == r.sequence:
                self._pass_over()
        elif r.kind not in (Kind.STOP, Kind.TAKE_OVER):
            self._differ(r, "the engine writes no such record")

    def _pass_over(self) -> None:
        """Numbers of trades may have been given out before, in what was lost."""
        for book in self.books.values():
            book.trades += LOST_NUMBERS
        for market, trades in self.trades.items():
            if trades and market not in self.books:
                self.trades[market] += LOST_NUMBERS

    def _engine_cancel(self, r: Record, step: Step) -> None:
        if not self.line.waiting or not self.line.waiting[0].reason:
            self._differ(r, f"order {r.order_id} is canceled, and that is not what stands in line")
        else:
            order = self.ledger.orders[self.line.waiting[0].number]
            self._expect(
                r,
                order_id=order.order_id,
                hold=self.line.next().reason,
                account=order.account,
                market=order.market.number,
                side=order.side,
                flags=Flag.OF_PENDING if order.pending else 0,
            )
        self._apply_cancel(r, step)

    def _release(self, group: list[Record], steps: list[Step]) -> None:
        """The pending orders of a list end, and new ones come in their place."""
        head, legs = group[0], group[1:]
        if not self.line.waiting or self.line.waiting[0] != Task(head.list_id):
            self._differ(head, f"list {head.list_id} is released, and that is not next in line")
        else:
            self.line.next()
        pending = list(self.ledger.lists.get(head.list_id, []))
        self._compare_release(head, legs, pending)
        if len(legs) != len(pending) or not legs:
            return
        decisions = together.release(self, head, legs, pending)
        for order in pending:
            self.ledger.end(order.order_id)
        for step, decision in zip(steps[1:], decisions, strict=True):
            r = step.record
            if r.reject != decision.reject:
                self._differ(
                    r,
                    f"reject: expected {describe(decision.reject)}, found {describe(r.reject)}",
                )
            elif not r.reject:
                self._expect(r, **decision.stamps)
            if r.reject:
                step.ledger.append(refusal(r))
        if not any(r.reject for r in legs):
            orders = [
                decision.order or self._as_logged(r, before.session)
                for r, decision, before in zip(legs, decisions, pending, strict=True)
            ]
            self._apply_list(head, orders, steps[1:])

    def _compare_release(self, head: Record, legs: list[Record], pending: list[LiveOrder]) -> None:
        """A release says of the orders what the list said of them."""
        if len(legs) != len(pending) or not legs:
            self._differ(head, f"{len(legs)} orders are released, and {len(pending)} are pending")
            return
        first = pending[0]
        sent = [order.pending for order in pending if order.pending]
        display = [0, 0, 0]
        for i, leg in enumerate(sent):
            display[i] = leg.terms.display
        self._expect(
            head,
            account=first.account,
            market=first.market.number,
            list_type=ListType.OCO if len(legs) == 2 else 0,
            expire_ns=max(leg.terms.expire_ns for leg in sent),
        )
        if list(head.display_lots) != display:
            self._differ(head, f"display_lots: expected {display}, found {head.display_lots}")
        if head.client_list_id or head.reserved or any(head.reserved_bytes):
            self._differ(head, "has fields that a release has not")
        for r, leg in zip(legs, sent, strict=True):
            price = ("price_ticks",) if r.order_type in decide.LIMIT_TYPES else ()
            for name in (*AS_SENT, *price):
                expected, found = getattr(leg.record, name), getattr(r, name)
                if expected != found:
                    self._differ(r, f"{name}: expected {expected}, found {found}")

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


def of_pending(sequence: int, kind: int, order: LiveOrder, reason: int) -> Event:
    """The ledger's ACCEPTED or CANCELED of a pending order."""
    return Event(
        sequence=sequence,
        order_id=order.order_id,
        price_ticks=order.price,
        quantity_lots=order.leaves,
        leaves_lots=order.leaves if kind == EventKind.ACCEPTED else 0,
        market=order.market.number,
        account=order.account,
        reason=reason,
        kind=kind,
        side=order.side,
        flags=EventFlag.PENDING | EventFlag.LAST,
    )


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
    auditor.end()
    return auditor
