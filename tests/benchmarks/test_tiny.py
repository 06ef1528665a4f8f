"""Every benchmark runs at its smallest, and writes what it says it writes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What the table must show, and the JSON have.
BENCHMARKS = {
    "book": (("baseline", "matcher", "p99.9"), ("figures",)),
    "companions": (("nothing", "journal", "standby", "behind"), ("journal", "standby", "lag")),
    "durable": (("flush", "durable", "matched", "p99.9"), ("rates",)),
    "journal": (("flush", "append", "pipelined"), ("flush", "append", "paced")),
    "ledger": (("copy and matcher", "x", "target"), ("order", "accounts", "stops")),
    "pipeline": (("p50", "p99.99", "echo"), ("markets", "idle_percent_of_a_core")),
    "recovery": (("serves after", "copy s", "records/s"), ("at once", "snapshot", "saving")),
    "ring": (("ring", "bare", "line", "p99.9"), ("latency_ns", "throughput_ratio")),
}


def run(name: str, output: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--tiny", "--output", str(output)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=250,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
            **environment,
        },
    )


@pytest.mark.parametrize("name", BENCHMARKS)
def test_it_prints_a_table_and_writes_json_and_a_picture(name: str, tmp_path: Path) -> None:
    words, keys = BENCHMARKS[name]
    result = run(name, tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    for word in words:
        assert word in result.stdout, result.stdout
    found = json.loads((tmp_path / f"{name}.json").read_text())
    assert found["environment"]["cores"] == os.cpu_count()
    for key in keys:
        assert _figures(found[key]) > 0, key
    if name != "journal":
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def _figures(value: Any) -> int:
    """How many numbers there are in it."""
    if isinstance(value, dict):
        return sum(map(_figures, value.values()))
    if isinstance(value, list):
        return sum(map(_figures, value))
    return isinstance(value, int | float)


def test_no_benchmark_is_left_out() -> None:
    folder = (ROOT / "benchmarks").glob("*.py")
    assert set(BENCHMARKS) == {p.stem for p in folder if "__main__" in p.read_text()}
