"""The WebSocket API: what REST does, as requests and answers on one connection, and user streams.

    {"id": ..., "method": "order.place", "params": {...}}
    {"id": ..., "status": 200, "result": ..., "rateLimits": [...]}
    {"id": ..., "status": 400, "error": {"code": ..., "msg": ...}, "rateLimits": [...]}

A method is an endpoint of REST (METHODS) with the same parameters, checks, limits and errors. Who
asks stands in the parameters `apiKey` and `signature`, or is said once by `session.logon`. Requests
of a connection are begun in their order and answered when they are done, MOST_AT_ONCE at a time.

A key is looked at anew with each request, and every CHECK_S while it is listened by.
"""

import asyncio
import json
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from matchbox.gateway.app import Door
from matchbox.gateway.authentication import Authentication
from matchbox.gateway.endpoints import Call, Endpoint, Security
from matchbox.gateway.errors import (
    BAD_JSON,
    NO_SUCH_SUBSCRIPTION,
    NOT_FOR_THIS_KEY,
    NOT_LOGGED_ON,
    TOO_MANY_SUBSCRIPTIONS,
    UNEXPECTED,
    UNKNOWN_METHOD,
    ApiError,
    illegal,
    of,
)
from matchbox.gateway.keys import Key, KeyKind, Permission
from matchbox.gateway.limits import Limits, weight_headers
from matchbox.gateway.parameters import MAX_PARAMETERS
from matchbox.gateway.sockets import POLICY, Socket, frame
from matchbox.gateway.user_streams import Listening, UserStreams

# Those of REST: a method here, and of which endpoint it is the name.
METHODS = {
    "ping": "GET /api/v3/ping",
    "time": "GET /api/v3/time",
    "exchangeInfo": "GET /api/v3/exchangeInfo",
    "depth": "GET /api/v3/depth",
    "trades.recent": "GET /api/v3/trades",
    "trades.historical": "GET /api/v3/historicalTrades",
    "trades.aggregate": "GET /api/v3/aggTrades",
    "klines": "GET /api/v3/klines",
    "uiKlines": "GET /api/v3/uiKlines",
    "avgPrice": "GET /api/v3/avgPrice",
    "ticker.24hr": "GET /api/v3/ticker/24hr",
    "ticker.price": "GET /api/v3/ticker/price",
    "ticker.book": "GET /api/v3/ticker/bookTicker",
    "order.place": "POST /api/v3/order",
    "order.test": "POST /api/v3/order/test",
    "order.status": "GET /api/v3/order",
    "order.cancel": "DELETE /api/v3/order",
    "order.cancelReplace": "POST /api/v3/order/cancelReplace",
    "order.amend.keepPriority": "PUT /api/v3/order/amend/keepPriority",
    "openOrders.status": "GET /api/v3/openOrders",
    "openOrders.cancelAll": "DELETE /api/v3/openOrders",
    "orderList.place.oco": "POST /api/v3/orderList/oco",
    "orderList.place.oto": "POST /api/v3/orderList/oto",
    "orderList.place.otoco": "POST /api/v3/orderList/otoco",
    "orderList.status": "GET /api/v3/orderList",
    "orderList.cancel": "DELETE /api/v3/orderList",
    "openOrderLists.status": "GET /api/v3/openOrderList",
    "allOrders": "GET /api/v3/allOrders",
    "allOrderLists": "GET /api/v3/allOrderList",
    "myTrades": "GET /api/v3/myTrades",
    "account.status": "GET /api/v3/account",
    "account.commission": "GET /api/v3/account/commission",
    "account.rateLimits.orders": "GET /api/v3/rateLimit/order",
    "userDataStream.start": "POST /api/v3/userDataStream",
    "userDataStream.ping": "PUT /api/v3/userDataStream",
    "userDataStream.stop": "DELETE /api/v3/userDataStream",
}
MOST_AT_ONCE, MOST_SUBSCRIPTIONS = 64, 64
CONNECTION_WEIGHT = 2
CHECK_S = 2.0
_MOST_ID, _BANNED = 64, 418


class _Decimal(str):
    """A number with a point or an exponent, as it was written."""


_decode = msgspec.json.Decoder(float_hook=_Decimal).decode
_encode = msgspec.json.Encoder().encode
_HEADERS = {
    ("REQUEST_WEIGHT", "MINUTE"): "X-MBX-USED-WEIGHT-1M",
    ("ORDERS", "SECOND"): "X-MBX-ORDER-COUNT-10S",
    ("ORDERS", "DAY"): "X-MBX-ORDER-COUNT-1D",
}


@dataclass(eq=False)
class _Subscription:
    """A user stream on a connection, and whose key opened it."""

    number: int
    key_id: str
    listening: Listening
    by_logon: bool


@dataclass(eq=False)
class _Connection:
    """What is known of one."""

    socket: Socket
    limits_wanted: bool
    since_ms: int
    key_id: str | None = None  # of who has logged on
    logged_on_ms: int = 0
    subscriptions: dict[int, _Subscription] = field(default_factory=dict)
    next_number: int = 0
    busy: set["asyncio.Task[None]"] = field(default_factory=set)
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_AT_ONCE))


_Handler = Callable[[_Connection, Call], Awaitable[Any]]


class WsApi:
    """Serves connections that ask. On one event loop."""

    def __init__(
        self,
        door: Door,
        endpoints: Iterable[Endpoint],
        authentication: Authentication,
        limits: Limits,
        users: UserStreams,
        say: Callable[[str], None],
    ) -> None:
        self._door, self._authentication, self._limits = door, authentication, limits
        self._users, self._say = users, say
        by_name = {f"{each.method} {each.path}": each for each in endpoints}
        self._methods = {
            method: by_name[name] for method, name in METHODS.items() if name in by_name
        }
        self._own: dict[str, tuple[_Handler, Security]] = {
            "session.logon": (self._logon, Security.SIGNED),
            "session.status": (self._status, Security.NONE),
            "session.logout": (self._logout, Security.NONE),
            "session.subscriptions": (self._list, Security.NONE),
            "userDataStream.subscribe": (self._subscribe, Security.NONE),
            "userDataStream.subscribe.signature": (self._subscribe_signed, Security.SIGNED),
            "userDataStream.unsubscribe": (self._unsubscribe, Security.NONE),
        }
        self._connections: set[_Connection] = set()
        self._checking: asyncio.TimerHandle | None = None

    @property
    def sockets(self) -> list[Socket]:
        return [connection.socket for connection in self._connections]

    async def serve(self, websocket: Any, address: str, *, limits_wanted: bool) -> None:
        """A connection, until it ends."""
        socket = Socket(websocket, address)
        connection = _Connection(socket, limits_wanted, _now_ms())
        self._connections.add(connection)
        socket.when_closed(lambda: self._ended(connection))
        try:
            self._limits.request(address, CONNECTION_WEIGHT)
            while (message := await socket.receive()) is not None:
                await connection.room.acquire()
                task = asyncio.get_running_loop().create_task(self._answer(connection, message))
                connection.busy.add(task)
                task.add_done_callback(connection.busy.discard)
        except ApiError as error:  # of what the address asks for
            socket.close(POLICY, str(error))
        finally:
            socket.ended()

    def _ended(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        for each in connection.subscriptions.values():
            self._users.stop(each.listening)
        connection.subscriptions.clear()

    # -- requests

    async def _answer(self, connection: _Connection, message: str | bytes) -> None:
        said: dict[str, Any] = {"id": None}
        headers: dict[str, str] = {}
        limits_wanted, banned = connection.limits_wanted, ""
        self._door.busy += 1
        try:
            address = connection.socket.address
            headers |= weight_headers(self._limits.request(address, 1))
            said, params = _read(message, said)
            limits_wanted = params.get("returnRateLimits", limits_wanted) not in (False, "false")
            result = await self._do(connection, said["method"], params, headers)
            answer = {"id": said["id"], "status": 200, "result": result}
        except ApiError as error:
            answer = {"id": said["id"], "status": error.status, "error": _error(error)}
            banned = error.message if error.status == _BANNED else ""
        except Exception:
            self._say(f"{said.get('method')}: {traceback.format_exc()}")
            answer = {"id": said["id"], "status": 500, "error": of(UNEXPECTED).body}
        finally:
            self._door.busy -= 1
            connection.room.release()
        if limits_wanted:
            answer["rateLimits"] = self._rate_limits(headers)
        connection.socket.send(frame(_encode(answer)))
        if banned:
            connection.socket.close(POLICY, banned)

    async def _do(
        self, connection: _Connection, method: str, params: dict[str, Any], headers: dict[str, str]
    ) -> Any:
        endpoint, own = self._methods.get(method), self._own.get(method)
        if endpoint is None and own is None:
            raise of(UNKNOWN_METHOD)
        sent = _texts(params)
        truths = [name for name, value in params.items() if isinstance(value, bool)]
        call = Call({}, sent, connection.socket.address, None, headers)
        if endpoint is not None:
            call.key = self._key(connection, endpoint, sent, truths)
            return await self._door.carry_out(endpoint, call)
        assert own is not None
        handle, security = own
        if security is Security.SIGNED:
            call.key = self._authentication.key(sent.get("apiKey"), call.address, Permission.READ)
            self._authentication.signed_parameters(call.key, sent, truths=truths, changes=False)
        return await handle(connection, call)

    def _key(
        self,
        connection: _Connection,
        endpoint: Endpoint,
        sent: Mapping[str, str],
        truths: list[str],
    ) -> Key | None:
        """Who asks, and may he? Raises ApiError."""
        if endpoint.security is Security.NONE:
            return None
        check, address = self._authentication, connection.socket.address
        key = check.key(sent.get("apiKey", connection.key_id), address, endpoint.permission)
        if endpoint.security is Security.SIGNED:
            if "apiKey" in sent or "signature" in sent:
                check.signed_parameters(key, sent, truths=truths, changes=endpoint.changes)
            else:
                check.in_time(sent)
        return key

    def _rate_limits(self, headers: Mapping[str, str]) -> list[dict[str, Any]]:
        """What was used of the limits that a request has to do with."""
        found = []
        for row in self._limits.allowed.rate_limits():
            header = _HEADERS[row["rateLimitType"], row["interval"]]
            if header in headers:
                found.append({**row, "count": int(headers[header])})
        return found

    # -- the session

    async def _logon(self, connection: _Connection, call: Call) -> dict[str, Any]:
        assert call.key is not None
        if call.key.kind is not KeyKind.ED25519:
            raise of(NOT_FOR_THIS_KEY)
        connection.key_id, connection.logged_on_ms = call.key.id, _now_ms()
        return await self._status(connection, call)

    async def _status(self, connection: _Connection, call: Call) -> dict[str, Any]:
        known = connection.key_id is not None
        return {
            "apiKey": connection.key_id,
            "authorizedSince": connection.logged_on_ms if known else None,
            "connectedSince": connection.since_ms,
            "returnRateLimits": connection.limits_wanted,
            "serverTime": _now_ms(),
            "userDataStream": any(s.by_logon for s in connection.subscriptions.values()),
        }

    async def _logout(self, connection: _Connection, call: Call) -> dict[str, Any]:
        connection.key_id = None
        for each in [s for s in connection.subscriptions.values() if s.by_logon]:
            self._terminate(connection, each)
        return await self._status(connection, call)

    # -- user streams

    async def _subscribe(self, connection: _Connection, call: Call) -> dict[str, Any]:
        if connection.key_id is None:
            raise of(NOT_LOGGED_ON)
        key = self._authentication.key(connection.key_id, call.address, Permission.READ)
        return await self._listen(connection, key, by_logon=True)

    async def _subscribe_signed(self, connection: _Connection, call: Call) -> dict[str, Any]:
        assert call.key is not None
        return await self._listen(connection, call.key, by_logon=False)

    async def _listen(self, connection: _Connection, key: Key, *, by_logon: bool) -> dict[str, Any]:
        number = connection.next_number
        if len(connection.subscriptions) >= MOST_SUBSCRIPTIONS:
            raise of(TOO_MANY_SUBSCRIPTIONS)
        connection.next_number += 1
        head = b'{"subscriptionId":%d,"event":' % number

        def tell(event: bytes) -> None:
            connection.socket.send(frame(b"%s%s}" % (head, event)))

        listening = await self._users.listen(key.account, tell)
        if connection.socket.closed:  # meanwhile
            self._users.stop(listening)
        else:
            found = _Subscription(number, key.id, listening, by_logon)
            connection.subscriptions[number] = found
            self._check_later()
        return {"subscriptionId": number}

    async def _unsubscribe(self, connection: _Connection, call: Call) -> dict[str, Any]:
        text = call.sent.get("subscriptionId")
        chosen = list(connection.subscriptions.values())
        if text is not None:
            chosen = [each for each in chosen if str(each.number) == text]
        if not chosen:
            raise of(NO_SUCH_SUBSCRIPTION)
        for each in chosen:
            self._users.stop(each.listening)
            del connection.subscriptions[each.number]
        return {}

    async def _list(self, connection: _Connection, call: Call) -> list[dict[str, Any]]:
        return [{"subscriptionId": number} for number in connection.subscriptions]

    def _terminate(self, connection: _Connection, subscription: _Subscription) -> None:
        """It ends, and its client is told."""
        subscription.listening.tell(_encode({"e": "eventStreamTerminated", "E": _now_ms()}))
        self._users.stop(subscription.listening)
        connection.subscriptions.pop(subscription.number, None)

    def _check_later(self) -> None:
        if self._checking is None:
            self._checking = asyncio.get_running_loop().call_later(CHECK_S, self._check)

    def _check(self) -> None:
        """End what was opened by keys that may not read any more."""
        self._checking = None
        for connection in list(self._connections):
            for each in list(connection.subscriptions.values()):
                try:
                    address = connection.socket.address
                    self._authentication.key(each.key_id, address, Permission.READ)
                except ApiError:
                    self._terminate(connection, each)
        if any(connection.subscriptions for connection in self._connections):
            self._check_later()

    def close(self) -> None:
        if self._checking is not None:
            self._checking.cancel()


def _read(message: str | bytes, said: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Id and method of a request, and its parameters; `said` has the id as soon as it is known.
    Raises ApiError.
    """
    try:
        found = _decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise of(BAD_JSON) from None
    if not isinstance(found, dict):
        raise of(BAD_JSON)
    number = found.get("id")
    if isinstance(number, bool | _Decimal) or not isinstance(number, str | int | None):
        raise illegal("id", "an integer, a string or null")
    if isinstance(number, str) and len(number) > _MOST_ID:
        raise illegal("id", f"a string of at most {_MOST_ID} characters")
    said["id"] = number
    method, params = found.get("method"), found.get("params")
    if not isinstance(method, str):
        raise illegal("method", "a string")
    if params is None:
        params = {}
    if not isinstance(params, dict) or len(params) > MAX_PARAMETERS:
        raise illegal("params", f"an object of at most {MAX_PARAMETERS} members")
    said["method"] = method
    return said, params


def _texts(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as REST has them. Raises ApiError."""
    found = {}
    for name, value in params.items():
        if isinstance(value, str):
            found[name] = str(value)
        elif isinstance(value, bool):
            found[name] = "true" if value else "false"
        elif isinstance(value, int):
            found[name] = str(value)
        elif isinstance(value, list):
            found[name] = json.dumps(value, separators=(",", ":"))
        elif value is not None:
            raise illegal(name, "a string, a number, a boolean or an array")
    return found


def _error(error: ApiError) -> dict[str, Any]:
    """As it stands in an answer."""
    if "Retry-After" in error.headers:
        now = _now_ms()
        retry = now + 1000 * int(error.headers["Retry-After"])
        return {**error.body, "data": {"serverTime": now, "retryAfter": retry}}
    return error.body


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
