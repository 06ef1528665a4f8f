"""The WebSocket paths of the application, and what becomes of connections when a worker stops."""

import json
import time
from typing import Any

from sanic import Sanic
from sanic.request import Request

from matchbox.gateway.app import MAX_REQUEST_BYTES
from matchbox.gateway.sockets import GOING_AWAY, frame
from matchbox.gateway.stream_door import StreamDoor
from matchbox.gateway.ws_api import WsApi

# A connection that has not answered for so many pings is closed.
PONG_PATIENCE = 3


def add_sockets(app: Sanic[Any, Any], streams: StreamDoor, api: WsApi, *, ping_s: float) -> None:
    """`ping_s`: a connection is asked so often whether it is there."""
    app.config.WEBSOCKET_MAX_SIZE = MAX_REQUEST_BYTES
    app.config.WEBSOCKET_PING_INTERVAL = ping_s
    app.config.WEBSOCKET_PING_TIMEOUT = PONG_PATIENCE * ping_s

    async def plain(request: Request, websocket: Any, names: str = "") -> None:
        await streams.serve(websocket, request.ip, names, wrapped=False)

    async def wrapped(request: Request, websocket: Any) -> None:
        names = request.args.get("streams", "")
        await streams.serve(websocket, request.ip, names, wrapped=True)

    async def asked(request: Request, websocket: Any) -> None:
        wanted = request.args.get("returnRateLimits", "true") != "false"
        await api.serve(websocket, request.ip, limits_wanted=wanted)

    for number, path in enumerate(("/ws", "/stream/ws")):
        app.add_websocket_route(plain, path, name=f"ws_{number}")
        app.add_websocket_route(plain, f"{path}/<names:path>", name=f"ws_named_{number}")
    app.add_websocket_route(wrapped, "/stream", name="stream")
    app.add_websocket_route(asked, "/ws-api/v3", name="ws_api")


def say_goodbye(streams: StreamDoor, api: WsApi) -> None:
    """Tell all that they have to connect again, and end their connections."""
    event = {"e": "serverShutdown", "E": time.time_ns() // 1_000_000}
    plain, wrapped = frame(json.dumps(event).encode()), frame(json.dumps({"event": event}).encode())
    for socket in list(streams.sockets):
        socket.send(plain)
        socket.close(GOING_AWAY, "The server stops; connect again.")
    for socket in api.sockets:
        socket.send(wrapped)
        socket.close(GOING_AWAY, "The server stops; connect again.")
