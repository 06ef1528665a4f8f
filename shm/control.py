"""Requests and replies of the control socket (control.h), for both of its ends."""

import contextlib
import json
import os
import select
import socket
import time
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.shm.errors import EngineDown, SessionError
from matchbox.shm.reasons import describe
from matchbox.shm.records import MARKET_RECORD, Assurance

MAGIC = 0x314C5254434F424D
LAYOUT_VERSION = 3

REQUEST = np.dtype(
    [
        ("magic", "<u8"),
        ("layout_version", "<u4"),
        ("kind", "<u4"),
        ("capabilities", "<u4"),
        ("market", "<u4"),
        ("account", "S36"),
        ("name", "S36"),
        ("symbol", "S24"),
        ("flags", "<u4"),
        ("number", "<u4"),
    ]
)
REPLY = np.dtype(
    [
        ("magic", "<u8"),
        ("layout_version", "<u4"),
        ("status", "<u4"),
        ("session", "<u4"),
        ("account", "<u4"),
        ("position", "<u8"),
        ("sequence", "<u8"),
        ("count", "<u4"),
        ("reserved", "<u4"),
        ("text", "S208"),
    ]
)
assert REQUEST.itemsize == 128
assert REPLY.itemsize == 256
MAX_PACKET = REPLY.itemsize + 1024 * MARKET_RECORD.itemsize


class RequestKind(IntEnum):
    """What is asked for."""

    ATTACH = 1
    DEPTH = 2
    MARKETS = 3
    CLOSE = 4
    ASSETS = 5
    ACCOUNTS = 6
    BALANCES = 7
    ORDERS = 8
    DEFINE = 9
    LISTING = 10
    PROMOTE = 12
    SNAPSHOT = 13


class RequestFlag(IntFlag):
    """Of ATTACH."""

    CANCEL_ON_DETACH = 1
    OPERATOR = 2
    REPLICATED = 4
    DURABLE = 8
    DOORBELL = 16


ASSURANCE_FLAGS = {
    Assurance.MATCHED: RequestFlag(0),
    Assurance.REPLICATED: RequestFlag.REPLICATED,
    Assurance.DURABLE: RequestFlag.DURABLE,
}


def request(kind: RequestKind, **fields: Any) -> bytes:
    """One request packet."""
    packet = np.zeros((), REQUEST)
    packet["magic"], packet["layout_version"], packet["kind"] = MAGIC, LAYOUT_VERSION, kind
    for name, value in fields.items():
        packet[name] = value.encode() if isinstance(value, str) else value
    return packet.tobytes()


def reply(status: int = 0, text: str = "", **fields: Any) -> bytes:
    """One reply packet."""
    packet = np.zeros((), REPLY)
    packet["magic"], packet["layout_version"], packet["status"] = MAGIC, LAYOUT_VERSION, status
    packet["text"] = text.encode()[:207]
    for name, value in fields.items():
        packet[name] = value
    return packet.tobytes()


class ControlClient:
    """One connection to an instance's control socket. Raises EngineDown where nobody answers."""

    def __init__(self, path: Path, timeout: float = 10.0) -> None:
        self._path, self._timeout = path, timeout
        self._connect()

    def _connect(self) -> None:
        path, timeout = self._path, self._timeout
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(timeout)
        deadline = time.monotonic() + timeout
        try:
            while True:
                try:
                    self._socket.connect(str(path))
                    break
                except BlockingIOError:  # many connect at once: it has not come to us yet
                    if time.monotonic() >= deadline:
                        raise
                    time.sleep(0.001)
        except OSError as error:
            self._socket.close()
            raise EngineDown(f"no exchange answers at {path}: {error.strerror or error}") from None

    def ask(
        self, kind: RequestKind, record: bytes = b"", **fields: Any
    ) -> tuple[np.void, list[int], NDArray[np.void]]:
        """The reply, its descriptors and the records behind it. Raises SessionError if refused."""
        packet = request(kind, **fields) + record
        if self._hung_up():
            # Another supervisor may answer by now.
            self._socket.close()
            self._connect()
        try:
            # Who turns us away says why before it hangs up: that can be read although sending
            # fails, or the first receiving does.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._socket.send(packet)
            try:
                data, fds, _, _ = socket.recv_fds(self._socket, MAX_PACKET, 8)
            except ConnectionResetError:
                data, fds, _, _ = socket.recv_fds(self._socket, MAX_PACKET, 8)
        except TimeoutError:
            raise EngineDown(
                f"the exchange did not answer in {self._socket.gettimeout()} s"
            ) from None
        except OSError as error:
            raise EngineDown(f"the exchange hung up: {error.strerror or error}") from None
        try:
            if len(data) < REPLY.itemsize:
                raise EngineDown("the exchange hung up")
            answer = np.frombuffer(data, REPLY, 1)[0]
            if answer["magic"] != MAGIC or answer["layout_version"] != LAYOUT_VERSION:
                raise SessionError(
                    "the exchange speaks another version of the control protocol: "
                    f"layout_version={int(answer['layout_version'])}, ours={LAYOUT_VERSION}"
                )
            if answer["status"]:
                text = answer["text"].decode(errors="replace")
                meaning = describe(int(answer["status"]))
                raise SessionError(f"{meaning}: {text}" if text else meaning)
        except BaseException:
            for fd in fds:
                with contextlib.suppress(OSError):
                    os.close(fd)
            raise
        records = np.frombuffer(data, MARKET_RECORD, int(answer["count"]), REPLY.itemsize)
        return answer, list(fds), records

    def _hung_up(self) -> bool:
        """Has the other side, and left nothing to be read?"""
        line = select.poll()
        line.register(self._socket, select.POLLIN)
        try:
            return bool(line.poll(0)) and not self._socket.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def document(self, kind: RequestKind, **fields: Any) -> Any:
        """The JSON that answers a request with a file. Raises SessionError if refused."""
        _, fds, _ = self.ask(kind, **fields)
        try:
            if len(fds) != 1:
                raise SessionError(f"the answer has no file: request={kind.name}")
            return json.loads(os.pread(fds[0], os.fstat(fds[0]).st_size, 0))
        finally:
            for fd in fds:
                os.close(fd)

    def close(self) -> None:
        self._socket.close()
