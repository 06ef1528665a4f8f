"""A second engine beside an exchange, on memory of its own, which goes on where that one dies.

While the first lives, the follower replays what it has put into its log; take_over() polls the
first one no more, from whatever moment, drains its log and takes its outputs over. From then on
the standby is the exchange, and the bots' sessions go on without noticing.
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.core.follower import Follower
from matchbox.core.plan import OPERATOR_SLOT, place, prepare
from matchbox.shm.errors import BadArgument
from matchbox.shm.records import LOG_RECORD, MARKET_RECORD, Assurance, Kind
from matchbox.shm.ring import Reader, Ring
from tests.core.exchange import Exchange, removal

TAKEN_OVER = ("market-data", "operator-commands", "operator-reports")


class Standby(Exchange):
    """The standby of `first`, from its first record on."""

    def __init__(self, first: Exchange, *, seed: int | None = None) -> None:
        super().__init__(replace(first.plan, epoch=first.plan.epoch + 1), seed=seed, define=False)
        self.first = first
        self.dead = self.done = False
        self.source = Ring.attach(first.segment("log"))
        events = ["ledger", *(f"events-{k}" for k in range(self.plan.matchers))]
        self.follower = Follower(
            self.sequencer,
            Ring.attach(self.segment("log")),
            self.source,
            [Ring.attach(first.segment(part)) for part in events],
            [Ring.attach(self.segment(part)) for part in events],
            gates=self.plan.matchers + 1,
            journaler=self.plan.journaler_reader,
        )
        self.publisher.shadow = True
        for slot in range(self.plan.max_sessions):
            self.publisher.open_session(slot, *self.rings(2, self._report_slots(slot)))
        self._part = 0  # of the journal, the next to be replayed
        self.laps = 0  # how often the ring did not have what comes next any more

    def _report_slots(self, slot: int) -> int:
        if slot == OPERATOR_SLOT:
            return Ring.attach(self.segment("operator-reports")).capacity
        opened = self.first.opened.get(slot)
        return opened[1].capacity if opened else self.plan.report_slots

    # -- following

    def polls(self) -> list[Callable[[], int]]:
        return super().polls() if self.done else [self.follow, *super().polls()]

    def journal(self, durable: int | None = None) -> int:
        """What is replayed is in the first one's journal."""
        return super().journal(durable) if self.done else 0

    def follow(self) -> int:
        """A poll of the follower, and what it needs from who tends it."""
        before = self.follower.stage
        done = int(self.follower.poll())
        stage = self.follower.stage
        self.laps += stage == "lapped" and before != stage
        assert stage != "differing", self.follower.problem
        if stage == "wanting":
            if self._make_room(self.follower.record):
                self._resume()
                done += 1
        elif stage in ("waiting", "lapped"):
            done += self._catch_up()
        elif self.dead and self.follower.lag == 0:
            done += self.sequencer.settle()
        if not self.dead:
            self.check_gates()
        return done

    def check_gates(self) -> None:
        """We are behind whom we follow, and say no more of ourselves than is true."""
        living = min(self.source.consumed[: self.plan.matchers + 1])
        assert self.sequencer.position <= living, f"ahead: {self.sequencer.position} of {living}"
        applied = min(agent.position for agent in self.agents.values())
        assert self.source.replicated <= applied, f"replicated: {self.source.replicated}"

    def _resume(self) -> None:
        self.follower.stage = "draining" if self.dead else "following"

    def _make_room(self, record: NDArray[Any]) -> int:
        """Set memory aside for the market that the next record adds. All have to be past the
        removal of the last one of this number, but no further: matchers may wait for what this
        very record lets be settled.
        """
        market = record.view(MARKET_RECORD)[0]
        removed = removal(self._replayed(), int(market["market"]))
        if any(agent.position < removed for agent in self.agents.values()):
            return 0
        self.give_memory(market, removed)
        return 1

    def _replayed(self) -> NDArray[Any]:
        """All that was: what is not in the journal is in our ring."""
        journal = np.concatenate([np.empty(0, LOG_RECORD), *self.first._log])
        end = self.sequencer.position
        ring = Ring.attach(self.segment("log"))
        rest = ring.peek(len(journal), max(0, end - len(journal)), LOG_RECORD)
        return np.concatenate([journal[:end], rest])

    def _catch_up(self) -> int:
        """Replay from the journal what the ring does not have any more."""
        if self.follower.reachable:
            self._resume()
            return 1
        position, parts = self.sequencer.position, self.first._log
        while self._part < len(parts) and parts[self._part]["sequence"][-1] <= position:
            self._part += 1
        if self._part == len(parts):
            return 0
        records = parts[self._part]
        living = min(self.source.consumed[: self.plan.matchers + 1])
        if not self.dead and records["sequence"][-1] > living:
            return 0
        records = records[records["sequence"] > position]
        done = int(self.sequencer.replay(records))
        if self.sequencer.wanted_market:
            done += self._make_room(records[done : done + 1])
        return done

    # -- taking over

    def kill(self) -> None:
        """The first one is polled no more."""
        self.dead = True
        if self.follower.stage == "following":
            self._resume()

    @property
    def drained(self) -> bool:
        """Have all of our agents done all of its log?"""
        end = self.source.produced
        return self.sequencer.settled == end and all(
            a.position == end for a in self.agents.values()
        )

    def drain(self) -> None:
        idle = 0
        while not self.drained:
            idle = 0 if self.round() else idle + 1
            assert idle < 100, f"the standby stands still: {self.follower.stage}"

    def take_over(self) -> "Standby":
        """Become the exchange."""
        self.kill()
        self.drain()
        self.succeed()
        return self

    def succeed(self) -> None:
        """Take over the outputs: the log is drained."""
        first = self.first
        self.follower.poll()
        assert self.source.replicated == self.source.produced
        self.follower.stage, self.done = "done", True
        self._log = first._log
        ring = Ring.attach(self.segment("log"))
        self._journal, self._disk = (Reader(ring, self.plan.journaler_reader) for _ in range(2))
        assert first._disk is not None and first._disk.position == self._disk.position
        read = sum(map(len, self._log)) - self._disk.position
        assert len(self._journal.read(read, LOG_RECORD, release=False)) == read
        self._replicated = first.reached(Assurance.REPLICATED)
        self.journal(0)
        attached = {}
        for slot in range(self.plan.max_sessions):
            if slot in first.opened:
                attached[slot] = self.publisher.adopt_session(slot, *first.opened[slot])
            else:
                # One whose memory is lost is detached by take_over().
                with contextlib.suppress(BadArgument):
                    self.publisher.close_session(slot)
        self._adopt_markets()
        self.publisher.adopt_market_data(Ring.attach(first.segment("market-data")))
        self._segments |= {part: first.segment(part) for part in TAKEN_OVER}
        for slot, session in attached.items():
            self.sequencer.adopt_session(slot, *first.opened[slot][:2], session)
        self.opened, self._slots = first.opened, first._slots
        self.session_rings, self.operator = first.session_rings, first.operator
        self.sequencer.clock_ns = first.sequencer.clock_ns
        self.sequencer.take_over(self.plan.epoch)
        self.show()
        first.successor = self

    def show(self) -> None:
        """The last step: until then readers of books wait."""
        self.publisher.show_depths()

    def _adopt_markets(self) -> None:
        """Of each market that the first one has memory for, what we have is of the same market; or
        it was not added yet, and we have nothing, or what was another's.
        """
        first, log = self.first, self.log
        added = log[(log["kind"] == Kind.ADD_MARKET) & (log["reject"] == 0)]
        for number in sorted({*self.given, *first.given}):
            sequences = added["sequence"][added["market"] == number]
            market, position = first.given.get(number, (None, 0))
            part = f"depth-{number}"
            if market is not None and len(sequences) and sequences[-1] > position:
                self._segments[part] = first.segment(part)
                self.publisher.adopt_depth(number, first.segment(part))
                continue
            self.take_memory(number)
            if market is not None:
                self._segments[part] = first.segment(part)
                for agent in self.agents.values():
                    place(agent, market, prepare(agent, market, self.segment))
        self.given = first.given
