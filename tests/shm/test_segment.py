"""Segments: whether there is room for them, and whose they are."""

import os
from collections.abc import Callable

import pytest

from matchbox.shm import segment
from matchbox.shm.errors import SegmentError
from matchbox.shm.segment import SegmentName


def test_segments_that_fit_are_allowed() -> None:
    segment.check_room({"log": 1 << 12, "board": 128})


def test_segments_larger_than_the_machine_are_refused_with_the_largest_of_them() -> None:
    with pytest.raises(SegmentError) as refusal:
        segment.check_room({"board": 128, "log": 1 << 60, "events-0": 1 << 59, "ledger": 1 << 20})
    text = str(refusal.value)
    assert "needed=1,649,267,441,665 MiB, free in /dev/shm=" in text
    assert text.endswith("log=1,099,511,627,776 MiB, events-0=549,755,813,888 MiB, ledger=1 MiB")


def test_the_memory_available_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "_available_bytes", lambda: 4096)
    segment.check_room({"log": 4096})
    with pytest.raises(SegmentError, match="memory available=0 MiB"):
        segment.check_room({"log": 4097})


def test_names_are_found_of_one_instance_and_of_all_of_this_user(
    unique_name: Callable[[], str],
) -> None:
    stem = unique_name()
    made = [
        SegmentName(stem, 1, "events-0"),
        SegmentName(stem, 12, "log"),
        SegmentName(f"{stem}-2-log", 3, "depth-7"),
    ]
    for name in made:
        segment.create(name, 4096).close()
    try:
        assert segment.names(stem) == made[:2]
        assert set(made) <= set(segment.own())
        assert os.getuid() == (segment.FOLDER / str(made[0])[1:]).stat().st_uid
    finally:
        for name in made:
            segment.unlink(name)
    assert not set(made) & set(segment.own())
