"""Serving pulls: a thread of the archiver for each consumer that is connected (shm/streams.py).

Who asks is known by the socket; what he may see is as in access.py: reports of his accounts, trades
of every market, log records for operators. An answer costs the archiver time, so a consumer that
asks for much waits for it, alone; and there are only so many of them.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.persistence.consumers import Consumers
from matchbox.persistence.journal import Reader
from matchbox.persistence.views import Views
from matchbox.shm.errors import BadArgument, Forgotten, MatchboxError
from matchbox.shm.records import LOG_RECORD, Kind
from matchbox.shm.streams import (
    LAST_PART,
    MAX_LIMIT,
    MAX_WAIT_MS,
    SOCKET,
    STREAMS,
    Position,
    receive,
    send,
)
from matchbox.tools.access import Access, user_name

MOST_LINES, MOST_OF_USER = 256, 64
# Of one user's line that says nothing.
_IDLE_S = 3600.0
_PEER = struct.Struct("iII")
_HIDDEN = ("order_id", "maker_order_id", "fee", "maker_fee", "account", "maker_account")


class Progress:
    """How far the views are: told by the archiver, waited for by pulls."""

    def __init__(self) -> None:
        self.position = 0
        self._changed = threading.Condition()

    def tell(self, position: int) -> None:
        with self._changed:
            self.position = position
            self._changed.notify_all()

    def wait(self, after: int, seconds: float) -> None:
        """Until the views are past a record, or so long."""
        with self._changed:
            self._changed.wait_for(lambda: self.position > after, seconds)


class PullServer:
    """The socket and its lines."""

    def __init__(
        self,
        data: Path,
        views: Path,
        access: Access,
        progress: Progress,
        say: Callable[[str], None],
    ) -> None:
        """`views`: their folder, which is there. Raises MatchboxError."""
        self._data, self._views, self._access, self._progress = data, views, access, progress
        self._say = say
        self._consumers = Consumers(data / "consumers.mdb")
        self._lines: dict[socket.socket, int] = {}
        self._lock = threading.Lock()
        path = data / SOCKET
        path.unlink(missing_ok=True)
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        path.chmod(0o666)
        self._listener.listen(64)
        threading.Thread(target=self._accept, name="pull", daemon=True).start()

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for line in self._lines:
                with contextlib.suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            line.settimeout(_IDLE_S)
            _, uid, _ = _PEER.unpack(
                line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
            )
            with self._lock:
                of_user = sum(other == uid for other in self._lines.values())
                full = len(self._lines) >= MOST_LINES or of_user >= MOST_OF_USER
                if not full:
                    self._lines[line] = uid
            if full:
                text = f"too many consumers: {MOST_OF_USER} of a user, {MOST_LINES} in all"
                with contextlib.suppress(OSError):
                    send(line, {"ok": False, "error": text, "oldest": None})
                line.close()
                continue
            threading.Thread(
                target=self._serve, args=(line, uid), name="consumer", daemon=True
            ).start()

    def _serve(self, line: socket.socket, uid: int) -> None:
        try:
            with Views(self._views) as views, Reader(self._data / "journal") as journal:
                consumer = Consumer(uid, views, journal, self)
                while (asked := receive(line)) is not None:
                    send(line, *consumer.answer(asked[0]))
        except (OSError, ValueError):
            pass  # it is gone, or speaks something else
        finally:
            with self._lock:
                self._lines.pop(line, None)
            line.close()

    # What its consumers need.

    @property
    def access(self) -> Access:
        return self._access

    @property
    def progress(self) -> Progress:
        return self._progress

    @property
    def consumers(self) -> Consumers:
        return self._consumers


class Consumer:
    """Who asks on one line."""

    def __init__(self, uid: int, views: Views, journal: Reader, server: PullServer) -> None:
        self._uid, self._views, self._journal, self._server = uid, views, journal, server

    def answer(self, asked: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """What is sent back."""
        try:
            return self._answer(asked)
        except Forgotten as error:
            return {"ok": False, "error": str(error), "oldest": list(error.oldest)}, b""
        except MatchboxError as error:
            return {"ok": False, "error": str(error), "oldest": None}, b""

    def _answer(self, asked: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        if asked.get("do") == "definitions":
            return {"ok": True}, self._views.definitions().tobytes()
        stream = asked.get("stream")
        if stream not in STREAMS:
            raise BadArgument(f"no such stream: {stream!r}; allowed: {', '.join(STREAMS)}")
        number, whose = self._subject(stream, asked)
        consumer = _name(asked, "consumer")
        do = asked.get("do")
        if do == "commit":
            if not consumer:
                raise BadArgument("a position is kept for a consumer: consumer=''")
            position = self._position(asked.get("position"))
            self._server.consumers.commit(stream, whose, consumer, position)
            return self._said(stream, position), b""
        if do != "pull":
            raise BadArgument(f"no such request: do={do!r}; allowed: pull, commit, definitions")
        limit = _whole(asked, "limit", MAX_LIMIT)
        wait_ms = _whole(asked, "wait_ms", MAX_WAIT_MS)
        if asked.get("after") is not None:
            after: tuple[int, int] = self._position(asked["after"])
        else:
            kept = self._server.consumers.position(stream, whose, consumer) if consumer else None
            after = kept or self._oldest(stream)
        rows, reached = self._rows(stream, number, after, limit)
        if limit and not len(rows) and wait_ms:
            self._server.progress.wait(max(reached[0], after[0]), wait_ms / 1e3)
            rows, reached = self._rows(stream, number, after, limit)
        return self._said(stream, reached), rows.tobytes()

    def _said(self, stream: str, position: tuple[int, int]) -> dict[str, Any]:
        return {
            "ok": True,
            "position": list(position),
            "oldest": list(self._oldest(stream)),
            "last": [self._last(stream), LAST_PART],
        }

    def _subject(self, stream: str, asked: dict[str, Any]) -> tuple[int, str]:
        """Number and name of the account or market, if he may see it. Raises BadArgument."""
        access, uid = self._server.access, self._uid
        if stream == "log":
            if not access.operates(uid):
                raise BadArgument(f"the log is for operators: user={user_name(uid)}")
            return 0, ""
        if stream == "trades":
            symbol = _name(asked, "market")
            number = access.catalog.named(Kind.ADD_MARKET, symbol)
            if not number:
                known = ", ".join(m.symbol for m in access.catalog.markets.values())
                raise BadArgument(f"no such market: {symbol!r}; there are: {known}")
            return number, symbol
        name = _name(asked, "account")
        for account in access.accounts(uid).values():
            if account["name"] == name:
                return int(account["number"]), name
        raise BadArgument(
            f"no account of this name is open to you: account={name!r}, user={user_name(uid)}"
        )

    def _position(self, value: Any) -> Position:
        position = Position.read(value)
        last = self._server.progress.position
        if position.sequence > last:
            raise BadArgument(f"no such position was given out yet: {position}, last={last}")
        return position

    def _oldest(self, stream: str) -> tuple[int, int]:
        """After which all is there."""
        first = self._journal.first_sequence() if stream == "log" else self._views.oldest
        return (first - 1, LAST_PART) if first > 1 else (0, 0)

    def _last(self, stream: str) -> int:
        return self._server.progress.position

    def _rows(
        self, stream: str, number: int, after: tuple[int, int], limit: int
    ) -> tuple[NDArray[Any], tuple[int, int]]:
        """Up to `limit` rows after a position, and the position reached. Raises Forgotten."""
        if stream == "log":
            return self._log(after, limit)
        if limit == 0:
            self._views.check(after)
            return np.empty(0, STREAMS[stream]), after
        if stream == "reports":
            return self._views.reports(number, after, limit)
        trades, reached = self._views.trades(number, after, limit)
        if not self._server.access.operates(self._uid):
            for name in _HIDDEN:
                trades[name] = 0
        return trades, reached

    def _log(self, after: tuple[int, int], limit: int) -> tuple[NDArray[Any], tuple[int, int]]:
        """Log records up to where the views are: those are on the disk."""
        oldest = self._oldest("log")
        if after < oldest:
            raise Forgotten(
                f"that is older than what is kept: after={after[0]}, oldest={oldest[0]}", oldest
            )
        last = self._server.progress.position
        count = min(limit, last - after[0])
        if count <= 0:
            return np.empty(0, LOG_RECORD), after
        found: list[NDArray[Any]] = []
        for batch in self._journal.batches(after[0] + 1):
            records = batch.records[max(0, after[0] + 1 - batch.first_sequence) :]
            found.append(records[:count])
            count -= len(found[-1])
            if count <= 0:
                break
        rows = np.concatenate(found)
        return rows, (int(rows["sequence"][-1]), LAST_PART)


def _name(asked: dict[str, Any], field: str) -> str:
    value = asked.get(field, "")
    if not isinstance(value, str) or len(value) > 64 or "\0" in value:
        raise BadArgument(f"{field} is a text of up to 64 characters: {field}={value!r}")
    return value


def _whole(asked: dict[str, Any], field: str, maximum: int) -> int:
    value = asked.get(field, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= maximum:
        raise BadArgument(f"{field} is out of range: {field}={value!r}, allowed=0 to {maximum}")
    return value
