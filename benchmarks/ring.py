"""What does a ring cost between two processes?

latency     half of a round trip of one 128-byte record through two rings, with pauses in between,
            so that nothing runs in lockstep: nanoseconds, one way
throughput  records one way, published one by one, each read whole: millions a second

ring  shm/ring.h, the functions that the engine uses
bare  the baseline: a C ring of the same layout (128-byte slots, positions on lines of their own,
      the other side's position kept private) with one reader and everything known when compiled
line  no ring, both sides write one cache line in turn: what the machine itself takes

Both sides spin, each pinned to a core of its own; with one core they give way to each other, and
the figures are those of the scheduler. The three take turns, and ratios are within one turn. Every
record is filled whole and checked. Not measured: waking (parking), and what is done with a record.
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.build import build

# A run is so many short turns: the machine's mood changes from second to second.
TURNS = 6
SOURCE = Path(__file__).parent / "baseline" / "ring_pair.c"
POINTS = (50.0, 90.0, 99.0, 99.9)


def run(argv: Sequence[str] | None = None) -> int:
    """Run it; returns the exit status."""
    options = report.parser("ring", __doc__).parse_args(argv)
    program = build(SOURCE)
    turns = 2 if options.tiny else TURNS * options.runs
    trips, records = (2_000, 20_000) if options.tiny else (50_000, 4_000_000)
    cores = sorted(os.sched_getaffinity(0))
    pair = (cores[0], cores[1]) if len(cores) > 1 else (-1, -1)
    if pair[0] < 0:
        print("one core: both sides share it, and the figures are those of the scheduler")
        trips, records = trips // 20, records // 100
    latency: dict[str, list[dict[str, float]]] = {"ring": [], "bare": [], "line": []}
    samples: dict[str, list[Any]] = {which: [] for which in latency}
    throughput: dict[str, list[float]] = {"ring": [], "bare": []}
    for turn in range(turns):
        # Who goes first changes: what a turn does to the machine is not always the same one's loss.
        order = list(latency) if turn % 2 else list(reversed(latency))
        for which in order:
            times = _measure(program, which, "latency", trips, pair) / 2
            samples[which].append(times)
            latency[which].append(report.percentiles(times, POINTS))
            if which in throughput:
                seconds = _measure(program, which, "throughput", records, pair)[0]
                throughput[which].append(records / seconds / 1e6)
    results = _results(latency, throughput)
    _print(results)
    report.write(
        "ring", results, directory=options.output, draw=lambda figure: _draw(figure, samples)
    )
    return 0


def _measure(program: Path, which: str, what: str, count: int, pair: tuple[int, int]) -> Any:
    command = [str(program), which, what, str(count), *map(str, pair)]
    done = subprocess.run(command, capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.float64)


def _results(
    latency: dict[str, list[dict[str, float]]], throughput: dict[str, list[float]]
) -> dict[str, Any]:
    points = [f"p{point:g}" for point in POINTS]

    def ratio(ours: Sequence[float], base: Sequence[float]) -> dict[str, Any]:
        return report.spread(a / b for a, b in zip(ours, base, strict=True))

    return {
        "latency_ns": {
            which: {point: report.spread(run[point] for run in runs) for point in points}
            for which, runs in latency.items()
        },
        "throughput_millions": {which: report.spread(runs) for which, runs in throughput.items()},
        "latency_ratio": {
            which: {
                point: ratio([run[point] for run in runs], [run[point] for run in latency["bare"]])
                for point in points
            }
            for which, runs in latency.items()
        },
        "throughput_ratio": ratio(throughput["ring"], throughput["bare"]),
    }


def _print(results: dict[str, Any]) -> None:
    points = [f"p{point:g}" for point in POINTS]
    rows = []
    for which, found in results["latency_ns"].items():
        ratio = results["latency_ratio"][which]["p50"]
        rows.append(
            [which]
            + [round(found[point]["median"], 1) for point in points]
            + [f"{ratio['median']:.2f}", f"{ratio['lowest']:.2f} to {ratio['highest']:.2f}"]
        )
    report.print_table(
        "ring: one way, ns (medians of the turns)", ("", *points, "p50 / bare", "turns"), rows
    )
    ratio = results["throughput_ratio"]
    rows = [
        [which, round(found["median"], 2)]
        for which, found in results["throughput_millions"].items()
    ]
    rows[0] += [f"{ratio['median']:.2f}", f"{ratio['lowest']:.2f} to {ratio['highest']:.2f}"]
    rows[1] += ["1.00", ""]
    report.print_table(
        "ring: millions of records a second", ("", "median", "ratio to bare", "turns"), rows
    )


def _draw(figure: Any, samples: dict[str, list[Any]]) -> None:
    axes = figure.subplots()
    for which, runs in samples.items():
        times = np.sort(np.concatenate(runs))
        axes.plot(times, np.arange(1, len(times) + 1) / len(times), label=which)
    axes.set_xscale("log")
    axes.set_xlabel("one way, ns")
    axes.set_ylabel("share of records that took no longer")
    axes.grid(True, alpha=0.3)
    axes.legend()


if __name__ == "__main__":
    raise SystemExit(run())
