"""`matchbox log`: filters, names, text, JSON, following, and errors."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchbox.persistence.journal import Reader, Writer
from matchbox.shm.errors import BadArgument, JournalError
from matchbox.shm.reasons import Reason
from matchbox.shm.records import (
    LIST_RECORD,
    LOG_RECORD,
    MARKET_RECORD,
    MONEY_RECORD,
    NAMED_RECORD,
    NEW_ORDER,
    RULES_RECORD,
    TERMS_RECORD,
    TIER_BY_VOLUME,
    AccountState,
    Flag,
    Kind,
    ListType,
    MarketState,
    OrderType,
    Rule,
    SelfTrade,
    Side,
    TimeInForce,
)
from matchbox.tools import cli, config, logview, recordview
from matchbox.tools.logview import View
from matchbox.tools.recordview import Names

START_NS = 1_790_000_000_000_000_000  # 2026-09-21T14:13:20Z
SECOND = 1_000_000_000


def order(kind: int, **values: Any) -> Any:
    record = np.zeros(1, LOG_RECORD)
    record["kind"] = kind
    for name, value in values.items():
        record[name] = value
    return record


def named(kind: int, **values: Any) -> Any:
    record = np.zeros(1, NAMED_RECORD)
    record["kind"] = kind
    for name, value in values.items():
        record[name] = value
    return record.view(LOG_RECORD)


def new(**values: Any) -> Any:
    limit = {"order_type": OrderType.LIMIT, "time_in_force": TimeInForce.GTC}
    return order(Kind.NEW_ORDER, **(limit | values))


def stamp(*records: Any) -> Any:
    """A log: sequences from 1, a record a second."""
    log = np.concatenate(records)
    log["sequence"] = np.arange(1, len(log) + 1)
    log["timestamp_ns"] = START_NS + SECOND * np.arange(len(log), dtype=np.uint64)
    return log


@pytest.fixture
def log() -> Any:
    """Definitions of the demo exchange, then what alice (session 2) and bob (session 3) did."""
    return stamp(
        named(Kind.START, epoch=4),
        config.load(config.DEMO).definitions(),
        named(Kind.ATTACH_SESSION, id=2, account=1, name=b"alice-bot", capabilities=1, session=1),
        new(session=2, account=1, market=1, side=Side.BUY, price_ticks=10001, quantity_lots=150000,
            client_order_id=b"a-1"),
        new(session=3, account=2, market=2, side=Side.SELL, price_ticks=250, quantity_lots=3,
            time_in_force=TimeInForce.IOC),
        order(Kind.AMEND_ORDER, session=2, account=1, market=1, side=Side.BUY, order_id=11,
              quantity_lots=100000, flags=Flag.TO_OPEN),
        order(Kind.CANCEL_ORDER, session=3, account=2, market=1, order_id=11,
              reject=Reason["UNKNOWN_ORDER"]),
        order(Kind.CANCEL_ORDER, session=2, account=1, market=1, side=Side.BUY, order_id=11),
        named(Kind.DETACH_SESSION, id=2, name=b"alice-bot", reason=Reason["DISCONNECTED"]),
        named(Kind.STOP),
    )  # fmt: skip


@pytest.fixture
def journal(tmp_path: Path, log: Any) -> Path:
    """The log as a journal of batches of three records."""
    with Writer(tmp_path / "journal") as writer:
        for first in range(0, len(log), 3):
            writer.append(log[first : first + 3])
    return tmp_path / "journal"


def shown(journal: Path, view: View, **options: Any) -> list[int]:
    """Sequences of what the view shows."""
    with Reader(journal) as reader:
        parts = list(logview.read(reader, view, Names(), **options))
    return [int(sequence) for part in parts for sequence in part["sequence"]]


def first_of(log: Any, kind: Kind) -> int:
    return int(log["sequence"][log["kind"] == kind][0])


# ---- filters


def test_everything_is_shown_without_a_filter(journal: Path, log: Any) -> None:
    assert shown(journal, View()) == log["sequence"].tolist()


def test_a_range_of_sequences_is_shown_with_both_ends(journal: Path) -> None:
    assert shown(journal, View(first=4, last=8)) == [4, 5, 6, 7, 8]
    assert shown(journal, View(first=900)) == []


def test_a_range_of_times_is_shown_with_both_ends(journal: Path) -> None:
    since, until = START_NS + 4 * SECOND, START_NS + 6 * SECOND
    assert shown(journal, View(since_ns=since, until_ns=until)) == [5, 6, 7]
    assert shown(journal, View(since_ns=since + 1, until_ns=until - 1)) == [6]


def test_kinds_are_shown(journal: Path, log: Any) -> None:
    start = first_of(log, Kind.NEW_ORDER)
    assert shown(journal, View(kinds=(Kind.NEW_ORDER, Kind.STOP))) == [start, start + 1, len(log)]


def test_records_of_a_market_are_shown_and_no_others_with_the_same_bytes(
    journal: Path, log: Any
) -> None:
    start = first_of(log, Kind.NEW_ORDER)
    added = first_of(log, Kind.ADD_MARKET)
    expected = [added, start, start + 2, start + 3, start + 4]
    assert shown(journal, View(markets=(1,))) == expected


def test_records_of_an_account_are_shown_and_no_others_with_the_same_bytes(
    journal: Path, log: Any
) -> None:
    start = first_of(log, Kind.NEW_ORDER)
    added = first_of(log, Kind.ADD_ACCOUNT) + 1
    assert shown(journal, View(accounts=(2,))) == [added, start + 1, start + 3]


def test_records_from_and_about_a_session_are_shown(journal: Path, log: Any) -> None:
    attach, detach = first_of(log, Kind.ATTACH_SESSION), first_of(log, Kind.DETACH_SESSION)
    start = first_of(log, Kind.NEW_ORDER)
    assert shown(journal, View(sessions=(2,))) == [attach, start, start + 2, start + 4, detach]


def test_refused_records_are_shown(journal: Path, log: Any) -> None:
    assert shown(journal, View(refused=True)) == [first_of(log, Kind.NEW_ORDER) + 3]


def test_filters_of_several_sorts_must_all_hold(journal: Path, log: Any) -> None:
    start = first_of(log, Kind.NEW_ORDER)
    assert shown(journal, View(kinds=(Kind.NEW_ORDER,), accounts=(2,))) == [start + 1]


# ---- text


def lines_of(journal: Path, view: View) -> list[str]:
    names = Names()
    with Reader(journal) as reader:
        parts = list(logview.read(reader, view, names))
    return [recordview.line(record, names) for part in parts for record in part]


def test_a_line_shows_decimals_by_definitions_that_are_not_shown(journal: Path, log: Any) -> None:
    start = first_of(log, Kind.NEW_ORDER)
    lines = lines_of(journal, View(first=start))
    assert lines[0].split() == [
        str(start), f"2026-09-21T14:13:{19 + start}.000000000Z", "NEW_ORDER", "session=2",
        "account=alice", "market=BTC/USDT", f"order={start}", "buy", "1.50000", "at", "100.01",
        "limit", "GTC", "client=a-1",
    ]  # fmt: skip
    assert "market=ETH/USDT" in lines[1] and "sell 0.0003 at 2.50 limit IOC" in lines[1]
    assert "order=11 buy 1.00000 to-open" in lines[2]
    assert "REFUSED: UNKNOWN_ORDER (" in lines[3]
    assert "DETACH_SESSION engine    detached=2 name=alice-bot reason=DISCONNECTED" in lines[5]


def test_definitions_and_marks_are_readable(journal: Path, log: Any) -> None:
    text = "\n".join(lines_of(journal, View()))
    for part in (
        "START          engine    epoch=4",
        "ADD_ASSET      engine    asset=1 name=USDT scale=8",
        "ADD_ACCOUNT    engine    account=1 name=alice",
        "ADD_MARKET     engine    market=1 symbol=BTC/USDT base_asset=2 quote_asset=1",
        "ATTACH_SESSION session=1 attached=2 name=alice-bot account=alice capabilities=TRADE",
    ):
        assert part in text


def test_what_is_not_defined_is_shown_in_numbers() -> None:
    record = stamp(new(account=9, market=7, side=Side.BUY, price_ticks=5, quantity_lots=6))[0]
    text = recordview.line(record, Names())
    assert "account=9 market=7 order=1 buy 6 lots at 5 ticks limit GTC" in text


def test_a_definition_that_was_refused_defines_nothing() -> None:
    names = Names()
    names.learn(stamp(named(Kind.ADD_ASSET, id=1, name=b"X", scale=3, reject=105)))
    assert not names.assets


def test_any_bytes_make_one_printable_line() -> None:
    draw = np.random.default_rng(5)
    records = draw.integers(0, 256, (500, 128), dtype=np.uint8).view(LOG_RECORD).reshape(-1)
    records["kind"] = draw.choice([int(kind) for kind in Kind], 500)
    names = Names()
    for record in records:
        text = recordview.line(record, names)
        assert text.isprintable() and text.isascii(), text
        json.loads(recordview.json_line(record, names))


# ---- what orders need besides, money, and rules


def view_of(dtype: Any, kind: int, **values: Any) -> Any:
    record = np.zeros(1, dtype)
    record["kind"] = kind
    for name, value in values.items():
        record[name] = value
    return record.view(LOG_RECORD)


def money(kind: int, **values: Any) -> Any:
    return view_of(MONEY_RECORD, kind, **({"account": 1, "asset": 1, "amount": 150000000} | values))


def rules(kind: int, **values: Any) -> Any:
    return view_of(RULES_RECORD, kind, **values)


def placed(**values: Any) -> Any:
    base = {"account": 1, "market": 1, "side": Side.BUY, "order_type": OrderType.LIMIT}
    base |= {"time_in_force": TimeInForce.GTC, "quantity_lots": 150000}
    return view_of(NEW_ORDER, Kind.NEW_ORDER, **(base | values))


@pytest.fixture(scope="module")
def demo() -> Names:
    names = Names()
    names.learn(config.load(config.DEMO).definitions())
    return names


CASES = [
    (placed(price_ticks=10001, hold=15001500000, maker_fee_ppm=-50, taker_fee_ppm=400,
            self_trade=SelfTrade.EXPIRE_TAKER, has_terms=1),
     "buy 1.50000 at 100.01 limit GTC self-trade=expire-taker with-terms hold=150.01500000 USDT "
     "maker=-50ppm taker=400ppm"),
    (placed(order_type=OrderType.MARKET, time_in_force=TimeInForce.IOC, price_ticks=11000,
            quantity_lots=2500000000, flags=Flag.QUOTE_AMOUNT),
     "buy for 25.00000000 bound 110.00 market IOC quote-amount"),
    (placed(order_type=OrderType.STOP_LOSS, side=Side.SELL, trigger_ticks=9000, trailing_bips=150,
            time_in_force=TimeInForce.IOC, hold=150000000),
     "sell 1.50000 stop-loss IOC trigger 90.00 trailing 150 bips hold=1.50000000 BTC"),
    (view_of(TERMS_RECORD, Kind.ORDER_TERMS, account=1, market=1, display_lots=10000,
             expire_ns=START_NS),
     "account=alice market=BTC/USDT display=0.10000 expires=2026-09-21T14:13:20.000000000Z"),
    (placed(has_terms=8, flags=Flag.LEG), "limit GTC replaces leg"),
    (placed(has_terms=4, flags=Flag.LEG | Flag.POST_ONLY), "limit GTC pending post-only leg"),
    (view_of(LIST_RECORD, Kind.ORDER_LIST, account=1, market=1, list_type=ListType.OTOCO, legs=3,
             list_id=9, display_lots=(0, 10000, 0), expire_ns=START_NS, client_list_id=b"my-1"),
     "list=9 list_type=otoco legs=3 account=alice market=BTC/USDT display=0.00000,0.10000,0.00000 "
     "expires=2026-09-21T14:13:20.000000000Z client_list_id=my-1"),
    (view_of(LIST_RECORD, Kind.RELEASE, account=1, market=1, legs=1, list_id=9),
     "engine    list=9 legs=1 account=alice market=BTC/USDT"),
    (order(Kind.CANCEL_ORDER, account=1, market=1, order_id=11, side=Side.BUY,
           cancel_reason=Reason["ON_REQUEST"], quantity_lots=150000000,
           flags=Flag.REPLACE | Flag.ALLOW_FAILURE),
     "order=11 buy replace allow-failure lack=1.50000000 USDT reason=ON_REQUEST"),
    (order(Kind.CANCEL_ORDER, account=1, market=1, order_id=11, flags=Flag.OF_PENDING,
           cancel_reason=Reason["LIST_ENDED"]), "order=11 of-pending reason=LIST_ENDED"),
    (order(Kind.CANCEL_ORDER, account=1, market=1, order_id=11,
           cancel_reason=Reason["GTD_EXPIRED"]),
     "engine    account=alice market=BTC/USDT order=11 reason=GTD_EXPIRED"),
    (order(Kind.MASS_CANCEL, account=1, side=Side.SELL), "account=alice side=sell"),
    (order(Kind.MASS_CANCEL, account=1, market=2), "account=alice market=ETH/USDT"),
    (order(Kind.COUNTDOWN, account=1, quantity_lots=5000), "account=alice milliseconds=5000"),
    (money(Kind.DEPOSIT, reference=b"wire-1", note=b"by hand", operator_id=1001),
     'account=alice 1.50000000 USDT reference=wire-1 note="by hand" operator=1000'),
    (money(Kind.TRANSFER, counter_account=2), "account=alice to=bob 1.50000000 USDT"),
    (money(Kind.REQUEST_WITHDRAWAL, asset=99, reference=b"w"),
     "account=alice 150000000 units of asset 99 reference=w"),
    (money(Kind.SETTLE_WITHDRAWAL, asset=0, amount=0, reference=b"w"), "account=alice reference=w"),
    (rules(Kind.SET_ACCOUNT, account=1, state=AccountState.FROZEN, tier=TIER_BY_VOLUME,
           rules=Rule.STATE | Rule.TIER | Rule.CANCEL, note=b"court order", operator_id=1),
     'account=alice changes=state,tier,cancel state=frozen tier=by-volume note="court order" '
     "operator=0"),
    (rules(Kind.SET_MARKET, market=1, amount=1000000000, reference_ticks=10000, band_up_bips=500,
           band_down_bips=0, protection_bips=100, account_orders=0, state=MarketState.HALTED,
           rules=Rule.NOTIONAL | Rule.REFERENCE | Rule.BANDS | Rule.PROTECTION | Rule.ORDERS),
     "market=BTC/USDT changes=notional,reference,bands,protection,orders min_notional=10.00000000 "
     "reference_price=100.00 band_up_bips=500 band_down_bips=0 protection_bips=100 "
     "account_orders=0"),
    (rules(Kind.SET_FEES, market=1, tier=2, maker_fee_ppm=-50, taker_fee_ppm=400),
     "market=BTC/USDT tier=2 maker_fee_ppm=-50 taker_fee_ppm=400"),
    (rules(Kind.SET_FEES, taker_fee_ppm=400), "tier=0 maker_fee_ppm=0 taker_fee_ppm=400"),
    (view_of(NAMED_RECORD, Kind.REMOVE_MARKET, id=1),
     "market=BTC/USDT"),
    (view_of(NAMED_RECORD, Kind.REMOVE_MARKET, id=1, name=b"OLD"),
     "market=OLD"),
    (view_of(NAMED_RECORD, Kind.REMOVE_ASSET, id=1),
     "asset=USDT"),
    (rules(Kind.SET_TIER, tier=3, asset=1, amount=1000000),
     "tier=3 asset=USDT volume=1000000"),
    (named(Kind.ADD_ACCOUNT, account=9, name=b"alice.algo", parent=1),
     "account=9 name=alice.algo parent=1"),
    (named(Kind.ATTACH_SESSION, id=4, account=1, name=b"x", user=1001, cancel_on_detach=1),
     "attached=4 name=x account=alice position=0 user=1000 cancel_on_detach=True "
     "assurance=MATCHED"),
    (named(Kind.ATTACH_SESSION, id=4, account=1, name=b"x", assurance=3),
     "attached=4 name=x account=alice position=0 assurance=DURABLE"),
    (order(Kind.TICK), "TICK           engine"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "text"), CASES, ids=lambda value: str(value)[:30])
def test_a_line_says_what_a_record_of_each_kind_means(record: Any, text: str, demo: Names) -> None:
    (row,) = record
    assert recordview.line(row, demo).strip().endswith(text)
    values = json.loads(recordview.json_line(row, demo))
    assert values["kind"] == Kind(int(row["kind"])).name


def test_a_number_that_was_given_again_means_what_it_did_at_the_time(tmp_path: Path) -> None:
    """All in one batch."""
    definitions = config.load(config.DEMO).definitions()
    other = definitions[definitions["kind"] == Kind.ADD_MARKET][:1].copy()
    other.view(MARKET_RECORD)["symbol"], other.view(MARKET_RECORD)["tick_scale"] = b"OTHER", 0
    log = stamp(
        definitions,
        new(account=1, market=1, side=Side.BUY, price_ticks=10001, quantity_lots=150000),
        view_of(NAMED_RECORD, Kind.REMOVE_MARKET, id=1),
        other,
        new(account=1, market=1, side=Side.BUY, price_ticks=10001, quantity_lots=150000),
    )
    names = Names()
    with Writer(tmp_path / "journal") as writer:
        writer.append(log)
    with Reader(tmp_path / "journal") as reader:
        lines = [
            recordview.line(record, names)
            for part in logview.read(reader, View(markets=(1,)), names)
            for record in part
        ]
    assert [line.split(" session=")[0].split()[2] for line in lines] == [
        "ADD_MARKET", "NEW_ORDER", "REMOVE_MARKET", "ADD_MARKET", "NEW_ORDER",
    ]  # fmt: skip
    assert "market=BTC/USDT" in lines[1] and "at 100.01 " in lines[1]
    assert lines[2].endswith("market=BTC/USDT")
    assert "market=OTHER" in lines[4] and "at 10001 " in lines[4]
    assert (names.market("BTC/USDT"), names.market("OTHER")) == (1, 1)


def test_numbers_stand_beside_decimals_in_json(demo: Names) -> None:
    deposit = recordview.fields(money(Kind.DEPOSIT, reference=b"r")[0], demo)
    assert {name: deposit[name] for name in ("asset", "asset_name", "amount", "amount_units")} == {
        "asset": 1, "asset_name": "USDT", "amount": "1.50000000", "amount_units": 150000000,
    }  # fmt: skip
    assert recordview.fields(money(Kind.DEPOSIT, asset=50)[0], demo)["amount"] is None


def test_numbers_that_are_passed_over_are_shown() -> None:
    record = np.zeros(1, LOG_RECORD)
    record["sequence"], record["kind"] = 12, Kind.LOST
    record["order_id"], record["quantity_lots"] = 11, 64
    shown = recordview.line(record[0], Names())
    assert "LOST" in shown and "first=11" in shown and "count=64" in shown


def test_every_kind_of_record_has_a_case() -> None:
    earlier = {Kind.AMEND_ORDER, Kind.ADD_ASSET, Kind.ADD_MARKET, Kind.DETACH_SESSION, Kind.START}
    earlier |= {Kind.TAKE_OVER}  # as START
    earlier |= {Kind.LOST}  # below
    plain = {Kind.SUBSCRIBE, Kind.UNSUBSCRIBE, Kind.LOGOUT, Kind.STOP, Kind.INVALID}
    shown_here = {Kind(int(record["kind"][0])) for record, _ in CASES}
    shown_here |= {Kind.CANCEL_WITHDRAWAL}  # as SETTLE_WITHDRAWAL
    assert shown_here | earlier | plain == set(Kind)


def test_filters_find_the_accounts_and_markets_of_every_kind_of_record() -> None:
    log = stamp(
        money(Kind.TRANSFER, account=1, counter_account=2),
        money(Kind.DEPOSIT, account=2, counter_account=7),
        order(Kind.MASS_CANCEL, account=1, market=2),
        order(Kind.COUNTDOWN, account=2, quantity_lots=1),
        view_of(TERMS_RECORD, Kind.ORDER_TERMS, account=2, market=1),
        view_of(LIST_RECORD, Kind.ORDER_LIST, account=2, market=1),
        view_of(LIST_RECORD, Kind.RELEASE, account=1, market=2),
        rules(Kind.SET_ACCOUNT, account=1),
        rules(Kind.SET_MARKET, market=1),
        rules(Kind.SET_FEES, market=2),
        rules(Kind.SET_TIER, tier=1),
    )

    def found(**wanted: Any) -> list[int]:
        return [int(sequence) for sequence in View(**wanted).select(log)["sequence"]]

    assert found(accounts=(1,)) == [1, 3, 7, 8]
    assert found(accounts=(2,)) == [1, 2, 4, 5, 6]
    assert found(accounts=(7,)) == []
    assert found(markets=(1,)) == [5, 6, 9]
    assert found(markets=(2,)) == [3, 7, 10]


# ---- JSON


def test_json_has_integers_and_decimals(journal: Path, log: Any) -> None:
    start = first_of(log, Kind.NEW_ORDER)
    names = Names()
    with Reader(journal) as reader:
        (part,) = logview.read(reader, View(first=start, last=start), names)
    assert json.loads(recordview.json_line(part[0], names)) == {
        "sequence": start,
        "time": f"2026-09-21T14:13:{19 + start}.000000000Z",
        "timestamp_ns": START_NS + (start - 1) * SECOND,
        "kind": "NEW_ORDER",
        "session": 2,
        "session_position": 0,
        "reject": None,
        "order_id": start,
        "client_order_id": "a-1",
        "account": 1,
        "account_name": "alice",
        "market": 1,
        "symbol": "BTC/USDT",
        "side": "BUY",
        "order_type": "LIMIT",
        "time_in_force": "GTC",
        "flags": [],
        "price": "100.01",
        "price_ticks": 10001,
        "quantity": "1.50000",
        "quantity_lots": 150000,
        "trigger": None,
        "trigger_ticks": 0,
        "trailing_bips": 0,
        "self_trade": "TRADE_WITH_SELF",
        "belongs": [],
        "maker_fee_ppm": 0,
        "taker_fee_ppm": 0,
        "hold": None,
        "hold_asset": None,
        "hold_units": 0,
    }


def test_every_field_of_a_market_is_in_its_json() -> None:
    record = config.load(config.DEMO).definitions()[-1]
    shown_fields = recordview.fields(record, Names())
    stamped = {"settled_lag", "settled_index", "reserved"}
    assert set(MARKET_RECORD.names or ()) - stamped <= set(shown_fields)


# ---- times and kinds


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1790000000000000001", 1790000000000000001),
        ("2026-09-21T14:13:20Z", START_NS),
        ("2026-09-21T14:13:20", START_NS),
        ("2026-09-21 14:13:20.5", START_NS + SECOND // 2),
        ("2026-09-21T14:13:20.000000007Z", START_NS + 7),
        ("2026-09-21T16:13:20+02:00", START_NS),
        ("2026-09-21", START_NS - 51200 * SECOND),
    ],
)
def test_a_time_is_read(text: str, nanoseconds: int) -> None:
    assert logview.parse_time(text) == nanoseconds


def test_a_time_that_is_shown_can_be_given_back() -> None:
    assert logview.parse_time(recordview.format_time(START_NS + 123)) == START_NS + 123


def test_what_is_no_time_or_kind_is_refused_with_what_is_allowed() -> None:
    for text in ("yesterday", "2026-13-01", "", "12:00"):
        with pytest.raises(BadArgument, match="not a time.*allowed="):
            logview.parse_time(text)
    assert logview.parse_kind("new-order") == Kind.NEW_ORDER
    with pytest.raises(BadArgument, match="kind=order, allowed=new-order, "):
        logview.parse_kind("order")


# ---- while it is written


def test_following_shows_what_another_process_appends(tmp_path: Path, log: Any) -> None:
    folder = tmp_path / "journal"
    np.save(tmp_path / "log.npy", log.view(np.uint8))
    program = (
        "import sys, numpy as np\n"
        "from matchbox.persistence.journal import Writer\n"
        "from matchbox.shm.records import LOG_RECORD\n"
        "log = np.load(sys.argv[1]).view(LOG_RECORD)\n"
        "with Writer(sys.argv[2]) as writer:\n"
        "    print('open', flush=True)\n"
        "    for record in log:\n"
        "        sys.stdin.readline()\n"
        "        writer.append(record.reshape(1))\n"
        "        print('done', flush=True)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "log.npy"), str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as writer:
        assert writer.stdin and writer.stdout
        assert writer.stdout.readline() == "open\n"
        seen: list[int] = []

        def append_one() -> bool:
            """Stands for waiting: one more record is on the disk when it returns."""
            if len(seen) == len(log):
                return False
            assert writer.stdin and writer.stdout
            writer.stdin.write("\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == "done\n"
            return True

        with Reader(folder) as reader:
            for part in logview.read(reader, View(), Names(), follow=append_one):
                seen += part["sequence"].tolist()
        assert writer.wait(60) == 0
    assert seen == log["sequence"].tolist()


# ---- errors


def test_a_damaged_batch_is_an_error_after_what_was_before_it(journal: Path, log: Any) -> None:
    path = next(journal.glob("*.mdb"))
    good = log[7:8].tobytes()
    bad = good[:60] + bytes([good[60] ^ 1]) + good[61:]
    # Pages that LMDB has left behind hold the record as well.
    path.write_bytes(path.read_bytes().replace(good, bad))
    seen: list[int] = []
    with Reader(journal) as reader, pytest.raises(JournalError, match="checksum"):
        for part in logview.read(reader, View(), Names()):
            seen += part["sequence"].tolist()
    assert seen == [1, 2, 3, 4, 5, 6]


def test_a_journal_is_found_by_folder_data_folder_configuration_and_name(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert logview.find_journal(str(journal)) == journal
    assert logview.find_journal(str(journal.parent)) == journal
    config = journal.parent / "exchange.toml"
    config.write_text(f'instance = "demo"\ndata = "{journal.parent}"\n')
    assert logview.find_journal(str(config)) == journal
    state = journal.parent / "state"
    (state / "matchbox" / "demo").mkdir(parents=True)
    (state / "matchbox" / "demo" / "journal").symlink_to(journal)
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    assert logview.find_journal("demo") == state / "matchbox" / "demo" / "journal"
    with pytest.raises(BadArgument, match="no journal there: looked in .*other"):
        logview.find_journal("other")


# ---- the command line


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """command(*arguments): exit status, output and errors of `matchbox log ARGUMENTS`."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["matchbox", "log", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    yield run


Command = Callable[..., tuple[int, str, str]]


def test_the_command_filters_by_names(command: Command, journal: Path, log: Any) -> None:
    start = first_of(log, Kind.NEW_ORDER)
    options = ("--market", "BTC/USDT", "--account", "alice", "--kind", "new-order")
    status, out, _ = command(str(journal), *options)
    assert status == 0 and [line.split()[0] for line in out.splitlines()] == [str(start)]
    status, out, _ = command(str(journal), "--tail", "2", "--json")
    assert [json.loads(line)["kind"] for line in out.splitlines()] == ["DETACH_SESSION", "STOP"]


def test_the_command_says_what_is_wrong(command: Command, journal: Path, tmp_path: Path) -> None:
    for arguments, text in (
        ((str(tmp_path / "nowhere"),), "no journal there"),
        ((str(journal), "--market", "XRP"), "market=XRP, known=BTC/USDT, ETH/USDT"),
        ((str(journal), "--account", "eve"), "account=eve"),
        ((str(journal), "--since", "noon"), "not a time"),
        ((str(journal), "--kind", "x"), "kind=x"),
        ((str(journal), "--tail", "3", "--from", "2"), "--tail and --from"),
    ):
        status, out, err = command(*arguments)
        assert (status, out) == (1, "") and text in err


def test_the_command_follows_until_it_is_told_to_stop(
    command: Command, journal: Path, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = threading.Semaphore(3)

    def wait() -> bool:
        if not waits.acquire(blocking=False):
            raise KeyboardInterrupt
        return True

    monkeypatch.setattr(logview, "wait_for_more", wait)
    status, out, _ = command(str(journal), "--follow")
    assert status == 130 and len(out.splitlines()) == len(log)
