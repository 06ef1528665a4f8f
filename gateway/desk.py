"""The worker's one session on the rings: commands in, each with its answer, on an event loop.

The session is trusted to name accounts, so one serves all of them. Its reports are durable unless
configured otherwise. No thread waits: the exchange rings a doorbell, which is a descriptor of the
loop.

An answer is what the exchange says of one command: the report that carries its position, and of a
new order all fills and the end that came with it at once. These reports follow each other, but not
always in one batch, so an order that stays open is answered when the exchange is known to have
said all: it has made all reports up to the command (`answered`), and what it has made is out.
Commands that are sent together, such as a list of orders, have an answer each.

A command whose answer does not come in time, or whose session ends, may have been taken or not:
StateUnknown. One that was not sent is NotSent.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from matchbox.shm.connect import connect
from matchbox.shm.errors import Detached, EngineDown, MatchboxError, RingFull, SessionError
from matchbox.shm.market import Market
from matchbox.shm.records import COMMAND, REPORT, Capability, EventKind, Kind, ReportFlag
from matchbox.shm.session import Session

# Reports that are looked at before the loop's other work goes on.
_AT_ONCE = 1024
# While answers are waited for, the ring is looked at so often, whatever the doorbell says: one who
# rings it and dies between its two steps is not noticed otherwise.
_LOOK_EVERY_S = 0.1
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0


class NotSent(Exception):
    """The command was not sent: the ring is full, or there is no session now."""


class StateUnknown(Exception):
    """The command was sent, and its answer was lost or did not come in time."""


class Report(NamedTuple):
    """A report as Python has it; the fields of REPORT."""

    sequence: int
    timestamp_ns: int
    order_id: int
    trade_id: int  # else the command position
    price_ticks: int
    quantity_lots: int
    leaves_lots: int
    cumulative_lots: int
    fee: int
    number: int  # `index`
    account: int
    market: int
    reason: int
    kind: int
    side: int
    flags: int
    assurance: int
    reserved: Any
    client_order_id: bytes

    @property
    def command_position(self) -> int:
        return 0 if self.kind == EventKind.TRADE else self.trade_id


assert len(REPORT.names or ()) == len(Report._fields)
_ENDS = frozenset((EventKind.CANCELED, EventKind.EXPIRED, EventKind.REJECTED))


@dataclass
class Answer:
    """What the exchange says of a command: `first` has its position."""

    first: Report
    more: list[Report] = field(default_factory=list)

    @property
    def fills(self) -> list[Report]:
        return [report for report in self.more if report.kind == EventKind.TRADE]

    @property
    def last(self) -> Report:
        return self.more[-1] if self.more else self.first


@dataclass
class _Waiting:
    future: "asyncio.Future[Answer]"
    whole: bool  # with all that comes with it
    position: int
    answer: Answer | None = None


class Desk:
    """Sends commands and awaits their answers. All of it on one event loop."""

    def __init__(
        self,
        data: Path,
        name: str,
        *,
        assurance: str = "durable",
        timeout_s: float = 10.0,
        say: Callable[[str], None] = print,
    ) -> None:
        self._data, self.name, self._assurance = data, name, assurance
        self._timeout_s, self._say = timeout_s, say
        self._session: Session | None = None
        self._waiting: dict[int, _Waiting] = {}  # by position
        self._orders: dict[int, _Waiting] = {}  # of those that are accepted, by order id
        self._seen = 0  # sequence of the last report
        self._look: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None
        self.closed = False

    # -- the session

    async def open(self) -> None:
        """Attach. Raises EngineDown, SessionError if the exchange does not let us in for long."""
        self._loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE_S
        deadline = self._loop.time() + 60.0
        while True:
            try:
                session = await asyncio.to_thread(self._attach)
                break
            except SessionError:
                # A worker before us is not gone yet; or an engine has just died.
                if self._loop.time() > deadline or self.closed:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        self._session = session
        self._loop.add_reader(session.doorbell, self._rung)
        self._take()

    def _attach(self) -> Session:
        return connect(
            self._data,
            name=self.name,
            capabilities=int(Capability.TRADE | Capability.NAME_ACCOUNTS),
            assurance=self._assurance,
            doorbell=True,
        )

    @property
    def attached(self) -> bool:
        return self._session is not None

    def _lost(self, why: str) -> None:
        """The session has ended: what was sent may have been taken; another session follows."""
        session, self._session = self._session, None
        if session is None:
            return
        self._loop.remove_reader(session.doorbell)
        session.close()
        self._fail(StateUnknown(why))
        if not self.closed:
            self._say(f"The session of {self.name} has ended: {why}. Attaching again.")
            self._opening = self._loop.create_task(self._reopen())

    async def _reopen(self) -> None:
        try:
            await self.open()
        except MatchboxError as error:
            self._say(f"{self.name} cannot attach: {error}")

    def _fail(self, error: Exception) -> None:
        waiting = [*self._waiting.values(), *self._orders.values()]
        self._waiting.clear()
        self._orders.clear()
        for each in waiting:
            if not each.future.done():
                each.future.set_exception(error)

    async def close(self) -> None:
        """Log out, once nothing is waited for or the time is over."""
        self.closed = True
        if self._opening is not None:
            self._opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._opening
        deadline = self._loop.time() + self._timeout_s
        while (self._waiting or self._orders) and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
        if self._look is not None:
            self._look.cancel()
        session, self._session = self._session, None
        if session is not None:
            self._loop.remove_reader(session.doorbell)
            session.close()
        self._fail(StateUnknown("the worker stops"))

    # -- sending

    async def order(self, market: Market, side: str, **options: Any) -> Answer:
        """A new order, by what Session.order() takes; the answer has its first fills. Raises
        NotSent, StateUnknown.
        """
        return await self._send(True, lambda s: int(s.order(market, side, **options)))

    async def cancel(
        self, account: int, market: int, order_id: int, client_order_id: str
    ) -> Answer:
        """Cancel an order of an account in a market, by its id (or 0), its client's (or ""), or
        both. Raises NotSent, StateUnknown.
        """
        record = np.zeros(1, COMMAND)
        record["kind"], record["account"], record["market"] = Kind.CANCEL_ORDER, account, market
        record["order_id"], record["client_order_id"] = order_id, client_order_id.encode()
        return await self.command(record)

    async def command(self, record: NDArray[Any]) -> Answer:
        """One command that is answered by one report. Raises NotSent, StateUnknown."""
        return await self._send(False, lambda session: session.submit(record.view(COMMAND)))

    async def amend(
        self, account: int, market: Market, order_id: int, client_order_id: str, quantity_lots: int
    ) -> Answer:
        """Give an order another quantity, what is filled of it included. Raises NotSent,
        StateUnknown.
        """
        return await self._send(
            False,
            lambda session: int(
                session.amend(
                    order_id,
                    client_order_id=client_order_id,
                    market=market,
                    quantity_lots=quantity_lots,
                    account=account,
                )
            ),
        )

    async def replace(
        self,
        market: Market,
        side: str,
        *,
        order_id: int,
        client_order_id: str,
        allow_failure: bool,
        options: dict[str, Any],
    ) -> tuple[Answer, Answer]:
        """Cancel an order, by its id (or 0) or its client's, and enter one in its place, as order()
        does; the answers to both. Raises NotSent, StateUnknown.
        """
        # The terms of the new order stand between.
        back = 2 if "display_lots" in options else 1

        def send(session: Session) -> list[int]:
            position = session.replace(
                order_id,
                market,
                side,
                canceled_client_order_id=client_order_id,
                allow_failure=allow_failure,
                **options,
            )
            return [position - back, position]

        canceled, entered = await self._send_all(send)
        return canceled, entered

    async def order_list(self, send: Callable[[Session], int], orders: int) -> list[Answer]:
        """Enter a list of so many orders, by what `send` does with the session; the answers to the
        list and to each of them. Raises NotSent, StateUnknown.
        """

        def all_of_it(session: Session) -> list[int]:
            position = int(send(session))
            return list(range(position, position + orders + 1))

        return await self._send_all(all_of_it)

    async def _send(self, whole: bool, send: Callable[[Session], int]) -> Answer:
        (waiting,) = self._start(whole, lambda session: [send(session)])
        try:
            return await asyncio.wait_for(waiting.future, self._timeout_s)
        except TimeoutError:
            raise StateUnknown(f"no answer in {self._timeout_s} s") from None
        finally:
            self._forget([waiting])

    async def _send_all(self, send: Callable[[Session], list[int]]) -> list[Answer]:
        """Answers to commands that are sent together, each whole."""
        waiting = self._start(True, send)
        try:
            futures = (each.future for each in waiting)
            return await asyncio.wait_for(asyncio.gather(*futures), self._timeout_s)
        except TimeoutError:
            raise StateUnknown(f"no answer in {self._timeout_s} s") from None
        finally:
            self._forget(waiting)

    def _start(self, whole: bool, send: Callable[[Session], list[int]]) -> list[_Waiting]:
        """Send, and wait for what is said of the positions that `send` gives. Raises NotSent."""
        session = self._session
        if session is None or self.closed:
            raise NotSent("there is no session with the exchange now")
        try:
            positions = send(session)
        except RingFull as error:
            raise NotSent(str(error)) from None
        except (Detached, EngineDown) as error:
            self._lost(str(error))
            raise NotSent(str(error)) from None
        found = [_Waiting(self._loop.create_future(), whole, position) for position in positions]
        self._waiting |= {waiting.position: waiting for waiting in found}
        if self._look is None:
            self._look = self._loop.call_later(_LOOK_EVERY_S, self._look_again)
        return found

    def _forget(self, waiting: list[_Waiting]) -> None:
        for each in waiting:
            self._waiting.pop(each.position, None)
            self._drop(each)

    def _drop(self, waiting: _Waiting) -> None:
        """An order is waited for no longer; one that is canceled may be by somebody else."""
        if waiting.answer is not None:
            order_id = waiting.answer.first.order_id
            if self._orders.get(order_id) is waiting:
                del self._orders[order_id]

    # -- receiving

    def _rung(self) -> None:
        assert self._session is not None
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._session.doorbell)
        self._take()

    def _look_again(self) -> None:
        self._look = None
        self._take()
        if (self._waiting or self._orders) and not self.closed:
            self._look = self._loop.call_later(_LOOK_EVERY_S, self._look_again)

    def _take(self) -> None:
        """Take what there is, and have the doorbell rung for what comes."""
        session = self._session
        if session is None:
            return
        try:
            if session.pending:
                for row in session.reports(_AT_ONCE).tolist():
                    self._on_report(Report(*row))
        except (Detached, EngineDown) as error:
            self._lost(str(error))
            return
        if self._session is not session:
            return
        if session.pending:
            self._loop.call_soon(self._take)
            return
        if self._orders:
            self._finish(session)
        if not session.arm():
            if session.pending:
                self._loop.call_soon(self._take)
            else:
                self._lost("the exchange has closed it")

    def _on_report(self, report: Report) -> None:
        self._seen = report.sequence
        if report.kind == EventKind.DETACHED:
            self._lost(f"detached, reason {report.reason}")
            return
        position = report.command_position
        if position and not report.flags & ReportFlag.RELEASED:
            waiting = self._waiting.pop(position, None)
            if waiting is not None:
                self._begin(waiting, report)
                return
        waiting = self._orders.get(report.order_id)
        if waiting is None:
            return
        assert waiting.answer is not None
        if report.sequence != waiting.answer.first.sequence:
            self._done(waiting)  # what comes later is none of its answer
            return
        waiting.answer.more.append(report)
        if report.leaves_lots == 0 or report.kind in _ENDS:
            self._done(waiting)

    def _begin(self, waiting: _Waiting, report: Report) -> None:
        waiting.answer = Answer(report)
        if waiting.whole and report.kind == EventKind.ACCEPTED:
            self._orders[report.order_id] = waiting
        else:
            self._done(waiting)

    def _done(self, waiting: _Waiting) -> None:
        assert waiting.answer is not None
        self._drop(waiting)
        if not waiting.future.done():
            waiting.future.set_result(waiting.answer)

    def _finish(self, session: Session) -> None:
        """Answer orders that stay open, as far as all is said of them. Nothing is left to read."""
        answered = session.answered
        held = session.held  # after that; see Session.held
        if session.pending:
            return  # they will be looked at again
        for waiting in list(self._orders.values()):
            assert waiting.answer is not None
            first = waiting.answer.first
            if first.command_position <= answered and (not held or self._seen > first.sequence):
                self._done(waiting)
