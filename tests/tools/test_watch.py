"""What a standby sees of the engine that it follows."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from matchbox.shm.board import BOARD_BYTES, Board
from matchbox.tools.watch import Watch
from tests.core.exchange import plan
from tests.integration.conftest import wait_for


@pytest.fixture
def engine() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that does nothing."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def board(engine: "subprocess.Popen[bytes]") -> Board:
    """It is said to run the engine's agents."""
    made = Board.create(bytearray(BOARD_BYTES), 1, os.getpid())
    for thread in plan().threads:
        number = made.add_process(thread.name, None, "park")
        made.processes[number]["pid"] = engine.pid
        for agent in thread.agents:
            made.add_agent(agent, number)
    return made


def test_a_death_is_seen(board: Board, engine: "subprocess.Popen[bytes]") -> None:
    watch = Watch(board, plan(), 0)
    assert watch.look(0) == ""
    engine.kill()
    assert watch.look(60_000) == f"process {engine.pid} has died"
    assert watch.died


def test_silence_counts_once_it_has_lasted(board: Board) -> None:
    watch = Watch(board, plan(), 200)
    assert "has slept" in wait_for(lambda: watch.look(10), "the engine goes round no more")
    board.agents["rounds"] += 1
    assert watch.look(0) == ""


def test_a_stopped_engine_hangs(board: Board, engine: "subprocess.Popen[bytes]") -> None:
    watch = Watch(board, plan(), 200)
    engine.send_signal(signal.SIGSTOP)
    assert "is stopped" in wait_for(lambda: watch.look(10), "it is seen")


def test_who_serves_a_call_does_not_hang(board: Board) -> None:
    board.agents["serving"] = 1
    watch = Watch(board, plan(), 20)
    assert [watch.look(10) for _ in range(10)] == [""] * 10


def test_a_bell_is_heard_once(board: Board) -> None:
    bell = os.eventfd(0, os.EFD_NONBLOCK)
    watch = Watch(board, plan(), 0)
    watch.also(bell)
    os.eventfd_write(bell, 3)
    assert watch.look(60_000) == ""
    with pytest.raises(BlockingIOError):
        os.eventfd_read(bell)
    watch.kill()
    assert watch.look(60_000).endswith("has died")
    os.close(bell)
