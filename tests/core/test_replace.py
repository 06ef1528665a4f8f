"""An order in the place of another (CANCEL_ORDER with REPLACE): in the matcher, in the exchange."""

from typing import Any

import pytest

from matchbox.shm.records import Flag, Kind
from tests.core.desk import UNIT, Desk, short
from tests.core.exchange import Exchange, plan
from tests.core.flows import cancel, commands, new, terms
from tests.core.market import Exchange as Market

REPLACE, LEG, ALLOWED = Flag.REPLACE, Flag.LEG, Flag.REPLACE | Flag.ALLOW_FAILURE


def replaced(order_id: int, **others: Any) -> dict[str, Any]:
    return cancel(order_id, **({"flags": REPLACE} | others))


def placed(*fields: Any, **others: Any) -> dict[str, Any]:
    return new(*fields, **({"flags": LEG} | others))


# ---- the matcher


def test_the_new_order_comes_after_the_end_of_the_old_one() -> None:
    market = Market()
    market.send(new("buy", 5, 100))
    assert market.story(replaced(1), placed("buy", 7, 101)) == [
        ("CANCELED", 1, 5, "ON_REQUEST"),
        ("ACCEPTED", 3, 7),
    ]
    assert market.depth()[0] == [(101, 7)]


def test_terms_may_stand_between() -> None:
    market = Market()
    market.send(new("buy", 5, 100))
    story = market.story(replaced(1), terms(display=2), placed("buy", 6, 101))
    assert story == [("CANCELED", 1, 5, "ON_REQUEST"), ("ACCEPTED", 4, 6)]
    assert market.depth()[0] == [(101, 2)]


def test_what_could_not_be_canceled_is_not_replaced_unless_that_is_allowed() -> None:
    market = Market()
    assert market.story(replaced(9), placed("buy", 7, 101)) == [
        ("REJECTED", 9, 0, "UNKNOWN_ORDER"),
        ("REJECTED", 2, 7, "CANCEL_FAILED"),
    ]
    assert market.story(replaced(9, flags=ALLOWED), placed("buy", 7, 101)) == [
        ("REJECTED", 9, 0, "UNKNOWN_ORDER"),
        ("ACCEPTED", 4, 7),
    ]


def test_the_old_order_stays_canceled_if_the_new_one_is_refused() -> None:
    market = Market()
    market.send(new("buy", 5, 100), new("sell", 5, 110))
    story = market.story(replaced(1), placed("buy", 7, 110, flags=LEG | Flag.POST_ONLY))
    assert story == [("CANCELED", 1, 5, "ON_REQUEST"), ("REJECTED", 4, 7, "WOULD_TAKE")]
    assert market.depth() == ([], [(110, 5)])


@pytest.mark.parametrize(("lack", "accepted"), [(500, True), (501, False)])
def test_no_more_may_be_lacking_than_what_is_canceled_had(lack: int, accepted: bool) -> None:
    market = Market()
    market.send(new("buy", 8, 100), new("sell", 3, 100))
    story = market.story(replaced(1, quantity_lots=lack), placed("buy", 7, 101))
    assert story[0] == ("CANCELED", 1, 5, "ON_REQUEST")
    assert story[1] == (("ACCEPTED", 4, 7) if accepted else ("REJECTED", 4, 7, "HOLD_EXCEEDED"))


@pytest.mark.parametrize("between", [[], [new("sell", 1, 900)], [replaced(2), new("sell", 1, 900)]])
def test_an_order_that_nothing_announces_is_refused(between: list[dict[str, Any]]) -> None:
    market = Market()
    market.send(new("buy", 5, 100), new("buy", 5, 100))
    story = market.story(*between, placed("buy", 7, 101))
    assert story[-1] == ("REJECTED", 3 + len(between), 7, "BAD_LEGS")


# ---- the exchange


def test_money_of_the_old_order_pays_for_the_new_one() -> None:
    desk = Desk(amount=1000 * UNIT)
    desk.send(new("buy", 10, 90, client_order_id=b"a"))
    assert desk.money()[1] == (100 * UNIT, 900 * UNIT)
    told = desk.story(
        replaced(0, client_order_id=b"a", market=0), placed("buy", 10, 100, client_order_id=b"a")
    )
    assert told == [("CANCELED", "ON_REQUEST"), ("ACCEPTED",)]
    assert desk.money()[1] == (0, 1000 * UNIT)
    cancels = desk.exchange.log[-2]
    assert (cancels["kind"], cancels["quantity_lots"]) == (Kind.CANCEL_ORDER, 900 * UNIT)
    assert desk.story(cancel(0, client_order_id=b"a")) == [("CANCELED", "ON_REQUEST")]
    assert desk.money()[1] == (1000 * UNIT, 0)
    desk.replay()


def test_one_unit_too_much_is_refused_and_the_old_order_is_gone() -> None:
    desk = Desk(amount=1000 * UNIT - 1)
    desk.send(new("buy", 9, 100, client_order_id=b"a"))
    told = desk.story(
        replaced(0, client_order_id=b"a"), placed("buy", 10, 100, client_order_id=b"a")
    )
    assert told == [("CANCELED", "ON_REQUEST"), ("REJECTED", "INSUFFICIENT_BALANCE")]
    assert desk.money()[1] == (1000 * UNIT - 1, 0)
    desk.replay()


def test_an_order_of_the_other_side_pays_nothing() -> None:
    desk = Desk(amount=100 * UNIT)
    desk.send(new("sell", 100, 500, client_order_id=b"a"))
    told = desk.story(replaced(0, client_order_id=b"a"), placed("buy", 10, 11))
    assert told == [("CANCELED", "ON_REQUEST"), ("REJECTED", "INSUFFICIENT_BALANCE")]
    desk.replay()


def test_a_market_order_may_spend_what_the_old_order_held() -> None:
    desk = Desk(amount=1000 * UNIT)
    desk.other.sell(1, quantity_lots=50, price_ticks=100)
    desk.exchange.settle()
    desk.send(new("buy", 8, 90, client_order_id=b"a"))
    told = desk.story(replaced(0, client_order_id=b"a"), placed("buy", 10, None, "IOC"))
    assert told == [("CANCELED", "ON_REQUEST"), ("ACCEPTED",), ("TRADE",)]
    assert desk.money() == ((1010 * UNIT, 0), (0, 0))
    desk.replay()


def test_the_old_order_does_not_count_as_open() -> None:
    exchange = Exchange(plan(max_orders=2))
    bot = exchange.attach()
    bot.buy(1, quantity_lots=1, price_ticks=10)
    bot.buy(1, quantity_lots=1, price_ticks=11, client_order_id="b")
    exchange.settle()
    bot.reports()
    bot.submit(
        commands(
            replaced(0, client_order_id=b"b"),
            placed("buy", 1, 12, client_order_id=b"c"),
            # Not settled yet: c and what it replaced both count.
            replaced(0, client_order_id=b"c"),
            placed("buy", 1, 13),
        )
    )
    exchange.settle()
    assert [short(r)[0] for r in bot.reports()] == ["CANCELED", "ACCEPTED", "CANCELED", "REJECTED"]
    assert exchange.sequencer.counters["live_orders"] == 1


BAD: list[tuple[list[dict[str, Any]], list[str]]] = [
    # Nothing follows that would come in its place.
    ([replaced(0, client_order_id=b"a")], ["BAD_LEGS"]),
    ([replaced(0, client_order_id=b"a"), new("buy", 1, 50)], ["BAD_LEGS", ""]),
    (
        [replaced(0, client_order_id=b"a"), terms(display=1), new("buy", 2, 50)],
        ["BAD_LEGS", "", ""],
    ),
    ([replaced(0, client_order_id=b"a"), terms(display=1)], ["BAD_LEGS", "BAD_LEGS"]),
    # Nothing claims it.
    ([placed("buy", 1, 50)], ["BAD_LEGS"]),
    ([terms(display=1), placed("buy", 2, 50)], ["BAD_LEGS", "BAD_LEGS"]),
    ([cancel(0, client_order_id=b"a"), placed("buy", 1, 50)], ["", "BAD_LEGS"]),
    # Of another account or market.
    ([replaced(0, client_order_id=b"a", market=2), placed("buy", 1, 50)], ["BAD_LEGS"] * 2),
    (
        [replaced(0, client_order_id=b"a", account=9), placed("buy", 1, 50, account=8)],
        ["ACCOUNT_NOT_PERMITTED"] * 2,
    ),
    ([replaced(0, client_order_id=b"a", account=8), placed("buy", 1, 50)], ["BAD_LEGS"] * 2),
    (
        [replaced(0, client_order_id=b"a"), terms(display=1, market=2), placed("buy", 2, 50)],
        ["BAD_LEGS"] * 3,
    ),
    ([replaced(0, client_order_id=b"a"), placed("buy", 1, 50, market=99)], ["BAD_LEGS"] * 2),
    (
        [replaced(0, client_order_id=b"a", market=99), placed("buy", 1, 50, market=99)],
        ["UNKNOWN_MARKET"] * 2,
    ),
    # The new order alone.
    ([replaced(0, client_order_id=b"a"), placed("buy", 0, 50)], ["BAD_QUANTITY"] * 2),
    (
        [replaced(0, client_order_id=b"a"), terms(display=5), placed("buy", 2, 50)],
        ["BAD_DISPLAY"] * 3,
    ),
    # The cancel.
    ([replaced(0, client_order_id=b"x"), placed("buy", 1, 50)], ["UNKNOWN_ORDER", "CANCEL_FAILED"]),
    (
        [replaced(0, client_order_id=b"x"), terms(display=1), placed("buy", 2, 50)],
        ["UNKNOWN_ORDER", "CANCEL_FAILED", "CANCEL_FAILED"],
    ),
    (
        [replaced(0, client_order_id=b"x", flags=ALLOWED), placed("buy", 1, 50)],
        ["UNKNOWN_ORDER", ""],
    ),
    (
        [replaced(0, client_order_id=b"a", quantity_lots=5), placed("buy", 1, 50)],
        ["BAD_QUANTITY", "CANCEL_FAILED"],
    ),
    ([cancel(0, client_order_id=b"a", flags=Flag.ALLOW_FAILURE)], ["BAD_FLAGS"]),
    ([cancel(0, client_order_id=b"a", flags=Flag.OF_PENDING)], ["BAD_FLAGS"]),
    (
        [replaced(0, client_order_id=b"a", flags=REPLACE | Flag.LEG), placed("buy", 1, 50)],
        ["BAD_FLAGS", "CANCEL_FAILED"],
    ),
    # The new order as if the old one had ended.
    (
        [replaced(0, client_order_id=b"a"), placed("buy", 1, 50, client_order_id=b"b")],
        ["", "DUPLICATE_CLIENT_ORDER_ID"],
    ),
]


@pytest.mark.parametrize(("rows", "codes"), BAD)
def test_bad_input_is_refused_with(rows: list[dict[str, Any]], codes: list[str]) -> None:
    desk = Desk()
    desk.send(new("buy", 1, 40, client_order_id=b"a"), new("buy", 1, 41, client_order_id=b"b"))
    told = desk.send(*rows)
    assert ["".join(short(r)[1:]).replace("ON_REQUEST", "") for r in told] == codes
    first = int(told[0]["command_position"])
    assert [int(r["command_position"]) for r in told] == list(range(first, first + len(rows)))
    desk.replay()


def test_records_that_are_not_published_at_once_do_not_go_together() -> None:
    desk = Desk()
    desk.send(new("buy", 1, 40, client_order_id=b"a"))
    assert desk.story(replaced(0, client_order_id=b"a")) == [("REJECTED", "BAD_LEGS")]
    assert desk.story(placed("buy", 1, 41)) == [("REJECTED", "BAD_LEGS")]
    desk.replay()


def test_an_order_that_was_filled_in_between_is_not_replaced() -> None:
    """The sequencer has not settled the fill: it accepts the cancel, which the matcher refuses."""
    desk = Desk(amount=1000 * UNIT)
    desk.send(new("buy", 10, 90, client_order_id=b"a"))
    desk.other.sell(1, quantity_lots=10, price_ticks=90)
    desk.exchange.sequencer.poll()
    desk.bot.submit(commands(replaced(0, client_order_id=b"a"), placed("buy", 10, 100)))
    told = [short(report) for report in desk.told()]
    assert told == [("TRADE",), ("REJECTED", "UNKNOWN_ORDER"), ("REJECTED", "CANCEL_FAILED")]
    assert desk.money() == ((1010 * UNIT, 0), (100 * UNIT, 0))
    desk.replay()
