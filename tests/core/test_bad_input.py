"""Every field of a command, broken: refused with the right code, and nothing is changed."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from matchbox.core.instrument import market_record
from matchbox.core.plan import PlanMarket
from matchbox.shm.reasons import Reason
from matchbox.shm.records import COMMAND, LOG_RECORD, EventKind, Flag, Kind, OrderType, Side
from matchbox.shm.records import TimeInForce as T
from matchbox.shm.session import Session
from tests.core.exchange import Exchange, plan

STEP, LOTS, MINIMUM, MAXIMUM, TOP = 5, 2, 4, 1_000_000, 10**12
UNITS = 10**8
BUY, SELL = Side.BUY, Side.SELL
# Written by the engine, whatever a bot puts there.
ENGINES_OWN = {
    "sequence",
    "timestamp_ns",
    "session_position",
    "session",
    "settled_lag",
    "settled_index",
    "reject",
    "hold",
}
NEW: dict[str, Any] = {
    "kind": Kind.NEW_ORDER,
    "market": 1,
    "side": BUY,
    "order_type": OrderType.LIMIT,
    "time_in_force": T.GTC,
    "price_ticks": 1000,
    "quantity_lots": 10,
    "client_order_id": b"fresh",
}
# `mine` is bound to the order's id when the exchange is there.
CANCEL: dict[str, Any] = {"kind": Kind.CANCEL_ORDER, "order_id": "mine"}
AMEND: dict[str, Any] = {"kind": Kind.AMEND_ORDER, "order_id": "mine", "quantity_lots": 8}
SUBSCRIBE: dict[str, Any] = {"kind": Kind.SUBSCRIBE, "account": 1}
MARKET = {"order_type": OrderType.MARKET, "time_in_force": T.IOC, "price_ticks": 0}
HUGE = {"price_ticks": TOP, "quantity_lots": MAXIMUM}


class Case(NamedTuple):
    base: dict[str, Any]
    broken: dict[str, Any]
    reason: Reason


R = Reason
CASES = [
    # kind
    *(Case(NEW, {"kind": kind}, R.UNKNOWN_KIND) for kind in (0, 14, 31, 45, 48, 49, 51, 200, 255)),
    Case(NEW, {"kind": Kind.ORDER_LIST}, R.BAD_LEGS),
    Case(NEW, {"kind": Kind.ORDER_TERMS}, R.BAD_LEGS),
    *(Case(NEW, {"kind": kind}, R.NOT_PERMITTED) for kind in range(32, 45)),
    # market
    *(Case(NEW, {"market": market}, R.UNKNOWN_MARKET) for market in (0, 2, 64, 65, 2**32 - 1)),
    *(Case(base, {"market": 2}, R.UNKNOWN_ORDER) for base in (CANCEL, AMEND)),
    # account
    *(
        Case(base, {"account": account}, R.ACCOUNT_NOT_PERMITTED)
        for base in (NEW, CANCEL, AMEND, SUBSCRIBE)
        for account in (2, 77, 2**32 - 1)
    ),
    # side
    *(Case(NEW, {"side": side}, R.BAD_SIDE) for side in (0, 3, 255)),
    *(Case(base, {"side": side}, R.BAD_SIDE) for base in (CANCEL, AMEND) for side in (3, 255)),
    # order type
    *(Case(NEW, {"order_type": kind}, R.BAD_ORDER_TYPE) for kind in (0, 7, 255)),
    *(Case(base, {"order_type": 1}, R.BAD_ORDER_TYPE) for base in (CANCEL, AMEND)),
    # time in force
    *(Case(NEW, {"time_in_force": tif}, R.BAD_TIME_IN_FORCE) for tif in (0, 5, 255)),
    Case(NEW, MARKET | {"time_in_force": T.GTC}, R.BAD_TIME_IN_FORCE),
    *(Case(base, {"time_in_force": 1}, R.BAD_TIME_IN_FORCE) for base in (CANCEL, AMEND)),
    # flags
    *(Case(NEW, {"flags": 1 << bit}, R.BAD_FLAGS) for bit in (1, 2, 3, 5, 6, 7)),
    Case(NEW, {"flags": Flag.LEG}, R.BAD_LEGS),
    Case(NEW, {"flags": Flag.POST_ONLY, "time_in_force": T.IOC}, R.BAD_FLAGS),
    Case(NEW, MARKET | {"flags": Flag.POST_ONLY}, R.BAD_FLAGS),
    *(Case(CANCEL, {"flags": 1 << bit}, R.BAD_FLAGS) for bit in (0, 1, 2, 3, 4, 6, 7)),
    Case(CANCEL, {"flags": Flag.REPLACE}, R.BAD_LEGS),
    *(Case(AMEND, {"flags": 1 << bit}, R.BAD_FLAGS) for bit in (0, 3, 4, 5, 6, 7)),
    # price
    *(
        Case(NEW, {"price_ticks": price}, R.BAD_PRICE)
        for price in (0, -1, -STEP, TOP + STEP, 2**62, -(2**63), 2**63 - 1)
    ),
    Case(NEW, MARKET | {"price_ticks": STEP}, R.BAD_PRICE),
    *(Case(AMEND, {"price_ticks": price}, R.BAD_PRICE) for price in (-5, TOP + STEP, -(2**63))),
    Case(CANCEL, {"price_ticks": 1000}, R.BAD_PRICE),
    *(Case(base, {"price_ticks": 1001}, R.PRICE_OFF_TICK) for base in (NEW, AMEND)),
    # quantity
    *(
        Case(NEW, {"quantity_lots": quantity}, R.BAD_QUANTITY)
        for quantity in (0, -2, MINIMUM - LOTS, MAXIMUM + LOTS, 2**62, -(2**63))
    ),
    *(
        Case(AMEND, {"quantity_lots": quantity}, R.BAD_QUANTITY)
        for quantity in (-2, MINIMUM - LOTS, MAXIMUM + LOTS, -(2**63), 2**63 - 1)
    ),
    Case(AMEND, {"quantity_lots": MAXIMUM + LOTS, "flags": Flag.TO_OPEN}, R.BAD_QUANTITY),
    Case(CANCEL, {"quantity_lots": 4}, R.BAD_QUANTITY),
    *(Case(base, {"quantity_lots": 7}, R.QUANTITY_OFF_LOT) for base in (NEW, AMEND)),
    Case(AMEND, {"quantity_lots": 0}, R.NOTHING_TO_AMEND),
    Case(AMEND, {"order_id": "filled", "quantity_lots": 4}, R.BELOW_FILLED),
    # price * quantity * units past 2^63
    *(Case(base, HUGE, R.NOTIONAL_OVERFLOW) for base in (NEW, AMEND)),
    Case(AMEND, {"price_ticks": TOP, "quantity_lots": 0}, R.INSUFFICIENT_BALANCE),
    Case(NEW, {"price_ticks": 1_844_674_405, "quantity_lots": 52}, R.NOTIONAL_OVERFLOW),
    # fields of later uses
    *(Case(base, {"trigger_ticks": 1}, R.BAD_FIELD) for base in (CANCEL, AMEND)),
    *(Case(base, {"trigger_ticks": -(2**63)}, R.BAD_FIELD) for base in (CANCEL, AMEND)),
    *(Case(NEW, {"trigger_ticks": trigger}, R.BAD_TRIGGER) for trigger in (1, -(2**63))),
    *(Case(base, {"reserved": 255}, R.BAD_FIELD) for base in (NEW, CANCEL, AMEND)),
    # client order id
    *(
        Case(NEW, {"client_order_id": text}, R.BAD_CLIENT_ORDER_ID)
        for text in (b"a b", b"\x00a", b"a\x00b", b"tab\t", b"\x7f", b"\xc3\xa9", b"x" * 35 + b" ")
    ),
    Case(NEW, {"client_order_id": b"mine"}, R.DUPLICATE_CLIENT_ORDER_ID),
    *(Case(base, {"client_order_id": b"other"}, R.UNKNOWN_ORDER) for base in (CANCEL, AMEND)),
    *(
        Case(base, {"order_id": 0, "client_order_id": text}, R.UNKNOWN_ORDER)
        for base in (CANCEL, AMEND)
        for text in (b"", b"nobody", b"theirs", b"\xff" * 36)
    ),
    # order id
    *(
        Case(base, {"order_id": order}, R.UNKNOWN_ORDER)
        for base in (CANCEL, AMEND)
        for order in (0, 1, 2**32 + 1, 2**63, 2**64 - 1, "theirs", "gone")
    ),
    # what only the book can tell
    Case(NEW, {"price_ticks": 2000, "flags": Flag.POST_ONLY}, R.WOULD_TAKE),
    Case(NEW, {"price_ticks": 2000, "quantity_lots": 22, "time_in_force": T.FOK}, R.NOT_FILLABLE),
]


def strict(market: PlanMarket) -> Any:
    return market_record(
        market.number,
        symbol=f"M{market.number}/USD",
        max_orders=market.max_orders,
        lot_units=10**8,
        notional_units=UNITS,
        price_step_ticks=STEP,
        quantity_step_lots=LOTS,
        min_quantity_lots=MINIMUM,
        max_quantity_lots=MAXIMUM,
        max_price_ticks=TOP,
    )


class Scene:
    """An exchange with a few orders, the bot that errs, and another that must not notice."""

    def __init__(self) -> None:
        self.exchange = Exchange(plan(max_orders=64))
        self.bot: Session = self.exchange.attach("bot", 1)
        self.other: Session = self.exchange.attach("other", 2)
        place = {"quantity_lots": 20, "price_ticks": 900}
        self.orders = {
            "mine": self.place(self.bot, "buy", client_order_id="mine", **place),
            "theirs": self.place(self.other, "buy", client_order_id="theirs", **place),
            "filled": self.place(self.bot, "buy", quantity_lots=12, price_ticks=950),
            "gone": self.place(self.bot, "buy", quantity_lots=4, price_ticks=500),
        }
        self.place(self.other, "sell", quantity_lots=6, price_ticks=950)
        self.place(self.other, "sell", quantity_lots=20, price_ticks=2000)
        self.bot.cancel(self.orders["gone"])
        self.exchange.settle()
        self.bot.reports()
        self.other.reports()

    def place(self, session: Session, side: str, **values: Any) -> int:
        getattr(session, side)(1, **values)
        self.exchange.settle()
        reports = session.reports()
        accepted = reports[reports["kind"] == EventKind.ACCEPTED]
        return int(accepted[-1]["order_id"])

    def command(self, *parts: dict[str, Any]) -> NDArray[Any]:
        record = np.zeros(1, COMMAND)
        for part in parts:
            for name, value in part.items():
                record[name] = self.orders[value] if isinstance(value, str) else value
        return record

    def send(self, session: Session, record: NDArray[Any]) -> NDArray[Any]:
        session.submit(record)
        self.exchange.settle()
        return session.reports()


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr("tests.core.exchange._market", strict)
    return Scene()


def describe(case: Case) -> str:
    values = ",".join(f"{name}={value!r}" for name, value in case.broken.items())
    return f"{Kind(case.base['kind']).name}-{values}"


@pytest.mark.parametrize("case", CASES, ids=describe)
def test_a_broken_command_is_refused_and_changes_nothing(scene: Scene, case: Case) -> None:
    exchange = scene.exchange
    data, other = exchange.market_data(), scene.other
    books, orders = exchange.book_hash(), exchange.agents["matcher-0"].orders(1).tobytes()
    depth = [levels.tolist() for levels in exchange.book().depth()[1:]]
    reports = scene.send(scene.bot, scene.command(case.base, case.broken))
    assert [(r["kind"], Reason(r["reason"])) for r in reports] == [
        (EventKind.REJECTED, case.reason)
    ]
    assert int(reports[0]["command_position"]) == scene.bot.sent
    assert exchange.book_hash() == books
    assert exchange.agents["matcher-0"].orders(1).tobytes() == orders
    assert [levels.tolist() for levels in exchange.book().depth()[1:]] == depth
    assert len(data.read()) == 0
    assert len(other.reports()) == 0
    # Both go on: the base command is as good as it was, and so is the other's order.
    (answer,) = scene.send(scene.bot, scene.command(case.base))
    assert answer["kind"] != EventKind.REJECTED
    scene.send(other, scene.command(CANCEL, {"order_id": "theirs"}))


@pytest.mark.parametrize("base", [NEW, CANCEL, AMEND, SUBSCRIBE], ids=lambda b: b["kind"].name)
def test_each_base_command_is_good(scene: Scene, base: dict[str, Any]) -> None:
    (answer,) = scene.send(scene.bot, scene.command(base))
    assert answer["kind"] != EventKind.REJECTED


def test_every_field_of_a_command_is_broken_by_some_case() -> None:
    fields = {name for name in COMMAND.names or () if name not in ENGINES_OWN}
    assert fields == {name for case in CASES for name in case.broken}


def test_what_a_bot_writes_into_the_engines_fields_is_overwritten(scene: Scene) -> None:
    clean = scene.command(NEW, {"client_order_id": b"one"})
    # In a NEW_ORDER the rates and the mark of a terms record are where others name an order.
    dirty = scene.command(NEW, {"client_order_id": b"two", "order_id": 0xFF000000FFFFFFFF})
    for name in ENGINES_OWN:
        dirty[name] = np.array(-1).astype(COMMAND[name])
    for record in (clean, dirty):
        (answer,) = scene.send(scene.bot, record)
        assert answer["kind"] == EventKind.ACCEPTED
    first, second = scene.exchange.log[-2:]
    assert int(second["sequence"]) == int(first["sequence"]) + 1
    assert int(second["order_id"]) == int(first["order_id"])
    assert int(second["session_position"]) == int(first["session_position"]) + 1
    for name in ("session", "reject", "hold", "account"):
        assert second[name] == first[name], name


def test_a_log_full_of_refusals_replays_to_the_same_state(scene: Scene) -> None:
    for case in CASES:
        scene.bot.submit(scene.command(case.base, case.broken))
        scene.exchange.settle()
        scene.bot.reports()
    log = scene.exchange.log
    assert (log["reject"] != 0).sum() >= len(CASES) - 4  # four are refused by the book
    again = Exchange(plan(max_orders=64), seed=7, define=False)
    done = 0
    while done < len(log):
        done += again.sequencer.replay(log[done:])
        again.settle()
    assert again.state_hash() == scene.exchange.state_hash()
    assert again.log.view(LOG_RECORD).tobytes() == log.tobytes()
