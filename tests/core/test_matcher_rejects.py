"""Every field of a command broken: refused with the right code, and the state as it was."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matchbox.core.instrument import market_record
from matchbox.core.matcher import Matcher
from matchbox.shm.reasons import Reason
from matchbox.shm.records import EventFlag, EventKind, Flag, Kind
from tests.core.flows import amend, cancel, commands, new, rules, terms, waiting

MARKET = {
    "max_orders": 10,
    "max_price_ticks": 1_000_000,
    "price_step_ticks": 5,
    "min_quantity_lots": 4,
    "max_quantity_lots": 10_000,
    "quantity_step_lots": 2,
    "notional_units": 2**40,
}
ORDER = new("buy", 10, 100)
MARKETABLE = new("buy", 10, None, "IOC")
STOP = waiting("stop_loss", "buy", 10, None, 300)
STOP_LIMIT = waiting("stop_loss", "buy", 10, 305, 300)
CANCEL = cancel(1)
AMEND = amend(1, 105, 8)

# What is broken -> (the command, the code). The order of checks is core/validation.pxd's.
BROKEN: dict[str, tuple[dict[str, Any], Reason]] = {
    "kind zero": (ORDER | {"kind": 0}, Reason.UNKNOWN_KIND),
    "kind no session can send": (ORDER | {"kind": Kind.ADD_MARKET}, Reason.UNKNOWN_KIND),
    "kind unknown": (ORDER | {"kind": 200}, Reason.UNKNOWN_KIND),
    "market zero": (ORDER | {"market": 0}, Reason.UNKNOWN_MARKET),
    "market unknown": (ORDER | {"market": 2}, Reason.UNKNOWN_MARKET),
    "market unknown in a cancel": (CANCEL | {"market": 2**32 - 1}, Reason.UNKNOWN_MARKET),
    "side zero": (ORDER | {"side": 0}, Reason.BAD_SIDE),
    "side unknown": (ORDER | {"side": 3}, Reason.BAD_SIDE),
    "side unknown in a cancel": (CANCEL | {"side": 3}, Reason.BAD_SIDE),
    "side unknown in an amend": (AMEND | {"side": 255}, Reason.BAD_SIDE),
    "order type zero": (ORDER | {"order_type": 0}, Reason.BAD_ORDER_TYPE),
    "order type unknown": (ORDER | {"order_type": 7}, Reason.BAD_ORDER_TYPE),
    "order type in a cancel": (CANCEL | {"order_type": 1}, Reason.BAD_ORDER_TYPE),
    "order type in an amend": (AMEND | {"order_type": 1}, Reason.BAD_ORDER_TYPE),
    "time in force zero": (ORDER | {"time_in_force": 0}, Reason.BAD_TIME_IN_FORCE),
    "time in force unknown": (ORDER | {"time_in_force": 5}, Reason.BAD_TIME_IN_FORCE),
    "market order GTC": (MARKETABLE | {"time_in_force": 1}, Reason.BAD_TIME_IN_FORCE),
    "time in force in a cancel": (CANCEL | {"time_in_force": 1}, Reason.BAD_TIME_IN_FORCE),
    "time in force in an amend": (AMEND | {"time_in_force": 1}, Reason.BAD_TIME_IN_FORCE),
    "stop market order FOK": (STOP | {"time_in_force": 3}, Reason.BAD_TIME_IN_FORCE),
    "stop market order GTC": (STOP | {"time_in_force": 1}, Reason.BAD_TIME_IN_FORCE),
    "flag unknown": (ORDER | {"flags": 128}, Reason.BAD_FLAGS),
    "a leg of nothing": (ORDER | {"flags": Flag.LEG}, Reason.BAD_LEGS),
    "quote amount of a limit order": (ORDER | {"flags": 8}, Reason.BAD_FLAGS),
    "quote amount and FOK": (
        MARKETABLE | {"flags": 8, "time_in_force": 3},
        Reason.BAD_FLAGS,
    ),
    "quote amount with a trigger": (STOP | {"flags": 8}, Reason.BAD_FLAGS),
    "post-only with a trigger": (STOP_LIMIT | {"flags": Flag.POST_ONLY}, Reason.BAD_FLAGS),
    "self-trade mode unknown": (ORDER | {"self_trade": 5}, Reason.BAD_SELF_TRADE),
    "flag of an amend": (ORDER | {"flags": Flag.TO_OPEN}, Reason.BAD_FLAGS),
    "post-only and IOC": (
        new("buy", 10, 100, "IOC", flags=Flag.POST_ONLY),
        Reason.BAD_FLAGS,
    ),
    "post-only market order": (MARKETABLE | {"flags": Flag.POST_ONLY}, Reason.BAD_FLAGS),
    "flag in a cancel": (CANCEL | {"flags": Flag.REQUEUE}, Reason.BAD_FLAGS),
    "post-only in an amend": (AMEND | {"flags": Flag.POST_ONLY}, Reason.BAD_FLAGS),
    "nothing to amend": (amend(1), Reason.NOTHING_TO_AMEND),
    "nothing to amend but the place": (amend(1, flags=Flag.REQUEUE), Reason.NOTHING_TO_AMEND),
    "price zero": (ORDER | {"price_ticks": 0}, Reason.BAD_PRICE),
    "price negative": (ORDER | {"price_ticks": -5}, Reason.BAD_PRICE),
    "price lowest": (ORDER | {"price_ticks": -(2**63)}, Reason.BAD_PRICE),
    "price above the maximum": (ORDER | {"price_ticks": 1_000_005}, Reason.BAD_PRICE),
    "price highest": (ORDER | {"price_ticks": 2**63 - 1}, Reason.BAD_PRICE),
    "bound of a market order negative": (MARKETABLE | {"price_ticks": -1}, Reason.BAD_PRICE),
    "bound of a market order above the maximum": (
        MARKETABLE | {"price_ticks": 1_000_001},
        Reason.BAD_PRICE,
    ),
    "price in a cancel": (CANCEL | {"price_ticks": 100}, Reason.BAD_PRICE),
    "price negative in an amend": (AMEND | {"price_ticks": -5}, Reason.BAD_PRICE),
    "price off tick": (ORDER | {"price_ticks": 101}, Reason.PRICE_OFF_TICK),
    "price off tick in an amend": (AMEND | {"price_ticks": 101}, Reason.PRICE_OFF_TICK),
    "quantity zero": (ORDER | {"quantity_lots": 0}, Reason.BAD_QUANTITY),
    "quantity negative": (ORDER | {"quantity_lots": -4}, Reason.BAD_QUANTITY),
    "quantity below the minimum": (ORDER | {"quantity_lots": 2}, Reason.BAD_QUANTITY),
    "quantity above the maximum": (ORDER | {"quantity_lots": 10_002}, Reason.BAD_QUANTITY),
    "quantity highest": (ORDER | {"quantity_lots": 2**63 - 1}, Reason.BAD_QUANTITY),
    "quantity in a cancel": (CANCEL | {"quantity_lots": 4}, Reason.BAD_QUANTITY),
    "quantity negative in an amend": (AMEND | {"quantity_lots": -4}, Reason.BAD_QUANTITY),
    "quantity off lot": (ORDER | {"quantity_lots": 11}, Reason.QUANTITY_OFF_LOT),
    "quantity off lot in an amend": (AMEND | {"quantity_lots": 7}, Reason.QUANTITY_OFF_LOT),
    "notional overflow": (new("buy", 10_000, 1_000_000), Reason.NOTIONAL_OVERFLOW),
    "notional overflow in an amend": (amend(1, 1_000_000, 10_000), Reason.NOTIONAL_OVERFLOW),
    "quote amount zero": (
        MARKETABLE | {"flags": 8, "quantity_lots": 0},
        Reason.BAD_QUANTITY,
    ),
    "quote amount above all there is": (
        MARKETABLE | {"flags": 8, "quantity_lots": 2**62 + 1},
        Reason.BAD_QUANTITY,
    ),
    "trigger price": (ORDER | {"trigger_ticks": 5}, Reason.BAD_TRIGGER),
    "trailing distance": (ORDER | {"trailing_bips": 5}, Reason.BAD_TRIGGER),
    "no trigger price": (STOP | {"trigger_ticks": 0}, Reason.BAD_TRIGGER),
    "trigger price negative": (STOP | {"trigger_ticks": -5}, Reason.BAD_TRIGGER),
    "trigger price above the maximum": (STOP | {"trigger_ticks": 1_000_005}, Reason.BAD_TRIGGER),
    "trigger price off tick": (STOP | {"trigger_ticks": 301}, Reason.PRICE_OFF_TICK),
    "trailing distance above the maximum": (STOP | {"trailing_bips": 2001}, Reason.BAD_TRIGGER),
    "GTD without a time": (ORDER | {"time_in_force": 4}, Reason.BAD_EXPIRY),
    "trigger price in a cancel": (CANCEL | {"trigger_ticks": -1}, Reason.BAD_FIELD),
    "reserved byte": (ORDER | {"reserved": 1}, Reason.BAD_FIELD),
    "reserved byte in an amend": (AMEND | {"reserved": 1}, Reason.BAD_FIELD),
    "client id with a space": (
        ORDER | {"client_order_id": b"a b"},
        Reason.BAD_CLIENT_ORDER_ID,
    ),
    "client id with a zero inside": (
        ORDER | {"client_order_id": b"a\0b"},
        Reason.BAD_CLIENT_ORDER_ID,
    ),
    "client id after a zero word": (
        ORDER | {"client_order_id": b"\0" * 8 + b"b"},
        Reason.BAD_CLIENT_ORDER_ID,
    ),
    "client id with a high byte": (
        ORDER | {"client_order_id": b"caf\xc3\xa9"},
        Reason.BAD_CLIENT_ORDER_ID,
    ),
    "client id of 36 with a bad last": (
        CANCEL | {"client_order_id": b"x" * 35 + b"\x7f"},
        Reason.BAD_CLIENT_ORDER_ID,
    ),
    "order id zero": (cancel(0), Reason.UNKNOWN_ORDER),
    "order id unknown": (cancel(7), Reason.UNKNOWN_ORDER),
    "order id of nobody": (amend(2**63, 105), Reason.UNKNOWN_ORDER),
}


def a_book() -> Matcher:
    """Order 1 rests to buy 10 at 100, order 2 to sell 10 at 200."""
    matcher = Matcher([market_record(1, **MARKET)])
    matcher.process(commands(ORDER, new("sell", 10, 200)))
    return matcher


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_command_is_refused_and_changes_nothing(fault: str) -> None:
    command, reason = BROKEN[fault]
    matcher = a_book()
    before = matcher.state_hash()
    (event,) = matcher.process(commands(command))
    assert Reason(int(event["reason"])).name == reason.name
    assert (event["kind"], event["flags"], event["index"]) == (
        EventKind.REJECTED,
        EventFlag.LAST,
        0,
    )
    assert event["sequence"] == 3
    assert event["order_id"] == (
        3 if command["kind"] == Kind.NEW_ORDER else command.get("order_id", 0)
    )
    for name in ("price_ticks", "quantity_lots"):
        assert event[name] == command.get(name, 0)
    assert matcher.state_hash() == before
    matcher.validate()


@pytest.mark.parametrize("command", [ORDER, MARKETABLE, CANCEL, AMEND, AMEND | {"side": 1}])
def test_the_same_commands_unbroken_are_accepted(command: dict[str, Any]) -> None:
    (event, *_) = a_book().process(commands(command))
    assert event["kind"] != EventKind.REJECTED


# The terms, the order after them, the code.
BAD_TERMS: dict[str, tuple[dict[str, Any], dict[str, Any], Reason]] = {
    "display negative": (terms(-2), ORDER, Reason.BAD_DISPLAY),
    "display not below the quantity": (terms(10), ORDER, Reason.BAD_DISPLAY),
    "display off lot": (terms(3), ORDER, Reason.BAD_DISPLAY),
    "over 100 slices": (terms(2), ORDER | {"quantity_lots": 202}, Reason.BAD_DISPLAY),
    "display of a market order": (terms(2), MARKETABLE, Reason.BAD_DISPLAY),
    "display and IOC": (terms(2), ORDER | {"time_in_force": 2}, Reason.BAD_DISPLAY),
    "a time without GTD": (terms(0, 99), ORDER, Reason.BAD_EXPIRY),
    "GTD without a time in its terms": (terms(2), ORDER | {"time_in_force": 4}, Reason.BAD_EXPIRY),
    "a time that is now": (
        terms(0, 99),
        ORDER | {"time_in_force": 4, "timestamp_ns": 99},
        Reason.BAD_EXPIRY,
    ),
    "reserved byte of the terms": (terms(2, reserved=1), ORDER, Reason.BAD_FIELD),
    "reserved words": (terms(2, reserved_words=(0, 0, 1)), ORDER, Reason.BAD_FIELD),
    "reserved bytes": (terms(2, reserved_bytes=(0, 0, 0, 1)), ORDER, Reason.BAD_FIELD),
    "reserved text": (terms(2, reserved_text=b"\0x"), ORDER, Reason.BAD_FIELD),
}


@pytest.mark.parametrize("fault", BAD_TERMS)
def test_broken_terms_refuse_their_order(fault: str) -> None:
    before, order, reason = BAD_TERMS[fault]
    matcher = a_book()
    state = matcher.state_hash()
    (event,) = matcher.process(commands(before, order))
    assert Reason(int(event["reason"])).name == reason.name
    assert event["order_id"] == event["sequence"] == 4
    assert matcher.state_hash() == state


@pytest.mark.parametrize(
    ("before", "order"),
    [
        (terms(2), ORDER),
        (terms(2), ORDER | {"quantity_lots": 200}),
        (terms(2), STOP_LIMIT),
        (terms(0, 99), ORDER | {"time_in_force": 4, "timestamp_ns": 98}),
        (terms(), MARKETABLE),
        (terms(0, 99, market=2), ORDER),
    ],
)
def test_terms_that_go_with_their_order_are_accepted(
    before: dict[str, Any], order: dict[str, Any]
) -> None:
    (event, *_) = a_book().process(commands(before, order))
    assert event["kind"] == EventKind.ACCEPTED


def test_terms_count_only_for_the_very_next_record() -> None:
    matcher = a_book()
    matcher.process(commands(terms(2), CANCEL, ORDER))
    assert not matcher.orders(1)["hidden_lots"].any()


@pytest.mark.parametrize(
    "change",
    [
        {"state": 0},
        {"state": 5},
        {"amount": -1},
        {"reference_ticks": 0},
        {"reference_ticks": 1_000_001},
        {"bands": (10_000, 0)},
        {"protection_bips": 0},
        {"protection_bips": 10_001},
        {"rules": 2},
        {"reserved": 1},
        {"reserved_long": 1},
        {"reserved_byte": 1},
    ],
)
def test_a_rule_out_of_range_is_refused_and_changes_nothing(change: dict[str, Any]) -> None:
    matcher = a_book()
    state = matcher.state_hash()
    (event,) = matcher.process(commands(rules(**change)))
    assert (event["kind"], event["reason"]) == (EventKind.REJECTED, Reason.BAD_RULE)
    assert matcher.state_hash() == state


def test_rules_that_are_not_named_are_not_looked_at() -> None:
    matcher = a_book()
    record = {"kind": Kind.SET_MARKET, "state": 9, "amount": -1, "protection_bips": 0}
    assert len(matcher.process(commands(record))) == 0
    (event,) = matcher.process(commands(rules(amount=1, market=9)))
    assert event["reason"] == Reason.UNKNOWN_MARKET


def test_an_order_below_the_least_notional_is_refused() -> None:
    matcher = a_book()
    matcher.process(commands(rules(amount=100 * 10 * 2**40)))
    small = new("buy", 8, 100)
    by_amount = MARKETABLE | {"flags": 8, "quantity_lots": 1000 * 2**40 - 1}
    events = matcher.process(commands(ORDER, small, by_amount, amend(1, 0, 4)))
    reasons = [Reason.BELOW_MIN_NOTIONAL] * 2
    assert events["reason"].tolist() == [0, *reasons, 0]


def test_what_the_sequencer_stamps_is_ignored_in_a_command() -> None:
    stamped = {
        "timestamp_ns": 2**64 - 1,
        "session_position": 5,
        "session": 6,
        "settled_lag": 7,
        "settled_index": 8,
        "reject": 9,
        "has_terms": 10,
        "hold": -11,
    }
    (event,) = a_book().process(commands(ORDER | stamped))
    assert (event["kind"], event["order_id"]) == (EventKind.ACCEPTED, 3)


@given(text=st.binary(max_size=36))
@settings(max_examples=500, deadline=None)
def test_client_order_ids_are_printable_and_zero_padded(text: bytes) -> None:
    kept = text.rstrip(b"\0")
    good = all(0x21 <= byte <= 0x7E for byte in kept)
    (event,) = a_book().process(commands(ORDER | {"client_order_id": text}))
    assert event["reason"] == (0 if good else Reason.BAD_CLIENT_ORDER_ID)


@pytest.mark.parametrize("length", range(37))
def test_client_order_ids_may_have_any_length_up_to_36(length: int) -> None:
    text = bytes(0x21 + (i * 7) % 94 for i in range(length))
    (event,) = a_book().process(commands(ORDER | {"client_order_id": text}))
    assert event["kind"] == EventKind.ACCEPTED


def test_random_bytes_never_break_a_book(seed: int) -> None:
    import numpy as np

    from matchbox.shm.records import COMMAND

    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, (20_000, 128), dtype=np.uint8).view(COMMAND).reshape(-1)
    raw["sequence"] = 0
    raw["kind"] = rng.integers(0, 5, len(raw))
    raw["market"] = rng.integers(0, 3, len(raw))
    matcher = a_book()
    before = matcher.state_hash()
    events = matcher.process(raw)
    assert len(events) == len(raw)
    assert (events["kind"] == EventKind.REJECTED).all()
    assert (events["reason"] != 0).all()
    assert matcher.state_hash() == before
    matcher.validate()
