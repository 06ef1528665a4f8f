"""Sequencer, matchers, publisher together: what a session sends, and all that comes out of it."""

import numpy as np
import pytest

from matchbox.shm.errors import BadArgument, Detached, RingFull
from matchbox.shm.reasons import Reason
from matchbox.shm.records import COMMAND, EventKind, Kind, MarketDataKind
from matchbox.shm.session import Session
from tests.core.exchange import Exchange, plan


def reports(exchange: Exchange, session: Session) -> list[tuple[str, int, int, int]]:
    """(kind, price, quantity, leaves) of the session's next reports."""
    exchange.settle()
    names = {kind.value: kind.name for kind in EventKind}
    return [
        (names[r["kind"]], int(r["price_ticks"]), int(r["quantity_lots"]), int(r["leaves_lots"]))
        for r in session.reports()
    ]


def test_an_order_that_rests_is_accepted_and_shown() -> None:
    exchange = Exchange(plan())
    bot = exchange.attach()
    bot.buy(1, quantity_lots=5, price_ticks=100)
    assert reports(exchange, bot) == [("ATTACHED", 0, 0, 0), ("ACCEPTED", 100, 5, 5)]
    assert exchange.book().best() == (100, 5, 0, 0)


def test_a_fill_is_reported_to_maker_and_taker_and_to_the_public() -> None:
    exchange = Exchange(plan())
    maker, taker = exchange.attach("maker", 1), exchange.attach("taker", 2)
    data = exchange.market_data()
    maker.sell(1, quantity_lots=5, price_ticks=100)
    exchange.settle()
    taker.buy(1, quantity_lots=7, price_ticks=101)
    assert reports(exchange, maker)[1:] == [("ACCEPTED", 100, 5, 5), ("TRADE", 100, 5, 0)]
    assert reports(exchange, taker)[1:] == [("ACCEPTED", 101, 7, 7), ("TRADE", 100, 5, 2)]
    assert exchange.book().best() == (101, 2, 0, 0)
    records = data.read()
    assert [MarketDataKind(r["kind"]).name for r in records] == [
        "LEVEL",
        "BEST",
        "TRADE",
        "LEVEL",
        "LEVEL",
        "BEST",
    ]


def test_every_command_is_answered_with_its_position() -> None:
    exchange = Exchange(plan())
    bot = exchange.attach()
    first = bot.buy(1, quantity_lots=5, price_ticks=100, client_order_id="a")
    second = bot.cancel(client_order_id="a")
    third = bot.cancel(client_order_id="a")
    exchange.settle()
    answered = bot.reports()["command_position"].tolist()
    assert (first, second, third) == (1, 2, 3)
    assert answered == [0, 1, 2, 3]


def test_a_refusal_names_its_reason_and_changes_no_book() -> None:
    exchange = Exchange(plan())
    bot = exchange.attach()
    before = exchange.book_hash()
    bot.buy(1, quantity_lots=5, price_ticks=100)
    exchange.settle()
    bot.reports()
    with_order = exchange.book_hash()
    assert with_order != before
    bad = np.zeros(1, COMMAND)
    bad["kind"], bad["market"], bad["side"] = Kind.NEW_ORDER, 99, 1
    bot.submit(bad)
    exchange.settle()
    (report,) = bot.reports()
    assert (report["kind"], Reason(report["reason"])) == (EventKind.REJECTED, Reason.UNKNOWN_MARKET)
    assert exchange.book_hash() == with_order


def test_a_session_that_logs_out_gets_a_last_report_and_its_orders_stay() -> None:
    exchange = Exchange(plan())
    bot = exchange.attach()
    bot.buy(1, quantity_lots=5, price_ticks=100)
    bot.close()
    exchange.settle()
    assert exchange.book().best() == (100, 5, 0, 0)
    again = exchange.attach("bot")
    again.cancel(2**20)
    assert reports(exchange, again)[0][0] == "ATTACHED"


def test_a_session_that_attaches_again_by_name_goes_on_with_its_numbers() -> None:
    exchange = Exchange(plan())
    bot = exchange.attach()
    bot.buy(1, quantity_lots=5, price_ticks=100)
    exchange.settle()
    exchange.detach(bot)
    kinds = bot.reports()["kind"].tolist()
    assert kinds[-1] == EventKind.DETACHED
    with pytest.raises(Detached):
        bot.reports()
    with pytest.raises(Detached):
        bot.buy(1, quantity_lots=5, price_ticks=100)
    again = exchange.attach("bot")
    assert again.number == bot.number
    assert again.buy(1, quantity_lots=5, price_ticks=100) == 2


def test_a_full_ring_takes_nothing_of_a_batch() -> None:
    exchange = Exchange(plan())
    bot = exchange.attach(command_slots=16)
    batch = np.zeros(16, COMMAND)
    batch["kind"] = Kind.CANCEL_ORDER
    bot.submit(batch)
    with pytest.raises(RingFull, match="nothing was sent"):
        bot.submit(batch[:1])
    with pytest.raises(BadArgument, match="more commands than the ring can hold"):
        bot.submit(np.zeros(17, COMMAND))
    assert bot.sent == 16
    exchange.settle()
    bot.submit(batch[:1])


def test_full_depth_equals_the_books_orders() -> None:
    exchange = Exchange(plan(), seed=1)
    bot = exchange.attach()
    for i in range(60):
        bot.buy(1, quantity_lots=1 + i, price_ticks=100 + i % 30)
        bot.sell(1, quantity_lots=2 + i, price_ticks=200 + i % 40)
    exchange.settle()
    orders = exchange.agents["matcher-0"].orders(1)
    depth = exchange.book().depth()
    for side, levels in ((1, depth.bids), (2, depth.asks)):
        want: dict[int, int] = {}
        for order in orders[orders["side"] == side]:
            price = int(order["price_ticks"])
            want[price] = want.get(price, 0) + int(order["leaves_lots"])
        got = dict(
            zip(levels["price_ticks"].tolist(), levels["quantity_lots"].tolist(), strict=True)
        )
        assert got == want
        assert list(got) == sorted(got, reverse=side == 1)
    top = exchange.book().top()
    assert top.bids.tolist() == depth.bids[:20].tolist()
    assert top.asks.tolist() == depth.asks[:20].tolist()
