"""Lines of keys in TOML documents: against tomllib for what is there, by hand for where."""

import random
import tomllib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from matchbox.tools.toml_lines import Path, key_lines

DOCUMENT = '''\
# a comment with [brackets] and "quotes
name = "x # no comment"   # but this is one
a.b."c.d" = 1
'quoted key' = """
three [[not.a.table]]
lines \\""" still""" # end
after = \'\'\'
\'\'quotes\'\'\'\'\'
list = [
    1, # one
    [2, 3],

    { x = 1, y = { z = "]" } },
]
[table]
k = 2026-11-24 00:00:00
[ other . sub ]
k=true
[[asset]]
name = "A"
[[asset]]
name = "B"
[asset.more]
deep = -1
[[asset.inner]]
i = 1
[[asset.inner]]
i = 2
"tab\\tkey\\u0041" = 1
'''

EXPECTED: dict[Path, int] = {
    ("name",): 2,
    ("a",): 3,
    ("a", "b"): 3,
    ("a", "b", "c.d"): 3,
    ("quoted key",): 4,
    ("after",): 7,
    ("list",): 9,
    ("list", 0): 10,
    ("list", 1): 11,
    ("list", 1, 0): 11,
    ("list", 1, 1): 11,
    ("list", 2): 13,
    ("list", 2, "x"): 13,
    ("list", 2, "y"): 13,
    ("list", 2, "y", "z"): 13,
    ("table",): 15,
    ("table", "k"): 16,
    ("other",): 17,
    ("other", "sub"): 17,
    ("other", "sub", "k"): 18,
    ("asset",): 19,
    ("asset", 0): 19,
    ("asset", 0, "name"): 20,
    ("asset", 1): 21,
    ("asset", 1, "name"): 22,
    ("asset", 1, "more"): 23,
    ("asset", 1, "more", "deep"): 24,
    ("asset", 1, "inner"): 25,
    ("asset", 1, "inner", 0): 25,
    ("asset", 1, "inner", 0, "i"): 26,
    ("asset", 1, "inner", 1): 27,
    ("asset", 1, "inner", 1, "i"): 28,
    ("asset", 1, "inner", 1, "tab\tkeyA"): 29,
}


def paths(value: Any, here: Path = ()) -> set[Path]:
    """Every path in what tomllib gives."""
    found = {here} if here else set()
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        found |= paths(inner, (*here, key))
    return found


def test_every_key_has_its_line() -> None:
    assert paths(tomllib.loads(DOCUMENT)) == set(EXPECTED)
    assert key_lines(DOCUMENT) == EXPECTED


def test_windows_line_ends_count_once() -> None:
    assert key_lines(DOCUMENT.replace("\n", "\r\n")) == EXPECTED


def test_an_empty_document_has_no_keys() -> None:
    for text in ("", "\n\n", "# only a comment", "   "):
        assert key_lines(text) == {}


def test_the_last_line_needs_no_end() -> None:
    assert key_lines("a = 1") == {("a",): 1}
    assert key_lines("\na = [1,\n2]") == {("a",): 2, ("a", 0): 2, ("a", 1): 3}
    assert key_lines("[a]\nb = 1 # x") == {("a",): 1, ("a", "b"): 2}


NAMES = st.sampled_from(["a", "b-c", "D_1", '"x.y"', "'#'", '"]"', '"="', '"\\""', "42"])
SCALARS = st.sampled_from(
    ["1", "-3.5e7", "true", "0xff", "inf", "1979-05-27T07:32:00Z", '"s"', "'l'", '"a\\\\"']
    + ['"#"', "'[x]'", '"""\n[no]\nk = 1\n"""', "'''\n# ]\n'''", '""', "''", '"""a\\"""b"""']
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda v: "[ # c ]\n" + ",\n".join(v) + "\n]"),
        st.lists(inner, max_size=3).map(lambda v: "[" + ", ".join(v) + "]"),
        st.dictionaries(NAMES, SCALARS.filter(lambda v: "\n" not in v), max_size=3).map(
            lambda v: "{" + ", ".join(f"{k} = {x}" for k, x in v.items()) + "}"
        ),
    ),
    max_leaves=6,
)
LINES = st.one_of(
    st.tuples(st.lists(NAMES, min_size=1, max_size=2), VALUES).map(
        lambda p: f"{' . '.join(p[0])} = {p[1]}"
    ),
    st.lists(NAMES, min_size=1, max_size=3).map(lambda p: f"[{'.'.join(p)}]"),
    st.lists(NAMES, min_size=1, max_size=3).map(lambda p: f"[[ {' . '.join(p)} ]] # x"),
    st.just("# comment = [1"),
    st.just(""),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(LINES, max_size=12))
def test_scanner_and_tomllib_find_the_same_keys_in_any_document(lines: list[str]) -> None:
    accepted: list[str] = []
    for line in lines:  # leave out what would make the document invalid (keys given twice)
        try:
            tomllib.loads("\n".join([*accepted, line]))
        except tomllib.TOMLDecodeError:
            continue
        accepted.append(line)
    text = "\n".join(accepted)
    assert set(key_lines(text)) == paths(tomllib.loads(text))


def test_lines_are_right_wherever_blank_lines_are_put_before_a_table(seed: int) -> None:
    chance = random.Random(seed)
    blanks = [chance.randrange(4) for _ in range(20)]
    text = "".join("\n" * blank + f"[[t]]\nk = {i}\n" for i, blank in enumerate(blanks))
    found, line = key_lines(text), 1
    for i, blank in enumerate(blanks):
        line += blank
        assert found[("t", i)] == line
        assert found[("t", i, "k")] == line + 1
        line += 2
