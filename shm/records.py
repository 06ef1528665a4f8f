"""NumPy dtypes of the records in records.h.

COMMAND is what a session sends and what the log holds; NEW_ORDER, TERMS_RECORD, MONEY_RECORD,
RULES_RECORD, MARKET_RECORD and NAMED_RECORD are other views of the same 128 bytes
(`commands.view(NEW_ORDER)`); EVENT is what a matcher says; REPORT what a session
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
        (("cancel_reason", "hold"), "<i8"),
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

NEW_ORDER = np.dtype(
    [
        *_PREFIX,
        ("maker_fee_ppm", "<i2"),
        ("taker_fee_ppm", "<i2"),
        ("trailing_bips", "<u2"),
        ("self_trade", "u1"),
        ("has_terms", "u1"),
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

TERMS_RECORD = np.dtype(
    [
        *_PREFIX,
        ("display_lots", "<i8"),
        ("expire_ns", "<u8"),
        ("reserved_words", "<u8", (3,)),
        ("account", "<u4"),
        ("market", "<u4"),
        ("reserved_bytes", "u1", (4,)),
        ("reserved_text", "S36"),
    ]
)

MONEY_RECORD = np.dtype(
    [
        *_PREFIX,
        ("amount", "<i8"),
        ("note", "S24"),
        ("operator_id", "<u4"),
        ("asset", "<u2"),
        ("reserved_word", "<u2"),
        ("account", "<u4"),
        ("counter_account", "<u4"),
        ("reserved_long", "<u4"),
        ("reference", "S36"),
    ]
)

RULES_RECORD = np.dtype(
    [
        *_PREFIX,
        ("amount", "<i8"),
        ("reference_ticks", "<i8"),
        ("band_up_bips", "<u2"),
        ("band_down_bips", "<u2"),
        ("protection_bips", "<u2"),
        ("asset", "<u2"),
        ("account_orders", "<u4"),
        ("operator_id", "<u4"),
        ("reserved_long", "<u4"),
        ("maker_fee_ppm", "<i2"),
        ("taker_fee_ppm", "<i2"),
        ("account", "<u4"),
        ("market", "<u4"),
        ("state", "u1"),
        ("tier", "u1"),
        ("rules", "u1"),
        ("reserved_byte", "u1"),
        ("note", "S36"),
    ]
)

LIST_RECORD = np.dtype(
    [
        *_PREFIX,
        ("display_lots", "<i8", (3,)),
        ("expire_ns", "<u8"),
        ("list_id", "<u8"),
        ("account", "<u4"),
        ("market", "<u4"),
        ("list_type", "u1"),
        ("legs", "u1"),
        ("reserved_bytes", "u1", (2,)),
        ("client_list_id", "S36"),
    ]
)

MARKET_RECORD = np.dtype(
    [
        *_PREFIX[:-1],
        ("specials", "u1"),
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
        ("parent", "<u4"),
        ("user", "<u4"),
        ("cancel_on_detach", "u1"),
        ("assurance", "u1"),
        ("reserved_bytes", "u1", (6,)),
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


# The same numbers as in records.h.
MAX_PRICE_TICKS = 2**40 - 1
MAX_ASSET_UNITS = 2**62
FEE_ACCOUNT = 0xFFFFFFFF
FEE_TIERS = 10
TIER_BY_VOLUME = 255


def special_orders(specials: int, max_orders: int) -> int:
    """How many orders of a market can be icebergs or wait for a trigger, by what its ADD_MARKET
    record says.
    """
    return min(max_orders, 1 << (specials - 1) if specials else max(64, max_orders // 16))


class Kind(IntEnum):
    """What a command or log record is."""

    NEW_ORDER = 1
    CANCEL_ORDER = 2
    AMEND_ORDER = 3
    SUBSCRIBE = 4
    UNSUBSCRIBE = 5
    LOGOUT = 6
    ORDER_TERMS = 7
    MASS_CANCEL = 8
    COUNTDOWN = 9
    TRANSFER = 10
    REQUEST_WITHDRAWAL = 11
    CANCEL_WITHDRAWAL = 12
    ORDER_LIST = 13
    ADD_ASSET = 32
    ADD_ACCOUNT = 33
    ADD_MARKET = 34
    ATTACH_SESSION = 35
    DETACH_SESSION = 36
    DEPOSIT = 37
    SETTLE_WITHDRAWAL = 38
    SET_ACCOUNT = 39
    SET_MARKET = 40
    SET_FEES = 41
    SET_TIER = 42
    REMOVE_MARKET = 43
    REMOVE_ASSET = 44
    START = 48
    STOP = 49
    TICK = 50
    RELEASE = 51
    TAKE_OVER = 52
    LOST = 53
    INVALID = 255


class Side(IntEnum):
    """Of an order."""

    BUY = 1
    SELL = 2


class OrderType(IntEnum):
    """Of an order."""

    LIMIT = 1
    MARKET = 2
    STOP_LOSS = 3
    STOP_LOSS_LIMIT = 4
    TAKE_PROFIT = 5
    TAKE_PROFIT_LIMIT = 6


class ListType(IntEnum):
    """Of a list of orders: one cancels the other, one triggers another, one triggers an OCO."""

    OCO = 1
    OTO = 2
    OTOCO = 3


class Belongs(IntFlag):
    """What the records before an order have to do with it (its field has_terms)."""

    HAS_TERMS = 1
    IN_LIST = 2
    IS_PENDING = 4
    REPLACES = 8


class TimeInForce(IntEnum):
    """How long an order works: until cancelled, at once, at once and whole, or until a time."""

    GTC = 1
    IOC = 2
    FOK = 3
    GTD = 4


class SelfTrade(IntEnum):
    """What happens instead of a fill between two orders of one account."""

    TRADE_WITH_SELF = 0
    EXPIRE_TAKER = 1
    EXPIRE_MAKER = 2
    EXPIRE_BOTH = 3
    DECREMENT = 4


class AccountState(IntEnum):
    """What an account may do."""

    ACTIVE = 1
    CANCEL_ONLY = 2
    FROZEN = 3


class MarketState(IntEnum):
    """What a market takes."""

    OPEN = 1
    POST_ONLY = 2
    CANCEL_ONLY = 3
    HALTED = 4


class Rule(IntFlag):
    """What a SET_ACCOUNT or SET_MARKET record changes."""

    STATE = 1
    TIER = 2
    NOTIONAL = 4
    REFERENCE = 8
    BANDS = 16
    PROTECTION = 32
    ORDERS = 64
    CANCEL = 128


class Flag(IntFlag):
    """Of a command."""

    POST_ONLY = 1
    TO_OPEN = 2
    REQUEUE = 4
    QUOTE_AMOUNT = 8
    LEG = 16
    REPLACE = 32
    ALLOW_FAILURE = 64
    OF_PENDING = 128


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
    TRIGGERED = 8
    PREVENTED = 9
    BALANCE = 10
    ATTACHED = 32
    DETACHED = 33
    DONE = 34


class EventFlag(IntFlag):
    """Of an event."""

    LAST = 1
    RESTING = 2
    WAITING = 4
    PENDING = 8


class ReportFlag(IntFlag):
    """Of a report."""

    AS_MAKER = 1
    SUBSCRIBED = 2
    WAS_PENDING = 4
    RELEASED = 8


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
