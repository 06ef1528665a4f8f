"""What does it cost to journal the log?

Hashing and checks are included:

flush    the disk itself, in the same run: 4 KiB written and flushed, one after the other
append   the writer alone, batch after batch as fast as the disk takes them, by batch size;
         `journal` against `kept`, which leaves all it wrote in the page cache
paced    a journaler behind a log ring that another process fills at a steady rate, by rate, linger
         and way to commit: the processor time it takes, how large its batches get, and how long
         after its planned time the oldest record of a commit is told as durable

The ways to commit:

default    LMDB's: data flushed, meta page flushed; told then
pipelined  NOMETASYNC: one flush; told when the next commit has flushed its data, and with it the
           meta page before; when the ring is empty, by a flush of its own
realtime   the default, by a thread with real-time priority, where that is allowed

Not measured: the kernel's own threads (their time is nobody's), and the engine. The journal is read
back and verified after each run.
"""

import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from mmap import mmap
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from benchmarks import report
from matchbox.persistence import journal
from matchbox.persistence.journal import Reader, Writer
from matchbox.persistence.journaler import Journaler
from matchbox.shm.records import LOG_RECORD
from matchbox.shm.ring import Producer, Ring, ring_bytes

CAPACITY = 1 << 18
TICK_SECONDS = 0.0005


def run(argv: Sequence[str] | None = None) -> int:
    """Run it; returns the exit status."""
    parser = report.parser("journal", __doc__)
    parser.add_argument(
        "--directory", type=Path, help="where to write (default: the temporary one)"
    )
    options = parser.parse_args(argv)
    runs = 1 if options.tiny else options.runs
    sizes = [100] if options.tiny else [1000, 8192, 32768, 131072]
    megabytes = 1 if options.tiny else 1000
    paces = [(20_000, 1)] if options.tiny else PACES
    seconds = 0.2 if options.tiny else 8.0
    appends = {
        (size, kept): [append(size, megabytes, kept, options.directory) for _ in range(runs)]
        for size in sizes
        for kept in (False, True)
    }
    paced: dict[tuple[Any, ...], list[dict[str, float]]] = {
        (rate, linger, way): [] for rate, linger in paces for way in WAYS
    }
    # In turn, so that what else the machine does falls on all ways alike.
    flushes = []
    for _ in range(runs):
        flushes.append(flush(options.directory, 20 if options.tiny else 500))
        for (rate, linger, way), found in paced.items():
            if way != "realtime" or may_be_realtime():
                found.append(pace(rate, linger, seconds, options.directory, way))
    results = {
        "flush": [_row((), (), flushes)],
        "append": [_row(("batch", "kept"), key, found) for key, found in appends.items()],
        "paced": [
            _row(("rate", "linger_ms", "way"), key, found) for key, found in paced.items() if found
        ],
    }
    for name, rows in results.items():
        report.print_table(f"journal: {name}", list(rows[0]), [list(row.values()) for row in rows])
    report.write("journal", results, directory=options.output)
    return 0


WAYS = ("default", "pipelined", "realtime")
PACES = [(1_000, 0), (10_000, 0), (10_000, 5), (100_000, 0), (100_000, 5), (100_000, 20)]
PACES += [(1_000_000, 0), (1_000_000, 5), (1_000_000, 20)]


def _row(names: tuple[str, ...], key: tuple[Any, ...], found: list[dict[str, float]]) -> Any:
    medians = {name: round(float(np.median([run[name] for run in found])), 2) for name in found[0]}
    return dict(zip(names, key, strict=True)) | medians


def append(size: int, megabytes: int, kept: bool, directory: Path | None) -> dict[str, float]:
    """Journal `megabytes` in batches of `size` records."""
    records = _records(size)
    before, journal._CACHED_BYTES = journal._CACHED_BYTES, 1 << 62 if kept else 32 << 20
    folder = Path(tempfile.mkdtemp(prefix="matchbox-journal-", dir=directory))
    try:
        with Writer(folder, batch_records=max(size, 1000)) as writer:
            batches = max(1, megabytes * 1_000_000 // records.nbytes)
            latencies, used, began = np.zeros(batches), _cpu(), time.perf_counter()
            for batch in range(batches):
                start = time.perf_counter()
                writer.append(records)
                records["sequence"] += np.uint64(size)
                latencies[batch] = time.perf_counter() - start
            seconds, used = time.perf_counter() - began, _cpu() - used
        _verify(folder, batches * size)
    finally:
        journal._CACHED_BYTES = before
        shutil.rmtree(folder)
    written = batches * records.nbytes
    points = report.percentiles(latencies * 1e3)
    return {
        "MB/s": written / seconds / 1e6,
        "cpu_s/GB": used / written * 1e9,
        "p50_ms": points["p50"],
        "p99_ms": points["p99"],
    }


def flush(directory: Path | None, count: int) -> dict[str, float]:
    """What the disk takes for the least there is: one page written, and flushed."""
    page, took = b"x" * 4096, np.zeros(count)
    with tempfile.NamedTemporaryFile(prefix="matchbox-flush-", dir=directory) as file:
        for index in range(count):
            began = time.perf_counter()
            os.pwrite(file.fileno(), page, index * len(page))
            os.fdatasync(file.fileno())
            took[index] = time.perf_counter() - began
    points = report.percentiles(took * 1e3)
    return {"p50_ms": points["p50"], "p99_ms": points["p99"]}


def may_be_realtime() -> bool:
    """May this process have real-time priority? It has its usual one afterwards."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return False
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return True


def pace(
    rate: int, linger_ms: float, seconds: float, directory: Path | None, way: str = "default"
) -> dict[str, float]:
    """Journal a ring that another process fills with `rate` records a second."""
    folder = Path(tempfile.mkdtemp(prefix="matchbox-journal-", dir=directory))
    memory = mmap(-1, ring_bytes(CAPACITY))
    ring = Ring.create(memory, capacity=CAPACITY, readers=1)
    total = int(rate * seconds)
    clock = get_context("fork").Value("d", 0.0)
    producer = get_context("fork").Process(target=_fill, args=(ring, rate, total, clock))
    producer.start()
    try:
        if way == "realtime":
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        with _flags(metasync=way != "pipelined"), Writer(folder) as writer:
            journaler = Journaler(writer, ring, 0, linger_ns=int(linger_ms * 1e6))
            used, began = _cpu(), time.perf_counter()
            commits = _follow(journaler, total, way == "pipelined")
            elapsed, used = time.perf_counter() - began, _cpu() - used
        _verify(folder, total)
    finally:
        if way == "realtime":
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        producer.join()
        shutil.rmtree(folder)
    oldest, told = np.array(commits).T
    points = report.percentiles((told - (clock.value + oldest / rate)) * 1e3)
    return {
        "done/s": total / elapsed,
        "cpu_%": 100 * used / elapsed,
        "commits/s": len(commits) / elapsed,
        "records/commit": total / len(commits),
        "told_p50_ms": points["p50"],
        "told_p99_ms": points["p99"],
    }


def _follow(journaler: Journaler, total: int, pipelined: bool) -> list[tuple[int, float]]:
    """Journal `total` records. Of each commit: its first record, and when it was told."""
    commits: list[tuple[int, float]] = []
    waiting: list[int] = []  # first records of commits that are not certain
    while journaler.durable < total or waiting:
        first = journaler.durable + 1
        done = journaler.step() if journaler.durable < total else 0
        now = time.perf_counter()
        if done and pipelined:
            commits += [(oldest, now) for oldest in waiting]
            waiting = [first]
        elif done:
            commits.append((first, now))
        if waiting and journaler.ready == 0:
            environment = journaler.writer._environment
            assert environment is not None
            environment.env.sync(True)
            commits += [(oldest, time.perf_counter()) for oldest in waiting]
            waiting = []
        if not done:
            time.sleep(TICK_SECONDS)
    return commits


@contextmanager
def _flags(metasync: bool) -> Iterator[None]:
    """Files are opened with this flag."""
    real = lmdb.open
    lmdb.open = lambda *a, **options: real(*a, **{**options, "metasync": metasync})
    try:
        yield
    finally:
        lmdb.open = real


def _fill(ring: Ring, rate: int, total: int, clock: Any) -> None:
    """Publish `total` records, at the times that `rate` gives them from `clock` on."""
    records = _records(CAPACITY)
    producer, done, began = Producer(ring), 0, time.perf_counter()
    clock.value = began
    while done < total:
        due = min(total, int((time.perf_counter() - began) * rate))
        count = min(due - done, producer.free())
        if count <= 0:
            time.sleep(TICK_SECONDS)
            continue
        part = records[:count]
        part["sequence"] = np.arange(done + 1, done + count + 1, dtype=np.uint64)
        producer.publish(part)
        done += count


def _records(count: int) -> NDArray[Any]:
    words = np.random.default_rng(1).integers(0, 1 << 62, (count, 16), dtype=np.uint64)
    records = words.view(LOG_RECORD).reshape(-1)
    records["sequence"] = np.arange(1, count + 1)
    return records


def _cpu() -> float:
    """Processor seconds of this process, in user and kernel mode."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _verify(folder: Path, expected: int) -> None:
    """The run counts only if the journal holds every record."""
    with Reader(folder) as reader:
        last = 0
        for batch in reader.batches():
            last = batch.last_sequence
    if last != expected:
        raise SystemExit(f"the journal is not whole: last={last}, expected={expected}")


if __name__ == "__main__":
    raise SystemExit(run())
