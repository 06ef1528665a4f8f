"""A standby goes on where an exchange died: whoever uses it notices nothing.

Life plays one script, in which all sorts of things are under way, and lets the exchange die after
a given number of polls. Reports and market data, as they were read, must then be those of a life
without a death, byte for byte, but that every log record after the takeover has a number that is
higher by one: TAKE_OVER is a record itself.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from matchbox.shm.errors import BadArgument, Detached, JournalError, SegmentError
from matchbox.shm.reasons import Reason
from matchbox.shm.records import (
    COMMAND,
    LOG_RECORD,
    MARKET_DATA,
    NAMED_RECORD,
    REPORT,
    EventKind,
    Kind,
    ReportFlag,
    Side,
)
from matchbox.shm.ring import Ring
from matchbox.shm.session import Session
from tests.core.exchange import Connection, Exchange, plan
from tests.core.standby import Standby
from tests.core.test_markets import definition, named, order

SECOND = 10**9
SLOTS = 4096  # where the slots of a ring begin


class Life:
    """An exchange, its standby if it is to die, and bots that read whenever all is at rest."""

    def __init__(self, dies_after: int | None = None, *, seed: int = 0, late: bool = False) -> None:
        self.exchange = Exchange(
            plan(
                markets=2,
                matchers=2,
                max_orders=64,
                order_capacity=256,
                log_slots=128,
                event_slots=16,
                max_sessions=6,
            )
        )
        self.now = 2 * SECOND
        self.dies_after = dies_after
        self.standby = Standby(self.exchange) if dies_after is not None and not late else None
        self.random = random.Random(seed)
        self.polls = 0
        self.died_at = 0  # the log then
        self.bots: dict[str, Session] = {"operator": self.exchange.operator}  # type: ignore[dict-item]
        self.told: dict[str, list[NDArray[Any]]] = {}
        self.data = self.exchange.market_data()
        self.public: list[NDArray[Any]] = []

    def play(self, script: Iterator[Callable[["Life"], object]]) -> "Life":
        for step in script:
            self.exchange.sequencer.clock_ns = self.now
            step(self)
            self.rest()
        return self

    def rest(self) -> None:
        quiet = 0
        while quiet < 3:
            quiet += 1
            for i in range(len(self.exchange.polls())):
                if self.exchange.polls()[i]():
                    quiet = 0
                    self.polls += 1
                    self._follow()
            # The journaler is behind, as it is in life.
            if self.random.random() < 0.3 or quiet:
                self.exchange.journal()
        self._read()

    def _follow(self) -> None:
        if self.standby is None:
            return
        polls = self.standby.polls()
        for _ in range(self.random.randrange(0, 2 * len(polls))):
            self.random.choice(polls)()
        if self.polls == self.dies_after:
            self.die()

    def die(self) -> None:
        assert self.standby is not None
        standby, self.standby = self.standby, None
        standby.kill()
        scribble(self.exchange, self.random)
        self.died_at = self.exchange.sequencer.position
        self.exchange = standby.take_over()
        self.exchange.sequencer.clock_ns = self.now

    def _read(self) -> None:
        for name, bot in list(self.bots.items()):
            try:
                self.told.setdefault(name, []).append(bot.reports())
            except Detached:
                del self.bots[name]
        self.public.append(self.data.read())

    def attached(self, name: str, slot: int, account: int) -> None:
        """The last answer to the operator has the session's number."""
        commands, reports, _ = self.exchange.opened[slot]
        number = int(self.told["operator"][-1]["order_id"][-1])
        self.bots[name] = Session(
            Connection(self.exchange), commands, reports, number=number, name=name, account=account
        )

    def reports(self, name: str) -> NDArray[Any]:
        """All that a bot was told, numbered as if nobody had died."""
        found = np.concatenate(self.told[name])
        if self.died_at:
            later(found, "sequence", self.died_at)
            later(found, "order_id", self.died_at, found["kind"] != EventKind.DONE)
            was_pending = (found["flags"] & ReportFlag.RELEASED) != 0
            later(found, "command_position", self.died_at, was_pending)
        return found

    def market_data(self) -> NDArray[Any]:
        found = np.concatenate(self.public)
        if self.died_at:
            later(found, "sequence", self.died_at)
        return found


def later(records: NDArray[Any], field: str, than: int, where: Any = True) -> None:
    """Take the number of TAKE_OVER out of those behind it."""
    records[field][(records[field] > than) & where] -= 1


def scribble(exchange: Exchange, chance: random.Random) -> None:
    """What a dead engine had filled and not published: noise in every slot that it could fill."""
    parts = ["log", "ledger", *(f"events-{k}" for k in range(exchange.plan.matchers))]
    rings = [Ring.attach(exchange.segment(part)) for part in parts]
    rings += [reports for _, reports, _ in exchange.opened.values()]
    for ring in rings:
        # Readers of a session's ring write elsewhere: what they have not read is not known here.
        free = ring.capacity - (ring.produced - min(ring.consumed)) if ring.consumed else 2
        memory = np.frombuffer(ring.buffer, np.uint8)
        for i in range(min(free, 8)):
            at = SLOTS + (ring.produced + i) % ring.capacity * 128
            memory[at : at + 128] = np.frombuffer(chance.randbytes(128), np.uint8)
    ring = Ring.attach(exchange.segment("market-data"))
    at = SLOTS + ring.produced % ring.capacity * 128
    memory = np.frombuffer(ring.buffer, np.uint8)
    memory[at : at + 128] = np.frombuffer(chance.randbytes(128), np.uint8)
    memory[at : at + 8] = 0


# ---- the script ------------------------------------------------------------------------------------------


Step = Callable[[Life], object]


def tell(name: str, do: Callable[[Session], object]) -> Step:
    """A bot does something."""
    return lambda life: do(life.bots[name])


def operate(kind: Kind, **values: Any) -> Step:
    row = np.zeros(1, NAMED_RECORD)
    row["kind"] = kind
    for field, value in values.items():
        row[field] = value
    return lambda life: life.bots["operator"].submit(row.view(COMMAND))


def attach(name: str, slot: int, account: int = 1, **values: Any) -> Iterator[Step]:
    """Its memory is made known; then the operator asks for it; then the bot is there."""
    yield lambda life: life.exchange.open_session(slot, *life.exchange.rings())
    yield operate(
        Kind.ATTACH_SESSION,
        **{"name": name.encode(), "slot": slot, "account": account, "capabilities": 3, **values},
    )
    yield lambda life: life.attached(name, slot, account)


def detach(name: str, slot: int) -> Iterator[Step]:
    yield lambda life: operate(Kind.DETACH_SESSION, id=life.bots[name].number, reason=504)(life)
    yield lambda life: life.exchange.close_session(slot)


def passes(nanoseconds: int) -> Step:
    def pass_(life: Life) -> None:
        life.now += nanoseconds
        life.exchange.sequencer.clock_ns = life.now

    return pass_


def sells(bot: Session) -> None:
    for i in range(40):
        bot.sell(1, quantity_lots=1, price_ticks=100 + i // 4, client_order_id=f"s{i}")


def add_market(number: int) -> Step:
    def add(life: Life) -> None:
        life.exchange.give_memory(definition(number)[0])
        life.bots["operator"].submit(definition(number).view(COMMAND))

    return add


def sessions() -> Iterator[Step]:
    """They come, go, and come again by the same name in the same slot."""
    yield from attach("maker", 1, 1)
    yield from attach("taker", 2, 2)
    yield from attach("watcher", 3, 3, cancel_on_detach=1)
    yield tell("watcher", lambda b: b.subscribe(1))
    yield tell("maker", lambda b: b.sell(1, quantity_lots=3, price_ticks=101, client_order_id="m"))
    yield tell("watcher", lambda b: b.buy(2, quantity_lots=2, price_ticks=50))
    yield tell("taker", lambda b: b.buy(1, quantity_lots=1, price_ticks=101))
    yield from detach("watcher", 3)
    yield from attach("watcher", 3, 3)
    yield tell("watcher", lambda b: b.buy(2, quantity_lots=2, price_ticks=51))
    yield operate(Kind.DETACH_SESSION, id=99, reason=504)  # is refused
    yield tell("taker", lambda b: b.buy(1, quantity_lots=1, price_ticks=101))
    yield lambda life: life.bots["maker"].submit(logout())


def trading() -> Iterator[Step]:
    """Sweeps that need more events than a ring holds; timers; lists; what the exchange itself does."""
    yield from attach("maker", 1, 1)
    yield from attach("taker", 2, 2)
    yield tell("maker", sells)
    yield tell("taker", lambda b: b.buy(1, quantity_lots=30, price_ticks=120))
    yield tell("maker", lambda b: b.buy(2, quantity_lots=9, price_ticks=50, expire=4 * SECOND))
    yield tell("maker", lambda b: b.countdown(5000))
    yield tell(
        "taker", lambda b: b.sell(1, quantity_lots=4, trigger_ticks=90, order_type="stop_loss")
    )
    yield tell("taker", brackets)
    yield passes(3 * SECOND)
    yield tell("maker", lambda b: b.buy(1, quantity_lots=8, price_ticks=95))
    yield tell("taker", lambda b: b.sell(1, quantity_lots=5, price_ticks=95))
    yield tell("taker", lambda b: b.sell(1, quantity_lots=1, price_ticks=80))
    yield passes(3 * SECOND)
    yield tell("maker", sells)
    yield tell("maker", lambda b: b.mass_cancel())
    yield tell("maker", lambda b: b.transfer(2, 1, amount_units=7))


def brackets(bot: Session) -> None:
    bot.otoco(
        2,
        working={"side": "buy", "quantity_lots": 2, "price_ticks": 40},
        profit={"price_ticks": 60},
        stop={"trigger_ticks": 30},
    )
    bot.sell(2, quantity_lots=9, price_ticks=40)
    bot.buy(2, quantity_lots=1, price_ticks=60)


def markets() -> Iterator[Step]:
    """They come and go, and their numbers come again."""
    yield from attach("maker", 1, 1)
    yield add_market(3)
    yield tell("maker", lambda b: b.submit(order(1, Side.BUY, 3, market=3)))
    yield tell("maker", lambda b: b.submit(order(1, Side.SELL, 2, market=3)))
    yield tell("maker", lambda b: b.mass_cancel())
    yield lambda life: life.bots["operator"].submit(named(Kind.REMOVE_MARKET, 3))
    yield lambda life: life.exchange.give_memory(definition(3)[0])
    yield lambda life: life.bots["operator"].submit(definition(3).view(COMMAND))
    yield tell("maker", lambda b: b.submit(order(1, Side.SELL, 3, market=3)))
    yield lambda life: life.exchange.give_memory(definition(4)[0])
    yield lambda life: life.bots["operator"].submit(definition(4).view(COMMAND))
    yield tell("maker", lambda b: b.submit(order(1, Side.BUY, 5, market=4)))


def logout() -> NDArray[Any]:
    row = np.zeros(1, COMMAND)
    row["kind"] = Kind.LOGOUT
    return row


SCRIPTS = {"sessions": sessions, "trading": trading, "markets": markets}


# ---- nothing lost, nothing repeated ----------------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_whenever_it_dies_nobody_notices(name: str, seed: int) -> None:
    undisturbed = Life().play(SCRIPTS[name]())
    assert undisturbed.polls > 50
    for dies_after in range(1, undisturbed.polls):
        life = Life(dies_after, seed=seed + dies_after).play(SCRIPTS[name]())
        assert life.died_at, f"polls={dies_after}"
        compare(life, undisturbed, f"polls={dies_after}, log={life.died_at}")


def compare(life: Life, undisturbed: Life, when: str) -> None:
    assert list(life.told) == list(undisturbed.told)
    for bot in life.told:
        same(f"{bot}, {when}", life.reports(bot), undisturbed.reports(bot))
    same(f"market data, {when}", life.market_data(), undisturbed.market_data())
    for market in undisturbed.exchange.given:
        found, expected = (one.exchange.book(market).depth() for one in (life, undisturbed))
        assert found.update == expected.update, when
        assert found.bids.tolist() == expected.bids.tolist(), when
        assert found.asks.tolist() == expected.asks.tolist(), when
    again = Exchange(life.exchange.plan, define=False)
    again.replay(life.exchange.log)
    assert again.state_hash() == life.exchange.state_hash(), when


def same(what: str, found: NDArray[Any], expected: NDArray[Any]) -> None:
    for i, (one, other) in enumerate(zip(found, expected, strict=False)):
        assert one.tobytes() == other.tobytes(), f"{what}, {i}:\nfound    {one}\nexpected {other}"
    assert len(found) == len(expected), f"{what}: {len(found)} of {len(expected)}"
