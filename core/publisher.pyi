from typing import Any

from numpy.typing import NDArray

from matchbox.core.agent import Agent
from matchbox.core.depth import DepthTable
from matchbox.shm.ring import Ring

class Publisher(Agent):
    def __init__(
        self,
        log: Ring,
        sources: list[Ring],
        market_data: Ring,
        *,
        log_reader: int = 0,
        journal_reader: int | None = None,
        source_reader: int = 0,
        ledger_reader: int = 0,
        slots: int = 64,
        max_sessions: int = 4096,
        max_markets: int = 1024,
        max_orders: int = 65536,
        max_subscriptions: int = 4096,
        batch: int = 256,
        seed: int = 0,
    ) -> None: ...
    def poison(self, lots: int) -> None: ...
    def place_market(self, market: int, matcher: int, depth: DepthTable) -> None: ...
    def take_market(self, market: int) -> DepthTable | None: ...
    def open_session(
        self, slot: int, commands: Ring, reports: Ring, doorbell: int = -1
    ) -> None: ...
    def close_session(self, slot: int) -> None: ...
    def keep_reports(self) -> None: ...
    def kept_reports(self) -> NDArray[Any]: ...
    shadow: bool
    def adopt_session(
        self, slot: int, commands: Ring, reports: Ring, opened_after: int, doorbell: int = -1
    ) -> int: ...
    def adopt_depth(self, market: int, buffer: Any) -> None: ...
    def adopt_market_data(self, ring: Ring) -> None: ...
    def show_depths(self) -> None: ...
    @property
    def position(self) -> int: ...
    @property
    def counters(self) -> dict[str, int]: ...
