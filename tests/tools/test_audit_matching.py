"""The auditor's matching: examples of the trading rules, worked out by hand."""

import pytest

from matchbox.shm.reasons import Reason
from matchbox.shm.records import (
    EventFlag,
    Flag,
    Kind,
    OrderType,
    Rule,
    SelfTrade,
    TimeInForce,
)
from matchbox.tools.audit import invariants
from tests.tools.audit_log import Log, fills, kinds, told


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture(autouse=True)
def agreement(log: Log) -> object:
    """Nothing in these logs breaks the rules, and nothing that must hold is broken."""
    yield
    log.auditor.settle_all()
    assert log.differences == []
    assert invariants.broken(log.auditor) == []


def reason_of(log: Log, step: object) -> str:
    return Reason(step.book[-1].reason).name  # type: ignore[attr-defined]


def trade_at(log: Log, price: int) -> None:
    """Make this the last price, with one lot between accounts 1 and 2."""
    log.order(2, "sell", 1, price)
    log.order(1, "buy", 1, price)


def test_the_example_of_the_document(log: Log) -> None:
    first = log.sequence + 1
    for price in (101, 100, 100):
        log.order(2, "sell", 5, price)
    step = log.order(1, "buy", 12, 101, time_in_force=TimeInForce.IOC)
    taker = log.sequence
    assert fills(step) == [
        (taker, first + 1, 100, 5),
        (taker, first + 2, 100, 5),
        (taker, first, 101, 2),
    ]


def test_an_iceberg_shows_slices_and_each_goes_to_the_end(log: Log) -> None:
    log.terms(account=2, display_lots=3)
    iceberg = log.order(2, "sell", 8, 100, has_terms=1).record.sequence
    plain = log.order(2, "sell", 4, 100).record.sequence
    book = log.auditor.books[1]
    assert book.level(2, 100) == 7
    step = log.order(1, "buy", 9, 100)
    taker = log.sequence
    # 3 of the slice, 4 of the plain one behind it, then 2 of the next slice.
    assert fills(step) == [
        (taker, iceberg, 100, 3),
        (taker, plain, 100, 4),
        (taker, iceberg, 100, 2),
    ]
    assert [event.level_lots for event in step.book[1:]] == [7, 3, 1]
    # 3 are left, of which the slice shows 1: the other 2 are hidden, and matched.
    assert fills(log.order(1, "buy", 3, 100))[-1][3] == 2


def test_an_iceberg_that_keeps_its_place_loses_what_is_hidden(log: Log) -> None:
    log.terms(account=2, display_lots=4)
    order = log.order(2, "sell", 10, 100, has_terms=1).record.sequence
    book = log.auditor.books[1]
    log.amend(2, order, 0, 5)
    assert (book.resting[order].shown, book.resting[order].leaves) == (4, 5)
    log.amend(2, order, 0, 3)
    assert (book.resting[order].shown, book.resting[order].leaves) == (3, 3)
    log.amend(2, order, 0, 9, hold=6)
    assert (book.resting[order].shown, book.resting[order].leaves) == (4, 9)


def test_triggered_orders_go_in_the_order_of_their_triggers(log: Log) -> None:
    trade_at(log, 100)
    stop = {"order_type": OrderType.STOP_LOSS_LIMIT, "price_ticks": 90}
    buys = {
        trigger: log.order(1, "buy", 1, 90, **(stop | {"trigger_ticks": trigger})).record.sequence
        for trigger in (103, 101)
    }
    take = {"order_type": OrderType.TAKE_PROFIT_LIMIT, "trigger_ticks": 102}
    log.order(2, "sell", 1, 110, **take)
    sell = log.sequence
    trailing = log.order(
        2, "sell", 1, 111, order_type=OrderType.STOP_LOSS_LIMIT, trailing_bips=100
    ).record.sequence
    log.order(2, "sell", 1, 105)
    step = log.order(1, "buy", 1, 105)
    # All wait for a rise to 101, 102, 103; the trailing one has 105 as its best now.
    assert [row[1] for row in told(step) if row[0] == "TRIGGERED"] == [
        buys[101],
        sell,
        buys[103],
    ]
    assert kinds(step)[-6:] == ["TRIGGERED", "RESTED"] * 3
    log.order(2, "sell", 1, 104)
    assert "TRIGGERED" not in kinds(log.order(1, "buy", 1, 104))
    # floor(105 * 0.99) = 103.
    log.order(2, "sell", 1, 103)
    step = log.order(1, "buy", 1, 103)
    assert [row[1] for row in told(step) if row[0] == "TRIGGERED"] == [trailing]


def test_a_trigger_that_is_reached_already_is_refused(log: Log) -> None:
    trade_at(log, 100)
    step = log.order(1, "buy", 1, 90, order_type=OrderType.STOP_LOSS_LIMIT, trigger_ticks=100)
    assert reason_of(log, step) == "WOULD_TRIGGER"


def test_a_trailing_order_waits_for_where_it_begins(log: Log) -> None:
    trade_at(log, 100)
    order = log.order(
        2,
        "sell",
        1,
        50,
        order_type=OrderType.TAKE_PROFIT_LIMIT,
        trigger_ticks=110,
        trailing_bips=1000,
    ).record.sequence
    waiting = log.auditor.books[1].waiting.orders
    trade_at(log, 90)
    assert waiting[order].best is None
    trade_at(log, 112)
    assert waiting[order].best == 112
    trade_at(log, 101)  # floor(112 * 0.9) = 100
    assert order in waiting
    log.order(2, "sell", 1, 100)
    assert "TRIGGERED" in kinds(log.order(1, "buy", 1, 100))


def test_a_market_buy_has_a_bound_and_a_budget(log: Log) -> None:
    trade_at(log, 100)
    log.order(2, "sell", 5, 105)
    log.order(2, "sell", 5, 111)
    # 1,000 bips of protection: ceil(100 * 1.1) = 110; 8 * 110 = 880 are free.
    step = log.market(1, "buy", 8, 110, hold=880)
    assert kinds(step) == ["ACCEPTED", "TRADE", "EXPIRED"]
    assert told(step)[0][2] == 110 and reason_of(log, step) == "NO_LIQUIDITY"
    assert log.settled_balance(1, 2) == (10_000 - 100 - 525, 0)


def test_a_budget_that_is_spent_expires_the_rest(log: Log) -> None:
    log.order(2, "sell", 200, 70)
    # Without a last price there is no bound: all that is free, 10,000, is the budget.
    step = log.market(1, "buy", 200, 0, hold=10_000)
    assert fills(step)[0][3] == 142  # floor(10,000 / 70)
    assert reason_of(log, step) == "BUDGET_SPENT"
    assert log.settled_balance(1, 2) == (60, 0)


def test_what_a_market_order_holds_is_only_spent_until_it_ends(log: Log) -> None:
    log.order(1, "sell", 2, 100)
    log.order(2, "sell", 2, 100)
    log.order(2, "sell", 2, 101)
    # No last price: no bound, and all 10,000 are held. 2 prevented, 2 for 200, 1 for 101.
    log.market(1, "buy", 5, 0, hold=10_000, self_trade=SelfTrade.DECREMENT)
    # ACCEPTED and PREVENTED are settled, then the first fill.
    log.command(Kind.SUBSCRIBE, account=1, lag=2, index=2)
    assert log.balance(1, 2) == (0, 10_000)
    log.command(Kind.SUBSCRIBE, account=1, lag=3, index=3)
    assert log.balance(1, 2) == (0, 9_800)
    assert log.settled_balance(1, 2) == (10_000 - 301, 0)


def test_orders_by_quote_amount_spend_and_get_it(log: Log) -> None:
    log.order(2, "sell", 5, 30)
    log.order(2, "sell", 5, 40)
    quote = {"flags": Flag.QUOTE_AMOUNT}
    step = log.market(1, "buy", 255, 0, hold=255, **quote)
    # 5 * 30 = 150; floor(105 / 40) = 2; 25 pay for nothing.
    assert told(step)[1:] == [
        ("TRADE", log.sequence, 30, 5, 105),
        ("TRADE", log.sequence, 40, 2, 25),
        ("EXPIRED", log.sequence, 0, 25, 0),
    ]
    assert reason_of(log, step) == "BUDGET_SPENT"
    log.order(1, "buy", 5, 35)
    # Last price 40, bound floor(40 * 0.9) = 36: ceil(100 / 36) = 3 lots are held, none meets.
    step = log.market(2, "sell", 100, 36, hold=3, **quote)
    assert kinds(step) == ["ACCEPTED", "EXPIRED"]
    log.order(1, "buy", 5, 38)
    step = log.market(2, "sell", 80, 36, hold=3, **quote)
    # floor(80 / 38) = 2 lots for 76; 4 are left to get.
    assert told(step)[1:] == [
        ("TRADE", log.sequence, 38, 2, 4),
        ("EXPIRED", log.sequence, 36, 4, 0),
    ]


@pytest.mark.parametrize(
    ("mode", "expected"),
    (
        (SelfTrade.TRADE_WITH_SELF, ["ACCEPTED", "TRADE", "TRADE", "RESTED"]),
        (SelfTrade.EXPIRE_TAKER, ["ACCEPTED", "EXPIRED"]),
        (SelfTrade.EXPIRE_MAKER, ["ACCEPTED", "EXPIRED", "TRADE", "RESTED"]),
        (SelfTrade.EXPIRE_BOTH, ["ACCEPTED", "EXPIRED", "EXPIRED"]),
        (SelfTrade.DECREMENT, ["ACCEPTED", "PREVENTED", "TRADE", "RESTED"]),
    ),
)
def test_self_trade_prevention_has_five_modes(
    log: Log, mode: SelfTrade, expected: list[str]
) -> None:
    log.order(1, "sell", 3, 100)
    own = log.sequence
    log.order(2, "sell", 3, 100)
    step = log.order(1, "buy", 7, 100, self_trade=mode)
    assert kinds(step) == expected
    if mode == SelfTrade.EXPIRE_BOTH:
        assert [row[1] for row in told(step)[1:]] == [own, log.sequence]
    if mode == SelfTrade.DECREMENT:
        assert told(step)[-1][3:] == (4, 1)  # 7 - 3 prevented = 4, of which 1 is open


def test_fill_or_kill_walks_the_queue_past_its_own(log: Log) -> None:
    log.order(2, "sell", 3, 100)
    log.order(1, "sell", 3, 100)
    log.order(2, "sell", 3, 101)
    fok = {"time_in_force": TimeInForce.FOK}
    step = log.order(1, "buy", 4, 101, self_trade=SelfTrade.DECREMENT, **fok)
    assert reason_of(log, step) == "NOT_FILLABLE"
    # Enough is found before it is met.
    step = log.order(1, "buy", 3, 101, self_trade=SelfTrade.DECREMENT, **fok)
    assert kinds(step) == ["ACCEPTED", "TRADE"]
    step = log.order(1, "buy", 3, 101, self_trade=SelfTrade.EXPIRE_MAKER, **fok)
    assert kinds(step) == ["ACCEPTED", "EXPIRED", "TRADE"]


def test_bands_refuse_prices_and_end_takers(log: Log) -> None:
    trade_at(log, 100)
    log.rules(Kind.SET_MARKET, market=1, rules=Rule.BANDS, band_up_bips=500, band_down_bips=500)
    assert reason_of(log, log.order(1, "buy", 1, 106)) == "PRICE_BAND"
    assert kinds(log.order(1, "buy", 1, 95)) == ["ACCEPTED"]
    log.order(2, "sell", 1, 104)
    log.rules(Kind.SET_MARKET, market=1, rules=Rule.REFERENCE, reference_ticks=98)
    # ceil(98 * 1.05) = 103: the next price is above it. The bound is ceil(98 * 1.1) = 108.
    step = log.market(1, "buy", 1, 108)
    assert kinds(step) == ["ACCEPTED", "EXPIRED"]
    assert reason_of(log, step) == "PRICE_BAND"


def test_a_triggered_limit_order_outside_the_band_does_not_rest(log: Log) -> None:
    trade_at(log, 100)
    log.order(1, "buy", 1, 80, order_type=OrderType.STOP_LOSS_LIMIT, trigger_ticks=102)
    order = log.sequence
    log.rules(Kind.SET_MARKET, market=1, rules=Rule.BANDS, band_down_bips=500)
    log.order(2, "sell", 1, 102)
    step = log.order(1, "buy", 1, 102)
    assert told(step)[-2:] == [("TRIGGERED", order, 80, 1, 1), ("EXPIRED", order, 80, 1, 0)]
    assert reason_of(log, step) == "PRICE_BAND"


def test_an_amend_keeps_its_place_or_loses_it(log: Log) -> None:
    first, second = (log.order(2, "sell", 5, 100).record.sequence for _ in range(2))
    step = log.amend(2, first, 0, 4)
    event = step.book[0]
    assert (event.maker_leaves_lots, event.maker_cumulative_lots, event.level_lots) == (5, 100, 9)
    assert event.flags == EventFlag.RESTING | EventFlag.LAST
    assert fills(log.order(1, "buy", 1, 100))[0][1] == first
    # A total of 6, of which 1 is filled; 2 more than the 3 that are open.
    log.amend(2, first, 0, 6, hold=2)
    assert fills(log.order(1, "buy", 1, 100))[0][1] == second
    log.amend(2, second, 0, 0, flags=Flag.REQUEUE, price_ticks=100)
    assert fills(log.order(1, "buy", 1, 100))[0][1] == first


def test_an_amend_to_a_price_that_meets_takes(log: Log) -> None:
    log.order(2, "sell", 2, 100)
    order = log.order(1, "buy", 5, 90).record.sequence
    step = log.amend(1, order, 101, 0, hold=55)
    assert kinds(step) == ["AMENDED", "TRADE", "RESTED"]
    # 2 at 100, 3 still open at 101.
    assert log.settled_balance(1, 2) == (10_000 - 200 - 303, 303)


def test_what_waits_cannot_be_amended_but_canceled(log: Log) -> None:
    order = log.order(
        1, "buy", 1, 90, order_type=OrderType.STOP_LOSS_LIMIT, trigger_ticks=100
    ).record.sequence
    assert reason_of(log, log.amend(1, order, 80, 0)) == "CANNOT_AMEND"
    step = log.cancel(1, order)
    assert told(step) == [("CANCELED", order, 90, 1, 0)]
    assert step.book[0].flags == EventFlag.LAST
