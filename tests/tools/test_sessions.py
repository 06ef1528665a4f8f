"""The doorkeeper's answers about assets, accounts, balances and orders, and who gets them."""

import os
import selectors
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from matchbox.core.plan import Plan, PlanThread
from matchbox.shm.connect import Connection, look
from matchbox.shm.control import ControlClient, RequestFlag, RequestKind
from matchbox.shm.errors import EngineDown, MatchboxError, SessionError
from matchbox.shm.records import FEE_ACCOUNT
from matchbox.tools import config, sessions
from matchbox.tools.catalog import defined
from matchbox.tools.listing import Listing
from matchbox.tools.sessions import Doorkeeper
from tests.core import exchange

THREADS = (
    PlanThread("journal", 0, ("journaler",), None, "park"),
    PlanThread("front", 1, ("publisher",), None, "park"),
    PlanThread("books", 2, ("matcher-0",), None, "park"),
    PlanThread("engine", 3, ("sequencer",), None, "park"),
)
ORDER = {"order_id": 9, "account": 1, "market": 1, "side": 1, "leaves_lots": 5}


class Host:
    """A host's channel that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.error: MatchboxError | None = None
        self.orders: list[dict[str, Any]] = [ORDER]

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        self.asked.append((do, fields))
        if self.error:
            raise self.error
        if do == "balances":
            return {"balances": [[1, 150_000_000, 5], [2, 0, 1]], "settled": 77}
        return {"orders": self.orders}


class Door:
    """A doorkeeper that serves in a thread; its users are who the test says."""

    def __init__(self, folder: Path) -> None:
        demo = config.load(config.DEMO)
        accounts = tuple(
            replace(account, user_ids=(1000,) if account.name == "alice" else ())
            for account in demo.accounts
        )
        self.config = replace(demo, accounts=accounts, operator_ids=(2000,))
        self.plan: Plan = replace(exchange.plan(), threads=THREADS, markets=())
        self.listing = Listing(self.plan, defined(self.config), {}, print)
        # The hosts of publisher and sequencer, in the order of their processes.
        self.publisher, self.sequencer = Host(), Host()
        self.folder = folder
        self._selector = selectors.DefaultSelector()
        self._stop, self._stopped = os.pipe()
        hosts: Any = [self.publisher, self.sequencer]
        operator: Any = None
        self.keeper = Doorkeeper(self.config, self.listing, operator, hosts, [], self._selector)
        self.keeper.listen(folder / "control.sock")
        self._selector.register(self._stop, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                key.data()

    def close(self) -> None:
        os.write(self._stopped, b"x")
        self._thread.join()
        self.keeper.close()
        self._selector.close()
        os.close(self._stop)
        os.close(self._stopped)

    def look(self) -> Connection:
        return look(self.folder)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    door = Door(tmp_path)
    yield door
    door.close()


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> Any:
    """as_user(uid): whoever asks from now on is this user."""

    class Peer:
        size = 12

        def __init__(self) -> None:
            self.uid = os.getuid()

        def unpack(self, _: bytes) -> tuple[int, int, int]:
            return os.getpid(), self.uid, 0

    peer = Peer()
    monkeypatch.setattr(sessions, "_PEER", peer)

    def be(uid: int) -> None:
        peer.uid = uid

    return be


def test_assets_are_told_to_everybody(door: Door, as_user: Any) -> None:
    as_user(4321)
    assets = door.look().assets
    assert {name: (a.number, a.scale) for name, a in assets.items()} == {
        a.name: (a.id, a.scale) for a in door.config.assets
    }
    assert door.look().asset(1).name == door.config.assets[0].name
    with pytest.raises(MatchboxError, match="no such asset: asset='XRP'; there are: USDT"):
        door.look().asset("XRP")


def test_balances_are_decimals_by_the_assets_scale(door: Door) -> None:
    first, second = (a.name for a in door.config.assets[:2])
    balances = door.look().balances(1)
    assert {name: [str(v) for v in pair] for name, pair in balances.items()} == {
        first: ["1.50000000", "5E-8"],
        second: ["0E-8", "1E-8"],
    }
    assert door.sequencer.asked == [("balances", {"account": 1})]
    assert door.publisher.asked == []


def test_orders_are_as_the_sequencer_has_them(door: Door) -> None:
    assert door.look().orders(1, 2) == [ORDER]
    assert door.look().orders(0, 0) == [ORDER]
    asked = [fields for _, fields in door.sequencer.asked]
    assert asked == [{"account": 1, "market": 2}, {"account": 0, "market": 0}]


def test_an_answer_may_be_long(door: Door) -> None:
    door.sequencer.orders = [ORDER | {"order_id": n} for n in range(20_000)]
    assert len(door.look().orders(0, 0)) == 20_000


def test_a_user_sees_its_own_accounts_and_no_others(door: Door, as_user: Any) -> None:
    as_user(1000)
    connection = door.look()
    assert [account["name"] for account in connection.accounts()] == ["alice"]
    assert connection.balances(1)
    for number in (2, 0, 99, FEE_ACCOUNT):
        with pytest.raises(SessionError, match="ACCOUNT_NOT_PERMITTED.*open to you"):
            connection.balances(number)
    with pytest.raises(SessionError, match="ACCOUNT_NOT_PERMITTED"):
        connection.orders(0, 0)
    as_user(4321)
    assert door.look().accounts() == []


@pytest.mark.parametrize("uid", [os.getuid(), 2000])
def test_operators_see_every_account(door: Door, as_user: Any, uid: int) -> None:
    as_user(uid)
    connection = door.look()
    assert len(connection.accounts()) == len(door.config.accounts)
    assert connection.balances(2) and connection.balances(FEE_ACCOUNT)
    assert connection.orders(0, 0)
    with pytest.raises(SessionError, match="ACCOUNT_NOT_PERMITTED"):
        connection.balances(99)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (EngineDown("a process of the exchange has died"), "ENGINE_STOPPED.*has died"),
        (MatchboxError("BadArgument: no such thing"), "BAD_FIELD.*no such thing"),
    ],
)
def test_a_host_that_cannot_answer_is_a_refusal(
    door: Door, error: MatchboxError, text: str
) -> None:
    door.sequencer.error = error
    connection = door.look()
    with pytest.raises(SessionError, match=text):
        connection.balances(1)
    assert connection.assets  # the doorkeeper goes on


def test_flags_that_there_are_not_are_refused(door: Door) -> None:
    client = ControlClient(door.folder / "control.sock")
    with pytest.raises(SessionError, match="BAD_FLAGS.*flags=32, allowed=31"):
        client.ask(RequestKind.ATTACH, flags=32)
    client.close()


def test_reports_wait_for_one_assurance(door: Door) -> None:
    client = ControlClient(door.folder / "control.sock")
    with pytest.raises(SessionError, match="BAD_FLAGS.*one assurance: flags=12"):
        client.ask(RequestKind.ATTACH, flags=RequestFlag.REPLICATED | RequestFlag.DURABLE)
    client.close()


def test_only_operators_attach_to_operate(door: Door, as_user: Any) -> None:
    as_user(1000)
    client = ControlClient(door.folder / "control.sock")
    with pytest.raises(SessionError, match="NOT_PERMITTED.*wanted=4, allowed=1"):
        client.ask(RequestKind.ATTACH, account="alice", flags=2)
    client.close()


def test_a_doorbell_is_for_the_exchanges_own_user(door: Door, as_user: Any) -> None:
    as_user(1000)
    client = ControlClient(door.folder / "control.sock")
    with pytest.raises(SessionError, match="NOT_PERMITTED.*doorbell"):
        client.ask(RequestKind.ATTACH, account="alice", flags=int(RequestFlag.DOORBELL))
    client.close()
