"""What is asked of the exchange's process rather than of memory: markets, rules, balances.

One thread with a line to the control socket, for questions that are seldom or that a person waits
for; orders never go this way.
"""

import asyncio
import mmap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from matchbox.gateway.durable import Durable
from matchbox.gateway.errors import DISCONNECTED, STATE_UNKNOWN, of
from matchbox.gateway.symbols import Symbols
from matchbox.shm.connect import Connection
from matchbox.shm.control import ControlClient
from matchbox.shm.depth import Book
from matchbox.shm.errors import EngineDown, SessionError
from matchbox.shm.records import AccountState

_PATIENCE_S = 10.0
_PAUSE_S = 0.002
T = TypeVar("T")


@dataclass(frozen=True)
class Holdings:
    """What an account has, in units by the asset's number, and what it pays, in ppm by the
    market's; market 0: those without rates of their own.
    """

    balances: dict[int, tuple[int, int]]  # free, held
    fees: dict[int, tuple[int, int]]  # maker, taker
    state: int

    @classmethod
    def of(cls, answer: dict[str, Any]) -> "Holdings":
        account = answer["account"] or {"state": AccountState.FROZEN}
        return cls(
            {asset: (free, held) for asset, free, held in answer["balances"]},
            {market: (maker, taker) for market, maker, taker in answer["fees"]},
            int(account["state"]),
        )

    def of_asset(self, number: int) -> tuple[int, int]:
        return self.balances.get(number, (0, 0))

    def of_market(self, number: int) -> tuple[int, int]:
        """Maker and taker rate."""
        return self.fees.get(number) or self.fees.get(0, (0, 0))


class Lookups:
    """Questions to the exchange's process, one after the other."""

    def __init__(self, data: Path, durable: Durable, market_data: mmap.mmap) -> None:
        """`market_data`: the ring, by which whole books are read."""
        self._data, self._durable, self._market_data = data, durable, market_data
        self._thread = ThreadPoolExecutor(1, "lookups")
        self._line: Connection | None = None

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, question: Callable[[Connection], T]) -> T:
        """Raises ApiError if nobody answers, SessionError if it is refused."""
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, self._answer, question
            )
        except EngineDown:
            raise of(DISCONNECTED) from None

    def _answer(self, question: Callable[[Connection], T]) -> T:
        if self._line is None:
            control = ControlClient(self._data / "control.sock")
            self._line = Connection(control, self._market_data, [])
        try:
            return question(self._line)
        except (EngineDown, OSError) as error:
            # The supervisor may be another one.
            self._line.close()
            self._line = None
            raise EngineDown(str(error)) from error

    async def symbols(self) -> Symbols:
        """The markets and assets as they are now."""

        def question(line: Connection) -> Symbols:
            rules, _ = line.listing()
            return Symbols(line.markets.values(), line.assets.values(), rules)

        return await self._ask(question)

    async def book(self, market: int) -> Book:
        """The depth table of a market. Raises SessionError if there is none."""
        return await self._ask(lambda line: line.book(market))

    async def holdings(self, account: int) -> Holdings:
        """What an account has and may: no older than what clients have been told, and nothing of
        it can be lost. Raises ApiError.
        """
        told = self._durable.position
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE_S
        while True:
            try:
                found = await self._ask(lambda line: line.holdings(account))
            except SessionError as error:
                raise of(DISCONNECTED) from error
            settled = int(found["settled"])
            if settled >= told:
                break
            await self._pause(deadline)
        while self._durable.position < settled:
            await self._pause(deadline)
        return Holdings.of(found)

    @staticmethod
    async def _pause(deadline: float) -> None:
        if asyncio.get_running_loop().time() > deadline:
            raise of(STATE_UNKNOWN)
        await asyncio.sleep(_PAUSE_S)
