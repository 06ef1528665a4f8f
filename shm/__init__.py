"""The wire: records, segments, rings, waiting, sessions; and the SDK that bots import."""

from pathlib import Path

from matchbox.shm.errors import (
    BadArgument,
    Detached,
    EngineDown,
    Lapped,
    MatchboxError,
    RingFull,
    SegmentError,
    SessionError,
)
from matchbox.shm.reasons import Reason
from matchbox.shm.records import COMMAND, EVENT, MARKET_DATA, REPORT

__all__ = [
    "COMMAND",
    "EVENT",
    "MARKET_DATA",
    "REPORT",
    "BadArgument",
    "Detached",
    "EngineDown",
    "Lapped",
    "MatchboxError",
    "Reason",
    "RingFull",
    "SegmentError",
    "SessionError",
    "get_include",
]


def get_include() -> str:
    """The directory of the C headers, for a bot's own Extension(include_dirs=[...]) or cc -I."""
    return str(Path(__file__).parent)
