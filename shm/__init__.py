"""The wire: records, segments, rings, waiting, sessions; and the SDK that bots import."""

from pathlib import Path

from matchbox.shm.connect import connect, pull
from matchbox.shm.depth import LEVEL, Book, MarketData
from matchbox.shm.errors import (
    BadArgument,
    Detached,
    EngineDown,
    Forgotten,
    Lapped,
    MarketRemoved,
    MatchboxError,
    RingFull,
    SegmentError,
    SessionError,
)
from matchbox.shm.market import Asset, Market
from matchbox.shm.reasons import Reason
from matchbox.shm.records import (
    COMMAND,
    EVENT,
    LIST_RECORD,
    MARKET_DATA,
    MONEY_RECORD,
    NEW_ORDER,
    REPORT,
    TERMS_RECORD,
    Assurance,
    Capability,
    EventFlag,
    EventKind,
    Flag,
    Kind,
    ListType,
    MarketDataKind,
    OrderType,
    ReportFlag,
    SelfTrade,
    Side,
    TimeInForce,
)
from matchbox.shm.session import Session
from matchbox.shm.streams import TRADE, Position, Pull

__all__ = [
    "COMMAND",
    "EVENT",
    "LEVEL",
    "LIST_RECORD",
    "MARKET_DATA",
    "MONEY_RECORD",
    "NEW_ORDER",
    "REPORT",
    "TERMS_RECORD",
    "TRADE",
    "Asset",
    "Assurance",
    "BadArgument",
    "Book",
    "Capability",
    "Detached",
    "EngineDown",
    "EventFlag",
    "EventKind",
    "Flag",
    "Forgotten",
    "Kind",
    "Lapped",
    "ListType",
    "MarketRemoved",
    "Market",
    "MarketData",
    "MarketDataKind",
    "MatchboxError",
    "OrderType",
    "Position",
    "Pull",
    "Reason",
    "ReportFlag",
    "RingFull",
    "SegmentError",
    "SelfTrade",
    "Session",
    "SessionError",
    "Side",
    "TimeInForce",
    "connect",
    "get_include",
    "pull",
]


def get_include() -> str:
    """The directory of the C headers, for a bot's own Extension(include_dirs=[...]) or cc -I."""
    return str(Path(__file__).parent)
