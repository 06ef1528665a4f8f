"""Trades, klines and tickers over REST, against plain Python over the trades that were pulled."""

import time
from collections.abc import Callable, Iterator
from decimal import ROUND_HALF_UP, Decimal
from itertools import groupby
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import matchbox
from matchbox.shm.records import COMMAND, Kind, OrderType, Side, TimeInForce
from tests.gateway.client import Client
from tests.integration.conftest import DEADLINE_S, ExchangeProcess, collect, wait_for
from tests.integration.test_operators import good
from tests.reference import candles as reference
from tests.reference.candles import milliseconds, open_of

SYMBOL, MARKET = "BTCUSD", "BTC/USD"
MORE = "orders_per_ten_seconds = 100000\nweight_per_minute = 10000000"
TICK, LOT = Decimal("0.01"), Decimal("0.0001")
DAY_MS = 86_400_000


def crossing(seed: int, count: int, side: Side) -> NDArray[Any]:
    """Orders around a price that walks; two sides of them trade with each other."""
    random = np.random.default_rng(seed)
    orders = np.zeros(count, COMMAND)
    orders["kind"], orders["market"], orders["side"] = Kind.NEW_ORDER, 1, side
    orders["order_type"], orders["time_in_force"] = OrderType.LIMIT, TimeInForce.GTC
    orders["price_ticks"] = 10_000 + np.cumsum(random.integers(-5, 6, count))
    orders["quantity_lots"] = random.integers(1, 9_000, count)
    return orders


@pytest.fixture(scope="module")
def trades(exchange: ExchangeProcess) -> NDArray[Any]:
    """All trades (TRADE) that were made, pulled; some take a while, and some come at once."""
    with exchange.connect("alice") as alice, exchange.connect("bob") as bob:
        for part in range(8):
            buys, sells = crossing(part, 60, Side.BUY), crossing(100 + part, 60, Side.SELL)
            sells["quantity_lots"][::7] *= 9  # these take many
            collect(alice, alice.submit(buys, timeout=DEADLINE_S) + 59)
            collect(bob, bob.submit(sells, timeout=DEADLINE_S) + 59)
            before = time.time()
            wait_for(lambda before=before: time.time() > before + 0.4, "time goes on")
        last = max(int(s.order(MARKET, "buy", "0.5", "1")) for s in (alice, bob))
        assert last
    rows: list[Any] = []
    with matchbox.pull(exchange.data, "trades", market=MARKET) as pull:

        def quiet() -> bool:
            rows.extend(found := pull.read(limit=10_000, timeout=0.3))
            return not len(found) and bool(rows)

        wait_for(quiet, "all trades are there")
    return np.array(rows)


@pytest.fixture
def anybody(address: str) -> Iterator[Client]:
    found = Client(address)
    yield found
    found.close()


def price(ticks: int) -> str:
    return f"{ticks * TICK:.8f}"


def quantity(lots: int) -> str:
    return f"{lots * LOT:.8f}"


def value(ticks_times_lots: int) -> str:
    return f"{ticks_times_lots * TICK * LOT:.8f}"


def as_trade(row: Any) -> dict[str, Any]:
    ticks, lots = int(row["price_ticks"]), int(row["quantity_lots"])
    return {
        "id": int(row["trade_id"]),
        "price": price(ticks),
        "qty": quantity(lots),
        "quoteQty": value(ticks * lots),
        "time": int(row["timestamp_ns"]) // 1_000_000,
        "isBuyerMaker": int(row["side"]) == 2,
        "isBestMatch": True,
    }


# ---- trades


def test_trades_are_those_that_are_pulled(anybody: Client, trades: NDArray[Any]) -> None:
    expected = [as_trade(row) for row in trades]
    assert len(expected) > 300
    assert len({row["time"] // 1000 for row in expected}) >= 3
    for path in ("trades", "historicalTrades"):
        assert anybody.get(path, symbol=SYMBOL, limit=1000).body == expected[-1000:]
        assert anybody.get(path, symbol=SYMBOL, limit=7).body == expected[-7:]
        assert anybody.get(path, symbol="BTCUSD2").body == []
    for number in (0, 1, 5, len(expected), len(expected) + 1):
        found = anybody.get("historicalTrades", symbol=SYMBOL, fromId=number, limit=3).body
        assert found == expected[max(number - 1, 0) :][:3]


def aggregated(trades: NDArray[Any]) -> list[dict[str, Any]]:
    """Of one order at one price, by one record."""
    found = []
    for _, group in groupby(trades, lambda t: (t["sequence"], t["order_id"], t["price_ticks"])):
        rows = list(group)
        found.append(
            {
                "a": int(rows[0]["trade_id"]),
                "p": price(int(rows[0]["price_ticks"])),
                "q": quantity(sum(int(row["quantity_lots"]) for row in rows)),
                "f": int(rows[0]["trade_id"]),
                "l": int(rows[-1]["trade_id"]),
                "T": int(rows[0]["timestamp_ns"]) // 1_000_000,
                "m": int(rows[0]["side"]) == 2,
                "M": True,
            }
        )
    return found


def test_aggregates_are_of_one_order_at_one_price(anybody: Client, trades: NDArray[Any]) -> None:
    expected = aggregated(trades)
    assert any(row["l"] > row["f"] for row in expected)

    def asked(**more: Any) -> Any:
        return anybody.get("aggTrades", symbol=SYMBOL, **more).body

    assert asked(limit=1000) == expected[-1000:]
    assert asked(limit=3) == expected[-3:]
    assert asked(fromId=1, limit=1000) == expected[:1000]
    for row in expected[::9]:
        # From the middle of one on, the next is the first.
        for number in {row["f"], row["l"], row["l"] + 1}:
            wanted = [each for each in expected if each["a"] >= number][:2]
            assert asked(fromId=number, limit=2) == wanted
    start, end = expected[len(expected) // 3]["T"], expected[len(expected) // 2]["T"]
    between = [row for row in expected if start <= row["T"] <= end]
    assert asked(startTime=start, endTime=end, limit=1000) == between
    assert asked(startTime=start, limit=5) == between[:5]
    assert asked(endTime=end, limit=5) == between[-5:]
    assert asked(startTime=expected[-1]["T"] + 1) == []
    # Page by page.
    paged: list[Any] = []
    while page := asked(fromId=paged[-1]["a"] + 1 if paged else 0, limit=50):
        paged += page
    assert paged == expected


# ---- klines


def dense(trades: NDArray[Any], name: str, until_ms: int) -> list[list[Any]]:
    """Klines from the first trade's to that of a time, as clients have them."""
    there = {candle.open_ms: candle for candle in reference.candles(trades, name)}
    moment = open_of(reference.EPOCH + _ms(min(there)), name)
    found = []
    close = 0
    while milliseconds(moment) <= until_ms:
        at = milliseconds(moment)
        step = _ms(1000 * reference.SECONDS.get(name, 86_400))
        following = moment + step
        while open_of(following, name) == moment:
            following += step
        candle = there.get(at) or reference.Candle(at, close, close, close, close)
        close = candle.close
        found.append(
            [
                at,
                *(price(each) for each in (candle.open, candle.high, candle.low, close)),
                quantity(candle.volume),
                milliseconds(following) - 1,
                value(candle.value),
                candle.trades,
                quantity(candle.taker_volume),
                value(candle.taker_value),
                "0",
            ]
        )
        moment = following
    return found


def _ms(count: int) -> Any:
    return reference.timedelta(milliseconds=count)


@pytest.mark.parametrize("name", reference.NAMES)
def test_klines_are_those_of_plain_python(name: str, anybody: Client, trades: NDArray[Any]) -> None:
    body = anybody.get("klines", symbol=SYMBOL, interval=name, limit=1000).body
    expected = dense(trades, name, body[-1][0])
    assert body == expected[-1000:]
    assert time.time() * 1000 < body[-1][6] + 60_000
    first = expected[0][0]
    for start in (0, first, first + 1):
        after = [row for row in expected if row[0] >= start]
        last = after[:2][-1:]
        found = anybody.get("klines", symbol=SYMBOL, interval=name, startTime=start, limit=2).body
        assert found[: len(after)] == after[:2] if after else found == []
        if last:
            end = last[0][0]
            until = anybody.get(
                "uiKlines", symbol=SYMBOL, interval=name, startTime=start, endTime=end
            ).body
            assert until == [row for row in after if row[0] <= end]
    ended = anybody.get("klines", symbol=SYMBOL, interval=name, endTime=first, limit=5).body
    assert ended == expected[:1]
    assert anybody.get("klines", symbol=SYMBOL, interval=name, endTime=first - 1).body == []
    assert anybody.get("klines", symbol="BTCUSD2", interval=name).body == []


@pytest.mark.parametrize("zone", ["0", "8", "-1:00", "05:45", "14", "-12"])
@pytest.mark.parametrize("name", ["1m", "1h", "4h", "1d", "1w", "1M"])
def test_klines_can_be_by_another_clock(
    zone: str, name: str, anybody: Client, trades: NDArray[Any]
) -> None:
    hours, _, minutes = zone.partition(":")
    shift = (abs(int(hours)) * 60 + int(minutes or 0)) * 60_000
    shift = -shift if zone.startswith("-") else shift
    body = anybody.get("klines", symbol=SYMBOL, interval=name, timeZone=zone).body
    shifted = trades.copy()
    shifted["timestamp_ns"] = (trades["timestamp_ns"].astype(np.int64) + shift * 1_000_000).astype(
        np.uint64
    )
    expected = dense(shifted, name, body[-1][0] + shift)
    for row in expected:
        row[0], row[6] = row[0] - shift, row[6] - shift
    assert body == expected[-500:]


def test_the_average_price_is_of_the_last_minutes(anybody: Client, trades: NDArray[Any]) -> None:
    body = anybody.get("avgPrice", symbol=SYMBOL).body
    ticks = [int(row["price_ticks"]) * int(row["quantity_lots"]) for row in trades]
    average = sum(ticks) * TICK / int(trades["quantity_lots"].sum())
    assert body["mins"] == 5
    assert body["price"] == f"{average.quantize(Decimal('1e-8'), ROUND_HALF_UP):.8f}"
    assert body["closeTime"] == int(trades["timestamp_ns"][-1]) // 1_000_000
    assert anybody.get("avgPrice", symbol="BTCUSD2").body["price"] == "0.00000000"


# ---- tickers


def statistics(trades: NDArray[Any], body: dict[str, Any]) -> dict[str, Any]:
    """What a window is that begins when `body` says."""
    open_ms = body["openTime"]
    inside = [row for row in trades if int(row["timestamp_ns"]) // 1_000_000 >= open_ms]
    before = [row for row in trades if int(row["timestamp_ns"]) // 1_000_000 < open_ms]
    prices = [int(row["price_ticks"]) for row in inside]
    lots = [int(row["quantity_lots"]) for row in inside]
    total = sum(p * q for p, q in zip(prices, lots, strict=True))
    average = (total * TICK / sum(lots)).quantize(Decimal("1e-8"), ROUND_HALF_UP)
    change = Decimal(prices[-1] - prices[0]) * 100 / prices[0]
    return {
        "symbol": SYMBOL,
        "priceChange": price(prices[-1] - prices[0]),
        "priceChangePercent": f"{change.quantize(Decimal('0.001'), ROUND_HALF_UP):.3f}",
        "weightedAvgPrice": f"{average:.8f}",
        "prevClosePrice": price(int(before[-1]["price_ticks"]) if before else 0),
        "lastPrice": price(prices[-1]),
        "lastQty": quantity(lots[-1]),
        "openPrice": price(prices[0]),
        "highPrice": price(max(prices)),
        "lowPrice": price(min(prices)),
        "volume": quantity(sum(lots)),
        "quoteVolume": value(total),
        "openTime": open_ms,
        "closeTime": body["closeTime"],
        "firstId": int(inside[0]["trade_id"]),
        "lastId": int(inside[-1]["trade_id"]),
        "count": len(inside),
    }


def test_the_ticker_of_a_day_is_that_of_plain_python(anybody: Client, trades: NDArray[Any]) -> None:
    body = anybody.get("ticker/24hr", symbol=SYMBOL).body
    best = anybody.get("ticker/bookTicker", symbol=SYMBOL).body
    assert body == statistics(trades, body) | best
    assert 0 <= body["closeTime"] - body["openTime"] - DAY_MS < 1000
    assert abs(body["closeTime"] - time.time() * 1000) < 60_000
    mini = anybody.get("ticker/24hr", symbol=SYMBOL, type="MINI").body
    assert mini | {"closeTime": 0, "openTime": 0} == {name: body[name] for name in mini} | {
        "closeTime": 0,
        "openTime": 0,
    }
    assert "priceChange" not in mini
    everybody = anybody.get("ticker/24hr").body
    assert [row["symbol"] for row in everybody] == ["BTCUSD", "BTCUSD2"]
    (quiet,) = anybody.get("ticker/24hr", symbols='["BTCUSD2"]').body
    assert (quiet["count"], quiet["firstId"], quiet["lastPrice"]) == (0, -1, "0.00000000")


@pytest.mark.parametrize(
    ("size", "length_ms"),
    [("1m", 60_000), ("59m", 59 * 60_000), ("4h", 14_400_000), ("7d", 7 * DAY_MS)],
)
def test_windows_of_any_size_are_those_of_plain_python(
    size: str, length_ms: int, anybody: Client, trades: NDArray[Any]
) -> None:
    body = anybody.get("ticker", symbol=SYMBOL, windowSize=size).body
    if body["count"]:  # a loaded machine may be slow
        wanted = statistics(trades, body)
        assert body == {name: wanted[name] for name in body}
    assert body["openTime"] % 60_000 == 0
    assert 0 <= body["closeTime"] - body["openTime"] - length_ms < 60_000
    assert "bidPrice" not in body and "prevClosePrice" not in body


@pytest.mark.parametrize("zone", ["0", "-3", "05:30"])
def test_a_trading_day_is_that_of_a_clock(zone: str, anybody: Client, trades: NDArray[Any]) -> None:
    body = anybody.get("ticker/tradingDay", symbol=SYMBOL, timeZone=zone).body
    hours, _, minutes = zone.partition(":")
    shift = int(hours) * 3_600_000 + int(minutes or 0) * 60_000
    assert (body["openTime"] + shift) % DAY_MS == 0
    assert body["closeTime"] == body["openTime"] + DAY_MS - 1
    assert body["openTime"] <= time.time() * 1000 <= body["closeTime"] + 60_000
    if body["count"]:  # unless it has just begun
        wanted = statistics(trades, body)
        assert body == {name: wanted[name] for name in body}
    (other,) = anybody.get("ticker/tradingDay", symbols='["BTCUSD2"]', type="MINI").body
    assert other["count"] == 0


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("klines?symbol=BTCUSD", -1102),
        ("klines?symbol=BTCUSD&interval=7m", -1120),
        ("klines?symbol=BTCUSD&interval=1m&timeZone=15", -1130),
        ("klines?symbol=BTCUSD&interval=1m&timeZone=UTC", -1100),
        ("klines?symbol=XRPUSD&interval=1m", -1121),
        ("trades", -1102),
        ("historicalTrades?symbol=BTCUSD&fromId=-1", -1100),
        ("aggTrades?symbol=BTCUSD&fromId=1&startTime=1", -1128),
        ("ticker", -1102),
        ("ticker?symbol=BTCUSD&windowSize=60m", -1130),
        ("ticker/tradingDay", -1102),
        ("ticker/24hr?symbol=BTCUSD&type=HUGE", -1130),
        ("avgPrice", -1102),
    ],
)
def test_what_cannot_be_asked_is_refused(anybody: Client, path: str, code: int) -> None:
    response = anybody.send("GET", f"/api/v3/{path}")
    assert (response.status, response.body["code"]) == (400, code), response


@pytest.mark.parametrize("end", [10**13, 10**18, 2**63 - 1])
def test_times_may_be_far_away(end: int, anybody: Client, trades: NDArray[Any]) -> None:
    for path, more in (
        ("klines", {"interval": "1M"}),
        ("klines", {"interval": "1s"}),
        ("aggTrades", {}),
    ):
        some = anybody.get(path, symbol=SYMBOL, endTime=end, **more)
        assert some.status == 200 and some.body
        none = anybody.get(path, symbol=SYMBOL, startTime=end, **more)
        assert none.body == []


def test_all_workers_tell_the_same(address: str, trades: NDArray[Any]) -> None:
    clients = [Client(address) for _ in range(6)]
    answers = [
        client.get("klines", symbol=SYMBOL, interval="1s", startTime=0, limit=10).body
        for client in clients
    ]
    assert all(answer == answers[0] for answer in answers)
    for client in clients:
        client.close()


def test_an_account_trades_and_everybody_sees_it_soon(
    client: Callable[..., Client], trades: NDArray[Any]
) -> None:
    alice, bob = client(1), client(2)
    order = {"symbol": "BTCUSD2", "type": "LIMIT", "timeInForce": "GTC", "price": "7"}
    alice.good("POST", "order", **order, side="BUY", quantity="2")
    sold = bob.good("POST", "order", **order, side="SELL", quantity="2")
    trade = sold["fills"][0]["tradeId"]

    def seen() -> Any:
        found = alice.get("trades", symbol="BTCUSD2").body
        return found and found[-1]["id"] == trade

    wait_for(seen, "the trade is there")
    kline = alice.get("klines", symbol="BTCUSD2", interval="1d", limit=1).body[-1]
    assert (kline[1], kline[5], kline[7], kline[8]) == (
        "7.00000000",
        "2.00000000",
        "14.00000000",
        1,
    )
    wait_for(lambda: alice.get("ticker/24hr", symbol="BTCUSD2").body["count"] == 1, "it is counted")


def test_what_was_traded_in_a_market_of_the_same_number_is_none_of_the_new_ones(
    exchange: ExchangeProcess, client: Callable[..., Client], trades: NDArray[Any]
) -> None:
    alice, bob = client(1), client(2)
    order = {"symbol": "BTCUSD2", "type": "LIMIT", "timeInForce": "GTC"}

    def trade(at: str) -> int:
        alice.good("POST", "order", **order, side="BUY", quantity="2", price=at)
        sold = bob.good("POST", "order", **order, side="SELL", quantity="2", price=at)
        return int(sold["fills"][0]["tradeId"])

    def everything() -> list[Any]:
        public = [
            alice.get(path, symbol="BTCUSD2", **more).body
            for path, more in (
                ("trades", {}),
                ("historicalTrades", {"fromId": 1}),
                ("aggTrades", {}),
                *(("klines", {"interval": each, "startTime": 0}) for each in ("1s", "1h", "1M")),
            )
        ]
        return [
            *public,
            *(alice.good("GET", p, symbol="BTCUSD2") for p in ("allOrders", "myTrades")),
        ]

    trade("8")
    added = ("--base", "BTC", "--quote", "USD", "--lot", "0.01", "--id", "2", "--tick")
    for tick in ("0.5", "0.25"):
        assert all(len(found) for found in everything())
        good(exchange, "market", "remove", "EXCHANGE", "BTC/USD.2")
        assert alice.get("trades", symbol="BTCUSD2").body["code"] == -1121
        good(exchange, "market", "add", "EXCHANGE", "BTC/USD.2", *added, tick)
        for each in (alice, bob):  # it was not there just now, which is remembered for a second
            wait_for(
                lambda each=each: each.get("trades", symbol="BTCUSD2").status == 200, "it is there"
            )
        assert everything() == [[]] * 8
        assert alice.get("ticker/24hr", symbol="BTCUSD2").body["count"] == 0
        number = trade("9.5")
        wait_for(lambda: alice.get("trades", symbol="BTCUSD2").body, "the trade is there")
        assert [len(found) for found in everything()[:3]] == [1, 1, 1]
        for interval in ("1m", "1w"):
            body = alice.get("klines", symbol="BTCUSD2", interval=interval, startTime=0).body
            assert (body[0][3], body[0][8]) == ("9.50000000", 1)
            assert sum(row[8] for row in body) == 1
        assert alice.good("GET", "myTrades", symbol="BTCUSD2")[0]["id"] == number
