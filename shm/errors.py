"""Every exception Matchbox raises on purpose.

    MatchboxError
    ├── BadArgument      a value the caller gave is not allowed (also a ValueError)
    ├── ConfigError      the configuration file is not valid
    ├── SegmentError     a shared-memory segment is missing, foreign or of another version
    ├── SessionError     the session cannot do this now
    │   ├── RingFull     the command ring has no room for the whole batch; nothing was sent
    │   ├── EngineDown   the exchange has stopped or its process has died
    │   ├── Detached     the exchange has detached this session; `reason` says why
    │   ├── Lapped       a reader of market data fell behind; resynchronise from the depth table
    │   └── MarketRemoved   the market is no more; its number may be another one's
    ├── JournalError     the journal cannot be read or written
    ├── SnapshotError    a snapshot is damaged, of another layout, or does not fit this engine
    └── CaptureError     a capture is damaged, of another layout, or cannot be written

Texts end with the values concerned (``capacity=..., wanted=...``).
"""


class MatchboxError(Exception):
    """Base of all of them."""


class BadArgument(MatchboxError, ValueError):
    """A value the caller gave is not allowed."""


class ConfigError(MatchboxError):
    """The configuration file is not valid; the text has line, key and what is allowed."""


class SegmentError(MatchboxError):
    """A shared-memory segment is missing, foreign or of another version."""


class SessionError(MatchboxError):
    """The session cannot do this now."""


class RingFull(SessionError):
    """The command ring has no room for the whole batch; nothing was sent."""


class EngineDown(SessionError):
    """The exchange has stopped or its process has died."""


class Detached(SessionError):
    """The exchange has detached this session."""

    def __init__(self, text: str, reason: int = 0) -> None:
        super().__init__(text)
        self.reason = reason


class Lapped(SessionError):
    """A reader of market data fell behind; resynchronise from the depth table."""


class MarketRemoved(SessionError):
    """The market is no more; its number may be another one's."""


class JournalError(MatchboxError):
    """The journal cannot be read or written.

    `sequence` is the first log record that it concerns (all before it is sound), 0 if none is.
    """

    def __init__(self, text: str, sequence: int = 0) -> None:
        super().__init__(text)
        self.sequence = sequence


class SnapshotError(MatchboxError):
    """A snapshot is damaged, of another layout, or does not fit this engine."""


class ViewsError(MatchboxError):
    """The views cannot be read or written."""


class ViewsNotBegun(ViewsError):
    """A day's views are being made just now, and have nothing yet."""


class Forgotten(MatchboxError):
    """What was asked for is older than what is kept; `oldest` is the oldest position there is."""

    def __init__(self, text: str, oldest: tuple[int, int] = (0, 0)) -> None:
        super().__init__(text)
        self.oldest = oldest


class CaptureError(MatchboxError):
    """A capture is damaged, of another layout, or cannot be written."""
