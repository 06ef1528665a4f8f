"""What all benchmarks share: where they ran, percentiles, tables, and the JSON and PNG files.

A benchmark named "ring" ends with

    report.print_table("title", ("", "p50", ...), rows)
    report.write("ring", results, directory=..., draw=draw)

and so leaves `ring.json` (results, and the environment that they hold for) and `ring.png` in
benchmarks/results/, or wherever --output says.
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
POINTS = (50.0, 90.0, 99.0, 99.9, 99.99)


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """An argument parser with what every benchmark takes: --tiny, --runs, --seed, --output."""
    result = argparse.ArgumentParser(
        prog=f"matchbox bench {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--tiny", action="store_true", help="the size used by the test suite")
    result.add_argument("--runs", type=int, default=5, help="interleaved runs (default: 5)")
    result.add_argument("--seed", type=int, default=1, help="of generated input (default: 1)")
    result.add_argument("--output", type=Path, default=RESULTS, help="folder of JSON and PNG")
    return result


def environment() -> dict[str, Any]:
    """Where this runs: CPU, kernel, cores, versions, commit and command."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]]),
        "commit": _commit(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "allowed_cores": sorted(os.sched_getaffinity(0)),
        "load_average": os.getloadavg(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "clock_source": _read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "compiler": _first_line("cc", "--version"),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in ("numpy", "Cython", "lmdb")},
    }


def percentiles(samples: ArrayLike, points: Iterable[float] = POINTS) -> dict[str, float]:
    """p50, p90, ... and max of `samples`, in their unit, and how many there are."""
    values = np.asarray(samples)
    points = tuple(points)
    found = (
        np.percentile(values, points, method="higher") if len(values) else [np.nan] * len(points)
    )
    result = {f"p{point:g}": float(value) for point, value in zip(points, found, strict=True)}
    result["max"] = float(values.max()) if len(values) else float("nan")
    result["count"] = float(len(values))
    return result


def spread(values: Iterable[float]) -> dict[str, Any]:
    """Median, lowest and highest of one figure over several runs, and the runs themselves."""
    runs = [float(value) for value in values]
    return {
        "median": float(np.median(runs)),
        "lowest": min(runs),
        "highest": max(runs),
        "runs": runs,
    }


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print `rows` under `columns`, the first column to the left and the others to the right."""
    cells = [list(columns), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    print(f"\n{title}")
    for number, row in enumerate(cells):
        first, others = row[0].ljust(widths[0]), zip(row[1:], widths[1:], strict=True)
        print("  " + "  ".join([first, *(text.rjust(width) for text, width in others)]).rstrip())
        if number == 0:
            print("  " + "  ".join("-" * width for width in widths))
    sys.stdout.flush()


def write(
    name: str,
    results: dict[str, Any],
    *,
    directory: Path = RESULTS,
    draw: Callable[[Any], None] | None = None,
) -> list[Path]:
    """Write `name`.json, and `name`.png if there is something to draw and matplotlib is installed.

    `draw` gets an empty matplotlib Figure. Says where the files are, and returns their paths.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{name}.json"]
    record = {"benchmark": name, "environment": environment(), **results}
    paths[0].write_text(json.dumps(record, indent=1) + "\n")
    if draw is not None:
        try:
            from matplotlib.figure import Figure
        except ImportError:
            print("no PNG: matplotlib is not installed (extra: bench)")
        else:
            figure = Figure(figsize=(10, 5), layout="constrained")
            draw(figure)
            paths.append(directory / f"{name}.png")
            figure.savefig(paths[1], dpi=120)
    print("\nwritten: " + ", ".join(str(path) for path in paths))
    return paths


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _first_line(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.splitlines()[0] if done.stdout else ""


def _commit() -> str:
    commit = _first_line("git", "rev-parse", "--short=12", "HEAD")
    if commit is None:
        return "not a checkout"
    return commit + ("+changes" if _first_line("git", "status", "--porcelain") else "")


def _cpu_model() -> str:
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
