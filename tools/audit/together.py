"""Records that stand together in the log: which they are, and what is decided about them as one.

    ORDER_TERMS, NEW_ORDER                      an order and what it needs besides
    CANCEL_ORDER, [ORDER_TERMS,] NEW_ORDER      cancel and replace
    ORDER_LIST, 2 or 3 NEW_ORDER                a list of orders
    RELEASE, 1 or 2 NEW_ORDER                   the pending orders of a list, placed by the exchange

A NEW_ORDER says in has_terms that it belongs to the records before it; refused ones do, too. What
could stand together and does not was not in the ring at once: then each is decided alone.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matchbox.shm.reasons import Reason
from matchbox.shm.records import Belongs, Flag, Kind, ListType, OrderType, Side, TimeInForce
from matchbox.tools.audit import decide
from matchbox.tools.audit.decide import Decision
from matchbox.tools.audit.definitions import Market, Session
from matchbox.tools.audit.money import LiveOrder, Pending
from matchbox.tools.audit.records import LISTS, Record, Terms, printable

if TYPE_CHECKING:
    from matchbox.tools.audit.exchange import Auditor

LEGS: dict[int, int] = {ListType.OCO: 2, ListType.OTO: 2, ListType.OTOCO: 3}
FIRST = (OrderType.LIMIT, OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT_LIMIT)
SECOND = (OrderType.STOP_LOSS, OrderType.STOP_LOSS_LIMIT)


# ---- which records stand together


def first_group(records: list[Record], more: bool) -> list[Record]:
    """The records at the front that stand together; none while that cannot be said.

    `more`: others may follow.
    """
    head = records[0]
    if head.kind in LISTS:
        wanted, belongs = head.legs, Belongs.IN_LIST | Belongs.IS_PENDING
    elif replaces(head):
        terms = len(records) > 1 and records[1].kind == Kind.ORDER_TERMS
        wanted, belongs = 1 + terms, Belongs.REPLACES
    elif head.kind == Kind.ORDER_TERMS:
        wanted, belongs = 1, Belongs.HAS_TERMS
    else:
        return [head]
    if len(records) <= wanted and more:
        return []
    group = records[: wanted + 1]
    kinds = [Kind.NEW_ORDER] * wanted
    if replaces(head) and wanted == 2:
        kinds[0] = Kind.ORDER_TERMS
    orders = [r for r in group[1:] if r.kind == Kind.NEW_ORDER]
    good = (
        [r.kind for r in group[1:]] == kinds
        and all(map(follows, group, group[1:]))
        # What is accepted cannot be alone.
        and (head.reject == 0 or all(r.has_terms & belongs for r in orders))
    )
    return group if good else [head]


def replaces(r: Record) -> bool:
    return bool(r.kind == Kind.CANCEL_ORDER and r.session and r.flags & Flag.REPLACE)


def follows(before: Record, r: Record) -> bool:
    """Were two records of the log next to each other in their session's ring?"""
    position = before.session_position + (before.session != 0)
    return bool(r.session == before.session and r.session_position == position)


def belongs(group: list[Record]) -> Sequence[int]:
    """What has_terms is to say, by record."""
    head = group[0]
    if head.kind == Kind.ORDER_LIST and head.list_type in LEGS:
        return [0, *belongs_in(head.list_type, len(group) - 1)]
    if head.kind in LISTS:
        return [0] + [Belongs.IN_LIST] * (len(group) - 1)
    if replaces(head):
        terms = Belongs.HAS_TERMS if len(group) == 3 else 0
        return [*[0] * (len(group) - 1), Belongs.REPLACES | terms] if len(group) > 1 else [0]
    return [0, Belongs.HAS_TERMS] if len(group) == 2 else [0]


def belongs_in(list_type: int, legs: int) -> Sequence[int]:
    placed = 2 if list_type == ListType.OCO else 1
    return ([Belongs.IN_LIST] * placed + [Belongs.IS_PENDING] * (legs - placed))[:legs]


# ---- what is decided


def decide_group(a: "Auditor", group: list[Record], session: Session) -> list[Decision]:
    """The decision about each of the records."""
    head = group[0]
    if head.kind == Kind.ORDER_LIST:
        return order_list(a, head, group[1:], session)
    if head.kind == Kind.ORDER_TERMS:
        if len(group) == 1:
            return [Decision(decide.check_trader(a, head, session) or Reason.BAD_LEGS)]
        decision = decide.decide(a, group[1], session, head)
        return [Decision(decision.reject), decision]
    if len(group) > 1:
        return replace(a, group, session)
    return [decide.decide(a, head, session, None)]


def replace(a: "Auditor", group: list[Record], session: Session) -> list[Decision]:
    """A cancel, and the order that comes in the canceled one's place."""
    head, new = group[0], group[-1]
    terms = group[1] if len(group) == 3 else None
    reason = decide.check_trader(a, new, session)
    if not reason and (
        not new.flags & Flag.LEG
        or head.account != new.account
        or head.market not in (0, new.market)
        or (terms and (terms.account, terms.market) != (new.account, new.market))
    ):
        reason = Reason.BAD_LEGS
    if reason:
        return _refused(group, reason)
    market = a.definitions.markets.get(new.market)
    if market is None:
        return _refused(group, Reason.UNKNOWN_MARKET)
    reason = decide.check_order(new, Terms.of(terms), market)
    if reason:
        return _refused(group, reason)
    canceled = decide.cancel(a, head, session, market.number)
    old = None if canceled.reject else canceled.order
    if old is None and not head.flags & Flag.ALLOW_FAILURE:
        decision = Decision(Reason.CANCEL_FAILED)
    else:
        gone = [old] if old else []
        reason = decide.who_may(a, new, market) or decide.room(a, [new], market, gone)
        more = would_free(a, old, new) if old else 0
        decision = (
            Decision(reason) if reason else decide.money(a, new, session.number, market, more=more)
        )
    canceled.stamps["quantity_lots"] = decision.order.lacking if decision.order else 0
    return [canceled, *_refused(group[1:-1], decision.reject), decision]


def would_free(a: "Auditor", old: LiveOrder, new: Record) -> int:
    """What an order that is to be replaced counts for, as it is settled."""
    if old.side != new.side or old.order_type == OrderType.MARKET or a.ledger.in_list(old):
        return 0
    return old.value(old.price, old.leaves)


def _refused(records: list[Record], reason: int) -> list[Decision]:
    """All of them for one reason, or none for 0."""
    return [Decision(reason) for _ in records]


def order_list(a: "Auditor", head: Record, legs: list[Record], session: Session) -> list[Decision]:
    """The first record of a list, and its legs: all are taken, or all refused."""
    reason = decide.check_trader(a, head, session)
    if not reason and (
        len(legs) != LEGS.get(head.list_type)
        or any((r.account, r.market) != (head.account, head.market) for r in legs)
        or any(not r.flags & Flag.LEG for r in legs)
    ):
        reason = Reason.BAD_LEGS
    if reason:
        return _refused([head, *legs], reason)
    market = a.definitions.markets.get(head.market)
    if market is None:
        return _refused([head, *legs], Reason.UNKNOWN_MARKET)
    placed = 2 if head.list_type == ListType.OCO else 1
    terms = terms_of(head, legs)
    reason = _check_head(head, legs)
    for i, r in enumerate(legs):
        reason = reason or decide.check_order(r, terms[i], market, stamped=i < placed)
    if not reason and not _is_list(head.list_type, legs):
        reason = Reason.BAD_LEGS
    if reason:
        return _refused([head, *legs], reason)
    decisions = place(a, legs[:placed], legs, market, [session.number] * placed)
    if decisions[0].reject:
        return _refused([head, *legs], decisions[0].reject)
    for r, its in zip(legs[placed:], terms[placed:], strict=True):
        order = decide.live_order(r, session.number, market, r.price_ticks, 0)
        order.pending = Pending(r, its)
        decisions.append(Decision(0, {"hold": 0, "maker_fee_ppm": 0, "taker_fee_ppm": 0}, order))
    for decision in decisions:
        if decision.order and head.list_type != ListType.OCO:
            decision.order.list_id = head.sequence
    return [Decision(0), *decisions]


def release(
    a: "Auditor", head: Record, legs: list[Record], pending: list[LiveOrder]
) -> list[Decision]:
    """The pending orders of a list are placed: one, or a pair of which both are taken or none."""
    market = a.definitions.markets[head.market]
    terms = terms_of(head, legs)
    for r, its in zip(legs, terms, strict=True):
        reason = decide.check_order(r, its, market)
        if reason:
            return _refused(legs, reason)
    return place(a, legs, legs, market, [order.session for order in pending], pending)


def place(
    a: "Auditor",
    placed: list[Record],
    legs: list[Record],
    market: Market,
    sessions: list[int],
    gone: Sequence[LiveOrder] = (),
) -> list[Decision]:
    """The legs that are placed now, one or a pair, each of them right by itself."""
    reasons = [decide.who_may(a, r, market) for r in placed]
    reason = next(filter(None, reasons), 0) or decide.room(a, legs, market, gone)
    if reason:
        return _refused(placed, reason)
    decisions: list[Decision] = []
    already = 0
    for r, session in zip(placed, sessions, strict=True):
        decision = decide.money(a, r, session, market, already=already)
        if decision.reject:
            return _refused(placed, decision.reject)
        already = decision.stamps["hold"]
        decisions.append(decision)
    return decisions


def terms_of(head: Record, legs: list[Record]) -> list[Terms]:
    """What the first record of a list says of each leg. A time without a GTD leg is the last's."""
    gtd = [r.time_in_force == TimeInForce.GTD for r in legs]
    if not any(gtd):
        gtd[-1] = True
    return [Terms(head.display_lots[i], head.expire_ns if gtd[i] else 0) for i in range(len(legs))]


def _check_head(head: Record, legs: list[Record]) -> int:
    if head.reserved or any(head.reserved_bytes) or any(head.display_lots[len(legs) :]):
        return Reason.BAD_FIELD
    return 0 if printable(head.client_list_id, 0) else Reason.BAD_CLIENT_ORDER_ID


def _is_list(list_type: int, legs: list[Record]) -> bool:
    """Do the legs make such a list?"""
    if list_type == ListType.OCO:
        return is_pair(*legs)
    if legs[0].order_type != OrderType.LIMIT:
        return False
    return list_type == ListType.OTO or is_pair(*legs[1:])


def is_pair(first: Record, second: Record) -> bool:
    if (first.side, first.quantity_lots) != (second.side, second.quantity_lots):
        return False
    if first.order_type not in FIRST or second.order_type not in SECOND:
        return False
    limit = first.order_type == OrderType.LIMIT
    if limit and not first.flags & Flag.POST_ONLY:
        return False
    price, other = first.price_ticks if limit else first.trigger_ticks, second.trigger_ticks
    if not price or not other:
        return True
    return bool(price > other if first.side == Side.SELL else price < other)
