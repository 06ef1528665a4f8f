"""Sessions that wait, in a whole exchange: what a slow disk does to them, and who may wait."""

from dataclasses import replace

import numpy as np
import pytest

import matchbox
from matchbox.core.plan import PlanThread
from matchbox.shm.reasons import Reason
from matchbox.shm.records import COMMAND, NAMED_RECORD, Assurance, EventKind, Kind, Side
from tests.core.exchange import Exchange, plan

REPORTS = 64


def resting(count: int) -> np.ndarray:
    """Orders that rest, and so have one report each."""
    orders = np.zeros(count, COMMAND)
    orders["kind"], orders["market"], orders["side"] = Kind.NEW_ORDER, 1, Side.BUY
    orders["order_type"], orders["time_in_force"] = 1, matchbox.TimeInForce.GTC
    orders["price_ticks"], orders["quantity_lots"] = 100, 1
    return orders


def without_disk(exchange: Exchange, rounds: int = 40) -> None:
    """Let the agents do what they can while nothing becomes durable."""
    for _ in range(rounds):
        for agent in exchange.agents.values():
            agent.poll()
        exchange.journal(durable=0)


@pytest.mark.parametrize("seed", range(3))
def test_a_slow_disk_makes_a_session_wait_and_does_not_fill_its_report_ring(seed: int) -> None:
    """Commands are taken only as far as their replies fit, those that are held back included."""
    exchange = Exchange(plan(), seed=seed)
    bot = exchange.attach(assurance=Assurance.DURABLE, report_slots=REPORTS)
    exchange.settle()
    assert bot.reports()["kind"].tolist() == [EventKind.ATTACHED]
    bot.submit(resting(200))
    without_disk(exchange)
    assert bot.pending == 0
    held = exchange.session_rings["bot"][1].held
    assert REPORTS // 2 < held < REPORTS
    taken = exchange.sequencer.sessions()[bot.number - 1]["position"]
    # All that it sent is taken in the end, and answered in order: it never was a slow reader.
    assert taken < 200
    found: list[np.void] = []
    for _ in range(200):
        exchange.journal()
        without_disk(exchange, 8)
        found.extend(bot.reports())
    accepted = [int(r["command_position"]) for r in found if r["kind"] == EventKind.ACCEPTED]
    assert accepted == list(range(1, 201))
    assert exchange.session_rings["bot"][1].held == 0


@pytest.mark.parametrize("assurance", [Assurance.REPLICATED, Assurance.DURABLE])
def test_where_there_is_no_journal_nobody_can_wait_for_it(assurance: Assurance) -> None:
    whole = plan()
    exchange = Exchange(replace(whole, threads=whole.threads[:1]))
    (answer,) = ask(exchange, assurance)
    assert answer["reason"] == Reason.NOT_JOURNALED
    (answer,) = ask(exchange, Assurance.MATCHED, slot=2)
    assert answer["reason"] == 0


def test_an_assurance_that_there_is_not_is_refused() -> None:
    (answer,) = ask(Exchange(plan()), 4)
    assert answer["reason"] == Reason.BAD_DEFINITION


def ask(exchange: Exchange, assurance: int, slot: int = 1) -> list[np.void]:
    """What is said to an attachment with this assurance."""
    commands, reports = exchange.rings()
    for agent in (exchange.sequencer, exchange.publisher):
        agent.open_session(slot, commands, reports)
    record = np.zeros(1, NAMED_RECORD)
    record["kind"], record["name"], record["slot"] = Kind.ATTACH_SESSION, b"bot", slot
    record["account"], record["capabilities"], record["assurance"] = 1, 1, assurance
    return list(exchange.run_operator(record.view(COMMAND)))


def test_who_waits_for_the_journal_is_woken_by_it() -> None:
    threads = [(name,) for name in ("sequencer", "matcher-0", "publisher", "journaler")]
    apart = replace(
        plan(),
        threads=tuple(PlanThread(agents[0], 0, agents, None, "park") for agents in threads),
    )
    assert apart.thread_of("publisher") in apart.peers(apart.thread_of("journaler"))
