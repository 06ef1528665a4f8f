"""The list of bugs to plant fits the sources. Whether the suite finds them, `make planted` says."""

from pathlib import Path

import pytest

from tests.planted.bugs import LIST, SIMULATION, Bug, DoesNotFit, read

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("bug", read(), ids=lambda bug: bug.name)
def test_a_bug_fits_its_file_exactly_once(bug: Bug) -> None:
    text = bug.planted(ROOT)
    assert text != (ROOT / bug.file).read_text()
    assert all((ROOT / test.partition("::")[0]).exists() for test in bug.caught_by)


def test_a_bug_that_does_not_fit_any_more_is_an_error() -> None:
    for old in ("no such text", "cdef "):  # not there, and there more than once
        with pytest.raises(DoesNotFit, match="core/settlement.pyx has the old text"):
            Bug("rotten", "nothing", "core/settlement.pyx", old, "").planted(ROOT)


def test_no_bug_is_listed_twice() -> None:
    bugs = read()
    assert len(bugs) >= 24
    assert len({(bug.file, bug.old, bug.new) for bug in bugs}) == len(bugs)
    assert all((ROOT / test).exists() for test in SIMULATION)
    assert LIST.read_text().count("\ndoes = ") == len(bugs)
