"""The operators' commands: what each sends, what it shows, and how it ends."""

import io
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from matchbox.core.instrument import market_record
from matchbox.shm.depth import LEVEL, Top
from matchbox.shm.errors import BadArgument
from matchbox.shm.market import Asset, Market
from matchbox.shm.reasons import Reason
from matchbox.shm.records import (
    COMMAND,
    MARKET_RECORD,
    MONEY_RECORD,
    NAMED_RECORD,
    REPORT,
    RULES_RECORD,
    AccountState,
    EventKind,
    Kind,
    MarketState,
    Rule,
    Side,
)
from matchbox.tools import cli, define, operate, orderview

USD, BTC = Asset(1, "USD", 2), Asset(2, "BTC", 8)
ACCOUNTS = [
    {"number": 1, "name": "alice", "parent": 0},
    {"number": 2, "name": "bob", "parent": 0},
    {"number": 3, "name": "alice.algo", "parent": 1},
]
STOP = {
    "order_id": 41, "account": 1, "market": 3, "side": 2, "order_type": 4, "time_in_force": "GTC",
    "price_ticks": 9000, "trigger_ticks": 9100, "quantity_lots": 15000, "leaves_lots": 15000,
    "cumulative_lots": 0, "client_order_id": "stop-1", "hold": 150_000_000, "trailing_bips": 0,
}  # fmt: skip
RULES = {
    "state": 3, "min_notional": 500, "last_price_ticks": 10000, "band_up_bips": 70,
    "band_down_bips": 0, "protection_bips": 1000, "account_orders": 0, "live_orders": 2,
    "max_orders": 65536, "own_fees": True,
}  # fmt: skip
BOUGHT = STOP | {"order_id": 42, "account": 2, "side": "BUY", "hold": 12345, "trigger_ticks": 0}


class Connection:
    """What `look()` gives, of an exchange with one market."""

    def __init__(self) -> None:
        record = market_record(
            3, symbol="BTC/USD", lot_units=10**4, tick_mantissa=1, tick_scale=2,
            base_asset=2, quote_asset=1,
        )  # fmt: skip
        self.made = Market.from_record(record, "BTC", 8, "USD", 2)
        self.asked: list[tuple[int, int]] = []
        self.defined: list[tuple[NDArray[Any], int | None]] = []

    def accounts(self) -> list[dict[str, Any]]:
        return ACCOUNTS

    def market(self, market: str | int) -> Market:
        if market not in ("BTC/USD", 3):
            raise BadArgument(f"no such market: {market}")
        return self.made

    @property
    def markets(self) -> dict[str, Market]:
        return {"BTC/USD": self.made}

    def asset(self, asset: str | int) -> Asset:
        return {1: USD, "USD": USD, 2: BTC, "BTC": BTC}[asset]

    @property
    def assets(self) -> dict[str, Asset]:
        return {"USD": USD, "BTC": BTC}

    def listing(self) -> tuple[dict[int, dict[str, Any]], dict[int, int]]:
        return {3: RULES}, {1: 1050, 2: 0}

    def define(self, record: NDArray[Any], matcher: int | None = None) -> tuple[int, int]:
        self.defined.append((record, matcher))
        return 7, 4711

    def balances(self, account: int) -> dict[str, tuple[Decimal, Decimal]]:
        return {"USD": (USD.amount(1050), USD.amount(25))} if account == 1 else {}

    def orders(self, account: int, market: int) -> list[dict[str, Any]]:
        self.asked.append((account, market))
        return [order for order in (STOP, BOUGHT) if account in (0, order["account"])]

    def book(self, market: str | int) -> Any:
        return Book(self.market(market))


class Book:
    def __init__(self, market: Market) -> None:
        self.market = market

    def top(self) -> Top:
        bids = np.array([(9990, 10000), (9980, 40000)], LEVEL)
        asks = np.array([(10010, 20000)], LEVEL)
        return Top(17, 30, 0, 4, 10000, bids, asks)


class Session:
    """An operator's session that gets the answers it was given."""

    def __init__(self) -> None:
        self.sent: list[NDArray[Any]] = []
        self.answers = np.zeros(0, REPORT)

    def submit(self, commands: NDArray[Any], timeout: float | None = None) -> int:
        assert commands.dtype == COMMAND
        self.sent.append(commands)
        return 1

    def reports(self, timeout: float = 0.0) -> NDArray[Any]:
        found, self.answers = self.answers, self.answers[:0]
        return found

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def answer(self, kind: EventKind, **fields: Any) -> None:
        report = np.zeros(1, REPORT)
        report["kind"], report["command_position"], report["sequence"] = kind, 1, 55
        for name, value in fields.items():
            report[name] = value
        self.answers = np.concatenate([self.answers, report])

    def balance(self, account: int, free: int, held: int, change: int) -> None:
        values = {"quantity_lots": free, "leaves_lots": held, "cumulative_lots": change}
        self.answer(EventKind.BALANCE, account=account, market=1, **values)

    def record(self, dtype: np.dtype[Any]) -> Any:
        (sent,) = self.sent
        return sent.view(dtype)[0]


class Desk:
    """The command line before a faked exchange."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.session, self.connection = Session(), Connection()
        self._capsys = capsys

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, output and errors of `matchbox ARGUMENTS`."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["matchbox", *arguments])
            with pytest.raises(SystemExit) as end:
                cli.main()
        out, err = self._capsys.readouterr()
        return int(end.value.code or 0), out, err

    def good(self, *arguments: str) -> str:
        status, out, err = self.run(*arguments)
        assert (status, err) == (0, ""), (out, err)
        return out

    def sent(self, dtype: np.dtype[Any]) -> dict[str, Any]:
        """The fields of the record that was sent which are not zero."""
        record = self.session.record(dtype)
        return {
            name: record[name].item()
            for name in record.dtype.names or ()
            if record[name].item() not in (0, b"", (0, 0, 0))
        }


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    desk = Desk(capsys)
    for module in (operate, orderview, define):
        monkeypatch.setattr(module, "find_data", lambda exchange: exchange)
        monkeypatch.setattr(module, "look", lambda data: desk.connection)
    monkeypatch.setattr(operate, "connect", lambda data, operator: desk.session)
    yield desk


# ---- money


def test_a_deposit_shows_what_the_account_has_now(desk: Desk) -> None:
    desk.session.balance(1, 10_050, 0, 10_000)
    out = desk.good(
        "deposit", "demo", "alice", "USD", "100.00", "--reference", "wire-1", "--note", "by hand"
    )
    assert [line.split() for line in out.splitlines()] == [
        ["account", "asset", "change", "free", "held"],
        ["alice", "USD", "100.00", "100.50", "0.00"],
    ]
    assert desk.sent(MONEY_RECORD) == {
        "kind": Kind.DEPOSIT, "account": 1, "asset": 1, "amount": 10_000, "reference": b"wire-1",
        "note": b"by hand",
    }  # fmt: skip


def test_a_transfer_waits_for_both_accounts(desk: Desk) -> None:
    desk.session.balance(1, 0, 0, -500)
    desk.session.balance(2, 500, 0, 500)
    out = desk.good("transfer", "demo", "alice", "2", "USD", "5", "--json")
    assert json.loads(out) == {
        "sequence": 55,
        "balances": [
            {"account": "alice", "asset": "USD", "free": "0.00", "held": "0.00", "change": "-5.00"},
            {"account": "bob", "asset": "USD", "free": "5.00", "held": "0.00", "change": "5.00"},
        ],
    }
    assert desk.sent(MONEY_RECORD) == {
        "kind": Kind.TRANSFER, "account": 1, "counter_account": 2, "asset": 1, "amount": 500,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("command", "kind", "more"),
    [
        ("request demo alice USD 5", Kind.REQUEST_WITHDRAWAL, {"asset": 1, "amount": 500}),
        ("settle demo alice", Kind.SETTLE_WITHDRAWAL, {}),
        ("cancel demo alice", Kind.CANCEL_WITHDRAWAL, {}),
    ],
)
def test_withdrawals(desk: Desk, command: str, kind: Kind, more: dict[str, Any]) -> None:
    desk.session.balance(1, 10_000, 500, 0)
    assert "5.00" in desk.good("withdraw", *command.split(), "--reference", "w-1")
    expected = {"kind": kind, "account": 1, "reference": b"w-1", **more}
    assert desk.sent(MONEY_RECORD) == expected


def test_a_refusal_is_said_with_its_name_and_text(desk: Desk) -> None:
    desk.session.answer(EventKind.REJECTED, reason=Reason.DUPLICATE_REFERENCE)
    status, out, err = desk.run("deposit", "demo", "alice", "USD", "1", "--reference", "wire-1")
    assert (status, out) == (1, "")
    assert err.startswith("matchbox: refused: DUPLICATE_REFERENCE (a movement with this reference")


def test_no_answer_is_an_error_that_says_where_to_look(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operate, "ANSWER_TIMEOUT_S", 0.01)
    status, _, err = desk.run("deposit", "demo", "alice", "USD", "1", "--reference", "wire-1")
    assert status == 1 and "`matchbox log` shows whether it was done" in err


def test_other_reports_are_no_answers(desk: Desk) -> None:
    desk.session.answer(EventKind.TRADE, trade_id=1)
    desk.session.answer(EventKind.ATTACHED, command_position=0)
    desk.session.balance(1, 100, 0, 100)
    assert "1.00" in desk.good("deposit", "demo", "1", "USD", "1", "--reference", "r")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("deposit", "x", "eve", "USD", "1", "--reference", "r"), "no such account: account=eve"),
        (("deposit", "x", "alice", "USD", "1.001", "--reference", "r"), "smallest unit of USD"),
        (("deposit", "x", "alice", "USD", "0", "--reference", "r"), "above 0"),
        (("deposit", "x", "alice", "USD", "1", "--reference", "a b"), "without blanks"),
        (("deposit", "x", "alice", "USD", "1", "--reference", ""), "1 to 36"),
        (("withdraw", "settle", "x", "alice", "--reference", "x" * 37), "1 to 36"),
        (("transfer", "x", "alice", "alice", "USD", "1"), "between two accounts"),
        (("account", "set", "x", "alice"), "nothing to set"),
        (("account", "set", "x", "alice", "--state", "asleep"), "one of active, cancel_only"),
        (("account", "set", "x", "alice", "--tier", "11"), "0 to 9"),
        (("market", "set", "x", "BTC/USD", "--band-up", "5"), "bands are set together"),
        (("market", "set", "x", "XRP/USD", "--state", "open"), "no such market"),
        (("fees", "set", "x", "3", "--maker", "50000", "--taker", "0"), "maker_fee_ppm"),
        (("order", "cancel", "x"), "say what to cancel"),
        (("order", "cancel", "x", "41", "--all", "--account", "alice"), "one of them"),
        (("order", "cancel", "x", "--all"), "need --account"),
        (("order", "cancel", "x", "41", "--side", "buy"), "go with --all"),
        (("order", "cancel", "x", "--client-order-id", "a b", "--account", "1"), "client order id"),
        (("order", "cancel", "x", "99"), "no open order has this id: order=99"),
        (("order", "show", "x", "99"), "no open order has this id: order=99"),
        (("book", "x", "BTC/USD", "-n", "21"), r"allowed=1..20"),
        (("book", "x", "BTC/USD", "--watch", "--interval", "0"), "too often"),
    ],
)
def test_what_cannot_be_meant_is_an_error_and_sends_nothing(
    desk: Desk, arguments: tuple[str, ...], text: str
) -> None:
    status, out, err = desk.run(*arguments)
    assert (status, out) == (1, "")
    assert text in err
    assert desk.session.sent == []


# ---- accounts, markets, fees


def test_an_account_is_set(desk: Desk) -> None:
    desk.session.answer(EventKind.DONE)
    out = desk.good(
        "account", "set", "demo", "alice", "--state", "cancel-only", "--tier", "by-volume",
        "--cancel-orders", "--note", "court order",
    )  # fmt: skip
    assert out.startswith("Account alice is set. Log record 55, 1970-01-01T")
    assert desk.sent(RULES_RECORD) == {
        "kind": Kind.SET_ACCOUNT, "account": 1, "state": AccountState.CANCEL_ONLY, "tier": 255,
        "rules": Rule.STATE | Rule.TIER | Rule.CANCEL, "note": b"court order",
    }  # fmt: skip


def test_a_market_is_set(desk: Desk) -> None:
    desk.session.answer(EventKind.DONE)
    options = {
        "--state": "halted", "--min-notional": "10", "--reference-price": "100.5",
        "--band-up": "500", "--band-down": "0", "--protection": "100", "--account-orders": "0",
    }  # fmt: skip
    words = [word for pair in options.items() for word in pair]
    out = desk.good("market", "set", "demo", "BTC/USD", *words, "--json")
    assert json.loads(out) == {"sequence": 55, "time": "1970-01-01T00:00:00.000000000Z"}
    assert desk.sent(RULES_RECORD) == {
        "kind": Kind.SET_MARKET, "market": 3, "state": MarketState.HALTED, "amount": 1000,
        "reference_ticks": 10050, "band_up_bips": 500, "protection_bips": 100,
        "rules": 0b1111101,
    }  # fmt: skip


def test_fees_and_tiers_are_set(desk: Desk) -> None:
    desk.session.answer(EventKind.DONE)
    command = ("fees", "set", "demo", "3", "--maker", "-50", "--taker", "400")
    out = desk.good(*command, "--market", "BTC/USD")
    assert out.startswith("Rates of tier 3 are set in BTC/USD.")
    assert desk.sent(RULES_RECORD) == {
        "kind": Kind.SET_FEES, "tier": 3, "market": 3, "maker_fee_ppm": -50, "taker_fee_ppm": 400,
    }  # fmt: skip
    desk.session.sent.clear()
    desk.session.answer(EventKind.DONE)
    out = desk.good("fees", "tier", "demo", "3", "1000000", "USD")
    assert out.startswith("Tier 3 begins at 1,000,000 USD.")
    assert desk.sent(RULES_RECORD) == {
        "kind": Kind.SET_TIER, "tier": 3, "amount": 1_000_000, "asset": 1,
    }  # fmt: skip


def test_accounts_and_markets_are_listed(desk: Desk) -> None:
    lines = [line.split() for line in desk.good("account", "list", "demo").splitlines()]
    assert lines[-1] == ["3", "alice.algo", "alice"]
    assert json.loads(desk.good("account", "list", "demo", "--json")) == ACCOUNTS
    lines = [line.split() for line in desk.good("market", "list", "demo").splitlines()]
    assert lines[1] == [
        "3", "BTC/USD", "cancel-only", "0.01", "0.0001", "99.90", "100.10", "100.00", "4",
        "5.00", "+70", "-0", "1000", "-", "2",
    ]  # fmt: skip
    (market,) = json.loads(desk.good("market", "list", "demo", "--json"))
    assert (market["base"], market["quote"], market["bid"]) == ("BTC", "USD", "99.90")
    assert (market["band_up"], market["band_down"], market["own_fees"]) == (70, None, True)
    lines = [line.split() for line in desk.good("asset", "list", "demo").splitlines()]
    assert lines[1:] == [["1", "USD", "2", "10.50"], ["2", "BTC", "8", "0.00000000"]]
    assert json.loads(desk.good("asset", "list", "demo", "--json"))[0]["supply"] == "10.50"


def test_an_account_is_shown(desk: Desk) -> None:
    out = desk.good("account", "show", "demo", "alice")
    assert out.startswith("Account 1, alice: 1 open orders.\n")
    assert out.splitlines()[-1].split() == ["USD", "10.50", "0.25"]
    assert json.loads(desk.good("account", "show", "demo", "3", "--json")) == {
        "account": 3, "name": "alice.algo", "balances": {}, "open_orders": 0,
    }  # fmt: skip


# ---- what there is


ADD = ("market", "add", "demo", "ETH/USD", "--base", "BTC", "--quote", "USD", "--tick", "0.5")


def defined(desk: Desk, dtype: np.dtype[Any]) -> dict[str, Any]:
    """The fields of the definition that was sent which are not zero."""
    ((record,),) = [record.view(dtype) for record, _ in desk.connection.defined]
    names = record.dtype.names or ()
    return {name: record[name].item() for name in names if np.any(record[name])}


def test_a_market_is_defined_as_a_table_of_the_configuration_would_be(desk: Desk) -> None:
    limits = ("--max-price", "1000", "--min-quantity", "0.2", "--max-quantity", "50")
    steps = ("--price-step", "2", "--quantity-step", "3", "--max-orders", "1000")
    out = desk.good(
        *ADD, "--lot", "0.1", *limits, *steps, "--max-specials", "100", "--matcher", "1"
    )
    assert out == "Market ETH/USD is added and can be traded. Number 7, log record 4,711.\n"
    assert defined(desk, MARKET_RECORD) == {
        "kind": Kind.ADD_MARKET, "specials": 8, "lot_units": 10**7, "notional_units": 5,
        "max_price_ticks": 2000, "min_quantity_lots": 2, "max_quantity_lots": 500, "base_asset": 2,
        "quote_asset": 1, "price_step_ticks": 2, "quantity_step_lots": 3, "tick_mantissa": 5,
        "tick_scale": 1, "max_orders": 1000, "symbol": b"ETH/USD",
    }  # fmt: skip
    assert desk.connection.defined[0][1] == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--lot", "x"), '--lot is not a decimal number: "x"; allowed: a decimal number above 0'),
        (("--lot", "0.000000001"), "--lot is too fine: lot_size = 0.000000001 BTC"),
        (("--lot", "0.001"), "--tick is too fine: tick_size * lot_size = 0.0005 USD"),
        (("--lot", "1", "--base", "XRP"), '--base is no asset: "XRP"; allowed: USD, BTC'),
        (("--lot", "1", "--quote", "BTC"), "--quote is the base asset too"),
        (("--lot", "1", "--max-price", "0.7"), "--max-price is no multiple of tick_size"),
        (("--lot", "1", "--max-orders", "0"), "--max-orders is out of range: 0"),
        (("--lot", "1", "--id", "0"), "--id is out of range: 0"),
    ],
)
def test_a_market_that_cannot_be_is_not_sent(
    desk: Desk, options: tuple[str, ...], text: str
) -> None:
    status, _, err = desk.run(*ADD, *options)
    assert status == 1 and text in err
    assert desk.connection.defined == []


def test_assets_and_accounts_are_defined(desk: Desk) -> None:
    out = json.loads(desk.good("asset", "add", "demo", "SOL", "--scale", "9", "--json"))
    assert out == {"number": 7, "sequence": 4711}
    assert defined(desk, NAMED_RECORD) == {"kind": Kind.ADD_ASSET, "name": b"SOL", "scale": 9}
    desk.connection.defined.clear()
    desk.good("account", "add", "demo", "carol", "--id", "12", "--parent", "alice")
    assert defined(desk, NAMED_RECORD) == {
        "kind": Kind.ADD_ACCOUNT, "name": b"carol", "account": 12, "parent": 1,
    }  # fmt: skip
    for wrong in (("asset", "add", "demo", "a b", "--scale", "9"),
                  ("asset", "add", "demo", "SOL", "--scale", "19"),
                  ("account", "add", "demo", "carol", "--id", "0"),
                  ("account", "add", "demo", "carol", "--parent", "nobody")):  # fmt: skip
        status, _, err = desk.run(*wrong)
        assert status == 1 and ("allowed" in err or "no such account" in err)
    assert len(desk.connection.defined) == 1


def test_what_is_removed_is_named(desk: Desk) -> None:
    assert desk.good("market", "remove", "demo", "BTC/USD").startswith("Market BTC/USD is removed.")
    assert defined(desk, NAMED_RECORD) == {"kind": Kind.REMOVE_MARKET, "name": b"BTC/USD"}
    desk.connection.defined.clear()
    desk.good("asset", "remove", "demo", "BTC")
    assert defined(desk, NAMED_RECORD) == {"kind": Kind.REMOVE_ASSET, "name": b"BTC"}
    status, _, err = desk.run("market", "remove", "demo", "x" * 24)
    assert status == 1 and "no market can be called so" in err


# ---- orders and the book


def test_open_orders_are_listed(desk: Desk) -> None:
    options = ("--account", "alice", "--market", "BTC/USD")
    lines = [line.split() for line in desk.good("order", "list", "demo", *options).splitlines()]
    assert lines[1:] == [
        ["41", "alice", "BTC/USD", "sell", "stop-loss-limit", "stop-1", "90.00", "91.00",
         "1.5000", "0.0000", "1.5000"],
    ]  # fmt: skip
    assert desk.connection.asked == [(1, 3)]
    rows = json.loads(desk.good("order", "list", "demo", "--json"))
    assert [row["order_id"] for row in rows] == [41, 42]
    assert rows[0]["hold"] == "1.50000000 BTC" and rows[1]["hold"] == "123.45 USD"
    assert rows[1]["trigger"] is None


def test_an_order_is_shown(desk: Desk) -> None:
    out = desk.good("order", "show", "demo", "41")
    assert "hold             1.50000000 BTC" in out
    assert "time in force    gtc" in out
    assert json.loads(desk.good("order", "show", "demo", "41", "--json"))["trailing_bips"] == 0


def test_an_order_is_canceled_for_the_account_that_it_belongs_to(desk: Desk) -> None:
    canceled = {"account": 2, "market": 3, "order_id": 42, "quantity_lots": 15000}
    desk.session.answer(EventKind.CANCELED, **canceled)
    out = desk.good("order", "cancel", "demo", "42")
    assert out == "Order 42 is canceled: 1.5000 were open. Log record 55.\n"
    assert desk.sent(COMMAND) == {"kind": Kind.CANCEL_ORDER, "order_id": 42, "account": 2}


def test_an_order_is_canceled_by_its_client_order_id(desk: Desk) -> None:
    canceled = {"account": 1, "market": 3, "order_id": 41, "quantity_lots": 15000}
    desk.session.answer(EventKind.CANCELED, **canceled)
    command = ("order", "cancel", "demo", "--client-order-id", "stop-1", "--account", "alice")
    out = desk.good(*command, "--json")
    assert json.loads(out) == {"sequence": 55, "order_id": 41, "canceled": "1.5000"}
    expected = {"kind": Kind.CANCEL_ORDER, "account": 1, "client_order_id": b"stop-1"}
    assert desk.sent(COMMAND) == expected


def test_all_orders_of_an_account_are_canceled(desk: Desk) -> None:
    desk.session.answer(EventKind.DONE)
    options = ("--all", "--account", "alice", "--market", "BTC/USD", "--side", "sell")
    out = desk.good("order", "cancel", "demo", *options)
    assert out.startswith("The exchange cancels all sell orders of alice in BTC/USD.")
    assert desk.sent(COMMAND) == {
        "kind": Kind.MASS_CANCEL, "account": 1, "market": 3, "side": Side.SELL,
    }  # fmt: skip


def test_a_book_is_drawn_with_bars(desk: Desk) -> None:
    lines = desk.good("book", "demo", "BTC/USD").splitlines()
    assert lines[0] == "BTC/USD: last 100.00, 4 trades, update 17"
    assert [line.split()[:2] for line in lines[2:]] == [
        ["100.10", "2.0000"], ["spread", "0.20"], ["99.90", "1.0000"], ["99.80", "4.0000"],
    ]  # fmt: skip
    assert [line.count("█") for line in lines[2:]] == [20, 0, 10, 40]


def test_a_book_is_values_in_json(desk: Desk) -> None:
    assert json.loads(desk.good("book", "demo", "BTC/USD", "-n", "1", "--json")) == {
        "symbol": "BTC/USD", "update": 17, "sequence": 30, "trades": 4, "last": "100.00",
        "bids": [["99.90", "1.0000"]], "asks": [["100.10", "2.0000"]],
    }  # fmt: skip


def test_books_with_empty_sides_are_drawn() -> None:
    from rich.console import Console

    market, none = Connection().made, np.empty(0, LEVEL)
    some = np.array([(10000, 1)], LEVEL)
    cases = ((none, none, "is empty"), (some, none, "no asks"), (none, some, "no bids"))
    for bids, asks, text in cases:
        console = Console(width=80, record=True, file=io.StringIO())
        console.print(orderview.draw(Top(0, 0, 0, 0, 0, bids, asks), market, 5))
        assert text in console.export_text()


def test_bars_have_eighths_and_none_is_empty() -> None:
    bars = [orderview.bar(quantity, 320) for quantity in (1, 4, 8, 12, 320)]
    assert bars == ["▏", "▌", "█", "█▌", "█" * 40]
    assert orderview.bar(1, 2**62) == "▏"
