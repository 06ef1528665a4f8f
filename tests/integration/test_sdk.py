"""What a bot's author relies on: waits of three kinds, arrays, errors that say what is wrong."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

import matchbox
from matchbox import COMMAND, EventKind
from matchbox.shm.reasons import describe
from tests.integration.conftest import ExchangeProcess, collect, wait_for

Make = Callable[..., ExchangeProcess]


def orders(count: int, price: int = 100) -> np.ndarray:
    batch = np.zeros(count, COMMAND)
    batch["kind"], batch["market"], batch["side"] = matchbox.Kind.NEW_ORDER, 1, matchbox.Side.BUY
    batch["order_type"], batch["time_in_force"] = 1, 1
    batch["price_ticks"], batch["quantity_lots"] = price, 1
    return batch


def all_stopped(pid: int) -> bool:
    """Whether a stop signal has reached all threads: the call that sends it does not wait."""
    states = [
        (task / "stat").read_text().rsplit(")", 1)[1].split()[0]
        for task in Path(f"/proc/{pid}/task").iterdir()
    ]
    return set(states) == {"T"}


@pytest.mark.parametrize("wait", ["park", "spin"])
def test_a_report_ends_a_wait_of_either_kind(exchange_process: ExchangeProcess, wait: str) -> None:
    with (
        exchange_process.connect("alice", wait=wait) as session,
        exchange_process.connect("bob") as other,
    ):
        session.sell("BTC/USD", "0.0001", "10", client_order_id="wanted")
        collect(session, 1)
        thread = threading.Timer(0.05, lambda: other.buy("BTC/USD", "0.0001", "10"))
        thread.start()
        (report,) = session.reports(timeout=30)
        thread.join()
        assert report["kind"] == EventKind.TRADE
        assert report["client_order_id"] == b"wanted"


def test_reports_come_into_an_array_of_the_bots_own(exchange_process: ExchangeProcess) -> None:
    with exchange_process.connect() as session:
        mine = np.zeros(3, matchbox.REPORT)
        first = session.submit(orders(5))
        answered: list[int] = []
        while len(answered) < 5:
            found = session.reports(timeout=30, out=mine)
            assert 1 <= len(found) <= 3
            assert np.shares_memory(found, mine)
            answered += found["command_position"].tolist()
        assert answered == list(range(first, first + 5))
        for wrong in (mine[::2], mine[:0], mine["order_id"], [mine], mine.reshape(3, 1)):
            with pytest.raises(matchbox.BadArgument, match="out must be"):
                session.reports(out=wrong)


def test_a_wait_ends_at_its_timeout_with_nothing(exchange_process: ExchangeProcess) -> None:
    with exchange_process.connect() as session:
        began = time.monotonic()
        assert len(session.reports(timeout=0.05)) == 0
        assert time.monotonic() - began >= 0.05
        assert len(session.reports()) == 0


def test_asyncio_waits_without_holding_up_others(exchange_process: ExchangeProcess) -> None:
    async def main() -> list[str]:
        ticks = 0
        with exchange_process.connect() as session:

            async def tick() -> None:
                nonlocal ticks
                while True:
                    await asyncio.sleep(0.001)
                    ticks += 1

            ticking = asyncio.create_task(tick())
            nothing = await session.reports_async(timeout=0.05)
            assert len(nothing) == 0
            assert ticks > 2
            session.sell("BTC/USD", "0.0002", "10")
            session.buy("BTC/USD", "0.0003", "10")
            kinds = []
            async for report in session.stream():
                kinds.append(EventKind(report["kind"]).name)
                if len(kinds) == 4:
                    break
            ticking.cancel()
            return kinds

    kinds = asyncio.run(main())
    assert kinds == ["ACCEPTED", "ACCEPTED", "TRADE", "TRADE"]


WAITING = """
import asyncio, matchbox, os, signal, sys, threading
session = matchbox.connect(sys.argv[1], account="alice", wait=sys.argv[2])
market_data = session.market_data()

async def in_asyncio():
    return await session.reports_async()

# Whenever it comes: before the wait, too.
interrupt = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
try:
    interrupt.start()
    {wait}
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("strategy", ["park", "spin"])
@pytest.mark.parametrize(
    "wait",
    [
        "session.reports(timeout=None)",
        "list(session)",
        "market_data.read(timeout=None)",
        "asyncio.run(in_asyncio())",
    ],
)
def test_ctrl_c_ends_a_wait_without_end(
    exchange_process: ExchangeProcess, strategy: str, wait: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING.format(wait=wait), str(exchange_process.data), strategy],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as bot:
        try:
            assert bot.stdout is not None
            wait_for(lambda: bot.poll() is not None, "the bot has ended")
            assert bot.stdout.read() == "interrupted\n"
        finally:
            bot.kill()


@pytest.mark.parametrize("strategy", ["park", "spin"])
def test_a_cancelled_wait_in_asyncio_ends_its_thread_and_the_session_goes_on(
    exchange_process: ExchangeProcess, strategy: str
) -> None:
    def waiting_threads() -> int:
        return sum(thread.name.startswith("asyncio_") for thread in threading.enumerate())

    async def main(session: matchbox.Session) -> None:
        for wait in (session.reports_async, session.market_data().read_async):
            threads = waiting_threads()
            task = asyncio.create_task(wait())
            while waiting_threads() == threads:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with exchange_process.connect(wait=strategy) as session:
        runner = threading.Thread(target=asyncio.run, args=(main(session),), daemon=True)
        runner.start()
        runner.join(30)
        assert not runner.is_alive()
        assert collect(session, session.buy("BTC/USD", "0.0001", "1"))


def test_sessions_that_come_and_go_leave_no_descriptors(exchange_process: ExchangeProcess) -> None:
    exchange_process.connect().close()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        session = exchange_process.connect()
        market_data = session.market_data()
        session.close()
        assert len(market_data.read()) == 0
        del session, market_data
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_name_that_is_taken_is_refused_once(exchange_process: ExchangeProcess) -> None:
    with exchange_process.connect(name="mine"):
        with pytest.raises(matchbox.SessionError) as refusal:
            exchange_process.connect(name="mine")
        text = describe(matchbox.Reason.ALREADY_EXISTS)
        assert str(refusal.value) == f"{text}: name=mine, account=1"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"account": "x" * 37}, "account must be up to 36"),
        ({"account": 1}, "account must be a str"),
        ({"name": "x" * 37}, "name must be up to 36"),
        ({"name": "a b"}, "printable"),
        ({"wait": "x"}, "wait must be one of park, spin"),
        ({"capabilities": 1 << 40}, "capabilities is out of range"),
        ({"capabilities": -1}, "capabilities is out of range"),
        ({"capabilities": "all"}, "capabilities must be an integer"),
        ({"timeout": -1}, "a time above 0"),
        ({"timeout": None}, "a time above 0"),
        ({"timeout": "a"}, "timeout must be"),
        ({"timeout": float("nan")}, "timeout must be"),
    ],
)
def test_connecting_with_a_bad_argument_attaches_nothing(
    shared_exchange: ExchangeProcess, arguments: dict[str, object], text: str
) -> None:
    with pytest.raises(matchbox.BadArgument, match=text):
        shared_exchange.connect(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", [None, "", 7, b"x", "a\0b", "no/such/folder"])
def test_a_place_that_is_none_is_refused(
    place: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(matchbox.BadArgument, match="data folder"):
        matchbox.connect(place)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"maximum": -1}, "maximum is out of range"),
        ({"maximum": 1.5}, "maximum must be an integer"),
        ({"timeout": float("inf")}, "timeout must be"),
        ({"timeout": float("nan")}, "timeout must be"),
        ({"timeout": "a"}, "timeout must be"),
    ],
)
def test_reading_with_a_bad_argument_is_refused(
    shared_session: matchbox.Session, arguments: dict[str, object], text: str
) -> None:
    market_data = shared_session.market_data()
    for read in (shared_session.reports, market_data.read):
        with pytest.raises(matchbox.BadArgument, match=text):
            read(**arguments)  # type: ignore[arg-type, operator]
    for read_async in (shared_session.reports_async, market_data.read_async):
        with pytest.raises(matchbox.BadArgument, match=text):
            asyncio.run(read_async(**arguments))  # type: ignore[arg-type, operator]


def test_iterating_ends_with_the_session(exchange_process: ExchangeProcess) -> None:
    session = exchange_process.connect()
    session.buy("BTC/USD", "0.0001", "10")
    collect(session, 1)
    stopping = threading.Timer(0.05, exchange_process.down)
    stopping.start()
    kinds = [EventKind(report["kind"]).name for report in session]
    stopping.join()
    assert kinds == ["DETACHED"]
    with pytest.raises(matchbox.Detached, match="stopped"):
        session.reports()
    with pytest.raises(matchbox.Detached):
        session.buy("BTC/USD", "0.0001", "10")


def test_a_hundred_thousand_orders_go_through_a_ring_of_four_thousand(
    exchange_process: ExchangeProcess,
) -> None:
    with exchange_process.connect() as session:
        batch = orders(100_000)
        batch["time_in_force"] = matchbox.TimeInForce.IOC
        with pytest.raises(matchbox.BadArgument, match="more commands than the ring can hold"):
            session.submit(batch)
        answered = 0
        for first in range(0, len(batch), 2048):
            session.submit(batch[first : first + 2048], timeout=30)
            while answered < min(first, len(batch)):
                answered = int(session.reports(timeout=30)["command_position"][-1])
        while answered < len(batch):
            answered = int(session.reports(timeout=30)["command_position"][-1])
        assert session.sent == answered == 100_000


def test_a_full_ring_is_an_error_and_nothing_of_the_batch_is_sent(
    exchange_process: ExchangeProcess,
) -> None:
    with exchange_process.connect() as session:
        host = psutil.Process(exchange_process.host_of("sequencer"))
        host.suspend()
        try:
            wait_for(lambda: all_stopped(host.pid), "every thread has stopped")
            session.submit(orders(session.capacity - 10))
            with pytest.raises(matchbox.RingFull, match="nothing was sent: free=10, wanted=11"):
                session.submit(orders(11))
            with pytest.raises(matchbox.RingFull):
                session.submit(orders(11), timeout=0.02)
            assert session.sent == session.capacity - 10
        finally:
            host.resume()
        collect(session, session.sent)


def test_a_dead_engine_is_an_error_and_not_a_hang(make_exchange: Make) -> None:
    exchange = make_exchange().up()
    session = exchange.connect()
    book = session.book("BTC/USD")
    psutil.Process(exchange.host_of("sequencer")).kill()
    with pytest.raises((matchbox.EngineDown, matchbox.Detached)):
        while True:
            session.reports(timeout=30)
    with pytest.raises((matchbox.EngineDown, matchbox.Detached)):
        for _ in range(session.capacity + 1):
            session.submit(orders(1), timeout=30)
    assert book.top().bids.tolist() == []
    wait_for(lambda: exchange.process and exchange.process.poll() is not None, "up has ended")
    with pytest.raises(matchbox.EngineDown):
        exchange.connect()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"quantity": 0.1, "price": "1"}, "never a float"),
        ({"quantity": "0.00001", "price": "1"}, "lot_size"),
        ({"quantity": "1", "price": "1.001"}, "tick_size"),
        ({"quantity": "x", "price": "1"}, "quantity"),
        ({"quantity": "1", "quantity_lots": 1}, "not both"),
        ({"price": "1"}, "give quantity or quantity_lots"),
        ({"quantity": "1", "price": "1", "time_in_force": "DAY"}, "GTC"),
        ({"quantity": "1", "price": "1", "client_order_id": "a b"}, "printable"),
        ({"quantity": "1", "price": "1", "client_order_id": "x" * 37}, "36"),
        ({"quantity": "1", "price": "1", "account": -1}, "out of range"),
    ],
)
def test_a_bad_argument_says_what_is_wrong_and_sends_nothing(
    shared_session: matchbox.Session, arguments: dict[str, object], text: str
) -> None:
    before = shared_session.sent
    with pytest.raises(matchbox.BadArgument, match=text):
        shared_session.order("BTC/USD", "buy", **arguments)  # type: ignore[arg-type]
    assert shared_session.sent == before


def test_arrays_of_another_kind_are_refused(shared_session: matchbox.Session) -> None:
    for bad in (np.zeros(3), np.zeros((2, 2), COMMAND), [1, 2], None):
        with pytest.raises(matchbox.BadArgument, match="dtype COMMAND"):
            shared_session.submit(bad)  # type: ignore[arg-type]
    with pytest.raises(matchbox.BadArgument, match="wait must be one of"):
        matchbox.shm.session.Session(
            None, *_rings(), number=1, name="", account=0, wait="sometimes"
        )
    with pytest.raises(matchbox.SessionError):
        shared_session.buy("NO/SUCH", "1", "1")


def _rings() -> list[object]:
    from matchbox.shm.ring import Ring, ring_bytes

    return [Ring.create(bytearray(ring_bytes(8)), capacity=8) for _ in range(2)]


@pytest.fixture(scope="module")
def shared_exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExchangeProcess]:
    instance = f"sdk-{os.getpid()}"
    exchange = ExchangeProcess(tmp_path_factory.mktemp("sdk"), instance, "compact").up()
    try:
        yield exchange
    finally:
        exchange.end()


@pytest.fixture(scope="module")
def shared_session(shared_exchange: ExchangeProcess) -> Iterator[matchbox.Session]:
    with shared_exchange.connect() as session:
        yield session
