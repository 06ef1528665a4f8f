"""Who is told what: the reports of every session.

Reports of an order go to the session that entered it, to the sender of the command if that was
another one, and to the sessions that subscribed to the account; money to the sender and to the
subscribers; anything else to the sender.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from matchbox.shm.reasons import Reason
from matchbox.shm.records import Assurance, EventFlag, EventKind, Kind, ReportFlag
from matchbox.tools.audit.exchange import Step
from matchbox.tools.audit.records import MONEY, ORDERS, Event, Record, Report

MEETINGS = (EventKind.TRADE, EventKind.PREVENTED)
NUMBERED = (
    Kind.ADD_ASSET,
    Kind.ADD_ACCOUNT,
    Kind.ADD_MARKET,
    Kind.ATTACH_SESSION,
    Kind.DETACH_SESSION,
)


@dataclass
class Route:
    """What has to be known of an order to tell of it."""

    session: int
    account: int
    market: int
    side: int
    client_order_id: bytes
    released: int = 0  # the id that it had while it was pending


@dataclass
class Reporter:
    """Steps of the auditor in, reports by session out."""

    orders: dict[int, Route] = field(default_factory=dict)
    attached: dict[int, int] = field(default_factory=dict)  # session -> last position answered
    assurances: dict[int, int] = field(default_factory=dict)  # of those that are attached
    subscribers: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    told: dict[int, list[Report]] = field(default_factory=lambda: defaultdict(list))
    pending: list[int] = field(default_factory=list)  # those that are being released

    def take(self, session: int) -> list[Report]:
        """The reports of a session since the last time."""
        return self.told.pop(session, [])

    def step(self, step: Step) -> None:
        r = step.record
        if not r.reject or self._is_released(r):
            self._begin(r)
        for event in (*step.book, *step.ledger):
            if event.kind == EventKind.BALANCE:
                self._balance(r, event)
            elif event.kind == EventKind.REJECTED:
                self._refused(r, event)
            else:
                self._event(r, event)
        if r.session and not step.book and not step.ledger:
            self._done(r)
        if r.session in self.attached:
            self.attached[r.session] = r.session_position

    def _tell(self, session: int, report: Report) -> None:
        if session in self.attached:
            self.told[session].append(report._replace(assurance=self.assurances[session]))

    def _report(self, r: Record, kind: int) -> Report:
        return Report(r.sequence, r.timestamp_ns, kind=kind)

    # ---- sessions

    def _begin(self, r: Record) -> None:
        """What a record means before its events."""
        if r.kind == Kind.NEW_ORDER:
            route = Route(r.session, r.account, r.market, r.side, r.client_order_id)
            if self._is_released(r):
                route.released = self.pending.pop(0)
                route.session = self.orders.pop(route.released).session
            self.orders[r.sequence] = route
        elif r.kind == Kind.RELEASE:
            self.pending = [r.list_id + 2, r.list_id + 3]
        elif r.kind == Kind.ATTACH_SESSION:
            self.attached[r.id] = r.position
            self.assurances[r.id] = r.assurance or Assurance.MATCHED
            attached = self._report(r, EventKind.ATTACHED)
            self._tell(
                r.id,
                attached._replace(account=r.account, trade_id=r.position, client_order_id=r.name),
            )
        elif r.kind == Kind.DETACH_SESSION:
            self._detach(r, r.id, r.reason)
        elif r.kind == Kind.LOGOUT:
            self._detach(r, r.session, Reason.LOGGED_OUT)
        elif r.kind == Kind.SUBSCRIBE:
            self.subscribers[r.account].add(r.session)
        elif r.kind == Kind.UNSUBSCRIBE:
            self.subscribers[r.account].discard(r.session)
        elif r.kind in (Kind.START, Kind.STOP):
            for session in list(self.attached):
                self._detach(r, session, Reason.ENGINE_STOPPED)

    def _detach(self, r: Record, session: int, reason: int) -> None:
        answered = self.attached.get(session, 0)
        last = self._report(r, EventKind.DETACHED)
        self._tell(session, last._replace(reason=reason, trade_id=answered))
        self.attached.pop(session, None)
        for sessions in self.subscribers.values():
            sessions.discard(session)

    # ---- orders

    def _event(self, r: Record, event: Event) -> None:
        if event.kind == EventKind.RESTED:
            return
        if event.kind in MEETINGS:
            self._order_event(r, event, event.maker_order_id, as_maker=True)
            self._order_event(r, event, event.order_id)
            ended = [(event.maker_order_id, event.maker_leaves_lots)]
        else:
            self._order_event(r, event, event.order_id)
            ended = []
        for order_id, leaves in (*ended, (event.order_id, event.leaves_lots)):
            if leaves == 0:
                del self.orders[order_id]

    def _order_event(self, r: Record, event: Event, order_id: int, as_maker: bool = False) -> None:
        """One event of one order, to everybody whom it concerns."""
        order = self.orders[order_id]
        named = r.sequence if r.kind == Kind.NEW_ORDER else r.order_id
        answers = event.kind not in MEETINGS and order_id == named
        report = self._report(r, event.kind)._replace(
            order_id=order_id,
            trade_id=event.trade_id,
            price_ticks=event.price_ticks,
            quantity_lots=event.quantity_lots,
            leaves_lots=event.maker_leaves_lots if as_maker else event.leaves_lots,
            cumulative_lots=event.maker_cumulative_lots if as_maker else event.cumulative_lots,
            fee=event.maker_fee if as_maker else event.fee,
            index=event.index,
            account=order.account,
            market=order.market,
            reason=event.reason,
            side=order.side,
            flags=ReportFlag.AS_MAKER if as_maker else 0,
            client_order_id=order.client_order_id,
        )
        own = answers and r.session == order.session
        if event.flags & EventFlag.PENDING:
            report = report._replace(flags=ReportFlag.WAS_PENDING)
        if order.released and event.kind == EventKind.ACCEPTED:
            report = report._replace(flags=ReportFlag.RELEASED, trade_id=order.released)
        answer = report._replace(trade_id=r.session_position)
        self._tell(order.session, answer if own else report)
        told = {order.session}
        subscribed = report.flags | ReportFlag.SUBSCRIBED
        if answers and r.session not in told:
            self._tell(r.session, answer._replace(flags=subscribed))
            told.add(r.session)
        for session in self.subscribers[order.account] - told:
            self._tell(session, report._replace(flags=subscribed))

    def _is_released(self, r: Record) -> bool:
        return bool(r.kind == Kind.NEW_ORDER and r.session == 0)

    def _refused(self, r: Record, event: Event) -> None:
        order = self.orders.pop(r.sequence, None) if r.kind == Kind.NEW_ORDER else None
        report = self._report(r, EventKind.REJECTED)._replace(
            trade_id=r.session_position, index=event.index, reason=event.reason
        )
        if r.kind in ORDERS:
            report = report._replace(
                order_id=r.sequence if r.kind == Kind.NEW_ORDER else r.order_id,
                price_ticks=r.price_ticks,
                quantity_lots=r.quantity_lots,
                account=r.account,
                market=r.market,
                side=r.side,
                client_order_id=r.client_order_id,
            )
            if order and order.released:
                self._release_refused(order, report)
                return
        elif r.kind in MONEY:
            report = report._replace(account=r.account, market=r.asset, client_order_id=r.reference)
        self._tell(r.session, report)

    def _release_refused(self, order: Route, report: Report) -> None:
        """An order that was pending is gone: whoever knew of it is told."""
        report = report._replace(flags=ReportFlag.RELEASED, trade_id=order.released)
        self._tell(order.session, report)
        report = report._replace(flags=ReportFlag.RELEASED | ReportFlag.SUBSCRIBED)
        for session in self.subscribers[order.account] - {order.session}:
            self._tell(session, report)

    # ---- money, and everything else

    def _balance(self, r: Record, event: Event) -> None:
        report = self._report(r, EventKind.BALANCE)._replace(
            quantity_lots=event.quantity_lots,
            leaves_lots=event.leaves_lots,
            cumulative_lots=event.cumulative_lots,
            index=event.index,
            account=event.account,
            market=event.market,
            client_order_id=r.reference,
        )
        self._tell(r.session, report._replace(trade_id=r.session_position))
        for session in self.subscribers[event.account] - {r.session}:
            self._tell(session, report._replace(flags=ReportFlag.SUBSCRIBED))

    def _done(self, r: Record) -> None:
        numbered = r.kind in NUMBERED
        self._tell(
            r.session,
            self._report(r, EventKind.DONE)._replace(
                order_id=r.named_id if numbered else 0,
                trade_id=r.session_position,
                quantity_lots=r.position if r.kind == Kind.ATTACH_SESSION else 0,
                account=r.named_account,
                market=0 if numbered else r.named_market,
                client_order_id=r.text,
            ),
        )
