"""Playing a flow through a live exchange: commands go out by a session, fills come back in reports.

    Live          a replay.Target on an attached session
    config_text   the configuration of an exchange made for one flow

All reports arrive in the order of the log, so the answer to one more command, which the exchange
refuses, says that everything before it has arrived.
"""

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from matchbox.shm.errors import EngineDown, RingFull
from matchbox.shm.records import COMMAND, REPORT, EventKind
from matchbox.tools.flows import Flow
from matchbox.tools.replay import Outcome, outcome_of_reports

if TYPE_CHECKING:
    from matchbox.shm.session import Session

# No order of a flow has this client order id: theirs are ID.N.
_NOBODY = "end-of-replay"
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
        cancels["kind"], cancels["order_id"] = 2, alive
        self.send(cancels)
        self._finish()
        return len(alive)


def config_text(flow: Flow, *, instance: str, topology: str) -> str:
    """TOML of an exchange for this flow: market FLOW, account "replay", a tick and a lot of 1."""
    return f"""
instance = "{instance}"
topology = "{topology}"

[[asset]]
name = "LOT"
scale = 0

[[asset]]
name = "TICK"
scale = 0

[[account]]
number = 1
name = "replay"

[[market]]
id = 1
symbol = "FLOW"
base = "LOT"
quote = "TICK"
tick_size = "1"
lot_size = "1"
max_price = "{flow.max_price_ticks}"
max_quantity = "{flow.max_quantity_lots}"
max_orders = {flow.max_orders}
"""
