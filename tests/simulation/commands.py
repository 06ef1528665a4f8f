"""Commands at random, of every kind: most of them sensible, many of them in each other's way.

A Choice says what is chosen: a random generator, or Hypothesis, which can make it simpler then.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from matchbox.core.instrument import market_record
from matchbox.shm.records import (
    COMMAND,
    FEE_ACCOUNT,
    LIST_RECORD,
    MONEY_RECORD,
    NAMED_RECORD,
    NEW_ORDER,
    RULES_RECORD,
    TERMS_RECORD,
    TIER_BY_VOLUME,
    AccountState,
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
from matchbox.tools.audit.money import LiveOrder
from matchbox.tools.audit.records import kind_name, view_of
from matchbox.tools.audit.triggers import waits_for_rise
from tests.simulation.world import (
    ACCOUNTS,
    BTC,
    ETH,
    LATER,
    LATER_SCALES,
    MARKETS,
    MAX_ORDERS,
    MIDDLE,
    NEW,
    SESSIONS,
    USD,
    WEALTH,
    World,
)

T = TypeVar("T")
MS, DAY = 10**6, 86_400 * 10**9
LEG = np.uint8(Flag.LEG)
LIMITS = (OrderType.LIMIT, OrderType.STOP_LOSS_LIMIT, OrderType.TAKE_PROFIT_LIMIT)
TRADERS = tuple(name for name in SESSIONS if name != "reader")


class Choice(Protocol):
    def integer(self, low: int, high: int) -> int: ...


class Random:
    """By a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        return self.random.randint(low, high)


class Drawn:
    """By Hypothesis."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data

    def integer(self, low: int, high: int) -> int:
        return self.data.draw(st.integers(low, high))


def pick(c: Choice, values: Sequence[T]) -> T:
    return values[c.integer(0, len(values) - 1)]


def chance(c: Choice, percent: int) -> bool:
    """False is the simpler one."""
    return c.integer(0, 99) >= 100 - percent


def weighted(c: Choice, weights: dict[T, int]) -> T:
    number = c.integer(0, sum(weights.values()) - 1)
    for value, weight in weights.items():
        number -= weight
        if number < 0:
            return value
    raise AssertionError


def array(dtype: Any, **values: Any) -> NDArray[Any]:
    row = np.zeros(1, dtype)
    for name, value in values.items():
        row[name] = value
    return row


def describe(records: NDArray[Any]) -> str:
    """Commands as text: kinds, and the fields that are not 0."""
    return ", ".join(_describe(records[i : i + 1]) for i in range(len(records)))


def _describe(record: NDArray[Any]) -> str:
    view = view_of(record)
    values = zip(view.dtype.names or (), view.tolist()[0], strict=True)
    fields = [f"{k}={v}" for k, v in values if k != "kind" and np.any(v)]
    return f"{kind_name(int(record['kind'][0]))}({', '.join(fields)})"


# ---- what traders send


def accounts_of(c: Choice, session: str) -> int:
    """An account for a session's command: mostly one that it may name."""
    own, capabilities, _ = SESSIONS.get(session, (0, 7, False))
    if capabilities & 2:
        return c.integer(1, ACCOUNTS)
    if chance(c, 4):
        return c.integer(1, ACCOUNTS + 1)
    return weighted(c, {0: 12, own: 4, 4 if own == 1 else own: 4})


def some_price(c: Choice, market: int) -> int:
    step = MARKETS[market].get("price_step_ticks", 1)
    return MIDDLE[market] + step * (c.integer(0, 8) - c.integer(0, 8))


def some_quantity(c: Choice, market: int) -> int:
    step = MARKETS[market].get("quantity_step_lots", 1)
    least = MARKETS[market].get("min_quantity_lots", 1)
    most = {0: 4, 1: 12, 2: 40}[weighted(c, {0: 4, 1: 8, 2: 1})]
    return max(least, step * c.integer(1, most))


def some_client_id(c: Choice, percent: int) -> bytes:
    return pick(c, (b"a", b"b", b"c", b"d")) if chance(c, percent) else b""


def some_market(c: Choice) -> int:
    return weighted(c, {1: 6, 2: 5, 3: 4})


def new_order(c: Choice, w: World, session: str) -> NDArray[Any]:
    order = some_new(c, w, accounts_of(c, session), some_market(c))
    return with_terms(c, w, order)


def some_new(c: Choice, w: World, account: int, market: int) -> NDArray[Any]:
    """An order of any type, which may need terms."""
    order_type = weighted(
        c,
        {
            OrderType.LIMIT: 50,
            OrderType.MARKET: 17,
            OrderType.STOP_LOSS: 6,
            OrderType.STOP_LOSS_LIMIT: 8,
            OrderType.TAKE_PROFIT: 5,
            OrderType.TAKE_PROFIT_LIMIT: 6,
        },
    )
    limit = order_type in LIMITS
    order = array(
        NEW_ORDER,
        kind=Kind.NEW_ORDER,
        account=account,
        market=market,
        side=pick(c, (Side.BUY, Side.SELL)),
        order_type=order_type,
        quantity_lots=some_quantity(c, market),
        price_ticks=some_price(c, market) if limit else 0,
        self_trade=weighted(c, dict(zip(SelfTrade, (4, 2, 2, 2, 3), strict=True))),
        client_order_id=some_client_id(c, 25),
    )
    if limit:
        order["time_in_force"] = weighted(c, dict(zip(TimeInForce, (12, 3, 3, 2), strict=True)))
    elif order_type == OrderType.MARKET and chance(c, 20):
        order["time_in_force"] = TimeInForce.FOK
    else:
        order["time_in_force"] = TimeInForce.IOC
    if order_type >= OrderType.STOP_LOSS:
        set_trigger(c, w, order[0], market)
    if order_type == OrderType.LIMIT and good_till(order) and chance(c, 15):
        order["flags"] = Flag.POST_ONLY
    if order_type == OrderType.MARKET and chance(c, 35):
        order["flags"] = Flag.QUOTE_AMOUNT
        unit = MARKETS[market]["notional_units"] * MIDDLE[market]
        order["quantity_lots"] = c.integer(1, unit * 30)
    return order


def good_till(order: NDArray[Any]) -> bool:
    return order["time_in_force"][0] in (TimeInForce.GTC, TimeInForce.GTD)


def set_trigger(c: Choice, w: World, order: Any, market: int) -> None:
    """Mostly beyond the last price, near it."""
    price = some_price(c, market)
    book = w.auditor.books.get(market)
    last = book.last if book else None
    if last and not chance(c, 15):
        step = MARKETS[market].get("price_step_ticks", 1)
        away = step * c.integer(1, 4)
        rise = waits_for_rise(int(order["side"]), int(order["order_type"]))
        price = (last + away if rise else last - away) // step * step
    order["trigger_ticks"] = price
    if chance(c, 40):
        order["trailing_bips"] = pick(c, (200, 1, 50, 500, 2000))
        if chance(c, 60):
            order["trigger_ticks"] = 0


def with_terms(c: Choice, w: World, order: NDArray[Any]) -> NDArray[Any]:
    """The order, and before it what it needs besides."""
    gtd = order["time_in_force"][0] == TimeInForce.GTD
    hide = good_till(order) and chance(c, 20)
    if not gtd and not hide and not chance(c, 1):
        return order.view(COMMAND)
    terms = array(
        TERMS_RECORD,
        kind=Kind.ORDER_TERMS,
        account=order["account"][0],
        market=order["market"][0],
    )
    if hide:
        terms["display_lots"] = some_slice(c, order)
    if gtd and not chance(c, 3):
        times = coming(w)
        at_once = times and chance(c, 40)
        terms["expire_ns"] = pick(c, times) if at_once else w.now + MS * c.integer(0, 40)
    if chance(c, 2):
        terms["market"] = 1 + terms["market"] % 3
    return np.concatenate([terms.view(COMMAND), order.view(COMMAND)])


def some_slice(c: Choice, order: NDArray[Any]) -> int:
    step = MARKETS[int(order["market"][0])].get("quantity_step_lots", 1)
    most = int(order["quantity_lots"][0]) // step
    return step * c.integer(1, max(1, most - 1))


# ---- orders that belong together


def order_list(c: Choice, w: World, session: str) -> NDArray[Any]:
    """A list of orders; every fourth has something wrong."""
    account, market = accounts_of(c, session), some_market(c)
    list_type = weighted(c, dict(zip(ListType, (4, 3, 4), strict=True)))
    legs = [] if list_type == ListType.OCO else [working_order(c, w, account, market)]
    if list_type == ListType.OTO:
        legs.append(some_new(c, w, account, market))
    else:
        legs += some_pair(c, w, account, market)
    for leg in legs:
        leg["flags"] |= LEG
    head = array(
        LIST_RECORD,
        kind=Kind.ORDER_LIST,
        account=account,
        market=market,
        list_type=list_type,
        client_list_id=pick(c, (b"", b"list")),
    )
    for i, leg in enumerate(legs):
        if leg["order_type"][0] in LIMITS and good_till(leg) and chance(c, 12):
            head["display_lots"][0, i] = some_slice(c, leg)
        if leg["time_in_force"][0] == TimeInForce.GTD:
            head["expire_ns"] = w.now + MS * c.integer(0, 60)
    if chance(c, 25):
        legs = spoiled(c, w, head, legs)
    return np.concatenate([record.view(COMMAND) for record in (head, *legs)])


def working_order(c: Choice, w: World, account: int, market: int) -> NDArray[Any]:
    """A limit order, often one that is met at once."""
    order = array(
        NEW_ORDER,
        kind=Kind.NEW_ORDER,
        account=account,
        market=market,
        side=pick(c, (Side.BUY, Side.SELL)),
        order_type=OrderType.LIMIT,
        time_in_force=weighted(c, dict(zip(TimeInForce, (8, 4, 1, 1), strict=True))),
        quantity_lots=some_quantity(c, market),
        price_ticks=some_price(c, market),
        self_trade=weighted(c, dict(zip(SelfTrade, (4, 1, 1, 1, 1), strict=True))),
        client_order_id=some_client_id(c, 15),
    )
    book = w.auditor.books.get(market)
    side = Side.SELL if order["side"][0] == Side.BUY else Side.BUY
    opposite = book.prices(side) if book else []
    if opposite and chance(c, 50):
        order["price_ticks"] = pick(c, opposite[:2])
    if good_till(order) and chance(c, 10):
        order["flags"] = Flag.POST_ONLY
    return order


def some_pair(c: Choice, w: World, account: int, market: int) -> list[NDArray[Any]]:
    """Two orders on either side of the last price, mostly: a limit or a take profit, and a stop."""
    step = MARKETS[market].get("price_step_ticks", 1)
    book = w.auditor.books.get(market)
    middle = (book.last if book else None) or MIDDLE[market]
    side = pick(c, (Side.BUY, Side.SELL))
    better = step if side == Side.SELL else -step
    quantity = some_quantity(c, market)
    first_type = weighted(
        c, {OrderType.LIMIT: 8, OrderType.TAKE_PROFIT: 3, OrderType.TAKE_PROFIT_LIMIT: 4}
    )
    second_type = pick(c, (OrderType.STOP_LOSS, OrderType.STOP_LOSS_LIMIT))
    legs = []
    for order_type, away in ((first_type, better), (second_type, -better)):
        leg = array(
            NEW_ORDER,
            kind=Kind.NEW_ORDER,
            account=account,
            market=market,
            side=side,
            order_type=order_type,
            quantity_lots=quantity,
            time_in_force=TimeInForce.IOC,
            self_trade=weighted(c, dict(zip(SelfTrade, (6, 1, 1, 1, 2), strict=True))),
            client_order_id=some_client_id(c, 15),
        )
        price = (middle + away * c.integer(1, 4)) // step * step
        if order_type in LIMITS:
            leg["time_in_force"] = weighted(c, dict(zip(TimeInForce, (9, 1, 1, 2), strict=True)))
            leg["price_ticks"] = (price + step * c.integer(-2, 2)) // step * step
        if order_type == OrderType.LIMIT:
            leg["price_ticks"] = price
            leg["flags"] = Flag.POST_ONLY
            if not good_till(leg):
                leg["time_in_force"] = TimeInForce.GTC
        else:
            leg["trigger_ticks"] = price
            if chance(c, 20):
                leg["trailing_bips"] = pick(c, (200, 50, 500, 2000))
                leg["trigger_ticks"] = pick(c, (0, price))
        legs.append(leg)
    if chance(c, 8):
        # The fill of the first would trigger the second, had it not ended by then.
        first, second = legs
        first["order_type"], first["price_ticks"] = OrderType.LIMIT, middle // step * step - better
        first["flags"], first["time_in_force"] = Flag.POST_ONLY, TimeInForce.GTC
        first["trigger_ticks"] = first["trailing_bips"] = second["trigger_ticks"] = 0
        second["trailing_bips"] = 1
    return legs


def spoiled(
    c: Choice, w: World, head: NDArray[Any], legs: list[NDArray[Any]]
) -> list[NDArray[Any]]:
    """A list with something wrong: in its first record, in a leg, or in how many legs there are."""
    leg = pick(c, legs)
    what = c.integer(0, 15)
    if what == 0:
        return legs[:-1]
    if what == 1:
        return [*legs, leg]  # the last one is nobody's
    if what == 2:
        return legs[::-1]
    if what == 3:
        head["list_type"] = pick(c, (0, 4, *ListType))
    elif what == 4:
        head[pick(c, ("reserved", "market"))] = 1
    elif what == 5:
        head["client_list_id"] = b"a b"
    elif what == 6:
        head["display_lots"] = 1
    elif what == 7:
        head["expire_ns"] = w.now + pick(c, (0, MS))
    elif what == 8:
        leg["account"] = c.integer(1, ACCOUNTS)
    elif what == 9:
        leg["market"] = c.integer(1, 4)
    elif what == 10:
        leg["flags"] &= ~LEG
    elif what == 11:
        for other in legs:
            other["client_order_id"] = b"a"
    elif what == 12:
        leg["side"] = Side.SELL if leg["side"][0] == Side.BUY else Side.BUY
    elif what == 13:
        field = pick(c, tuple(FAULTS))
        leg[field] = pick(c, FAULTS[field])
    elif what == 14:
        return [*legs[:-1], *split(with_terms_always(c, w, legs[-1]))]
    else:
        for field in ("price_ticks", "trigger_ticks"):
            if leg[field][0]:
                leg[field] = some_price(c, int(leg["market"][0]))
    return legs


def with_terms_always(c: Choice, w: World, order: NDArray[Any]) -> NDArray[Any]:
    terms = array(
        TERMS_RECORD,
        kind=Kind.ORDER_TERMS,
        account=order["account"][0],
        market=order["market"][0],
        display_lots=some_slice(c, order),
    )
    return np.concatenate([terms.view(COMMAND), order.view(COMMAND)])


def split(records: NDArray[Any]) -> list[NDArray[Any]]:
    return [records[i : i + 1] for i in range(len(records))]


def replace(c: Choice, w: World, session: str) -> NDArray[Any]:
    """An order, often much like the old one, in the place of another."""
    named = some_order(c, w, session)
    found = find_named(w, session, named)
    market = found.market.number if found else some_market(c)
    order = some_new(c, w, named["account"], market)
    if found and chance(c, 75):
        order["side"] = found.side
    if found and chance(c, 50):
        like(c, order, found)
    order["flags"] |= LEG
    records = with_terms(c, w, order)
    if chance(c, 4):
        records[-1:].view(NEW_ORDER)["flags"] &= ~LEG
    elif chance(c, 4):
        field = pick(c, (*FAULTS, "account"))
        records[-1:].view(NEW_ORDER)[field] = pick(c, FAULTS.get(field, (1, 2, 4)))
    head = array(COMMAND, kind=Kind.CANCEL_ORDER, flags=Flag.REPLACE, **named)
    if chance(c, 35):
        head["flags"] |= np.uint8(Flag.ALLOW_FAILURE)
    if chance(c, 4):
        field = pick(c, ("flags", "price_ticks", "quantity_lots", "market", "account", "reserved"))
        head[field] = pick(c, {"flags": (33, 160, 64)}.get(field, (1, 2)))
    if chance(c, 3):
        return head
    return np.concatenate([head, records])


def find_named(w: World, session: str, named: dict[str, Any]) -> LiveOrder | None:
    """The order that a command would mean."""
    account = named["account"] or SESSIONS.get(session, (0, 7, False))[0]
    return w.auditor.ledger.find(
        account, named.get("order_id", 0), named.get("client_order_id", b"")
    )


def like(c: Choice, order: NDArray[Any], old: LiveOrder) -> None:
    """Make an order a limit order like one that is there: it needs what that holds, or more."""
    step = old.market.quantity_step
    order["order_type"], order["time_in_force"] = OrderType.LIMIT, TimeInForce.GTC
    order["flags"] = Flag.POST_ONLY if chance(c, 20) else 0
    order["trigger_ticks"] = order["trailing_bips"] = 0
    order["price_ticks"] = old.price or some_price(c, old.market.number)
    if chance(c, 50):
        order["price_ticks"] = some_price(c, old.market.number)
    lots = old.leaves // step * step
    order["quantity_lots"] = max(lots, old.market.min_quantity) * pick(c, (1, 1, 2, 3))
    if chance(c, 30):
        order["client_order_id"] = old.client_order_id


def late_countdown(c: Choice, w: World, session: str) -> NDArray[Any]:
    """A list that is released soon, of an account whose countdown runs out soon."""
    account, market = accounts_of(c, session), some_market(c)
    timer = array(COMMAND, kind=Kind.COUNTDOWN, account=account, quantity_lots=c.integer(1, 10))
    pending = some_new(c, w, account, market)
    legs = [working_order(c, w, account, market), pending]
    for leg in legs:
        leg["flags"] |= LEG
    head = array(
        LIST_RECORD, kind=Kind.ORDER_LIST, account=account, market=market, list_type=ListType.OTO
    )
    return np.concatenate([record.view(COMMAND) for record in (timer, head, *legs)])


def late_replace(c: Choice, w: World, session: str) -> NDArray[Any]:
    """A market order is to be replaced, and was gone at once."""
    account, market = accounts_of(c, session), some_market(c)
    order = array(
        NEW_ORDER,
        kind=Kind.NEW_ORDER,
        account=account,
        market=market,
        side=pick(c, (Side.BUY, Side.SELL)),
        order_type=OrderType.MARKET,
        time_in_force=TimeInForce.IOC,
        quantity_lots=some_quantity(c, market),
        client_order_id=b"m",
    )
    new = some_new(c, w, account, market)
    new["side"] = order["side"]
    new["flags"] |= LEG
    flags = Flag.REPLACE | (Flag.ALLOW_FAILURE if chance(c, 70) else 0)
    head = array(
        COMMAND, kind=Kind.CANCEL_ORDER, account=account, client_order_id=b"m", flags=flags
    )
    records = [order.view(COMMAND), head, new.view(COMMAND)]
    if chance(c, 70):
        owner = account or SESSIONS.get(session, (0, 7, False))[0]
        records.insert(1, all_but_little(c, w, owner, some_asset(market, int(order["side"][0]))))
    return np.concatenate(records)


def some_asset(market: int, side: int) -> int:
    """What an order of that side pays with."""
    return int(MARKETS[market]["quote_asset" if side == Side.BUY else "base_asset"])


def squeezed_replace(c: Choice, w: World, session: str) -> NDArray[Any]:
    """A resting order is met and replaced at once: there may be nothing left, or too little."""
    resting = [o for book in w.auditor.books.values() for o in book.resting.values()]
    live = w.auditor.ledger.orders
    found = [live[o.order_id] for o in resting if o.order_id in live]
    if not found or not SESSIONS.get(session, (0, 7, False))[1] & 2:
        return replace(c, w, session)
    old = pick(c, found)
    market = old.market.number
    other = array(
        NEW_ORDER,
        kind=Kind.NEW_ORDER,
        account=c.integer(1, ACCOUNTS),
        market=market,
        side=Side.SELL if old.side == Side.BUY else Side.BUY,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.IOC,
        price_ticks=old.price,
        quantity_lots=some_quantity(c, market),
    )
    order = some_new(c, w, old.account, market)
    order["side"] = old.side
    like(c, order, old)
    order["flags"] |= LEG
    head = array(
        COMMAND,
        kind=Kind.CANCEL_ORDER,
        account=old.account,
        order_id=old.order_id,
        flags=Flag.REPLACE | (Flag.ALLOW_FAILURE if chance(c, 50) else 0),
    )
    before = []
    if chance(c, 70):
        before.append(all_but_little(c, w, old.account, old.asset))
    if chance(c, 70):
        before.append(other.view(COMMAND))
    return np.concatenate([*before, head, order.view(COMMAND)])


def all_but_little(c: Choice, w: World, account: int, asset: int) -> NDArray[Any]:
    """A withdrawal, so that what an order needs has to come from the one that it replaces."""
    free = w.auditor.ledger.free(account, asset)
    return array(
        MONEY_RECORD,
        kind=Kind.REQUEST_WITHDRAWAL,
        account=account,
        asset=asset,
        amount=max(1, free - pick(c, (0, 1, free // 50))),
        reference=w.reference(),
    ).view(COMMAND)


# ---- what names an order


def some_order(c: Choice, w: World, session: str) -> dict[str, Any]:
    """What names an order that may be there; of an account that the session may name, mostly."""
    own, capabilities, _ = SESSIONS.get(session, (0, 7, False))
    live = list(w.auditor.ledger.orders.values())
    mine = [
        o for o in live if capabilities & 2 or o.account == own or (own == 1 and o.account == 4)
    ]
    if mine and not chance(c, 5):
        order = pick(c, mine)
        account = order.account if order.account != own or chance(c, 30) else 0
        if order.client_order_id and chance(c, 50):
            names: dict[str, Any] = {"client_order_id": order.client_order_id}
            if chance(c, 20):
                names["order_id"] = order.order_id
        else:
            names = {"order_id": order.order_id}
        if chance(c, 20):
            names["market"] = order.market.number
        return {"account": account, **names}
    order_id = pick(c, w.recent) if w.recent and chance(c, 90) else c.integer(0, 10**6)
    return {"account": accounts_of(c, session), "order_id": order_id}


def cancel(c: Choice, w: World, session: str) -> NDArray[Any]:
    return array(COMMAND, kind=Kind.CANCEL_ORDER, **some_order(c, w, session))


def amend(c: Choice, w: World, session: str) -> NDArray[Any]:
    named = some_order(c, w, session)
    found = w.auditor.ledger.orders.get(named.get("order_id", 0))
    market = found.market.number if found else c.integer(1, 3)
    command = array(COMMAND, kind=Kind.AMEND_ORDER, **named)
    what = weighted(c, {"price": 10, "quantity": 12, "both": 10, "nothing": 1})
    if what in ("price", "both"):
        command["price_ticks"] = some_price(c, market)
    if what in ("quantity", "both"):
        command["quantity_lots"] = some_quantity(c, market)
    command["flags"] = weighted(c, {0: 5, int(Flag.TO_OPEN): 4, int(Flag.REQUEUE): 2, 6: 1})
    return command


def squeeze(c: Choice, w: World, session: str) -> NDArray[Any]:
    """A resting order is met and amended at once: what the amend was held for may not be enough."""
    resting = [o for book in w.auditor.books.values() for o in book.resting.values()]
    resting = [o for o in resting if o.order_id in w.auditor.ledger.orders]
    if not resting or not SESSIONS.get(session, (0, 7, False))[1] & 2:
        return amend(c, w, session)
    order = pick(c, resting)
    market = w.auditor.ledger.orders[order.order_id].market.number
    other = array(
        NEW_ORDER,
        kind=Kind.NEW_ORDER,
        account=c.integer(1, ACCOUNTS),
        market=market,
        side=Side.SELL if order.side == Side.BUY else Side.BUY,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.IOC,
        price_ticks=order.price,
        quantity_lots=some_quantity(c, market),
    ).view(COMMAND)
    change = array(
        COMMAND,
        kind=Kind.AMEND_ORDER,
        account=order.account,
        order_id=order.order_id,
        quantity_lots=order.leaves if chance(c, 70) else some_quantity(c, market),
        flags=Flag.TO_OPEN,
    )
    if chance(c, 70):
        poorer = all_but_little(c, w, order.account, w.auditor.ledger.orders[order.order_id].asset)
        return np.concatenate([poorer, other, change])
    return np.concatenate([other, change])


def mass_cancel(c: Choice, w: World, session: str) -> NDArray[Any]:
    return array(
        COMMAND,
        kind=Kind.MASS_CANCEL,
        account=accounts_of(c, session),
        market=weighted(c, {0: 3, 1: 1, 2: 1, 3: 1, 4: 1}),
        side=weighted(c, {0: 3, 1: 1, 2: 1}),
    )


def coming(w: World) -> list[int]:
    """When something is due."""
    times = {*w.auditor.timers.countdowns.values(), *w.auditor.timers.expiries.values()}
    return sorted(time for time in times if time > w.now)


def passing(c: Choice, w: World) -> int:
    """How much time passes, in ns: often up to where something is due, to the very nanosecond."""
    how = weighted(c, {"1": 5, "10 ms": 3, "due": 7, "before": 2, "day": 2, "30 days": 1})
    if how in ("due", "before"):
        times = coming(w)
        return max(0, times[0] - w.now - (how == "before")) if times else 1
    return {"1": 1, "10 ms": 10 * MS, "day": DAY, "30 days": 30 * DAY}[how]


def countdown(c: Choice, w: World, session: str) -> NDArray[Any]:
    if chance(c, 30):
        timeout = pick(c, (0, 0, 0, -1, 2**31, 2**31 - 1))
    else:
        together = [(time - w.now) // MS for time in coming(w) if (time - w.now) % MS == 0]
        timeout = pick(c, together) if together and chance(c, 50) else c.integer(1, 60)
    return array(
        COMMAND, kind=Kind.COUNTDOWN, account=accounts_of(c, session), quantity_lots=timeout
    )


def subscribe(c: Choice, w: World, session: str) -> NDArray[Any]:
    kind = Kind.UNSUBSCRIBE if chance(c, 30) else Kind.SUBSCRIBE
    return array(COMMAND, kind=kind, account=accounts_of(c, session))


def some_amount(c: Choice, asset: int) -> int:
    """An order or two; now and then more than there is."""
    return c.integer(1, WEALTH[asset] // 3) if not chance(c, 10) else 20 * WEALTH[asset]


def request(c: Choice, w: World, session: str) -> NDArray[Any]:
    asset = pick(c, (USD, BTC, ETH))
    return array(
        MONEY_RECORD,
        kind=Kind.REQUEST_WITHDRAWAL,
        account=accounts_of(c, session),
        asset=asset,
        amount=some_amount(c, asset),
        reference=some_reference(c, w),
    ).view(COMMAND)


def some_reference(c: Choice, w: World) -> bytes:
    """Mostly a new one."""
    used = sorted(w.auditor.ledger.references)
    return pick(c, used) if used and chance(c, 8) else w.reference()


def end_withdrawal(c: Choice, w: World, session: str) -> NDArray[Any]:
    waiting = list(w.auditor.ledger.withdrawals.items())
    settle = session == "operator" and chance(c, 70)
    row = array(
        MONEY_RECORD,
        kind=Kind.SETTLE_WITHDRAWAL if settle else Kind.CANCEL_WITHDRAWAL,
        account=max(1, accounts_of(c, session)),
        reference=w.reference(),
    )
    if waiting and not chance(c, 15):
        row["reference"], withdrawal = pick(c, waiting)
        if not chance(c, 10):
            row["account"] = withdrawal.account
    return row.view(COMMAND)


def transfer(c: Choice, w: World, session: str) -> NDArray[Any]:
    asset = pick(c, (USD, BTC, ETH))
    source, target = weighted(c, {(1, 4): 4, (4, 1): 4, (0, 1): 1, (2, 3): 2, (1, 2): 1})
    if session == "operator":
        source = weighted(c, {c.integer(1, ACCOUNTS): 4, FEE_ACCOUNT: 2})
        target = c.integer(1, ACCOUNTS)
        target = target % ACCOUNTS + 1 if target == source else target
    if session == "child" and source == 0:
        source = 4
    return array(
        MONEY_RECORD,
        kind=Kind.TRANSFER,
        account=source if source != target else 2,
        counter_account=target,
        asset=asset,
        amount=some_amount(c, asset),
        reference=some_reference(c, w) if chance(c, 50) else b"",
    ).view(COMMAND)


def junk(c: Choice, w: World, session: str) -> NDArray[Any]:
    """A record that cannot be right, or that the session may not send."""
    kind = pick(c, (0, 13, 31, 47, 48, 50, 99, 255, Kind.ORDER_TERMS, Kind.SET_ACCOUNT))
    return array(COMMAND, kind=kind, account=accounts_of(c, session), market=c.integer(1, 4))


def logout(c: Choice, w: World, session: str) -> NDArray[Any]:
    return array(COMMAND, kind=Kind.LOGOUT)


FAULTS: dict[str, tuple[int, ...]] = {
    "side": (0, 3),
    "order_type": (0, 7),
    "time_in_force": (0, 5, 1, 2, 3),
    "flags": (1, 2, 8, 16, 4, 32, 64, 128),
    "self_trade": (5, 255),
    "price_ticks": (-1, 10**13, 101, 503, 2**62, 1),
    "trigger_ticks": (1, -5, 503, 10**13),
    "trailing_bips": (2001, 10),
    "quantity_lots": (0, -3, 1, 7, 2**53, 2**62, 2**63 - 1),
    "market": (0, 9),
    "reserved": (1,),
}
HUGE = {"price_ticks": 2**39, "quantity_lots": 2**50}


def faulty(c: Choice, w: World, session: str) -> NDArray[Any]:
    """An order with one field that is wrong, more or less."""
    commands = new_order(c, w, session)
    order = commands[-1:].view(NEW_ORDER)
    field = pick(c, (*FAULTS, "client_order_id", "notional"))
    if field == "notional":
        order["market"] = 3
        for name, value in HUGE.items():
            order[name] = value
    elif field == "client_order_id":
        order[field] = pick(c, (b"a b", b"\xff", b"x" * 36, b"\0a"))
    else:
        order[field] = pick(c, FAULTS[field])
    if len(commands) == 2:
        commands[0]["market"] = commands[1]["market"]
    return commands


def faulty_change(c: Choice, w: World, session: str) -> NDArray[Any]:
    """A cancel or an amend with a field that is wrong."""
    command = cancel(c, w, session) if chance(c, 40) else amend(c, w, session)
    field = pick(c, [name for name in FAULTS if name not in ("self_trade", "trailing_bips")])
    if field != "market":
        command[field] = pick(c, FAULTS[field])
    return command


# ---- what operators send


def rules(kind: int, **values: Any) -> NDArray[Any]:
    return array(RULES_RECORD, kind=kind, **values).view(COMMAND)


def deposit(c: Choice, w: World, session: str) -> NDArray[Any]:
    asset = pick(c, (USD, BTC, ETH, NEW))
    return array(
        MONEY_RECORD,
        kind=Kind.DEPOSIT,
        account=c.integer(1, ACCOUNTS + 1) if chance(c, 5) else c.integer(1, ACCOUNTS),
        asset=asset if not chance(c, 3) else 9,
        amount=4 * some_amount(c, asset) if not chance(c, 3) else pick(c, (0, -1, 2**62)),
        reference=some_reference(c, w) if not chance(c, 3) else pick(c, (b"", b"a b")),
    ).view(COMMAND)


def set_account(c: Choice, w: World, session: str) -> NDArray[Any]:
    chosen = weighted(c, {Rule.STATE: 6, Rule.TIER: 5, Rule.CANCEL: 1, Rule(3): 2, Rule(129): 1})
    return rules(
        Kind.SET_ACCOUNT,
        account=c.integer(1, ACCOUNTS),
        rules=int(chosen),
        state=weighted(c, dict(zip(AccountState, (20, 2, 2), strict=True)))
        if Rule.STATE in chosen
        else 0,
        tier=weighted(c, {TIER_BY_VOLUME: 4, 0: 2, 1: 2, 9: 1, 10: 1})
        if Rule.TIER in chosen
        else 0,
    )


def set_market(c: Choice, w: World, session: str) -> NDArray[Any]:
    market = c.integer(1, 4)
    chosen = weighted(
        c,
        {
            Rule.STATE: 5,
            Rule.REFERENCE: 3,
            Rule.BANDS: 3,
            Rule.PROTECTION: 2,
            Rule.NOTIONAL: 2,
            Rule.ORDERS: 2,
            Rule.CANCEL: 1,
            Rule.STATE | Rule.BANDS: 1,
            Rule.TIER: 1,
        },
    )
    values: dict[str, Any] = {}
    if Rule.STATE in chosen:
        values["state"] = weighted(c, dict(zip(MarketState, (24, 2, 2, 2), strict=True)))
    if Rule.REFERENCE in chosen:
        values["reference_ticks"] = some_price(c, market)
    if Rule.BANDS in chosen:
        values["band_up_bips"] = pick(c, (0, 300, 700, 30_000))
        values["band_down_bips"] = pick(c, (0, 300, 700, 9_999))
    if Rule.PROTECTION in chosen:
        values["protection_bips"] = pick(c, (1000, 100, 300, 10_000))
    if Rule.NOTIONAL in chosen:
        values["amount"] = pick(c, (0, MIDDLE[market] * 2))
    if Rule.ORDERS in chosen:
        values["account_orders"] = pick(c, (0, 3, 8))
    return rules(Kind.SET_MARKET, market=market, rules=int(chosen), **values)


def pincers(c: Choice, w: World, session: str) -> NDArray[Any]:
    """From both sides of a price, one order waits for a rise to it and one for a fall."""
    market = c.integer(1, 3)
    step = MARKETS[market].get("price_step_ticks", 1)
    middle, rows = some_price(c, market), []
    for side, away in ((Side.BUY, -step), (Side.SELL, step)):
        reference: dict[str, Any] = {"rules": int(Rule.REFERENCE)}
        reference["reference_ticks"] = middle + 3 * away
        rows.append(rules(Kind.SET_MARKET, market=market, **reference))
        rows.append(
            array(
                NEW_ORDER,
                kind=Kind.NEW_ORDER,
                account=c.integer(1, ACCOUNTS),
                market=market,
                side=side,
                order_type=OrderType.STOP_LOSS_LIMIT,
                time_in_force=TimeInForce.GTC,
                trigger_ticks=middle + away * c.integer(0, 1),
                price_ticks=middle,
                quantity_lots=some_quantity(c, market),
            ).view(COMMAND)
        )
    return np.concatenate(rows)


def set_fees(c: Choice, w: World, session: str) -> NDArray[Any]:
    """Of one tier; or of all, since a rebate of one may not pass the taker rate of any."""
    market = c.integer(0, 3)
    how = weighted(c, {"one": 4, "several": 3, "rebates": 2, "none": 2})
    if how == "one":
        maker, taker = pick(c, (-100, 0, 1500, -3000)), pick(c, (3000, 500, 29_999))
        return fees(market, [c.integer(0, 9)], maker, taker)
    if how == "several":
        taker = pick(c, (3000, 10_000, 30_000))
        rows = [fees(market, [tier], pick(c, (0, 700, 30_000)), taker) for tier in range(10)]
        return np.concatenate([*rows, fees(market, [1], -2500, taker)])
    if how == "rebates":
        taker = pick(c, (3000, 10_000))
        return np.concatenate([fees(market, range(10), maker, taker) for maker in (0, -taker)])
    # Orders that rest keep a rebate that takers do not pay any more.
    return np.concatenate(
        [fees(market, range(10), 0, taker) for taker in (30_000, c.integer(0, 1))]
    )


def fees(market: int, tiers: Iterable[int], maker: int, taker: int) -> NDArray[Any]:
    return np.concatenate(
        [
            rules(Kind.SET_FEES, market=market, tier=t, maker_fee_ppm=maker, taker_fee_ppm=taker)
            for t in tiers
        ]
    )


def set_tier(c: Choice, w: World, session: str) -> NDArray[Any]:
    return rules(
        Kind.SET_TIER,
        tier=c.integer(1, 9),
        amount=pick(c, (1, 0, 30, 200)) if chance(c, 40) else c.integer(1, 400),
        asset=weighted(c, {USD: 12, 9: 1, NEW: 1}),
    )


def define(c: Choice, w: World, session: str) -> NDArray[Any]:
    """A definition that is refused, or a session's end."""
    if chance(c, 40):
        found = w.auditor.definitions.session_named(pick(c, tuple(SESSIONS)).encode())
        number = found.number if found and not chance(c, 30) else 99
        return array(NAMED_RECORD, kind=Kind.DETACH_SESSION, id=number, reason=504).view(COMMAND)
    return array(
        NAMED_RECORD, kind=Kind.ADD_ACCOUNT, name=b"again", account=c.integer(0, ACCOUNTS)
    ).view(COMMAND)


def add_market(c: Choice, w: World, session: str) -> NDArray[Any]:
    """One that comes and goes, mostly."""
    number = weighted(c, {4: 6, 1: 1, 2: 1, 3: 1})
    values = MARKETS[number] | (pick(c, LATER) if number == 4 else {})
    records = np.asarray([market_record(number, max_orders=MAX_ORDERS, **values)])
    records["specials"] = weighted(c, {0: 4, 3: 3, 29: 1})
    return records.view(COMMAND)


def remove_market(c: Choice, w: World, session: str) -> NDArray[Any]:
    """With a kill switch before it, now and then, which ends its orders and so lets it go soon."""
    number = weighted(c, {4: 60, 1: 1, 2: 1, 3: 1, 9: 1})
    rows = [array(NAMED_RECORD, kind=Kind.REMOVE_MARKET, id=number, name=b"gone").view(COMMAND)]
    if chance(c, 60):
        rows.insert(0, rules(Kind.SET_MARKET, market=number, rules=int(Rule.CANCEL)))
    if chance(c, 2):
        rows[-1]["reserved"] = 1
    return np.concatenate(rows)


def add_asset(c: Choice, w: World, session: str) -> NDArray[Any]:
    number, scale = weighted(c, {NEW: 8, ETH: 1}), pick(c, (*LATER_SCALES, 19))
    row = array(NAMED_RECORD, kind=Kind.ADD_ASSET, id=number, name=b"NEW", scale=scale)
    return row.view(COMMAND)


def remove_asset(c: Choice, w: World, session: str) -> NDArray[Any]:
    number = weighted(c, {NEW: 8, ETH: 1, 9: 1})
    return array(NAMED_RECORD, kind=Kind.REMOVE_ASSET, id=number, name=b"gone").view(COMMAND)


def wind_up(c: Choice, w: World, session: str) -> NDArray[Any]:
    """All that is free of an asset leaves the exchange."""
    rows = []
    for (account, asset), balance in sorted(w.auditor.ledger.balances.items()):
        if asset != NEW or not balance.free:
            continue
        owner = 1 if account == FEE_ACCOUNT else account
        money: dict[str, Any] = {"asset": NEW, "amount": balance.free}
        if account == FEE_ACCOUNT:
            rows.append(
                array(
                    MONEY_RECORD,
                    kind=Kind.TRANSFER,
                    account=account,
                    counter_account=owner,
                    **money,
                )
            )
        reference = w.reference()
        request = {"kind": Kind.REQUEST_WITHDRAWAL, "account": owner, "reference": reference}
        settle = {"kind": Kind.SETTLE_WITHDRAWAL, "account": owner, "reference": reference}
        rows += [array(MONEY_RECORD, **request, **money), array(MONEY_RECORD, **settle)]
    rows.append(remove_asset(c, w, session).view(MONEY_RECORD))
    return np.concatenate(rows).view(COMMAND)


Maker = Callable[[Choice, World, str], NDArray[Any]]
OF_TRADERS: dict[Maker, int] = {
    new_order: 90,
    order_list: 34,
    replace: 22,
    squeezed_replace: 8,
    late_countdown: 4,
    late_replace: 4,
    amend: 26,
    squeeze: 10,
    cancel: 16,
    faulty: 10,
    faulty_change: 4,
    mass_cancel: 2,
    countdown: 4,
    subscribe: 2,
    request: 5,
    end_withdrawal: 2,
    transfer: 4,
    junk: 2,
    logout: 1,
}
OF_OPERATORS: dict[Maker, int] = {
    deposit: 24,
    end_withdrawal: 4,
    transfer: 4,
    set_account: 6,
    set_market: 9,
    pincers: 2,
    set_fees: 4,
    set_tier: 4,
    new_order: 2,
    order_list: 1,
    replace: 1,
    cancel: 2,
    mass_cancel: 1,
    define: 2,
    add_market: 4,
    remove_market: 6,
    add_asset: 3,
    remove_asset: 1,
    wind_up: 2,
}


def command(c: Choice, w: World) -> tuple[str, NDArray[Any]]:
    """A session, and what it sends next: one command, or a few that belong together."""
    session = (
        "operator" if chance(c, 17) else weighted(c, {**dict.fromkeys(TRADERS, 8), "reader": 1})
    )
    maker = weighted(c, OF_OPERATORS if session == "operator" else OF_TRADERS)
    return session, maker(c, w, session)
