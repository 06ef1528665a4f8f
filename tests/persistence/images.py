"""The folders that a power cut may leave of a recorded journal, and what is wrong with them.

Image              one of them
a_few, many        which ones, at one moment: some of every sort; all combinations of whole calls
check(run, ...)    what is wrong with the images of all moments
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matchbox.persistence.journal import Reader, Writer
from matchbox.shm.errors import JournalError
from tests.persistence import power_cut
from tests.persistence.power_cut import PAGE, SECTOR, Choose, Disk
from tests.persistence.recorder import Run

LIVELY = ("write", "flush", "flush_range", "flush_failed", "rename", "unlink", "mkdir", "rmdir")


@dataclass(frozen=True)
class Image:
    """What a cut may leave."""

    cut: int  # before this entry of the record
    told: int
    root: str
    files: dict[str, bytes | None]

    def write(self, place: Path, chance: random.Random) -> None:
        for path, content in self.files.items():
            if content is None:
                (place / path).mkdir()
                continue
            (place / path).write_bytes(content)
            if path.endswith(".mdb") and chance.random() < 0.5:
                # LMDB's lock file is never flushed: it may hold anything.
                (place / f"{path}-lock").write_bytes(chance.randbytes(8192))


def a_few(disk: Disk, chance: random.Random, *, since: int = 0) -> Iterator[Choose]:
    """From entry `since` on."""
    if disk.calls < since:
        return
    yield power_cut.nothing
    yield power_cut.only({call for call in disk.pending() if chance.random() < 0.5})
    yield power_cut.torn(chance, SECTOR)
    yield power_cut.torn(chance, PAGE)


def many(disk: Disk, chance: random.Random) -> Iterator[Choose]:
    calls = disk.pending()
    if len(calls) <= 6:
        yield from power_cut.subsets(calls)
    else:
        yield from (power_cut.nothing, power_cut.everything)
        for call in calls:
            yield power_cut.only({call})
            yield power_cut.only(set(calls) - {call})
    for _ in range(4):
        yield power_cut.torn(chance, SECTOR)
        yield power_cut.torn(chance, PAGE)


Variants = Callable[[Disk, random.Random], Iterator[Choose]]


def images(run: Run, chance: random.Random, variants: Variants) -> Iterator[Image]:
    """Of each moment of a record at which something may be lost, and of its end."""
    disk = Disk(str(run.folder))
    entries = run.entries()
    for cut, entry in enumerate([*entries, None]):
        if entry is None or entry.op in LIVELY:
            for choose in variants(disk, chance):
                yield Image(cut, disk.told, str(run.folder), disk.image(choose))
        if entry is not None:
            disk.take(entry)


def problem_of(image: Image, place: Path, make_log: Any, chance: random.Random) -> str:
    """What is wrong with the journal of an image; empty if nothing is."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    image.write(place, chance)
    journal = place / "data" / "journal"
    try:
        with Reader(journal) as reader:
            read = b"".join(batch.records.tobytes() for batch in reader.batches())
        there = len(read) // 128
        if read != make_log(1, there).tobytes():
            return "other records than were written"
        if there < image.told:
            return f"lost: told={image.told}, there={there}"
        with Writer(journal, batch_records=256) as writer:
            if writer.last_sequence != there:
                return f"goes on after {writer.last_sequence}, not {there}"
            writer.append(make_log(there + 1, 3))
        with Reader(journal) as reader:
            read = b"".join(batch.records.tobytes() for batch in reader.batches(there))
        if not read.endswith(make_log(max(there, 1), 4 if there else 3).tobytes()):
            return "other records after it went on"
    except JournalError as error:
        return f"told={image.told}: {error}"
    return ""


@dataclass
class Findings:
    images: int
    problems: list[str]


def check(
    run: Run, seed: int, make_log: Any, variants: Variants = a_few, *, stop_after: int = 1
) -> Findings:
    """Check all images of a record, in processes of their own: a broken tree may crash LMDB."""
    found = Findings(0, [])
    while len(found.problems) < stop_after:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(read)
                work(run, seed, make_log, variants, found.images, write)
                status = 0
            finally:
                os._exit(status)
        os.close(write)
        with os.fdopen(read) as lines:
            for line in lines:
                number, text = line.rstrip("\n").split(" ", 1)
                found.images = int(number) + 1
                if text:
                    found.problems.append(text)
                    if len(found.problems) >= stop_after:
                        break
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status == 0:
            break
        if len(found.problems) < stop_after:
            # The image after the last one that was answered for.
            found.images += 1
            found.problems.append(f"image {found.images - 1}: the reader died, status={status}")
    return found


def work(run: Run, seed: int, make_log: Any, variants: Variants, first: int, answers: int) -> None:
    chance, place = random.Random(seed), run.folder.parent / "image"
    with os.fdopen(answers, "w", buffering=1) as out:
        for number, image in enumerate(images(run, chance, variants)):
            if number < first:
                continue
            problem = problem_of(image, place, make_log, random.Random(number))
            where = f"image {number}, cut before entry {image.cut}: " if problem else ""
            print(number, f"{where}{problem}".replace("\n", " "), file=out)
