"""Playing a flow through a live exchange: commands go out by a session, fills come back in reports.

    Live          a replay.Target on an attached session
    exchange      an exchange made for one flow, which is gone afterwards
    attached      a session on a market of an exchange that runs already

All reports arrive in the order of the log, so the answer to one more command, which the exchange
refuses, says that everything before it has arrived.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from matchbox.shm.errors import BadArgument, EngineDown, MatchboxError, RingFull
from matchbox.shm.records import COMMAND, MAX_ASSET_UNITS, REPORT, EventKind, Kind
from matchbox.tools.flows import MAX_MARKET_LOTS, MIN_ORDERS, Flow
from matchbox.tools.replay import Outcome, outcome_of_reports
from matchbox.tools.run import start, wait_until_serving
from matchbox.tools.signals import StopSignals

if TYPE_CHECKING:
    from matchbox.shm.market import Market
    from matchbox.shm.session import Session

ACCOUNT, SYMBOL = "replay", "FLOW"

# No order of a flow has this client order id: theirs are ID.N.
_NOBODY = "end-of-replay"
# Records of a log ring and an events ring of the default sizes.
_IN_FLIGHT = 2 << 18
# How long nothing at all may arrive while answers are due.
_SILENCE_S = 30.0
_SLICE_S = 0.1
# What an outcome needs of a report.
_KEPT = np.dtype(
    [
        (name, REPORT.fields[name][0])  # type: ignore[index]
        for name in (
            "sequence", "order_id", "command_position", "price_ticks", "quantity_lots",
            "leaves_lots", "index", "reason", "kind", "flags",
        )
    ]
)  # fmt: skip


class Live:
    """A session that plays a flow, and does nothing else meanwhile, in a quiet market."""

    def __init__(self, flow: Flow, session: "Session") -> None:
        self._flow, self._session = flow, session
        self._first = session.sent + 1
        self._reports: list[NDArray[Any]] = []
        self._answered = session.sent

    def send(self, batch: NDArray[Any]) -> None:
        """Blocks while the command ring is full. Raises EngineDown, Detached."""
        most = max(1, self._session.capacity // 2)
        for first in range(0, len(batch), most):
            self._submit(batch[first : first + most])

    def _submit(self, batch: NDArray[Any]) -> None:
        heard = time.monotonic()
        while True:
            # Reading comes first: commands are taken only while their reports have room.
            heard = time.monotonic() if self._drain(0.0) else heard
            try:
                self._session.submit(batch)
                return
            except RingFull:
                heard = time.monotonic() if self._drain(_SLICE_S) else heard
                self._check_silence(heard)

    def _drain(self, timeout: float) -> int:
        """Keep the reports that are there, after waiting for one for `timeout` seconds."""
        reports = self._session.reports(timeout=timeout)
        if len(reports):
            kept = np.empty(len(reports), _KEPT)
            for name in _KEPT.names or ():
                kept[name] = reports[name]
            self._reports.append(kept)
            answers = kept["command_position"][kept["kind"] != EventKind.TRADE]
            self._answered = max(self._answered, int(answers.max(initial=0)))
        return len(reports)

    def _check_silence(self, heard: float) -> None:
        if time.monotonic() - heard > _SILENCE_S:
            raise EngineDown(
                f"nothing was heard from the exchange for {_SILENCE_S:.0f} s: "
                f"sent={self._session.sent}, taken={self._session.taken}, "
                f"answered={self._answered}"
            )

    def _finish(self) -> None:
        """Wait until everything that was sent is answered."""
        last = self._session.cancel(client_order_id=_NOBODY, timeout=_SILENCE_S)
        heard = time.monotonic()
        while self._answered < last:
            heard = time.monotonic() if self._drain(_SLICE_S) else heard
            self._check_silence(heard)

    def _heard(self) -> NDArray[Any]:
        return np.concatenate(self._reports) if self._reports else np.empty(0, _KEPT)

    def outcome(self) -> Outcome:
        self._finish()
        return outcome_of_reports(self._flow, self._heard(), self._first)

    def clean(self) -> int:
        """Cancel what the flow has left on the book; returns how many orders that were."""
        heard = self._heard()
        # The last thing said of each order.
        ids, last = np.unique(heard["order_id"][::-1], return_index=True)
        final = heard[::-1][last]
        alive = ids[(final["leaves_lots"] > 0) & (final["kind"] != EventKind.REJECTED)]
        cancels = np.zeros(len(alive), COMMAND)
        cancels["kind"], cancels["order_id"] = Kind.CANCEL_ORDER, alive
        self.send(cancels)
        self._finish()
        return len(alive)


def live_orders(flow: Flow) -> int:
    """As many orders as can be open or in flight: those that rest, and those not settled yet.

    The sequencer counts an order until it has settled the event that ends it, which may be as far
    behind as its rings are long.
    """
    opened = int((flow.opener == np.arange(len(flow.ops))).sum())
    return max(MIN_ORDERS, min(opened, flow.max_orders + _IN_FLIGHT))


def config_text(flow: Flow, *, instance: str, data: Path, topology: str) -> str:
    """TOML of an exchange for this flow: one market, one account, a tick and a lot of 1."""
    orders = live_orders(flow)
    return f"""
instance = "{instance}"
data = "{data}"
topology = "{topology}"

[[asset]]
name = "LOT"
scale = 0

[[asset]]
name = "TICK"
scale = 0

[[account]]
number = 1
name = "{ACCOUNT}"

[[deposit]]
account = "{ACCOUNT}"
asset = "LOT"
amount = "{MAX_ASSET_UNITS}"

[[deposit]]
account = "{ACCOUNT}"
asset = "TICK"
amount = "{MAX_ASSET_UNITS}"

[[market]]
id = 1
symbol = "{SYMBOL}"
base = "LOT"
quote = "TICK"
tick_size = "1"
lot_size = "1"
max_price = "{flow.max_price_ticks}"
max_quantity = "{MAX_MARKET_LOTS // orders}"
max_orders = {orders}
"""


@contextmanager
def exchange(flow: Flow, topology: str) -> Iterator[Path]:
    """The data folder of an exchange for this flow, which runs until the `with` ends.

    SIGINT and SIGTERM end it too, by a KeyboardInterrupt. Raises MatchboxError, with what it said,
    if it does not start or does not stop in order.
    """
    with (
        tempfile.TemporaryDirectory(prefix="matchbox-replay-") as folder,
        StopSignals() as signals,
    ):
        data, config = Path(folder) / "data", Path(folder) / "replay.toml"
        instance = f"replay-{os.getpid()}"
        config.write_text(config_text(flow, instance=instance, data=data, topology=topology))
        output = Path(folder) / "output.txt"
        process = start(config, output)
        try:
            if not wait_until_serving(process, data):
                raise MatchboxError(f"no exchange for the replay: {output.read_text().strip()}")
            yield data
        finally:
            signals.defer()
            process.terminate()
            status = process.wait()
        if status:
            raise MatchboxError(f"the exchange did not stop in order: {output.read_text().strip()}")


@contextmanager
def attached(
    place: Path | str, *, account: str, symbol: str = ""
) -> "Iterator[tuple[Session, Market]]":
    """A session, and the market to play in: the one called so, or the only one.

    Raises BadArgument unless the market is empty: orders of others would change the fills.
    """
    from matchbox.shm.connect import connect

    with connect(place, account=account, name=f"replay-{os.getpid()}") as session:
        markets = session.markets
        if not symbol and len(markets) != 1:
            raise BadArgument(f"--market must say which one: allowed={', '.join(markets)}")
        market = session.market(symbol) if symbol else next(iter(markets.values()))
        top = session.book(market).top()
        if len(top.bids) or len(top.asks):
            raise BadArgument(
                f"a replay needs an empty market: market={market.symbol}, "
                f"levels={len(top.bids)} bids, {len(top.asks)} asks"
            )
        yield session, market
