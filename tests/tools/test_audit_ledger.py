"""The auditor's ledger, checks and line of cancels: examples worked out by hand."""

import numpy as np
import pytest

from matchbox.shm.reasons import Reason
from matchbox.shm.records import (
    FEE_ACCOUNT,
    LOG_RECORD,
    TIER_BY_VOLUME,
    AccountState,
    Flag,
    Kind,
    OrderType,
    Rule,
    TimeInForce,
)
from matchbox.tools.audit import invariants
from tests.tools.audit_log import BTC, DAY, OPERATOR, OWN, TRUSTED, USD, Log, fills, kinds

MS = 1_000_000


@pytest.fixture
def log() -> Log:
    return Log()


def refused(log: Log, expected: Reason) -> None:
    """The record that came last should have been refused, and the log says that it was not."""
    assert len(log.differences) == 1, log.differences
    assert f"expected {expected.name} " in log.differences[0]
    log.auditor.differences.clear()


# ---- balances, and when they move


def test_what_is_not_settled_has_not_moved_yet(log: Log) -> None:
    log.order(2, "sell", 5, 100)
    log.order(1, "buy", 5, 110)
    log.deposit(1, USD, 1, "x")
    assert log.balance(1, USD) == (10_000 - 500 + 1, 0)
    log.order(2, "sell", 4, 100)
    log.order(2, "sell", 4, 101)
    log.order(1, "buy", 8, 110)
    # ACCEPTED and the first fill are settled: 400 are spent, 4 * 110 still held.
    log.put(np.zeros(1, LOG_RECORD), TRUSTED, lag=2, index=2)
    assert log.balance(1, USD) == (10_000 - 500 + 1 - 400 - 440, 440)


def test_every_fee_is_rounded_up_and_goes_to_the_exchange() -> None:
    log = Log(lot_units=100)
    for tier in range(10):
        log.rules(Kind.SET_FEES, tier=tier, maker_fee_ppm=1000, taker_fee_ppm=2000)
    rates = {"maker_fee_ppm": 1000, "taker_fee_ppm": 2000}
    log.order(2, "sell", 3, 33, hold=300, **rates)
    step = log.order(1, "buy", 3, 33, **rates)
    # The taker receives 300 units of BTC, the maker 99 of USD: ceil(0.6) and ceil(0.099).
    assert (step.book[1].fee, step.book[1].maker_fee) == (1, 1)
    assert log.settled_balance(1, BTC) == (1_000_000 + 299, 0)
    assert log.balance(2, USD) == (10_000 + 98, 0)
    assert (log.balance(FEE_ACCOUNT, BTC), log.balance(FEE_ACCOUNT, USD)) == ((1, 0), (1, 0))
    assert log.differences == [] and invariants.broken(log.auditor) == []


def test_a_rebate_comes_out_of_what_the_taker_pays(log: Log) -> None:
    for tier in range(10):
        log.rules(Kind.SET_FEES, tier=tier, taker_fee_ppm=10_000)
    log.rules(Kind.SET_FEES, tier=0, maker_fee_ppm=-4_000, taker_fee_ppm=10_000)
    rates = {"maker_fee_ppm": -4_000, "taker_fee_ppm": 10_000}
    log.order(1, "buy", 10, 70, **rates)
    step = log.order(2, "sell", 10, 70, **rates)
    # The taker receives 700 USD: ceil(7) = 7, of which floor(2.8) = 2 go to the maker.
    assert (step.book[1].fee, step.book[1].maker_fee) == (7, -2)
    assert log.settled_balance(1, USD) == (10_000 - 700 + 2, 0)
    assert log.balance(2, USD) == (10_000 + 693, 0)
    assert log.balance(FEE_ACCOUNT, USD) == (5, 0)
    assert log.differences == [] and invariants.broken(log.auditor) == []


def test_a_rebate_above_any_takers_rate_is_refused(log: Log) -> None:
    log.rules(Kind.SET_FEES, tier=0, taker_fee_ppm=100)
    log.rules(Kind.SET_FEES, tier=1, taker_fee_ppm=0)
    log.rules(Kind.SET_FEES, tier=0, maker_fee_ppm=-1, taker_fee_ppm=100)
    refused(log, Reason.BAD_RULE)  # tier 1 pays 0


def test_a_tier_that_was_not_set_has_the_rates_of_the_one_below(log: Log) -> None:
    log.rules(Kind.SET_FEES, tier=0, maker_fee_ppm=-1, taker_fee_ppm=100)
    log.rules(Kind.SET_ACCOUNT, account=1, rules=Rule.TIER, tier=4)
    log.order(1, "buy", 1, 50, maker_fee_ppm=-1, taker_fee_ppm=100)
    assert log.differences == []


def test_a_tier_by_volume_counts_the_days_before_today(log: Log) -> None:
    for tier in range(10):
        log.rules(Kind.SET_FEES, tier=tier, taker_fee_ppm=1_000 - tier)
    log.rules(Kind.SET_TIER, tier=3, amount=500, asset=USD)
    log.rules(Kind.SET_TIER, tier=5, amount=501, asset=USD)
    log.rules(Kind.SET_ACCOUNT, account=1, rules=Rule.TIER, tier=TIER_BY_VOLUME)
    log.order(2, "sell", 5, 100, taker_fee_ppm=1_000)
    log.order(1, "buy", 5, 100, taker_fee_ppm=1_000)
    log.order(1, "buy", 1, 50, taker_fee_ppm=1_000)  # today does not count
    log.now += DAY
    log.order(1, "buy", 1, 50, taker_fee_ppm=997)
    log.now += 29 * DAY
    log.order(1, "buy", 1, 50, taker_fee_ppm=997)
    log.now += DAY
    log.order(1, "buy", 1, 50, taker_fee_ppm=1_000)
    assert log.differences == []


def test_volume_in_another_asset_is_counted_anew(log: Log) -> None:
    log.rules(Kind.SET_FEES, tier=3, taker_fee_ppm=7)
    log.rules(Kind.SET_TIER, tier=3, amount=500, asset=USD)
    log.rules(Kind.SET_ACCOUNT, account=1, rules=Rule.TIER, tier=TIER_BY_VOLUME)
    log.order(2, "sell", 5, 100)
    log.order(1, "buy", 5, 100)
    log.now += DAY
    log.order(1, "buy", 1, 50, taker_fee_ppm=7)
    log.rules(Kind.SET_TIER, tier=3, amount=500, asset=USD)
    log.order(1, "buy", 1, 50, taker_fee_ppm=7)
    log.rules(Kind.SET_TIER, tier=5, amount=1, asset=BTC)
    log.rules(Kind.SET_TIER, tier=5, amount=0, asset=USD)
    log.order(1, "buy", 1, 50)
    assert log.differences == []


def test_money_moves_once_for_each_reference(log: Log) -> None:
    log.deposit(1, USD, 5, "once")
    log.deposit(2, BTC, 7, "once")
    refused(log, Reason.DUPLICATE_REFERENCE)
    step = log.money(Kind.REQUEST_WITHDRAWAL, account=1, asset=USD, amount=105, reference=b"out")
    event = step.ledger[0]
    assert (event.quantity_lots, event.leaves_lots, event.cumulative_lots) == (9_900, 105, -105)
    log.money(
        Kind.SETTLE_WITHDRAWAL,
        session=OPERATOR,
        account=1,
        asset=USD,
        amount=105,
        reference=b"out",
    )
    assert log.balance(1, USD) == (9_900, 0)
    log.money(Kind.CANCEL_WITHDRAWAL, account=1, reference=b"out", reject=113)
    assert log.differences == []


def test_a_family_may_transfer_and_nobody_else(log: Log) -> None:
    move = {"asset": USD, "amount": 10, "session": OWN}
    step = log.money(Kind.TRANSFER, account=1, counter_account=3, **move)
    assert [event.account for event in step.ledger] == [1, 3]
    log.money(Kind.TRANSFER, account=3, counter_account=1, **move)
    assert log.differences == []
    log.money(Kind.TRANSFER, account=1, counter_account=2, **move)
    refused(log, Reason.ACCOUNT_NOT_PERMITTED)


# ---- holds of amends


def test_amends_under_way_count_as_done(log: Log) -> None:
    order = log.order(1, "buy", 10, 100).record.sequence
    log.amend(1, order, 0, 15, hold=500)
    log.amend(1, order, 110, 0, hold=150, lag=2)  # 15 * 110 - 15 * 100
    assert log.balance(1, USD) == (10_000 - 1_650, 1_650)
    log.amend(1, order, 0, 5, hold=0, lag=3)
    assert log.settled_balance(1, USD) == (10_000 - 550, 550)
    assert log.differences == [] and invariants.broken(log.auditor) == []


def test_fills_in_between_can_leave_an_amend_too_little(log: Log) -> None:
    order = log.order(1, "buy", 10, 100).record.sequence
    log.money(Kind.REQUEST_WITHDRAWAL, account=1, asset=USD, amount=8_700, reference=b"out")
    log.order(2, "sell", 4, 100)
    # 4 are filled, which is not settled. 10 are to be open: 1,000 could be needed more, 300 are
    # free, and 400 would have been.
    step = log.amend(1, order, 0, 10, flags=Flag.TO_OPEN, hold=300, lag=2)
    assert kinds(step) == ["REJECTED"]
    assert step.book[0].reason == Reason.HOLD_EXCEEDED
    assert log.differences == []


# ---- what the log may not say


def test_a_wrong_stamp_is_named(log: Log) -> None:
    log.order(1, "buy", 5, 100, hold=499)
    assert log.differences == [f"record {log.sequence}: NEW_ORDER: hold: expected 500, found 499"]


def test_an_order_without_money_is_refused(log: Log) -> None:
    log.order(1, "buy", 101, 100)
    refused(log, Reason.INSUFFICIENT_BALANCE)


def test_a_refusal_that_the_rules_do_not_know_is_named(log: Log) -> None:
    log.order(1, "buy", 1, 100, reject=Reason.BAD_PRICE)
    assert "expected 0, found BAD_PRICE" in log.differences[0]


def test_checks_have_an_order(log: Log) -> None:
    log.order(1, "buy", 0, 100, time_in_force=9)
    refused(log, Reason.BAD_TIME_IN_FORCE)
    log.order(1, "buy", 1, 100, trailing_bips=5, reserved=1)
    refused(log, Reason.BAD_TRIGGER)
    log.rules(Kind.SET_ACCOUNT, account=1, rules=Rule.STATE, state=AccountState.FROZEN)
    log.order(1, "buy", 1_000, 100)
    refused(log, Reason.ACCOUNT_FROZEN)


def test_terms_and_order_stand_together(log: Log) -> None:
    log.terms(display_lots=5)
    log.order(1, "buy", 10, 10)
    assert "has_terms: expected 1, found 0" in log.differences[0]


def test_terms_without_an_order_are_refused_alone(log: Log) -> None:
    log.terms(display_lots=5, reject=Reason.BAD_LEGS)
    log.terms(display_lots=5)
    log.order(1, "buy", 10, 10, has_terms=1, lag=3)
    assert log.differences == []


# ---- the line of cancels


def test_a_mass_cancel_is_followed_by_a_cancel_of_each_order(log: Log) -> None:
    orders = [log.order(1, "buy", 1, price).record.sequence for price in (90, 80, 70)]
    log.order(2, "buy", 1, 60)
    log.cancel(1, orders[1])
    log.command(Kind.MASS_CANCEL, account=1)
    gone = {"session": 0, "hold": Reason.MASS_CANCELED}
    log.cancel(1, orders[0], **gone)
    log.cancel(1, orders[2], **gone)
    log.order(2, "buy", 1, 50)
    assert log.differences == []


def test_a_client_must_wait_for_the_line(log: Log) -> None:
    order = log.order(1, "buy", 1, 90).record.sequence
    log.rules(Kind.SET_ACCOUNT, account=1, rules=Rule.CANCEL)
    log.order(2, "buy", 1, 50)
    assert f"the cancel of order {order} comes first" in log.differences[0]


def test_the_line_has_an_order(log: Log) -> None:
    first, second = (log.order(1, "buy", 1, 90).record.sequence for _ in range(2))
    log.rules(Kind.SET_MARKET, market=1, rules=Rule.CANCEL)
    log.cancel(1, second, session=0, hold=Reason.MARKET_KILLED)
    assert f"order_id: expected {first}, found {second}" in log.differences[0]


def test_countdowns_and_expiries_come_with_their_time(log: Log) -> None:
    log.terms(expire_ns=log.now + 5 * MS)
    gtd = log.order(1, "buy", 1, 90, time_in_force=TimeInForce.GTD, has_terms=1).record.sequence
    other = log.order(2, "buy", 1, 90).record.sequence
    log.command(Kind.COUNTDOWN, account=2, quantity_lots=5)
    log.now += 5 * MS
    log.command(Kind.TICK, session=0)
    log.cancel(2, other, session=0, hold=Reason.COUNTDOWN_ENDED)
    log.cancel(1, gtd, session=0, hold=Reason.GTD_EXPIRED)
    assert log.differences == []


def test_what_is_due_comes_before_commands(log: Log) -> None:
    log.command(Kind.COUNTDOWN, account=2, quantity_lots=5)
    log.now += 5 * MS
    log.command(Kind.MASS_CANCEL, account=1)
    assert "something was due" in log.differences[0]


def test_the_end_of_a_session_cancels_what_it_entered(log: Log) -> None:
    log.attach("leaving", session=OPERATOR, capabilities=1, id=4, account=1, cancel_on_detach=1)
    log.positions[4] = 0
    mine = log.order(1, "buy", 1, 90, session=4).record.sequence
    log.order(1, "buy", 1, 91)
    log.command(Kind.LOGOUT, session=4)
    log.cancel(1, mine, session=0, hold=Reason.SESSION_ENDED)
    log.order(2, "buy", 1, 50)
    assert log.differences == []


def test_a_new_epoch_is_the_end_of_every_session(log: Log) -> None:
    log.attach("leaving", session=OPERATOR, capabilities=1, id=4, account=1, cancel_on_detach=1)
    log.positions[4] = 0
    mine = log.order(1, "buy", 1, 90, session=4).record.sequence
    log.order(1, "buy", 1, 91, session=OWN)
    log.named(Kind.STOP, session=0)
    log.named(Kind.START, session=0, epoch=2)
    log.cancel(1, mine, session=0, hold=Reason.SESSION_ENDED)
    log.attach("operator", capabilities=7, position=log.positions[OPERATOR])
    log.rules(Kind.SET_ACCOUNT, account=1, rules=Rule.STATE, state=AccountState.ACTIVE)
    assert log.differences == []
    log.order(1, "buy", 1, 50, session=OWN)
    assert "session 3 is not attached" in log.differences[0]


def test_a_stop_order_is_held_for_at_its_bound(log: Log) -> None:
    stop = {"order_type": OrderType.STOP_LOSS, "time_in_force": TimeInForce.IOC}
    # ceil(100 * 1.1) = 110
    log.order(1, "buy", 5, 110, trigger_ticks=100, **stop)
    log.rules(Kind.SET_MARKET, market=1, rules=Rule.REFERENCE, reference_ticks=50)
    # Trailing by 1,000 bips from 50: ceil(50 * 1.1) = 55, and ceil(55 * 1.1) = 61.
    log.order(1, "buy", 5, 61, trailing_bips=1000, **stop)
    assert log.differences == []
    log.order(2, "sell", 9, 100)
    log.order(1, "buy", 1, 100)
    step = log.order(2, "sell", 1, 90)
    assert fills(step) == []
    assert log.settled_balance(1, USD)[0] < 10_000
    assert invariants.broken(log.auditor) == []
