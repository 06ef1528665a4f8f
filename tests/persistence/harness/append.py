"""Journalers at work, for a disk that is cut off or fails.

Reads one JSON object a line and answers each with one: {"status": ..., "said": ...}. Each is done
in a process of its own, forked, since a start of Python takes longer than all the rest:

    folder, seed, steps    publish the log again from its first record on, as a start does, and have
                           the journal follow it; then so many more steps, of sizes by the seed
    options                `nosync`, `nometasync`: LMDB's flags; `rolls`: a new file now and then;
                           `pipelined`: nometasync, and a commit is told with the next one's flush
    environment            of the process, for disk.c
    source                 if there is one: make `folder` a backup of it, some batches at a time

Status 0: done. 3: the journal cannot go on, and `said` is why. 137: killed where disk.c was to.
"""

import ctypes
import json
import mmap
import os
import random
import sys
from pathlib import Path
from typing import Any

import lmdb

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from conftest import make_records

from matchbox.persistence import backup
from matchbox.persistence.journal import Writer
from matchbox.persistence.journaler import Journaler
from matchbox.shm.errors import JournalError
from matchbox.shm.ring import Producer, Ring, ring_bytes

CAPACITY = 256
READERS_OFFSET = 256  # of mb_ring in ring.h: the position of the first reader
MEMORY = mmap.mmap(-1, ring_bytes(CAPACITY))  # as long as disk.c looks at it
SIZES = (1, 1, 2, 3, 5, 17, 40, 100)
disk = ctypes.CDLL(None)
disk.disk_watch.argtypes = [ctypes.c_void_p]


class Pipelined(Journaler):
    """Tells a commit when the next one has flushed its data, and with it the meta page before."""

    def step(self) -> int:
        count = self._journal()
        self._reader.release()
        self._reader.advance(count)
        return count

    def flush(self) -> None:
        assert self.writer._environment
        self.writer._environment.env.sync(True)
        self._reader.release()


def follow(folder: Path, seed: int, steps: int, options: list[str]) -> None:
    pipelined = "pipelined" in options
    metasync = not pipelined and "nometasync" not in options
    flags = {"sync": "nosync" not in options, "metasync": metasync}
    if not all(flags.values()):
        real_open = lmdb.open
        lmdb.open = lambda *a, **o: real_open(*a, **{**o, **flags})
    chance = random.Random(seed)
    ring = Ring.create(MEMORY, capacity=CAPACITY, readers=1)
    disk.disk_watch(ctypes.addressof(ctypes.c_char.from_buffer(MEMORY)) + READERS_OFFSET)
    producer = Producer(ring)
    with Writer(folder, batch_records=CAPACITY) as writer:
        journaler = Journaler(writer, ring, 0)
        while producer.position < writer.last_sequence:
            count = min(CAPACITY, writer.last_sequence - producer.position)
            producer.publish(make_records(producer.position + 1, count))
            journaler.step()
        last = Pipelined(writer, ring, 0) if pipelined else journaler
        for _ in range(steps):
            if "rolls" in options and chance.random() < 0.04:
                writer.roll()
            records = make_records(producer.position + 1, chance.choice(SIZES))
            if isinstance(last, Pipelined) and producer.free() < len(records):
                last.flush()
            assert producer.publish(records)
            while last.ready:
                last.step()
            if isinstance(last, Pipelined) and chance.random() < 0.2:
                last.flush()


def copy(source: Path, folder: Path) -> None:
    backup._COMMIT_BYTES = 3000
    told = ctypes.c_uint64.from_buffer(MEMORY)

    def progress(last: int) -> None:
        told.value = last

    progress(0)  # what the process before has left
    disk.disk_watch(ctypes.addressof(told))
    progress(backup.backup(source, folder, progress=progress).last)


def child(task: dict[str, Any], answer: int) -> int:
    os.environ.update(task["environment"])
    disk.disk_start()
    status = 0
    try:
        if task["source"]:
            copy(Path(task["source"]), Path(task["folder"]))
        else:
            follow(Path(task["folder"]), task["seed"], task["steps"], task["options"])
    except JournalError as error:
        os.write(answer, str(error).encode())
        status = 3
    except BaseException as error:
        os.write(answer, repr(error).encode())
        status = 1
    disk.disk_end()
    return status


def main() -> None:
    for line in sys.stdin:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os._exit(child(json.loads(line), write))
        os.close(write)
        with os.fdopen(read, "rb") as said:
            text = said.read().decode()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps({"status": status, "said": text}), flush=True)


if __name__ == "__main__":
    main()
