"""A book view stays consistent while another process changes the book as fast as it can.

The changes are known beforehand, so each depth that was read can be compared with the book right
after the update that it says it shows: every level, of both sides.
"""

import multiprocessing
from collections.abc import Callable
from typing import Any

import numpy as np

import matchbox
from matchbox.core.instrument import market_record
from matchbox.core.matcher import Matcher
from matchbox.shm.records import COMMAND, EVENT, EventKind, Kind
from tests.integration.conftest import ExchangeProcess, wait_for

Make = Callable[..., ExchangeProcess]
PRICES, COMMANDS, BATCH = 400, 400_000, 1024


def flow(seed: int) -> Any:
    """Orders that rest, never cross, on both sides, each cancelled 600 commands later."""
    random = np.random.default_rng(seed)
    commands = np.zeros(COMMANDS, COMMAND)
    commands["market"] = 1
    commands["kind"] = Kind.NEW_ORDER
    commands["order_type"] = commands["time_in_force"] = 1
    commands["side"] = random.integers(1, 3, COMMANDS)
    away = random.integers(1, PRICES, COMMANDS)
    commands["price_ticks"] = np.where(commands["side"] == 1, 10_000 - away, 10_000 + away)
    commands["quantity_lots"] = random.integers(1, 50, COMMANDS)
    later = np.arange(601, COMMANDS, 2)
    cancelled = later - 601
    for name in ("order_type", "time_in_force", "side", "price_ticks", "quantity_lots"):
        commands[name][later] = 0
    commands["kind"][later] = Kind.CANCEL_ORDER
    # Even places are orders, odd ones from 601 on cancel the order at an even place before.
    for place in later:
        commands["client_order_id"][place] = b""
    return commands, later, cancelled


def send(data: str, commands: Any) -> None:
    """The bot: by client order ids, since it does not wait for the ids of the exchange."""
    with matchbox.connect(data, account="alice") as session:
        sent = read = 0
        while read < len(commands):
            room = session.capacity - (sent - session.taken)
            batch = commands[sent : sent + min(BATCH, room)]
            if len(batch):
                session.submit(batch)
                sent += len(batch)
            reports = session.reports(timeout=0.0 if sent < len(commands) else 5.0)
            assert not (reports["kind"] == EventKind.REJECTED).any()
            if len(reports):
                read = int(reports["command_position"][-1])


def test_every_depth_that_is_read_is_the_book_after_some_update(
    make_exchange: Make, seed: int
) -> None:
    exchange = make_exchange().up()
    commands, later, cancelled = flow(seed % 2**32)
    ids = np.array([b"o%d" % n for n in range(len(commands))])
    named = commands.copy()
    named["client_order_id"][::1] = ids
    named["client_order_id"][later] = ids[cancelled]
    with matchbox.connect(exchange.data) as watcher:
        book = watcher.book("BTC/USD")
        before = book.update
        bot = multiprocessing.get_context("fork").Process(
            target=send, args=(str(exchange.data), named)
        )
        bot.start()
        seen = []
        wait_for(lambda: book.update > before, "the bot has begun")
        while bot.is_alive():
            depth = book.depth()
            top = book.top()
            seen.append((depth.update, depth.bids.copy(), depth.asks.copy()))
            assert top.update >= depth.update
        bot.join()
        assert bot.exitcode == 0
    exchange.down()
    assert len(seen) > 0
    print(f"{len(seen)} depths of {seen[-1][0]} updates")
    compare(seen, before, commands, later, cancelled)


def compare(seen: Any, before: int, commands: Any, later: Any, cancelled: Any) -> None:
    """Each depth with the levels by Matcher; one event is one update."""
    known = commands.copy()
    known["order_id"][later] = cancelled + 1
    events = np.zeros(2 * len(known), EVENT)
    events = Matcher([market_record(1, max_orders=8192)]).process(known, events)
    assert len(events) == len(known)  # ACCEPTED or CANCELED, each of them one update
    levels: tuple[dict[int, int], dict[int, int]] = ({}, {})
    done = 0
    for update, bids, asks in seen:
        while done < update - before:
            event = events[done]
            side, price = levels[int(event["side"]) - 1], int(event["price_ticks"])
            side[price] = int(event["level_lots"])
            if not side[price]:
                del side[price]
            done += 1
        for got, want, reverse in ((bids, levels[0], True), (asks, levels[1], False)):
            expected = sorted(want.items(), reverse=reverse)
            assert got["price_ticks"].tolist() == [price for price, _ in expected], update
            assert got["quantity_lots"].tolist() == [lots for _, lots in expected], update
