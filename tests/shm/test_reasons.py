"""The codes of refusals: one list in C, the same in Python, in types and in the document."""

import re
from pathlib import Path

import matchbox
from matchbox.shm.reasons import Reason, describe

ROOT = Path(__file__).resolve().parents[2]
HEADER = (ROOT / "shm" / "reasons.h").read_text()
LISTED = [
    (int(code), name, text)
    for code, name, text in re.findall(r'X\((\d+), (\w+), "(.*?)"\)', HEADER)
]


def test_python_has_the_codes_and_texts_of_the_header() -> None:
    assert len(LISTED) > 30
    assert [(reason.value, reason.name) for reason in Reason] == [(c, n) for c, n, _ in LISTED]
    for code, _, text in LISTED:
        assert text in describe(code)
    assert matchbox.Reason is Reason


def test_the_stub_has_the_codes_of_the_header() -> None:
    stub = (ROOT / "shm" / "reasons.pyi").read_text()
    found = re.findall(r"^    ([A-Z_]+) = (\d+)$", stub, re.MULTILINE)
    assert [(int(code), name) for name, code in found] == [(c, n) for c, n, _ in LISTED]


def test_the_document_has_a_row_for_each_code_and_no_other() -> None:
    document = (ROOT / "docs" / "reject-codes.md").read_text()
    found = re.findall(r"^\| (\d+) \| `(\w+)` \|", document, re.MULTILINE)
    assert [(int(code), name) for code, name in found] == [(c, n) for c, n, _ in LISTED]


def test_codes_are_in_the_range_of_their_subsystem_and_never_given_twice() -> None:
    codes = [code for code, _, _ in LISTED]
    assert codes == sorted(set(codes))
    assert all(100 <= code < 700 for code in codes)


def test_an_unknown_code_is_described_as_such() -> None:
    assert "999" in describe(999)
