"""The line between supervisor and host process: requests, answers, descriptors on a socket pair.

A message is a JSON object; descriptors travel beside it. The supervisor asks {"do": name, ...}, the
host answers {"ok": true, ...} or {"ok": false, "error": text}; one request at a time. A message
that is too long for one packet goes in several; all but the last begin with "+".
"""

import json
import os
import socket
import struct
from collections.abc import Iterable
from typing import Any

from matchbox.shm.errors import EngineDown, MatchboxError

_MOST = 1 << 17  # of a packet
_MORE = b"+"  # no JSON object begins with it
_PEER = struct.Struct("iII")


def listen() -> socket.socket:
    """Where another supervisor can reach this process once its own has died."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(_address(os.getpid()))
    listener.listen(1)
    return listener


def accept(listener: socket.socket) -> "Channel":
    """The line to the next supervisor; waits for it. Other users are not listened to."""
    while True:
        line, _ = listener.accept()
        _, uid, _ = _PEER.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if uid == os.getuid():
            line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * _MOST)
            return Channel(line)
        line.close()


def call(pid: int) -> "Channel":
    """The line to a process whose supervisor has died. Raises EngineDown."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * _MOST)
    try:
        line.connect(_address(pid))
    except OSError as error:
        line.close()
        raise EngineDown(f"process {pid} cannot be reached: {error}") from None
    return Channel(line)


def _address(pid: int) -> str:
    """In the abstract namespace: gone with the process."""
    return f"\0matchbox-host-{os.getuid()}-{pid}"


class Channel:
    """One end of the line; owns its socket."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end

    @staticmethod
    def pair() -> "tuple[Channel, socket.socket]":
        """The supervisor's end, and the socket to be inherited by the host."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * _MOST)
        return Channel(ours), theirs

    def send(self, message: dict[str, Any], fds: Iterable[int] = ()) -> None:
        data = json.dumps(message).encode()
        while len(data) > _MOST:
            self.socket.send(_MORE + data[: _MOST - 1])
            data = data[_MOST - 1 :]
        socket.send_fds(self.socket, [data], list(fds))

    def receive(self) -> tuple[dict[str, Any] | None, list[int]]:
        """The next message and its descriptors; None at the end."""
        parts: list[bytes] = []
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self.socket, _MOST, 4)
            except ConnectionResetError:
                return None, []
            if not data:
                return None, list(fds)
            if not data.startswith(_MORE):
                return json.loads(b"".join([*parts, data])), list(fds)
            parts.append(data[1:])

    def ask(
        self, do: str, *, fds: Iterable[int] = (), timeout: float | None = 60.0, **fields: Any
    ) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises: MatchboxError as the host says; EngineDown if it died.
        """
        answer, got = self.ask_for_fds(do, fds=fds, timeout=timeout, **fields)
        close_all(got)
        return answer

    def ask_for_fds(
        self, do: str, *, fds: Iterable[int] = (), timeout: float | None = 60.0, **fields: Any
    ) -> tuple[dict[str, Any], list[int]]:
        """ask() for descriptors, too, which are the caller's to close."""
        self.socket.settimeout(timeout)
        try:
            self.send({"do": do, **fields}, fds)
            answer, got = self.receive()
        except TimeoutError:
            raise EngineDown(
                f"a process of the exchange did not answer: {do}, {timeout} s"
            ) from None
        except OSError as error:
            raise EngineDown(f"a process of the exchange has died: {do}: {error}") from None
        if answer is None:
            raise EngineDown(f"a process of the exchange has died: {do}")
        if not answer.pop("ok"):
            close_all(got)
            raise MatchboxError(answer["error"])
        return answer, got

    def close(self) -> None:
        self.socket.close()


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        os.close(fd)
