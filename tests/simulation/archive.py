"""What the views of a log should have, by the auditor alone: reports, orders, balances.

A session of every account is imagined that is told everything: it subscribes to all of them, and
hears all refusals.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.persistence.batch import MAX_RECORDS
from matchbox.persistence.journal import Writer
from matchbox.persistence.journaler import whole
from matchbox.shm.records import EventKind, ReportFlag
from matchbox.tools.audit.exchange import Auditor
from matchbox.tools.audit.records import Report
from matchbox.tools.audit.reports import Reporter
from matchbox.tools.config import Config, load
from tests.simulation.world import World

EVERYBODY = 1 << 40
CONFIG = """
instance = "{instance}"
data = "{data}"
matchers = {matchers}
[limits]
max_sessions = {sessions}
max_accounts = {accounts}
max_assets = {assets}
max_markets = {markets}
max_orders = {orders}
[rings]
log = 1024
events = 1024
market_data = 1024
"""


class _Subscribers(defaultdict[int, set[int]]):
    """Of every account, the imagined session is one."""

    def __getitem__(self, account: int) -> set[int]:
        found = super().__getitem__(account)
        found.add(EVERYBODY)
        return found


class AllReports(Reporter):
    """Reports by account, each once, as its own session gets them."""

    def __init__(self) -> None:
        super().__init__()
        self.subscribers = _Subscribers(set)
        self.by_account: dict[int, list[Report]] = defaultdict(list)

    def step(self, step: Any) -> None:
        self.attached[EVERYBODY], self.assurances[EVERYBODY] = 0, 3
        super().step(step)

    def _tell(self, session: int, report: Report) -> None:
        refused = report.kind == EventKind.REJECTED and not report.flags and session
        about = report.kind <= EventKind.BALANCE and report.account
        if about and (session == EVERYBODY or refused):
            flags = report.flags & ~ReportFlag.SUBSCRIBED
            self.by_account[report.account].append(
                report._replace(flags=flags, assurance=0, trade_id=_kept(report))
            )


def _kept(report: Report) -> int:
    """What `trade_id` says to everybody."""
    released = report.flags & ReportFlag.RELEASED
    return report.trade_id if report.kind == EventKind.TRADE or released else 0


def told(rows: NDArray[Any]) -> list[Report]:
    """REPORTs as the auditor has them."""
    found = []
    for row in rows:
        fields = {name: row[name].item() for name in Report._fields}
        report = Report(**fields)._replace(assurance=0)
        found.append(report._replace(trade_id=_kept(report)))
    return found


def expected(log: NDArray[Any], world: World) -> tuple[Auditor, AllReports]:
    """The auditor after a log, and what it says of everybody."""
    auditor, reports = Auditor(world.auditor.definitions.limits), AllReports()
    for step in (*auditor.apply(log), *auditor.end()):
        reports.step(step)
    assert not auditor.differences
    return auditor, reports


def write_journal(folder: Path, log: NDArray[Any], seed: int) -> None:
    """A log as a journal, in batches of any length."""
    random = np.random.default_rng(seed)
    with Writer(folder / "journal", batch_records=MAX_RECORDS >> 6) as writer:
        while writer.last_sequence < len(log):
            count = int(random.integers(4, 400))  # a group of four is not parted
            rest = log[writer.last_sequence : writer.last_sequence + count + 1]
            writer.append(*whole([rest], count))


def configure(folder: Path, world: World) -> Config:
    """A configuration with the limits of a world."""
    plan = world.exchange.plan
    path = folder / "exchange.toml"
    path.write_text(
        CONFIG.format(
            instance="views",
            data=folder,
            matchers=plan.matchers,
            sessions=plan.max_sessions - 1,
            accounts=plan.max_accounts,
            assets=plan.max_assets,
            markets=plan.max_markets,
            orders=plan.order_capacity,
        )
    )
    return load(path)
