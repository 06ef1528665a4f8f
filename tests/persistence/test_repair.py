"""A journal whose end is not whole is cut there; damage before the end is left as it is."""

import random
from pathlib import Path
from typing import Any

import pytest

from matchbox.persistence.journal import Reader, Writer, check
from matchbox.persistence.repair import cut_torn_tail
from matchbox.shm.errors import JournalError


def fill(directory: Path, make_log: Any, sizes: list[int], *, rolls: int = 0) -> int:
    with Writer(directory, batch_records=500) as writer:
        for index, size in enumerate(sizes):
            if rolls and index and index % rolls == 0:
                writer.roll()
            writer.append(make_log(writer.last_sequence + 1, size))
        return writer.last_sequence


def read(directory: Path) -> bytes:
    with Reader(directory) as reader:
        return b"".join(batch.records.tobytes() for batch in reader.batches())


def damage(path: Path, needle: bytes, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    at = content.index(needle) + chance.randrange(len(needle))
    content[at] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def test_a_whole_journal_is_left_alone(tmp_path: Path, make_log: Any) -> None:
    assert cut_torn_tail(tmp_path / "none") is None
    Writer(tmp_path).close()
    assert cut_torn_tail(tmp_path) is None
    fill(tmp_path, make_log, [5, 400, 1] * 4, rolls=5)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.mdb")}
    assert cut_torn_tail(tmp_path) is None
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.mdb")} == before


def test_a_torn_last_batch_is_cut_and_named(tmp_path: Path, make_log: Any, seed: int) -> None:
    last = fill(tmp_path, make_log, [5, 400, 1, 300, 200])
    path = tmp_path / "000001.mdb"
    damage(path, make_log(last - 100, 1).tobytes(), random.Random(seed))
    torn = path.read_bytes()
    with pytest.raises(JournalError, match="batch 707 is damaged"):
        Writer(tmp_path)
    cut = cut_torn_tail(tmp_path)
    assert cut is not None
    assert (cut.last, cut.begun) == (706, ((707, 906),))
    assert "records 707 to 906" in str(cut)
    assert cut.kept.read_bytes() == torn
    assert check(tmp_path) == 706
    with Writer(tmp_path, batch_records=500) as writer:
        assert writer.append(make_log(707, 9)) == 715
    assert read(tmp_path) == make_log(1, 715).tobytes()
    # The kept file is nobody's file any more, and a second one does not take its name.
    damage(sorted(tmp_path.glob("*.mdb"))[-1], make_log(710, 1).tobytes(), random.Random(seed))
    second = cut_torn_tail(tmp_path)
    assert second is not None
    assert (second.last, second.kept != cut.kept) == (706, True)


def test_a_file_that_was_cut_off_anywhere_keeps_its_whole_batches(
    tmp_path: Path, make_log: Any, seed: int
) -> None:
    chance = random.Random(seed)
    sizes = [chance.choice((1, 2, 30, 200, 499)) for _ in range(40)]
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    fill(tmp_path, make_log, sizes, rolls=25)
    path = tmp_path / "000002.mdb"
    whole = path.read_bytes()
    for size in (0, 100, 4096, 8192, *(chance.randrange(len(whole)) for _ in range(20))):
        for left in tmp_path.glob("*.damaged*"):
            left.unlink()
        for later in tmp_path.glob("000003*"):
            later.unlink()
        path.write_bytes(whole[:size])
        try:
            cut = cut_torn_tail(tmp_path)
        except JournalError as error:
            # A tree may put a later batch before an earlier one: in a freed page.
            assert "this is damage" in str(error)
            assert error.sequence - 1 in ends
            continue
        assert cut is not None
        assert cut.last in ends
        assert cut.last >= ends[24]
        assert check(tmp_path) == cut.last
        assert read(tmp_path) == make_log(1, cut.last).tobytes()


@pytest.mark.parametrize("tail", [False, True])
def test_damage_before_the_end_is_not_cut(
    tmp_path: Path, make_log: Any, seed: int, tail: bool
) -> None:
    """Alone, it is found by whoever reads it; with a torn end, nothing may be cut either."""
    chance = random.Random(seed)
    last = fill(tmp_path, make_log, [300] * 6)
    path = tmp_path / "000001.mdb"
    damage(path, make_log(700, 1).tobytes(), chance)
    if tail:
        damage(path, make_log(last, 1).tobytes(), chance)
    before = path.read_bytes()
    if tail:
        with pytest.raises(JournalError, match=r"records 601 to 900 are gone.*damage") as error:
            cut_torn_tail(tmp_path)
    else:
        assert cut_torn_tail(tmp_path) is None
        with pytest.raises(JournalError, match="batch 601 is damaged") as error:
            read(tmp_path)
    assert error.value.sequence == 601
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.glob("*.damaged*")] == []


def test_what_is_known_to_have_been_there_is_not_cut(tmp_path: Path, make_log: Any) -> None:
    last = fill(tmp_path, make_log, [300] * 3)
    damage(tmp_path / "000001.mdb", make_log(last, 1).tobytes(), random.Random(1))
    with pytest.raises(
        JournalError, match="ends with record 600, but the journal had 900"
    ) as error:
        cut_torn_tail(tmp_path, known=last)
    assert error.value.sequence == 601
    assert cut_torn_tail(tmp_path, known=600) is not None


def test_a_journal_of_which_nothing_is_whole_is_not_made_an_empty_one(
    tmp_path: Path, make_log: Any
) -> None:
    fill(tmp_path, make_log, [300])
    (tmp_path / "000001.mdb").write_bytes(bytes(8192))
    with pytest.raises(JournalError, match="the journal had some"):
        cut_torn_tail(tmp_path)


def test_a_last_file_with_nothing_whole_is_put_aside(tmp_path: Path, make_log: Any) -> None:
    fill(tmp_path, make_log, [300, 300, 300], rolls=2)
    (tmp_path / "000002.mdb").write_bytes(bytes(8192))
    cut = cut_torn_tail(tmp_path)
    assert cut is not None
    assert cut.last == 600
    assert read(tmp_path) == make_log(1, 600).tobytes()
