"""The HTTP door: every endpoint of the dialect behind one way of checking and answering.

A request is counted, read, checked (key, signature, parameters), handed to its endpoint, and
answered in JSON, errors included. Query string and body are looked at as bytes, as they came: what
was signed is not made again.
"""

import functools
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from sanic import Sanic
from sanic.exceptions import SanicException
from sanic.request import Request
from sanic.response import HTTPResponse, raw

from matchbox.gateway.authentication import Authentication
from matchbox.gateway.endpoints import Call, Endpoint, Security
from matchbox.gateway.errors import (
    NO_SUCH_METHOD,
    NO_SUCH_PATH,
    TOO_LARGE,
    UNEXPECTED,
    ApiError,
    of,
)
from matchbox.gateway.limits import Limits, weight_headers
from matchbox.gateway.parameters import fields

# No request of the dialect is as long as this.
MAX_REQUEST_BYTES = 1 << 17
_BY_STATUS = {404: NO_SUCH_PATH, 405: NO_SUCH_METHOD, 413: TOO_LARGE}
_encode = msgspec.json.Encoder().encode


class Door:
    """Serves endpoints. `busy`: requests that are being answered."""

    def __init__(
        self, authentication: Authentication, limits: Limits, say: Callable[[str], None]
    ) -> None:
        self._authentication, self._limits, self._say = authentication, limits, say
        self.busy = 0

    async def serve(self, endpoint: Endpoint, request: Request) -> HTTPResponse:
        """The answer to one request."""
        headers: dict[str, str] = {}
        self.busy += 1
        try:
            return _json(await self._handle(endpoint, request, headers), 200, headers)
        except ApiError as error:
            return _json(error.body, error.status, headers | error.headers)
        except Exception:
            self._say(f"{endpoint.method} {endpoint.path}: {traceback.format_exc()}")
            unexpected = of(UNEXPECTED)
            return _json(unexpected.body, unexpected.status, headers)
        finally:
            self.busy -= 1

    async def _handle(self, endpoint: Endpoint, request: Request, headers: dict[str, str]) -> Any:
        address = request.ip
        headers |= weight_headers(self._limits.request(address, 1))
        query, body = request.raw_url.partition(b"?")[2], request.body
        sent = fields(query, body)
        key = None
        if endpoint.security is not Security.NONE:
            named = request.headers.get("x-mbx-apikey")
            key = self._authentication.key(named, address, endpoint.permission)
            if endpoint.security is Security.SIGNED:
                self._authentication.signed(key, query, body, sent, changes=endpoint.changes)
        return await self.carry_out(endpoint, Call({}, sent, address, key, headers))

    async def carry_out(self, endpoint: Endpoint, call: Call) -> Any:
        """What a request comes to that was counted and whose sender was checked; `call.values`
        are read here. Raises ApiError.
        """
        call.values = endpoint.form.of(call.sent)
        weight = endpoint.weigh(call.values)
        if weight > 1:
            call.headers |= weight_headers(self._limits.request(call.address, weight - 1))
        return await endpoint.handle(call)


def make_app(door: Door, endpoints: Iterable[Endpoint]) -> Sanic[Any, Any]:
    """The Sanic application; its name is unique in a process."""
    app: Sanic[Any, Any] = Sanic("matchbox", configure_logging=False, env_prefix="MATCHBOX_HTTP_")
    app.config.REQUEST_MAX_SIZE = MAX_REQUEST_BYTES
    app.config.ACCESS_LOG = False
    app.config.FALLBACK_ERROR_FORMAT = "json"
    app.config.KEEP_ALIVE_TIMEOUT = 75
    for endpoint in endpoints:
        name = f"{endpoint.method} {endpoint.path}".lower().replace(" ", "_").replace("/", "_")
        app.add_route(_handler(door, endpoint), endpoint.path, methods=[endpoint.method], name=name)

    async def failed(request: Request, error: Exception) -> HTTPResponse:
        status = error.status_code if isinstance(error, SanicException) else 500
        answer = of(_BY_STATUS.get(status, UNEXPECTED))
        return _json(answer.body, answer.status if status in _BY_STATUS else status, {})

    app.error_handler.add(Exception, failed)
    return app


def _handler(door: Door, endpoint: Endpoint) -> Any:
    async def handle(request: Request) -> HTTPResponse:
        return await door.serve(endpoint, request)

    return functools.wraps(endpoint.handle)(handle)


def _json(value: Any, status: int, headers: dict[str, str]) -> HTTPResponse:
    return raw(_encode(value), status, headers, "application/json")
