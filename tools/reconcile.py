"""`matchbox reconcile`: the whole journal once more, by the rules, and what the money adds up to.

    Row        one asset: what came in, what went out, where the rest is
    Outcome    all rows, and every place where the log says something else than the rules
    recompute  the outcome of a journal
    table      the outcome for people; as_dict() for machines

What is read is the journal, as it stands on the disk. If the exchange runs and is at rest, it is
asked for its balances as well.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matchbox.persistence.journal import Reader
from matchbox.shm.connect import look
from matchbox.shm.errors import MatchboxError
from matchbox.shm.records import FEE_ACCOUNT
from matchbox.tools.audit import invariants
from matchbox.tools.audit.exchange import Auditor
from matchbox.tools.logview import find_journal

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 20  # differences that are written out
# (account, asset) -> (free, held), in units
Balances = dict[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Row:
    """One asset, in its units. `free` and what is held are of all accounts together; `fees` is what
    fills have brought the exchange, and in its account's balance as long as it was not moved."""

    asset: str
    scale: int
    deposited: int
    withdrawn: int
    free: int
    held_for_orders: int
    held_for_withdrawals: int
    fees: int

    @property
    def difference(self) -> int:
        """What is not there, or there too much."""
        there = self.free + self.held_for_orders + self.held_for_withdrawals
        return self.deposited - self.withdrawn - there


@dataclass
class Outcome:
    """What a journal adds up to."""

    journal: str
    records: int
    rows: list[Row] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    compared: bool = False  # with the balances of a running engine

    @property
    def good(self) -> bool:
        return not self.differences and not any(row.difference for row in self.rows)


def engine_balances(data: Path, sequence: int) -> Balances | None:
    """What the running engine of a data folder has for balances, if it is done with the log up to
    `sequence` and no further; None if there is nobody to ask, or it trades on.
    """
    found: Balances = {}
    try:
        engine = look(data)
        for account in (*(account["number"] for account in engine.accounts()), FEE_ACCOUNT):
            balances, settled = engine.balance_units(account)
            if settled != sequence:
                return None
            found |= {(account, asset): amounts for asset, amounts in balances.items()}
        engine.close()
    except MatchboxError:
        return None
    return found


def recompute(
    place: str,
    *,
    progress: Callable[[int], object] = lambda records: None,
    ask: Callable[[Path, int], Balances | None] = engine_balances,
) -> Outcome:
    """Recompute the exchange of a journal from its first record on.

    Raises BadArgument if there is no journal, JournalError if it is damaged.
    """
    folder = find_journal(place)
    auditor = Auditor()
    lost = ""
    with Reader(folder) as reader:
        try:
            for batch in reader.batches():
                auditor.apply(batch.records)
                progress(auditor.sequence)
            auditor.settle_all()
        except (LookupError, ValueError, AssertionError) as error:
            # A record that should have been refused may leave nothing to go on from.
            lost = f"record {auditor.sequence}: cannot go on from here: {error!r}"
    outcome = Outcome(str(folder), auditor.sequence, rows(auditor))
    outcome.differences += map(str, auditor.differences)
    outcome.differences += [lost] if lost else []
    outcome.differences += invariants.broken(auditor)
    engine = ask(folder.parent, auditor.sequence)
    if engine is not None:
        outcome.compared = True
        outcome.differences += compare(auditor, engine)
    return outcome


def rows(auditor: Auditor) -> list[Row]:
    """One for each asset."""
    orders, withdrawals = invariants.held_for(auditor)
    ledger = auditor.ledger
    return [
        Row(
            asset=asset.name,
            scale=asset.scale,
            deposited=ledger.deposited.get(number, 0),
            withdrawn=ledger.withdrawn.get(number, 0),
            free=sum(b.free for (_, of), b in ledger.balances.items() if of == number),
            held_for_orders=sum(held for (_, of), held in orders.items() if of == number),
            held_for_withdrawals=sum(held for (_, of), held in withdrawals.items() if of == number),
            fees=ledger.fees.get(number, 0),
        )
        for number, asset in sorted(auditor.definitions.assets.items())
    ]


def compare(auditor: Auditor, engine: Balances) -> list[str]:
    """Where the engine has other balances than were recomputed."""
    found = []
    mine = {key: (b.free, b.held) for key, b in auditor.ledger.balances.items()}
    for account, asset in sorted(mine.keys() | engine.keys()):
        expected = mine.get((account, asset), (0, 0))
        there = engine.get((account, asset), (0, 0))
        if expected != there:
            found.append(
                f"account {account}, asset {asset}: recomputed free={expected[0]} "
                f"held={expected[1]}, the engine has free={there[0]} held={there[1]}"
            )
    return found


# ---- showing


def as_dict(outcome: Outcome) -> dict[str, Any]:
    """Amounts are integers, in units of the asset."""
    return {
        "journal": outcome.journal,
        "records": outcome.records,
        "good": outcome.good,
        "compared_with_engine": outcome.compared,
        "assets": [asdict(row) | {"difference": row.difference} for row in outcome.rows],
        "differences": outcome.differences,
    }


def table(outcome: Outcome) -> "Table":
    """Amounts in wholes of the asset."""
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    columns = (
        "deposited",
        "withdrawn",
        "free",
        "held_for_orders",
        "held_for_withdrawals",
        "fees",
        "difference",
    )
    shown.add_column("asset", no_wrap=True)
    for column in columns:
        shown.add_column(column.replace("held_", "").replace("_", " "), justify="right")
    for row in outcome.rows:
        amounts = (getattr(row, column) for column in columns)
        shown.add_row(row.asset, *(decimal(amount, row.scale) for amount in amounts))
    return shown


def decimal(units: int, scale: int) -> str:
    """An amount in wholes, all of its digits."""
    return f"{Decimal(units).scaleb(-scale):,f}" if units else "0"


def lines(outcome: Outcome) -> list[str]:
    """What there is to say besides the table."""
    found = outcome.differences
    out = [*found[:SHOWN]]
    if len(found) > SHOWN:
        out.append(f"... and {len(found) - SHOWN:,} more")
    engine = ", and the engine's balances are the same" if outcome.compared else ""
    if outcome.good:
        out.append(f"{outcome.records:,} records recomputed: all is as the rules say{engine}.")
    else:
        out.append(f"{outcome.records:,} records recomputed: {len(found):,} differences.")
    return out
