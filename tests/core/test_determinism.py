"""Same commands, same bytes out: in whatever order agents are polled, live or replayed."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from matchbox.shm.records import COMMAND, LOG_RECORD, Kind
from tests.core.exchange import Exchange, plan
from tests.core.flows import Flow

COMMANDS = 6000
PLAN = {"log_slots": 1 << 15, "event_slots": 1 << 15, "market_data_slots": 1 << 16}


def traffic(seed: int) -> NDArray[Any]:
    """Commands of one bot over four markets, some of them faulty."""
    flow = Flow(seed, middle=10_000, width=40, markets=(1, 2, 3, 4))
    # Definitions and attachments come before the first order, whose id is its sequence.
    commands = flow.take(COMMANDS, first_sequence=19)
    commands["account"] = 0
    operators = (commands["kind"] >= Kind.SUBSCRIBE) & (commands["kind"] < 64)
    return commands[~operators]


def play(
    commands: NDArray[Any], seed: int | None, matchers: int = 2
) -> dict[str, bytes | tuple[int, ...]]:
    """Everything that comes out of an exchange polled in an order of its own."""
    exchange = Exchange(plan(4, matchers, **PLAN), seed=seed)
    bot = exchange.attach()
    data = exchange.market_data()
    reports: list[Any] = []
    public: list[Any] = []
    for first in range(0, len(commands), 200):
        bot.submit(np.ascontiguousarray(commands[first : first + 200]))
        exchange.settle()
        reports.append(bot.reports().tobytes())
        public.append(data.read())
    return {
        "log": exchange.log.tobytes(),
        "reports": b"".join(reports),
        "hash": exchange.state_hash(),
        "market data": _by_market(np.concatenate(public)),
        **exchange.events(),
    }


def _by_market(records: NDArray[Any]) -> bytes:
    """The public record by markets: how markets interleave depends on which matcher was faster."""
    records = records.copy()
    records["position"] = 0
    return b"".join(records[records["market"] == m].tobytes() for m in range(1, 5))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_order_of_polling_changes_no_byte(seed: int) -> None:
    commands = traffic(seed)
    first = play(commands, None)
    assert len(first["events-0"]) > COMMANDS * 128 // 4  # it is a busy exchange
    for polling in (11, 12, 13):
        again = play(commands, polling)
        # `settled_*` say how far the sequencer had seen events: timing, by its nature.
        for part in first:
            if part == "log":
                assert _timeless(again[part]) == _timeless(first[part])
            else:
                assert again[part] == first[part], part


def _timeless(log: Any) -> bytes:
    records = np.frombuffer(log, LOG_RECORD).copy()
    records["settled_lag"], records["settled_index"] = 0, 0
    return records.tobytes()


def test_a_log_played_again_gives_the_same_events_and_state() -> None:
    commands = traffic(4)
    live = play(commands, 21)
    log = np.frombuffer(live["log"], LOG_RECORD)
    again = Exchange(plan(4, 2, **PLAN), seed=22, define=False)
    done = 0
    while done < len(log):
        done += again.sequencer.replay(log[done:])
        again.settle()
    assert again.log.tobytes() == live["log"]
    assert again.state_hash() == live["hash"]
    for part, events in again.events().items():
        assert events == live[part], part


def test_the_number_of_matchers_changes_no_state() -> None:
    commands = traffic(5)
    log = [_timeless(play(commands, 31, matchers)["log"]) for matchers in (1, 2, 4)]
    assert log[0] == log[1] == log[2]


def test_rings_of_the_smallest_size_cannot_lock() -> None:
    """Full rings at every turn, sweeps of hundreds of fills, and it still settles."""
    small = plan(2, 2, log_slots=64, event_slots=64, market_data_slots=64, max_orders=512)
    roomy = plan(2, 2, log_slots=4096, event_slots=4096, max_orders=512)
    results = []
    for layout, seed in ((small, 1), (small, 2), (roomy, None)):
        exchange = Exchange(layout, seed=seed)
        bot = exchange.attach()
        seen = []
        for _ in range(3):
            for side, price in (("sell", 100), ("buy", 100)):
                for market in (1, 2):
                    if side == "sell":
                        batch = np.zeros(200, COMMAND)
                        batch["kind"], batch["market"], batch["side"] = Kind.NEW_ORDER, market, 2
                        batch["order_type"] = batch["time_in_force"] = 1
                        batch["price_ticks"], batch["quantity_lots"] = price, 1
                        bot.submit(batch)
                    else:
                        bot.buy(market, quantity_lots=200, price_ticks=price)
                    exchange.settle()
                    seen.append(bot.reports())
        reports = np.concatenate(seen)
        assert exchange.book().best() == (0, 0, 0, 0)
        results.append((np.sort(reports["sequence"]).tolist(), exchange.book_hash()))
        assert (reports["kind"] == 3).sum() == 2 * 2 * 200 * 3
    assert results[0] == results[1] == results[2]


def test_what_filled_every_ring_can_be_played_again() -> None:
    """A replay has no more room than there was: it settles in time to make some.

    A sweep of more makers than an event ring holds, and in the same round more refusals than fit
    the ledger's: the publisher waits for the matcher, that for the sequencer.
    """
    small = plan(1, 1, log_slots=64, event_slots=16, max_orders=512)
    exchange = Exchange(small)
    bot = exchange.attach()
    for _ in range(60):
        bot.sell(1, quantity_lots=1, price_ticks=100)
        exchange.settle()
    commands = np.zeros(40, COMMAND)
    commands["kind"], commands["order_id"] = Kind.CANCEL_ORDER, 1 << 40
    commands[0]["kind"], commands[0]["market"], commands[0]["side"] = Kind.NEW_ORDER, 1, 1
    commands[0]["order_type"] = commands[0]["time_in_force"] = 1
    commands[0]["price_ticks"], commands[0]["quantity_lots"], commands[0]["order_id"] = 100, 60, 0
    bot.submit(commands)
    exchange.settle()
    log, again = exchange.log, Exchange(small, define=False)
    done = rounds = 0
    while done < len(log):
        done += again.sequencer.replay(log[done:])
        again.settle()
        rounds += 1
        assert rounds < 10 * len(log), f"stands still after {done} of {len(log)} records"
    assert again.state_hash() == exchange.state_hash()
