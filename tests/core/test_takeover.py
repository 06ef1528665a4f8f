"""A standby goes on where an exchange died: whoever uses it notices nothing.

Life plays one script, in which all sorts of things are under way, and lets the exchange die after
a given number of steps and polls. Reports and market data, as they were read, must then be those of
a life without a death, byte for byte, but that every log record after the takeover has a number
that is higher by one: TAKE_OVER is a record itself.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from matchbox.shm.errors import BadArgument, Detached, MarketRemoved, RingFull, SegmentError
from matchbox.shm.reasons import Reason
from matchbox.shm.records import (
    COMMAND,
    LOG_RECORD,
    NAMED_RECORD,
    EventKind,
    Kind,
    ReportFlag,
    Side,
)
from matchbox.shm.ring import Ring
from matchbox.shm.session import Session
from tests.core.exchange import Connection, Exchange, definitions, deposits, plan
from tests.core.standby import Standby
from tests.core.test_markets import definition, named, order

SECOND = 10**9
# Where things are in a ring (shm/ring.h), and in a depth table (shm/depth.h).
STATE, PRODUCER, READERS, SLOTS = 96, 128, 256, 4096
CAPACITY, VERSION, REACH, REBUILT = 16, 512, 1408, 1536


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
            self._done()
            self.rest()
        return self

    def rest(self) -> None:
        quiet = 0
        while quiet < 3:
            quiet += 1
            for i in range(len(self.exchange.polls())):
                if self.exchange.polls()[i]():
                    quiet = 0
                    self._done()
            # The journaler is behind, as it is in life.
            if self.random.random() < 0.3 or quiet:
                self.exchange.journal()
        self._read()

    def _done(self) -> None:
        """Something was; it may have been the last."""
        self.polls += 1
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
    """What a dead engine may leave: noise in slots that it had filled and not published; slots that
    it had taken and not given back; levels in other places than ours.
    """
    parts = ["log", "ledger", *(f"events-{k}" for k in range(exchange.plan.matchers))]
    rings = [Ring.attach(exchange.segment(part)) for part in parts]
    for commands, reports, _ in exchange.opened.values():
        rings.append(reports)
        taken = words(commands.buffer, READERS)
        taken[0] -= min(int(taken[0]), chance.randrange(3))
    for ring in rings:
        # Readers of a session's ring write elsewhere: what they have not read is not known here.
        free = ring.capacity - (ring.produced - min(ring.consumed)) if ring.consumed else 2
        for i in range(min(free, 8)):
            slot_of(ring, ring.produced + i)[:] = np.frombuffer(chance.randbytes(128), np.uint8)
    public = slot_of(Ring.attach(exchange.segment("market-data")))
    public[:] = np.frombuffer(chance.randbytes(128), np.uint8)
    public[:8] = 0
    for number in exchange.given:
        move_levels(exchange.segment(f"depth-{number}"))


def words(buffer: Any, at: int) -> NDArray[Any]:
    """The 64-bit words from `at` on, to be written."""
    return np.frombuffer(buffer, np.uint64)[at // 8 :]


def slot_of(ring: Ring, position: int | None = None) -> NDArray[Any]:
    """The bytes of a slot; by default the one that is filled next."""
    at = SLOTS + (ring.produced if position is None else position) % ring.capacity * 128
    return np.frombuffer(ring.buffer, np.uint8)[at : at + 128]


def move_levels(table: Any) -> None:
    """Each level of a depth table is one place further on."""
    capacity = int(np.frombuffer(table, np.uint32)[CAPACITY // 4])
    reach = words(table, REACH)
    reach[0] = min(int(reach[0]) + 1, capacity)
    for side in (0, capacity):
        levels = words(table, SLOTS).reshape(-1, 2)[side : side + int(reach[0])]
        levels[:] = np.roll(levels, 1, axis=0)


# ---- the script ----------------------------------------------------------------------------------


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
    """Sweeps with more events than a ring holds; timers; lists; what the exchange itself does."""
    yield from attach("maker", 1, 1)
    yield from attach("taker", 2, 2)
    yield tell("maker", sells)
    yield tell("taker", lambda b: b.buy(1, quantity_lots=30, price_ticks=120))
    yield tell("maker", lambda b: b.buy(2, quantity_lots=9, price_ticks=20, expire=4 * SECOND))
    yield tell("maker", lambda b: b.countdown(5000))
    yield tell(
        "taker", lambda b: b.sell(1, quantity_lots=4, trigger_ticks=96, order_type="stop_loss")
    )
    yield tell("taker", bracket)
    yield tell("maker", lambda b: b.sell(2, quantity_lots=2, price_ticks=40))
    yield tell("maker", lambda b: b.buy(2, quantity_lots=4, price_ticks=30))
    yield tell("taker", lambda b: b.sell(2, quantity_lots=1, price_ticks=30))
    yield tell("taker", bracket)
    yield passes(3 * SECOND)
    yield tell("maker", lambda b: b.buy(1, quantity_lots=8, price_ticks=95))
    yield tell("taker", lambda b: b.sell(1, quantity_lots=5, price_ticks=95))
    yield tell("taker", lambda b: b.sell(1, quantity_lots=1, price_ticks=80))
    yield passes(3 * SECOND)
    yield tell("maker", sells)
    yield tell("maker", lambda b: b.mass_cancel())
    yield tell("maker", lambda b: b.transfer(2, 1, amount_units=7))  # is refused
    yield tell("operator", lambda b: b.deposit(1, 1, amount_units=7, reference="later"))


def bracket(bot: Session) -> None:
    bot.otoco(
        2,
        working={"side": "buy", "quantity_lots": 2, "price_ticks": 40},
        profit={"price_ticks": 60},
        stop={"trigger_ticks": 30},
    )


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


# ---- sessions ------------------------------------------------------------------------------------


def pair(log_slots: int = 256, **sizes: int) -> tuple[Exchange, Standby]:
    """An exchange, and its standby, which was there from the first record on."""
    exchange = Exchange(plan(max_orders=64, log_slots=log_slots, **sizes), define=False)
    standby = Standby(exchange)
    exchange.start(1)
    exchange.run_operator(definitions(exchange.plan))
    exchange.run_operator(deposits())
    return exchange, standby


def take_over(standby: Standby) -> Standby:
    standby.take_over()
    standby.settle()
    return standby


def behind(exchange: Exchange) -> None:
    """The sequencer and the matchers do what there is to do, the publisher nothing."""
    for _ in range(20):
        for name, agent in exchange.agents.items():
            if name != "publisher":
                agent.poll()


def kinds(session: Session) -> list[str]:
    return [EventKind(int(kind)).name for kind in session.reports()["kind"]]


@pytest.mark.parametrize("last", ["publisher", "matcher", "reader"])
def test_a_full_report_ring_stays_full(last: str) -> None:
    """Who does not read is detached, and told so; what did not fit is not sent later."""
    exchange, standby = pair()
    standby.publisher.close_session(1)
    standby.publisher.open_session(1, *exchange.rings(2, 16))
    slow = attach_to(exchange, "slow", *exchange.rings(report_slots=16))
    watched = exchange.attach("watched", 2)
    slow.subscribe(2)
    exchange.settle()
    for i in range(15):
        watched.buy(1, quantity_lots=1, price_ticks=10 + i)
    behind(exchange)
    if last != "matcher":
        exchange.publisher.poll()
    before = slow.reports() if last == "reader" else slow.reports(0)
    take_over(standby)
    found = np.concatenate([before, slow.reports()])
    assert found["price_ticks"].tolist() == [0, 0, *range(10, 23), 0]
    assert (found[-1]["kind"], found[-1]["reason"]) == (EventKind.DETACHED, Reason.SLOW_READER)
    with pytest.raises(Detached):
        slow.reports()
    assert len(watched.reports()) == 16


def test_a_reader_that_is_slow_afterwards_is_detached_as_ever() -> None:
    exchange, standby = pair()
    standby.publisher.close_session(1)
    standby.publisher.open_session(1, *exchange.rings(2, 16))
    slow = attach_to(exchange, "slow", *exchange.rings(report_slots=16))
    watched = exchange.attach("watched", 2)
    slow.subscribe(2)
    exchange.settle()
    take_over(standby)
    for i in range(20):
        watched.buy(1, quantity_lots=1, price_ticks=10 + i)
    standby.settle()
    assert slow.reports()["price_ticks"].tolist() == [0, 0, *range(10, 23), 0]


def attach_to(exchange: Exchange, name: str, commands: Ring, reports: Ring) -> Session:
    """A session on rings of another size."""
    exchange.open_session(1, commands, reports)
    exchange._slots[name] = 1
    row = np.zeros(1, NAMED_RECORD)
    row["kind"], row["name"], row["slot"] = Kind.ATTACH_SESSION, name.encode(), 1
    row["account"], row["capabilities"] = 1, 3
    answer = exchange.run_operator(row.view(COMMAND))
    number = int(answer["order_id"][-1])
    return Session(Connection(exchange), commands, reports, number=number, name=name, account=1)


def test_a_last_report_is_not_repeated_when_only_its_ring_was_not_closed() -> None:
    """DETACHED was published, and then the publisher died."""
    for slots in (4096, 16):
        exchange, standby = pair()
        standby.publisher.close_session(1)
        standby.publisher.open_session(1, *exchange.rings(2, slots))
        commands, reports = exchange.rings(report_slots=slots)
        bot = attach_to(exchange, "bot", commands, reports)
        other = exchange.attach("other", 2)
        bot.subscribe(2)
        exchange.settle()
        for i in range(20):
            other.buy(1, quantity_lots=1, price_ticks=10 + i)
        exchange.settle()
        if slots == 4096:
            exchange.detach(bot)
        assert reports.closed
        reopen(reports)
        produced = reports.produced
        take_over(standby)
        assert reports.closed
        assert reports.produced == produced
        assert kinds(bot).count("DETACHED") == 1


def reopen(ring: Ring) -> None:
    """As it was before it was closed."""
    np.frombuffer(ring.buffer, np.uint32)[STATE // 4] = 1


@pytest.mark.parametrize("again", [False, True])
def test_a_session_that_was_to_be_attached_is_attached_by_the_successor(again: bool) -> None:
    exchange, standby = pair()
    if again:
        bot = exchange.attach("bot")
        bot.buy(1, quantity_lots=1, price_ticks=10)
        exchange.settle()
        exchange.detach(bot)
        exchange.free("bot")
    commands, reports = exchange.rings()
    exchange.open_session(1, commands, reports)
    exchange._slots["bot"] = 1
    take_over(standby)
    row = np.zeros(1, NAMED_RECORD)
    row["kind"], row["name"], row["slot"] = Kind.ATTACH_SESSION, b"bot", 1
    row["account"], row["capabilities"] = 1, 1
    answer = standby.run_operator(row.view(COMMAND))
    number = int(answer["order_id"][-1])
    bot = Session(Connection(standby), commands, reports, number=number, name="bot", account=1)
    bot.buy(1, quantity_lots=1, price_ticks=10)
    standby.settle()
    assert kinds(bot) == ["ATTACHED", "ACCEPTED"]


def test_a_session_whose_memory_is_lost_is_detached() -> None:
    exchange, standby = pair()
    bot = exchange.attach("bot", cancel_on_detach=True)
    exchange.attach("other", 2)
    bot.buy(1, quantity_lots=1, price_ticks=10)
    exchange.settle()
    del exchange.opened[1]
    take_over(standby)
    attached = {s["name"]: s["attached"] for s in standby.sequencer.sessions()}
    assert attached == {"operator": True, "bot": False, "other": True}
    assert standby.book().best() == (0, 0, 0, 0)
    kinds = standby.log["kind"].tolist()
    assert kinds[-3:] == [Kind.TAKE_OVER, Kind.DETACH_SESSION, Kind.CANCEL_ORDER]
    standby.publisher.close_session(1)


def test_what_is_not_settled_is_not_taken_over() -> None:
    exchange, standby = pair()
    bot = exchange.attach("bot")
    standby.settle()
    bot.buy(1, quantity_lots=1, price_ticks=10)
    exchange.sequencer.poll()
    standby.kill()
    standby.follower.poll()
    for name in ("matcher-0", "publisher"):
        standby.agents[name].poll()
    assert all(agent.position == exchange.sequencer.position for agent in standby.agents.values())
    with pytest.raises(BadArgument, match="a log that is replayed and settled"):
        standby.sequencer.take_over(2)
    take_over(standby)
    with pytest.raises(BadArgument, match="a log that is replayed and settled"):
        standby.sequencer.take_over(2)
    assert kinds(bot) == ["ATTACHED", "ACCEPTED"]


def test_slots_that_were_taken_are_given_back() -> None:
    """The log was published, and then the sequencer died: the bot must not wait for ever."""
    exchange, standby = pair()
    bot = exchange.attach("bot")
    for i in range(256):
        bot.buy(1, quantity_lots=1, price_ticks=10 + i % 7)
    with pytest.raises(RingFull):
        bot.buy(1, quantity_lots=1, price_ticks=10)
    exchange.settle()
    words(exchange.session_rings["bot"][0].buffer, READERS)[0] = 0
    take_over(standby)
    bot.buy(1, quantity_lots=1, price_ticks=10)
    standby.settle()
    assert len(bot.reports()) == 258


def test_more_reports_than_the_log_gives_are_noticed() -> None:
    """The memory is not of this log."""
    exchange, standby = pair()
    bot = exchange.attach("bot")
    exchange.settle()
    reports = exchange.session_rings["bot"][1]
    words(reports.buffer, PRODUCER)[0] += 1
    standby.kill()
    standby.drain()
    with pytest.raises(SegmentError, match="more reports than the log gives"):
        standby.succeed()
    assert bot


# ---- market data, depth --------------------------------------------------------------------------


def test_a_published_change_whose_position_did_not_follow_is_not_repeated() -> None:
    exchange, standby = pair()
    bot = exchange.attach("bot")
    data = exchange.market_data()
    bot.buy(1, quantity_lots=1, price_ticks=10)
    exchange.settle()
    ring = Ring.attach(exchange.segment("market-data"))
    words(ring.buffer, PRODUCER)[0] -= 1
    bot.buy(1, quantity_lots=1, price_ticks=11)
    behind(exchange)
    take_over(standby)
    found = data.read()
    assert found["position"].tolist() == [1, 2, 3, 4]
    assert found["price_ticks"].tolist() == [10, 10, 11, 11]


def test_readers_see_no_book_while_it_is_written_anew_and_the_right_one_then() -> None:
    exchange, standby = pair()
    bot = exchange.attach("bot")
    for i in range(30):
        bot.buy(1, quantity_lots=1, price_ticks=10 + i)
    bot.mass_cancel()
    for i in (7, 3, 5):
        bot.buy(1, quantity_lots=1, price_ticks=10 + i)
    exchange.settle()
    bot.sell(1, quantity_lots=2, price_ticks=17)
    behind(exchange)
    book, table = exchange.book(), exchange.segment("depth-1")
    # It died within a change, and its successor in the middle of this.
    words(table, VERSION)[0] += 1
    words(table, REBUILT)[0] += 1
    move_levels(table)
    standby.show = lambda: None  # type: ignore[method-assign]
    standby.take_over()
    assert words(table, VERSION)[0] % 2
    assert words(table, REBUILT)[0] % 2
    standby.publisher.show_depths()
    assert book.best() == (15, 1, 17, 1)
    assert [tuple(level) for level in book.depth().bids.tolist()] == [(15, 1), (13, 1)]
    standby.settle()
    bot.buy(1, quantity_lots=3, price_ticks=17)
    standby.settle()
    assert [tuple(level) for level in book.depth().bids.tolist()] == [(17, 2), (15, 1), (13, 1)]


def test_a_market_whose_removal_was_not_told_is_closed() -> None:
    exchange, standby = pair(markets=2)
    book = exchange.book(2)
    exchange.operator.submit(named(Kind.REMOVE_MARKET, 2))  # type: ignore[union-attr]
    behind(exchange)
    assert book.depth().update == 0
    take_over(standby)
    with pytest.raises(MarketRemoved):
        book.depth()


# ---- the follower --------------------------------------------------------------------------------


def test_a_follower_is_behind_whom_it_follows() -> None:
    exchange, standby = pair()
    bot = exchange.attach("bot")
    standby.settle()
    before = standby.sequencer.position
    assert before == exchange.sequencer.position
    bot.buy(1, quantity_lots=1, price_ticks=10)
    exchange.sequencer.poll()
    standby.settle()
    assert standby.sequencer.position == before  # the matcher has not done it
    exchange.agents["matcher-0"].poll()
    standby.settle()
    assert standby.sequencer.position == before  # nor the publisher
    exchange.publisher.poll()
    standby.follow()
    standby.follow()
    assert standby.sequencer.position == before + 1
    assert standby.source.replicated == before  # our own matcher has not done it yet
    standby.settle()
    assert standby.source.replicated == before + 1


def test_records_that_go_together_are_begun_when_all_of_them_are_done() -> None:
    exchange, standby = pair(event_slots=16)
    bot = exchange.attach("bot")
    for _ in range(10):
        exchange.round()
        standby.settle()
    before = exchange.sequencer.position
    for i in range(15):
        bot.buy(1, quantity_lots=1, price_ticks=10 + i)
    bot.oco(1, "sell", quantity_lots=1, profit={"price_ticks": 90}, stop={"trigger_ticks": 5})
    exchange.sequencer.poll()
    assert exchange.sequencer.position == before + 18
    matcher = exchange.agents["matcher-0"]
    for _ in range(5):
        matcher.poll()
        exchange.publisher.poll()
    # Its ring is full: the last order of the list waits.
    assert matcher.position == before + 17
    standby.settle()
    assert standby.sequencer.position == before + 15
    take_over(standby)
    assert kinds(bot)[-3:] == ["DONE", "ACCEPTED", "ACCEPTED"]


def test_what_a_follower_missed_is_in_the_journal() -> None:
    exchange, standby = pair(log_slots=64)
    bot = exchange.attach("bot")
    standby.settle()
    for i in range(60):
        bot.buy(1, quantity_lots=1, price_ticks=10 + i)
        exchange.settle()
    assert not standby.follower.reachable
    standby.settle()
    assert standby.laps == 1
    assert standby.follower.stage == "following"
    assert standby.sequencer.position == exchange.sequencer.position
    bot.buy(1, quantity_lots=1, price_ticks=9)
    behind(exchange)
    take_over(standby)
    assert len(bot.reports()) == 62


def test_what_is_in_no_journal_is_in_the_ring() -> None:
    """However far the follower is behind: the journaler gates."""
    exchange, standby = pair(log_slots=64)
    bot = exchange.attach("bot")
    standby.settle()
    for i in range(60):
        bot.buy(1, quantity_lots=1, price_ticks=10 + i)
    for _ in range(20):
        for agent in exchange.agents.values():
            agent.poll()
    assert exchange.sequencer.position - standby.sequencer.position > 32
    take_over(standby)
    assert standby.laps == 0
    assert len(bot.reports()) == 61


def test_a_follower_that_would_decide_otherwise_says_so() -> None:
    exchange, standby = pair()
    bot = exchange.attach("bot")
    standby.settle()
    bot.buy(1, quantity_lots=1, price_ticks=10)
    exchange.settle()
    end = exchange.sequencer.position
    log = np.frombuffer(exchange.segment("log"), LOG_RECORD, offset=SLOTS)
    log["hold"][(end - 1) % len(log)] += 1
    with pytest.raises(AssertionError, match=f"at sequence {end}: hold, price bound, fee rates"):
        standby.settle()
    assert standby.follower.stage == "differing"
    assert standby.follower.record["sequence"] == end
    standby.follower.poll()
    assert standby.sequencer.position == end - 1


def test_an_engine_that_runs_replays_no_more() -> None:
    exchange, standby = pair()
    exchange.attach("bot")
    take_over(standby)
    with pytest.raises(BadArgument, match="replay after start"):
        standby.sequencer.replay(standby.log[:1])
    assert standby.follower.poll() == 0
    assert not standby.publisher.shadow


# ---- nothing lost, nothing repeated --------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_whenever_it_dies_nobody_notices(name: str, seed: int) -> None:
    undisturbed = Life().play(SCRIPTS[name]())
    assert undisturbed.polls > 50
    for dies_after in range(1, undisturbed.polls):
        life = Life(dies_after, seed=seed + dies_after).play(SCRIPTS[name]())
        assert life.died_at, f"polls={dies_after}"
        compare(life, undisturbed, f"polls={dies_after}, log={life.died_at}")


def test_there_is_something_of_everything_in_the_scripts() -> None:
    lives = [Life().play(script()) for script in SCRIPTS.values()]
    logs = np.concatenate([life.exchange.log for life in lives])
    told = np.concatenate([life.reports(bot) for life in lives for bot in life.told])
    assert {Kind.TICK, Kind.RELEASE, Kind.DETACH_SESSION, Kind.LOGOUT, Kind.REMOVE_MARKET} <= set(
        logs["kind"].tolist()
    )
    own = logs[(logs["kind"] == Kind.CANCEL_ORDER) & (logs["session"] == 0)]
    assert {Reason(reason).name for reason in own["cancel_reason"].tolist()} == {
        "COUNTDOWN_ENDED",
        "GTD_EXPIRED",
        "MASS_CANCELED",
        "SESSION_ENDED",
    }
    never = {EventKind.RESTED, EventKind.AMENDED, EventKind.PREVENTED, EventKind.EXPIRED}
    assert set(told["kind"].tolist()) >= set(EventKind) - never


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


def test_it_may_die_again_and_again(seed: int) -> None:
    """Each successor has a standby of its own, which begins with the journal."""
    for name, script in SCRIPTS.items():
        undisturbed = Life().play(script())
        life, deaths = Life(seed=seed), 0

        def die(life: Life = life) -> None:
            life.standby = Standby(life.exchange)
            for _ in range(life.random.randrange(100)):
                life.random.choice(life.standby.polls())()
            life.die()

        for step in script():
            life.exchange.sequencer.clock_ns = life.now
            step(life)
            if life.random.random() < 0.5:
                die()
                deaths += 1
            life.rest()
        assert deaths > 2
        for bot in undisturbed.told:
            found, expected = life.reports(bot), undisturbed.reports(bot)
            for one in (found, expected):
                one["sequence"] = one["order_id"] = one["command_position"] = 0
            same(f"{bot}, {name}", found, expected)
        for market in undisturbed.exchange.given:
            found, expected = (one.exchange.book(market).depth() for one in (life, undisturbed))
            assert found.update == expected.update
            assert found.bids.tolist() == expected.bids.tolist()
        life.exchange.sequencer.check()
