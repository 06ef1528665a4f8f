"""One market's book: price, then time; what a matcher does with each record of its market.

Orders stand in one list for each side and price, in the order in which they are met. An iceberg's
slice that is used up sends the order to the end of its list with the next one. Two orders of a pair
know each other: what happens to one cancels the other, by the next event.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from matchbox.shm.reasons import Reason
from matchbox.shm.records import (
    EventFlag,
    EventKind,
    Flag,
    Kind,
    OrderType,
    Rule,
    SelfTrade,
    Side,
    TimeInForce,
)
from matchbox.tools.audit.definitions import Market
from matchbox.tools.audit.records import (
    MAX_INT64,
    NO_TERMS,
    Event,
    Record,
    Terms,
    above,
    below,
    ceil_div,
)
from matchbox.tools.audit.triggers import Waiting, becomes_market, has_trigger, reached

PPM = 1_000_000


@dataclass(eq=False)
class Order:
    """An order as the book sees it. Of an order by quote amount, `leaves` is an amount."""

    order_id: int
    account: int
    side: int
    order_type: int
    time_in_force: int
    self_trade: int
    price: int  # its own limit; 0: a market order
    bound: int  # the worst price at which it may trade; 0: any
    leaves: int
    maker_ppm: int
    taker_ppm: int
    display: int = 0
    trigger: int = 0
    trailing: int = 0
    by_quote: bool = False
    budget: int | None = None  # market buys: what is left to spend
    held_lots: int | None = None  # sells by quote amount: lots that are left to sell
    cumulative: int = 0
    shown: int = 0
    arrival: int = 0  # when it joined the end of its queue
    best: int | None = None  # trailing, once it has begun: the best price so far
    pair: "Order | None" = None  # the other of its pair

    def show(self) -> None:
        """Show a new slice, or all of an order that hides nothing."""
        self.shown = min(self.display, self.leaves) if self.display else self.leaves

    @property
    def rests(self) -> bool:
        """Does what is not filled at once stay on the book?"""
        return self.price > 0 and self.time_in_force in (TimeInForce.GTC, TimeInForce.GTD)


@dataclass(frozen=True)
class Replaced:
    """What a new order has to know of the cancel before it, which the sequencer had accepted."""

    freed: int | None  # what was canceled would have held so much; None: nothing was canceled
    lacking: int
    allow_failure: bool

    def refuses(self) -> int:
        """Why the order cannot come in the place of that."""
        if self.freed is None and not self.allow_failure:
            return Reason.CANCEL_FAILED
        return Reason.HOLD_EXCEEDED if self.lacking > (self.freed or 0) else 0


def order_of(r: Record, terms: Terms, lot_units: int) -> Order:
    """The order that an accepted NEW_ORDER record describes."""
    market = r.order_type == OrderType.MARKET or becomes_market(r.order_type)
    by_quote = bool(r.flags & Flag.QUOTE_AMOUNT)
    buy = r.side == Side.BUY
    return Order(
        order_id=r.sequence,
        account=r.account,
        side=r.side,
        order_type=r.order_type,
        time_in_force=r.time_in_force,
        self_trade=r.self_trade,
        price=0 if market else r.price_ticks,
        bound=r.price_ticks,
        leaves=r.quantity_lots,
        maker_ppm=r.maker_fee_ppm,
        taker_ppm=r.taker_fee_ppm,
        display=terms.display,
        trigger=r.trigger_ticks,
        trailing=r.trailing_bips,
        by_quote=by_quote,
        # What waits buys within its bound: what is held for it cannot be too little.
        budget=r.hold if r.order_type == OrderType.MARKET and buy else None,
        held_lots=r.hold // lot_units if by_quote and not buy else None,
    )


def need(market: Market, side: int, price: int, lots: int) -> int:
    """What a limit order with so much open has to hold."""
    return lots * (price * market.notional_units if side == Side.BUY else market.lot_units)


class Book:
    """The orders of one market; records in, events out."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.levels: dict[int, dict[int, list[Order]]] = {Side.BUY: {}, Side.SELL: {}}
        self.ticks: dict[int, list[int]] = {Side.BUY: [], Side.SELL: []}  # prices, lowest first
        self.resting: dict[int, Order] = {}
        self.waiting = Waiting[Order]()
        self.last: int | None = None
        self.band_up = 0
        self.band_down = 0
        self.trades = 0
        self.arrivals = 0
        self.sequence = 0
        self.events: list[Event] = []
        self.band: tuple[int, int | None] = 0, None
        self.triggered: deque[Order] = deque()
        self.freed: int | None = None  # what the order would have held that a cancel took off

    def set_rules(self, r: Record) -> None:
        """What SET_MARKET changes here."""
        if r.rules & Rule.REFERENCE:
            self.last = r.reference_ticks
        if r.rules & Rule.BANDS:
            self.band_up, self.band_down = r.band_up_bips, r.band_down_bips

    def process(
        self, r: Record, terms: Terms = NO_TERMS, replaced: Replaced | None = None
    ) -> list[Event]:
        """All events of a record that the sequencer has accepted."""
        self._begin(r)
        reason: int
        if r.cut:
            self.freed, reason = None, Reason.POISONED
        elif r.kind == Kind.NEW_ORDER:
            reason = replaced.refuses() if replaced else 0
            reason = reason or self._new(order_of(r, terms, self.market.lot_units), r.flags)
        elif r.kind == Kind.CANCEL_ORDER:
            reason = self._cancel(r)
        else:
            reason = self._amend(r)
        if reason:
            self._refuse(r, reason)
        return self._finish()

    def process_pair(self, legs: Sequence[tuple[Record, Terms]]) -> list[list[Event]]:
        """The events of two orders, each by its record: both are taken, or both are refused."""
        first, second = (order_of(r, terms, self.market.lot_units) for r, terms in legs)
        self.band = self._band()
        reason: int = Reason.TOO_MANY_ORDERS
        if self._specials() + 2 <= self.market.max_specials:
            reason = self._check_new(first, legs[0][0].flags) or self._check_new(second, 0)
        if legs[1][0].cut:
            reason = Reason.POISONED
        reasons = [reason, reason]
        if legs[0][0].cut:
            reasons = [Reason.POISONED, Reason.BAD_LEGS]
        if not any(reasons):
            first.pair, second.pair = second, first
        found = []
        for order, (r, _), why in zip((first, second), legs, reasons, strict=True):
            self._begin(r)
            if why:
                self._refuse(r, why)
            else:
                self._place(order)
            found.append(self._finish())
        return found

    def _begin(self, r: Record) -> None:
        self.sequence = r.sequence
        self.events = []
        self.band = self._band()

    def _finish(self) -> list[Event]:
        """What was triggered is matched, too; these are all events of the record."""
        while self.triggered:
            self._start_triggered(self.triggered.popleft())
        last = self.events[-1]
        self.events[-1] = last._replace(flags=last.flags | EventFlag.LAST)
        return self.events

    # ---- looking

    def prices(self, side: int) -> list[int]:
        """The prices of a side, best first."""
        return self.ticks[side][::-1] if side == Side.BUY else list(self.ticks[side])

    def level(self, side: int, price: int) -> int:
        """What is shown at a price."""
        return sum(order.shown for order in self.levels[side].get(price, ()))

    def depth(self, side: int) -> list[tuple[int, int]]:
        """(price, what is shown), best first."""
        return [(price, self.level(side, price)) for price in self.prices(side)]

    def _specials(self) -> int:
        """Icebergs, orders that wait, and orders of a pair."""
        special = sum(1 for order in self.resting.values() if order.display or order.pair)
        return len(self.waiting.orders) + special

    def _band(self) -> tuple[int, int | None]:
        low = below(self.last, self.band_down) if self.last and self.band_down else 0
        return low, above(self.last, self.band_up) if self.last and self.band_up else None

    def _outside(self, price: int) -> bool:
        low, high = self.band
        return price < low or (high is not None and price > high)

    def _beyond(self, side: int, price: int) -> bool:
        """Is a price outside the band on the side where a taker may not trade?"""
        low, high = self.band
        return price < low if side == Side.SELL else high is not None and price > high

    def _within(self, order: Order, price: int) -> bool:
        """Is a price no worse than what an order asks for?"""
        if not order.bound:
            return True
        return price <= order.bound if order.side == Side.BUY else price >= order.bound

    def _prices_for(self, order: Order) -> Iterator[int]:
        """The prices at which an order would take, best first."""
        side = other(order.side)
        best_first = reversed(self.ticks[side]) if side == Side.BUY else iter(self.ticks[side])
        return takewhile(lambda price: self._within(order, price), best_first)

    # ---- what commands do: a reject code, or 0

    def _new(self, order: Order, flags: int) -> int:
        special = has_trigger(order.order_type) or order.display
        if special and self._specials() + 1 > self.market.max_specials:
            return Reason.TOO_MANY_ORDERS
        reason = self._check_new(order, flags)
        if not reason:
            self._place(order)
        return reason

    def _meets(self, order: Order) -> bool:
        return next(self._prices_for(order), None) is not None

    def _check_new(self, order: Order, flags: int) -> int:
        if order.price and self._outside(order.price):
            return Reason.PRICE_BAND
        if has_trigger(order.order_type):
            beyond = self.last is not None and reached(order, self.last)
            return Reason.WOULD_TRIGGER if beyond and not order.trailing else 0
        if flags & Flag.POST_ONLY and self._meets(order):
            return Reason.WOULD_TAKE
        if order.time_in_force == TimeInForce.FOK and not self._fillable(order):
            return Reason.NOT_FILLABLE
        return 0

    def _place(self, order: Order) -> None:
        """Let a new order that may come wait, rest or match."""
        if has_trigger(order.order_type):
            self.waiting.add(order, self.last)
            self._say(EventKind.ACCEPTED, order, order.leaves, flags=EventFlag.WAITING)
        elif order.rests and not self._meets(order):
            self._join(order)
            self._say(EventKind.ACCEPTED, order, order.leaves, flags=EventFlag.RESTING)
        else:
            self._say(EventKind.ACCEPTED, order, order.leaves)
            self._match(order)

    def _start_triggered(self, order: Order) -> None:
        self._say(EventKind.TRIGGERED, order, order.leaves)
        self._cancel_other(order)
        if order.time_in_force == TimeInForce.FOK and not self._fillable(order):
            self._expire(order, Reason.NOT_FILLABLE)
            return
        self._match(order, triggered=True)

    def _cancel(self, r: Record) -> int:
        order = self.waiting.orders.get(r.order_id) or self.resting.get(r.order_id)
        self.freed = None
        if order is None:
            return Reason.UNKNOWN_ORDER
        self.freed = need(self.market, order.side, order.price or order.bound, order.leaves)
        self._take_away(order, r.hold)
        self._cancel_other(order)
        return 0

    def _take_away(self, order: Order, reason: int) -> None:
        """Cancel an order, wherever it is."""
        resting = order.order_id in self.resting
        if resting:
            self._leave(order)
        elif order in self.triggered:
            self.triggered.remove(order)
        else:
            del self.waiting.orders[order.order_id]
        self._end(EventKind.CANCELED, order, reason, resting)

    def _cancel_other(self, order: Order) -> None:
        """If it is one of a pair, the other ends, and this one is an order like any other."""
        other, order.pair = order.pair, None
        if other is not None:
            other.pair = None
            self._take_away(other, Reason.LIST_ENDED)

    def _amend(self, r: Record) -> int:
        if r.order_id in self.waiting.orders:
            return Reason.CANNOT_AMEND
        if r.order_id not in self.resting:
            return Reason.UNKNOWN_ORDER
        order = self.resting[r.order_id]
        if order.pair:
            return Reason.CANNOT_AMEND
        price = r.price_ticks or order.price
        leaves = order.leaves
        if r.quantity_lots:
            leaves = r.quantity_lots - (0 if r.flags & Flag.TO_OPEN else order.cumulative)
        reason = self._check_amend(r, order, price, leaves)
        if reason:
            return reason
        previous = order.price
        if price == previous and leaves <= order.leaves and not r.flags & Flag.REQUEUE:
            order.leaves = leaves
            order.shown = min(order.shown, leaves)
            rest = self.level(order.side, price) - order.shown
            self._amended(order, previous, rest, EventFlag.RESTING)
            return 0
        self._leave(order)
        rest = self.level(order.side, previous)
        order.price = order.bound = price
        order.leaves = leaves
        if not self._meets(order):
            self._join(order)
            self._amended(order, previous, rest, EventFlag.RESTING)
            return 0
        self._amended(order, previous, rest)
        self._match(order)
        return 0

    def _check_amend(self, r: Record, order: Order, price: int, leaves: int) -> int:
        market = self.market
        if leaves <= 0:
            return Reason.BELOW_FILLED
        total = order.cumulative + leaves
        if r.quantity_lots and not market.min_quantity <= total <= market.max_quantity:
            return Reason.BAD_QUANTITY
        if price * total * market.notional_units > MAX_INT64:
            return Reason.NOTIONAL_OVERFLOW
        if r.price_ticks and self._outside(price):
            return Reason.PRICE_BAND
        held = need(market, order.side, order.price, order.leaves) + r.hold
        if need(market, order.side, price, leaves) > held:
            return Reason.HOLD_EXCEEDED
        return 0

    # ---- the queues

    def _join(self, order: Order) -> None:
        """At the end of its price's queue."""
        order.show()
        self.arrivals += 1
        order.arrival = self.arrivals
        if order.price not in self.levels[order.side]:
            self.levels[order.side][order.price] = []
            insort(self.ticks[order.side], order.price)
        self.levels[order.side][order.price].append(order)
        self.resting[order.order_id] = order

    def _leave(self, order: Order) -> None:
        queue = self.levels[order.side][order.price]
        queue.remove(order)
        if not queue:
            del self.levels[order.side][order.price]
            ticks = self.ticks[order.side]
            del ticks[bisect_left(ticks, order.price)]
        del self.resting[order.order_id]

    def _take_off(self, maker: Order, lots: int) -> None:
        """Take so much off the slice that a resting order shows."""
        maker.leaves -= lots
        maker.shown -= lots
        if maker.shown == 0:
            self._leave(maker)
            if maker.leaves:
                self._join(maker)

    # ---- matching

    def _match(self, order: Order, triggered: bool = False) -> None:
        """Match an order to its end, and let what is left rest or expire."""
        reason = self._take(order)
        if order.leaves == 0:
            return
        if not reason:
            if not order.rests:
                reason = Reason.NO_LIQUIDITY
            elif triggered and self._outside(order.price):
                reason = Reason.PRICE_BAND
        if reason:
            self._expire(order, reason)
            return
        self._join(order)
        self._say(EventKind.RESTED, order, order.cumulative + order.leaves, resting=True)

    def _take(self, taker: Order) -> int:
        """Match until nothing is left or meets; why what is left must expire, or 0."""
        while taker.leaves:
            price = next(self._prices_for(taker), None)
            if price is None:
                return 0
            if self._beyond(taker.side, price):
                return Reason.PRICE_BAND
            maker = self.levels[other(taker.side)][price][0]
            lots = self._lots(taker, maker)
            if lots == 0:
                return Reason.BUDGET_SPENT
            if maker.account != taker.account or taker.self_trade == SelfTrade.TRADE_WITH_SELF:
                self._fill(taker, maker, lots)
            elif taker.self_trade == SelfTrade.DECREMENT:
                self._prevent(taker, maker, lots)
            else:
                if taker.self_trade in (SelfTrade.EXPIRE_MAKER, SelfTrade.EXPIRE_BOTH):
                    self._leave(maker)
                    self._expire(maker, Reason.SELF_TRADE, resting=True)
                    self._cancel_other(maker)
                if taker.self_trade in (SelfTrade.EXPIRE_TAKER, SelfTrade.EXPIRE_BOTH):
                    return Reason.SELF_TRADE
        return 0

    def _lots(self, taker: Order, maker: Order) -> int:
        """What the taker has left, the maker shows, and the budget pays for."""
        value = maker.price * self.market.notional_units
        lots = maker.shown
        if not taker.by_quote:
            lots = min(lots, taker.leaves)
        elif taker.side == Side.SELL:
            assert taker.held_lots is not None
            lots = min(lots, taker.held_lots, taker.leaves // value)
        if taker.budget is not None:
            lots = min(lots, taker.budget // value)
        return lots

    def _fill(self, taker: Order, maker: Order, lots: int) -> None:
        value = maker.price * lots * self.market.notional_units
        base = lots * self.market.lot_units
        buy = taker.side == Side.BUY
        receives, maker_receives = (base, value) if buy else (value, base)
        fee = ceil_div(receives * taker.taker_ppm, PPM)
        if maker.maker_ppm >= 0:
            maker_fee = ceil_div(maker_receives * maker.maker_ppm, PPM)
        else:
            maker_fee = -min(fee, receives * -maker.maker_ppm // PPM)
        taker.cumulative += lots
        taker.leaves -= value if taker.by_quote else lots
        if taker.budget is not None:
            taker.budget -= value
        if taker.held_lots is not None:
            taker.held_lots -= lots
        maker.cumulative += lots
        self._take_off(maker, lots)
        self.trades += 1
        self._meet(
            EventKind.TRADE,
            taker,
            maker,
            lots,
            trade_id=self.trades,
            fee=fee,
            maker_fee=maker_fee,
        )
        self._cancel_other(maker)
        self.last = maker.price
        self.triggered += self.waiting.after_fill(maker.price)

    def _prevent(self, taker: Order, maker: Order, lots: int) -> None:
        """Both lose what a fill would have been; no money moves."""
        value = maker.price * lots * self.market.notional_units
        taker.leaves -= value if taker.by_quote else lots
        if taker.by_quote and taker.budget is not None:
            taker.budget = taker.leaves
        self._take_off(maker, lots)
        self._meet(EventKind.PREVENTED, taker, maker, lots)
        self._cancel_other(maker)

    def _fillable(self, taker: Order) -> bool:
        """Could all of a fill-or-kill order be filled? Walks the queues as matching would."""
        left, budget = taker.leaves, taker.budget
        for price in self._prices_for(taker):
            if self._beyond(taker.side, price):
                return False
            makers = self.levels[other(taker.side)][price]
            queue = deque((maker, maker.shown, maker.leaves - maker.shown) for maker in makers)
            while queue:
                maker, shown, hidden = queue.popleft()
                if maker.account == taker.account and taker.self_trade:
                    if taker.self_trade == SelfTrade.EXPIRE_MAKER:
                        continue
                    return False
                lots = min(left, shown)
                if budget is not None:
                    budget -= lots * price * self.market.notional_units
                    if budget < 0:
                        return False
                left -= lots
                if left == 0:
                    return True
                if hidden:
                    piece = min(maker.display, hidden)
                    queue.append((maker, piece, hidden - piece))
        return False

    # ---- events

    def _event(self, event: Event) -> None:
        self.events.append(event._replace(index=len(self.events), market=self.market.number))

    def _say(
        self, kind: int, order: Order, quantity: int, *, flags: int = 0, resting: bool = False
    ) -> None:
        """An event of one order; with its level's total if it stands, or stood, on the book."""
        on_book = resting or flags & EventFlag.RESTING
        self._event(
            Event(
                sequence=self.sequence,
                order_id=order.order_id,
                price_ticks=order.price or order.bound,
                quantity_lots=quantity,
                leaves_lots=order.leaves,
                cumulative_lots=order.cumulative,
                level_lots=self.level(order.side, order.price) if on_book else 0,
                account=order.account,
                kind=kind,
                side=order.side,
                flags=flags,
            )
        )

    def _end(self, kind: int, order: Order, reason: int, resting: bool = False) -> None:
        """CANCELED or EXPIRED: the order has left the book, if it stood there."""
        left, order.leaves = order.leaves, 0
        self._say(kind, order, left, flags=EventFlag.RESTING if resting else 0)
        self.events[-1] = self.events[-1]._replace(reason=reason)

    def _expire(self, order: Order, reason: int, resting: bool = False) -> None:
        self._end(EventKind.EXPIRED, order, reason, resting)

    def _amended(self, order: Order, price: int, rest: int, flags: int = 0) -> None:
        """`price` is the one before, `rest` what others show there."""
        self._say(EventKind.AMENDED, order, order.cumulative + order.leaves, flags=flags)
        self.events[-1] = self.events[-1]._replace(
            maker_leaves_lots=rest, maker_cumulative_lots=price
        )

    def _meet(
        self,
        kind: int,
        taker: Order,
        maker: Order,
        lots: int,
        *,
        trade_id: int = 0,
        fee: int = 0,
        maker_fee: int = 0,
    ) -> None:
        """TRADE or PREVENTED."""
        self._event(
            Event(
                sequence=self.sequence,
                order_id=taker.order_id,
                maker_order_id=maker.order_id,
                trade_id=trade_id,
                price_ticks=maker.price,
                quantity_lots=lots,
                leaves_lots=taker.leaves,
                cumulative_lots=taker.cumulative,
                maker_leaves_lots=maker.leaves,
                maker_cumulative_lots=maker.cumulative,
                level_lots=self.level(maker.side, maker.price),
                fee=fee,
                maker_fee=maker_fee,
                account=taker.account,
                maker_account=maker.account,
                kind=kind,
                side=taker.side,
            )
        )

    def _refuse(self, r: Record, reason: int) -> None:
        new = r.kind == Kind.NEW_ORDER
        self._event(
            Event(
                sequence=self.sequence,
                order_id=r.sequence if new else r.order_id,
                price_ticks=r.price_ticks,
                quantity_lots=r.quantity_lots,
                account=r.account,
                reason=reason,
                kind=EventKind.REJECTED,
                side=r.side,
            )
        )


def other(side: int) -> int:
    return Side.SELL if side == Side.BUY else Side.BUY
