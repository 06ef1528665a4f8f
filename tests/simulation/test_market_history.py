"""Windows, candles and aggregates of random logs whose trades are spread over days and hours."""

import os
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from matchbox.gateway.market_history import MarketHistory
from matchbox.persistence.candles import INTERVALS
from matchbox.persistence.views import Views
from matchbox.shm.market import Market
from matchbox.shm.records import MARKET_RECORD, Kind
from matchbox.tools.archiving import VIEWS
from tests.reference import candles as reference
from tests.reference.candles import as_reference
from tests.simulation.archive import configure, write_journal
from tests.simulation.commands import Random
from tests.simulation.test_exchange import play
from tests.simulation.test_views import archive
from tests.simulation.world import World

S_NS, MS_NS = 10**9, 10**6
PARTS, COMMANDS = 50, 30
PAUSES_S = (0.4, 1, 7, 61, 400, 3_000, 9_000)


class Spread:
    """A world whose log has pauses of seconds to hours, and its views."""

    def __init__(self, folder: Path, seed: int) -> None:
        world, random = World(), np.random.default_rng(seed)
        for number in range(PARTS):
            play(world, Random(seed * 1000 + number), COMMANDS)
            world.advance(int(random.choice(PAUSES_S) * S_NS * random.uniform(0.5, 1.5)))
        play(world, Random(seed), COMMANDS)
        self.folder = folder
        write_journal(folder, world.exchange.log, seed)
        self.config = configure(folder, world)
        archive(self)


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Views:
    seed = int(os.environ.get("MATCHBOX_TEST_SEED", "1"))
    return Views(Spread(tmp_path_factory.mktemp("spread"), seed).folder / VIEWS)


@pytest.fixture(scope="module")
def history(views: Views) -> MarketHistory:
    return MarketHistory(views.directory)


@pytest.fixture(scope="module")
def market(views: Views) -> Market:
    """The one that was traded most, of those that were always the same."""
    rows = views.definitions()
    rows = rows[rows["kind"] == Kind.ADD_MARKET].view(MARKET_RECORD)
    numbers, counts = np.unique(rows["market"], return_counts=True)
    rows = rows[np.isin(rows["market"], numbers[counts == 1])]
    found = max(rows, key=lambda row: len(views.trades(int(row["market"]), limit=10**6)[0]))
    return Market.from_record(found, "A", 8, "B", 8)


@pytest.fixture(scope="module")
def trades(views: Views, market: Market) -> NDArray[Any]:
    rows, _ = views.trades(market.number, limit=10**6)
    seconds = np.unique(rows["timestamp_ns"] // S_NS)
    assert len(rows) > 15 and len(seconds) > 5
    assert len(np.unique(rows["timestamp_ns"] // (86_400 * S_NS))) >= 2
    return rows


def test_windows_have_all_trades_since_their_first_second(
    history: MarketHistory, market: Market, trades: NDArray[Any]
) -> None:
    times = (trades["timestamp_ns"] // MS_NS).astype(np.int64)
    now = int(times[-1]) + 5
    starts = {int(at) + change for at in times[::3] for change in (-1, 0, 1, 999, 60_000)}
    for start in sorted({0, int(times[0]) - 86_400_000, *starts}):
        first = start // 1000 * 1000
        inside = trades[times >= first]
        found = history.window(market, start, now)
        if not len(inside):
            assert found is None
            continue
        at_once = inside.copy()
        at_once["timestamp_ns"] = inside["timestamp_ns"][0]
        (wanted,) = reference.candles(at_once, "1M")
        got = as_reference(found)
        assert got == reference.Candle(**{**wanted.__dict__, "open_ms": got.open_ms})
        before = trades[times < first]
        closed = int(before[-1]["price_ticks"]) if len(before) else 0
        assert history.close_before(market, start) == closed


@pytest.mark.parametrize("name", reference.NAMES)
def test_candles_are_made_of_all_trades(
    name: str, views: Views, market: Market, trades: NDArray[Any]
) -> None:
    rows = views.candles(market.number, INTERVALS[name], 0, 1 << 50, limit=10**6)
    assert [as_reference(row) for row in rows] == reference.candles(trades, name)


@pytest.mark.parametrize("hours", [0, 3, -7])
@pytest.mark.parametrize("name", ["1m", "15m", "4h", "1d", "1w"])
def test_candles_follow_each_other_from_any_time(
    name: str, hours: int, history: MarketHistory, market: Market, trades: NDArray[Any]
) -> None:
    interval, shift = INTERVALS[name], hours * 3_600_000
    moved = trades.copy()
    moved["timestamp_ns"] = trades["timestamp_ns"].astype(np.int64) + shift * MS_NS
    there = {each.open_ms - shift: each for each in reference.candles(moved, name)}
    now = int(trades["timestamp_ns"][-1]) // MS_NS + 3 * interval.ms
    opens = sorted(there)
    for start in (0, opens[0] + 1, opens[len(opens) // 2], opens[-1] - 1, opens[-1] + 1):
        rows = history.candles(market, interval, 300, now, start_ms=start, shift_ms=shift)
        first = int(rows[0]["open_ms"])
        assert first >= start and (first - opens[0]) % interval.ms == 0
        assert np.diff(rows["open_ms"]).tolist() == [interval.ms] * (len(rows) - 1)
        earlier = [at for at in opens if at < first]
        close = there[earlier[-1]].close if earlier else 0
        for row in rows:
            wanted = there.get(int(row["open_ms"]))
            if wanted is None:
                got = as_reference(row)
                assert (got.open, got.high, got.low, got.close) == (close,) * 4
                assert (got.volume, got.value, got.trades) == (0, 0, 0)
            else:
                assert as_reference(row).__dict__ | {"open_ms": 0} == wanted.__dict__ | {
                    "open_ms": 0
                }
                close = wanted.close
    last = history.candles(market, interval, 4, now, shift_ms=shift)
    assert int(last[-1]["open_ms"]) <= now < int(last[-1]["open_ms"]) + interval.ms
    assert len(last) <= 4


def test_aggregates_are_the_same_from_either_end(
    history: MarketHistory, market: Market, trades: NDArray[Any]
) -> None:
    groups = groupby(trades, lambda t: (t["sequence"], t["order_id"], t["price_ticks"]))
    wanted = [int(next(rows)["trade_id"]) for _, rows in groups]
    assert [each.number for each in history.aggregates(market, 10**6)] == wanted
    for limit in (1, 7, len(wanted), len(wanted) + 5):
        found = [each.number for each in history.last_aggregates(market, limit)]
        assert found == wanted[-limit:]
    for number in range(1, len(trades) + 2):
        found = [each.number for each in history.aggregates(market, 3, number=number)]
        assert found == [each for each in wanted if each >= number][:3]
