"""How long a bot waits for reports that are durable.

Question   from the moment an order should be sent to the moment its answer is in the bot's hands:
           for a session whose reports wait until their records are on the disk, and for one whose
           reports wait for nothing, at 100k orders/s in one market; beside what the disk itself
           takes to flush.
Set-up     as in the pipeline's benchmark: engine on a core of its own, bot and journaler share
           another. A durable session sends; a matched one has subscribed to the account and is
           told of the same orders. The bot sleeps for some 50 microseconds when it has nothing
           to do, since the journaler needs its core. No standby, which would need one, too.
Flow       mix B of benchmarks/flows.py in one market, again and again. Open loop: each command has
           a planned time; what delays one delays those behind it, and all of that counts.
Disk       4 KiB written and flushed, one after the other, by this process on the journal's disk,
           just before and just after each run, while the exchange idles.
Left out   the first second of each run. Checked: every command is answered once and in order, none
           is refused, the fills are those of Matcher.process(), every report says that it is
           durable, and both sessions are told the same.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import matchbox
from benchmarks import pipeline, report
from benchmarks.pipeline import Bot, Cores, Cycle

RATES = (10_000, 100_000)
NAP_S = 50e-6
WAITING = ("durable", "matched")
POINTS = ("p50", "p90", "p99", "p99.9", "max")


class Inbox:
    """What one session was told, and when: written once before, so that keeping it costs no page
    faults.
    """

    def __init__(self, session: matchbox.Session, room: int) -> None:
        self.session = session
        self._store = np.empty(room, matchbox.REPORT)
        self._store.view(np.uint8).fill(0)
        self._came = np.zeros(room, np.int64)
        self.count = 0

    def read(self) -> int:
        """Take what is there; how many reports."""
        if not self.session.pending:
            return 0
        found = len(self.session.reports(1 << 16, out=self._store[self.count :]))
        self._came[self.count : self.count + found] = time.perf_counter_ns()
        self.count += found
        return found

    @property
    def reports(self) -> NDArray[Any]:
        return self._store[: self.count]

    @property
    def last_sequence(self) -> int:
        return int(self._store["sequence"][self.count - 1]) if self.count else 0

    def waited(self, first: int, planned: NDArray[np.int64]) -> NDArray[np.int64]:
        """Nanoseconds from the planned time of each log record from `first` on to the read that had
        its first report. Fills belong to the record that made them.
        """
        sequences, at = np.unique(self.reports["sequence"].astype(np.int64), return_index=True)
        if len(sequences) != len(planned) or sequences[0] != first:
            raise SystemExit(f"orders without a report: told={len(sequences)}, sent={len(planned)}")
        result: NDArray[np.int64] = self._came[at] - planned
        return result


def flush_times(directory: Path, count: int) -> NDArray[np.float64]:
    """Microseconds of so many flushes of one page."""
    took = np.zeros(count)
    with (directory / "flushed").open("wb", buffering=0) as file:
        for index in range(count):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            took[index] = time.perf_counter() - began
    (directory / "flushed").unlink()
    return took * 1e6


def paced(bot: Bot, watcher: matchbox.Session, base: int, rate: int, seconds: float) -> Any:
    """Microseconds that each order waited, by session. base: the log before the first command."""
    total, gap, clock = int(rate * seconds), 1e9 / rate, time.perf_counter_ns
    inboxes = [Inbox(session, 2 * total + (1 << 16)) for session in (bot.session, watcher)]
    sent, began = 0, clock() + 1_000_000
    deadline = time.monotonic() + seconds + 60
    while sent < total or min(inbox.last_sequence for inbox in inboxes) < base + total:
        due = min(total, max(0, int((clock() - began) / gap) + 1))
        if due > sent:
            part = bot.take(due - sent)
            try:
                bot.session.submit(part)
            except matchbox.RingFull:
                part = part[:0]
            sent += len(part)
            bot.sent_some(len(part))
        found = sum([inbox.read() for inbox in inboxes])
        if not found and due <= sent:
            time.sleep(NAP_S)
        if time.monotonic() > deadline:
            raise SystemExit(f"no answer to the last commands: sent={sent}")
    planned = began + (np.arange(total) * gap).astype(np.int64)
    durable, matched = inboxes
    bot.check(durable.reports)
    check(durable.reports, matched.reports)
    warm = int(rate * min(pipeline.WARM_SECONDS, seconds / 4))
    return {
        name: inbox.waited(base + 1, planned)[warm:] / 1e3
        for name, inbox in zip(WAITING, inboxes, strict=True)
    }


def check(durable: NDArray[Any], matched: NDArray[Any]) -> None:
    """Each says what it waited for, and both say the same."""
    for reports, assurance in ((durable, "DURABLE"), (matched, "MATCHED")):
        if (reports["assurance"] != matchbox.Assurance[assurance]).any():
            raise SystemExit(f"a report is not {assurance}")
    # A subscriber sent nothing: where no trade is told, it has another command's position, 0.
    own = ("flags", "assurance", "trade_id")
    same = [name for name in matchbox.REPORT.names or () if name not in own]
    if len(durable) != len(matched) or any((durable[n] != matched[n]).any() for n in same):
        raise SystemExit("the two sessions were told different things")


def one_run(cycle: Cycle, cores: Cores, rate: int, seconds: float, flushes: int) -> Any:
    """Microseconds of the disk's flushes and of both sessions' orders."""
    with pipeline.exchange(1, cores) as (data, _):
        watcher, _ = pipeline.connect(data, "watcher")
        watcher.subscribe(watcher.account)
        watcher.reports(timeout=10)
        session = matchbox.connect(data, account="bot", name="bot", assurance="durable")
        position = session.cancel(2**60)
        found = session.reports(timeout=10)
        assert found[-1]["command_position"] == position
        base = int(found[-1]["sequence"])
        disk = [flush_times(data, flushes)]
        waited = paced(Bot(session, cycle, base, checked=True), watcher, base, rate, seconds)
        disk.append(flush_times(data, flushes))
        session.close()
        watcher.close()
    return {"flush": np.concatenate(disk), **waited}


def run(arguments: list[str] | None = None) -> int:
    """Run it and write the results; the exit status."""
    parser = report.parser("durable", __doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run (default: 8)")
    parser.add_argument("--rates", type=int, nargs="*", default=RATES, help="orders a second")
    given = parser.parse_args(arguments)
    rates, seconds, runs, flushes, operations = given.rates, given.seconds, given.runs, 500, 400_000
    if given.tiny:
        rates, seconds, runs, flushes, operations = (2_000,), 0.5, 1, 20, 20_000
    cores = Cores()
    pipeline.set_up(cores)
    cycle = Cycle.make(operations, 1, given.seed)
    results: dict[str, Any] = {"pinned": cores.pinned, "rates": {}}
    found: dict[int, list[Any]] = {rate: [] for rate in rates}
    for _ in range(runs):
        for rate in rates:
            one = one_run(cycle, cores, rate, seconds, flushes)
            found[rate].append({who: report.percentiles(one[who]) for who in one})
    for rate in rates:
        figures = {
            who: {point: report.spread(one[who][point] for one in found[rate]) for point in POINTS}
            for who in ("flush", *WAITING)
        }
        results["rates"][str(rate)] = figures
        report.print_table(
            f"{rate:,} orders/s, one market: microseconds, medians of the runs",
            ("", *POINTS, "highest p99"),
            [
                [who, *(values[p]["median"] for p in POINTS), values["p99"]["highest"]]
                for who, values in figures.items()
            ],
        )
    report.write(
        "durable", results, directory=given.output, draw=lambda figure: _draw(figure, results)
    )
    return 0


def _draw(figure: Any, results: dict[str, Any]) -> None:
    axes = figure.subplots()
    for rate, figures in results["rates"].items():
        for who, values in figures.items():
            label = f"{who}, {int(rate):,}/s"
            axes.plot(POINTS, [values[p]["median"] for p in POINTS], marker="o", label=label)
    axes.set_yscale("log")
    axes.set_ylabel("microseconds, planned time to report; of a flush")
    axes.set_title("Reports that are durable, and that are matched")
    axes.legend()
    axes.grid(True, which="both", alpha=0.3)


if __name__ == "__main__":
    raise SystemExit(run())
