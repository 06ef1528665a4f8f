"""From the journal to the views: a replica replays the log, and an archive writes what came of it.

The archiver follows what is on the disk, so it never gates anybody and needs neither the engine nor
its memory; a takeover is nothing to it. It begins with the newest snapshot that is not after what
the views have, replays up to there without writing, and goes on.

A unit of work is some adjacent log records of one day, ended early before a definition, so that a
market's number means one market within a unit. Balances are as far settled as the log says: an
event of the last records may be settled by the next record only.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.core.sequencer import OPEN_ORDER
from matchbox.persistence import cuts, partition, points, snapshots
from matchbox.persistence.archive import MONEY_KINDS, Archive, Balances, Inherited, Unit
from matchbox.persistence.journal import Reader
from matchbox.persistence.journaler import whole_count
from matchbox.persistence.partition import (
    BALANCE,
    BALANCE_KEY,
    DAY_NS,
    ORDER,
    OrderStatus,
    day_of,
    keys_of,
)
from matchbox.shm.errors import JournalError, ViewsError
from matchbox.shm.records import (
    FEE_ACCOUNT,
    LOG_RECORD,
    MARKET_RECORD,
    MONEY_RECORD,
    EventKind,
    Kind,
)
from matchbox.tools.catalog import Catalog, defining
from matchbox.tools.config import Config
from matchbox.tools.snapshots import FOLDER, begin, known

# Of one unit, at most: what a transaction writes, and what is lost of the work by a kill.
UNIT_RECORDS = 8192
VIEWS = "views"
NO_END = 1 << 63
_ORDER_KINDS = (Kind.NEW_ORDER, Kind.CANCEL_ORDER, Kind.AMEND_ORDER)
Say = Callable[[str], None]


class Archiving:
    """The views of one data folder, brought up to date with its journal. One thread."""

    def __init__(
        self,
        config: Config,
        data: Path,
        say: Say = print,
        *,
        views: Path | None = None,
        last: int = 0,
    ) -> None:
        """Open what there is of views, and be where they end. Takes as long as the replay from a
        snapshot up to there. Raises MatchboxError.

        `views`: their folder, if it is another one; `last`: the log record to end with, or before
        it if others belong to it; 0: none.
        """
        self.most = last or NO_END  # the log record to end with, for now
        self._position = 0  # the last record that was replayed
        self.journal = data / "journal"
        self.journaled = 0  # sequence of the journal's last record, when it was looked at last
        self._reader = Reader(self.journal)
        try:
            self._open(views or data / VIEWS, say)
            self._prepare(config, data / FOLDER, say)
        except BaseException:
            self.close()
            raise

    def _open(self, views: Path, say: Say) -> None:
        """The views, without what they have of records that were cut out since."""
        self._views = views
        self.archive = Archive(views, self._record_at, say=say)
        self._cuts = cuts.read(views)
        decided = cuts.read(self.journal)
        if any(cut.sequence <= self.archive.position for cut in decided if cut not in self._cuts):
            say("A record was cut out that the views have: they are made again.")
            self.archive.close()
            for day in partition.days(views):
                partition.remove(views, day)
            self.archive = Archive(views, self._record_at, say=say)
        self._note_cuts()

    def _note_cuts(self) -> None:
        """What was cut out by now. Raises ViewsError where we are past it: begin again."""
        decided = cuts.read(self.journal)
        if decided == self._cuts:
            return
        new = [cut for cut in decided if cut not in self._cuts]
        late = [cut for cut in new if cut.sequence <= self._position]
        if late:
            raise ViewsError(f"{late[0]}, which the views were past")
        cuts.write(self._views, decided)
        self._cuts = decided

    def _prepare(self, config: Config, folder: Path, say: Say) -> None:
        position = self.archive.position
        start = snapshots.newest(folder, at_most=position, journal=self.journal, say=say)
        oldest = self._reader.first_sequence()
        if oldest > 1 and (start is None or start.sequence + 1 < oldest):
            # The journal begins later than the views end: they begin anew where a snapshot leads.
            start = self._first_snapshot(folder, oldest)
            say(
                f"The views begin after record {start.sequence:,}: what the journal has before it "
                "cannot be replayed."
            )
        self._position = start.sequence if start else 0
        self._written = max(position, self._position)
        definitions = known(self.journal, start)
        before = definitions[definitions["sequence"] <= self._position]
        self.catalog = Catalog()
        self.catalog.learn(definitions)
        self._defined = int(definitions[-1]["sequence"]) if len(definitions) else 0
        self._markets: dict[int, tuple[int, int]] = {}
        self._learn_markets(before)
        self._replica = begin(config, self.catalog, start, publisher=True, reports=True)
        self._inherited = self._state_now(before) if self._written > position else None
        self._unwritten: NDArray[Any] = np.empty(0, LOG_RECORD)
        self._reports = self._replica.take_reports()
        # Whose balances may have changed, to be looked at until so much is settled.
        self._touched: list[tuple[int, NDArray[Any]]] = []

    def _first_snapshot(self, folder: Path, oldest: int) -> snapshots.Snapshot:
        """The oldest from which the journal goes on. Raises JournalError."""
        for sequence in reversed(snapshots.sequences(folder)):
            if sequence + 1 >= oldest:
                found = snapshots.newest(folder, at_most=sequence, journal=self.journal)
                if found is not None:
                    return found
        raise JournalError(
            f"the journal begins with record {oldest:,}, and no snapshot leads there", oldest
        )

    def _record_at(self, sequence: int) -> NDArray[Any] | None:
        try:
            batch = next(self._reader.batches(sequence), None)
        except JournalError:
            return None
        if batch is None or batch.last_sequence < sequence:
            return None
        at = sequence - batch.first_sequence
        return batch.records[at : at + 1]

    def close(self) -> None:
        self._reader.close()
        if hasattr(self, "archive"):
            self.archive.close()

    @property
    def position(self) -> int:
        """Sequence of the last log record all of whose consequences are in the views."""
        return self.archive.position

    def work(self) -> int:
        """Write what the journal has and the views lack, one batch of it at most; returns how many
        records were taken. Raises MatchboxError.
        """
        self._note_cuts()
        self.journaled = max(self.journaled, self._reader.last_sequence())
        if min(self.journaled, self.most) <= self._position:
            return 0
        batch = next(self._reader.batches(self._position + 1))
        records = batch.records[self._position + 1 - batch.first_sequence :]
        records = records[: whole_count(records, self.most - self._position)]
        if not len(records):
            return 0
        for unit in self._cut(records):
            self._take(unit)
        return len(records)

    def _cut(self, records: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """Units of work: of one day, no more than UNIT_RECORDS, begun anew at each definition, and
        where what is in the views ends.
        """
        ends = {0, len(records), *range(UNIT_RECORDS, len(records), UNIT_RECORDS)}
        days = records["timestamp_ns"] // DAY_NS
        ends |= set((np.flatnonzero(np.diff(days)) + 1).tolist())
        ends |= set((defining(records)["sequence"] - records["sequence"][0]).tolist())
        ends.add(min(max(0, self._written + 1 - int(records["sequence"][0])), len(records)))
        places = sorted({whole_count(records, end) for end in ends})
        for first, end in zip(places, places[1:], strict=False):
            yield records[first:end]

    def _take(self, records: NDArray[Any]) -> None:
        """Replay records, and write what has come of all so far."""
        self._learn(records)
        self._replica.replay(records)
        points.passing("archive.replayed")
        self._replica.catch_up()
        self._position = int(records["sequence"][-1])
        self._reports = np.concatenate([self._reports, self._replica.take_reports()])
        self._unwritten = np.concatenate([self._unwritten, records])
        self._touch(records)
        published = self._replica.published
        done = self._unwritten["sequence"] <= published
        if not done.any():
            return
        out = self._reports["sequence"] <= published
        ready, self._unwritten = self._unwritten[done], self._unwritten[~done]
        reports, self._reports = self._reports[out], self._reports[~out]
        self._note(reports)
        fresh = ready[ready["sequence"] > self._written]
        if len(fresh):
            self._write(fresh, reports[reports["sequence"] >= fresh["sequence"][0]])

    def _write(self, records: NDArray[Any], reports: NDArray[Any]) -> None:
        """One unit for each day that they are of: what waited may be of the day before."""
        days = records["timestamp_ns"] // DAY_NS
        if self._inherited is not None:
            self.archive.begin(
                int(records["sequence"][0]) - 1,
                day_of(int(records["timestamp_ns"][0])),
                self._inherited,
            )
            self._inherited = None
        settled, balances = self._balances()
        nothing = balances[0][:0], balances[1][:0]
        for day in np.unique(days):
            of_day = records[days == day]
            last = day == days[-1]
            inside = (reports["sequence"] >= of_day["sequence"][0]) & (
                reports["sequence"] <= of_day["sequence"][-1]
            )
            self.archive.add(Unit(of_day, reports[inside], balances if last else nothing, settled))
        self._written = self.archive.position

    # -- definitions

    def _learn(self, records: NDArray[Any]) -> None:
        found = defining(records)
        self.catalog.learn(found[found["sequence"] > self._defined])
        if len(found):
            self._defined = max(self._defined, int(found[-1]["sequence"]))
        self._learn_markets(found)

    def _learn_markets(self, definitions: NDArray[Any]) -> None:
        for market in definitions[definitions["kind"] == Kind.ADD_MARKET].view(MARKET_RECORD):
            pair = int(market["base_asset"]), int(market["quote_asset"])
            self._markets[int(market["market"])] = pair

    # -- balances

    def _touch(self, records: NDArray[Any]) -> None:
        """Note whose balances the decisions of some records may change, and did."""
        good = records[records["reject"] == 0]
        orders = good[np.isin(good["kind"], _ORDER_KINDS)]
        self._note_pairs(orders["sequence"], orders["account"], orders["market"])
        money = good[np.isin(good["kind"], MONEY_KINDS)].view(MONEY_RECORD)
        if len(money):
            for field in ("account", "counter_account"):
                keys = keys_of(BALANCE_KEY, account=money[field], asset=money["asset"])
                self._touched.append((int(money["sequence"][-1]), np.unique(keys)))

    def _note(self, reports: NDArray[Any]) -> None:
        """Note whose balances the events of some reports will change, once they are settled."""
        # A refused command may name any market; what was held for it is noted with its record.
        orders = reports[(reports["order_id"] != 0) & (reports["kind"] != EventKind.REJECTED)]
        self._note_pairs(orders["sequence"], orders["account"], orders["market"])

    def _note_pairs(
        self, sequences: NDArray[Any], accounts: NDArray[Any], markets: NDArray[Any]
    ) -> None:
        if not len(sequences):
            return
        pairs = np.unique(accounts.astype(np.uint64) << np.uint64(32) | markets)
        found = [
            (pair >> 32, asset)
            for pair in pairs.tolist()
            if pair >> 32
            for asset in self._markets[pair & 0xFFFFFFFF]
        ]
        fees = {asset for market in np.unique(markets).tolist() for asset in self._markets[market]}
        found += [(FEE_ACCOUNT, asset) for asset in fees]
        keys = np.array(sorted(set(found)), BALANCE_KEY)
        self._touched.append((int(sequences[-1]), keys))

    def _balances(self) -> tuple[int, Balances]:
        """What they are settled to, and keys and values of the balances that may have changed."""
        sequencer = self._replica.sequencer
        settled = sequencer.settled
        keys = [keys for _, keys in self._touched]
        self._touched = [(last, keys) for last, keys in self._touched if last > settled]
        changed = np.unique(np.concatenate(keys)).tolist() if keys else []
        found = [(account, asset, *sequencer.balance(account, asset)) for account, asset in changed]
        return settled, _balance_rows(found)

    def _state_now(self, definitions: NDArray[Any]) -> Inherited:
        """What views that begin after the snapshot have from the start."""
        sequencer = self._replica.sequencer
        accounts = [*self.catalog.accounts, FEE_ACCOUNT]
        found = [
            (account, asset, free, held)
            for account in accounts
            for asset, free, held in sequencer.balances(account)
        ]
        return Inherited(
            definitions[definitions["kind"] != Kind.ADD_ACCOUNT],
            _rows_of(sequencer.open_orders()),
            _balance_rows(found),
        )


def _balance_rows(found: list[tuple[int, int, int, int]]) -> Balances:
    """Of account, asset, free, held."""
    keys, values = np.zeros(len(found), BALANCE_KEY), np.zeros(len(found), BALANCE)
    if found:
        keys["account"], keys["asset"], values["free"], values["held"] = zip(*found, strict=True)
    return keys, values


def _rows_of(orders: NDArray[Any]) -> NDArray[Any]:
    """Rows of orders of which no more is known than the engine knows (OPEN_ORDER)."""
    assert orders.dtype == OPEN_ORDER
    rows = np.zeros(len(orders), ORDER)
    for name in (
        "order_id",
        "price_ticks",
        "quantity_lots",
        "leaves_lots",
        "cumulative_lots",
        "account",
        "market",
        "session",
        "side",
        "client_order_id",
    ):
        rows[name] = orders[name]
    rows["status"] = np.where(
        orders["pending"],
        OrderStatus.PENDING,
        np.where(orders["cumulative_lots"] > 0, OrderStatus.PARTIALLY_FILLED, OrderStatus.NEW),
    )
    return rows
