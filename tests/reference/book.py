"""A matcher that is easy to believe: docs/trading-rules.md in plain Python, to compare with.

Orders stand in one list for each side and price, those that wait in one list of all; everything
else is looked for when it is needed. Events are tuples of the fields of FIELDS, in the record's
order, so that a comparison covers every byte of an event. What only the sequencer decides (who may,
balances, bounds and budgets) is not here.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from matchbox.shm.reasons import Reason
from matchbox.shm.records import (
    COMMAND,
    EVENT,
    LIST_RECORD,
    MAX_ASSET_UNITS,
    NEW_ORDER,
    RULES_RECORD,
    TERMS_RECORD,
    EventFlag,
    EventKind,
    Flag,
    Kind,
    ListType,
    MarketState,
    OrderType,
    Rule,
    SelfTrade,
    Side,
    TimeInForce,
)

FIELDS = tuple(name for name in EVENT.names or () if name != "reserved")
MAX_INT64 = 2**63 - 1
Event = tuple[int, ...]

LIMITS = (OrderType.LIMIT, OrderType.STOP_LOSS_LIMIT, OrderType.TAKE_PROFIT_LIMIT)
STOPS = (OrderType.STOP_LOSS, OrderType.STOP_LOSS_LIMIT)
RESTING = (TimeInForce.GTC, TimeInForce.GTD)
WAITS, BEGINS, TRAILS = 1, 2, 3


def floor_div(a: int, b: int) -> int:
    return a // b


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def opposite(side: int) -> int:
    return Side.SELL if side == Side.BUY else Side.BUY


def mix(state: int, word: int) -> int:
    state = (state ^ word % 2**64) * 0x9E3779B97F4A7C15 % 2**64
    return state ^ state >> 32


@dataclass(eq=False)
class Order:
    order_id: int
    account: int
    side: int
    order_type: int
    time_in_force: int
    price: int  # limit, or bound; 0: any
    leaves: int  # all that is open; by quote amount: of the quote asset
    maker_ppm: int = 0
    taker_ppm: int = 0
    self_trade: int = 0
    display: int = 0
    by_quote: bool = False
    hold: int = 0
    trigger: int = 0
    trailing: int = 0
    cumulative: int = 0
    shown: int = 0  # on the book: what is shown of `leaves`
    state: int = 0  # waiting: WAITS, BEGINS or TRAILS
    best: int = 0  # TRAILS: best price so far, 0 = not begun yet
    budget: int | None = None  # what is left of it (a sell by quote amount: lots)
    partner: "Order | None" = None  # one cancels the other

    @property
    def is_limit(self) -> bool:
        return self.order_type in LIMITS

    def terms(self) -> int:
        """Bytes 40 to 46 of its record as a number."""
        return (
            self.maker_ppm % 2**16
            | self.taker_ppm % 2**16 << 16
            | self.trailing << 32
            | self.self_trade << 48
        )

    def reaches(self, price: int) -> bool:
        """Is its trigger price reached?"""
        rises = (self.side == Side.BUY) == (self.order_type in STOPS)
        return price >= self.trigger if rises else price <= self.trigger


@dataclass
class Market:
    """One market: its definition (a MARKET_RECORD) and its orders, each level's oldest first."""

    definition: Any
    levels: dict[tuple[int, int], list[Order]] = field(default_factory=dict)
    waiting: list[Order] = field(default_factory=list)
    trades: int = 0
    last_price: int = 0
    min_notional: int = 0
    band_up: int = 0
    band_down: int = 0

    @property
    def notional_units(self) -> int:
        return int(self.definition["notional_units"])

    @property
    def lot_units(self) -> int:
        return int(self.definition["lot_units"])

    def prices(self, side: int) -> list[int]:
        """Prices of a side, best first."""
        found = [price for (s, price), queue in self.levels.items() if s == side and queue]
        return sorted(found, reverse=side == Side.BUY)

    def level(self, side: int, price: int) -> int:
        """What is shown there."""
        return sum(order.shown for order in self.levels.get((side, price), ()))

    def orders(self) -> list[Order]:
        """All orders in book order: bids from the best on, then asks."""
        return [
            order
            for side in (Side.BUY, Side.SELL)
            for price in self.prices(side)
            for order in self.levels[side, price]
        ]

    def find(self, order_id: int) -> Order | None:
        return next((o for o in self.orders() + self.waiting if o.order_id == order_id), None)

    def matches(self, side: int, price: int) -> list[int]:
        """Prices that an order limited to `price` (0: to none) trades at, best first."""
        other = self.prices(opposite(side))
        if price == 0:
            return other
        return [p for p in other if (p <= price if side == Side.BUY else p >= price)]

    def add(self, order: Order) -> None:
        order.shown = min(order.leaves, order.display) if order.display else order.leaves
        self.levels.setdefault((order.side, order.price), []).append(order)

    def remove(self, order: Order) -> None:
        queue = self.levels[order.side, order.price]
        queue.remove(order)
        if not queue:
            del self.levels[order.side, order.price]

    def special(self) -> int:
        """Orders that need more memory than others."""
        shown = sum(1 for order in self.orders() if order.display or order.partner)
        return len(self.waiting) + shown

    def state_hash(self) -> int:
        state = mix(0, self.trades)
        for side in (Side.BUY, Side.SELL):
            for order in self.orders():
                if order.side == side:
                    for word in (
                        order.order_id,
                        order.price,
                        order.shown,
                        order.leaves - order.shown,
                        order.display,
                        order.cumulative,
                        order.account,
                        order.terms(),
                        *([order.partner.order_id] if order.partner else []),
                    ):
                        state = mix(state, word)
            state = mix(state, 2**64 - 1)
        return mix(state, self._waiting_hash())

    def _waiting_hash(self) -> int:
        total = 0
        for order in self.waiting:
            one = 0
            for word in (
                order.order_id,
                order.account,
                order.side,
                order.order_type,
                order.time_in_force,
                order.price,
                order.trigger,
                order.hold,
                order.leaves,
                order.display,
                order.terms(),
                order.state,
                *([order.partner.order_id] if order.partner else []),
                order.best if order.state == TRAILS else 0,
            ):
                one = mix(one, word)
            total += one
        return mix(mix(mix(0, self.last_price), len(self.waiting)), total)


class ReferenceMatcher:
    """Commands (COMMAND records) in, events out; the semantics of matchbox.core.matcher.Matcher."""

    def __init__(
        self, markets: Any, *, max_specials: int = 65536, check_holds: bool = False
    ) -> None:
        self.markets = {int(record["market"]): Market(record) for record in markets}
        self.max_specials, self.check_holds = max_specials, check_holds
        self.sequence = 0
        self.pending_terms: Any = None
        self.replaced: Any = None  # a cancel: (market, was it refused, its record, what it freed)
        self.list: Any = None
        self.legs: list[tuple[int, Any]] = []  # of the list, as they came: (sequence, command)

    def process(self, command: Any) -> list[Event]:
        """All events of one command; of the first of a pair they come with the second's."""
        self.sequence = int(command["sequence"]) or self.sequence + 1
        is_leg = command["kind"] == Kind.NEW_ORDER and bool(command["flags"] & Flag.LEG)
        if self.list is None:
            return self._process(command, is_leg)
        if is_leg and command["market"] == self.list["market"]:
            return self._leg(command)
        return self._list_breaks() + self._process(command, is_leg)

    def _process(self, command: Any, is_leg: bool, code: int = 0) -> list[Event]:
        self.command = command
        self.events: list[dict[str, int]] = []
        terms, self.pending_terms = self.pending_terms, None
        replaced, self.replaced = self.replaced, None
        self.terms = None
        if command["kind"] == Kind.ORDER_TERMS:
            self.pending_terms, self.replaced = view(command, TERMS_RECORD), replaced
            return []
        if command["kind"] in (Kind.ORDER_LIST, Kind.RELEASE):
            self._begin_list(view(command, LIST_RECORD))
            return []
        if command["kind"] == Kind.SET_MARKET:
            reason = self._set_market()
            if reason:
                self._event(EventKind.REJECTED, reason=reason, flags=EventFlag.LAST)
            return self._tuples()
        if (
            terms is not None
            and command["kind"] == Kind.NEW_ORDER
            and terms["market"] == command["market"]
        ):
            self.terms = terms
        claimed = replaced is not None and replaced[0] == command["market"]
        if is_leg and not claimed and not view(command, NEW_ORDER)["has_terms"] & 8:
            return self._rejected(self.sequence, command, Reason.BAD_LEGS)
        reason = self._refusal()
        if is_leg and claimed and not reason:
            reason = self._refusal_of_replacement(*replaced[1:])
        reason = reason or self._execute()
        if command["kind"] == Kind.CANCEL_ORDER and command["flags"] & Flag.REPLACE:
            self.replaced = (command["market"], bool(reason), command, self.freed)
        if reason:
            return self._rejected(self.sequence, command, reason)
        self.events[-1]["flags"] |= EventFlag.LAST
        return self._tuples()

    def _rejected(self, sequence: int, command: Any, reason: int) -> list[Event]:
        self.events, self.command = [], command
        own_id = command["kind"] == Kind.NEW_ORDER
        self._event(
            EventKind.REJECTED,
            sequence=sequence,
            order_id=sequence if own_id else command["order_id"],
            account=command["account"],
            side=command["side"],
            price_ticks=command["price_ticks"],
            quantity_lots=command["quantity_lots"],
            reason=reason,
            flags=EventFlag.LAST,
        )
        return self._tuples()

    # ---- what goes together

    def _refusal_of_replacement(self, failed: bool, cancel: Any, freed: int) -> int:
        if failed and not cancel["flags"] & Flag.ALLOW_FAILURE:
            return Reason.CANCEL_FAILED
        lacks = int(cancel["quantity_lots"])
        return Reason.HOLD_EXCEEDED if lacks > (0 if failed else freed) else 0

    def _begin_list(self, record: Any) -> None:
        """How many legs it wants: none if there is no such list."""
        self.wanted = {ListType.OCO: 2, ListType.OTO: 2, ListType.OTOCO: 3}.get(
            int(record["list_type"]), 0
        )
        if record["kind"] == Kind.RELEASE:
            self.wanted = int(record["legs"])
        self.list, self.legs = (record if self.wanted else None), []

    def _list_breaks(self) -> list[Event]:
        """Another record than the next leg: what came of a pair is refused."""
        pair = self.list["list_type"] == ListType.OCO
        first = self.legs[0] if pair and self.legs else None
        self.list = None
        return self._rejected(*first, Reason.BAD_LEGS) if first else []

    def _leg(self, command: Any) -> list[Event]:
        self.legs.append((self.sequence, command))
        leg, record = len(self.legs), self.list
        terms = np.zeros(1, TERMS_RECORD)[0]
        terms["display_lots"] = record["display_lots"][leg - 1]
        if command["time_in_force"] == TimeInForce.GTD:
            terms["expire_ns"] = record["expire_ns"]
        if leg == self.wanted:
            self.list = None
        if record["list_type"] != ListType.OCO:
            # There is nobody who would release what waits.
            return self._rejected(self.sequence, command, Reason.BAD_LEGS)
        self.command, self.terms, self.replaced, self.pending_terms = command, terms, None, None
        reason = self._refusal()
        if leg == 1:
            self.first_terms = terms
            if reason:
                self.list = None
                return self._rejected(self.sequence, command, reason)
            return []
        reason = reason or self._pair(self.legs[0][1], terms)
        if reason:
            refused = [self._rejected(*each, reason) for each in self.legs]
            return refused[0] + refused[1]
        return self._tuples()

    def _pair(self, first: Any, terms: Any) -> int:
        """Accept both, if both can be: their events have the numbers of their own records."""
        one, other = view(first, NEW_ORDER), self.new
        if not self._is_pair(one, other):
            return Reason.BAD_LEGS
        market, orders = self.market, []
        self._set_band()
        if len(market.orders()) + len(market.waiting) + 2 > market.definition["max_orders"]:
            return Reason.TOO_MANY_ORDERS
        if market.special() + 2 > self.max_specials:
            return Reason.TOO_MANY_ORDERS
        for (sequence, _), record, of_leg in zip(
            self.legs, (one, other), (self.first_terms, terms), strict=True
        ):
            self.new, self.terms, self.sequence = record, of_leg, sequence
            order = self._order()
            order.hold = 0
            orders.append(order)
            reached = market.last_price and order.trigger and order.reaches(market.last_price)
            if order.is_limit and not self._in_band(order.price):
                return Reason.PRICE_BAND
            if order.order_type != OrderType.LIMIT and reached and not order.trailing:
                return Reason.WOULD_TRIGGER
            if order.order_type == OrderType.LIMIT and market.matches(order.side, order.price):
                return Reason.WOULD_TAKE
        self.events = []
        for order in orders:
            self.sequence = order.order_id
            if order.order_type == OrderType.LIMIT:
                market.add(order)
                self._order_event(EventKind.ACCEPTED, order, order.leaves, flags=EventFlag.RESTING)
            else:
                self._wait(order)
            self.events[-1]["flags"] |= EventFlag.LAST
            self.events[-1]["index"] = 0
        orders[0].partner, orders[1].partner = orders[1], orders[0]
        return 0

    def _is_pair(self, one: Any, other: Any) -> bool:
        takes_profit = one["order_type"] in (OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT_LIMIT)
        if not takes_profit and not (
            one["order_type"] == OrderType.LIMIT and one["flags"] & Flag.POST_ONLY
        ):
            return False
        same = one["side"] == other["side"] and one["quantity_lots"] == other["quantity_lots"]
        if not same or other["order_type"] not in STOPS:
            return False
        above = int(one["trigger_ticks" if takes_profit else "price_ticks"])
        below = int(other["trigger_ticks"])
        if one["side"] == Side.BUY:
            above, below = below, above
        return not above or not below or above > below

    def _part(self, order: Order) -> None:
        """Something happened to an order: its partner is canceled."""
        other = order.partner
        if other is None:
            return
        order.partner = other.partner = None
        left, other.leaves = other.leaves, 0
        found = [orders for orders in (self.queue, self.market.waiting) if other in orders]
        if found:
            found[0].remove(other)
            self._order_event(EventKind.CANCELED, other, left, level=0, reason=Reason.LIST_ENDED)
            return
        self.market.remove(other)
        self._order_event(
            EventKind.CANCELED, other, left, reason=Reason.LIST_ENDED, flags=EventFlag.RESTING
        )

    def _tuples(self) -> list[Event]:
        return [tuple(int(event[name]) for name in FIELDS) for event in self.events]

    def state_hash(self, market: int | None = None) -> int:
        if market is not None:
            return self.markets[market].state_hash()
        state = 0
        for number in sorted(self.markets):
            state = mix(mix(state, number), self.markets[number].state_hash())
        return state

    # ---- rules of the market

    def _set_market(self) -> int:
        r = view(self.command, RULES_RECORD)
        if int(r["market"]) not in self.markets:
            return Reason.UNKNOWN_MARKET
        market = self.markets[int(r["market"])]
        rules = int(r["rules"])
        highest = int(market.definition["max_price_ticks"])
        bad = (
            rules & Rule.TIER
            or r["reserved"]
            or r["reserved_long"]
            or r["reserved_byte"]
            or (rules & Rule.STATE and r["state"] not in tuple(MarketState))
            or (rules & Rule.NOTIONAL and r["amount"] < 0)
            or (rules & Rule.REFERENCE and not 1 <= r["reference_ticks"] <= highest)
            or (rules & Rule.BANDS and r["band_down_bips"] >= 10_000)
            or (rules & Rule.PROTECTION and not 1 <= r["protection_bips"] <= 10_000)
        )
        if bad:
            return Reason.BAD_RULE
        if rules & Rule.NOTIONAL:
            market.min_notional = int(r["amount"])
        if rules & Rule.REFERENCE:
            market.last_price = int(r["reference_ticks"])
        if rules & Rule.BANDS:
            market.band_up, market.band_down = int(r["band_up_bips"]), int(r["band_down_bips"])
        return 0

    # ---- refusals that need no state, in the order in which they are found

    def _refusal(self) -> int:
        c = self.command
        if c["kind"] not in (Kind.NEW_ORDER, Kind.CANCEL_ORDER, Kind.AMEND_ORDER):
            return Reason.UNKNOWN_KIND
        if int(c["market"]) not in self.markets:
            return Reason.UNKNOWN_MARKET
        self.market = self.markets[int(c["market"])]
        self.new = view(c, NEW_ORDER)
        checks = {
            Kind.NEW_ORDER: self._refusal_of_new,
            Kind.AMEND_ORDER: self._refusal_of_amend,
            Kind.CANCEL_ORDER: self._refusal_of_cancel,
        }
        return checks[Kind(int(c["kind"]))]()

    def _refusal_of_new(self) -> int:
        return (
            self._refusal_of_shape()
            or self._refusal_of_order_price()
            or self._refusal_of_trigger()
            or self._refusal_of_order_quantity()
            or self._refusal_of_terms()
            or self._refusal_of_value()
            or self._refusal_of_reserved()
            or self._refusal_of_client_id()
        )

    def _refusal_of_shape(self) -> int:
        c = self.new
        if c["side"] not in (Side.BUY, Side.SELL):
            return Reason.BAD_SIDE
        if c["order_type"] not in tuple(OrderType):
            return Reason.BAD_ORDER_TYPE
        order_type = OrderType(int(c["order_type"]))
        allowed = {
            OrderType.MARKET: (TimeInForce.IOC, TimeInForce.FOK),
            OrderType.STOP_LOSS: (TimeInForce.IOC,),
            OrderType.TAKE_PROFIT: (TimeInForce.IOC,),
        }.get(order_type, tuple(TimeInForce))
        if c["time_in_force"] not in allowed:
            return Reason.BAD_TIME_IN_FORCE
        flags = [0]
        if order_type == OrderType.LIMIT and c["time_in_force"] in RESTING:
            flags.append(Flag.POST_ONLY)
        if order_type == OrderType.MARKET and c["time_in_force"] == TimeInForce.IOC:
            flags.append(Flag.QUOTE_AMOUNT)
        if c["flags"] & ~Flag.LEG not in flags:
            return Reason.BAD_FLAGS
        return 0 if c["self_trade"] in tuple(SelfTrade) else Reason.BAD_SELF_TRADE

    def _refusal_of_order_price(self) -> int:
        c = self.new
        if c["order_type"] in LIMITS:
            return self._refusal_of_price(int(c["price_ticks"]))
        bound = int(c["price_ticks"])
        return 0 if 0 <= bound <= self.market.definition["max_price_ticks"] else Reason.BAD_PRICE

    def _refusal_of_trigger(self) -> int:
        c = self.new
        trigger, trailing = int(c["trigger_ticks"]), int(c["trailing_bips"])
        if c["order_type"] in (OrderType.LIMIT, OrderType.MARKET):
            return Reason.BAD_TRIGGER if trigger or trailing else 0
        if trailing > 2000:
            return Reason.BAD_TRIGGER
        if trailing and trigger == 0:
            return 0
        reason = self._refusal_of_price(trigger)
        return Reason.BAD_TRIGGER if reason == Reason.BAD_PRICE else reason

    def _refusal_of_order_quantity(self) -> int:
        c = self.new
        if c["flags"] & Flag.QUOTE_AMOUNT:
            return 0 if 1 <= c["quantity_lots"] <= MAX_ASSET_UNITS else Reason.BAD_QUANTITY
        return self._refusal_of_quantity(int(self.market.definition["min_quantity_lots"]))

    def _refusal_of_terms(self) -> int:
        c, terms = self.new, self.terms
        quantity = int(c["quantity_lots"])
        display = int(terms["display_lots"]) if terms is not None else 0
        expire = int(terms["expire_ns"]) if terms is not None else 0
        if display and not (
            c["order_type"] in LIMITS
            and c["time_in_force"] in RESTING
            and 1 <= display < quantity
            and display % int(self.market.definition["quantity_step_lots"]) == 0
            and quantity <= 100 * display
        ):
            return Reason.BAD_DISPLAY
        if (c["time_in_force"] == TimeInForce.GTD) != (expire != 0):
            return Reason.BAD_EXPIRY
        return Reason.BAD_EXPIRY if expire and expire <= int(c["timestamp_ns"]) else 0

    def _refusal_of_value(self) -> int:
        c = self.new
        if c["order_type"] in LIMITS:
            value = int(c["price_ticks"]) * int(c["quantity_lots"]) * self.market.notional_units
            if value > MAX_INT64:
                return Reason.NOTIONAL_OVERFLOW
        elif c["flags"] & Flag.QUOTE_AMOUNT:
            value = int(c["quantity_lots"])
        else:
            return 0
        return Reason.BELOW_MIN_NOTIONAL if value < self.market.min_notional else 0

    def _refusal_of_reserved(self) -> int:
        terms = self.terms
        if self.new["reserved"] != 0:
            return Reason.BAD_FIELD
        if terms is not None and (
            terms["reserved"] != 0
            or terms["reserved_words"].any()
            or terms["reserved_bytes"].any()
            or terms["reserved_text"]
        ):
            return Reason.BAD_FIELD
        return 0

    def _refusal_of_change(self) -> int:
        c = self.command
        if c["side"] not in (0, Side.BUY, Side.SELL):
            return Reason.BAD_SIDE
        if c["order_type"] != 0:
            return Reason.BAD_ORDER_TYPE
        return Reason.BAD_TIME_IN_FORCE if c["time_in_force"] != 0 else 0

    def _refusal_of_cancel(self) -> int:
        c = self.command
        reason = self._refusal_of_change()
        if reason:
            return reason
        if c["flags"] not in (0, Flag.REPLACE, Flag.REPLACE | Flag.ALLOW_FAILURE):
            return Reason.BAD_FLAGS
        if c["price_ticks"] != 0:
            return Reason.BAD_PRICE
        # What the new order lacks.
        if c["quantity_lots"] < 0 or (c["quantity_lots"] and not c["flags"]):
            return Reason.BAD_QUANTITY
        return self._refusal_of_rest()

    def _refusal_of_amend(self) -> int:
        c = self.command
        reason = self._refusal_of_change()
        if reason:
            return reason
        if int(c["flags"]) & ~int(Flag.TO_OPEN | Flag.REQUEUE):
            return Reason.BAD_FLAGS
        if c["price_ticks"] == 0 and c["quantity_lots"] == 0:
            return Reason.NOTHING_TO_AMEND
        minimum = int(self.market.definition["min_quantity_lots"])
        if int(c["flags"]) & Flag.TO_OPEN:
            minimum = 1
        return (
            (self._refusal_of_price(int(c["price_ticks"])) if c["price_ticks"] else 0)
            or (self._refusal_of_quantity(minimum) if c["quantity_lots"] else 0)
            or self._refusal_of_notional(int(c["price_ticks"]), int(c["quantity_lots"]))
            or self._refusal_of_rest()
        )

    def _refusal_of_price(self, price: int) -> int:
        d = self.market.definition
        if not 1 <= price <= d["max_price_ticks"]:
            return Reason.BAD_PRICE
        return Reason.PRICE_OFF_TICK if price % int(d["price_step_ticks"]) else 0

    def _refusal_of_quantity(self, minimum: int) -> int:
        d, quantity = self.market.definition, int(self.command["quantity_lots"])
        if not minimum <= quantity <= d["max_quantity_lots"]:
            return Reason.BAD_QUANTITY
        return Reason.QUANTITY_OFF_LOT if quantity % int(d["quantity_step_lots"]) else 0

    def _refusal_of_notional(self, price: int, quantity: int) -> int:
        notional = price * quantity * self.market.notional_units
        return Reason.NOTIONAL_OVERFLOW if notional > MAX_INT64 else 0

    def _refusal_of_rest(self) -> int:
        c = self.command
        if c["trigger_ticks"] != 0 or c["reserved"] != 0:
            return Reason.BAD_FIELD
        return self._refusal_of_client_id()

    def _refusal_of_client_id(self) -> int:
        text = bytes(self.command["client_order_id"])  # NumPy has cut trailing zeroes
        printable = all(0x21 <= byte <= 0x7E for byte in text)
        return 0 if printable else Reason.BAD_CLIENT_ORDER_ID

    # ---- what commands do

    def _execute(self) -> int:
        kind = self.command["kind"]
        self._set_band()
        self.freed = 0
        self.queue: list[Order] = []
        if kind == Kind.NEW_ORDER:
            reason = self._new()
        else:
            reason = self._cancel() if kind == Kind.CANCEL_ORDER else self._amend()
        while self.queue:
            self._trigger(self.queue.pop(0))
        return reason

    def _set_band(self) -> None:
        """That of the last price before this record."""
        market = self.market
        self.band_low, self.band_high = 0, MAX_INT64
        if market.last_price and market.band_down:
            self.band_low = floor_div(market.last_price * (10_000 - market.band_down), 10_000)
        if market.last_price and market.band_up:
            self.band_high = ceil_div(market.last_price * (10_000 + market.band_up), 10_000)

    def _in_band(self, price: int) -> bool:
        return self.band_low <= price <= self.band_high

    def _order(self) -> Order:
        c = self.new
        return Order(
            order_id=self.sequence,
            account=int(c["account"]),
            side=int(c["side"]),
            order_type=int(c["order_type"]),
            time_in_force=int(c["time_in_force"]),
            price=int(c["price_ticks"]),
            leaves=int(c["quantity_lots"]),
            maker_ppm=int(c["maker_fee_ppm"]),
            taker_ppm=int(c["taker_fee_ppm"]),
            self_trade=int(c["self_trade"]),
            display=int(self.terms["display_lots"]) if self.terms is not None else 0,
            by_quote=bool(c["flags"] & Flag.QUOTE_AMOUNT),
            hold=0 if c["order_type"] in LIMITS else int(c["hold"]),
            trigger=int(c["trigger_ticks"]),
            trailing=int(c["trailing_bips"]),
        )

    def _new(self) -> int:
        market, order = self.market, self._order()
        waits = order.order_type not in (OrderType.LIMIT, OrderType.MARKET)
        if waits or order.time_in_force in RESTING:
            count = len(market.orders()) + len(market.waiting)
            if count == market.definition["max_orders"]:
                return Reason.TOO_MANY_ORDERS
            if (waits or order.display) and market.special() == self.max_specials:
                return Reason.TOO_MANY_ORDERS
        if order.is_limit and not self._in_band(order.price):
            return Reason.PRICE_BAND
        if waits:
            return self._wait(order)
        matches = order.is_limit and market.matches(order.side, order.price)
        if matches and self.new["flags"] & Flag.POST_ONLY:
            return Reason.WOULD_TAKE
        self._set_budget(order)
        if order.time_in_force == TimeInForce.FOK and not self._fillable(order):
            return Reason.NOT_FILLABLE
        if order.time_in_force in RESTING and not matches:
            market.add(order)
            self._order_event(EventKind.ACCEPTED, order, order.leaves, flags=EventFlag.RESTING)
            return 0
        self._order_event(EventKind.ACCEPTED, order, order.leaves, level=0)
        self._take(order)
        return 0

    def _wait(self, order: Order) -> int:
        last = self.market.last_price
        reached = bool(last and order.trigger and order.reaches(last))
        if reached and not order.trailing:
            return Reason.WOULD_TRIGGER
        order.state = BEGINS if order.trailing else WAITS
        if order.trailing and (order.trigger == 0 or reached):
            order.state, order.best = TRAILS, last
        self.market.waiting.append(order)
        self._order_event(EventKind.ACCEPTED, order, order.leaves, level=0, flags=EventFlag.WAITING)
        return 0

    def _trigger(self, order: Order) -> None:
        self._order_event(EventKind.TRIGGERED, order, order.leaves, level=0)
        self._part(order)
        self._set_budget(order)
        if order.time_in_force == TimeInForce.FOK and not self._fillable(order):
            self._expire_taker(order, Reason.NOT_FILLABLE)
            return
        self._take(order, triggered=True)

    def _cancel(self) -> int:
        order = self.market.find(int(self.command["order_id"]))
        if order is None:
            return Reason.UNKNOWN_ORDER
        self.freed = self._hold(order, order.price, order.leaves)
        left, order.leaves = order.leaves, 0
        given = int(self.command["cancel_reason"])
        reason = given % 2**16 if given else Reason.ON_REQUEST
        if order in self.market.waiting:
            self.market.waiting.remove(order)
            self._order_event(EventKind.CANCELED, order, left, level=0, reason=reason)
        else:
            self.market.remove(order)
            self._order_event(
                EventKind.CANCELED, order, left, reason=reason, flags=EventFlag.RESTING
            )
        self._part(order)
        return 0

    def _hold(self, order: Order, price: int, quantity: int) -> int:
        """What it holds for so much at this price."""
        if order.side == Side.BUY:
            return min(price * quantity * self.market.notional_units, MAX_INT64)
        return quantity * self.market.lot_units

    def _amend(self) -> int:
        c, market = self.command, self.market
        order = market.find(int(c["order_id"]))
        if order is None:
            return Reason.UNKNOWN_ORDER
        if order in market.waiting or order.partner:
            return Reason.CANNOT_AMEND
        price = int(c["price_ticks"]) or order.price
        left = order.leaves
        if c["quantity_lots"]:
            filled = 0 if c["flags"] & Flag.TO_OPEN else order.cumulative
            left = int(c["quantity_lots"]) - filled
        reason = self._refusal_of_amended(order, price, left)
        if reason:
            return reason
        total = order.cumulative + left
        before = {"maker_cumulative_lots": order.price}  # in the bytes of previous_price_ticks
        if price == order.price and left <= order.leaves and not c["flags"] & Flag.REQUEUE:
            less = order.leaves - left
            hidden_less = min(less, order.leaves - order.shown)
            order.leaves = left
            order.shown -= less - hidden_less
            # In the bytes of previous_level_lots.
            before["maker_leaves_lots"] = market.level(order.side, order.price) - order.shown
            self._order_event(EventKind.AMENDED, order, total, flags=EventFlag.RESTING, **before)
            return 0
        market.remove(order)
        before["maker_leaves_lots"] = market.level(order.side, order.price)
        order.price, order.leaves = price, left
        if not market.matches(order.side, price):
            market.add(order)
            self._order_event(EventKind.AMENDED, order, total, flags=EventFlag.RESTING, **before)
            return 0
        self._order_event(EventKind.AMENDED, order, total, level=0, **before)
        self._take(order)
        return 0

    def _refusal_of_amended(self, order: Order, price: int, left: int) -> int:
        c, d = self.command, self.market.definition
        total = order.cumulative + left
        if left <= 0:
            return Reason.BELOW_FILLED
        if c["quantity_lots"] and not d["min_quantity_lots"] <= total <= d["max_quantity_lots"]:
            return Reason.BAD_QUANTITY
        if self._refusal_of_notional(price, total):
            return Reason.NOTIONAL_OVERFLOW
        if c["price_ticks"] and not self._in_band(price):
            return Reason.PRICE_BAND

        extra = int(c["hold"])
        more = self._hold(order, price, left) - self._hold(order, order.price, order.leaves)
        if self.check_holds and extra != -1 and more > max(extra, 0):
            return Reason.HOLD_EXCEEDED
        return 0

    # ---- matching

    def _set_budget(self, order: Order) -> None:
        order.budget = None
        if order.is_limit or order.hold <= 0:
            return
        if order.side == Side.BUY:
            order.budget = order.hold
        elif order.by_quote:
            order.budget = floor_div(order.hold, self.market.lot_units)

    def _payable(self, order: Order, price: int) -> int:
        """How many lots at this price an order may take, whatever is there."""
        one = price * self.market.notional_units
        lots = floor_div(order.leaves, one) if order.by_quote else order.leaves
        if order.budget is not None:
            paid = floor_div(order.budget, one) if order.side == Side.BUY else order.budget
            lots = min(lots, paid)
        return lots

    def _spend(self, order: Order, price: int, lots: int, trade: bool) -> None:
        value = price * lots * self.market.notional_units
        order.leaves -= value if order.by_quote else lots
        if trade and order.budget is not None:
            order.budget -= value if order.side == Side.BUY else lots

    def _beyond_band(self, order: Order, price: int) -> bool:
        return price > self.band_high if order.side == Side.BUY else price < self.band_low

    def _fillable(self, taker: Order) -> bool:
        """Fill-or-kill: play it on paper, order by order as they would be met."""
        wanted, budget = taker.leaves, taker.budget
        for price in self.market.matches(taker.side, taker.price):
            if self._beyond_band(taker, price):
                break
            # (shown, hidden, is it one's own)
            queue = [
                [o.shown, o.leaves - o.shown, o.account == taker.account, o.display]
                for o in self.market.levels[opposite(taker.side), price]
            ]
            while queue and wanted:
                shown, hidden, own, display = queue.pop(0)
                if own and taker.self_trade != SelfTrade.TRADE_WITH_SELF:
                    if taker.self_trade == SelfTrade.EXPIRE_MAKER:
                        continue
                    return False
                lots = min(shown, wanted)
                if budget is not None:
                    budget -= lots * price * self.market.notional_units
                    if budget < 0:
                        return False
                wanted -= lots
                if hidden:
                    slice_ = min(display, hidden)
                    queue.append([slice_, hidden - slice_, own, display])
        return wanted == 0

    def _take(self, taker: Order, triggered: bool = False) -> None:
        """Match it to its end."""
        market = self.market
        while taker.leaves:
            matches = market.matches(taker.side, taker.price if taker.price else 0)
            if not matches:
                break
            price = matches[0]
            maker = market.levels[opposite(taker.side), price][0]
            if self._beyond_band(taker, price):
                self._expire_taker(taker, Reason.PRICE_BAND)
                return
            lots = self._payable(taker, price)
            if lots == 0:
                self._expire_taker(taker, Reason.BUDGET_SPENT)
                return
            own = maker.account == taker.account
            if not own or taker.self_trade == SelfTrade.TRADE_WITH_SELF:
                self._fill(taker, maker, min(lots, maker.shown), trade=True)
            elif taker.self_trade == SelfTrade.DECREMENT:
                self._fill(taker, maker, min(lots, maker.shown), trade=False)
            else:
                if taker.self_trade in (SelfTrade.EXPIRE_MAKER, SelfTrade.EXPIRE_BOTH):
                    self._expire_maker(maker)
                if taker.self_trade in (SelfTrade.EXPIRE_TAKER, SelfTrade.EXPIRE_BOTH):
                    self._expire_taker(taker, Reason.SELF_TRADE)
                    return
        if taker.leaves == 0:
            return
        if not taker.is_limit or taker.time_in_force not in RESTING:
            self._expire_taker(taker, Reason.NO_LIQUIDITY)
        elif triggered and not self._in_band(taker.price):
            self._expire_taker(taker, Reason.PRICE_BAND)
        else:
            market.add(taker)
            self._order_event(EventKind.RESTED, taker, taker.cumulative + taker.leaves)

    def _fill(self, taker: Order, maker: Order, lots: int, trade: bool) -> None:
        market = self.market
        self._spend(taker, maker.price, lots, trade)
        maker.leaves -= lots
        maker.shown -= lots
        if trade:
            taker.cumulative += lots
            maker.cumulative += lots
            market.trades += 1
        if maker.shown == 0:
            # The next slice goes to the end of the queue.
            market.remove(maker)
            if maker.leaves:
                market.add(maker)
        others = self._fees(taker, maker, lots) if trade else {}
        self._order_event(
            EventKind.TRADE if trade else EventKind.PREVENTED,
            taker,
            lots,
            level=market.level(maker.side, maker.price),
            price_ticks=maker.price,
            maker_order_id=maker.order_id,
            maker_leaves_lots=maker.leaves,
            maker_cumulative_lots=maker.cumulative,
            maker_account=maker.account,
            trade_id=market.trades if trade else 0,
            **others,
        )
        self._part(maker)
        if trade:
            market.last_price = maker.price
            self._reach(maker.price)

    def _fees(self, taker: Order, maker: Order, lots: int) -> dict[str, int]:
        base = lots * self.market.lot_units
        quote = lots * maker.price * self.market.notional_units
        taken, given = (base, quote) if taker.side == Side.BUY else (quote, base)
        fee = ceil_div(taken * taker.taker_ppm, 1_000_000) if taker.taker_ppm > 0 else 0
        if maker.maker_ppm >= 0:
            maker_fee = ceil_div(given * maker.maker_ppm, 1_000_000)
        else:
            maker_fee = -min(fee, floor_div(taken * -maker.maker_ppm, 1_000_000))
        return {"fee": fee, "maker_fee": maker_fee}

    def _reach(self, price: int) -> None:
        """After a fill: what it triggers queues."""
        waiting = self.market.waiting
        plain = [o for o in waiting if o.state == WAITS and o.reaches(price)]
        rise = [o for o in plain if (o.side == Side.BUY) == (o.order_type in STOPS)]
        fall = [o for o in plain if o not in rise]
        rise.sort(key=lambda o: (o.trigger, o.order_id))
        fall.sort(key=lambda o: (-o.trigger, o.order_id))
        trailing = []
        for order in waiting:
            if order.state == TRAILS:
                if order.best == 0:
                    order.best = price
                elif order.side == Side.BUY:
                    order.best = min(order.best, price)
                    at = ceil_div(order.best * (10_000 + order.trailing), 10_000)
                    trailing += [order] if price >= at else []
                else:
                    order.best = max(order.best, price)
                    at = floor_div(order.best * (10_000 - order.trailing), 10_000)
                    trailing += [order] if price <= at else []
            elif order.state == BEGINS and order.reaches(price):
                order.state, order.best = TRAILS, price
        trailing.sort(key=lambda o: o.order_id)
        for order in rise + fall + trailing:
            waiting.remove(order)
            self.queue.append(order)

    def _expire_taker(self, taker: Order, reason: int) -> None:
        left, taker.leaves = taker.leaves, 0
        self._order_event(EventKind.EXPIRED, taker, left, level=0, reason=reason)

    def _expire_maker(self, maker: Order) -> None:
        self.market.remove(maker)
        left, maker.leaves = maker.leaves, 0
        self._order_event(
            EventKind.EXPIRED, maker, left, reason=Reason.SELF_TRADE, flags=EventFlag.RESTING
        )
        self._part(maker)

    # ---- events

    def _order_event(
        self, kind: int, order: Order, quantity: int, level: int | None = None, **others: int
    ) -> None:
        values = {
            "order_id": order.order_id,
            "price_ticks": order.price,
            "quantity_lots": quantity,
            "leaves_lots": order.leaves,
            "cumulative_lots": order.cumulative,
            "level_lots": self.market.level(order.side, order.price) if level is None else level,
            "account": order.account,
            "side": order.side,
        }
        self._event(kind, **(values | others))

    def _event(self, kind: int, **values: int) -> None:
        event = dict.fromkeys(FIELDS, 0)
        event |= {
            "sequence": self.sequence,
            "market": self.command["market"],
            "index": len(self.events),
            "kind": kind,
        }
        self.events.append(event | values)


def view(command: Any, dtype: Any) -> Any:
    """The same 128 bytes under other names."""
    return np.array([command], COMMAND).view(dtype)[0]
