"""Market streams of a busy exchange: nothing is missing, and who does not read harms nobody."""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil

import matchbox
from matchbox.shm.errors import RingFull
from matchbox.shm.records import Kind, OrderType, Side, TimeInForce
from tests.gateway.client import Client
from tests.gateway.conftest import GATEWAY, start
from tests.gateway.listener import Deaf, Listener
from tests.integration.conftest import ExchangeProcess, wait_for

MORE = "orders_per_ten_seconds = 1000000\nweight_per_minute = 10000000"
Make = Callable[..., ExchangeProcess]
ZERO = "0.00000000"


def make_one(make_exchange: Make, **options: Any) -> tuple[ExchangeProcess, str]:
    """A running exchange with one worker, and its address."""
    exchange = make_exchange(archive=True, more=GATEWAY.format(workers=1, more=MORE), **options)
    return exchange, start(exchange)


def apply(book: dict[tuple[str, str], str], message: Any) -> None:
    for side in "ba":
        for price, quantity in message[side]:
            if quantity == ZERO:
                book.pop((side, price), None)
            else:
                book[side, price] = quantity


class Follower(threading.Thread):
    """Keeps a book by diffs, and checks it against snapshots: each that is given is brought
    forward by the next diffs, as the rule says, and must be what is kept then.
    """

    def __init__(self, address: str, stream: str) -> None:
        super().__init__()
        self.client = Client(address)
        self.listener = Listener(address, f"/ws/btcusd@{stream}").ready()
        self.last, self.book = self.snapshot()
        self.begun = False
        self.checked = 0
        self.problems: list[str] = []
        self._open: list[tuple[int, dict[tuple[str, str], str]]] = []
        self.over = threading.Event()

    def snapshot(self) -> tuple[int, dict[tuple[str, str], str]]:
        found = self.client.get("depth", symbol="BTCUSD", limit=5000).body
        book = {("b", price): quantity for price, quantity in found["bids"]}
        return found["lastUpdateId"], book | {("a", p): q for p, q in found["asks"]}

    def check(self) -> None:
        self._open.append(self.snapshot())

    def run(self) -> None:
        while not self.over.is_set() and not self.problems:
            try:
                self.take(self.listener.receive(0.1))
            except TimeoutError:
                continue
        self.listener.close()

    def take(self, message: Any) -> None:
        first, last = message["U"], message["u"]
        if not self.begun and last <= self.last:
            return
        if first != self.last + 1 and (self.begun or not first <= self.last + 1 <= last):
            self.problems.append(f"after {self.last} came {first} to {last}")
        self.begun, self.last = True, last
        apply(self.book, message)
        for number, book in [each for each in self._open if each[0] < last]:
            if number + 1 < first:
                self.problems.append(f"nothing fits the snapshot {number}: {first} to {last}")
            apply(book, message)
            if book != self.book:
                self.problems.append(f"snapshot {number} and diffs to {last} differ")
            self.checked += 1
            self._open.remove((number, book))


class Flow(threading.Thread):
    """Random orders of alice and bob near 100, and now and then a mass cancel."""

    def __init__(self, exchange: ExchangeProcess, seed: int, pause_s: float = 0.01) -> None:
        super().__init__()
        self.sessions = [exchange.connect(name) for name in ("alice", "bob")]
        self.pause_s, self.random = pause_s, np.random.default_rng(seed)
        self.over = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.over.wait(self.pause_s):
            number += 1
            for session in self.sessions:
                session.reports()
                try:
                    if number % 40 == 0:
                        session.mass_cancel()
                    session.submit(self.orders(50))
                except RingFull:
                    continue

    def orders(self, count: int) -> Any:
        orders = np.zeros(count, matchbox.COMMAND)
        orders["kind"], orders["market"] = Kind.NEW_ORDER, 1
        orders["order_type"], orders["time_in_force"] = OrderType.LIMIT, TimeInForce.GTC
        orders["side"] = self.random.choice([Side.BUY, Side.SELL], count)
        orders["price_ticks"] = self.random.integers(9800, 10200, count)
        orders["quantity_lots"] = self.random.integers(1, 1000, count)
        return orders

    def end(self) -> None:
        self.over.set()
        self.join()
        for session in self.sessions:
            session.close()


def follow(follower: Follower, checks: int) -> None:
    """Check it against so many snapshots."""
    for _ in range(checks):
        wanted = follower.checked + 1
        follower.check()
        wait_for(lambda wanted=wanted: follower.checked >= wanted or follower.problems, "a check")
    assert not follower.problems


def check_end(follower: Follower) -> None:
    """Nothing changes any more: what is kept is the book."""
    number, book = follower.snapshot()
    wait_for(lambda: follower.last >= number or follower.problems, "the last diff")
    follower.over.set()
    follower.join()
    assert not follower.problems
    assert follower.last == number and follower.book == book


def test_a_book_kept_by_diffs_is_the_book_at_every_check(make_exchange: Make, seed: int) -> None:
    exchange, address = make_one(make_exchange)
    flow = Flow(exchange, seed)
    flow.start()
    followers = [Follower(address, stream) for stream in ("depth@100ms", "depth")]
    for follower in followers:
        follower.start()
    follow(followers[0], 10)
    follow(followers[1], 2)
    flow.end()
    for follower in followers:
        check_end(follower)
    exchange.down()


def test_a_worker_that_was_stopped_while_the_ring_went_round_leaves_no_gap(
    make_exchange: Make, seed: int
) -> None:
    exchange, address = make_one(make_exchange)
    flow = Flow(exchange, seed, 0.001)
    follower = Follower(address, "depth@100ms")
    follower.start()
    best = Listener(address, "/ws/btcusd@bookTicker").ready()
    flow.start()
    follow(follower, 2)
    (worker,) = exchange.status["gateway"]["workers"]
    with exchange.connect("alice", name="watcher") as watcher:
        data = watcher.market_data()
        os.kill(worker, signal.SIGSTOP)
        begun = data.position
        wait_for(lambda: data.pending > 40_000 or exchange.text().count("ended"), "it went round")
        assert data.position == begun
    os.kill(worker, signal.SIGCONT)
    follow(follower, 2)
    flow.end()
    check_end(follower)
    top = Client(address).get("ticker/bookTicker", symbol="BTCUSD").body
    best.find(lambda m: m["b"] == top["bidPrice"] and m["A"] == top["askQty"], "the best prices")
    best.close()
    exchange.down()


def test_a_takeover_breaks_no_stream_and_leaves_no_gap(make_exchange: Make, seed: int) -> None:
    exchange, address = make_one(make_exchange, standby=True)
    wait_for(lambda: exchange.followed, "a standby follows")
    flow = Flow(exchange, seed)
    follower = Follower(address, "depth@100ms")
    trades = Listener(address, "/ws/btcusd@trade").ready()
    follower.start()
    flow.start()
    follow(follower, 2)
    os.kill(exchange.host_of("sequencer"), signal.SIGKILL)
    wait_for(lambda: "has taken over" in exchange.text(), "the standby has taken over")
    follow(follower, 3)
    flow.end()
    check_end(follower)
    last = 0
    for message in trades.messages():
        assert message["t"] == last + 1 if last else message["t"]
        last = message["t"]
        if last >= 200:
            break
    trades.close()
    exchange.down()


def test_who_does_not_read_is_cut_off_and_harms_nobody(make_exchange: Make) -> None:
    exchange, address = make_one(make_exchange)
    (worker,) = exchange.status["gateway"]["workers"]
    reader = Follower(address, "depth@100ms")
    reader.start()
    deaf = [Deaf(address, "/ws/btcusd@trade/btcusd@aggTrade") for _ in range(12)]
    memory = psutil.Process(worker).memory_info().rss
    with exchange.connect("bob") as bob, exchange.connect("alice") as alice:
        bob.sell("BTC/USD", "100", "100")
        orders = np.zeros(1000, matchbox.COMMAND)
        orders["kind"], orders["market"] = Kind.NEW_ORDER, 1
        orders["order_type"], orders["time_in_force"] = OrderType.LIMIT, TimeInForce.GTC
        orders["side"], orders["price_ticks"], orders["quantity_lots"] = Side.BUY, 10_000, 1

        def cut() -> bool:
            before = reader.last
            alice.submit(orders, timeout=30.0)
            alice.reports()
            wait_for(lambda: reader.last > before, "the reader is told")
            return all(each.cut for each in deaf)

        wait_for(cut, "all are cut off")
        grown = psutil.Process(worker).memory_info().rss - memory
        assert grown < 64 << 20, grown
        ends = [each.read() for each in deaf]
        for count, code, reason in ends:
            assert count < 8 << 20 and code in (0, 1008)
            assert not reason or reason.startswith("Too slow: more than 1048576 bytes")
        follow_one_more(alice, reader)
    check_end(reader)
    for each in deaf:
        each.close()
    exchange.down()


def follow_one_more(session: matchbox.Session, reader: Follower) -> None:
    """It is told of what happens now."""
    last = reader.last
    session.buy("BTC/USD", "1", "50")
    wait_for(lambda: reader.last > last, "a diff")
