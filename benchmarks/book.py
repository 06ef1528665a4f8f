"""How fast is the order book, and the matcher around it, beside a textbook book in C++?

Three engines play the same flows (flows.py says what is in them), interleaved, `--runs` times:

baseline  std::map of levels, std::list of orders, std::unordered_map by id (baseline/stdmap.cpp)
book      our book alone: commands in, trades out
matcher   Matcher.process(): complete 128-byte commands in, all events out, checks included

figures   mixes A and B with 1,000 orders a side and B with 20,000, several seeds, ns an operation
sweep     10 to 1,000,000 resting orders within 150 prices (narrow) or 800 million (wide), other
          mixes
latency   each operation between two fenced clock reads, one by one, nothing fetched ahead, less
          what an empty pair of reads takes
recorded  the flows in the folder that --data names, whole

Not measured: rings, processes, the journal; making the flow; building the book (prefill). A run
counts only if all engines end with the same hash over all trades in their order; else the exit
status is 1. Ratios are baseline / engine, each within one repetition.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import build, flows, report
from benchmarks.book_driver import Player, hash_trades, matcher_latencies
from benchmarks.flows import MIX_A, MIX_B, MIX_BALANCED, MIXES, Flow, Mix, narrow, wide
from matchbox.core.instrument import market_record
from matchbox.core.matcher import Matcher
from matchbox.shm.records import EVENT

ENGINES = ("baseline", "book", "matcher")
BASELINE = Path(__file__).parent / "baseline" / "stdmap.cpp"
# Events of one call of process(): 256 kB, so that they are read from the cache that they were
# written to.
OUT_EVENTS = 2048
POINTS = (50.0, 99.0, 99.9)


def run(argv: Sequence[str] | None = None) -> int:
    """Run it; returns the exit status."""
    parser = report.parser("book", __doc__)
    parser.add_argument("--seeds", type=int, default=3, help="of the figures (default: 3)")
    parser.add_argument("--operations", type=int, help="of a flow (default: 5,000,000)")
    parser.add_argument("--data", type=Path, help="folder of recorded flows (*.ops.csv.gz)")
    parser.add_argument("--flow", type=Path, action="append", default=[], help="one more flow file")
    parser.add_argument("--only", choices=("figures", "sweep", "latency", "recorded"))
    options = parser.parse_args(argv)
    try:
        bench = Bench(build.build(BASELINE), 1 if options.tiny else options.runs)
        results = _sections(bench, options)
    except Disagreement as error:
        print(f"FAILED: {error}")
        return 1
    report.write("book", results, directory=options.output, draw=lambda f: _draw(f, results))
    return 0


class Disagreement(Exception):
    """Two engines made different trades of one flow."""


class Bench:
    """Plays flows into all engines; checks that they agree."""

    def __init__(self, baseline: Path, runs: int) -> None:
        self.program = baseline
        self.runs = runs

    def measure(self, flow: Flow) -> dict[str, Any]:
        """ns an operation of each engine, with spread, and the ratios to the baseline."""
        commands = flows.commands(flow)
        found: dict[str, list[float]] = {engine: [] for engine in ENGINES}
        with tempfile.NamedTemporaryFile(suffix=".flow") as file:
            flows.write(Path(file.name), flow)
            trades, state = self.verify(flow, commands, Path(file.name))
            for _ in range(self.runs):
                done = self._baseline(file.name)
                _agree(flow, "baseline", done["hash"], trades)
                found["baseline"].append(done["ns"] / flow.operations)
                found["book"].append(_play(flow, trades))
                found["matcher"].append(_process(flow, commands, state))
        result: dict[str, Any] = {"flow": flow.name, "operations": flow.operations}
        result |= {"shares": flow.shares(), "trade_hash": f"{trades:016x}"}
        for engine, values in found.items():
            result[engine] = report.spread(values)
        for engine in ENGINES[1:]:
            pairs = zip(found["baseline"], found[engine], strict=True)
            result[f"{engine}_ratio"] = report.spread(before / after for before, after in pairs)
        return result

    def latency(self, flow: Flow) -> list[dict[str, Any]]:
        """One row an engine: the timer, and percentiles of an operation above it, in ns."""
        commands, rows = flows.commands(flow), []
        with tempfile.TemporaryDirectory(prefix="matchbox-book-") as folder:
            path, samples = Path(folder) / "flow", Path(folder) / "samples"
            flows.write(path, flow)
            trades, _ = self.verify(flow, commands, path)
            done = self._baseline(str(path), str(samples))
            _agree(flow, "baseline", done["hash"], trades)
            ticks = np.fromfile(samples, np.uint32)
            rows.append(_latency_row("baseline", ticks, done["timer_ticks"], done["ticks_per_ns"]))
        player = Player(_capacity(flow))
        player.play(_bytes(flow.records[: flow.prefill]))
        rows.append(_latency_row("book", *player.latencies(_bytes(flow.records[flow.prefill :]))))
        _agree(flow, "book", player.totals[-1], trades)
        matcher = _matcher(flow)
        _run_all(matcher, commands[: flow.prefill])
        out = np.zeros(OUT_EVENTS, EVENT)
        timed = _bytes(commands[flow.prefill :])
        rows.append(_latency_row("matcher", *matcher_latencies(matcher, timed, _bytes(out))))
        return [{"flow": flow.name} | row for row in rows]

    def verify(self, flow: Flow, commands: NDArray[Any], path: Path) -> tuple[int, int]:
        """(hash over all trades, state hash at the end) of `flow`, which all engines agree on.

        Raises Disagreement.
        """
        trades = int(self._baseline(str(path))["hash"])
        if flow.expected_hash:
            _agree(flow, "the file", flow.expected_hash, trades)
        player = Player(_capacity(flow))
        player.play(_bytes(flow.records))
        _agree(flow, "book", player.totals[-1], trades)
        player.validate()
        matcher, state = _matcher(flow), 0
        flow_ids = np.zeros(len(commands) + 1, np.uint64)
        flow_ids[1:] = flow.records["order_id"]
        for events in _batches(matcher, commands):
            state = hash_trades(_bytes(events), flow_ids, state)
        _agree(flow, "matcher", state, trades)
        matcher.validate()
        return trades, matcher.state_hash()

    def _baseline(self, *arguments: str) -> dict[str, Any]:
        command = [str(self.program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        result: dict[str, Any] = json.loads(done.stdout)
        return result


def _agree(flow: Flow, engine: str, got: int, expected: int) -> None:
    if got != expected:
        raise Disagreement(
            f"{engine} and baseline made other trades: flow={flow.name}, got={got:016x}, "
            f"expected={expected:016x}"
        )


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return array.view(np.uint8)


def _capacity(flow: Flow) -> int:
    """Resting orders that a book for this flow is made for."""
    return 1 << max(16, (2 * flow.prefill).bit_length())


def _matcher(flow: Flow) -> Matcher:
    return Matcher([market_record(1, max_orders=_capacity(flow), max_quantity_lots=1 << 40)])


def _batches(matcher: Matcher, commands: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The events of `commands`, a part at a time; a part is valid until the next."""
    out, done = np.zeros(OUT_EVENTS, EVENT), 0
    while done < len(commands):
        yield matcher.process(commands[done:], out)
        done += matcher.consumed


def _run_all(matcher: Matcher, commands: NDArray[Any]) -> None:
    for _ in _batches(matcher, commands):
        pass


def _play(flow: Flow, trades: int) -> float:
    """ns an operation of the book alone."""
    player = Player(_capacity(flow))
    player.play(_bytes(flow.records[: flow.prefill]))
    nanoseconds = player.play(_bytes(flow.records[flow.prefill :]))
    _agree(flow, "book", player.totals[-1], trades)
    return nanoseconds / flow.operations


def _process(flow: Flow, commands: NDArray[Any], state: int) -> float:
    """ns an operation of the matcher."""
    matcher = _matcher(flow)
    _run_all(matcher, commands[: flow.prefill])
    timed = commands[flow.prefill :]
    began = time.perf_counter_ns()
    _run_all(matcher, timed)
    nanoseconds = time.perf_counter_ns() - began
    _agree(flow, "matcher", matcher.state_hash(), state)
    return nanoseconds / flow.operations


def _latency_row(
    engine: str, ticks: NDArray[np.uint32], timer: int, ticks_per_ns: float
) -> dict[str, Any]:
    points = report.percentiles(ticks, POINTS)
    above = {
        name: round(max(0.0, value - timer) / ticks_per_ns, 1)
        for name, value in points.items()
        if name != "count"
    }
    return {"engine": engine, "timer": round(timer / ticks_per_ns, 1), **above}


# ---- what is measured ----------------------------------------------------------------------------


def _sections(bench: Bench, options: Any) -> dict[str, Any]:
    operations = options.operations or (10_000 if options.tiny else 5_000_000)
    seeds = range(options.seed, options.seed + (1 if options.tiny else options.seeds))
    wanted = [options.only] if options.only else ["figures", "sweep", "latency", "recorded"]
    results: dict[str, Any] = {}
    if "figures" in wanted:
        made = (flows.generate(mix, operations, seed) for mix in _figures() for seed in seeds)
        files = (flows.read(path) for path in options.flow)
        results["figures"] = _measure(bench, "figures", (f for some in (made, files) for f in some))
    if "sweep" in wanted:
        fewer = min(operations, 1_000_000)
        mixes = _sweep(1000 if options.tiny else 1_000_000)
        made = (flows.generate(mix, fewer, options.seed) for mix in mixes)
        results["sweep"] = _measure(Bench(bench.program, min(3, bench.runs)), "sweep", made)
    if "latency" in wanted:
        made = (flows.generate(mix, min(operations, 2_000_000), options.seed) for mix in _figures())
        results["latency"] = [row for flow in made for row in bench.latency(flow)]
        report.print_table(
            "book: latency, ns above the timer's own",
            list(results["latency"][0]),
            [list(row.values()) for row in results["latency"]],
        )
    if "recorded" in wanted:
        results["recorded"] = _recorded(bench, options.data)
    results["bytes_per_order"] = _memory()
    return results


def _figures() -> list[Mix]:
    return [MIX_A, MIX_B, replace(MIX_B, name="B 20,000 a side", resting=20_000)]


def _sweep(most: int) -> list[Mix]:
    """The balanced mix by size and range, then the other mixes."""
    sizes = [size for size in (10, 100, 1000, 10_000, 100_000, 1_000_000) if size <= most]
    result = [
        replace(mix, name=f"{kind} {size:,}", resting=size // 2)
        for kind, mix in (("narrow", narrow(MIX_BALANCED)), ("wide", wide(MIX_BALANCED)))
        for size in sizes
    ]
    return result + [mix for name, mix in MIXES.items() if name not in ("A", "B")]


def _measure(bench: Bench, title: str, made: Iterable[Flow]) -> list[dict[str, Any]]:
    """Measure each flow, and print a table."""
    found = []
    for flow in made:
        found.append(bench.measure(flow))
        if flow.operations >= 1_000_000:
            print(f"  {flow.name}: {_line(found[-1])}", flush=True)
    rows = []
    for result in found:
        row: list[object] = [result["flow"]]
        for name in (*ENGINES, "book_ratio", "matcher_ratio"):
            row.append(_spread(result[name], 2 if name.endswith("ratio") else 0))
        rows.append(row)
    columns = ("flow", *(f"{engine} ns" for engine in ENGINES), "book x", "matcher x")
    report.print_table(f"book: {title}, median (lowest..highest)", columns, rows)
    return found


def _spread(values: dict[str, Any], digits: int) -> str:
    return "{median:.{d}f} ({lowest:.{d}f}..{highest:.{d}f})".format(**values, d=digits)


def _line(result: dict[str, Any]) -> str:
    return ", ".join(f"{engine} {result[engine]['median']:.1f} ns" for engine in ENGINES)


def _recorded(bench: Bench, folder: Path | None) -> list[dict[str, Any]]:
    if folder is None:
        print("\nrecorded flows: skipped, since --data names no folder of them")
        return []
    found = list(flows.recorded(folder))
    if not found:
        print(f"\nrecorded flows: skipped, since there is no *.ops.csv.gz in {folder}")
        return []
    return _measure(bench, "recorded", found)


def _memory() -> dict[str, float]:
    """Bytes of a market for each order it can hold, by how many that are; all in."""
    sizes = (10_000, 100_000, 1 << 17, 1_000_000)
    result = {}
    for size in sizes:
        matcher = Matcher([market_record(1, max_orders=size)])
        result[f"{size}"] = round(matcher.memory(1) / size, 2)
    report.print_table("book: bytes an order", list(result), [list(result.values())])
    return result


def _draw(figure: Any, results: dict[str, Any]) -> None:
    shown = [(name, results[name]) for name in ("figures", "sweep") if results.get(name)]
    if not shown:
        return
    for axes, (name, rows) in zip(
        np.atleast_1d(figure.subplots(1, len(shown))), shown, strict=True
    ):
        places = np.arange(len(rows))
        for number, engine in enumerate(ENGINES):
            heights = [row[engine]["median"] for row in rows]
            axes.bar(places + 0.27 * (number - 1), heights, 0.25, label=engine)
        axes.set_xticks(places, [row["flow"] for row in rows], rotation=90, fontsize=7)
        axes.set_ylabel("ns an operation")
        axes.set_title(name)
        axes.legend()


if __name__ == "__main__":
    raise SystemExit(run())
