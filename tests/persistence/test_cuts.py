"""Records that are cut out of a journal: decided once, kept, and marked for every reader."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchbox.persistence import backup, cuts
from matchbox.persistence.cuts import CUT, Cut
from matchbox.persistence.journal import Reader, Writer
from matchbox.shm.errors import JournalError


def cut(sequence: int) -> Cut:
    return Cut(sequence, "matcher-0", "died of SIGSEGV", 2, 1_700_000_000_000_000_000)


@pytest.fixture
def journal(tmp_path: Path, make_log: Any) -> Path:
    """Three batches of five records."""
    with Writer(tmp_path / "journal") as writer:
        for first in (1, 6, 11):
            writer.append(make_log(first, 5))
    return tmp_path / "journal"


def marked(journal: Path, first: int = 1) -> list[int]:
    with Reader(journal) as reader:
        rows = np.concatenate([batch.records for batch in reader.batches(first)])
    return rows["sequence"][rows["reserved"] == CUT].tolist()


def test_decisions_are_kept_in_their_order(journal: Path) -> None:
    assert cuts.read(journal) == []
    for sequence in (9, 3, 15):
        cuts.add(journal, cut(sequence))
    assert cuts.read(journal) == [cut(3), cut(9), cut(15)]
    assert marked(journal) == [3, 9, 15]
    assert marked(journal, 6) == [9, 15]


def test_a_record_is_cut_out_once(journal: Path) -> None:
    cuts.add(journal, cut(3))
    with pytest.raises(JournalError, match="is cut out already"):
        cuts.add(journal, cut(3))
    assert cuts.read(journal) == [cut(3)]


def test_the_journal_keeps_what_was_logged(journal: Path, make_log: Any) -> None:
    with Reader(journal) as reader:
        before = [bytes(batch.value) for batch in reader.batches()]
        chain = reader.last()
        cuts.add(journal, cut(7))
        batches = list(reader.batches())  # an open reader sees it, too
        assert [bytes(batch.value) for batch in batches] == before
        assert reader.last() == chain
    assert (batches[1].logged["reserved"] == 0).all()
    assert batches[1].records["reserved"].tolist() == [0, CUT, 0, 0, 0]
    with Writer(journal) as writer:
        writer.append(make_log(16, 2))
    assert marked(journal) == [7]


def test_copies_of_a_journal_have_the_decisions(journal: Path, tmp_path: Path) -> None:
    for sequence in (3, 13):
        cuts.add(journal, cut(sequence))
    backup.backup(journal, tmp_path / "backup")
    assert marked(tmp_path / "backup") == [3, 13]
    backup.restore(tmp_path / "backup", tmp_path / "restored", until=13)
    assert marked(tmp_path / "restored") == [3, 13]
    with Reader(tmp_path / "restored") as reader:
        assert all((batch.logged["reserved"] == 0).all() for batch in reader.batches())
        assert reader.last_sequence() == 13


@pytest.mark.parametrize("text", ["{", "[]\n", '{"sequence": 3}\n', "\n"])
def test_decisions_that_cannot_be_read_stop_everybody(journal: Path, text: str) -> None:
    (journal / cuts.NAME).write_text(text)
    with pytest.raises(JournalError, match="is not a list of cuts"), Reader(journal) as reader:
        list(reader.batches())


def test_a_decision_that_cannot_be_written_is_none(journal: Path) -> None:
    (journal / f"{cuts.NAME}.new").mkdir()
    with pytest.raises(JournalError, match="cannot write"):
        cuts.add(journal, cut(3))
    assert cuts.read(journal) == []
