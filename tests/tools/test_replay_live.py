"""Replay through a session: the real agents on plain memory, run by a thread of the test."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchbox.shm.errors import EngineDown
from matchbox.tools import config, flows, replay, replay_live
from tests.core.exchange import Exchange, plan


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """An exchange that runs until the test ends."""
    made = Exchange(plan())
    yield made


class Running:
    """Polls an exchange in another thread."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self._stop = exchange, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._exchange.round()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(60)


def test_the_shipped_flow_gives_its_fills_through_the_rings(exchange: Exchange) -> None:
    flow = flows.load(flows.DEMO)
    session = exchange.attach("replay")
    live = replay_live.Live(flow, session)
    with Running(exchange):
        outcome = replay.play(flow, live)
        difference = replay.compare(flow, outcome)
        assert difference is None, difference.text
        assert len(outcome.fills) > 1000


def test_a_flow_can_be_played_again_on_the_same_market_once_it_is_cleaned(
    exchange: Exchange,
) -> None:
    flow = flows.load(flows.DEMO)
    session = exchange.attach("replay")
    with Running(exchange):
        for _ in range(2):
            live = replay_live.Live(flow, session)
            assert replay.compare(flow, replay.play(flow, live)) is None
            assert live.clean() > 50
        assert not len(exchange.book().top().bids)


def test_a_refused_row_is_found_through_the_rings(exchange: Exchange) -> None:
    flow = flows.load(flows.DEMO)
    ops = flow.ops.copy()
    row = int((ops["op"] == b"X").argmax())
    again = flows.make("again", _twice(ops, row), None)
    session = exchange.attach("replay")
    with Running(exchange):
        difference = replay.compare(again, replay.play(again, replay_live.Live(again, session)))
    assert difference is not None and difference.row == row + 1
    assert "refused: UNKNOWN_ORDER" in difference.text


def _twice(ops: Any, row: int) -> Any:
    """OPS with one row there twice."""
    made = np.insert(ops, row, ops[row])
    made["seq"] = np.arange(len(made))
    return made


def test_an_exchange_that_does_nothing_is_noticed(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_live, "_SILENCE_S", 0.2)
    flow = flows.load(flows.DEMO)
    live = replay_live.Live(flow, exchange.attach("replay"))
    with pytest.raises(EngineDown, match="nothing was heard .* taken=0"):
        replay.play(flow, live)


@pytest.mark.parametrize("topology", ["compact", "wide"])
def test_the_configuration_of_a_flow_is_valid_and_admits_all_of_it(topology: str) -> None:
    flow = flows.load(flows.DEMO)
    made = config.parse(
        replay_live.config_text(
            flow, instance="replay-1", data=Path("/nowhere"), topology=topology
        ),
        Path("flow.toml"),
    )
    assert made.data == Path("/nowhere")
    (market,) = made.markets
    assert market.max_price_ticks == flow.max_price_ticks
    assert flow.max_orders < market.max_orders <= len(flow.ops)
    assert market.notional_units == market.lot_units == 1
