"""Markets and assets that come and go while the exchange runs, and the same again from the log."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from matchbox.core import snapshot
from matchbox.core.instrument import market_record
from matchbox.shm.errors import BadArgument, MarketRemoved
from matchbox.shm.reasons import Reason
from matchbox.shm.records import (
    COMMAND,
    MONEY_RECORD,
    NAMED_RECORD,
    NEW_ORDER,
    RULES_RECORD,
    EventKind,
    Kind,
    OrderType,
    Rule,
    Side,
    TimeInForce,
)
from tests.core.exchange import Exchange, plan

BTC, USD, NEW = 1, 2, 3
FEES = 0xFFFFFFFF


@pytest.fixture
def exchange() -> Exchange:
    """One market to begin with, two matchers, and room for a second market."""
    return Exchange(plan(markets=1, matchers=2, max_orders=64, order_capacity=192))


def definition(number: int = 2, **values: Any) -> NDArray[Any]:
    usual = {"symbol": "NEW", "max_orders": 64, "lot_units": 10**8, "notional_units": 10**8}
    return np.asarray([market_record(number, **(usual | values))])


def named(kind: Kind, number: int, **values: Any) -> NDArray[Any]:
    row = np.zeros(1, NAMED_RECORD)
    row["kind"], row["id"], row["name"] = kind, number, b"NEW"
    for name, value in values.items():
        row[name] = value
    return row.view(COMMAND)


def money(kind: Kind, account: int, amount: int, reference: bytes, **values: Any) -> NDArray[Any]:
    row = np.zeros(1, MONEY_RECORD)
    row["kind"], row["account"], row["asset"], row["amount"] = kind, account, NEW, amount
    row["reference"] = reference
    for name, value in values.items():
        row[name] = value
    return row.view(COMMAND)


def order(account: int, side: Side, quantity: int, market: int = 2, price: int = 50) -> Any:
    row = np.zeros(1, NEW_ORDER)
    row["kind"], row["account"], row["market"] = Kind.NEW_ORDER, account, market
    row["side"], row["quantity_lots"], row["price_ticks"] = side, quantity, price
    row["order_type"], row["time_in_force"] = OrderType.LIMIT, TimeInForce.GTC
    return row.view(COMMAND)


def do(exchange: Exchange, *rows: NDArray[Any]) -> list[int]:
    """The operator sends them; the reason in the log of each, 0 if it was accepted."""
    before = len(exchange.log)
    exchange.run_operator(np.concatenate([row.view(COMMAND) for row in rows]))
    log = exchange.log[before:]
    return log["reject"][log["session"] == exchange.operator.number].tolist()  # type: ignore[union-attr]


def add(exchange: Exchange, record: NDArray[Any]) -> list[int]:
    exchange.give_memory(record[0])
    return do(exchange, record)


def replayed(exchange: Exchange) -> Exchange:
    again = Exchange(exchange.plan, define=False)
    again.replay(exchange.log)
    assert again.log.tobytes() == exchange.log.tobytes()
    assert again.state_hash() == exchange.state_hash()
    assert again.events() == exchange.events()
    return again


def test_a_market_is_added_and_traded(exchange: Exchange) -> None:
    assert do(exchange, order(1, Side.BUY, 3)) == [Reason.UNKNOWN_MARKET]
    assert add(exchange, definition()) == [0]
    bot = exchange.attach(account=1)
    bot.submit(order(0, Side.BUY, 3))
    exchange.settle()
    assert [EventKind(int(r["kind"])).name for r in bot.reports()][-1] == "ACCEPTED"
    assert exchange.book(2).best() == (50, 3, 0, 0)
    assert [row["market"] for row in exchange.sequencer.markets()] == [1, 2]
    replayed(exchange)


def test_a_market_without_memory_is_refused_and_nothing_waits_for_it(exchange: Exchange) -> None:
    assert do(exchange, definition()) == [Reason.NOT_PREPARED]
    exchange.give_memory(definition()[0])
    assert do(exchange, definition(max_orders=65)) == [Reason.NOT_PREPARED]
    assert do(exchange, order(1, Side.BUY, 3), order(1, Side.BUY, 3, 1)) == [200, 0]
    replayed(exchange)


def test_memory_for_orders_is_limited_in_all(exchange: Exchange) -> None:
    for number in (2, 3):
        assert add(exchange, definition(number)) == [0]
    with pytest.raises(BadArgument, match="no room for so many open orders: max_orders=64, free=0"):
        exchange.give_memory(definition(4)[0])
    assert do(exchange, named(Kind.REMOVE_MARKET, 3)) == [0]
    exchange.take_memory(4)
    assert add(exchange, definition(4)) == [0]


def test_a_market_is_removed_when_none_of_its_orders_is_live(exchange: Exchange) -> None:
    add(exchange, definition())
    book = exchange.book(2)
    assert do(exchange, order(1, Side.BUY, 3)) == [0]
    with pytest.raises(BadArgument, match="is open"):
        exchange.take_memory(2)
    remove = named(Kind.REMOVE_MARKET, 2)
    assert do(exchange, remove) == [Reason.MARKET_IN_USE]
    kill = np.zeros(1, RULES_RECORD)
    kill["kind"], kill["market"], kill["rules"] = Kind.SET_MARKET, 2, Rule.CANCEL
    # Its cancel is in the log by then, and has not been settled.
    assert do(exchange, kill, remove) == [0, Reason.MARKET_IN_USE]
    assert not book.removed and book.best() == (0, 0, 0, 0)
    assert do(exchange, remove) == [0]
    assert do(exchange, remove, order(1, Side.BUY, 3)) == [Reason.UNKNOWN_MARKET] * 2
    assert book.removed
    for look in (book.top, book.best, book.depth):
        with pytest.raises(MarketRemoved, match="market=2"):
            look()
    exchange.take_memory(2)
    replayed(exchange)


def test_a_number_is_given_again_and_its_trade_ids_go_on(exchange: Exchange) -> None:
    add(exchange, definition())
    bot = exchange.attach(account=1)
    do(exchange, order(2, Side.SELL, 5))
    for _ in range(3):
        bot.submit(order(0, Side.BUY, 1))
        exchange.settle()
    assert exchange.book(2).top().trades == 3
    do(exchange, order(3, Side.BUY, 2))
    assert do(exchange, named(Kind.REMOVE_MARKET, 2)) == [0]
    assert add(exchange, definition(lot_units=10**7, notional_units=10**7)) == [0]
    top = exchange.book(2).top()
    assert (top.update, top.trades, top.last_price_ticks) == (0, 0, 0)
    bot.reports()
    held = exchange.sequencer.balance(2, BTC)[1]
    assert do(exchange, order(2, Side.SELL, 5)) == [0]
    assert exchange.sequencer.balance(2, BTC)[1] - held == 5 * 10**7
    bot.submit(order(0, Side.BUY, 1))
    exchange.settle()
    assert [int(r["trade_id"]) for r in bot.reports() if r["kind"] == EventKind.TRADE] == [5]
    assert exchange.book(2).top().update == 2
    again = replayed(exchange)
    assert again.book(2).top().trades == 5


def test_what_was_set_of_a_market_goes_with_it(exchange: Exchange) -> None:
    add(exchange, definition())
    fresh = exchange.sequencer.markets()[1]
    rules = np.zeros(1, RULES_RECORD)
    rules["kind"], rules["market"] = Kind.SET_MARKET, 2
    rules["rules"] = Rule.STATE | Rule.REFERENCE | Rule.BANDS | Rule.NOTIONAL | Rule.ORDERS
    rules["state"], rules["reference_ticks"], rules["amount"] = 2, 70, 9
    rules["band_up_bips"], rules["band_down_bips"], rules["account_orders"] = 10, 10, 1
    rates = np.zeros(1, RULES_RECORD)
    rates["kind"], rates["market"], rates["taker_fee_ppm"] = Kind.SET_FEES, 2, 100
    assert do(exchange, rules, rates) == [0, 0]
    assert exchange.sequencer.markets()[1] != fresh
    assert do(exchange, named(Kind.REMOVE_MARKET, 2)) == [0]
    assert add(exchange, definition()) == [0]
    assert exchange.sequencer.markets()[1] == fresh
    assert do(exchange, order(1, Side.BUY, 1)) == [0]
    assert int(exchange.log["hold"][-1]) == 50 * 10**8


def test_an_asset_is_removed_when_nobody_has_any(exchange: Exchange) -> None:
    asset = named(Kind.ADD_ASSET, NEW, scale=2)
    remove = named(Kind.REMOVE_ASSET, NEW)
    scales = {"tick_mantissa": 1, "tick_scale": 0, "lot_units": 100, "notional_units": 10**8}
    assert do(exchange, remove, asset, asset) == [Reason.UNKNOWN_ASSET, 0, Reason.ALREADY_EXISTS]
    assert add(exchange, definition(base_asset=NEW, **scales)) == [0]
    assert do(exchange, remove) == [Reason.ASSET_IN_USE]
    assert do(exchange, named(Kind.REMOVE_MARKET, 2)) == [0]
    # A fee counts like anything else.
    assert do(exchange, money(Kind.DEPOSIT, FEES, 7, b"in"), remove) == [0, Reason.ASSET_IN_USE]
    out = money(Kind.TRANSFER, FEES, 7, b"", counter_account=1)
    request, settle = (
        money(Kind.REQUEST_WITHDRAWAL, 1, 7, b"out"),
        money(Kind.SETTLE_WITHDRAWAL, 1, 0, b"out", asset=0),
    )
    assert do(exchange, out, request, remove) == [0, 0, Reason.ASSET_IN_USE]
    assert do(exchange, settle, remove) == [0, 0]
    assert do(exchange, money(Kind.DEPOSIT, 1, 7, b"in-2")) == [Reason.UNKNOWN_ASSET]
    # The same number, and other units.
    assert do(exchange, named(Kind.ADD_ASSET, NEW, scale=0)) == [0]
    assert add(exchange, definition(base_asset=NEW, **scales)) == [Reason.BAD_DEFINITION]
    assert add(exchange, definition(base_asset=NEW, **(scales | {"lot_units": 1}))) == [0]
    assert do(exchange, money(Kind.DEPOSIT, 1, 7, b"in-3")) == [0]
    assert exchange.sequencer.assets()[-1] == (NEW, 0, 7)
    replayed(exchange)


def test_an_asset_that_tiers_count_in_stays(exchange: Exchange) -> None:
    tier = np.zeros(1, RULES_RECORD)
    tier["kind"], tier["tier"], tier["amount"], tier["asset"] = Kind.SET_TIER, 1, 5, NEW
    other = tier.copy()
    other["asset"] = USD
    remove = named(Kind.REMOVE_ASSET, NEW)
    assert do(exchange, named(Kind.ADD_ASSET, NEW), tier, remove) == [0, 0, Reason.ASSET_IN_USE]
    assert do(exchange, other, remove) == [0, 0]
    replayed(exchange)


def test_only_operators_remove(exchange: Exchange) -> None:
    bot = exchange.attach(account=1)
    bot.submit(np.concatenate([named(Kind.REMOVE_MARKET, 1), named(Kind.REMOVE_ASSET, BTC)]))
    exchange.settle()
    assert [Reason(int(r["reason"])) for r in bot.reports()[1:]] == [Reason.NOT_PERMITTED] * 2


def trade(exchange: Exchange) -> int:
    """One lot of the market changes hands; the trade's number."""
    assert do(exchange, order(2, Side.SELL, 1), order(1, Side.BUY, 1)) == [0, 0]
    return int(exchange.book(2).top().trades)


def test_a_number_goes_on_counting_its_trades_from_a_snapshot(exchange: Exchange) -> None:
    assert add(exchange, definition()) == [0]
    assert [trade(exchange), trade(exchange)] == [1, 2]
    assert do(exchange, named(Kind.REMOVE_MARKET, 2)) == [0]
    image = snapshot.save(exchange.plan, exchange.agents, exchange.segment)
    again = Exchange(exchange.plan, define=False, image=image)
    snapshot.load(image, again.agents)
    again.start(2)
    for each in (exchange, again):
        assert add(each, definition()) == [0]
        assert trade(each) == 3
