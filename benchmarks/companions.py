"""What journaler and standby cost the pipeline, and how far behind it they are.

Question   of the commands/s that one bot gets through the exchange when nothing is kept, how many
           are left with a journal, and with a journal and a standby? How far is the standby behind
           the engine meanwhile?
Set-up     as in the pipeline's benchmark, saturated: engine on a core of its own, bot and journaler
           share another. A standby is on no core of its own, as it would be without pinning; on two
           cores it takes time from the bot, the journaler, or the engine.
Ways       "nothing": a journaler that takes records from the log and writes none of them
           (baseline/no_journal); "journal": the real one; "standby": that, and a standby.
Flow       mix B of benchmarks/flows.py in one market, again and again. Checked: every command is
           answered once and in order, none is refused, the fills are those of Matcher.process().
Left out   the first second of each run.
"""

import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import pipeline, report
from benchmarks.pipeline import Bot, Cores, Cycle
from matchbox.shm import segment
from matchbox.shm.errors import SegmentError
from matchbox.shm.ring import Ring
from matchbox.shm.segment import SegmentName
from matchbox.tools.folder import read_status

WAYS = ("nothing", "journal", "standby")
NO_JOURNAL = Path(__file__).parent / "baseline" / "no_journal"
SAMPLE_SECONDS = 0.05
START_SECONDS = 60.0


@dataclass
class Lag:
    """How many records the standby's log is behind the engine's, now and then."""

    log: Ring
    copy: Ring
    samples: list[int] = field(default_factory=list)
    due: float = 0.0

    def sample(self) -> None:
        now = time.perf_counter()
        if now >= self.due:
            behind = self.copy.produced  # first: it is never ahead
            self.samples.append(max(0, self.log.produced - behind))
            self.due = now + SAMPLE_SECONDS


class Watcher(Bot):
    """A bot that looks at the lag while it reads."""

    lag: Lag | None = None

    def check(self, reports: NDArray[Any]) -> None:
        super().check(reports)
        if self.lag is not None:
            self.lag.sample()


def follow(data: Path) -> Lag:
    """Once a standby follows. Raises SystemExit if none does."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        status = read_status(data)
        with contextlib.suppress(SegmentError):
            if status.get("standby"):
                names = (
                    SegmentName(status["instance"], status[which], "log")
                    for which in ("epoch", "standby")
                )
                return Lag(*(Ring.attach(segment.attach(name, writable=False)) for name in names))
        if time.monotonic() > deadline:
            raise SystemExit(f"no standby follows: data={data}")
        time.sleep(0.01)


def one_run(way: str, cycle: Cycle, seconds: float) -> dict[str, Any]:
    """Most commands/s in one way, and the standby's lag in records."""
    cores = Cores(standby=way == "standby")
    more = [str(NO_JOURNAL)] if way == "nothing" else []
    with pipeline.exchange(1, cores, path=more) as (data, _):
        session, base = pipeline.connect(data, "bot")
        bot = Watcher(session, cycle, base, checked=True)
        bot.lag = follow(data) if cores.standby else None
        found: dict[str, Any] = {"most": pipeline.saturate(bot, seconds)}
        if bot.lag is not None:
            found["lag"] = report.percentiles(np.array(bot.lag.samples))
        session.close()
    return found


def run(arguments: list[str] | None = None) -> int:
    """Run it and write the results; the exit status."""
    parser = report.parser("companions", __doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run (default: 10)")
    given = parser.parse_args(arguments)
    operations = 400_000
    if given.tiny:
        given.seconds, given.runs, operations = 0.5, 1, 20_000
    pipeline.set_up(Cores())
    cycle = Cycle.make(operations, 1, given.seed)
    rounds = [{way: one_run(way, cycle, given.seconds) for way in WAYS} for _ in range(given.runs)]
    found: dict[str, Any] = {
        way: {
            "most": report.spread(one[way]["most"] for one in rounds),
            "ratio": report.spread(one[way]["most"] / one["nothing"]["most"] for one in rounds),
        }
        for way in WAYS
    }
    lags = [one["standby"]["lag"] for one in rounds]
    found["lag"] = {point: report.spread(lag[point] for lag in lags) for point in ("p50", "max")}
    rows = [
        [way, *(found[way]["most"][k] for k in ("median", "lowest", "highest"))]
        + [found[way]["ratio"][k] for k in ("median", "lowest", "highest")]
        for way in WAYS
    ]
    report.print_table(
        "one market, one bot: most commands/s with",
        ("", "median", "lowest", "highest", "of nothing", "lowest", "highest"),
        rows,
    )
    behind = found["lag"]
    print(
        f"\nThe standby is {behind['p50']['median']:,.0f} records behind (median), "
        f"{behind['max']['highest']:,.0f} at most."
    )
    report.write(
        "companions", found, directory=given.output, draw=lambda figure: _draw(figure, found)
    )
    return 0


def _draw(figure: Any, found: dict[str, Any]) -> None:
    axes = figure.subplots()
    axes.bar(WAYS, [found[way]["most"]["median"] for way in WAYS])
    axes.set_ylabel("commands/s, most")
    axes.set_title(f"One market, one bot, {os.cpu_count()} cores")


if __name__ == "__main__":
    raise SystemExit(run())
