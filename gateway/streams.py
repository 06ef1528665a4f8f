"""The names of market streams, and who listens to each.

    <symbol>@trade, @aggTrade, @bookTicker, !bookTicker              at once
    <symbol>@depth, @depth5, @depth10, @depth20                      every second
    <symbol>@depth@100ms, @depth5@100ms, ...                         ten times a second
    <symbol>@kline_<interval>, @ticker, @miniTicker,
    !ticker@arr, !miniTicker@arr                                     every second

Symbols are in lower case. A Channel is a stream that somebody listens to: what is published on it
is encoded and framed once, in each of the two forms that clients choose from.
"""

import re
from dataclasses import dataclass
from enum import Enum

from matchbox.gateway.sockets import Socket, frame
from matchbox.persistence.candles import INTERVALS

FAST_MS, SLOW_MS = 100, 1000
_NAME = re.compile(
    r"(?P<symbol>[a-z0-9]{1,24})@(?:(?P<kind>trade|aggTrade|bookTicker)"
    r"|depth(?P<levels>5|10|20)?(?:@(?P<ms>100|1000)ms)?)"
)
_SUMMARY = re.compile(
    r"(?:(?P<symbol>[a-z0-9]{1,24})@(?:kline_(?P<interval>[0-9]{1,2}[smhdwM])|(?P<kind>ticker|miniTicker))"
    r"|!(?P<all>ticker|miniTicker)@arr)"
)
_ALL_BOOK_TICKERS = "!bookTicker"


class Kind(Enum):
    """What a stream tells."""

    TRADE = "trade"
    AGGREGATE = "aggTrade"
    BEST = "bookTicker"
    DIFFS = "depth"
    LEVELS = "depth levels"
    KLINE = "kline"
    TICKER = "ticker"
    MINI = "miniTicker"


SUMMARIES = (Kind.KLINE, Kind.TICKER, Kind.MINI)


@dataclass(frozen=True)
class Stream:
    """What a name means; `symbol` "": of all markets. `every_ms` 0: at once."""

    name: str
    kind: Kind
    symbol: str = ""
    levels: int = 0
    every_ms: int = 0
    interval: str = ""

    @classmethod
    def of(cls, name: str) -> "Stream | None":
        """None if it is no name of a stream."""
        if name == _ALL_BOOK_TICKERS:
            return cls(name, Kind.BEST)
        found = _NAME.fullmatch(name)
        if found is None:
            return cls._summary(name)
        symbol = found["symbol"].upper()
        if found["kind"]:
            return cls(name, Kind(found["kind"]), symbol)
        levels = int(found["levels"] or 0)
        kind = Kind.LEVELS if levels else Kind.DIFFS
        return cls(name, kind, symbol, levels, int(found["ms"] or SLOW_MS))

    @classmethod
    def _summary(cls, name: str) -> "Stream | None":
        found = _SUMMARY.fullmatch(name)
        if found is None:
            return None
        symbol, interval = (found["symbol"] or "").upper(), found["interval"]
        if interval is None:
            return cls(name, Kind(found["kind"] or found["all"]), symbol)
        return cls(name, Kind.KLINE, symbol, interval=interval) if interval in INTERVALS else None


class Channel:
    """A stream and its listeners."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._sockets: dict[Socket, None] = {}
        self._head = b'{"stream":"%s","data":' % stream.name.encode()

    def __len__(self) -> int:
        return len(self._sockets)

    def add(self, socket: Socket) -> None:
        self._sockets[socket] = None

    def remove(self, socket: Socket) -> None:
        self._sockets.pop(socket, None)

    def publish(self, message: bytes) -> None:
        """Send it to all of them."""
        plain = wrapped = b""
        for socket in list(self._sockets):
            if socket.wrapped:
                wrapped = wrapped or frame(b"%s%s}" % (self._head, message))
                socket.send(wrapped)
            else:
                plain = plain or frame(message)
                socket.send(plain)
