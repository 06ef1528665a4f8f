"""The changes of a book as clients get them: gathered for a while, without a gap.

Every change of a level has the next number (`update`) of its market. A batch says its first and its
last number, so one follows the other; a snapshot of the book, whose number is the last change that
it has, fits in between: its reader leaves out the batches before it, and begins in the one with the
number after it.

Who was lapped does not know what he has missed. So the book is kept as it was told, and what is
different in the depth table is the next batch: larger, but right, with the numbers of all changes
in between.
"""

from typing import NamedTuple

from matchbox.shm.depth import Book
from matchbox.shm.records import Side

Side_ = dict[int, int]


class Batch(NamedTuple):
    """Changes `first` to `last`: quantity in lots by price in ticks, of each side; 0: gone."""

    first: int
    last: int
    bids: Side_
    asks: Side_


class Gathering:
    """What has changed since the last batch of one cadence."""

    def __init__(self) -> None:
        self._first = self._last = 0
        self._sides: tuple[Side_, Side_] = ({}, {})

    def add(self, batch: Batch) -> None:
        self._first = self._first or batch.first
        self._last = batch.last
        self._sides[0].update(batch.bids)
        self._sides[1].update(batch.asks)

    def take(self) -> Batch | None:
        """What there is, if there is anything."""
        if not self._first:
            return None
        batch = Batch(self._first, self._last, *self._sides)
        self._first, self._sides = 0, ({}, {})
        return batch


class Diffs:
    """The changes of one market from the moment on at which it is made."""

    def __init__(self, book: Book) -> None:
        """Raises MarketRemoved, EngineDown."""
        self._book = book
        depth = book.depth()
        self._told = dict(depth.bids.tolist()), dict(depth.asks.tolist())
        self._flushed = self.last = depth.update
        self._changed: tuple[Side_, Side_] = ({}, {})
        self.stale = False  # changes were missed
        self.sequence = 0  # of the log record that what is gathered must wait for

    def change(self, update: int, side: int, price_ticks: int, quantity_lots: int) -> None:
        """A level's new quantity. One that was taken from the depth table already is none."""
        if update <= self.last:
            return
        if update != self.last + 1:
            self.stale = True
            return
        self.last = update
        self._changed[0 if side == Side.BUY else 1][price_ticks] = quantity_lots

    def resynchronize(self) -> None:
        """Find in the depth table what was missed. Raises MarketRemoved, EngineDown, Lapped."""
        depth = self._book.depth()
        self.sequence = self._book.top().sequence
        self.stale = False
        if depth.update <= self.last:
            return
        self.last = depth.update
        for told, levels, changed in zip(
            self._told, (depth.bids, depth.asks), self._changed, strict=True
        ):
            now = dict(levels.tolist())
            changed.clear()
            changed.update({price: 0 for price in told if price not in now})
            changed.update({p: lots for p, lots in now.items() if told.get(p) != lots})

    def take(self) -> Batch | None:
        """The changes since the last time, None if there are none."""
        if self.last == self._flushed:
            return None
        batch = Batch(self._flushed + 1, self.last, *self._changed)
        self._flushed, self._changed = self.last, ({}, {})
        for told, changed in zip(self._told, batch[2:], strict=True):
            for price, lots in changed.items():
                if lots:
                    told[price] = lots
                else:
                    told.pop(price, None)
        return batch
