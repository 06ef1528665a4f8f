from typing import Any

from numpy.typing import NDArray

from matchbox.core.agent import Agent
from matchbox.core.sequencer import Sequencer
from matchbox.shm.ring import Ring

class Follower(Agent):
    stage: str
    def __init__(
        self,
        own: Sequencer,
        log: Ring,
        source: Ring,
        theirs: list[Ring],
        ours: list[Ring],
        *,
        gates: int,
        journaler: int,
    ) -> None: ...
    @property
    def position(self) -> int: ...
    @property
    def lag(self) -> int: ...
    @property
    def compared(self) -> tuple[int, int]: ...
    @property
    def passed(self) -> int: ...
    def cut_out(self, sequence: int) -> None: ...
    @property
    def reachable(self) -> bool: ...
    @property
    def record(self) -> NDArray[Any]: ...
    @property
    def problem(self) -> str: ...
