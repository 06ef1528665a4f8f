"""Pulling: what an account, or everybody, may see, from any position on, a second or a week late.

Reports and trades are read from the archive, which the exchange's archiver serves on a socket of
its own. Only what is on the disk is given out. A position is (sequence, part): of a log record, and
of what it caused; everything up to and including it has been read. Its text is "SEQUENCE-PART".

The protocol, on a Unix stream socket `pull.sock` in the data folder: frames of 8 bytes (length of
the text, length of the data, both little-endian), a JSON object as text, and records as data.

    {"do": "pull", "stream": "reports", "account": NAME, "after": [S, P], "limit": N, "wait_ms": N}
    {"do": "pull", "stream": "trades", "market": SYMBOL, ...}
    {"do": "pull", "stream": "log", ...}             operators
    {..., "consumer": NAME}                          after null: where that one has committed
    {"do": "commit", "stream": ..., "consumer": NAME, "position": [S, P]}
    {"do": "definitions"}                            assets and markets, as ADD_ log records
    {"ok": true, "position": [S, P], "oldest": [S, P], "last": [S, P]}
    {"ok": false, "error": TEXT, "oldest": null or [S, P]}
"""

import json
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from matchbox.shm import arguments
from matchbox.shm.errors import BadArgument, EngineDown, Forgotten, SessionError
from matchbox.shm.records import LOG_RECORD, REPORT, EventKind, ReportFlag

SOCKET = "pull.sock"
LAST_PART = (1 << 32) - 1
MAX_LIMIT = 65536
MAX_WAIT_MS = 10_000
_TRY_S = 0.02
_FRAME = struct.Struct("<II")
_MAX_TEXT = 1 << 16
_MAX_DATA = MAX_LIMIT * 128

TRADE = np.dtype(
    [
        ("sequence", "<u8"),
        ("timestamp_ns", "<u8"),
        ("trade_id", "<u8"),
        ("price_ticks", "<i8"),
        ("quantity_lots", "<i8"),
        ("order_id", "<u8"),  # the taker's; this, the maker's, fees and accounts are for operators
        ("maker_order_id", "<u8"),
        ("fee", "<i8"),
        ("maker_fee", "<i8"),
        ("part", "<u4"),
        ("market", "<u4"),
        ("account", "<u4"),
        ("maker_account", "<u4"),
        ("side", "u1"),  # the taker's
        ("reserved", "V7"),
    ]
)
STREAMS = {"reports": REPORT, "trades": TRADE, "log": LOG_RECORD}


class Position(NamedTuple):
    """A place in a stream: everything up to and including it."""

    sequence: int
    part: int = LAST_PART

    def __str__(self) -> str:
        return f"{self.sequence}-{self.part}"

    @staticmethod
    def of(row: Any) -> "Position":
        """Of one report, trade or log record."""
        names = row.dtype.names or ()
        if "part" in names:
            return Position(int(row["sequence"]), int(row["part"]))
        if "index" in names:
            return Position(int(row["sequence"]), int(part_of(row)))
        return Position(int(row["sequence"]))

    @staticmethod
    def read(value: Any) -> "Position":
        """A position given as one, as text, or as the sequence of a log record (all of it).

        Raises BadArgument.
        """
        sequence: Any = value
        part: Any = LAST_PART
        if isinstance(value, tuple | list) and len(value) == 2:
            sequence, part = value
        elif isinstance(value, str):
            sequence, _, rest = value.partition("-")
            if not sequence.isdecimal() or not (rest.isdecimal() or "-" not in value):
                raise BadArgument(f'a position is a sequence, or text as "123-4": after={value!r}')
            sequence, part = int(sequence), int(rest) if rest else LAST_PART
        return Position(
            arguments.whole(sequence, "sequence", (1 << 64) - 1),
            arguments.whole(part, "part", LAST_PART),
        )


def part_of(reports: Any) -> Any:
    """Where each of some reports (REPORT) stands among those of its log record: twice the number of
    its event, one more for the taker where a taker meets a maker (TRADE, PREVENTED), who is told
    after him.
    """
    kinds = reports["kind"]
    meets = (kinds == EventKind.TRADE) | (kinds == EventKind.PREVENTED)
    taker = meets & (reports["flags"] & ReportFlag.AS_MAKER == 0)
    return 2 * reports["index"] + np.uint32(taker)


def send(line: socket.socket, message: dict[str, Any], data: bytes = b"") -> None:
    """One frame."""
    text = json.dumps(message).encode()
    line.sendall(_FRAME.pack(len(text), len(data)) + text + data)


def receive(line: socket.socket) -> tuple[dict[str, Any], bytes] | None:
    """The next frame; None at the end. Raises ValueError if that is no frame of ours."""
    head = _exactly(line, _FRAME.size)
    if not head:
        return None
    length, size = _FRAME.unpack(head)
    if length > _MAX_TEXT or size > _MAX_DATA:
        raise ValueError(f"not a frame: text={length}, data={size}")
    message = json.loads(_exactly(line, length))
    if not isinstance(message, dict):
        raise ValueError("not an object")
    return message, _exactly(line, size)


def _exactly(line: socket.socket, count: int) -> bytes:
    parts, left = [], count
    while left:
        part = line.recv(min(left, 1 << 20))
        if not part:
            if left == count:
                return b""
            raise ConnectionResetError("cut off")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


class Pull:
    """A consumer's place in a stream. Made by Session.pull() or matchbox.pull(); one thread.

    position    everything up to here has been given out
    last        how far the archive is
    """

    def __init__(
        self,
        folder: Path,
        stream: str = "reports",
        *,
        account: str = "",
        market: str = "",
        after: Any = None,
        consumer: str = "",
        timeout: float = 10.0,
    ) -> None:
        """Raises BadArgument, EngineDown if nobody serves, SessionError if it is refused, Forgotten
        if something after that position is not kept any more.
        """
        if stream not in STREAMS:
            raise BadArgument(f"no such stream: {stream!r}; allowed: {', '.join(STREAMS)}")
        if (stream == "trades") != bool(market):
            raise BadArgument(f"trades are of a market: stream={stream}, market={market!r}")
        arguments.label(account, "account")
        arguments.label(consumer, "consumer")
        arguments.seconds(timeout)
        self.stream, self.consumer = stream, consumer
        self._about = {"stream": stream, "account": account, "market": market, "consumer": consumer}
        self._path, self._timeout = folder / SOCKET, timeout
        self._line: socket.socket | None = None
        wanted = None if after is None else Position.read(after)
        # Nothing is taken yet: it says where this begins, and whether it may.
        answer, _ = self._ask({"do": "pull", "limit": 0, "wait_ms": 0, "after": wanted})
        self.position = Position(*answer["position"])
        self.last = Position(*answer["last"])

    def read(self, limit: int = 1000, timeout: float = 0.0) -> NDArray[Any]:
        """The next rows (REPORT, TRADE or LOG_RECORD), up to `limit`; none after `timeout` seconds.

        Raises EngineDown if nobody serves any more (the position stays; call again), Forgotten.
        """
        limit = arguments.whole(limit, "limit", MAX_LIMIT)
        arguments.seconds(timeout)
        left = timeout
        while True:
            wait_ms = int(min(max(left, 0.0) * 1e3, MAX_WAIT_MS))
            answer, data = self._ask(
                {"do": "pull", "limit": limit, "wait_ms": wait_ms, "after": self.position}
            )
            self.position = Position(*answer["position"])
            self.last = Position(*answer["last"])
            rows = np.frombuffer(data, STREAMS[self.stream]).copy()
            left -= wait_ms / 1e3
            if len(rows) or left <= 0:
                return rows

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Rows until there are no more for now."""
        while len(rows := self.read()):
            yield rows

    def commit(self, position: Any = None) -> None:
        """Have the exchange keep a position of this consumer (the one reached, if none is given):
        on the disk, when this returns. A consumer of this name that says nothing else begins there.
        """
        wanted = self.position if position is None else Position.read(position)
        self._ask({"do": "commit", "position": wanted})

    def definitions(self) -> NDArray[Any]:
        """What the numbers in rows mean: the ADD_ and REMOVE_ records (LOG_RECORD) of assets and
        markets, in order.
        """
        _, data = self._ask({"do": "definitions"})
        return np.frombuffer(data, LOG_RECORD).copy()

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, message: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        again = self._line is not None
        while True:
            try:
                if self._line is None:
                    self._line = self._connect()
                self._line.settimeout(self._timeout + message.get("wait_ms", 0) / 1e3)
                send(self._line, {**self._about, **message})
                answer = receive(self._line)
                if answer is None:
                    raise ConnectionResetError("it hung up")
                break
            except TimeoutError:
                self.close()
                raise EngineDown(f"the archiver did not answer in {self._timeout} s") from None
            except (OSError, ValueError) as error:
                # Another archiver may serve by now: whatever is asked can be asked twice.
                self.close()
                if not again:
                    raise EngineDown(f"nobody serves at {self._path}: {error}") from None
                again = False
        said, data = answer
        if not said["ok"]:
            if said.get("oldest"):
                raise Forgotten(said["error"], tuple(said["oldest"]))
            raise SessionError(said["error"])
        return said, data

    def _connect(self) -> socket.socket:
        """The line, once somebody serves: another archiver may be about to. Raises OSError."""
        deadline = time.monotonic() + self._timeout
        while True:
            line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                line.settimeout(self._timeout)
                line.connect(str(self._path))
                return line
            except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
                line.close()
                if time.monotonic() >= deadline or not self._path.parent.is_dir():
                    raise
                time.sleep(_TRY_S)
            except BaseException:
                line.close()
                raise
