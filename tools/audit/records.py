"""Log records, events and reports as plain Python values."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from matchbox.shm.records import (
    COMMAND,
    EVENT,
    LIST_RECORD,
    MARKET_RECORD,
    MONEY_RECORD,
    NAMED_RECORD,
    NEW_ORDER,
    REPORT,
    RULES_RECORD,
    TERMS_RECORD,
    Kind,
)

MAX_INT64 = 2**63 - 1
CUT = 0xC7  # MB_CUT
LOST_NUMBERS = 1 << 32  # MB_LOST_NUMBERS
NAMED = (
    Kind.ADD_ASSET,
    Kind.ADD_ACCOUNT,
    Kind.REMOVE_MARKET,
    Kind.REMOVE_ASSET,
    Kind.ATTACH_SESSION,
    Kind.DETACH_SESSION,
    Kind.START,
    Kind.STOP,
    Kind.TAKE_OVER,
)
MONEY = (
    Kind.DEPOSIT,
    Kind.REQUEST_WITHDRAWAL,
    Kind.SETTLE_WITHDRAWAL,
    Kind.CANCEL_WITHDRAWAL,
    Kind.TRANSFER,
)
LISTS = (Kind.ORDER_LIST, Kind.RELEASE)
RULES = (Kind.SET_ACCOUNT, Kind.SET_MARKET, Kind.SET_FEES, Kind.SET_TIER)
ORDERS = (Kind.NEW_ORDER, Kind.CANCEL_ORDER, Kind.AMEND_ORDER)
_VIEWS: dict[int, np.dtype[Any]] = {
    **dict.fromkeys(NAMED, NAMED_RECORD),
    **dict.fromkeys(MONEY, MONEY_RECORD),
    **dict.fromkeys(RULES, RULES_RECORD),
    **dict.fromkeys(LISTS, LIST_RECORD),
    Kind.NEW_ORDER: NEW_ORDER,
    Kind.ORDER_TERMS: TERMS_RECORD,
    Kind.ADD_MARKET: MARKET_RECORD,
}


class Record:
    """One log record: the fields of the view that belongs to its kind, as int and bytes.

    Text has lost the zero bytes at its end. `named_id` and `text` are what every record has at the
    places of mb_named_record's `id` and `name`; `named_account`, `named_market` at mb_record's.
    `cut`: no matcher is to see it (persistence/cuts.py).
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a record of kind {self.__dict__.get('kind')} has no {name}")

    def __repr__(self) -> str:
        return f"{kind_name(self.kind)} {self.sequence}"


def kind_name(kind: int) -> str:
    return Kind(kind).name if kind in tuple(Kind) else f"kind {kind}"


def view_of(record: NDArray[Any]) -> NDArray[Any]:
    """One LOG_RECORD (an array of one) by the view that belongs to its kind."""
    return record.view(_VIEWS.get(int(record["kind"][0]), COMMAND))


def read(records: NDArray[Any]) -> Iterator[Record]:
    """LOG_RECORDs one by one."""
    for i in range(len(records)):
        one = records[i : i + 1]
        view = view_of(one)
        values = dict(zip(view.dtype.names or (), view.tolist()[0], strict=True))
        named, command = one.view(NAMED_RECORD)[0], one[0]
        places = {
            "named_id": int(named["id"]),
            "named_account": int(command["account"]),
            "named_market": int(command["market"]),
            "text": bytes(named["name"]),
        }
        cut = places["cut"] = (
            int(command["kind"]) in ORDERS and not command["reject"] and command["reserved"] == CUT
        )
        yield Record(values | places | ({"reserved": 0} if cut else {}))


class Terms(NamedTuple):
    """What ORDER_TERMS, or the first record of a list, say of one order."""

    display: int = 0
    expire_ns: int = 0
    reserved: bool = False  # a field that must be 0 is not

    @classmethod
    def of(cls, r: Record | None) -> "Terms":
        """Those of an ORDER_TERMS record, if there is one."""
        if r is None:
            return cls()
        reserved = (r.reserved, *r.reserved_words, *r.reserved_bytes, r.reserved_text)
        return cls(r.display_lots, r.expire_ns, any(reserved))


NO_TERMS = Terms()


class Event(NamedTuple):
    """mb_event; of AMENDED, maker_leaves_lots is previous_level_lots, and maker_cumulative_lots
    previous_price_ticks."""

    sequence: int
    order_id: int = 0
    maker_order_id: int = 0
    trade_id: int = 0
    price_ticks: int = 0
    quantity_lots: int = 0
    leaves_lots: int = 0
    cumulative_lots: int = 0
    maker_leaves_lots: int = 0
    maker_cumulative_lots: int = 0
    level_lots: int = 0
    fee: int = 0
    maker_fee: int = 0
    index: int = 0  # type: ignore[assignment]
    market: int = 0
    account: int = 0
    maker_account: int = 0
    reason: int = 0
    kind: int = 0
    side: int = 0
    flags: int = 0


class Report(NamedTuple):
    """mb_report; `trade_id` is command_position where it is no trade."""

    sequence: int
    timestamp_ns: int
    order_id: int = 0
    trade_id: int = 0
    price_ticks: int = 0
    quantity_lots: int = 0
    leaves_lots: int = 0
    cumulative_lots: int = 0
    fee: int = 0
    index: int = 0  # type: ignore[assignment]
    account: int = 0
    market: int = 0
    reason: int = 0
    kind: int = 0
    side: int = 0
    flags: int = 0
    assurance: int = 0
    client_order_id: bytes = b""


_EVENT_FIELDS = list(Event._fields)
_REPORT_FIELDS = list(Report._fields)
assert [name for name in EVENT.names or () if name != "reserved"] == _EVENT_FIELDS
assert [name for name in REPORT.names or () if name != "reserved"] == _REPORT_FIELDS


def events(array: NDArray[Any]) -> list[Event]:
    """EVENT records as Events."""
    return [Event(*row) for row in array[_EVENT_FIELDS].tolist()]


def reports(array: NDArray[Any]) -> list[Report]:
    """REPORT records as Reports."""
    return [Report(*row) for row in array[_REPORT_FIELDS].tolist()]


def printable(text: bytes, minimum: int = 1) -> bool:
    """Is it `minimum` or more printable ASCII characters?"""
    return len(text) >= minimum and all(0x21 <= byte <= 0x7E for byte in text)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def above(price: int, bips: int) -> int:
    """A price so many 1/10,000 above another, rounded up."""
    return ceil_div(price * (10_000 + bips), 10_000)


def below(price: int, bips: int) -> int:
    """A price so many 1/10,000 below another, rounded down."""
    return price * (10_000 - bips) // 10_000
