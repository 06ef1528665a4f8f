"""What does it cost to journal the log?

Two questions, both with LMDB's default commits (data and meta flushed), hashing and checks
included:

append   the writer alone, batch after batch as fast as the disk takes them, by batch size;
         `journal` against `kept`, which leaves all it wrote in the page cache
paced    a journaler behind a log ring that another process fills at a steady rate, by rate and
         linger: the processor time it takes, how large its batches get, and how far `durable` is
         behind

Not measured: the kernel's own threads (their time is nobody's), and the engine. The journal is read
back and verified after each run.
"""

import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from mmap import mmap
from multiprocessing import get_context
from pathlib import Path
from typing import Any

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
    paced = {
        (rate, linger): [pace(rate, linger, seconds, options.directory) for _ in range(runs)]
        for rate, linger in paces
    }
    results = {
        "append": [_row(("batch", "kept"), key, found) for key, found in appends.items()],
        "paced": [_row(("rate", "linger_ms"), key, found) for key, found in paced.items()],
    }
    for name, rows in results.items():
        report.print_table(f"journal: {name}", list(rows[0]), [list(row.values()) for row in rows])
    report.write("journal", results, directory=options.output)
    return 0


PACES = [(10_000, 0), (10_000, 5), (100_000, 0), (100_000, 5), (100_000, 20)]
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


def pace(rate: int, linger_ms: float, seconds: float, directory: Path | None) -> dict[str, float]:
    """Journal a ring that another process fills with `rate` records a second."""
    folder = Path(tempfile.mkdtemp(prefix="matchbox-journal-", dir=directory))
    memory = mmap(-1, ring_bytes(CAPACITY))
    ring = Ring.create(memory, capacity=CAPACITY, readers=1)
    total = int(rate * seconds)
    producer = get_context("fork").Process(target=_fill, args=(ring, rate, total))
    producer.start()
    try:
        with Writer(folder) as writer:
            journaler = Journaler(writer, ring, 0, linger_ns=int(linger_ms * 1e6))
            behind: list[int] = []
            used, began = _cpu(), time.perf_counter()
            while journaler.durable < total:
                if journaler.step() == 0:
                    time.sleep(TICK_SECONDS)
                else:
                    behind.append(ring.produced - journaler.durable)
            elapsed, used = time.perf_counter() - began, _cpu() - used
        _verify(folder, total)
    finally:
        producer.join()
        shutil.rmtree(folder)
    points = report.percentiles(np.array(behind) / rate * 1e3)
    return {
        "done/s": total / elapsed,
        "cpu_%": 100 * used / elapsed,
        "commits/s": len(behind) / elapsed,
        "records/commit": total / len(behind),
        "behind_p50_ms": points["p50"],
        "behind_p99_ms": points["p99"],
    }


def _fill(ring: Ring, rate: int, total: int) -> None:
    """Publish `total` records, at the times that `rate` gives them."""
    producer, done, began = Producer(ring), 0, time.perf_counter()
    records = _records(CAPACITY)
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
