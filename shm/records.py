"""NumPy dtypes of the records in records.h.

COMMAND is what a session sends and what the log holds (MARKET_RECORD and NAMED_RECORD are other
views of the same 128 bytes, for definitions); EVENT is what a matcher says; REPORT what a session
is told; MARKET_DATA what everybody may read. All little-endian, 128 bytes, without padding; fields
that share bytes (`maker_leaves_lots` and `previous_level_lots`, ...) are unions in C, and here two
names of one field: titles, since a dtype with overlapping fields loses its layout whenever an array
is copied.
"""

from enum import IntEnum, IntFlag

import numpy as np

_PREFIX = [
    ("sequence", "<u8"),
    ("timestamp_ns", "<u8"),
    ("session_position", "<u8"),
    ("session", "<u4"),
    ("settled_lag", "<u4"),
    ("settled_index", "<u4"),
    ("reject", "<u2"),
    ("kind", "u1"),
    ("reserved", "u1"),
]


COMMAND = np.dtype(
    [
        *_PREFIX,
        ("order_id", "<u8"),
        ("price_ticks", "<i8"),
        ("quantity_lots", "<i8"),
        ("trigger_ticks", "<i8"),
        ("hold", "<i8"),
        ("account", "<u4"),
        ("market", "<u4"),
        ("side", "u1"),
        ("time_in_force", "u1"),
        ("order_type", "u1"),
        ("flags", "u1"),
        ("client_order_id", "S36"),
    ]
)
LOG_RECORD = COMMAND

MARKET_RECORD = np.dtype(
    [
        *_PREFIX,
        ("lot_units", "<i8"),
        ("notional_units", "<i8"),
        ("max_price_ticks", "<i8"),
        ("min_quantity_lots", "<i8"),
        ("max_quantity_lots", "<i8"),
        ("base_asset", "<u2"),
        ("quote_asset", "<u2"),
        ("market", "<u4"),
        ("price_step_ticks", "<u4"),
        ("quantity_step_lots", "<u4"),
        ("tick_mantissa", "<u4"),
        ("max_orders", "<u4"),
        ("symbol", "S23"),
        ("tick_scale", "u1"),
    ]
)

NAMED_RECORD = np.dtype(
    [
        *_PREFIX,
        ("epoch", "<u8"),
        ("position", "<u8"),
        ("slot", "<u8"),
        ("reserved_words", "<u8", (2,)),
        ("account", "<u4"),
        ("id", "<u4"),
        ("scale", "u1"),
        ("capabilities", "u1"),
        ("reason", "<u2"),
        ("name", "S36"),
    ]
)

EVENT = np.dtype(
    [
        ("sequence", "<u8"),
        ("order_id", "<u8"),
        ("maker_order_id", "<u8"),
        ("trade_id", "<u8"),
        ("price_ticks", "<i8"),
        ("quantity_lots", "<i8"),
        ("leaves_lots", "<i8"),
        ("cumulative_lots", "<i8"),
        (("previous_level_lots", "maker_leaves_lots"), "<i8"),
        (("previous_price_ticks", "maker_cumulative_lots"), "<i8"),
        ("level_lots", "<i8"),
        ("fee", "<i8"),
        ("maker_fee", "<i8"),
        ("index", "<u4"),
        ("market", "<u4"),
        ("account", "<u4"),
        ("maker_account", "<u4"),
        ("reason", "<u2"),
        ("kind", "u1"),
        ("side", "u1"),
        ("flags", "u1"),
        ("reserved", "V3"),
    ]
)

REPORT = np.dtype(
    [
        ("sequence", "<u8"),
        ("timestamp_ns", "<u8"),
        ("order_id", "<u8"),
        (("command_position", "trade_id"), "<u8"),
        ("price_ticks", "<i8"),
        ("quantity_lots", "<i8"),
        ("leaves_lots", "<i8"),
        ("cumulative_lots", "<i8"),
        ("fee", "<i8"),
        ("index", "<u4"),
        ("account", "<u4"),
        ("market", "<u4"),
        ("reason", "<u2"),
        ("kind", "u1"),
        ("side", "u1"),
        ("flags", "u1"),
        ("assurance", "u1"),
        ("reserved", "V2"),
        ("client_order_id", "S36"),
    ]
)

MARKET_DATA = np.dtype(
    [
        ("position", "<u8"),
        ("sequence", "<u8"),
        ("timestamp_ns", "<u8"),
        ("trade_id", "<u8"),
        ("price_ticks", "<i8"),
        ("quantity_lots", "<i8"),
        ("ask_price_ticks", "<i8"),
        ("ask_quantity_lots", "<i8"),
        ("update", "<u8"),
        ("market", "<u4"),
        ("kind", "u1"),
        ("side", "u1"),
        ("reserved", "V2"),
        ("reserved_words", "<u8", (6,)),
    ]
)


class Kind(IntEnum):
    """What a command or log record is."""

    NEW_ORDER = 1
    CANCEL_ORDER = 2
    AMEND_ORDER = 3
    SUBSCRIBE = 4
    UNSUBSCRIBE = 5
    LOGOUT = 6
    ADD_ASSET = 32
    ADD_ACCOUNT = 33
    ADD_MARKET = 34
    ATTACH_SESSION = 35
    DETACH_SESSION = 36
    START = 48
    STOP = 49
    INVALID = 255


class Side(IntEnum):
    """Of an order."""

    BUY = 1
    SELL = 2


class OrderType(IntEnum):
    """Of an order."""

    LIMIT = 1
    MARKET = 2


class TimeInForce(IntEnum):
    """How long an order works: until cancelled, at once, or at once and whole."""

    GTC = 1
    IOC = 2
    FOK = 3


class Flag(IntFlag):
    """Of a command."""

    POST_ONLY = 1
    TO_OPEN = 2
    REQUEUE = 4


class Capability(IntFlag):
    """What a session may do."""

    TRADE = 1
    NAME_ACCOUNTS = 2
    OPERATE = 4


class EventKind(IntEnum):
    """What an event or report says; from 32 on only reports."""

    ACCEPTED = 1
    REJECTED = 2
    TRADE = 3
    RESTED = 4
    CANCELED = 5
    EXPIRED = 6
    AMENDED = 7
    ATTACHED = 32
    DETACHED = 33
    DONE = 34


class EventFlag(IntFlag):
    """Of an event."""

    LAST = 1
    RESTING = 2


class ReportFlag(IntFlag):
    """Of a report."""

    AS_MAKER = 1
    SUBSCRIBED = 2


class Assurance(IntEnum):
    """What had happened to the log record when the report was released."""

    MATCHED = 1
    REPLICATED = 2
    DURABLE = 3


class MarketDataKind(IntEnum):
    """What a market-data record says."""

    TRADE = 1
    LEVEL = 2
    BEST = 3
