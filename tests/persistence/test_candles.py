"""Candles of any trades are those of plain Python; where they begin; sums beyond 64 bits."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from matchbox.persistence.candles import INTERVALS, fold, joined, of_trades, single, wide
from matchbox.shm.streams import TRADE
from tests.reference import candles as reference
from tests.reference.candles import EPOCH, as_reference, milliseconds

DAY_MS = 86_400_000


def trades_of(seed: int, count: int, *, spread_ms: int, market: int = 1) -> NDArray[Any]:
    random = np.random.default_rng(seed)
    rows = np.zeros(count, TRADE)
    times = np.sort(random.integers(0, spread_ms, count)) + 1_709_164_800_000  # 2024-02-29
    rows["timestamp_ns"] = times * 1_000_000 + random.integers(0, 1_000_000, count)
    rows["timestamp_ns"].sort()
    rows["trade_id"] = np.arange(1, count + 1)
    rows["price_ticks"] = random.integers(1, 1 << 40, count)
    rows["quantity_lots"] = random.integers(1, 1 << 22, count)
    rows["side"], rows["market"] = random.integers(1, 3, count), market
    return rows


@pytest.mark.parametrize("name", reference.NAMES)
@pytest.mark.parametrize("spread_ms", [20_000, DAY_MS, 100 * DAY_MS])
def test_candles_are_those_of_plain_python(name: str, spread_ms: int) -> None:
    one, other = trades_of(1, 400, spread_ms=spread_ms), trades_of(2, 300, spread_ms=spread_ms)
    other["market"] = 7
    mixed = np.concatenate([one, other])
    mixed = mixed[np.argsort(mixed["timestamp_ns"], kind="stable")]
    series, rows = of_trades(mixed)
    for market, trades in ((1, one), (7, other)):
        mine = rows[series == market << 8 | INTERVALS[name].number]
        expected = reference.candles(trades, name)
        assert [as_reference(row) for row in mine] == expected


def test_all_intervals_have_a_number_of_their_own() -> None:
    assert list(INTERVALS) == list(reference.NAMES)
    assert [each.number for each in INTERVALS.values()] == list(range(1, 17))


@pytest.mark.parametrize("name", reference.NAMES)
def test_candles_follow_each_other_by_the_calendar(name: str) -> None:
    interval = INTERVALS[name]
    moment = datetime(2023, 12, 31, 23, 59, 58, 999_000, UTC)
    end = min(
        moment + timedelta(days=800), moment + timedelta(milliseconds=(interval.ms or 1) * 500)
    )
    if not interval.ms:
        end = moment + timedelta(days=800)
    opens, at = [], reference.open_of(moment, name)
    while at <= end:
        opens.append(milliseconds(at))
        ahead = at + timedelta(seconds=reference.SECONDS.get(name, 86_400))
        while reference.open_of(ahead, name) == at:
            ahead += timedelta(days=1)
        at = reference.open_of(ahead, name)
    assert interval.between(milliseconds(moment), milliseconds(end)).tolist() == opens
    assert interval.open_of(opens[7] - 1) == opens[6]
    assert interval.after(opens[0]) == opens[1]
    assert interval.after(opens[9], -4) == opens[5]
    assert interval.open_of(milliseconds(EPOCH)) <= 0


def test_sums_go_beyond_64_bits() -> None:
    trades = trades_of(3, 5, spread_ms=100)
    trades["price_ticks"], trades["quantity_lots"] = (1 << 40) - 1, 1 << 22
    rows = of_trades(np.tile(trades, 10))[1]
    value = 50 * ((1 << 40) - 1) << 22
    assert value >= 1 << 64
    assert wide(rows[0]["value"]) == value
    again = np.concatenate([rows[:1]] * 300)
    assert wide(joined(again)["value"]) == 300 * value


def test_adding_trades_bit_by_bit_gives_the_same() -> None:
    trades = trades_of(4, 60, spread_ms=3 * DAY_MS)
    for cut in (1, 17, 59):
        parts = [of_trades(trades[:cut]), of_trades(trades[cut:])]
        series = np.concatenate([part[0] for part in parts])
        rows = np.concatenate([part[1] for part in parts])
        order = np.lexsort((rows["open_ms"], series))
        found = fold(series[order], rows[order], rows["open_ms"][order])
        whole = of_trades(trades)
        assert found[0].tobytes() == whole[0].tobytes()
        assert found[1].tobytes() == whole[1].tobytes()


def test_no_trades_are_no_candle() -> None:
    series, rows = of_trades(np.zeros(0, TRADE))
    assert len(series) == len(rows) == 0
    assert joined(rows) is None
    assert int(single(trades_of(5, 1, spread_ms=1)[0])["trades"]) == 1
