"""Balances, the live orders as the sequencer sees them, and what is held for them.

All of it moves when an event is settled, or, where the sequencer itself decides (holds, deposits,
withdrawals, transfers), with the record.
"""

from collections import Counter
from dataclasses import dataclass, field

from matchbox.shm.records import FEE_ACCOUNT, Side
from matchbox.tools.audit.definitions import Market
from matchbox.tools.audit.records import Event, Record, Terms


@dataclass
class Balance:
    free: int = 0
    held: int = 0


@dataclass
class Amend:
    """An amend that is under way: what it asks for, and what is held more for it."""

    price: int  # 0: as it is
    quantity: int  # 0: as it is
    to_open: bool
    extra: int


@dataclass
class Pending:
    """What a pending order is to be, once the working order of its list is filled."""

    record: Record
    terms: Terms


@dataclass(eq=False)
class LiveOrder:
    """An order from its record until its end is settled. `price` of market orders is the bound."""

    order_id: int
    account: int
    market: Market
    session: int
    side: int
    order_type: int
    market_order: bool  # or will be one when it is triggered
    budget: bool  # a MARKET order that spends what is held for it until it ends
    price: int
    leaves: int
    hold: int
    client_order_id: bytes
    cumulative: int = 0
    replaces: int = 0  # the record of the cancel before it
    lacking: int = 0  # of a replacement: what is to come from the order that it replaces
    list_id: int = 0
    pending: Pending | None = None  # it holds nothing then, and no book knows it
    pair: "LiveOrder | None" = None  # the other of a pair, while both live
    second: bool = False  # of the pair: it holds only what it needs more than the first
    doomed: bool = False  # the next event cancels it, since the other of its pair was filled, ...
    amends: dict[int, Amend] = field(default_factory=dict)  # by their records
    # While there are some: what they make of it, as it was when they were sequenced.
    next_price: int = 0
    next_total: int = 0

    @property
    def asset(self) -> int:
        """What is held for it."""
        return self.market.quote if self.side == Side.BUY else self.market.base

    def value(self, price: int, lots: int) -> int:
        """What so many lots at this price take of that asset."""
        if self.side == Side.BUY:
            return price * lots * self.market.notional_units
        return lots * self.market.lot_units

    def needs(self) -> int:
        """What must be held for it, amends that are under way included."""
        if self.pending:
            return 0
        if self.budget:
            return self.hold
        need = self.value(self.price, self.leaves)
        if self.pair and self.second:
            # Its quantity is the first one's, too, until one of them is filled or ends.
            need = max(0, need - self.pair.value(self.pair.price, self.leaves))
        return need - self.lacking + sum(amend.extra for amend in self.amends.values())

    def expected(self) -> tuple[int, int]:
        """Price and open quantity, amends that are under way counted as done."""
        if not self.amends:
            return self.price, self.leaves
        return self.next_price, max(0, self.next_total - self.cumulative)

    def amended(self, amend: Amend, price: int, leaves: int) -> tuple[int, int]:
        """Price and open quantity after one more amend; one that is too low changes nothing."""
        if amend.quantity:
            if self._too_low(amend):
                return price, leaves
            leaves = amend.quantity - (0 if amend.to_open else self.cumulative)
        return amend.price or price, leaves

    def more(self, amend: Amend) -> tuple[int, int]:
        """What must be held more for an amend, and what could be needed after fills in between."""
        price, leaves = self.expected()
        new_price, lots = self.amended(amend, price, leaves)
        if amend.quantity and self._too_low(amend):
            return 0, 0
        least = self.value(new_price, lots) - self.value(price, leaves)
        if amend.quantity and amend.to_open:
            most = self.value(new_price, lots)
        else:
            most = self.value(new_price, max(0, lots - leaves))
        return least, max(least, most)

    def _too_low(self, amend: Amend) -> bool:
        return amend.quantity - (0 if amend.to_open else self.cumulative) <= 0


@dataclass
class Withdrawal:
    account: int
    asset: int
    amount: int


@dataclass
class Ledger:
    balances: dict[tuple[int, int], Balance] = field(default_factory=dict)
    orders: dict[int, LiveOrder] = field(default_factory=dict)  # the oldest first
    by_client_id: dict[tuple[int, bytes], LiveOrder] = field(default_factory=dict)
    lists: dict[int, list[LiveOrder]] = field(default_factory=dict)  # pending orders, by list
    # How many are live in (market, account); account 0: in the market
    counts: Counter[tuple[int, int]] = field(default_factory=Counter)
    withdrawals: dict[bytes, Withdrawal] = field(default_factory=dict)  # those that wait
    references: set[bytes] = field(default_factory=set)
    deposited: dict[int, int] = field(default_factory=dict)
    withdrawn: dict[int, int] = field(default_factory=dict)
    fees: dict[int, int] = field(default_factory=dict)  # what fills have brought

    # ---- looking

    def balance(self, account: int, asset: int) -> Balance:
        return self.balances.setdefault((account, asset), Balance())

    def free(self, account: int, asset: int) -> int:
        return self.balance(account, asset).free

    def total(self, asset: int) -> int:
        """What all accounts have together, by the movements."""
        return self.deposited.get(asset, 0) - self.withdrawn.get(asset, 0)

    def find(self, account: int, order_id: int, client_order_id: bytes) -> LiveOrder | None:
        """The live order of the account with this id, and this client order id, if given."""
        if order_id:
            order = self.orders.get(order_id)
        else:
            order = self.by_client_id.get((account, client_order_id))
        if order is None or order.account != account:
            return None
        return order if client_order_id in (b"", order.client_order_id) else None

    def live(self, account: int = 0, market: int = 0, side: int = 0) -> list[LiveOrder]:
        """Live orders, the oldest first; 0 does not select."""
        return [
            order
            for order in self.orders.values()
            if account in (0, order.account)
            and market in (0, order.market.number)
            and side in (0, order.side)
        ]

    # ---- money records

    def deposit(self, account: int, asset: int, amount: int, reference: bytes) -> None:
        self.references.add(reference)
        self.balance(account, asset).free += amount
        self.deposited[asset] = self.deposited.get(asset, 0) + amount

    def request(self, account: int, asset: int, amount: int, reference: bytes) -> None:
        self.references.add(reference)
        self.withdrawals[reference] = Withdrawal(account, asset, amount)
        self._hold(account, asset, amount)

    def settle_withdrawal(self, reference: bytes) -> None:
        gone = self.withdrawals.pop(reference)
        self.balance(gone.account, gone.asset).held -= gone.amount
        self.withdrawn[gone.asset] = self.withdrawn.get(gone.asset, 0) + gone.amount

    def cancel_withdrawal(self, reference: bytes) -> None:
        back = self.withdrawals.pop(reference)
        self._hold(back.account, back.asset, -back.amount)

    def transfer(self, source: int, target: int, asset: int, amount: int, reference: bytes) -> None:
        if reference:
            self.references.add(reference)
        self.balance(source, asset).free -= amount
        self.balance(target, asset).free += amount

    def _hold(self, account: int, asset: int, amount: int) -> None:
        balance = self.balance(account, asset)
        balance.free -= amount
        balance.held += amount

    def forget(self, asset: int) -> None:
        """Nobody has any of it; an asset that gets the number again begins with nothing."""
        for movements in (self.deposited, self.withdrawn, self.fees):
            movements.pop(asset, None)

    # ---- orders, as they are sequenced

    def add(self, order: LiveOrder) -> None:
        self.orders[order.order_id] = order
        if order.client_order_id:
            self.by_client_id[order.account, order.client_order_id] = order
        self._count(order, 1)
        self._hold(order.account, order.asset, order.hold)

    def add_pair(self, first: LiveOrder, second: LiveOrder) -> None:
        """Two orders of which one cancels the other."""
        first.pair, second.pair, second.second = second, first, True
        self.add(first)
        self.add(second)

    def add_pending(self, order: LiveOrder) -> None:
        self.add(order)
        self.lists.setdefault(order.list_id, []).append(order)

    def in_list(self, order: LiveOrder) -> bool:
        """Does another order of its list live?"""
        return order.pair is not None or (order.list_id in self.lists)

    def add_amend(self, order: LiveOrder, sequence: int, amend: Amend) -> None:
        price, lots = order.amended(amend, *order.expected())
        order.next_price, order.next_total = price, lots + order.cumulative
        order.amends[sequence] = amend
        order.hold += amend.extra
        self._hold(order.account, order.asset, amend.extra)

    # ---- events, as they are settled

    def fill(self, event: Event) -> int:
        """A TRADE: money moves, holds are trimmed. Its value in units of the quote asset."""
        taker, maker = self.orders[event.order_id], self.orders[event.maker_order_id]
        market = taker.market
        value = event.price_ticks * event.quantity_lots * market.notional_units
        base = event.quantity_lots * market.lot_units
        buyer, seller = (taker, maker) if event.side == Side.BUY else (maker, taker)
        self._pay(buyer, value)
        self._pay(seller, base)
        self.balance(buyer.account, market.base).free += base
        self.balance(seller.account, market.quote).free += value
        received = market.base if taker is buyer else market.quote
        self._charge(taker.account, received, event.fee)
        if event.maker_fee >= 0:
            maker_received = market.quote if taker is buyer else market.base
            self._charge(maker.account, maker_received, event.maker_fee)
        else:
            self._charge(maker.account, received, event.maker_fee)
        for order, leaves, cumulative in (
            (taker, event.leaves_lots, event.cumulative_lots),
            (maker, event.maker_leaves_lots, event.maker_cumulative_lots),
        ):
            order.leaves, order.cumulative = leaves, cumulative
            self.trim(order)
        return value

    def prevented(self, event: Event) -> None:
        for order_id, leaves in (
            (event.order_id, event.leaves_lots),
            (event.maker_order_id, event.maker_leaves_lots),
        ):
            self.orders[order_id].leaves = leaves
            self.orders[order_id].next_total -= event.quantity_lots
            self.trim(self.orders[order_id])

    def trim(self, order: LiveOrder) -> None:
        """Free what is held and not needed any more; an order with nothing open has ended."""
        if order.leaves == 0:
            self.end(order.order_id)
            return
        surplus = order.hold - order.needs()
        if surplus > 0:
            order.hold -= surplus
            self._hold(order.account, order.asset, -surplus)

    def end(self, order_id: int) -> None:
        order = self.orders.pop(order_id)
        # Its replacement may have taken its client order id.
        if self.by_client_id.get((order.account, order.client_order_id)) is order:
            del self.by_client_id[order.account, order.client_order_id]
        self._count(order, -1)
        if order.pair:
            self._leave_pair(order, order.pair)
        self._hold(order.account, order.asset, -order.hold)
        order.hold = 0
        if order.pending:
            self.lists[order.list_id].remove(order)
            if not self.lists[order.list_id]:
                del self.lists[order.list_id]

    def _leave_pair(self, order: LiveOrder, other: LiveOrder) -> None:
        """What one of a pair holds when it ends goes to the other, as far as that needs it."""
        order.pair = other.pair = None
        self._move(order, other, other.needs() - other.hold)

    def replace(self, order: LiveOrder, cancel: int) -> None:
        """An order is canceled by this record: what its replacement lacks goes to that."""
        for new in self.orders.values():
            if new.replaces == cancel:
                new.lacking -= self._move(order, new, new.lacking)

    def _move(self, source: LiveOrder, target: LiveOrder, wanted: int) -> int:
        """Of what one order holds so much to another, or what there is."""
        amount = max(0, min(wanted, source.hold))
        source.hold -= amount
        target.hold += amount
        return amount

    def _count(self, order: LiveOrder, by: int) -> None:
        self.counts[order.market.number, order.account] += by
        self.counts[order.market.number, 0] += by

    def _pay(self, order: LiveOrder, amount: int) -> None:
        """Out of what is held for an order."""
        order.hold -= amount
        self.balance(order.account, order.asset).held -= amount

    def _charge(self, account: int, asset: int, fee: int) -> None:
        """A fee, or, below 0, a rebate out of the taker's."""
        self.balance(account, asset).free -= fee
        self.balance(FEE_ACCOUNT, asset).free += fee
        self.fees[asset] = self.fees.get(asset, 0) + fee
