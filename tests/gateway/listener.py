"""A client of the gateway's WebSockets as small as can be."""

import base64
import contextlib
import itertools
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.integration.conftest import DEADLINE_S


class Listener:
    """One connection. Messages are what the JSON says."""

    def __init__(self, address: str, path: str, **options: Any) -> None:
        self._connection = connect(
            f"ws://{address}{path}", max_size=None, max_queue=None, **options
        )
        self._socket = self._connection.__enter__()
        self._ids = itertools.count(1)
        self.kept: list[Any] = []  # what came while an answer was waited for

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.__exit__(None, None, None)

    @property
    def socket(self) -> Any:
        return self._socket

    def receive(self, timeout: float = DEADLINE_S) -> Any:
        """The next message. Raises TimeoutError, ConnectionClosed."""
        if self.kept:
            return self.kept.pop(0)
        return json.loads(self._socket.recv(timeout))

    def find(self, condition: Callable[[Any], Any], what: str) -> Any:
        """The next message that is so; those before it are gone."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            message = self.receive(max(0.0, deadline - time.monotonic()))
            if condition(message):
                return message
        raise AssertionError(f"did not come: {what}")

    def messages(self) -> Iterator[Any]:
        """One after the other."""
        while True:
            yield self.receive()

    def say(self, message: Any) -> None:
        self._socket.send(message if isinstance(message, str) else json.dumps(message))

    def ready(self) -> Self:
        """Once the streams of its path are listened to: they are joined after the handshake."""
        with contextlib.suppress(ConnectionClosed):
            self.ask("LIST_SUBSCRIPTIONS", number=0)
        return self

    def ask(self, method: str, params: Any = None, number: Any = None) -> Any:
        """The answer to a message; others that come before it are kept."""
        number = next(self._ids) if number is None else number
        said = {"method": method, "id": number}
        self.say(said if params is None else {**said, "params": params})
        kept = []
        while True:
            found = self.receive()
            if found.get("id", _NONE) == number and "stream" not in found:
                self.kept = kept + self.kept
                return found
            kept.append(found)


_NONE = object()
_ESTABLISHED = 1


class Deaf:
    """A connection that answers no pings, and reads only when it is told to."""

    def __init__(self, address: str, path: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        self._socket.settimeout(DEADLINE_S)
        self._socket.connect((host, int(port)))
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {address}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
        ]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._socket.recv(1)
        assert head.startswith(b"HTTP/1.1 101 "), head

    def close(self) -> None:
        self._socket.close()

    @property
    def cut(self) -> bool:
        """Has the other side ended it?"""
        state = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return state[0] != _ESTABLISHED

    def read(self) -> tuple[int, int, str]:
        """All that is there until the end: how many bytes, and code and reason of the close, 0 if
        it was cut without one.
        """
        last, count = b"", 0
        try:
            while data := self._socket.recv(1 << 20):
                count += len(data)
                last = (last + data)[-130:]
        except ConnectionResetError:
            pass
        at = last.rfind(b"\x88")
        if at < 0 or at + 2 + last[at + 1] != len(last):
            return count, 0, ""
        body = last[at + 2 :]
        return count, int.from_bytes(body[:2], "big"), body[2:].decode()
