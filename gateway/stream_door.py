"""The door of the streams: /ws and /stream, where clients choose what they are told.

    /ws, /ws/<stream>[/<stream>...]          messages as they are; /stream/ws is the same
    /stream, /stream?streams=<a>/<b>         messages with the name of their stream

A listen key stands for the user stream of its account, wherever a stream can.

On both, a client says {"method": ..., "params": [...], "id": ...}: SUBSCRIBE, UNSUBSCRIBE,
LIST_SUBSCRIPTIONS, SET_PROPERTY, GET_PROPERTY (`combined`). It is answered {"result": ..., "id":
...} or {"error": {"code": ..., "msg": ...}, "id": ...}. What is wrong in part is not done at all.
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

import msgspec

from matchbox.gateway.errors import NO_SUCH_LISTEN_KEY, UNKNOWN_SYMBOL, ApiError, of
from matchbox.gateway.feed import Feed
from matchbox.gateway.limits import Limits
from matchbox.gateway.listen_keys import ListenKeys, is_listen_key
from matchbox.gateway.sockets import POLICY, Socket, frame
from matchbox.gateway.streams import SUMMARIES, Stream
from matchbox.gateway.summaries import Summaries
from matchbox.gateway.user_streams import Listening, UserStreams

MOST_STREAMS = 1024
MESSAGES_PER_SECOND = 5
# Of a connection; so many an address can open in a minute.
CONNECTION_WEIGHT = 2
# Listen keys are looked at so often while they are listened by.
CHECK_S = 2.0
# Numbers are put there by clients that count their connections.
_Id = str | int | None
_encode = msgspec.json.Encoder().encode


class Refusal(Exception):
    """What is said is not done; a code of the dialect, and why."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


_UNKNOWN_PROPERTY, _INVALID_TYPE, _INVALID_REQUEST, _INVALID_JSON = range(4)


class StreamDoor:
    """Serves connections that listen."""

    def __init__(
        self,
        feed: Feed,
        summaries: Summaries,
        users: UserStreams,
        listen_keys: ListenKeys,
        limits: Limits,
    ) -> None:
        self._feed, self._summaries = feed, summaries
        self._users, self._limits = users, limits
        self._listen_keys = listen_keys
        self.sockets: set[Socket] = set()
        self._listening: dict[tuple[Socket, str], Listening] = {}  # by listen key
        self._checking: asyncio.TimerHandle | None = None

    async def serve(self, websocket: Any, address: str, names: str, *, wrapped: bool) -> None:
        """A connection, until it ends. `names`: streams with slashes between them."""
        socket = Socket(
            websocket, address, messages_per_second=MESSAGES_PER_SECOND, wrapped=wrapped
        )
        self.sockets.add(socket)
        socket.when_closed(lambda: self._ended(socket))
        try:
            self._limits.request(address, CONNECTION_WEIGHT)
            wanted = [name for name in unquote(names).split("/") if name and not name.isdecimal()]
            await self._subscribe(socket, wanted)
            while (message := await socket.receive()) is not None:
                await self._on_message(socket, message)
        except (Refusal, ApiError) as error:  # of what the address asks for
            socket.close(POLICY, str(error))
        finally:
            socket.ended()

    def _ended(self, socket: Socket) -> None:
        self.sockets.discard(socket)
        self._unsubscribe(socket, list(socket.streams))

    async def _on_message(self, socket: Socket, message: str | bytes) -> None:
        number: _Id = None
        try:
            said = _read(message)
            number = said["id"]
            answer: dict[str, Any] = {"result": await self._do(socket, said)}
        except Refusal as refusal:
            answer = {"error": {"code": refusal.code, "msg": str(refusal)}}
        except ApiError as error:
            answer = {"error": {"code": error.code, "msg": error.message}}
        socket.send(frame(_encode({**answer, "id": number})))

    async def _do(self, socket: Socket, said: dict[str, Any]) -> Any:
        method, params = said["method"], said["params"]
        if method == "LIST_SUBSCRIPTIONS":
            return list(socket.streams)
        if method == "SUBSCRIBE":
            return await self._subscribe(socket, _names(params))
        if method == "UNSUBSCRIBE":
            return self._unsubscribe(socket, _names(params))
        if method == "GET_PROPERTY":
            if params != ["combined"]:
                raise Refusal(_UNKNOWN_PROPERTY, f"Unknown property: {_shown(params)}")
            return socket.wrapped
        if method == "SET_PROPERTY":
            if len(params) != 2 or params[0] != "combined":
                raise Refusal(_UNKNOWN_PROPERTY, f"Unknown property: {_shown(params)}")
            if not isinstance(params[1], bool):
                raise Refusal(_INVALID_TYPE, "Invalid value type: expected Boolean")
            socket.wrapped = params[1]
            return None
        raise Refusal(
            _INVALID_REQUEST,
            f"Invalid request: unknown method {_shown(method)}; allowed: SUBSCRIBE, UNSUBSCRIBE, "
            "LIST_SUBSCRIPTIONS, SET_PROPERTY, GET_PROPERTY",
        )

    async def _subscribe(self, socket: Socket, names: Iterable[str]) -> None:
        """All of them, or none. Raises Refusal, ApiError."""
        new = [name for name in dict.fromkeys(names) if name not in socket.streams]
        if len(socket.streams) + len(new) > MOST_STREAMS:
            raise Refusal(
                _INVALID_REQUEST,
                f"Invalid request: too many streams: {len(socket.streams) + len(new)}; allowed: "
                f"{MOST_STREAMS} of a connection",
            )
        streams = {name: None if is_listen_key(name) else _stream(name) for name in new}
        try:
            for name, stream in streams.items():
                if stream is None:
                    await self._listen(name, socket)
                else:
                    await self._source(stream).join(stream, socket)
        except ApiError as error:
            for each in new:
                self._leave(each, socket)
            if error.code == UNKNOWN_SYMBOL.code:
                raise _no_such(name) from None
            raise
        socket.streams.update(dict.fromkeys(new))
        if socket.closed:  # meanwhile
            self._unsubscribe(socket, new)

    def _unsubscribe(self, socket: Socket, names: Iterable[str]) -> None:
        """What it does not listen to is none of it already."""
        for name in names:
            if name in socket.streams:
                del socket.streams[name]
                self._leave(name, socket)

    def _leave(self, name: str, socket: Socket) -> None:
        if not is_listen_key(name):
            self._source(_stream(name)).leave(name, socket)
            return
        listening = self._listening.pop((socket, name), None)
        if listening is not None:
            self._users.stop(listening)

    def _source(self, stream: Stream) -> Feed | Summaries:
        """Who tells a stream."""
        return self._summaries if stream.kind in SUMMARIES else self._feed

    # -- user streams

    async def _listen(self, name: str, socket: Socket) -> None:
        """Raises ApiError."""
        found = self._listen_keys.find(name, socket.address)
        if found is None:
            raise of(NO_SUCH_LISTEN_KEY)

        def tell(event: bytes) -> None:
            if socket.wrapped:
                event = b'{"stream":"%s","data":%s}' % (name.encode(), event)
            socket.send(frame(event))

        self._listening[socket, name] = await self._users.listen(found.account, tell)
        if self._checking is None:
            self._checking = asyncio.get_running_loop().call_later(CHECK_S, self._check)

    def _check(self) -> None:
        """End the user streams whose listen keys have ended."""
        self._checking = None
        for (socket, name), listening in list(self._listening.items()):
            if self._listen_keys.find(name, socket.address) is None:
                now = time.time_ns() // 1_000_000
                said = {"e": "listenKeyExpired", "E": now, "listenKey": name}
                listening.tell(_encode(said))
                self._unsubscribe(socket, [name])
        if self._listening:
            self._checking = asyncio.get_running_loop().call_later(CHECK_S, self._check)

    def close(self) -> None:
        if self._checking is not None:
            self._checking.cancel()


def _read(message: str | bytes) -> dict[str, Any]:
    """Method, params and id of a message. Raises Refusal."""
    try:
        said = msgspec.json.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(_INVALID_JSON, f"Invalid JSON: {error}") from None
    if not isinstance(said, dict):
        raise Refusal(_INVALID_REQUEST, "Invalid request: request must be a JSON object")
    number, params = said.get("id"), said.get("params", [])
    if isinstance(number, bool) or not isinstance(number, str | int | None):
        raise Refusal(_INVALID_REQUEST, "Invalid request: id must be an integer or a string")
    if not isinstance(said.get("method"), str):
        raise Refusal(_INVALID_REQUEST, "Invalid request: method must be a string")
    if not isinstance(params, list):
        raise Refusal(_INVALID_REQUEST, "Invalid request: params must be an array")
    return {"method": said["method"], "params": params, "id": number}


def _names(params: list[Any]) -> list[str]:
    if not params or not all(isinstance(name, str) for name in params):
        raise Refusal(_INVALID_REQUEST, "Invalid request: params must be names of streams")
    return params


def _stream(name: str) -> Stream:
    found = Stream.of(name)
    if found is None:
        raise _no_such(name)
    return found


def _no_such(name: str) -> Refusal:
    return Refusal(
        _INVALID_REQUEST,
        f"Invalid request: no such stream: {_shown(name)}; allowed: such as btcusdt@trade, "
        "btcusdt@depth@100ms, !bookTicker",
    )


def _shown(value: Any) -> str:
    return repr(value)[:80]
