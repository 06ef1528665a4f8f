"""An exchange with a gateway, one for each file of tests that asks for it, and clients of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from matchbox.gateway.keys import Key, Keys
from tests.conftest import RUN
from tests.gateway.client import Client
from tests.integration.conftest import ExchangeProcess, make_exchange, wait_for

__all__ = ["make_exchange"]  # a fixture of theirs
GATEWAY = """
[gateway]
listen = "127.0.0.1:0"
workers = {workers}
{more}
"""


def start(exchange: ExchangeProcess) -> str:
    """Start it; the address of its gateway, which answers."""
    exchange.up()
    address = str(
        wait_for(lambda: exchange.status.get("gateway", {}).get("listen"), "the gateway listens")
    )
    client = Client(address)
    assert client.get("ping").body == {}
    client.close()
    return address


@pytest.fixture(scope="module")
def exchange(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[ExchangeProcess]:
    """A running exchange with a gateway of two workers."""
    folder = tmp_path_factory.mktemp("gateway")
    name = f"{RUN}g{abs(hash(request.node.name)) % 10_000}"
    more = getattr(request.module, "MORE", "")
    found = ExchangeProcess(folder, name, archive=True, more=GATEWAY.format(workers=2, more=more))
    try:
        start(found)
        yield found
    finally:
        found.end()


@pytest.fixture(scope="module")
def address(exchange: ExchangeProcess) -> str:
    return str(exchange.status["gateway"]["listen"])


@pytest.fixture(scope="module")
def make_key(exchange: ExchangeProcess) -> Iterator[Callable[..., Key]]:
    """make_key(account, **options): a key, as Keys.create() makes them."""
    keys = Keys(Path(exchange.data))
    yield keys.create
    keys.close()


@pytest.fixture
def client(address: str, make_key: Callable[..., Key]) -> Iterator[Callable[..., Client]]:
    """client(account=1, **options): one with a key of its own."""
    made: list[Client] = []

    def make(account: int = 1, **options: Any) -> Client:
        made.append(Client(address, make_key(account, **options)))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def alice(client: Callable[..., Client]) -> Client:
    return client(1)


@pytest.fixture
def bob(client: Callable[..., Client]) -> Client:
    return client(2)
