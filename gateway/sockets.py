"""A WebSocket as the doors see it: text in, counted; whole frames out, bounded.

A frame is bytes of a message with its head, made once by frame() however many sockets it goes to.
It is given to the transport as it is, so what has not left yet is a queue of frames that all slow
sockets share. A socket of which more than MOST_QUEUED bytes have not left when the next message
comes is cut off (1008); nobody waits for it, and what is queued goes within CUT_S.

Pings, pongs and the closing handshake are Sanic's.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from sanic.exceptions import WebsocketClosed
from websockets.exceptions import ConnectionClosed

POLICY, GOING_AWAY, UNEXPECTED = 1008, 1001, 1011
MOST_QUEUED, MOST_IN_KERNEL = 1 << 20, 1 << 18
CUT_S = 3.0
LONGEST_S = 24 * 3600.0
_MOST_REASON = 123
_AT_ONCE = struct.pack("ii", 1, 0)
_TOO_SLOW = f"Too slow: more than {MOST_QUEUED} bytes have not been read."
_TOO_OLD = "24 hours are over; connect again."


def frame(message: bytes) -> bytes:
    """A message as a text frame of a server."""
    size = len(message)
    if size < 126:
        return b"\x81" + size.to_bytes(1, "big") + message
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big") + message
    return b"\x81\x7f" + size.to_bytes(8, "big") + message


class Socket:
    """One connection. `closed`: nothing is sent any more. On one event loop."""

    def __init__(
        self, websocket: Any, address: str, *, messages_per_second: int = 0, wrapped: bool = False
    ) -> None:
        """`messages_per_second`: more of a client's end it; 0: any number. `wrapped`: messages of
        streams are sent with the stream's name.
        """
        self.address, self.wrapped = address, wrapped
        self.closed = False
        self.streams: dict[str, None] = {}
        self._websocket = websocket
        self._protocol = websocket.io_proto
        self._recent: deque[float] = deque(maxlen=messages_per_second or None)
        self._counted = bool(messages_per_second)
        self._loop = asyncio.get_running_loop()
        # What the kernel keeps of it counts, too: it would take some megabytes.
        self._connection = self._protocol.transport.get_extra_info("socket")
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST_IN_KERNEL)
        self._on_close: list[Callable[[], None]] = []
        self._old = self._loop.call_later(LONGEST_S, self.close, GOING_AWAY, _TOO_OLD)

    def when_closed(self, do: Callable[[], None]) -> None:
        """Have something done as soon as nothing is sent any more."""
        self._on_close.append(do)

    def send(self, framed: bytes) -> None:
        """Send a frame, or cut the socket off if it is too slow. Waits for nothing."""
        transport = self._protocol.transport
        if self.closed or transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > MOST_QUEUED:
            self.close(POLICY, _TOO_SLOW)
            return
        transport.write(framed)

    def close(self, code: int, reason: str) -> None:
        """End it; who reads still gets what was sent before, and why, within CUT_S."""
        if self.closed:
            return
        self.ended()
        transport = self._protocol.transport
        # The protocol has room for so much.
        said = reason.encode()[:_MOST_REASON].decode(errors="ignore")
        self._websocket.fail_connection(code, said)
        if transport is not None:
            self._loop.call_later(CUT_S, self._cut, transport)

    def _cut(self, transport: Any) -> None:
        """What it has not read by now is dropped, by the kernel, too."""
        if not self._websocket.connection_lost_waiter.done():
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            transport.abort()

    def ended(self) -> None:
        """It has: tell who wanted to know. Again: nothing."""
        if self.closed:
            return
        self.closed = True
        self._old.cancel()
        while self._on_close:
            self._on_close.pop()()

    async def receive(self) -> str | bytes | None:
        """The next message; None: there is no more."""
        try:
            message = None if self.closed else await self._websocket.recv()
        except (ConnectionClosed, WebsocketClosed, asyncio.CancelledError):
            # Sanic cancels who waits when the client hangs up, and when the worker stops.
            return None
        if message is not None and self._counted and self._too_often():
            limit = self._recent.maxlen
            self.close(POLICY, f"Too many messages: more than {limit} in a second.")
            return None
        return message

    def _too_often(self) -> bool:
        now = self._loop.time()
        full = len(self._recent) == self._recent.maxlen and now - self._recent[0] < 1.0
        self._recent.append(now)
        return full
