"""An exchange of the past: its state after one log record, out of a snapshot and the journal.

    rewind    a replica at a moment, and what is defined there
    Past      looked at as a running exchange is (operate.Shown)

Only files are read, and nobody waits for it: the exchange may run, be stopped, or be dead. A past
exchange has all settled that its last record and those before it caused; `recorded` is the state
hash before that, which is the one that a snapshot of this record has.
"""

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from matchbox.core.sequencer import OPEN_ORDER
from matchbox.core.snapshot import combined_hash
from matchbox.persistence import snapshots
from matchbox.persistence.journal import Reader
from matchbox.persistence.snapshots import Snapshot
from matchbox.shm.depth import Book, Top
from matchbox.shm.errors import BadArgument, JournalError
from matchbox.shm.market import Asset, Market
from matchbox.shm.records import FEE_ACCOUNT
from matchbox.shm.saying import complain
from matchbox.tools import moments
from matchbox.tools.catalog import Catalog
from matchbox.tools.config import default_data
from matchbox.tools.logview import find_journal
from matchbox.tools.moments import Moment
from matchbox.tools.replica import Replica
from matchbox.tools.snapshots import FOLDER, begin, following, known
from matchbox.tools.verify import find_config

EXCHANGE = "exchange"  # the account that earns the fees


def find_place(given: str) -> Path:
    """The journal of what --data says; if it is left out, of the only instance there is.

    Raises BadArgument.
    """
    if given:
        return find_journal(given)
    instances = default_data("")
    found = sorted(instances.glob("*/journal")) if instances.is_dir() else []
    if len(found) == 1:
        return find_journal(str(found[0]))
    names = ", ".join(path.parent.name for path in found) or "none"
    raise BadArgument(f"say which exchange: --data; in {instances} there are: {names}")


def start_of(journal: Path, sequence: int) -> Snapshot | None:
    """The snapshot to begin with for a record; None: from the first record on.

    Raises BadArgument that names the first and last records of which there is a state.
    """
    folder = journal.parent / FOLDER
    start = snapshots.newest(folder, at_most=sequence, journal=journal, say=complain)
    if start is not None:
        return start
    first = oldest_state(journal)
    if first == 0:
        return None
    with Reader(journal) as reader:
        oldest, last = reader.first_sequence(), reader.last_sequence()
    raise BadArgument(
        f"the journal begins with record {oldest}, and no snapshot leads to this one: "
        f"sequence={sequence}, first={first}, last={last}"
    )


def oldest_state(journal: Path) -> int:
    """The first record of which there is a state; 0: that before the first record.

    Raises JournalError if the journal begins later and no snapshot leads into it.
    """
    with Reader(journal) as reader:
        oldest, last = reader.first_sequence(), reader.last_sequence()
    if oldest == 1:
        return 0
    usable = [n for n in snapshots.sequences(journal.parent / FOLDER) if oldest <= n <= last]
    if not usable:
        raise JournalError(
            f"the journal begins with record {oldest:,}, and no snapshot leads there", oldest
        )
    return min(usable)


@dataclass
class Past:
    """An exchange at one moment."""

    moment: Moment
    replica: Replica
    catalog: Catalog
    began: int  # the snapshot that it was replayed from; 0: from the first record
    recorded: int | None  # None: an event ring was too short for what was not settled yet

    # ---- as an exchange that runs says it

    @property
    def markets(self) -> dict[str, Market]:
        return {market.symbol: market for market in map(self._market, self.catalog.markets)}

    def _market(self, number: int) -> Market:
        listed = self.catalog.markets[number]
        base, quote = listed.base, listed.quote
        return Market.from_record(listed.record, base.name, base.scale, quote.name, quote.scale)

    def market(self, market: Market | str | int) -> Market:
        """By symbol or number. Raises BadArgument if there was none."""
        if isinstance(market, Market):
            return market
        known = self.markets
        for each in known.values():
            if market in (each.symbol, each.number, str(each.number)):
                return each
        raise BadArgument(f"no such market then: market={market}, known={', '.join(known)}")

    def asset(self, asset: Asset | str | int) -> Asset:
        """By name or number. Raises BadArgument if there was none."""
        if isinstance(asset, Asset):
            return asset
        for each in self.catalog.assets.values():
            if asset in (each.name, each.id):
                return Asset(each.id, each.name, each.scale)
        raise BadArgument(f"no such asset then: asset={asset}")

    def accounts(self) -> list[dict[str, Any]]:
        rows = self.catalog.accounts.items()
        found = [
            {"number": n, "name": account.name, "parent": account.parent} for n, account in rows
        ]
        return [*found, {"number": FEE_ACCOUNT, "name": EXCHANGE, "parent": 0}]

    def balances(self, account: int) -> dict[str, tuple[Decimal, Decimal]]:
        """Free and held of each asset that the account had, by the asset's name."""
        found = self.replica.sequencer.balances(account)
        rows = [(self._asset_of(number), free, held) for number, free, held in found]
        return {a.name: (a.amount(free), a.amount(held)) for a, free, held in rows}

    def _asset_of(self, number: int) -> Asset:
        known = self.catalog.assets.get(number)
        return Asset(number, known.name if known else str(number), known.scale if known else 0)

    def orders(self, account: int, market: int) -> list[dict[str, Any]]:
        found = self.replica.sequencer.open_orders(account, market)
        rows = [dict(zip(OPEN_ORDER.names or (), row, strict=True)) for row in found.tolist()]
        for row in rows:
            row["client_order_id"] = row["client_order_id"].decode()
        return rows

    def listing(self) -> tuple[dict[int, dict[str, Any]], dict[int, int]]:
        sequencer = self.replica.sequencer
        rules = {int(row["market"]): dict(row) for row in sequencer.markets()}
        return rules, {number: supply for number, _, supply in sequencer.assets()}

    def book(self, market: Market | str | int) -> Book:
        return self.replica.book(self.market(market))

    # ---- more

    def depth(self, market: Market) -> Top:
        """The top of a book, with all of its levels."""
        book = self.replica.book(market)
        depth = book.depth()
        return book.top()._replace(bids=depth.bids, asks=depth.asks)

    def state(self) -> dict[str, dict[str, Any]]:
        return self.replica.state()


def rewind(journal: Path, text: str, *, config: Path | None = None, books: bool = False) -> Past:
    """The exchange at the moment `text`. `books`: their depth, too. Raises MatchboxError."""
    with Reader(journal) as reader:
        moment = moments.find(reader, text)
    start = start_of(journal, moment.sequence)
    catalog = Catalog()
    catalog.learn(known(journal, start, moment.sequence))
    replica = begin(find_config(journal.parent, config), catalog, start, publisher=books)
    for _, records in following(journal, start, moment.sequence):
        replica.replay(records)
    recorded = combined_hash(replica.state()) if replica.catch_up() else None
    replica.finish()
    replica.catch_up()
    return Past(moment, replica, catalog, start.sequence if start else 0, recorded)
