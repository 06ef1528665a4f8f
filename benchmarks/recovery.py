"""How long a start takes, from a snapshot and from the whole journal.

Question   with a million orders that rest, how long from `matchbox up` until the exchange serves,
           with a snapshot and a tail of journal behind it? How many records/s does a replay do, in
           the exchange and in `matchbox snapshot`? How long must an engine stand still for a
           snapshot to be copied, and how long does writing one take?
Set-up     an exchange in topology compact on all cores; one bot sends so many orders that rest on
           20,000 prices, then the tail: 45 % orders that rest, 45 % cancels, 10 % that take.
           "traded" is a journal without all of that: the pipeline's flow, mix B of flows.py.
Checked    each start comes to the state hash that the exchange stopped with.
Left out   the making of the journal; what the page cache saves (the files have just been written).
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import matchbox
from benchmarks import report
from benchmarks.pipeline import Cycle, connect
from matchbox.persistence import snapshots
from matchbox.tools import snapshots as tool
from matchbox.tools.folder import read_status

CHUNK = 4096
MIDDLE = 100_000
LEVELS = 10_000  # of each side

CONFIG = """
instance = "{name}"
data = "{data}"

[limits]
max_sessions = 4

[[asset]]
name = "USD"
scale = 8
[[asset]]
name = "BTC"
scale = 8
[[account]]
number = 1
name = "bot"
[[deposit]]
account = "bot"
asset = "USD"
amount = "4000000000"
[[deposit]]
account = "bot"
asset = "BTC"
amount = "4000000000"
[[market]]
id = 1
symbol = "BTC/USD"
base = "BTC"
quote = "USD"
tick_size = "0.01"
lot_size = "0.0001"
max_orders = {max_orders}
"""


def resting(count: int, seed: int) -> NDArray[Any]:
    """Orders that do not meet."""
    chance = np.random.default_rng(seed)
    rows = np.zeros(count, matchbox.COMMAND)
    rows["kind"], rows["market"] = matchbox.Kind.NEW_ORDER, 1
    rows["order_type"], rows["time_in_force"] = (
        matchbox.OrderType.LIMIT,
        matchbox.TimeInForce.GTC,
    )
    rows["side"] = 1 + np.arange(count) % 2
    away = chance.integers(1, LEVELS + 1, count)
    rows["price_ticks"] = np.where(rows["side"] == matchbox.Side.BUY, MIDDLE - away, MIDDLE + away)
    rows["quantity_lots"] = chance.integers(1, 50, count)
    rows["client_order_id"] = [f"order-{seed}-{i}".encode() for i in range(count)]
    return rows


def tail(count: int, first_id: int, resting_count: int, seed: int) -> NDArray[Any]:
    """What comes then; `first_id`: of the resting orders, which have consecutive ids."""
    chance = np.random.default_rng(seed)
    rows = resting(count, seed + 1)
    what = chance.random(count)
    cancels, takes = what < 0.45, what >= 0.9
    chosen = chance.permutation(resting_count)[: int(cancels.sum())]
    cancels &= np.cumsum(cancels) <= len(chosen)
    rows["kind"][cancels] = matchbox.Kind.CANCEL_ORDER
    rows["order_id"][cancels] = first_id + chosen[: int(cancels.sum())]
    for field in ("order_type", "time_in_force", "side", "price_ticks", "quantity_lots"):
        rows[field][cancels] = 0
    rows["client_order_id"][cancels] = b""
    buys = rows["side"] == matchbox.Side.BUY
    rows["price_ticks"][takes] = np.where(buys, MIDDLE + LEVELS, MIDDLE - LEVELS)[takes]
    rows["time_in_force"][takes] = matchbox.TimeInForce.IOC
    return rows


def send(session: matchbox.Session, rows: NDArray[Any]) -> None:
    """Send all, and wait until all is answered."""
    answered = first = 0
    while answered < session.sent or first < len(rows):
        try:
            if first < len(rows):
                session.submit(rows[first : first + CHUNK])
                first += CHUNK
        except matchbox.RingFull:
            pass
        found = session.reports(timeout=0.001)
        answered = max(answered, int(found["command_position"].max(initial=0)))


class Folder:
    """A data folder, and exchanges that run on it."""

    def __init__(self, orders: int, size: int) -> None:
        place = tempfile.mkdtemp(prefix="matchbox-bench-", dir=os.environ.get("MATCHBOX_BENCH_DIR"))
        self.folder = Path(place)
        self.data, self.config = self.folder / "data", self.folder / "exchange.toml"
        name, room = f"bench{os.getpid()}", orders + size // 10
        self.config.write_text(CONFIG.format(name=name, data=self.data, max_orders=room))
        self.process: subprocess.Popen[str] | None = None

    def up(self) -> float:
        """Start it; seconds until it serves."""
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "matchbox.tools.cli", "up", str(self.config)],
            stdout=(self.folder / "said").open("a"),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            text=True,
        )
        while True:
            status = read_status(self.data)
            if status.get("pid") == self.process.pid and status["state"] == "running":
                return time.perf_counter() - began
            if self.process.poll() is not None:
                raise SystemExit(f"the exchange has not started:\n{self.said()}")
            time.sleep(0.002)

    def down(self) -> dict[str, Any]:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        return read_status(self.data)

    def said(self) -> str:
        return (self.folder / "said").read_text()

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.down()
        shutil.rmtree(self.folder, ignore_errors=True)


def trade(folder: Folder, size: int, seed: int) -> None:
    """A journal of so many records, of a market in which few orders rest for long."""
    cycle = Cycle.make(min(size, 200_000), 1, seed).commands
    named = cycle["order_id"] > 0
    folder.up()
    session, last = connect(folder.data, "bot")
    with session:
        for _ in range(-(-size // len(cycle))):
            rows = cycle.copy()
            rows["order_id"][named] += last
            rows["client_order_id"], rows["sequence"] = b"", 0
            send(session, rows)
            last += len(rows)
    status = folder.down()
    print(f"the traded journal ends at sequence {status['sequence']:,}", flush=True)


def traded(size: int, runs: int, seed: int) -> list[dict[str, float]]:
    """Starts from such a journal."""
    folder = Folder(1 << 16, 0)
    try:
        trade(folder, size, seed)
        return [*starts(folder, runs)]
    finally:
        folder.end()


def make(folder: Folder, orders: int, size: int, seed: int) -> None:
    """The journal, and a snapshot with all orders, before the tail."""
    folder.up()
    with matchbox.connect(folder.data, account="bot") as session:
        send(session, resting(orders, seed))
    status = folder.down()
    print(f"{orders:,} orders rest at sequence {status['sequence']:,}", flush=True)
    taken = tool.take(str(folder.data), say=print)
    print(taken, flush=True)
    folder.up()
    ids = taken.image.parts["sequencer.orders"].view(np.uint8).reshape(orders, -1)[:, :8]
    first_id = int(np.ascontiguousarray(ids).view(np.uint64).min())
    with matchbox.connect(folder.data, account="bot") as session:
        send(session, tail(size, first_id, orders, seed))
    status = folder.down()
    print(f"the tail ends at sequence {status['sequence']:,}", flush=True)


def starts(folder: Folder, runs: int) -> Iterator[dict[str, float]]:
    """Starts, with what they replay; each adds a START and a STOP to the tail."""
    for _ in range(runs):
        before = read_status(folder.data)["hash"]
        at = len(folder.said())
        seconds = folder.up()
        said = folder.said()[at:]
        assert f"state hash {before}." in said, said
        replayed = re.search(r"Replayed the journal: ([0-9,]+) records in ([0-9.]+) s", said)
        loaded = re.search(r"Loaded the snapshot of sequence [0-9,]+ in ([0-9.]+) s", said)
        assert replayed
        records = int(replayed[1].replace(",", ""))
        yield {
            "seconds": seconds,
            "load_seconds": float(loaded[1]) if loaded else 0.0,
            "replay_seconds": float(replayed[2]),
            "records": records,
            "records_per_second": records / max(0.01, float(replayed[2])),
        }
        folder.down()


def saving(folder: Folder) -> dict[str, float]:
    """Copying the state, and writing it, in this process."""
    journal = folder.data / "journal"
    began = time.perf_counter()
    start = snapshots.newest(folder.data / "snapshots", journal=journal)
    assert start is not None
    read = time.perf_counter()
    definitions = tool.known(journal, start)
    catalog = tool.Catalog()
    catalog.learn(definitions)
    learned = time.perf_counter()
    replica = tool.begin(tool.find_config(folder.data), catalog, start, publisher=True)
    loaded = time.perf_counter()
    records = 0
    for _, part in tool.following(journal, start):
        replica.replay(part)
        records += len(part)
    replayed = time.perf_counter()
    image = replica.save()
    assert image is not None
    saved = time.perf_counter()
    path = snapshots.write(folder.folder / "again", image, definitions=definitions)
    return {
        "read_seconds": read - began,
        "load_seconds": loaded - learned,
        "replica_records_per_second": records / (replayed - loaded),
        "copy_seconds": saved - replayed,
        "write_seconds": time.perf_counter() - saved,
        "bytes": path.stat().st_size,
    }


def run(arguments: list[str] | None = None) -> int:
    parser = report.parser("recovery", __doc__)
    parser.add_argument("--orders", type=int, default=1_000_000, help="that rest")
    parser.add_argument("--tail", type=int, default=2_000_000, help="records after the snapshot")
    given = parser.parse_args(arguments)
    if given.tiny:
        given.orders, given.tail, given.runs = 2_000, 4_000, 1
    found: dict[str, Any] = {"orders": given.orders, "tail": given.tail}
    found["traded"] = traded(given.tail, given.runs, given.seed)
    folder = Folder(given.orders, given.tail)
    try:
        make(folder, given.orders, given.tail, given.seed)
        found["saving"] = saving(folder)
        found["snapshot"] = [*starts(folder, given.runs)]
        shutil.rmtree(folder.data / "snapshots")
        found["journal"] = [*starts(folder, given.runs)]
        # All orders, and next to nothing to replay.
        tool.take(str(folder.data), say=print)
        folder.up()
        folder.down()
        found["at once"] = [*starts(folder, given.runs)]
    finally:
        folder.end()
    _print(found)
    report.write("recovery", found, directory=given.output, draw=lambda fig: _draw(fig, found))
    return 0


def _print(found: dict[str, Any]) -> None:
    rows = []
    for name in ("at once", "snapshot", "journal", "traded"):
        each = found[name]
        rows.append(
            [name, f"{each[0]['records']:,.0f}"]
            + [
                f"{np.median([run[key] for run in each]):,.2f}"
                for key in ("load_seconds", "replay_seconds", "seconds")
            ]
            + [f"{np.median([run['records_per_second'] for run in each]):,.0f}"]
        )
    report.print_table(
        f"`matchbox up`, {found['orders']:,} orders and a tail of {found['tail']:,} records",
        ("from", "records", "load s", "replay s", "serves after s", "records/s"),
        rows,
    )
    saved = found["saving"]
    report.print_table(
        "one snapshot",
        ("bytes", "read s", "load s", "copy s", "write s", "replica records/s"),
        [
            [f"{saved['bytes']:,}"]
            + [f"{saved[f'{key}_seconds']:.2f}" for key in ("read", "load", "copy", "write")]
            + [f"{saved['replica_records_per_second']:,.0f}"]
        ],
    )


def _draw(figure: Any, found: dict[str, Any]) -> None:
    axes = figure.subplots()
    names = ("at once", "snapshot", "journal", "traded")
    axes.bar(names, [np.median([run["seconds"] for run in found[name]]) for name in names])
    axes.set_ylabel("seconds until it serves")


if __name__ == "__main__":
    sys.exit(run())
