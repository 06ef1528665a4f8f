"""What clients wrote down, against the journal: nothing lost, nothing twice, nothing between.

A replica replays the journal and says what every account must have been told, by the code that
tells it. Independent of that: positions of commands and client order ids in the journal are unique,
the engine's own check of all balances, state hashes. A drill's accounts are traded for by one
session each, which is told all of it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.core.snapshot import combined_hash
from matchbox.persistence.journal import Reader
from matchbox.shm.errors import JournalError
from matchbox.shm.records import LOG_RECORD, NAMED_RECORD, REPORT, EventKind, Kind
from matchbox.shm.streams import part_of
from matchbox.tools.catalog import Catalog
from matchbox.tools.config import Config
from matchbox.tools.snapshots import begin, known

_KEY = np.dtype([("sequence", ">u8"), ("part", ">u4")])
# Of a report, what differs between what a session was told and what the journal gives.
_OWN = ("assurance", "command_position")
_TURNS = (Kind.START, Kind.TAKE_OVER)
_SHOWN = 5


@dataclass
class Written:
    """What a client wrote down; see load.py."""

    account: str
    sent: NDArray[Any]
    heard: NDArray[Any]
    lives: NDArray[Any]
    reports: NDArray[Any]

    @staticmethod
    def read(account: str, path: Path) -> "Written":
        with np.load(path) as found:
            return Written(account, *(found[n] for n in ("sent", "heard", "lives", "reports")))

    @property
    def commands(self) -> int:
        return int(self.sent[:, 1].sum())

    def times(self) -> NDArray[np.int64]:
        """When each report was heard."""
        return np.repeat(self.heard[:, 0], self.heard[:, 1])


@dataclass
class Turn:
    """A new engine: a start, or a takeover."""

    kind: str
    sequence: int
    timestamp_ns: int


@dataclass
class Findings:
    """Counts of what must not be, and what was seen on the way."""

    commands: int = 0
    acknowledged: int = 0  # reports
    missing: int = 0  # that were told, and are not in the journal as they were told
    duplicates: int = 0  # reports told twice, commands logged twice, client ids used twice
    gaps: int = 0  # of the journal, and not told between two that were
    unanswered: int = 0  # commands of a session that ended in order
    records: int = 0
    state: str = ""
    turns: list[Turn] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        wrong = self.missing + self.duplicates + self.gaps + self.unanswered
        return not wrong and not self.problems

    def blame(self, text: str) -> None:
        if len(self.problems) < 4 * _SHOWN:
            self.problems.append(text)


def examine(
    config: Config, journal: Path, clients: list[Written], *, durable_only: bool = False
) -> Findings:
    """Check everything. `durable_only`: what was told as less may be lost (memory was)."""
    found = Findings()
    numbers = {account.name: account.number for account in config.accounts}
    try:
        log, told = _replay(config, journal, found)
    except JournalError as error:
        found.blame(f"the journal: {error}")
        return found
    found.turns = _turns(log)
    _twice(log, found)
    lost_numbers = log["sequence"][log["kind"] == Kind.LOST]
    for client in clients:
        mine = told.get(numbers[client.account], np.empty(0, REPORT))
        _compare(client, mine, found, durable_only, lost_numbers)
    return found


def _replay(
    config: Config, journal: Path, found: Findings
) -> tuple[NDArray[Any], dict[int, NDArray[Any]]]:
    """The journal, whole, and what each account must have been told."""
    catalog = Catalog()
    catalog.learn(known(journal, None))
    replica = begin(config, catalog, None, publisher=True, reports=True)
    parts: list[NDArray[Any]] = []
    told: list[NDArray[Any]] = []
    with Reader(journal) as reader:
        for batch in reader.batches():
            replica.replay(batch.records)
            replica.catch_up()
            parts.append(batch.records)
            told.append(replica.take_reports())
    replica.finish()
    replica.catch_up()
    told.append(replica.take_reports())
    try:
        replica.sequencer.check()
    except Exception as error:  # what is not conserved
        found.blame(f"balances: {error}")
    found.records = replica.position
    found.state = f"{combined_hash(replica.state()):016x}"
    reports = np.concatenate([np.empty(0, REPORT), *told])
    reports = reports[(reports["kind"] < EventKind.BALANCE) & (reports["account"] != 0)]
    by_account = {
        int(number): reports[reports["account"] == number]
        for number in np.unique(reports["account"])
    }
    return np.concatenate([np.empty(0, LOG_RECORD), *parts]), by_account


def _turns(log: NDArray[Any]) -> list[Turn]:
    rows = log[np.isin(log["kind"], _TURNS)].view(NAMED_RECORD)
    return [
        Turn(Kind(int(row["kind"])).name, int(row["sequence"]), int(row["timestamp_ns"]))
        for row in rows
    ]


def _twice(log: NDArray[Any], found: Findings) -> None:
    """Commands that were logged twice, and client order ids that were accepted twice."""
    sent = log[log["session"] != 0]
    places = np.zeros(len(sent), [("session", "<u4"), ("position", "<u8")])
    places["session"], places["position"] = sent["session"], sent["session_position"]
    unique, counts = np.unique(places, return_counts=True)
    for session, position in unique[counts > 1][:_SHOWN].tolist():
        found.blame(f"session {session}: command {position} is in the log twice")
    found.duplicates += int((counts - 1).sum())
    orders = sent[(sent["kind"] == Kind.NEW_ORDER) & (sent["reject"] == 0)]
    named = orders[orders["client_order_id"] != b""]
    ids = np.char.add(named["account"].astype("S10"), named["client_order_id"])
    again = len(ids) - len(np.unique(ids))
    if again:
        found.blame(f"{again} client order ids were accepted twice")
    found.duplicates += again


def _keys(reports: NDArray[Any]) -> NDArray[Any]:
    keys = np.zeros(len(reports), _KEY)
    keys["sequence"], keys["part"] = reports["sequence"], part_of(reports)
    return keys.view(f"V{_KEY.itemsize}")


def _plain(reports: NDArray[Any]) -> NDArray[Any]:
    """Without what is the session's own."""
    rows = reports.copy()
    rows["assurance"] = 0
    rows["command_position"][rows["kind"] != EventKind.TRADE] = 0
    return rows.view(f"V{REPORT.itemsize}")


def _given_twice(
    client: Written,
    told: NDArray[Any],
    mine: NDArray[Any],
    lost_numbers: NDArray[Any],
    found: Findings,
) -> None:
    """What was told and then lost is either in the journal after all, as it was told, or its number
    is nobody's.
    """
    place = {key: index for index, key in enumerate(_keys(mine).tolist())}
    ours, theirs = _plain(told), _plain(mine)
    known_lost = set(lost_numbers.tolist())
    for index, key in enumerate(_keys(told).tolist()):
        at = place.get(key, -1)
        sequence = int(told[index]["sequence"])
        if at >= 0 and ours[index] == theirs[at]:
            continue
        if at < 0 and (sequence > found.records or sequence in known_lost):
            continue
        found.blame(f"{client.account}: number {sequence} was given out twice")
        found.duplicates += 1


def _compare(
    client: Written,
    mine: NDArray[Any],
    found: Findings,
    durable_only: bool,
    lost_numbers: NDArray[Any],
) -> None:
    chosen = (client.reports["kind"] < EventKind.BALANCE) & (client.reports["account"] != 0)
    told = client.reports[chosen]
    found.commands += client.commands
    found.acknowledged += len(told)
    keys, wanted = _keys(told), _keys(mine)
    if durable_only:
        # The rest was lost with the memory: it was not told to be more than that.
        sure = told["assurance"] == 3
        _given_twice(client, told[~sure], mine, lost_numbers, found)
        told, keys = told[sure], keys[sure]
    unique, first, counts = np.unique(keys, return_index=True, return_counts=True)
    twice = int((counts - 1).sum())
    if twice:
        found.blame(f"{client.account}: {twice} reports were told twice")
    found.duplicates += twice
    place = {key: index for index, key in enumerate(wanted.tolist())}
    ours, theirs = _plain(told[first]), _plain(mine)
    at = np.array([place.get(key, -1) for key in unique.tolist()], np.int64)
    lost = at < 0
    other = np.zeros(len(at), bool)
    there = np.flatnonzero(~lost)
    other[there] = ours[there] != theirs[at[there]]
    for index in np.flatnonzero(lost | other)[:_SHOWN].tolist():
        report = told[first][index]
        what = "is not in the journal" if lost[index] else "is another one in the journal"
        found.blame(
            f"{client.account}: {EventKind(int(report['kind'])).name} of record "
            f"{int(report['sequence'])} (order {int(report['order_id'])}) {what}"
        )
    found.missing += int((lost | other).sum())
    if not durable_only:
        _between(client, chosen, wanted, place, found)
    _answers(client, found)


def _between(
    client: Written,
    chosen: NDArray[np.bool_],
    wanted: NDArray[Any],
    place: dict[bytes, int],
    found: Findings,
) -> None:
    """Reports of the journal that were not told, although others around them were."""
    index = np.cumsum(chosen)
    starts = [int(index[n - 1]) if n else 0 for n in client.lives[:, 2].tolist()]
    keys = _keys(client.reports[chosen]).tolist()
    for first, end in zip(starts, [*starts[1:], len(keys)], strict=True):
        places = [place[key] for key in keys[first:end] if key in place]
        if not places:
            continue
        last_life = end == len(keys)
        # Of the last session, which ended in order, everything up to the end.
        until = len(wanted) if last_life else max(places) + 1
        gaps = until - min(places) - len(set(places))
        if gaps:
            found.blame(f"{client.account}: {gaps} reports between others were not told")
        if places != sorted(places):
            found.blame(f"{client.account}: reports were told out of order")
        found.gaps += max(0, gaps)


def _answers(client: Written, found: Findings) -> None:
    """Commands of the last life that have no answer."""
    if not len(client.lives):
        return
    _, first, index = client.lives[-1].tolist()
    sent = client.sent[client.sent[:, 0] >= first]
    of_life = client.reports[index:]
    answers = of_life[of_life["kind"] != EventKind.TRADE]
    answered = np.unique(answers["command_position"][answers["kind"] != EventKind.PREVENTED])
    wanted = np.concatenate(
        [
            np.empty(0, np.uint64),
            *(np.arange(p, p + n, dtype=np.uint64) for p, n, _ in sent.tolist()),
        ]
    )
    silent = wanted[~np.isin(wanted, answered)]
    if len(silent):
        found.blame(
            f"{client.account}: {len(silent)} commands without an answer, the first {silent[0]}"
        )
    found.unanswered += len(silent)
