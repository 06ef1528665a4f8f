"""Journalers in processes of their own, on a disk that records what they do, and that can fail.

harness/append.py is the process, harness/disk.c the disk.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.persistence import power_cut
from tests.persistence.power_cut import Entry

HARNESS = Path(__file__).parent / "harness"
Answer = dict[str, Any]


class Recorder:
    """Runs journalers on a disk that records and fails; see harness/append.py."""

    def __init__(self, library: Path, folder: Path) -> None:
        self.folder, self._runs = folder, 0
        path = os.pathsep.join(sys.path)
        self._process = subprocess.Popen(
            [sys.executable, str(HARNESS / "append.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "LD_PRELOAD": str(library)},
        )

    def new(self) -> "Run":
        self._runs += 1
        return Run(self, self.folder / str(self._runs))

    def ask(self, **task: Any) -> Answer:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        answer: Answer = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate()


class Run:
    """One journal, written by one process after the other, and the record of its disk."""

    def __init__(self, recorder: Recorder, folder: Path) -> None:
        self._recorder = recorder
        self.folder, self.record = folder / "disk", folder / "record"
        self.folder.mkdir(parents=True)

    def write(
        self, seed: int, steps: int, *options: str, source: Path | None = None, **disk: str
    ) -> Answer:
        """Have a process journal `steps` batches; `disk`: for harness/disk.c, such as kill=12.

        With a `source`, have it back that journal up instead.
        """
        environment = {f"DISK_{name.upper()}": str(value) for name, value in disk.items()}
        environment |= {"DISK_ROOT": str(self.folder), "DISK_RECORD": str(self.record)}
        return self._recorder.ask(
            folder=str(self.folder / "data" / "journal"),
            seed=seed,
            steps=steps,
            options=options,
            source=str(source or ""),
            environment=environment,
        )

    def entries(self) -> list[Entry]:
        return power_cut.read(self.record)

    def remove(self) -> None:
        shutil.rmtree(self.folder.parent)
