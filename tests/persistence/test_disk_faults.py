"""The disk fails at any call: the journal goes on in a new file, or stops and says why.

Either way nothing that was told as durable is lost: not to the next process, which finds in memory
what may not be on the disk, and not to a power cut at any moment after the failure.
"""

import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.persistence.images import a_few, check, many
from tests.persistence.power_cut import CREATED, Entry
from tests.persistence.recorder import Recorder

KINDS = {
    "write": ("eio", "enospc", "short", "eio-ever", "enospc-ever"),
    "flush": ("eio", "eio-ever"),
    "name": ("eio", "enospc", "eio-ever", "enospc-ever"),
}
STEPS = 8


def class_of(entry: Entry) -> str:
    """As harness/disk.c counts calls."""
    if entry.op in ("write", "flush"):
        return entry.op
    if entry.op == "flush_range":
        return "flush"
    return (
        "name"
        if entry.op in ("rename", "unlink", "mkdir", "rmdir") or entry.flags & CREATED
        else ""
    )


def calls(recorder: Recorder, seed: int) -> dict[str, int]:
    """How many calls of each class a journaler makes that nothing disturbs."""
    run = recorder.new()
    assert run.write(seed, STEPS, "rolls")["status"] == 0
    classes = [class_of(entry) for entry in run.entries()]
    return {name: classes.count(name) for name in KINDS}


def fail(
    recorder: Recorder, make_log: Any, seed: int, fault: str, *, thorough: bool = False
) -> tuple[int, str]:
    """Have a disk fail, then be sound for another process. Status and words of the first."""
    run = recorder.new()
    answer = run.write(seed, STEPS, "rolls", fault=fault)
    assert answer["status"] in (0, 3), (fault, answer)
    before = len(run.entries())
    if not list(run.folder.rglob("*.mdb")):
        # It has failed before there was a journal.
        left = list(run.folder.rglob("*.new*"))
        if fault.endswith("-ever"):
            # Nor could it remove anything again. Such a file system is dead; whoever revives it
            # finds what is on the disk, not what was in memory.
            return answer["status"], answer["said"]
        assert (fault, left) == (fault, [])
    assert run.write(seed + 1, 2) == {"status": 0, "said": ""}, fault
    # Quickly: from right after the failure on, where the next process must not tell what the first
    # left in memory only.
    found = check(run, seed, make_log, many if thorough else partial(a_few, since=before - 8))
    assert (fault, found.problems) == (fault, [])
    run.remove()
    return answer["status"], answer["said"]


def judge(fault: str, counts: dict[str, int], status: int, said: str) -> None:
    if status == 0:
        # The last write is the mark that all is closed. Without it the next start takes more care.
        closing = fault.startswith(f"write:{counts['write'] - 1}:")
        assert closing or not fault.endswith("-ever"), fault
    elif fault.endswith(("eio", "eio-ever")):
        assert "Input/output error" in said, (fault, said)
    elif "enospc" in fault:
        assert "No space left on device" in said, (fault, said)


def faults(counts: dict[str, int]) -> Iterator[str]:
    for name, kinds in KINDS.items():
        for kind in kinds:
            yield from (f"{name}:{index}:{kind}" for index in range(counts[name]))


def test_a_disk_that_fails_at_any_call_loses_nothing_that_was_told(
    recorder: Recorder, make_log: Any, seed: int
) -> None:
    chance, counts = random.Random(seed), calls(recorder, seed)
    every = list(faults(counts))
    for name, kinds in KINDS.items():
        for kind in kinds:
            fault = chance.choice(
                [f for f in every if f.startswith(name) and f.endswith(f":{kind}")]
            )
            judge(fault, counts, *fail(recorder, make_log, seed, fault))


@pytest.mark.soak("faults")
@pytest.mark.timeout(7200)
def test_a_disk_that_fails_at_every_call_loses_nothing_that_was_told(
    recorder: Recorder, make_log: Any, seed: int, soak_count: Any
) -> None:
    chance, wanted, done = random.Random(seed), soak_count(1000), 0
    while done < wanted:
        each = chance.getrandbits(30)
        counts = calls(recorder, each)
        for fault in faults(counts):
            judge(fault, counts, *fail(recorder, make_log, each, fault, thorough=True))
            done += 1
    print(f"{done} faults")


def test_a_failed_commit_goes_on_in_a_new_file(
    recorder: Recorder, make_log: Any, seed: int
) -> None:
    """Of a batch: its pages, their flush, the meta page, its flush; after the first two batches."""
    run = recorder.new()
    assert run.write(seed, 2)["status"] == 0
    entries = run.entries()
    counts = {name: [class_of(e) for e in entries].count(name) for name in ("write", "flush")}
    for fault in (
        *(f"write:{counts['write'] + n}:{kind}" for n in (0, 1) for kind in KINDS["write"][:3]),
        *(f"flush:{counts['flush'] + n}:eio" for n in (0, 1)),
    ):
        run = recorder.new()
        assert run.write(seed, 5, fault=fault) == {"status": 0, "said": ""}, fault
        journal = run.folder / "data" / "journal"
        assert len(list(journal.glob("*.mdb"))) == 2, fault
        assert (journal / "writer.lock").read_text().split() == ["closed"]
