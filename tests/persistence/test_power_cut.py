"""The power is cut while the journal is written: whatever the disk holds, nothing told is lost.

A real journaler writes through a disk that records it (recorder.py). From the record, power_cut.py
makes the folders that a cut may leave: at any moment, with what was not flushed lost, torn or
overtaken. Of each, everything that was told as durable must be read, nothing else than what was
written, and the journal must go on.

The same machinery must find the losses of journals that are not safe: else it proves nothing.
"""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from matchbox.persistence.journal import Writer
from tests.persistence import power_cut
from tests.persistence.images import LIVELY, Variants, a_few, check, many
from tests.persistence.recorder import Recorder, Run


def killed(run: Run, chance: random.Random, processes: int, steps: int) -> None:
    """Let one process after the other journal, and be killed somewhere."""
    for _ in range(processes):
        kill = chance.randrange(2, 5 * steps)
        answer = run.write(chance.getrandbits(30), steps, "rolls", kill=str(kill))
        assert answer["status"] in (0, 137), answer


# ---- nothing is lost


def test_a_power_cut_at_any_moment_loses_nothing_that_was_told(
    recorder: Recorder, make_log: Any, seed: int
) -> None:
    run = recorder.new()
    assert run.write(seed, 40, "rolls") == {"status": 0, "said": ""}
    found = check(run, seed, make_log)
    assert found.problems == []
    assert found.images >= 700


def test_what_a_killed_process_had_not_flushed_is_not_told_by_the_next(
    recorder: Recorder, make_log: Any, seed: int
) -> None:
    """It is there to be read, but after a power cut it might not be."""
    chance = random.Random(seed)
    whole = recorder.new()
    whole.write(seed, 6, "rolls")
    calls = [e.op for e in whole.entries() if e.op in LIVELY or e.flags & power_cut.CREATED]
    for op in ("mkdir", "rename", "write", "flush", "flush", "flush_range", "flush_range"):
        run = recorder.new()
        kill = chance.choice([index for index, other in enumerate(calls) if other == op])
        assert run.write(seed, 6, "rolls", kill=str(kill))["status"] == 137
        before = len(run.entries())
        assert run.write(seed + 1, 1) == {"status": 0, "said": ""}
        found = check(run, seed, make_log, partial(a_few, since=before))
        assert (op, kill, found.problems) == (op, kill, [])
        assert found.images > 10


def test_a_backup_that_was_killed_and_goes_on_loses_nothing_that_was_told(
    recorder: Recorder, make_log: Any, seed: int
) -> None:
    """It commits several batches at once, all of which may be in memory only."""
    chance, source = random.Random(seed), recorder.folder / "source"
    with Writer(source) as writer:
        for _ in range(25):
            writer.append(make_log(writer.last_sequence + 1, chance.choice((1, 2, 3))))
    whole = recorder.new()
    assert whole.write(0, 0, source=source) == {"status": 0, "said": ""}
    calls = [e.op for e in whole.entries() if e.op in LIVELY or e.flags & power_cut.CREATED]
    for op in ("write", "flush", "flush_range", "flush_range"):
        run = recorder.new()
        kill = chance.choice([index for index, other in enumerate(calls) if other == op])
        assert run.write(0, 0, source=source, kill=str(kill))["status"] == 137
        before = len(run.entries())
        assert run.write(0, 0, source=source) == {"status": 0, "said": ""}
        found = check(run, seed, make_log, partial(a_few, since=before))
        assert (op, kill, found.problems) == (op, kill, [])
    fault = f"flush:{chance.randrange(calls.count('flush') + calls.count('flush_range'))}:eio"
    run = recorder.new()
    if run.write(0, 0, source=source, fault=fault)["status"] == 3:
        assert run.write(0, 0, source=source) == {"status": 0, "said": ""}
    found = check(run, seed, make_log)
    assert (fault, found.problems) == (fault, [])


@pytest.mark.soak("images")
@pytest.mark.timeout(7200)
def test_tens_of_thousands_of_power_cuts_lose_nothing_that_was_told(
    recorder: Recorder, make_log: Any, seed: int, soak_count: Callable[[int], int]
) -> None:
    chance, wanted, done = random.Random(seed), soak_count(50_000), 0
    while done < wanted:
        run = recorder.new()
        killed(run, chance, chance.randrange(4), 12)
        assert run.write(chance.getrandbits(30), 15, "rolls")["status"] == 0
        found = check(run, chance.getrandbits(30), make_log, many)
        assert found.problems == []
        done += found.images
        run.remove()
    print(f"{done} images")


# ---- the losses of journals that are not safe are found


def losses(run: Run, seed: int, make_log: Any, variants: Variants = a_few) -> list[str]:
    return check(run, seed, make_log, variants, stop_after=3).problems


@pytest.mark.parametrize(("options", "disk"), [(["nosync"], {}), ([], {"omit": "directory"})])
def test_the_losses_of_an_unsafe_journal_are_found(
    recorder: Recorder, make_log: Any, seed: int, options: list[str], disk: dict[str, str]
) -> None:
    """Without flushes, and without those of folders."""
    run = recorder.new()
    assert run.write(seed, 20, "rolls", *options, **disk)["status"] == 0
    assert len(losses(run, seed, make_log)) == 3


def test_what_is_told_before_the_meta_page_is_flushed_is_found(
    recorder: Recorder, make_log: Any, seed: int
) -> None:
    """NOMETASYNC: only the next commit makes one certain."""
    run = recorder.new()
    assert run.write(seed, 20, "nometasync")["status"] == 0
    assert any("lost: " in problem for problem in losses(run, seed, make_log, many))


def test_what_is_told_with_the_flush_after_the_meta_pages_is_safe(
    recorder: Recorder, make_log: Any, seed: int
) -> None:
    """NOMETASYNC, pipelined: safe, were it worth it; see docs/decisions."""
    run = recorder.new()
    assert run.write(seed, 12, "pipelined")["status"] == 0
    found = check(run, seed, make_log, many)
    assert found.problems == []
    assert found.images > 200
