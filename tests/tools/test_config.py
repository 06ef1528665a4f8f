"""The configuration loader: what it accepts, what it refuses in which words, its document."""

import getpass
import re
from decimal import Decimal
from pathlib import Path

import pytest

import matchbox.shm
from matchbox.shm.errors import ConfigError
from matchbox.shm.records import LOG_RECORD, MARKET_RECORD, NAMED_RECORD, Kind
from matchbox.tools import config
from matchbox.tools.config import DEMO, Config, agent_names, load, parse
from matchbox.tools.settings import ARRAYS, MAX_ORDERS, SECTIONS

ROOT = Path(__file__).resolve().parents[2]
CORES = (0, 1, 2, 3)
GOOD = """\
instance = "test"
matchers = 2

[[asset]]
name = "USDT"
scale = 8
[[asset]]
name = "BTC"
scale = 8

[[account]]
number = 7
name = "alice"

[[market]]
id = 1
symbol = "BTC/USDT"
base = "BTC"
quote = "USDT"
tick_size = "0.05"
lot_size = "0.0001"
price_step = 2
quantity_step = 5
max_price = "1000000"
min_quantity = "0.001"
max_quantity = "500"
max_orders = 1000
[[market]]
id = 2
symbol = "BTC/USDT-2"
base = "BTC"
quote = "USDT"
tick_size = "25"
lot_size = "1"
"""
PROCESSES = """
[[process]]
name = "one"
agents = ["sequencer", "matcher-1"]
core = 0
idle = "spin"
[[process]]
name = "two"
agents = ["matcher-0", "publisher", "journaler"]
"""


def good(change: str = "", into: str = "", add: str = "") -> Config:
    """GOOD with one place changed and something added, parsed."""
    assert change in GOOD + PROCESSES
    return parse((GOOD + add).replace(change, into, 1), "test.toml", cores=CORES)


def refusal(change: str = "", into: str = "", add: str = "") -> str:
    with pytest.raises(ConfigError) as e:
        good(change, into, add)
    return str(e.value)


def line_of(text: str, document: str = GOOD + PROCESSES) -> int:
    return document[: document.index(text)].count("\n") + 1


def test_the_demo_is_a_good_configuration() -> None:
    demo = load(DEMO)
    assert demo.instance == "demo"
    assert demo.topology == "compact"
    assert [process.agents for process in demo.processes] == [
        ("sequencer", "matcher-0", "publisher"),
        ("journaler",),
    ]
    assert {process.idle for process in demo.processes} == {"park"}
    assert [market.symbol for market in demo.markets] == ["BTC/USDT", "ETH/USDT"]
    assert [account.name for account in demo.accounts] == ["alice", "bob", "maker"]


def test_decimals_become_exact_integers() -> None:
    first, second = good().markets
    assert (first.tick_size, first.lot_size) == (Decimal("0.05"), Decimal("0.0001"))
    assert (first.tick_mantissa, first.tick_scale) == (5, 2)
    assert (first.lot_units, first.notional_units) == (10_000, 500)
    assert first.max_price_ticks == 20_000_000
    assert (first.min_quantity_lots, first.max_quantity_lots) == (10, 5_000_000)
    assert (first.price_step_ticks, first.quantity_step_lots) == (2, 5)
    assert (second.tick_mantissa, second.tick_scale) == (25, 0)
    assert (second.lot_units, second.notional_units) == (10**8, 25 * 10**8)


def test_limits_of_a_market_have_defaults() -> None:
    market = good().markets[1]
    assert market.max_price_ticks == (1 << 40) - 1
    assert market.min_quantity_lots == market.quantity_step_lots == 1
    assert market.max_quantity_lots == (1 << 62) // 65536
    stepped = good('lot_size = "1"\n', 'lot_size = "1"\nquantity_step = 7\n').markets[1]
    assert stepped.max_quantity_lots == (1 << 62) // 65536 // 7 * 7
    assert stepped.min_quantity_lots == 7


def test_constants_are_those_of_the_headers() -> None:
    headers = Path(matchbox.shm.get_include())
    text = (headers / "records.h").read_text()
    assert "#define MB_MAX_PRICE_TICKS ((INT64_C(1) << 40) - 1)" in text
    assert config.MAX_PRICE_TICKS == (1 << 40) - 1
    assert "#define MB_MAX_MARKET_LOTS (INT64_C(1) << 62)" in text
    assert config.MAX_MARKET_LOTS == 1 << 62
    levels = re.search(
        r"PRICE_INDEX_MAX_LEVELS = \(1 << (\d+)\) - (\d+)",
        (ROOT / "core" / "price_index.pxd").read_text(),
    )
    assert levels
    assert (1 << int(levels[1])) - int(levels[2]) == MAX_ORDERS


def test_definitions_are_log_records_in_a_workable_order() -> None:
    records = good().definitions()
    assert records.dtype == LOG_RECORD
    kinds = [Kind(kind).name for kind in records["kind"]]
    assert kinds == ["ADD_ASSET"] * 2 + ["ADD_ACCOUNT"] + ["ADD_MARKET"] * 2
    assets, accounts = records[:2].view(NAMED_RECORD), records[2:3].view(NAMED_RECORD)
    assert list(zip(assets["id"], assets["name"], assets["scale"], strict=True)) == [
        (1, b"USDT", 8),
        (2, b"BTC", 8),
    ]
    assert (accounts["account"][0], accounts["name"][0]) == (7, b"alice")
    market = records[3:].view(MARKET_RECORD)[0]
    assert {name: market[name].item() for name in market.dtype.names} == {
        "sequence": 0,
        "timestamp_ns": 0,
        "session_position": 0,
        "session": 0,
        "settled_lag": 0,
        "settled_index": 0,
        "reject": 0,
        "kind": Kind.ADD_MARKET,
        "specials": 0,
        "lot_units": 10_000,
        "notional_units": 500,
        "max_price_ticks": 20_000_000,
        "min_quantity_lots": 10,
        "max_quantity_lots": 5_000_000,
        "base_asset": 2,
        "quote_asset": 1,
        "market": 1,
        "price_step_ticks": 2,
        "quantity_step_lots": 5,
        "tick_mantissa": 5,
        "max_orders": 1000,
        "symbol": b"BTC/USDT",
        "tick_scale": 2,
    }


def test_a_configuration_may_define_nothing_but_its_name() -> None:
    bare = parse('instance = "bare"', cores=CORES)
    assert len(bare.definitions()) == 0
    assert bare.definitions().dtype == LOG_RECORD
    assert bare.data.name == "bare"


def test_markets_are_spread_over_the_matchers_or_placed_by_hand() -> None:
    assert [market.matcher for market in good().markets] == [0, 1]
    assert good("id = 1\n", "id = 1\nmatcher = 1\n").markets[0].matcher == 1


def test_data_is_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    path = tmp_path / "x.toml"
    found = []
    for data in ("", 'data = "d"', 'data = "/abs"', 'data = "~/d"'):
        path.write_text(f'instance = "i"\n{data}\n')
        found.append(load(path).data)
    home = tmp_path / "home"
    assert found[:2] == [home / ".local" / "state" / "matchbox" / "i", tmp_path / "d"]
    assert found[2:] == [Path("/abs"), home / "d"]


def test_users_are_looked_up() -> None:
    name = getpass.getuser()
    account = good('name = "alice"', f'name = "alice"\nusers = ["{name}"]').accounts[0]
    assert account.users == (name,)
    assert account.user_ids == (Path("/proc/self").stat().st_uid,)
    operators = good("matchers = 2", f'matchers = 2\noperators = ["{name}"]')
    assert operators.operator_ids == account.user_ids
    text = refusal('name = "alice"', 'name = "alice"\nusers = ["root", "no-such-user"]')
    assert text.startswith('test.toml:14: account[1].users[2] is no user of this machine: "no-such')


def test_presets_place_every_agent_once() -> None:
    compact, wide = good(), good("matchers = 2", 'matchers = 2\ntopology = "wide"')
    assert [(p.name, p.agents) for p in compact.processes] == [
        ("engine", ("sequencer", "matcher-0", "matcher-1", "publisher")),
        ("journal", ("journaler",)),
    ]
    assert [p.agents for p in wide.processes] == [(agent,) for agent in agent_names(2)]
    assert {p.core for p in compact.processes} == {None}


def test_presets_can_be_pinned_and_spin() -> None:
    pinned = good("matchers = 2", 'matchers = 2\npin = true\nidle = "spin"')
    assert [(p.core, p.idle) for p in pinned.processes] == [(0, "spin"), (1, "park")]
    text = refusal("matchers = 2", 'matchers = 2\npin = true\ntopology = "wide"')
    assert text.startswith('test.toml:3: pin with topology "wide" pins 5 processes to a core each')
    text = refusal("matchers = 2", 'matchers = 2\ntopology = "wide"\nidle = "spin"')
    assert text.startswith('test.toml:4: idle with topology "wide" has 4 spinning processes on 4 c')


def test_the_topology_can_be_changed_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "available_cores", lambda: CORES)
    wide = good().with_topology("wide", idle="yield")
    assert (wide.topology, wide.idle, len(wide.processes)) == ("wide", "yield", 5)
    assert wide.markets == good().markets
    for topology, options, problem in [
        ("narrow", {}, 'is not allowed: "narrow"'),
        ("wide", {"idle": "sleep"}, 'is not allowed: "sleep"'),
        ("wide", {"idle": "spin"}, "4 spinning processes on 4 cores"),
        ("wide", {"pin": True}, "pins 5 processes"),
    ]:
        with pytest.raises(ConfigError, match=re.escape(problem)):
            good().with_topology(topology, **options)  # type: ignore[arg-type]


def test_processes_can_be_made_by_hand() -> None:
    made = good(add=PROCESSES)
    assert made.topology == "custom"
    one, two = made.processes
    assert (one.name, one.agents, one.core, one.idle) == (
        "one",
        ("sequencer", "matcher-1"),
        0,
        "spin",
    )
    assert (two.core, two.idle) == (None, "park")


PLACEMENTS = [
    ("core = 0", "core = 9", "process[1].core is no core of this machine: 9; allowed: 0, 1, 2, 3"),
    ('"publisher", ', "", "process places no publisher; allowed: each agent once"),
    (
        '"matcher-0"',
        '"sequencer"',
        'process[2].agents[1] is placed already (line 38): "sequencer"; allowed: each agent once',
    ),
    (
        '"matcher-0"',
        '"matcher-2"',
        'process[2].agents[1] is no agent with matchers = 2: "matcher-2"; allowed: sequencer, '
        "matcher-0, matcher-1, publisher, journaler",
    ),
    ('"two"', '"one"', "process[2].name is taken (line 37): one; allowed: a new one"),
    (
        '"journaler"]',
        '"journaler"]\ncore = 0',
        "process has process one spinning on core 0 beside two; allowed: a spinning process alone "
        "on its core",
    ),
]


@pytest.mark.parametrize(("change", "into", "expected"), PLACEMENTS)
def test_processes_made_by_hand_are_checked(change: str, into: str, expected: str) -> None:
    text = refusal(change, into, PROCESSES)
    assert re.sub(r"^test\.toml:\d+: ", "", text) == expected


def test_hand_made_and_preset_do_not_mix() -> None:
    text = refusal("matchers = 2", 'matchers = 2\ntopology = "compact"', PROCESSES)
    assert text.startswith("test.toml:3: topology does not go with [[process]] tables")


def test_spinning_processes_are_fewer_than_cores() -> None:
    with pytest.raises(ConfigError, match="1 spinning processes on 1 cores"):
        parse(GOOD + PROCESSES, "test.toml", cores=(0,))


# (what is changed, into what, where the error is, what it says, what is allowed)
WRONG = [
    ('"test"', "7", "instance", "is not a string: 7", "1 to 32 of a-z"),
    ('"test"', '"Test"', "instance", 'is not allowed: "Test"', "1 to 32 of a-z"),
    ("matchers = 2", "matchers = 0", "matchers", "is out of range: 0", "1 to 13"),
    ("matchers = 2", "matchers = 2.0", "matchers", "is not a whole number: 2.0", "1 to 13"),
    ("matchers = 2", "matchers = true", "matchers", "is not a whole number: true", "1 to 13"),
    ("scale = 8", "scale = 19", "asset[1].scale", "is out of range: 19", "0 to 18"),
    ("scale = 8\n", "", "asset[1].scale", "is missing", "integer, 0 to 18"),
    ('"BTC"\nscale', '"USDT"\nscale', "asset[2].name", "is taken (line 5): USDT", "a new one"),
    ('"BTC"\n', '"BTC"\nid = 1\n', "asset[2].id", "is taken (line 4): 1", "a new one"),
    ('"BTC"\n', '"BTC"\nid = 2000\n', "asset[2].id", "is out of range: 2000", "1 to max_assets"),
    ("number = 7", "number = 0", "account[1].number", "is out of range: 0", "1 to 4294967295"),
    ("number = 7", "number = 99999", "account[1].number", "is out of range: 99999", "1 to max_ac"),
    ('"alice"', '"al ice"', "account[1].name", "is not allowed", "1 to 36 printable ASCII"),
    ("id = 2", "id = 1", "market[2].id", "is taken (line 16): 1", "a new one"),
    ("BTC/USDT-2", "BTC/USDT", "market[2].symbol", "is taken (line 17)", "a new one"),
    ('base = "BTC"', 'base = "XRP"', "market[1].base", 'is no asset: "XRP"', "USDT, BTC"),
    ('quote = "USDT"', 'quote = "BTC"', "market[1].quote", "is the base asset", "another asset"),
    (
        '"0.05"',
        "0.05",
        "market[1].tick_size",
        'must be written as a string, to be exact: "0.05"',
        "",
    ),
    ('"0.05"', '"0"', "market[1].tick_size", "is zero", "a decimal number above 0"),
    ('"0.05"', '"1e-5"', "market[1].tick_size", "is not a decimal number", "a decimal number"),
    ('"0.05"', '"-1"', "market[1].tick_size", "is not a decimal number", "a decimal number"),
    ('"0.05"', '"٠.٠٥"', "market[1].tick_size", "is not a decimal number", "a decimal number"),
    ('"0.05"', '"0\\n5"', "market[1].tick_size", 'is not a decimal number: "0\\n5"', "a decimal"),
    ('"0.05"', "[]", "market[1].tick_size", "is not a decimal number: []", "a decimal number"),
    (
        '"0.05"',
        '"0.00005"',
        "market[1].tick_size",
        "is too fine: tick_size * lot_size = 0.000000005 USDT is not a whole number of units of "
        "USDT, whose scale is 8",
        "multiples of 0.00000001, or a scale of at least 9",
    ),
    (
        '"0.0001"',
        '"0.000000001"',
        "market[1].lot_size",
        "is too fine: lot_size = 0.000000001 BTC is not a whole number of units of BTC",
        "multiples of 0.00000001, or a scale of at least 9",
    ),
    ('"1"', '"100000000000"', "market[2].lot_size", "is too large: lot_size = 1" + "0" * 19, ""),
    ('"25"', '"4294967296"', "market[2].tick_size", "has too many digits", "up to 2^32 - 1"),
    ('"1000000"', '"1000000.01"', "market[1].max_price", "is no multiple of tick_size", "0.05"),
    (
        '"1000000"',
        '"0.05"',
        "market[1].max_price",
        "is out of range: 1",
        "2 to 1099511627775 ticks",
    ),
    ('"1000000"', '"54975581389"', "market[1].max_price", "is out of range", "1099511627775 ticks"),
    ('"0.001"', '"0.00015"', "market[1].min_quantity", "is no multiple of lot_size", "0.0001"),
    ('"0.001"', '"501"', "market[1].min_quantity", "is out of range: 5010000", "1 to 5000000 lots"),
    (
        '"500"',
        '"500000000000"',
        "market[1].max_quantity",
        "is out of range: 5000000000000000 lots",
        "up to 4611686018427387 lots: times max_orders = 1000 at most 2^62",
    ),
    ("max_orders = 1000", "max_orders = 0", "market[1].max_orders", "is out of range: 0", "1 to "),
    ("price_step = 2", "price_step = 0", "market[1].price_step", "is out of range: 0", "1 to "),
    ("id = 2\n", "id = 2\nmatcher = 2\n", "market[2].matcher", "is no matcher: 2", "0 to 1 (mat"),
]
ADDED = [
    ("[rings]\nlog = 1000", 1, "rings.log", "is out of range: 1000", "a power of two, 1024 to"),
    ("[rings]\nlog = 1025", 1, "rings.log", "is not a power of two: 1025", "a power of two"),
    (
        "[rings]\nlogs = 1024",
        1,
        "rings.logs",
        "is no key of this table: did you mean log?",
        "log, ",
    ),
    ("[limits]\nmax_sessions = 0", 1, "limits.max_sessions", "is out of range: 0", "1 to 1024"),
    ("[journal]\nfile_size = '٤GiB'", 1, "journal.file_size", 'is no size: "٤GiB"', "bytes, or"),
    ("[journal]\nfile_size = '4 GB'", 1, "journal.file_size", 'is no size: "4 GB"', "bytes, or"),
    ("[journal]\nfile_size = 9", 1, "journal.file_size", "is out of range: 9 bytes", "16MiB to"),
    (
        "[journal]\nfile_size = '64MiB'\nbatch_records = 1048576",
        1,
        "journal.file_size",
        "is too small for batch_records = 1048576: 67108864",
        "from 272629760 bytes on",
    ),
    ('[rings]\n"log\\n" = 1024', 1, 'rings."log\\n"', "is no key", "log, "),
    ("[journals]\n", 0, "journals", "is no key of this table: did you mean journal?", "instance"),
    ("[[rings]]\n", 0, "rings", "is not a table", "[rings]"),
    ("[process]\n", 0, "process", "is not an array of tables", "[[process]]"),
    ("[[account]]\nnumber = 8\nnmae = 'b'", 2, "account[2].nmae", "is no key", "number, name, us"),
    (
        "[[account]]\nnumber = 8\nname = 'b'\nusers = 'b'",
        3,
        "account[2].users",
        "is not a list",
        "",
    ),
]


@pytest.mark.parametrize(("change", "into", "where", "problem", "allowed"), WRONG)
def test_a_wrong_value_is_refused_with_file_line_key_and_what_is_allowed(
    change: str, into: str, where: str, problem: str, allowed: str
) -> None:
    text = refusal(change, into)
    line = line_of(change)
    if problem == "is missing":
        line -= 2  # the line of the table's header
    elif into.count("\n") > 1:
        line += 1  # the added line
    assert text.startswith(f"test.toml:{line}: {where} {problem}"), text
    assert "; allowed: " in text
    assert allowed in text.split("; allowed: ")[1]


@pytest.mark.parametrize(("add", "line", "where", "problem", "allowed"), ADDED)
def test_a_wrong_table_is_refused_with_file_line_key_and_what_is_allowed(
    add: str, line: int, where: str, problem: str, allowed: str
) -> None:
    text = refusal(add=add)
    assert text.startswith(f"test.toml:{GOOD.count(chr(10)) + 1 + line}: {where} {problem}"), text
    assert allowed in text.split("; allowed: ")[1]


def test_what_is_not_toml_is_refused_with_its_line() -> None:
    text = refusal("scale = 8", "scale = = 8")
    assert text.startswith("test.toml:6: is not TOML: Invalid value")
    assert refusal(add="x = [1,").startswith(f"test.toml:{GOOD.count(chr(10)) + 1}: is not TOML")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
        load(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"binary\.toml: cannot be read"):
        load(tmp_path / "binary.toml")


def test_the_document_lists_every_key_as_the_loader_has_it() -> None:
    """Type, default and allowed values are compared too; the tables stand below a heading each."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    documented: dict[tuple[str, str], tuple[str, ...]] = {}
    section = None
    for line in text.splitlines():
        if line.startswith("## "):
            found = re.search(r"`\[+([a-z]+)\]+`", line)
            section = found[1] if found else ""
        row = re.fullmatch(r"\| `([a-z_]+)` \| (.+) \|", line)
        if row:
            assert section is not None
            cells = tuple(cell.strip() for cell in row[2].split(" | "))
            assert len(cells) == 4, line
            assert cells[3], f"no explanation: {line}"
            documented[section, row[1]] = cells[:3]
    expected = {
        (section, name): key.documentation()
        for section, keys in SECTIONS.items()
        for name, key in keys.items()
    }
    assert documented == expected


def test_every_array_of_tables_is_a_section() -> None:
    assert set(ARRAYS) < set(SECTIONS)
