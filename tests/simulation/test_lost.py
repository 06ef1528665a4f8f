"""Memory is lost: the numbers that may have been given out in it are not given out again.

The log of a random life is journaled, and as many LOST records behind it. A new engine replays all
of that, and goes on; the auditor must foretell everything, numbers of trades included.
"""

from pathlib import Path

import numpy as np
import pytest

from matchbox.persistence.journal import Reader, Writer
from matchbox.persistence.lost import pass_over
from matchbox.shm.records import COMMAND, EventKind, Kind
from matchbox.tools.audit.definitions import Limits
from matchbox.tools.audit.exchange import Auditor
from tests.core.exchange import Exchange
from tests.simulation.commands import Random
from tests.simulation.test_exchange import play
from tests.simulation.test_snapshots import order
from tests.simulation.world import World

COMMANDS, LOST = 1_500, 200
NUMBERS = 1 << 32  # MB_LOST_NUMBERS


class Immortal(World):
    """No takeovers: its journal is replayed."""

    mortal = False


@pytest.mark.parametrize("times", [1, 3])
def test_no_number_is_given_out_twice(tmp_path: Path, seed: int, times: int) -> None:
    choice = Random(seed)
    world = Immortal()
    play(world, choice, COMMANDS)
    log = world.exchange.log
    with Writer(tmp_path) as writer:
        writer.append(log)
        spans = [pass_over(writer, LOST) for _ in range(times)]
    end = len(log)
    assert spans == [(end + 1 + n * LOST, end + (n + 1) * LOST) for n in range(times)]
    with Reader(tmp_path) as reader:
        whole = np.concatenate(list(reader.records()))
    assert (whole["kind"][end:] == Kind.LOST).all()

    exchange = Exchange(world.exchange.plan, define=False)
    exchange.replay(whole)
    exchange.sequencer.check()
    updates = {market: exchange.book(market).update for market in world.auditor.books}
    exchange.start(2)
    bots = [exchange.attach(f"somebody-{account}", account) for account in (2, 3)]
    told: set[int] = set()
    for number in range(400):
        bots[number % 2].submit(order(choice).view(COMMAND))
        exchange.settle()
        for bot in bots:
            found = bot.reports()
            told |= set(found["trade_id"][found["kind"] == EventKind.TRADE].tolist())
    assert told and min(told) > times * NUMBERS
    moved = [exchange.book(market).update - update for market, update in updates.items()]
    assert any(moved) and all(by == 0 or by > times * NUMBERS for by in moved)

    plan = exchange.plan
    auditor = Auditor(
        Limits(
            assets=plan.max_assets,
            accounts=plan.max_accounts,
            markets=plan.max_markets,
            slots=plan.max_sessions,
        )
    )
    steps = [*auditor.apply(exchange.log), *auditor.end()]
    assert not auditor.differences, "\n".join(map(str, auditor.differences))
    later = [event for step in steps for event in step.book if event.sequence > len(whole)]
    assert {event.trade_id for event in later if event.kind == EventKind.TRADE} >= told
