"""A bot's session: orders in, reports out, through two rings in shared memory.

The bot writes one segment (its commands, and how far it has read its reports) and reads the other. Nothing here
calls the kernel while there is something to do; waiting spins, or parks on the word in the command segment that
the engine rings after new reports and after it took commands.

A session belongs to one thread at a time.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

import select
from datetime import datetime, timezone

import numpy as np

from matchbox.shm.records cimport *
from matchbox.shm.ring cimport *

from matchbox.shm import commands as make
from matchbox.shm.arguments import seconds, wait_strategy
from matchbox.shm.errors import BadArgument, Detached, EngineDown, RingFull
from matchbox.shm.market import in_range
from matchbox.shm.reasons import describe
from matchbox.shm.records import COMMAND, REPORT, Kind
from matchbox.shm.streams import Pull

cdef enum:
    SPIN_LOOKS = 2000           # looks before parking, some 20 microseconds
    PARK_SLICE_NS = 100000000   # a parked bot looks whether the engine lives this often
    MOST_TOGETHER = 8           # records of a group while it is made: three legs with terms

_SIDES = {"buy": MB_BUY, "sell": MB_SELL}
_TIMES_IN_FORCE = {"GTC": MB_GTC, "GTD": MB_GTD, "IOC": MB_IOC, "FOK": MB_FOK}
_ORDER_TYPES = {
    "limit": MB_LIMIT,
    "market": MB_MARKET,
    "stop_loss": MB_STOP_LOSS,
    "stop_loss_limit": MB_STOP_LOSS_LIMIT,
    "take_profit": MB_TAKE_PROFIT,
    "take_profit_limit": MB_TAKE_PROFIT_LIMIT,
}
_SELF_TRADES = {
    "none": MB_TRADE_WITH_SELF,
    "expire_taker": MB_EXPIRE_TAKER,
    "expire_maker": MB_EXPIRE_MAKER,
    "expire_both": MB_EXPIRE_BOTH,
    "decrement": MB_DECREMENT,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


cdef inline int64_t _now_ns() noexcept nogil:
    cdef timespec clock
    clock_gettime(CLOCK_MONOTONIC, &clock)
    return <int64_t>clock.tv_sec * 1000000000 + clock.tv_nsec


cdef int64_t _deadline_ns(timeout) except? -2:
    """The time `timeout` seconds from now; -1 for None, which is never. Raises BadArgument."""
    seconds(timeout)
    if timeout is None:
        return -1
    return _now_ns() + <int64_t>(max(timeout, 0) * 1e9)


cdef class Session:
    """One attached session. Made by matchbox.connect(); see docs/sdk.md.

    number, name    of the session; the name goes on where it stopped when it attaches again
    account         number of the account it trades for
    doorbell        with connect(doorbell=True): a descriptor for an event loop, see arm(); else -1
    """

    cdef readonly object name
    cdef readonly uint32_t number
    cdef readonly uint32_t account
    cdef readonly object closed
    cdef readonly int doorbell
    cdef object _connection
    cdef Ring _command_ring
    cdef Ring _report_ring
    cdef mb_ring* _commands
    cdef uint8_t* _command_slots
    cdef uint64_t _command_mask
    cdef uint64_t _sent
    cdef uint64_t _taken
    cdef const mb_ring* _reports
    cdef const uint8_t* _report_slots
    cdef uint64_t _report_mask
    cdef uint64_t _read
    cdef object _pidfds
    cdef object _poller
    cdef bint _spin
    cdef int _detached
    cdef mb_record _group[MOST_TOGETHER]
    cdef int _grouped           # records of a group that is being made, -1: none is

    def __init__(self, connection, Ring commands not None, Ring reports not None, *, number, name, account,
                 pidfds=(), wait="park", doorbell=-1):
        wait_strategy(wait)
        self._connection = connection
        self._command_ring, self._report_ring = commands, reports
        self._commands, self._reports = commands.ring, reports.ring
        self._command_slots = <uint8_t*>commands.ring + MB_RING_SLOTS_OFFSET
        self._report_slots = <const uint8_t*>reports.ring + MB_RING_SLOTS_OFFSET
        self._command_mask = commands.ring.header.capacity - 1
        self._report_mask = reports.ring.header.capacity - 1
        self._sent = mb_load_acquire(&self._commands.producer.value)
        self._taken = self._sent
        self._read = mb_load_acquire(&self._commands.readers[1].value)
        self.number, self.name, self.account = number, name, account
        self._grouped = -1
        self._spin = wait == "spin"
        self.doorbell = doorbell
        self._pidfds = tuple(pidfds)
        self._poller = select.poll()
        for fd in self._pidfds:
            self._poller.register(fd, select.POLLIN)
        self.closed = False

    # -- sending

    def submit(self, commands, timeout=None):
        """Send a whole array of commands at once, or none of it; returns the position of the first.

        commands  one-dimensional array of dtype COMMAND; other kinds of record are views of it, as in
                  `commands.view(MONEY_RECORD)`. What records.h marks (s) is the sequencer's to fill in
        timeout   seconds to wait for room in the ring; None: do not wait

        Positions count this session's commands from 1; reports that answer a command carry its position.
        Raises RingFull (nothing was sent), Detached, EngineDown, BadArgument.
        """
        if not isinstance(commands, np.ndarray) or commands.dtype != COMMAND or commands.ndim != 1:
            raise BadArgument(
                "commands must be a one-dimensional array of dtype COMMAND: "
                f"{getattr(commands, 'dtype', type(commands).__name__)}, ndim={getattr(commands, 'ndim', None)}"
            )
        cdef uint64_t count = len(commands)
        if count == 0:
            return self._sent + 1
        if count > self._command_mask + 1:
            raise BadArgument(
                f"more commands than the ring can hold: commands={count}, capacity={self._command_mask + 1}"
            )
        if not commands.flags.c_contiguous:
            commands = np.ascontiguousarray(commands)
        self._make_room(count, timeout)
        cdef const uint8_t[::1] view = commands.view(np.uint8)
        cdef uint64_t first = self._sent & self._command_mask
        cdef uint64_t head = min(count, self._command_mask + 1 - first)
        with nogil:
            memcpy(self._command_slots + first * 128, &view[0], head * 128)
            if head < count:
                memcpy(self._command_slots, &view[head * 128], (count - head) * 128)
            self._publish(count)
        return self._sent - count + 1

    def order(self, market, side, quantity=None, price=None, *, quantity_lots=None, price_ticks=None,
              quote_amount=None, quote_units=None, order_type=None, time_in_force=None, expire=None, post_only=False,
              trigger=None, trigger_ticks=None, trailing_bips=0, display=None, display_lots=None, self_trade="none",
              client_order_id="", account=0, timeout=None):
        """Send one new order: a limit order, or a market order if no price is given. Returns its position.

        market            a Market, or its symbol or number
        side              "buy" or "sell"
        quantity, price   str, int or Decimal in units of the base and quote asset; or exact integers:
        quantity_lots, price_ticks
        quote_amount      of a market order, instead of its quantity: how much of the quote asset to spend or to get;
        quote_units       or the same in units of the asset
        order_type        "limit", "market", "stop_loss", "stop_loss_limit", "take_profit" or "take_profit_limit";
                          the last four wait until the last price reaches `trigger`
        time_in_force     "GTC" (default with a price), "IOC" (default without), "FOK", or "GTD" (default with expire)
        expire            of GTD: a datetime with a time zone, or nanoseconds since 1970
        post_only         refuse it rather than let it take
        trigger           price at which an order that waits is triggered; or trigger_ticks
        trailing_bips     the trigger follows the price at this distance, in 1/10,000
        display           iceberg: how much of it is shown at a time; or display_lots
        self_trade        instead of a fill between two orders of the account: "expire_taker", "expire_maker",
                          "expire_both", "decrement"; "none" lets them match
        client_order_id   up to 36 printable ASCII characters; unique among the account's live orders
        account           number of another account (trusted sessions)

        An order with `display` or `expire` takes two commands: its ORDER_TERMS, which are answered with DONE at the
        position before, and itself. They are sent at once, and refused together.
        """
        cdef mb_record record
        cdef mb_terms_record terms
        cdef mb_new_order* order = <mb_new_order*>&record
        market = self._market(market)
        memset(&record, 0, sizeof(record))
        memset(&terms, 0, sizeof(terms))
        record.kind = MB_NEW_ORDER
        record.market = market.number
        record.side = _choice(side, "side", _SIDES)
        record.account = _number(account, "account", 0xFFFFFFFF)
        record.price_ticks = _either(price, price_ticks, "price", "price_ticks", market.ticks, False)
        priced = price is not None or price_ticks is not None
        if order_type is None:
            order_type = "limit" if priced else "market"
        record.order_type = _choice(order_type, "order_type", _ORDER_TYPES)
        wants_price = order_type == "limit" or order_type.endswith("_limit")
        if priced != wants_price:
            raise BadArgument(f"an order of type {order_type} has {'a' if wants_price else 'no'} price")
        if quote_amount is not None or quote_units is not None:
            if quantity is not None or quantity_lots is not None:
                raise BadArgument("give a quantity or an amount of the quote asset, not both")
            if order_type != "market":
                raise BadArgument(f"only a market order can be by quote amount: order_type={order_type}")
            record.quantity_lots = in_range(
                _either(quote_amount, quote_units, "quote_amount", "quote_units", market.quote_units, True),
                "quote_amount", quote_units if quote_amount is None else quote_amount)
            record.flags |= MB_QUOTE_AMOUNT
        else:
            record.quantity_lots = _either(quantity, quantity_lots, "quantity", "quantity_lots", market.lots, True)
        if post_only:
            record.flags |= MB_POST_ONLY
        record.trigger_ticks = _either(trigger, trigger_ticks, "trigger", "trigger_ticks", market.ticks, False)
        order.trailing_bips = _number(trailing_bips, "trailing_bips", 0xFFFF)
        _check_trigger(order_type, trigger is not None or trigger_ticks is not None, order.trailing_bips)
        order.self_trade = _choice(self_trade, "self_trade", _SELF_TRADES)
        terms.expire_ns = 0 if expire is None else _time_ns(expire)
        if time_in_force is None:
            time_in_force = "GTD" if expire is not None else "GTC" if wants_price else "IOC"
        record.time_in_force = _choice(time_in_force, "time_in_force", _TIMES_IN_FORCE)
        if (expire is not None) != (time_in_force == "GTD"):
            raise BadArgument(f"expire goes with GTD, and GTD with expire: time_in_force={time_in_force}")
        terms.display_lots = _either(display, display_lots, "display", "display_lots", market.lots, False)
        _set_client_id(&record, client_order_id)
        if display is None and display_lots is None and expire is None:
            return self._send(&record, timeout)
        terms.kind = MB_ORDER_TERMS
        terms.market, terms.account = record.market, record.account
        return self._send_two(<mb_record*>&terms, &record, timeout)

    def buy(self, market, quantity=None, price=None, **options):
        """order() with side="buy"."""
        return self.order(market, "buy", quantity, price, **options)

    def sell(self, market, quantity=None, price=None, **options):
        """order() with side="sell"."""
        return self.order(market, "sell", quantity, price, **options)

    def cancel(self, order_id=0, *, client_order_id="", account=0, timeout=None):
        """Cancel an order by its order id or by its client order id. Returns the command's position."""
        cdef mb_record record
        memset(&record, 0, sizeof(record))
        record.kind = MB_CANCEL_ORDER
        self._name_order(&record, order_id, client_order_id, account)
        return self._send(&record, timeout)

    def amend(self, order_id=0, *, client_order_id="", market=None, price=None, price_ticks=None, quantity=None,
              quantity_lots=None, to_open=False, requeue=False, account=0, timeout=None):
        """Change price, quantity or both of an order. Returns the command's position.

        quantity   the order's new total; with to_open, what is to remain open
        requeue    give up the place in the queue even where it could be kept

        Less quantity at the same price keeps the place; anything else loses it. `market` is needed only to
        convert `price` and `quantity`; price_ticks and quantity_lots need none.
        """
        cdef mb_record record
        memset(&record, 0, sizeof(record))
        record.kind = MB_AMEND_ORDER
        self._name_order(&record, order_id, client_order_id, account)
        if market is not None:
            market = self._market(market)
            record.market = market.number
        elif price is not None or quantity is not None:
            raise BadArgument("amend with price or quantity needs market; or give price_ticks, quantity_lots")
        if price is not None or price_ticks is not None:
            record.price_ticks = _either(price, price_ticks, "price", "price_ticks",
                                         market.ticks if market is not None else None, True)
        if quantity is not None or quantity_lots is not None:
            record.quantity_lots = _either(quantity, quantity_lots, "quantity", "quantity_lots",
                                           market.lots if market is not None else None, True)
        record.flags = (MB_TO_OPEN if to_open else 0) | (MB_REQUEUE if requeue else 0)
        return self._send(&record, timeout)

    def replace(self, order_id, market, side, quantity=None, price=None, *, canceled_client_order_id="",
                allow_failure=False, account=0, timeout=None, **options):
        """Cancel an order and send a new one in its place, both at once. Returns the new order's position.

        order_id                   of the order to cancel, or 0 and its canceled_client_order_id
        market, side, ...          of the new order, as of order(); its client order id may be the old one's
        allow_failure              send the new order also if the old one cannot be canceled (it is filled, say)

        What the old order held pays for the new one. The cancel has a position of its own: one before the new order's,
        two if that has `display` or `expire`. If the cancel is refused, so is the new order (CANCEL_FAILED).
        """
        cdef mb_record cancel
        cdef mb_record* records
        memset(&cancel, 0, sizeof(cancel))
        cancel.kind = MB_CANCEL_ORDER
        cancel.flags = MB_REPLACE | (MB_ALLOW_FAILURE if allow_failure else 0)
        cancel.market = self._market(market).number
        if not order_id and not canceled_client_order_id:
            raise BadArgument("name the order to cancel by order_id or by canceled_client_order_id")
        self._name_order(&cancel, order_id, canceled_client_order_id, account)
        self._grouped = 1
        try:
            self.order(market, side, quantity, price, account=account, **options)
            records, count = self._group, self._grouped
        finally:
            self._grouped = -1
        records[0] = cancel
        records[count - 1].flags |= MB_LEG
        return self._send_group(records, count, timeout)

    def oco(self, market, side, quantity=None, *, profit, stop, quantity_lots=None, client_list_id="", account=0,
            timeout=None):
        """Send two orders, one of which cancels the other. Returns the list's position; the orders' are the next two.

        quantity, or quantity_lots   of both
        profit    a dict of what order() takes for the one that gains: {"price": ...}, a limit order that may not take;
                  or {"trigger": ...}, perhaps with "price", a take-profit order
        stop      the same for the one that limits a loss: {"trigger": ...} or {"trailing_bips": ...}, perhaps with
                  "price"

        Each may have "client_order_id", "display", "expire", "time_in_force", "self_trade"; both expire at one time.
        client_list_id   a name for the list, up to 36 printable ASCII characters
        """
        legs = _pair_legs(side, quantity, quantity_lots, profit, stop)
        return self._send_list(MB_OCO, market, legs, client_list_id, account, timeout)

    def oto(self, market, *, working, pending, client_list_id="", account=0, timeout=None):
        """Send an order, and another that is placed when the first has ended with a fill. Returns the list's position.

        working   a dict of what order() takes: "side", "quantity", "price", ...; a limit order
        pending   the same, of any order

        The orders' positions are the next two. `pending` is accepted at once, but it is on no book and holds nothing
        until it is released, under a new order id; if `working` ends without a fill, it is canceled.
        """
        legs = [_leg("working", working, ()), _leg("pending", pending, ())]
        return self._send_list(MB_OTO, market, legs, client_list_id, account, timeout)

    def otoco(self, market, *, working, profit, stop, side=None, quantity=None, quantity_lots=None, client_list_id="",
              account=0, timeout=None):
        """As oto(), with a pair of pending orders as of oco(). Returns the list's position.

        The orders' positions are the next three.

        side, quantity   of the pair: by default the other side than that of `working`, and its quantity
        """
        first = _leg("working", working, ())
        if side is None:
            side = "sell" if first["side"] == "buy" else "buy"
        if quantity is None and quantity_lots is None:
            quantity, quantity_lots = first.get("quantity"), first.get("quantity_lots")
        legs = [first, *_pair_legs(side, quantity, quantity_lots, profit, stop)]
        return self._send_list(MB_OTOCO, market, legs, client_list_id, account, timeout)

    def subscribe(self, account=0, on=True, timeout=None):
        """Receive (or no longer) the reports of all orders of an account, whichever session entered them."""
        cdef mb_record record
        memset(&record, 0, sizeof(record))
        record.kind = MB_SUBSCRIBE if on else MB_UNSUBSCRIBE
        record.account = _number(account, "account", 0xFFFFFFFF)
        return self._send(&record, timeout)

    def mass_cancel(self, market=None, side=None, account=0, timeout=None):
        """Cancel all orders of the account: of all markets and sides, or of one. Returns the command's position.

        It is answered with DONE; then a CANCELED for each order, with the reason MASS_CANCELED.
        """
        return self._submit(make.mass_cancel(self._connection, market, side, account), timeout)

    def countdown(self, milliseconds, account=0, timeout=None):
        """Cancel all orders of the account when so many milliseconds have passed, unless called again by then.

        0 disarms it. Each session has a countdown of its own for the account.
        """
        return self._submit(make.countdown(milliseconds, account), timeout)

    # -- money

    def transfer(self, to, asset, amount=None, account=0, reference="", *, amount_units=None, note="", timeout=None):
        """Move money to account number `to`: of the same family, unless this is an operator's session.

        asset         an Asset, or its name or number
        amount        str, int or Decimal of whole assets; or exactly, in the asset's units: amount_units
        account       whose money; 0 = the session's own
        reference     may be empty; else used once, as that of a withdrawal
        """
        return self._submit(
            make.transfer(self._connection, account, to, asset, amount, amount_units, reference, note), timeout)

    def request_withdrawal(self, asset, amount=None, reference="", *, amount_units=None, account=0, timeout=None):
        """Hold an amount until an operator settles the withdrawal, or it is canceled.

        reference     1 to 36 printable ASCII characters that name the movement; used once, so that it can be sent
                      again by who does not know whether it was done
        """
        return self._submit(
            make.money(Kind.REQUEST_WITHDRAWAL, self._connection, account, asset, amount, amount_units, reference),
            timeout)

    def cancel_withdrawal(self, reference, *, account=0, timeout=None):
        """Free what is held for the withdrawal that was requested under this reference."""
        return self._submit(make.withdrawal(Kind.CANCEL_WITHDRAWAL, account, reference), timeout)

    def balances(self, account=0):
        """{asset name: (free, held)} of an account, as Decimals of whole assets. 0 = the session's own account.

        They are those that the exchange has settled so far: asked of its process, not of a ring.
        """
        return self._connection.balances(self._account(account))

    # -- an operator's

    def deposit(self, account, asset, amount=None, reference="", note="", *, amount_units=None, timeout=None):
        """Credit an account with what has arrived under this reference."""
        return self._submit(
            make.money(Kind.DEPOSIT, self._connection, account, asset, amount, amount_units, reference, note), timeout)

    def settle_withdrawal(self, account, reference, note="", *, timeout=None):
        """What is held under this reference has left the exchange."""
        return self._submit(make.withdrawal(Kind.SETTLE_WITHDRAWAL, account, reference, note), timeout)

    def set_account(self, account, *, state=None, tier=None, cancel_orders=False, note="", timeout=None):
        """Set an account's state ("active", "cancel_only", "frozen") or fee tier (0 to 9, "by_volume").

        cancel_orders   kill switch: cancel all of its orders
        """
        return self._submit(make.set_account(account, state, tier, cancel_orders, note), timeout)

    def set_market(self, market, *, state=None, min_notional=None, min_notional_units=None, reference_price=None,
                   reference_ticks=None, band_up_bips=None, band_down_bips=None, protection_bips=None,
                   account_orders=None, cancel_orders=False, note="", timeout=None):
        """Set rules of a market; what is left out stays.

        state            "open", "post_only", "cancel_only" or "halted"
        min_notional     least price times quantity, of the quote asset; 0 = no limit
        reference_price  counts as the last price until the next trade
        band_*_bips      how far from the last price orders may be priced, in 1/10,000; 0 = no band. Both together
        protection_bips  how far a market order may trade, 1 to 10,000
        account_orders   that one account may have open; 0 = no limit
        cancel_orders    kill switch: cancel all orders of the market
        """
        return self._submit(
            make.set_market(
                self._market(market), state=state, min_notional=min_notional, min_notional_units=min_notional_units,
                reference_price=reference_price, reference_ticks=reference_ticks, band_up_bips=band_up_bips,
                band_down_bips=band_down_bips, protection_bips=protection_bips, account_orders=account_orders,
                cancel_orders=cancel_orders, note=note),
            timeout)

    def set_fees(self, tier, *, maker_fee_ppm, taker_fee_ppm, market=None, note="", timeout=None):
        """Set the rates of a tier, in millionths: of one market, or of all that have none of their own.

        maker_fee_ppm   below 0: a rebate, out of the taker's fee
        """
        market = None if market is None else self._market(market)
        return self._submit(make.set_fees(market, tier, maker_fee_ppm, taker_fee_ppm, note), timeout)

    def set_tier(self, tier, volume, asset, note="", *, timeout=None):
        """Set the 30-day volume, in whole units of `asset`, from which a tier applies by volume; 0 = it does not."""
        return self._submit(make.set_tier(tier, volume, self._connection.asset(asset), note), timeout)

    def open_orders(self, account=0, market=None):
        """The live orders of an account as dicts, of all markets or of one. 0 = the session's own account."""
        number = 0 if market is None else self._market(market).number
        return self._connection.orders(self._account(account), number)

    # -- how it is sent

    def _account(self, account):
        account = _number(account, "account", 0xFFFFFFFF) or self.account
        if not account:
            raise BadArgument("this session has no account of its own: give account")
        return account

    def _submit(self, record, timeout):
        return self.submit(record.view(COMMAND), timeout)

    cdef _name_order(self, mb_record* record, order_id, client_order_id, account):
        record.order_id = _number(order_id, "order_id", 0xFFFFFFFFFFFFFFFF)
        record.account = _number(account, "account", 0xFFFFFFFF)
        _set_client_id(record, client_order_id)
        if not order_id and not client_order_id:
            raise BadArgument("name the order by order_id or by client_order_id")

    cdef _send_list(self, uint8_t list_type, market, legs, client_list_id, account, timeout):
        """ORDER_LIST and its legs, each a dict of what order() takes."""
        cdef mb_record records[4]
        cdef mb_list_record* head = <mb_list_record*>&records[0]
        cdef const mb_terms_record* terms
        cdef uint32_t leg = 0
        cdef int i
        memset(records, 0, sizeof(records))
        head.kind = MB_ORDER_LIST
        head.list_type = list_type
        head.market = self._market(market).number
        head.account = _number(account, "account", 0xFFFFFFFF)
        _set_text(head.client_list_id, client_list_id, "client_list_id")
        self._grouped = 0
        try:
            for each in legs:
                self.order(market, account=account, **each)
            for i in range(self._grouped):
                if self._group[i].kind != MB_ORDER_TERMS:
                    leg += 1
                    records[leg] = self._group[i]
                    records[leg].flags |= MB_LEG
                    continue
                terms = <const mb_terms_record*>&self._group[i]
                head.display_lots[leg] = terms.display_lots
                if terms.expire_ns and head.expire_ns and terms.expire_ns != head.expire_ns:
                    raise BadArgument("the orders of a list expire at one time: give the same expire to each")
                head.expire_ns |= terms.expire_ns
        finally:
            self._grouped = -1
        return self._send_group(records, leg + 1, timeout) - leg

    cdef _send(self, mb_record* record, timeout):
        if self._grouped >= 0:
            self._group[self._grouped] = record[0]
            self._grouped += 1
            return 0
        self._make_room(1, timeout)
        memcpy(self._command_slots + (self._sent & self._command_mask) * 128, record, 128)
        self._publish(1)
        return self._sent

    cdef _send_two(self, mb_record* first, mb_record* second, timeout):
        """Two records that belong together, or neither. Returns the position of the second."""
        cdef mb_record records[2]
        records[0], records[1] = first[0], second[0]
        if self._grouped >= 0:
            self._send(first, timeout)
            return self._send(second, timeout)
        return self._send_group(records, 2, timeout)

    cdef _send_group(self, mb_record* records, uint32_t count, timeout):
        """Records that go together, or none of them. Returns the position of the last."""
        cdef uint32_t i
        self._make_room(count, timeout)
        for i in range(count):
            memcpy(self._command_slots + ((self._sent + i) & self._command_mask) * 128, &records[i], 128)
        self._publish(count)
        return self._sent

    cdef void _publish(self, uint64_t count) noexcept nogil:
        self._sent += count
        mb_store_release(&self._commands.producer.value, self._sent)
        mb_wake(&self._commands.reader_waiting.waiting)

    cdef _make_room(self, uint64_t count, timeout):
        self._check()
        if self._room() >= count:
            return
        if timeout is not None:
            self._wait(count, timeout)
            self._check()
        if self._room() < count:
            raise RingFull(
                f"the command ring is full, nothing was sent: free={self._room()}, wanted={count}, "
                f"capacity={self._command_mask + 1}"
            )

    cdef inline uint64_t _room(self) noexcept nogil:
        self._taken = mb_load_acquire(&self._commands.readers[0].value)
        return self._command_mask + 1 - (self._sent - self._taken)

    # -- receiving

    def reports(self, maximum=65536, timeout=0.0, out=None):
        """The next reports, at most `maximum`, as an array of dtype REPORT (empty if none came in time).

        timeout   seconds to wait for the first one; 0: take what is there; None: wait as long as it takes
        out       array of REPORT to copy them to; the result is the part of it that was filled. Without it the
                  result is a new array each time

        Raises BadArgument for an `out` of another dtype or shape and a `timeout` that is none, Detached after the last
        report of a detached session, EngineDown if the engine died.
        """
        cdef uint64_t ready
        cdef uint64_t most = _number(maximum, "maximum", 0xFFFFFFFFFFFFFFFF)
        if timeout is not None and timeout != 0.0:
            seconds(timeout)
        if out is not None:
            _check_out(out)
            most = min(most, <uint64_t>len(out))
        ready = self._ready()
        if ready == 0:
            if self._detached:
                raise Detached(f"the session is detached: {describe(self._detached)}", self._detached)
            if timeout is None or timeout > 0:
                self._wait(0, timeout)
                ready = self._ready()
            if ready == 0:
                self._check_engine()
                ready = self._ready()
        cdef uint64_t count = min(ready, most)
        out = np.empty(count, REPORT) if out is None else out[:count]
        if count == 0:
            return out
        cdef uint8_t[::1] view = out.view(np.uint8)
        cdef uint64_t first = self._read & self._report_mask
        cdef uint64_t head = min(count, self._report_mask + 1 - first)
        cdef const mb_report* last
        with nogil:
            memcpy(&view[0], self._report_slots + first * 128, head * 128)
            if head < count:
                memcpy(&view[head * 128], self._report_slots, (count - head) * 128)
            self._read += count
            mb_store_release(&self._commands.readers[1].value, self._read)
        last = <const mb_report*>&view[(count - 1) * 128]
        if last.kind == MB_REPORT_DETACHED:
            self._detached = last.reason
        return out

    def __iter__(self):
        """Reports one by one, waiting for each, until the session is detached."""
        while True:
            try:
                batch = self.reports(timeout=None)
            except Detached:
                return
            yield from batch

    async def reports_async(self, maximum=65536, timeout=None):
        """reports() for asyncio: waits in a thread while others run."""
        _number(maximum, "maximum", 0xFFFFFFFFFFFFFFFF)
        seconds(timeout)
        if self._ready() == 0 and not self._detached:
            import asyncio  # slow to load, and most bots do without

            over = []
            try:
                await asyncio.to_thread(self._wait, 0, timeout, over)
            finally:
                # If this was cancelled, the thread must not go on using the session.
                over.append(True)
                mb_wake(&self._commands.producer_waiting.waiting)
        return self.reports(maximum, 0.0)

    async def stream(self):
        """Reports one by one, for `async for`, until the session is detached."""
        while True:
            try:
                batch = await self.reports_async(timeout=1.0)
            except Detached:
                return
            for report in batch:
                yield report

    def arm(self):
        """Have `doorbell` become readable with the next report. False, and it does not, if there are some now.

        The loop of whoever waits on it: read the descriptor (an eventfd), take the reports, arm() until it says True.
        """
        cdef uint32_t* word = &self._commands.doorbell.waiting
        mb_announce(word)
        if self._ready() == 0 and mb_load_acquire32(&self._reports.header.state) != MB_RING_CLOSED:
            return True
        mb_unannounce(word)
        return False

    @property
    def answered(self):
        """Position of the last command all of whose reports are made: published, or held."""
        return mb_load_acquire(&self._reports.answered.value)

    @property
    def held(self):
        """Reports that wait for the session's assurance. 0, read after `answered`: all up to that are published."""
        return mb_load_acquire(&self._reports.answered.held)

    @property
    def pending(self):
        """Reports that are there and not read yet."""
        return self._ready()

    @property
    def sent(self):
        """Position of the last command sent."""
        return self._sent

    @property
    def taken(self):
        """Position of the last command that the engine took into its log."""
        return mb_load_acquire(&self._commands.readers[0].value)

    @property
    def capacity(self):
        """Commands the ring can hold."""
        return self._command_mask + 1

    cdef inline uint64_t _ready(self) noexcept nogil:
        return mb_load_acquire(&self._reports.producer.value) - self._read

    cdef inline bint _have(self, uint64_t room) noexcept nogil:
        """Is what _wait() waits for there? `room` = 0: a report; else so much room for commands."""
        if room:
            return self._room() >= room
        return self._ready() > 0

    def _wait(self, uint64_t room, timeout, over=()):
        """Wait for a report (room = 0) or for room, at most `timeout` seconds (None: for ever) or until all is over.

        Another thread ends the wait by putting something into `over`.
        """
        cdef int64_t until = _deadline_ns(timeout)
        cdef int64_t left, looks
        cdef bint done = False
        cdef uint32_t* word = &self._commands.producer_waiting.waiting
        while not done:
            with nogil:
                looks = 0
                while not self._have(room):
                    mb_pause()
                    looks += 1
                    if looks >= SPIN_LOOKS:
                        break
                done = self._have(room)
                left = PARK_SLICE_NS if until < 0 else until - _now_ns()
                if not done and not self._spin and left > 0:
                    mb_announce(word)
                    if self._have(room):
                        mb_unannounce(word)
                    else:
                        mb_park(word, left if left < PARK_SLICE_NS else PARK_SLICE_NS)
                    done = self._have(room)
            if not done:
                PyErr_CheckSignals()
                if over or left <= 0 or self._engine_dead():
                    return
                if mb_load_acquire32(&self._reports.header.state) == MB_RING_CLOSED:
                    return

    # -- the other side

    def _engine_dead(self):
        return bool(self._pidfds) and bool(self._poller.poll(0))

    def _check(self):
        """Raise unless commands can still be sent."""
        if self.closed:
            raise EngineDown("the session is closed")
        if self._detached:
            raise Detached(f"the session is detached: {describe(self._detached)}", self._detached)
        if mb_load_acquire32(&self._reports.header.state) == MB_RING_CLOSED:
            raise Detached("the session is detached; its last report says why")
        self._check_engine_slowly()

    cdef _check_engine_slowly(self):
        # A system call, so only when the engine has not taken what we sent long ago.
        if self._sent - mb_load_acquire(&self._commands.readers[0].value) > 0:
            self._check_engine()

    def _check_engine(self):
        if self.closed:
            raise EngineDown("the session is closed")
        if self._ready() == 0 and self._engine_dead():
            raise EngineDown("the exchange's process has died")

    def _market(self, market):
        return self._connection.market(market)

    @property
    def markets(self):
        """The markets by symbol."""
        return self._connection.markets

    def market(self, market):
        """A market by symbol or number."""
        return self._connection.market(market)

    @property
    def assets(self):
        """The assets by name."""
        return self._connection.assets

    def asset(self, asset):
        """An asset by name or number."""
        return self._connection.asset(asset)

    @property
    def accounts(self):
        """The accounts that this user may name, as dicts of number, name and parent (0: none)."""
        return self._connection.accounts()

    def book(self, market):
        """A view of a market's depth table, read in place."""
        return self._connection.book(market)

    def market_data(self):
        """A reader of the public market-data ring, from now on."""
        return self._connection.market_data()

    def pull(self, stream="reports", *, market="", after=None, consumer="", timeout=10.0):
        """Read what happened to the account (or in a market) from any position on; a Pull. See matchbox.pull()."""
        connection = self._connection
        return Pull(connection.folder, stream, account=connection.account if stream == "reports" else "",
                    market=market, after=after, consumer=consumer, timeout=timeout)

    def close(self):
        """Log out: the session is detached, its orders stay. Does nothing if it is closed already."""
        cdef mb_record record
        if self.closed:
            return
        try:
            if not self._detached and mb_load_acquire32(&self._reports.header.state) != MB_RING_CLOSED:
                memset(&record, 0, sizeof(record))
                record.kind = MB_LOGOUT
                self._send(&record, 1.0)
        except (RingFull, Detached, EngineDown):
            pass  # its process's end detaches it
        self.closed = True
        self._connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


cdef _check_out(out):
    if not isinstance(out, np.ndarray) or out.dtype != REPORT:
        raise BadArgument(f"out must be an array of REPORT: got={getattr(out, 'dtype', type(out))}")
    if out.ndim != 1 or not out.flags.c_contiguous or not out.flags.writeable or len(out) == 0:
        raise BadArgument(f"out must be one-dimensional, contiguous, writable and not empty: shape={out.shape}")


cdef _choice(value, name, choices):
    try:
        return choices[value]
    except (KeyError, TypeError):
        raise BadArgument(f"{name} must be one of {', '.join(choices)}: {name}={value!r}") from None


cdef _number(value, name, maximum):
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise BadArgument(f"{name} must be an integer: {name}={value!r}")
    value = int(value)
    if not 0 <= value <= maximum:
        raise BadArgument(f"{name} is out of range: {name}={value}, maximum={maximum}")
    return value


cdef _either(value, exact, value_name, exact_name, convert, required):
    """An integer from `value` by `convert`, or `exact` itself."""
    if value is not None and exact is not None:
        raise BadArgument(f"give {value_name} or {exact_name}, not both")
    if exact is not None:
        if isinstance(exact, bool) or not hasattr(exact, "__index__") or not -2**63 <= int(exact) < 2**63:
            raise BadArgument(f"{exact_name} must be a 64-bit integer: {exact_name}={exact!r}")
        return int(exact)
    if value is None:
        if required:
            raise BadArgument(f"give {value_name} or {exact_name}")
        return 0
    return convert(value)


cdef _check_trigger(order_type, has_trigger, trailing_bips):
    """Orders that wait have a trigger price, or a distance, or both; others have neither."""
    if order_type in ("limit", "market"):
        if has_trigger or trailing_bips:
            raise BadArgument(
                f"an order of type {order_type} does not wait for a trigger: give order_type, such as stop_loss"
            )
    elif not has_trigger and not trailing_bips:
        raise BadArgument(f"an order of type {order_type} needs trigger, trigger_ticks or trailing_bips")


cdef _time_ns(when):
    """Nanoseconds since 1970, exactly, of a datetime with a time zone or of themselves."""
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise BadArgument(f"expire must have a time zone: expire={when!r}")
        elapsed = when - _EPOCH
        when = (elapsed.days * 86400 + elapsed.seconds) * 1000000000 + elapsed.microseconds * 1000
    return _number(when, "expire", 0xFFFFFFFFFFFFFFFF)


cdef _set_client_id(mb_record* record, text):
    _set_text(record.client_order_id, text, "client_order_id")


cdef _set_text(char* place, text, name):
    """Up to 36 characters into zeroed bytes."""
    if not text:
        return
    if not isinstance(text, str):
        raise BadArgument(f"{name} must be a str: {name}={text!r}")
    if len(text) > 36 or not all("!" <= c <= "~" for c in text):
        raise BadArgument(f"{name} must be up to 36 printable ASCII characters without blanks: {name}={text!r}")
    cdef bytes raw = text.encode()
    memcpy(place, <const char*>raw, len(raw))


# ---- lists

_LEG_OPTIONS = frozenset((
    "side", "quantity", "price", "quantity_lots", "price_ticks", "quote_amount", "quote_units", "order_type",
    "time_in_force", "expire", "post_only", "trigger", "trigger_ticks", "trailing_bips", "display", "display_lots",
    "self_trade", "client_order_id",
))
_OF_PAIR = ("side", "quantity", "quantity_lots", "quote_amount", "quote_units", "order_type", "post_only")


cdef dict _leg(name, options, given):
    """A copy of a leg's options, all of which order() knows; those in `given` are said elsewhere."""
    if not isinstance(options, dict):
        raise BadArgument(f"{name} must be a dict of what order() takes: {name}={options!r}")
    for option in options:
        if option not in _LEG_OPTIONS or option in given:
            raise BadArgument(f"{name} has no such option: option={option!r}")
    if "side" not in options and "side" not in given:
        raise BadArgument(f"{name} needs side")
    return dict(options)


cdef list _pair_legs(side, quantity, quantity_lots, profit, stop):
    """What order() takes for each of a pair."""
    first, second = _leg("profit", profit, _OF_PAIR), _leg("stop", stop, _OF_PAIR)
    for leg, waits in ((first, "take_profit"), (second, "stop_loss")):
        priced = leg.get("price") is not None or leg.get("price_ticks") is not None
        triggered = (leg.get("trigger") is not None or leg.get("trigger_ticks") is not None
                     or bool(leg.get("trailing_bips")))
        if leg is first and not triggered:
            if not priced:
                raise BadArgument("profit needs price or trigger")
            leg["post_only"] = True
        else:
            leg["order_type"] = waits + ("_limit" if priced else "")
        leg["side"], leg["quantity"], leg["quantity_lots"] = side, quantity, quantity_lots
    return [first, second]
