"""What the sequencer decides: whether a record is accepted, and what it writes into it.

Each check gives the first reject code that applies, or 0. The order of checks is the document's:
who sends it, the command alone, who may, room, money; the book's own checks are in books.py, and
what concerns several orders at once in together.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from matchbox.shm.reasons import Reason
from matchbox.shm.records import (
    FEE_ACCOUNT,
    FEE_TIERS,
    MAX_ASSET_UNITS,
    TIER_BY_VOLUME,
    AccountState,
    Assurance,
    Capability,
    Flag,
    Kind,
    MarketState,
    OrderType,
    Rule,
    SelfTrade,
    Side,
    TimeInForce,
)
from matchbox.tools.audit.definitions import Market, Session
from matchbox.tools.audit.money import Amend, LiveOrder
from matchbox.tools.audit.records import (
    MAX_INT64,
    Record,
    Terms,
    above,
    below,
    ceil_div,
    printable,
)
from matchbox.tools.audit.triggers import has_trigger

if TYPE_CHECKING:
    from matchbox.tools.audit.exchange import Auditor

GOOD_TILL = (TimeInForce.GTC, TimeInForce.GTD)
LIMIT_TYPES = (OrderType.LIMIT, OrderType.STOP_LOSS_LIMIT, OrderType.TAKE_PROFIT_LIMIT)
TIMES_IN_FORCE: dict[int, tuple[TimeInForce, ...]] = {
    OrderType.LIMIT: tuple(TimeInForce),
    OrderType.MARKET: (TimeInForce.IOC, TimeInForce.FOK),
    OrderType.STOP_LOSS: (TimeInForce.IOC,),
    OrderType.TAKE_PROFIT: (TimeInForce.IOC,),
    OrderType.STOP_LOSS_LIMIT: tuple(TimeInForce),
    OrderType.TAKE_PROFIT_LIMIT: tuple(TimeInForce),
}
MAX_TRAILING = 2_000
MAX_SLICES = 100
MAX_PPM = 30_000
MAX_TIMEOUT_MS = 2**31 - 1
# As int: the complement of an IntFlag leaves out what it does not know.
ACCOUNT_RULES = int(Rule.STATE | Rule.TIER | Rule.CANCEL)
MARKET_RULES = int(
    Rule.STATE
    | Rule.NOTIONAL
    | Rule.REFERENCE
    | Rule.BANDS
    | Rule.PROTECTION
    | Rule.ORDERS
    | Rule.CANCEL
)


@dataclass
class Decision:
    """A reject code, or 0 and what the sequencer stamps; the order concerned, if it is known."""

    reject: int
    stamps: dict[str, int] = field(default_factory=dict)
    order: LiveOrder | None = None
    amend: Amend | None = None


def decide(a: "Auditor", r: Record, session: Session, terms: Record | None) -> Decision:
    """The decision about a client's record. `terms`: the ORDER_TERMS that came before an order."""
    if r.kind == Kind.NEW_ORDER:
        return _new(a, r, session, terms)
    if r.kind == Kind.CANCEL_ORDER:
        reason = check_trader(a, r, session)
        return Decision(reason) if reason else cancel(a, r, session)
    if r.kind == Kind.AMEND_ORDER:
        return _amend(a, r, session)
    checks = {
        Kind.SUBSCRIBE: check_account,
        Kind.UNSUBSCRIBE: check_account,
        Kind.LOGOUT: lambda *_: 0,
        Kind.MASS_CANCEL: _mass_cancel,
        Kind.COUNTDOWN: _countdown,
        Kind.TRANSFER: _transfer,
        Kind.REQUEST_WITHDRAWAL: _request,
    }
    if r.kind in checks:
        return Decision(checks[r.kind](a, r, session))
    if r.kind == Kind.CANCEL_WITHDRAWAL:
        return _end_withdrawal(a, r, session)
    return _operator(a, r, session)


# ---- who sends it


def may(session: Session, capability: int) -> bool:
    return bool(session.capabilities & capability)


def check_account(a: "Auditor", r: Record, session: Session) -> int:
    """May the session name this account, and is there one?"""
    accounts = a.definitions.accounts
    if r.account != session.account and not may(session, Capability.NAME_ACCOUNTS):
        account = accounts.get(r.account)
        if account is None or account.parent != session.account or session.account == 0:
            return Reason.ACCOUNT_NOT_PERMITTED
    return 0 if r.account in accounts else Reason.UNKNOWN_ACCOUNT


def check_trader(a: "Auditor", r: Record, session: Session) -> int:
    if not may(session, Capability.TRADE):
        return Reason.NOT_PERMITTED
    return check_account(a, r, session)


def _frozen(a: "Auditor", r: Record) -> bool:
    return a.definitions.accounts[r.account].state == AccountState.FROZEN


# ---- orders alone: what needs only the record and the market's definition


def _check_price(market: Market, price: int) -> int:
    if not 1 <= price <= market.max_price:
        return Reason.BAD_PRICE
    return Reason.PRICE_OFF_TICK if price % market.price_step else 0


def _check_quantity(market: Market, quantity: int, minimum: int) -> int:
    if not minimum <= quantity <= market.max_quantity:
        return Reason.BAD_QUANTITY
    return Reason.QUANTITY_OFF_LOT if quantity % market.quantity_step else 0


def _check_client_id(r: Record) -> int:
    return 0 if printable(r.client_order_id, 0) else Reason.BAD_CLIENT_ORDER_ID


def check_order(r: Record, terms: Terms, market: Market, stamped: bool = True) -> int:
    """The order alone. `stamped`: in the record of a market order stands its bound, perhaps."""
    if r.side not in tuple(Side):
        return Reason.BAD_SIDE
    if r.order_type not in tuple(OrderType):
        return Reason.BAD_ORDER_TYPE
    if r.time_in_force not in TIMES_IN_FORCE[r.order_type]:
        return Reason.BAD_TIME_IN_FORCE
    if r.flags & ~int(Flag.LEG) not in _flags_allowed(r):
        return Reason.BAD_FLAGS
    if r.self_trade not in tuple(SelfTrade):
        return Reason.BAD_SELF_TRADE
    return (
        _check_order_price(r, market, stamped)
        or _check_trigger(r, market)
        or _check_order_quantity(r, market)
        or _check_terms(r, terms, market)
        or _check_notional(r, market)
        or (Reason.BAD_FIELD if r.reserved or terms.reserved else 0)
        or _check_client_id(r)
    )


def _flags_allowed(r: Record) -> tuple[int, ...]:
    if r.order_type == OrderType.LIMIT and r.time_in_force in GOOD_TILL:
        return 0, Flag.POST_ONLY
    if r.order_type == OrderType.MARKET and r.time_in_force == TimeInForce.IOC:
        return 0, Flag.QUOTE_AMOUNT
    return (0,)


def _check_order_price(r: Record, market: Market, stamped: bool) -> int:
    if r.order_type in LIMIT_TYPES:
        return _check_price(market, r.price_ticks)
    # In the record of a market order stands its bound, once it has got that far.
    wrong = r.reject == Reason.BAD_PRICE or not stamped
    return Reason.BAD_PRICE if r.price_ticks and wrong else 0


def _check_trigger(r: Record, market: Market) -> int:
    if not has_trigger(r.order_type):
        return Reason.BAD_TRIGGER if r.trigger_ticks or r.trailing_bips else 0
    least = 0 if r.trailing_bips else 1
    if not least <= r.trigger_ticks <= market.max_price or r.trailing_bips > MAX_TRAILING:
        return Reason.BAD_TRIGGER
    return Reason.PRICE_OFF_TICK if r.trigger_ticks % market.price_step else 0


def _check_order_quantity(r: Record, market: Market) -> int:
    if r.flags & Flag.QUOTE_AMOUNT:
        return 0 if 1 <= r.quantity_lots <= MAX_ASSET_UNITS else Reason.BAD_QUANTITY
    return _check_quantity(market, r.quantity_lots, market.min_quantity)


def _check_terms(r: Record, terms: Terms, market: Market) -> int:
    display, expire = terms.display, terms.expire_ns
    good_till = r.time_in_force in GOOD_TILL
    if display and not (
        r.order_type in LIMIT_TYPES
        and good_till
        and 1 <= display < r.quantity_lots
        and display % market.quantity_step == 0
        and r.quantity_lots <= MAX_SLICES * display
    ):
        return Reason.BAD_DISPLAY
    if (r.time_in_force == TimeInForce.GTD) != (expire != 0):
        return Reason.BAD_EXPIRY
    return Reason.BAD_EXPIRY if expire and expire <= r.timestamp_ns else 0


def _check_notional(r: Record, market: Market) -> int:
    if r.flags & Flag.QUOTE_AMOUNT:
        return Reason.BELOW_MIN_NOTIONAL if r.quantity_lots < market.min_notional else 0
    if r.order_type not in LIMIT_TYPES:
        return 0
    notional = r.price_ticks * r.quantity_lots * market.notional_units
    if notional > MAX_INT64:
        return Reason.NOTIONAL_OVERFLOW
    return Reason.BELOW_MIN_NOTIONAL if notional < market.min_notional else 0


# ---- new orders


def _new(a: "Auditor", r: Record, session: Session, terms: Record | None) -> Decision:
    reason = check_trader(a, r, session)
    if reason:
        return Decision(reason)
    if terms is not None and (terms.account, terms.market) != (r.account, r.market):
        return Decision(Reason.BAD_LEGS)
    if r.flags & Flag.LEG:  # and no record before claims it
        return Decision(Reason.BAD_LEGS)
    market = a.definitions.markets.get(r.market)
    if market is None:
        return Decision(Reason.UNKNOWN_MARKET)
    reason = check_order(r, Terms.of(terms), market)
    reason = reason or who_may(a, r, market) or room(a, [r], market)
    return Decision(reason) if reason else money(a, r, session.number, market)


def who_may(a: "Auditor", r: Record, market: Market) -> int:
    """The states of account and market."""
    state = a.definitions.accounts[r.account].state
    if state != AccountState.ACTIVE:
        frozen = state == AccountState.FROZEN
        return Reason.ACCOUNT_FROZEN if frozen else Reason.ACCOUNT_CANCEL_ONLY
    if market.state == MarketState.HALTED:
        return Reason.MARKET_HALTED
    if market.state == MarketState.CANCEL_ONLY:
        return Reason.MARKET_CANCEL_ONLY
    takes = r.price_ticks if r.kind == Kind.AMEND_ORDER else not r.flags & Flag.POST_ONLY
    return Reason.MARKET_POST_ONLY if market.state == MarketState.POST_ONLY and takes else 0


def room(a: "Auditor", orders: list[Record], market: Market, gone: Sequence[LiveOrder] = ()) -> int:
    """For orders that come together; those in whose place they come do not count any more."""
    names = [r.client_order_id for r in orders if r.client_order_id]
    account = orders[0].account
    found = (a.ledger.find(account, 0, name) for name in names)
    if len(set(names)) < len(names) or any(order not in (None, *gone) for order in found):
        return Reason.DUPLICATE_CLIENT_ORDER_ID
    more = len(orders) - len(gone)
    counts = a.ledger.counts
    if counts[market.number, 0] + more > market.max_orders:
        return Reason.TOO_MANY_ORDERS
    if market.account_orders and counts[market.number, account] + more > market.account_orders:
        return Reason.TOO_MANY_ACCOUNT_ORDERS
    return 0


def money(
    a: "Auditor",
    r: Record,
    session: int,
    market: Market,
    *,
    more: int = 0,
    already: int = 0,
) -> Decision:
    """The bound, what is held, the rates; the order, if there is enough.

    `more`: what the order that it replaces would set free. `already`: what the first of its pair
    holds, of which this one makes use.
    """
    price: int | None = r.price_ticks
    if r.order_type not in LIMIT_TYPES:
        price = bound(r, market)
        if price is None:
            return Decision(Reason.NO_REFERENCE_PRICE)
    assert price is not None
    asset = market.quote if r.side == Side.BUY else market.base
    free = a.ledger.free(r.account, asset)
    hold = hold_for(r, market, price, free + more)
    if not 0 < hold <= free + more:
        return Decision(Reason.INSUFFICIENT_BALANCE)
    hold = max(0, hold - already)
    order = live_order(r, session, market, price, hold)
    order.lacking = hold - min(hold, free - already)
    order.hold -= order.lacking
    maker, taker = a.rates(r.account, market.number, r.timestamp_ns)
    stamps = {
        "price_ticks": price,
        "hold": hold,
        "maker_fee_ppm": maker,
        "taker_fee_ppm": taker,
    }
    return Decision(0, stamps, order)


def live_order(r: Record, session: int, market: Market, price: int, hold: int) -> LiveOrder:
    """The order of a NEW_ORDER record; `price` is its limit or its bound."""
    return LiveOrder(
        order_id=r.sequence,
        account=r.account,
        market=market,
        session=session,
        side=r.side,
        order_type=r.order_type,
        market_order=r.order_type not in LIMIT_TYPES,
        budget=spends(r),
        price=price,
        leaves=r.quantity_lots,
        hold=hold,
        client_order_id=r.client_order_id,
    )


def spends(r: Record) -> bool:
    """Does the order keep what is held for it until it ends, less what it spent?"""
    by_quote = bool(r.flags & Flag.QUOTE_AMOUNT)
    return r.order_type == OrderType.MARKET and (by_quote or r.side == Side.BUY)


def bound(r: Record, market: Market) -> int | None:
    """The worst price for a market order; 0: any. None: a trailing buy has nothing to go by."""
    start = r.trigger_ticks if has_trigger(r.order_type) else market.last
    if has_trigger(r.order_type) and r.trailing_bips:
        start = start or market.last
        if start is None:
            return None if r.side == Side.BUY else 0
        move = above if r.side == Side.BUY else below
        start = move(start, r.trailing_bips)
    if start is None:
        return 0
    if r.side == Side.BUY:
        return min(above(start, market.protection), market.max_price)
    return max(below(start, market.protection), 1)


def hold_for(r: Record, market: Market, price: int, free: int) -> int:
    """What is held for a new order, or may be spent; `price` is its limit or its bound (0: none).

    More than is free means that there is not enough; so does 0.
    """
    if r.side == Side.BUY:
        if r.flags & Flag.QUOTE_AMOUNT:
            return int(r.quantity_lots)
        whole = price * r.quantity_lots * market.notional_units
        if r.order_type != OrderType.MARKET:
            return int(whole)
        return min(free, whole) if price else free
    lots = r.quantity_lots
    if r.flags & Flag.QUOTE_AMOUNT:
        lots = free // market.lot_units
        if price:
            wanted = ceil_div(r.quantity_lots, price * market.notional_units)
            lots = min(lots, wanted, market.max_quantity)
    return int(lots * market.lot_units)


# ---- cancel, amend


def _find(a: "Auditor", r: Record) -> Decision:
    """The order that a cancel or an amend names."""
    order = a.ledger.find(r.account, r.order_id, r.client_order_id)
    if order is None or r.market not in (0, order.market.number):
        return Decision(Reason.UNKNOWN_ORDER)
    stamps = {"order_id": order.order_id, "market": order.market.number}
    return Decision(0, stamps, order)


def _check_change(r: Record) -> int:
    if r.side not in (0, *Side):
        return Reason.BAD_SIDE
    if r.order_type:
        return Reason.BAD_ORDER_TYPE
    return Reason.BAD_TIME_IN_FORCE if r.time_in_force else 0


def _check_change_rest(r: Record) -> int:
    return Reason.BAD_FIELD if r.trigger_ticks or r.reserved else _check_client_id(r)


def cancel(a: "Auditor", r: Record, session: Session, market: int = 0) -> Decision:
    """A cancel of a session that may send it; of an order of this market, if it is not 0."""
    if not market and r.flags & Flag.REPLACE:  # and no order follows
        return Decision(Reason.BAD_LEGS)
    found = _find(a, r)
    order = found.order
    if order is None or market not in (0, order.market.number):
        return Decision(Reason.UNKNOWN_ORDER)
    reason = _check_change(r)
    if not reason and r.flags & ~_cancel_flags(r, order):
        reason = Reason.BAD_FLAGS
    if not reason and r.price_ticks:
        reason = Reason.BAD_PRICE
    if not reason and r.quantity_lots and not (market and r.reject == 0):
        reason = Reason.BAD_QUANTITY  # what its replacement lacks stands there if it is accepted
    reason = reason or _check_change_rest(r)
    if not reason and _frozen(a, r) and not may(session, Capability.OPERATE):
        reason = Reason.ACCOUNT_FROZEN
    if not reason and order.market.state == MarketState.HALTED:
        reason = Reason.MARKET_HALTED
    found.reject = reason
    found.stamps |= {"hold": Reason.ON_REQUEST, "side": order.side}
    found.stamps["flags"] = r.flags | (Flag.OF_PENDING if order.pending else 0)
    return found


def _cancel_flags(r: Record, order: LiveOrder) -> int:
    """What may stand in the record of a cancel; of a pending order, if it is accepted, one more."""
    allowed = int(Flag.REPLACE | Flag.ALLOW_FAILURE) if r.flags & Flag.REPLACE else 0
    return allowed | (Flag.OF_PENDING if order.pending and not r.reject else 0)


def check_amend(r: Record, market: Market) -> int:
    """The amend alone."""
    reason = _check_change(r)
    if reason:
        return reason
    if r.flags & ~int(Flag.TO_OPEN | Flag.REQUEUE):
        return Reason.BAD_FLAGS
    if not r.price_ticks and not r.quantity_lots:
        return Reason.NOTHING_TO_AMEND
    minimum = 1 if r.flags & Flag.TO_OPEN else market.min_quantity
    reason = _check_price(market, r.price_ticks) if r.price_ticks else 0
    if not reason and r.quantity_lots:
        reason = _check_quantity(market, r.quantity_lots, minimum)
    if not reason and r.price_ticks * r.quantity_lots * market.notional_units > MAX_INT64:
        reason = Reason.NOTIONAL_OVERFLOW
    return reason or _check_change_rest(r)


def _amend(a: "Auditor", r: Record, session: Session) -> Decision:
    reason = check_trader(a, r, session)
    if reason:
        return Decision(reason)
    found = _find(a, r)
    order = found.order
    if order is None:
        return found
    found.reject = check_amend(r, order.market) or who_may(a, r, order.market)
    if not found.reject and order.pending:
        found.reject = Reason.CANNOT_AMEND
    if found.reject:
        return found
    amend = Amend(r.price_ticks, r.quantity_lots, bool(r.flags & Flag.TO_OPEN), 0)
    if not order.market_order:
        free = a.ledger.free(order.account, order.asset)
        least, most = order.more(amend)
        if least > free:
            found.reject = Reason.INSUFFICIENT_BALANCE
        amend.extra = max(0, min(most, free))
    found.stamps |= {"hold": amend.extra, "side": order.side}
    found.amend = amend
    return found


def _mass_cancel(a: "Auditor", r: Record, session: Session) -> int:
    reason = check_trader(a, r, session)
    if reason:
        return reason
    if r.market and r.market not in a.definitions.markets:
        return Reason.UNKNOWN_MARKET
    if r.side not in (0, *Side):
        return Reason.BAD_SIDE
    if _frozen(a, r) and not may(session, Capability.OPERATE):
        return Reason.ACCOUNT_FROZEN
    return 0


def _countdown(a: "Auditor", r: Record, session: Session) -> int:
    reason = check_trader(a, r, session)
    if reason:
        return reason
    if not 0 <= r.quantity_lots <= MAX_TIMEOUT_MS:
        return Reason.BAD_TIMEOUT
    frozen = _frozen(a, r) and not may(session, Capability.OPERATE)
    return Reason.ACCOUNT_FROZEN if frozen else 0


# ---- money


def _check_movement(a: "Auditor", r: Record, reference: bool) -> int:
    """Reference, amount and asset, and whether the reference was used before."""
    if reference and not printable(r.reference):
        return Reason.BAD_REFERENCE
    if not 1 <= r.amount <= MAX_ASSET_UNITS:
        return Reason.BAD_AMOUNT
    if r.asset not in a.definitions.assets:
        return Reason.UNKNOWN_ASSET
    return Reason.DUPLICATE_REFERENCE if r.reference in a.ledger.references else 0


def _transfer(a: "Auditor", r: Record, session: Session) -> int:
    operator = may(session, Capability.OPERATE)
    known = {*a.definitions.accounts, FEE_ACCOUNT}
    if operator:
        reason = 0 if {r.account, r.counter_account} <= known else Reason.UNKNOWN_ACCOUNT
    else:
        reason = check_trader(a, r, session)
        family = a.definitions.family
        if not reason and family(r.account) != family(r.counter_account):
            reason = Reason.ACCOUNT_NOT_PERMITTED
    if not reason and r.account == r.counter_account:
        reason = Reason.ACCOUNT_NOT_PERMITTED
    reason = reason or _check_movement(a, r, reference=bool(r.reference))
    if reason:
        return reason
    if not operator and _frozen(a, r):
        return Reason.ACCOUNT_FROZEN
    enough = r.amount <= a.ledger.free(r.account, r.asset)
    return 0 if enough else Reason.INSUFFICIENT_BALANCE


def _request(a: "Auditor", r: Record, session: Session) -> int:
    reason = check_trader(a, r, session) or _check_movement(a, r, reference=True)
    if reason:
        return reason
    if _frozen(a, r) and not may(session, Capability.OPERATE):
        return Reason.ACCOUNT_FROZEN
    enough = r.amount <= a.ledger.free(r.account, r.asset)
    return 0 if enough else Reason.INSUFFICIENT_BALANCE


def _deposit(a: "Auditor", r: Record) -> int:
    if r.account not in {*a.definitions.accounts, FEE_ACCOUNT}:
        return Reason.UNKNOWN_ACCOUNT
    reason = _check_movement(a, r, reference=True)
    if reason:
        return reason
    enough = a.ledger.total(r.asset) + r.amount <= MAX_ASSET_UNITS
    return 0 if enough else Reason.BAD_AMOUNT


def _end_withdrawal(a: "Auditor", r: Record, session: Session) -> Decision:
    """SETTLE_ and CANCEL_WITHDRAWAL."""
    operator = may(session, Capability.OPERATE)
    if operator:
        reason = 0 if r.account in a.definitions.accounts else Reason.UNKNOWN_ACCOUNT
    else:
        reason = check_trader(a, r, session)
    if not reason and not printable(r.reference):
        reason = Reason.BAD_REFERENCE
    found = a.ledger.withdrawals.get(r.reference)
    if not reason and (found is None or found.account != r.account):
        reason = Reason.UNKNOWN_REFERENCE
    if not reason and not operator and _frozen(a, r):
        reason = Reason.ACCOUNT_FROZEN
    if reason or found is None:
        return Decision(reason)
    return Decision(0, {"amount": found.amount, "asset": found.asset})


# ---- operators

_NEVER_SENT = (Kind.START, Kind.STOP, Kind.TICK, Kind.TAKE_OVER, Kind.LOST, Kind.INVALID)


def _operator(a: "Auditor", r: Record, session: Session) -> Decision:
    if r.kind not in tuple(Kind) or r.kind in _NEVER_SENT:
        return Decision(Reason.UNKNOWN_KIND)
    if not may(session, Capability.OPERATE):
        return Decision(Reason.NOT_PERMITTED)
    if r.kind == Kind.ATTACH_SESSION:
        return _attach(a, r)
    if r.kind == Kind.DETACH_SESSION:
        found = a.definitions.sessions.get(r.id)
        if found is None or not found.attached:
            return Decision(Reason.UNKNOWN_SESSION)
        return Decision(0, {"position": found.position})
    if r.kind == Kind.SETTLE_WITHDRAWAL:
        return _end_withdrawal(a, r, session)
    if r.kind == Kind.DEPOSIT:
        return Decision(_deposit(a, r))
    if r.kind in (Kind.ADD_ASSET, Kind.ADD_ACCOUNT, Kind.ADD_MARKET):
        d = a.definitions
        define = {
            Kind.ADD_ASSET: d.check_asset,
            Kind.ADD_ACCOUNT: d.check_account,
            Kind.ADD_MARKET: d.check_market,
        }
        return Decision(define[r.kind](r))
    if r.kind in (Kind.REMOVE_MARKET, Kind.REMOVE_ASSET):
        return Decision(_removal(a, r))
    rules = {
        Kind.SET_ACCOUNT: _set_account,
        Kind.SET_MARKET: _set_market,
        Kind.SET_FEES: _set_fees,
        Kind.SET_TIER: _set_tier,
    }
    return Decision(rules[r.kind](a, r))


def _removal(a: "Auditor", r: Record) -> int:
    """Nothing may be left of it."""
    reason = a.definitions.check_removal(r)
    if reason:
        return reason
    if r.kind == Kind.REMOVE_MARKET:
        return Reason.MARKET_IN_USE if a.ledger.counts[r.id, 0] else 0
    used = a.ledger.total(r.id) or a.fees.tier_asset == r.id
    return Reason.ASSET_IN_USE if used else 0


def _attach(a: "Auditor", r: Record) -> Decision:
    if r.reject == Reason.BAD_DEFINITION:
        return Decision(Reason.BAD_DEFINITION)  # also for want of memory, which no log can say
    if not printable(r.name) or r.assurance > max(Assurance):
        return Decision(Reason.BAD_DEFINITION)
    if r.account and r.account not in a.definitions.accounts:
        return Decision(Reason.UNKNOWN_ACCOUNT)
    found = a.definitions.session_named(r.name)
    if found and found.attached:
        return Decision(Reason.ALREADY_EXISTS)
    limit = a.definitions.limits.sessions
    full = (
        r.reject == Reason.TOO_MANY_OBJECTS
        if limit is None
        else len(a.definitions.sessions) >= limit
    )
    if not found and full:
        return Decision(Reason.TOO_MANY_OBJECTS)
    if r.reject == Reason.NOT_JOURNALED and r.assurance > Assurance.MATCHED:
        return Decision(Reason.NOT_JOURNALED)  # whether there is a journal no log can say
    number = found.number if found else len(a.definitions.sessions) + 1
    return Decision(0, {"id": number, "position": found.position if found else 0})


def _set_account(a: "Auditor", r: Record) -> int:
    if r.account not in a.definitions.accounts:
        return Reason.UNKNOWN_ACCOUNT
    bad = (
        r.rules & ~ACCOUNT_RULES
        or (r.rules & Rule.STATE and r.state not in tuple(AccountState))
        or (r.rules & Rule.TIER and r.tier not in (*range(FEE_TIERS), TIER_BY_VOLUME))
    )
    return Reason.BAD_RULE if bad else 0


def _set_market(a: "Auditor", r: Record) -> int:
    market = a.definitions.markets.get(r.market)
    if market is None:
        return Reason.UNKNOWN_MARKET
    bad = (
        r.rules & ~MARKET_RULES
        or (r.rules & Rule.STATE and r.state not in tuple(MarketState))
        or (r.rules & Rule.NOTIONAL and r.amount < 0)
        or (r.rules & Rule.REFERENCE and not 1 <= r.reference_ticks <= market.max_price)
        or (r.rules & Rule.BANDS and r.band_down_bips >= 10_000)
        or (r.rules & Rule.PROTECTION and not 1 <= r.protection_bips <= 10_000)
    )
    return Reason.BAD_RULE if bad else 0


def _set_fees(a: "Auditor", r: Record) -> int:
    if r.market and r.market not in a.definitions.markets:
        return Reason.UNKNOWN_MARKET
    if (
        r.tier >= FEE_TIERS
        or not 0 <= r.taker_fee_ppm <= MAX_PPM
        or abs(r.maker_fee_ppm) > MAX_PPM
        or not a.fees.table(r.market).allows(r.tier, r.maker_fee_ppm, r.taker_fee_ppm)
    ):
        return Reason.BAD_RULE
    return 0


def _set_tier(a: "Auditor", r: Record) -> int:
    if r.tier >= FEE_TIERS or r.amount < 0:
        return Reason.BAD_RULE
    return 0 if r.asset in a.definitions.assets else Reason.UNKNOWN_ASSET
