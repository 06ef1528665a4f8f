"""A worker of the gateway: a process with an event loop, a session on the rings, and the doors.

Started by the supervisor as `python -m matchbox.gateway.worker SETTINGS`, where SETTINGS is JSON
(Settings). The listening socket is the supervisor's: what has connected while one worker dies is
served by the others, or by the next one.

It ends at SIGTERM, when what it was asked has been answered, or when the exchange has ended
(`life` hangs up).
"""

import asyncio
import contextlib
import signal
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from matchbox.gateway.account_history import AccountHistory
from matchbox.gateway.app import Door, make_app
from matchbox.gateway.authentication import Authentication
from matchbox.gateway.counters import Counters
from matchbox.gateway.desk import Desk
from matchbox.gateway.destinations import Destinations
from matchbox.gateway.durable import Durable
from matchbox.gateway.feed import EVERYTHING, Feed
from matchbox.gateway.funds import Funds
from matchbox.gateway.history import History
from matchbox.gateway.keys import FOLDER, Keys
from matchbox.gateway.klines import Klines
from matchbox.gateway.limits import Allowed, Limits
from matchbox.gateway.listen_keys import ListenKeys
from matchbox.gateway.lookups import Lookups
from matchbox.gateway.market_history import MarketHistory
from matchbox.gateway.markets import Markets
from matchbox.gateway.order_lists import OrderLists
from matchbox.gateway.public_trades import PublicTrades
from matchbox.gateway.replacing import Replacing
from matchbox.gateway.signing import Replays
from matchbox.gateway.spot import Spot
from matchbox.gateway.stream_door import StreamDoor
from matchbox.gateway.summaries import Summaries
from matchbox.gateway.tickers import Tickers
from matchbox.gateway.user_data import UserData
from matchbox.gateway.user_streams import UserStreams
from matchbox.gateway.wallet import Wallet
from matchbox.gateway.ws_api import WsApi
from matchbox.gateway.ws_app import add_sockets, say_goodbye
from matchbox.shm import segment
from matchbox.shm.errors import MatchboxError
from matchbox.shm.ring import Ring
from matchbox.shm.saying import complain, say

_ANSWER_PATIENCE_S = 10.0


class Settings(msgspec.Struct, frozen=True):
    """What a worker is told; `socket` and `life` are descriptors that it has inherited."""

    data: str
    number: int
    socket: int
    life: int
    instance: str
    epoch: int
    world: int
    journaler_reader: int
    assurance: str
    weight_per_minute: int
    orders_per_ten_seconds: int
    orders_per_day: int
    ping_s: float
    tls_certificate: str = ""
    tls_key: str = ""


class Worker:
    """All of one worker. On one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings, data = settings, Path(settings.data)
        self._name = f"gateway.{settings.number}"
        durable = Durable(settings.instance, settings.epoch, settings.journaler_reader)
        self._keys, self._replays = Keys(data), Replays(data)
        counters = Counters(data / FOLDER / "counters")
        allowed = Allowed(
            settings.weight_per_minute, settings.orders_per_ten_seconds, settings.orders_per_day
        )
        limits = Limits(counters, allowed)
        self._desk = Desk(data, self._name, assurance=settings.assurance, say=self._say)
        # It is the same one in all epochs of this world of shared memory.
        name = segment.SegmentName(settings.instance, settings.world, "market-data")
        market_data = segment.attach(name, writable=False)
        self._lookups = Lookups(data, durable, market_data)
        self._history = History(data / "views", durable)
        self._traded = MarketHistory(data / "views")
        self._destinations = Destinations(data)
        markets = Markets(self._lookups)
        authentication = Authentication(self._keys, self._replays)
        self._listen_keys = ListenKeys(data, self._keys)
        spot = Spot(self._desk, markets, self._history, self._lookups, limits)
        tickers = Tickers(markets, self._traded)
        served = (
            spot,
            Replacing(self._desk, markets, self._history, limits, spot),
            OrderLists(self._desk, markets, self._history, limits),
            AccountHistory(markets, self._history),
            PublicTrades(markets, self._traded),
            Klines(markets, self._traded),
            tickers,
            Wallet(markets, self._lookups, limits),
            Funds(self._desk, markets, self._history, self._destinations),
            UserData(self._listen_keys),
        )
        endpoints = [each for part in served for each in part.endpoints()]
        self._door = Door(authentication, limits, self._say)
        waits = settings.assurance == "durable"
        self._feed = Feed(
            Ring.attach(market_data),
            markets,
            (lambda: durable.position) if waits else (lambda: EVERYTHING),
            self._say,
        )
        self._summaries = Summaries(markets, self._history, self._traded, tickers, self._say)
        self._users = UserStreams(
            data / "views", self._history, markets, self._lookups, spot.cancel_ids, self._say
        )
        self._streams = StreamDoor(
            self._feed, self._summaries, self._users, self._listen_keys, limits
        )
        self._api = WsApi(self._door, endpoints, authentication, limits, self._users, self._say)
        self._app = make_app(self._door, endpoints)
        add_sockets(self._app, self._streams, self._api, ping_s=settings.ping_s)
        self._stop = asyncio.Event()
        self._over = False

    def _say(self, text: str) -> None:
        say(f"{self._name}: {text}")

    async def run(self) -> None:
        """Until it is asked to stop, or the exchange has ended."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_reader(self._settings.life, self._ended)
        await self._desk.open()
        server: Any = await self._app.create_server(
            sock=socket.socket(fileno=self._settings.socket),
            ssl=_tls(self._settings),
            return_asyncio_server=True,
            access_log=False,
            noisy_exceptions=False,
        )
        if server is None:
            raise MatchboxError(f"{self._name} has no server")
        await server.startup()
        await server.start_serving()
        await self._stop.wait()
        await self._leave(server)

    def _ended(self) -> None:
        """The exchange has."""
        asyncio.get_running_loop().remove_reader(self._settings.life)
        self._over = True
        self._stop.set()

    async def _leave(self, server: Any) -> None:
        """Take no more; answer what was asked; log out."""
        server.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (0.0 if self._over else _ANSWER_PATIENCE_S)
        while self._door.busy and loop.time() < deadline:
            await asyncio.sleep(0.005)
        say_goodbye(self._streams, self._api)
        for connection in list(server.connections or ()):
            with contextlib.suppress(Exception):
                connection.close(timeout=0.1)
        for each in (self._feed, self._summaries, self._users, self._streams, self._api):
            each.close()
        await self._desk.close()
        self._lookups.close()
        self._history.close()
        self._listen_keys.close()
        self._traded.close()
        self._destinations.close()
        self._replays.close()
        self._keys.close()


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if not settings.tls_certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.tls_certificate, settings.tls_key or None)
    return context


async def _run(settings: Settings) -> None:
    await Worker(settings).run()


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = msgspec.json.decode(arguments[0], type=Settings)
    try:
        uvloop.run(_run(settings))
    except MatchboxError as error:
        complain(f"gateway.{settings.number} has failed: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
