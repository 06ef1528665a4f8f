"""What one market tells those who listen: trades, best prices, books.

Fed with the records of the market-data ring in their order (take), and with the passing of time
(tick). Nothing is sent twice, also where a successor of the engine's process has published a record
again: trades and changes have numbers.
"""

import time
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from matchbox.gateway.diffs import Batch, Diffs, Gathering
from matchbox.gateway.streams import FAST_MS, SLOW_MS, Channel, Kind, Stream
from matchbox.gateway.symbols import Symbol
from matchbox.shm.depth import Book, Top
from matchbox.shm.records import MarketDataKind, Side

encode = msgspec.json.Encoder().encode
# What is looked at of a record, in this order.
_FIELDS = [
    "kind",
    "sequence",
    "timestamp_ns",
    "trade_id",
    "price_ticks",
    "quantity_lots",
    "ask_price_ticks",
    "ask_quantity_lots",
    "update",
    "side",
]
Best = tuple[int, int, int, int, int]  # update, bid, its quantity, ask, its quantity


class _Aggregate(NamedTuple):
    """Fills of one order at one price."""

    sequence: int
    price_ticks: int
    first: int
    last: int
    quantity_lots: int
    timestamp_ns: int
    seller_takes: bool


class MarketStreams:
    """The streams of one market that somebody listens to."""

    def __init__(self, symbol: Symbol, book: Book, everybody: Channel) -> None:
        """`everybody`: the channel of the best prices of all markets."""
        self.symbol, self._book, self._everybody = symbol, book, everybody
        self.channels: dict[str, Channel] = {}
        self._of_kind: dict[Kind, Channel] = {}
        self._diffs: Diffs | None = None
        self._slow = Gathering()
        self._depths: dict[int, Channel] = {}  # by cadence
        self._levels: dict[Channel, int] = {}  # the number that was published last
        self._top: Top | None = None  # best levels that wait for the disk, and who gets them
        self._top_for: list[Channel] = []
        self._missed = False
        self._last_trade = self._last_best = 0
        self._aggregate: _Aggregate | None = None

    # -- channels

    @property
    def at_once(self) -> bool:
        """Does anybody want to hear of records as soon as they are there?"""
        return bool(self._of_kind)

    def add(self, stream: Stream) -> Channel:
        """The channel of a stream, from now on if it is new. Raises MarketRemoved, EngineDown."""
        channel = self.channels.get(stream.name)
        if channel is None:
            channel = Channel(stream)
            if stream.kind is Kind.DIFFS:
                self._diffs = self._diffs or Diffs(self._book)
                self._depths[stream.every_ms] = channel
            elif stream.kind is Kind.LEVELS:
                self._levels[channel] = -1
            else:
                self._of_kind[stream.kind] = channel
            self.channels[stream.name] = channel
        if stream.kind is Kind.LEVELS:
            self._levels[channel] = -1  # who is new wants to see them before they change
        return channel

    def drop(self, channel: Channel) -> None:
        """Nobody listens to it any more."""
        stream = channel.stream
        del self.channels[stream.name]
        if stream.kind is Kind.DIFFS:
            del self._depths[stream.every_ms]
            if not self._depths:
                self._diffs, self._slow = None, Gathering()
        elif stream.kind is Kind.LEVELS:
            del self._levels[channel]
        else:
            del self._of_kind[stream.kind]
            if stream.kind is Kind.AGGREGATE:
                self._aggregate = None

    @property
    def removed(self) -> bool:
        return self._book.removed

    # -- records

    def take(self, rows: NDArray[Any]) -> None:
        """Records (MARKET_DATA) of this market, all that they say on the disk."""
        diffs, best = self._diffs, None
        for (
            kind, sequence, timestamp_ns, trade_id, price, lots, ask, ask_lots, update, side,
        ) in rows[_FIELDS].tolist():  # fmt: skip
            if kind == MarketDataKind.LEVEL:
                if diffs is not None:
                    diffs.change(update, side, price, lots)
            elif kind == MarketDataKind.BEST:
                best = update, price, lots, ask, ask_lots
            elif trade_id > self._last_trade:
                self._last_trade = trade_id
                self._on_trade(sequence, timestamp_ns, trade_id, price, lots, side == Side.SELL)
        if best is not None:
            self._on_best(best)
        pending = self._aggregate
        if pending is not None and int(rows["sequence"][-1]) > pending.sequence:
            self._end_aggregate()

    def quiet(self) -> None:
        """No more records were there at a look: an aggregate that waits for more is whole."""
        if self._aggregate is not None:
            self._end_aggregate()

    def lapped(self) -> None:
        """Records were missed."""
        self._missed = True
        if self._diffs is not None:
            self._diffs.stale = True

    def _on_trade(
        self, sequence: int, timestamp_ns: int, trade: int, price: int, lots: int, sells: bool
    ) -> None:
        symbol = self.symbol
        channel = self._of_kind.get(Kind.TRADE)
        if channel is not None:
            said = {
                "e": "trade",
                "E": now_ms(),
                "s": symbol.name,
                "t": trade,
                "p": symbol.price(price),
                "q": symbol.quantity(lots),
                "T": timestamp_ns // 1_000_000,
                "m": sells,
                "M": True,
            }
            channel.publish(encode(said))
        if Kind.AGGREGATE not in self._of_kind:
            return
        before = self._aggregate
        if before is not None:
            if (before.sequence, before.price_ticks) == (sequence, price):
                total = before.quantity_lots + lots
                self._aggregate = before._replace(last=trade, quantity_lots=total)
                return
            self._end_aggregate()
        self._aggregate = _Aggregate(sequence, price, trade, trade, lots, timestamp_ns, sells)

    def _end_aggregate(self) -> None:
        found, self._aggregate = self._aggregate, None
        assert found is not None
        said = {
            "e": "aggTrade",
            "E": now_ms(),
            "s": self.symbol.name,
            "a": found.first,
            "p": self.symbol.price(found.price_ticks),
            "q": self.symbol.quantity(found.quantity_lots),
            "f": found.first,
            "l": found.last,
            "T": found.timestamp_ns // 1_000_000,
            "m": found.seller_takes,
            "M": True,
        }
        self._of_kind[Kind.AGGREGATE].publish(encode(said))

    def _on_best(self, best: Best) -> None:
        """Of what was published since the last look, the newest."""
        channel = self._of_kind.get(Kind.BEST)
        update, bid, bid_lots, ask, ask_lots = best
        if update <= self._last_best or (channel is None and not len(self._everybody)):
            return
        self._last_best = update
        symbol = self.symbol
        said = encode(
            {
                "u": update,
                "s": symbol.name,
                "b": symbol.price(bid),
                "B": symbol.quantity(bid_lots),
                "a": symbol.price(ask),
                "A": symbol.quantity(ask_lots),
            }
        )
        if channel is not None:
            channel.publish(said)
        self._everybody.publish(said)

    # -- time

    def tick(self, slow: bool, durable: int) -> bool:
        """A tenth of a second has passed, and a whole one if `slow`. True: something waits for
        the disk. Raises MarketRemoved, EngineDown, Lapped.
        """
        if self._diffs is not None:
            self._tick_diffs(self._diffs, slow, durable)
        update = self._book.update
        due = [
            channel
            for channel, published in self._levels.items()
            if published != update and (slow or channel.stream.every_ms == FAST_MS)
        ]
        if (due or self._missed) and self._top is None:
            self._top, self._top_for = self._book.top(), due
        return self.waits(durable)

    def _tick_diffs(self, diffs: Diffs, slow: bool, durable: int) -> None:
        if diffs.stale:
            diffs.resynchronize()
        batch = diffs.take() if diffs.sequence <= durable else None
        if batch is not None:
            if FAST_MS in self._depths:
                self._depths[FAST_MS].publish(self._update(batch))
            if SLOW_MS in self._depths:
                self._slow.add(batch)
        if slow and SLOW_MS in self._depths:
            batch = self._slow.take()
            if batch is not None:
                self._depths[SLOW_MS].publish(self._update(batch))

    def waits(self, durable: int) -> bool:
        """Does something wait for the disk? What need not any more is published."""
        top = self._top
        if top is None:
            return False
        if top.sequence > durable:
            return True
        self._top = None
        self._on_levels(top)
        if self._missed:
            self._missed = False
            bid, ask = (side[0].tolist() if len(side) else (0, 0) for side in (top.bids, top.asks))
            self._on_best((top.update, *bid, *ask))
        return False

    def _update(self, batch: Batch) -> bytes:
        symbol = self.symbol

        def shown(side: dict[int, int], best_first: bool) -> list[tuple[str, str]]:
            levels = sorted(side.items(), reverse=best_first)
            return [(symbol.price(ticks), symbol.quantity(lots)) for ticks, lots in levels]

        return encode(
            {
                "e": "depthUpdate",
                "E": now_ms(),
                "s": symbol.name,
                "U": batch.first,
                "u": batch.last,
                "b": shown(batch.bids, True),
                "a": shown(batch.asks, False),
            }
        )

    def _on_levels(self, top: Top) -> None:
        symbol = self.symbol
        bids, asks = (
            [(symbol.price(ticks), symbol.quantity(lots)) for ticks, lots in side.tolist()]
            for side in (top.bids, top.asks)
        )
        for channel in self._top_for:
            if channel in self._levels:
                self._levels[channel] = top.update
                count = channel.stream.levels
                said = {"lastUpdateId": top.update, "bids": bids[:count], "asks": asks[:count]}
                channel.publish(encode(said))


def rows_by_market(rows: NDArray[Any]) -> list[tuple[int, NDArray[Any]]]:
    """Records of each market, in their order."""
    numbers = rows["market"]
    first = int(numbers[0])
    if (numbers == first).all():
        return [(first, rows)]
    return [(int(number), rows[numbers == number]) for number in np.unique(numbers)]


def now_ms() -> int:
    return time.time_ns() // 1_000_000
