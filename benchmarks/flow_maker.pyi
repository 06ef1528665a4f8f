import numpy as np
from numpy.typing import NDArray

from benchmarks.flows import Mix

class FlowMaker:
    def __init__(
        self,
        mix: Mix,
        seed: int,
        records: int,
        distances: NDArray[np.uint32],
        quantities: NDArray[np.uint32],
        takes: NDArray[np.uint32],
    ) -> None: ...
    def prefill(self, out: NDArray[np.uint8], fair: int) -> None: ...
    def run(self, out: NDArray[np.uint8], fair_prices: NDArray[np.int64]) -> None: ...
    @property
    def orders(self) -> int: ...
