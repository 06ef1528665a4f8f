"""What a session writes into its command ring for each call, and what it refuses to write."""

import mmap
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from matchbox.core.instrument import market_record
from matchbox.shm.errors import BadArgument, RingFull
from matchbox.shm.market import Asset, Market
from matchbox.shm.records import (
    COMMAND,
    LIST_RECORD,
    MAX_ASSET_UNITS,
    MONEY_RECORD,
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
from matchbox.shm.ring import Ring, ring_bytes
from matchbox.shm.session import Session

USD, BTC = Asset(1, "USD", 2), Asset(2, "BTC", 8)
SLOTS = 8
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
NOON_NS = 1_795_521_600 * 10**9


class Connection:
    """Knows one market: ticks of 0.01 USD, lots of 0.0001 BTC."""

    def __init__(self) -> None:
        record = market_record(
            3, symbol="BTC/USD", lot_units=10**4, tick_mantissa=1, tick_scale=2,
            base_asset=2, quote_asset=1,
        )  # fmt: skip
        self.made = Market.from_record(record, "BTC", 8, "USD", 2)

    def market(self, market: Market | str | int) -> Market:
        assert market in ("BTC/USD", 3, self.made)
        return self.made

    def asset(self, asset: Asset | str | int) -> Asset:
        for known in (USD, BTC):
            if asset in (known, known.name, known.number):
                return known
        raise BadArgument(f"no such asset: asset={asset!r}")

    def balances(self, account: int) -> dict[str, tuple[Decimal, Decimal]]:
        return {"USD": (Decimal(account), Decimal(0))}

    def orders(self, account: int, market: int) -> list[dict[str, Any]]:
        return [{"account": account, "market": market}]


class Desk:
    """A session whose command ring nobody reads."""

    def __init__(self, account: int = 7) -> None:
        shape: dict[str, Any] = {"capacity": SLOTS, "shape": "session"}
        self.ring = Ring.create(mmap.mmap(-1, ring_bytes(SLOTS)), readers=1, **shape)
        reports = Ring.create(mmap.mmap(-1, ring_bytes(SLOTS)), readers=0, **shape)
        self.session = Session(
            Connection(), self.ring, reports, number=1, name="desk", account=account
        )

    def sent(self, dtype: np.dtype[Any] = COMMAND) -> Any:
        """The last command."""
        return self.ring.peek(self.ring.produced - 1, 1, dtype)[0]

    def all_sent(self) -> Any:
        return self.ring.peek(0, self.ring.produced, COMMAND)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def says(record: Any, **expected: Any) -> None:
    """The record has these fields, and nothing else is set."""
    wanted = np.zeros((), record.dtype)
    for name, value in expected.items():
        wanted[name] = value
    assert record.tobytes() == wanted.tobytes(), (record, wanted)


# ---- orders


def test_a_plain_order_is_one_command(desk: Desk) -> None:
    assert desk.session.buy("BTC/USD", "0.5", "100.01", client_order_id="a") == 1
    says(
        desk.sent(NEW_ORDER),
        kind=Kind.NEW_ORDER, market=3, side=Side.BUY, order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTC, price_ticks=10001, quantity_lots=5000, client_order_id=b"a",
    )  # fmt: skip


def test_a_market_order_can_be_by_quote_amount(desk: Desk) -> None:
    desk.session.buy("BTC/USD", quote_amount="25.50")
    says(
        desk.sent(NEW_ORDER),
        kind=Kind.NEW_ORDER, market=3, side=Side.BUY, order_type=OrderType.MARKET,
        time_in_force=TimeInForce.IOC, quantity_lots=2550, flags=Flag.QUOTE_AMOUNT,
    )  # fmt: skip
    desk.session.sell("BTC/USD", quote_units=99)
    assert desk.sent()["quantity_lots"] == 99


@pytest.mark.parametrize(
    ("order_type", "price", "kind", "time_in_force"),
    [
        ("stop_loss", None, OrderType.STOP_LOSS, TimeInForce.IOC),
        ("take_profit", None, OrderType.TAKE_PROFIT, TimeInForce.IOC),
        ("stop_loss_limit", "90", OrderType.STOP_LOSS_LIMIT, TimeInForce.GTC),
        ("take_profit_limit", "90", OrderType.TAKE_PROFIT_LIMIT, TimeInForce.GTC),
    ],
)
def test_orders_that_wait_have_a_trigger(
    desk: Desk, order_type: str, price: str | None, kind: OrderType, time_in_force: TimeInForce
) -> None:
    desk.session.sell("BTC/USD", "1", price, order_type=order_type, trigger="91.5")
    record = desk.sent(NEW_ORDER)
    assert (record["order_type"], record["time_in_force"]) == (kind, time_in_force)
    assert (record["trigger_ticks"], record["trailing_bips"]) == (9150, 0)
    assert record["price_ticks"] == (9000 if price else 0)
    desk.session.sell("BTC/USD", "1", price, order_type=order_type, trailing_bips=150)
    record = desk.sent(NEW_ORDER)
    assert (record["trigger_ticks"], record["trailing_bips"]) == (0, 150)


@pytest.mark.parametrize(
    ("name", "mode"),
    [("none", 0), *[(m.name.lower(), m) for m in SelfTrade if m]],
)
def test_each_mode_of_self_trade_prevention_has_a_name(desk: Desk, name: str, mode: int) -> None:
    desk.session.buy("BTC/USD", "1", "1", self_trade=name)
    assert desk.sent(NEW_ORDER)["self_trade"] == mode


def test_an_order_with_terms_is_two_commands_sent_at_once(desk: Desk) -> None:
    position = desk.session.order(
        "BTC/USD", "sell", "1", "100", display="0.25", expire=NOON, account=9
    )
    assert (position, desk.session.sent) == (2, 2)
    terms, order = desk.all_sent()
    says(
        terms.view(TERMS_RECORD),
        kind=Kind.ORDER_TERMS, market=3, account=9, display_lots=2500, expire_ns=NOON_NS,
    )  # fmt: skip
    says(
        order.view(NEW_ORDER),
        kind=Kind.NEW_ORDER, market=3, account=9, side=Side.SELL, order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTD, price_ticks=10000, quantity_lots=10000,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("when", "nanoseconds"),
    [
        (NOON, NOON_NS),
        (NOON + timedelta(microseconds=1), NOON_NS + 1000),
        (NOON.astimezone(timezone(timedelta(hours=5))), NOON_NS),
        (NOON_NS + 7, NOON_NS + 7),
        (np.int64(NOON_NS), NOON_NS),
    ],
)
def test_an_expiry_is_exact(desk: Desk, when: Any, nanoseconds: int) -> None:
    desk.session.buy("BTC/USD", "1", "1", expire=when)
    assert desk.all_sent()[0].view(TERMS_RECORD)["expire_ns"] == nanoseconds


def test_two_commands_are_sent_whole_or_not_at_all(desk: Desk) -> None:
    for _ in range(SLOTS - 1):
        desk.session.buy("BTC/USD", "1", "1")
    with pytest.raises(RingFull, match="free=1, wanted=2"):
        desk.session.buy("BTC/USD", "1", "1", display="0.5")
    assert desk.session.sent == SLOTS - 1
    desk.session.buy("BTC/USD", "1", "1")


def test_two_commands_go_round_the_end_of_the_ring() -> None:
    desk = Desk()
    reader = np.frombuffer(desk.ring.buffer, np.uint64)
    for _ in range(SLOTS - 1):
        desk.session.buy("BTC/USD", "1", "1")
    reader[256 // 8] = SLOTS - 1  # the engine has taken them
    assert desk.session.buy("BTC/USD", "1", "1", display="0.5") == SLOTS + 1
    kinds = desk.ring.peek(SLOTS - 1, 2, COMMAND)["kind"].tolist()
    assert kinds == [Kind.ORDER_TERMS, Kind.NEW_ORDER]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"order_type": "iceberg", "price": "1"}, "one of limit, market, stop_loss"),
        ({"order_type": 5, "price": "1"}, "order_type must be one of"),
        ({"order_type": "limit"}, "limit has a price"),
        ({"order_type": "market", "price": "1"}, "market has no price"),
        ({"order_type": "stop_loss"}, "needs trigger, trigger_ticks or trailing_bips"),
        ({"order_type": "stop_loss", "trigger": "1", "trigger_ticks": 1}, "not both"),
        ({"order_type": "stop_loss", "trigger": "1.001"}, "tick_size"),
        ({"price": "1", "trigger": "1"}, "does not wait for a trigger"),
        ({"price": "1", "trailing_bips": 5}, "does not wait for a trigger"),
        ({"order_type": "stop_loss", "trailing_bips": 2**16}, "trailing_bips is out of range"),
        ({"price": "1", "self_trade": "maybe"}, "self_trade must be one of none, expire_taker"),
        ({"price": "1", "time_in_force": "GTD"}, "GTD with expire"),
        ({"price": "1", "time_in_force": "IOC", "expire": NOON}, "expire goes with GTD"),
        ({"price": "1", "expire": datetime(2026, 11, 24)}, "time zone"),  # noqa: DTZ001
        ({"price": "1", "expire": "noon"}, "expire must be an integer"),
        ({"price": "1", "expire": -1}, "expire is out of range"),
        ({"price": "1", "display": "0.00001"}, "lot_size"),
        ({"price": "1", "display": "1", "display_lots": 1}, "not both"),
        ({"quote_amount": "5"}, "not both"),
        ({"quantity": None, "quote_amount": "5", "quote_units": 5}, "not both"),
        ({"quantity": None, "quote_amount": "5", "price": "1"}, "only a market order"),
        ({"quantity": None, "quote_amount": "5.001"}, "smallest unit of USD"),
        ({"quantity": None, "quote_amount": 0.5}, "never a float"),
        ({"quantity": None, "quote_units": 0}, "above 0"),
        ({"price": "1", "client_order_id": "a b", "display": "0.5"}, "printable"),
    ],
)
def test_an_order_that_cannot_be_meant_is_refused_and_nothing_is_sent(
    desk: Desk, arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(BadArgument, match=text):
        desk.session.order("BTC/USD", "buy", **({"quantity": "1"} | arguments))
    assert desk.session.sent == 0


# ---- records that go together

PROFIT, STOP = {"price": "110"}, {"trigger": "90"}
WORKING: dict[str, Any] = {"side": "buy", "quantity": "1", "price": "100"}


def test_a_replacement_is_a_cancel_and_an_order_sent_at_once(desk: Desk) -> None:
    position = desk.session.replace(12, "BTC/USD", "buy", "1", "100", client_order_id="b")
    assert (position, desk.session.sent) == (2, 2)
    cancel, order = desk.all_sent()
    says(cancel, kind=Kind.CANCEL_ORDER, order_id=12, market=3, flags=Flag.REPLACE)
    says(
        order.view(NEW_ORDER),
        kind=Kind.NEW_ORDER, market=3, side=Side.BUY, order_type=OrderType.LIMIT, flags=Flag.LEG,
        time_in_force=TimeInForce.GTC, price_ticks=10000, quantity_lots=10000,
        client_order_id=b"b",
    )  # fmt: skip


def test_a_replacement_with_all_that_it_can_have(desk: Desk) -> None:
    position = desk.session.replace(
        0, "BTC/USD", "sell", "1", "100", canceled_client_order_id="a", allow_failure=True,
        display="0.5", post_only=True, account=4,
    )  # fmt: skip
    assert position == 3
    cancel, terms, order = desk.all_sent()
    says(
        cancel,
        kind=Kind.CANCEL_ORDER, market=3, account=4, client_order_id=b"a",
        flags=Flag.REPLACE | Flag.ALLOW_FAILURE,
    )  # fmt: skip
    says(terms.view(TERMS_RECORD), kind=Kind.ORDER_TERMS, market=3, account=4, display_lots=5000)
    assert order["flags"] == Flag.LEG | Flag.POST_ONLY
    assert order["account"] == 4


def test_one_cancels_the_other(desk: Desk) -> None:
    position = desk.session.oco(
        "BTC/USD", "sell", "1", account=4, client_list_id="mine",
        profit=PROFIT | {"display": "0.5", "expire": NOON, "client_order_id": "p"},
        stop=STOP | {"self_trade": "expire_both"},
    )  # fmt: skip
    assert (position, desk.session.sent) == (1, 3)
    head, profit, stop = desk.all_sent()
    says(
        head.view(LIST_RECORD),
        kind=Kind.ORDER_LIST, market=3, account=4, list_type=ListType.OCO, expire_ns=NOON_NS,
        display_lots=[5000, 0, 0], client_list_id=b"mine",
    )  # fmt: skip
    both = {"kind": Kind.NEW_ORDER, "market": 3, "account": 4, "side": Side.SELL}
    both["quantity_lots"] = 10000
    says(
        profit.view(NEW_ORDER), **both,
        order_type=OrderType.LIMIT, time_in_force=TimeInForce.GTD, price_ticks=11000,
        flags=Flag.LEG | Flag.POST_ONLY, client_order_id=b"p",
    )  # fmt: skip
    says(
        stop.view(NEW_ORDER), **both,
        order_type=OrderType.STOP_LOSS, time_in_force=TimeInForce.IOC, trigger_ticks=9000,
        flags=Flag.LEG, self_trade=SelfTrade.EXPIRE_BOTH,
    )  # fmt: skip


def test_the_types_of_a_pair_follow_from_what_is_given(desk: Desk) -> None:
    desk.session.oco(
        "BTC/USD", "buy", quantity_lots=7,
        profit={"trigger_ticks": 90, "price_ticks": 91}, stop={"trailing_bips": 50, "price": "1.1"},
    )  # fmt: skip
    _, profit, stop = desk.all_sent()
    assert profit["order_type"] == OrderType.TAKE_PROFIT_LIMIT
    assert (profit["trigger_ticks"], profit["price_ticks"]) == (90, 91)
    assert stop["order_type"] == OrderType.STOP_LOSS_LIMIT
    assert (stop.view(NEW_ORDER)["trailing_bips"], stop["price_ticks"]) == (50, 110)
    assert (profit["quantity_lots"], stop["quantity_lots"]) == (7, 7)


def test_one_triggers_another(desk: Desk) -> None:
    pending = {"side": "sell", "quantity": "2", "order_type": "stop_loss", "trigger": "90"}
    assert desk.session.oto("BTC/USD", working=WORKING, pending=pending) == 1
    head, working, waits = desk.all_sent()
    says(head.view(LIST_RECORD), kind=Kind.ORDER_LIST, market=3, list_type=ListType.OTO)
    assert (working["side"], working["price_ticks"], working["flags"]) == (
        Side.BUY,
        10000,
        Flag.LEG,
    )
    assert (waits["side"], waits["trigger_ticks"], waits["flags"]) == (Side.SELL, 9000, Flag.LEG)


def test_one_triggers_a_pair_of_the_other_side(desk: Desk) -> None:
    assert desk.session.otoco("BTC/USD", working=WORKING, profit=PROFIT, stop=STOP) == 1
    head, *legs = desk.all_sent()
    says(head.view(LIST_RECORD), kind=Kind.ORDER_LIST, market=3, list_type=ListType.OTOCO)
    assert [int(leg["side"]) for leg in legs] == [Side.BUY, Side.SELL, Side.SELL]
    assert [int(leg["quantity_lots"]) for leg in legs] == [10000] * 3
    desk.session.otoco(
        "BTC/USD", working=WORKING, profit=PROFIT, stop=STOP, side="buy", quantity="0.5"
    )
    legs = desk.all_sent()[5:]
    assert [int(leg["side"]) for leg in legs] == [Side.BUY] * 3
    assert [int(leg["quantity_lots"]) for leg in legs] == [10000, 5000, 5000]


@pytest.mark.parametrize(
    ("call", "arguments", "text"),
    [
        ("replace", {"order_id": 0, "side": "buy"}, "name the order to cancel"),
        ("replace", {"order_id": -1, "side": "buy"}, "order_id is out of range"),
        ("replace", {"order_id": 1, "side": "up", "quantity": "1"}, "side must be one of"),
        ("replace", {"order_id": 1, "side": "buy", "price": "1"}, "give quantity"),
        ("oco", {"profit": PROFIT, "stop": STOP}, "give quantity"),
        ("oco", {"quantity": "1", "profit": {}, "stop": STOP}, "profit needs price or trigger"),
        ("oco", {"quantity": "1", "profit": PROFIT, "stop": {}}, "needs trigger"),
        ("oco", {"quantity": "1", "profit": PROFIT, "stop": {"price": "90"}}, "needs trigger"),
        ("oco", {"quantity": "1", "profit": "110", "stop": STOP}, "profit must be a dict"),
        ("oco", {"quantity": "1", "profit": {"prize": 1}, "stop": STOP}, "no such option"),
        ("oco", {"quantity": "1", "profit": PROFIT | {"side": "buy"}, "stop": STOP}, "no such"),
        ("oco", {"quantity": "1", "profit": PROFIT, "stop": STOP | {"account": 1}}, "no such"),
        (
            "oco",
            {
                "quantity": "1",
                "profit": PROFIT | {"expire": NOON},
                "stop": STOP | {"price": "89", "expire": NOON_NS + 1},
            },
            "expire at one time",
        ),
        ("oco", {"quantity": "1", "profit": PROFIT, "stop": STOP, "client_list_id": "a b"}, "prin"),
        ("oco", {"quantity": "1", "profit": PROFIT, "stop": STOP, "account": -1}, "out of range"),
        ("oto", {"working": WORKING, "pending": {}}, "pending needs side"),
        ("oto", {"working": WORKING, "pending": None}, "pending must be a dict"),
        ("oto", {"working": WORKING, "pending": WORKING | {"market": 3}}, "no such option"),
        ("otoco", {"working": {}, "profit": PROFIT, "stop": STOP}, "working needs side"),
        ("otoco", {"working": WORKING, "profit": PROFIT, "stop": {"trigger": 0.5}}, "float"),
    ],
)
def test_a_group_that_cannot_be_meant_is_refused_and_nothing_is_sent(
    desk: Desk, call: str, arguments: dict[str, Any], text: str
) -> None:
    if call == "oco":
        arguments = {"side": "sell"} | arguments
    with pytest.raises(BadArgument, match=text):
        getattr(desk.session, call)(market="BTC/USD", **arguments)
    assert desk.session.sent == 0
    # And single orders are sent as ever.
    assert desk.session.buy("BTC/USD", "1", "1") == 1


def test_groups_are_sent_whole_or_not_at_all(desk: Desk) -> None:
    for _ in range(SLOTS - 3):
        desk.session.buy("BTC/USD", "1", "1")
    with pytest.raises(RingFull, match="free=3, wanted=4"):
        desk.session.otoco("BTC/USD", working=WORKING, profit=PROFIT, stop=STOP)
    assert desk.session.sent == SLOTS - 3
    desk.session.oco("BTC/USD", "sell", "1", profit=PROFIT, stop=STOP)
    with pytest.raises(RingFull):
        desk.session.replace(1, "BTC/USD", "buy", "1", "1")
    assert desk.session.sent == SLOTS


def test_mass_cancel_and_countdown(desk: Desk) -> None:
    desk.session.mass_cancel()
    says(desk.sent(), kind=Kind.MASS_CANCEL)
    desk.session.mass_cancel("BTC/USD", "sell", account=4)
    says(desk.sent(), kind=Kind.MASS_CANCEL, market=3, side=Side.SELL, account=4)
    desk.session.countdown(5000)
    says(desk.sent(), kind=Kind.COUNTDOWN, quantity_lots=5000)
    desk.session.countdown(0, account=4)
    says(desk.sent(), kind=Kind.COUNTDOWN, account=4)


# ---- money


def test_records_that_move_money(desk: Desk) -> None:
    session = desk.session
    session.deposit(7, "USD", "12.34", "wire-1", "by hand")
    amount = {"asset": 1, "amount": 1234, "reference": b"wire-1"}
    says(desk.sent(MONEY_RECORD), kind=Kind.DEPOSIT, account=7, note=b"by hand", **amount)
    session.request_withdrawal("USD", "12.34", "wire-1")
    says(desk.sent(MONEY_RECORD), kind=Kind.REQUEST_WITHDRAWAL, **amount)
    session.settle_withdrawal(7, "wire-1")
    says(desk.sent(MONEY_RECORD), kind=Kind.SETTLE_WITHDRAWAL, account=7, reference=b"wire-1")
    session.cancel_withdrawal("wire-1")
    says(desk.sent(MONEY_RECORD), kind=Kind.CANCEL_WITHDRAWAL, reference=b"wire-1")
    session.transfer(8, BTC, Decimal("0.5"), account=7)
    moved = {"account": 7, "counter_account": 8, "asset": 2, "amount": 50_000_000}
    says(desk.sent(MONEY_RECORD), kind=Kind.TRANSFER, **moved)
    session.transfer(8, 2, amount_units=50_000_000, account=7, reference="t")
    says(desk.sent(MONEY_RECORD), kind=Kind.TRANSFER, reference=b"t", **moved)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"amount": "0"}, "above 0"),
        ({"amount": "-1"}, "above 0"),
        ({"amount": "1.001"}, "amount is not a multiple of the smallest unit of USD"),
        ({"amount": 1.5}, "never a float"),
        ({"amount": "much"}, "not a number"),
        ({"amount": "NaN"}, "not a number"),
        ({"amount": "1", "amount_units": 100}, "one of them"),
        ({}, "one of them"),
        ({"amount_units": 0}, "above 0"),
        ({"amount_units": MAX_ASSET_UNITS + 1}, "above 0"),
        ({"amount_units": 1.0}, "amount_units must be an integer"),
        ({"amount": "1", "asset": "XRP"}, "no such asset"),
        ({"amount": "1", "reference": ""}, "1 to 36 printable"),
        ({"amount": "1", "reference": "a b"}, "without blanks"),
        ({"amount": "1", "reference": "x" * 37}, "1 to 36"),
        ({"amount": "1", "reference": b"x"}, "must be a str"),
        ({"amount": "1", "note": "x" * 25}, "up to 24 printable"),
        ({"amount": "1", "note": "a\nb"}, "printable ASCII"),
        ({"amount": "1", "account": -1}, "account is out of range"),
    ],
)
def test_money_that_cannot_be_meant_is_refused_and_nothing_is_sent(
    desk: Desk, arguments: dict[str, Any], text: str
) -> None:
    call = {"account": 7, "asset": "USD", "reference": "wire-1"} | arguments
    with pytest.raises(BadArgument, match=text):
        desk.session.deposit(**call)
    assert desk.session.sent == 0


def test_a_transfer_is_between_two_accounts(desk: Desk) -> None:
    with pytest.raises(BadArgument, match="between two accounts"):
        desk.session.transfer(7, "USD", "1", account=7)
    with pytest.raises(BadArgument, match="to is out of range"):
        desk.session.transfer(0, "USD", "1", account=7)
    assert desk.session.sent == 0


def test_amounts_are_converted_both_ways_exactly() -> None:
    assert Asset(1, "WEI", 18).units("1.000000000000000001") == 10**18 + 1
    assert str(USD.amount(1234)) == "12.34"
    assert Asset(1, "YEN", 0).units(7) == 7
    with pytest.raises(BadArgument, match="smallest unit of YEN"):
        Asset(1, "YEN", 0).units("0.5")


# ---- rules


def test_records_that_set_rules(desk: Desk) -> None:
    session = desk.session
    session.set_account(7, state="cancel_only", tier="by_volume", cancel_orders=True, note="why")
    says(
        desk.sent(RULES_RECORD),
        kind=Kind.SET_ACCOUNT, account=7, state=AccountState.CANCEL_ONLY, tier=TIER_BY_VOLUME,
        rules=Rule.STATE | Rule.TIER | Rule.CANCEL, note=b"why",
    )  # fmt: skip
    session.set_account(7, tier=0)
    says(desk.sent(RULES_RECORD), kind=Kind.SET_ACCOUNT, account=7, rules=Rule.TIER)
    session.set_market(
        "BTC/USD", state="post_only", min_notional="10", reference_price="100.01", band_up_bips=500,
        band_down_bips=0, protection_bips=100, account_orders=20,
    )  # fmt: skip
    says(
        desk.sent(RULES_RECORD),
        kind=Kind.SET_MARKET, market=3, state=MarketState.POST_ONLY, amount=1000,
        reference_ticks=10001, band_up_bips=500, protection_bips=100, account_orders=20,
        rules=0b1111101,
    )  # fmt: skip
    session.set_market(3, min_notional="0", cancel_orders=True)
    says(desk.sent(RULES_RECORD), kind=Kind.SET_MARKET, market=3, rules=Rule.NOTIONAL | Rule.CANCEL)
    session.set_fees(2, maker_fee_ppm=-50, taker_fee_ppm=400, market="BTC/USD")
    rates = {"tier": 2, "maker_fee_ppm": -50, "taker_fee_ppm": 400}
    says(desk.sent(RULES_RECORD), kind=Kind.SET_FEES, market=3, **rates)
    session.set_fees(2, maker_fee_ppm=-50, taker_fee_ppm=400)
    says(desk.sent(RULES_RECORD), kind=Kind.SET_FEES, **rates)
    session.set_tier(3, 1_000_000, "USD")
    says(desk.sent(RULES_RECORD), kind=Kind.SET_TIER, tier=3, amount=1_000_000, asset=1)


@pytest.mark.parametrize(
    ("call", "arguments", "text"),
    [
        ("set_account", {"account": 7}, "nothing to set: give state, tier or cancel_orders"),
        ("set_account", {"account": 7, "state": "asleep"}, "one of active, cancel_only, frozen"),
        ("set_account", {"account": 7, "tier": 10}, "0 to 9 or 'by_volume'"),
        ("set_account", {"account": 0, "tier": 1}, "account is out of range"),
        ("set_account", {"account": 7, "tier": 1, "note": "x" * 37}, "up to 36"),
        ("set_market", {"market": 3}, "nothing to set"),
        ("set_market", {"market": 3, "state": "shut"}, "one of open, post_only"),
        ("set_market", {"market": 3, "band_up_bips": 5}, "bands are set together"),
        ("set_market", {"market": 3, "band_up_bips": 5, "band_down_bips": 10000}, "band_down_bips"),
        ("set_market", {"market": 3, "protection_bips": 0}, r"allowed=1\.\.10000"),
        ("set_market", {"market": 3, "reference_price": "0"}, "reference_ticks is out of range"),
        ("set_market", {"market": 3, "reference_price": "1", "reference_ticks": 1}, "not both"),
        ("set_market", {"market": 3, "min_notional": "-1"}, "min_notional|amount"),
        ("set_market", {"market": 3, "min_notional": "x"}, "not a number"),
        ("set_market", {"market": 3, "min_notional": "1", "min_notional_units": 1}, "not both"),
        ("set_market", {"market": 3, "account_orders": -1}, "account_orders"),
        ("set_fees", {"tier": 1, "maker_fee_ppm": 30001, "taker_fee_ppm": 0}, "maker_fee_ppm"),
        ("set_fees", {"tier": 1, "maker_fee_ppm": 0, "taker_fee_ppm": -1}, "taker_fee_ppm"),
        ("set_fees", {"tier": 10, "maker_fee_ppm": 0, "taker_fee_ppm": 0}, "tier must be 0 to 9"),
        ("set_tier", {"tier": 1, "volume": -1, "asset": "USD"}, "volume is out of range"),
        ("mass_cancel", {"side": "both"}, "side must be one of buy, sell"),
        ("countdown", {"milliseconds": 2**31}, "milliseconds is out of range"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused_and_nothing_is_sent(
    desk: Desk, call: str, arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(BadArgument, match=text):
        getattr(desk.session, call)(**arguments)
    assert desk.session.sent == 0


# ---- looking


def test_balances_and_orders_are_of_the_sessions_own_account_unless_it_says() -> None:
    session = Desk(account=7).session
    assert session.balances() == {"USD": (7, 0)}
    assert session.balances(4) == {"USD": (4, 0)}
    assert session.open_orders() == [{"account": 7, "market": 0}]
    assert session.open_orders(4, "BTC/USD") == [{"account": 4, "market": 3}]
    with pytest.raises(BadArgument, match="no account of its own"):
        Desk(account=0).session.balances()
