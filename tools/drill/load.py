"""A client of a drill: sends orders at a rate, reads its reports, writes both down.

`python -m matchbox.tools.drill.load JSON`, see Order. It says "ready" on standard output when it is
attached; ends when its standard input is closed, once what it sent is answered; then writes FILE.

    sent      position of the first of each batch in the session, how many, and when
    heard     when each piece of `reports` was read, and how many they were
    reports   REPORT, all that it was told, in order
    lives     for each time that it attached: when, the first position, and index in `reports`

Times are monotonic nanoseconds, which all processes of a machine share. If the exchange is over,
the client attaches again, by the same name, until there is one; what it had sent and no exchange
took is not sent again: nobody has acknowledged it.
"""

import json
import os
import select
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matchbox.shm.connect import connect
from matchbox.shm.errors import Detached, EngineDown, MatchboxError, RingFull, SessionError
from matchbox.shm.records import (
    COMMAND,
    NEW_ORDER,
    REPORT,
    EventKind,
    Kind,
    OrderType,
    Side,
    TimeInForce,
)
from matchbox.shm.session import Session

_TICK_S = 0.002
_MOST = 512  # of one batch
_ANSWER_S = 60.0
_AGAIN_S = 0.05
_CANCELED = 0.2  # so many of the commands cancel an order of before
MIDDLE, SPREAD = 1_000_000, 20


@dataclass(frozen=True)
class Order:
    """What a client is to do."""

    data: str
    account: str
    market: str
    rate: float  # commands per second
    assurance: str
    seed: int
    file: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Client:
    """One client; what it wrote down."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.random = np.random.default_rng(order.seed)
        self.sent: list[tuple[int, int, int]] = []
        self.heard: list[tuple[int, int]] = []
        self.reports: list[NDArray[Any]] = []
        self.lives: list[tuple[int, int, int]] = []
        self.session: Session | None = None
        self.refused = ""  # why it could not attach
        self._ids: list[bytes] = []
        self._orders = 0
        self._answered = 0
        self._last = 0  # position of the last command of this life

    # -- attaching

    def attach(self, patience_s: float) -> bool:
        """Attach, once there is an exchange; False if there is none for so long."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            try:
                self.session = connect(
                    self.order.data,
                    account=self.order.account,
                    name=f"drill-{self.order.account}",
                    assurance=self.order.assurance,
                )
            except SessionError as error:
                self.refused = str(error)
                time.sleep(_AGAIN_S)
                continue
            self._market = self.session.market(self.order.market).number
            count = sum(map(len, self.reports))
            self._last = self._answered = self.session.sent
            self.lives.append((time.monotonic_ns(), self._last + 1, count))
            return True
        return False

    # -- trading

    def make(self, count: int) -> NDArray[Any]:
        """The next commands: orders around one price, a fifth of them cancels."""
        rows = np.zeros(count, NEW_ORDER)
        rows["kind"], rows["market"] = Kind.NEW_ORDER, self._market
        rows["order_type"] = OrderType.LIMIT
        rows["side"] = self.random.choice([Side.BUY, Side.SELL], count)
        rows["price_ticks"] = MIDDLE + self.random.integers(-SPREAD, SPREAD + 1, count)
        rows["quantity_lots"] = self.random.integers(1, 100, count)
        rows["time_in_force"] = self.random.choice([TimeInForce.GTC, TimeInForce.IOC], count)
        names = [f"{self.order.account}-{self._orders + n}".encode() for n in range(count)]
        rows["client_order_id"] = names
        self._orders += count
        batch = rows.view(COMMAND)
        for at in np.flatnonzero(self.random.random(count) < _CANCELED).tolist():
            if not self._ids:
                break
            cancel = np.zeros((), COMMAND)
            cancel["kind"], cancel["market"] = Kind.CANCEL_ORDER, self._market
            cancel["client_order_id"] = self._ids[int(self.random.integers(0, len(self._ids)))]
            batch[at] = cancel
        self._ids = [*self._ids, *names][-200:]
        return batch

    def send(self, count: int) -> None:
        assert self.session is not None
        batch = self.make(count)
        try:
            position = self.session.submit(batch)
        except RingFull:
            return  # it is late: so are we
        self.sent.append((position, count, time.monotonic_ns()))
        self._last = position + count - 1

    def receive(self, timeout: float = 0.0) -> int:
        assert self.session is not None
        rows = self.session.reports(timeout=timeout)
        if len(rows):
            self.heard.append((time.monotonic_ns(), len(rows)))
            self.reports.append(rows.copy())
            answers = rows[
                (rows["kind"] != EventKind.TRADE) & (rows["kind"] != EventKind.PREVENTED)
            ]
            self._answered = max(self._answered, int(answers["command_position"].max(initial=0)))
        return len(rows)

    def work(self) -> None:
        """Until standard input is closed; through the ends of exchanges."""
        waiting = select.poll()
        waiting.register(sys.stdin, select.POLLIN | select.POLLHUP)
        began, done = time.monotonic(), 0.0
        while not waiting.poll(0):
            try:
                self.receive(_TICK_S)
                while self.receive():
                    pass
                due = (time.monotonic() - began) * self.order.rate
                count = min(int(due - done), _MOST)
                if due - done > 4 * _MOST:
                    done = due - _MOST  # what could not be sent while nobody took it, is not
                if count > 0:
                    self.send(count)
                    done += count
            except (EngineDown, Detached):
                self._over()
                if not self.attach(_ANSWER_S):
                    raise MatchboxError(self.refused) from None
                began, done = time.monotonic(), 0.0

    def finish(self) -> None:
        """Wait for what was sent to be answered; cancel what is open."""
        deadline = time.monotonic() + _ANSWER_S
        try:
            assert self.session is not None
            self._last = self.session.mass_cancel()
            self.sent.append((self._last, 1, time.monotonic_ns()))
            while self._answered < self._last and time.monotonic() < deadline:
                self.receive(0.1)
            while self.receive(0.2):
                pass
            self.session.close()
        except (EngineDown, Detached):
            self._over()

    def _over(self) -> None:
        """This exchange is over: what it had told us still counts."""
        try:
            while self.receive():
                pass
        except (EngineDown, Detached):
            pass
        self.session = None

    def write(self) -> None:
        reports = np.concatenate([np.empty(0, REPORT), *self.reports])
        draft = Path(f"{self.order.file}.new")
        with draft.open("wb") as file:
            np.savez(
                file,
                sent=np.array(self.sent, np.int64).reshape(-1, 3),
                heard=np.array(self.heard, np.int64).reshape(-1, 2),
                lives=np.array(self.lives, np.int64).reshape(-1, 3),
                reports=reports,
            )
        draft.replace(self.order.file)


def main() -> int:
    order = Order(**json.loads(sys.argv[1]))
    client = Client(order)
    os.nice(1)
    try:
        if not client.attach(_ANSWER_S):
            raise MatchboxError(client.refused)
        print("ready", flush=True)
        client.work()
        client.finish()
        client.write()
    except MatchboxError as error:
        print(f"client {order.account} has failed: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
