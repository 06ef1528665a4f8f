"""Public market data from shared memory: books, best prices, last prices.

Symbols are asked for when a name is not among them, its book says that the market was removed, or
all are wanted and older than FRESH_S: so a market that is added can be traded at once, and none is
taken for another one that had its name or number.
"""

import asyncio
import time
from typing import Any

from matchbox.gateway.errors import UNKNOWN_SYMBOL, ApiError, of
from matchbox.gateway.lookups import Lookups
from matchbox.gateway.symbols import Symbol, Symbols
from matchbox.shm.depth import Book
from matchbox.shm.errors import MarketRemoved, SessionError

FRESH_S = 1.0
_TOP_LEVELS = 20
Levels = list[tuple[int, int]]


class Markets:
    """Symbols and their books. On one event loop."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups
        self._symbols = Symbols((), (), {})
        self._asked = -FRESH_S
        self._asking = asyncio.Lock()
        self._books: dict[int, Book] = {}

    # -- symbols

    async def symbols(self, *, fresh: bool = False) -> Symbols:
        """All of them; `fresh`: as they were a second ago at most."""
        if fresh or not self._symbols.by_number:
            await self._refresh()
        return self._symbols

    @property
    def known(self) -> Symbols:
        """All of them, as they were when somebody asked last."""
        return self._symbols

    async def symbol(self, name: str) -> Symbol:
        """The market of this name. Raises ApiError."""
        symbol = self._symbols.by_name.get(name)
        if symbol is None or await self._is_gone(symbol):
            await self._refresh()
        return self._symbols[name]

    async def chosen(self, symbol: str | None, symbols: list[str] | None) -> list[Symbol]:
        """The one, the ones, or all."""
        wanted = [symbol] if symbol is not None else symbols
        if wanted is not None:
            return [await self.symbol(name) for name in wanted]
        await self._refresh()
        return self._symbols.chosen(None, None)

    def by_number(self, number: int) -> Symbol | None:
        return self._symbols.by_number.get(number)

    async def _refresh(self) -> None:
        async with self._asking:
            if time.monotonic() - self._asked < FRESH_S:
                return
            self._symbols = await self._lookups.symbols()
            self._asked = time.monotonic()

    async def _is_gone(self, symbol: Symbol) -> bool:
        """Was it removed, perhaps for another one with its name or number? Then what prices and
        quantities mean is another thing.
        """
        book = self._books.get(symbol.number)
        if book is None:
            try:
                book = self._books[symbol.number] = await self._lookups.book(symbol.number)
            except SessionError:
                self._asked = -FRESH_S
                return True
        if book.removed or book.market != symbol.market:
            del self._books[symbol.number]
            self._asked = -FRESH_S
            return True
        return False

    # -- books

    async def book(self, symbol: Symbol) -> Book:
        """The depth table of a market. Raises ApiError if it is no more."""
        book = self._books.get(symbol.number)
        if book is None or book.removed:
            try:
                book = self._books[symbol.number] = await self._lookups.book(symbol.number)
            except SessionError:
                raise self.removed(symbol) from None
        return book

    def removed(self, symbol: Symbol) -> ApiError:
        """A market is no more; whoever asks next finds out."""
        self._books.pop(symbol.number, None)
        self._asked = -FRESH_S
        self._symbols.by_name.pop(symbol.name, None)
        return of(UNKNOWN_SYMBOL)

    async def depth(self, symbol: Symbol, limit: int) -> tuple[int, Levels, Levels]:
        """The number of the last change, and the best levels of each side, in ticks and lots.
        Raises ApiError.
        """
        book = await self.book(symbol)
        try:
            found: Any = book.top() if limit <= _TOP_LEVELS else book.depth()
        except MarketRemoved:
            raise self.removed(symbol) from None
        return found.update, found.bids[:limit].tolist(), found.asks[:limit].tolist()

    async def best(self, symbol: Symbol) -> tuple[int, int, int, int]:
        """Best bid and ask with their quantities, 0 where there is none. Raises ApiError."""
        book = await self.book(symbol)
        try:
            return book.best()
        except MarketRemoved:
            raise self.removed(symbol) from None

    async def last_price(self, symbol: Symbol) -> int:
        """In ticks; 0 before the first trade. Raises ApiError."""
        book = await self.book(symbol)
        try:
            return int(book.top().last_price_ticks)
        except MarketRemoved:
            raise self.removed(symbol) from None
