import numpy as np
from numpy.typing import NDArray

from matchbox.core.agent import Agent
from matchbox.shm.ring import Ring

class Copier(Agent):
    def __init__(self, commands: Ring, log: Ring, events: Ring) -> None: ...

class Chain:
    def __init__(
        self,
        agents: list[Agent],
        commands: Ring,
        reports: Ring,
        idle: list[tuple[Ring, int]],
        *,
        publishes: bool,
    ) -> None: ...
    def run(self, commands: NDArray[np.uint8]) -> int: ...
