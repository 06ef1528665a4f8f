"""The ring's benchmark runs, and writes what it says it writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_it_prints_both_rings_and_writes_json_and_picture(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.ring", "--tiny", "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=250,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )
    assert result.returncode == 0, result.stderr
    for word in ("ring", "bare", "line", "p99.9", "ratio to bare"):
        assert word in result.stdout
    found = json.loads((tmp_path / "ring.json").read_text())
    assert set(found["latency_ns"]) == {"ring", "bare", "line"}
    for which in ("ring", "bare"):
        assert found["latency_ns"][which]["p50"]["median"] > 0
        assert found["throughput_millions"][which]["median"] > 0
    assert len(found["throughput_ratio"]["runs"]) == 2
    assert (tmp_path / "ring.png").stat().st_size > 1000
