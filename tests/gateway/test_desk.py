"""The desk on real rings, the test being the exchange: which reports make an answer, and when."""

import asyncio
import mmap
import os
import struct
from collections.abc import Callable, Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchbox.gateway import desk as desk_module
from matchbox.gateway.desk import Answer, Desk, NotSent, StateUnknown
from matchbox.shm.market import Market
from matchbox.shm.records import COMMAND, REPORT, EventKind, Kind
from matchbox.shm.ring import Producer, Reader, Ring, ring_bytes
from matchbox.shm.session import Session

MARKET = Market(1, "BTC/USD", "BTC", "USD", 8, 8, Decimal("0.01"), Decimal("0.0001"), 1, 1,
                1 << 40, 1, 1 << 40, 100, 1, 2)  # fmt: skip
ANSWERED = 2560  # offset in the report ring: the position of the last command answered, and held
SLOTS = 64
Test = Callable[["Exchange", Desk], Coroutine[Any, Any, None]]


class Exchange:
    """The other side of one session."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, ring_bytes(SLOTS))
        commands = Ring.create(
            mmap.mmap(-1, ring_bytes(SLOTS)), capacity=SLOTS, shape="session", readers=1
        )
        reports = Ring.create(self._memory, capacity=SLOTS, shape="session", readers=0)
        self.bell = os.eventfd(0, os.EFD_NONBLOCK)
        self._commands, self._reports = Reader(commands), Producer(reports)
        self.session = Session(
            Line(), commands, reports, number=1, name="gateway.1", account=0, doorbell=self.bell
        )

    def taken(self) -> Any:
        """The commands since the last time."""
        return self._commands.read(SLOTS, COMMAND)

    def say(self, *reports: dict[str, Any], answered: int, held: int = 0) -> None:
        """Publish reports; what the ring's words say then; ring."""
        records = np.zeros(len(reports), REPORT)
        for record, values in zip(records, reports, strict=True):
            for name, value in values.items():
                record[name] = value
        if len(records):
            assert self._reports.publish(records)
        struct.pack_into("<QQ", self._memory, ANSWERED, answered, held)
        os.eventfd_write(self.bell, 1)


class Line:
    """What is behind a session: nobody."""

    def close(self) -> None:
        pass

    def market(self, market: Any) -> Any:
        return market


def report(kind: EventKind, position: int = 0, *, sequence: int = 5, **values: Any) -> Any:
    # One word has the number of a trade, or else the position of the command.
    return {"kind": kind, "trade_id": position, "sequence": sequence, "order_id": 5} | values


def play(monkeypatch: pytest.MonkeyPatch, test: Test, timeout_s: float = 20.0) -> None:
    """Run a test with both sides."""

    async def run() -> None:
        exchange = Exchange()
        monkeypatch.setattr(desk_module, "connect", lambda *_, **__: exchange.session)
        desk = Desk(Path(), "gateway.1", timeout_s=timeout_s, say=lambda text: None)
        await desk.open()
        try:
            await asyncio.wait_for(test(exchange, desk), 60)
        finally:
            await desk.close()

    asyncio.run(run())


def buy(desk: Desk) -> "asyncio.Task[Answer]":
    return asyncio.ensure_future(
        desk.order(MARKET, "buy", quantity_lots=9, price_ticks=100, account=1)
    )


async def settle() -> None:
    """Everything that the loop has to do now is done, and not more by time."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_an_order_is_answered_once_all_of_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(exchange: Exchange, desk: Desk) -> None:
        waiting = buy(desk)
        await settle()
        assert len(exchange.taken()) == 1
        exchange.say(report(EventKind.ACCEPTED, 1, leaves_lots=9), answered=0)
        await asyncio.sleep(0.3)  # also by the clock
        assert not waiting.done()
        exchange.say(report(EventKind.TRADE, 70, quantity_lots=4, leaves_lots=5), answered=0)
        await settle()
        assert not waiting.done()
        # The record is done, but two of its reports are held.
        exchange.say(answered=1, held=2)
        await asyncio.sleep(0.3)
        assert not waiting.done()
        exchange.say(
            report(EventKind.TRADE, 71, quantity_lots=1, leaves_lots=4),
            report(EventKind.TRADE, 72, quantity_lots=1, leaves_lots=3),
            answered=1,
        )
        answer = await waiting
        assert [fill.trade_id for fill in answer.fills] == [70, 71, 72]
        assert (answer.first.kind, answer.last.leaves_lots) == (EventKind.ACCEPTED, 3)

    play(monkeypatch, test)


def test_an_order_that_ends_is_answered_with_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(exchange: Exchange, desk: Desk) -> None:
        filled = buy(desk)
        await settle()
        exchange.say(
            report(EventKind.ACCEPTED, 1, leaves_lots=9),
            report(EventKind.TRADE, 70, quantity_lots=9, leaves_lots=0),
            answered=0,
        )
        assert [fill.quantity_lots for fill in (await filled).fills] == [9]
        refused = buy(desk)
        await settle()
        exchange.say(report(EventKind.REJECTED, 2, sequence=6, reason=304), answered=1)
        assert (await refused).first.reason == 304

    play(monkeypatch, test)


def test_what_a_later_record_does_is_none_of_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(exchange: Exchange, desk: Desk) -> None:
        waiting = buy(desk)
        await settle()
        exchange.say(
            report(EventKind.ACCEPTED, 1, leaves_lots=9),
            report(EventKind.TRADE, 70, sequence=8, quantity_lots=2, leaves_lots=7),
            answered=1,
            held=3,
        )
        answer = await waiting
        assert answer.fills == []

    play(monkeypatch, test)


def test_an_answer_that_does_not_come_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(exchange: Exchange, desk: Desk) -> None:
        with pytest.raises(StateUnknown):
            await buy(desk)
        # It comes late, and is nobody's.
        exchange.say(report(EventKind.ACCEPTED, 1, leaves_lots=9), answered=1)
        await settle()
        again = buy(desk)
        await settle()
        exchange.say(report(EventKind.ACCEPTED, 2, sequence=9, order_id=9), answered=2)
        assert (await again).first.order_id == 9

    play(monkeypatch, test, timeout_s=0.2)


def test_a_full_ring_is_said_and_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(exchange: Exchange, desk: Desk) -> None:
        waiting = [buy(desk) for _ in range(SLOTS)]
        await settle()
        with pytest.raises(NotSent, match="full"):
            await buy(desk)
        assert len(exchange.taken()) == SLOTS
        exchange.say(
            *(report(EventKind.REJECTED, n + 1, sequence=n + 1, reason=304) for n in range(SLOTS)),
            answered=SLOTS,
        )
        assert {(await each).first.reason for each in waiting} == {304}

    play(monkeypatch, test)


def test_the_end_of_the_session_ends_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(exchange: Exchange, desk: Desk) -> None:
        waiting = buy(desk)
        await settle()
        desk.closed = True  # it is not to attach again
        exchange.say(report(EventKind.DETACHED, 0, reason=503), answered=0)
        with pytest.raises(StateUnknown, match="503"):
            await waiting
        with pytest.raises(NotSent):
            await buy(desk)

    play(monkeypatch, test)


def test_who_cancels_an_order_does_not_take_the_answer_of_who_entered_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(exchange: Exchange, desk: Desk) -> None:
        entered = buy(desk)
        await settle()
        exchange.say(report(EventKind.ACCEPTED, 1, leaves_lots=9), answered=0)
        canceled = asyncio.ensure_future(desk.cancel(1, 1, 0, "mine"))
        await settle()
        exchange.say(report(EventKind.CANCELED, 2, sequence=6, quantity_lots=9), answered=0, held=1)
        assert (await canceled).first.kind == EventKind.CANCELED
        exchange.say(answered=2)
        assert (await entered).last.leaves_lots == 9

    play(monkeypatch, test, timeout_s=5.0)


def test_what_is_sent_together_has_an_answer_each(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(exchange: Exchange, desk: Desk) -> None:
        options = {"quantity_lots": 4, "price_ticks": 7, "display_lots": 1, "account": 1}
        waiting = asyncio.ensure_future(
            desk.replace(
                MARKET, "buy", order_id=5, client_order_id="", allow_failure=False, options=options
            )
        )
        await settle()
        assert exchange.taken()["kind"].tolist() == [Kind.CANCEL_ORDER, Kind.ORDER_TERMS, 1]
        exchange.say(
            report(EventKind.CANCELED, 1, sequence=8, quantity_lots=9),
            report(EventKind.DONE, 2, sequence=9, order_id=0),
            report(EventKind.ACCEPTED, 3, sequence=10, order_id=10, leaves_lots=4),
            answered=2,
        )
        await settle()
        assert not waiting.done()
        exchange.say(
            report(EventKind.TRADE, 70, sequence=10, order_id=10, quantity_lots=4), answered=3
        )
        canceled, entered = await waiting
        assert (canceled.first.sequence, len(entered.fills)) == (8, 1)

    play(monkeypatch, test)


def test_of_what_is_sent_together_all_is_known_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(exchange: Exchange, desk: Desk) -> None:
        pair = {"quantity_lots": 4, "profit": {"price_ticks": 9}, "stop": {"trigger_ticks": 5}}
        waiting = asyncio.ensure_future(
            desk.order_list(lambda session: session.oco(MARKET, "sell", account=1, **pair), 2)
        )
        await settle()
        assert len(exchange.taken()) == 3
        exchange.say(
            report(EventKind.DONE, 1, sequence=8, order_id=0),
            report(EventKind.ACCEPTED, 2, sequence=9, order_id=9, leaves_lots=4),
            answered=2,
        )
        with pytest.raises(StateUnknown):
            await waiting
        again = buy(desk)
        await settle()
        exchange.say(report(EventKind.REJECTED, 4, sequence=12, reason=304), answered=4)
        assert (await again).first.reason == 304

    play(monkeypatch, test, timeout_s=0.3)
