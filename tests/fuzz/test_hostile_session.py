"""A session that does its worst: the engine detaches it and lives, and nobody else can tell.

A hostile peer may write whatever it maps: all of its command ring, header, positions and slots, at
any time. A *mutation* here is one such write of one 64-bit word, or one record of random bytes.

The exchange runs on one thread. Beside the hostile session an honest one trades; what it is told
must be what it is told in a run where the hostile one is not there at all.
"""

import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from matchbox.shm.reasons import Reason
from matchbox.shm.records import COMMAND, REPORT, EventKind, Kind
from matchbox.shm.ring import Ring
from matchbox.shm.session import Session
from tests.core.exchange import Exchange, plan

SLOTS = 256
PRODUCER, OUR_PLACE, ENGINES_PLACE = 128 // 8, (256 + 128) // 8, 256 // 8
HEADER_WORDS = 4096 // 8
LAYOUT: dict[str, Any] = {"log_slots": 1 << 13, "event_slots": 1 << 13, "max_orders": 1 << 12}
HONEST, HOSTILE = 1, 2  # accounts, and markets


class Bench:
    """An exchange with an honest session, and hostile ones that come and go."""

    def __init__(self, seed: int) -> None:
        self.exchange = Exchange(plan(2, **LAYOUT))
        self.honest = self.exchange.attach("honest", HONEST)
        self.random = np.random.default_rng(seed)
        self.heard: list[tuple[int, ...]] = []
        self.turn = 0
        self.mutations = 0
        self.reasons: set[Reason] = set()
        self.hostile: Session
        self.report_ring: Ring

    # -- the honest one

    def trade(self) -> None:
        """One order of the honest session in its own market, and what it hears."""
        self.turn += 1
        side, price = ("buy", 100) if self.turn % 3 else ("sell", 95)
        getattr(self.honest, side)(HONEST, quantity_lots=1 + self.turn % 7, price_ticks=price)
        self.exchange.settle()
        for report in self.honest.reports():
            # All but what counts everybody's records: sequences, order ids, the clock.
            fields = "kind reason price_ticks quantity_lots leaves_lots cumulative_lots index side"
            self.heard.append(tuple(int(report[name]) for name in fields.split()))

    # -- the hostile one

    def attach(self) -> tuple[Session, NDArray[np.uint64]]:
        """A session, and its command ring as words."""
        session = self.exchange.attach("hostile", HOSTILE, command_slots=SLOTS)
        commands, self.report_ring = self.exchange.session_rings["hostile"]
        return session, np.frombuffer(commands.buffer, np.uint64)

    def detached(self) -> Reason | None:
        """Why the hostile session was detached, as its last report says; None if it is not."""
        ring = self.report_ring
        if not ring.closed:
            return None
        last = ring.peek(ring.produced - 1, 1, REPORT)[0]
        assert last["kind"] == EventKind.DETACHED
        return Reason(int(last["reason"]))

    def close(self) -> None:
        """Take the session away, whatever has become of it."""
        if self.detached() is None:
            self.exchange.detach(self.hostile, Reason.DISCONNECTED)
        reason = self.detached()
        assert reason is not None
        self.reasons.add(reason)
        self.exchange.free("hostile")

    def read_reports(self, words: NDArray[np.uint64]) -> None:
        """Keep reading, as a bot that does not want to be thrown out for that would."""
        words[OUR_PLACE] = self.report_ring.produced


def random_commands(random: np.random.Generator, count: int) -> NDArray[np.uint64]:
    """Records of random bytes, half of them almost right, none for the honest one's market."""
    raw = np.frombuffer(random.bytes(128 * count), COMMAND).copy()
    sane = random.random(count) < 0.5
    raw["kind"][sane] = random.choice([1, 2, 3, 4, 5, 33, 34, 35, 36], sane.sum())
    raw["account"][sane] = 0
    for name, high in (("side", 3), ("order_type", 3), ("time_in_force", 4), ("flags", 4)):
        raw[name][sane] = random.integers(0, high, sane.sum())
    raw["price_ticks"][sane] = random.integers(90, 110, sane.sum())
    raw["quantity_lots"][sane] = random.integers(1, 10, sane.sum())
    raw["trigger_ticks"][sane] = raw["reserved"][sane] = 0
    raw["client_order_id"][sane] = b""
    raw["order_id"][sane] = random.integers(0, 1 << 14, sane.sum())
    raw["market"] = HOSTILE
    # A logout is no attack.
    raw["kind"][raw["kind"] == Kind.LOGOUT] = 0
    return raw.view(np.uint64).reshape(count, 16)


def attack_with_records(bench: Bench, words: NDArray[np.uint64], mutations: int) -> None:
    """Publish random records, all valid positions."""
    slots = words[HEADER_WORDS:].reshape(SLOTS, 16)
    done = 0
    while done < mutations and bench.detached() is None:
        sent = int(words[PRODUCER])
        room = SLOTS - (sent - int(words[ENGINES_PLACE]))
        records = random_commands(bench.random, min(room, mutations - done))
        slots[(sent + np.arange(len(records))) % SLOTS] = records
        words[PRODUCER] = sent + len(records)
        bench.exchange.settle()
        bench.read_reports(words)
        done += max(1, len(records))
    bench.mutations += done


def attack_with_positions(bench: Bench, words: NDArray[np.uint64], mutations: int) -> None:
    """One impossible position."""
    del mutations
    random = bench.random
    place = PRODUCER if random.random() < 0.5 else OUR_PLACE
    true = int(words[place])
    how = random.integers(0, 4)
    step = int(random.integers(1, 1 << 40))
    value = [true - 1 - step % 7, true + SLOTS * 64 + step, true + (1 << 63), step << 20][how]
    words[place] = value % (1 << 64)
    bench.exchange.settle()
    bench.mutations += 1
    assert bench.detached() is not None, (place, true, value)


def attack_with_scribbles(bench: Bench, words: NDArray[np.uint64], mutations: int) -> None:
    """Random words all over header, positions and park words, as long as the session lives."""
    for _ in range(max(1, mutations // 64)):
        where = bench.random.integers(0, HEADER_WORDS, 64)
        words[where] = np.frombuffer(bench.random.bytes(64 * 8), np.uint64)
        bench.mutations += 64
        bench.exchange.round()
        if bench.detached() is not None:
            return


def attack_while_it_reads(bench: Bench, words: NDArray[np.uint64], mutations: int) -> None:
    """Change slots and the position from another thread while the engine is at them."""
    sent = int(words[PRODUCER])
    stop = threading.Event()
    done = [0]
    chunk = random_commands(bench.random, SLOTS).reshape(-1)
    other = random_commands(bench.random, SLOTS).reshape(-1)

    def scribble() -> None:
        while not stop.is_set() or not done[0]:
            for source in (chunk, other):
                words[HEADER_WORDS : HEADER_WORDS + len(source)] = source
            done[0] += 2 * SLOTS

    thread = threading.Thread(target=scribble)
    thread.start()
    try:
        while done[0] < mutations and bench.detached() is None:
            taken = int(words[ENGINES_PLACE])
            sent = taken + int(bench.random.integers(0, SLOTS + 1))
            words[PRODUCER] = max(sent, int(words[PRODUCER]))
            for _ in range(8):
                bench.exchange.round()
            bench.read_reports(words)
    finally:
        stop.set()
        thread.join()
    # The thread is as quick as memory is; most of what it wrote nobody can have seen.
    bench.mutations += min(done[0], mutations)


ATTACKS = (
    attack_with_records,
    attack_with_positions,
    attack_with_scribbles,
    attack_while_it_reads,
)


def fight(seed: int, mutations: int) -> Bench:
    """Attack in turns until there were so many mutations; the honest session trades all along."""
    bench = Bench(seed)
    turn = 0
    while bench.mutations < mutations:
        attack = ATTACKS[turn % len(ATTACKS)]
        share = max(256, mutations // 200)
        bench.hostile, words = bench.attach()
        attack(bench, words, share)
        bench.trade()
        bench.close()
        bench.trade()
        turn += 1
    return bench


def check(bench: Bench) -> None:
    """The honest session has heard what it hears without the other; the engine goes on."""
    alone = Bench(0)
    for _ in range(bench.turn):
        alone.trade()
    assert bench.heard == alone.heard
    book, same = bench.exchange.book(HONEST), alone.exchange.book(HONEST)
    for mine, theirs in zip(book.depth()[1:], same.depth()[1:], strict=True):
        assert mine.tolist() == theirs.tolist()
    assert Reason.PROTOCOL_VIOLATION in bench.reasons
    assert bench.reasons <= {
        Reason.PROTOCOL_VIOLATION,
        Reason.DISCONNECTED,
        Reason.SLOW_READER,
    }
    # And a good session works in the same slot as ever.
    bot = bench.exchange.attach("after", 3)
    bot.buy(HOSTILE, quantity_lots=1, price_ticks=1)
    bench.exchange.settle()
    assert bot.reports()[-1]["kind"] == EventKind.ACCEPTED


def test_a_million_mutations_disturb_nobody(seed: int) -> None:
    check(fight(seed, 1_000_000))


@pytest.mark.soak("mutations")
@pytest.mark.timeout(7200)
def test_ten_million_mutations_disturb_nobody(seed: int, soak_count: Any) -> None:
    count = soak_count(10_000_000)
    while count > 0:
        # The log in memory of this test grows; a new exchange for each part.
        check(fight(seed + count, min(count, 1_000_000)))
        count -= 1_000_000


@pytest.mark.parametrize("place", [PRODUCER, OUR_PLACE])
@pytest.mark.parametrize("move", [-1, 1 << 63, -(1 << 40), 1 << 40, SLOTS * 64])
def test_an_impossible_position_ends_the_session_with_a_reason(place: int, move: int) -> None:
    bench = Bench(1)
    bench.hostile, words = bench.attach()
    bench.hostile.buy(HOSTILE, quantity_lots=1, price_ticks=1)
    bench.exchange.settle()
    bench.read_reports(words)
    bench.exchange.settle()  # so that the engine knows
    words[place] = (int(words[place]) + move) % (1 << 64)
    bench.exchange.settle()
    assert bench.detached() is Reason.PROTOCOL_VIOLATION
    bench.trade()
    bench.close()
    # What it had sent before stands.
    assert bench.exchange.book(HOSTILE).best() == (1, 1, 0, 0)
