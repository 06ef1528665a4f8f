"""The records of records.h, and its NumPy mirror: the same bytes, the same numbers."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchbox.shm import reasons, records

HEADERS = Path(records.__file__).resolve().parent
STRUCTS = {
    "mb_record": records.COMMAND,
    "mb_new_order": records.NEW_ORDER,
    "mb_terms_record": records.TERMS_RECORD,
    "mb_list_record": records.LIST_RECORD,
    "mb_money_record": records.MONEY_RECORD,
    "mb_rules_record": records.RULES_RECORD,
    "mb_market_record": records.MARKET_RECORD,
    "mb_named_record": records.NAMED_RECORD,
    "mb_event": records.EVENT,
    "mb_report": records.REPORT,
    "mb_market_data": records.MARKET_DATA,
}
# C enum -> (Python enum, prefix of the C names that Python leaves off).
ENUMS = {
    "mb_kind": (records.Kind, "MB_"),
    "mb_side": (records.Side, "MB_"),
    "mb_order_type": (records.OrderType, "MB_"),
    "mb_list_type": (records.ListType, "MB_"),
    "mb_belongs": (records.Belongs, "MB_"),
    "mb_time_in_force": (records.TimeInForce, "MB_"),
    "mb_self_trade": (records.SelfTrade, "MB_"),
    "mb_account_state": (records.AccountState, "MB_"),
    "mb_market_state": (records.MarketState, "MB_STATE_"),
    "mb_rule": (records.Rule, "MB_RULE_"),
    "mb_flag": (records.Flag, "MB_"),
    "mb_capability": (records.Capability, "MB_CAN_"),
    "mb_event_kind": (records.EventKind, "MB_"),
    "mb_event_flag": (records.EventFlag, "MB_"),
    "mb_report_kind": (records.EventKind, "MB_REPORT_"),
    "mb_report_flag": (records.ReportFlag, "MB_"),
    "mb_assurance": (records.Assurance, "MB_"),
    "mb_market_data_kind": (records.MarketDataKind, "MB_MD_"),
}


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def declared_structs() -> dict[str, dict[str, str]]:
    """Every struct of records.h: field -> its C type, members of anonymous unions included."""
    text = without_comments((HEADERS / "records.h").read_text())
    found = {}
    for name, body in re.findall(r"typedef struct (\w+) \{(.*?)\n\} \1;", text, re.DOTALL):
        fields = re.findall(r"(\w+)\s+(\w+)(?:\[[^]]*\])?;", body)
        found[name] = {field: kind for kind, field in fields}
    return found


def declared_enums() -> dict[str, list[str]]:
    """Every enum of records.h: its names."""
    text = without_comments((HEADERS / "records.h").read_text())
    return {
        name: re.findall(r"(\w+)\s*=", body)
        for name, body in re.findall(r"enum (\w+) \{(.*?)\};", text, re.DOTALL)
    }


def run_c(compile_c: Callable[..., Path], lines: list[str], headers: list[str]) -> list[str]:
    """What a C program prints that includes `headers` and executes `lines`."""
    includes = "".join(f'#include "{header}"\n' for header in headers)
    body = "\n".join(lines)
    source = f"{includes}#include <stdio.h>\nint main(void) {{\n{body}\nreturn 0;\n}}\n"
    done = subprocess.run([compile_c(source)], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def c_fields(compile_c: Callable[..., Path]) -> dict[str, dict[str, tuple[int, int]]]:
    """struct -> field -> (offset, size), by the C compiler; "" is the struct itself."""
    lines = []
    for struct, fields in declared_structs().items():
        lines.append(f'printf("{struct}  0 %zu\\n", sizeof({struct}));')
        for field in fields:
            member = f"(({struct} *)0)->{field}"
            offset = f"offsetof({struct}, {field})"
            lines.append(f'printf("{struct} {field} %zu %zu\\n", {offset}, sizeof({member}));')
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for line in run_c(compile_c, lines, ["records.h"]):
        struct, field, offset, size = line.split(" ")
        found.setdefault(struct, {})[field] = int(offset), int(size)
    return found


def numpy_fields(dtype: np.dtype[Any]) -> dict[str, tuple[int, int]]:
    assert dtype.fields is not None
    return {name: (dtype.fields[name][1], dtype.fields[name][0].itemsize) for name in dtype.fields}


def test_every_struct_of_the_header_has_a_dtype() -> None:
    assert set(declared_structs()) == set(STRUCTS)


@pytest.mark.parametrize("struct", STRUCTS)
def test_dtype_and_c_struct_agree_field_by_field(
    struct: str, c_fields: dict[str, dict[str, tuple[int, int]]]
) -> None:
    in_c = dict(c_fields[struct])
    assert in_c.pop("") == (0, STRUCTS[struct].itemsize) == (0, 128)
    assert numpy_fields(STRUCTS[struct]) == in_c


@pytest.mark.parametrize("struct", STRUCTS)
def test_dtype_and_c_struct_agree_in_the_kind_of_number(struct: str) -> None:
    kinds = {"uint": "u", "int": "i", "char": "S"}
    dtype = STRUCTS[struct]
    assert dtype.fields is not None
    for field, c_type in declared_structs()[struct].items():
        if field == "reserved":
            continue
        base = dtype.fields[field][0].base
        assert base.kind == kinds[re.sub(r"\d+_t$", "", c_type)], f"{struct}.{field}"
        assert base.byteorder in "<|=", f"{struct}.{field}"


@pytest.mark.parametrize("struct", STRUCTS)
def test_records_have_no_hidden_padding(
    struct: str, c_fields: dict[str, dict[str, tuple[int, int]]]
) -> None:
    covered = set()
    for field, (offset, size) in c_fields[struct].items():
        if field:
            covered |= set(range(offset, offset + size))
    assert covered == set(range(128))


def test_every_enum_of_the_header_has_a_python_enum() -> None:
    assert set(declared_enums()) == set(ENUMS)


@pytest.mark.parametrize("enum", ENUMS)
def test_enums_agree_by_name_and_value(enum: str, compile_c: Callable[..., Path]) -> None:
    python, prefix = ENUMS[enum]
    names = declared_enums()[enum]
    lines = [f'printf("{name} %d\\n", (int){name});' for name in names]
    for line in run_c(compile_c, lines, ["records.h"]):
        name, value = line.split()
        assert name.startswith(prefix)
        assert python[name.removeprefix(prefix)].value == int(value)
    both = {"mb_event_kind", "mb_report_kind"}  # One Python enum: reports carry event kinds too.
    parts = both if enum in both else {enum}
    assert len(python) == sum(len(declared_enums()[part]) for part in parts)


def test_reasons_agree_by_name_value_and_text(compile_c: Callable[..., Path]) -> None:
    lines = [
        '#define SHOW(code, name, text) printf("%d %s %s\\n", (int)MB_##name, #name, text);',
        "MB_REASONS(SHOW)",
    ]
    in_c = run_c(compile_c, lines, ["reasons.h"])
    assert in_c == [f"{r.value} {r.name} {reasons.TEXT[r.value]}" for r in reasons.Reason]
    assert len(in_c) > 20


def test_reason_codes_fit_their_field_and_describe_themselves() -> None:
    assert all(0 < reason < 2**16 for reason in reasons.Reason)
    first = next(iter(reasons.Reason))
    assert reasons.describe(first.value) == f"{first.name} ({reasons.TEXT[first.value]})"
    assert reasons.describe(65535) == "65535"


def test_every_name_of_the_headers_can_be_cimported() -> None:
    pxd = (HEADERS / "records.pxd").read_text()
    blocks = dict(re.findall(r"(?:enum|struct) (mb_\w+):\n(.*?)(?=\n\n|\Z)", pxd, re.DOTALL))
    for enum, names in declared_enums().items():
        assert blocks[enum].split() == names, enum
    assert blocks["mb_reason"].split()[1:] == [f"MB_{reason.name}" for reason in reasons.Reason]
    for struct, fields in declared_structs().items():
        listed = re.findall(r"(\w+) (\w+)(?:\[\d+\])?$", blocks[struct], re.MULTILINE)
        assert {field: kind for kind, field in listed} == fields, struct


@pytest.mark.parametrize("header", ["records.h", "reasons.h", "ring.h", "park.h"])
@pytest.mark.parametrize(
    ("language", "standard"), [("c", "gnu11"), ("c", "gnu17"), ("c++", "c++17"), ("c++", "c++20")]
)
def test_each_header_compiles_alone_without_a_warning(
    header: str, language: str, standard: str, compile_c: Callable[..., Path]
) -> None:
    source = f'#include "{header}"\n#include "{header}"\nint main(void) {{ return 0; }}\n'
    compile_c(source, f"-std={standard}", language=language)
