"""The memory orderings that rings and parking live by: each is needed, and leaving it out is found.

Three ways to look, since none sees everything: ThreadSanitizer (happens-before between threads), a
model of park.h on a machine with store buffers (every interleaving), and a litmus test on this one.
"""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
HARNESS = Path(__file__).parent / "harness"
RACE = 66  # ThreadSanitizer's exit status
Compile = Callable[..., Path]


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    """compiled(source, *flags): the program."""

    def make(source: str, *flags: str) -> Path:
        program = tmp_path / f"program-{len(list(tmp_path.iterdir()))}"
        command = [os.environ.get("CC", "cc"), "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]
        command += [f"-I{ROOT / 'shm'}", str(HARNESS / source), "-pthread", "-o", str(program)]
        subprocess.run([*command, *flags], check=True, capture_output=True, text=True)
        return program

    return make


# ---- ThreadSanitizer -----------------------------------------------------------------------------


def sanitized(compiled: Compile, *flags: str) -> subprocess.CompletedProcess[str]:
    try:
        program = compiled("threads.c", "-fsanitize=thread", "-g", *flags)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this compiler has no ThreadSanitizer: {error.stderr.splitlines()[-1]}")
    # ThreadSanitizer needs its places in memory; some kernels shuffle too much.
    command = ["setarch", os.uname().machine, "-R", str(program)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if "unexpected memory mapping" in result.stderr or "setarch" in result.stderr:
        pytest.skip(f"ThreadSanitizer does not run here: {result.stderr.splitlines()[0]}")
    return result


def test_thread_sanitizer_finds_nothing_in_the_ring(compiled: Compile) -> None:
    result = sanitized(compiled)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("planted", ["MB_PLANT_RELAXED_PUBLISH", "MB_PLANT_RELAXED_RELEASE"])
def test_thread_sanitizer_finds_a_relaxed_store_in_place_of_a_release(
    compiled: Compile, planted: str
) -> None:
    result = sanitized(compiled, f"-D{planted}")
    assert result.returncode == RACE, result.stderr
    assert "data race" in result.stderr


# ---- parking: a model ----------------------------------------------------------------------------

# Operations of the model by what the header says, in order.
_STEPS = {
    r"__atomic_store_n\(word, (\d), __ATOMIC_RELAXED\)": "store",
    r"mb_fence_full\(\)": "fence",
    r"__atomic_load_n\(word, __ATOMIC_RELAXED\)": "load",
    r"FUTEX_WAKE\b": "wake",
    r"FUTEX_WAIT\b": "wait",
    r"mb_unannounce\(word\)": "clear",
}


def steps_of(header: str, function: str) -> list[tuple[str, int]]:
    """What a function of park.h does to its word."""
    body = re.search(rf"\b{function}\(.*?\) \{{(.*?)\}}\n", header, re.DOTALL)
    assert body is not None, function
    found = []
    for pattern, step in _STEPS.items():
        for match in re.finditer(pattern, body[1]):
            value = int(match[1]) if step == "store" else 0
            found.append((match.start(), "store" if step == "clear" else step, value))
    return [(step, value) for _, step, value in sorted(found)]


class State(NamedTuple):
    """Of the model. Threads: 0 the sleeper, then the wakers; buffers hold (variable, value)."""

    memory: tuple[int, ...]  # the park word, then a published record of each waker
    buffers: tuple[tuple[tuple[int, int], ...], ...]
    places: tuple[int, ...]
    loaded: tuple[int, ...]
    seen: frozenset[int]
    asleep: bool


SLEEPER, WORD = 0, 0


class Model:
    """Every run of one sleeper and some wakers, on processors that buffer their stores (x86-TSO).

    The sleeper takes records until it has all; what a futex call does is atomic and drains its
    caller's buffer, as a system call does. Waits have no timeout here.
    """

    def __init__(self, header: str, wakers: int) -> None:
        self.announce = steps_of(header, "mb_announce")
        self.unannounce = steps_of(header, "mb_unannounce")
        self.park = steps_of(header, "mb_park")
        self.must_wake = steps_of(header, "mb_must_wake")
        self.wake_now = steps_of(header, "mb_wake_now")
        self.wakers = wakers
        look, take = [("look", 0)], [("take", 0)]
        self.sleeper = self.announce + look + self.park + [("again", 0)]
        self.taken = self.unannounce + take + [("again", 0)]
        self.waker = [("publish", 1), *self.must_wake, ("if", 0), *self.wake_now]

    def lost(self) -> list[State]:
        """States that nothing leads out of, with the sleeper asleep and a record to take."""
        start = State(
            (0,) * (1 + self.wakers),
            ((),) * (1 + self.wakers),
            (0,) * (1 + self.wakers),
            (0,) * (1 + self.wakers),
            frozenset(),
            False,
        )
        reached, ahead, stuck = {start}, [start], []
        while ahead:
            state = ahead.pop()
            following = list(self._next(state))
            if not following and state.asleep:
                stuck.append(state)
            for other in following:
                if other not in reached:
                    reached.add(other)
                    ahead.append(other)
        self.states = len(reached)
        return stuck

    def _next(self, state: State) -> Iterator[State]:
        for thread, buffer in enumerate(state.buffers):
            if buffer:  # the oldest store reaches memory
                (variable, value), rest = buffer[0], buffer[1:]
                yield state._replace(
                    memory=_put(state.memory, variable, value),
                    buffers=_put(state.buffers, thread, rest),
                )
            if thread == SLEEPER:
                if not state.asleep:
                    yield from self._sleeper(state)
            else:
                yield from self._waker(state, thread)

    def _sleeper(self, state: State) -> Iterator[State]:
        place = state.places[SLEEPER]
        program = self.sleeper + self.taken
        if place == len(program):
            return
        step, value = program[place]
        if step == "look":
            new = self._unseen(state)
            # Nothing there: go on to park; else to the part that takes it.
            target = len(self.sleeper) if new else place + 1
            yield _at(state, SLEEPER, target)
        elif step == "take":
            seen = state.seen | self._unseen(state)
            yield _at(state, SLEEPER, place + 1)._replace(seen=seen)
        elif step == "again":
            yield _at(state, SLEEPER, len(program) if len(state.seen) == self.wakers else 0)
        elif step == "wait":
            if not state.buffers[SLEEPER]:
                asleep = state.memory[WORD] == 1
                yield _at(state, SLEEPER, place + 1)._replace(asleep=asleep)
        else:
            yield from self._plain(state, SLEEPER, step, value)

    def _unseen(self, state: State) -> frozenset[int]:
        waiting = {n for n in range(1, 1 + self.wakers) if state.memory[n]}
        return frozenset(waiting) - state.seen

    def _waker(self, state: State, thread: int) -> Iterator[State]:
        place = state.places[thread]
        if place == len(self.waker):
            return
        step, value = self.waker[place]
        if step == "publish":
            yield _store(_at(state, thread, place + 1), thread, thread, 1)
        elif step == "if":
            yield _at(state, thread, place + 1 if state.loaded[thread] else len(self.waker))
        elif step == "wake":
            if not state.buffers[thread]:
                yield _at(state, thread, place + 1)._replace(asleep=False)
        else:
            yield from self._plain(state, thread, step, value)

    def _plain(self, state: State, thread: int, step: str, value: int) -> Iterator[State]:
        after = _at(state, thread, state.places[thread] + 1)
        if step == "store":
            yield _store(after, thread, WORD, value)
        elif step == "load":
            own = [v for variable, v in state.buffers[thread] if variable == WORD]
            loaded = own[-1] if own else state.memory[WORD]
            yield after._replace(loaded=_put(state.loaded, thread, loaded))
        elif step == "fence":
            if not state.buffers[thread]:
                yield after
        else:
            raise AssertionError(step)


def _put(values: tuple, index: int, value: object) -> tuple:  # type: ignore[type-arg]
    return (*values[:index], value, *values[index + 1 :])


def _at(state: State, thread: int, place: int) -> State:
    return state._replace(places=_put(state.places, thread, place))


def _store(state: State, thread: int, variable: int, value: int) -> State:
    buffer = (*state.buffers[thread], (variable, value))
    return state._replace(buffers=_put(state.buffers, thread, buffer))


def header() -> str:
    """park.h without its comments."""
    return re.sub(r"/\*.*?\*/", "", (ROOT / "shm" / "park.h").read_text(), flags=re.DOTALL)


def without_fence(text: str, function: str) -> str:
    start = text.index(f"{function}(")
    fence = text.index("mb_fence_full();", start)
    return text[:fence] + text[fence + len("mb_fence_full();") :]


def test_the_model_does_what_the_header_says() -> None:
    model = Model(header(), 1)
    assert model.announce == [("store", 1), ("fence", 0)]
    assert model.unannounce == [("store", 0)]
    assert model.must_wake == [("fence", 0), ("load", 0)]
    assert model.wake_now == [("store", 0), ("wake", 0)]
    assert model.park == [("wait", 0), ("store", 0)]


@pytest.mark.parametrize("wakers", [1, 2])
def test_no_interleaving_loses_a_wake_up(wakers: int) -> None:
    model = Model(header(), wakers)
    assert model.lost() == []
    assert model.states > 50 * wakers


@pytest.mark.parametrize("function", ["mb_announce", "mb_must_wake"])
def test_the_model_finds_a_missing_fence(function: str) -> None:
    assert Model(without_fence(header(), function), 1).lost()


def test_the_model_finds_a_word_that_is_looked_at_before_publishing() -> None:
    model = Model(header(), 1)
    model.waker = [*model.must_wake, ("publish", 1), ("if", 0), *model.wake_now]
    assert model.lost()


# ---- parking: this machine -----------------------------------------------------------------------


def lost_wakeups(program: Path, rounds: int) -> int:
    command = [str(program), str(rounds)]
    return int(subprocess.run(command, capture_output=True, check=True, timeout=250).stdout)


def test_no_wake_up_is_lost_on_this_machine(compiled: Compile) -> None:
    assert lost_wakeups(compiled("parking.c"), 300_000) == 0


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core reorders nothing")
def test_this_machine_loses_a_wake_up_without_the_fence(compiled: Compile) -> None:
    if not lost_wakeups(compiled("parking.c", "-DMB_PLANT_NO_FENCE"), 3_000_000):
        pytest.skip("this machine did not reorder; the model has shown what can happen")
