"""Cancel and replace, and order lists, as the auditor knows them: examples worked out by hand."""

from typing import Any

import pytest

from matchbox.shm.reasons import Reason
from matchbox.shm.records import (
    EventFlag,
    EventKind,
    Flag,
    Kind,
    ListType,
    MarketState,
    OrderType,
    ReportFlag,
    Rule,
    SelfTrade,
    TimeInForce,
)
from matchbox.tools.audit import invariants
from matchbox.tools.audit.exchange import Step
from matchbox.tools.audit.records import Report
from matchbox.tools.audit.reports import Reporter
from tests.tools.audit_log import BTC, OWN, TRUSTED, USD, Log, kinds, told

MS = 1_000_000
STOP = {"order_type": OrderType.STOP_LOSS, "time_in_force": TimeInForce.IOC}
ALLOW = Flag.REPLACE | Flag.ALLOW_FAILURE
Leg = dict[str, Any]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture(autouse=True)
def agreement(log: Log) -> object:
    """What a test has not looked at is as the rules say, and nothing that must hold is broken."""
    yield
    log.auditor.settle_all()
    assert log.differences == []
    assert invariants.broken(log.auditor) == []


def refused(log: Log, expected: Reason, records: int = 1) -> None:
    """So many records should have been refused, and the log says that they were not."""
    texts = log.differences
    found = [text for text in texts if f"reject: expected {expected.name} " in text]
    assert len(found) == records, texts
    log.auditor.differences.clear()


def reason(step: Step) -> Reason:
    return Reason(step.book[-1].reason)


def trade_at(log: Log, price: int) -> None:
    """Make this the last price, with one lot between accounts 1 and 2, and settle it."""
    log.order(2, "sell", 1, price)
    log.order(1, "buy", 1, price)


def leg(side: str, quantity: int, price: int, **values: Any) -> Leg:
    return {"side": side, "quantity": quantity, "price": price, **values}


def limit(side: str, quantity: int, price: int, **values: Any) -> Leg:
    """The first of a pair."""
    return leg(side, quantity, price, flags=Flag.POST_ONLY, **values)


def stop(side: str, quantity: int, trigger: int, bound: int, **values: Any) -> Leg:
    """The second of a pair, which becomes a market order."""
    return leg(side, quantity, bound, trigger_ticks=trigger, **STOP, **values)


def sell_pair(log: Log, quantity: int = 4) -> tuple[int, int]:
    """A limit at 110 and a stop at 90, whose bound is floor(90 * 0.9) = 81."""
    log.order_list(
        ListType.OCO,
        [limit("sell", quantity, 110), stop("sell", quantity, 90, 81, hold=0)],
    )
    return log.sequence - 1, log.sequence


def buy_pair(log: Log, quantity: int = 4) -> tuple[int, int]:
    """A limit at 90 holds 90 a lot, a stop at 110 needs ceil(110 * 1.1) = 121 a lot."""
    log.order_list(
        ListType.OCO,
        [limit("buy", quantity, 90), stop("buy", quantity, 110, 121, hold=31 * quantity)],
    )
    return log.sequence - 1, log.sequence


def one_triggers(log: Log, working: Leg, pending: Leg, **values: Any) -> tuple[int, int]:
    log.order_list(ListType.OTO, [working, pending], **values)
    return log.sequence - 1, log.sequence


def reports(log: Log, session: int, first: int = 0) -> list[Report]:
    """What a session is told of the records from `first` on; account 1 has no other subscriber."""
    log.differences  # noqa: B018  the last record may still wait for others
    reporter = Reporter()
    for step in log.steps:
        reporter.step(step)
    return [report for report in reporter.take(session) if report.sequence >= first]


# ---- cancel and replace


def test_an_order_comes_in_the_place_of_another(log: Log) -> None:
    old = log.order(1, "buy", 5, 100).record.sequence
    log.replace(1, old)
    step = log.replacement(1, "buy", 7, 99)
    assert told(log.steps[-2]) == [("CANCELED", old, 100, 5, 0)]
    assert told(step) == [("ACCEPTED", old + 2, 99, 7, 7)]
    assert log.settled_balance(1, USD) == (10_000 - 693, 693)


def test_the_terms_of_the_new_order_stand_between(log: Log) -> None:
    old = log.order(1, "buy", 5, 100).record.sequence
    log.replace(1, old)
    log.terms(display_lots=2)
    log.replacement(1, "buy", 6, 99, has_terms=9)
    assert log.auditor.books[1].level(1, 99) == 2
    assert log.differences == []


def test_records_of_two_accounts_do_not_go_together(log: Log) -> None:
    old = log.order(1, "buy", 5, 100).record.sequence
    log.replace(1, old)
    log.replacement(2, "buy", 5, 100)
    refused(log, Reason.BAD_LEGS, 2)


def test_a_cancel_that_is_to_be_replaced_and_is_not_is_refused_alone(log: Log) -> None:
    old = log.order(1, "buy", 5, 100).record.sequence
    log.replace(1, old, reject=Reason.BAD_LEGS)
    log.order(1, "buy", 5, 100)
    assert log.differences == []
    log.replace(1, old)
    log.order(1, "buy", 5, 100, session=OWN)
    refused(log, Reason.BAD_LEGS)


def test_a_leg_that_nothing_claims_is_refused_with_its_terms(log: Log) -> None:
    log.order(1, "buy", 5, 100, flags=Flag.LEG)
    refused(log, Reason.BAD_LEGS)
    log.terms(display_lots=1)
    log.order(1, "buy", 5, 100, flags=Flag.LEG, has_terms=1)
    refused(log, Reason.BAD_LEGS, 2)


def test_a_fault_of_the_new_order_refuses_all_and_the_old_one_stays(log: Log) -> None:
    old = log.order(1, "buy", 5, 100).record.sequence
    log.replace(1, old, reject=Reason.BAD_QUANTITY)
    log.terms(display_lots=1, reject=Reason.BAD_QUANTITY)
    log.replacement(1, "buy", 0, 100, has_terms=9, reject=Reason.BAD_QUANTITY)
    assert log.differences == []
    assert old in log.auditor.books[1].resting


def test_a_cancel_of_another_market_does_not_go_with_it(log: Log) -> None:
    old = log.order(1, "buy", 5, 100).record.sequence
    log.replace(1, old, market=2, reject=Reason.BAD_LEGS)
    log.replacement(1, "buy", 5, 100, reject=Reason.BAD_LEGS)
    assert log.differences == []


def test_what_cannot_be_canceled_cannot_be_replaced(log: Log) -> None:
    log.command(
        Kind.CANCEL_ORDER,
        account=1,
        order_id=999,
        flags=Flag.REPLACE,
        reject=Reason.UNKNOWN_ORDER,
    )
    log.replacement(1, "buy", 5, 100, reject=Reason.CANCEL_FAILED)
    assert log.differences == []


def test_it_may_be_allowed_to_fail(log: Log) -> None:
    log.command(
        Kind.CANCEL_ORDER, account=1, order_id=999, flags=ALLOW, reject=Reason.UNKNOWN_ORDER
    )
    step = log.replacement(1, "buy", 5, 100)
    assert kinds(step) == ["ACCEPTED"]
    assert log.differences == []


def test_flags_of_a_cancel(log: Log) -> None:
    old = log.order(1, "buy", 5, 100).record.sequence
    log.cancel(1, old, flags=Flag.ALLOW_FAILURE)
    refused(log, Reason.BAD_FLAGS)
    log.command(
        Kind.CANCEL_ORDER,
        account=1,
        order_id=log.order(1, "buy", 5, 100).record.sequence,
        flags=Flag.OF_PENDING,
        reject=Reason.BAD_FLAGS,
    )
    assert log.differences == []


def test_the_old_order_does_not_count_any_more(log: Log) -> None:
    log.rules(Kind.SET_MARKET, market=1, rules=Rule.ORDERS, account_orders=1)
    old = log.order(1, "buy", 5, 100, client_order_id=b"x").record.sequence
    log.replace(1, old)
    log.replacement(1, "buy", 5, 101, client_order_id=b"x", hold=505)
    assert log.differences == []
    # The id means the new one, also when the old one's end is settled.
    log.auditor.settle_all()
    log.amend(1, old + 2, 0, 4, client_order_id=b"x")
    log.order(1, "buy", 5, 101, client_order_id=b"x")
    refused(log, Reason.DUPLICATE_CLIENT_ORDER_ID)


def test_the_old_order_is_canceled_also_if_the_new_one_is_refused(log: Log) -> None:
    old = log.order(1, "buy", 5, 100).record.sequence
    log.rules(Kind.SET_MARKET, market=1, rules=Rule.STATE, state=MarketState.POST_ONLY)
    log.replace(1, old)
    log.replacement(1, "buy", 5, 100, reject=Reason.MARKET_POST_ONLY)
    assert log.settled_balance(1, USD) == (10_000, 0)


def test_the_matcher_cancels_first(log: Log) -> None:
    old = log.order(1, "buy", 5, 100).record.sequence
    log.order(2, "sell", 5, 100)
    # The fill is not settled.
    log.replace(1, old, lag=2)
    step = log.replacement(1, "buy", 5, 100, lag=3)
    assert kinds(log.steps[-2]) == ["REJECTED"] and kinds(step) == ["REJECTED"]
    assert reason(step) == Reason.CANCEL_FAILED


def test_in_the_matcher_too_it_may_be_allowed_to_fail(log: Log) -> None:
    old = log.order(1, "buy", 5, 100).record.sequence
    log.order(2, "sell", 5, 100)
    log.replace(1, old, flags=ALLOW, lag=2)
    step = log.replacement(1, "buy", 5, 100, lag=3)
    assert kinds(log.steps[-2]) == ["REJECTED"] and kinds(step) == ["ACCEPTED"]


def test_what_is_lacking_comes_from_the_old_order(log: Log) -> None:
    old = log.order(1, "buy", 90, 100).record.sequence
    # 1,000 are free, 9,900 are needed.
    log.replace(1, old, lacking=8_900)
    log.replacement(1, "buy", 99, 100)
    assert log.balance(1, USD) == (0, 10_000)
    log.command(Kind.SUBSCRIBE, account=2, lag=2)
    # The CANCELED is settled: of 9,000, 8,900 are needed.
    assert log.balance(1, USD) == (100, 9_900)
    assert log.differences == [] and invariants.broken(log.auditor) == []


def test_more_than_the_old_order_has_cannot_be_lacking(log: Log) -> None:
    old = log.order(1, "buy", 90, 100).record.sequence
    log.replace(1, old)
    log.replacement(1, "buy", 101, 100, reject=Reason.INSUFFICIENT_BALANCE)
    assert log.differences == []


def test_an_amend_under_way_does_not_count(log: Log) -> None:
    old = log.order(1, "buy", 80, 100).record.sequence
    log.amend(1, old, 0, 90, hold=1_000)
    log.replace(1, old, lag=2, reject=0)
    log.replacement(1, "buy", 91, 100, lag=3, reject=Reason.INSUFFICIENT_BALANCE)
    assert log.differences == []


def test_an_order_that_pays_with_another_asset_does_not_count(log: Log) -> None:
    old = log.order(1, "sell", 10_000, 200).record.sequence
    log.replace(1, old)
    log.replacement(1, "buy", 101, 100, reject=Reason.INSUFFICIENT_BALANCE)
    assert log.differences == []


def test_an_order_of_a_list_does_not_count(log: Log) -> None:
    log.order_list(ListType.OCO, [limit("sell", 10_000, 110), stop("sell", 10_000, 90, 81, hold=0)])
    first = log.sequence - 1
    log.replace(1, first)
    log.replacement(1, "sell", 1, 110, reject=Reason.INSUFFICIENT_BALANCE)
    assert log.differences == []
    assert log.settled_balance(1, BTC) == (10_000, 0)


def test_fills_in_between_can_leave_too_little(log: Log) -> None:
    old = log.order(1, "buy", 100, 100).record.sequence
    log.order(2, "sell", 2, 100)
    # 2 are filled, which is not settled: 9,901 are lacking, and 9,800 will be there.
    log.replace(1, old, lacking=9_901, lag=2)
    step = log.replacement(1, "buy", 1, 9_901, lag=3)
    assert reason(step) == Reason.HOLD_EXCEEDED
    assert log.settled_balance(1, USD) == (9_800, 0)


def test_with_nothing_canceled_nothing_may_be_lacking(log: Log) -> None:
    old = log.order(1, "buy", 100, 100).record.sequence
    log.order(2, "sell", 100, 100)
    log.replace(1, old, lacking=100, flags=ALLOW, lag=2)
    step = log.replacement(1, "buy", 1, 100, lag=3)
    assert reason(step) == Reason.HOLD_EXCEEDED
    assert log.settled_balance(1, USD) == (0, 0)


def test_a_market_order_may_spend_what_the_old_one_holds(log: Log) -> None:
    old = log.order(1, "buy", 90, 100).record.sequence
    log.order(2, "sell", 99, 101)
    log.replace(1, old, lacking=9_000)
    step = log.replacement(
        1,
        "buy",
        200,
        0,
        order_type=OrderType.MARKET,
        time_in_force=TimeInForce.IOC,
        hold=10_000,
    )
    # Without a last price there is no bound: all of 1,000 + 9,000 is the budget.
    assert kinds(step) == ["ACCEPTED", "TRADE", "EXPIRED"]
    assert log.settled_balance(1, USD) == (1, 0)  # 99 * 101


def test_what_waits_as_a_market_order_counts_with_its_bound(log: Log) -> None:
    # ceil(90 * 1.1) = 99: 9,900 are held, 100 are free.
    old = log.order(1, "buy", 100, 99, trigger_ticks=90, **STOP).record.sequence
    log.replace(1, old, lacking=9_900)
    log.replacement(1, "buy", 100, 100)
    assert log.settled_balance(1, USD) == (0, 10_000)


# ---- pairs


def test_a_pair_holds_the_larger_of_the_two(log: Log) -> None:
    buy_pair(log)
    assert log.settled_balance(1, USD) == (10_000 - 484, 484)
    sell_pair(log)
    assert log.settled_balance(1, BTC) == (10_000 - 4, 4)


def test_what_a_pair_holds_is_looked_after(log: Log) -> None:
    _, second = buy_pair(log)
    order = log.auditor.ledger.orders[second]
    assert order.pair is not None
    order.pair.hold, order.hold = order.pair.hold - 1, order.hold + 1
    log.auditor.settle_all()
    texts = invariants.broken(log.auditor)
    assert [text.split(":")[0] for text in texts] == [
        f"order {second - 1}",
        f"order {second}",
    ]
    order.hold, order.pair.hold = order.hold - 1, order.pair.hold + 1


def test_a_fill_cancels_the_other_by_the_next_event(log: Log) -> None:
    first, second = sell_pair(log)
    log.order(2, "buy", 1, 110, order_type=OrderType.LIMIT)
    step = log.steps[-1]
    assert told(step)[1:] == [
        ("TRADE", log.sequence, 110, 1, 0),
        ("CANCELED", second, 81, 4, 0),
    ]
    assert reason(step) == Reason.LIST_ENDED
    assert log.settled_balance(1, BTC) == (10_000 - 4, 3)
    # From then on it is an order like any other.
    log.amend(1, first, 112, 0)
    assert kinds(log.steps[-1]) == ["AMENDED"]


def test_between_the_two_events_both_are_there(log: Log) -> None:
    buy_pair(log)
    log.order(2, "sell", 1, 90)
    # ACCEPTED and TRADE are settled, CANCELED is not: 90 are spent.
    log.command(Kind.SUBSCRIBE, account=2, lag=2, index=2)
    assert log.balance(1, USD) == (10_000 - 484, 484 - 90)
    assert invariants.broken(log.auditor) == []
    assert log.settled_balance(1, USD) == (10_000 - 360, 270)


def test_a_trigger_cancels_the_other_before_it_is_matched(log: Log) -> None:
    first, second = buy_pair(log)
    log.order(2, "sell", 9, 111)
    log.order(1, "buy", 1, 111)
    step = log.steps[-1]
    assert told(step)[2:] == [
        ("TRIGGERED", second, 121, 4, 4),
        ("CANCELED", first, 90, 4, 0),
        ("TRADE", second, 111, 4, 0),
    ]
    assert log.settled_balance(1, USD) == (10_000 - 111 - 444, 0)


def test_a_cancel_takes_the_other_along(log: Log) -> None:
    first, second = sell_pair(log)
    step = log.cancel(1, second)
    assert told(step) == [("CANCELED", second, 81, 4, 0), ("CANCELED", first, 110, 4, 0)]
    assert [event.reason for event in step.book] == [Reason.ON_REQUEST, Reason.LIST_ENDED]
    assert step.book[1].flags == EventFlag.RESTING | EventFlag.LAST
    assert log.settled_balance(1, BTC) == (10_000, 0)


@pytest.mark.parametrize(
    ("mode", "expected"),
    (
        (SelfTrade.DECREMENT, ["ACCEPTED", "PREVENTED", "CANCELED"]),
        (SelfTrade.EXPIRE_MAKER, ["ACCEPTED", "EXPIRED", "CANCELED", "RESTED"]),
    ),
)
def test_self_trade_prevention_cancels_the_other(
    log: Log, mode: SelfTrade, expected: list[str]
) -> None:
    _, second = sell_pair(log)
    step = log.order(1, "buy", 1, 110, self_trade=mode)
    assert kinds(step) == expected
    assert told(step)[2][1] == second


def test_a_queued_order_whose_other_is_filled_is_passed_over(log: Log) -> None:
    # The stop at 90 is queued by the fill at 90; then the same order fills the limit at 110.
    first, second = sell_pair(log)
    log.order(2, "sell", 1, 90)
    step = log.order(2, "buy", 2, 110)
    taker = log.sequence
    assert told(step)[1:] == [
        ("TRADE", taker, 90, 1, 1),
        ("TRADE", taker, 110, 1, 0),
        ("CANCELED", second, 81, 4, 0),
    ]
    assert first in log.auditor.books[1].resting


def test_a_fill_queues_nothing_that_it_has_ended(log: Log) -> None:
    # Of 85, ceil(85 * 1.0001) = 86, ceil(86 * 1.1) = 95: 5 more a lot than the limit.
    pair = [limit("buy", 4, 90), stop("buy", 4, 0, 95, trailing_bips=1, hold=20)]
    log.order_list(ListType.OCO, pair, reject=Reason.NO_REFERENCE_PRICE)
    trade_at(log, 85)
    log.order_list(ListType.OCO, pair)
    second = log.sequence
    # The fill's price is above 86, too.
    step = log.order(2, "sell", 1, 90)
    assert kinds(step) == ["ACCEPTED", "TRADE", "CANCELED"]
    assert told(step)[-1][1] == second


def test_both_are_refused_with_the_code_of_one(log: Log) -> None:
    trade_at(log, 85)
    steps = log.order_list(ListType.OCO, [limit("sell", 4, 110), stop("sell", 4, 90, 81, hold=0)])
    assert [reason(step) for step in steps] == [Reason.WOULD_TRIGGER] * 2
    assert [step.book[0].index for step in steps] == [0, 0]
    log.order(2, "buy", 1, 120)
    # Both would be refused: the first one's code counts.
    steps = log.order_list(ListType.OCO, [limit("sell", 4, 110), stop("sell", 4, 90, 81, hold=0)])
    assert [reason(step) for step in steps] == [Reason.WOULD_TAKE] * 2
    assert log.settled_balance(1, BTC) == (10_001, 0)


def test_one_of_a_pair_cannot_be_amended(log: Log) -> None:
    first, _ = sell_pair(log)
    step = log.amend(1, first, 111, 0)
    assert reason(step) == Reason.CANNOT_AMEND
    step = log.amend(1, first, 0, 6, hold=2)
    assert reason(step) == Reason.CANNOT_AMEND
    assert log.settled_balance(1, BTC) == (10_000 - 4, 4)


def test_a_pair_needs_the_money_for_the_larger(log: Log) -> None:
    log.money(Kind.REQUEST_WITHDRAWAL, account=1, asset=USD, amount=9_517, reference=b"out")
    # 483 are left: enough for the limit's 360, not for the stop's 484.
    log.order_list(
        ListType.OCO,
        [limit("buy", 4, 90), stop("buy", 4, 110, 121, hold=124)],
        reject=Reason.INSUFFICIENT_BALANCE,
    )
    assert log.differences == []


# ---- what makes a list


@pytest.mark.parametrize(
    "legs",
    (
        [limit("sell", 4, 110), stop("sell", 5, 90, 81)],
        [limit("sell", 4, 110), stop("buy", 4, 90, 99)],
        [leg("sell", 4, 110), stop("sell", 4, 90, 81)],
        [limit("sell", 4, 90), stop("sell", 4, 90, 81)],
        [limit("buy", 4, 110), stop("buy", 4, 110, 121)],
        [stop("sell", 4, 90, 81), limit("sell", 4, 110)],
        [limit("sell", 4, 110), limit("sell", 4, 110)],
    ),
)
def test_what_is_no_pair(log: Log, legs: list[Leg]) -> None:
    log.order_list(ListType.OCO, legs, reject=Reason.BAD_LEGS)
    assert log.differences == []


def test_trigger_prices_that_are_not_given_are_not_compared(log: Log) -> None:
    trade_at(log, 100)
    take = leg(
        "sell",
        4,
        110,
        order_type=OrderType.TAKE_PROFIT_LIMIT,
        time_in_force=TimeInForce.GTC,
        trailing_bips=100,
    )
    log.order_list(ListType.OCO, [take, stop("sell", 4, 90, 81, hold=0)])
    assert log.differences == []


def test_a_working_order_is_a_limit_order(log: Log) -> None:
    log.order_list(
        ListType.OTO, [stop("sell", 4, 90, 81), leg("buy", 4, 90)], reject=Reason.BAD_LEGS
    )
    assert log.differences == []


def test_a_list_with_too_few_legs_is_refused_alone(log: Log) -> None:
    log.order_list(ListType.OTOCO, [], reject=Reason.BAD_LEGS)
    log.order(1, "sell", 1, 110, flags=Flag.LEG, reject=Reason.BAD_LEGS)
    assert log.differences == []


def test_legs_are_of_the_account_and_market_of_the_list(log: Log) -> None:
    legs = [limit("sell", 4, 110), stop("sell", 4, 90, 81, hold=0)]
    for other in ({"account": 2}, {"market": 2}):
        log.order_list(ListType.OCO, [legs[0], legs[1] | other], reject=Reason.BAD_LEGS)
        assert log.differences == []


def test_checks_of_a_list_have_an_order(log: Log) -> None:
    good = [limit("sell", 4, 110), stop("sell", 4, 90, 81, hold=0)]

    def check(expected: Reason, first: Leg, second: Leg, **values: Any) -> None:
        legs = [good[0] | first, good[1] | second]
        log.order_list(ListType.OCO, legs, reject=expected, **values)
        assert log.differences == []

    bad = {"quantity": 0}
    check(Reason.BAD_FIELD, {}, bad, reserved=1, client_list_id=b"a b")
    check(Reason.BAD_FIELD, {}, bad, display_lots=[0, 0, 1])
    check(Reason.BAD_CLIENT_ORDER_ID, {}, bad, client_list_id=b"a b")
    check(Reason.BAD_QUANTITY, {}, bad)
    check(Reason.BAD_QUANTITY, bad, {"self_trade": 9})
    # Not a list, and nobody could pay it.
    check(Reason.BAD_LEGS, {"quantity": 99_999}, {})
    both = {"client_order_id": b"x", "quantity": 99_999}
    check(Reason.DUPLICATE_CLIENT_ORDER_ID, both, both)
    del both["client_order_id"]
    check(Reason.INSUFFICIENT_BALANCE, both, both)


def test_a_list_takes_room_for_all_its_legs(log: Log) -> None:
    log.rules(Kind.SET_MARKET, market=1, rules=Rule.ORDERS, account_orders=2)
    pair = [limit("sell", 4, 110), stop("sell", 4, 90, 0)]
    log.order_list(
        ListType.OTOCO, [leg("buy", 4, 80), *pair], reject=Reason.TOO_MANY_ACCOUNT_ORDERS
    )
    assert log.differences == []


def test_the_states_matter_to_what_is_placed(log: Log) -> None:
    log.rules(Kind.SET_MARKET, market=1, rules=Rule.STATE, state=MarketState.POST_ONLY)
    one_triggers(log, leg("buy", 4, 80, flags=Flag.POST_ONLY), leg("sell", 4, 90))
    assert log.differences == []
    # The stop of a pair is not post-only.
    log.order_list(
        ListType.OCO,
        [limit("sell", 4, 110), stop("sell", 4, 90, 81)],
        reject=Reason.MARKET_POST_ONLY,
    )
    assert log.differences == []


def test_the_first_record_says_what_terms_say(log: Log) -> None:
    gtd = {"time_in_force": TimeInForce.GTD}
    log.order_list(
        ListType.OCO,
        [limit("sell", 8, 110, **gtd), stop("sell", 8, 90, 81, hold=0)],
        display_lots=[2, 0, 0],
        expire_ns=log.now + 5 * MS,
    )
    first = log.sequence - 1
    assert log.auditor.books[1].level(2, 110) == 2
    log.now += 5 * MS
    log.command(Kind.TICK, session=0)
    step = log.cancel(1, first, session=0, hold=Reason.GTD_EXPIRED)
    assert kinds(step) == ["CANCELED", "CANCELED"]


def test_a_time_without_an_order_that_it_is_for(log: Log) -> None:
    # The last leg's fault: that of the first one comes first.
    legs = [limit("sell", 8, 110), stop("sell", 8, 90, 81, hold=0)]
    log.order_list(ListType.OCO, legs, expire_ns=log.now + MS)
    refused(log, Reason.BAD_EXPIRY, 3)
    log.order_list(ListType.OCO, [legs[0] | {"reserved": 1}, legs[1]], expire_ns=log.now + MS)
    refused(log, Reason.BAD_FIELD, 3)


# ---- pending orders


def test_a_pending_order_holds_nothing_and_is_on_no_book(log: Log) -> None:
    _, pending = one_triggers(log, leg("buy", 4, 80), leg("sell", 4, 90, client_order_id=b"x"))
    step = log.steps[-1]
    assert not step.book
    event = step.ledger[0]
    assert (event.kind, event.flags) == (EventKind.ACCEPTED, EventFlag.PENDING | EventFlag.LAST)
    assert (event.order_id, event.price_ticks, event.leaves_lots) == (pending, 90, 4)
    assert log.balance(1, BTC) == (10_000, 0)
    # It counts, and its id is taken.
    assert log.auditor.ledger.counts[1, 1] == 2
    log.order(1, "buy", 1, 70, client_order_id=b"x")
    refused(log, Reason.DUPLICATE_CLIENT_ORDER_ID)


def test_a_fill_of_the_working_order_releases_the_pending_one(log: Log) -> None:
    working, pending = one_triggers(log, leg("buy", 4, 80), leg("sell", 4, 90))
    log.order(2, "sell", 3, 80)
    log.order(2, "sell", 1, 70)
    assert working not in log.auditor.books[1].resting
    (step,) = log.release(working - 1, [leg("sell", 4, 90)])
    assert told(step) == [("ACCEPTED", pending + 4, 90, 4, 4)]
    assert pending not in log.auditor.ledger.orders
    assert log.settled_balance(1, BTC) == (10_000, 4)


def test_nothing_comes_before_a_release(log: Log) -> None:
    one_triggers(log, leg("buy", 4, 80), leg("sell", 4, 90))
    list_id = log.sequence - 2
    log.order(2, "sell", 4, 80)
    log.order(2, "sell", 4, 99)
    assert f"the release of list {list_id} comes first" in log.differences[0]
    log.auditor.differences.clear()
    log.release(list_id, [leg("sell", 4, 90)])


def test_a_release_before_the_end_is_named(log: Log) -> None:
    working, _ = one_triggers(log, leg("buy", 4, 80), leg("sell", 4, 90))
    log.order(2, "sell", 3, 80)
    log.release(working - 1, [leg("sell", 4, 90)])
    assert "that is not next in line" in log.differences[0]
    log.auditor.differences.clear()


def test_a_release_of_something_else_is_named(log: Log) -> None:
    working, _ = one_triggers(log, leg("buy", 4, 80), leg("sell", 4, 90))
    log.order(2, "sell", 4, 80)
    log.release(working - 1, [leg("sell", 5, 91)])
    assert [text.split(": ", 2)[2] for text in log.differences] == [
        "quantity_lots: expected 4, found 5",
        "price_ticks: expected 90, found 91",
    ]
    log.auditor.differences.clear()


def test_what_is_left_of_a_working_order_does_not_matter_if_there_was_a_fill(log: Log) -> None:
    log.order(2, "sell", 1, 80)
    ioc = {"time_in_force": TimeInForce.IOC}
    working, _ = one_triggers(log, leg("buy", 4, 80, **ioc), leg("sell", 4, 90))
    assert kinds(log.steps[-2]) == ["ACCEPTED", "TRADE", "EXPIRED"]
    log.release(working - 1, [leg("sell", 4, 90)])
    assert log.differences == []


def test_a_working_order_without_a_fill_cancels_what_is_pending(log: Log) -> None:
    pair = [limit("sell", 4, 110), stop("sell", 4, 90, 0)]
    log.order_list(ListType.OTOCO, [leg("buy", 4, 80), *pair])
    working = log.sequence - 2
    log.cancel(1, working)
    gone = {"session": 0, "hold": Reason.LIST_ENDED, "flags": Flag.OF_PENDING}
    for order in (working + 1, working + 2):
        step = log.cancel(1, order, **gone)
        event = step.ledger[0]
        assert (event.kind, event.order_id, event.reason) == (
            EventKind.CANCELED,
            order,
            Reason.LIST_ENDED,
        )
        assert (event.quantity_lots, event.leaves_lots) == (4, 0)
        assert event.flags == EventFlag.PENDING | EventFlag.LAST
    log.order(2, "buy", 1, 50)
    assert log.differences == []


def test_a_working_order_that_the_matcher_refuses_has_ended(log: Log) -> None:
    log.order(2, "sell", 4, 80)
    _, pending = one_triggers(log, leg("buy", 4, 80, flags=Flag.POST_ONLY), leg("sell", 4, 90))
    assert reason(log.steps[-2]) == Reason.WOULD_TAKE
    log.cancel(1, pending, session=0, hold=Reason.LIST_ENDED, flags=Flag.OF_PENDING)
    assert log.differences == []


def test_a_pending_pair_is_released_as_a_pair(log: Log) -> None:
    pair = [limit("sell", 4, 110), stop("sell", 4, 90, 0)]
    log.order_list(ListType.OTOCO, [leg("buy", 4, 95), *pair], display_lots=[0, 2, 0])
    list_id = log.sequence - 3
    log.order(2, "sell", 4, 95)
    steps = log.release(
        list_id,
        [limit("sell", 4, 110), stop("sell", 4, 90, 81, hold=0)],
        display_lots=[2, 0, 0],
    )
    assert [kinds(step) for step in steps] == [["ACCEPTED"], ["ACCEPTED"]]
    assert log.auditor.books[1].level(2, 110) == 2
    assert log.settled_balance(1, BTC) == (10_000, 4)
    step = log.cancel(1, log.sequence)
    assert kinds(step) == ["CANCELED", "CANCELED"]


def test_a_released_order_that_is_refused_is_gone(log: Log) -> None:
    log.deposit(3, USD, 400)
    working, pending = one_triggers(
        log,
        leg("buy", 4, 80, account=3),
        leg("buy", 4, 70, account=3, client_order_id=b"x"),
        account=3,
    )
    log.order(2, "sell", 4, 80)
    (step,) = log.release(
        working - 1,
        [leg("buy", 4, 70, account=3, client_order_id=b"x", reject=304)],
        account=3,
    )
    assert not step.book and step.ledger[0].reason == Reason.INSUFFICIENT_BALANCE
    assert pending not in log.auditor.ledger.orders
    assert log.settled_balance(3, USD) == (80, 0)
    log.order(3, "buy", 1, 70, client_order_id=b"x")
    assert log.differences == []


def test_the_alone_checks_are_made_again(log: Log) -> None:
    gtd = {"time_in_force": TimeInForce.GTD}
    expire = log.now + 5 * MS
    working, _ = one_triggers(log, leg("buy", 4, 80), leg("sell", 4, 90, **gtd), expire_ns=expire)
    log.now += 5 * MS
    # Nothing is due: its expiry does not count yet.
    log.order(2, "sell", 4, 80)
    log.release(
        working - 1,
        [leg("sell", 4, 90, reject=Reason.BAD_EXPIRY, **gtd)],
        expire_ns=expire,
    )
    assert log.differences == []


def test_an_expiry_counts_from_the_release_on(log: Log) -> None:
    gtd = {"time_in_force": TimeInForce.GTD}
    expire = log.now + 5 * MS
    working, _ = one_triggers(log, leg("buy", 4, 80), leg("sell", 4, 90, **gtd), expire_ns=expire)
    log.order(2, "sell", 4, 80)
    log.release(working - 1, [leg("sell", 4, 90, **gtd)], expire_ns=expire)
    order = log.sequence
    log.now += 5 * MS
    log.command(Kind.TICK, session=0)
    log.cancel(1, order, session=0, hold=Reason.GTD_EXPIRED)
    assert log.differences == []


def test_a_market_order_that_is_released_has_its_bound_from_then(log: Log) -> None:
    market = {"order_type": OrderType.MARKET, "time_in_force": TimeInForce.IOC}
    working, _ = one_triggers(log, leg("buy", 4, 80), leg("sell", 4, 0, **market))
    log.order(2, "sell", 4, 80)
    # floor(80 * 0.9) = 72
    (step,) = log.release(working - 1, [leg("sell", 4, 72, **market)])
    assert kinds(step) == ["ACCEPTED", "EXPIRED"]


def test_a_pending_order_can_be_canceled_and_its_other_goes_along(log: Log) -> None:
    pair = [limit("sell", 4, 110), stop("sell", 4, 90, 0)]
    log.order_list(ListType.OTOCO, [leg("buy", 4, 80), *pair])
    working = log.sequence - 2
    log.cancel(1, working + 2, flags=Flag.OF_PENDING)
    assert log.steps[-1].ledger[0].reason == Reason.ON_REQUEST
    log.cancel(1, working + 1, session=0, hold=Reason.LIST_ENDED, flags=Flag.OF_PENDING)
    # The working order stays, and releases nothing.
    log.order(2, "sell", 4, 80)
    assert kinds(log.steps[-1]) == ["ACCEPTED", "TRADE"]
    log.order(2, "sell", 4, 99)
    assert log.differences == []


def test_a_pending_order_can_be_replaced(log: Log) -> None:
    _, pending = one_triggers(log, leg("buy", 4, 80), leg("sell", 4, 90))
    log.replace(1, pending, flags=Flag.REPLACE | Flag.OF_PENDING)
    step = log.replacement(1, "sell", 4, 95)
    assert kinds(step) == ["ACCEPTED"]
    assert log.differences == []


def test_a_pending_order_cannot_be_amended(log: Log) -> None:
    _, pending = one_triggers(log, leg("buy", 4, 80), leg("sell", 4, 90))
    log.amend(1, pending, 95, 0)
    refused(log, Reason.CANNOT_AMEND)


def test_a_mass_cancel_takes_pending_orders_along(log: Log) -> None:
    working, pending = one_triggers(log, leg("buy", 4, 80), leg("sell", 4, 90))
    log.command(Kind.MASS_CANCEL, account=1)
    log.cancel(1, working, session=0, hold=Reason.MASS_CANCELED)
    log.cancel(1, pending, session=0, hold=Reason.MASS_CANCELED, flags=Flag.OF_PENDING)
    log.order(2, "buy", 1, 50)
    assert log.differences == []


def test_what_is_to_be_canceled_is_not_released_any_more(log: Log) -> None:
    log.command(Kind.COUNTDOWN, account=1, quantity_lots=5)
    _, pending = one_triggers(log, leg("buy", 4, 80), leg("sell", 4, 90))
    log.order(2, "sell", 4, 80)
    log.now += 5 * MS
    # With this record the fill is settled: the release stands in line, and is passed over.
    log.command(Kind.TICK, session=0)
    log.cancel(1, pending, session=0, hold=Reason.COUNTDOWN_ENDED, flags=Flag.OF_PENDING)
    log.order(2, "buy", 1, 50)
    assert log.differences == []


def test_of_one_fill_the_makers_list_comes_first(log: Log) -> None:
    one_triggers(log, leg("sell", 4, 80), leg("buy", 4, 70))
    maker = log.sequence - 2
    log.order_list(
        ListType.OTO,
        [leg("buy", 4, 80, account=2), leg("sell", 4, 90, account=2)],
        account=2,
    )
    taker = log.sequence - 2
    log.release(maker, [leg("buy", 4, 70)])
    log.release(taker, [leg("sell", 4, 90, account=2)], account=2)
    assert log.differences == []


# ---- reports


def test_the_session_of_a_pending_order_is_told_of_its_new_id(log: Log) -> None:
    log.attach("other", session=1, capabilities=3, id=4)
    log.positions[4] = 0
    log.command(Kind.SUBSCRIBE, account=1, session=4)
    working, pending = one_triggers(
        log, leg("buy", 4, 80), leg("sell", 4, 90), client_list_id=b"mine"
    )
    log.order(2, "sell", 4, 80, session=OWN, reject=Reason.ACCOUNT_NOT_PERMITTED)
    log.order(2, "sell", 4, 80)
    log.release(working - 1, [leg("sell", 4, 90)])
    told = [
        (EventKind(r.kind).name if r.kind < 32 else "DONE", r.order_id, r.trade_id, r.flags)
        for r in reports(log, TRUSTED, working - 1)
    ]
    assert told == [
        ("DONE", 0, 1, 0),
        ("ACCEPTED", working, 2, 0),
        ("ACCEPTED", pending, 3, ReportFlag.WAS_PENDING),
        ("ACCEPTED", log.sequence - 2, 4, 0),
        ("TRADE", working, 1, ReportFlag.AS_MAKER),
        ("TRADE", log.sequence - 2, 1, 0),
        ("ACCEPTED", log.sequence, pending, ReportFlag.RELEASED),
    ]
    last = reports(log, 4)[-1]
    assert (last.order_id, last.trade_id) == (log.sequence, pending)
    assert last.flags == ReportFlag.RELEASED | ReportFlag.SUBSCRIBED


def test_a_release_that_is_refused_is_told_to_subscribers_too(log: Log) -> None:
    log.attach("other", session=1, capabilities=3, id=4)
    log.positions[4] = 0
    log.command(Kind.SUBSCRIBE, account=1, session=4)
    trade_at(log, 100)
    # By then the last price is 80, and the trigger is reached.
    fall = {
        "order_type": OrderType.TAKE_PROFIT_LIMIT,
        "time_in_force": TimeInForce.GTC,
        "trigger_ticks": 85,
    }
    working, pending = one_triggers(log, leg("buy", 4, 80), leg("buy", 4, 70, **fall))
    log.order(2, "sell", 4, 80)
    (step,) = log.release(working - 1, [leg("buy", 4, 70, **fall)])
    assert reason(step) == Reason.WOULD_TRIGGER
    for session, flags in ((TRUSTED, 0), (4, ReportFlag.SUBSCRIBED)):
        last = reports(log, session)[-1]
        assert (last.kind, last.trade_id) == (EventKind.REJECTED, pending)
        assert last.flags == ReportFlag.RELEASED | flags
